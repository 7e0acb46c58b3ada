"""libgo variants: GCC's libgo with patches, flags and configure options, built out of tree without building GCC.

A full build leaves its tree in the cache. A patched variant starts from a copy of it and compiles only the packages
that the patch touches; when their export data mean the same as before, nothing that imports them can differ, and it is
linked. When they differ, `make` builds all that depends on them. A patch that touches more than sources gets a tree of
its own. Knows nothing of programs, guests or variants' names.

Order and options of the build: libbacktrace, libffi and libatomic are what libgo links (libgo/Makefile.am, LIBADD);
only the shared library is built, for that is what a program gets by LD_LIBRARY_PATH.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from harness.build import command, export, patches, source
from harness.build.counting import Progress
from harness.build.patches import Patch
from harness.build.steps import Plan, dependents, estimated, known
from harness.build.toolchain import Toolchain
from harness.cache import Cache, digest, file_digest
from harness.errors import BuildError

#: Changed when the way of building changes, so that old folders in the cache are not taken for new ones.
RECIPE = 4
#: MiB that a build takes: GCC's source, the tree, the library.
ROOM = 400
#: What a Go file says of the files and packages that it is compiled with, as libgo's own scripts read it: all down to
#: the package clause (libgo/match.sh) and the imports (libgo/godeps.sh).
_COMPANY = re.compile(rb'\A.*?^package [^\n]*|^import[ \t]*\(.*?^\)|^import[^\n]*"', re.MULTILINE | re.DOTALL)
#: Neither changes a byte of code. The compiler and the assembler work side by side; and places of variables are not
#: worked out, which takes a tenth of a compilation and would be thrown away (_NOT_READ).
_SOONER = ("-pipe", "-fno-var-tracking")
#: Debugging sections that libbacktrace does not read (libbacktrace/dwarf.c, dwarf_sections).
_NOT_READ = (".debug_loc", ".debug_loclists", ".debug_aranges")
#: The libraries that libgo links, each with the target of its make that is linked (libgo/Makefile.am and configure.ac).
_HELPERS = {
    "libbacktrace": "libbacktrace.la",
    "libffi": "libffi_convenience.la",
    "libatomic": "libatomic_convenience.la",
}


@dataclass(frozen=True)
class Recipe:
    """What a libgo is made of, besides GCC's source and the toolchain.

    Attributes:
        patches: applied in this order.
        configure: options for libgo's configure, after the toolchain's own.
        flags: compiler flags, for libgo and for the programs that use it.
        prebuilt: it is the one that came with the toolchain; nothing is built.
    """

    patches: tuple[Patch, ...] = ()
    configure: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    prebuilt: bool = False


@dataclass(frozen=True)
class Libgo:
    """A libgo that is there.

    Attributes:
        key: the hash of all that made it.
        folder: holds `lib/` (libgo.so.N and what programs are linked with) and `gox/` (export data for imports).
        flags: what it was compiled with besides the toolchain's own flags.
        prebuilt: it came with the toolchain; the folder has only the library.
    """

    key: str
    folder: Path
    flags: tuple[str, ...] = ()
    prebuilt: bool = False

    @property
    def library(self) -> Path:
        """The shared library, under the name that programs ask the dynamic linker for."""
        (path_,) = (path for path in (self.folder / "lib").glob("libgo.so.*"))
        return path_

    @property
    def compile_flags(self) -> list[str]:
        """Flags to compile and link a program with that uses it."""
        if self.prebuilt:
            return []
        return [*self.flags, f"-I{self.folder / 'gox'}", f"-L{self.folder / 'lib'}"]

    @property
    def interface(self) -> str:
        """The hash of all that a program takes from libgo when it is built; the shared library is not part of it."""
        return (self.folder / "interface").read_text()


def key(toolchain: Toolchain, recipe: Recipe) -> str:
    """The hash of all that makes a libgo. Raises ToolMissing or BuildError if GCC's source is not there."""
    common: dict[str, object] = {"recipe": RECIPE, "toolchain": toolchain.identity}
    if recipe.prebuilt:
        return digest({**common, "library": file_digest(_prebuilt(toolchain))})
    archive = source.find(toolchain)
    return digest(
        {
            **common,
            "source": source.digest_of(archive) if archive.is_file() else str(archive),
            "patches": [patch.key for patch in recipe.patches],
            "configure": [*toolchain.configure, *recipe.configure],
            "flags": recipe.flags,
        }
    )


def build(
    toolchain: Toolchain, recipe: Recipe, cache: Cache, progress: Progress = lambda text: None, *, whole: bool = False
) -> Libgo:
    """Build a libgo, or take it from the cache.

    Args:
        toolchain: the compilers.
        recipe: what to make.
        cache: where it is kept.
        progress: told each step in a few words.
        whole: compile everything, though less would do: for comparing the two.

    Raises:
        ToolMissing: GCC's source or a tool is not installed.
        PatchError: a patch does not apply.
        BuildError: configure, a compilation or the link failed; the text has the first error and the log's path.
    """
    own = key(toolchain, recipe)
    logs = cache.root / "logs"
    log = logs / f"libgo-{own}.log"

    def fill(out: Path) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        log.unlink(missing_ok=True)
        if recipe.prebuilt:
            _take_prebuilt(toolchain, out)
        elif not recipe.patches:
            _collect(toolchain, unpatched_tree(toolchain, recipe, cache, log, progress), out, log)
        else:
            tree = out / "tree"
            if whole or not _only_sources(recipe.patches):
                tree.mkdir()
                _full(toolchain, recipe, source.unpack(toolchain, cache), tree, log, progress)
            else:
                plain = replace(recipe, patches=())
                _patched(toolchain, recipe, unpatched_tree(toolchain, plain, cache, log, progress), tree, log, progress)
            _collect(toolchain, tree, out, log)
            shutil.rmtree(tree)

    return Libgo(own, cache.make("libgo", own, fill, ROOM), recipe.flags, recipe.prebuilt)


def unpatched_tree(toolchain: Toolchain, recipe: Recipe, cache: Cache, log: Path, progress: Progress) -> Path:
    """The tree of a full build without patches, from which patched ones start. It is never written to again."""
    progress("waiting for the unpatched libgo")
    return cache.make(
        "libgo-tree",
        key(toolchain, recipe),
        lambda staging: _full(toolchain, recipe, source.unpack(toolchain, cache), staging, log, progress),
        ROOM,
    )


def for_tests(toolchain: Toolchain, recipe: Recipe, cache: Cache) -> Path:
    """What the tests of libgo's packages take from its build besides what is installed.

    Returns:
        A folder with `gox/`, the export data of all packages, and `generated/`, the Go files that the build wrote.
        Both are of the libgo without patches.

    Raises:
        ToolMissing, BuildError: it has to be built first, and cannot be.
    """
    plain = replace(recipe, patches=())
    logs = cache.root / "logs"
    log = logs / f"libgo-{key(toolchain, plain)}.log"

    def fill(out: Path) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        built = unpatched_tree(toolchain, plain, cache, log, lambda text: None) / "build" / "libgo"
        (out / "generated").mkdir()
        for file in built.glob("*.go"):
            shutil.copy2(file, out / "generated")
        # Not every package has a file of export data there, but its object file has the same section.
        for dependencies in built.rglob("*.lo.dep"):
            place = dependencies.relative_to(built).with_suffix("").with_suffix("")
            object_ = dependencies.parent / ".libs" / f"{place.name}.o"
            if not object_.is_file():
                continue  # of the go command, which is not built
            target = out / "gox" / f"{place}.gox"
            target.parent.mkdir(parents=True, exist_ok=True)
            arguments: list[str | Path] = ["-j", ".go_export", object_, target]
            command.run([toolchain.tool("objcopy"), *arguments], log, folder=out, what="libgo: objcopy")

    return cache.make("libgo-for-tests", key(toolchain, plain), fill)


def _prebuilt(toolchain: Toolchain) -> Path:
    """The shared library that the compiler links programs with (GCC manual, -print-file-name)."""
    answer = toolchain.ask("-print-file-name=libgo.so")
    path = Path(answer).resolve()
    if not path.is_file():
        raise BuildError(
            f"toolchain {toolchain.name} brings no libgo.so; only a libgo that is built can be used with it"
        )
    return path


def _take_prebuilt(toolchain: Toolchain, out: Path) -> None:
    library = _prebuilt(toolchain)
    soname = re.sub(r"(\.so\.\d+).*", r"\1", library.name)
    (out / "lib").mkdir()
    shutil.copy2(library, out / "lib" / soname)
    (out / "interface").write_text(digest(["prebuilt", toolchain.identity]))


def _only_sources(applied: Sequence[Patch]) -> bool:
    """Whether patches change nothing but Go packages and the runtime's C files, and remove no file.

    Make finds what such patches change; it does not notice a file that is gone, and what configure has read once.
    """
    return all(
        (name.startswith("libgo/go/") and name.endswith(".go"))
        or (name.startswith("libgo/runtime/") and name.endswith((".c", ".h")))
        for patch in applied
        for name in patch.files
    ) and not any(patch.removes for patch in applied)


def _patched(toolchain: Toolchain, recipe: Recipe, pristine: Path, tree: Path, log: Path, progress: Progress) -> None:
    """Make a tree out of an unpatched one."""
    progress("copying the tree")
    _copy(pristine, tree)
    for patch in recipe.patches:
        patches.apply(patch, tree / "src")
    folder = tree / "build" / "libgo"
    touched = {str(home) for home in _homes(recipe.patches).values()}
    speed = _speed(pristine)
    plan = Plan({name: step for name, step in known().items() if name in touched}, _jobs())
    progress("compiling what the patches touch")
    with estimated(folder, plan, progress, speed, "compiling what the patches touch"):
        same = _incremental(toolchain, recipe.patches, pristine, tree, log)
    if not same:
        progress("what it exports differs: compiling what imports it")
        plan = Plan({name: step for name, step in dependents(touched).items() if name not in touched}, _jobs())
        with estimated(folder, plan, progress, speed, "what it exports differs: compiling what imports it"):
            _make(tree, log)


def _jobs() -> int:
    """How many commands make runs side by side."""
    return os.cpu_count() or 1


def _speed(pristine: Path) -> float | None:
    """How fast this machine has built a tree (steps.Clock), if that was noted."""
    try:
        return float((pristine / "speed").read_text())
    except (FileNotFoundError, ValueError):
        return None


def _full(toolchain: Toolchain, recipe: Recipe, unpacked: Path, tree: Path, log: Path, progress: Progress) -> None:
    """Configure and make everything in an empty folder, with GCC's source as `src/` in it."""
    shutil.copytree(unpacked, tree / "src", copy_function=_link)
    for patch in recipe.patches:
        patches.apply(patch, tree / "src")
    (tree / "place").write_text(str(tree))
    plan = Plan(known(), _jobs(), configures=True, listings=len(_listed(tree / "src", "libgo-packages.txt")))
    with estimated(tree / "build" / "libgo", plan, progress) as estimate:
        _configure(toolchain, recipe, tree, log)
        _make(tree, log)
    (tree / "speed").write_text(str(estimate.clock.speed))


def _configure(toolchain: Toolchain, recipe: Recipe, tree: Path, log: Path) -> None:
    """Configure libgo, and make the libraries that are linked into it."""
    # Without the tree's own place in the debugging information, the same source gives the same bytes anywhere.
    flags = " ".join([*toolchain.compile_flags, *recipe.flags, *_SOONER, f"-fdebug-prefix-map={tree}=."])
    tools = {name.upper(): toolchain.tool(name) for name in ("ar", "ld", "nm", "objcopy", "ranlib", "strip")}
    env = {"CC": f"{toolchain.gcc} {flags}", "GOC": f"{toolchain.gccgo} {flags}", "CXX": "false", **tools}
    env["CXXCPP"] = f"{toolchain.gcc} -E -x c"  # libffi's configure wants one; no C++ is compiled
    env["CFLAGS"] = "-g -O2"  # autoconf's own for GCC; libatomic's configure of GCC 16 wants them said
    # Even where both are the same machine the names differ: config.guess tells a vendor, a triple of ours does not. So
    # configure takes every build for a cross build (autoconf compares the names) and runs nothing of what it compiles.
    common = [f"--build={_build_triple(toolchain, tree)}", f"--host={toolchain.triple}", "--disable-multilib", "-q"]

    def configure(name: str, *extra: str) -> None:
        folder = tree / "build" / name
        folder.mkdir(parents=True)
        own_log = log if name == "libgo" else log.with_suffix(f".{name}.log")
        script = f"../../src/{name}/configure"  # relative, so that the tree can be copied to another place
        command.run([script, *common, *extra], own_log, folder=folder, what=f"libgo: configuring {name}", env=env)
        if name != "libgo":
            # Nothing else: all of GCC 16's libatomic is only made beside a GCC that is being built.
            command.run(["make", _HELPERS[name]], own_log, folder=folder, what=f"libgo: making {name}")

    with ThreadPoolExecutor() as threads:
        steps = [threads.submit(configure, name, "--disable-shared", "--with-pic") for name in _HELPERS]
        own = ["--disable-static", "--prefix=/usr", *toolchain.configure, *recipe.configure]
        steps.append(threads.submit(configure, "libgo", *own))
        for step in steps:
            step.result()


def _build_triple(toolchain: Toolchain, tree: Path) -> str:
    guess = subprocess.run([tree / "src" / "config.guess"], capture_output=True, text=True, check=False).stdout.strip()
    if not guess:
        raise BuildError(f"libgo for {toolchain.triple}: config.guess does not know this machine")
    return guess


def _make(tree: Path, log: Path) -> None:
    """Make the libraries, then install them and the export data below `image/`."""
    folder = tree / "build" / "libgo"
    make = ["make", f"-j{_jobs()}", *_not_listed(tree)]
    command.run([*make, "libgo.la", "libgobegin.a", "libgolibbegin.a"], log, folder=folder, what="libgo: make")
    # Not `make install`: that would first build the packages of the go command, which no test program can import.
    install = [*make, "install-exec-am", "install-data-am", f"DESTDIR={tree / 'image'}"]
    command.run(install, log, folder=folder, what="libgo: make install")


def _listed(src: Path, name: str) -> list[str]:
    """The packages in one of libgo's lists of them."""
    return (src / "libgo" / name).read_text().split()


def _not_listed(tree: Path) -> list[str]:
    """Options of make that spare the lists of imports which only the go command's packages need. They are a third of
    all, each takes a dozen processes, and make would bring them up to date before all else."""
    return [word for package in _listed(tree / "src", "gotool-packages.txt") for word in ("-o", f"{package}.lo.dep")]


def _homes(applied: Sequence[Patch]) -> dict[str, Path]:
    """The Go files that patches touch, and the package that each lies in."""
    return {name: Path(name).parent.relative_to("libgo/go") for patch in applied for name in patch.go_files}


def _incremental(toolchain: Toolchain, applied: Sequence[Patch], pristine: Path, tree: Path, log: Path) -> bool:
    """Compile the touched packages and link, if that is right.

    `make -o X.gox` takes X's export data as they are, whatever X became, so its importers are not compiled again (GNU
    make manual, Options Summary). That is right exactly when X's new export data mean the same as the old ones, which
    then stay: so programs are compiled to the same bytes too. `-o X.lo.dep` spares the scripts that find X's files and
    imports, which take seconds, when what they read is as it was.

    Args:
        pristine: the tree without the patches.

    Returns:
        False if a touched package exports something else; then only a make of all that imports it is right.
    """
    folder = tree / "build" / "libgo"
    homes = _homes(applied)
    touched = set(homes.values())
    others = {home for name, home in homes.items() if not same_company(pristine, tree, name)}
    # Not every folder is a package here: os_hurd.go lies in one, but some packages are for other systems only.
    packages = sorted(str(package) for package in touched if (folder / f"{package}.gox").is_file())
    kept = [f"{package}.gox" for package in packages]
    for package_ in touched - others:
        kept += [f"{package_}.lo.dep", f"s-{'-'.join(package_.parts)}-list"]
    spared = [word for object_ in kept for word in ("-o", object_)]
    targets = ["libgo.la", "libgobegin.a", "libgolibbegin.a"]
    make = ["make", f"-j{_jobs()}", *_not_listed(tree), *spared]
    command.run([*make, *targets], log, folder=folder, what="libgo: make")
    for package in packages:
        path = Path(package)
        fresh, old = (
            _export(toolchain, file, log)
            for file in (folder / path.parent / ".libs" / f"{path.name}.o", folder / f"{path}.gox")
        )
        if not export.same(fresh, old):
            return False
    (library,) = (path for path in (folder / ".libs").glob("libgo.so.*") if not path.is_symlink())
    (installed,) = (path for path in (tree / "image").rglob("libgo.so.*") if not path.is_symlink())
    _replace(library, installed)
    for archive in (tree / "image").rglob("lib*begin.a"):
        _replace(folder / archive.name, archive)
    return True


def same_company(pristine: Path, tree: Path, name: str) -> bool:
    """Whether a file of a Go package is there in both trees, and is compiled with the same files and packages."""
    before, here = (folder / "src" / name for folder in (pristine, tree))
    return before.is_file() and _COMPANY.findall(before.read_bytes()) == _COMPANY.findall(here.read_bytes())


def _export(toolchain: Toolchain, file: Path, log: Path) -> str:
    """The export data in an object file."""
    with tempfile.TemporaryDirectory(dir=log.parent) as folder:
        out = Path(folder) / "export"
        # objcopy wants to write an object file too, and it would replace even /dev/null.
        arguments: list[str | Path] = ["--dump-section", f".go_export={out}", file, Path(folder) / "object"]
        command.run([toolchain.tool("objcopy"), *arguments], log, folder=file.parent, what="libgo: objcopy")
        return out.read_text(encoding="latin-1")


def _copy(pristine: Path, tree: Path) -> None:
    """Copy a built tree so that make can go on in the copy.

    Sources and what compilers and linkers made are linked, since those who write them anew remove them first (GNU
    binutils, bfd/cache.c, bfd_open_file; GNU patch); the rest is written in place and is copied.
    """
    shutil.copytree(pristine / "src", tree / "src", copy_function=_link)
    shutil.copytree(pristine / "image", tree / "image", symlinks=True, copy_function=_link)

    def copy(path: str, target: str) -> None:
        if path.endswith((".o", ".gox", ".a")) or ".so." in path:
            _link(path, target)
        else:
            shutil.copy2(path, target)

    shutil.copytree(pristine / "build", tree / "build", symlinks=True, copy_function=copy)
    (tree / "place").write_text((pristine / "place").read_text())
    _relocate(tree)


def _link(path: str, target: str) -> None:
    """Link a file, or copy it where the file system cannot, or has too many links of it."""
    try:
        os.link(path, target)
    except OSError:
        shutil.copy2(path, target)


def _replace(path: Path, target: Path) -> None:
    """Put a file in the place of another, which may be a link of one that must stay as it is."""
    target.unlink()
    shutil.copy2(path, target)


def _relocate(tree: Path) -> None:
    """Make a copied build tree believe that it was always here: rewrite paths, keep times, so make redoes nothing."""
    old, here = (tree / "place").read_text().encode(), str(tree).encode()
    for name in ("libgo", *_HELPERS):
        for path in (tree / "build" / name).rglob("*"):
            if path.suffix in ("", ".la", ".lai") and path.is_file() and not path.is_symlink():
                text = path.read_bytes()
                if old in text and not text.startswith(b"\x7fELF"):
                    times = path.stat()
                    path.write_bytes(text.replace(old, here))
                    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    (tree / "place").write_text(str(tree))


def _collect(toolchain: Toolchain, tree: Path, out: Path, log: Path) -> None:
    """Take what programs need out of a built tree.

    The library, which is shipped to guests slowly, loses what nobody reads of its debugging information, and the rest
    is compressed. Without that rest programs would go wrong: whether a recover counts depends on the names of its
    callers, inlined ones too, which libbacktrace finds there (libgo/runtime/go-callers.c, libgo/go/runtime/panic.go).
    """
    installed = tree / "image"
    (library,) = (path for path in installed.rglob("libgo.so.*") if not path.is_symlink())
    (soname,) = (path.name for path in installed.rglob("libgo.so.*") if path.is_symlink())
    lib = out / "lib"
    lib.mkdir()
    less = [word for section in _NOT_READ for word in ("-R", section)]
    shrink: list[str | Path] = [toolchain.tool("objcopy"), *less, "--compress-debug-sections=zlib"]
    command.run([*shrink, library, lib / soname], log, folder=out, what="libgo: objcopy")
    (lib / "libgo.so").symlink_to(soname)
    for archive in installed.rglob("lib*begin.a"):
        shutil.copy2(archive, lib)
    (begin,) = installed.rglob("runtime.gox")
    shutil.copytree(begin.parent, out / "gox")
    (out / "interface").write_text(_interface(out))


def _interface(out: Path) -> str:
    taken = [*sorted((out / "gox").rglob("*.gox")), *sorted((out / "lib").glob("*.a"))]
    return digest([[str(path.relative_to(out)), file_digest(path)] for path in taken])
