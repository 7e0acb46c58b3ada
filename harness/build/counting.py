"""How far a build is: the compilations that its log shows, out of those that such a build has, and the time to go.

Knows nothing of what is built.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Self

from harness.durations import as_clock

#: Called with each step, in a few words.
Progress = Callable[[str], None]

#: The part of a build after which the time to go is more than a guess: before it, much is configured, little compiled.
_ENOUGH = 0.05
#: Seconds between two looks at a build.
_PAUSE = 2.0


class ProgressThread(ABC):
    """Reports how far a build is, every two seconds for the time of the block, from a thread of its own.

    Args:
        progress: called with each description.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            self._progress(self.describe())
            if self._stop.wait(_PAUSE):
                return

    @abstractmethod
    def describe(self) -> str:
        """How far the build is now, in a few words."""


class CompilationCounter(ProgressThread):
    """Reports how many compilations a log shows, such as "compiled 312 of about 620, about 4:05 to go".

    Args:
        log: the file to read, from its start, so that a build that is continued counts its earlier compilations.
        marker: what the log has once for each compilation.
        total: the compilations of a whole build, measured once.
        progress: called with each description.
    """

    def __init__(self, log: Path, marker: bytes, total: int, progress: Progress) -> None:
        super().__init__(progress)
        log.touch()
        self._log, self._marker, self._total = log, marker, total
        self._begun = time.monotonic()
        self._position = self._count = 0
        self._before: int | None = None

    def describe(self) -> str:
        """How many compilations the log shows now, and the time to go."""
        with self._log.open("rb") as file:
            file.seek(self._position)
            output = file.read()
        self._position += len(output)
        self._count += output.count(self._marker)
        if self._before is None:
            self._before = self._count
        return describe(self._count, self._before, self._total, time.monotonic() - self._begun)


def describe(count: int, before: int, total: int, seconds: float) -> str:
    """How far a build is, in words.

    Args:
        count: compilations so far.
        before: how many of them an earlier, interrupted build made.
        total: the compilations of a whole build.
        seconds: how long this build has taken so far.
    """
    text = f"compiled {count} of about {max(total, count)}"
    here, left = count - before, max(0, total - count)
    if here < _ENOUGH * total:
        return text
    return f"{text}, {time_to_go(seconds / here * left)}"


def time_to_go(seconds: float) -> str:
    """The time to go, given in seconds, in words: `about 1:44 to go`."""
    return f"about {as_clock(round(seconds))} to go"
