"""A soak test: many trials with random faults, then the same trials without; both must end in the same matrix.

Run on demand: `python -m tools.soak [TRIALS [SEED]]`, by default 2,000 trials and a random seed, which is printed. It
takes one to two seconds for each trial on two cores without KVM, both runs together. A fault comes every ten seconds or
so and hits a few trials in a hundred. The exit status is 1 if a cell differs, a trial is lost or made twice, or
a process or file is left behind.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from harness.errors import GuestError
from harness.guest.shell import Shell
from harness.images import image
from harness.results.store import Store
from harness.trial.record import JUDGED
from tests import faults
from tests.faults import Fault

PASSING = 16
PROGRAMS = {f"passes-{number:02}": Fault(f"os.Stdout.WriteString(`{number}`)", ("pass",)) for number in range(PASSING)}
PROGRAMS |= {
    "fails": Fault("os.Exit(3)", ("fail",)),
    "panics": Fault("panic(`no`)", ("crash",)),
    "segfaults": Fault("var at *int\n*at = 1", ("crash",)),
    "spins": Fault("for {\n}", ("hang",), limit=1),
}
#: Seconds between two faults, on average.
PAUSE = 10.0
#: Shorter waits, of QEMU's monitor and of the clock that takes a gap for sleep.
SHORTER = "from harness.guest import monitor; monitor.SHORT = 4.0\nfrom harness import clock; clock.GAP = 3.0"


class Soak:
    """One run, resumed as often as its process ends too early; with faults, unless it is the peaceful one."""

    def __init__(self, work: Path, suite: Path, rounds: int, rng: random.Random, peaceful: bool) -> None:
        self._work, self._rng, self._peaceful = work, rng, peaceful
        self._begin = ["run", suite, "--variant", "pristine", "--jobs", 2, "--trials", rounds, "--work", work]
        self.hits: Counter[str] = Counter()
        self.ends: Counter[int] = Counter()
        self.problems: list[str] = []
        self.peak_mib = self.open_files = 0
        self.seconds = 0.0

    def run(self) -> None:
        """Make the whole run."""
        begun = time.monotonic()
        process = self._start(self._begin)
        due = begun + 20
        while True:
            self._measure(process)
            if process.poll() is not None:
                self.ends[process.returncode] += 1
                if process.returncode in (0, 1, 2, 3):
                    if Store(self._work / "results.sqlite").run(1).finished is None:
                        self.problems.append(f"status {process.returncode}: {self._log.read_text()[-1000:]}")
                    break
                process = self._start(["run", "--resume", "--work", self._work])
                due = time.monotonic() + 10
            elif not self._peaceful and time.monotonic() > due:
                due = time.monotonic() + self._rng.expovariate(1 / PAUSE)
                name, fault = self._rng.choice(list(FAULTS.items()))
                if fault(self, process):
                    self.hits[name] += 1
            time.sleep(0.2)
        self.seconds = time.monotonic() - begun
        self._check_leftovers()

    @property
    def _log(self) -> Path:
        return self._work.with_suffix(".log")

    def _start(self, words: list[object]) -> Popen[str]:
        self._check_leftovers()
        with self._log.open("a") as log:
            return faults.start(*words, before=SHORTER, output=log)

    def _check_leftovers(self) -> None:
        """Check that the ended process left nothing behind; the end of its QEMUs takes a moment."""
        try:
            faults.until(lambda: not faults.left_behind(self._work), 20)
        except AssertionError:
            self.problems += faults.left_behind(self._work)

    def _measure(self, process: Popen[str]) -> None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
            self.open_files = max(self.open_files, len(os.listdir(f"/proc/{process.pid}/fd")))
        except OSError:  # the process has ended
            return
        if "VmHWM" in status:
            self.peak_mib = max(self.peak_mib, int(status.partition("VmHWM:")[2].split()[0]) >> 10)

    def qemu(self) -> int | None:
        """The process id of one of its QEMUs; None if there is none."""
        qemus = faults.qemus(self._work)
        return self._rng.choice(qemus) if qemus else None

    def in_guest(self, command: str) -> bool:
        """Run a command in one of its guests. Returns whether there is one."""
        arguments = faults.processes(self._work).get(self.qemu() or 0, [])
        forwards = (argument for argument in arguments if "hostfwd" in argument)
        port = next((int(forward.rpartition(":")[2].partition("-")[0]) for forward in forwards), 0)
        try:
            shell = Shell.connect(port, "root", image.ssh_key(), None, 5)
            shell.run(command, 2)
        except GuestError:
            pass  # the command ends the connection, or another fault did
        return bool(port)

    def lock(self, process: Popen[str]) -> bool:
        """Lock the results for some seconds. Returns whether they could be locked."""
        database = sqlite3.connect(self._work / "results.sqlite", timeout=5, isolation_level=None)
        try:
            database.execute("BEGIN IMMEDIATE")
            time.sleep(3)
            database.execute("ROLLBACK")
        except sqlite3.OperationalError:
            return False
        return True

    def sleep(self, process: Popen[str]) -> bool:
        """Stop the harness and its QEMUs for so long that the clock takes it for sleep."""
        pids = [*faults.qemus(self._work), process.pid]
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for pid in pids:
                _kill(pid, number)
            time.sleep(5 if number == signal.SIGSTOP else 0)
        return True


def _kill(pid: int | None, number: int) -> bool:
    try:
        os.kill(pid or 1 << 22, number)
    except ProcessLookupError:  # it has ended; 1 << 22 is no process's id
        return False
    return True


def _interrupt_twice(process: Popen[str]) -> bool:
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    return True


def _send(number: int) -> Callable[[Soak, Popen[str]], bool]:
    return lambda soak, process: _kill(process.pid, number)


FAULTS: dict[str, Callable[[Soak, Popen[str]], bool]] = {
    "QEMU killed": lambda soak, process: _kill(soak.qemu(), signal.SIGKILL),
    "QEMU stopped": lambda soak, process: _kill(soak.qemu(), signal.SIGSTOP),
    "guest: sshd killed": lambda soak, process: soak.in_guest("killall -9 dropbear"),
    "guest: agent killed": lambda soak, process: soak.in_guest("kill -9 $(pgrep agent-)"),
    "guest: panic": lambda soak, process: soak.in_guest("echo c >/proc/sysrq-trigger"),
    "guest: network down": lambda soak, process: soak.in_guest("ip link set eth0 down"),
    "results locked": Soak.lock,
    "asleep": Soak.sleep,
    "harness: SIGKILL": _send(signal.SIGKILL),
    "harness: SIGTERM": _send(signal.SIGTERM),
    "harness: SIGINT": _send(signal.SIGINT),
    "harness: SIGINT twice": lambda soak, process: _interrupt_twice(process),
}


class Cell(NamedTuple):
    """The part of a cell that does not depend on luck."""

    verdict: str
    counts: dict[str, int]
    lost: int
    signatures: list[Any] | None


def matrix(work: Path) -> dict[str, Cell]:
    """The cells as they must be in both runs. The signature of a hang depends on luck."""
    cells = json.loads((work / "runs" / "1" / "matrix.json").read_text())["cells"]
    return {
        cell["program"]: Cell(
            cell["verdict"], cell["counts"], cell["lost"], None if cell["verdict"] == "hang" else cell["signatures"]
        )
        for cell in cells
    }


def main() -> int:
    """Make both runs and compare them. Returns the exit status."""
    trials, seed, *_ = [*map(int, sys.argv[1:]), *[2000, random.randrange(1 << 32)][len(sys.argv) - 1 :]]
    rounds = max(1, trials // len(PROGRAMS))
    trials = rounds * len(PROGRAMS)
    print(f"seed {seed}: {trials} trials, {rounds} of each of {len(PROGRAMS)} programs", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    suite = faults.write(folder / "soak", PROGRAMS)
    rng = random.Random(seed)
    soaks = {name: Soak(folder / name, suite, rounds, rng, name == "peace") for name in ("faults", "peace")}
    table = Table("run", "seconds", "trials", "infra errors", "events", "ends by status", "peak MiB", "open files")
    problems = []
    for name, soak in soaks.items():
        soak.run()
        counts = faults.counts(folder / name, errors=True)
        errors = sum(count for (_, verdict), count in counts.items() if verdict == "error")
        events = len(Store(folder / name / "results.sqlite").events(1))
        stored = sum(counts.values()) - errors
        row = [round(soak.seconds), stored, errors, events, dict(soak.ends), soak.peak_mib, soak.open_files]
        table.add_row(name, *map(str, row))
        problems += soak.problems
        print(f"{name}: {row}; {dict(soak.hits)}", flush=True)
    if not problems:
        disturbed, undisturbed = (matrix(folder / name) for name in soaks)
        problems += [
            f"{program}: {disturbed[program]}, in peace {cell}"
            for program, cell in undisturbed.items()
            if disturbed[program] != cell
        ]
        # Equal matrices could both be wrong, but the verdicts of the programs are known.
        expected = {
            f"soak/{name}": {**dict.fromkeys(JUDGED, 0), fault.verdicts[0]: rounds} for name, fault in PROGRAMS.items()
        }
        problems += [
            f"{program}: {cell.counts}" for program, cell in undisturbed.items() if cell.counts != expected[program]
        ]
    Console(width=120).print(table)
    if problems:
        print(*problems, f"results and logs: {folder}", sep="\n")
        return 1
    shutil.rmtree(folder)
    print("the matrices are the same")
    return 0


if __name__ == "__main__":
    sys.exit(main())
