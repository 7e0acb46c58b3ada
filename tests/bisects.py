"""Synthetic bisects: culprits that are known, outcomes by the toss of a coin, and a plain bisect to compare with."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from functools import cache

from harness.bisect.search import Costs, Search

#: A trial's time is 1; a build takes so many.
BUILD = 10.0


@dataclass(frozen=True)
class Case:
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
class Result:
    answer: object
    trials: int
    builds: int
    ends: int
    none: float


def bisect(case, confidence=0.95, seed=0, build=BUILD, most=40, sure=0.9):
    """A bisect as harness/bisect/run.py makes it, with coins for guests."""
    rng = random.Random(seed)
    search = Search(case.units, case.prefixes)
    whole, nothing = frozenset(range(case.units)), frozenset()
    built = {whole, nothing}
    search.builds(whole)
    failed = 0
    trials = 0
    current = None

    def trial(subset):
        nonlocal trials
        trials += 1
        search.saw(subset, rng.random() < (case.p1 if case.culprit <= subset else case.p0))

    while search.none > 1 - sure and trials < 2 * most:
        trial(whole)
        trial(nothing)
    ends = trials
    if search.none > 1 - sure:
        return Result(None, trials, len(built) + failed, ends, search.none)
    while True:
        answer = search.answer()
        if answer.probability >= confidence:
            (first, *_) = answer.alternatives
            if case.prefixes or first in built:
                return Result(answer, trials, len(built) + failed, ends, search.none)
            chosen = first
        elif found := search.choose(Costs(1.0, build, {one: float(one != current) for one in built})):
            chosen, _ = found
        else:
            return Result(answer, trials, len(built) + failed, ends, search.none)
        if chosen not in built:
            if not case.builds(chosen):
                search.fails(chosen)
                failed += 1
                continue
            built.add(chosen)
            search.builds(chosen)
            if answer.probability >= confidence:
                continue
        current = chosen
        trial(chosen)


def draw(rng, kind="any", most=64):
    units = min(most, max(1, round(2 ** rng.uniform(0, 6))))
    size = 2 if units > 1 and (kind == "pair" or (kind == "any" and rng.random() < 0.3)) else 1
    p0 = rng.choice([0, 0, 0, 0.05, 0.1, 0.25, 0.5])
    p1 = rng.choice([p for p in (0.33, 0.5, 0.75, 0.9, 1.0) if p >= p0 + 0.3])
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
