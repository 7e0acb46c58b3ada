"""A clock that stands still while this machine sleeps, or the harness is stopped, so that no deadline passes meanwhile,
and deadlines that are put off while there is progress.

Knows nothing of what is waited for.
"""

from __future__ import annotations

import threading
import time as clocks
from collections.abc import Callable
from datetime import UTC, datetime

#: Seconds without any progress after which what is waited for counts as dead. It is no measure of speed: a guest that
#: is a hundred times slower than another one still does something within a minute.
QUIET = 60.0
#: Seconds between looks at the clock, and the gap from which on the machine counts as having been asleep.
_TICK, GAP = 1.0, 10.0


def now() -> str:
    """The time, UTC, ISO 8601, whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class Clock:
    """Seconds that went by, without the gaps in which nobody looked. May be used from any thread.

    Linux's CLOCK_MONOTONIC leaves out suspended time already (clock_gettime(2)), but not the time of a process that is
    stopped, or of a virtual machine that is.

    Args:
        source: gives the seconds of a clock that never goes back.
    """

    def __init__(self, source: Callable[[], float] = clocks.monotonic) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._looked = source()
        self._lost = 0.0

    def time(self) -> float:
        """The seconds, from some point on."""
        with self._lock:
            now = self._source()
            if now - self._looked > GAP:
                self._lost += now - self._looked
            self._looked = now
            return now - self._lost


_clock = Clock()
time = _clock.time


class Deadline:
    """A deadline that progress puts off. For one thread.

    Args:
        quiet: seconds without progress after which it passes; None means QUIET.
        limit: seconds after which it passes, whatever moves; None means never.
        clock: the seconds that count; None means those of `time`.
    """

    def __init__(
        self, quiet: float | None = None, limit: float | None = None, clock: Callable[[], float] | None = None
    ) -> None:
        self.quiet = QUIET if quiet is None else quiet
        self._clock = clock or time
        self._moved = self._clock()
        self._last = None if limit is None else self._moved + limit
        self._mark: object = None

    def passed(self, mark: object) -> bool:
        """Whether it has passed.

        Args:
            mark: how far what is waited for has come, such as a count of bytes. Any other value than the one of the
                last call is progress.
        """
        now = self._clock()
        if mark != self._mark:
            self._mark, self._moved = mark, now
        return now > self._moved + self.quiet or (self._last is not None and now > self._last)


def _look() -> None:
    while True:
        clocks.sleep(_TICK)
        time()


threading.Thread(target=_look, daemon=True, name="steady clock").start()
