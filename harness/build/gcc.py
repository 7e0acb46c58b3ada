"""Cross compilers: gccgo and gcc for a triple, built from Debian's gcc-N-source with the distribution's cross binutils.

The finished toolchain appears in the cache as a whole. Until then its source and its build tree lie beside it, with a
stamp for each step that is done, so that a build that was interrupted goes on where it was. libgo is not built here: a
libgo is a variant. Knows nothing of guests.

Options and steps are those that gave a working gccgo 12.2 for GNU/Hurd i386.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness import conf, packages
from harness.build import command, source, sysroot
from harness.build.counting import Progress, counted
from harness.build.toolchain import GCC_VERSIONS
from harness.cache import Cache, digest, file_digest, lock
from harness.errors import BuildError, ToolMissing

#: Changed when the way of building changes, so that old folders in the cache are not taken for new ones.
RECIPE = 1
#: MiB that a build takes: source, build tree, what is installed.
ROOM = 2000
#: What a log has for each compilation, and how many there are (GCC 12.2, C and Go, counted in its log).
_COMPILATION = b" -c "
_COMPILATIONS = {"all-gcc": 1170, "all-target-libgcc": 300}
#: Large parts of GCC's source that neither C, Go nor libgcc needs.
_LEFT_OUT = (
    "gcc/ada",
    "gcc/po",
    "gcc/testsuite/[!s]*",  # but its selftests, which making the compilers runs
    "libgfortran",
    "libgo/go",
    "libphobos",
    "libsanitizer",
    "libstdc++-v3",
)
#: The programs of binutils that the compilers and libgo's build call.
_BINUTILS = ("ar", "as", "ld", "nm", "objcopy", "objdump", "ranlib", "readelf", "strip")
#: The libraries that the compilers are linked with, by their headers.
_LIBRARIES = {"gmp.h": "libgmp-dev", "mpfr.h": "libmpfr-dev", "mpc.h": "libmpc-dev"}
#: A time after that of any file of a build: 2096.
_FAR_FUTURE = 4_000_000_000


@dataclass(frozen=True)
class _Build:
    """One toolchain that is to be built.

    Attributes:
        key: the hash of all that makes it.
        prefix: where it will be when it is whole.
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

    def run(self, step: str, argv: Sequence[str | Path], folder: Path, env: Mapping[str, str] | None = None) -> None:
        """Run a command of a step, which holds the lock until the last of its children ends."""
        what = f"GCC for {self.triple}: {step}"
        command.run(argv, self.log(step), folder=folder, what=what, env=env, keep=self.lock)


@dataclass(frozen=True)
class Built:
    """A built toolchain: the folder that it is installed in, and its sysroot if it has one."""

    folder: Path
    sysroot: Path | None


def build(
    name: str,
    config: conf.Toolchain,
    origin: sysroot.Origin | None,
    cache: Cache,
    progress: Progress = lambda text: None,
) -> Built:
    """Build a toolchain, or take it from the cache. A build that was interrupted goes on.

    Args:
        name: the toolchain's name in the configuration.
        config: what the configuration says of it.
        origin: where the sysroot is taken from. Without one only the compilers are built: they compile, and link
            nothing.
        cache: where it is kept.
        progress: told each step in a few words.

    Raises:
        ToolMissing: something that the build needs is not installed; the text has the command that installs it.
        BuildError: it is not to be built, or the build failed; the text has the first error and the log's path.
        StoreError: there is not enough room.
    """
    if config.build is None:
        raise BuildError(f"toolchain {name}: its description has no `build:` that says how it is built")
    archive = look_around(config)
    patches = tuple(archive.parent / "patches" / patch for patch in config.build.patches)
    for patch in patches:
        if not patch.is_file():
            raise BuildError(f"toolchain {name}: {patch.parent} has no patch {patch.name}")
    root = sysroot.make(origin, config.build, cache) if origin else None
    made_of = {
        "recipe": RECIPE,
        "triple": config.triple,
        "source": source.digest_of(archive),
        "patches": [file_digest(patch) for patch in patches],
        "configure": config.build.configure,
        "sysroot": str(root),
        "binutils": _version(f"{config.triple}-ld"),
    }
    key = digest(made_of)
    build_ = _Build(
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
    folder_ = cache.make("toolchains", key, lambda out: _build(build_, out), ROOM)
    shutil.rmtree(build_.work, ignore_errors=True)  # only now: whoever is killed earlier goes on there
    return Built(folder_, root)


def look_around(config: conf.Toolchain) -> Path:
    """The archive of GCC's source, if it and all else that the build needs is there. Raises ToolMissing."""
    majors = [config.gcc] if config.gcc else GCC_VERSIONS
    archive = next((source_ for major in majors if (source_ := packages.gcc_source(major))), None)
    missing = [] if archive else [f"gcc-{config.gcc or min(GCC_VERSIONS)}-source"]
    if not all(shutil.which(f"{config.triple}-{tool}") for tool in _BINUTILS):
        missing.append(f"binutils-{config.triple}")
    missing += [program for program in ("g++", "make", "patch") if shutil.which(program) is None]
    missing += [package for header, package in _LIBRARIES.items() if not _has_header(header)]
    if missing or archive is None:
        raise ToolMissing(f"building the compilers needs more than is here: sudo apt-get install {' '.join(missing)}")
    return archive


def _has_header(header: str) -> bool:
    command = ["g++", "-E", "-x", "c++", "-include", header, os.devnull]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def _version(program: str) -> str:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return done.stdout.partition("\n")[0]


def _build(build_: _Build, out: Path) -> None:
    build_.logs.mkdir(parents=True, exist_ok=True)
    if build_.work.is_dir():
        build_.progress("going on with a build that was interrupted")  # once the last of what it started has ended
    else:
        for old in build_.logs.glob(build_.log("*").name):
            old.unlink()
    steps = {"unpack": _unpack, "configure": _configure, "compilers": _compilers}
    if build_.sysroot:
        steps["libgcc"] = _libgcc
    with lock(build_.work / "lock") as descriptor:
        build_ = replace(build_, lock=descriptor)
        try:
            for name, step in steps.items():
                stamp = build_.work / f"{name}.done"
                if not stamp.exists():
                    step(build_)
                    stamp.touch()
            _install(build_, out)
        except BuildError as error:
            raise BuildError(
                f"{error}; the next call goes on in {build_.work}, or begins anew if it is gone"
            ) from error


def _unpack(build_: _Build) -> None:
    build_.progress("unpacking GCC's source")
    src = build_.work / "src"
    shutil.rmtree(src, ignore_errors=True)
    src.mkdir()
    command: list[str | Path] = ["tar", "-xf", build_.archive, "-C", src, "--strip-components=1", "--no-same-owner"]
    command += ["--anchored", "--no-wildcards-match-slash", *(f"--exclude=*/{part}" for part in _LEFT_OUT)]
    build_.run("unpack", command, src)
    for patch in build_.patches:  # a/src/gcc/...; Debian's whole series is not applied, so lines may have moved
        build_.run("unpack", ["patch", "-p2", "--batch", "--forward", "-i", patch], src)


def _configure(build_: _Build) -> None:
    build_.progress("configuring")
    tree = build_.work / "build"
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir()
    command = ["../src/configure", f"--prefix={build_.prefix}", f"--target={build_.triple}", *build_.options]
    command.append(f"--with-sysroot={build_.sysroot}" if build_.sysroot else "--without-headers")
    # -O1 for the compilers themselves: they are made sooner, and what they make is the same.
    build_.run("configure", command, tree, {"CFLAGS": "-O1", "CXXFLAGS": "-O1", "MAKEINFO": "missing"})


def _compilers(build_: _Build) -> None:
    build_.progress("compiling the compilers")
    _make(build_, "all-gcc")


def _libgcc(build_: _Build) -> None:
    build_.progress("compiling libgcc")
    _make(build_, "all-target-libgcc")


def _make(build_: _Build, target: str) -> None:
    tree = build_.work / "build"
    for log in [*tree.glob("*/config.log"), *tree.glob("*/*/config.log")]:
        if b"\nconfigure: exit 0" not in log.read_bytes():  # killed on its way, which make does not see
            shutil.rmtree(log.parent)
    # Debian's archive has no documentation to compare target.def with (gcc/Makefile.in, s-tm-texi).
    stamp = tree / "gcc" / "s-tm-texi"
    stamp.parent.mkdir(exist_ok=True)
    stamp.touch()
    os.utime(stamp, (_FAR_FUTURE, _FAR_FUTURE))
    with counted(build_.log(target), _COMPILATION, _COMPILATIONS[target], build_.progress):
        build_.run(target, ["make", f"-j{os.cpu_count() or 1}", target], tree)


def _install(build_: _Build, out: Path) -> None:
    """Install into the folder that will be renamed to the prefix, with binutils under the prefix's names."""
    build_.progress("installing")
    image = out / "image"
    targets = ["install-gcc", *(["install-target-libgcc"] if build_.sysroot else [])]
    build_.run("install", ["make", *targets, f"DESTDIR={image}"], build_.work / "build")
    for path in (image / build_.prefix.relative_to("/")).iterdir():
        path.rename(out / path.name)
    shutil.rmtree(image)
    for folder, prefix in ((out / build_.triple / "bin", ""), (out / "bin", f"{build_.triple}-")):
        folder.mkdir(parents=True, exist_ok=True)
        for tool in _BINUTILS:
            (folder / f"{prefix}{tool}").symlink_to(shutil.which(f"{build_.triple}-{tool}") or "")
