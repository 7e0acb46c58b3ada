"""A guest's machine: one QEMU process on a disk overlay of its own, with its serial console in a file.

The guest cannot reach out (restrict=on), is reached only on 127.0.0.1, and QEMU runs in its own sandbox. The machine
dies with the harness: a shell holds the other end of a pipe and kills QEMU when the harness is gone, however it went.
Knows nothing of what runs inside.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from harness import conf, paths
from harness.errors import GuestError, ImageError, ToolMissing

_WATCHED = """
exec 3<&0
"$@" </dev/null 3<&- &
qemu=$!
(read -r line <&3; kill -9 $qemu) 2>/dev/null &
watcher=$!
wait $qemu
status=$?
kill $watcher 2>/dev/null
exit $status
"""


@dataclass(frozen=True)
class Files:
    """The files that a guest boots from, found on this machine, and how to reach its shell."""

    disk: Path | None
    kernel: Path | None
    initrd: Path | None
    modules: tuple[tuple[Path, str], ...]
    ssh_key: Path
    host_key: str | None

    def check(self) -> None:
        """Raise ImageError if a file is not there or is empty."""
        for path in (self.disk, self.kernel, self.initrd, *(path for path, _ in self.modules), self.ssh_key):
            if path is not None and not (path.is_file() and path.stat().st_size):
                raise ImageError(f"{path}: is not there or is empty")


class Machine:
    """One boot of a guest.

    Args:
        name: the guest's name, for messages.
        guest: its description.
        files: what it boots from.
        folder: an empty folder for the overlay and the console's log.

    Attributes:
        port: the port on 127.0.0.1 that leads to the guest's SSH server.
        console: the file that the serial console is written to.
    """

    def __init__(self, name: str, guest: conf.Guest, files: Files, folder: Path) -> None:
        self.name, self.guest, self.files, self.folder = name, guest, files, folder
        self.console = folder / "console.log"
        self.port = 0
        self._by_kvm = False
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Make the overlay and start QEMU.

        Raises:
            ToolMissing: QEMU is not installed.
            ImageError: the disk cannot be read.
            GuestError: QEMU ended at once; the text has its words.
        """
        qemu = shutil.which(self.guest.qemu)
        if qemu is None:
            raise ToolMissing(
                f"guest {self.name}: no {self.guest.qemu} on this machine; `harness doctor` says what to do"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        overlay = self._overlay()
        for _ in range(5):  # another process may take the port between our look and QEMU's
            self.port = _free_port()
            self.console.write_bytes(b"")
            words = self._launch([qemu, *self._arguments(overlay)])
            if words is None:
                return
            if "host forwarding" not in words:
                break
        raise GuestError(f"guest {self.name}: QEMU ended at once: {words}")

    def alive(self) -> bool:
        """Whether QEMU is running."""
        return self._process is not None and self._process.poll() is None

    def restart_if_kvm_fails(self) -> None:
        """Start again by emulation if KVM gave up on the guest, as a /dev/kvm that opens but is itself emulated does.

        QEMU then stays, with the guest stopped, and says `KVM internal error` or `kvm run failed` (QEMU's
        accel/kvm/kvm-all.c). Raises what `start` raises.
        """
        if not self._by_kvm:
            return
        said = (self.folder / "qemu.log").read_bytes()
        if b"KVM internal error" in said or b"kvm run failed" in said:
            _kvm_fails().write_text(_boot_id())
            self.stop()
            self.start()

    def stop(self) -> None:
        """End QEMU at once and drop the overlay. A guest's disk is never written back."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()  # the watcher kills QEMU
            self._process.wait()
            self._process = None
        (self.folder / "overlay.qcow2").unlink(missing_ok=True)

    def last_lines(self, count: int = 12) -> list[str]:
        """The last lines of the console."""
        try:
            text = self.console.read_bytes()[-8192:].decode(errors="replace")
        except OSError:
            return []
        return [line.rstrip() for line in text.splitlines() if line.strip()][-count:]

    def _launch(self, command: list[str]) -> str | None:
        """Start QEMU; None if it stays up, else what it said."""
        errors = self.folder / "qemu.log"
        with errors.open("wb") as log:
            self._process = subprocess.Popen(
                ["sh", "-c", _WATCHED, "sh", *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a ctrl-C is for the harness, which ends the guest in its own way
            )
        deadline = time.monotonic() + 0.4
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                return " ".join(errors.read_text(errors="replace").split()) or f"status {self._process.returncode}"
            time.sleep(0.02)
        return None

    def _overlay(self) -> Path | None:
        if self.files.disk is None or self.guest.disk is None:
            return None
        overlay = self.folder / "overlay.qcow2"
        command = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", self.guest.disk.format]
        try:
            done = subprocess.run(
                [*command, "-b", str(self.files.disk), str(overlay)], capture_output=True, text=True, check=False
            )
        except FileNotFoundError as error:
            raise ToolMissing("no qemu-img on this machine; Debian's package is qemu-utils") from error
        if done.returncode:
            raise ImageError(f"guest {self.name}: disk {self.files.disk}: {' '.join(done.stderr.split())}")
        return overlay

    def _arguments(self, overlay: Path | None) -> list[str]:
        guest, files = self.guest, self.files
        self._by_kvm = _kvm_may_work()
        words = ["-name", self.name, "-machine", f"{guest.machine},accel={'kvm:tcg' if self._by_kvm else 'tcg'}"]
        words += ["-m", str(guest.memory), "-smp", str(guest.cpus), "-nodefaults", "-display", "none", "-vga", "std"]
        words += ["-no-reboot", "-no-user-config", "-serial", f"file:{self.console}", "-monitor", "none"]
        if guest.cpu:
            words += ["-cpu", guest.cpu]
        if files.kernel:
            words += ["-kernel", str(files.kernel), "-append", guest.append]
        if files.initrd:
            words += ["-initrd", str(files.initrd)]
        elif files.modules:
            # QEMU parts modules at commas; one inside is written twice (QEMU manual, -initrd).
            parts = [f"{path} {args}".strip().replace(",", ",,") for path, args in files.modules]
            words += ["-initrd", ",".join(parts)]
        if overlay and guest.disk:
            words += ["-drive", f"file={overlay},format=qcow2,if={guest.disk.interface},cache=unsafe"]
        forward = f"hostfwd=tcp:127.0.0.1:{self.port}-:{guest.ssh.port}"
        words += ["-netdev", f"user,id=net,restrict=on,{forward}", "-device", f"{guest.nic},netdev=net"]
        # Dropping root takes a set-user-id call, which elevateprivileges=deny would refuse.
        root = os.geteuid() == 0
        elevate = "allow" if root else "deny"
        words += ["-sandbox", f"on,obsolete=deny,elevateprivileges={elevate},spawn=deny,resourcecontrol=deny"]
        return [*words, *(["-runas", "nobody"] if root else []), *guest.qemu_args]


def _kvm_fails() -> Path:
    """The file that remembers that KVM did not run a guest, until the host boots again."""
    return paths.cache_dir() / "kvm-fails"


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text()


def _kvm_may_work() -> bool:
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR))
    except OSError:
        return False
    return not (_kvm_fails().is_file() and _kvm_fails().read_text() == _boot_id())


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
