"""Commands for several jobs: ci, merge."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import get_args

import click
from click.core import ParameterSource

from harness import paths
from harness.cli import complete
from harness.cli.options import (
    CONF,
    CORES,
    COUNT,
    FULL_TIMEOUT,
    GUESTS,
    HTML,
    ISOLATION,
    SELECTION,
    VARIANTS,
    WORK,
    WholeNumber,
)
from harness.cli.output import open_store, show_run
from harness.guest.workspace import SCREENS
from harness.results import merge as merging
from harness.results.text import render_count
from harness.run import ci
from harness.run.request import Isolation, Request
from harness.run.resolve import resolve
from harness.run.shards import MOST_JOBS, Times


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", shell_complete=complete.runs_and_files)
@HTML
@WORK
def merge(runs: tuple[str, ...], html: Path | None, work: str | None) -> None:
    """Merge runs into one, and show its matrix.

    \b
    harness merge shard-1 shard-2 shard-3 --work merged

    RUN is a work directory, whose newest run is taken, or that of a number: FOLDER#N; or the number of a run of this
    work directory. They must be of the same matrix: the same libgos, programs, compilers, guests and rules. A run that
    is given twice counts once; trials that were made again all count. Exit status: as of `harness run`, and 3 if a
    shard is missing or has not finished.
    """
    folder = paths.work_dir(work)
    merged = merging.merge([merging.source(run, folder) for run in runs], folder, [SCREENS])
    for why in merged.lacking:
        click.echo(f"harness: {why}", err=True)
    for count, singular, plural in (
        (merged.twice, "was there twice, and counts once", "were there twice, and count once"),
        (merged.further, "was made again, and counts", "were made again, and count"),
    ):
        if count:
            click.echo(f"harness: {render_count(count, 'trial')} {singular if count == 1 else plural}", err=True)
    store = open_store(work)
    show_run(store, store.run(merged.number), html, folder, whole=not merged.lacking)


@click.group("ci")
def ci_() -> None:
    """Split a matrix over several jobs."""


@ci_.command("plan")
@SELECTION
@click.option(
    "--shards", "--jobs", "jobs", required=True, type=WholeNumber(1, MOST_JOBS), metavar="N", help="How many jobs."
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(get_args(ci.Format)),
    default="json",
    show_default=True,
    help="Who reads it, see above.",
)
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path),
    metavar="WORK|FILE",
    help="Cut by what trials took in earlier runs: a work directory, its results.sqlite, or what --times once wrote.",
)
@click.option(
    "--times",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write what is known of --from here; the jobs' commands name it.",
)
@GUESTS
@VARIANTS
@click.option("--trials", default=1, show_default=True, type=COUNT, help="Trials of each cell.")
@CORES
@FULL_TIMEOUT
@ISOLATION
@CONF
@WORK
@click.pass_context
def ci_plan(
    context: click.Context,
    selection: tuple[str, ...],
    jobs: int,
    format_: ci.Format,
    source: Path | None,
    times: Path | None,
    guests: tuple[str, ...],
    variants: tuple[str, ...],
    trials: int,
    cores: bool,
    full_timeout: bool,
    isolation: Isolation,
    conf_files: tuple[Path, ...],
    work: str | None,
) -> None:
    """Cut a matrix into jobs that take equally long.

    It prints their commands. Selection and options are those of `harness run`. A job's command makes its part whenever
    and wherever it is run, as often as you like, without the other jobs; `harness merge` puts together what they leave.
    All variants of a program are made by the same job, for they are compared.

    \b
    github  one line of JSON for `strategy: matrix: ${{ fromJSON(...) }}`
    gitlab  the jobs of a child pipeline; each extends your hidden job .harness-shard
    json    shard, name, seconds and command of each job

    \b
    harness ci plan threads goroutines --trials 20 --shards 4 --format github
    harness ci plan --shards 8 --from .harness --times times.json
    """
    if bool(source) != bool(times):
        raise click.UsageError("--from and --times belong together: the jobs cut by the file that --times writes")
    known = ci.times_of(source) if source else Times()
    request = Request(
        selection,
        guests,
        variants,
        trials,
        None,
        conf_files,
        paths.work_dir(work),
        cores,
        isolation,
        times=known,
        full_timeout=full_timeout,
    )
    cut = resolve(request).cut(jobs)
    if times:
        ci.write_times(times, known)
    click.echo(
        ci.render(
            ci.shard_jobs(cut, ["harness", "run", *_given_words(context, {"jobs", "format_", "source", "debug"})]),
            format_,
        )
    )


def _given_words(context: click.Context, without: Collection[str]) -> list[str]:
    """The words of a command line as they were given, but for the command's name and some of its options."""
    given = []
    for parameter in context.command.params:
        name = parameter.name or ""
        if name in without or context.get_parameter_source(name) != ParameterSource.COMMANDLINE:
            continue
        value = context.params[name]
        values = list(map(str, value)) if isinstance(value, tuple) else [str(value)]
        if isinstance(parameter, click.Option):
            values = (
                [parameter.opts[0]]
                if parameter.is_flag
                else [word for each in values for word in (parameter.opts[0], each)]
            )
        given += values
    return given
