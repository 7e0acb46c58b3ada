"""QEMU's process: started, watched and ended. The shell that starts it kills it when the harness dies, however that
happens.

Knows nothing of what the arguments mean.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import signal
import socket
import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from harness.errors import GuestError
from harness.guest.monitor import Monitor
from harness.log import ignored

_log = logging.getLogger(__name__)

#: QEMU gets the monitor's socket as file 3, the saved memory as file 5 (not if it is compressed), the overlay as files
#: 6 and 7, to write and to read, and that of the data disk as files 8 and 9: it opens a disk again when it saves, and
#: once it has dropped root it could not do that by name. The shell waits for the end of the pipe that it got as
#: standard output. (A plain shell can name the files 0 to 9 only, which is why the socket and the pipe come in as 0 and
#: 1.) When the pipe ends without a word, the harness is gone, and nobody else would remove the machine's folder; the
#: shell that sees QEMU end must not end the removal.
_WATCHED = """
exec 3<&0 4<&1 </dev/null >&2
memory=$1 overlay=$2 data=$3 folder=$4
shift 4
"$@" 4<&- 5<"$memory" 6<>"$overlay" 7<"$overlay" 8<>"$data" 9<"$data" &
qemu=$!
exec 3<&-
(read -r line <&4 || gone=yes; trap '' TERM; kill -9 $qemu; [ -z "$gone" ] || rm -rf -- "$folder") 2>/dev/null &
watcher=$!
wait $qemu
status=$?
kill $watcher 2>/dev/null
exit $status
"""
#: The file in the machine's folder that QEMU's standard error goes to.
_LOG = "qemu.log"
#: What QEMU says when the port of its host is taken.
_PORT_TAKEN = "host forwarding"
#: What QEMU says when another start may go well: the port was taken meanwhile, or the host is short of something.
_SHORTAGES = (
    errno.ENOMEM,
    errno.EAGAIN,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EADDRINUSE,
)
_PASSING = re.compile("|".join([_PORT_TAKEN, *(re.escape(os.strerror(number)) for number in _SHORTAGES)]))
#: Seconds that a QEMU whose monitor does not answer may take to end.
_ENDING = 5.0


@dataclass(frozen=True)
class StartFailure:
    """A QEMU that did not start: what it said, and its exit status as a shell tells it, None if it did not end."""

    output: str
    status: int | None

    @property
    def port_taken(self) -> bool:
        """Whether another process has the port of this machine that was to lead to the guest."""
        return _PORT_TAKEN in self.output

    @property
    def passing(self) -> bool:
        """Whether another start may go well. Who sends SIGKILL is the kernel when memory is short, or a user."""
        return self.status in (None, 128 + signal.SIGKILL) or bool(_PASSING.search(self.output))

    def __str__(self) -> str:
        if self.status is None or self.status <= 128:
            return self.output or f"it ended with status {self.status} and said nothing"
        number = self.status - 128
        name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        return f"it was ended by {name}" + (f": {self.output}" if self.output else "")


class QemuProcess:
    """One QEMU, which may be started again when it has ended.

    Args:
        name: the guest's name, for messages.
        folder: the machine's folder; it is removed when the harness dies while QEMU runs.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self._name, self._folder = name, folder
        self._process: subprocess.Popen[bytes] | None = None
        self._lifeline: int | None = None

    def start(
        self, command: list[str], memory: Path, disks: list[Path], inherited: Collection[int]
    ) -> Monitor | StartFailure:
        """Start QEMU. Returns its monitor; or why there is none, and QEMU has ended then.

        Args:
            command: QEMU's path and its arguments.
            memory: the saved memory, to be file 5.
            disks: the overlays of the disk and the data disk, to be files 6 and 7, 8 and 9.
            inherited: the numbers of other files that QEMU gets.
        """
        ours, theirs = socket.socketpair()
        lifeline, self._lifeline = os.pipe()
        with (self._folder / _LOG).open("wb") as log:
            self._process = subprocess.Popen(
                ["sh", "-c", _WATCHED, "sh", str(memory), *map(str, disks), str(self._folder), *command],
                stdin=theirs.fileno(),
                stdout=lifeline,
                stderr=log,
                pass_fds=tuple(inherited),
                start_new_session=True,  # a ctrl-C is for the harness, which ends the guest in its own way
            )
        theirs.close()
        os.close(lifeline)
        try:
            return Monitor(ours)
        except GuestError as error:
            ours.close()
            status = None
            with ignored(_log, f"guest {self._name}: waiting for QEMU's end", subprocess.TimeoutExpired):
                status = self._process.wait(_ENDING)
            self.end()
            return StartFailure(_errors(self.log()) or str(error), status)

    @property
    def pid(self) -> int | None:
        """The process of the shell that started QEMU and ends with it; None if it has ended."""
        return self._process.pid if self._process else None

    def alive(self) -> bool:
        """Whether QEMU is running."""
        return self._process is not None and self._process.poll() is None

    def wait(self, timeout: float) -> int:
        """Wait for QEMU's end, some seconds at most. Returns its exit status. Raises subprocess.TimeoutExpired."""
        assert self._process is not None
        return self._process.wait(timeout)

    def ends(self) -> bool:
        """Whether QEMU ends now that its monitor is gone: the monitor goes a moment before the process does."""
        with ignored(_log, f"guest {self._name}: waiting for QEMU's end", subprocess.TimeoutExpired):
            self.wait(_ENDING)
        return not self.alive()

    def end(self) -> None:
        """Kill QEMU, if it runs, and wait until it is gone."""
        if self._lifeline is not None:
            with ignored(_log, f"guest {self._name}: killing QEMU", BrokenPipeError):  # it has ended by itself
                os.write(self._lifeline, b"\n")  # the watcher kills QEMU
            os.close(self._lifeline)
            self._lifeline = None
        if self._process is not None:
            status = self._process.wait()
            self._process = None
            _log.info("guest %s: QEMU ended with status %d: %s", self._name, status, self.log() or "no output")

    def log(self) -> str:
        """What QEMU wrote to standard error since it was started; '' if its folder is gone."""
        with ignored(_log, f"guest {self._name}: reading QEMU's log", OSError):
            return (self._folder / _LOG).read_text(errors="replace").strip()
        return ""

    def waited(self) -> float:
        """The seconds that QEMU waited for a processor of this machine, that thread of it that did so most: the second
        number of schedstat, in nanoseconds (Linux, Documentation/scheduler/sched-stats.rst)."""
        rows = [text.split() for text in self.proc_files("task/*/schedstat")]
        return max((int(row[1]) for row in rows if len(row) == 3), default=0) / 1e9

    def processor_time(self) -> float:
        """The processor seconds that QEMU has taken, all its threads: fields 14 and 15 of stat (proc(5)). 0 if the
        kernel does not tell."""
        rows = [text.rpartition(") ")[2].split() for text in self.proc_files("stat")]
        return sum(int(ticks) for row in rows for ticks in row[11:13]) / os.sysconf("SC_CLK_TCK")

    def proc_files(self, pattern: str) -> list[str]:
        """The texts of files below QEMU's /proc/PID. A file that cannot be read is left out, as that of a QEMU that
        ends, or one that this kernel does not have.

        Args:
            pattern: as of `Path.glob`.
        """
        if self._process is None:
            return []
        texts = []
        reading = f"guest {self._name}: reading {pattern} of QEMU"
        with ignored(_log, reading, OSError):
            pid = self._process.pid  # the shell's, whose child QEMU is
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                for file in Path(f"/proc/{child}").glob(pattern):
                    with ignored(_log, reading, OSError):
                        texts.append(file.read_text())
        return texts


def _errors(log: str) -> str:
    """QEMU's errors without its warnings and its name before them, in one line."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if "warning: " not in line] or lines
    return "; ".join(re.sub(r"^qemu[-\w]*: ", "", line) for line in errors)
