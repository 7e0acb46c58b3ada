"""The exchange disk: a disk that a guest has from its boot on, on which this machine puts files while the guest runs.

The guest unmounts the file system before each change and mounts it again, read-only, afterwards; so it never reads old
data. It uses the files in place. A disk that is full is made anew. SSH would take ten times as long in a guest without
KVM. Knows nothing of what the files are, and of guests only as something that runs commands.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from harness.cache import digest
from harness.errors import GuestError, ImageError
from harness.guest.datadisk import BLOCK, SIZE, Run, failure, link, mount
from harness.host import run

#: Inodes of the file system: files, and a folder for each.
_INODES = 8192
#: Bytes that are left free, for the file system's own tables.
_RESERVE = 64 << 20

#: What errors call the disk.
_NAME = "the exchange disk"


class InUse(GuestError):
    """The disk cannot be unmounted: something that a program has left behind uses it. What is on it stays of use."""


class Exchange:
    """A guest's exchange disk.

    Args:
        image: the file that is the disk.
        creator: the operating system that the file system is made for, as `mke2fs -o` names it.
        mounts: the shell commands that may mount it; they are tried in turn.
        unmount: the shell command that unmounts it, and fails if something on it is in use.
        folder: where it is seen in the guest.

    Attributes:
        usable: whether what was brought can be read.
    """

    def __init__(self, image: Path, creator: str, mounts: Sequence[str], unmount: str, folder: str) -> None:
        self._image, self._creator = image, creator
        self._mounts, self._unmount, self._folder = mounts, unmount, folder
        self._files: set[str] = set()
        self._size = 0
        self.usable = False

    def holds(self, target: str) -> bool:
        """Whether a file is on the disk, by the path in the guest that may lead there."""
        return target in self._files

    def place(self, target: str) -> str:
        """Where a file is seen in the guest, if it is on the disk."""
        return f"{self._folder}/{_place(target)}"

    def bring(self, guest: Run, files: Mapping[str, Path], kept: Mapping[str, Path]) -> set[str]:
        """Put files on the disk, and have the guest mount it. Where there is no room left, others make room.

        Args:
            guest: runs a command in the guest.
            files: the files of this machine, by absolute paths in the guest that may lead there.
            kept: those on the disk that make no room.

        Returns:
            The paths of the files that have made room, and are on the disk no more.

        Raises:
            InUse: the guest does not unmount it.
            GuestError: the guest does not mount it.
            ImageError, ToolMissing: the file system cannot be made, or has no room.
            OSError: a file cannot be read.
        """
        more = {target: source for target, source in files.items() if target not in self._files}
        gone: set[str] = set()
        if anew := not _fits(len(self._files) + len(more), self._size + _bytes(more)):
            more = {**kept, **files}
            gone = self._files - set(more)
            if not _fits(len(more), _bytes(more)):
                raise ImageError(f"{_NAME}: {_bytes(more) >> 20} MiB of files do not fit")
        if self.usable:
            status, _, err = guest(self._unmount)
            if status:
                raise InUse(f"the exchange disk is in use: {failure(status, err)}")
            self.usable = False
        if anew:
            self._files, self._size = set(), 0
        self._write(more)
        mount(guest, self._mounts, self._folder, self.place(next(iter(files))), _NAME)
        self.usable = True
        return gone

    def link(self, guest: Run, files: Mapping[str, Path], agent: str) -> None:
        """See that files on the disk are whole, and have the guest find them at their paths.

        Args:
            agent: the agent's path in the guest, which reads them (agent.c).

        Raises:
            GuestError: one is not what was put there.
        """
        link(guest, files, {target: self.place(target) for target in files}, agent, _NAME)

    def _write(self, files: Mapping[str, Path]) -> None:
        """Add files to the file system, which is made first if there is none."""
        if not self._files:
            arguments = ["-q", "-F", "-t", "ext2", "-o", self._creator, "-b", str(BLOCK), "-m", "0", "-N", str(_INODES)]
            arguments += ["-E", "root_owner=0:0,nodiscard"]
            run("mke2fs", *arguments, self._image, str(SIZE // BLOCK), what=_NAME)
        commands = []
        for target, source in files.items():
            place = PurePosixPath(_place(target))
            commands += [f"mkdir {place.parent}", f"cd {place.parent}", f'write "{source}" "{place.name}"']
            commands += [f'set_inode_field "{place.name}" mode 0100755', "cd /"]
        with tempfile.NamedTemporaryFile("w", dir=self._image.parent) as script:  # it goes with the guest's folder
            script.write("".join(f"{command}\n" for command in commands))
            script.flush()
            run("debugfs", "-w", "-f", script.name, self._image, what=_NAME)
        self._files |= set(files)
        self._size += _bytes(files)


def _bytes(files: Mapping[str, Path]) -> int:
    return sum(source.stat().st_size for source in files.values())


def _fits(count: int, size: int) -> bool:
    """Whether the disk has room for so many files of so many bytes together."""
    return size <= SIZE - _RESERVE and 2 * count <= _INODES - 100


def _place(target: str) -> str:
    """Where a file lies on the disk: debugfs makes files in a folder that it has entered, so that each gets one."""
    return f"{digest(target)}/{PurePosixPath(target).name}"
