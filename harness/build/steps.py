"""The steps of a libgo's build, the cost of each, and from that how far a build is and how long it has to go.

The cost of a step was measured once (libgo-steps.json, by tools/weigh.py), in seconds of processor time. With these
costs a build is simulated on as many processors as there are, each step after those it needs: near the start all wait
for package runtime, so a sum of costs would be too low. What has been built so far shows how fast this machine is.
"""

from __future__ import annotations

import bisect
import functools
import heapq
import json
import time
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.build.counting import Progress, ProgressThread, time_to_go

#: Seconds that the other parts took on the machine where the costs were measured: libgo's configure, one package's
#: list of imports, linking with installing.
_CONFIGURING, _IMPORTS, _LINKING = 12.0, 0.15, 7.0
#: Bytes of libgo's config.log when configure has ended (GCC 12.2).
_CONFIG_LOG = 185_000
#: Seconds, or a part of the work, after which this machine's speed is known well enough to give the time to go.
_KNOWN_AFTER, _KNOWN_PART = 20.0, 0.15
#: The weight of a guess of the speed, in seconds: one without any ground, and one that an earlier build showed.
_GUESSED, _MEASURED = 3.0, 15.0
#: The time to go is never shown to grow by more than this part of the least that was shown, until that has passed.
_GROWTH = 0.25


@dataclass(frozen=True)
class Step:
    """A compilation: seconds of processor time, and the steps that must come before it."""

    seconds: float
    needs: tuple[str, ...]


@functools.cache
def known() -> Mapping[str, Step]:
    """All steps of a whole build: package or C file -> step."""
    costs = json.loads(Path(__file__).with_name("libgo-steps.json").read_text())
    return {
        name: Step(seconds, tuple(need for need in needs if need in costs)) for name, (seconds, needs) in costs.items()
    }


def name(output: str) -> str:
    """The name of the step that makes an object file: `internal/.libs/abi.o` belongs to `internal/abi`."""
    path = Path(output.replace(".libs/", ""))
    return str(path.with_suffix(""))


def imports(listing: Path) -> list[str]:
    """The packages that a package's `.lo.dep` names; none where there is no such file."""
    if not listing.is_file():
        return []
    return sorted({word.removesuffix(".gox") for word in listing.read_text().split() if word.endswith(".gox")})


def dependents(touched: Collection[str]) -> dict[str, Step]:
    """The steps of some packages and of all packages that import them, directly or not."""
    steps = {package: known()[package] for package in touched if package in known()}
    while True:
        importers = {
            name: step
            for name, step in known().items()
            if name not in steps and not steps.keys().isdisjoint(step.needs)
        }
        if not importers:
            return steps
        steps |= importers


def schedule(steps: Mapping[str, Step], jobs: int) -> list[tuple[float, float]]:
    """When steps end that run side by side: as soon as one ends, the next whose needs are met begins.

    Args:
        steps: by name, with their costs in seconds of processor time.
        jobs: how many run side by side.

    Returns:
        For each end, in their order: the seconds since the beginning, and the sum of the costs of the steps that have
        ended by then.
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
    """What a build has to do, and when each part of it would be done on the machine where the costs were measured.

    Args:
        steps: the compilations.
        jobs: how many commands run side by side.
        configures: whether it begins with configure.
        listings: for how many packages the imports are listed first.
    """

    def __init__(self, steps: Mapping[str, Step], jobs: int, configures: bool = False, listings: int = 0) -> None:
        self.steps, self.configures, self.listings = steps, configures, listings
        self._ends = schedule(steps, jobs)
        self._configured = _CONFIGURING if configures else 0.0
        self._listed = self._configured + listings * _IMPORTS / jobs
        self._compiled = self._listed + (self._ends[-1][0] if self._ends else 0.0)
        self.whole = self._compiled + _LINKING

    def reached(self, configured: float, listed: int, compiled: Collection[str]) -> tuple[float, float]:
        """The span of seconds in which a build on the measured machine is in this state.

        Args:
            configured: the part of configure that is done, from 0 to 1.
            listed: the number of packages whose imports are listed.
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


class SpeedEstimate:
    """The time to go, from how far a build is and how long it has taken so far. Pure arithmetic.

    Args:
        whole: seconds that the whole build takes on the measured machine.
        speed: how many times as fast this machine is, if that is known.

    Attributes:
        speed: how many times as fast this machine is, by what was seen so far.
    """

    def __init__(self, whole: float, speed: float | None = None) -> None:
        self._whole = whole
        self._guess, self._weight = (1.0, _GUESSED) if speed is None else (speed, _MEASURED)
        self._known = speed is not None
        self._least = float("inf")
        self._least_until = float("inf")  # when the build would have ended by that
        self._since = self._reached = 0.0
        self.speed = self._guess

    def update(self, reached: float, before: float, elapsed: float) -> tuple[float, float | None]:
        """How far it is, and how long it has to go.

        Args:
            reached, before: the span that `Plan.reached` gives.
            elapsed: seconds since the beginning, on this machine.

        Returns:
            The part that is done, from 0 to 1, and the seconds to go, None while they are unknown.
        """
        if reached > self._reached:
            self._since, self._reached = elapsed, reached
        # The end of a step shows the speed. While none ends, the speed is at most the one at which one would have.
        self.speed = (self._guess * self._weight + self._reached) / (self._weight + self._since)
        self.speed = min(self.speed, (self._guess * self._weight + before) / (self._weight + elapsed))
        done = max(self._reached, min(before, self._reached + self.speed * (elapsed - self._since)))
        part = done / self._whole
        if not self._known and elapsed < _KNOWN_AFTER and part < _KNOWN_PART:
            return part, None
        seconds = (self._whole - done) / self.speed
        if elapsed < self._least_until:
            seconds = min(seconds, (1 + _GROWTH) * self._least)
        if seconds < self._least or elapsed >= self._least_until:
            self._least, self._least_until = seconds, elapsed + seconds
        return part, seconds


class BuildEstimate(ProgressThread):
    """Reports how far a libgo's build is, such as "compiling: 34%, 95 of 272, about 1:44 to go".

    Args:
        build: the folder that libgo is built in; files in it that are newer than this object were made by the build.
        plan: what the build has to do.
        progress: called with each description.
        speed: how fast this machine is, if that is known.
        compiling: what the compilations are called.

    Attributes:
        estimate: has this machine's speed when the block has ended.
    """

    def __init__(
        self, build: Path, plan: Plan, progress: Progress, speed: float | None = None, compiling: str = "compiling"
    ) -> None:
        super().__init__(progress)
        self._build, self._plan, self._compiling = build, plan, compiling
        self.estimate = SpeedEstimate(plan.whole, speed)
        self._begun, self._oldest = time.monotonic(), time.time() - 1  # file systems' clocks are coarse
        self._compiled: set[str] = set()

    def describe(self) -> str:
        """What the build does now, how far it is, and the time to go."""
        self._compiled |= {name for name in self._plan.steps if name not in self._compiled and self._is_done(name)}
        configured, listed = self._configured(), self._listed()
        reached, before = self._plan.reached(configured, listed, self._compiled)
        part, seconds = self.estimate.update(reached, before, time.monotonic() - self._begun)
        text = self._phase(configured, listed, len(self._compiled), part)
        return text if seconds is None else f"{text}, {time_to_go(seconds)}"

    def _is_done(self, name: str) -> bool:
        """Whether a step has made its object file. libtool writes X.lo when X.o is complete."""
        for suffix in (".lo", ".o"):
            try:
                return (self._build / f"{name}{suffix}").stat().st_mtime >= self._oldest
            except FileNotFoundError:
                continue  # a step makes one of the two
        return False

    def _configured(self) -> float:
        if not self._plan.configures or (self._build / "Makefile").exists():
            return 1.0
        try:
            return min(0.95, (self._build / "config.log").stat().st_size / _CONFIG_LOG)
        except FileNotFoundError:  # configure has not begun
            return 0.0

    def _listed(self) -> int:
        return sum(1 for _ in self._build.rglob("*.lo.dep")) if self._plan.listings else 0

    def _phase(self, configured: float, listed: int, compiled: int, part: float) -> str:
        """What the build does now, and how much of it is done."""
        if configured < 1:
            phase, count = "configuring", ""
        elif not compiled and listed < self._plan.listings:
            phase, count = "listing imports", f", {listed} of {self._plan.listings}"
        elif compiled < len(self._plan.steps):
            phase, count = self._compiling, f", {compiled} of {len(self._plan.steps)}"
        else:
            phase, count = "linking", ""
        return f"{phase}: {max(0.0, part):.0%}{count}"
