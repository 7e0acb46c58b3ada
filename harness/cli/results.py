"""Commands on stored results: show, compare, open, capsule, rejudge, list."""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from harness import paths
from harness.cli import complete
from harness.cli.options import BASELINE, FORMAT, NUMBER, WORK, progress_options
from harness.cli.output import (
    open_store,
    print_text,
    renew_index,
    reporter,
    unfinished_note,
    write_bytes,
    write_index,
    write_report,
)
from harness.errors import HarnessError
from harness.invocation import command_line, repeated
from harness.log import ignored
from harness.programs.gcc_suites import suites
from harness.programs.model import CellKey
from harness.results import compare as comparisons
from harness.results import dejagnu, formats, listing, page, terminal
from harness.results.load import (
    find_inputs,
    find_matrix,
    load_history,
    load_life_cycles,
    load_matrix,
    matrix_trials,
    output_differ,
)
from harness.results.rejudge import rejudge_run
from harness.results.store import Store
from harness.results.text import render_count
from harness.run import capsule, recordings
from harness.trial import cores as cores_
from harness.trial import diagnostics
from harness.trial.record import Trial

_log = logging.getLogger(__name__)


@click.command()
@click.argument("number", required=False, type=NUMBER, metavar="[RUN]", shell_complete=complete.runs)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["table", "markdown", "junit", "json", "csv", "sum", "html"]),
    default="table",
    show_default=True,
    help="For a terminal, the summary of a CI job, its test report, or other programs.",
)
@click.option("--schema", is_flag=True, help="Print the JSON Schema of --format json, and show no run.")
@BASELINE
@WORK
def show(number: int | None, format_: str, schema: bool, baseline: str, work: str | None) -> None:
    """Show the matrix of a run, by default of the newest.

    Markdown is for the summary of a CI job, at most 1 MiB of it. JUnit XML has a test suite for each guest and variant,
    and a test case for each cell, skipped if all that went wrong is known. CSV has a line for each cell. A .sum file is
    DejaGnu's, for GCC's contrib/test_summary, compare_tests and dg-cmp-results.sh.
    """
    if schema:
        click.echo(formats.schema(), nl=False)
        return
    store, folder = open_store(work), paths.work_dir(work)
    stored_run = store.run(number)
    matrix = load_matrix(store, stored_run, baseline)
    match format_:
        case "table":
            cycles = load_life_cycles(store, stored_run)
            note = unfinished_note(stored_run, matrix, folder)
            terminal.print_table(matrix, terminal.screen(), folder, note, cycles)
        case "html":
            cycles = load_life_cycles(store, stored_run)
            trials = matrix_trials(store, stored_run)
            compared = output_differ(stored_run.plan)
            note = unfinished_note(stored_run, matrix, folder)
            for piece in page.html(matrix, trials, cycles, store.collected, folder, compared, unfinished=note):
                print_text(piece)
        case "markdown":
            cycles = load_life_cycles(store, stored_run)
            note = unfinished_note(stored_run, matrix, folder)
            print_text(formats.markdown(matrix, unfinished=note, cycles=cycles, work=folder))
        case "junit":
            print_text(formats.junit(matrix, store.row, folder))
        case "json":
            print_text(formats.json_text(matrix, folder))
        case "csv":
            print_text(formats.csv_text(matrix))
        case "sum":
            print_text("\n".join(dejagnu.sum_text(matrix, suites())))


@click.command()
@click.argument("before", metavar="RUN", shell_complete=complete.runs_and_files)
@click.argument("after", metavar="RUN", shell_complete=complete.runs_and_files)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["table", "markdown", "json"]),
    default="table",
    show_default=True,
    help="For a terminal, the summary of a CI job, or other programs.",
)
@click.option(
    "--gate",
    type=click.Choice(sorted(comparisons.GATES, reverse=True)),
    default="worse",
    show_default=True,
    help="What ends with 1: cells that got worse, or cells with a new failure too.",
)
@WORK
def compare(before: str, after: str, format_: str, gate: str, work: str | None) -> None:
    """Show what changed from one run to another one; a gate for CI.

    Each change is shown with its evidence.

    RUN is a run's number, a file that `harness show --format json` wrote, a .sum file of DejaGnu, which stands for
    each guest and variant of the other run, or another work directory, whose newest run is taken, or that of a number:
    FOLDER#N.

    A cell got worse if significantly fewer of its trials pass (Fisher's exact test, Holm's correction for all cells
    that could have differed as much), unless all that fail are known to, or if all its trials ended in infrastructure
    errors. If some fail though none failed before, and that may be chance, it is a new failure, unless an earlier run
    of this work directory had the same.

    Exit status: 0 the gate is passed, 1 it is not, 2 bad input.
    """
    folder = paths.work_dir(work)
    old, new = (find_matrix(run, folder) for run in (before, after))
    earlier = partial(_earlier, folder, (before, after))
    comparison = comparisons.compare(dejagnu.align(old, new), dejagnu.align(new, old), earlier)
    comparison = comparison.with_inputs(*(find_inputs(run, folder) for run in (before, after)))
    match format_:
        case "table":
            terminal.print_comparison(comparison, terminal.screen())
        case "markdown":
            print_text(formats.comparison_markdown(comparison))
        case "json":
            print_text(formats.comparison_json(comparison))
    sys.exit(int(comparison.fails(gate)))


def _earlier(work: Path, compared: tuple[str, str], key: CellKey, title: str) -> int | None:
    """The newest run of a work directory before the later one of two in which a cell went wrong in a way, besides the
    other; None if there is none, or if they are not both runs of it."""
    if not title or not all(run.isdecimal() for run in compared):
        return None
    before, after = map(int, compared)
    deaths = Store(work / "results.sqlite").with_title(title)
    return next(
        (death.run for death in deaths if death.cell == key and death.run < after and death.run != before), None
    )


@click.command()
@click.argument("selection", nargs=-1, metavar="[SUITE|SUITE/PROGRAM]...", shell_complete=complete.selection)
@FORMAT
@WORK
def history(selection: tuple[str, ...], format_: str, work: str | None) -> None:
    """Show how each cell did in all runs.

    How often it passed, and each way in which it went wrong: how often, first and last in which run, and whether it is
    gone, which is said when chance would not keep it away for so long (below 1 %). A cell that fails significantly more
    often in its newest run is told. Patterns such as 'threads/lock-*' select too. Bisects are left out.

    The page of all runs, index.html in the work directory, is written anew.
    """
    store, folder = open_store(work), paths.work_dir(work)
    found_history = load_history(store, folder, selection)
    if format_ == "json":
        print_text(json.dumps(found_history.to_json(), indent=2) + "\n")
        return
    terminal.print_history(found_history, terminal.screen())
    whole = load_history(store, folder) if selection else found_history
    click.echo(f"\nAll runs: {write_index(store, folder, whole)}")


@click.command("open")
@click.argument("number", type=NUMBER, metavar="TRIAL", shell_complete=complete.trials)
@click.option(
    "--raw",
    metavar="PART",
    shell_complete=complete.parts,
    help="Print only stdout, stderr or a part of the diagnostics, byte for byte: not for a terminal, but for a pipe.",
)
@WORK
def open_(number: int, raw: str | None, work: str | None) -> None:
    """Show what is known of a trial.

    That is the reason of its verdict, the commands that make it again, its output, its diagnostics and its files. TRIAL
    is the number that the matrix and the HTML page name. A program's output is shown with control characters and
    invalid bytes spelt out, and what is long is cut. To have all of a part, as it is:

    \b
    harness open 1 --raw stderr | less
    harness open 1 --raw dossier/threads >threads
    """
    store = open_store(work)
    stored_run, trial = store.trial(number)
    parts = store.collected(number)
    if raw is not None:
        _print_raw(trial, parts, raw)
        return
    work_folder = paths.work_dir(work)
    folder = work_folder / "runs" / str(stored_run.id)
    core = cores_.place(folder / "cores", trial.guest, trial.variant, trial.program, trial.number)
    files = [file for file in (core, core.with_suffix(".txt")) if file.is_file()]
    if picture := parts.get(diagnostics.SCREEN):
        screen = folder / f"trial-{number}-screen.png"
        with ignored(_log, f"{screen}: writing the screen", OSError):  # the HTML page has it too
            folder.mkdir(parents=True, exist_ok=True)
            screen.write_bytes(picture)
            files.append(screen)
    commands = [
        command_line("rerun", str(number), work=work_folder),
        command_line("rerun", str(number), "--shell", work=work_folder),
        command_line("rerun", str(number), "--record", work=work_folder),
        repeated(trial.command, work_folder),
        command_line("capsule", str(number), work=work_folder),
    ]

    if recorded := recordings.search(store, number, work_folder):
        files.append(recorded.folder)
        commands[2] = command_line("replay", str(number), work=work_folder)

    def command_of_part(name: str) -> str:
        return command_line("open", str(number), "--raw", name, work=work_folder)

    difference, console = output_differ(stored_run.plan)(trial), terminal.screen()
    terminal.print_trial(stored_run.id, trial, parts, difference, files, commands, command_of_part, console)


def _print_raw(trial: Trial, parts: Mapping[str, bytes], name: str) -> None:
    """Print a part of a trial as it is. Raises HarnessError if it has no such part."""
    streams = {"stdout": (trial.stdout, trial.stdout_total), "stderr": (trial.stderr, trial.stderr_total)}
    known = {name: data for name, (data, _) in streams.items()} | dict(parts)
    data = known.get(name, known.get(f"{diagnostics.PREFIX}{name}"))
    if data is None:
        raise HarnessError(f"trial {trial.id} has no part {name!r}; it has {', '.join(known)}")
    write_bytes(data)
    if name in streams and (total := streams[name][1]) > len(data):
        click.echo(f"harness: {total:,} bytes were written, of which the first {len(data):,} are kept", err=True)


@click.command("capsule")
@click.argument("number", type=NUMBER, metavar="TRIAL", shell_complete=complete.trials)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="The file. [default: trial-N.tar.gz]"
)
@click.option(
    "--image", "with_image", is_flag=True, help="Pack the guest's image too, in a copy with a key of its own."
)
@progress_options
@WORK
def capsule_(number: int, output: Path | None, with_image: bool, work: str | None) -> None:
    """Pack a trial for somebody without the harness.

    The file holds the program, its source, its libgo, what was observed, and a script that needs only QEMU, ssh and a
    shell.
    """
    target = output or Path(f"trial-{number}.tar.gz")
    with reporter() as report:
        capsule.pack(open_store(work), number, paths.work_dir(work), target, with_image, report)
    click.echo(target)


@click.command()
@click.argument("number", type=NUMBER, metavar="RUN", shell_complete=complete.runs)
@WORK
def rejudge(number: int, work: str | None) -> None:
    """Judge a stored run again by today's rules, and list what changed.

    What is judged by is what the programs said when the run was made. The matrix, JSON and HTML are made anew.
    """
    store = open_store(work)
    stored_run = store.run(number)
    changed = rejudge_run(store, stored_run)
    counts = Counter(tuple(f"{trial.verdict}: {trial.signature or trial.reason}" for trial in pair) for pair in changed)
    table = terminal.plain_table("trials", "was", "is now")
    for (old, new), count in counts.most_common():
        table.add_row(str(count), Text(old), Text(new))
    if changed:
        terminal.print_grid(terminal.screen(), table)
    pages = write_report(store, stored_run, load_matrix(store, stored_run), paths.work_dir(work), None)
    click.echo(f"Run {number}: {render_count(len(changed), 'trial')} changed. JSON and HTML: {pages}")
    renew_index(store, paths.work_dir(work))


@click.command("list")
@FORMAT
@click.option("--schema", is_flag=True, help="Print the JSON Schema of --format json, and list no runs.")
@WORK
def list_(format_: str, schema: bool, work: str | None) -> None:
    """List the runs of the work directory, oldest first.

    KIND is what made a run: run, rerun, record, trace, pytest, attribute, bisect or merge. STATE is `running` while a
    harness makes it, `stopped` if it has not finished and no harness makes it, else `done`. TRIALS are those with a
    verdict, and of how many. In a pipe each run has one line, which is never cut.
    """
    if schema:
        click.echo(listing.schema(), nl=False)
        return
    runs = listing.list_runs(open_store(work), paths.work_dir(work))
    if format_ == "json":
        print_text(runs.text())
        return
    width = Console().width if sys.stdout.isatty() else None
    print_text("".join(f"{line}\n" for line in listing.render(runs.runs, width)))
