"""libgo variants: GCC's libgo with patches, flags and configure options, built out of tree without building GCC.

A full build leaves its tree in the cache. A patched variant starts from a copy of it and compiles only the packages
that the patch touches. If their export data mean the same as before, nothing that imports them can differ, and libgo is
linked. If they differ, `make` builds all that depends on them. A patch that touches more than sources gets a full build
in a tree of its own. Knows nothing of programs, guests or variants' names.

Order and options of the build: libbacktrace, libffi and libatomic are linked into libgo (libgo/Makefile.am, LIBADD).
Only the shared library is built, because a program gets its libgo by LD_LIBRARY_PATH.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from harness.build import command, export, patches, source
from harness.build.counting import Progress
from harness.build.patches import Patch
from harness.build.steps import BuildEstimate, Plan, dependents, known
from harness.build.toolchain import Toolchain
from harness.cache import Cache, digest, file_digest
from harness.errors import BuildError

_log = logging.getLogger(__name__)
#: To be changed when the build changes, so that folders of the old build in the cache are no longer used.
RECIPE = 4
#: MiB that a build takes: GCC's source, the tree, the library.
ROOM = 400
#: What a Go file says of the files and packages that it is compiled with, as libgo's own scripts read it: all lines
#: down to the package clause (libgo/match.sh) and the imports (libgo/godeps.sh).
_HEADER = re.compile(rb'\A.*?^package [^\n]*|^import[ \t]*\(.*?^\)|^import[^\n]*"', re.MULTILINE | re.DOTALL)
#: Neither changes a byte of code. The compiler and the assembler run side by side. The places of variables are not
#: computed: that takes a tenth of a compilation, and the result would be removed (_UNREAD_SECTIONS).
_FASTER_FLAGS = ("-pipe", "-fno-var-tracking")
#: Debugging sections that libbacktrace does not read (libbacktrace/dwarf.c, dwarf_sections).
_UNREAD_SECTIONS = (".debug_loc", ".debug_loclists", ".debug_aranges")
#: The libraries that are linked into libgo, each with the make target that builds it (libgo/Makefile.am, configure.ac).
_LINKED_LIBRARIES = {
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
        prebuilt: use the libgo that came with the toolchain; nothing is built.
    """

    patches: tuple[Patch, ...] = ()
    configure: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    prebuilt: bool = False


@dataclass(frozen=True)
class Libgo:
    """A libgo that has been built.

    Attributes:
        key: the hash of all its inputs.
        folder: holds `lib/` (libgo.so.N and what programs are linked with) and `gox/` (export data for imports).
        flags: the compiler flags besides the toolchain's own.
        prebuilt: it came with the toolchain; the folder has only the library.
    """

    key: str
    folder: Path
    flags: tuple[str, ...] = ()
    prebuilt: bool = False

    @property
    def library(self) -> Path:
        """The shared library, under the name that programs ask the dynamic linker for."""
        (library,) = (self.folder / "lib").glob("libgo.so.*")
        return library

    @property
    def compile_flags(self) -> list[str]:
        """Flags for compiling and linking a program that uses it."""
        if self.prebuilt:
            return []
        return [*self.flags, f"-I{self.folder / 'gox'}", f"-L{self.folder / 'lib'}"]

    @property
    def interface(self) -> str:
        """The hash of all that a program takes from libgo when it is built; it leaves out the shared library."""
        return (self.folder / "interface").read_text()


def key(toolchain: Toolchain, recipe: Recipe) -> str:
    """The hash of all inputs of a libgo. Raises ToolMissing or BuildError if GCC's source is missing."""
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
        recipe: what to build.
        cache: where it is kept.
        progress: called with each step, in a few words.
        whole: compile everything even where an incremental build is right, to compare the two.

    Raises:
        ToolMissing: GCC's source or a tool is not installed.
        PatchError: a patch does not apply.
        BuildError: configure, a compilation or the link failed; the text has the first error and the log's path.
    """
    libgo_key = key(toolchain, recipe)
    logs = cache.root / "logs"
    log = logs / f"libgo-{libgo_key}.log"

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
                _build_fully(toolchain, recipe, source.unpack(toolchain, cache), tree, log, progress)
            else:
                unpatched = unpatched_tree(toolchain, recipe, cache, log, progress)
                _build_incrementally(toolchain, recipe, unpatched, tree, log, progress)
            _collect(toolchain, tree, out, log)
            shutil.rmtree(tree)

    folder = cache.make("libgo", libgo_key, fill, ROOM, about=_about(toolchain, recipe))
    return Libgo(libgo_key, folder, recipe.flags, recipe.prebuilt)


def _about(toolchain: Toolchain, recipe: Recipe) -> str:
    """What a libgo is, in words."""
    parts = ["the toolchain's own"] if recipe.prebuilt else [patch.label for patch in recipe.patches] or ["unpatched"]
    return f"{' '.join([*parts, *recipe.configure, *recipe.flags])} for {toolchain.name}, GCC {toolchain.version}"


def unpatched_tree(toolchain: Toolchain, recipe: Recipe, cache: Cache, log: Path, progress: Progress) -> Path:
    """The tree of a full build of a recipe without its patches, from which patched builds start.

    It is never written to again. Arguments and errors are those of `build`; `log` is the file for the build's output.
    """
    progress("waiting for the unpatched libgo")
    plain = replace(recipe, patches=())
    return cache.make(
        "libgo-tree",
        key(toolchain, plain),
        lambda staging: _build_fully(toolchain, plain, source.unpack(toolchain, cache), staging, log, progress),
        ROOM,
        about=_about(toolchain, plain),
    )


def for_tests(toolchain: Toolchain, recipe: Recipe, cache: Cache) -> Path:
    """What the tests of libgo's packages need of its build besides what is installed.

    Returns:
        A folder with `gox/`, the export data of all packages, and `generated/`, the Go files that the build wrote.
        Both are those of the unpatched libgo.

    Raises:
        ToolMissing, BuildError: libgo has to be built first, and cannot be.
    """
    plain = replace(recipe, patches=())
    logs = cache.root / "logs"
    log = logs / f"libgo-{key(toolchain, plain)}.log"

    def fill(out: Path) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        folder = unpatched_tree(toolchain, plain, cache, log, lambda text: None) / "build" / "libgo"
        (out / "generated").mkdir()
        for file in folder.glob("*.go"):
            shutil.copy2(file, out / "generated")
        # Not every package has a file of export data there, but its object file has the same section.
        for listing in folder.rglob("*.lo.dep"):
            package = listing.relative_to(folder).with_suffix("").with_suffix("")
            object_file = listing.parent / ".libs" / f"{package.name}.o"
            if not object_file.is_file():
                continue  # a package of the go command, which is not built
            target = out / "gox" / f"{package}.gox"
            target.parent.mkdir(parents=True, exist_ok=True)
            arguments: list[str | Path] = ["-j", ".go_export", object_file, target]
            command.run([toolchain.tool("objcopy"), *arguments], log, folder=out, what="libgo: objcopy")

    return cache.make("libgo-for-tests", key(toolchain, plain), fill, about=_about(toolchain, plain))


def _prebuilt(toolchain: Toolchain) -> Path:
    """The shared library that the compiler links programs with (GCC manual, -print-file-name)."""
    path = Path(toolchain.ask("-print-file-name=libgo.so")).resolve()
    if not path.is_file():
        raise BuildError(f"toolchain {toolchain.name} has no libgo.so of its own; use a variant that is built")
    return path


def _take_prebuilt(toolchain: Toolchain, out: Path) -> None:
    library = _prebuilt(toolchain)
    soname = re.sub(r"(\.so\.\d+).*", r"\1", library.name)
    (out / "lib").mkdir()
    shutil.copy2(library, out / "lib" / soname)
    (out / "interface").write_text(digest(["prebuilt", toolchain.identity]))


def _only_sources(applied: Sequence[Patch]) -> bool:
    """Whether patches change only Go packages and the runtime's C files, and remove no file.

    Make notices such changes. It does not notice a file that is gone, or a change of what configure has read.
    """
    return all(
        (name.startswith("libgo/go/") and name.endswith(".go"))
        or (name.startswith("libgo/runtime/") and name.endswith((".c", ".h")))
        for patch in applied
        for name in patch.files
    ) and not any(patch.removes for patch in applied)


def _build_incrementally(
    toolchain: Toolchain, recipe: Recipe, pristine: Path, tree: Path, log: Path, progress: Progress
) -> None:
    """Build in a copy of an unpatched tree."""
    progress("copying the tree")
    _copy(pristine, tree)
    for patch in recipe.patches:
        patches.apply(patch, tree / "src")
    folder = tree / "build" / "libgo"
    touched = {str(package) for package in _packages_of(recipe.patches).values()}
    speed = _speed(pristine)
    plan = Plan({name: step for name, step in known().items() if name in touched}, _jobs())
    phase = "compiling what the patches touch"
    progress(phase)
    with BuildEstimate(folder, plan, progress, speed, phase):
        is_complete = _make_touched(toolchain, recipe.patches, pristine, tree, log)
    if not is_complete:
        phase = "export data changed, compiling the importers"
        progress(phase)
        plan = Plan({name: step for name, step in dependents(touched).items() if name not in touched}, _jobs())
        with BuildEstimate(folder, plan, progress, speed, phase):
            _make(tree, log)


def _jobs() -> int:
    """How many commands make runs side by side."""
    return os.cpu_count() or 1


def _speed(pristine: Path) -> float | None:
    """How fast this machine has built a tree (steps.SpeedEstimate), if that was stored."""
    try:
        return float((pristine / "speed").read_text())
    except (FileNotFoundError, ValueError) as error:
        _log.info("this machine's speed is unknown: %s", error)
        return None


def _build_fully(
    toolchain: Toolchain, recipe: Recipe, unpacked: Path, tree: Path, log: Path, progress: Progress
) -> None:
    """Configure and make everything in an empty folder, with GCC's source as `src/` in it."""
    shutil.copytree(unpacked, tree / "src", copy_function=_link)
    for patch in recipe.patches:
        patches.apply(patch, tree / "src")
    (tree / "place").write_text(str(tree))
    plan = Plan(known(), _jobs(), configures=True, listings=len(_package_list(tree / "src", "libgo-packages.txt")))
    with BuildEstimate(tree / "build" / "libgo", plan, progress) as report:
        _configure(toolchain, recipe, tree, log)
        _make(tree, log)
    (tree / "speed").write_text(str(report.estimate.speed))


def _configure(toolchain: Toolchain, recipe: Recipe, tree: Path, log: Path) -> None:
    """Configure libgo, and make the libraries that are linked into it."""
    # Without the tree's own place in the debugging information, the same source gives the same bytes anywhere.
    flags = " ".join([*toolchain.compile_flags, *recipe.flags, *_FASTER_FLAGS, f"-fdebug-prefix-map={tree}=."])
    tools = {name.upper(): toolchain.tool(name) for name in ("ar", "ld", "nm", "objcopy", "ranlib", "strip")}
    env = {"CC": f"{toolchain.gcc} {flags}", "GOC": f"{toolchain.gccgo} {flags}", "CXX": "false", **tools}
    env["CXXCPP"] = f"{toolchain.gcc} -E -x c"  # libffi's configure needs one, though no C++ is compiled
    env["CFLAGS"] = "-g -O2"  # autoconf's default for GCC; the configure of GCC 16's libatomic needs it set
    # The two names differ even for one machine: config.guess's has a vendor, a triple of ours has none. So configure
    # takes every build for a cross build (autoconf compares the names), and runs nothing that it compiles.
    common = [f"--build={_build_triple(toolchain, tree)}", f"--host={toolchain.triple}", "--disable-multilib", "-q"]

    def configure(name: str, *extra: str) -> None:
        folder = tree / "build" / name
        folder.mkdir(parents=True)
        library_log = log if name == "libgo" else log.with_suffix(f".{name}.log")
        script = f"../../src/{name}/configure"  # relative, so that the tree can be copied to another place
        command.run([script, *common, *extra], library_log, folder=folder, what=f"libgo: configuring {name}", env=env)
        if name != "libgo":
            # Only this target: the rest of GCC 16's libatomic is made beside a GCC that is being built, and only there.
            target = _LINKED_LIBRARIES[name]
            command.run(["make", target], library_log, folder=folder, what=f"libgo: making {name}")

    with ThreadPoolExecutor() as threads:
        steps = [threads.submit(configure, name, "--disable-shared", "--with-pic") for name in _LINKED_LIBRARIES]
        options = ["--disable-static", "--prefix=/usr", *toolchain.configure, *recipe.configure]
        steps.append(threads.submit(configure, "libgo", *options))
        for step in steps:
            step.result()


def _build_triple(toolchain: Toolchain, tree: Path) -> str:
    guess = command.capture([tree / "src" / "config.guess"]).stdout.decode().strip()
    if not guess:
        raise BuildError(f"libgo for {toolchain.triple}: config.guess does not know this machine")
    return guess


def _make(tree: Path, log: Path) -> None:
    """Make the libraries, then install them and the export data below `image/`."""
    folder = tree / "build" / "libgo"
    make = ["make", f"-j{_jobs()}", *_skip_gotool_imports(tree)]
    command.run([*make, "libgo.la", "libgobegin.a", "libgolibbegin.a"], log, folder=folder, what="libgo: make")
    # Not `make install`, which would first build the packages of the go command: no test program can import them.
    install = [*make, "install-exec-am", "install-data-am", f"DESTDIR={tree / 'image'}"]
    command.run(install, log, folder=folder, what="libgo: make install")


def _package_list(src: Path, name: str) -> list[str]:
    """The packages in one of libgo's lists of them."""
    return (src / "libgo" / name).read_text().split()


def _skip_gotool_imports(tree: Path) -> list[str]:
    """Options that keep make from listing the imports of the go command's packages. These lists are a third of all,
    each takes a dozen processes, and make would bring them up to date before it does anything else."""
    packages = _package_list(tree / "src", "gotool-packages.txt")
    return [option for package in packages for option in ("-o", f"{package}.lo.dep")]


def _packages_of(applied: Sequence[Patch]) -> dict[str, Path]:
    """The Go files that patches touch, and the package that each belongs to."""
    return {name: Path(name).parent.relative_to("libgo/go") for patch in applied for name in patch.go_files}


def _make_touched(toolchain: Toolchain, applied: Sequence[Patch], pristine: Path, tree: Path, log: Path) -> bool:
    """Compile the touched packages, and link if nothing else has to be compiled.

    `make -o X.gox` takes X's export data as they are, whatever X became, so its importers are not compiled again (GNU
    make manual, Options Summary). That is right exactly if X's new export data mean the same as the old ones, which
    then stay: so programs are compiled to the same bytes too. `-o X.lo.dep` skips the scripts that find X's files and
    imports, which take seconds, if their input is unchanged.

    Args:
        pristine: the tree without the patches.

    Returns:
        False if the export data of a touched package have changed; then all that imports it must be made.
    """
    folder = tree / "build" / "libgo"
    packages_by_file = _packages_of(applied)
    touched = set(packages_by_file.values())
    relisted = {package for name, package in packages_by_file.items() if not has_same_header(pristine, tree, name)}
    # Not every folder is a package here: some packages are for other systems only, though os_hurd.go lies in them.
    packages = sorted(str(package) for package in touched if (folder / f"{package}.gox").is_file())
    kept = [f"{package}.gox" for package in packages]
    for unlisted in touched - relisted:
        kept += [f"{unlisted}.lo.dep", f"s-{'-'.join(unlisted.parts)}-list"]
    keep_options = [option for file in kept for option in ("-o", file)]
    targets = ["libgo.la", "libgobegin.a", "libgolibbegin.a"]
    make = ["make", f"-j{_jobs()}", *_skip_gotool_imports(tree), *keep_options]
    command.run([*make, *targets], log, folder=folder, what="libgo: make")
    for package in packages:
        path = Path(package)
        new, old = (
            _export_data(toolchain, file, log)
            for file in (folder / path.parent / ".libs" / f"{path.name}.o", folder / f"{path}.gox")
        )
        if not export.same(new, old):
            _log.info("the export data of %s have changed", package)
            return False
    (library,) = (path for path in (folder / ".libs").glob("libgo.so.*") if not path.is_symlink())
    (installed,) = (path for path in (tree / "image").rglob("libgo.so.*") if not path.is_symlink())
    _replace(library, installed)
    for archive in (tree / "image").rglob("lib*begin.a"):
        _replace(folder / archive.name, archive)
    return True


def has_same_header(pristine: Path, tree: Path, name: str) -> bool:
    """Whether a Go file exists in two trees, and is compiled with the same files and packages in both.

    Args:
        pristine: the tree without patches.
        tree: the tree with patches.
        name: the file, below GCC's top folder.
    """
    old, new = (folder / "src" / name for folder in (pristine, tree))
    return old.is_file() and _HEADER.findall(old.read_bytes()) == _HEADER.findall(new.read_bytes())


def _export_data(toolchain: Toolchain, file: Path, log: Path) -> str:
    """The export data in an object file."""
    with tempfile.TemporaryDirectory(dir=log.parent) as folder:
        out = Path(folder) / "export"
        # objcopy insists on writing an object file, and it would replace even /dev/null.
        arguments: list[str | Path] = ["--dump-section", f".go_export={out}", file, Path(folder) / "object"]
        command.run([toolchain.tool("objcopy"), *arguments], log, folder=file.parent, what="libgo: objcopy")
        return out.read_text(encoding="latin-1")


def _copy(pristine: Path, tree: Path) -> None:
    """Copy a built tree so that make can continue in the copy.

    Sources and the output of compilers and linkers are hard links: the programs that write them anew remove them first
    (GNU binutils, bfd/cache.c, bfd_open_file; GNU patch). The rest is written in place, and is copied.
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
    """Link a file, or copy it where the file system cannot link it or has too many links of it."""
    try:
        os.link(path, target)
    except OSError as error:
        _log.debug("copied, for it cannot be linked: %s", error)
        shutil.copy2(path, target)


def _replace(path: Path, target: Path) -> None:
    """Put a file in the place of another, which may be a hard link to a file that must not change."""
    target.unlink()
    shutil.copy2(path, target)


def _relocate(tree: Path) -> None:
    """Rewrite the old place of a copied build tree to the new one in its files. Their times stay, so that make does
    nothing again."""
    old, new = (tree / "place").read_text().encode(), str(tree).encode()
    for name in ("libgo", *_LINKED_LIBRARIES):
        for path in (tree / "build" / name).rglob("*"):
            if path.suffix in ("", ".la", ".lai") and path.is_file() and not path.is_symlink():
                text = path.read_bytes()
                if old in text and not text.startswith(b"\x7fELF"):
                    times = path.stat()
                    path.write_bytes(text.replace(old, new))
                    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    (tree / "place").write_text(str(tree))


def _collect(toolchain: Toolchain, tree: Path, out: Path, log: Path) -> None:
    """Copy what programs need out of a built tree.

    Shipping the library to a guest takes long. So the debugging information that nothing reads is removed from it, and
    the rest is compressed. Programs need that rest: whether a recover counts depends on the names of its callers,
    inlined ones too, and libbacktrace finds them there (libgo/runtime/go-callers.c, libgo/go/runtime/panic.go).
    """
    installed = tree / "image"
    (library,) = (path for path in installed.rglob("libgo.so.*") if not path.is_symlink())
    (soname,) = (path.name for path in installed.rglob("libgo.so.*") if path.is_symlink())
    lib = out / "lib"
    lib.mkdir()
    removals = [option for section in _UNREAD_SECTIONS for option in ("-R", section)]
    shrink: list[str | Path] = [toolchain.tool("objcopy"), *removals, "--compress-debug-sections=zlib"]
    command.run([*shrink, library, lib / soname], log, folder=out, what="libgo: objcopy")
    (lib / "libgo.so").symlink_to(soname)
    for archive in installed.rglob("lib*begin.a"):
        shutil.copy2(archive, lib)
    (runtime,) = installed.rglob("runtime.gox")
    shutil.copytree(runtime.parent, out / "gox")
    (out / "interface").write_text(_interface(out))


def _interface(out: Path) -> str:
    files = [*sorted((out / "gox").rglob("*.gox")), *sorted((out / "lib").glob("*.a"))]
    return digest([[str(path.relative_to(out)), file_digest(path)] for path in files])
