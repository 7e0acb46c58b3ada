"""When a comparison is decided: a test that may be looked at after every round of trials, and stopped when one likes.

Fisher's test is for a number of trials that was fixed beforehand: who looks again and again, and stops when he sees a
difference, sees one sooner or later. The test here bounds the chance of that over all looks together.

A cell and its baseline's cell have chances of a pass that nobody knows. The e-value of their counts is
`m(cell) m(baseline) / L`: m is the probability of the outcomes in their order if every chance of a pass were as likely
as a Beta distribution says, and L that under the one chance, the same for both cells, that makes them most probable.
If both chances are the same, the ratio to the true chance's probability instead of L is a martingale that begins at 1,
and the e-value is never above it; so the chance that the e-value ever comes to N or more is at most 1/N (Ville's
inequality), and 1 / (the greatest e-value so far) is a p value at every moment, whatever made one stop. Holm's
correction of such p values bounds the chance of even one false claim in the whole matrix, as it does for Fisher's.

Sources: L. Wasserman, A. Ramdas and S. Balakrishnan, "Universal inference", Proceedings of the National Academy of
Sciences 117 (2020) 16880-16890, the section on sequential testing; J. Ville, "Étude critique de la notion de collectif"
(1939); the prior for two Bernoulli streams: R. J. Turner, A. Ly and P. D. Grünwald, "Generic E-variables for exact
sequential k-sample tests that allow for optional stopping", Journal of Statistical Planning and Inference 230 (2024).

Pure arithmetic: knows outcomes by round, nothing of where they come from.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence

from harness.results.statistics import LEVEL, holm

#: What Beta distribution the chances of a pass have a priori, Beta(PRIOR, PRIOR). The guarantee holds for any; this one
#: is good at finding differences between cells that pass nearly always and cells that do so nearly never.
PRIOR = 0.18

#: What came of a cell: the round of each trial that was judged -> whether it passed.
Outcomes = Mapping[int, bool]


@functools.cache
def e_value(passed: int, trials: int, other_passed: int, other_trials: int) -> float:
    """The evidence against the same chance of a pass in two cells; 1 is none."""
    together, of = passed + other_passed, trials + other_trials
    best = sum(count * math.log(count / of) for count in (together, of - together) if count)
    return math.exp(_log_mixture(passed, trials) + _log_mixture(other_passed, other_trials) - best)


def p_values(pairs: Sequence[tuple[Outcomes, Outcomes]]) -> list[float]:
    """For each cell with its baseline's cell the p value, which stands at whatever moment the trials were stopped."""
    return [min(1.0, 1 / _greatest(*pair)) for pair in pairs]


def undecided(pairs: Sequence[tuple[Outcomes, Outcomes]], done: int, most: int) -> list[bool]:
    """For each cell with its baseline's cell whether more trials can still make their difference a claim.

    It is False if the difference is claimed already, and if no outcome of the trials that are left would make it one,
    not even with the outcomes of all other comparisons that help it most.

    Args:
        done: rounds that have been made, one trial of each undecided cell in each.
        most: the most rounds that there may be.
    """
    now = p_values(pairs)
    claimed = [p < LEVEL for p in holm(now)]
    best = [p if sure else min(p, _best(*pair, most - done)) for p, sure, pair in zip(now, claimed, pairs, strict=True)]
    while True:
        can = [p < LEVEL for p in holm(best)]
        if all(is_open or p == best_case for is_open, p, best_case in zip(can, now, best, strict=True)):
            return [is_open and not sure for is_open, sure in zip(can, claimed, strict=True)]
        # What cannot be claimed gets no more trials, and so helps no other through the correction.
        best = [best_case if is_open else p for is_open, p, best_case in zip(can, now, best, strict=True)]


def least_rounds(comparisons: int) -> int:
    """How many trials of each cell it takes until "all passed" against "none passed" is claimed for all comparisons."""
    rounds = 1
    while comparisons >= LEVEL * e_value(rounds, rounds, 0, rounds):
        rounds += 1
    return rounds


def _log_mixture(passed: int, trials: int) -> float:
    return _log_beta(passed + PRIOR, trials - passed + PRIOR) - _log_beta(PRIOR, PRIOR)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _greatest(cell: Outcomes, baseline: Outcomes) -> float:
    """The greatest e-value that a look after any round gave."""
    greatest, counts = 1.0, [0, 0, 0, 0]
    for number in sorted({*cell, *baseline}):
        for place, outcomes in enumerate((cell, baseline)):
            if number in outcomes:
                counts[2 * place] += outcomes[number]
                counts[2 * place + 1] += 1
        greatest = max(greatest, e_value(*counts))
    return greatest


def _best(cell: Outcomes, baseline: Outcomes, left: int) -> float:
    """The least p that so many more trials of both can give: all of one pass, and none of the other."""
    passed, trials = sum(cell.values()), len(cell)
    other_passed, other_trials = sum(baseline.values()), len(baseline)
    apart = (
        e_value(passed + left, trials + left, other_passed, other_trials + left),
        e_value(passed, trials + left, other_passed + left, other_trials + left),
    )
    return 1 / max(1.0, *apart)
