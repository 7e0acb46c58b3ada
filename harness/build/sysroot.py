"""Sysroots: the headers and libraries that a cross compiler needs of its target's C library.

They are taken from a disk image, from Debian packages or from a folder, and kept in the cache under the hash of their
content. Knows nothing of compilers, guests or partition tables.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from harness import conf
from harness.build import command
from harness.cache import Cache, tree_digest
from harness.errors import BuildError
from harness.host import which
from harness.locks import lock

#: GNU ld takes a text file for a linker script (ld manual, Commands). Absolute names in a script that lies in the
#: sysroot are looked up in the sysroot (ld manual, File Commands, INPUT).
_ABSOLUTE = re.compile(r"(?<![^\s(])/[^\s(),]+")
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)


@dataclass(frozen=True)
class Image:
    """A disk image with an ext2 file system, which begins at `offset` bytes."""

    file: Path
    offset: int = 0

    @classmethod
    def parse(cls, text: str) -> Image:
        """An image as debugfs(8) names it: `FILE`, or `FILE?offset=BYTES`. Raises BuildError if BYTES is no number."""
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
    """Debian packages that the user has downloaded."""

    files: tuple[Path, ...]

    def __str__(self) -> str:
        return ", ".join(file.name for file in self.files)


@dataclass(frozen=True)
class Folder:
    """A folder with the layout of the target's root file system."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


#: Where a sysroot is taken from.
Origin = Image | Packages | Folder


def make(origin: Origin, config: conf.Build, cache: Cache) -> Path:
    """Make a sysroot.

    Args:
        origin: where it is taken from.
        config: has the files that must be in it.
        cache: where it is kept.

    Returns:
        Its folder, named by the hash of its content.

    Raises:
        BuildError: the origin cannot be read, or lacks a file of `config.sysroot`; the text names the packages.
        ToolMissing: debugfs or dpkg-deb is not installed.
    """
    home = cache.root / "sysroots"
    with lock(cache.root / "locks" / "sysroots.lock"):
        staging = home / ".new"
        shutil.rmtree(staging, ignore_errors=True)  # a killed run may have left it
        root, selected = staging / "whole", staging / "taken"
        root.mkdir(parents=True)
        try:
            match origin:
                case Image():
                    _from_image(origin, config.multiarch, root)
                case Packages():
                    _from_packages(origin, root)
                case Folder():
                    root = origin.path
            _select(root, config.multiarch, selected)
            _check(selected, config, str(origin))
            final = home / tree_digest(selected)[:20]
            if not final.is_dir():
                os.replace(selected, final)
            return final
        except OSError as error:
            raise BuildError(f"sysroot from {origin}: {error.filename or ''}: {error.strerror}") from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)  # the next call removes what is left


def _from_packages(origin: Packages, root: Path) -> None:
    for file in origin.files:
        if not file.is_file():
            raise BuildError(f"package file {file} does not exist")
        _run(["dpkg-deb", "-x", str(file), str(root)], f"{file} cannot be unpacked")


def _from_image(origin: Image, multiarch: str, root: Path) -> None:
    """Copy the folders of an image that may be needed, without mounting it (debugfs(8): ls, rdump)."""
    if not origin.file.is_file():
        raise BuildError(f"image file {origin.file} does not exist")
    if not _debugfs(origin, "stat /").startswith("Inode:"):
        raise BuildError(
            f"{origin}: no ext2 file system begins there; give FILE?offset=BYTES (`fdisk -l {origin.file}` shows where"
            " the partitions begin)"
        )
    for folder in ("usr/include", f"usr/lib/{multiarch}", f"lib/{multiarch}"):
        (root / folder).parent.mkdir(parents=True, exist_ok=True)
        _debugfs(origin, f'rdump "/{folder}" "{(root / folder).parent}"')
    for folder in ("usr/lib", "lib"):
        # /inode/mode/uid/gid/name/size/ (debugfs(8), ls -p). rdump of a whole folder of libraries would take minutes.
        for line in _debugfs(origin, f"ls -p /{folder}").splitlines():
            match line.split("/"):
                case ["", _, mode, _, _, name, *_] if mode[:2] in ("10", "12"):
                    _debugfs(origin, f'rdump "/{folder}/{name}" "{root / folder}"')


def _debugfs(origin: Image, request: str) -> str:
    return _run(["debugfs", "-R", request, str(origin)], f"{origin} cannot be read")


def _run(arguments: list[str], failure: str) -> str:
    process = command.capture([which(arguments[0]), *arguments[1:]])
    if process.returncode:
        errors = process.stderr.decode(errors="replace").strip().splitlines()
        raise BuildError(f"{failure}: {errors[0] if errors else f'{arguments[0]} gave no reason'}")
    return process.stdout.decode(errors="replace")


def _select(root: Path, multiarch: str, out: Path) -> None:
    """Copy headers and libraries.

    `lib` becomes a link to `usr/lib`, as in every Debian since 12, so that one set of names holds for old and new
    packages. Links become relative, so that they lead to the sysroot and not to the host.
    """
    for folder in ("usr/include", f"usr/lib/{multiarch}", f"lib/{multiarch}"):
        for path in _files_below(root / folder):
            _copy(root, path, out)
    for folder in ("usr/lib", "lib"):
        for path in (root / folder).glob("*"):
            if path.is_symlink() or path.is_file():
                _copy(root, path, out)
    (out / "usr/lib").mkdir(parents=True, exist_ok=True)
    (out / "lib").symlink_to("usr/lib")


def _files_below(folder: Path) -> Iterator[Path]:
    """All files and links below a folder; links to folders are not followed."""
    for top, folders, files in os.walk(folder):
        for name in (*files, *(name for name in folders if (Path(top) / name).is_symlink())):
            yield Path(top) / name


def _copy(root: Path, path: Path, out: Path) -> None:
    name = _merged(PurePosixPath("/") / path.relative_to(root))
    place = out / name.relative_to("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        target = _merged(
            PurePosixPath(os.path.normpath(PurePosixPath("/") / path.relative_to(root).parent / path.readlink()))
        )
        # A link from /usr/lib to the file of the same name in /lib is that file itself where the two folders are one.
        if target != name and not place.is_file():
            place.unlink(missing_ok=True)
            place.symlink_to(os.path.relpath(target, name.parent))
    elif path.is_file():
        place.unlink(missing_ok=True)
        shutil.copyfile(path, place)


def _merged(path: PurePosixPath) -> PurePosixPath:
    """A path of the target on a system whose /lib is a link to /usr/lib."""
    return PurePosixPath("/usr") / path.relative_to("/") if path.parts[1:2] == ("lib",) else path


def _check(root: Path, config: conf.Build, origin: str) -> None:
    folders = [root / "usr/include", root / "usr/lib"]
    folders += [folder / config.multiarch for folder in folders]
    missing: dict[str, list[str]] = {}
    for file, package in config.sysroot.items():
        if not any((folder / file).is_file() for folder in folders):
            missing.setdefault(package, []).append(file)
    if missing:
        text = "; ".join(f"no {', '.join(files)} (from package {package})" for package, files in missing.items())
        raise BuildError(f"{origin} is not a sysroot: {text}")
    for script, name in _linker_script_names(root):
        if not (root / name.lstrip("/")).exists():
            raise BuildError(f"{origin} is not a sysroot: {script.relative_to(root)} names {name}, which is missing")


def _linker_script_names(root: Path) -> Iterator[tuple[Path, str]]:
    """The linker scripts among the libraries, each with an absolute name in it."""
    for path in (root / "usr/lib").rglob("*.so"):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                text = file.read(4096)
            if b"\0" not in text:
                for name in _ABSOLUTE.findall(_COMMENT.sub(" ", text.decode(errors="replace"))):
                    yield path, name
