"""The command line: a door to the engine. No logic of its own worth testing."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, get_args

import click
from click.core import ParameterSource
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness import __version__, capsule, ci, completion, conf, doctor, engine, gccsuites, paths, plan
from harness.build import gcc, sysroot, toolchain, worktree
from harness.cache import Cache
from harness.conf.load import BASELINE
from harness.crew import SCREENS, Isolation
from harness.errors import BuildError, ConfigError, GuestError, HarnessError, ToolMissing
from harness.guest import image as images
from harness.guest.machine import Machine
from harness.progress import Reporter
from harness.results import compare as comparisons
from harness.results import formats, page, terminal
from harness.results import merge as merging
from harness.results import words as sentences
from harness.results.matrix import Matrix
from harness.results.store import Run, Store
from harness.shards import MOST_JOBS, Times
from harness.trial import cores as cores_
from harness.trial import dossier

if TYPE_CHECKING:
    from harness.bisect import run as bisects


class _Whole(click.IntRange):
    """A whole number in a range. click calls one that is none `not a valid integer range`."""

    name = "integer"


_COUNT = _Whole(1)
#: The number of a run or a trial: what SQLite can hold (its manual, "Datatypes").
_NUMBER = _Whole(1, 2**63 - 1)
#: What stands for the newest run that did not finish.
_NEWEST = -1


class _Resumed(click.ParamType[int]):
    """The number of a run, or _NEWEST."""

    name = "integer"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it. What the user says is text, so _NEWEST cannot be said."""
        return _NEWEST if value == _NEWEST else _NUMBER.convert(value, param, ctx)


class _Resuming(click.Command):
    """A command with --resume: its number may be left out, so click takes the -5 of --resume=-5 for an option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        for word in args:
            if word.startswith("--resume=-") and not ctx.resilient_parsing:
                raise HarnessError(f"{word.partition('=')[2]} is no run's number")
        return super().parse_args(ctx, args)


_CONF = click.option(
    "--conf", "conf_files", multiple=True, type=click.Path(path_type=Path), help="A YAML file of your own; repeatable."
)
_WORK = click.option("--work", metavar="FOLDER", help="The work directory. [default: $HARNESS_WORK or .harness]")

_GUESTS = click.option(
    "--guest",
    "guests",
    multiple=True,
    default=["linux-i386"],
    show_default=True,
    metavar="NAME",
    shell_complete=completion.guests,
    help="A guest; repeatable.",
)
_VARIANTS = click.option(
    "--variant",
    "variants",
    multiple=True,
    metavar="NAME",
    shell_complete=completion.variants,
    help="A libgo; repeatable. NAME+trace counts threads too. [default: the configuration's `usual` ones]",
)
_SELECTION = click.argument(
    "selection",
    nargs=-1,
    metavar="[SUITE|SUITE/PROGRAM|FOLDER|FILE.go]...",
    shell_complete=completion.selection,
)
_TRIALS = click.option("--trials", type=_COUNT, help="Trials of each cell; the most, if --until-sure. [default: 1; 20]")
_CORES = click.option("--cores", is_flag=True, help="Have crashes leave core files, fetch them, and let gdb read them.")
_ISOLATION = click.option(
    "--isolation",
    type=click.Choice(get_args(Isolation)),
    default="on-trouble",
    show_default=True,
    help="When a guest is replaced by a fresh one: after every trial, for every cell, or after a crash or hang.",
)
_JOBS = click.option(
    "--jobs", type=_COUNT, help="Guests side by side. [default: as many as the cores and the memory allow]"
)
_TOOLCHAIN = click.option(
    "--toolchain",
    "toolchain_name",
    default="linux-i386",
    show_default=True,
    metavar="NAME",
    shell_complete=completion.toolchains,
    help="The compilers.",
)


class _Report(click.Path):
    """A file to be written after hours: that it can be is seen at once."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Read it."""
        file = Path(value)
        if not value:
            raise HarnessError("--html '': an empty word names no file")
        if file.is_dir():
            raise HarnessError(f"--html {file}: is a folder")
        if not file.parent.is_dir():
            raise HarnessError(f"--html {file}: there is no folder {file.parent}")
        if not os.access(file if file.exists() else file.parent, os.W_OK):
            raise HarnessError(f"--html {file}: may not be written")
        return file


_HTML = click.option("--html", type=_Report(), help="Write the report here as well.")


class _Shard(click.ParamType[tuple[int, int]]):
    """K/N: job K of N, counted from 1."""

    name = "K/N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Read it."""
        match = re.fullmatch(r"([1-9]\d{0,18})/([1-9]\d{0,18})", value)
        if not match or int(match[1]) > int(match[2]):
            self.fail(f"{value!r} is not K/N with K from 1 to N, such as 2/8", param, ctx)
        if int(match[2]) > MOST_JOBS:
            self.fail(f"{value!r} is of more than {MOST_JOBS} jobs", param, ctx)
        return int(match[1]), int(match[2])


_TIMES = click.option(
    "--times",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="What jobs are cut by, as `harness ci plan` wrote it; the same for all of them. [default: all trials alike]",
)


#: The commands as the help shows them; others come last.
_SECTIONS = {
    "Make and look at matrices": ("run", "trace", "list", "show", "compare", "rejudge"),
    "Open what did not pass": ("open", "rerun", "capsule", "bisect"),
    "Programs and libgos": ("suite", "variant", "build"),
    "Guests": ("image", "shell"),
    "Several jobs": ("ci", "merge"),
    "This machine": ("doctor", "toolchain", "completion"),
}


class _Group(click.Group):
    """Turns the harness's errors into one sentence and an exit status, and shows the commands by what they are for."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands below their sections."""
        others = tuple(name for name in self.commands if not any(name in names for names in _SECTIONS.values()))
        for title, names in {**_SECTIONS, "Others": others}.items():
            rows = [(name, one.get_short_help_str(limit=66)) for name in names if (one := self.commands.get(name))]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows, col_max=12)

    def main(self, *args: Any, **more: Any) -> Any:
        """Run a command, or print help; what is printed must get somewhere."""
        if sys.stdout is None:
            click.echo("harness: standard output is closed; send it to /dev/null if it is not wanted", err=True)
            sys.exit(2)
        try:
            return super().main(*args, **more)
        except OSError as error:
            try:  # whether it is standard output's error, or another file's
                print(flush=True)
            except OSError:
                _drop_output()
            else:
                raise
            click.echo(f"harness: standard output cannot be written: {error.strerror}", err=True)
            sys.exit(2)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except HarnessError as error:
            text = error.whole() if isinstance(error, GuestError) else error
            click.echo(f"harness: {text}", err=True)
            sys.exit(error.exit_status)
        except KeyboardInterrupt:
            click.echo("harness: interrupted", err=True)
            sys.exit(130)
        except BrokenPipeError:
            _drop_output()
            sys.exit(1)


def _drop_output() -> None:
    """Have what could not be written to standard output go nowhere, so that it is not tried again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="`harness COMMAND --help` says what each one takes. README.md tells of all of it.",
)
@click.version_option(__version__)
def main() -> None:
    """Runs Go programs with several libgos on guests in QEMU, and shows what passes, fails, crashes and hangs.

    \b
    harness doctor            what is missing on this machine
    harness run threads       a suite with two libgos on the control guest: the matrix
    harness open 1            why trial 1 came to what it did
    """
    if os.environ.get("COLUMNS") == "0":  # a shell without a terminal; rich would print nothing at all
        del os.environ["COLUMNS"]


@main.command(cls=_Resuming)
@_SELECTION
@_GUESTS
@_VARIANTS
@_TRIALS
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
    shell_complete=completion.selection,
    help="Count this program's threads with each libgo, in one more trial that is in no cell; repeatable.",
)
@_JOBS
@_CORES
@_ISOLATION
@click.option(
    "--shard", type=_Shard(), metavar="K/N", help="Make only the trials of job K of N jobs that take equally long."
)
@_TIMES
@click.option(
    "--resume",
    is_flag=False,
    flag_value=_NEWEST,
    type=_Resumed(),
    metavar="[RUN]",
    help="Go on with a run that did not finish, by default the newest, with all that it was asked for.",
)
@click.option(
    "--scheduler",
    is_flag=False,
    flag_value="local",
    metavar="[ADDRESS]",
    help="Have the workers of a dask cluster make the trials; without an address, one on this machine.",
)
@_HTML
@_CONF
@_WORK
@click.pass_context
def run(
    context: click.Context,
    selection: tuple[str, ...],
    guests: tuple[str, ...],
    variants: tuple[str, ...],
    trials: int | None,
    until_sure: bool,
    traced: tuple[str, ...],
    jobs: int | None,
    cores: bool,
    isolation: Isolation,
    shard: tuple[int, int] | None,
    times: Path | None,
    resume: int | None,
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

    Exit status: 0 everything was as expected, 1 a surprise, 2 bad input, 3 trouble with a guest, 130 interrupted.
    """
    folder = paths.work_dir(work)
    if resume is None:
        most = trials or (20 if until_sure else 1)
        if times and not shard:
            raise click.UsageError("--times says what --shard cuts by, and there is no --shard")
        if traced and shard:
            raise click.UsageError("--trace and --shard do not go together: trace a program in a run of its own")
        known = ci.read_times(times) if times else Times()
        request = engine.Request(
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
        )
    else:
        given = [name for name in context.params if context.get_parameter_source(name) == ParameterSource.COMMANDLINE]
        if others := sorted(set(given) - {"resume", "scheduler", "html", "work"}):
            raise HarnessError(f"--resume goes on with what the run was asked for; {others[0]} cannot be changed")
        request, resume = engine.request_of(folder, None if resume == _NEWEST else resume)
    _make(request, resume, html, work, scheduler)


def _make(
    request: engine.Request, resume: int | None, html: Path | None, work: str | None, scheduler: str | None = None
) -> NoReturn:
    """Make a run, show its matrix, and end with its exit status."""
    _show(*_run(request, resume, scheduler), html, work)


def _show(store: Store, run_: Run, html: Path | None, work: str | None, whole: bool = True) -> NoReturn:
    """Show the matrix of a run, write its pages, and end with its exit status."""
    matrix = engine.matrix(store, run_)
    terminal.print_table(matrix, Console(), _option(work), cycles=engine.life_cycles(store, run_))
    pages = _write(store, run_, matrix, work, html)
    click.echo(f"\nJSON and HTML: {pages}")
    sys.exit(3 if not whole or any(cell.lost for cell in matrix.cells) else int(bool(matrix.surprises())))


def _option(work: str | None) -> str:
    """What a command needs that works on the same results."""
    return f" --work {shlex.quote(work)}" if work else ""


@main.command()
@click.argument("program", metavar="SUITE/PROGRAM|FILE.go", shell_complete=completion.selection)
@_GUESTS
@_VARIANTS
@click.option("--trials", default=3, show_default=True, type=_COUNT, help="Trials, with the trace and without.")
@_JOBS
@_HTML
@_CONF
@_WORK
def trace(
    program: str,
    guests: tuple[str, ...],
    variants: tuple[str, ...],
    trials: int,
    jobs: int,
    html: Path | None,
    conf_files: tuple[Path, ...],
    work: str | None,
) -> None:
    """Count how threads and goroutines of a program live and end.

    Runs it with each libgo as it is, and with the same libgo made to count threads and goroutines made, parked, reused
    and ended; shows the counts side by side, says whether any was destroyed, and what the counting costs. The report
    plots threads and goroutines over time. Exit status: 0 it was traced, 2 bad input, 3 trouble with a guest.
    """
    request = engine.Request((program,), guests, variants, trials, jobs, conf_files, paths.work_dir(work))
    store, done = _run(engine.traced(request))
    matrix = engine.matrix(store, done)
    terminal.print_life_cycles(engine.life_cycles(store, done), Console())
    click.echo(f"JSON and HTML: {_write(store, done, matrix, work, html)}")
    sys.exit(3 if any(cell.lost for cell in matrix.cells) else 0)


def _run(request: engine.Request, resume: int | None = None, scheduler: str | None = None) -> tuple[Store, Run]:
    try:
        with Reporter() as report:
            return engine.run(request, report, resume, scheduler=scheduler)
    except engine.Interrupted as error:
        click.echo(f"harness: {error}", err=True)
    sys.exit(130)


def _write(store: Store, run_: Run, matrix: Matrix, work: str | None, also: Path | None) -> str:
    """Write a run's JSON and HTML, and say where they are."""
    folder = paths.work_dir(work) / "runs" / str(run_.id)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "matrix.json").write_text(formats.json_text(matrix))
        cycles = engine.life_cycles(store, run_)
        for file in filter(None, [folder / "report.html", also]):
            page.write(file, matrix, engine.trials(store, run_), cycles, store.collected, _option(work))
    except OSError as error:
        raise HarnessError(f"the report cannot be written: {error}; all trials are stored") from error
    return f"{folder / 'matrix.json'} {folder / 'report.html'}"


@main.command()
@click.argument("number", required=False, type=_NUMBER, metavar="[RUN]")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["table", "markdown", "junit", "json", "csv", "html"]),
    default="table",
    show_default=True,
    help="For a terminal, the summary of a CI job, its test report, or other programs.",
)
@click.option("--schema", is_flag=True, help="Print the JSON Schema of --format json, and show no run.")
@_WORK
def show(number: int | None, format_: str, schema: bool, work: str | None) -> None:
    """Show the matrix of a run, by default of the newest.

    Markdown is for the summary of a CI job, at most 1 MiB of it. JUnit XML has a test suite for each guest and variant,
    and a test case for each cell, skipped if all that went wrong is known. CSV has a line for each cell.
    """
    if schema:
        click.echo(formats.schema(), nl=False)
        return
    store = _store(work)
    run_ = store.run(number)
    matrix = engine.matrix(store, run_)
    match format_:
        case "table":
            cycles = engine.life_cycles(store, run_)
            terminal.print_table(matrix, Console(), _option(work), _unfinished(run_, matrix, work), cycles)
        case "html":
            cycles = engine.life_cycles(store, run_)
            for piece in page.html(matrix, engine.trials(store, run_), cycles, store.collected, _option(work)):
                _print(piece)
        case "markdown":
            cycles = engine.life_cycles(store, run_)
            _print(formats.markdown(matrix, unfinished=_unfinished(run_, matrix, work), cycles=cycles))
        case "junit":
            _print(formats.junit(matrix, lambda number: store.trial(number)[1]))
        case "json":
            _print(formats.json_text(matrix))
        case "csv":
            _print(formats.csv_text(matrix))


def _unfinished(run_: Run, matrix: Matrix, work: str | None) -> str:
    """That a run has not finished, and what goes on with it; '' if it has."""
    if run_.finished:
        return ""
    made = sum(cell.trials for cell in matrix.cells)
    said = f"Not finished, with {sentences.count(made, 'trial')} made"
    if "bisect" in run_.plan:
        return f"{said}; `harness bisect resume {run_.id}{_option(work)}` goes on with it."
    if "request" not in run_.plan or not run_.plan.get("resumable", True):
        return f"{said}."
    most = sentences.count(run_.plan["trials"] * len(matrix.cells), "trial")
    command = f"harness run --resume {run_.id}{_option(work)}"
    return f"Not finished, with {made} of at most {most} made; `{command}` goes on with it."


def _print(text: str) -> None:
    """Print text for another program: UTF-8 whatever the locale says, half surrogate pairs spelt out."""
    _put(text.encode("utf-8", "backslashreplace"))


def _put(data: bytes) -> None:
    """Write to standard output, as it is and at once."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


@main.command()
@click.argument("before", metavar="RUN")
@click.argument("after", metavar="RUN")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["table", "markdown", "json"]),
    default="table",
    show_default=True,
    help="For a terminal, the summary of a CI job, or other programs.",
)
@_WORK
def compare(before: str, after: str, format_: str, work: str | None) -> None:
    """Show what changed from one run to another one; a gate for CI.

    Each change is shown with its evidence.

    RUN is a run's number, a file that `harness show --format json` wrote, or another work directory, whose newest run
    is taken, or that of a number: FOLDER#N.

    A cell got worse if significantly fewer of its trials pass (Fisher's exact test, Holm's correction for all cells),
    or if some fail though none failed before, unless all that fail are known to; or if guests spoilt all its trials.
    Exit status: 0 nothing got worse, 1 something did, 2 bad input.
    """
    folder = paths.work_dir(work)
    found = comparisons.compare(*(engine.stored_matrix(said, folder) for said in (before, after)))
    match format_:
        case "table":
            terminal.print_comparison(found, Console())
        case "markdown":
            _print(formats.comparison_markdown(found))
        case "json":
            _print(formats.comparison_json(found))
    sys.exit(int(found.worse))


@main.command("open")
@click.argument("number", type=_NUMBER, metavar="TRIAL")
@_WORK
def open_(number: int, work: str | None) -> None:
    """Show all that is known of a trial.

    That is why it came to what it did, its output, its dossier and its files. TRIAL is the number that the matrix and
    the HTML page name. What a program wrote is shown with its control characters spelt out, and at most 64 KiB of each
    stream.
    """
    store = _store(work)
    run_, trial = store.trial(number)
    folder = paths.work_dir(work) / "runs" / str(run_.id)
    core = cores_.place(folder / "cores", trial.guest, trial.variant, trial.program, trial.number)
    files = [file for file in (core, core.with_suffix(".txt")) if file.is_file()]
    parts = store.collected(number)
    if picture := parts.get(dossier.SCREEN):
        screen = folder / f"trial-{number}-screen.png"
        with contextlib.suppress(OSError):  # where nothing can be written it is seen in the HTML page
            folder.mkdir(parents=True, exist_ok=True)
            screen.write_bytes(picture)
            files.append(screen)
    words = f" {number}{_option(work)}"
    commands = [trial.command + _option(work), f"harness rerun{words}", f"harness rerun{words} --shell"]
    commands.append(f"harness capsule{words}")
    terminal.print_trial(run_.id, trial, parts, files, commands, Console())


@main.command()
@click.argument("number", type=_NUMBER, metavar="TRIAL")
@click.option("--trials", default=1, show_default=True, type=_COUNT, help="Trials to make.")
@click.option("--shell", "shell_", is_flag=True, help="Leave a shell in the guest as the trial leaves it.")
@_HTML
@_WORK
def rerun(number: int, trials: int, shell_: bool, html: Path | None, work: str | None) -> None:
    """Make a trial again.

    Its program, libgo and guest are those of the trial, with the configuration that its run was made with. With --shell
    one trial is made in a fresh guest. When the program has ended, or at its time limit while it still hangs, a shell
    is opened there; all of it is gone when the shell ends, and nothing is stored. Exit status as of `harness run`.
    """
    store = _store(work)
    request = engine.again(store, number, paths.work_dir(work), trials)
    if not shell_:
        _make(request, None, html, work)
    if trials > 1 or html:
        raise HarnessError("--shell makes one trial and no report; leave out --trials and --html")
    with Reporter() as report:

        def visit(machine: Machine, told: str) -> None:
            with report.paused():
                click.echo(f"{told}\nThe guest is gone when this shell ends.", err=True)
                _ssh(machine)

        trial = engine.attend(request, report, visit)
    click.echo(f"{trial['verdict']}: {trial['reason']}", err=True)
    sys.exit(int(trial["verdict"] != "pass"))


@main.command("capsule")
@click.argument("number", type=_NUMBER, metavar="TRIAL")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="The file. [default: trial-N.tar.gz]"
)
@click.option(
    "--image", "with_image", is_flag=True, help="Pack the guest's image too, in a copy with a key of its own."
)
@_WORK
def capsule_(number: int, output: Path | None, with_image: bool, work: str | None) -> None:
    """Pack a trial for somebody who has no harness.

    The file holds the program, its source, its libgo, what was observed, and a script that needs only QEMU, ssh and a
    shell.
    """
    target = output or Path(f"trial-{number}.tar.gz")
    with Reporter() as report:
        capsule.pack(_store(work), number, paths.work_dir(work), target, with_image, report)
    click.echo(target)


@main.command()
@click.argument("number", type=_NUMBER, metavar="RUN")
@_WORK
def rejudge(number: int, work: str | None) -> None:
    """Judge a stored run again, by today's rules, and say what changed.

    What is judged by is what the programs said when the run was made. The matrix, JSON and HTML are made anew.
    """
    store = _store(work)
    run_ = store.run(number)
    changed = engine.rejudge(store, run_)
    counts = Counter(tuple(f"{one.verdict}: {one.signature or one.reason}" for one in pair) for pair in changed)
    table = Table("trials", "was", "is now", box=None)
    for (old, new), count in counts.most_common():
        table.add_row(str(count), Text(old), Text(new))
    if changed:
        Console().print(table)
    pages = _write(store, run_, engine.matrix(store, run_), work, None)
    click.echo(f"Run {number}: {len(changed)} trials changed. JSON and HTML: {pages}")


@main.command("list")
@_WORK
def list_(work: str | None) -> None:
    """List the runs of the work directory."""
    for one in _store(work).runs():
        said = one.plan
        cells = len(said["guests"]) * len(said["variants"]) * len(said["programs"])
        state = "finished" if one.finished else "unfinished"
        names = f"{', '.join(said['guests'])} x {', '.join(said['variants'])}"
        click.echo(f"{one.id:4}  {one.created}  {state:10}  {cells} cells, {said['trials']} trials of each; {names}")


@main.command()
@click.argument("names", nargs=-1, metavar="[VARIANT]...", shell_complete=completion.variants)
@_TOOLCHAIN
@_CONF
@_WORK
def build(names: tuple[str, ...], toolchain_name: str, conf_files: tuple[Path, ...], work: str | None) -> None:
    """Build libgo variants.

    By default all that are for the toolchain's target. `harness run` builds what it needs by itself.
    """
    configuration = _configuration(conf_files, work)
    tools = toolchain.find(toolchain_name, configuration)
    engine.check_variants(names, [tools.triple], configuration)
    chosen = names or [name for name, one in configuration.variants.items() if one.fits(tools.triple)]
    with Reporter() as report:
        built = engine.build_variants(chosen, tools, configuration, Cache(paths.cache_dir()), report)
    for name, one in built.items():
        click.echo(f"{name}: {one.library}")


@main.group()
def suite() -> None:
    """The suites that come with the harness."""


@suite.command("list")
def suite_list() -> None:
    """List the suites: our own, and those that lie in GCC's source."""
    table = Table("suite", "programs", "what it is about", box=None)
    for name in plan.suites():
        table.add_row(name, str(len(plan.programs([str(plan.suite(name).folder)]))), plan.suite(name).about)
    for name, one in gccsuites.suites().items():
        table.add_row(name, "GCC's", one.about)
    Console().print(table)


@suite.command("show")
@click.argument("name", shell_complete=completion.suites)
@_TOOLCHAIN
@_CONF
@_WORK
def suite_show(name: str, toolchain_name: str, conf_files: tuple[Path, ...], work: str | None) -> None:
    """Show what each program of a suite is for, and what is expected of it."""
    others = gccsuites.suites()
    if name in others:
        gcc_ = engine.gcc_source(toolchain_name, _configuration(conf_files, work))
        found = gccsuites.contents(name, others[name], gcc_)
        about, programs, skipped = others[name].about, found.programs, found.skipped
    else:
        own = plan.suite(name, others)
        about, programs, skipped = own.about, plan.programs([str(own.folder)]), {}
    click.echo(f"{name}: {about}")
    for one in programs:
        click.echo(f"\n{one.name}: expects {one.expected}")
        for what, words in (
            ("args", one.args),
            ("needs", one.needs),
            ("env", [f"{k}={v}" for k, v in one.env.items()]),
        ):
            if words:
                click.echo(f"  {what}: {' '.join(words)}")
        if one.about:
            click.echo(textwrap.fill(one.about, 100, initial_indent="  ", subsequent_indent="  "))
    for program, why in skipped.items():
        click.echo(f"\n{name}/{program}: not run: {why}")


@main.group()
def variant() -> None:
    """libgo variants: list, try an idea, make its patch."""


@variant.command("list")
@_CONF
@_WORK
def variant_list(conf_files: tuple[Path, ...], work: str | None) -> None:
    """List the variants and what they are."""
    table = Table("variant", "what it is", "made of", box=None)
    for name, one in _configuration(conf_files, work).variants.items():
        made = [Path(file).name for file in one.patches] + (["its work tree"] if one.tree else []) + one.flags
        made += ["the toolchain's own"] * one.prebuilt + [f"{key}={value}" for key, value in one.env.items()]
        table.add_row(name, one.about + (f" ({', '.join(one.only)} only)" if one.only else ""), " ".join(made))
    Console().print(table)


@variant.command("new")
@click.argument("name")
@click.option(
    "--from",
    "like",
    default=BASELINE,
    show_default=True,
    metavar="VARIANT",
    shell_complete=completion.variants,
    help="The variant to begin from.",
)
@_TOOLCHAIN
@_CONF
@_WORK
def variant_new(name: str, like: str, toolchain_name: str, conf_files: tuple[Path, ...], work: str | None) -> None:
    """Open a work tree of libgo's source.

    What is edited there is the variant NAME at once; `harness variant diff NAME` makes the patch.
    """
    folder = engine.new_variant(name, like, toolchain_name, _configuration(conf_files, work), paths.work_dir(work))
    click.echo(f"{folder}\nEdit there, then: harness run --variant {BASELINE} --variant {name}")


@variant.command("diff")
@click.argument("name", shell_complete=completion.variants)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="A file. [default: standard output]"
)
@_CONF
@_WORK
def variant_diff(name: str, output: Path | None, conf_files: tuple[Path, ...], work: str | None) -> None:
    """Make the patch of what differs in a work tree from GCC's own libgo."""
    configuration = _configuration(conf_files, work)
    tree = configuration.tree(name)
    if tree is None:
        raise HarnessError(f"variant {name} has no work tree; `harness variant new` makes one")
    text = worktree.difference(tree).text
    if output is None:
        _put(text)
        return
    try:
        output.write_bytes(text)
    except OSError as error:
        raise HarnessError(f"{output}: cannot be written: {error.strerror}") from error


def _configuration(conf_files: tuple[Path, ...], work: str | None) -> conf.Configuration:
    return engine.load(conf_files, paths.work_dir(work))


@main.command()
@click.argument("guest", shell_complete=completion.guests)
@_CONF
@_WORK
def shell(guest: str, conf_files: tuple[Path, ...], work: str | None) -> None:
    """A shell in a fresh guest, gone when you leave it."""
    configuration = _configuration(conf_files, work)
    configuration.guest(guest)
    with contextlib.ExitStack() as stack:
        with Reporter() as report:
            machine = stack.enter_context(engine.fresh_guest(guest, configuration, paths.work_dir(work), report))
        status = _ssh(machine)
    sys.exit(status)


def _ssh(machine: Machine) -> int:
    """Have the user log in to a guest. Returns the shell's exit status."""
    known = machine.folder / "known_hosts"
    strict = "no"
    if machine.files.host_key:
        known.write_text(f"[127.0.0.1]:{machine.port} {machine.files.host_key}\n")
        strict = "yes"
    command = ["ssh", "-q", "-i", str(machine.files.ssh_key), "-p", str(machine.port), "-o", "IdentitiesOnly=yes"]
    command += ["-o", f"UserKnownHostsFile={known}", "-o", f"StrictHostKeyChecking={strict}"]
    return subprocess.run([*command, f"{machine.guest.ssh.user}@127.0.0.1"], check=False).returncode


@main.group("bisect")
def bisect_() -> None:
    """Find the hunk or commit that changes what a program does."""


_PATCH = click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where the smallest patch is written. [default: culprit.patch in the run's folder]",
)
_BISECT_OPTIONS = (
    click.option("--program", required=True, metavar="SUITE/PROGRAM|FILE.go", help="What is run."),
    click.option("--guest", default="linux-i386", show_default=True, help="Where it is run."),
    click.option(
        "--outcome",
        default="",
        metavar="VERDICT|TEXT",
        help="A verdict, or a text of the signature, that is looked for. [default: what differs]",
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
        type=_Whole(1, 1000),
        default=40,
        show_default=True,
        help="Trials of each end at most, until they are seen to differ.",
    ),
    _JOBS,
)


def _bisect_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add what bisects of patches and of commits have; named as the fields of the bisect's Request."""
    for option in reversed(_BISECT_OPTIONS):
        function = option(function)
    return function


@bisect_.command("patch")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@_bisect_options
@click.option("--baseline", default=BASELINE, show_default=True, help="The variant that the patches are put on.")
@click.option("--blocks", is_flag=True, help="Take hunks apart into runs of changed lines.")
@_PATCH
@_CONF
@_WORK
def bisect_patch(output: Path | None, work: str | None, **asked: Any) -> None:
    """Find the hunks that change what a program does.

    FILE... are applied one after the other. Their hunks are left out and put in until it is known, as surely as
    --confidence says, which one, or which together, bring about what the program does with all of them and not without.
    Outcomes may come now and then only. Exit status: 0 it is found, 1 nothing differs or it stays uncertain, 2 bad
    input, 3 trouble with a guest, 130 interrupted.
    """
    from harness.bisect import run as bisects

    _bisect(bisects.Request(work=paths.work_dir(work), **asked), None, output, work)


@bisect_.command("git")
@click.argument("repository", type=click.Path(path_type=Path), metavar="REPO")
@click.argument("commits", metavar="GOOD..BAD")
@_bisect_options
@_PATCH
@_CONF
@_WORK
def bisect_git(output: Path | None, work: str | None, **asked: Any) -> None:
    """Find the commit of GCC's that changes what a program does.

    REPO is a clone of GCC's repository, of which only commits are read. libgo is that of GOOD, with what the commits
    after it change of libgo; compilers are the toolchain's, so GOOD must be of the same major version. Exit status as
    of `harness bisect patch`.
    """
    from harness.bisect import run as bisects

    _bisect(bisects.Request(work=paths.work_dir(work), **asked), None, output, work)


@bisect_.command("resume")
@click.argument("number", required=False, type=_NUMBER, metavar="[RUN]")
@_PATCH
@_WORK
def bisect_resume(number: int | None, output: Path | None, work: str | None) -> None:
    """Go on with a bisect that did not finish, by default the newest."""
    from harness.bisect import run as bisects

    request, number = bisects.request_of(paths.work_dir(work), number)
    _bisect(request, number, output, work)


def _bisect(request: bisects.Request, resume: int | None, output: Path | None, work: str | None) -> NoReturn:
    """Make a bisect, show it, and end with its exit status."""
    # NumPy takes as long to import as most commands take.
    from harness.bisect import report as bisect_reports
    from harness.bisect import run as bisects

    try:
        with Reporter() as report:
            done = bisects.run(request, report, resume)
    except bisects.Interrupted as error:
        click.echo(f"harness: {error}", err=True)
        sys.exit(130)
    store = Store(request.work / "results.sqlite")
    _write(store, done.run, engine.matrix(store, done.run), work, None)
    folder = request.work / "runs" / str(done.run.id)
    told = done.story()
    bisect_reports.print_(told, Console())
    try:
        bisect_reports.write_html(
            folder / "bisect.html", told, done.patch, {"command": done.run.plan["facts"]["command"]}
        )
        if done.patch:
            target = output or folder / "culprit.patch"
            target.write_bytes(told.header().encode(errors="backslashreplace") + done.patch)
            click.echo(f"The patch: {target}")
    except OSError as error:
        raise HarnessError(f"what was found cannot be written: {error}; all trials are stored") from error
    click.echo(f"HTML: {folder / 'bisect.html'}   Trials: harness show {done.run.id}{_option(work)}")
    sys.exit(done.exit_status)


@main.command("doctor")
def doctor_() -> None:
    """Say what is missing on this machine and how to get it.

    Exit status: 0 `make matrix` would work here, 1 it would fail.
    """
    text, status = doctor.report()
    click.echo(text)
    sys.exit(status)


@main.group()
def image() -> None:
    """Guests' images: list, build, fetch, show, rm."""


@image.command("list")
def image_list() -> None:
    """List the recipes, and what is built of them."""
    table = Table("image", "state", "built", box=None)
    for row in images.listing():
        table.add_row(row["name"], row["state"], str(row.get("manifest", {}).get("built", "")))
    Console().print(table)


@image.command("build")
@click.argument("name", shell_complete=completion.images)
@click.option("--force", is_flag=True, help="Build it again, from the archive's packages of today.")
def image_build(name: str, force: bool) -> None:
    """Build an image."""
    with Reporter() as report:
        built = images.build(name, partial(report.step, f"image {name}"), force)
    click.echo(built.folder)


@image.command("fetch")
@click.argument("name", shell_complete=completion.images)
@click.option(
    "--file", type=click.Path(path_type=Path), help="Take this image, .img or .img.tar.xz, and download none."
)
@click.option("--sha512", metavar="HEX", help="What the file's SHA-512 must be.")
def image_fetch(name: str, file: Path | None, sha512: str | None) -> None:
    """Download an operating system's own image and prepare it for the harness.

    The file's name and SHA-512 are read from the release's list at the first fetch, recorded in a lock file in the
    cache, and required from then on. A download that broke off goes on where it was.
    """
    if sha512 is not None and not re.fullmatch(r"[0-9a-fA-F]{128}", sha512):
        raise click.BadParameter("must be 128 hexadecimal digits", param_hint="--sha512")
    try:
        with Reporter() as report:
            fetched = images.fetch(name, partial(report.step, f"image {name}"), file, sha512 and sha512.lower())
    except KeyboardInterrupt:
        click.echo("harness: interrupted; what was downloaded is kept, the same command goes on with it", err=True)
        sys.exit(130)
    click.echo(fetched.folder)


@image.command("show")
@click.argument("name", shell_complete=completion.images)
@click.option("--verify", is_flag=True, help="Compare the files with the manifest's hashes.")
def image_show(name: str, verify: bool) -> None:
    """Print an image's manifest: packages, versions, hashes."""
    found = images.find(name)
    if found is None:
        raise HarnessError(f"image {name} is not built; `harness image build {name}` does it")
    if verify:
        images.verify(found)
    click.echo(json.dumps({"folder": str(found.folder), **found.manifest}, indent=2))


@image.command("rm")
@click.argument("name", shell_complete=completion.images)
def image_rm(name: str) -> None:
    """Remove what was built of an image."""
    click.echo(f"removed {images.remove(name)}")


@main.group("toolchain")
def toolchain_() -> None:
    """Compilers for the guests: list, build, use."""


@toolchain_.command("list")
@_CONF
def toolchain_list(conf_files: tuple[Path, ...]) -> None:
    """List the toolchains, what is there of them, and how to get what is not."""
    configuration = conf.load(conf_files)
    for name, said in configuration.toolchains.items():
        try:
            found = toolchain.find(name, configuration)
        except ToolMissing:
            state = f"is not there; {toolchain.how_to_get(name, said)}"
        else:
            state = f"GCC {found.version}, {found.gccgo}" + (f", sysroot {found.sysroot}" if found.sysroot else "")
        click.echo(f"{name:12}  {said.triple:14}  {state}")


@toolchain_.command("build")
@click.argument("name", shell_complete=completion.toolchains)
@click.option("--sysroot", "folder", type=click.Path(path_type=Path), help="A folder like the root of the target.")
@click.option("--sysroot-image", "image_file", metavar="FILE[?offset=BYTES]", help="A disk image of the target.")
@click.option("--deb", "debs", multiple=True, type=click.Path(path_type=Path), help="A package of it; repeatable.")
@click.option("--compilers-only", is_flag=True, help="Without a sysroot: they compile, and link nothing.")
@_CONF
def toolchain_build(
    name: str,
    folder: Path | None,
    image_file: str | None,
    debs: tuple[Path, ...],
    compilers_only: bool,
    conf_files: tuple[Path, ...],
) -> None:
    """Build gccgo and gcc for a triple, and take them for NAME from now on.

    Headers and C library come from one of --sysroot, --sysroot-image and --deb, or else from the image of a guest that
    uses the toolchain, if it has been fetched. A build that was interrupted goes on.
    """
    configuration = conf.load(conf_files)
    said = configuration.toolchain(name)
    if said.unavailable:
        raise BuildError(f"toolchain {name}: {toolchain.how_to_get(name, said)}")
    origins: list[sysroot.Origin] = []
    origins += [sysroot.Folder(folder)] if folder else []
    origins += [sysroot.Image.parse(image_file)] if image_file else []
    origins += [sysroot.Packages(debs)] if debs else []
    if not origins and not compilers_only:
        origins += _images_with(name, configuration)[:1]
    if len(origins) + compilers_only != 1:
        raise ConfigError(
            f"toolchain {name}: its headers and C library are wanted from one of --sysroot, --sysroot-image and --deb"
        )
    cache = Cache(paths.cache_dir())
    with Reporter() as report:
        origin = origins[0] if origins else None
        built = gcc.build(name, said, origin, cache, lambda text: report.step(f"toolchain {name}", text))
    if built.sysroot:
        toolchain.use(name, str(built.folder), built.sysroot, extra=conf_files)
    click.echo(built.folder)


def _images_with(name: str, configuration: conf.Configuration) -> list[sysroot.Image]:
    """The disks of the built images of the guests that use a toolchain."""
    return [
        sysroot.Image(found.folder / guest.disk.file, found.manifest["partition"]["offset"])
        for guest in configuration.guests.values()
        if guest.toolchain == name and guest.disk and guest.image
        if (found := images.find(guest.image)) and "partition" in found.manifest
    ]


@toolchain_.command("use")
@click.argument("name", shell_complete=completion.toolchains)
@click.argument("prefix")
@click.option("--sysroot", "folder", type=click.Path(path_type=Path), help="The target's headers and libraries.")
@click.option("--source", type=click.Path(path_type=Path), help="GCC's source, if it is not Debian's.")
@_CONF
def toolchain_use(
    name: str, prefix: str, folder: Path | None, source: Path | None, conf_files: tuple[Path, ...]
) -> None:
    """Take the tools PREFIXgccgo, PREFIXgcc, ... for NAME from now on."""
    found = toolchain.use(name, prefix, folder, source, conf_files)
    click.echo(f"{name}: {found.gccgo}, GCC {found.version}")


@main.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@_HTML
@_WORK
def merge(runs: tuple[str, ...], html: Path | None, work: str | None) -> None:
    """Put runs together as one, and show its matrix.

    \b
    harness merge shard-1 shard-2 shard-3 --work merged

    RUN is a work directory, whose newest run is taken, or that of a number: FOLDER#N; or the number of a run of this
    work directory. They must be of the same matrix: the same libgos, programs, compilers, guests and rules. A run that
    is given twice counts once; trials that were made again all count. Exit status: as of `harness run`, and 3 if a
    shard is missing or has not finished.
    """
    folder = paths.work_dir(work)
    done = merging.merge([merging.source(one, folder) for one in runs], folder, [SCREENS])
    for why in done.lacking:
        click.echo(f"harness: {why}", err=True)
    for count, what in ((done.twice, "were there twice, and count once"), (done.further, "were made again, and count")):
        if count:
            click.echo(f"harness: {count} trials {what}", err=True)
    store = _store(work)
    _show(store, store.run(done.number), html, work, whole=not done.lacking)


@main.group("ci")
def ci_() -> None:
    """Have a matrix made by several jobs."""


@ci_.command("plan")
@_SELECTION
@click.option("--jobs", required=True, type=_Whole(1, MOST_JOBS), metavar="N", help="How many jobs.")
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
@_GUESTS
@_VARIANTS
@click.option("--trials", default=1, show_default=True, type=_COUNT, help="Trials of each cell.")
@_CORES
@_ISOLATION
@_CONF
@_WORK
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
    harness ci plan threads goroutines --trials 20 --jobs 4 --format github
    harness ci plan --jobs 8 --from .harness --times times.json
    """
    if bool(source) != bool(times):
        raise click.UsageError("--from and --times belong together: the jobs cut by the file that --times writes")
    known = ci.times_of(source) if source else Times()
    request = engine.Request(
        selection, guests, variants, trials, None, conf_files, paths.work_dir(work), cores, isolation, times=known
    )
    cut = engine.read(request).cut(jobs)
    if times:
        ci.write_times(times, known)
    click.echo(ci.text(ci.jobs(cut, ["harness", "run", *_words(context, {"jobs", "format_", "source"})]), format_))


def _words(context: click.Context, without: Collection[str]) -> list[str]:
    """The words of a command line as they were given, but for the command's name and some of its options."""
    words = []
    for one in context.command.params:
        name = one.name or ""
        if name in without or context.get_parameter_source(name) != ParameterSource.COMMANDLINE:
            continue
        value = context.params[name]
        values = list(map(str, value)) if isinstance(value, tuple) else [str(value)]
        if isinstance(one, click.Option):
            values = [one.opts[0]] if one.is_flag else [word for each in values for word in (one.opts[0], each)]
        words += values
    return words


@main.command("completion")
@click.argument("shell_name", type=click.Choice(["bash", "zsh", "fish"]), metavar="bash|zsh|fish")
def completion_(shell_name: str) -> None:
    """Print what lets a shell complete commands and names.

    \b
    bash  harness completion bash >~/.local/share/bash-completion/completions/harness
    zsh   harness completion zsh >~/.zfunc/_harness       (a folder of $fpath)
    fish  harness completion fish >~/.config/fish/completions/harness.fish
    """
    shells = click.shell_completion.get_completion_class(shell_name)
    assert shells
    click.echo(shells(main, {}, "harness", "_HARNESS_COMPLETE").source())


def _store(work: str | None) -> Store:
    path = paths.work_dir(work) / "results.sqlite"
    if not path.is_file():
        raise HarnessError(f"{path.parent}: no run has been made here; `harness run` makes one")
    return Store(path)
