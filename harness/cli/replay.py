"""Recorded trials: what `harness rerun --record` says of one that it makes, and the command replay."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

import click

from harness import paths
from harness.cli import complete
from harness.cli.options import NUMBER, WORK, progress_options
from harness.cli.output import open_store, renew_index, reporter, write_bytes, write_report
from harness.errors import GuestError, HarnessError
from harness.invocation import command_line
from harness.progress import READY
from harness.results.load import load_matrix
from harness.results.store import Store
from harness.run import debugging, recordings
from harness.run.recordings import Moment, RecordedTrial
from harness.run.request import Request
from harness.trial import diagnostics, gdb

#: How often a trial is repeated at most until one has the same outcome.
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
    for lack in tries.lacks:
        click.echo(f"Not kept: {lack}")
    if tries.kept is None:
        click.echo(f"None of {_counted(count, 'trial')} was kept: {thrown}. Trial {number} came to {tries.wanted}.")
        click.echo(f"JSON and HTML: {pages}")
        renew_index(store, request.work)
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
    click.echo(f"JSON and HTML: {pages}")
    renew_index(store, request.work)
    sys.exit(0)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


@click.command()
@click.argument("number", type=NUMBER, metavar="TRIAL", shell_complete=complete.trials)
@click.argument("text", required=False)
@click.option(
    "--at",
    metavar="MOMENT",
    help="Stop there: `end`, a count of instructions, `output TEXT` or `console TEXT`.",
)
@click.option("--gdb", "gdb_", is_flag=True, help="Open gdb where the machine stops. [default: at the end]")
@click.option(
    "--script",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Run the gdb commands of this file there; what they print goes into the report, too.",
)
@progress_options
@WORK
def replay(number: int, text: str | None, at: str | None, gdb_: bool, script: Path | None, work: str | None) -> None:
    """Replay a recorded trial, and open it in gdb at any moment.

    TRIAL is a trial that `harness rerun --record` has kept a recording of, or the one that it was made for. The machine
    runs again, instruction by instruction, without a network. Console, output and end are compared with what was
    recorded. Exit status: 0 they are the same, 2 the recording cannot be replayed here, 3 they are not; with --gdb and
    --script gdb's.

    \b
    harness replay 1                                replay it and compare
    harness replay 1 --gdb                          gdb where the program had ended, or still hung
    harness replay 1 --at output 'about to' --gdb   gdb when that was printed
    harness replay 1 --at 2500000000 --gdb          gdb after so many instructions
    harness replay 1 --script backtraces.gdb        gdb runs a file of commands, and ends

    In gdb, inferior 1 is the program with all its threads, and inferior 2 the machine. The program's end is when it had
    ended or, at its time limit, before it was touched.
    """
    folder = paths.work_dir(work)
    moment = _moment(at, text)
    recorded = recordings.find(open_store(work), number, folder)
    if gdb_ or script:
        _open(recorded, moment, script, folder)
    if at is not None:
        raise HarnessError("--at says where --gdb or --script stops, and there is neither")
    stored = recorded.stored
    with reporter() as report:
        checked = recordings.check(recorded, folder, report)
    click.echo(_headline(recorded))
    if checked.differences:
        raise GuestError(f"the replay is not what was recorded: {'; '.join(checked.differences)}")
    click.echo(
        f"Replayed {checked.replayed.icount:,} instructions in {checked.seconds:.1f} s, recorded in "
        f"{stored.seconds:.1f} s: the same console, output and end."
    )


def _headline(recorded: RecordedTrial) -> str:
    stored = recorded.stored
    return f"Trial {stored.trial}: {stored.program}, {stored.guest}, {stored.variant}: {stored.title}"


def _moment(at: str | None, text: str | None) -> Moment:
    """What --at says, its text perhaps in an argument of its own. Raises HarnessError."""
    kind, _, rest = (at or "end").partition(" ")
    if kind in ("output", "console"):
        wanted = rest or text
        if not wanted or (rest and text):
            raise HarnessError(f"--at {kind} takes one text: --at {kind} 'about to'")
        return Moment(text=wanted.encode(errors="surrogateescape"), console=kind == "console")
    if text:
        raise HarnessError(f"{text!r}: a text stands only after --at output or --at console")
    if kind == "end" and not rest:
        return Moment()
    digits = (at or "").replace(",", "").replace("_", "")
    if digits.isascii() and digits.isdigit():
        return Moment(icount=int(digits))
    raise HarnessError(f"--at {at!r} is neither end, output TEXT, console TEXT nor a count of instructions")


def _open(recorded: RecordedTrial, moment: Moment, script: Path | None, work: Path) -> NoReturn:
    """Stop a replay at a moment and run gdb there, with a script or by hand; end with its exit status."""
    gdb.required()
    with reporter() as report, recordings.replaying(recorded, work, paused=True, gdb=True) as machine:
        reached = recordings.go_to(machine, recorded, moment, report)
        report.step("gdb", "looking for the program")
        try:
            opened = debugging.open_machine(machine, recorded)
        except OSError as error:
            raise HarnessError(f"{machine.folder}: the machine's memory cannot be written: {error.strerror}") from error
        report.step("gdb", READY)
        with report.paused():
            click.echo(f"{_headline(recorded)}\nStopped after {reached:,} of {recorded.stored.icount:,} instructions.")
            click.echo(opened.text)
            sys.stdout.flush()
            if script is None:
                sys.exit(debugging.debug(opened))
            status, printed = debugging.run_script(opened, script)
    write_bytes(printed)
    store = Store(work / "results.sqlite")
    name = f"{diagnostics.PREFIX}gdb-{os.fsencode(script.stem).decode(errors='backslashreplace')}"
    head = f"after {reached:,} instructions, {script.name}:\n{opened.text}\n\n".encode(errors="backslashreplace")
    store.attach(recorded.stored.trial, name, diagnostics.bounded(head + printed))
    run, _ = store.trial(recorded.stored.trial)
    pages = write_report(store, run, load_matrix(store, run), work, None)
    click.echo(f"It is {name} of trial {recorded.stored.trial}. JSON and HTML: {pages}")
    sys.exit(status if status >= 0 else 128 - status)  # as a shell tells that a signal ended it
