"""A data disk: an ext2 file system with the files that a guest needs, made on the host; the guest mounts it and uses
the files in place. Sent through SSH, the same files would take minutes in a guest without KVM.

Knows nothing of what the files are, and of guests only as something that runs commands.
"""

from __future__ import annotations

import shlex
import shutil
import tempfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from harness.errors import GuestError, ImageError
from harness.guest.shell import Shell
from harness.host import run

#: The size of the disk, in bytes. It is the same for all file systems, so that a machine which was saved before its
#: files were known goes on with any of them; and it is small enough for every system's driver: 32 bits with a sign can
#: count it. What is not used takes no room.
SIZE = (2 << 30) - (1 << 20)
#: Bytes in a block: the Hurd's ext2fs maps its disk by pages (its pager.c), and Linux reads any size.
BLOCK = 4096
#: Inodes that ext2 keeps for itself (ext2_fs.h, EXT2_GOOD_OLD_FIRST_INO), and some for folders.
_INODES = 64
#: What errors call the disk.
_NAME = "the data disk"

#: Runs a command in a guest: exit status, standard output, standard error. Raises GuestError.
Run = Callable[[str], tuple[int, bytes, bytes]]


def make(files: Mapping[str, Path], target: Path, creator: str) -> None:
    """Make the file system.

    Args:
        files: the files of this machine, by their absolute paths in the guest, which they get below its root as well.
        target: the file to write, a raw image as large as its contents.
        creator: the operating system, as `mke2fs -o` names it.

    Raises:
        ImageError: it does not fit on the disk, or mke2fs failed.
        ToolMissing: there is no mke2fs.
        OSError: a file cannot be read or written.
    """
    # 1 block of pointers for 1,024 of data, and of those again; a folder each; the inodes; groups and their tables.
    folders = {parent for name in files for parent in PurePosixPath(name).parents}
    inodes = _INODES + len(files) + len(folders)
    blocks = sum(-(-source.stat().st_size // BLOCK) + 4 for source in files.values())
    blocks += blocks // 500 + len(folders) + inodes + 512
    if blocks * BLOCK > SIZE:
        raise ImageError(f"the data disk: its files take {blocks * BLOCK >> 20} MiB, and it has {SIZE >> 20}")
    target.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        tree = Path(folder)
        for name, source in files.items():
            place = tree / name.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, place)
            place.chmod(0o755)
        for parent in folders:
            (tree / str(parent).lstrip("/")).chmod(0o755)  # whatever the umask is: it need not be root who reads them
        arguments = ["-q", "-F", "-t", "ext2", "-o", creator, "-b", str(BLOCK), "-m", "0", "-N", str(inodes)]
        arguments += ["-E", "root_owner=0:0", "-d", str(tree)]
        run("mke2fs", *arguments, target, str(blocks), what="the data disk")


def bring(shell: Shell, mounts: Sequence[str], folder: str, files: Mapping[str, Path], agent: str) -> None:
    """Mount the data disk in a guest, see that all its files are whole, and have them found at their paths.

    Args:
        shell: the guest's.
        mounts: the commands that may mount it, at `folder`; they are tried in turn.
        folder: where it is to be seen.
        files: what `make` was given.
        agent: the path of one of them, the agent, which reads the others (agent.c).

    Raises:
        GuestError: no command mounts it, or a file is not what it should be; the guest has none of them then.
    """

    def run(command: str) -> tuple[int, bytes, bytes]:
        return shell.run(command, what=_NAME)

    places = {path: f"{folder}{path}" for path in files}
    mount(run, mounts, folder, places[agent], _NAME)
    link(run, files, places, places[agent], _NAME)


def mount(run: Run, mounts: Sequence[str], folder: str, sign: str, disk: str) -> None:
    """Mount a disk in a guest.

    Args:
        run: runs a command in the guest.
        mounts: the commands that may mount it, at `folder`; they are tried in turn.
        sign: the path at which an executable file is seen once it is mounted.
        disk: what an error calls it.

    Raises:
        GuestError: no command mounts it.
    """
    tries = " || ".join(f"{{ {command}\n}} && [ -x {shlex.quote(sign)} ]" for command in mounts)
    _run(run, f"mkdir -p {shlex.quote(folder)} && {{ {tries}\n}}", f"mounting {disk}")


def link(run: Run, files: Mapping[str, Path], places: Mapping[str, str], agent: str, disk: str) -> None:
    """See that the files on a disk are whole, and have a guest find them at their paths.

    Args:
        run: runs a command in the guest.
        files: the files of this machine, by their paths in the guest.
        places: where they are seen on the disk, by the same.
        agent: where the agent is found, which reads them (agent.c).
        disk: what an error calls it.

    Raises:
        GuestError: a file is not what it should be.
    """
    out = _run(run, shlex.join([agent, "sum", *places.values()]), f"reading {disk}")
    for (path, source), line in zip(files.items(), [*out.splitlines(), *[""] * len(files)], strict=False):
        if line.split() != _checksum(source):
            raise GuestError(f"{disk}: {path} is not what was put on it")
    parents = dict.fromkeys(str(PurePosixPath(path).parent) for path in files)
    links = [shlex.join(["ln", "-sf", place, path]) for path, place in places.items()]
    _run(run, " && ".join([shlex.join(["mkdir", "-p", *parents]), *links]), f"linking what is on {disk}")


def failure(status: int, err: bytes) -> str:
    """Why a command failed in a guest, in a line."""
    return " ".join(err.decode(errors="replace").split()) or f"status {status}"


def _run(run: Run, command: str, what: str) -> str:
    status, out, err = run(command)
    if status:
        raise GuestError(f"{what}: {failure(status, err)}")
    return out.decode(errors="replace")


def _checksum(file: Path) -> list[str]:
    """What the agent prints of a file, word by word."""
    crc = size = 0
    with file.open("rb") as data:
        while piece := data.read(1 << 20):
            crc = zlib.crc32(piece, crc)
            size += len(piece)
    return [f"{crc:08x}", str(size)]
