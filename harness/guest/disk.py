"""Disk images: unpacked without their holes, their partitions found, and files in an ext2 partition read and written.

All without root and without mounting: debugfs works on the partition where it lies in the image. Knows nothing of
operating systems.
"""

from __future__ import annotations

import os
import re
import shlex
import struct
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from harness.errors import ImageError
from harness.guest.host import which

SECTOR = 512
#: Bytes read at once; a piece of so many zeros becomes a hole.
_PIECE = 1 << 16
#: How the archives begin that are unpacked: xz, gzip, bzip2.
_PACKED = (b"\xfd7zXZ\0", b"\x1f\x8b", b"BZh")
#: Partition types that hold further partitions.
_EXTENDED = (0x05, 0x0F, 0x85)


@dataclass(frozen=True)
class Partition:
    """A partition: its type in the table, and where it lies, in bytes."""

    kind: int
    offset: int
    size: int


def is_packed(source: Path) -> bool:
    """Whether a file is a compressed archive, by its first bytes. Raises OSError if it cannot be read."""
    with source.open("rb") as file:
        return file.read(6).startswith(_PACKED)


def unpack(source: Path, target: Path, most: int, progress: Callable[[str], None]) -> None:
    """Write the disk image that a file is, or that is alone in a compressed tar archive, as a sparse file.

    Args:
        source: an image, or an archive with one regular file whose name ends in `.img`.
        target: the file to write.
        most: the bytes that the image may have.
        progress: is told how far it is.

    Raises:
        ImageError: the source is missing, damaged or holds anything else, or there is no room.
    """
    try:
        with source.open("rb") as raw, target.open("wb") as out:
            total = source.stat().st_size

            def tell() -> None:
                progress(f"unpacking {source.name}: {raw.tell() / 1e6:.0f} of {total / 1e6:.0f} MB")

            if is_packed(source):
                _unpack_tar(source, raw, out, most, tell)
            elif total > most:
                raise ImageError(f"{source}: has {total >> 20} MiB, more than the {most >> 20} that the image may have")
            else:
                _copy_sparse(raw, out, tell)
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise ImageError(f"{source}: is damaged or no tar archive: {error}") from error
    except OSError as error:
        raise ImageError(f"{source}: cannot be unpacked: {error.strerror or error}") from error


def _unpack_tar(source: Path, raw: IO[bytes], out: IO[bytes], most: int, tell: Callable[[], None]) -> None:
    found = None
    with tarfile.open(fileobj=raw, mode="r|*") as archive:
        for member in archive:
            if found or not member.isreg() or not re.fullmatch(r"(\./)?[^/]+\.img", member.name):
                raise ImageError(f"{source}: holds {member.name}, where one file NAME.img is all that it may hold")
            if member.size > most:
                size = member.size >> 20
                raise ImageError(f"{source}: its image has {size} MiB, more than the {most >> 20} that it may have")
            found = archive.extractfile(member)
            assert found is not None  # it is a regular file
            _copy_sparse(found, out, tell)
    if not found:
        raise ImageError(f"{source}: holds no disk image")


def _copy_sparse(source: IO[bytes], out: IO[bytes], tell: Callable[[], None]) -> None:
    zeros = bytes(_PIECE)
    while piece := source.read(_PIECE):
        if piece == zeros[: len(piece)]:
            out.seek(len(piece), os.SEEK_CUR)
        else:
            out.write(piece)
        tell()
    out.truncate(out.tell())


def partitions(image: Path) -> list[Partition]:
    """The partitions of an image in the order of their numbers, logical ones after the primary ones.

    Raises:
        ImageError: it has no MBR partition table, or one that leads nowhere.
    """
    with image.open("rb") as file:
        found = _table(file, 0, image)
        extended = next((one for one in found if one.kind in _EXTENDED), None)
        result = [one for one in found if one.kind not in _EXTENDED]
        if extended:
            result += _logical(file, extended.offset, image)
    return result


def _logical(file: IO[bytes], extended: int, image: Path) -> list[Partition]:
    """The partitions in an extended one. Each has a table of its own, which tells where the next one's is."""
    result: list[Partition] = []
    at = extended
    for _ in range(64):
        inner = _table(file, at, image)
        result += [Partition(one.kind, at + one.offset, one.size) for one in inner if one.kind not in _EXTENDED]
        links = [one for one in inner if one.kind in _EXTENDED]
        if not links:
            return result
        at = extended + links[0].offset
    raise ImageError(f"{image}: its partition table has no end")


def last_of_kind(image: Path, kind: int) -> Partition:
    """The last partition of a type.

    Raises:
        ImageError: there is none, or the image ends before it does.
    """
    found = [one for one in partitions(image) if one.kind == kind]
    if not found:
        raise ImageError(f"{image}: has no partition of type {kind:#x}")
    last = found[-1]
    if (missing := last.offset + last.size - image.stat().st_size) > 0:
        raise ImageError(f"{image}: is cut short: {missing} bytes of its last partition are missing")
    return last


def _table(file: IO[bytes], at: int, image: Path) -> list[Partition]:
    file.seek(at)
    sector = file.read(SECTOR)
    if len(sector) < SECTOR or sector[510:] != b"\x55\xaa":
        raise ImageError(f"{image}: has no partition table of the PC's kind (MBR)")
    entries = (struct.unpack_from("<4xB3xII", sector, 446 + 16 * number) for number in range(4))
    return [Partition(kind, start * SECTOR, count * SECTOR) for kind, start, count in entries if kind and count]


class FileSystem:
    """An ext2 file system in a partition of an image. Everything written belongs to root.

    Args:
        image: the disk image.
        offset: where the partition begins, in bytes.

    Raises:
        ImageError: there is no ext2 file system.
        ToolMissing: debugfs is not installed.
    """

    def __init__(self, image: Path, offset: int) -> None:
        self._image, self._offset = image, offset
        with image.open("rb") as file:
            file.seek(offset + 1024 + 56)  # s_magic of the superblock
            if file.read(2) != b"\x53\xef":
                raise ImageError(f"{image}: its partition at byte {offset} holds no ext2 file system")

    def kind(self, path: str) -> str | None:
        """What a path is, not followed: `regular`, `directory`, `symlink` and so on; None if it is not there."""
        found = re.search(r"Type: (\w+)", self._stat(path))
        return found[1] if found else None

    def resolve(self, path: str) -> str:
        """The path of what a path leads to, all symbolic links on the way followed, whether it is there or not.

        Raises:
            ImageError: the links lead in a circle.
        """
        done, todo, links = "/", path.split("/"), 0
        while todo:
            step = os.path.normpath(os.path.join(done, todo.pop(0)))
            told = self._stat(step)
            if "Type: symlink" not in told:
                done = step
                continue
            links += 1
            if links > 40:
                raise ImageError(f"the image: {path} is a circle of symbolic links")
            short = re.search(r'Fast link dest: "(.*)"', told)
            target = short[1] if short else self._ask(f"cat {_quote(step)}")
            done = "/" if target.startswith("/") else done
            todo = [*target.split("/"), *todo]
        return done

    def read(self, path: str) -> bytes:
        """The contents of a file. Raises ImageError if there is none."""
        path = self.resolve(path)
        if self.kind(path) != "regular":
            raise ImageError(f"the image has no file {path}")
        with tempfile.TemporaryDirectory(dir=self._image.parent) as folder:
            self._ask(f"dump {_quote(path)} {_quote(f'{Path(folder).name}/file')}")
            return (Path(folder) / "file").read_bytes()

    def write(self, path: str, data: bytes, mode: int) -> None:
        """Write a file, in place of one that is there; folders that are missing are made, for root alone.

        Raises:
            ImageError: it cannot be written.
        """
        path = self.resolve(path)
        folder, _, name = path.rpartition("/")
        self._make_folder(folder)
        requests = [f"rm {_quote(path)}"] if self.kind(path) else []
        with tempfile.NamedTemporaryFile(dir=self._image.parent) as file:
            file.write(data)
            file.flush()
            requests += [f"cd {_quote(folder or '/')}", f"write {_quote(Path(file.name).name)} {_quote(name)}", "cd /"]
            self._change(path, [*requests, *_owned(path, 0o100000 | mode)])
        if self.read(path) != data:  # debugfs can fail without a word, as when the file system is full
            raise ImageError(f"the image: {path} cannot be written; its file system may be full")

    def link(self, path: str, target: str) -> None:
        """Make a symbolic link in place of one that is there. Raises ImageError."""
        requests = [f"rm {_quote(path)}"] if self.kind(path) else []
        self._change(path, [*requests, f"symlink {_quote(path)} {_quote(target)}"])

    def _make_folder(self, path: str) -> None:
        if not path or self.kind(self.resolve(path)) == "directory":
            return
        self._make_folder(path.rpartition("/")[0])
        self._change(path, [f"mkdir {_quote(path)}", *_owned(path, 0o40700)])

    def _stat(self, path: str) -> str:
        try:
            return self._ask(f"stat {_quote(path)}")
        except ImageError as error:
            if "File not found by ext2_lookup" in str(error) or "not a directory" in str(error):
                return ""
            raise

    def _ask(self, request: str) -> str:
        return self._run(["-R", request], "", request)

    def _change(self, path: str, requests: list[str]) -> None:
        self._run(["-w", "-f", "-"], "".join(f"{one}\n" for one in requests), f"changing {path}")

    def _run(self, options: list[str], requests: str, what: str) -> str:
        """What debugfs prints. It exits with 0 whatever happens, and says on standard error what went wrong."""
        done = subprocess.run(
            [which("debugfs"), *options, f"{self._image.name}?offset={self._offset}"],
            cwd=self._image.parent,  # a name without folders needs no quoting
            env={**os.environ, "LC_ALL": "C", "DEBUGFS_PAGER": "__none__"},
            input=requests,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        errors = [line.strip() for line in done.stderr.splitlines() if not re.match(r"debugfs \d|$", line)]
        if errors or done.returncode:
            raise ImageError(f"the image: {what}: {' / '.join(errors) or f'debugfs ended with {done.returncode}'}")
        return done.stdout


def _owned(path: str, mode: int) -> list[str]:
    fields = {"mode": f"0{mode:o}", "uid": "0", "gid": "0"}
    return [f"set_inode_field {_quote(path)} {name} {value}" for name, value in fields.items()]


def _quote(word: str) -> str:
    """A word for debugfs, which takes double quotes alone (its libss doubles a quote that is meant)."""
    return word if shlex.quote(word) == word else '"' + word.replace('"', '""') + '"'
