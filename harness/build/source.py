"""GCC's source, from Debian's gcc-N-source package or where the configuration says, and its parts that libgo needs.

Knows nothing of patches or compilers.
"""

from __future__ import annotations

import functools
from pathlib import Path

from harness import packages
from harness.build import command
from harness.build.toolchain import Toolchain
from harness.cache import Cache, digest, file_digest
from harness.errors import BuildError, ToolMissing

#: Folders that building libgo reads (its configure.ac, Makefile.am and the libraries it links), and GCC's Go tests.
PARTS = (
    "config",
    "gcc/BASE-VER",
    "gcc/testsuite/go.go-torture",
    "gcc/testsuite/go.test",
    "include",
    "libatomic",
    "libbacktrace",
    "libffi",
    "libgcc",
    "libgo",
)

#: Patterns of the names of scripts in the top folder, which building libgo uses.
SCRIPTS = ("config*", "*.sh", "*.m4", "*-sh", "depcomp", "compile", "missing", "mkinstalldirs", "move-if-change")


def find(toolchain: Toolchain) -> Path:
    """The archive or folder of GCC's source for a toolchain.

    Raises:
        ToolMissing: the package is not installed.
        BuildError: the path in the configuration does not exist.
    """
    if toolchain.source:
        if not toolchain.source.exists():
            raise BuildError(f"toolchain {toolchain.name}: there is no GCC source at {toolchain.source}")
        return toolchain.source
    archive = packages.gcc_source(toolchain.major)
    if archive is None:
        raise ToolMissing(
            f"the source of GCC {toolchain.major} is not installed (Debian package gcc-{toolchain.major}-source)"
        )
    return archive


@functools.cache
def digest_of(archive: Path) -> str:
    """The SHA-256 of an archive, which is read once a process however many variants are built of it."""
    return file_digest(archive)


def unpack(toolchain: Toolchain, cache: Cache) -> Path:
    """The folder with the parts of GCC's source that libgo needs, unpacked once.

    Raises:
        ToolMissing, BuildError: it does not exist or is not GCC's source.
    """
    source = find(toolchain)
    if source.is_dir():
        if not (source / "libgo" / "configure").is_file():
            raise BuildError(f"{source} is not GCC's source: it has no libgo/configure")
        return source
    return unpack_archive(source, cache)


def unpack_archive(source: Path, cache: Cache) -> Path:
    """The same of an archive. Raises BuildError if it is not GCC's source."""
    key = digest({"archive": digest_of(source), "parts": PARTS})

    def build(staging: Path) -> None:
        top = [f"*/{part}" for part in PARTS]
        scripts = [f"*/{pattern}" for pattern in SCRIPTS]
        tar = ["tar", "-xf", str(source), "-C", str(staging), "--strip-components=1", "--no-same-owner"]
        tar += ["--wildcards", "--no-wildcards-match-slash", *top, *scripts]
        process = command.capture(tar)
        if not (staging / "libgo" / "configure").is_file():
            errors = process.stderr.decode(errors="replace").strip().splitlines()
            raise BuildError(f"{source} cannot be unpacked as GCC's source: {errors[0] if errors else 'tar failed'}")

    return cache.make("gcc-source", key, build, about=source.name)
