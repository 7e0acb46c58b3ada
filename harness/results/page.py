"""A matrix as a page: one file of HTML that needs no other and asks no network.

Whatever a program or a guest wrote is hostile. It is in the page as escaped text, and as compressed data of which the
page's script makes text; style and script are allowed by their hashes, so nothing else could run. The script draws no
more of the matrix than is seen, and unpacks a trial's output when it is looked at, so the size of a run does not
matter. Knows matrices and trials, nothing of where they come from.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup

from harness.durations import in_words
from harness.escapes import visible
from harness.files import write_page
from harness.invocation import command_line, repeated, work_option
from harness.results import lifecycle
from harness.results.answer import answer
from harness.results.lifecycle import LifeCycle
from harness.results.matrix import FINDING_VERDICTS, TRIAL_VERDICTS, Cell, CellVerdict, Matrix
from harness.results.outdiff import OutputDiff
from harness.results.text import (
    SHOWN,
    SIGNS,
    Cause,
    contradicted_cells,
    describe_comparisons,
    describe_contradiction,
    describe_failed_boots,
    describe_infra_errors,
    describe_power,
    group_by_suite,
    group_causes,
    is_text,
    render_count,
    render_event,
    render_interval,
    render_p,
    run_facts,
    shown_stream,
)
from harness.trial.diagnostics import SCREEN
from harness.trial.record import Trial, Verdict

#: The most entries of a list in the page; all the others are found through the matrix.
LISTED = 100
#: The most cells of a matrix that is in the page for browsers without script too.
PLAIN = 2000
#: Bytes of the streams of all trials that passed, and of all others, that are shared out between them before they are
#: packed; the least that a stream gets; and the most that all of them may take when they are packed.
ROOM = {True: 32 << 20, False: 256 << 20}
LEAST = 1024
PACKED = {True: 8 << 20, False: 24 << 20}
#: Bytes of text that are packed together: what is unpacked to look at one trial.
BLOCK = 256 << 10

#: The least width of a verdict's part of a bar, in hundredths: what is rare is seen too.
NARROW = 0.4

#: What was collected of a trial, by name, from its id.
Collected = Callable[[int], Mapping[str, bytes]]
#: How the output of a trial differs from what was expected, if that is known and it does.
Compared = Callable[[Trial], OutputDiff | None]


def write(
    path: Path,
    matrix: Matrix,
    trials: Iterable[Trial],
    cycles: Sequence[LifeCycle] = (),
    collected: Collected = lambda trial: {},
    work: Path | None = None,
    compared: Compared = lambda trial: None,
    links: Mapping[str, str] | None = None,
    unfinished: str = "",
) -> None:
    """Write the page to a file, whole or not at all.

    The trials are read once, one at a time. The page holds at most `SHOWN` bytes of each stream of each, fewer
    where they are many (see ROOM).

    Args:
        work: the work directory that shown commands are to use.
        links: other pages, by what they are called; addresses are as seen from this page.
        unfinished: a sentence that says so, if the run has not finished; commands stand between backquotes.

    Raises:
        OSError: the file cannot be written.
    """
    write_page(path, html(matrix, trials, cycles, collected, work, compared, links, unfinished))


def write_attribution(path: Path, matrix: Matrix, links: Mapping[str, str], work: Path | None = None) -> None:
    """Write the page of an experiment of all combinations to a file, whole or not at all. Raises OSError.

    Args:
        links: other pages, by what they are called; addresses are as seen from this page.
        work: the work directory that shown commands are to use.
    """
    template = environment(work).get_template("attribution.html.j2")
    write_page(path, [template.render(matrix=matrix, paragraphs=answer(matrix), links=links, **assets())])


def assets(style: str = "", script: str = "") -> dict[str, Markup]:
    """The style and the script of a page, for its template: those of all pages, then its own."""
    folder = Path(__file__).parent
    names = {"style": ["page.css", style], "script": ["page_parts.js", script]}
    return {key: Markup("".join((folder / name).read_text() for name in files if name)) for key, files in names.items()}


def environment(work: Path | None = None, folder: Path | None = None) -> jinja2.Environment:
    """What renders templates as pages: everything is escaped, and control characters are spelt out.

    Args:
        work: the work directory that shown commands are to use.
        folder: where templates are besides those of this folder.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*([folder] if folder else []), Path(__file__).parent]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
    )
    environment.globals["signs"] = text_signs()
    environment.filters |= {
        "csp_hash": _csp_hash,
        "repeated": partial(repeated, work=work),
        "percent": render_interval,
        "p_value": render_p,
        "duration": in_words,
        "contradiction": describe_contradiction,
        "count": render_count,
    }
    return environment


def html(
    matrix: Matrix,
    trials: Iterable[Trial],
    cycles: Sequence[LifeCycle] = (),
    collected: Collected = lambda trial: {},
    work: Path | None = None,
    compared: Compared = lambda trial: None,
    links: Mapping[str, str] | None = None,
    unfinished: str = "",
) -> Iterator[str]:
    """The page in pieces.

    The fragment `#cell-N` of its address opens the cell with that number in `matrix.cells`, `#trial-N` the trial with
    that id.
    """
    index = {**_index(matrix), "harness": command_line(), "option": work_option(work)}
    new, known = _by_knowledge(group_causes(matrix, errors=False))
    return (
        environment(work)
        .get_template("page.html.j2")
        .generate(
            matrix=matrix,
            command_line=partial(command_line, work=work),
            totals=matrix.totals(),
            links=links or {},
            unfinished=unfinished.split("`"),
            **assets(script="page.js"),
            when=_when(matrix.run),
            facts=list(run_facts(matrix, work)),
            suites=[
                (suite, [(name, matrix.row(place)) for name, place in members])
                for suite, members in group_by_suite(matrix).items()
            ]
            if len(matrix.cells) <= PLAIN
            else None,
            tallies=[tally for tally in (_cell_tally(matrix), _trial_tally(matrix)) if tally.number],
            new=new,
            known=known,
            infra=group_causes(matrix, errors=True),
            infra_errors=describe_infra_errors(matrix),
            failed_boots=describe_failed_boots(matrix),
            claimed=matrix.differences(claimed=True),
            suspected=[] if matrix.most else matrix.differences(claimed=False),
            undecided=matrix.undecided(),
            expectations=contradicted_cells(matrix),
            comparisons=describe_comparisons(matrix),
            answer=answer(matrix, cycles, work),
            events=[render_event(event) for event in matrix.events],
            trial_times=_trial_times(matrix),
            slowest=sorted(
                ((index, cell) for index, cell in enumerate(matrix.cells) if cell.ids),
                key=lambda entry: -entry[1].seconds / len(entry[1].ids),
            )[:10],
            most_listed=LISTED,
            cycles=cycles,
            plot=(lifecycle.WIDTH, lifecycle.HEIGHT),
            titles={title: place for place, title in enumerate(index["titles"])},
            index=pack(json.dumps(index, separators=(",", ":"))),
            blocks=_blocks(matrix, trials, collected, compared),
        )
    )


def pack(text: str) -> Markup:
    """Text compressed (RFC 1950) and in base64, which no HTML can come out of."""
    return Markup(base64.b64encode(zlib.compress(text.encode(), 6)).decode())


def unpack(text: str) -> str:
    """What was packed."""
    return zlib.decompress(base64.b64decode(text)).decode()


def _csp_hash(text: str) -> str:
    """The source expression by which a Content-Security-Policy allows just this inline text (CSP Level 3, 2.3.1)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def text_signs() -> dict[str, str]:
    """The signs of the verdicts. U+FE0E asks for the text form of those that some systems draw as coloured pictures
    otherwise (Unicode's emoji-data.txt)."""
    return {verdict: sign + "\ufe0e" * (sign in "✔✖") for verdict, (sign, _, _) in SIGNS.items()}


def _when(run: Mapping[str, Any]) -> str:
    """When a run was begun and how long it took, of what is known of that."""
    begun, ended = (_epoch(str(run.get(key, ""))) for key in ("created", "finished"))
    if not begun:
        return ""
    sentence = f"begun on {datetime.fromtimestamp(begun, UTC):%-d %B %Y at %H:%M} UTC, "
    return sentence + (f"took {in_words(ended - begun)}" if ended else "not finished")


class Share(NamedTuple):
    """A verdict's part of a bar: where it begins and how wide it is, in hundredths. `known` is of known failures."""

    verdict: str
    known: bool
    start: float
    width: float


class VerdictCount(NamedTuple):
    """How many cells or trials have a verdict, and how many of them are known failures."""

    verdict: str
    number: int
    known: int


@dataclass(frozen=True)
class Tally:
    """Cells or trials (`unit`) by verdict."""

    unit: str
    counts: Sequence[VerdictCount]

    @property
    def number(self) -> int:
        """How many they are in all."""
        return sum(count.number for count in self.counts)

    @property
    def shares(self) -> list[Share]:
        """The parts of a bar."""
        parts = []
        for verdict, number, known in self.counts:
            parts += [(verdict, True, known), (verdict, False, number - known)]
        widths = [max(100 * number / self.number, NARROW) if number else 0.0 for _, _, number in parts]
        shares, start = [], 0.0
        for (verdict, known, _), width in zip(parts, widths, strict=True):
            if width:
                width *= 100 / sum(widths)
                shares.append(Share(verdict, known, round(start, 2), round(width, 2)))
                start += width
        return shares


class ColumnTime(NamedTuple):
    """A column of the matrix: how many trials, and the seconds that they took together."""

    guest: str
    variant: str
    trials: int
    seconds: float


def _cell_tally(matrix: Matrix) -> Tally:
    known = Counter(cell.verdict for cell in matrix.cells if cell.known and not cell.surprise)
    counts = matrix.totals().cells
    return Tally("cell", [VerdictCount(name, number, known[name]) for name, number in counts.items() if number])


def _trial_tally(matrix: Matrix) -> Tally:
    known: Counter[str] = Counter()
    for cell in matrix.cells:
        for finding in cell.findings:
            known[finding.verdict] += finding.count * bool(finding.expected)
    counts = matrix.totals().trials
    return Tally("trial", [VerdictCount(name, number, known[name]) for name, number in counts.items() if number])


def _by_knowledge(causes: Sequence[Cause]) -> tuple[list[Cause], list[Cause]]:
    """Causes that are new somewhere, and those that are known wherever they were seen."""
    return [cause for cause in causes if cause.known < cause.count], [
        cause for cause in causes if cause.known == cause.count
    ]


def _trial_times(matrix: Matrix) -> list[ColumnTime]:
    return [
        ColumnTime(
            guest,
            variant,
            sum(len(cell.ids) for cell in matrix.cells[place :: len(matrix.columns)]),
            sum(cell.seconds for cell in matrix.cells[place :: len(matrix.columns)]),
        )
        for place, (guest, variant) in enumerate(matrix.columns)
    ]


def _index(matrix: Matrix) -> dict[str, Any]:
    """What the page's script knows of the cells: the numbers of all of them, each kind in a list of its own, and by a
    cell's number what only some have."""
    titles: dict[str, int] = {}

    def title(text: str) -> int:
        return titles.setdefault(text, len(titles))

    numbered = list(enumerate(matrix.cells))
    verdicts = list(CellVerdict)
    return {
        "columns": matrix.columns,
        "rows": list(group_by_suite(matrix).items()),
        "verdicts": verdicts,
        "signs": text_signs(),
        "baseline": matrix.baseline,
        "verdict": [verdicts.index(cell.verdict) for cell in matrix.cells],
        "passed": [cell.passed for cell in matrix.cells],
        "trials": [cell.trials for cell in matrix.cells],
        "seconds": [round(cell.seconds, 2) for cell in matrix.cells],
        "marks": [_marks(cell) for cell in matrix.cells],
        "intervals": {
            f"{cell.passed}/{cell.trials}": [round(bound, 4) for bound in cell.interval]
            for cell in matrix.cells
            if cell.interval
        },
        "hues": {index: verdicts.index(cell.hue) for index, cell in numbered if cell.hue != cell.verdict},
        "parts": {
            index: [[FINDING_VERDICTS.index(verdict), number] for verdict, number in cell.parts]
            for index, cell in numbered
            if cell.parts
        },
        "errors": {index: [cell.errors, cell.lost, cell.deaths] for index, cell in numbered if cell.errors},
        "differences": {
            index: [
                render_p(each.p),
                render_p(each.p_corrected),
                each.baseline_passed,
                each.baseline_trials,
                describe_power(matrix, each),
            ]
            for index, cell in numbered
            if (each := cell.difference)
        },
        "contradicts": {index: describe_contradiction(cell) for index, cell in numbered if cell.contradicts},
        "findings": {
            index: [
                [FINDING_VERDICTS.index(each.verdict), title(each.title), each.count, each.trial, title(each.expected)]
                for each in cell.findings
            ]
            for index, cell in numbered
            if cell.findings
        },
        "titles": list(titles),
    }


def _marks(cell: Cell) -> int:
    """Bits: 1 a surprise, 2 known, 4 claimed to differ."""
    return cell.surprise + 2 * bool(cell.known) + 4 * bool(cell.difference and cell.difference.claimed)


class Packer:
    """Texts that are not there yet are put into blocks, which are packed when they are full.

    Attributes:
        begins: the number of the first text of each block.
    """

    def __init__(self, name: str, most: int) -> None:
        self._name, self._most = name, most
        self._known: dict[bytes, int] = {}
        self._waiting: list[str] = []
        self._size = self._packed = 0
        self.begins: list[int] = []

    @property
    def full(self) -> bool:
        """Whether what was packed takes as much as it may."""
        return self._packed >= self._most

    def add(self, text: str) -> int:
        """Add a text; returns its number."""
        key = hashlib.blake2b(text.encode(), digest_size=16).digest()
        if key not in self._known:
            self._known[key] = len(self._known)
            self._waiting.append(text)
            self._size += len(text)
        return self._known[key]

    def blocks(self, last: bool = False) -> Iterator[tuple[str, Markup]]:
        """The block that is full, if one is, or the rest: its id in the page, and what is in it."""
        if self._waiting and (last or self._size >= BLOCK):
            packed = pack(f"[{','.join(self._waiting)}]")
            yield f"{self._name}-{len(self.begins)}", packed
            self.begins.append(len(self._known) - len(self._waiting))
            self._packed += len(packed) * 3 // 4
            self._waiting, self._size = [], 0


def _blocks(
    matrix: Matrix, trials: Iterable[Trial], collected: Collected, compared: Compared
) -> Iterator[tuple[str, Markup]]:
    """The packed data of all trials: what is long of them in blocks, at last what is short, each kind in a list.

    A text that several trials share is there once, so the outputs of trials that pass cost next to nothing.
    """
    totals = matrix.totals().trials
    number = {True: totals[Verdict.PASS], False: sum(totals.values()) - totals[Verdict.PASS]}
    most = {key: min(SHOWN, max(LEAST, ROOM[key] // (2 * max(1, number[key])))) for key in (True, False)}
    packers = {True: Packer("passed", PACKED[True]), False: Packer("others", PACKED[False])}
    cells = {(cell.guest, cell.variant, cell.program): index for index, cell in enumerate(matrix.cells)}
    signals: dict[str, int] = {}
    command = cache(repeated)
    rows = []
    began = 0
    for trial in trials:
        passed = trial.verdict == "pass"
        packer = packers[passed]
        shown = 0 if packer.full else most[passed]
        parts = {} if passed else collected(trial.id)
        difference = None if passed or not shown else compared(trial)
        detail = json.dumps(_detail(trial, command(trial.command), parts, difference, shown), separators=(",", ":"))
        started = _epoch(trial.started)
        rows.append(
            (
                trial.id,
                cells[trial.guest, trial.variant, trial.program],
                trial.number,
                trial.attempt,
                TRIAL_VERDICTS.index(trial.verdict),
                round(trial.seconds, 3),
                started - began,
                -1 if trial.exit_status is None else trial.exit_status,
                signals.setdefault(trial.signal, len(signals)),
                packer.add(detail),
            )
        )
        began = started
        yield from packer.blocks()
    for packer in packers.values():
        yield from packer.blocks(last=True)
    names = ("id", "cell", "number", "attempt", "verdict", "seconds", "started", "status", "signal", "detail")
    columns: dict[str, Any] = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)) if rows else {}
    begins = {"passed": packers[True].begins, "others": packers[False].begins}
    yield "trials", pack(json.dumps({**columns, "signals": list(signals), "begins": begins}, separators=(",", ":")))


def _epoch(time: str) -> int:
    """Seconds since 1970, 0 for what is no time."""
    try:
        return int(datetime.fromisoformat(time).timestamp())
    except ValueError:
        return 0


def _detail(
    trial: Trial, command: str, collected: Mapping[str, bytes], difference: OutputDiff | None, most: int
) -> dict[str, Any]:
    """What is long of a trial.

    Args:
        command: what makes it again.
        most: the most bytes of a stream; none of it is there if that is 0.
    """
    detail: dict[str, Any] = {"reason": trial.reason, "signature": trial.signature, "command": command}
    if difference:
        lines = [[line.mark, *line.pieces] for line in difference.lines]
        detail["difference"] = [difference.stream, difference.left_out, lines]
    if most:
        detail["streams"] = [
            _stream("stdout", trial.stdout, trial.stdout_total, most),
            _stream("stderr", trial.stderr, trial.stderr_total, most),
        ]
        detail["parts"] = [
            _stream(name, data, len(data), max(LEAST, most // 4)) for name, data in collected.items() if is_text(name)
        ]
        picture = collected.get(SCREEN, b"")
        if len(picture) <= 4 * most:
            detail["screen"] = base64.b64encode(picture).decode()
    return detail


def _stream(name: str, kept: bytes, total: int, most: int) -> list[Any]:
    shown = shown_stream(kept, total, most)
    return [name, shown.size, shown.gap, shown.parts]
