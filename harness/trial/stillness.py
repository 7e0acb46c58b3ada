"""When to look whether a program can still run before its limit, and the looks themselves, while it is observed.

Certainty comes from the guest alone (harness/conf/stillness.py). What is here only chooses when a look is worth its
time: after some silence, and while the guest's processor has next to nothing to do. Knows nothing of what is read.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from math import inf

from harness import clock
from harness.conf.stillness import Look, Looks, Reading, Stillness
from harness.guest.agent import Agent

_log = logging.getLogger(__name__)

#: Seconds without output before the first look: most programs that are silent for less are only busy.
SILENCE = 3.0
#: Seconds between two readings of the processor time that the guest takes.
PULSE = 1.0
#: The share of one processor that a guest takes at most that does next to nothing. An idle Linux of QEMU's own
#: emulation takes up to a tenth.
IDLE = 0.25
#: Seconds after looks that ended in doubt until the next ones. All looks together take some 50 ms of an emulated guest.
AGAIN = 5.0


class HangDetector:
    """Looks at a program while it is observed.

    Args:
        start: begins a series of looks.
        work: the processor seconds that the guest has taken.

    Attributes:
        due: when `act` is to be called next, by clock.time().
        evidence: what the looks have seen, once they have proved that the program cannot run.
    """

    def __init__(self, start: Callable[[], Looks], work: Callable[[], float]) -> None:
        self._start, self._work = start, work
        self._begun = self._silent = self._sampled = self._asked = clock.time()
        self._worked = work()
        self._earliest = 0.0
        self._looks: Looks | None = None
        self._next: Look | None = None
        self._stale = False
        self._files: list[tuple[str, str]] = []
        self._parts: dict[str, bytes] = {}
        self.due = self._begun + PULSE
        self.evidence = ""

    def disturb(self) -> None:
        """Something was heard of the program: what the looks under way have seen does not count."""
        self._silent = clock.time()
        self._stale = True

    def act(self, agent: Agent) -> None:
        """Do what is due: send a look, or see whether it is time for one."""
        now = clock.time()
        if self._next is not None and not self._stale:
            self._send(agent, self._next)
            return
        worked = self._work()
        share = (worked - self._worked) / max(now - self._sampled, PULSE / 2)
        self._worked, self._sampled = worked, now
        self._next, self.due = None, now + PULSE
        if now >= max(self._silent + SILENCE, self._earliest) and share <= IDLE:
            self._looks, self._stale = self._start(), False
            self._send(agent, next(self._looks))

    def take(self, agent: Agent, data: bytes) -> Stillness | None:
        """Take the agent's next answer to a look. Returns the proof when there is one."""
        if data not in (b"", b"!"):
            name, _, piece = data[1:].partition(b"\0")
            file = name.decode(errors="replace")
            self._parts[file] = self._parts.get(file, b"") + piece
            if data[:1] == b".":
                self._files.append((file, self._parts.pop(file).decode(errors="backslashreplace")))
            return None
        now = clock.time()
        self.due = now + PULSE
        _log.debug("a look took %.2f s: %d bytes", now - self._asked, sum(len(text) for _, text in self._files))
        if self._looks is None or self._stale:
            return None
        try:
            look = self._looks.send(Reading(self._files, not data, now - self._begun))
        except StopIteration as end:
            if isinstance(end.value, Stillness):
                self.evidence = end.value.evidence
                return end.value
            _log.debug("whether the program can still run is not certain: %s", end.value)
            self._earliest = clock.time() + AGAIN
            return None
        if look.delay:
            self._next, self.due = look, clock.time() + look.delay
        else:
            self._send(agent, look)
        return None

    def _send(self, agent: Agent, look: Look) -> None:
        self._files, self._parts, self._next = [], {}, None
        self._asked, self.due = clock.time(), inf  # until the agent has answered
        agent.send("G", b"".join(path.encode() + b"\0" for path in look.paths))
