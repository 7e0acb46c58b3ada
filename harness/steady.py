"""A clock that stands still while this machine sleeps, or the harness is stopped, so that no deadline passes meanwhile.

Knows nothing of what is waited for.
"""

from __future__ import annotations

import threading
import time as clocks
from collections.abc import Callable

#: Seconds between looks at the clock, and the gap from which on the machine counts as having been asleep.
_TICK, _GAP = 1.0, 10.0


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
            if now - self._looked > _GAP:
                self._lost += now - self._looked
            self._looked = now
            return now - self._lost


_clock = Clock()
time = _clock.time


def _look() -> None:
    while True:
        clocks.sleep(_TICK)
        time()


threading.Thread(target=_look, daemon=True, name="steady clock").start()
