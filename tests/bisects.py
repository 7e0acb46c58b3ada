"""Synthetic bisects: culprits that are known, outcomes by the toss of a coin, and a plain bisect to compare with."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from functools import cache

from harness.bisect.course import Case as course_case
from harness.bisect.course import Course, Seen
from harness.bisect.search import Costs

#: A trial's time is 1; a build takes so many.
BUILD = 5.0


@dataclass(frozen=True)
class Case:
    """What is to be found: the culprit, the chances of the outcome without it and with it, and what needs what."""

    units: int
    culprit: frozenset[int]
    p0: float
    p1: float
    needs: frozenset[tuple[int, int]] = frozenset()
    prefixes: bool = False

    def builds(self, subset):
        return all(v in subset for u, v in self.needs if u in subset)

    def right(self):
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
    def trials(self):
        return len(self.course.seen)

    @property
    def answer(self):
        return self.course.result.answer


def bisect(case, confidence=0.95, seed=0, build=BUILD, most=40):
    """A bisect, with coins for guests."""
    rng = random.Random(seed)
    course = Course(course_case(case.units, case.prefixes, confidence=confidence, most=most))
    current = None
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
            course.saw(Seen(subset, *(("crash", "panic: boom") if shown else ("pass", "as expected"))))
            current = subset


def draw(rng, kind="any", chances=None):
    """A case: `kind` is any, pair, needs or prefixes; `chances` are p0 and p1, else they are drawn too."""
    units = round(2 ** rng.uniform(0, 6))
    size = 2 if units > 1 and (kind == "pair" or (kind == "any" and rng.random() < 0.3)) else 1
    p0 = rng.choice([0, 0, 0, 0.05, 0.1, 0.25, 0.5])
    p1 = rng.choice([p for p in (0.33, 0.5, 0.75, 0.9, 1.0) if p >= p0 + 0.3])
    p0, p1 = chances or (p0, p1)
    needs = frozenset()
    if kind == "needs" and units > 2:
        needs = frozenset(tuple(rng.sample(range(units), 2)) for _ in range(rng.randint(1, 3)))
    return Case(units, frozenset(rng.sample(range(units), size)), p0, p1, needs, kind == "prefixes")


@cache
def repeats(p0, p1, error):
    """How many trials, counted against the best threshold, tell p0 from p1 with such an error on either side."""
    number = 1
    while True:
        for least in range(1, number + 1):
            missed = sum(math.comb(number, k) * p1**k * (1 - p1) ** (number - k) for k in range(least))
            false = sum(math.comb(number, k) * p0**k * (1 - p0) ** (number - k) for k in range(least, number + 1))
            if max(missed, false) <= error:
                return number
        number += 1


def plain(case, confidence=0.95):
    """The trials of a plain bisect that knows p0 and p1: it looks at both ends and halves the units until one is left,
    each time with as many trials as it takes to be right in all steps together with that confidence."""
    steps = math.ceil(math.log2(case.units)) if case.units > 1 else 0
    looks = 2 + len(case.culprit) * (steps + 1)
    return looks * repeats(case.p0, case.p1, (1 - confidence) / looks)


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
    def spread(self):
        """How far the share of right answers may be from what was claimed, once in a thousand times."""
        return 3.1 * math.sqrt(self.claimed * (1 - self.claimed) / self.found)


def many(kind, number, seed=1, chances=None):
    """So many bisects of cases drawn at random. Those that see no difference at the ends say nothing, and are left out
    of all but the count."""
    rng = random.Random(seed)
    cases = [draw(rng, kind, chances) for _ in range(number)]
    made = [(case, bisect(case, seed=place)) for place, case in enumerate(cases)]
    made = [(case, one) for case, one in made if one.answer]
    right = sum((case.culprit if case.prefixes else case.right()) in one.answer.alternatives for case, one in made)
    return Many(
        len(made),
        right / len(made),
        sum(one.answer.probability for _, one in made) / len(made),
        sum(one.trials for _, one in made) / len(made),
        sum(plain(case) for case, _ in made) / len(made),
        sum(one.builds for _, one in made) / len(made),
    )
