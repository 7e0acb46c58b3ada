"""The course of a bisect: the outcome that is looked for, the trials that count, and the next set of units to try.

First both ends are tried in turn, no unit and all units, until some outcome differs between them; then the sets that
the search chooses. All of it follows from the trials and builds so far, so an interrupted bisect continues as it would
have. Knows units by their numbers, and trials by verdict and title; nothing of patches, builds or guests.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.bisect.search import Answer, Costs, Search, Subset, alike, least_shown
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
    """A trial of a set: its verdict, and its signature or, without one, its reason."""

    subset: Subset
    verdict: str
    title: str

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
    """

    units: int
    prefixes: bool = False
    needs: frozenset[tuple[int, int]] = frozenset()
    likely: Mapping[tuple[int, int], float] = field(default_factory=dict)
    confidence: float = 0.95
    max_trials: int = 40
    question: Question | None = None

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
    """

    question: Question
    answer: Answer | None
    decided: bool
    none: float


class Course:
    """A bisect under way.

    Attributes:
        case: what is bisected.
        trials: those that were judged, in their order.
        built: the sets that have been built.
        failed: the sets that cannot be built.
        question: the outcome that is looked for; None until a difference is seen.
        pending: how many trials of a set are being made.
        result: None until the bisect is over.
    """

    def __init__(self, case: Case) -> None:
        self.case = case
        self.trials: list[JudgedTrial] = []
        self.built: dict[Subset, None] = {NOTHING: None, case.whole: None}
        self.failed: list[FailedBuild] = []
        self.question: Question | None = None
        self.pending: Counter[Subset] = Counter()
        self._lost: Counter[Subset] = Counter()
        self.result: Result | None = None
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
        if self.question:
            for trial in self.trials:
                self._learn(trial)

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
            self._learn(trial)

    def lost(self, subset: Subset) -> bool:
        """A trial ended in infrastructure errors, however often it was tried. Returns whether the set is given up."""
        self._lost[subset] += 1
        given_up = self._lost[subset] >= _LOST and not any(trial.subset == subset for trial in self.trials)
        if given_up:
            self.search.skip(subset)
        return given_up

    def builds(self, subset: Subset) -> None:
        """Take into account that a set was built."""
        self.built[subset] = None
        self.search.builds(subset)

    def fails(self, subset: Subset, reason: str) -> None:
        """Take into account that a set cannot be built."""
        self.failed.append(FailedBuild(subset, reason, len(self.trials)))
        self.search.fails(subset)

    def _learn(self, trial: JudgedTrial) -> None:
        assert self.question is not None
        if self.counts(trial, self.question):
            self.search.record(trial.subset, trial.shows(self.question))
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

    # What to do next.

    def next(self, costs: Costs) -> Subset | None:
        """The set to try next, built or not; None if the bisect is over: then there is a result."""
        if self.question is None:
            trials = [self._count_begun(end) for end in (self.case.whole, NOTHING)]
            if min(trials) >= self.case.max_trials:
                question = self.candidate()
                self.result = Result(question, None, False, self._alike(question))
                return None
            return self.case.whole if trials[0] <= trials[1] else NOTHING
        answer = self.search.answer()
        if self.search.none >= self.case.confidence:
            self.result = Result(self.question, None, True, self.search.none)
            return None
        if answer.probability >= self.case.confidence:
            if self.case.prefixes or answer.alternatives[0] in self.built:
                self.result = Result(self.question, answer, True, self.search.none)
                return None
            return answer.alternatives[0]
        if len(self.trials) < _ENOUGH * self.case.max_trials and (choice := self.search.choose(costs)):
            return choice.subset
        self.result = Result(self.question, answer, False, self.search.none)
        return None

    def meanwhile(self, costs: Costs) -> Subset | None:
        """A built set that is worth a trial while another set is being built; None if there is none."""
        if self.question is None:
            return None
        choice = self.search.choose(costs, only_built=True)
        return choice.subset if choice and choice.information >= _MEANWHILE else None

    def ahead(self, subset: Subset, costs: Costs) -> Subset | None:
        """A set to build ahead: probably the next one, once it is known whether the culprit is in `subset`."""
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
        choice = self.search.choose(costs)
        return self.search.to_go(choice.information) if choice else 1

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
        return sum(trial.subset == subset for trial in self.trials) + self.pending[subset]


@dataclass(frozen=True)
class Step:
    """Trials of one set in a row, or a build that failed, and what was believed after them.

    Attributes:
        count: how many of the trials show the outcome.
        verdicts: how many trials there are of each verdict.
        reason: why the set cannot be built; "" if it was built.
        answer: the most probable answer; None before the search.
        none: the probability that nothing makes a difference.
    """

    subset: Subset
    count: Count
    verdicts: Mapping[str, int]
    reason: str
    answer: Answer | None
    none: float


@dataclass
class _Row:
    subset: Subset
    trials: list[JudgedTrial] = field(default_factory=list)
    reason: str = ""
    answer: Answer | None = None
    none: float = 0.0
    end: bool = False

    def continues(self, trial: JudgedTrial, end: bool) -> bool:
        """Whether a trial belongs to this step."""
        return self.end == end and self.subset == trial.subset and bool(self.trials)


def steps(course: Course) -> list[Step]:
    """The steps of a bisect. The trials of each of the two ends before the search are one step."""
    replay = Course(course.case)
    rows: list[_Row] = []
    failed = list(course.failed)
    for place, trial in enumerate([*course.trials, None]):
        while failed and (trial is None or failed[0].after <= place):
            build = failed.pop(0)
            replay.fails(build.subset, build.reason)
            rows.append(_Row(build.subset, reason=build.reason))
            _set_belief(rows[-1], replay)
        if trial is None:
            break
        is_end = replay.question is None
        if trial.subset not in replay.built:
            replay.builds(trial.subset)
        replay.record(trial)
        row = next((row for row in (rows if is_end else rows[-1:]) if row.continues(trial, is_end)), None)
        if row is None:
            row = _Row(trial.subset, end=is_end)
            rows.append(row)
        row.trials.append(trial)
        _set_belief(row, replay)
    question = course.question or course.candidate()
    return [
        Step(
            row.subset,
            course.count_trials(row.trials, question),
            Counter(trial.verdict for trial in row.trials),
            row.reason,
            row.answer,
            row.none,
        )
        for row in rows
    ]


def _set_belief(row: _Row, course: Course) -> None:
    row.answer = course.search.answer() if course.question and not row.end else None
    row.none = course.search.none
