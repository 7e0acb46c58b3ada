"""What a reader sees of a matrix: a table in the terminal, JSON, a page of HTML.

Whatever a program or a guest wrote is hostile: it reaches a terminal only with its control characters spelt out, and a
page only as text. Knows matrices and trials, nothing of where they come from.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.results import lifecycle
from harness.results.lifecycle import LifeCycle
from harness.results.matrix import CELL_VERDICTS, Cell, Difference, Finding, Matrix, Trial
from harness.results.statistics import LEVEL
from harness.trial.dossier import PREFIX, SCREEN

#: verdict -> its sign, its sign on a stream without UTF-8, its colour in a terminal. All signs are one column wide and
#: differ in shape, so that colour is never the only carrier.
SIGNS = {
    "pass": ("✔", "+", "green"),
    "fail": ("≠", "-", "yellow"),
    "crash": ("✖", "X", "bold red"),
    "hang": ("∞", "%", "bold magenta"),
    "flaky": ("~", "~", "bold cyan"),
    "error": ("!", "!", "bold blue"),
    "none": ("·", ".", "dim"),
}
#: How much of each stream of a trial a page holds, in bytes: half from its beginning, half from its end.
SHOWN = 64 * 1024
#: The same for each part of a trial's dossier.
PART = 16 * 1024


def json_text(matrix: Matrix) -> str:
    """The matrix as JSON text, ASCII only, with a newline at its end; `Matrix.to_json` documents the keys.

    Raises:
        TypeError: `run` or an event holds what JSON cannot.
    """
    return json.dumps(matrix.to_json(), indent=1) + "\n"


def table(matrix: Matrix, columns: Sequence[int] | None = None, ascii_only: bool = False) -> Table:
    """The matrix as a table: programs down in groups by suite, guests and their variants across.

    Args:
        columns: places in `matrix.columns`; None is all of them.
        ascii_only: use signs that every stream can carry.
    """
    chosen = range(len(matrix.columns)) if columns is None else columns
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    made.add_column("program", overflow="fold")
    last_guest = ""
    for column in chosen:
        guest, variant = matrix.columns[column]
        # A guest is named above the first of its columns only, so that the eye sees where the next one begins.
        made.add_column(_lines(ascii_only, "" if guest == last_guest else guest, variant), overflow="fold")
        last_guest = guest
    for suite, members in _suites(matrix):
        if suite:
            made.add_row(Text(printable(suite, ascii_only), "bold"))
        for name, program in members:
            cells = matrix.row(program)
            label = Text(("  " if suite else "") + printable(name, ascii_only))
            made.add_row(label, *(_short(cells[column][1], ascii_only) for column in chosen))
    return made


def print_table(matrix: Matrix, console: Console, opening: str = "harness open {}") -> None:
    """Print the table, and below it what it means: a legend, what did not pass, differences, guests' troubles.

    A table wider than the console is printed in several parts. On a stream that is not UTF-8 all signs are ASCII;
    colour is the console's affair.

    Args:
        opening: the command that opens a trial, {} in the place of its number.
    """
    ascii_only = console.options.ascii_only
    for columns in _parts(matrix, console.width, ascii_only):
        console.print(table(matrix, columns, ascii_only))
        console.print()
    console.print(_legend(matrix, ascii_only))
    wrong = [(cell, finding) for _, cell, finding in _findings(matrix, errors=False)]
    if wrong:
        _heading(console, "Not passed")
        for cell, finding in wrong:
            _print_finding(console, cell, finding, opening, ascii_only)
    _print_expectations(console, matrix, ascii_only)
    _print_differences(console, matrix, ascii_only)
    _print_troubles(console, matrix, opening, ascii_only)


def print_trial(
    run: int, trial: Trial, parts: Mapping[str, bytes], files: Sequence[Path], commands: Sequence[str], console: Console
) -> None:
    """Print all that is known of a trial.

    Args:
        run: the number of its run.
        parts: what was collected of it; those that are no text are left out.
        files: where more is.
        commands: what can be done with it.
    """
    ascii_only = console.options.ascii_only
    head = Text(f"{_sign(trial.verdict, ascii_only)} {trial.verdict}", SIGNS[trial.verdict][2])
    console.print(head.append(f" trial {trial.id} of run {run}", "default not bold"))
    end = trial.signal or ("" if trial.exit_status is None else f"exit status {trial.exit_status}")
    rows = {
        "where": f"{trial.program}, {trial.guest}, {trial.variant}",
        "trial": f"{trial.number}" + (f", attempt {trial.attempt}" if trial.attempt > 1 else ""),
        "reason": trial.reason,
        "signature": trial.signature,
        "end": end,
        "time": f"{trial.seconds:.2f} s from {trial.started}",
    }
    for name, value in rows.items():
        if value:
            _copied(console, f"{name:10} {value}", ascii_only)
    for name, kept, total in (
        ("stdout", trial.stdout, trial.stdout_total),
        ("stderr", trial.stderr, trial.stderr_total),
        *((name, data, len(data)) for name, data in parts.items() if _is_text(name)),
    ):
        _print_stream(console, name, _stream(kept, total), ascii_only)
    if files:
        _heading(console, "Files")
        for file in files:
            _copied(console, str(file), ascii_only)
    _heading(console, "Run it again")
    for command in (trial.command, *commands):
        _copied(console, f"$ {command}", ascii_only)


def print_life_cycles(cycles: Sequence[LifeCycle], console: Console) -> None:
    """Print what was counted, the traced variants side by side, and what it says."""
    ascii_only = console.options.ascii_only
    for cycle in cycles:
        counts = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        counts.add_column(_lines(ascii_only, cycle.program, cycle.guest))
        for column in cycle.columns.values():
            verdicts = ", ".join(f"{number} {verdict}" for verdict, number in column.verdicts.items())
            counts.add_column(_lines(ascii_only, column.name, verdicts), justify="right", overflow="fold")
        for name, numbers in cycle.rows():
            counts.add_row(name, *numbers)
        console.print(counts)
        for column in cycle.columns.values():
            console.print(Text(printable(column.name, ascii_only), "bold"))
            for line in column.findings():
                _line(console, line, ascii_only, indent=2)
            if cost := column.cost():
                _line(console, f"Cost: {cost}.", ascii_only, indent=2)
        console.print()


def write_html(
    path: Path,
    matrix: Matrix,
    trials: Iterable[Trial],
    cycles: Sequence[LifeCycle] = (),
    collected: Callable[[int], Mapping[str, bytes]] = lambda trial: {},
) -> None:
    """Write the page to a file, whole or not at all.

    The trials are read once, one at a time; the page holds at most `SHOWN` bytes of each stream of each, and `PART`
    bytes of each part of its dossier.

    Args:
        collected: what was collected of a trial, by its id.

    Raises:
        OSError: the file cannot be written.
    """
    part = path.with_name(path.name + ".part")
    try:
        # A name may hold half a surrogate pair (a file name that is not UTF-8): spell it out rather than fail.
        with part.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            file.writelines(html(matrix, trials, cycles, collected))
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def html(
    matrix: Matrix,
    trials: Iterable[Trial],
    cycles: Sequence[LifeCycle] = (),
    collected: Callable[[int], Mapping[str, bytes]] = lambda trial: {},
) -> Iterator[str]:
    """The page in pieces: one file that needs no other and asks no network.

    The fragment `#cell-N` of its address opens the cell with that number in `matrix.cells`.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["csp_hash"] = _csp_hash
    environment.filters["script_json"] = _script_json
    environment.filters["percent"] = _percent
    environment.filters["p_value"] = _p_value
    environment.filters["contradiction"] = _contradiction
    return environment.get_template("report.html.j2").generate(
        matrix=matrix,
        totals=matrix.totals(),
        facts=list(_facts(matrix.run)),
        suites=[
            (suite, [(name, matrix.programs[place], matrix.row(place)) for name, place in members])
            for suite, members in _suites(matrix)
        ],
        # U+FE0E asks for the text form: some systems draw these characters as coloured pictures otherwise.
        signs={verdict: sign + "\ufe0e" for verdict, (sign, _, _) in SIGNS.items()},
        findings=_findings(matrix, errors=False),
        spoilt=_findings(matrix, errors=True),
        claimed=matrix.differences(claimed=True),
        suspected=[] if matrix.most else matrix.differences(claimed=False),
        undecided=matrix.undecided(),
        expectations=_expectations(matrix),
        comparisons=_comparisons(matrix),
        events=[_event(event) for event in matrix.events],
        cycles=cycles,
        plot=(lifecycle.WIDTH, lifecycle.HEIGHT),
        trials=((trial.id, _trial_json(trial, collected(trial.id))) for trial in trials),
    )


def _suites(matrix: Matrix) -> list[tuple[str, list[tuple[str, int]]]]:
    """Folder -> (name in it, place in `programs`), both in the order of the programs."""
    found: dict[str, list[tuple[str, int]]] = {}
    for place, program in enumerate(matrix.programs):
        suite, _, name = program.rpartition("/")
        found.setdefault(suite, []).append((name, place))
    return list(found.items())


def _findings(matrix: Matrix, errors: bool) -> list[tuple[int, Cell, Finding]]:
    """What went wrong by a program's doing, or (errors) by a guest's or the harness's, with the cell's number."""
    return [
        (index, cell, finding)
        for index, cell in enumerate(matrix.cells)
        for finding in cell.findings
        if (finding.verdict == "error") == errors
    ]


def _comparisons(matrix: Matrix) -> str:
    """How many comparisons were made, and whether the trials suffice for any claim."""
    if not matrix.comparisons:
        return "Nothing was compared: no variant besides the baseline has trials where the baseline has."
    if matrix.most:
        return _sequential(matrix, matrix.most)
    said = f"Fisher's exact test against {matrix.baseline}, Holm's correction for {_count(matrix.comparisons, 'cell')}."
    if matrix.trials_needed:
        said += (
            f" That many need at least {_count(matrix.trials_needed, 'trial')} of each cell before any difference,"
            " however great, can be claimed; some cells have fewer."
        )
    return said


def _sequential(matrix: Matrix, most: int) -> str:
    """What a run until it was sure has decided, and at what risk."""
    spent = sum(cell.trials for cell in matrix.cells)
    cells = sum(1 for cell in matrix.cells if cell.trials)
    said = (
        f"Sequential test against {matrix.baseline} after every round of trials, Holm's correction for"
        f" {_count(matrix.comparisons, 'cell')}: the chance that any of the differences claimed is false is at most"
        f" {LEVEL:.0%}, for all looks and cells together. {_count(spent, 'trial')} instead of {cells * most}."
        f" Decided: {_count(len(matrix.differences(claimed=True)), 'cell')}."
    )
    if left := matrix.undecided():
        made = [cell.trials for _, cell, _ in left]
        said += (
            f" Not decided: {_count(len(left), 'cell')}, after {_range(min(made), max(made))}: with at most"
            f" {_count(most, 'trial')} of each cell, no outcome of those left could have made a claim."
        )
    return said


def _range(least: int, most: int) -> str:
    return _count(most, "trial") if least == most else f"{least} to {most} trials"


def _facts(run: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """The run's facts as lines: what is nested gets its keys joined by dots."""
    for key, value in run.items():
        if isinstance(value, Mapping):
            yield from _facts(value, f"{above}{key}.")
        elif isinstance(value, list):
            yield f"{above}{key}", ", ".join(map(str, value))
        else:
            yield f"{above}{key}", str(value)


def _event(event: Mapping[str, Any]) -> dict[str, str]:
    """An event with the keys that are always shown; all others are told at the end of its text."""
    known = {key: str(event.get(key, "")) for key in ("time", "guest", "kind", "text")}
    others = [f"{key}: {value}" for key, value in event.items() if key not in known]
    known["text"] = "; ".join(filter(None, [known["text"], *others]))
    return known


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else "s")


def _percent(interval: tuple[float, float]) -> str:
    return f"{100 * interval[0]:.0f} to {100 * interval[1]:.0f} %"


def _p_value(p: float) -> str:
    return f"{p:.3g}"


# The terminal.


def printable(text: str, ascii_only: bool) -> str:
    """Text that can do nothing to a terminal: control, invisible and direction characters are spelt out."""
    spelt = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return spelt.encode("ascii", "backslashreplace").decode() if ascii_only else spelt


def _lines(ascii_only: bool, *texts: str) -> Text:
    """Hostile texts, a line for each."""
    return Text("\n".join(printable(text, ascii_only) for text in texts))


def _sign(verdict: str, ascii_only: bool) -> str:
    return SIGNS[verdict][1 if ascii_only else 0]


def _short(cell: Cell, ascii_only: bool) -> Text:
    """A cell in a few characters: a sign, a word unless all is well, k/n, `known` or `?` for a surprise, `*` for a
    claim, `!` and spoilt trials."""
    words = [_sign(cell.verdict, ascii_only)]
    if cell.verdict != "pass":
        words.append(cell.verdict)
    if cell.trials:
        words.append(f"{cell.passed}/{cell.trials}")
    if cell.surprise:
        words.append("?")
    elif cell.known:
        words.append("known")
    if cell.difference and cell.difference.claimed:
        words.append("*")
    if cell.errors:
        words.append(f"!{cell.errors}")
    return Text(" ".join(words), SIGNS[cell.verdict][2])


def _parts(matrix: Matrix, width: int, ascii_only: bool) -> Iterator[list[int]]:
    """Share the columns out over tables that fit a width.

    A guest's columns stay together if they fit, so that a cell is seen beside its baseline. A column too wide for any
    table gets one of its own.
    """
    between = 3  # padding, and the line that some boxes draw
    names = max((cell_len(printable(name, ascii_only)) for _, group in _suites(matrix) for name, _ in group), default=0)
    room = width - min(2 + names, width // 2)
    wide = []
    for column, heads in enumerate(matrix.columns):
        cells = [_short(matrix.row(place)[column][1], ascii_only).cell_len for place in range(len(matrix.programs))]
        wide.append(between + max([*map(cell_len, heads), *cells]))
    part: list[int] = []
    used = 0
    across = len(matrix.variants)
    for place in range(len(matrix.guests)):
        group = range(place * across, (place + 1) * across)
        if part and used + sum(wide[column] for column in group) > room:
            yield part
            part, used = [], 0
        for column in group:
            if part and used + wide[column] > room:
                yield part
                part, used = [], 0
            part.append(column)
            used += wide[column]
    if part:
        yield part


def _legend(matrix: Matrix, ascii_only: bool) -> Text:
    """Cells by verdict, then what the marks mean that occur in the table."""
    totals = matrix.totals()
    said = Text("Cells: ")
    seen = [verdict for verdict in CELL_VERDICTS if totals["cells"][verdict]]
    for verdict in seen:
        said.append(f"{_sign(verdict, ascii_only)} {verdict} {totals['cells'][verdict]}", SIGNS[verdict][2])
        said.append("" if verdict == seen[-1] else "   ")
    said.append("\nk/n: k of n trials passed.")
    if totals["surprises"]:
        said.append(" ?: a surprise.")
    if totals["known"]:
        said.append(" known: as expected.")
    if totals["claimed"]:
        said.append(f" *: differs from {printable(matrix.baseline, ascii_only)}.")
    if totals["trials"]["error"]:
        said.append(" !N: guest or harness spoilt N more trials.")
    return said


def _heading(console: Console, title: str) -> None:
    console.print()
    console.print(Text(title, "bold"))


def _line(console: Console, text: str, ascii_only: bool, indent: int = 4) -> None:
    """Print hostile text, wrapped, each line indented and none padded."""
    for line in Text(printable(text, ascii_only)).wrap(console, max(console.width - indent, 1)):
        line.rstrip()
        console.print(" " * indent, line, sep="", soft_wrap=True)


def _copied(console: Console, text: str, ascii_only: bool) -> None:
    """Print hostile text, never wrapped, so that it can be copied."""
    console.print(Text(printable(text, ascii_only)), soft_wrap=True)


def _print_stream(console: Console, name: str, stream: Mapping[str, Any], ascii_only: bool) -> None:
    _heading(console, f"{printable(name, ascii_only)} ({stream['size']})")
    for place, part in enumerate(stream["parts"]):
        if place:
            console.print(Text(f"[{stream['gap']}]", "dim"))
        for line in part.split("\n") if part else []:
            _copied(console, line.removesuffix("\r").expandtabs(), ascii_only)


def _print_finding(console: Console, cell: Cell, finding: Finding, opening: str, ascii_only: bool) -> None:
    """What happened and where; why; how to run it again, and to see all of it."""
    tried = cell.trials + cell.errors if finding.verdict == "error" else cell.trials
    head = Text(f"{_sign(finding.verdict, ascii_only)} {finding.verdict}", SIGNS[finding.verdict][2])
    where = f" {finding.count} of {tried}: {cell.program}, {cell.guest}, {cell.variant}"
    console.print(head.append(printable(where, ascii_only), "default not bold"))
    if finding.title:
        _line(console, finding.title, ascii_only)
    if finding.expected:
        _line(console, f"expected: {finding.expected}", ascii_only)
    # Never wrapped, so that it can be copied.
    for command in (finding.command, opening.replace("{}", str(finding.trial))):
        console.print(Text(f"    $ {printable(command, ascii_only)}", "dim"), soft_wrap=True)


def _expectations(matrix: Matrix) -> list[tuple[int, Cell]]:
    """Cells with their number that surprise though the configuration has something to say of them."""
    return [(index, cell) for index, cell in matrix.surprises() if cell.contradicts]


def _contradiction(cell: Cell) -> str:
    came = f"all {cell.trials} passed" if cell.passed == cell.trials else "it went wrong in another way"
    return f"{came}; expected: {cell.contradicts}"


def _print_expectations(console: Console, matrix: Matrix, ascii_only: bool) -> None:
    wrong = _expectations(matrix)
    if not wrong and not matrix.expired:
        return
    _heading(console, "Expectations that do not hold")
    for _, cell in wrong:
        _line(console, f"? {cell.program}, {cell.guest}, {cell.variant}:", ascii_only, indent=0)
        _line(console, _contradiction(cell), ascii_only)
    for said in matrix.expired:
        _line(console, f"expired on {said}", ascii_only, indent=0)


def _print_differences(console: Console, matrix: Matrix, ascii_only: bool) -> None:
    _heading(console, "Differences")
    _line(console, _comparisons(matrix), ascii_only, indent=0)
    if not matrix.comparisons:
        return
    claimed = matrix.differences(claimed=True)
    for _, cell, difference in claimed:
        _line(console, f"* {cell.program}, {cell.guest}, {cell.variant}:", ascii_only, indent=0)
        _line(console, _evidence(matrix, cell, difference), ascii_only)
    if not claimed:
        _line(console, "No difference can be claimed.", ascii_only, indent=0)
    suspected = len(matrix.differences(claimed=False))
    if suspected and not matrix.most:
        doubtful = f"Not claimed: {_count(suspected, 'cell')} with p < 0.05 only before the correction."
        _line(console, doubtful, ascii_only, indent=0)


def _evidence(matrix: Matrix, cell: Cell, difference: Difference) -> str:
    return (
        f"{cell.passed} of {cell.trials} passed against {difference.baseline_passed} of {difference.baseline_trials}"
        f" with {matrix.baseline}; p {_p_value(difference.p)}, corrected {_p_value(difference.p_corrected)}"
    )


def _print_troubles(console: Console, matrix: Matrix, opening: str, ascii_only: bool) -> None:
    spoilt = _findings(matrix, errors=True)
    if not spoilt and not matrix.events:
        return
    _heading(console, "Trouble with guests")
    totals = matrix.totals()
    if spoilt:
        trials = _count(totals["trials"]["error"], "trial")
        lost = f"{totals['lost']} could not be repeated" if totals["lost"] else "all were repeated"
        _line(console, f"{trials} spoilt; {lost}.", ascii_only, indent=0)
    events = Counter((event["guest"], event["kind"]) for event in map(_event, matrix.events))
    for (guest, kind), number in sorted(events.items()):
        _line(console, f"{guest or 'harness'}: {kind or 'event'}, {_count(number, 'time')}", ascii_only, indent=0)
    for _, cell, finding in spoilt:
        _print_finding(console, cell, finding, opening, ascii_only)


# The page.


def _csp_hash(text: str) -> str:
    """The source expression by which a Content-Security-Policy allows just this inline text (CSP Level 3, 2.3.1)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _script_json(value: object) -> Markup:
    """JSON that can stand in a script element: nothing in it can end the element or open a comment.

    The text is ASCII, so U+2028 and U+2029 are escaped too.
    """
    text = json.dumps(value)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def _trial_json(trial: Trial, collected: Mapping[str, bytes]) -> dict[str, Any]:
    """What the page's script shows of a trial."""
    return {
        "id": trial.id,
        "number": trial.number,
        "attempt": trial.attempt,
        "verdict": trial.verdict,
        "reason": trial.reason,
        "signature": trial.signature,
        "exit_status": trial.exit_status,
        "signal": trial.signal,
        "seconds": trial.seconds,
        "started": trial.started,
        "command": trial.command,
        "stdout": _stream(trial.stdout, trial.stdout_total),
        "stderr": _stream(trial.stderr, trial.stderr_total),
        "parts": {name: _stream(data, len(data), PART) for name, data in collected.items() if _is_text(name)},
        "screen": base64.b64encode(collected.get(SCREEN, b"")).decode(),
    }


def printable_stream(kept: bytes, total: int) -> str:
    """A stream for a terminal, lines as they were, all else that could do something to it spelt out.

    Args:
        kept: what was kept of it; the middle is left out if that is more than SHOWN.
        total: how many bytes the program wrote.
    """
    shown = _stream(kept, total)
    text = f"\n... {shown['gap']} ...\n".join(shown["parts"])
    lines = [printable(line.expandtabs(), ascii_only=False) for line in text.split("\n")]
    return "\n".join([*lines, *([f"... of {shown['size']}"] if total > len(kept) else [])])


def _is_text(name: str) -> bool:
    """Whether something that was collected of a trial is for people to read."""
    return name.startswith(PREFIX) and name != SCREEN


def _stream(kept: bytes, total: int, most: int = SHOWN) -> dict[str, Any]:
    """A stream to be shown: its text in one part, or two with a gap between; and how much of it that is."""
    half = most // 2
    parts = [kept] if len(kept) <= most else [kept[:half], kept[-half:]]
    shown = sum(map(len, parts))
    size = f"{total:,} byte{'' if total == 1 else 's'}"
    return {
        "parts": [part.decode("utf-8", "replace") for part in parts],
        "size": size if total <= shown else f"{size}, {shown:,} of them here",
        "gap": f"{len(kept) - shown:,} bytes left out here",
    }
