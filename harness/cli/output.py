"""What several commands print and write."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import click

from harness import conf, paths
from harness.build.variants import load_configuration
from harness.cli.options import VERBOSITY
from harness.errors import HarnessError, StoreError
from harness.invocation import command_line
from harness.progress import Reporter, Verbosity
from harness.results import formats, index, listing, page, terminal
from harness.results.history import History
from harness.results.listing import resume_command
from harness.results.load import (
    history_runs,
    load_history,
    load_life_cycles,
    load_matrix,
    matrix_trials,
    output_differ,
)
from harness.results.matrix import Matrix
from harness.results.store import Run, Store
from harness.results.text import render_count
from harness.run.conductor import Interrupted

#: The pages in a run's folder, and the address of the page of all runs as seen from there.
REPORT, BISECT, ATTRIBUTION, INDEX = "report.html", "bisect.html", "attribution.html", "../../index.html"


def reporter(put: Callable[[str], None] | None = None) -> Reporter:
    """What shows the progress of the command that runs, as its options say.

    Args:
        put: takes the lines, if there is to be no live view.
    """
    return Reporter(put, click.get_current_context().meta.get(VERBOSITY, Verbosity.NORMAL))


def show_run(store: Store, stored_run: Run, html: Path | None, work: Path, whole: bool = True) -> NoReturn:
    """Show the matrix of a run, write its pages, and end with its exit status."""
    matrix = load_matrix(store, stored_run)
    terminal.print_table(matrix, terminal.screen(), work, cycles=load_life_cycles(store, stored_run))
    pages = write_report(store, stored_run, matrix, work, html)
    click.echo(f"\nJSON and HTML: {pages}")
    renew_index(store, work)
    sys.exit(3 if not whole or any(cell.lost for cell in matrix.cells) else int(bool(matrix.surprises())))


def show_attribution(store: Store, stored_run: Run, work: Path) -> NoReturn:
    """Show what the failures of an experiment of all combinations follow, write its pages, and end.

    Raises:
        HarnessError: a page cannot be written.
    """
    matrix = load_matrix(store, stored_run)
    terminal.print_attribution(matrix, terminal.screen(), work)
    folder = work / "runs" / str(stored_run.id)
    path = folder / ATTRIBUTION
    try:
        folder.mkdir(parents=True, exist_ok=True)
        page.write_attribution(path, matrix, page_links(folder, path.name), work)
    except OSError as error:
        raise HarnessError(f"the page cannot be written: {error}; all trials are stored") from error
    report = write_report(store, stored_run, matrix, work, None)
    click.echo(f"\nHTML: {path}\nTrials: {command_line('show', str(stored_run.id), work=work)}")
    click.echo(f"JSON and all trials: {report}")
    renew_index(store, work)
    explained = {effect.program for effect in matrix.effects if effect.claimed}
    failing = {cell.program for cell in matrix.cells if cell.passed < cell.trials}
    sys.exit(3 if any(cell.lost for cell in matrix.cells) else int(bool(failing - explained)))


def write_report(store: Store, stored_run: Run, matrix: Matrix, work: Path, also: Path | None) -> str:
    """Write a run's JSON and HTML, and say where they are. Raises HarnessError if they cannot be written."""
    folder = work / "runs" / str(stored_run.id)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "matrix.json").write_text(formats.json_text(matrix, work))
        cycles = load_life_cycles(store, stored_run)
        compared = output_differ(stored_run.plan)
        unfinished = unfinished_note(stored_run, matrix, work)
        for file in filter(None, [folder / REPORT, also]):
            links = page_links(folder, REPORT) if file != also else {}
            trials = matrix_trials(store, stored_run)
            page.write(file, matrix, trials, cycles, store.collected, work, compared, links, unfinished)
    except OSError as error:
        raise HarnessError(f"the report cannot be written: {error}; all trials are stored") from error
    return f"{folder / 'matrix.json'} {folder / REPORT}"


def page_links(folder: Path, name: str) -> dict[str, str]:
    """The addresses of the other pages, as seen from a page in a run's folder, by what they are called."""
    pages = {REPORT: "All trials of this run", BISECT: "The bisect", ATTRIBUTION: "What the failures follow"}
    links = {INDEX: "All runs"} | {
        page: title for page, title in pages.items() if page != name and (page == REPORT or (folder / page).exists())
    }
    return {title: address for address, title in links.items()}


@contextmanager
def stop_told(work: Path, html: Path | None = None, more: Callable[[int], str] = lambda run: "") -> Iterator[None]:
    """End the harness, as `end_stopped` tells, if a run that is made in the block does not come to its end.

    Args:
        html: another place for the run's page.
        more: what there is to be told after the reason, given the run's number.
    """
    try:
        yield
        return
    except Interrupted as error:
        text, number, status = str(error), error.number, 130
    except HarnessError as error:
        if error.run is None:
            raise
        text, number, status = error.whole(), error.run, error.exit_status
    end_stopped(text + more(number), number, work, html)
    sys.exit(status)


def end_stopped(sentence: str, run: int, work: Path, html: Path | None = None) -> None:
    """Say why a run was stopped and what goes on with it, and write its pages as `show_run` does.

    All of that goes to standard error: a ctrl-C has ended whoever reads standard output as well.

    Args:
        sentence: why, and whatever else there is to be told.
        html: another place for its page.
    """
    click.echo(f"harness: {sentence}", err=True)
    try:
        store = Store(work / "results.sqlite")
        stored_run = store.run(run)
        commands = {"goes on": resume_command(stored_run, work), "shows it": command_line("show", str(run), work=work)}
        click.echo(", ".join(f"`{command}` {use}" for use, command in commands.items() if command), err=True)
        pages = write_report(store, stored_run, load_matrix(store, stored_run), work, html)
        click.echo(f"JSON and HTML: {pages}", err=True)
        renew_index(store, work, err=True)
    except HarnessError as error:  # beside what has gone wrong before
        click.echo(f"harness: {error}", err=True)


def renew_index(store: Store, work: Path, err: bool = False) -> None:
    """Write the page of all runs, and say where it is, or why it was not written.

    Args:
        err: say so on standard error.
    """
    try:
        click.echo(f"All runs: {write_index(store, work, load_history(store, work))}", err=err)
    except StoreError as error:  # of another run, which says nothing of this one
        click.echo(f"harness: the page of all runs was not written: {error}", err=True)


def _run_pages(work: Path, run: int) -> dict[str, str]:
    """The pages that there are of a run, by what they are called, as seen from the page of all runs."""
    folder = Path("runs") / str(run)
    names = {"trials": REPORT, "bisect": BISECT, "attribution": ATTRIBUTION}
    return {name: str(folder / file) for name, file in names.items() if (work / folder / file).is_file()}


def write_index(store: Store, folder: Path, history: History) -> Path:
    """Write the page of all runs of a work directory, with the history of all of its cells. Returns its path.

    Raises:
        HarnessError: it cannot be written.
    """
    file = folder / "index.html"
    try:
        listed = listing.list_runs(store, folder).runs
        entries = [index.RunEntry(run, _run_pages(folder, run.run)) for run in listed]
        index.write(file, entries, history_runs(store, folder), history)
    except OSError as error:
        raise HarnessError(f"the page of all runs cannot be written: {error}; all trials are stored") from error
    return file


def unfinished_note(stored_run: Run, matrix: Matrix, work: Path) -> str:
    """That a run has not finished, and what goes on with it; '' if it has."""
    if stored_run.finished:
        return ""
    count = sum(cell.trials for cell in matrix.cells)
    most = render_count(stored_run.plan.trials * len(matrix.cells), "trial")
    trials = render_count(count, "trial") if stored_run.plan.bisect else f"{count} of at most {most}"
    command = resume_command(stored_run, work)
    if command is None:
        return f"Not finished, with {render_count(count, 'trial')} made."
    return f"Not finished, with {trials} made; `{command}` goes on with it."


def print_text(text: str) -> None:
    """Print text for another program: UTF-8 whatever the locale says, half surrogate pairs spelt out."""
    write_bytes(text.encode("utf-8", "backslashreplace"))


def write_bytes(data: bytes) -> None:
    """Write to standard output, as it is and at once."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def load_work_configuration(conf_files: tuple[Path, ...], work: str | None) -> conf.Configuration:
    """The configuration with the user's own files and those of the work directory. Raises ConfigError."""
    return load_configuration(conf_files, paths.work_dir(work))


def open_store(work: str | None) -> Store:
    """The store of a work directory. Raises HarnessError if no run has been made in it, and StoreError."""
    path = paths.work_dir(work) / "results.sqlite"
    if not path.is_file():
        make_one = command_line("run", work=path.parent)
        raise HarnessError(f"{path.parent}: no run has been made here; `{make_one}` makes one")
    return Store(path)
