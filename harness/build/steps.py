"""The steps of a libgo's build, what each costs, and from that how far a build is and how long it has to go.

What a step costs was measured once (libgo-steps.json, by tools/weigh.py), in seconds of processor time. With that a
build is played through on as many processors as there are, each step after those it needs: near the start all wait for
package runtime, so a sum of costs would say too little. How fast this machine is shows in what it has done so far.
"""

from __future__ import annotations

import bisect
import functools
import heapq
import json
import threading
import time
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.build.counting import Progress, time_to_go

#: Seconds that the parts took which are no compilations, on the machine that the costs were measured on: libgo's
#: configure, one package's list of imports, linking with installing.
_CONFIGURING, _IMPORTS, _LINKING = 12.0, 0.15, 7.0
#: What libtool and the shell take of a step, beside the compiler that was measured.
_LIBTOOL = 0.15
#: Bytes of libgo's config.log when configure has ended (GCC 12.2).
_CONFIG_LOG = 185_000
#: Seconds, or a part of the work, after which this machine's speed is known well enough to speak of the time to go.
_KNOWN_AFTER, _KNOWN_PART = 20.0, 0.15
#: For how many seconds a guess of the speed counts: one without any ground, and one that an earlier build showed.
_GUESSED, _MEASURED = 3.0, 15.0
#: The time to go is never told to have grown by more than this part of the least that was told.
_GROWTH = 0.25
#: Seconds between two looks.
_PAUSE = 2.0


@dataclass(frozen=True)
class Step:
    """A compilation: seconds of processor time, and the steps that must come before it."""

    seconds: float
    needs: tuple[str, ...]


@functools.cache
def known() -> Mapping[str, Step]:
    """All steps of a whole build: package or C file -> step."""
    rows = json.loads(Path(__file__).with_name("libgo-steps.json").read_text())
    return {
        name: Step(seconds, tuple(need for need in needs if need in rows)) for name, (seconds, needs) in rows.items()
    }


def name(output: str) -> str:
    """The name of the step that makes an object file: `internal/.libs/abi.o` is of `internal/abi`."""
    path = Path(output.replace(".libs/", ""))
    return str(path.with_suffix(""))


def imports(listing: Path) -> list[str]:
    """The packages that a package's `.lo.dep` names; none where there is no such file."""
    if not listing.is_file():
        return []
    return sorted({word.removesuffix(".gox") for word in listing.read_text().split() if word.endswith(".gox")})


def dependents(touched: Collection[str]) -> dict[str, Step]:
    """The steps of some packages and of all that import them, through others too."""
    packages = {package: known()[package] for package in touched if package in known()}
    grown = True
    while grown:
        more = {
            name: step
            for name, step in known().items()
            if name not in packages and not packages.keys().isdisjoint(step.needs)
        }
        packages |= more
        grown = bool(more)
    return packages


def schedule(steps: Mapping[str, Step], jobs: int) -> list[tuple[float, float]]:
    """When steps end that run side by side: as soon as one ends, the next that needs none of the others begins.

    Returns:
        For each end, in their order: the seconds since the beginning, and the costs of all steps that ended by then.
    """
    waiting = {name: sum(need in steps for need in step.needs) for name, step in steps.items()}
    needed_by: dict[str, list[str]] = {}
    for name, step in steps.items():
        for need in step.needs:
            if need in steps:
                needed_by.setdefault(need, []).append(name)
    ready = deque(name for name, number in waiting.items() if not number)
    running: list[tuple[float, str]] = []
    ends: list[tuple[float, float]] = []
    now = cost = 0.0
    while ready or running:
        while ready and len(running) < jobs:
            started = ready.popleft()
            heapq.heappush(running, (now + steps[started].seconds, started))
        now, ended = heapq.heappop(running)
        cost += steps[ended].seconds
        ends.append((now, cost))
        for name in needed_by.get(ended, ()):
            waiting[name] -= 1
            if not waiting[name]:
                ready.append(name)
    return ends


class Plan:
    """What a build has to do, and when on the measured machine each part of it would be done.

    Args:
        steps: the compilations.
        jobs: how many commands run side by side.
        configures: whether it is configured first.
        listings: how many packages' imports are listed first.
    """

    def __init__(self, steps: Mapping[str, Step], jobs: int, configures: bool = False, listings: int = 0) -> None:
        self.steps, self.configures, self.listings = steps, configures, listings
        self._ends = schedule(steps, jobs)
        self._configured = _CONFIGURING if configures else 0.0
        self._listed = self._configured + listings * _IMPORTS / jobs
        self._compiled = self._listed + (self._ends[-1][0] if self._ends else 0.0)
        self.whole = self._compiled + _LINKING

    def reached(self, configured: float, listed: int, compiled: Collection[str]) -> tuple[float, float]:
        """Between which seconds on the measured machine a state like this one is met.

        Args:
            configured: the part of configure that is done, from 0 to 1.
            listed: packages whose imports are listed.
            compiled: the steps that are done.
        """
        if not compiled and configured < 1:
            return self._configured * configured, self._configured
        if not compiled and listed < self.listings:
            each = (self._listed - self._configured) / self.listings
            return self._configured + listed * each, self._configured + (listed + 1) * each
        if len(compiled) >= len(self.steps):
            return self._compiled, self.whole
        cost = sum(self.steps[name].seconds for name in compiled)
        place = bisect.bisect_right(self._ends, cost + 1e-9, key=lambda end: end[1])
        since = self._ends[place - 1][0] if place else 0.0
        return self._listed + since, self._listed + self._ends[min(place, len(self._ends) - 1)][0]


class Clock:
    """The time to go, from how far a build is and how long it took so far. Pure arithmetic.

    Args:
        whole: seconds that all of it takes on the measured machine.
        speed: how much faster this machine is, as far as is known.
    """

    def __init__(self, whole: float, speed: float | None = None) -> None:
        self._whole = whole
        self._guess, self._weight = (1.0, _GUESSED) if speed is None else (speed, _MEASURED)
        self._known = speed is not None
        self._least = float("inf")
        self._since = self._reached = 0.0
        self.speed = self._guess

    def look(self, reached: float, before: float, elapsed: float) -> tuple[float, float | None]:
        """How far it is, and how long it has to go.

        Args:
            reached, before: what `Plan.reached` says.
            elapsed: seconds since the beginning, on this machine.

        Returns:
            The part that is done, from 0 to 1, and the seconds to go; None as long as they are not known.
        """
        if reached > self._reached:
            self._since, self._reached = elapsed, reached
        # Known when something ended; and as nothing has ended since, it is no faster than what would have.
        self.speed = (self._guess * self._weight + self._reached) / (self._weight + self._since)
        self.speed = min(self.speed, (self._guess * self._weight + before) / (self._weight + elapsed))
        done = max(self._reached, min(before, self._reached + self.speed * (elapsed - self._since)))
        part = done / self._whole
        if not self._known and elapsed < _KNOWN_AFTER and part < _KNOWN_PART:
            return part, None
        seconds = min((self._whole - done) / self.speed, (1 + _GROWTH) * self._least)
        self._least = min(self._least, seconds)
        return part, seconds


class estimated:
    """Say how far a build is, every two seconds for the time of the block.

    Args:
        build: the folder that libgo is built in; what a step made lies there, newer than the block.
        plan: what is to be done.
        progress: told "compiling: 34%, 95 of 272, about 1:44 to go".
        speed: this machine's, if it is known.
        compiling: what the compilations are called.

    Attributes:
        clock: knows this machine's speed when the block has ended.
    """

    def __init__(
        self, build: Path, plan: Plan, progress: Progress, speed: float | None = None, compiling: str = "compiling"
    ) -> None:
        self._build, self._plan, self._progress, self._compiling = build, plan, progress, compiling
        self.clock = Clock(plan.whole, speed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> estimated:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        begun, begun_at = time.monotonic(), time.time() - 1  # file systems' clocks are coarse
        compiled: set[str] = set()
        while True:
            compiled |= {name for name in self._plan.steps if name not in compiled and self._made(name, begun_at)}
            configured, listed = self._configured(), self._listed()
            reached, before = self._plan.reached(configured, listed, compiled)
            part, to_go = self.clock.look(reached, before, time.monotonic() - begun)
            self._progress(self._describe(configured, listed, len(compiled), part, to_go))
            if self._stop.wait(_PAUSE):
                return

    def _made(self, name: str, since: float) -> bool:
        """Whether a step has made its object file. libtool writes X.lo when X.o is whole."""
        for suffix in (".lo", ".o"):
            try:
                return (self._build / f"{name}{suffix}").stat().st_mtime >= since
            except FileNotFoundError:
                continue
        return False

    def _configured(self) -> float:
        if not self._plan.configures or (self._build / "Makefile").exists():
            return 1.0
        try:
            return min(0.95, (self._build / "config.log").stat().st_size / _CONFIG_LOG)
        except FileNotFoundError:
            return 0.0

    def _listed(self) -> int:
        return sum(1 for _ in self._build.rglob("*.lo.dep")) if self._plan.listings else 0

    def _describe(self, configured: float, listed: int, compiled: int, part: float, to_go: float | None) -> str:
        if configured < 1:
            what, count = "configuring", ""
        elif not compiled and listed < self._plan.listings:
            what, count = "listing imports", f", {listed} of {self._plan.listings}"
        elif compiled < len(self._plan.steps):
            what, count = self._compiling, f", {compiled} of {len(self._plan.steps)}"
        else:
            what, count = "linking", ""
        text = f"{what}: {max(0.0, part):.0%}{count}"
        if to_go is None:
            return text
        return f"{text}, {time_to_go(to_go)}"
