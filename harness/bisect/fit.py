"""Whether two rates are enough for what a bisect has seen, and how many trials tell one rate from the other.

The search knows two rates: of sets with the culprit, and of all others. Real effects are often graded: one hunk takes
a rate from 0 to 30 %, another one to 90 %. Then the search finds one of them, or both together, and is certain of it.
So its answer is checked: all units but one of the answer's must show the outcome as rarely as no unit, and the answer
alone as often as all units. A rate that lies between the two is graded.

Pure arithmetic: knows counts, and nothing of units. A check compares two models of all trials by their Bayes factor
(R. E. Kass and A. E. Raftery, "Bayes factors", Journal of the American Statistical Association 90 (1995)).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from harness.bisect.search import CHANCES, P0, P1, Floats

#: The probability, before the trials of a check, that the rate of a set lies between the two.
PRIOR = 0.2
#: How far from the one rate a graded one may lie, as a part of the way to the other. Near 0 and near 1 small steps show
#: in few trials; on the other side they would take more trials than a bisect has.
_FINE, _COARSE = (1 / 3, 1 / 2, 2 / 3, 5 / 6), (1 / 2, 2 / 3, 5 / 6)
#: The probability of a graded rate from which it is one, and that below which it is none. The second also says how many
#: trials a check has: a smaller one has more.
GRADED, FITS = 0.98, 0.01


class Tally(NamedTuple):
    """How many trials show the outcome, of how many."""

    shown: int
    trials: int


def graded(checked: Tally, without: Tally, with_: Tally, inside: bool) -> float:
    """The probability that the rate of a set lies between the rates without and with the culprit.

    Args:
        checked: the trials of the set.
        without: the trials of no unit.
        with_: the trials of all units.
        inside: the set has the culprit, so that its rate should be that of `with_`.
    """
    weights = CHANCES * _likelihood(P0, without) * _likelihood(P1, with_)
    expected, other = (P1, P0) if inside else (P0, P1)
    fits = float(weights @ _likelihood(expected, checked))
    near_zero = weights @ P0 <= weights @ (1 - P1)
    steps = _COARSE if near_zero == inside else _FINE
    between = sum(float(weights @ _likelihood(expected + (other - expected) * step, checked)) for step in steps)
    between /= len(steps)
    return PRIOR * between / (PRIOR * between + (1 - PRIOR) * fits)


def repetitions(p0: float, p1: float, error: float) -> int | None:
    """The fewest trials of a set that tell whether its rate is p0 or p1, each with at most this error.

    Returns:
        None if 1,000 are too few.
    """
    for trials in range(1, 1001):
        low, high = (np.cumsum(_binomial(trials, p)) for p in (p0, p1))
        # A set counts as one with the culprit if it shows the outcome more than some number of times.
        if ((1 - low <= error) & (high <= error)).any():
            return trials
    return None


def _binomial(trials: int, p: float) -> Floats:
    """The probabilities of 0, 1, ... `trials` outcomes."""
    ways = [math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1) for k in range(trials + 1)]
    counts = np.arange(trials + 1)
    p = min(max(p, 1e-12), 1 - 1e-12)
    chances: Floats = np.exp(np.array(ways) + counts * math.log(p) + (trials - counts) * math.log1p(-p))
    return chances


def _likelihood(rates: Floats, tally: Tally) -> Floats:
    likelihood: Floats = rates**tally.shown * (1 - rates) ** (tally.trials - tally.shown)
    return likelihood
