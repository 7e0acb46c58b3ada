"""The steps of a bisect, as a report shows them: trials of one set in a row, or a build that failed, and what was
believed after each.

They follow from the trials and builds of its course alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.bisect.course import Count, Course, JudgedTrial
from harness.bisect.search import Answer, Subset


@dataclass(frozen=True)
class Step:
    """Trials of one set in a row, or a build that failed, and what was believed after them.

    Attributes:
        count: how many of the trials show the outcome.
        trials: the trials.
        reason: why the set cannot be built; "" if it was built.
        answer: the most probable answer; None before the search.
        none: the probability that nothing makes a difference.
    """

    subset: Subset
    count: Count
    trials: Sequence[JudgedTrial]
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


def course_steps(course: Course) -> list[Step]:
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
            row.trials,
            row.reason,
            row.answer,
            row.none,
        )
        for row in rows
    ]


def _set_belief(row: _Row, course: Course) -> None:
    answer, row.none = course.belief()
    row.answer = None if row.end else answer
