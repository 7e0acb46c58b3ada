"""The steps of a libgo's build, what each costs, and from that how far a build is and how long it has to go.

What a step costs was measured once (libgo-steps.json, by tests/weigh.py), in seconds of processor time. What remains
is played through on so many processors, each step after those it needs: near the start all wait for package runtime,
so a sum of costs would say too little. How fast this machine is shows in what it has done so far.
"""

from __future__ import annotations

import functools
import heapq
import json
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

#: Told each step in a few words.
Progress = Callable[[str], None]

#: Seconds that the parts took which are no compilations, on the machine that the costs were measured on: libgo's
#: configure, one package's list of imports, linking with installing.
_CONFIGURING, _IMPORTS, _LINKING = 12.0, 0.15, 7.0
#: Bytes of libgo's config.log when configure has ended (GCC 12.2).
_CONFIG_LOG = 185_000
#: Seconds, or a part of the work, after which this machine's speed is known well enough to speak of the time to go.
_KNOWN_AFTER, _KNOWN_PART = 20.0, 0.15
#: Seconds that count as done at the measured machine's speed, so that the first look does not divide by nothing.
_GUESSED = 3.0
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
    found = {package: known()[package] for package in touched if package in known()}
    grown = True
    while grown:
        more = {
            name: step
            for name, step in known().items()
            if name not in found and not found.keys().isdisjoint(step.needs)
        }
        found |= more
        grown = bool(more)
    return found


def wall(left: Mapping[str, Step], jobs: int) -> float:
    """Seconds that steps take side by side: as soon as one ends, the next that needs none of the others begins."""
    waiting = {name: sum(need in left for need in step.needs) for name, step in left.items()}
    needed_by: dict[str, list[str]] = {}
    for name, step in left.items():
        for need in step.needs:
            if need in left:
                needed_by.setdefault(need, []).append(name)
    ready = [name for name, number in waiting.items() if not number]
    running: list[tuple[float, str]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < jobs:
            started = ready.pop(0)
            heapq.heappush(running, (now + left[started].seconds, started))
        now, ended = heapq.heappop(running)
        for name in needed_by.get(ended, ()):
            waiting[name] -= 1
            if not waiting[name]:
                ready.append(name)
    return now


@dataclass
class Plan:
    """What a build has to do.

    Attributes:
        steps: the compilations.
        configures: whether it is configured first.
        listings: how many packages' imports are listed first.
    """

    steps: Mapping[str, Step]
    configures: bool = False
    listings: int = 0

    def left(self, configured: float, listed: int, compiled: Collection[str], jobs: int) -> float:
        """Seconds that remain on the measured machine.

        Args:
            configured: the part of configure that is done, from 0 to 1.
            listed: packages whose imports are listed.
            compiled: the steps that are done.
            jobs: how many may run side by side.
        """
        seconds = _CONFIGURING * (1 - configured) if self.configures else 0.0
        seconds += max(0, self.listings - listed) * _IMPORTS / jobs
        return (
            seconds + wall({name: step for name, step in self.steps.items() if name not in compiled}, jobs) + _LINKING
        )


class Clock:
    """The time to go, from how much remains and how long it took so far. Pure arithmetic.

    Args:
        whole: seconds that all of it takes on the measured machine.
    """

    def __init__(self, whole: float) -> None:
        self._whole = whole
        self._least = float("inf")

    def to_go(self, left: float, elapsed: float) -> float | None:
        """Seconds to go, or None as long as they are not known.

        Args:
            left: seconds that remain on the measured machine.
            elapsed: seconds since the beginning, on this one.
        """
        done = self._whole - left
        if elapsed < _KNOWN_AFTER and done < _KNOWN_PART * self._whole:
            return None
        speed = (_GUESSED + done) / (_GUESSED + elapsed)
        seconds = min(left / speed, (1 + _GROWTH) * self._least)
        self._least = min(self._least, seconds)
        return seconds


class estimated:
    """Say how far a build is, every two seconds for the time of the block.

    Args:
        build: the folder that libgo is built in; what a step made lies there, newer than the block.
        plan: what is to be done.
        progress: told "compiling: 34 %, 95 of 272, about 1:44 to go".
        jobs: how many commands run side by side.
    """

    def __init__(self, build: Path, plan: Plan, progress: Progress, jobs: int | None = None) -> None:
        self._build, self._plan, self._progress = build, plan, progress
        self._jobs = jobs or os.cpu_count() or 1
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        begun, begun_at = time.monotonic(), time.time() - 1  # file systems' clocks are coarse
        whole = self._plan.left(0, 0, (), self._jobs)
        clock = Clock(whole)
        compiled: set[str] = set()
        while True:
            compiled |= {name for name in self._plan.steps if name not in compiled and self._made(name, begun_at)}
            configured, listed = self._configured(), self._listed()
            left = self._plan.left(configured, listed, compiled, self._jobs)
            to_go = clock.to_go(left, time.monotonic() - begun)
            self._progress(self._describe(configured, listed, len(compiled), 1 - left / whole, to_go))
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
            what, count = "compiling", f", {compiled} of {len(self._plan.steps)}"
        else:
            what, count = "linking", ""
        text = f"{what}: {max(0.0, part):.0%}{count}"
        if to_go is None:
            return text
        return f"{text}, about {round(to_go) // 60}:{round(to_go) % 60:02} to go"
