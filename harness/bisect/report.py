"""The report of a bisect: its steps and its answer in the terminal, and as a page of HTML.

Titles can have output of programs, which is not trusted: control characters are escaped, and a page has it as text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from harness.bisect import fit
from harness.bisect.course import NOTHING, Course, JudgedTrial, Result
from harness.bisect.hunks import Unit
from harness.bisect.search import Answer, Subset
from harness.bisect.steps import Step, course_steps
from harness.escapes import decoded, one_line
from harness.files import write_page
from harness.results.page import assets, environment
from harness.results.terminal import plain_table, print_grid
from harness.results.text import render_count


class UnitRow(NamedTuple):
    """A line of the report: a unit, its first changed line, and the probability that it is part of the culprit."""

    name: str
    about: str
    probability: float


class StepRow(NamedTuple):
    """A line of the report: the set that was tried, the outcome, the most probable answer after it, and its trials."""

    subset: str
    outcome: str
    answer: str
    trials: Sequence[JudgedTrial]


@dataclass(frozen=True)
class Story:
    """The content of a bisect's report.

    Attributes:
        what: the kind of its units: hunk, block or commit.
        program: the program's name.
        guest: the guest's name.
        baseline: the variant that it starts from.
    """

    course: Course
    units: Sequence[Unit]
    what: str
    program: str
    guest: str
    baseline: str

    def answer(self) -> list[str]:
        """The result, in sentences."""
        course, result = self.course, self.course.result
        if result is None:
            return ["The bisect is not finished."]
        whole, nothing = (course.count(end, result.question) for end in (course.case.whole, NOTHING))
        trials = "trial" if whole.trials == 1 else "trials"
        ends = f"{result.question}: {whole} {trials} with all of it, {nothing} with {self.baseline}"
        if result.answer is None:
            trials = render_count(whole.trials + nothing.trials, "trial")
            sentences = [f"No difference found with {trials}. {ends}."]
            if nothing.trials and nothing.shown == nothing.trials:
                sentences.append(f"{self.program} already does so in every trial with {self.baseline}.")
            if detectable := course.detectable():
                difference, chance = detectable
                sentences.append(
                    f"A difference of {difference:.0%} would have shown with a probability of {chance:.0%}."
                )
            elif not result.decided:
                sentences.append("So few trials could not have shown any difference.")
            return sentences
        answer = result.answer
        sure = f"with a probability of {_percent(answer.probability)}"
        if result.grades:
            return [*self._graded(result, sure), f"{ends}.", f"It took {self.cost()}."]
        if answer.whole:
            first = f"No single {self.what} or pair of {self.what}s changes it: three or more are needed, {sure}."
        elif len(answer.alternatives) > 1:
            names = ", ".join(self.name(max(alternative)) for alternative in answer.alternatives)
            first = f"One of {names}, {sure}; no build can tell which."
        else:
            members = [max(answer.alternatives[0])] if course.case.prefixes else sorted(answer.alternatives[0])
            first = f"{self._list(members)}, {sure}."
        if result.misfit > fit.PRIOR:
            share = f"{result.misfit:.0%}"
            first += f" But its effect may be graded ({share}): {self._between(answer)}. More trials would show that."
        elif not result.decided:
            first += f" That is less than the {course.case.confidence:.0%} asked for; more trials would hardly help."
        fits = ["Two rates, with it and without, fit what was seen."] if result.misfit <= fit.FITS else []
        return [first, *fits, f"{ends}.", f"It took {self.cost()}."]

    def _graded(self, result: Result, sure: str) -> list[str]:
        """The result if effects are graded: a sentence for each step, the rarest outcome first."""
        steps = sorted(result.grades, key=lambda grade: self._rate(grade.low))
        sentences = [
            f"The effect is graded: {len(steps)} steps make it up, {sure}."
            if len(steps) > 1
            else "The effect is graded, and only one step was found."
        ]
        for grade in steps:
            units = self._list(sorted(grade.answer.alternatives[0]))
            if len(grade.answer.alternatives) > 1:
                units = "one of " + ", ".join(self.name(max(units)) for units in grade.answer.alternatives)
            low, high = (self.course.count(subset, result.question) for subset in (grade.low, grade.high))
            below = self.subset(grade.low) if grade.low else self.baseline
            ends = f"from {low} ({below}) to {high} ({self.subset(grade.high)})"
            sentences.append(f"{units} takes it {ends}.")
        return sentences

    def _rate(self, subset: Subset) -> float:
        count = self.course.count(subset)
        return count.shown / max(1, count.trials)

    def _between(self, answer: Answer) -> str:
        """The counts of the sets that check an answer."""
        checks = [check.subset for check in self.course.checks(answer)]
        return ", ".join(f"{self.course.count(subset)} with {self.subset(subset)}" for subset in checks)

    def header(self) -> str:
        """The text before the patch, as comments, so that a tool that applies the patch ignores it."""
        return "".join(f"# {one_line(line)}\n" for line in self.answer()) + "\n"

    def cost(self) -> str:
        """How many trials and builds it took."""
        failed = len(self.course.failed)
        builds = len(self.course.built) - 1 + failed
        cost = f"{render_count(len(self.course.trials), 'trial')} and {render_count(builds, 'build')}"
        cost += f", {failed} of which failed" * bool(failed)
        if repetitions := self.course.repetitions:
            verb = "tells" if repetitions == 1 else "tell"
            cost += f"; about {render_count(repetitions, 'trial')} {verb} whether a build has the culprit"
        return cost

    def name(self, number: int) -> str:
        """A unit's name, of a commit with its subject."""
        unit = self.units[number]
        return f"{unit.name} ({unit.about})" if self.what == "commit" else unit.name

    def subset(self, subset: Subset) -> str:
        """A set in a few words: the numbers of its units, in ranges."""
        total = len(self.units)
        if not subset:
            return f"none ({self.baseline})"
        if len(subset) == total:
            return f"all {total}"
        if self.course.case.prefixes:
            return f"up to {self.units[max(subset)].name}"
        runs: list[list[int]] = []
        for unit in sorted(subset):
            if runs and unit == runs[-1][1] + 1:
                runs[-1][1] = unit
            else:
                runs.append([unit, unit])
        return ", ".join(f"{first + 1}" if first == last else f"{first + 1}-{last + 1}" for first, last in runs)

    def step_answer(self, step: Step) -> str:
        """The most probable answer after a step."""
        if step.answer is None:
            return ""
        sets = ", ".join(self.subset(alternative) for alternative in step.answer.alternatives[:3])
        return f"{sets}: {step.answer.probability:.0%}"

    def _list(self, members: Sequence[int]) -> str:
        names = [self.name(unit) for unit in members]
        return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]} together"

    def rows(self) -> list[StepRow]:
        """The steps."""
        return [
            StepRow(
                self.subset(step.subset),
                f"not built: {step.reason}" if step.reason else str(step.count),
                self.step_answer(step),
                step.trials,
            )
            for step in course_steps(self.course)
        ]

    def blame(self) -> list[UnitRow]:
        """The units, with the probability that each is part of the culprit."""
        return [
            UnitRow(unit.name, unit.about, probability)
            for unit, probability in zip(self.units, self.course.blame(), strict=True)
        ]


def print_(story: Story, console: Console) -> None:
    """Print the steps and the answer."""
    ascii_only = console.options.ascii_only

    def safe(text: str) -> Text:
        line = one_line(text)
        return Text(line.encode("ascii", "backslashreplace").decode() if ascii_only else line)

    units = plain_table("", story.what, "changes", "part of it")
    for number, unit in enumerate(story.blame(), start=1):
        units.add_row(str(number), safe(unit.name), safe(unit.about), f"{unit.probability:.1%}")
    print_grid(console, units)
    console.print()
    question = story.course.result.question if story.course.result else story.course.question
    steps = plain_table(f"{story.what}s in", safe(str(question)), "most probable then")
    for row in story.rows():
        steps.add_row(*map(safe, row[:3]))
    print_grid(console, steps)
    console.print()
    for line in story.answer():
        console.print(safe(line), soft_wrap=True)


def write_html(
    path: Path,
    story: Story,
    patch: bytes,
    facts: Mapping[str, str],
    trial_ids: Mapping[tuple[Subset, int], int],
    links: Mapping[str, str],
) -> None:
    """Write the page to a file, whole or not at all.

    Args:
        path: the file.
        story: the bisect.
        patch: the patch of the answer, or b"".
        facts: rows to show above the tables, by name.
        trial_ids: the ids of the trials by their set and their number, by which the run's page shows them.
        links: other pages, by what they are called; addresses are as seen from this page.

    Raises:
        OSError: it cannot be written.
    """
    template = environment(folder=Path(__file__).parent)
    template.filters["one_line"] = one_line
    text = template.get_template("bisect.html.j2").render(
        story=story,
        facts=facts,
        trial_ids=trial_ids,
        links=links,
        **assets(),
        steps=story.rows(),
        question=str(story.course.result.question if story.course.result else ""),
        patch=decoded(patch),
    )
    write_page(path, [text])


def _percent(probability: float) -> str:
    """A probability in words that never claim certainty."""
    return "more than 99.9%" if probability > 0.999 else f"{probability:.1%}"
