"""What a reader sees of a bisect: its steps and its answer in the terminal, and as a page of HTML.

What a program wrote, and a title is, is hostile: control characters are spelt out, and a page has it as text.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from harness.bisect import course as courses
from harness.bisect.course import NOTHING, Course, Step
from harness.bisect.hunks import Unit
from harness.bisect.search import Subset
from harness.results.words import one_line


@dataclass(frozen=True)
class Story:
    """A bisect that is told.

    Attributes:
        what: what a unit is: hunk, block or commit.
        baseline: the variant that it began from.
    """

    course: Course
    units: Sequence[Unit]
    what: str
    program: str
    guest: str
    baseline: str

    def answer(self) -> list[str]:
        """What it came to, in sentences."""
        course, result = self.course, self.course.result
        if result is None:
            return ["The bisect is not over."]
        whole, nothing = (course.count(end, result.question) for end in (course.case.whole, NOTHING))
        ends = f"{result.question}: {whole} trials with all of it, {nothing} with {self.baseline}"
        if result.answer is None:
            sentences = [f"No difference found with {whole.trials + nothing.trials} trials. {ends}."]
            if nothing.trials and nothing.shown == nothing.trials:
                sentences.append(f"{self.program} does so with {self.baseline} in every trial, whatever is changed.")
            if least := course.least():
                apart, chance = least
                sentences.append(f"A difference of {apart:.0%} would have shown with a probability of {chance:.0%}.")
            elif not result.decided:
                sentences.append("No difference, however great, would have shown with so few trials.")
            return sentences
        answer = result.answer
        sure = f"with a probability of {answer.probability:.1%}"
        if answer.whole:
            first = f"No one or two {self.what}s alone change it: three or more are needed, {sure}."
        elif len(answer.alternatives) > 1:
            names = ", ".join(self.name(max(alternative)) for alternative in answer.alternatives)
            first = f"One of {names}, {sure}; no build can tell which."
        else:
            members = [max(answer.alternatives[0])] if course.case.prefixes else sorted(answer.alternatives[0])
            first = f"{self._list(members)}, {sure}."
        if not result.decided:
            first += f" That is less than the {course.case.confidence:.0%} asked for: more trials would hardly tell."
        return [first, f"{ends}.", f"It took {self.cost()}."]

    def header(self) -> str:
        """What stands before the patch; a tool that applies it must not take it for a part."""
        return "".join(f"# {one_line(line)}\n" for line in self.answer()) + "\n"

    def cost(self) -> str:
        """How many trials and builds it took."""
        failed = len(self.course.failed)
        tried = len(self.course.built) - 1 + failed
        return f"{len(self.course.seen)} trials and {_count(tried, 'build')}" + (
            f", {failed} of which failed" * bool(failed)
        )

    def name(self, unit: int) -> str:
        """A unit, with what it is about."""
        named = self.units[unit]
        return f"{named.name} ({named.about})" if self.what == "commit" else named.name

    def subset(self, subset: Subset) -> str:
        """A set in a few words: units that follow each other are put together."""
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

    def believed(self, step: Step) -> str:
        """What was believed after a step."""
        if step.answer is None:
            return ""
        sets = ", ".join(self.subset(alternative) for alternative in step.answer.alternatives[:3])
        return f"{sets}: {step.answer.probability:.0%}"

    def _list(self, members: Sequence[int]) -> str:
        names = [self.name(unit) for unit in members]
        return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]} together"

    def rows(self) -> list[tuple[str, str, str]]:
        """The steps: the set, what came of it, what was believed then."""
        return [
            (self.subset(step.subset), f"not built: {step.why}" if step.why else str(step.count), self.believed(step))
            for step in courses.steps(self.course)
        ]

    def blame(self) -> list[tuple[str, str, float]]:
        """The units: name, what they are about, the probability that they are part of it."""
        blame = self.course.search.blame() if self.course.question else [0.0] * len(self.units)
        return [(unit.name, unit.about, float(share)) for unit, share in zip(self.units, blame, strict=True)]


def print_(story: Story, console: Console) -> None:
    """Print the steps and the answer."""
    ascii_only = console.options.ascii_only

    def safe(text: str) -> Text:
        spelt = one_line(text)
        return Text(spelt.encode("ascii", "backslashreplace").decode() if ascii_only else spelt)

    units = Table("", story.what, "changes", "part of it", box=None)
    for number, (name, about, share) in enumerate(story.blame(), start=1):
        units.add_row(str(number), safe(name), safe(about), f"{share:.1%}")
    console.print(units)
    console.print()
    question = story.course.result.question if story.course.result else story.course.question
    steps = Table(f"{story.what}s in", Column(safe(str(question))), "most probable then", box=None)
    for row in story.rows():
        steps.add_row(*map(safe, row))
    console.print(steps)
    console.print()
    for line in story.answer():
        console.print(safe(line), soft_wrap=True)


def write_html(path: Path, story: Story, patch: bytes, facts: Mapping[str, str]) -> None:
    """Write the page to a file, whole or not at all. Raises OSError."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["one_line"] = one_line
    text = environment.get_template("bisect.html.j2").render(
        story=story,
        facts=facts,
        steps=story.rows(),
        question=str(story.course.result.question if story.course.result else ""),
        patch=patch.decode(errors="replace"),
    )
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(text, encoding="utf-8", errors="backslashreplace")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else "s")
