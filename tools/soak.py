"""A soak: many trials with faults at random, then the same trials in peace; both must end in the same matrix.

Run on demand: `python -m tools.soak [TRIALS [SEED]]`, by default 2,000 trials and a seed of its own, which is printed.
It takes one to two seconds a trial on two cores without KVM, both runs together. A fault comes every ten seconds or so
and hits a few trials in a hundred. Ends with status 1 if a cell differs, a trial is lost or made twice, or anything is
left behind.
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
from typing import Any

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
#: What waits long is made to wait less: QEMU's monitor, and the clock that takes a gap for sleep.
SHORTER = "from harness.guest import monitor; monitor._SHORT = 4.0\nfrom harness import clock; clock._GAP = 3.0"


class Soak:
    """One run that is disturbed, in a process that is started again as often as it ends too early."""

    def __init__(self, work: Path, suite: Path, rounds: int, chance: random.Random, peaceful: bool) -> None:
        self._work, self._chance, self._peaceful = work, chance, peaceful
        self._begin = ["run", suite, "--variant", "pristine", "--jobs", 2, "--trials", rounds, "--work", work]
        self.hits: Counter[str] = Counter()
        self.ends: Counter[int] = Counter()
        self.problems: list[str] = []
        self.peak = self.files = 0
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
                due = time.monotonic() + self._chance.expovariate(1 / PAUSE)
                name, fault = self._chance.choice(list(FAULTS.items()))
                if fault(self, process):
                    self.hits[name] += 1
            time.sleep(0.2)
        self.seconds = time.monotonic() - begun
        self._look()

    @property
    def _log(self) -> Path:
        return self._work.with_suffix(".log")

    def _start(self, words: list[object]) -> Popen[str]:
        self._look()
        with self._log.open("a") as log:
            return faults.start(*words, before=SHORTER, output=log)

    def _look(self) -> None:
        """Look for what an ended process left; what kills QEMU needs a moment."""
        try:
            faults.until(lambda: not faults.left_behind(self._work), 20)
        except AssertionError:
            self.problems += faults.left_behind(self._work)

    def _measure(self, process: Popen[str]) -> None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
            self.files = max(self.files, len(os.listdir(f"/proc/{process.pid}/fd")))
        except OSError:
            return
        if "VmHWM" in status:
            self.peak = max(self.peak, int(status.partition("VmHWM:")[2].split()[0]) >> 10)

    def qemu(self) -> int | None:
        """One of its QEMUs."""
        found = faults.qemus(self._work)
        return self._chance.choice(found) if found else None

    def in_guest(self, command: str) -> bool:
        """Have one of its guests do something, over SSH."""
        words = faults.processes(self._work).get(self.qemu() or 0, [])
        port = next((int(word.rpartition(":")[2].partition("-")[0]) for word in words if "hostfwd" in word), 0)
        try:
            shell = Shell.connect(port, "root", image.ssh_key(), None, 5)
            shell.run(command, 2)
        except GuestError:
            pass
        return bool(port)

    def lock(self, process: Popen[str]) -> bool:
        """Hold the results for some seconds."""
        database = sqlite3.connect(self._work / "results.sqlite", timeout=5, isolation_level=None)
        try:
            database.execute("BEGIN IMMEDIATE")
            time.sleep(3)
            database.execute("ROLLBACK")
        except sqlite3.OperationalError:
            return False
        return True

    def sleep(self, process: Popen[str]) -> bool:
        """Stop the harness and its QEMUs for longer than the clock takes for a gap."""
        everyone = [*faults.qemus(self._work), process.pid]
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for pid in everyone:
                _kill(pid, number)
            time.sleep(5 if number == signal.SIGSTOP else 0)
        return True


def _kill(pid: int | None, number: int) -> bool:
    try:
        os.kill(pid or 1 << 22, number)
    except ProcessLookupError:
        return False
    return True


def _twice(process: Popen[str]) -> bool:
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    return True


def _one(number: int) -> Callable[[Soak, Popen[str]], bool]:
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
    "harness: SIGKILL": _one(signal.SIGKILL),
    "harness: SIGTERM": _one(signal.SIGTERM),
    "harness: SIGINT": _one(signal.SIGINT),
    "harness: SIGINT twice": lambda soak, process: _twice(process),
}


def matrix(work: Path) -> dict[str, tuple[Any, ...]]:
    """What must be the same: each cell's verdict, counts and crashes. What a dump says of a hang is luck."""
    cells = json.loads((work / "runs" / "1" / "matrix.json").read_text())["cells"]
    return {
        one["program"]: (one["verdict"], one["counts"], one["lost"], one["verdict"] == "hang" or one["signatures"])
        for one in cells
    }


def main() -> int:
    """Soak; returns the exit status."""
    trials, seed, *_ = [*map(int, sys.argv[1:]), *[2000, random.randrange(1 << 32)][len(sys.argv) - 1 :]]
    rounds = max(1, trials // len(PROGRAMS))
    trials = rounds * len(PROGRAMS)
    print(f"seed {seed}: {trials} trials, {rounds} of each of {len(PROGRAMS)} programs", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    suite = faults.write(folder / "soak", PROGRAMS)
    chance = random.Random(seed)
    soaks = {name: Soak(folder / name, suite, rounds, chance, name == "peace") for name in ("faults", "peace")}
    table = Table("run", "seconds", "trials", "spoilt", "troubles", "ends by status", "peak MiB", "open files")
    problems = []
    for name, soak in soaks.items():
        soak.run()
        made = faults.counts(folder / name, errors=True)
        spoilt = sum(count for (_, verdict), count in made.items() if verdict == "error")
        troubles = len(Store(folder / name / "results.sqlite").events(1))
        stored = sum(made.values()) - spoilt
        row = [round(soak.seconds), stored, spoilt, troubles, dict(soak.ends), soak.peak, soak.files]
        table.add_row(name, *map(str, row))
        problems += soak.problems
        print(f"{name}: {row}; {dict(soak.hits)}", flush=True)
    if not problems:
        disturbed, undisturbed = (matrix(folder / name) for name in soaks)
        problems += [f"{one}: {disturbed[one]}, in peace {undisturbed[one]}" for one in undisturbed
                     if disturbed[one] != undisturbed[one]]  # fmt: skip
        # Equal matrices could both be wrong: the programs' own verdicts are known.
        wanted = {
            f"soak/{name}": {**dict.fromkeys(JUDGED, 0), fault.verdicts[0]: rounds} for name, fault in PROGRAMS.items()
        }
        problems += [f"{one}: {counts}" for one, (_, counts, *_) in undisturbed.items() if counts != wanted[one]]
    Console(width=120).print(table)
    if problems:
        print(*problems, f"all of it: {folder}", sep="\n")
        return 1
    shutil.rmtree(folder)
    print("the matrices are the same")
    return 0


if __name__ == "__main__":
    sys.exit(main())
