"""The course of a bisect: what is asked, what counts as an answer of a trial, and what to do next.

First both ends are tried in turn, nothing and everything, until some outcome is seen to differ; then sets are tried as
the search chooses them. All of it follows from the trials and the builds so far, so an interrupted bisect goes on as it
would have. Knows units by their numbers, and trials by verdict and title; nothing of patches, builds or guests.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.bisect.search import Answer, Costs, Search, Subset, alike, least_shown
from harness.trial.record import JUDGED

#: A difference between the ends is believed, and searched for, when it is so likely. The search goes on to doubt it.
DIFFERS = 0.8
#: A set that shows nothing but other troubles in so many trials, but for so small a share, is left alone.
_BLIND, _BLIND_SHARE = 5, 0.2
#: A set of which no trial could be made, but so many were lost to the guest, is left alone too.
_LOST = 3
#: Information, in nats, that a trial must tell that is made while something is built.
_MEANWHILE = 0.02
#: So many times the trials of an end at most, a search is given up: what it sees fits nothing that it reckons with.
_ENOUGH = 20
NOTHING: Subset = frozenset()


@dataclass(frozen=True)
class Question:
    """What is looked for in a trial: a verdict, or a text in the title (the signature, or else the reason)."""

    verdict: str = ""
    title: str = ""

    @classmethod
    def parse(cls, text: str) -> Question:
        """What a user asks for: one of the verdicts, or the text of a title."""
        return cls(verdict=text) if text in JUDGED else cls(title=text)

    def __str__(self) -> str:
        return self.verdict or self.title


@dataclass(frozen=True)
class Seen:
    """A trial that was judged: of which set, what it came to, and its signature or, without one, its reason."""

    subset: Subset
    verdict: str
    title: str

    def shows(self, question: Question) -> bool:
        """Whether it shows what is asked for."""
        return self.verdict == question.verdict if question.verdict else question.title in self.title


@dataclass(frozen=True)
class Failed:
    """A set that cannot be built, why, and after how many trials that was known."""

    subset: Subset
    why: str
    after: int


@dataclass(frozen=True)
class Case:
    """What is bisected; see `Search` for the units.

    Attributes:
        confidence: how probable an answer must be.
        most: trials of each end, at most, until a difference is seen.
        asked: what the user asks for; None means whatever differs most.
    """

    units: int
    prefixes: bool = False
    needs: frozenset[tuple[int, int]] = frozenset()
    likely: Mapping[tuple[int, int], float] = field(default_factory=dict)
    confidence: float = 0.95
    most: int = 40
    asked: Question | None = None

    @property
    def whole(self) -> Subset:
        """All units."""
        return frozenset(range(self.units))


@dataclass(frozen=True)
class Count:
    """How a set's trials came out: that so many showed the outcome, of those that count; others do not."""

    shown: int = 0
    trials: int = 0
    others: int = 0

    def __str__(self) -> str:
        return f"{self.shown} of {self.trials}" + (f" (and {self.others} with another trouble)" if self.others else "")


@dataclass(frozen=True)
class Result:
    """What a bisect came to.

    Attributes:
        question: what was asked, or, if nothing differs, what differs most.
        answer: None if there is no difference.
        decided: whether the answer is as probable as was asked for.
        none: the probability that there is no difference.
    """

    question: Question
    answer: Answer | None
    decided: bool
    none: float


class Course:
    """A bisect under way.

    Attributes:
        seen: the trials, in their order; built: the sets that are there; failed: those that cannot be.
        question: what is looked for; None until a difference is seen.
        pending: how many trials of a set are being made.
        result: what it came to, once it is over.
    """

    def __init__(self, case: Case) -> None:
        self.case = case
        self.seen: list[Seen] = []
        self.built: dict[Subset, None] = {NOTHING: None, case.whole: None}
        self.failed: list[Failed] = []
        self.question: Question | None = None
        self.pending: Counter[Subset] = Counter()
        self._lost: Counter[Subset] = Counter()
        self.result: Result | None = None
        self._begin()

    def _begin(self) -> None:
        self.search = Search(self.case.units, self.case.prefixes, self.case.needs, self.case.likely)
        for subset in self.built:
            self.search.builds(subset)
        for failed in self.failed:
            self.search.fails(failed.subset)
        for subset, times in self._lost.items():
            if times >= _LOST:
                self.search.skip(subset)
        self._known = self._baseline_titles()
        if self.question:
            for seen in self.seen:
                self._learn(seen)

    # What was seen.

    def saw(self, seen: Seen) -> None:
        """A trial was made and judged."""
        self.result = None  # it may have come too late for what was found, and shed doubt on it
        self.seen.append(seen)
        if self.question is None:
            self.question = self._differing()
            if self.question:
                self._begin()
        elif self._baseline_titles() != self._known:
            self._begin()
        else:
            self._learn(seen)

    def lost(self, subset: Subset) -> bool:
        """A trial ended in infrastructure errors, however often it was tried. Returns whether the set is given up."""
        self._lost[subset] += 1
        given_up = self._lost[subset] >= _LOST and not any(seen.subset == subset for seen in self.seen)
        if given_up:
            self.search.skip(subset)
        return given_up

    def builds(self, subset: Subset) -> None:
        """A set could be built."""
        self.built[subset] = None
        self.search.builds(subset)

    def fails(self, subset: Subset, why: str) -> None:
        """A set could not be built."""
        self.failed.append(Failed(subset, why, len(self.seen)))
        self.search.fails(subset)

    def _learn(self, seen: Seen) -> None:
        assert self.question is not None
        if self.counts(seen, self.question):
            self.search.saw(seen.subset, seen.shows(self.question))
        count = self.count(seen.subset)
        together = count.trials + count.others
        if together >= _BLIND and count.trials < _BLIND_SHARE * together:
            self.search.skip(seen.subset)

    # What it means.

    def counts(self, seen: Seen, question: Question) -> bool:
        """Whether a trial says something of what is asked.

        A program that ended, well or with a wrong result, had its whole chance to show the outcome. One that crashed or
        hung in another way had not: it might have shown the outcome a moment later, so it tells nothing, neither yes
        nor no. But what the baseline does itself is its way not to show the outcome.
        """
        if seen.shows(question) or seen.verdict not in ("crash", "hang") or question.verdict == "pass":
            return True
        return seen.title in self._baseline_titles()

    def count(self, subset: Subset, question: Question | None = None) -> Count:
        """How the trials of a set came out."""
        wanted = question or self.question or Question()
        those = [seen for seen in self.seen if seen.subset == subset]
        counting = [seen for seen in those if self.counts(seen, wanted)]
        return Count(sum(seen.shows(wanted) for seen in counting), len(counting), len(those) - len(counting))

    def _baseline_titles(self) -> set[str]:
        return {seen.title for seen in self.seen if seen.subset == NOTHING}

    def _differing(self) -> Question | None:
        """The outcome that comes oftener with everything than with nothing, if that is likely enough."""
        question = self._candidate()
        titles = {(seen.verdict, seen.title) for seen in self.seen}
        # The more there is to differ, the likelier it is that something does by chance.
        share = 1 if self.case.asked else max(1, len(titles) - 1)
        return question if share * self._alike(question) <= 1 - DIFFERS else None

    def _alike(self, question: Question) -> float:
        whole, nothing = self.count(self.case.whole, question), self.count(NOTHING, question)
        return alike(whole.shown, whole.trials, nothing.shown, nothing.trials)

    def _candidate(self) -> Question:
        """What was asked for, or what differs most: a title rather than a verdict, if it explains as much."""
        if self.case.asked:
            return self.case.asked
        seen = [seen_trial for seen_trial in self.seen if seen_trial.subset == self.case.whole]
        titled = [Question(title=seen_trial.title) for seen_trial in seen if seen_trial.verdict in ("crash", "hang")]
        # That it passes is only a change where the baseline does not.
        well = {seen_trial.verdict for seen_trial in self.seen if seen_trial.subset == NOTHING} <= {"pass"}
        verdicts = [
            Question(verdict=seen_trial.verdict) for seen_trial in seen if not (well and seen_trial.verdict == "pass")
        ]
        options = list(dict.fromkeys([*titled, *verdicts]))
        return min(options, key=self._alike, default=Question(verdict="crash"))

    # What to do next.

    def next(self, costs: Costs) -> Subset | None:
        """The set to try next, built or not; None if there is nothing more to do: then there is a result."""
        if self.question is None:
            ends = [self._made(end) for end in (self.case.whole, NOTHING)]
            if min(ends) >= self.case.most:
                question = self._candidate()
                self.result = Result(question, None, False, self._alike(question))
                return None
            return self.case.whole if ends[0] <= ends[1] else NOTHING
        answer = self.search.answer()
        if self.search.none >= self.case.confidence:
            self.result = Result(self.question, None, True, self.search.none)
            return None
        if answer.probability >= self.case.confidence:
            if self.case.prefixes or answer.alternatives[0] in self.built:
                self.result = Result(self.question, answer, True, self.search.none)
                return None
            return answer.alternatives[0]
        if len(self.seen) < _ENOUGH * self.case.most and (chosen := self.search.choose(costs)):
            return chosen[0]
        self.result = Result(self.question, answer, False, self.search.none)
        return None

    def meanwhile(self, costs: Costs) -> Subset | None:
        """A set that is built and of which a trial tells something, while another one is being built."""
        if self.question is None:
            return None
        chosen = self.search.choose(costs, only_built=True)
        return chosen[0] if chosen and chosen[1] >= _MEANWHILE else None

    def ahead(self, subset: Subset, costs: Costs) -> Subset | None:
        """A set that will probably be wanted when it is known whether the culprit is in another one."""
        if self.question is None:
            return None
        inside = self.search.inside(subset)
        for known in sorted((True, False), key=lambda known: -(inside if known else 1 - inside)):
            chosen = self.search.given(subset, known).choose(costs)
            if chosen and chosen[0] not in self.built:
                return chosen[0]
        return None

    def to_go(self, costs: Costs) -> int:
        """About how many trials are left."""
        if self.question is None:
            return max(1, 2 * self.case.units.bit_length() + 8)
        chosen = self.search.choose(costs)
        return self.search.to_go(chosen[1]) if chosen else 1

    def least(self) -> tuple[float, float] | None:
        """What difference would have shown with which probability, after both ends were tried in vain."""
        question = self._candidate()
        whole, nothing = self.count(self.case.whole, question), self.count(NOTHING, question)
        if not whole.trials or not nothing.trials:
            return None
        for chance in (0.9, 0.5):
            if apart := least_shown(whole.trials, nothing.shown, nothing.trials, DIFFERS, chance):
                return apart, chance
        return None

    def _made(self, subset: Subset) -> int:
        return sum(seen.subset == subset for seen in self.seen) + self.pending[subset]


@dataclass(frozen=True)
class Step:
    """Trials of one set in a row, or a build that failed, and what was believed after them.

    Attributes:
        why: why it could not be built; "" if it could.
        none: the probability that nothing makes a difference.
    """

    subset: Subset
    count: Count
    verdicts: Mapping[str, int]
    why: str
    answer: Answer | None
    none: float


@dataclass
class _Row:
    subset: Subset
    seen: list[Seen] = field(default_factory=list)
    why: str = ""
    answer: Answer | None = None
    none: float = 0.0
    end: bool = False


def steps(course: Course) -> list[Step]:
    """A bisect step by step, told from what was seen. The trials of the two ends before the search are a step each."""
    again = Course(course.case)
    rows: list[_Row] = []
    left = list(course.failed)
    for place, row_trial in enumerate([*course.seen, None]):
        while left and (row_trial is None or left[0].after <= place):
            failed = left.pop(0)
            again.fails(failed.subset, failed.why)
            rows.append(_Row(failed.subset, why=failed.why))
            _believe(rows[-1], again)
        if row_trial is None:
            break
        end = again.question is None
        if row_trial.subset not in again.built:
            again.builds(row_trial.subset)
        again.saw(row_trial)
        known = [
            row
            for row in (rows if end else rows[-1:])
            if row.end == end and row.subset == row_trial.subset and row.seen
        ]
        row = known[0] if known else _Row(row_trial.subset, end=end)
        rows += [] if known else [row]
        row.seen.append(row_trial)
        _believe(row, again)
    question = course.question or course._candidate()
    steps_ = []
    for row in rows:
        counting = [row_trial for row_trial in row.seen if course.counts(row_trial, question)]
        shown = sum(row_trial.shows(question) for row_trial in counting)
        count = Count(shown, len(counting), len(row.seen) - len(counting))
        verdicts = Counter(row_trial.verdict for row_trial in row.seen)
        steps_.append(Step(row.subset, count, verdicts, row.why, row.answer, row.none))
    return steps_


def _believe(row: _Row, course: Course) -> None:
    row.answer = course.search.answer() if course.question and not row.end else None
    row.none = course.search.none
