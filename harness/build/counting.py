"""How far a build is: the compilations that its log shows, against those that such a build has, and the time to go.

Knows nothing of what is built.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from harness.durations import as_clock

#: Told each step in a few words.
Progress = Callable[[str], None]

#: The part of a build after which the time to go is more than a guess: before it, much is configured, little compiled.
_ENOUGH = 0.05


class counted:
    """Say how many compilations a log shows, every two seconds for the time of the block.

    Args:
        log: the file to read, from its start, so that a build that goes on counts what was done before.
        marker: what the log has once for each compilation.
        total: the compilations of a whole build, measured once.
        progress: told "compiled 312 of about 620, about 4:05 to go".
    """

    def __init__(self, log: Path, marker: bytes, total: int, progress: Progress) -> None:
        self._log, self._marker, self._total, self._progress = log, marker, total, progress
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self._log.touch()
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        begun, before = time.monotonic(), None
        for count in self._counts():
            if before is None:
                before = count
            self._progress(describe(count, before, self._total, time.monotonic() - begun))

    def _counts(self) -> Iterator[int]:
        count = 0
        with self._log.open("rb") as file:
            while True:
                count += file.read().count(self._marker)
                yield count
                if self._stop.wait(2):
                    return


def describe(count: int, before: int, total: int, seconds: float) -> str:
    """How far a build is, in words.

    Args:
        count: compilations so far.
        before: those of them that an earlier, interrupted build did.
        total: the compilations of a whole build.
        seconds: how long this build took so far.
    """
    text = f"compiled {count} of about {max(total, count)}"
    here, left = count - before, max(0, total - count)
    if here < _ENOUGH * total:
        return text
    return f"{text}, {time_to_go(seconds / here * left)}"


def time_to_go(seconds: float) -> str:
    """The time to go in words: `about 1:44 to go`."""
    return f"about {as_clock(round(seconds))} to go"
