"""Synthetic bisects: culprits that are known, outcomes by the toss of a coin, and a plain bisect to compare with."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from functools import cache

from harness.bisect.course import Case as course_case
from harness.bisect.course import Course, Seen
from harness.bisect.search import Answer, Costs, Subset

#: A trial's time is 1; a build takes so many.
BUILD = 5.0
#: How sure all bisects are to be.
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Case:
    """What is to be found: the culprit, the chances of the outcome without it and with it, and what needs what."""

    units: int
    culprit: frozenset[int]
    p0: float
    p1: float
    needs: frozenset[tuple[int, int]] = frozenset()
    prefixes: bool = False

    def builds(self, subset: Subset) -> bool:
        """Whether a set can be built."""
        return all(v in subset for u, v in self.needs if u in subset)

    def right(self) -> Subset:
        """The culprit with all that it needs."""
        found = set(self.culprit)
        while more := {v for u, v in self.needs if u in found} - found:
            found |= more
        return frozenset(found)


@dataclass
class Done:
    """What a bisect came to; `course` is the whole of it."""

    course: Course
    builds: int

    @property
    def trials(self) -> int:
        """How many it took."""
        return len(self.course.seen)

    @property
    def answer(self) -> Answer | None:
        """What was found."""
        return self.course.result.answer if self.course.result else None


def bisect(case: Case, seed: int = 0, build: float = BUILD, most: int = 40) -> Done:
    """A bisect, with coins for guests."""
    rng = random.Random(seed)
    course = Course(course_case(case.units, case.prefixes, confidence=CONFIDENCE, most=most))
    current: Subset | None = None
    while True:
        costs = Costs(1.0, build, {subset: float(subset != current) for subset in course.built})
        subset = course.next(costs)
        if subset is None:
            return Done(course, len(course.built) + len(course.failed))
        if subset not in course.built and not case.builds(subset):
            course.fails(subset, "it does not compile")
        elif subset not in course.built:
            course.builds(subset)
        else:
            shown = rng.random() < (case.p1 if case.culprit <= subset else case.p0)
            verdict, title = ("crash", "panic: boom") if shown else ("pass", "as expected")
            course.saw(Seen(subset, verdict, title))
            current = subset


def draw(rng: random.Random, kind: str = "any", chances: tuple[float, float] | None = None) -> Case:
    """A case: `kind` is any, pair, needs or prefixes; `chances` are p0 and p1, else they are drawn too."""
    units = round(2 ** rng.uniform(0, 6))
    size = 2 if units > 1 and (kind == "pair" or (kind == "any" and rng.random() < 0.3)) else 1
    p0 = rng.choice([0.0, 0.0, 0.0, 0.05, 0.1, 0.25, 0.5])
    p1 = rng.choice([p for p in (0.33, 0.5, 0.75, 0.9, 1.0) if p >= p0 + 0.3])
    p0, p1 = chances or (p0, p1)
    needs: set[tuple[int, int]] = set()
    for _ in range(rng.randint(1, 3) if kind == "needs" and units > 2 else 0):
        one, other = rng.sample(range(units), 2)
        needs.add((one, other))
    return Case(units, frozenset(rng.sample(range(units), size)), p0, p1, frozenset(needs), kind == "prefixes")


@cache
def repeats(p0: float, p1: float, error: float) -> int:
    """How many trials, counted against the best threshold, tell p0 from p1 with such an error on either side."""
    number = 1
    while True:
        for least in range(1, number + 1):
            missed = sum(math.comb(number, k) * p1**k * (1 - p1) ** (number - k) for k in range(least))
            false = sum(math.comb(number, k) * p0**k * (1 - p0) ** (number - k) for k in range(least, number + 1))
            if max(missed, false) <= error:
                return number
        number += 1


def plain(case: Case) -> int:
    """The trials of a plain bisect that knows p0 and p1: it looks at both ends and halves the units until one is left.
    Of hunks it looks then whether that one does it alone, and if not, halves again for the other one. Each look takes
    as many trials as it takes to be right in all together with the same confidence."""
    steps = math.ceil(math.log2(case.units)) if case.units > 1 else 0
    looks = 2 + (steps if case.prefixes else len(case.culprit) * (steps + 1))
    return looks * repeats(case.p0, case.p1, (1 - CONFIDENCE) / looks)


@dataclass(frozen=True)
class Many:
    """Many bisects: how many found something; the share of right answers, and what was claimed; trials a bisect."""

    found: int
    right: float
    claimed: float
    trials: float
    plain: float
    builds: float

    @property
    def spread(self) -> float:
        """How far the share of right answers may be from what was claimed, once in a thousand times."""
        return 3.1 * math.sqrt(self.claimed * (1 - self.claimed) / self.found)


def many(kind: str, number: int, seed: int = 1, chances: tuple[float, float] | None = None) -> Many:
    """So many bisects of cases drawn at random. Those that see no difference at the ends say nothing, and are left out
    of all but the count."""
    rng = random.Random(seed)
    cases = [draw(rng, kind, chances) for _ in range(number)]
    made = [(case, bisect(case, seed=place)) for place, case in enumerate(cases)]
    answers = [(case, one, one.answer) for case, one in made if one.answer]
    right = sum((case.culprit if case.prefixes else case.right()) in said.alternatives for case, _, said in answers)
    return Many(
        len(answers),
        right / len(answers),
        sum(said.probability for _, _, said in answers) / len(answers),
        sum(one.trials for _, one, _ in answers) / len(answers),
        sum(plain(case) for case, _, _ in answers) / len(answers),
        sum(one.builds for _, one, _ in answers) / len(answers),
    )
