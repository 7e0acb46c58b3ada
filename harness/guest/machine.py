"""A guest's machine: one QEMU on a disk overlay of its own, and its serial console, which is read from a file.

A machine is booted, or restored from where another was saved. Saved memory and the saved disk are only read by the
machines restored from them, so that any number can share them. The guest cannot reach out (restrict=on), is reached
only on 127.0.0.1, and QEMU runs in its own sandbox. The machine dies with the harness. QEMU's command line is made in
`qemu_command`, its process kept in `process`, its memory saved and restored in `migration`. Knows nothing of what runs
inside.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shlex
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import IO

from harness import clock, conf, kvm
from harness.errors import BOOT_COMMAND, WHOLE_CONSOLE, GuestError, ImageError, QemuRefusal, ToolMissing
from harness.files import copy_sparse
from harness.guest import datadisk, qemu, saved_memory
from harness.guest.bootfiles import BootFiles
from harness.guest.console import CRASHES, FATAL, Console, Kind
from harness.guest.migration import Migration
from harness.guest.monitor import Monitor
from harness.guest.process import QemuProcess
from harness.guest.qemu_command import (
    InheritedFiles,
    MachineDescription,
    find_qemu,
    incoming_arguments,
    user_command,
)
from harness.guest.recording import Recording
from harness.guest.saved_memory import Expansion, Form, Memory
from harness.log import ignored

_log = logging.getLogger(__name__)

#: The file in a machine's folder that QEMU writes what the serial console says to.
CONSOLE = "console.log"
#: The file in a machine's folder that is its exchange disk; raw, as this machine writes to it while QEMU has it.
EXCHANGE = "exchange.img"
#: What it means when QEMU has stopped a guest (QMP reference, RunState).
_STOPPED = {
    "io-error": "QEMU stopped it: its disk's overlay cannot be written, so this machine's disk is full",
    "internal-error": "QEMU stopped it: internal error",
    "guest-panicked": "QEMU stopped it: its kernel panicked",
    "shutdown": "QEMU ended",  # as it would have, if it did not record the guest
}
#: What QEMU says, once, of a recording that it cannot write (its replay/replay-internal.c); it goes on.
_NOT_WRITTEN = "replay write error"
#: Screenshots that are kept, and consoles; a run with a guest in trouble may make one of each in every trial.
_SCREENS = 100


@dataclass(frozen=True)
class Saved:
    """Where a machine was saved: its memory, its disk as an overlay of the guest's own, its data disk's contents; and
    how the memory is kept."""

    memory: Path
    disk: Path
    data: Path
    kept: Memory

    @classmethod
    def at(cls, folder: Path, kept: Memory | None = None) -> Saved:
        """The files of a machine that was or is to be saved in a folder; not each has them all."""
        return cls(folder / "memory", folder / "disk.qcow2", folder / "data.img", kept or Memory())


class Machine:
    """One boot, or one restore, of a guest.

    Args:
        name: the guest's name, for messages.
        guest: its description.
        files: what it boots from.
        folder: an empty folder for the overlay and the console's log.
        screens: the folder for screenshots and consoles of guests in trouble; they outlive the machine.
        stopped: whether the guest is not wanted any more. Whoever waits for it gives up then.
        maintained: whether the guest is booted to be changed: its console takes what is typed, and it may reach out.
        recording: what the machine is recorded to, or replayed from.

    Attributes:
        port: the port on 127.0.0.1 that leads to the guest's SSH server.
        data: the file system on its data disk, if there is one.
        channel: this end of the serial port by which the agent is reached; None for a guest that has none.
        console: what the serial console says.
        process: its QEMU.
    """

    def __init__(
        self,
        name: str,
        guest: conf.Guest,
        files: BootFiles,
        folder: Path,
        screens: Path | None = None,
        stopped: Callable[[], bool] = lambda: False,
        maintained: bool = False,
        recording: Recording | None = None,
    ) -> None:
        self.name, self.guest, self.files, self.folder = name, guest, files, folder
        self.process = QemuProcess(name, folder)
        self.console = Console(folder / CONSOLE)
        self._screens, self.stopped = screens, stopped
        self.port = 0
        self.data: Path | None = None
        self.monitor: Monitor | None = None
        self.recording = recording
        self._description = MachineDescription(name, guest, files, maintained, recording)
        self._keyboard: socket.socket | None = None  # our end of the serial line of a guest that is maintained
        self.channel: socket.socket | None = None
        self._by_kvm = False
        self._expansion: Expansion | None = None  # of the memory that it is restored from

    @property
    def identity(self) -> dict[str, object]:
        """What a saved machine depends on: the files it booted from, QEMU itself, its arguments, the processor, the
        folder that holds what it was given, and how it is kept (6: its memory in one of several forms, 5: the agent
        serves in it, 4: asked by a file, 3: with what was on its data disk, 2: its disk lies over the guest's own, 1:
        perhaps over another saved one's). A machine that runs has the accelerator that it really runs with."""
        program = find_qemu(self.name, self.guest)
        files = [path for path in self.files.all() if path is not None]
        stats = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        stats.append(qemu.identity(program))
        by_kvm = self._by_kvm if self.process.alive() else kvm.may_work()
        arguments = self._description.arguments(by_kvm, port=0, console="console", inherited=InheritedFiles())
        processor = _processor() if by_kvm else "emulated"
        mounts = [self.guest.os.creator, *self.guest.mounts("")]
        return {
            "files": stats,
            "arguments": arguments,
            "processor": processor,
            "folder": self.guest.folder,
            "mounts": mounts,
            "channels": self.guest.channels,
            "kept": 6,
        }

    def start(
        self,
        saved: Saved | None = None,
        copy_disk: bool = False,
        data: Path | None = None,
        paused: bool = False,
        emulated: bool = False,
    ) -> None:
        """Make the overlays and start QEMU.

        Args:
            saved: where to go on; else the guest boots.
            copy_disk: whether the overlay is to be a copy of the saved disk. One that lies over it is quicker, and
                useless when the saved machine is removed; so it is not for a machine that will itself be saved.
            data: the file system that the data disk is to have, if the guest has such a disk. A machine that was saved
                with one keeps that; one that was saved without goes on with any, as it has not read the disk.
            paused: whether the guest's processors are not to begin.
            emulated: whether KVM is left alone, though it may work.

        Raises:
            ToolMissing: QEMU is not installed.
            ImageError: the disk cannot be read.
            QemuRefusal: QEMU does not start such a guest; the text has its words.
            GuestError: QEMU did not start, and may the next time, or could not restore; the text has its words.
        """
        program = find_qemu(self.name, self.guest)
        self.folder.mkdir(parents=True, exist_ok=True)
        nothing = Path("/dev/null")
        self.data = saved.data if saved and saved.data.exists() else data
        disks = [self._overlay(saved, copy_disk) or nothing, self._data_overlay() or nothing]
        self._by_kvm = kvm.may_work() and not emulated and self.recording is None
        for _ in range(5):  # another process may take the port between our look and QEMU's
            self.port = free_port()
            self.console.restart()
            with ExitStack() as stack:  # QEMU inherits these files, and has them from then on
                inherited = self._open_files(stack, saved)
                arguments = self._description.arguments(self._by_kvm, self.port, str(self.console.file), inherited)
                command = [program, *arguments]
                command += incoming_arguments(program, saved.kept.form, inherited.memory) if saved else ["-S"] * paused
                _log.info("guest %s: %s", self.name, shlex.join(command))
                stream = nothing if saved is None or inherited.memory is not None else saved.memory
                started = self.process.start(command, stream, disks, inherited.all())
            if isinstance(started, Monitor):
                self.monitor = started
                self._look_for_kvm()
                return self._restore(saved.kept.form) if saved else None
            failure = started
            self._end()
            _log.info("guest %s: QEMU did not start: %s", self.name, failure)
            if not failure.port_taken:
                break
        text = f"guest {self.name}: {self.guest.qemu} does not start: {failure}"
        raise GuestError(text, details=[self.boot_command()]) if saved or failure.passing else QemuRefusal(text)

    def _open_files(self, stack: ExitStack, saved: Saved | None) -> InheritedFiles:
        """The files that QEMU gets by numbers of their own. They are closed here when the stack ends."""
        keyboard = channel = stream = None
        exchange: tuple[int, ...] = ()
        if self._description.maintained:
            self._keyboard, far = socket.socketpair()
            # What comes out of ours is dropped: the console's log has it too.
            threading.Thread(target=_drop_all, args=(self._keyboard,), daemon=True).start()
            keyboard = _own_number(far, stack)
        if self.guest.channels:
            self.channel, far = socket.socketpair()
            channel = _own_number(far, stack)
        if self.guest.exchange_interface:
            image = self.folder / EXCHANGE
            with image.open("wb") as file:
                file.truncate(datadisk.SIZE)
            exchange = (_own_number(image.open("r+b"), stack), _own_number(image.open("rb"), stack))
        if saved and saved.kept.form is Form.COMPRESSED:
            self._expansion = Expansion(saved.memory)
            stream = _own_number(os.fdopen(self._expansion.pipe, "rb"), stack)
        return InheritedFiles(keyboard, channel, exchange, stream)

    def type(self, data: bytes) -> None:
        """Type on the console of a guest that is maintained. Raises GuestError if QEMU does not take it."""
        assert self._keyboard is not None
        try:
            self._keyboard.sendall(data)
        except OSError as error:
            raise GuestError(f"guest {self.name}: QEMU ended") from error

    def pause(self) -> None:
        """Have its processors stand still. Raises GuestError."""
        self._running_monitor().execute("stop")

    def resume(self) -> None:
        """Have its processors go on. Raises GuestError."""
        self._running_monitor().execute("cont")

    def save(self, folder: Path) -> Saved:
        """Save the machine into a folder and end it.

        Raises:
            GuestError: QEMU cannot save it, or nothing was written for clock.QUIET.
        """
        assert self.monitor is not None
        saved = Saved.at(folder)
        self.monitor.execute("stop")
        by_name = qemu.at_hand(find_qemu(self.name, self.guest)).migrates_to_file
        kept = Migration(self.name, self.process, self.monitor).save(saved.memory, self.guest.memory, by_name)
        overlay = self.switch_off()
        if kept.figures and kept.figures.worth_compressing and saved_memory.compress(saved.memory):
            kept = kept.model_copy(update={"form": Form.COMPRESSED})
        _log.info("guest %s: its memory is kept as %s: %s", self.name, kept.form, kept.figures or "it was not measured")
        if overlay:
            shutil.move(overlay, saved.disk)
        if self.data:  # its overlay is not kept: what is mounted for reading is not written to
            try:
                os.link(self.data, saved.data)
            except OSError as error:  # the folders lie on different file systems
                _log.info("guest %s: %s is copied, not linked: %s", self.name, self.data, error)
                copy_sparse(self.data, saved.data)
        return replace(saved, kept=kept)

    def switch_off(self) -> Path | None:
        """End QEMU, if the guest has not switched it off, so that the overlay is whole. Give it if there is a disk.

        It is the guest that must have written all and halted before, or been saved: see `boot.halt`.

        Raises:
            GuestError: QEMU does not end, was killed, or ended for another reason; the overlay is dropped.
        """
        assert self.monitor is not None
        try:
            with ignored(_log, f"guest {self.name}: ending QEMU", GuestError):  # it may have ended by itself
                self.monitor.execute("quit")
            status = self.process.wait(clock.QUIET)
            reason = self.monitor.ended()
        except subprocess.TimeoutExpired as error:
            self.stop()
            raise GuestError(f"guest {self.name}: QEMU does not exit when told to quit") from error
        self._end()
        if status or reason not in ("host-qmp-quit", "guest-shutdown"):
            self.stop()
            raise GuestError(f"guest {self.name}: QEMU did not exit cleanly: {reason}, status {status}")
        overlay = self.folder / "overlay.qcow2"
        return overlay if overlay.exists() else None

    def icount(self) -> int:
        """How many instructions a machine that is recorded or replayed has executed. Raises GuestError."""
        return int(self._running_monitor().execute("query-replay")["icount"])

    def end_recording(self) -> int:
        """End a machine that is recorded; its recording is whole then. Returns how many instructions it has executed.

        Raises:
            GuestError: QEMU does not end, did before, or could not write all of its log.
        """
        monitor = self._running_monitor()
        monitor.execute("stop")
        icount = self.icount()
        self.switch_off()
        if _NOT_WRITTEN in self.process.log():
            raise GuestError(f"guest {self.name}: QEMU could not write its log; this machine's disk is full")
        return icount

    def halted(self, command: str, sign: str | None, timeout: float) -> Path | None:
        """Wait until a guest that was told to halt has done so, and end QEMU.

        Args:
            command: what told it to, for the error.
            sign: what its console says when it may be switched off, a regular expression.
            timeout: seconds of silence on its console after which it counts as hung.

        Returns:
            The overlay with all that the guest wrote, whole, if it has a disk: the only one fit to be written back.

        Raises:
            GuestError: it does not halt.
        """
        deadline = clock.Deadline(timeout)
        while self.process.alive() and not (sign and self.console.says(sign)):
            if deadline.passed(self.console.heard):
                raise self.failure(f"`{command}` did not halt it within {timeout:.0f} s")
            time.sleep(0.1)
            self.console.poll()
        if crash := next((event for event in self.console.poll() if event.kind in CRASHES), None):
            raise self.failure(f"it did not shut down cleanly: {crash}")
        _log.info("guest %s: halted", self.name)
        return self.switch_off()

    def trouble(self, fatal: Collection[Kind] = FATAL) -> str:
        """What the console, or QEMU's end, says of a guest that is past help, in a few words; '' if nothing does."""
        for event in self.console.poll():
            if event.kind in fatal:
                return str(event)
        if not self.process.alive():
            return "QEMU ended"
        try:
            status = self.monitor.execute("query-status")["status"] if self.monitor else ""
        except GuestError as error:
            _log.info("guest %s: its monitor does not answer: %s", self.name, error)
            return "QEMU ended" if self.process.ends() else str(error)
        return _STOPPED.get(status, "")

    def activity(self) -> tuple[int, int]:
        """How much its console has said and it has read from its disks, in bytes: what a boot shows for progress. What
        it writes does not count: a system that waits for ever still writes its caches back."""
        position = self.console.mark()
        # That QEMU does not answer is an error of `trouble`.
        with ignored(_log, f"guest {self.name}: asking how much it has read", GuestError):
            disks = self._running_monitor().execute("query-blockstats")
            return position, sum(disk["stats"]["rd_bytes"] for disk in disks)
        return position, 0

    def check_wanted(self) -> None:
        """Raise GuestError if the guest is not wanted any more."""
        if self.stopped():
            raise GuestError(f"guest {self.name}: given up")

    def check(self) -> None:
        """Raise GuestError if the guest is past help or not wanted any more, so that nobody waits for it."""
        self.check_wanted()
        if trouble := self.trouble():
            raise GuestError(trouble)

    def failure(self, text: str) -> GuestError:
        """An error about this guest that shows its state: the console's last lines and, if it can be had, its screen.
        All of its console is kept beside the screen.

        Args:
            text: what is wrong.
        """
        screen = self._keep("png", lambda target: target.write_bytes(self.screen()))
        console = self._keep("console", partial(shutil.copyfile, self.console.file))
        _log.info("guest %s: %s", self.name, text)
        return GuestError(
            f"guest {self.name}: {text}" + (f"; its screen: {screen}" if screen else ""),
            self.console.last_lines(),
            [*([f"{WHOLE_CONSOLE}{console}"] if console else []), self.boot_command()],
        )

    def boot_command(self) -> str:
        """A line that shows the command with which a user boots the same guest, its console on his terminal."""
        disk = ""
        if self.files.disk and self.guest.disk:
            disk = f"file={qemu.escaped(self.files.disk)},format={self.guest.disk.format},snapshot=on"
        words = user_command(self.name, self.guest, self.files, disk, self._by_kvm, self.port)
        return f"{BOOT_COMMAND}{shlex.join(words)}"

    def registers(self) -> str:
        """The registers of all processors, as QEMU prints them. Raises GuestError."""
        return self._running_monitor().registers()

    def dump_memory(self, file: Path) -> None:
        """Write the machine's memory to a file (QMP reference, dump-guest-memory). Raises GuestError, and OSError."""
        with file.open("wb") as dump:
            uri = self._running_monitor().give_file("dump", dump.fileno())
            self._running_monitor().execute("dump-guest-memory", paging=False, protocol=uri)

    def screen(self) -> bytes:
        """What the screen shows, as PNG. Raises GuestError, and OSError if there is no room for it."""
        path = self.folder / "screen.png"
        with path.open("wb") as file:  # for writing only: QEMU takes no other for that
            self._running_monitor().screenshot(file.fileno())
        return path.read_bytes()

    def _running_monitor(self) -> Monitor:
        """The monitor of a QEMU that runs. Raises GuestError."""
        if self.monitor is None or not self.process.alive():
            raise GuestError(f"guest {self.name}: QEMU ended")
        return self.monitor

    def _keep(self, suffix: str, write: Callable[[Path], object]) -> Path | None:
        """Have what shows a guest in trouble written to a file beside those of others. Returns the file, None if it
        cannot be had or is empty."""
        if self._screens is None:
            return None
        path = self._screens / f"{self.name}-{datetime.now():%Y%m%d-%H%M%S}-{self.folder.name}.{suffix}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path)
            if not path.stat().st_size:
                path.unlink()
                return None
            kept = sorted(self._screens.glob(f"*.{suffix}"), key=lambda file: file.stat().st_mtime)
            for old in kept[:-_SCREENS]:
                old.unlink(missing_ok=True)
        except (GuestError, OSError) as error:  # the error that it was to show is worth more
            _log.info("guest %s: no %s of it is kept: %s", self.name, suffix, error)
            path.unlink(missing_ok=True)
            return None
        return path

    def restart_if_kvm_fails(self) -> bool:
        """Start again by emulation if KVM gave up on the guest, as a /dev/kvm that opens but is itself emulated does.

        QEMU then stays, with the guest stopped, and says `KVM internal error` or `kvm run failed` (QEMU's
        accel/kvm/kvm-all.c); or it ends, since the guest's processor was reset before the kernel's first word. To be
        asked when the machine is in trouble. Returns whether it was started again. Raises what `start` raises.
        """
        if not self._by_kvm:
            return False
        log = self.process.log()
        reset = not self.process.alive() and not self.console.last_lines()
        if not (reset or "KVM internal error" in log or "kvm run failed" in log):
            return False
        kvm.remember_failure()
        self.stop()
        self.start(data=self.data)
        return True

    def restart_if_kvm_is_silent(self) -> bool:
        """Start again by emulation if KVM has not brought a word to the console in all the time that there was.

        A /dev/kvm that is itself emulated may take a thousand times as long as QEMU's own emulation, as it does over
        GRUB's decompression. Only when emulation does better is that worth remembering, which is left to the caller:
        the guest may have nothing to say. Returns whether it was started again. Raises what `start` raises.
        """
        if not self._by_kvm or self.console.last_lines():
            return False
        self.stop()
        self.start(data=self.data, emulated=True)
        return True

    def _look_for_kvm(self) -> None:
        """Ask QEMU whether it runs the guest by KVM: where it cannot, it emulates without a word (accel=kvm:tcg)."""
        if self._by_kvm and self.monitor is not None:
            with ignored(_log, f"guest {self.name}: asking for KVM", GuestError):  # who waits for the guest will see it
                self._by_kvm = bool(self.monitor.execute("query-kvm")["enabled"])
            if not self._by_kvm:
                kvm.remember_failure()

    def stop(self) -> None:
        """End QEMU at once and drop the overlay. A guest's disk is never written back."""
        self._end()
        for name in ("overlay.qcow2", "data.qcow2", EXCHANGE):
            (self.folder / name).unlink(missing_ok=True)

    def _end(self) -> None:
        if self.monitor is not None:
            self.monitor.close()
            self.monitor = None
        if self._expansion is not None:
            self._expansion.stop()
            self._expansion = None
        for line in (self._keyboard, self.channel):
            if line is not None:
                line.close()
        self._keyboard = self.channel = None
        self.process.end()

    def _restore(self, form: Form) -> None:
        """Have saved memory read, and the guest go on. Raises GuestError."""
        assert self.monitor is not None
        Migration(self.name, self.process, self.monitor).restore(form, self._expansion)
        if self._expansion is not None:
            self._expansion.stop()
            self._expansion = None

    def _overlay(self, saved: Saved | None, copy_disk: bool) -> Path | None:
        if self.files.disk is None or self.guest.disk is None:
            return None
        overlay = self.folder / "overlay.qcow2"
        if saved and copy_disk:
            try:
                return copy_sparse(saved.disk, overlay)
            except OSError as error:
                raise GuestError(f"guest {self.name}: copying {saved.disk}: {error.strerror}") from error
        base, form = (saved.disk, "qcow2") if saved else (self.files.disk, self.guest.disk.format)
        try:
            return self._create(overlay, "-F", form, "-b", str(base))
        except GuestError as error:
            if saved:
                raise
            raise ImageError(str(error)) from error  # the guest's own disk is the user's business

    def _data_overlay(self) -> Path | None:
        """An overlay of what is to be on the data disk, as QEMU takes no read-only IDE disk."""
        if self.guest.data_interface is None:
            return None
        base = ["-F", "raw", "-b", str(self.data)] if self.data else []
        return self._create(self.folder / "data.qcow2", *base, size=datadisk.SIZE)

    def _create(self, overlay: Path, *base: str, size: int | None = None) -> Path:
        """Make an overlay, of a size that need not be its base's. Raises GuestError and ToolMissing."""
        command = ["qemu-img", "create", "-q", "-f", "qcow2", *base, str(overlay), *([str(size)] if size else [])]
        try:
            # In a group of its own: a ctrl-C is for the harness.
            process = subprocess.run(command, capture_output=True, text=True, check=False, process_group=0)
        except FileNotFoundError as error:
            raise ToolMissing("no qemu-img on this machine; Debian's package is qemu-utils") from error
        if process.returncode:
            disk = base[-1] if base else overlay
            raise GuestError(f"guest {self.name}: disk {disk}: {' '.join(process.stderr.split())}")
        return overlay


def _processor() -> str:
    """What the host's processor calls itself: a machine saved under KVM goes on with no other."""
    text = Path("/proc/cpuinfo").read_text()
    return next((line for line in text.splitlines() if line.startswith("model name")), "")


def _drop_all(line: socket.socket) -> None:
    """Read a line to its end, so that what writes to it never waits."""
    with ignored(_log, "reading a serial line", OSError):  # it was closed here
        while line.recv(65536):
            pass


def _own_number(file: IO[bytes] | socket.socket, stack: ExitStack) -> int:
    """The number of a copy of a file, which the stack closes. The file itself is closed. The shell that starts QEMU has
    files of its own under the numbers below 10."""
    with file:
        number = fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, 10)
    stack.callback(os.close, number)
    return number


def free_port() -> int:
    """A port of 127.0.0.1 that nobody had a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
