"""When a comparison is decided: a test that stays valid if you look at it after every round of trials, and stop when
you like.

Fisher's test is for a number of trials that was fixed beforehand: if you look again and again, and stop when you see a
difference, you will see one sooner or later. The test here bounds the chance of that over all looks together.

A cell and its baseline's cell have chances of a pass that nobody knows. A block is one trial of each, made in the same
round. Before a block the two chances are estimated from the blocks before it, and the block's e-value is the
probability of its outcome under these two estimates, divided by its probability if both chances were the mean of the
two. If both chances are the same, whatever they are, the expectation of that is at most 1, also if they drift from
block to block. So the product over all blocks is a supermartingale that begins at 1, the chance that it ever comes to N
or more is at most 1/N (Ville's inequality), and 1 / (the greatest product so far) is a p value at every moment,
whatever the reason to stop. Holm's correction of such p values bounds the chance of even one false claim in the whole
matrix, as it does for Fisher's.

Two runs that were not made in the same rounds have no blocks. For them the test uses the ratio of two probabilities of
the counts: under any two chances, weighted by a Beta distribution, and under the one chance that makes them likeliest.

Sources: R. J. Turner, A. Ly and P. D. Grünwald, "Generic E-variables for exact sequential k-sample tests that allow for
optional stopping", Journal of Statistical Planning and Inference 230 (2024), arXiv 2106.02693, section 3; J. Ville,
"Étude critique de la notion de collectif" (1939); for counts: L. Wasserman, A. Ramdas and S. Balakrishnan, "Universal
inference", Proceedings of the National Academy of Sciences 117 (2020) 16880-16890.

Pure arithmetic: knows outcomes by round, nothing of where they come from.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.results.statistics import LEVEL, holm

#: What Beta distribution the chances of a pass have a priori. The guarantee holds for any. This one of blocks is for
#: cells that pass nearly always: simulated, 1.0 against 0.9 is claimed after a median of 56 rounds, 1.0 against 0.7
#: after 19.
PASSES, FAILURES = 0.5, 0.18
#: For counts.
PRIOR = 0.18

#: The outcomes of a cell: the round of each trial that was judged -> whether it passed.
Outcomes = Mapping[int, bool]


@functools.cache
def e_value(passed: int, trials: int, other_passed: int, other_trials: int) -> float:
    """The evidence of counts against the same chance of a pass in two cells; 1 is none."""
    together, of = passed + other_passed, trials + other_trials
    best = sum(count * math.log(count / of) for count in (together, of - together) if count)
    return math.exp(_log_mixture(passed, trials) + _log_mixture(other_passed, other_trials) - best)


def anytime_p(passed: int, trials: int, other_passed: int, other_trials: int) -> float:
    """The p of counts that were not made in the same rounds, which stands whenever the trials were stopped."""
    return min(1.0, 1 / e_value(passed, trials, other_passed, other_trials))


def p_values(pairs: Sequence[tuple[Outcomes, Outcomes]]) -> list[float]:
    """For each cell with its baseline's cell the p value, which stands at whatever moment the trials were stopped."""
    return [min(1.0, 1 / evidence(*pair).greatest) for pair in pairs]


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
    total, rounds = Evidence(), 0
    while comparisons >= LEVEL * total.greatest:
        total, rounds = total.after(True, False), rounds + 1
    return rounds


def _log_mixture(passed: int, trials: int) -> float:
    return _log_beta(passed + PRIOR, trials - passed + PRIOR) - _log_beta(PRIOR, PRIOR)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


@dataclass(frozen=True)
class Evidence:
    """What blocks say so far.

    Attributes:
        blocks: how many there were.
        passed, other_passed: how many trials of the cell, and of the baseline's, passed in them.
        product: of the blocks' e-values; greatest: the greatest that it ever was.
    """

    blocks: int = 0
    passed: int = 0
    other_passed: int = 0
    product: float = 1.0
    greatest: float = 1.0

    def after(self, passed: bool, other_passed: bool) -> Evidence:
        """The evidence after one more block."""
        chance, other = (
            (count + PASSES) / (self.blocks + PASSES + FAILURES) for count in (self.passed, self.other_passed)
        )
        same = (chance + other) / 2
        apart = (chance if passed else 1 - chance) * (other if other_passed else 1 - other)
        together = (same if passed else 1 - same) * (same if other_passed else 1 - same)
        product = self.product * apart / together
        return Evidence(
            self.blocks + 1,
            self.passed + passed,
            self.other_passed + other_passed,
            product,
            max(self.greatest, product),
        )


def evidence(cell: Outcomes, baseline: Outcomes) -> Evidence:
    """What the rounds say that both have a trial of; one that was lost makes no block."""
    total = Evidence()
    for number in sorted(cell.keys() & baseline.keys()):
        total = total.after(cell[number], baseline[number])
    return total


def _best(cell: Outcomes, baseline: Outcomes, left: int) -> float:
    """The least p that so many more blocks can give: all trials of one pass, and none of the other."""
    ways = [evidence(cell, baseline)] * 2
    for _ in range(left):
        ways = [ways[0].after(True, False), ways[1].after(False, True)]
    return 1 / max(way.greatest for way in ways)
