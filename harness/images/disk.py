"""Disk images: unpacked without their holes, their partitions found, and files in an ext2 partition read and written.

All without root and without mounting: debugfs works on the partition where it lies in the image. Knows nothing of
operating systems.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import re
import shlex
import struct
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, cast
from uuid import UUID

from harness.errors import ImageError
from harness.files import write_sparse
from harness.host import which

SECTOR = 512
#: How the archives begin that are unpacked, and what opens each: xz, gzip, bzip2.
_PACKED = {b"\xfd7zXZ\0": lzma.open, b"\x1f\x8b": gzip.open, b"BZh": bz2.open}
#: Types in an MBR of partitions that hold further partitions, and of the one that stands for a whole GPT.
_EXTENDED = (0x05, 0x0F, 0x85)
_PROTECTIVE = 0xEE
#: What is read of GPT's header: its size and checksum; its entries' first sector, number, size and checksum. And the
#: bytes of entries that are read at most (UEFI Specification 2.10, 5.3.2 and 5.3.3).
_GPT = struct.Struct("<12xII52xQIII")
_GPT_MOST = 1 << 20

#: A partition's type: a number of an MBR, or a GUID of a GPT.
Type = int | UUID


@dataclass(frozen=True)
class Partition:
    """A partition: its type in the table, and where it lies, in bytes."""

    kind: Type
    offset: int
    size: int


def is_packed(source: Path) -> bool:
    """Whether a file is a compressed archive, by its first bytes. Raises OSError if it cannot be read."""
    with source.open("rb") as file:
        return _opener(file) is not None


def _opener(file: IO[bytes]) -> Callable[..., IO[bytes]] | None:
    """What opens a compressed file, by its first bytes; None if it is not one. Rewinds the file."""
    first = file.read(6)
    file.seek(0)
    return next(
        (cast("Callable[..., IO[bytes]]", opens) for magic, opens in _PACKED.items() if first.startswith(magic)), None
    )


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

            def tell(total: int) -> None:
                progress(f"unpacking {source.name}: {out.tell() / 1e6:.0f} of {total / 1e6:.0f} MB")

            total = source.stat().st_size
            if opener := _opener(raw):
                # Not by tarfile's own "r|xz": at each read it copies all that is left of a block that it has expanded,
                # and a block of zeros expands to gigabytes (CPython, Lib/tarfile.py, _Stream._read).
                with opener(raw, "rb") as expanded:
                    _unpack_tar(source, expanded, out, most, tell)
            elif total > most:
                raise ImageError(f"{source}: has {total >> 20} MiB, more than the {most >> 20} that the image may have")
            else:
                write_sparse(raw, out, partial(tell, total))
    except (tarfile.TarError, EOFError, ValueError, lzma.LZMAError, zlib.error) as error:
        raise ImageError(f"{source}: is damaged or no tar archive: {error}") from error
    except OSError as error:
        raise ImageError(f"{source}: cannot be unpacked: {error.strerror or error}") from error


def _unpack_tar(source: Path, expanded: IO[bytes], out: IO[bytes], most: int, tell: Callable[[int], None]) -> None:
    image = None
    with tarfile.open(fileobj=expanded, mode="r|") as archive:
        for member in archive:
            if image or not member.isreg() or not re.fullmatch(r"(\./)?[^/]+\.img", member.name):
                raise ImageError(f"{source}: holds {member.name}, where one file NAME.img is all that it may hold")
            total = member.size
            if total > most:
                raise ImageError(
                    f"{source}: its image has {total >> 20} MiB, more than the {most >> 20} that it may have"
                )
            image = archive.extractfile(member)
            assert image is not None  # it is a regular file
            write_sparse(image, out, partial(tell, total))
    if not image:
        raise ImageError(f"{source}: contains no disk image")


def partitions(image: Path) -> list[Partition]:
    """The partitions of an image, of an MBR or a GPT, in the order of their numbers.

    Raises:
        ImageError: it has no partition table, or one that is damaged.
    """
    with image.open("rb") as file:
        entries = _table(file, 0)
        if any(entry.kind == _PROTECTIVE for entry in entries):
            return _gpt(file)
        result = [entry for entry in entries if entry.kind not in _EXTENDED]
        if extended := next((entry for entry in entries if entry.kind in _EXTENDED), None):
            result += _logical(file, extended.offset)
    return result


def _logical(file: IO[bytes], extended: int) -> list[Partition]:
    """The partitions in an extended one. Each has a table of its own, which tells where the next one's is."""
    result: list[Partition] = []
    at = extended
    for _ in range(64):
        inner = _table(file, at)
        result += [
            Partition(entry.kind, at + entry.offset, entry.size) for entry in inner if entry.kind not in _EXTENDED
        ]
        links = [entry for entry in inner if entry.kind in _EXTENDED]
        if not links:
            return result
        at = extended + links[0].offset
    raise ImageError("the image's partition table is a loop")


def _table(file: IO[bytes], at: int) -> list[Partition]:
    """The entries of the MBR, or of the table of a logical partition, at a byte of the image."""
    file.seek(at)
    sector = file.read(SECTOR)
    if len(sector) < SECTOR or sector[510:] != b"\x55\xaa":
        raise ImageError("the image has no partition table, neither MBR nor GPT")
    entries = (struct.unpack_from("<4xB3xII", sector, 446 + 16 * number) for number in range(4))
    return [Partition(kind, start * SECTOR, count * SECTOR) for kind, start, count in entries if kind and count]


def _gpt(file: IO[bytes]) -> list[Partition]:
    """The partitions of a GPT with sectors of 512 bytes."""
    file.seek(SECTOR)
    sector = file.read(SECTOR)
    if len(sector) < SECTOR or not sector.startswith(b"EFI PART"):
        raise ImageError("the image's MBR says that it has a GPT, and there is none")
    length, checksum, first, count, size, entries_checksum = _GPT.unpack_from(sector)
    header = sector[:16] + bytes(4) + sector[20:length]
    whole = 92 <= length <= SECTOR and zlib.crc32(header) == checksum
    if whole and size >= 128 and count * size <= _GPT_MOST:
        file.seek(first * SECTOR)
        entries = file.read(count * size)
        if zlib.crc32(entries) == entries_checksum:
            return list(filter(None, (_gpt_entry(entries, at) for at in range(0, count * size, size))))
    raise ImageError("the image's partition table (GPT) is damaged")


def _gpt_entry(entries: bytes, at: int) -> Partition | None:
    kind, start, end = struct.unpack_from("<16s16xQQ", entries, at)
    return Partition(UUID(bytes_le=kind), start * SECTOR, (end + 1 - start) * SECTOR) if any(kind) else None


def last_of_kind(image: Path, kinds: Sequence[Type]) -> Partition:
    """The last partition of the first of some types that the image has.

    Raises:
        ImageError: there is none, or the image ends before it does.
    """
    known = partitions(image)
    fitting = [partition for kind in kinds for partition in reversed(known) if partition.kind == kind]
    if not fitting:
        types = ", ".join(_named(partition.kind) for partition in known) or "none at all"
        raise ImageError(f"the image has no partition of type {' or '.join(map(_named, kinds))}; it has {types}")
    partition = fitting[0]
    if (missing := partition.offset + partition.size - image.stat().st_size) > 0:
        raise ImageError(f"the image is cut short: {missing} bytes of its root partition are missing")
    return partition


def _named(kind: Type) -> str:
    return f"{kind:#x}" if isinstance(kind, int) else str(kind)


class FileSystem:
    """An ext2 file system in a partition of an image. What is made belongs to root.

    Args:
        image: the disk image.
        offset: where the partition begins, in bytes.

    Attributes:
        image: as above.

    Raises:
        ImageError: there is no ext2 file system.
        ToolMissing: debugfs is not installed.
    """

    def __init__(self, image: Path, offset: int) -> None:
        self.image, self._offset = image, offset
        with image.open("rb") as file:
            file.seek(offset + 1024 + 56)  # s_magic of the superblock
            if file.read(2) != b"\x53\xef":
                raise ImageError(f"the image's partition at byte {offset} holds no ext2 file system")

    def kind(self, path: str) -> str | None:
        """What a path is, not followed: `regular`, `directory`, `symlink` and so on; None if it is not there."""
        match = re.search(r"Type: (\w+)", self.stat(path))
        return match[1] if match else None

    def resolve(self, path: str) -> str:
        """The path of what a path leads to, all symbolic links on the way followed, whether it is there or not.

        Raises:
            ImageError: the links lead in a circle.
        """
        resolved, todo, links = "/", path.split("/"), 0
        while todo:
            step = os.path.normpath(os.path.join(resolved, todo.pop(0)))
            stat = self.stat(step)
            if "Type: symlink" not in stat:
                resolved = step
                continue
            links += 1
            if links > 40:
                raise ImageError(f"the image: {path} is a loop of symbolic links")
            short = re.search(r'Fast link dest: "(.*)"', stat)
            target = short[1] if short else self._ask(f"cat {_quote(step)}")
            resolved = "/" if target.startswith("/") else resolved
            todo = [*target.split("/"), *todo]
        return resolved

    def read(self, path: str) -> bytes:
        """The contents of a file. Raises ImageError if there is none."""
        path = self.resolve(path)
        if self.kind(path) != "regular":
            raise ImageError(f"the image has no file {path}")
        with tempfile.TemporaryDirectory(dir=self.image.parent) as folder:
            self._ask(f"dump {_quote(path)} {_quote(f'{Path(folder).name}/file')}")
            return (Path(folder) / "file").read_bytes()

    def write(self, path: str, data: bytes, mode: int | None = None) -> None:
        """Write a file, in place of one that is there; folders that are missing are made, for root alone.

        Args:
            path: the file's path; links are followed.
            data: what is to be in it.
            mode: its permissions, for root; without them, those of the file that is there, and its owner and group.

        Raises:
            ImageError: it cannot be written.
        """
        path = self.resolve(path)
        folder, _, name = path.rpartition("/")
        self._make_folder(folder)
        owner = file_owner(self.stat(path)) if mode is None else (mode, 0, 0)
        requests = [f"rm {_quote(path)}"] if self.kind(path) else []
        with tempfile.NamedTemporaryFile(dir=self.image.parent) as file:
            file.write(data)
            file.flush()
            requests += [f"cd {_quote(folder or '/')}", f"write {_quote(Path(file.name).name)} {_quote(name)}", "cd /"]
            self.change(path, [*requests, *_owned(path, 0o100000, owner)])
        if self.read(path) != data:  # debugfs can fail without a word, as when the file system is full
            raise ImageError(f"the image: {path} cannot be written; its file system may be full")

    def link(self, path: str, target: str) -> None:
        """Make a symbolic link in place of one that is there. Raises ImageError."""
        requests = [f"rm {_quote(path)}"] if self.kind(path) else []
        self.change(path, [*requests, f"symlink {_quote(path)} {_quote(target)}"])

    def _make_folder(self, path: str) -> None:
        if not path or self.kind(self.resolve(path)) == "directory":
            return
        self._make_folder(path.rpartition("/")[0])
        self.change(path, [f"mkdir {_quote(path)}", *_owned(path, 0o40000, (0o700, 0, 0))])

    def stat(self, path: str) -> str:
        """What debugfs(8) prints of a file. Raises ImageError."""
        try:
            return self._ask(f"stat {_quote(path)}")
        except ImageError as error:
            if "File not found by ext2_lookup" in str(error) or "not a directory" in str(error):
                return ""
            raise

    def _ask(self, request: str) -> str:
        return self._run(["-R", request], "", request)

    def change(self, path: str, requests: list[str]) -> None:
        """Have debugfs(8) make changes, which are about the path. Raises ImageError."""
        self._run(["-w", "-f", "-"], "".join(f"{request}\n" for request in requests), f"changing {path}")

    def _run(self, options: list[str], requests: str, what: str) -> str:
        """What debugfs prints. It exits with 0 whatever happens, and says on standard error what went wrong."""
        process = subprocess.run(
            [which("debugfs"), *options, f"{self.image.name}?offset={self._offset}"],
            cwd=self.image.parent,  # a name without folders needs no quoting
            env={**os.environ, "LC_ALL": "C", "DEBUGFS_PAGER": "__none__"},
            input=requests,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        errors = [line.strip() for line in process.stderr.splitlines() if not re.match(r"debugfs \d|$", line)]
        if errors or process.returncode:
            raise ImageError(f"the image: {what}: {' / '.join(errors) or f'debugfs ended with {process.returncode}'}")
        return process.stdout


def file_owner(stat: str) -> tuple[int, int, int]:
    """Permissions, user and group of a file, as debugfs' `stat` prints them; root's 0644 if there is none."""
    match = re.search(r"(?s)Mode: +(\d+).*?\nUser: +(\d+) +Group: +(\d+)", stat)
    return (int(match[1], 8), int(match[2]), int(match[3])) if match else (0o644, 0, 0)


def _owned(path: str, kind: int, owner: tuple[int, int, int]) -> list[str]:
    mode, user, group = owner
    fields = {"mode": f"0{kind | mode:o}", "uid": str(user), "gid": str(group)}
    return [f"set_inode_field {_quote(path)} {name} {value}" for name, value in fields.items()]


def _quote(word: str) -> str:
    """A word for debugfs, which takes double quotes alone (its libss doubles a quote that is meant)."""
    return word if shlex.quote(word) == word else '"' + word.replace('"', '""') + '"'
