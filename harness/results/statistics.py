"""How sure a count is: an interval for k of n, a test between two counts, the correction for many such tests.

Knows numbers only. The sums are done in whole numbers, so that two tables that are equally likely are seen to be; the
tests hold them against SciPy, whose import takes longer than most commands. Answers are remembered, because the cells
of a big matrix hold few different counts.
"""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

#: A difference is claimed when its corrected p is below this.
LEVEL = 0.05
#: A difference that is there is to be found with this probability.
POWER = 0.8
#: A normal deviate is within this of the mean with a probability of 95 %.
_DEVIATE = NormalDist().inv_cdf(0.975)


@functools.cache
def wilson(passed: int, trials: int) -> tuple[float, float]:
    """The 95 % score interval for the chance of a pass, after `passed` of `trials`.

    It keeps within 0 and 1 and says something useful at 0 of n and n of n, where the textbook interval has no width.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal of the
    American Statistical Association 22 (1927) 209-212; without continuity correction.

    Raises:
        ValueError: there are no trials, or more passes than trials.
    """
    if not trials:
        raise ValueError("no trials")
    _check(passed, trials)
    square = _DEVIATE**2
    middle = (passed + square / 2) / (trials + square)
    half = _DEVIATE / (trials + square) * math.sqrt(passed * (trials - passed) / trials + square / 4)
    return max(0.0, middle - half), min(1.0, middle + half)  # rounding may lead out of these


def difference_interval(count: int, trials: int, other_count: int, other_trials: int) -> tuple[float, float]:
    """The 95 % interval of the difference of two chances, the first less the second.

    Source: R. G. Newcombe, "Interval estimation for the difference between independent proportions: comparison of
    eleven methods", Statistics in Medicine 17 (1998) 873-890, method 10: from Wilson's intervals of the two.

    Raises:
        ValueError: as `wilson`.
    """
    low, high = wilson(count, trials)
    other_low, other_high = wilson(other_count, other_trials)
    chance, other = count / trials, other_count / other_trials
    difference = chance - other
    return (
        difference - math.hypot(chance - low, other_high - other),
        difference + math.hypot(high - chance, other - other_low),
    )


@functools.cache
def fisher(passed: int, trials: int, other_passed: int, other_trials: int) -> float:
    """The two-sided p of Fisher's exact test: how often chance alone parts two cells at least as far as seen.

    Source: R. A. Fisher, "Statistical Methods for Research Workers", 5th ed. (1934), section 21.02; two-sided as in R
    and SciPy: the sum over all tables with the same margins that are no likelier than the one seen.

    Raises:
        ValueError: a count is negative, or there are more passes than trials.
    """
    _check(passed, trials)
    _check(other_passed, other_trials)
    both = passed + other_passed
    seen = math.comb(trials, passed) * math.comb(other_trials, other_passed)
    least, most = max(0, both - other_trials), min(both, trials)
    ways = math.comb(trials, least) * math.comb(other_trials, both - least)
    counted = 0
    for number in range(least, most + 1):  # of passes in the first cell
        if ways <= seen:
            counted += ways
        ways = ways * (trials - number) * (both - number) // ((number + 1) * (other_trials - both + number + 1))
    return counted / math.comb(trials + other_trials, both)


def _check(passed: int, trials: int) -> None:
    """Raise ValueError if so many trials cannot have so many passes."""
    if not 0 <= passed <= trials:
        raise ValueError(f"{passed} of {trials} passed")


@functools.cache
def least_p(passed: int, trials: int, other_passed: int, other_trials: int) -> float:
    """The least p that Fisher's test can give for two cells with these numbers of trials and as many passes in all."""
    both = passed + other_passed
    ends = max(0, both - other_trials), min(both, trials)
    return min(fisher(end, trials, both - end, other_trials) for end in ends)


def holm(p_values: Sequence[float], least: Sequence[float] | None = None) -> list[float]:
    """The p values corrected for their number, in the order given: the step-down method, each at most 1.

    The chance that even one of the differences claimed at a level is false stays below that level, whatever the tests
    have to do with each other (cells share a baseline, so they are not independent). A test whose p could not have come
    out as small as another's, such as that of two cells that always pass, adds nothing to the chance that one of them
    does, and is not counted against that one.

    Sources: S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6
    (1979) 65-70; R. E. Tarone, "A modified Bonferroni method for discrete data", Biometrics 46 (1990) 515-522; G.
    Hommel and F. Krummenauer, "Improvements and modifications of Tarone's multiple test procedure for discrete data",
    Biometrics 54 (1998) 673-681.

    Args:
        least: the least p that each test could have given; None if any p can come of each.
    """
    corrected = [1.0] * len(p_values)
    largest = 0.0
    could = sorted(least or [0.0] * len(p_values))
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        p = p_values[index]
        counted = bisect.bisect_right(could, p) - rank  # those before could come to their own p, and so to this one
        largest = max(largest, min(1.0, counted * p))
        corrected[index] = largest
    return corrected


def tests_counted(tests: int, contenders: int) -> int:
    """How many tests Holm's first step would count for a test that could come out as clear, beside the contenders,
    which all could; the whole number of tests is the most."""
    return min(tests, contenders + 1)


def least_trials(comparisons: int) -> int:
    """How many trials each cell needs before even "all passed" against "none passed" could be claimed.

    That table's two-sided p is 2 / C(2n, n), and Holm's first step multiplies it by the number of comparisons.
    """
    trials = 1
    while 2 * comparisons >= LEVEL * math.comb(2 * trials, trials):
        trials += 1
    return trials


class Stratum(NamedTuple):
    """A cell and the cell that it is compared with."""

    passed: int
    trials: int
    other_passed: int
    other_trials: int


@functools.cache
def stratified(strata: tuple[Stratum, ...]) -> float:
    """The two-sided p of the exact test for one effect common to many pairs of cells: how often chance alone parts the
    two sides at least as far as seen, when within each pair passes and failures are shuffled.

    A pair whose trials all ended alike says nothing of the effect, however many there are. With one trial on each
    side of every pair this is the sign test of the pairs that differ.

    Source: C. R. Mehta, N. R. Patel and R. Gray, "Computing an exact confidence interval for the common odds ratio in
    several 2 x 2 contingency tables", Journal of the American Statistical Association 80 (1985) 969-973; two-sided as
    R's mantelhaen.test(exact = TRUE).

    Args:
        strata: one for each pair of cells.

    Raises:
        ValueError: as `fisher` does.
    """
    chances, seen = np.ones(1), 0
    for passed, trials, other_passed, other_trials in strata:
        _check(passed, trials)
        _check(other_passed, other_trials)
        both, of = passed + other_passed, trials + other_trials
        least, most = max(0, both - other_trials), min(both, trials)
        if least == most:
            continue
        ways = [math.comb(trials, number) * math.comb(other_trials, both - number) for number in range(least, most + 1)]
        chances = np.convolve(chances, [way / math.comb(of, both) for way in ways])
        seen += passed - least
    # Two outcomes that are equally likely may differ by a rounding error (the same allowance as R's).
    return min(1.0, float(chances[chances <= chances[seen] * (1 + 1e-7)].sum()))


@functools.cache
def interaction(first: Stratum, second: Stratum) -> float:
    """The two-sided p of the difference of two differences: the change of the chance of a pass from one side to the
    other in one pair of cells, against that in another pair.

    The limits of the difference come from those of the four chances by squares, and p is the least level at which they
    leave 0 out. Exact limits make the test a conservative one: of 5 to 30 trials a cell with equal differences it
    claims another one in at most 3.9 % at 5 %. (Zelen's conditional test says nothing of a pair that always passes.)

    Sources: G. Y. Zou and A. Donner, "Construction of confidence limits about effect measures: a general approach",
    Statistics in Medicine 27 (2008) 1693-1702; C. J. Clopper and E. S. Pearson, "The use of confidence or fiducial
    limits illustrated in the case of the binomial", Biometrika 26 (1934) 404-413.

    Raises:
        ValueError: there is a cell without trials, or as `fisher` does.
    """
    (passed, trials, other_passed, other_trials), (passed_2, trials_2, other_passed_2, other_trials_2) = first, second
    up, down = (
        [(passed, trials), (other_passed_2, other_trials_2)],
        [(other_passed, other_trials), (passed_2, trials_2)],
    )
    for k, n in (*up, *down):
        _check(k, n)
        if not n:
            raise ValueError("no trials")
    difference = sum(k / n for k, n in up) - sum(k / n for k, n in down)
    if difference < 0:
        up, down, difference = down, up, -difference

    def leaves_out(logarithm: float) -> bool:
        """Whether the limits at a level leave 0 out."""
        tail = 10**logarithm / 2
        below = sum((k / n - _least_chance(k, n, tail)) ** 2 for k, n in up)
        above = sum((1 - _least_chance(n - k, n, tail) - k / n) ** 2 for k, n in down)
        return difference > math.sqrt(below + above) + 1e-9

    if difference < 1e-9 or not leaves_out(0.0):
        return 1.0
    low, high = -15.0, 0.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (low, middle) if leaves_out(middle) else (middle, high)
    return float(10**high)


def _least_chance(passed: int, trials: int, tail: float) -> float:
    """The chance of a pass with which so many passes or more come with a probability of `tail`."""
    if not passed:
        return 0.0
    ways = [math.log(math.comb(trials, number)) for number in range(passed, trials + 1)]
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        yes, no = math.log(middle), math.log1p(-middle)
        exponents = (way + (passed + at) * yes + (trials - passed - at) * no for at, way in enumerate(ways))
        low, high = (low, middle) if sum(map(math.exp, exponents)) > tail else (middle, high)
    return low


def failures_needed(cells: int, trials: int, tests: int) -> int | None:
    """How many failures, spread over the cells, are a claim if the baseline's cells never fail.

    Args:
        cells: pairs of cells that are compared together.
        trials: of each cell, on either side.
        tests: how many such tests are corrected for, at Holm's first step.

    Returns:
        The least number, or None if not even failures alone are a claim.
    """

    def p_value(failures: int) -> float:
        each, more = divmod(failures, cells)
        passes = (trials - each - (place < more) for place in range(cells))
        return stratified(tuple(Stratum(passed, trials, trials, trials) for passed in passes))

    numbers = range(1, cells * trials + 1)
    place = bisect.bisect_left(numbers, True, key=lambda failures: p_value(failures) * tests < LEVEL)
    return numbers[place] if place < len(numbers) else None


@functools.cache
def smallest_difference(cells: int, trials: int, tests: int) -> float | None:
    """The smallest chance of a failure that is claimed with a probability of POWER, if the baseline never fails.

    Args:
        cells, trials, tests: as of `failures_needed`.

    Returns:
        A share of the trials, rounded up to a hundredth, or None if nothing could have been claimed.
    """
    needed = failures_needed(cells, trials, tests)
    if needed is None:
        return None
    of = cells * trials
    for hundredths in range(1, 101):
        chance = hundredths / 100
        missed = sum(math.comb(of, k) * chance**k * (1 - chance) ** (of - k) for k in range(needed))
        if missed <= 1 - POWER:
            return chance
    return None


def trials_for(difference: float, tests: int) -> int | None:
    """How many trials a cell takes so that `smallest_difference` of this cell alone is at most `difference`, corrected
    for so many tests; None if more than 1000."""
    numbers = range(1, 1001)

    def enough(trials: int) -> bool:
        smallest = smallest_difference(1, trials, tests)
        return smallest is not None and smallest <= difference

    place = bisect.bisect_left(numbers, True, key=enough)
    return numbers[place] if place < len(numbers) else None
