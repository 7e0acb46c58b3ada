"""Guests that die: which of these errors are an outcome of a cell, and which are the guest's own trouble.

One death is nobody's fault yet. It is the cell's outcome when it comes again under the same cell, in a fresh guest each
time, and more often than guests die by themselves. How often that is, is estimated from the cells of other libgos, and
from those of other programs, of the same guest: a libgo that kills its guest does so whatever it runs, and a program
whatever it is run with, and neither hides the other. Pure functions of counts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from harness.programs.model import CellKey
from harness.results.statistics import LEVEL
from harness.trial.signature import normal

#: What the reason of an error says of a guest that has died, by itself or by what it ran: the console's events, the end
#: of QEMU, and a guest that gives no sign of life. A full disk of the host is none.
_DEATH = re.compile(
    r"(?P<title>(?:panic|oops|kernel debugger|halted|reboot)\b.*|QEMU ended|QEMU stopped it: its kernel panicked"
    r"|the guest itself hangs|the guest does not answer)"
)
#: How many deaths of a cell are no accident any more, if they are also more than chance would bring.
_AGAIN = 2
#: What is assumed of guests of which nothing is known: half a death in ten trials.
_DEATHS, _TRIALS = 0.5, 10.0


@dataclass(frozen=True)
class Attempts:
    """The outcome of all attempts at a cell: how many there were, and in how many its guest died."""

    attempts: int
    deaths: int


def death_title(reason: str) -> str:
    """How a guest died, by the reason of a trial that ended in an infrastructure error; '' if it did not."""
    match = _DEATH.match(reason)
    return normal(match["title"]) if match else ""


def killers(cells: Mapping[CellKey, Attempts]) -> set[CellKey]:
    """The cells that kill their guests: those with deaths that are more than the guests' own would be."""
    # Every cell that was tried twice is a suspect that chance may pick, and each is held against two groups.
    tests = 2 * sum(attempts.attempts >= _AGAIN for attempts in cells.values())
    suspects = [key for key, attempts in cells.items() if attempts.deaths >= _AGAIN]
    return {key for key in suspects if _chance(key, cells) * tests < LEVEL}


def _chance(key: CellKey, cells: Mapping[CellKey, Attempts]) -> float:
    """How probable so many deaths of a cell are, if guests die as often as under other libgos, or other programs."""
    same_guest = {other: attempts for other, attempts in cells.items() if other.guest == key.guest and other != key}
    groups = (
        (attempts for other, attempts in same_guest.items() if other.variant != key.variant),
        (attempts for other, attempts in same_guest.items() if other.program != key.program),
    )
    cell = cells[key]
    return min(_at_least(cell.deaths, cell.attempts, _rate(group)) for group in groups)


def _rate(others: Iterable[Attempts]) -> float:
    attempts = deaths = 0
    for other in others:
        attempts, deaths = attempts + other.attempts, deaths + other.deaths
    return (deaths + _DEATHS) / (attempts + _TRIALS)


def _at_least(deaths: int, attempts: int, rate: float) -> float:
    """The binomial probability of so many deaths or more."""
    return sum(
        math.comb(attempts, number) * rate**number * (1 - rate) ** (attempts - number)
        for number in range(deaths, attempts + 1)
    )
