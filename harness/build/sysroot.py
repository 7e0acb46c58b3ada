"""Sysroots: the headers and libraries that a cross compiler needs of its target's C library.

They are taken from a disk image, from Debian's packages or from a folder, and kept in the cache under the hash of what
they hold. Knows nothing of compilers, guests or partition tables.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from harness import conf
from harness.cache import Cache, lock, tree_digest
from harness.errors import BuildError
from harness.host import which

#: GNU ld takes a text for a linker script (ld manual, Commands); absolute names in one that lies in the sysroot are
#: looked up in the sysroot (ld manual, File Commands, INPUT).
_ABSOLUTE = re.compile(r"(?<![^\s(])/[^\s(),]+")
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)


@dataclass(frozen=True)
class Image:
    """A disk image with an ext2 file system, which begins at `offset` bytes."""

    file: Path
    offset: int = 0

    @classmethod
    def parse(cls, text: str) -> Image:
        """An image as debugfs(8) names it: `FILE`, or `FILE?offset=BYTES`."""
        file, separator, offset = text.rpartition("?offset=")
        if not separator:
            return cls(Path(text))
        if not offset.isdecimal():
            raise BuildError(f"{text}: the offset must be a number of bytes")
        return cls(Path(file), int(offset))

    def __str__(self) -> str:
        return f"{self.file}?offset={self.offset}" if self.offset else str(self.file)


@dataclass(frozen=True)
class Packages:
    """Debian packages that the user has fetched."""

    files: tuple[Path, ...]

    def __str__(self) -> str:
        return ", ".join(file.name for file in self.files)


@dataclass(frozen=True)
class Folder:
    """A folder that looks like the root of the target's file system."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


#: Where a sysroot is taken from.
Origin = Image | Packages | Folder


def make(origin: Origin, wanted: conf.Build, cache: Cache) -> Path:
    """Take a sysroot out of what the user has.

    Args:
        origin: where it is taken from.
        wanted: what must be in it.
        cache: where it is kept.

    Returns:
        Its folder, named by the hash of what it holds.

    Raises:
        BuildError: the origin cannot be read, or lacks what `wanted.sysroot` asks for; the text names the packages.
        ToolMissing: debugfs or dpkg-deb is not installed.
    """
    home = cache.root / "sysroots"
    with lock(cache.root / "locks" / "sysroots.lock"):
        staging = home / ".new"
        shutil.rmtree(staging, ignore_errors=True)  # what a killed run left
        whole, taken = staging / "whole", staging / "taken"
        whole.mkdir(parents=True)
        try:
            match origin:
                case Image():
                    _from_image(origin, wanted.multiarch, whole)
                case Packages():
                    _from_packages(origin, whole)
                case Folder():
                    whole = origin.path
            _take(whole, wanted.multiarch, taken)
            _check(taken, wanted, str(origin))
            final = home / tree_digest(taken)[:20]
            if not final.is_dir():
                os.replace(taken, final)
            return final
        except OSError as error:
            raise BuildError(f"sysroot from {origin}: {error.filename or ''}: {error.strerror}") from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _from_packages(origin: Packages, whole: Path) -> None:
    for file in origin.files:
        if not file.is_file():
            raise BuildError(f"{file}: there is no such package file")
        _run(["dpkg-deb", "-x", str(file), str(whole)], f"{file} cannot be unpacked")


def _from_image(origin: Image, multiarch: str, whole: Path) -> None:
    """Read the parts of an image that may be wanted, without mounting it (debugfs(8): ls, rdump)."""
    if not origin.file.is_file():
        raise BuildError(f"{origin.file}: there is no such image file")
    if not _debugfs(origin, "stat /").startswith("Inode:"):
        raise BuildError(
            f"{origin}: no ext2 file system begins there; give FILE?offset=BYTES, and see with `fdisk -l {origin.file}`"
            " where the partitions begin"
        )
    for folder in ("usr/include", f"usr/lib/{multiarch}", f"lib/{multiarch}"):
        (whole / folder).parent.mkdir(parents=True, exist_ok=True)
        _debugfs(origin, f'rdump "/{folder}" "{(whole / folder).parent}"')
    for folder in ("usr/lib", "lib"):
        # /inode/mode/uid/gid/name/size/ (debugfs(8), ls -p); rdump of a whole folder of libraries would take minutes
        for line in _debugfs(origin, f"ls -p /{folder}").splitlines():
            match line.split("/"):
                case ["", _, mode, _, _, name, *_] if mode[:2] in ("10", "12"):
                    _debugfs(origin, f'rdump "/{folder}/{name}" "{whole / folder}"')


def _debugfs(origin: Image, request: str) -> str:
    return _run(["debugfs", "-R", request, str(origin)], f"{origin} cannot be read")


def _run(command: list[str], what: str) -> str:
    done = subprocess.run(
        [which(command[0]), *command[1:]], capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode:
        raise BuildError(f"{what}: {(done.stderr.strip().splitlines() or ['no reason given'])[0]}")
    return done.stdout


def _take(whole: Path, multiarch: str, out: Path) -> None:
    """Copy headers and libraries. `lib` becomes a link to `usr/lib`, as in every Debian since 12, so that one set of
    names holds for old and new packages; links become relative, so that they lead to the sysroot and not to the host.
    """
    for folder in ("usr/include", f"usr/lib/{multiarch}", f"lib/{multiarch}"):
        for path in _below(whole / folder):
            _copy(whole, path, out)
    for folder in ("usr/lib", "lib"):
        for path in (whole / folder).glob("*"):
            if path.is_symlink() or path.is_file():
                _copy(whole, path, out)
    (out / "usr/lib").mkdir(parents=True, exist_ok=True)
    (out / "lib").symlink_to("usr/lib")


def _below(folder: Path) -> Iterator[Path]:
    """All files and links below a folder; links to folders are not followed."""
    for top, folders, files in os.walk(folder):
        for name in (*files, *(link for link in folders if (Path(top) / link).is_symlink())):
            yield Path(top) / name


def _copy(whole: Path, path: Path, out: Path) -> None:
    name = _merged(PurePosixPath("/") / path.relative_to(whole))
    place = out / name.relative_to("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        target = _merged(
            PurePosixPath(os.path.normpath(PurePosixPath("/") / path.relative_to(whole).parent / path.readlink()))
        )
        # A link from /usr/lib to the file of the same name in /lib is that file, once the two are one.
        if target != name and not place.is_file():
            place.unlink(missing_ok=True)
            place.symlink_to(os.path.relpath(target, name.parent))
    elif path.is_file():
        place.unlink(missing_ok=True)
        shutil.copyfile(path, place)


def _merged(path: PurePosixPath) -> PurePosixPath:
    """A path of the target's, seen from a system whose /lib is /usr/lib."""
    return PurePosixPath("/usr") / path.relative_to("/") if path.parts[1:2] == ("lib",) else path


def _check(taken: Path, wanted: conf.Build, origin: str) -> None:
    folders = [taken / "usr/include", taken / "usr/lib"]
    folders += [folder / wanted.multiarch for folder in folders]
    missing: dict[str, list[str]] = {}
    for file, package in wanted.sysroot.items():
        if not any((folder / file).is_file() for folder in folders):
            missing.setdefault(package, []).append(file)
    if missing:
        reasons = "; ".join(
            f"no {', '.join(files)}, which the package {package} has" for package, files in missing.items()
        )
        raise BuildError(f"{origin} is no sysroot: {reasons}")
    for script, name in _named_by_scripts(taken):
        if not (taken / name.lstrip("/")).exists():
            raise BuildError(f"{origin} is no sysroot: {script.relative_to(taken)} names {name}, which is not there")


def _named_by_scripts(taken: Path) -> Iterator[tuple[Path, str]]:
    """The absolute names in the linker scripts that lie among the libraries."""
    for path in (taken / "usr/lib").rglob("*.so"):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                text = file.read(4096)
            if b"\0" not in text:
                for name in _ABSOLUTE.findall(_COMMENT.sub(" ", text.decode(errors="replace"))):
                    yield path, name
