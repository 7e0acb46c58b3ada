"""Synthetic bisects: known culprits, random outcomes, and a plain bisect to compare with."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from functools import cache

from harness.bisect import course as courses
from harness.bisect.course import Course, JudgedTrial
from harness.bisect.search import Answer, Costs, Subset

#: The time of a build, where a trial's is 1.
BUILD = 5.0
#: The probability that the answer of each bisect must have.
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Case:
    """A problem: the culprit, the probabilities of the outcome without and with it, and the needs between units.

    Attributes:
        grades: of graded effects, sets of units with the probability of the outcome in sets that have them; the last
            one that a set has counts.
    """

    units: int
    culprit: frozenset[int]
    p0: float
    p1: float
    needs: frozenset[tuple[int, int]] = frozenset()
    prefixes: bool = False
    grades: tuple[tuple[Subset, float], ...] = ()

    def rate(self, subset: Subset) -> float:
        """The probability of the outcome in a set."""
        rates = [rate for units, rate in self.grades if units <= subset]
        return rates[-1] if rates else self.p1 if self.culprit <= subset and not self.grades else self.p0

    def builds(self, subset: Subset) -> bool:
        """Whether a set can be built."""
        return all(v in subset for u, v in self.needs if u in subset)

    def right(self) -> Subset:
        """The right answer: the culprit with all units that it needs."""
        units = set(self.culprit)
        while more := {v for u, v in self.needs if u in units} - units:
            units |= more
        return frozenset(units)


@dataclass
class Bisect:
    """A finished bisect, the number of builds that it took, and that of the trials that checked its answer."""

    course: Course
    builds: int
    checks: int = 0

    @property
    def trials(self) -> int:
        """The number of trials that it took."""
        return len(self.course.trials)

    @property
    def answer(self) -> Answer | None:
        """The answer; None if no difference was found."""
        return self.course.result.answer if self.course.result else None


def bisect(case: Case, seed: int = 0, build: float = BUILD, max_trials: int = 40) -> Bisect:
    """Make a bisect of a case, with random outcomes."""
    rng = random.Random(seed)
    course = Course(courses.Case(case.units, case.prefixes, confidence=CONFIDENCE, max_trials=max_trials))
    current: Subset | None = None
    searched: int | None = None
    while True:
        if searched is None and course.question and course.search.answer().probability >= CONFIDENCE:
            searched = len(course.trials)
        costs = Costs(1.0, build, {subset: float(subset != current) for subset in course.built})
        subset = course.next(costs)
        if subset is None:
            return Bisect(
                course, len(course.built) + len(course.failed), len(course.trials) - (searched or len(course.trials))
            )
        if subset not in course.built and not case.builds(subset):
            course.fails(subset, "it does not compile")
        elif subset not in course.built:
            course.builds(subset)
        else:
            failed = rng.random() < case.rate(subset)
            verdict, title = ("crash", "panic: boom") if failed else ("pass", "as expected")
            course.record(JudgedTrial(subset, verdict, title))
            current = subset


def draw(rng: random.Random, kind: str = "any", chances: tuple[float, float] | None = None) -> Case:
    """A random case of a kind: any, pair, needs or prefixes; with the given p0 and p1, or random ones."""
    units = round(2 ** rng.uniform(0, 6))
    size = 2 if units > 1 and (kind == "pair" or (kind == "any" and rng.random() < 0.3)) else 1
    p0 = rng.choice([0.0, 0.0, 0.0, 0.05, 0.1, 0.25, 0.5])
    p1 = rng.choice([p for p in (0.33, 0.5, 0.75, 0.9, 1.0) if p >= p0 + 0.3])
    p0, p1 = chances or (p0, p1)
    needs: set[tuple[int, int]] = set()
    for _ in range(rng.randint(1, 3) if kind == "needs" and units > 2 else 0):
        unit, needed = rng.sample(range(units), 2)
        needs.add((unit, needed))
    return Case(units, frozenset(rng.sample(range(units), size)), p0, p1, frozenset(needs), kind == "prefixes")


@cache
def repeats(p0: float, p1: float, error: float) -> int:
    """How many trials, with the best threshold, tell p0 from p1 with at most this error on either side."""
    number = 1
    while True:
        for least in range(1, number + 1):
            missed = sum(math.comb(number, k) * p1**k * (1 - p1) ** (number - k) for k in range(least))
            false = sum(math.comb(number, k) * p0**k * (1 - p0) ** (number - k) for k in range(least, number + 1))
            if max(missed, false) <= error:
                return number
        number += 1


def plain(case: Case) -> int:
    """The trials of a plain bisect that knows p0 and p1.

    It tests both ends, and halves the units until one is left. Of hunks it then tests whether that one is the culprit
    alone, and if not, halves again for the second one. Each test takes as many trials as make all tests together right
    with the same confidence.
    """
    steps = math.ceil(math.log2(case.units)) if case.units > 1 else 0
    tests = 2 + (steps if case.prefixes else len(case.culprit) * (steps + 1))
    return tests * repeats(case.p0, case.p1, (1 - CONFIDENCE) / tests)


@dataclass(frozen=True)
class Summary:
    """Many bisects: how many have an answer, the share of right answers, their mean probability, and the means of the
    trials of the search, of those that checked its answer, of a plain bisect's trials, and of the builds."""

    answers: int
    right: float
    claimed: float
    trials: float
    checks: float
    plain: float
    builds: float

    @property
    def spread(self) -> float:
        """The deviation of the share of right answers that chance exceeds once in a thousand times."""
        return 3.1 * math.sqrt(self.claimed * (1 - self.claimed) / self.answers)


def many(kind: str, number: int, seed: int = 1, chances: tuple[float, float] | None = None) -> Summary:
    """Bisects of random cases. Those that see no difference between the ends have no answer, and do not count."""
    rng = random.Random(seed)
    cases = [draw(rng, kind, chances) for _ in range(number)]
    bisects = [(case, bisect(case, seed=place)) for place, case in enumerate(cases)]
    answered = [(case, search, search.answer) for case, search in bisects if search.answer]
    right = sum(case.right() in answer.alternatives for case, _, answer in answered)
    return Summary(
        len(answered),
        right / len(answered),
        sum(answer.probability for _, _, answer in answered) / len(answered),
        sum(search.trials - search.checks for _, search, _ in answered) / len(answered),
        sum(search.checks for _, search, _ in answered) / len(answered),
        sum(plain(case) for case, _, _ in answered) / len(answered),
        sum(search.builds for _, search, _ in answered) / len(answered),
    )
