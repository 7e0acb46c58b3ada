"""Disk images that GRUB boots, made without root: an MBR, GRUB's boot sector and core, and one ext2 partition.

GRUB's own files come from Debian's grub-pc-bin and grub-common.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

from harness.images.disk import FileSystem

MIB = 1 << 20
_FILES = Path("/usr/lib/grub/i386-pc")
_MODULES = ["biosdisk", "part_msdos", "ext2", "normal", "multiboot", "linux", "gzio", "echo"]


def available() -> bool:
    """Whether GRUB's files are installed."""
    return shutil.which("grub-mkimage") is not None and (_FILES / "boot.img").is_file()


def make(path: Path, root: Path) -> FileSystem:
    """Make a disk of one partition, which holds a copy of an ext2 file system, behind GRUB, which reads its
    /boot/grub/grub.cfg. GRUB's core fits between the MBR and the partition, as on most disks.

    Args:
        path: the image to make.
        root: the file system, an image without partitions.

    Returns:
        The partition's file system.
    """
    size = root.stat().st_size
    with path.open("wb") as file:
        file.truncate(MIB + size)
    copy = ["dd", f"if={root}", f"of={path}", "bs=1M", "seek=1", "conv=notrunc,sparse", "status=none"]
    subprocess.run(copy, check=True)
    core = path.with_name("core.img")
    command = ["grub-mkimage", "-O", "i386-pc", "-o", core, "-p", "(hd0,msdos1)/boot/grub", *_MODULES]
    subprocess.run(command, check=True)
    assert core.stat().st_size < MIB - 512
    table = struct.pack("<B3xB3xII", 0x80, 0x83, MIB // 512, size // 512).ljust(64, b"\0")
    with path.open("r+b") as file:
        # boot.img loads sector 1 unless it is told otherwise, and the core's first sector the rest (GRUB's
        # grub-core/boot/i386/pc/boot.S and diskboot.S).
        file.write((_FILES / "boot.img").read_bytes()[:440].ljust(446, b"\0") + table + b"\x55\xaa")
        file.write(core.read_bytes())
    core.unlink()
    return FileSystem(path, MIB)
