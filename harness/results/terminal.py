"""A matrix, a trial and life cycles in a terminal.

Whatever a program or a guest wrote is hostile: it reaches a terminal only with its control characters spelt out. Knows
matrices and trials, nothing of where they come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from harness.errors import BOOT_COMMAND, WHOLE_CONSOLE
from harness.escapes import one_line
from harness.invocation import command_line
from harness.results.answer import Paragraph, answer
from harness.results.compare import CellCounts, Comparison
from harness.results.history import CellHistory, History
from harness.results.lifecycle import LifeCycle
from harness.results.matrix import Cell, CellVerdict, Matrix
from harness.results.outdiff import OutputDiff
from harness.results.text import (
    SIGNS,
    Cause,
    contradicted_cells,
    describe_comparisons,
    describe_contradiction,
    describe_evidence,
    describe_failed_boots,
    describe_infra_errors,
    describe_places,
    describe_rise,
    describe_title,
    excerpt,
    group_by_suite,
    group_causes,
    is_text,
    render_count,
    render_event,
    render_interval,
    shown_stream,
)
from harness.trial.record import Trial, Verdict

#: How many of the troubles of a guest are told in full.
TOLD = 3
#: The columns of what is no terminal: of tables, and of sentences, which somebody may read there all the same.
_UNBOUNDED, _TEXT = 100_000, 80
#: The most lines of a changed text that are shown.
_DIFF_LINES = 12


def screen() -> Console:
    """Standard output. Where it is no terminal it is as wide as any table: what reads a pipe has no columns."""
    console = Console()
    if not console.is_terminal:
        console.width = _UNBOUNDED
    return console


def print_grid(console: Console, grid: Table) -> None:
    """Print a table; where it may be as wide as it likes, without blanks behind its lines."""
    if console.width != _UNBOUNDED:
        console.print(grid)
        return
    with console.capture() as capture:
        console.print(grid)
    for line in capture.get().splitlines():
        console.print(Text(line.rstrip()), soft_wrap=True)


def plain_table(*heads: str | Text) -> Table:
    """A table without lines, nothing of which is cut off: where there is no room, texts are folded."""
    return Table(*(Column(head, overflow="fold") for head in heads), box=None)


def table(matrix: Matrix, columns: Sequence[int] | None = None, ascii_only: bool = False) -> Table:
    """The matrix as a table: programs down in groups by suite, guests and their variants across.

    Args:
        columns: places in `matrix.columns`; None is all of them.
        ascii_only: use signs that every stream can carry.
    """
    chosen = range(len(matrix.columns)) if columns is None else columns
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    grid.add_column("program", overflow="fold")
    last_guest = ""
    for column in chosen:
        guest, variant = matrix.columns[column]
        # A guest is named above the first of its columns only, so that the eye sees where the next one begins.
        grid.add_column(_lines(ascii_only, "" if guest == last_guest else guest, variant), overflow="fold")
        last_guest = guest
    for suite, members in group_by_suite(matrix).items():
        if suite:
            grid.add_row(Text(_printable(suite, ascii_only), "bold"))
        for name, program in members:
            cells = matrix.row(program)
            label = Text(("  " if suite else "") + _printable(name, ascii_only))
            grid.add_row(label, *(_short(cells[column][1], ascii_only) for column in chosen))
    return grid


def print_table(
    matrix: Matrix,
    console: Console,
    work: Path | None = None,
    unfinished: str = "",
    cycles: Sequence[LifeCycle] = (),
) -> None:
    """Print the table, and below it what it means: a legend, what did not pass, differences, guests' troubles, and last
    what the run answers.

    A table wider than the console is printed in several parts. On a stream that is not UTF-8 all signs are ASCII;
    colour is the console's affair.

    Args:
        work: the work directory that shown commands are to use.
        unfinished: a sentence that says so, if the run has not finished.
        cycles: what was counted of threads and goroutines in the same run.
    """
    ascii_only = console.options.ascii_only
    print_cells(matrix, console, unfinished)
    _print_not_passed(matrix, console, work, ascii_only)
    _print_expectations(console, matrix, ascii_only)
    _print_differences(console, matrix, ascii_only)
    _print_troubles(console, matrix, work, ascii_only)
    _print_answer(console, answer(matrix, cycles, work), ascii_only)


def print_cells(matrix: Matrix, console: Console, unfinished: str = "") -> None:
    """Print the table and its legend alone. Arguments are those of `print_table`."""
    ascii_only = console.options.ascii_only
    for columns in column_groups(matrix, console.width, ascii_only):
        print_grid(console, table(matrix, columns, ascii_only))
        console.print()
    if unfinished:
        _copied(console, unfinished, ascii_only)
    console.print(_legend(matrix, ascii_only))


def print_trial(
    run: int,
    trial: Trial,
    parts: Mapping[str, bytes],
    difference: OutputDiff | None,
    files: Sequence[Path],
    commands: Sequence[str],
    raw: Callable[[str], str],
    console: Console,
) -> None:
    """Print what is known of a trial: why it came to its verdict and what can be done with it, then what it printed,
    then what was collected of it. What is long is cut.

    Args:
        run: the number of its run.
        parts: what was collected of it; those that are no text are left out.
        files: where more is.
        commands: what can be done with it.
        raw: gives the command that prints a part as it is.
    """
    ascii_only = console.options.ascii_only
    head = Text(f"{_sign(trial.verdict, ascii_only)} {trial.verdict}", SIGNS[CellVerdict(trial.verdict)].style)
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
    _heading(console, "Run it again")
    for command in commands:
        _copied(console, f"$ {command}", ascii_only)
    if difference:
        _print_difference(console, difference, ascii_only)
    for name, kept, total in (
        ("stdout", trial.stdout, trial.stdout_total),
        ("stderr", trial.stderr, trial.stderr_total),
        *((name, data, len(data)) for name, data in parts.items() if is_text(name)),
    ):
        _heading(console, f"{_printable(name, ascii_only)} ({shown_stream(kept, total, len(kept)).size})")
        for line in excerpt(kept, raw(name)):
            _copied(console, line, ascii_only)
    if files:
        _heading(console, "Files")
        for file in files:
            _copied(console, str(file), ascii_only)


#: How the lines of a difference are shown: what is right in the colour of a pass.
_DIFF_STYLES = {"-": "green", "+": "yellow", "@": "dim", "\\": "dim"}
#: What stands for white space on a stream without UTF-8.
_ASCII_SPACES = str.maketrans({"·": "\\x20", "→": "\\t", "…": "..."})


def _print_difference(console: Console, difference: OutputDiff, ascii_only: bool) -> None:
    """Print how an output differs from the one that was expected; what is spelt out stands out."""
    _heading(console, f"{difference.stream}, expected (-) and printed (+)")
    for line in difference.lines:
        text = Text(f"{line.mark} " if line.mark in "@\\" else line.mark, _DIFF_STYLES.get(line.mark, ""))
        for place, piece in enumerate(line.pieces):
            spelt = place % 2
            if spelt and ascii_only:
                piece = piece.translate(_ASCII_SPACES)
            text.append(_printable(piece, ascii_only), "reverse" if spelt else None)
        console.print(text, soft_wrap=True)
    if difference.left_out:
        _line(console, difference.left_out, ascii_only, indent=0)
    if any(len(line.pieces) > 1 for line in difference.lines):
        marks = "\\x20 is a space, \\t a tab" if ascii_only else "· is a space, → a tab"
        _line(console, f"{marks}, \\ begins what is no plain character.", ascii_only, indent=0)


#: How kinds of change are shown, those that are not in bold alone.
_KINDS = {"worse": "bold red", "new failure": "bold yellow", "better": "bold green"}


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print what changed between two runs, worst first, and what they were made of."""
    ascii_only = console.options.ascii_only
    arrow = "->" if ascii_only else "→"
    for change in comparison.changed():
        head = Text(
            change.kind,
            {"worse": "bold red", "new failure": "bold yellow", "better": "bold green"}.get(change.kind, "bold"),
        )
        where = _printable(f" {change.program}, {change.guest}, {change.variant}", ascii_only)
        console.print(head.append(where, "default not bold"), soft_wrap=True)
        ends = f" {arrow} ".join(_counted(counts, ascii_only) for counts in (change.before, change.after))
        why, *more = change.reasons()
        for line in (f"{ends}: {why}", *more):
            _line(console, line, ascii_only)
    if comparison.changed():
        console.print()
    _line(console, comparison.summary(), ascii_only, indent=0)
    if comparison.facts:
        _heading(console, "Made of other things")
        for name, (before, after) in comparison.facts.items():
            _line(console, f"{name}:", ascii_only, indent=0)
            diff = comparison.diffs.get(name)
            for line in diff[:_DIFF_LINES] if diff else [f"{before or 'none'} {arrow} {after or 'none'}"]:
                _line(console, line, ascii_only)
            if diff and len(diff) > _DIFF_LINES:
                _line(console, f"{len(diff) - _DIFF_LINES} more: --format json has them", ascii_only)
    else:
        _line(console, "Both runs were made of the same things.", ascii_only, indent=0)


def _counted(counts: CellCounts | None, ascii_only: bool) -> str:
    if counts is None:
        return "none"
    return f"{_sign(counts.verdict, ascii_only)} {counts.verdict} {counts.passed}/{counts.trials}"


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
        print_grid(console, counts)
        for column in cycle.columns.values():
            console.print(Text(_printable(column.name, ascii_only), "bold"))
            for line in column.findings():
                _line(console, line, ascii_only, indent=2)
            if cost := column.cost():
                _line(console, f"Cost: {cost}.", ascii_only, indent=2)
        console.print()


def _printable(text: str, ascii_only: bool) -> str:
    """Text of one line that can do nothing to a terminal."""
    spelt = one_line(text)
    return spelt.encode("ascii", "backslashreplace").decode() if ascii_only else spelt


def _lines(ascii_only: bool, *texts: str) -> Text:
    """Hostile texts, a line for each."""
    return Text("\n".join(_printable(text, ascii_only) for text in texts))


def _sign(verdict: str, ascii_only: bool) -> str:
    sign = SIGNS[CellVerdict(verdict)]
    return sign.ascii_mark if ascii_only else sign.mark


def _short(cell: Cell, ascii_only: bool) -> Text:
    """A cell in a few characters: a sign; a word, unless all is well or it flakes; k/n; what else it came to, with its
    sign; `known` or `?` for a surprise, `*` for a claim, `!` and infrastructure errors."""
    style = SIGNS[cell.hue].style
    if cell.known and not cell.surprise:
        style = f"not bold dim {style.split()[-1]}"
    text = Text(_sign(cell.verdict, ascii_only), style)
    if cell.verdict not in ("pass", "flaky"):
        text.append(f" {cell.verdict}")
    if cell.trials:
        text.append(f" {cell.passed}/{cell.trials}")
    for verdict, number in cell.parts:
        text.append(f" {_sign(verdict, ascii_only)}{number}", SIGNS[CellVerdict(verdict)].style)
    marks = [
        ("?", cell.surprise),
        ("known", cell.known and not cell.surprise),
        ("*", cell.difference and cell.difference.claimed),
        (f"!{cell.errors}", cell.errors),
    ]
    for mark, shown in marks:
        text.append(f" {mark}" if shown else "")
    return text


def column_groups(matrix: Matrix, width: int, ascii_only: bool) -> Iterator[list[int]]:
    """Share the columns out over tables that fit a width.

    A guest's columns stay together if they fit, so that a cell is seen beside its baseline. A column too wide for any
    table gets one of its own.
    """
    between = 3  # padding, and the line that some boxes draw
    members = [member for group in group_by_suite(matrix).values() for member in group]
    names = max((cell_len(_printable(member.name, ascii_only)) for member in members), default=0)
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
    line = Text("Cells: ")
    verdicts = [verdict for verdict in CellVerdict if totals.cells[verdict]]
    for verdict in verdicts:
        line.append(f"{_sign(verdict, ascii_only)} {verdict} {totals.cells[verdict]}", SIGNS[verdict].style)
        line.append("" if verdict == verdicts[-1] else "   ")
    line.append("\nk/n: k of n trials passed.")
    if totals.cells[CellVerdict.FLAKY]:
        line.append(f" Behind {_sign('flaky', ascii_only)} k/n: how many came to what else.")
    if totals.surprises:
        line.append(" ?: a surprise.")
    if totals.known:
        line.append(" known: as expected.")
    if totals.claimed:
        line.append(f" *: differs from {_printable(matrix.baseline, ascii_only)}.")
    if totals.trials[Verdict.ERROR]:
        line.append(" !N: N more trials ended in infrastructure errors.")
    return line


def _heading(console: Console, title: str) -> None:
    console.print()
    console.print(Text(title, "bold"))


def _line(console: Console, text: str, ascii_only: bool, indent: int = 4) -> None:
    """Print hostile text, wrapped, each line indented and none padded."""
    width = _TEXT if console.width == _UNBOUNDED else console.width
    for line in Text(_printable(text, ascii_only)).wrap(console, max(width - indent, 1)):
        line.rstrip()
        console.print(" " * indent, line, sep="", soft_wrap=True)


def _copied(console: Console, text: str, ascii_only: bool) -> None:
    """Print hostile text, never wrapped, so that it can be copied."""
    console.print(Text(_printable(text, ascii_only)), soft_wrap=True)


def _print_not_passed(matrix: Matrix, console: Console, work: Path | None, ascii_only: bool) -> None:
    if causes := group_causes(matrix, errors=False):
        _heading(console, "Not passed")
        _print_causes(console, causes, work, ascii_only)


def _print_causes(console: Console, causes: Sequence[Cause], work: Path | None, ascii_only: bool) -> None:
    """Each way to go wrong once, those first that are no known failures: what happened, where and how often, and how to
    open the first such trial."""
    for cause in sorted(causes, key=lambda cause: cause.known == cause.count):
        head = Text(f"{_sign(cause.verdict, ascii_only)} {cause.verdict}", SIGNS[CellVerdict(cause.verdict)].style)
        console.print(head.append(f", {render_count(cause.count, 'trial')}", "default not bold"))
        if cause.title:
            _line(console, cause.title, ascii_only)
        for place in describe_places(cause):
            _line(console, place, ascii_only)
        for expected in dict.fromkeys(
            numbered.finding.expected for numbered in cause.cells if numbered.finding.expected
        ):
            _line(console, f"expected: {expected}", ascii_only)
        command = command_line("open", str(cause.cells[0].finding.trial), work=work)
        console.print(Text(f"    $ {_printable(command, ascii_only)}", "dim"), soft_wrap=True)


def _print_expectations(console: Console, matrix: Matrix, ascii_only: bool) -> None:
    wrong = contradicted_cells(matrix)
    if not wrong and not matrix.expired and not matrix.unmatched:
        return
    _heading(console, "Expectations that do not hold")
    for _, cell in wrong:
        _line(console, f"? {cell.program}, {cell.guest}, {cell.variant}:", ascii_only, indent=0)
        _line(console, describe_contradiction(cell), ascii_only)
    for sentence in matrix.expired:
        _line(console, f"expired on {sentence}", ascii_only, indent=0)
    for sentence in matrix.unmatched:
        _line(console, sentence, ascii_only, indent=0)


def _print_differences(console: Console, matrix: Matrix, ascii_only: bool) -> None:
    _heading(console, "Differences")
    _line(console, describe_comparisons(matrix), ascii_only, indent=0)
    if not matrix.comparisons:
        return
    claimed = matrix.differences(claimed=True)
    for _, cell, difference in claimed:
        _line(console, f"* {cell.program}, {cell.guest}, {cell.variant}:", ascii_only, indent=0)
        _line(console, describe_evidence(matrix, cell, difference), ascii_only)
    if not claimed:
        _line(console, "No difference can be claimed.", ascii_only, indent=0)
    suspected = len(matrix.differences(claimed=False))
    if suspected and not matrix.most:
        doubtful = f"Not claimed: {render_count(suspected, 'cell')} with p < 0.05 only before the correction."
        _line(console, doubtful, ascii_only, indent=0)


def print_attribution(matrix: Matrix, console: Console, work: Path | None = None) -> None:
    """Print how many trials of each combination passed, how the others ended, and what the failures follow.

    Args:
        work: the work directory, which commands that are shown need.
    """
    ascii_only = console.options.ascii_only
    print_cells(matrix, console)
    _print_not_passed(matrix, console, work, ascii_only)
    _print_answer(console, answer(matrix), ascii_only)


def _print_answer(console: Console, paragraphs: Sequence[Paragraph], ascii_only: bool) -> None:
    for paragraph in paragraphs:
        _heading(console, _printable(paragraph.title, ascii_only))
        for sentence in paragraph.sentences:
            _line(console, sentence, ascii_only, indent=0)
        if paragraph.command:
            _copied(console, f"$ {paragraph.command}", ascii_only)


def _print_troubles(console: Console, matrix: Matrix, work: Path | None, ascii_only: bool) -> None:
    """How many infrastructure errors there were; each guest's troubles, counted, and the first few in full."""
    sentence = describe_infra_errors(matrix)
    if not sentence and not matrix.events:
        return
    _heading(console, "Trouble with guests")
    for line in filter(None, (sentence, describe_failed_boots(matrix))):
        _line(console, line, ascii_only, indent=0)
    troubles: dict[tuple[str, str], list[dict[str, str]]] = {}
    for entry in map(render_event, matrix.events):
        troubles.setdefault((entry["guest"], entry["kind"]), []).append(entry)
    for (guest, kind), members in sorted(troubles.items()):
        head = f"{guest or 'harness'}: {kind or 'trouble'}, {render_count(len(members), 'time')}"
        _line(console, head, ascii_only, indent=0)
        for place, entry in enumerate(members[:TOLD]):
            first, *lines = map(str.strip, entry["text"].splitlines() or [""])
            _line(console, f"{entry['time']} {first}".strip(), ascii_only)
            for line in [line for line in lines if not line.startswith((WHOLE_CONSOLE, BOOT_COMMAND))][-TOLD:]:
                _line(console, line, ascii_only, indent=6)
            copied = WHOLE_CONSOLE if place else (WHOLE_CONSOLE, BOOT_COMMAND)  # all are booted alike
            for line in lines:
                if line.startswith(copied):
                    _copied(console, f"      {line}", ascii_only)
        if len(members) > TOLD:
            _line(console, f"{len(members) - TOLD} more: the HTML page has all of them", ascii_only)
    _print_causes(console, group_causes(matrix, errors=True), work, ascii_only)


def print_history(history: History, console: Console) -> None:
    """Print the cells that ever went wrong, those first that still do, and how many never did."""
    ascii_only = console.options.ascii_only
    wrong = [cell for cell in history.cells if cell.titles]
    for cell in sorted(wrong, key=lambda cell: (not cell.live, cell.passed / cell.trials)):
        _print_cell_history(console, cell, ascii_only)
    if wrong:
        console.print()
    never = len(history.cells) - len(wrong)
    over = sum(not cell.live for cell in wrong)
    cells = render_count(len(history.cells), "cell")
    sentence = f"{cells}: {len(wrong) - over} go wrong, {over} did and are over it, {never} never did."
    _line(console, sentence, ascii_only, indent=0)


def _print_cell_history(console: Console, cell: CellHistory, ascii_only: bool) -> None:
    where = _printable(f"{cell.cell.program}, {cell.cell.guest}, {cell.cell.variant}", ascii_only)
    console.print(Text(where, "bold"), soft_wrap=True)
    first, last = cell.runs[0].run, cell.runs[-1].run
    runs = f"run {first}" if first == last else f"{len(cell.runs)} runs, {first} to {last}"
    trials = f"{cell.passed} of {render_count(cell.trials, 'trial')} passed"
    _line(console, f"{trials}, {render_interval(cell.interval)}, in {runs}", ascii_only)
    if rise := cell.rise:
        _line(console, describe_rise(rise), ascii_only)
    for title in cell.titles:
        head = Text(f"  {_sign(title.verdict, ascii_only)} ", SIGNS[CellVerdict(title.verdict)].style)
        console.print(head.append(_printable(describe_title(title), ascii_only), "default not bold"), soft_wrap=True)
