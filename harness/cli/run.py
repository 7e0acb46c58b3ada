"""Commands that make trials: run, trace."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

import click
from click.core import ParameterSource

from harness import paths
from harness.cli import complete
from harness.cli.options import (
    BASELINE,
    CONF,
    CORES,
    COUNT,
    FULL_TIMEOUT,
    GUESTS,
    HTML,
    ISOLATION,
    NEWEST,
    NUMBER,
    SELECTION,
    TIMES,
    TRIALS,
    VARIANTS,
    WORK,
    WORKERS,
    ResumedRun,
    ResumingCommand,
    ShardNumber,
    WholeNumber,
    progress_options,
)
from harness.cli.output import renew_index, reporter, show_attribution, show_run, stop_told, write_report
from harness.errors import HarnessError
from harness.programs.select import describe_overlooked
from harness.results import terminal
from harness.results.load import load_life_cycles, load_matrix
from harness.results.store import Run, Store
from harness.run import ci
from harness.run.conductor import run_request
from harness.run.request import Isolation, Request, extended_request, stored_request, traced_request
from harness.run.shards import Times


@click.command(cls=ResumingCommand)
@SELECTION
@GUESTS
@VARIANTS
@BASELINE
@TRIALS
@click.option(
    "--until-sure",
    is_flag=True,
    help="Make trials of a cell only while they can decide whether it differs from the baseline's.",
)
@click.option(
    "--trace",
    "traced",
    multiple=True,
    metavar="SUITE/PROGRAM",
    shell_complete=complete.selection,
    help="Count this program's threads with each libgo, in one more trial that is in no cell; repeatable.",
)
@click.option(
    "--seed",
    type=WholeNumber(0, 2**31 - 1),
    help="The seed of all trials with seeded variants. [default: each trial's number]",
)
@WORKERS
@CORES
@FULL_TIMEOUT
@ISOLATION
@click.option(
    "--shard", type=ShardNumber(), metavar="K/N", help="Make only the trials of job K of N jobs that take equally long."
)
@TIMES
@click.option(
    "--resume",
    is_flag=False,
    flag_value=NEWEST,
    type=ResumedRun(),
    metavar="[RUN]",
    shell_complete=complete.stopped_runs,
    help="Go on with a run that did not finish, by default the newest, with all that it was asked for.",
)
@click.option(
    "--extend",
    type=NUMBER,
    metavar="RUN",
    shell_complete=complete.extensible_runs,
    help="Make more trials in a run, until each of its cells has --trials, with all else that it was asked for.",
)
@click.option(
    "--scheduler",
    is_flag=False,
    flag_value="local",
    metavar="[ADDRESS]",
    help="Have the workers of a dask cluster make the trials; without an address, one on this machine.",
)
@HTML
@progress_options
@CONF
@WORK
@click.pass_context
def run(
    context: click.Context,
    selection: tuple[str, ...],
    guests: tuple[str, ...],
    variants: tuple[str, ...],
    baseline: str,
    trials: int | None,
    until_sure: bool,
    traced: tuple[str, ...],
    seed: int | None,
    jobs: int | None,
    cores: bool,
    full_timeout: bool,
    isolation: Isolation,
    shard: tuple[int, int] | None,
    times: Path | None,
    resume: int | None,
    extend: int | None,
    scheduler: str | None,
    html: Path | None,
    conf_files: tuple[Path, ...],
    work: str | None,
) -> None:
    """Run programs and show the matrix.

    Builds what is missing, boots the guests, runs the suites, folders or files selected (all suites by default).
    Each trial is stored as it ends: a run that is stopped, or killed, goes on with --resume.

    \b
    harness run                                    all suites, the usual libgos
    harness run 'threads/lock-*' --trials 20       some programs of a suite
    harness run my.go --variant pristine           a program of your own
    harness run threads --guest hurd-i386 --variant pristine --variant thread-churn
    harness run --resume                           the run that was stopped
    harness run --extend 3 --trials 20             run 3 with more trials

    Exit status: 0 everything was as expected, 1 a surprise, 2 bad input, 3 trouble with a guest, 130 interrupted.
    """
    folder = paths.work_dir(work)
    if resume is None and extend is None:
        most = trials or (20 if until_sure else 1)
        if times and not shard:
            raise click.UsageError("--times says what --shard cuts by, and there is no --shard")
        if traced and shard:
            raise click.UsageError("--trace and --shard do not go together: trace a program in a run of its own")
        known = ci.read_times(times) if times else Times()
        request = Request(
            selection,
            guests,
            variants,
            most,
            jobs,
            conf_files,
            folder,
            cores,
            isolation,
            until_sure,
            shard,
            known,
            traced,
            baseline=baseline,
            seed=seed,
            full_timeout=full_timeout,
        )
    else:
        given = {name for name in context.params if context.get_parameter_source(name) == ParameterSource.COMMANDLINE}
        request, resume = _request_of_before(folder, resume, extend, trials, given)
    if note := describe_overlooked(request.selection):
        click.echo(f"harness: {note}", err=True)
    _run_and_show(request, resume, html, scheduler)


def _request_of_before(
    work: Path, resume: int | None, extend: int | None, trials: int | None, given: set[str]
) -> tuple[Request, int]:
    """The request of a run that is resumed or extended, and its number. `given` is what the user gave of options."""
    if resume is not None and extend is not None:
        raise HarnessError("--resume and --extend do not go together: --extend goes on with a stopped run too")
    option, own = ("--resume", {"resume"}) if extend is None else ("--extend", {"extend", "trials"})
    if others := sorted(given - {*own, "scheduler", "html", "work"}):
        raise HarnessError(f"{option} goes on with what the run was asked for; {others[0]} cannot be changed")
    if extend is None:
        return stored_request(work, None if resume == NEWEST else resume)
    if trials is None:
        raise HarnessError("--extend needs --trials, how many trials each cell is to have")
    return extended_request(work, extend, trials), extend


def _run_and_show(request: Request, resume: int | None, html: Path | None, scheduler: str | None = None) -> NoReturn:
    """Make a run, show its matrix, and end with its exit status."""
    store, stored_run = make_run(request, resume, scheduler, html)
    if request.design:
        show_attribution(store, stored_run, request.work)
    show_run(store, stored_run, html, request.work)


@click.command()
@click.argument("program", metavar="SUITE/PROGRAM|FILE.go", shell_complete=complete.selection)
@GUESTS
@VARIANTS
@click.option("--trials", default=3, show_default=True, type=COUNT, help="Trials, with the trace and without.")
@WORKERS
@FULL_TIMEOUT
@HTML
@progress_options
@CONF
@WORK
def trace(
    program: str,
    guests: tuple[str, ...],
    variants: tuple[str, ...],
    trials: int,
    jobs: int,
    full_timeout: bool,
    html: Path | None,
    conf_files: tuple[Path, ...],
    work: str | None,
) -> None:
    """Count how threads and goroutines of a program live and end.

    Runs it with each libgo as it is, and with the same libgo made to count threads and goroutines made, parked, reused
    and ended; shows the counts side by side, says whether any was destroyed, and what the counting costs. The report
    plots threads and goroutines over time. Exit status: 0 it was traced, 1 there was nothing to count, as of a program
    that does not compile, 2 bad input, 3 trouble with a guest.
    """
    folder = paths.work_dir(work)
    request = Request((program,), guests, variants, trials, jobs, conf_files, folder, full_timeout=full_timeout)
    store, stored_run = make_run(traced_request(request), html=html)
    matrix = load_matrix(store, stored_run)
    cycles = load_life_cycles(store, stored_run)
    if not cycles:  # as of a program that does not compile
        show_run(store, stored_run, html, request.work)
    terminal.print_life_cycles(cycles, terminal.screen())
    click.echo(f"JSON and HTML: {write_report(store, stored_run, matrix, request.work, html)}")
    renew_index(store, request.work)
    sys.exit(3 if any(cell.lost for cell in matrix.cells) else 0)


def make_run(
    request: Request, resume: int | None = None, scheduler: str | None = None, html: Path | None = None
) -> tuple[Store, Run]:
    """Make a run with its progress shown. One that does not come to its end ends the harness.

    Args:
        html: another place for the page of a run that does not come to its end.
    """
    with stop_told(request.work, html), reporter() as report:
        return run_request(request, report, resume, scheduler=scheduler)
