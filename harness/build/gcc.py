"""Cross compilers: gccgo and gcc for a triple, built from Debian's gcc-N-source with the distribution's cross binutils.

The finished toolchain appears in the cache as a whole. Until then its source and build tree lie beside it, with a stamp
for each step that is done, so that an interrupted build continues where it was. libgo is not built here: a libgo is a
variant. Knows nothing of guests.

The options and steps are those that gave a working gccgo 12.2 for GNU/Hurd i386.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness import conf, host, packages
from harness.build import command, source, sysroot
from harness.build.counting import CompilationCounter, Progress
from harness.build.toolchain import GCC_VERSIONS
from harness.cache import Cache, digest, file_digest
from harness.errors import BuildError, ToolMissing
from harness.locks import lock

_log = logging.getLogger(__name__)
#: To be changed when the build changes, so that folders of the old build in the cache are no longer used.
RECIPE = 1
#: MiB that a build takes: source, build tree, installed files.
ROOM = 2000
#: What a log has for each compilation, and how many compilations there are (GCC 12.2, C and Go, counted in its log).
_COMPILATION = b" -c "
_COMPILATIONS = {"all-gcc": 1170, "all-target-libgcc": 300}
#: Large parts of GCC's source that neither C, Go nor libgcc needs.
_LEFT_OUT = (
    "gcc/ada",
    "gcc/po",
    "gcc/testsuite/[!s]*",  # all but the selftests, which the build of the compilers runs
    "libgfortran",
    "libgo/go",
    "libphobos",
    "libsanitizer",
    "libstdc++-v3",
)
#: The programs of binutils that the compilers and libgo's build call.
_BINUTILS = ("ar", "as", "ld", "nm", "objcopy", "objdump", "ranlib", "readelf", "strip")
#: The libraries that the compilers are linked with, by their headers.
LIBRARIES = {"gmp.h": "libgmp-dev", "mpfr.h": "libmpfr-dev", "mpc.h": "libmpc-dev"}
#: A time later than that of any file of a build: 2096.
_FAR_FUTURE = 4_000_000_000


@dataclass(frozen=True)
class _Build:
    """One toolchain's build.

    Attributes:
        key: the hash of all its inputs.
        prefix: where the finished toolchain will be.
        work: what an interrupted build leaves: the source, the build tree, and a stamp for each step that is done.
        lock: the descriptor of a lock on `work`.
    """

    key: str
    triple: str
    archive: Path
    patches: tuple[Path, ...]
    options: tuple[str, ...]
    sysroot: Path | None
    prefix: Path
    work: Path
    logs: Path
    progress: Progress
    lock: int | None = None

    def log(self, step: str) -> Path:
        """The log of a step."""
        return self.logs / f"gcc-{self.key}.{step}.log"

    def run(
        self, step: str, arguments: Sequence[str | Path], folder: Path, env: Mapping[str, str] | None = None
    ) -> None:
        """Run a command of a step. It holds the lock until the last of its children ends."""
        what = f"GCC for {self.triple}: {step}"
        command.run(arguments, self.log(step), folder=folder, what=what, env=env, lock=self.lock)


@dataclass(frozen=True)
class Built:
    """A built toolchain: the folder where it is installed, and its sysroot if it has one."""

    folder: Path
    sysroot: Path | None


def build(
    name: str,
    config: conf.Toolchain,
    origin: sysroot.Origin | None,
    cache: Cache,
    progress: Progress = lambda text: None,
) -> Built:
    """Build a toolchain, or take it from the cache. An interrupted build is continued.

    Args:
        name: the toolchain's name in the configuration.
        config: what the configuration says of it.
        origin: where the sysroot is taken from. Without one only the compilers are built: they compile, but cannot
            link.
        cache: where it is kept.
        progress: called with each step, in a few words.

    Raises:
        ToolMissing: something that the build needs is not installed; the text has the command that installs it.
        BuildError: the configuration does not say how it is built, or the build failed; the text has the first error
            and the log's path.
        StoreError: there is not enough room.
    """
    if config.build is None:
        raise BuildError(f"toolchain {name}: its description has no `build:` section, so it cannot be built")
    archive = find_source(config)
    patches = tuple(archive.parent / "patches" / patch for patch in config.build.patches)
    for patch in patches:
        if not patch.is_file():
            raise BuildError(f"toolchain {name}: {patch.parent} has no patch {patch.name}")
    root = sysroot.make(origin, config.build, cache) if origin else None
    inputs = {
        "recipe": RECIPE,
        "triple": config.triple,
        "source": source.digest_of(archive),
        "patches": [file_digest(patch) for patch in patches],
        "configure": config.build.configure,
        "sysroot": str(root),
        "binutils": _version(f"{config.triple}-ld"),
    }
    key = digest(inputs)
    toolchain_build = _Build(
        key=key,
        triple=config.triple,
        archive=archive,
        patches=patches,
        options=tuple(config.build.configure),
        sysroot=root,
        prefix=cache.path("toolchains", key),
        work=cache.path("toolchain-builds", key),
        logs=cache.root / "logs",
        progress=progress,
    )
    about = f"{config.triple}, of {archive.name}"
    folder = cache.make("toolchains", key, lambda out: _build(toolchain_build, out), ROOM, about=about)
    shutil.rmtree(toolchain_build.work, ignore_errors=True)  # not earlier: a killed build continues there
    return Built(folder, root)


def source_archive(config: conf.Toolchain) -> Path:
    """The archive of the source that a toolchain is built from. Raises ToolMissing if it is not installed."""
    majors = [config.gcc] if config.gcc else GCC_VERSIONS
    archive = next((archive for major in majors if (archive := packages.gcc_source(major))), None)
    if archive is None:
        raise ToolMissing(f"GCC's source is not installed (Debian package {_source_package(config)})")
    return archive


def _source_package(config: conf.Toolchain) -> str:
    return f"gcc-{config.gcc or min(GCC_VERSIONS)}-source"


def find_source(config: conf.Toolchain) -> Path:
    """The archive of GCC's source. Raises ToolMissing if it or another input of the build is not installed."""
    missing, archive = [], None
    try:
        archive = source_archive(config)
    except ToolMissing as error:
        _log.info("%s", error)
        missing.append(_source_package(config))
    if not all(host.find(f"{config.triple}-{tool}") for tool in _BINUTILS):
        missing.append(f"binutils-{config.triple}")
    missing += [program for program in ("g++", "make", "patch") if host.find(program) is None]
    missing += [package for header, package in LIBRARIES.items() if not _has_header(header)]
    if missing or archive is None:
        raise ToolMissing(f"packages for building the compilers are missing: sudo apt-get install {' '.join(missing)}")
    return archive


def _has_header(header: str) -> bool:
    try:
        return command.capture(["g++", "-E", "-x", "c++", "-include", header, os.devnull]).returncode == 0
    except FileNotFoundError:
        _log.info("no g++ to look for %s with", header)
        return False


def _version(program: str) -> str:
    return command.capture([program, "--version"]).stdout.decode(errors="replace").partition("\n")[0]


def _build(build: _Build, out: Path) -> None:
    build.logs.mkdir(parents=True, exist_ok=True)
    if build.work.is_dir():
        build.progress("continuing an interrupted build")  # once the last process of that build has ended
    else:
        for old in build.logs.glob(build.log("*").name):
            old.unlink()
    steps = {"unpack": _unpack, "configure": _configure, "compilers": _make_compilers}
    if build.sysroot:
        steps["libgcc"] = _make_libgcc
    with lock(build.work / "lock") as descriptor:
        build = replace(build, lock=descriptor)
        try:
            for name, step in steps.items():
                stamp = build.work / f"{name}.done"
                if not stamp.exists():
                    step(build)
                    stamp.touch()
            _install(build, out)
        except BuildError as error:
            raise BuildError(
                f"{error}; the next build continues in {build.work} (remove that folder to begin anew)"
            ) from error


def _unpack(build: _Build) -> None:
    build.progress("unpacking GCC's source")
    src = build.work / "src"
    shutil.rmtree(src, ignore_errors=True)  # an interrupted step may have left it
    src.mkdir()
    tar: list[str | Path] = ["tar", "-xf", build.archive, "-C", src, "--strip-components=1", "--no-same-owner"]
    tar += ["--anchored", "--no-wildcards-match-slash", *(f"--exclude=*/{part}" for part in _LEFT_OUT)]
    build.run("unpack", tar, src)
    for patch in build.patches:  # a/src/gcc/...; with fuzz, for the rest of Debian's series is not applied
        build.run("unpack", ["patch", "-p2", "--batch", "--forward", "-i", patch], src)


def _configure(build: _Build) -> None:
    build.progress("configuring")
    tree = build.work / "build"
    shutil.rmtree(tree, ignore_errors=True)  # an interrupted step may have left it
    tree.mkdir()
    configure = ["../src/configure", f"--prefix={build.prefix}", f"--target={build.triple}", *build.options]
    configure.append(f"--with-sysroot={build.sysroot}" if build.sysroot else "--without-headers")
    # -O1 for the compilers themselves: they are built faster, and their output is the same.
    build.run("configure", configure, tree, {"CFLAGS": "-O1", "CXXFLAGS": "-O1", "MAKEINFO": "missing"})


def _make_compilers(build: _Build) -> None:
    build.progress("compiling the compilers")
    _make(build, "all-gcc")


def _make_libgcc(build: _Build) -> None:
    build.progress("compiling libgcc")
    _make(build, "all-target-libgcc")


def _make(build: _Build, target: str) -> None:
    tree = build.work / "build"
    for log in [*tree.glob("*/config.log"), *tree.glob("*/*/config.log")]:
        if b"\nconfigure: exit 0" not in log.read_bytes():  # configure was killed, which make does not notice
            shutil.rmtree(log.parent)
    # Debian's archive has no documentation to compare target.def with (gcc/Makefile.in, s-tm-texi).
    stamp = tree / "gcc" / "s-tm-texi"
    stamp.parent.mkdir(exist_ok=True)
    stamp.touch()
    os.utime(stamp, (_FAR_FUTURE, _FAR_FUTURE))
    with CompilationCounter(build.log(target), _COMPILATION, _COMPILATIONS[target], build.progress):
        build.run(target, ["make", f"-j{os.cpu_count() or 1}", target], tree)


def _install(build: _Build, out: Path) -> None:
    """Install into the folder that will be renamed to the prefix, with binutils under the prefix's names."""
    build.progress("installing")
    image = out / "image"
    targets = ["install-gcc", *(["install-target-libgcc"] if build.sysroot else [])]
    build.run("install", ["make", *targets, f"DESTDIR={image}"], build.work / "build")
    for path in (image / build.prefix.relative_to("/")).iterdir():
        path.rename(out / path.name)
    shutil.rmtree(image)
    for folder, prefix in ((out / build.triple / "bin", ""), (out / "bin", f"{build.triple}-")):
        folder.mkdir(parents=True, exist_ok=True)
        for tool in _BINUTILS:
            (folder / f"{prefix}{tool}").symlink_to(host.find(f"{build.triple}-{tool}") or "")
