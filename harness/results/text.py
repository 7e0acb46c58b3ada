"""What all reports share: the verdicts' signs, the sentences, and ways to show hostile text.

Whatever a program or a guest wrote is hostile. Knows matrices, nothing of terminals, pages or files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from harness.escapes import decoded, one_line
from harness.guest.pool import FAILED_BOOTS
from harness.invocation import repeated
from harness.results.history import Rise, TitleHistory
from harness.results.matrix import Cell, CellVerdict, Difference, Finding, Matrix, NumberedCell
from harness.results.statistics import LEVEL, POWER
from harness.trial.diagnostics import PREFIX, SCREEN
from harness.trial.record import Verdict


class Sign(NamedTuple):
    """How a verdict is shown: its mark, its mark on a stream without UTF-8, its style in a terminal (rich)."""

    mark: str
    ascii_mark: str
    style: str


#: All marks are one column wide and differ in shape, so that colour is never the only carrier.
SIGNS = {
    CellVerdict.PASS: Sign("✔", "+", "green"),
    CellVerdict.FAIL: Sign("≠", "-", "yellow"),
    CellVerdict.CRASH: Sign("✖", "X", "bold red"),
    CellVerdict.HANG: Sign("∞", "%", "bold magenta"),
    CellVerdict.KILLS: Sign("†", "k", "bold bright_red"),
    CellVerdict.FLAKY: Sign("~", "~", "bold cyan"),
    CellVerdict.ERROR: Sign("!", "!", "bold blue"),
    CellVerdict.NONE: Sign("·", ".", "dim"),
}
#: How much of each stream of a trial is shown at most, in bytes: half from its beginning, half from its end.
SHOWN = 64 * 1024
#: The most lines of a stream, and characters of a line, in an excerpt.
EXCERPT, LONGEST = 40, 1000
#: The most programs that are named in a line on where something occurs.
_NAMED = 8


class CellFinding(NamedTuple):
    """A cell with its number in the matrix, and one way in which it went wrong."""

    number: int
    cell: Cell
    finding: Finding


class Member(NamedTuple):
    """A program of a suite: its name in it, and its place in `Matrix.programs`."""

    name: str
    place: int


@dataclass
class Cause:
    """One way to go wrong, over all cells.

    Attributes:
        count: how many trials went wrong so.
        cells: those that did.
    """

    verdict: str
    title: str
    count: int = 0
    cells: list[CellFinding] = field(default_factory=list)

    @property
    def known(self) -> int:
        """How many of the trials went wrong as the configuration expects."""
        return sum(numbered.finding.count for numbered in self.cells if numbered.finding.expected)


@dataclass(frozen=True)
class Stream:
    """A stream as it is shown: its text in one part, or two with a gap between; and how much of it that is."""

    parts: tuple[str, ...]
    size: str
    gap: str


def shown_stream(kept: bytes, total: int, most: int = SHOWN) -> Stream:
    """A stream to be shown.

    Args:
        kept: what was kept of it; the middle is left out if that is more than `most` bytes.
        total: how many bytes the program wrote.
    """
    half = most // 2
    parts = [kept] if len(kept) <= most else [kept[:half], kept[-half:]]
    shown = sum(map(len, parts))
    size = f"{total:,} byte{'' if total == 1 else 's'}"
    return Stream(
        tuple(map(decoded, parts)),
        size if total <= shown else f"{size}, {shown:,} of them here",
        f"{len(kept) - shown:,} bytes left out here",
    )


def stream_lines(shown: Stream) -> Iterator[str]:
    """The lines of a stream for a terminal, its columns as they were, and a line where something is left out."""
    for place, part in enumerate(shown.parts):
        if place:
            yield f"[{shown.gap}]"
        for line in part.removesuffix("\n").split("\n") if part else []:
            yield one_line(line.removesuffix("\r").expandtabs())


def excerpt(data: bytes, see_all: str) -> Iterator[str]:
    """The lines of a stream for a terminal: the first and the last ones if there are many, each only its beginning if
    it is long, with a word on where all of it is.

    Args:
        see_all: the command that prints it as it is.
    """
    lines = list(stream_lines(shown_stream(data, len(data), len(data))))
    cut = len(lines) - EXCERPT
    for number, line in enumerate(lines):
        if cut > 0 and number == EXCERPT // 2:
            yield f"[{render_count(cut, 'line')} left out; all of it: {see_all}]"
        if not 0 <= number - EXCERPT // 2 < cut:
            left = len(line) - LONGEST
            yield line if left <= 0 else f"{line[:LONGEST]}[{left} more characters; all of it: {see_all}]"


def is_text(name: str) -> bool:
    """Whether something that was collected of a trial is for people to read."""
    return name.startswith(PREFIX) and name != SCREEN


def group_by_suite(matrix: Matrix) -> dict[str, list[Member]]:
    """The programs by folder, both in the order of the programs."""
    groups: dict[str, list[Member]] = {}
    for place, program in enumerate(matrix.programs):
        suite, _, name = program.rpartition("/")
        groups.setdefault(suite, []).append(Member(name, place))
    return groups


def list_findings(matrix: Matrix, errors: bool) -> list[CellFinding]:
    """What went wrong by a program's doing, or (errors) by a guest's or the harness's."""
    return [
        CellFinding(index, cell, finding)
        for index, cell in enumerate(matrix.cells)
        for finding in cell.findings
        if (finding.verdict == "error") == errors
    ]


def group_causes(matrix: Matrix, errors: bool) -> list[Cause]:
    """The same by what was found, that of most trials first."""
    by_title: dict[tuple[str, str], Cause] = {}
    for numbered in list_findings(matrix, errors):
        key = numbered.finding.verdict, numbered.finding.title
        cause = by_title.setdefault(key, Cause(*key))
        cause.count += numbered.finding.count
        cause.cells.append(numbered)
    return sorted(by_title.values(), key=lambda cause: -cause.count)


def describe_places(cause: Cause) -> Iterator[str]:
    """Where something went wrong in a way: by guest and libgo how many of how many trials, and the programs; those that
    did so alike in one line."""
    by_program: dict[str, dict[str, list[str]]] = {}
    for _, cell, finding in cause.cells:
        tried = cell.trials + cell.errors if finding.verdict == "error" else cell.trials
        guests = by_program.setdefault(cell.program, {})
        guests.setdefault(cell.guest, []).append(f"{cell.variant} {finding.count} of {tried}")
    alike: dict[str, list[str]] = {}
    for program, guests in by_program.items():
        counts = "; ".join(f"{guest}: {', '.join(variants)}" for guest, variants in guests.items())
        alike.setdefault(counts, []).append(program)
    for counts, programs in alike.items():
        more = f" and {render_count(len(programs) - _NAMED, 'more program')}" if len(programs) > _NAMED else ""
        yield f"{', '.join(programs[:_NAMED])}{more}; {counts}"


def contradicted_cells(matrix: Matrix) -> list[NumberedCell]:
    """Cells that surprise though the configuration has something to say of them."""
    return [numbered for numbered in matrix.surprises() if numbered.cell.contradicts]


def describe_contradiction(cell: Cell) -> str:
    """What is wrong about what the configuration says of a cell."""
    outcome = f"all {cell.trials} passed" if cell.passed == cell.trials else "it went wrong in another way"
    return f"{outcome}; expected: {cell.contradicts}"


def describe_comparisons(matrix: Matrix) -> str:
    """How many comparisons were made, and whether the trials suffice for any claim."""
    if not matrix.comparisons:
        return "Nothing was compared: no variant besides the baseline has trials where the baseline has."
    if matrix.most:
        return _sequential(matrix, matrix.most)
    cells = render_count(matrix.comparisons, "cell")
    sentence = (
        f"Fisher's exact test against {matrix.baseline}, Holm's correction for {cells}, of which {matrix.contenders}"
        " could have differed significantly."
    )
    if matrix.trials_needed:
        sentence += (
            f" No difference in one program can be significant below"
            f" {render_count(matrix.trials_needed, 'trial')} per cell."
        )
    return sentence


def _sequential(matrix: Matrix, most: int) -> str:
    """What a run until it was sure, or one that was extended, has decided, and at what risk."""
    risk = "the chance that any of the differences claimed is false is at most"
    risk += f" {LEVEL:.0%}, for all looks and cells together."
    if extended := matrix.run.get("extended"):
        return (
            f"The run was extended, {extended}. Who extends a run may have seen what it showed, so the test is a"
            f" sequential one against {matrix.baseline}, with Holm's correction for"
            f" {render_count(matrix.comparisons, 'cell')}: {risk}"
            f" Claimed: {render_count(len(matrix.differences(claimed=True)), 'cell')}."
        )
    spent = sum(cell.trials for cell in matrix.cells)
    cells = sum(1 for cell in matrix.cells if cell.trials)
    sentence = (
        f"Sequential test against {matrix.baseline} after every round of trials, Holm's correction for"
        f" {render_count(matrix.comparisons, 'cell')}: {risk}"
        f" {render_count(spent, 'trial')} instead of {cells * most}."
        f" Decided: {render_count(len(matrix.differences(claimed=True)), 'cell')}."
    )
    if left := matrix.undecided():
        counts = [cell.trials for _, cell, _ in left]
        sentence += (
            f" Not decided: {render_count(len(left), 'cell')}, after {_range(min(counts), max(counts))}: with at most"
            f" {render_count(most, 'trial')} of each cell, no outcome of those left could have made a claim."
        )
    return sentence


def _range(least: int, most: int) -> str:
    return render_count(most, "trial") if least == most else f"{least} to {most} trials"


def describe_evidence(matrix: Matrix, cell: Cell, difference: Difference) -> str:
    """What a difference from the baseline is borne out by: both counts, p, and p corrected."""
    return (
        f"{cell.passed} of {cell.trials} passed against {difference.baseline_passed} of {difference.baseline_trials}"
        f" with {matrix.baseline}; p {render_p(difference.p)}, corrected {render_p(difference.p_corrected)}"
    )


def describe_power(matrix: Matrix, difference: Difference) -> str:
    """What a comparison that is not claimed could have shown; '' if it is claimed, and in a run until it was sure."""
    if difference.claimed or matrix.most:
        return ""
    if difference.detectable is None:
        return "not claimed: so few trials can show no difference"
    share = f"{difference.detectable:.0%}"
    return f"not claimed: failures in {share} of its trials would have been found with a probability of {POWER:.0%}"


def describe_infra_errors(matrix: Matrix) -> str:
    """How many trials ended in an infrastructure error, of a guest or the harness, or '' if none."""
    totals = matrix.totals()
    errors = totals.trials[Verdict.ERROR]
    if not errors:
        return ""
    lost = f"{totals.lost} could not be repeated" if totals.lost else "all were repeated"
    return f"{render_count(errors, 'infrastructure error')}; {lost}."


def describe_failed_boots(matrix: Matrix) -> str:
    """How many boots failed of guests that booted then, or '' if none."""
    texts = [event["text"] for event in matrix.events if str(event.get("text", "")).startswith(FAILED_BOOTS)]
    failed = sum(int(text.removeprefix(FAILED_BOOTS)) for text in texts)
    return f"{render_count(failed, 'boot')} failed before one worked." if failed else ""


def flatten_facts(run: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """The run's facts as lines: what is nested gets its keys joined by dots."""
    for key, value in run.items():
        if isinstance(value, Mapping):
            yield from flatten_facts(value, f"{above}{key}.")
        elif isinstance(value, list):
            yield f"{above}{key}", ", ".join(map(str, value))
        else:
            yield f"{above}{key}", str(value)


def run_facts(matrix: Matrix, work: Path | None) -> Iterator[tuple[str, str]]:
    """The facts of a matrix's run as lines, its command as it can be pasted.

    Args:
        work: the work directory that it is to use.
    """
    for name, value in flatten_facts(matrix.run):
        yield name, repeated(value, work) if name == "command" else value


def render_event(event: Mapping[str, Any]) -> dict[str, str]:
    """An event with the keys that are always shown; all others are told at the end of its text."""
    known = {key: str(event.get(key, "")) for key in ("time", "guest", "kind", "text")}
    others = [f"{key}: {value}" for key, value in event.items() if key not in known]
    known["text"] = "; ".join(filter(None, [known["text"], *others]))
    return known


def render_count(number: int, noun: str) -> str:
    """`1 trial`, `2 trials`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def render_interval(interval: Sequence[float]) -> str:
    """An interval of chances."""
    return f"{100 * interval[0]:.0f} to {100 * interval[1]:.0f} %"


def render_p(p: float) -> str:
    """A p value, three digits of it."""
    return f"{p:.3g}"


def describe_rise(rise: Rise) -> str:
    """That a cell fails more often than it did."""
    return (
        f"fails more often since its newest run: {rise.passed} of {rise.trials} passed against {rise.before_passed} of"
        f" {rise.before_trials} before; p {render_p(rise.p)}, corrected {render_p(rise.p_corrected)}"
    )


def describe_title(title: TitleHistory) -> str:
    """A way to go wrong: how often, in which runs, and whether it is gone."""
    runs = f"in run {title.first}" if title.first == title.last else f"in runs {title.first} to {title.last}"
    sentence = (
        f"{title.verdict} {title.trials} times, {runs}: {title.title}"
        if title.trials != 1
        else (f"{title.verdict} once, {runs}: {title.title}")
    )
    if not title.silence:
        return sentence
    since = f"not in the {render_count(title.silence, 'trial')} since"
    return f"{sentence} ({f'gone: {since}, p {render_p(title.p)}' if title.gone else since})"
