"""Recorded trials: what `harness rerun --record` says of one that it makes, and the command replay."""

from __future__ import annotations

import sys
from typing import NoReturn

import click

from harness import paths
from harness.cli import complete
from harness.cli.options import NUMBER, WORK, progress_options
from harness.cli.output import open_store, reporter, write_report
from harness.errors import GuestError
from harness.invocation import command_line
from harness.results.load import load_matrix
from harness.results.store import Store
from harness.run import recordings
from harness.run.request import Request

#: How often a trial is made at most until it comes to the same.
MOST_RECORDED = 20


def record_trial(request: Request, number: int) -> NoReturn:
    """Record a trial, say what came of it, and end with the exit status.

    Args:
        request: that of its cell, with the most trials to make.
        number: its number.
    """
    with reporter() as report:
        tries = recordings.record(request, number, report)
    store = Store(request.work / "results.sqlite")
    pages = write_report(store, tries.run, load_matrix(store, tries.run), request.work, None)
    count = tries.outcomes.total()
    others = tries.outcomes.copy()
    if tries.kept:
        others[tries.wanted] -= 1
    thrown = ", ".join(f"{times} {what}" for what, times in (+others).most_common())
    for difference in tries.unfaithful:
        click.echo(f"Not kept, for its replay was not the same: {difference}")
    if tries.kept is None:
        click.echo(f"None of {_counted(count, 'trial')} was kept: {thrown}. Trial {number} came to {tries.wanted}.")
        click.echo(f"JSON and HTML: {pages}")
        sys.exit(1)
    stored = tries.kept.stored
    click.echo(
        f"Recorded in try {count} of at most {request.trials}, as trial {stored.trial} of run {tries.run.id}: "
        f"{tries.wanted}"
    )
    if thrown:
        click.echo(f"Thrown away: {thrown}")
    size = f"{tries.kept.size / 1e6:.0f} MB"
    click.echo(f"{stored.icount:,} instructions in {stored.seconds:.1f} s, {size} in {tries.kept.folder}")
    click.echo(f"Replayed once in {tries.replayed:.1f} s: the same console, output and end.")
    click.echo(f"$ {command_line('replay', str(stored.trial), work=request.work)}")
    sys.exit(0)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


@click.command()
@click.argument("number", type=NUMBER, metavar="TRIAL", shell_complete=complete.trials)
@progress_options
@WORK
def replay(number: int, work: str | None) -> None:
    """Replay a recorded trial.

    TRIAL is a trial that `harness rerun --record` has kept a recording of, or the one that it was made for. The machine
    runs again, instruction by instruction, without a network. Console, output and end are compared with what was
    recorded. Exit status: 0 they are the same, 2 the recording cannot be replayed here, 3 they are not.
    """
    folder = paths.work_dir(work)
    recorded = recordings.find(open_store(work), number, folder)
    stored = recorded.stored
    with reporter() as report:
        checked = recordings.check(recorded, folder, report)
    click.echo(f"Trial {stored.trial}: {stored.program}, {stored.guest}, {stored.variant}: {stored.title}")
    if checked.differences:
        raise GuestError(f"the replay is not what was recorded: {'; '.join(checked.differences)}")
    click.echo(
        f"Replayed {checked.replayed.icount:,} instructions in {checked.seconds:.1f} s, recorded in "
        f"{stored.seconds:.1f} s: the same console, output and end."
    )
