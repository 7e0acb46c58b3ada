"""The course of a bisect: the outcome that is looked for, the trials that count, and the next set of units to try.

First both ends are tried in turn, no unit and all units, until some outcome differs between them; then the sets that
the search chooses; then those that check its answer. If effects turn out to be graded, the units that make the rest of
the difference are found by a bisect of their own. All of it follows from the trials and builds so far, so an
interrupted bisect continues as it would have. Knows units by their numbers, and trials by verdict and title; nothing of
patches, builds or guests.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from harness.bisect import fit
from harness.bisect.search import Answer, Costs, Search, Subset, alike, least_shown, mask, subset_of
from harness.results.matrix import OUTCOMES

#: The probability from which a difference between the ends is searched for. The search can still refute it.
DIFFERS = 0.8
#: A set is no longer tried when, of at least this many trials, less than this share count.
_BLIND, _BLIND_SHARE = 5, 0.2
#: A set is no longer tried when this many trials ended in infrastructure errors and none did otherwise.
_LOST = 3
#: Information, in nats, that makes a trial worth making while something is built.
_MEANWHILE = 0.02
#: A search is given up after this many times the trials of an end: no hypothesis explains what it has seen.
_ENOUGH = 20
#: The trials of each end from which a quick bisect may find them alike.
_FEW = 5
#: Trials of an end that are made in a row while a set is checked, since each change of builds takes time.
_IN_A_ROW = 4
#: The set of no units: the baseline.
NOTHING: Subset = frozenset()


@dataclass(frozen=True)
class Question:
    """The outcome to look for in a trial: a verdict, or a text in the title (the signature, or else the reason)."""

    verdict: str = ""
    title: str = ""

    @classmethod
    def parse(cls, text: str) -> Question:
        """A question as a user writes it: one of the verdicts, or a text in the title."""
        return cls(verdict=text) if text in OUTCOMES else cls(title=text)

    def __str__(self) -> str:
        return self.verdict or self.title


@dataclass(frozen=True)
class JudgedTrial:
    """A trial of a set: its verdict, its signature or else its reason, and its number among those of the set."""

    subset: Subset
    verdict: str
    title: str
    number: int = 0

    def shows(self, question: Question) -> bool:
        """Whether it shows the outcome."""
        return self.verdict == question.verdict if question.verdict else question.title in self.title


@dataclass(frozen=True)
class FailedBuild:
    """A set that cannot be built, the reason, and the number of trials before that was known."""

    subset: Subset
    reason: str
    after: int


@dataclass(frozen=True)
class Case:
    """What is bisected; see `Search` for the units.

    Attributes:
        units: how many there are.
        prefixes: only sets of the first units can be built.
        needs: pairs (u, v): u cannot be built without v.
        likely: pairs that may be such, with their probabilities.
        confidence: the probability that an answer must have.
        max_trials: trials of each end, at most, until a difference is seen.
        question: the outcome that the user looks for; None for the one that differs most.
        quick: the ends count as alike as soon as so many trials tell that the one is not free of what the other shows.
    """

    units: int
    prefixes: bool = False
    needs: frozenset[tuple[int, int]] = frozenset()
    likely: Mapping[tuple[int, int], float] = field(default_factory=dict)
    confidence: float = 0.95
    max_trials: int = 40
    question: Question | None = None
    quick: bool = False

    @property
    def whole(self) -> Subset:
        """All units."""
        return frozenset(range(self.units))


@dataclass(frozen=True)
class Count:
    """The trials of a set: how many show the outcome, how many count, and how many others there are."""

    shown: int = 0
    trials: int = 0
    others: int = 0

    def __str__(self) -> str:
        return f"{self.shown} of {self.trials}" + (f" (and {self.others} with another failure)" if self.others else "")


@dataclass(frozen=True)
class Result:
    """The result of a bisect.

    Attributes:
        question: the outcome that was looked for or, if none differs, the one that differs most.
        answer: None if there is no difference.
        decided: whether the answer has the probability that was asked for.
        none: the probability that there is no difference.
        grades: the steps that make up the difference, if its effects are graded; the one found first is first.
        misfit: the probability that they are graded though no step was found: the answer is decided if it is small.
    """

    question: Question
    answer: Answer | None
    decided: bool
    none: float
    grades: tuple[Grade, ...] = ()
    misfit: float = 0.0


class Grade(NamedTuple):
    """A step of a graded effect: what takes the rate of one set to that of another."""

    answer: Answer
    low: Subset
    high: Subset


class Check(NamedTuple):
    """A set whose rate should be that of an end, if the answer is right and effects are not graded."""

    subset: Subset
    end: Subset


class Rest:
    """What is left to find when effects are graded.

    Attributes:
        grade: the step that is known.
        low, high: the sets between which the rest is looked for.
        units: those that are in the one and not in the other.
        course: the bisect of these units.
    """

    def __init__(self, grade: Grade, low: Subset, high: Subset, case: Case) -> None:
        self.grade, self.low, self.high = grade, low, high
        self.units = sorted(high - low)
        self._numbers = numbers = {unit: number for number, unit in enumerate(self.units)}
        needs = frozenset((numbers[u], numbers[v]) for u, v in case.needs if u in numbers and v in numbers)
        likely = {
            (numbers[u], numbers[v]): chance for (u, v), chance in case.likely.items() if u in numbers and v in numbers
        }
        self.course = Course(replace(case, units=len(self.units), needs=needs, likely=likely))

    def inner(self, subset: Subset) -> Subset | None:
        """A set by the numbers of the units in this bisect; None if it is not of this bisect."""
        if self.low <= subset <= self.high:
            return frozenset(self._numbers[unit] for unit in subset - self.low)
        return None

    def outer(self, subset: Subset) -> Subset:
        """A set of this bisect, by the numbers of all units."""
        return self.low | self.members(subset)

    def members(self, subset: Subset) -> Subset:
        """Some units of this bisect, by the numbers of all units."""
        return frozenset(self.units[number] for number in subset)

    def answer(self, answer: Answer) -> Answer:
        """An answer of this bisect, by the numbers of all units."""
        return replace(answer, alternatives=tuple(map(self.members, answer.alternatives)))

    def costs(self, costs: Costs) -> Costs:
        """The costs of the sets of this bisect."""
        inner = {self.inner(subset): seconds for subset, seconds in costs.built.items()}
        return replace(costs, built={subset: seconds for subset, seconds in inner.items() if subset is not None})


class Course:
    """A bisect under way.

    Attributes:
        case: what is bisected.
        trials: those that were judged, in their order.
        built: the sets that have been built.
        failed: the sets that cannot be built.
        question: the outcome that is looked for; None until a difference is seen.
        result: None until the bisect is over.
        rest: what is looked for since effects were found to be graded.
    """

    def __init__(self, case: Case) -> None:
        self.case = case
        self.trials: list[JudgedTrial] = []
        self.built: dict[Subset, None] = {NOTHING: None, case.whole: None}
        self.failed: list[FailedBuild] = []
        self.question: Question | None = None
        self._pending: Counter[Subset] = Counter()
        self._lost: Counter[Subset] = Counter()
        self.result: Result | None = None
        self.rest: Rest | None = None
        self._begin()

    def _begin(self) -> None:
        self.search = Search(self.case.units, self.case.prefixes, self.case.needs, self.case.likely)
        for subset in self.built:
            self.search.builds(subset)
        for build in self.failed:
            self.search.fails(build.subset)
        for subset, times in self._lost.items():
            if times >= _LOST:
                self.search.skip(subset)
        self._known = self._baseline_titles()
        self.rest = None
        if self.question:
            for place, trial in enumerate(self.trials):
                self._learn(trial, place + 1)

    # Trials and builds so far.

    def record(self, trial: JudgedTrial) -> None:
        """Take a trial into account."""
        self.result = None  # a trial that ends after the result can refute it
        self.trials.append(trial)
        if self.question is None:
            self.question = self._differing()
            if self.question:
                self._begin()
        elif self._baseline_titles() != self._known:
            self._begin()
        else:
            self._learn(trial, len(self.trials))

    def begin_trial(self, subset: Subset) -> None:
        """A trial of a set is being made."""
        self._count_pending(subset, 1)

    def end_trial(self, subset: Subset) -> None:
        """A trial of a set is made no longer."""
        self._count_pending(subset, -1)

    def _count_pending(self, subset: Subset, number: int) -> None:
        self._pending[subset] += number
        if self.rest and (inner := self.rest.inner(subset)) is not None:
            self.rest.course._count_pending(inner, number)

    def lost(self, subset: Subset) -> bool:
        """A trial ended in infrastructure errors, however often it was tried. Returns whether the set is given up."""
        self._lost[subset] += 1
        given_up = self._lost[subset] >= _LOST and not any(trial.subset == subset for trial in self.trials)
        if given_up:
            self.search.skip(subset)
        if self.rest and (inner := self.rest.inner(subset)) is not None:
            self.rest.course.lost(inner)
        return given_up

    def builds(self, subset: Subset) -> None:
        """Take into account that a set was built."""
        self.built[subset] = None
        self.search.builds(subset)
        if self.rest and (inner := self.rest.inner(subset)) is not None:
            self.rest.course.builds(inner)

    def fails(self, subset: Subset, reason: str) -> None:
        """Take into account that a set cannot be built."""
        self.failed.append(FailedBuild(subset, reason, len(self.trials)))
        self.search.fails(subset)
        if self.rest and (inner := self.rest.inner(subset)) is not None:
            self.rest.course.fails(inner, reason)

    def _learn(self, trial: JudgedTrial, number: int) -> None:
        """Learn from a trial, the `number`th of all."""
        assert self.question is not None
        if self.rest:
            # The search knows two rates only, and has seen that they are not enough.
            if (inner := self.rest.inner(trial.subset)) is not None:
                self.rest.course.record(replace(trial, subset=inner))
            return
        if self.counts(trial, self.question):
            self.search.record(trial.subset, trial.shows(self.question))
        self._look_for_grades(self.trials[:number])
        count = self.count(trial.subset)
        total = count.trials + count.others
        if total >= _BLIND and count.trials < _BLIND_SHARE * total:
            self.search.skip(trial.subset)

    # What the trials mean.

    def counts(self, trial: JudgedTrial, question: Question) -> bool:
        """Whether a trial is evidence for or against an outcome.

        A program that ended, with a right or wrong result, had its whole chance to show the outcome. One that crashed
        or hung in another way had not: it might have shown the outcome a moment later, so it is evidence for neither.
        But a crash or hang that the baseline shows too is the baseline's way not to show the outcome.
        """
        if trial.shows(question) or trial.verdict not in ("crash", "hang") or question.verdict == "pass":
            return True
        return trial.title in self._baseline_titles()

    def count(self, subset: Subset, question: Question | None = None) -> Count:
        """Count the trials of a set."""
        return self.count_trials(
            [trial for trial in self.trials if trial.subset == subset], question or self.question or Question()
        )

    def count_trials(self, trials: Sequence[JudgedTrial], question: Question) -> Count:
        """Count some trials."""
        counting = [trial for trial in trials if self.counts(trial, question)]
        return Count(sum(trial.shows(question) for trial in counting), len(counting), len(trials) - len(counting))

    def _baseline_titles(self) -> set[str]:
        return {trial.title for trial in self.trials if trial.subset == NOTHING}

    def _differing(self) -> Question | None:
        """The outcome that is more frequent with all units than with none, if that is likely enough."""
        question = self.candidate()
        outcomes = {(trial.verdict, trial.title) for trial in self.trials}
        # The more outcomes there are, the likelier it is that one of them differs by chance.
        comparisons = 1 if self.case.question else max(1, len(outcomes) - 1)
        return question if comparisons * self._alike(question) <= 1 - DIFFERS else None

    def _alike(self, question: Question) -> float:
        whole, nothing = self.count(self.case.whole, question), self.count(NOTHING, question)
        return alike(whole.shown, whole.trials, nothing.shown, nothing.trials)

    def candidate(self) -> Question:
        """The outcome that the user looks for, or the one that differs most: a title before a verdict that differs as
        much."""
        if self.case.question:
            return self.case.question
        trials = [trial for trial in self.trials if trial.subset == self.case.whole]
        titles = [Question(title=trial.title) for trial in trials if trial.verdict in ("crash", "hang")]
        # A pass is a change only if the baseline does not always pass.
        baseline_passes = {trial.verdict for trial in self.trials if trial.subset == NOTHING} <= {"pass"}
        verdicts = [Question(trial.verdict) for trial in trials if not (baseline_passes and trial.verdict == "pass")]
        questions = list(dict.fromkeys([*titles, *verdicts]))
        return min(questions, key=self._alike, default=Question(verdict="crash"))

    # Whether effects are graded.

    def checks(self, answer: Answer) -> Iterator[Check]:
        """The sets that check an answer."""
        whole = self.case.whole
        if answer.whole:
            return
        if self.case.prefixes:
            first, last = min(map(max, answer.alternatives)), max(map(max, answer.alternatives))
            checks = [Check(frozenset(range(first)), NOTHING), Check(frozenset(range(last + 1)), whole)]
        else:
            (culprit,) = answer.alternatives
            checks = [Check(culprit, whole)]
            for unit in sorted(culprit):
                # Of two units that each cause the outcome alone, all without the one have the other.
                if self.search.alone(unit) < answer.probability / 2:
                    lacking = self.search.needs.pruned(mask(whole - {unit}, self.case.units)[None, :])
                    checks.append(Check(subset_of(lacking[0]), NOTHING))
        failed = {build.subset for build in self.failed}
        for check in dict.fromkeys(checks):
            if check.subset not in (NOTHING, whole) and check.subset not in failed | self.search.skipped:
                yield check

    def _misfit(self, check: Check, trials: Sequence[JudgedTrial]) -> float:
        """The probability that the rate of a check's set lies between those of the ends."""
        return fit.graded(*self._tallies(check, trials), bool(check.end))

    def _tallies(self, check: Check, trials: Sequence[JudgedTrial]) -> tuple[fit.Tally, fit.Tally, fit.Tally]:
        """The trials of a check's set, of no unit, and of all units."""
        question = self.question or Question()
        sets = (check.subset, NOTHING, self.case.whole)
        counts = [self.count_trials([trial for trial in trials if trial.subset == subset], question) for subset in sets]
        checked, without, with_ = (fit.Tally(count.shown, count.trials) for count in counts)
        return checked, without, with_

    def _look_for_grades(self, trials: Sequence[JudgedTrial]) -> None:
        """Begin to look for the rest of the difference if the trials so far say that its effects are graded."""
        answer = self.search.answer()
        if answer.probability < self.case.confidence:
            return
        for check in self.checks(answer):
            if (probability := self._misfit(check, trials)) >= fit.GRADED:
                self._begin_rest(check, replace(answer, probability=probability), trials)
                return

    def _begin_rest(self, check: Check, answer: Answer, trials: Sequence[JudgedTrial]) -> None:
        whole = self.case.whole
        if check.end:  # the answer alone shows it more rarely than all units: others add to it
            grade, low, high = Grade(answer, NOTHING, check.subset), check.subset, whole
        else:  # all but a unit of the answer show it more often than no unit
            if not self.case.prefixes:
                answer = replace(answer, alternatives=(answer.alternatives[0] - check.subset,))
            grade, low, high = Grade(answer, check.subset, whole), NOTHING, check.subset
        rest = Rest(grade, low, high, replace(self.case, question=self.question))
        for subset in self.built:
            if (inner := rest.inner(subset)) is not None:
                rest.course.builds(inner)
        for build in self.failed:
            if (inner := rest.inner(build.subset)) is not None:
                rest.course.fails(inner, build.reason)
        for trial in trials:
            if (inner := rest.inner(trial.subset)) is not None:
                rest.course.record(replace(trial, subset=inner))
        for subset, number in self._pending.items():
            if (inner := rest.inner(subset)) is not None:
                rest.course._pending[inner] = number
        self.rest = rest

    def _next_check(self, answer: Answer) -> Subset | None:
        """The set to try next to check an answer; None if all checks have as many trials as they need."""
        for check in self.checks(answer):
            if self._misfit(check, self.trials) <= fit.FITS:
                continue
            checked, without, with_ = self._tallies(check, self.trials)
            end, unlike = (with_, checked.trials - checked.shown) if check.end else (without, checked.shown)
            # A set that does nothing or all speaks for itself; else its end's rate has to be known as well.
            ahead = _IN_A_ROW if self.trials[-1].subset == check.end else 0
            subsets = (check.end, check.subset) if unlike and end.trials < checked.trials + ahead else (check.subset,)
            for subset in subsets:
                if self._count_begun(subset) < self.case.max_trials:
                    return subset
        return None

    def _trials_of_check(self, check: Check) -> int:
        """How many more trials of a check's set it takes if they come out as its end's do."""
        checked, without, with_ = self._tallies(check, self.trials)
        p0, p1 = self.search.chances()
        rate = p1 if check.end else p0
        for more in range(self.case.max_trials + 1):
            tally = fit.Tally(checked.shown + round(rate * more), checked.trials + more)
            if fit.graded(tally, without, with_, bool(check.end)) <= fit.FITS:
                return more
        return self.case.max_trials

    @property
    def repetitions(self) -> int | None:
        """How many trials tell a set with the culprit from one without it, by what is known of their rates."""
        if self.question is None:
            return None
        return fit.repetitions(*self.search.chances(), 1 - self.case.confidence)

    def belief(self) -> tuple[Answer | None, float]:
        """The most probable answer, None before the search, and the probability that nothing makes a difference."""
        if self.rest:
            answer, none = self.rest.course.belief()
            return answer and self.rest.answer(answer), none
        return self.search.answer() if self.question else None, self.search.none

    def blame(self) -> list[float]:
        """The probability of each unit that it is part of what changes the outcome."""
        if self.question is None:
            return [0.0] * self.case.units
        if not self.rest:
            return [float(chance) for chance in self.search.blame()]
        blame = [0.0] * self.case.units
        for unit, chance in zip(self.rest.units, self.rest.course.blame(), strict=True):
            blame[unit] = chance
        answer = self.rest.grade.answer
        for alternative in answer.alternatives:
            for unit in alternative:
                blame[unit] = answer.probability / len(answer.alternatives)
        return blame

    # What to do next.

    def next(self, costs: Costs) -> Subset | None:
        """The set to try next, built or not; None if the bisect is over: then there is a result."""
        if self.question is None:
            trials = [self._count_begun(end) for end in (self.case.whole, NOTHING)]
            if min(trials) >= self.case.max_trials or self._alike_soon():
                question = self.candidate()
                self.result = Result(question, None, False, self._alike(question))
                return None
            return self.case.whole if trials[0] <= trials[1] else NOTHING
        if self.rest:
            subset = self.rest.course.next(self.rest.costs(costs))
            self.result = None if subset is not None else self._graded_result(self.question, self.rest)
            return None if subset is None else self.rest.outer(subset)
        answer = self.search.answer()
        if self.search.none >= self.case.confidence:
            self.result = Result(self.question, None, True, self.search.none)
            return None
        if answer.probability >= self.case.confidence:
            if not self.case.prefixes and answer.alternatives[0] not in self.built:
                return answer.alternatives[0]
            if (check := self._next_check(answer)) is not None:
                return check
            misfits = [self._misfit(check, self.trials) for check in self.checks(answer)]
            misfit = max(misfits, default=0.0)
            self.result = Result(self.question, answer, misfit <= fit.PRIOR, self.search.none, misfit=misfit)
            return None
        if len(self.trials) < _ENOUGH * self.case.max_trials and (choice := self.search.choose(costs)):
            return choice.subset
        self.result = Result(self.question, answer, False, self.search.none)
        return None

    def _graded_result(self, question: Question, rest: Rest) -> Result:
        """The result if effects are graded, once the bisect of the rest is over."""
        inner = rest.course.result
        assert inner is not None
        grades = [rest.grade]
        if inner.grades:
            grades += [Grade(rest.answer(grade.answer), *map(rest.outer, grade[1:])) for grade in inner.grades]
        elif inner.answer:
            grades.append(Grade(rest.answer(inner.answer), rest.low, rest.high))
        units = frozenset[int]().union(*(grade.answer.alternatives[0] for grade in grades))
        probability = rest.grade.answer.probability * (inner.answer.probability if inner.answer else 1.0)
        decided = inner.decided and inner.answer is not None
        return Result(question, Answer((units,), probability), decided, 0.0, tuple(grades))

    def _alike_soon(self) -> bool:
        """Whether the baseline of a quick bisect had trials enough to tell that it is no good beginning."""
        whole = self.count(self.case.whole, self.candidate())
        nothing = self.count(NOTHING, self.candidate())
        if not self.case.quick or not whole.shown or not nothing.shown:
            return False
        needed = fit.repetitions(0.0, whole.shown / whole.trials, 1 - self.case.confidence) or self.case.max_trials
        return min(whole.trials, nothing.trials) >= max(needed, _FEW)

    def meanwhile(self, costs: Costs) -> Subset | None:
        """A built set that is worth a trial while another set is being built; None if there is none."""
        if self.rest:
            subset = self.rest.course.meanwhile(self.rest.costs(costs))
            return None if subset is None else self.rest.outer(subset)
        if self.question is None:
            return None
        choice = self.search.choose(costs, only_built=True)
        return choice.subset if choice and choice.information >= _MEANWHILE else None

    def ahead(self, subset: Subset, costs: Costs) -> Subset | None:
        """A set to build ahead: probably the next one, once it is known whether the culprit is in `subset`."""
        if self.rest:
            inner = self.rest.inner(subset)
            ahead = None if inner is None else self.rest.course.ahead(inner, self.rest.costs(costs))
            return None if ahead is None else self.rest.outer(ahead)
        if self.question is None:
            return None
        inside = self.search.inside(subset)
        for known in sorted((True, False), key=lambda known: -(inside if known else 1 - inside)):
            choice = self.search.given(subset, known).choose(costs)
            if choice and choice.subset not in self.built:
                return choice.subset
        return None

    def to_go(self, costs: Costs) -> int:
        """About how many trials are left."""
        if self.question is None:
            return max(1, 2 * self.case.units.bit_length() + 8)
        if self.rest:
            return self.rest.course.to_go(self.rest.costs(costs))
        answer = self.search.answer()
        if answer.probability >= self.case.confidence:
            return max(1, sum(self._trials_of_check(check) for check in self.checks(answer)))
        choice = self.search.choose(costs)
        return self.search.to_go(choice.information) if choice else 1

    def builds_to_go(self) -> int:
        """About how many builds are left: each halves what may be the culprit, and some check the answer."""
        if self.question is None:
            return self.case.units.bit_length()
        if self.rest:
            return self.rest.course.builds_to_go()
        answer = self.search.answer()
        if answer.probability >= self.case.confidence:
            wanted = {check.subset for check in self.checks(answer)}
            return len(wanted - set(self.built))
        return math.ceil(self.search.bits()) + 1

    def detectable(self) -> tuple[float, float] | None:
        """The smallest difference between the ends that their trials would have shown, and the probability of that;
        None if they would have shown none."""
        question = self.candidate()
        whole, nothing = self.count(self.case.whole, question), self.count(NOTHING, question)
        if not whole.trials or not nothing.trials:
            return None
        for chance in (0.9, 0.5):
            if difference := least_shown(whole.trials, nothing.shown, nothing.trials, DIFFERS, chance):
                return difference, chance
        return None

    def _count_begun(self, subset: Subset) -> int:
        """How many trials of a set were made or are being made."""
        return sum(trial.subset == subset for trial in self.trials) + self._pending[subset]
