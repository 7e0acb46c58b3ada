"""libgo variants: GCC's libgo with patches and configure options, built out of tree without building GCC.

A full build leaves its tree in the cache. A patched variant starts from a copy of it and compiles only the packages
that the patch touches; when their export data come out the same, nothing that imports them can differ, and it is
linked. When they differ, `make` builds all that depends on them. Knows nothing of programs, guests or variants' names.

Order and options of the build: libbacktrace, libffi and libatomic are what libgo links (libgo/Makefile.am, LIBADD);
only the shared library is built, for that is what a program gets by LD_LIBRARY_PATH.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from harness.build import command, patches, source
from harness.build.counting import Progress, counted
from harness.build.patches import Patch
from harness.build.toolchain import Toolchain
from harness.cache import Cache, digest, file_digest
from harness.errors import BuildError

#: Changed when the way of building changes, so that old folders in the cache are not taken for new ones.
RECIPE = 1
#: Compilations of a full build (GCC 12.2, counted in its log); they only serve to say how far a build is.
COMPILATIONS = 250
#: What the log has for each of them.
_COMPILATION = b"libtool: compile:"
#: MiB that a build takes: GCC's source, the tree, the library.
ROOM = 400
_HELPERS = ("libbacktrace", "libffi", "libatomic")


@dataclass(frozen=True)
class Libgo:
    """A built libgo.

    Attributes:
        key: the hash of all that made it.
        folder: holds `lib/` (libgo.so.N and what programs are linked with) and `gox/` (export data for imports).
    """

    key: str
    folder: Path

    @property
    def library(self) -> Path:
        """The shared library, under the name that programs ask the dynamic linker for."""
        (found,) = (path for path in (self.folder / "lib").glob("libgo.so.*"))
        return found

    @property
    def gox(self) -> Path:
        """The folder to give the compiler with -I."""
        return self.folder / "gox"

    @property
    def interface(self) -> str:
        """The hash of all that a program takes from libgo when it is built; the shared library is not part of it."""
        return (self.folder / "interface").read_text()


def key(toolchain: Toolchain, applied: Sequence[Patch], options: Sequence[str]) -> str:
    """The hash of all that makes a libgo. Raises ToolMissing or BuildError if GCC's source is not there."""
    archive = source.find(toolchain)
    return digest(
        {
            "recipe": RECIPE,
            "toolchain": toolchain.identity,
            "source": source.digest_of(archive) if archive.is_file() else str(archive),
            "patches": [patch.key for patch in applied],
            "configure": [*toolchain.configure, *options],
        }
    )


def build(
    toolchain: Toolchain,
    applied: Sequence[Patch],
    options: Sequence[str],
    cache: Cache,
    progress: Progress = lambda text: None,
) -> Libgo:
    """Build a libgo, or take it from the cache.

    Args:
        toolchain: the compilers.
        applied: patches, applied in this order.
        options: options for libgo's configure, after the toolchain's own.
        cache: where it is kept.
        progress: told each step in a few words.

    Raises:
        ToolMissing: GCC's source or a tool is not installed.
        PatchError: a patch does not apply.
        BuildError: configure, a compilation or the link failed; the text has the first error and the log's path.
    """
    own = key(toolchain, applied, options)
    return Libgo(
        own, cache.make("libgo", own, lambda out: _build(toolchain, applied, options, cache, out, progress), ROOM)
    )


def _build(
    toolchain: Toolchain,
    applied: Sequence[Patch],
    options: Sequence[str],
    cache: Cache,
    out: Path,
    progress: Progress,
) -> None:
    logs = cache.root / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"libgo-{key(toolchain, applied, options)}.log"
    log.unlink(missing_ok=True)
    pristine = cache.make(
        "libgo-tree",
        key(toolchain, [], options),
        lambda staging: _full(toolchain, options, source.unpack(toolchain, cache), staging, log, progress),
        ROOM,
    )
    if not applied:
        return _collect(toolchain, pristine, out, log)
    tree = out / "tree"
    progress("copying the tree")
    shutil.copytree(pristine, tree, symlinks=True)
    _relocate(tree)
    for patch in applied:
        patches.apply(patch, tree / "src")
    progress("compiling what the patches touch")
    if not _incremental(toolchain, applied, tree, log):
        with counted(log, _COMPILATION, COMPILATIONS, progress):
            _make(tree, log)
    _collect(toolchain, tree, out, log)
    shutil.rmtree(tree)


def _full(
    toolchain: Toolchain, options: Sequence[str], unpacked: Path, tree: Path, log: Path, progress: Progress
) -> None:
    """Configure and make everything in an empty folder, with GCC's source as `src/` in it."""
    progress("configuring")
    shutil.copytree(unpacked, tree / "src", copy_function=os.link)
    (tree / "place").write_text(str(tree))
    # Without the tree's own place in the debugging information, the same source gives the same bytes anywhere.
    flags = " ".join([*toolchain.compile_flags, f"-fdebug-prefix-map={tree}=."])
    tools = {name.upper(): toolchain.tool(name) for name in ("ar", "ld", "nm", "objcopy", "ranlib", "strip")}
    env = {"CC": f"{toolchain.gcc} {flags}", "GOC": f"{toolchain.gccgo} {flags}", "CXX": "false", **tools}
    env["CXXCPP"] = f"{toolchain.gcc} -E -x c"  # libffi's configure wants one; no C++ is compiled
    common = [f"--build={_build_triple(toolchain, tree)}", f"--host={toolchain.triple}", "--disable-multilib", "-q"]

    def configure(name: str, *extra: str) -> None:
        folder = tree / "build" / name
        folder.mkdir(parents=True)
        own_log = log if name == "libgo" else log.with_suffix(f".{name}.log")
        script = f"../../src/{name}/configure"  # relative, so that the tree can be copied to another place
        command.run([script, *common, *extra], own_log, folder=folder, what=f"libgo: configuring {name}", env=env)
        if name != "libgo":
            command.run(["make"], own_log, folder=folder, what=f"libgo: making {name}")

    with ThreadPoolExecutor() as threads:
        steps = [threads.submit(configure, name, "--disable-shared", "--with-pic") for name in _HELPERS]
        own = ["--disable-static", "--prefix=/usr", *toolchain.configure, *options]
        steps.append(threads.submit(configure, "libgo", *own))
        for step in steps:
            step.result()
    with counted(log, _COMPILATION, COMPILATIONS, progress):
        _make(tree, log)


def _build_triple(toolchain: Toolchain, tree: Path) -> str:
    guess = subprocess.run([tree / "src" / "config.guess"], capture_output=True, text=True, check=False).stdout.strip()
    if not guess:
        raise BuildError(f"libgo for {toolchain.triple}: config.guess does not know this machine")
    return guess


def _make(tree: Path, log: Path) -> None:
    """Make the libraries, then install them and the export data below `image/`."""
    folder = tree / "build" / "libgo"
    jobs = f"-j{os.cpu_count() or 1}"
    command.run(["make", jobs, "libgo.la", "libgobegin.a", "libgolibbegin.a"], log, folder=folder, what="libgo: make")
    # Not `make install`: that would first build the packages of the go command, which no test program can import.
    install = ["make", jobs, "install-exec-am", "install-data-am", f"DESTDIR={tree / 'image'}"]
    command.run(install, log, folder=folder, what="libgo: make install")


def _incremental(toolchain: Toolchain, applied: Sequence[Patch], tree: Path, log: Path) -> bool:
    """Compile the touched packages and link, if that is right.

    `make -o X.gox` takes X's export data as they are, whatever X became, so its importers are not compiled again (GNU
    make manual, Options Summary). That is right exactly when X's new export data equal the old ones.

    Returns:
        False if the patches touch more than Go packages and C files of the runtime, or change what a package exports;
        then only a whole make is right.
    """
    folder = tree / "build" / "libgo"
    packages = set()
    for name in (file for patch in applied for file in patch.files):
        parts = Path(name).parts
        if name.startswith("libgo/go/") and name.endswith(".go"):
            packages.add("/".join(parts[2:-1]))
        elif not (name.startswith("libgo/runtime/") and name.endswith((".c", ".h"))):
            return False
    if not all((folder / f"{package}.gox").is_file() for package in packages):
        return False
    spared = [word for package in sorted(packages) for word in ("-o", f"{package}.gox")]
    targets = ["libgo.la", "libgobegin.a", "libgolibbegin.a"]
    command.run(["make", f"-j{os.cpu_count() or 1}", *spared, *targets], log, folder=folder, what="libgo: make")
    fresh = folder / "fresh.gox"
    for package in sorted(packages):
        path = Path(package)
        built = folder / path.parent / ".libs" / f"{path.name}.o"
        extract: list[str | Path] = [toolchain.tool("objcopy"), "-j", ".go_export", built, fresh]
        command.run(extract, log, folder=folder, what="libgo: objcopy")
        if fresh.read_bytes() != (folder / f"{package}.gox").read_bytes():
            return False
    (library,) = (path for path in (folder / ".libs").glob("libgo.so.*") if not path.is_symlink())
    (installed,) = (path for path in (tree / "image").rglob("libgo.so.*") if not path.is_symlink())
    shutil.copy2(library, installed)
    for archive in (tree / "image").rglob("lib*begin.a"):
        shutil.copy2(folder / archive.name, archive)
    return True


def _relocate(tree: Path) -> None:
    """Make a copied build tree believe that it was always here: rewrite paths, keep times, so make redoes nothing."""
    there, here = (tree / "place").read_text().encode(), str(tree).encode()
    for name in ("libgo", *_HELPERS):
        for path in (tree / "build" / name).rglob("*"):
            if path.suffix in ("", ".la", ".lai") and path.is_file() and not path.is_symlink():
                text = path.read_bytes()
                if there in text and not text.startswith(b"\x7fELF"):
                    times = path.stat()
                    path.write_bytes(text.replace(there, here))
                    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    (tree / "place").write_text(str(tree))


def _collect(toolchain: Toolchain, tree: Path, out: Path, log: Path) -> None:
    """Take what programs need out of a built tree.

    The library loses its debugging sections (a third of its size, and a guest loads it slowly) but keeps its symbol
    table, from which libbacktrace names the functions of a traceback.
    """
    installed = tree / "image"
    (library,) = (path for path in installed.rglob("libgo.so.*") if not path.is_symlink())
    (soname,) = (path.name for path in installed.rglob("libgo.so.*") if path.is_symlink())
    lib = out / "lib"
    lib.mkdir()
    strip: list[str | Path] = [toolchain.tool("strip"), "--strip-debug", "-o", lib / soname, library]
    command.run(strip, log, folder=out, what="libgo: strip")
    (lib / "libgo.so").symlink_to(soname)
    for archive in installed.rglob("lib*begin.a"):
        shutil.copy2(archive, lib)
    (begin,) = installed.rglob("runtime.gox")
    shutil.copytree(begin.parent, out / "gox")
    (out / "interface").write_text(_interface(out))


def _interface(out: Path) -> str:
    taken = [*sorted((out / "gox").rglob("*.gox")), *sorted((out / "lib").glob("*.a"))]
    return digest([[str(path.relative_to(out)), file_digest(path)] for path in taken])
