"""The arithmetic of a bisect: which units are to blame, how sure that is, and which set of them to try next.

A unit is a hunk, a block or a commit. Some set of units, the culprit, is needed to bring an outcome about: with all of
it in a build the outcome comes with a chance p1, else with p0, and p1 > p0. Nobody knows the three; a hypothesis is a
culprit, and the belief in it is kept together with that in (p0, p1) on a grid, so that what is learnt of the chances
while the culprit is searched counts too. Further hypotheses are that each of two units does it alone, and that
nothing makes a difference.

The next set is the one that tells most for its cost: the mutual information between what may come of some trials of it
and whether the culprit is inside, by the time that they and the build take. The posterior probability of an answer
holds whatever the sets were and whenever one stops, because it conditions on all that was seen.

Sets that cannot be built are constraints. They are taken for simple needs ("unit u needs unit v"): each pair has a
chance, which a build that fails raises and one that succeeds without v sets to nothing.

Pure arithmetic: knows numbers of units, nothing of patches, builds or guests. Sources: R. D. Nowak, "The geometry of
generalized binary search", IEEE Transactions on Information Theory 57 (2011), for noisy halving; D. V. Lindley, "On a
measure of the information provided by an experiment", Annals of Mathematical Statistics 27 (1956), for the choice.
"""

from __future__ import annotations

import copy
import functools
import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
#: A build, by the numbers of the units in it.
Subset = frozenset[int]

#: The chances that are reckoned with: nearly never and nearly always, and between them the middles of equal parts of
#: the arcsine (Jeffreys) distribution.
LEVELS: Floats = np.array([0.002, *np.sin(np.pi / 2 * (np.arange(9) + 0.5) / 9) ** 2, 0.998])
#: How likely they are for p0 before anything is seen, and for p1: most faults come never without their cause, and many
#: always with it.
_FIRST: Floats = np.array([0.35, *[0.65 / 10] * 10])
_LAST: Floats = np.array([*[0.7 / 10] * 10, 0.3])
_PAIRS = [(low, high) for low, high in itertools.combinations(range(len(LEVELS)), 2)]
_P0: Floats = LEVELS[[low for low, _ in _PAIRS]]
_P1: Floats = LEVELS[[high for _, high in _PAIRS]]
_CHANCES: Floats = np.array([_FIRST[low] * _LAST[high] for low, high in _PAIRS])
_CHANCES /= _CHANCES.sum()
_CHANCES *= 0.8
_CHANCES[_PAIRS.index((0, len(LEVELS) - 1))] += 0.2  # never without, always with it
#: What is believed of a culprit's size before anything is seen: one unit, two, three, so many that only all together
#: show the outcome; two that do it each alone; and that there is none. What a bisect cannot have is shared out among
#: the rest.
_SIZES = {1: 0.42, 2: 0.42, 3: 0.05}
_EITHER, _ALL, _NONE = 0.03, 0.005, 0.5
#: Up to so many units, culprits of two or three units are reckoned with.
MOST_FOR_TWO, MOST_FOR_THREE = 200, 20
#: Trials of one set that are looked ahead, to see whether a build is worth its time.
_AHEAD = (1, 4, 16)
#: Orders of the units of which candidates are made, besides the plain ones; and how much of the belief these hold.
_ORDERS = 8
_SHARES = (0.4, 0.55)
#: A need is taken for a fact when it is so likely.
SURE = 0.99
#: Needs that are expected in a whole patch before any build has failed.
_NEEDS = 0.3
#: Information, in nats, below which a trial is not worth making.
_NOTHING = 1e-4


@dataclass(frozen=True)
class Answer:
    """What is believed most.

    Attributes:
        alternatives: the sets that may be it, which no build can tell apart; in a bisect of hunks always one.
        probability: of one of them being the culprit.
        whole: it is known only that no one, two (or three) units do it alone.
    """

    alternatives: tuple[Subset, ...]
    probability: float
    whole: bool = False


@dataclass(frozen=True)
class Costs:
    """What things take, in any unit of time.

    Attributes:
        trial: one trial.
        build: what it takes until the first trial of a set that is not built can begin.
        built: the same of sets that are built.
    """

    trial: float
    build: float
    built: Mapping[Subset, float]


class Needs:
    """Which units need which others to be built."""

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
        """A build succeeded: nothing in it needs anything that it lacks."""
        self._refuted |= has[:, None] & ~has[None, :]
        self._reckon()

    def fails(self, subset: Subset) -> None:
        """A build failed: something in it needs something that it lacks."""
        self.failed.append(subset)
        self._reckon()

    def _reckon(self) -> None:
        """Bayes' rule for each failure in turn, as if needs were independent; twice, for one sheds light on others."""
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
        """The chance that each of some sets can be built."""
        logs = np.log1p(-np.minimum(self.chance, 1 - 1e-9))
        lacks = 1.0 - sets
        chances: Floats = np.exp(((sets.astype(float) @ logs) * lacks).sum(axis=1))
        return chances

    def closed(self, sets: Bools, least: float = SURE) -> Bools:
        """Some sets with all that they need, as far as that is so likely."""
        needs = self.chance > least
        while needs.any():
            more = sets | (sets @ needs)
            if (more == sets).all():
                break
            sets = more
        return sets

    def pruned(self, sets: Bools, least: float = SURE) -> Bools:
        """Some sets without all that needs what they lack."""
        needs = (self.chance > least).T
        while needs.any():
            less = sets & ~(~sets @ needs)
            if (less == sets).all():
                break
            sets = less
        return sets


def mask(subset: Iterable[int], units: int) -> Bools:
    """A set as one truth value a unit."""
    has = np.zeros(units, dtype=bool)
    has[list(subset)] = True
    return has


def subset_of(has: Bools) -> Subset:
    """The set that `mask` was made of."""
    return frozenset(map(int, np.flatnonzero(has)))


class Search:
    """A bisect's belief, and its choices.

    Args:
        units: how many there are, 1 or more.
        prefixes: only sets of the first so many units can be built, as of a series of commits; the culprit is then one
            commit, the first with which the outcome comes.
        needs: pairs (u, v): u cannot be built without v.
        likely: pairs that may be such, and how likely that is.
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
        #: Where the hypothesis stands that it takes all units. Culprits are before it; behind it are pairs of which
        #: each does it alone.
        self._all = len(sizes)
        prior = np.zeros(len(sizes) + 1 + len(either))
        for size, share in shares.items():
            prior[: self._all][sizes == size] = share / (sizes == size).sum()
        if not prefixes and units > max(shares):
            prior[self._all] = _ALL
        prior[self._all + 1 :] = _EITHER / max(1, len(either))
        prior *= (1 - _NONE) / prior.sum()
        self._first, self._second, self._third = np.array(culprits).T
        self._one, self._other = np.array(either, dtype=int).reshape(-1, 2).T
        #: Weights of (culprit, pair of chances), and of the chances if nothing makes a difference; together 1.
        self._weights: Floats = prior[:, None] * _CHANCES
        self._none: Floats = _NONE * (_FIRST + _LAST) / 2
        self._trials = 0
        self._skipped: set[Subset] = set()

    # What was seen.

    def saw(self, subset: Subset, shown: bool) -> None:
        """A trial of a set showed the outcome, or not."""
        inside = self._inside(mask(subset, self.units)[None, :])[0]
        p1, p0, p = (_P1, _P0, LEVELS) if shown else (1 - _P1, 1 - _P0, 1 - LEVELS)
        self._weights *= np.where(inside[:, None], p1, p0)
        self._none *= p
        total = self._weights.sum() + self._none.sum()
        self._weights /= total
        self._none /= total
        self._trials += 1

    def builds(self, subset: Subset) -> None:
        """A set could be built."""
        self.needs.builds(mask(subset, self.units))

    def fails(self, subset: Subset) -> None:
        """A set could not be built, or does not apply."""
        self.needs.fails(subset)

    def skip(self, subset: Subset) -> None:
        """A set tells nothing, though it can be built."""
        self._skipped.add(subset)

    def given(self, subset: Subset, inside: bool) -> Search:
        """What would be believed if it were known whether the culprit is inside a set."""
        other = copy.copy(self)
        fits = self._inside(mask(subset, self.units)[None, :])[0] == inside
        other._weights = self._weights * fits[:, None]
        other._none = self._none * (not inside)
        total = other._weights.sum() + other._none.sum() or 1.0
        other._weights, other._none = other._weights / total, other._none / total
        return other

    def inside(self, subset: Subset) -> float:
        """The probability that the culprit is inside a set."""
        return float(self._weights[self._inside(mask(subset, self.units)[None, :])[0]].sum())

    # What is believed.

    @property
    def none(self) -> float:
        """The probability that nothing makes a difference."""
        return float(self._none.sum())

    def chances(self) -> tuple[float, float]:
        """What p0 and p1 are expected to be, if there is a difference."""
        weights = self._weights.sum(axis=0)
        whole = weights.sum() or 1.0
        return float(weights @ _P0 / whole), float(weights @ _P1 / whole)

    def blame(self) -> Floats:
        """For each unit the probability that it is part of the culprit."""
        belief = self._weights.sum(axis=1)
        blame = np.full(self.units, belief[self._all])
        for units, counts in self._columns():
            blame += np.bincount(units, weights=belief[: self._all] * counts, minlength=self.units)
        for column in (self._one, self._other):
            blame += np.bincount(column, weights=belief[self._all + 1 :], minlength=self.units)
        return blame

    def answer(self) -> Answer:
        """The most probable culprit, with all that it needs."""
        belief = self._weights.sum(axis=1)
        whole = float(belief[self._all])
        for column in (self._one, self._other):  # of two that do it each alone, each is an answer
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
        """The first of the commits that no build can tell from this one: those between are of builds that failed."""
        failed = {len(subset) for subset in self.needs.failed}
        while unit in failed:  # the build without this one, but with all before it
            unit -= 1
        return unit

    # What to try next.

    def choose(self, costs: Costs, only_built: bool = False) -> tuple[Subset, float] | None:
        """The set whose trials tell most for their time.

        Args:
            only_built: consider no sets that have to be built first.

        Returns:
            The set, and the information of one trial of it in nats; None if none tells anything.
        """
        built = np.array([mask(subset, self.units) for subset in costs.built], dtype=bool).reshape(-1, self.units)
        setup = np.fromiter(costs.built.values(), dtype=float)
        has, feasible = built, np.ones(len(built))
        if not only_built:
            more = self._candidates()
            has = np.concatenate([built, more])
            setup = np.append(setup, np.full(len(more), costs.build))
            chance = np.ones(len(more)) if self.prefixes else self.needs.feasible(more)
            feasible = np.append(feasible, chance)
        if not len(has):
            return None
        information = self._information(has)
        worth = np.max([information[ahead] / (setup + ahead * costs.trial) for ahead in _AHEAD], axis=0) * feasible
        worth[information[_AHEAD[-1]] < _NOTHING] = 0.0
        for place in np.argsort(-worth, kind="stable"):
            if worth[place] <= 0:
                break
            subset = subset_of(has[place])
            if subset not in self.needs.failed and subset not in self._skipped:
                return subset, float(information[1][place])
        return None

    def _information(self, has: Bools) -> dict[int, Floats]:
        """For numbers of trials of each set the mutual information of their outcome and where the culprit is, in nats:
        inside, outside, or nowhere."""
        alive = np.flatnonzero(self._weights.sum(axis=1) > 1e-6)
        inside = self._inside(has, alive).astype(float) @ self._weights[alive]
        outside = np.maximum(self._weights[alive].sum(axis=0) - inside, 0.0)
        information = {}
        for ahead in _AHEAD:
            with_p0, with_p1, with_p = _binomials(ahead)
            joint = np.empty((3, len(has), ahead + 1))
            joint[0], joint[1], joint[2] = inside @ with_p1, outside @ with_p0, self._none @ with_p
            information[ahead] = np.maximum(
                _entropy(joint.sum(axis=0)) + _entropy(joint.sum(axis=2).T) - _entropy(np.moveaxis(joint, 0, 1)), 0.0
            )
        return information

    def _candidates(self) -> Bools:
        """Sets that part the belief, a row each."""
        if self.prefixes:
            return self._prefixes()
        belief = self._weights.sum(axis=1)
        either = belief[self._all + 1 :]
        belief = belief[: self._all]
        likely = np.flatnonzero(belief > 1e-8)
        if not len(likely):
            return np.zeros((0, self.units), dtype=bool)
        blame = self.blame()
        random = np.random.default_rng(self._trials)  # the same after the same trials, so that a bisect can be resumed
        plain = np.arange(self.units)
        orders = [plain, plain[::-1], np.argsort(-blame), np.argsort(blame)]
        for number in range(_ORDERS):  # neighbours often need each other, so half of the orders leave them together
            orders.append(np.roll(plain, random.integers(self.units)) if number % 2 else random.permutation(self.units))
        candidates: list[Bools] = []
        weight = belief[likely]
        both = np.append(weight, either)
        members = [column[likely] for column in (self._first, self._second, self._third)]
        for order in orders:
            rank = np.empty(self.units, dtype=int)
            rank[order] = plain
            last = np.maximum(np.maximum(rank[members[0]], rank[members[1]]), rank[members[2]])
            last = np.append(last, np.minimum(rank[self._one], rank[self._other]))
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
        """Those at which the belief is shared out evenly, and their neighbours."""
        share = np.cumsum(self._weights.sum(axis=1)[: self._all])
        ends = np.searchsorted(share, share[-1] * np.arange(0.05, 1, 0.05))
        ends = np.unique(np.clip(np.concatenate([ends - 1, ends, ends + 1]), 0, self.units - 1))
        return np.arange(self.units)[None, :] <= ends[:, None]

    def to_go(self, told: float) -> int:
        """About how many trials are left, if each tells so many nats."""
        belief = np.append(self._weights.sum(axis=1), self.none)
        left = -float(np.sum(belief * np.log(np.maximum(belief, 1e-300))))
        return max(1, math.ceil(left / max(told, 0.02)))

    def _inside(self, has: Bools, which: NDArray[np.int64] | None = None) -> Bools:
        """For each set and each hypothesis whether what it takes is in the set."""
        listed = np.arange(len(self._weights)) if which is None else which
        culprits, either = listed[listed < self._all], listed[listed > self._all] - self._all - 1
        parts = [has[:, self._first[culprits]] & has[:, self._second[culprits]] & has[:, self._third[culprits]]]
        parts += [np.all(has, axis=1, keepdims=True)] if self._all in listed else []
        parts.append(has[:, self._one[either]] | has[:, self._other[either]])
        return np.hstack(parts)

    def _masks(self, which: NDArray[np.int64]) -> Bools:
        """Some of the culprits, a row each."""
        has = np.zeros((len(which), self.units), dtype=bool)
        for column in (self._first, self._second, self._third):
            has[np.arange(len(which)), column[which]] = True
        return has

    def _columns(self) -> Iterable[tuple[NDArray[np.int64], Floats]]:
        """The units of the culprits, with 0 for one that was named before."""
        first, second, third = self._first, self._second, self._third
        yield first, np.ones(len(first))
        yield second, (second != first).astype(float)
        yield third, ((third != second) & (third != first)).astype(float)


def alike(shown: int, trials: int, baseline_shown: int, baseline_trials: int) -> float:
    """The probability that an outcome comes with the same chance in both, and not oftener in the first."""
    return float(_alike(np.array([shown]), trials, np.array([baseline_shown]), baseline_trials)[0, 0])


def _alike(shown: NDArray[np.int64], trials: int, baseline_shown: NDArray[np.int64], baseline_trials: int) -> Floats:
    """`alike` for each of some counts with each of some counts of the baseline."""

    def chances(p: Floats, counts: NDArray[np.int64], of: int) -> Floats:
        return p ** counts[:, None] * (1 - p) ** (of - counts[:, None])

    oftener = (chances(_P1, shown, trials) * _CHANCES) @ chances(_P0, baseline_shown, baseline_trials).T
    same = (chances(LEVELS, shown, trials) * (_FIRST + _LAST) / 2) @ chances(LEVELS, baseline_shown, baseline_trials).T
    likeness: Floats = _NONE * same / (_NONE * same + (1 - _NONE) * oftener)
    return likeness


def would_show(apart: float, trials: int, baseline_shown: int, baseline_trials: int, least: float) -> float:
    """The probability that a difference had been seen.

    Args:
        apart: by how much the outcome's chance is greater than in the baseline.
        trials: how many there were.
        least: `alike` must come below 1 less this.
    """
    base = (baseline_shown + 0.5) / (baseline_trials + 1) if baseline_shown else 0.0
    counts, base_counts = np.arange(trials + 1), np.arange(baseline_trials + 1)
    seen = _alike(counts, trials, base_counts, baseline_trials) <= 1 - least
    return float(_binomial(trials, min(1.0, base + apart)) @ seen @ _binomial(baseline_trials, base))


def _binomial(trials: int, p: float) -> Floats:
    return np.array([math.comb(trials, count) * p**count * (1 - p) ** (trials - count) for count in range(trials + 1)])


def least_shown(trials: int, baseline_shown: int, baseline_trials: int, least: float, chance: float) -> float | None:
    """The smallest difference, in hundredths, that had been seen with such a chance; None if there is none."""
    for hundredths in range(1, 101):
        if would_show(hundredths / 100, trials, baseline_shown, baseline_trials, least) >= chance:
            return hundredths / 100
    return None


def _culprits(units: int, prefixes: bool) -> list[tuple[int, int, int]]:
    """The culprits that are reckoned with; one of fewer than three units names a unit more than once."""
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


@functools.cache
def _binomials(trials: int) -> tuple[Floats, Floats, Floats]:
    """For each pair of chances, and each chance, how likely 0, 1, ... `trials` outcomes are: with p0, p1 and p."""
    counts = np.arange(trials + 1)
    ways = np.array([math.comb(trials, count) for count in counts], dtype=float)

    def chances(p: Floats) -> Floats:
        return ways * p[:, None] ** counts * (1 - p[:, None]) ** (trials - counts)

    return chances(_P0), chances(_P1), chances(LEVELS)
