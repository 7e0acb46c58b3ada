"""The command bisect."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click

from harness import paths
from harness.bisect.request import BisectInterrupted, BisectRequest, stored_bisect
from harness.cli import complete
from harness.cli.options import CONF, FULL_TIMEOUT, NUMBER, WORK, WORKERS, WholeNumber, progress_options
from harness.cli.output import BISECT, end_stopped, page_links, renew_index, reporter, write_report
from harness.conf.load import BASELINE
from harness.errors import HarnessError
from harness.invocation import command_line, repeated
from harness.results import terminal
from harness.results.load import load_matrix
from harness.results.store import Store


@click.group("bisect")
def bisect_() -> None:
    """Find the hunk or commit that changes what a program does."""


_PATCH = click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where the smallest patch is written. [default: culprit.patch in the run's folder]",
)
_BISECT_OPTIONS = (
    click.option(
        "--program",
        required=True,
        metavar="SUITE/PROGRAM|FILE.go",
        shell_complete=complete.selection,
        help="What is run.",
    ),
    click.option(
        "--guest",
        default="linux-i386",
        show_default=True,
        shell_complete=complete.guests,
        help="Where it is run.",
    ),
    click.option(
        "--outcome",
        default="",
        metavar="VERDICT|TEXT",
        help="A verdict or `kills guest`, or a text of the signature, that is looked for. [default: what differs]",
    ),
    click.option(
        "--confidence",
        type=click.FloatRange(0.5, 0.999),
        default=0.95,
        show_default=True,
        help="How probable the answer must be.",
    ),
    click.option(
        "--trials",
        type=WholeNumber(1, 1000),
        default=40,
        show_default=True,
        help="Trials of each end at most, until they are seen to differ.",
    ),
    WORKERS,
    FULL_TIMEOUT,
)


def _bisect_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add what bisects of patches and of commits have; named as the fields of the bisect's Request."""
    for option in reversed(_BISECT_OPTIONS):
        function = option(function)
    return function


@bisect_.command("patch")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@_bisect_options
@click.option(
    "--baseline",
    default=BASELINE,
    show_default=True,
    shell_complete=complete.plain_variants,
    help="The variant that the patches are put on.",
)
@click.option("--blocks", is_flag=True, help="Take hunks apart into runs of changed lines.")
@progress_options
@_PATCH
@CONF
@WORK
def bisect_patch(output: Path | None, work: str | None, **options: Any) -> None:
    """Find the hunks that change what a program does.

    FILE... are applied one after the other. Their hunks are left out and put in until it is known, as surely as
    --confidence says, which one, or which together, bring about what the program does with all of them and not without.
    Outcomes may come now and then only. Exit status: 0 it is found, 1 nothing differs or it stays uncertain, 2 bad
    input, 3 trouble with a guest, 130 interrupted.
    """
    _bisect(BisectRequest(work=paths.work_dir(work), **options), None, output)


@bisect_.command("git")
@click.argument("repository", type=click.Path(path_type=Path), metavar="REPO")
@click.argument("commits", metavar="[GOOD..]BAD")
@_bisect_options
@progress_options
@_PATCH
@CONF
@WORK
def bisect_git(output: Path | None, work: str | None, **options: Any) -> None:
    """Find the commit of GCC's that changes what a program does.

    REPO is a clone of GCC's repository, of which only commits are read. libgo is that of GOOD, with what the commits
    after it change of libgo; compilers are the toolchain's, so GOOD must be of the same major version. Without GOOD,
    commits 16, 64, 256 ... before BAD are tried until one differs from it; each costs a libgo of its own. Exit status
    as of `harness bisect patch`.
    """
    _bisect(BisectRequest(work=paths.work_dir(work), **options), None, output)


@bisect_.command("resume")
@click.argument("number", required=False, type=NUMBER, metavar="[RUN]", shell_complete=complete.stopped_bisects)
@progress_options
@_PATCH
@WORK
def bisect_resume(number: int | None, output: Path | None, work: str | None) -> None:
    """Resume a bisect that did not finish, by default the newest."""
    request, number = stored_bisect(paths.work_dir(work), number)
    _bisect(request, number, output)


def _bisect(request: BisectRequest, resume: int | None, output: Path | None) -> NoReturn:
    """Make a bisect, show it, and end with its exit status."""
    # NumPy takes as long to import as most commands take.
    from harness.bisect import report as bisect_reports
    from harness.bisect.backwards import run_backwards
    from harness.bisect.driver import run_bisect

    try:
        with reporter() as report:
            backwards = request.repository and (request.steps_back or ".." not in request.commits)
            finished = (run_backwards if backwards else run_bisect)(request, report, resume)
    except BisectInterrupted as error:
        end_stopped(str(error), error.number, request.work)
        sys.exit(130)
    store = Store(request.work / "results.sqlite")
    folder = request.work / "runs" / str(finished.run.id)
    story = finished.story()
    bisect_reports.print_(story, terminal.screen())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        bisect_reports.write_html(
            folder / BISECT,
            story,
            finished.patch,
            {"command": repeated(finished.run.plan.facts["command"], request.work)},
            finished.trial_ids(store.trials(finished.run.id)),
            page_links(folder, BISECT),
        )
        if finished.patch:
            target = output or folder / "culprit.patch"
            target.write_bytes(story.header().encode(errors="backslashreplace") + finished.patch)
            click.echo(f"The patch: {target}")
    except OSError as error:
        raise HarnessError(f"the answer cannot be written: {error}; all trials are stored") from error
    write_report(store, finished.run, load_matrix(store, finished.run), request.work, None)
    click.echo(f"HTML: {folder / BISECT}")
    click.echo(f"Trials: {command_line('show', str(finished.run.id), work=request.work)}")
    renew_index(store, request.work)
    sys.exit(finished.exit_status)
