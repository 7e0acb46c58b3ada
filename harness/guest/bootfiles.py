"""The files that a guest boots from, and the ways to boot from them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import ImageError


@dataclass(frozen=True)
class BootFiles:
    """The files that a guest boots from, found on this machine, and how to reach its shell."""

    disk: Path | None
    kernel: Path | None
    append: str
    initrd: Path | None
    modules: tuple[tuple[Path, str], ...]
    ssh_key: Path
    host_key: str | None

    def all(self) -> list[Path | None]:
        """The files, None for what the guest does without."""
        return [self.disk, self.kernel, self.initrd, *(path for path, _ in self.modules), self.ssh_key]

    def ways(self) -> list[BootFiles]:
        """The ways to boot the guest: as described, and by the boot loader on its disk where QEMU loads the kernel and
        there is one: code, and the signature at the end of the first sector that a PC's BIOS looks for."""
        if self.disk is None or self.kernel is None:
            return [self]
        with self.disk.open("rb") as file:
            sector = file.read(512)
        if sector[510:] != b"\x55\xaa" or not any(sector[:440]):
            return [self]
        return [self, replace(self, kernel=None, append="", initrd=None, modules=())]

    def check(self) -> None:
        """Raise ImageError if a file is not there or is empty."""
        for path in self.all():
            if path is not None and not (path.is_file() and path.stat().st_size):
                raise ImageError(f"{path}: missing or empty")
        for path, _ in self.modules:
            if " " in str(path):  # QEMU takes what follows for arguments (its hw/i386/multiboot.c)
                raise ImageError(f"{path}: QEMU cannot load a Multiboot module from a path with a space in it")
