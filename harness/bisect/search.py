"""The arithmetic of a bisect: which units are to blame, how sure that is, and which set of units to try next.

A unit is a hunk, a block or a commit. Some set of units, the culprit, causes an outcome: a build with the whole culprit
shows it with probability p1, other builds with p0 < p1. All three are unknown. A hypothesis is a culprit; its
probability is kept jointly with that of (p0, p1) on a grid, so that the trials also narrow down p0 and p1. Further
hypotheses are that each of two units causes the outcome alone, and that nothing makes a difference.

The next set is the one with most information for its cost: the mutual information between the outcomes of some trials
of it and whether it has the culprit, divided by the time that the trials and the build take. The posterior probability
of an answer holds for any choice of sets and any time to stop, because it is conditioned on all that was seen.

Sets that cannot be built are constraints, of the form "unit u needs unit v". Each pair has a probability. A build that
fails raises it; a build that succeeds with u and without v sets it to zero.

Pure arithmetic: knows units by their numbers, and nothing of patches, builds or guests. Sources: R. D. Nowak, "The
geometry of generalized binary search", IEEE Transactions on Information Theory 57 (2011), for noisy halving; D. V.
Lindley, "On a measure of the information provided by an experiment", Annals of Mathematical Statistics 27 (1956), for
the choice.
"""

from __future__ import annotations

import copy
import functools
import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
#: A build, by the numbers of the units in it.
Subset = frozenset[int]

#: The probabilities on the grid: nearly never and nearly always, and between them the middles of equal parts of the
#: arcsine (Jeffreys) distribution.
LEVELS: Floats = np.array([0.002, *np.sin(np.pi / 2 * (np.arange(9) + 0.5) / 9) ** 2, 0.998])
#: Their prior probabilities for p0 and for p1: most faults never occur without their cause, and many always with it.
_P0_PRIOR: Floats = np.array([0.35, *[0.65 / 10] * 10])
_P1_PRIOR: Floats = np.array([*[0.7 / 10] * 10, 0.3])
_PAIRS = [(low, high) for low, high in itertools.combinations(range(len(LEVELS)), 2)]
#: The pairs of p0 and p1 on the grid, and their prior probabilities.
P0: Floats = LEVELS[[low for low, _ in _PAIRS]]
P1: Floats = LEVELS[[high for _, high in _PAIRS]]
CHANCES: Floats = np.array([_P0_PRIOR[low] * _P1_PRIOR[high] for low, high in _PAIRS])
CHANCES /= CHANCES.sum()
CHANCES *= 0.8
CHANCES[_PAIRS.index((0, len(LEVELS) - 1))] += 0.2  # never without the culprit, always with it
#: The prior probabilities of a culprit of one, two and three units; of two units that each cause the outcome alone; of
#: all units together; and of no culprit. The share of hypotheses that a bisect cannot have goes to the others.
_SIZES = {1: 0.42, 2: 0.42, 3: 0.05}
_EITHER, _ALL, _NONE = 0.03, 0.005, 0.5
#: The numbers of units up to which culprits of two and of three units are hypotheses.
MOST_FOR_TWO, MOST_FOR_THREE = 200, 20
#: Numbers of trials for which the information is computed, to see whether a build is worth its time.
_AHEAD = (1, 4, 16)
#: The number of random orders of the units of which prefixes are candidates; and the shares of the probability that
#: these prefixes have.
_ORDERS = 8
_SHARES = (0.4, 0.55)
#: The probability from which a need is taken for a fact.
SURE = 0.99
#: The expected number of needs in a whole patch before any build has failed.
_NEEDS = 0.3
#: Information, in nats, below which a trial is not worth making.
_LEAST_INFORMATION = 1e-4


@dataclass(frozen=True)
class Answer:
    """The most probable culprit.

    Attributes:
        alternatives: the sets that may be the culprit and that no build can tell apart; in a bisect of hunks only one.
        probability: that one of them is the culprit.
        whole: all that is known is that the culprit has more than two (or three) units.
    """

    alternatives: tuple[Subset, ...]
    probability: float
    whole: bool = False


@dataclass(frozen=True)
class Costs:
    """What trials and builds cost, in any unit of time.

    Attributes:
        trial: the time of one trial.
        build: the time until the first trial of a set that is not built can begin.
        built: the same for each set that is built.
    """

    trial: float
    build: float
    built: Mapping[Subset, float]


class Choice(NamedTuple):
    """The set to try next, and the information of one trial of it, in nats."""

    subset: Subset
    information: float


class Needs:
    """Which units need which others to be built.

    Args:
        units: how many there are.
        sure: pairs (u, v): u cannot be built without v.
        likely: pairs that may be such, with their probabilities.
    """

    def __init__(self, units: int, sure: Iterable[tuple[int, int]], likely: Mapping[tuple[int, int], float]) -> None:
        pairs = max(1, units * (units - 1))
        self._prior: Floats = np.full((units, units), _NEEDS / pairs)
        for pair, chance in likely.items():
            self._prior[pair] = chance
        for pair in sure:
            self._prior[pair] = 1.0
        np.fill_diagonal(self._prior, 0.0)
        self._refuted: Bools = np.zeros((units, units), dtype=bool)
        self.failed: list[Subset] = []
        self.chance: Floats = self._prior.copy()

    def builds(self, has: Bools) -> None:
        """Take into account that a set was built: no unit in it needs a unit that it lacks."""
        self._refuted |= has[:, None] & ~has[None, :]
        self._update()

    def fails(self, subset: Subset) -> None:
        """Take into account that a set cannot be built: a unit in it needs a unit that it lacks."""
        self.failed.append(subset)
        self._update()

    def _update(self) -> None:
        """Apply Bayes' rule for each failure in turn, as if needs were independent. Twice: each affects the others."""
        chance = np.where(self._refuted, 0.0, self._prior)
        units = len(chance)
        for subset in self.failed * 2:
            has = mask(subset, units)
            rows, columns = np.flatnonzero(has), np.flatnonzero(~has)
            broken = chance[np.ix_(rows, columns)]
            fails = 1 - np.prod(1 - broken)
            if fails > 1e-12:
                chance[np.ix_(rows, columns)] = np.minimum(broken / fails, 1.0)
        self.chance = chance

    def feasible(self, sets: Bools) -> Floats:
        """The probability that each of some sets can be built."""
        logs = np.log1p(-np.minimum(self.chance, 1 - 1e-9))
        lacks = 1.0 - sets
        chances: Floats = np.exp(((sets.astype(float) @ logs) * lacks).sum(axis=1))
        return chances

    def closed(self, sets: Bools, least: float = SURE) -> Bools:
        """Some sets, each with all units that it needs with a probability above `least`."""
        needs = self.chance > least
        while needs.any():
            larger = sets | (sets @ needs)
            if (larger == sets).all():
                break
            sets = larger
        return sets

    def pruned(self, sets: Bools, least: float = SURE) -> Bools:
        """Some sets, each without the units that need, with a probability above `least`, a unit that it lacks."""
        needs = (self.chance > least).T
        while needs.any():
            smaller = sets & ~(~sets @ needs)
            if (smaller == sets).all():
                break
            sets = smaller
        return sets


def mask(subset: Iterable[int], units: int) -> Bools:
    """A set as a truth value for each of so many units."""
    has = np.zeros(units, dtype=bool)
    has[list(subset)] = True
    return has


def subset_of(has: Bools) -> Subset:
    """The set of a mask."""
    return frozenset(map(int, np.flatnonzero(has)))


class Search:
    """The probabilities of all hypotheses, and the choice of the next set.

    Args:
        units: how many there are, 1 or more.
        prefixes: only sets of the first units can be built, as of a series of commits. Then the culprit is one commit,
            the first that shows the outcome.
        needs: pairs (u, v): u cannot be built without v.
        likely: pairs that may be such, with their probabilities.
    """

    def __init__(
        self,
        units: int,
        prefixes: bool = False,
        needs: Iterable[tuple[int, int]] = (),
        likely: Mapping[tuple[int, int], float] | None = None,
    ) -> None:
        self.units, self.prefixes = units, prefixes
        self.needs = Needs(units, needs, likely or {})
        culprits = _culprits(units, prefixes)
        sizes = np.array([len(set(culprit)) for culprit in culprits])
        shares = {size: _SIZES[size] for size in _SIZES if (sizes == size).any()}
        two = not prefixes and 1 < units <= MOST_FOR_TWO
        either = list(itertools.combinations(range(units), 2)) if two else []
        #: The index of the hypothesis that the culprit is all units. Before it are the culprits of one to three units,
        #: after it the pairs of units that each cause the outcome alone.
        self._all = len(sizes)
        prior = np.zeros(len(sizes) + 1 + len(either))
        for size, share in shares.items():
            prior[: self._all][sizes == size] = share / (sizes == size).sum()
        if not prefixes and units > max(shares):
            prior[self._all] = _ALL
        prior[self._all + 1 :] = _EITHER / max(1, len(either))
        prior *= (1 - _NONE) / prior.sum()
        self._first, self._second, self._third = np.array(culprits).T
        self._pair_first, self._pair_second = np.array(either, dtype=int).reshape(-1, 2).T
        #: The probabilities of (culprit, p0 and p1), and of p if nothing makes a difference; their sum is 1.
        self._weights: Floats = prior[:, None] * CHANCES
        self._none: Floats = _NONE * (_P0_PRIOR + _P1_PRIOR) / 2
        self._trials = 0
        self._answer: Answer | None = None
        self.skipped: set[Subset] = set()

    # Trials and builds so far.

    def record(self, subset: Subset, shown: bool) -> None:
        """Take into account that a trial of a set showed the outcome, or did not."""
        inside = self._inside(mask(subset, self.units)[None, :])[0]
        p1, p0, p = (P1, P0, LEVELS) if shown else (1 - P1, 1 - P0, 1 - LEVELS)
        self._weights *= np.where(inside[:, None], p1, p0)
        self._none *= p
        total = self._weights.sum() + self._none.sum()
        self._weights /= total
        self._none /= total
        self._trials += 1
        self._answer = None

    def builds(self, subset: Subset) -> None:
        """Take into account that a set was built."""
        self.needs.builds(mask(subset, self.units))
        self._answer = None

    def fails(self, subset: Subset) -> None:
        """Take into account that a set cannot be built, or does not apply."""
        self.needs.fails(subset)
        self._answer = None

    def skip(self, subset: Subset) -> None:
        """Do not choose a set again, though it can be built."""
        self.skipped.add(subset)

    def given(self, subset: Subset, inside: bool) -> Search:
        """The search as it would be if it were known whether the culprit is inside a set."""
        other = copy.copy(self)
        other._answer = None
        fits = self._inside(mask(subset, self.units)[None, :])[0] == inside
        other._weights = self._weights * fits[:, None]
        other._none = self._none * (not inside)
        total = other._weights.sum() + other._none.sum() or 1.0
        other._weights, other._none = other._weights / total, other._none / total
        return other

    def inside(self, subset: Subset) -> float:
        """The probability that the culprit is inside a set."""
        return float(self._weights[self._inside(mask(subset, self.units)[None, :])[0]].sum())

    # Probabilities.

    @property
    def none(self) -> float:
        """The probability that nothing makes a difference."""
        return float(self._none.sum())

    def chances(self) -> tuple[float, float]:
        """The expected p0 and p1, if there is a difference."""
        weights = self._weights.sum(axis=0)
        whole = weights.sum() or 1.0
        return float(weights @ P0 / whole), float(weights @ P1 / whole)

    def blame(self) -> Floats:
        """The probability of each unit that it is part of the culprit."""
        belief = self._weights.sum(axis=1)
        blame = np.full(self.units, belief[self._all])
        for units, counts in self._columns():
            blame += np.bincount(units, weights=belief[: self._all] * counts, minlength=self.units)
        for column in (self._pair_first, self._pair_second):
            blame += np.bincount(column, weights=belief[self._all + 1 :], minlength=self.units)
        return blame

    def bits(self) -> float:
        """The entropy of what the culprit is, if there is one, in bits."""
        belief = self._weights.sum(axis=1)
        belief = belief[belief > 0] / (belief.sum() or 1.0)
        return float(-(belief * np.log2(belief)).sum())

    def alone(self, unit: int) -> float:
        """The probability that a unit causes the outcome, and that another one does so without it."""
        pairs = (self._pair_first == unit) | (self._pair_second == unit)
        return float(self._weights[self._all + 1 :][pairs].sum())

    def answer(self) -> Answer:
        """The most probable culprit, with all units that it needs."""
        if self._answer is None:
            self._answer = self._find_answer()
        return self._answer

    def _find_answer(self) -> Answer:
        belief = self._weights.sum(axis=1)
        whole = float(belief[self._all])
        # Of two units that each cause the outcome alone, each is an answer.
        for column in (self._pair_first, self._pair_second):
            belief[: self.units] += np.bincount(column, weights=belief[self._all + 1 :], minlength=self.units)
        order = np.argsort(-belief[: self._all])[:60]
        order = order[belief[order] >= belief[order[0]] / 1000]
        has = self._masks(order)
        if not self.prefixes:
            has = self.needs.closed(has)
        alike: dict[object, list[int]] = {}
        probability: dict[object, float] = {}
        for place, index in enumerate(order):
            key: object = self._group(int(self._first[index])) if self.prefixes else has[place].tobytes()
            alike.setdefault(key, []).append(place)
            probability[key] = probability.get(key, 0.0) + float(belief[index])
        best = max(probability, key=probability.__getitem__)
        if whole > probability[best]:
            return Answer((frozenset(range(self.units)),), whole, whole=True)
        subsets = [subset_of(has[place]) for place in alike[best]]
        return Answer(tuple(sorted(subsets, key=sorted)) if self.prefixes else (subsets[0],), probability[best])

    def _group(self, unit: int) -> int:
        """The first of the commits that no build can tell from this one, because the builds between them failed."""
        failed = {len(subset) for subset in self.needs.failed}
        while unit in failed:  # the build of all commits before this one
            unit -= 1
        return unit

    # What to try next.

    def choose(self, costs: Costs, only_built: bool = False) -> Choice | None:
        """The set whose trials have most information for their time; None if none has any.

        Args:
            costs: what trials and builds take.
            only_built: choose only among the sets that are built.
        """
        built = np.array([mask(subset, self.units) for subset in costs.built], dtype=bool).reshape(-1, self.units)
        setup = np.fromiter(costs.built.values(), dtype=float)
        has, feasible = built, np.ones(len(built))
        if not only_built:
            unbuilt = self._candidates()
            has = np.concatenate([built, unbuilt])
            setup = np.append(setup, np.full(len(unbuilt), costs.build))
            chance = np.ones(len(unbuilt)) if self.prefixes else self.needs.feasible(unbuilt)
            feasible = np.append(feasible, chance)
        if not len(has):
            return None
        information = self._information(has)
        worth = np.max([information[ahead] / (setup + ahead * costs.trial) for ahead in _AHEAD], axis=0) * feasible
        worth[information[_AHEAD[-1]] < _LEAST_INFORMATION] = 0.0
        for place in np.argsort(-worth, kind="stable"):
            if worth[place] <= 0:
                break
            subset = subset_of(has[place])
            if subset not in self.needs.failed and subset not in self.skipped:
                return Choice(subset, float(information[1][place]))
        return None

    def _information(self, has: Bools) -> dict[int, Floats]:
        """By the number of trials, for each set: the mutual information, in nats, of their outcomes and of whether the
        culprit is inside the set, outside of it, or does not exist."""
        likely = np.flatnonzero(self._weights.sum(axis=1) > 1e-6)
        inside = self._inside(has, likely).astype(float) @ self._weights[likely]
        outside = np.maximum(self._weights[likely].sum(axis=0) - inside, 0.0)
        information = {}
        for ahead in _AHEAD:
            binomials = _binomials(ahead)
            joint = np.empty((3, len(has), ahead + 1))
            joint[0], joint[1] = inside @ binomials.p1, outside @ binomials.p0
            joint[2] = self._none @ binomials.p
            information[ahead] = np.maximum(
                _entropy(joint.sum(axis=0)) + _entropy(joint.sum(axis=2).T) - _entropy(np.moveaxis(joint, 0, 1)), 0.0
            )
        return information

    def _candidates(self) -> Bools:
        """Sets that divide the probability about evenly, a row each."""
        if self.prefixes:
            return self._prefixes()
        belief = self._weights.sum(axis=1)
        either = belief[self._all + 1 :]
        belief = belief[: self._all]
        likely = np.flatnonzero(belief > 1e-8)
        if not len(likely):
            return np.zeros((0, self.units), dtype=bool)
        blame = self.blame()
        random = np.random.default_rng(self._trials)  # the same after the same trials, for bisects that are resumed
        plain = np.arange(self.units)
        orders = [plain, plain[::-1], np.argsort(-blame), np.argsort(blame)]
        for number in range(_ORDERS):  # neighbours often need each other: half of the orders keep them together
            orders.append(np.roll(plain, random.integers(self.units)) if number % 2 else random.permutation(self.units))
        candidates: list[Bools] = []
        weight = belief[likely]
        both = np.append(weight, either)
        members = [column[likely] for column in (self._first, self._second, self._third)]
        for order in orders:
            rank = np.empty(self.units, dtype=int)
            rank[order] = plain
            last = np.maximum(np.maximum(rank[members[0]], rank[members[1]]), rank[members[2]])
            last = np.append(last, np.minimum(rank[self._pair_first], rank[self._pair_second]))
            share = np.cumsum(np.bincount(last, weights=both, minlength=self.units)) / both.sum()
            candidates += [rank <= int(np.searchsorted(share, target)) for target in _SHARES]
        for has in self._masks(likely[np.argsort(-weight)[:4]]):
            candidates.append(has)
            for unit in np.flatnonzero(has):
                candidates += [has & (plain != unit), plain != unit]
        sets = np.array(candidates)
        if (self.needs.chance > 0.5).any():
            sets = np.concatenate([sets, self.needs.closed(sets, 0.5), self.needs.pruned(sets, 0.5)])
        return np.unique(sets, axis=0)

    def _prefixes(self) -> Bools:
        """The prefixes that divide the probability evenly, and their neighbours."""
        share = np.cumsum(self._weights.sum(axis=1)[: self._all])
        ends = np.searchsorted(share, share[-1] * np.arange(0.05, 1, 0.05))
        ends = np.unique(np.clip(np.concatenate([ends - 1, ends, ends + 1]), 0, self.units - 1))
        return np.arange(self.units)[None, :] <= ends[:, None]

    def to_go(self, information: float) -> int:
        """About how many trials are left, if each has this information, in nats."""
        belief = np.append(self._weights.sum(axis=1), self.none)
        entropy = -float(np.sum(belief * np.log(np.maximum(belief, 1e-300))))
        return max(1, math.ceil(entropy / max(information, 0.02)))

    def _inside(self, has: Bools, which: NDArray[np.int64] | None = None) -> Bools:
        """For each set and each hypothesis whether the set has the culprit."""
        listed = np.arange(len(self._weights)) if which is None else which
        culprits, either = listed[listed < self._all], listed[listed > self._all] - self._all - 1
        parts = [has[:, self._first[culprits]] & has[:, self._second[culprits]] & has[:, self._third[culprits]]]
        parts += [np.all(has, axis=1, keepdims=True)] if self._all in listed else []
        parts.append(has[:, self._pair_first[either]] | has[:, self._pair_second[either]])
        return np.hstack(parts)

    def _masks(self, which: NDArray[np.int64]) -> Bools:
        """Some of the culprits, a row each."""
        has = np.zeros((len(which), self.units), dtype=bool)
        for column in (self._first, self._second, self._third):
            has[np.arange(len(which)), column[which]] = True
        return has

    def _columns(self) -> Iterable[tuple[NDArray[np.int64], Floats]]:
        """The units of the culprits by column, with weight 0 where an earlier column has the same unit."""
        first, second, third = self._first, self._second, self._third
        yield first, np.ones(len(first))
        yield second, (second != first).astype(float)
        yield third, ((third != second) & (third != first)).astype(float)


def alike(shown: int, trials: int, baseline_shown: int, baseline_trials: int) -> float:
    """The probability that an outcome is as likely in both builds, and not more likely in the first.

    Args:
        shown: the trials of the first build that showed the outcome, out of `trials`.
        baseline_shown: those of the baseline, out of `baseline_trials`.
    """
    return float(_alike(np.array([shown]), trials, np.array([baseline_shown]), baseline_trials)[0, 0])


def _alike(shown: NDArray[np.int64], trials: int, baseline_shown: NDArray[np.int64], baseline_trials: int) -> Floats:
    """`alike` for each of some counts with each of some counts of the baseline."""

    def chances(p: Floats, counts: NDArray[np.int64], of: int) -> Floats:
        return p ** counts[:, None] * (1 - p) ** (of - counts[:, None])

    different = (chances(P1, shown, trials) * CHANCES) @ chances(P0, baseline_shown, baseline_trials).T
    same = (chances(LEVELS, shown, trials) * (_P0_PRIOR + _P1_PRIOR) / 2) @ chances(
        LEVELS, baseline_shown, baseline_trials
    ).T
    likeness: Floats = _NONE * same / (_NONE * same + (1 - _NONE) * different)
    return likeness


def would_show(difference: float, trials: int, baseline_shown: int, baseline_trials: int, least: float) -> float:
    """The probability that a difference would have been seen.

    Args:
        difference: how much more probable the outcome is than in the baseline.
        trials: how many trials there were.
        baseline_shown: how many trials of the baseline showed the outcome.
        baseline_trials: how many trials of the baseline there were.
        least: a difference is seen when `alike` is at most 1 - least.
    """
    base = (baseline_shown + 0.5) / (baseline_trials + 1) if baseline_shown else 0.0
    counts, base_counts = np.arange(trials + 1), np.arange(baseline_trials + 1)
    seen = _alike(counts, trials, base_counts, baseline_trials) <= 1 - least
    return float(_binomial(trials, min(1.0, base + difference)) @ seen @ _binomial(baseline_trials, base))


def _binomial(trials: int, p: float) -> Floats:
    return np.array([math.comb(trials, count) * p**count * (1 - p) ** (trials - count) for count in range(trials + 1)])


def least_shown(trials: int, baseline_shown: int, baseline_trials: int, least: float, chance: float) -> float | None:
    """The smallest difference, in hundredths, seen with at least this probability; None if there is none."""
    for hundredths in range(1, 101):
        if would_show(hundredths / 100, trials, baseline_shown, baseline_trials, least) >= chance:
            return hundredths / 100
    return None


def _culprits(units: int, prefixes: bool) -> list[tuple[int, int, int]]:
    """The culprits that are hypotheses, as triples. Those of fewer than three units have a unit more than once."""
    culprits = [(unit, unit, unit) for unit in range(units)]
    if not prefixes and units <= MOST_FOR_TWO:
        culprits += [(unit, other, other) for unit, other in itertools.combinations(range(units), 2)]
        if units <= MOST_FOR_THREE:
            culprits += list(itertools.combinations(range(units), 3))
    return culprits


def _entropy(weights: Floats) -> Floats:
    """The sum of -w log w of each row."""
    logs = np.log(np.maximum(weights, 1e-300))
    entropy: Floats = -(weights * logs).reshape(len(weights), -1).sum(axis=1)
    return entropy


class _Binomials(NamedTuple):
    """The probabilities of 0, 1, ... outcomes: for each pair of probabilities with p0 and with p1, and for each p."""

    p0: Floats
    p1: Floats
    p: Floats


@functools.cache
def _binomials(trials: int) -> _Binomials:
    """The probabilities of 0, 1, ... `trials` outcomes."""
    counts = np.arange(trials + 1)
    ways = np.array([math.comb(trials, count) for count in counts], dtype=float)

    def chances(p: Floats) -> Floats:
        return ways * p[:, None] ** counts * (1 - p[:, None]) ** (trials - counts)

    return _Binomials(chances(P0), chances(P1), chances(LEVELS))
