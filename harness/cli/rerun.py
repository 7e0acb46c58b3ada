"""Commands that make a trial again and look at it alive: rerun, gdb."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import click

from harness import paths
from harness.cli import complete
from harness.cli.options import COUNT, FULL_TIMEOUT, HTML, NUMBER, WORK, progress_options
from harness.cli.output import load_work_configuration, open_store, reporter, show_run, stop_told
from harness.cli.replay import MOST_RECORDED, record_trial
from harness.cli.shell import run_in
from harness.errors import HarnessError
from harness.guest.workspace import MACHINES
from harness.invocation import command_line
from harness.progress import Reporter
from harness.results.matrix import CellVerdict
from harness.results.store import Run, Store
from harness.run.conductor import run_interactive, run_request
from harness.run.request import Request
from harness.run.resolve import repeat_request
from harness.run.until import Catcher, Tally, Wanted
from harness.trial import debugger
from harness.trial.debugger import HungProgram
from harness.trial.execute import Scene
from harness.trial.record import Verdict

#: The most trials that are made until one shows an outcome, if the user names no number.
_MOST = 1000
_SCRIPT = click.option(
    "--script",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Have gdb run the commands in a file, print their output, and end.",
)


class _Look:
    """What the user does with a trial as it left its guest: a shell there, or gdb on the program that hangs.

    Args:
        use_gdb: gdb, not a shell.
        script: gdb's commands; None leaves it to the user.
        work: the work directory.

    Attributes:
        error: why gdb could not be attached.
    """

    def __init__(self, report: Reporter, use_gdb: bool, script: Path | None, work: Path) -> None:
        self._report, self._use_gdb, self._script, self._work = report, use_gdb, script, work
        self._done = False
        self.error: HarnessError | None = None

    def inspect(self, scene: Scene) -> None:
        """Have the user look at a trial: once, while it hangs or when it has ended."""
        if self._done:
            return
        self._done = True
        with self._report.paused():
            click.echo(scene.text, err=True)
            if not self._use_gdb:
                self._open_shell(scene)
            elif scene.hung is None:
                click.echo("There is nothing left that gdb could be attached to.", err=True)
            else:
                try:
                    _attach(scene.hung, self._script, "The guest is gone when gdb ends.")
                except HarnessError as error:  # the trial goes on to its end, and is judged
                    self.error = error

    def _open_shell(self, scene: Scene) -> None:
        click.echo("The guest is gone when this shell ends.", err=True)
        if scene.hung is None:
            run_in(scene.machine)
            return
        click.echo(f"To attach gdb, from another terminal: {command_line('gdb', work=self._work)}", err=True)
        with scene.hung.announced(scene.machine.folder):
            run_in(scene.machine)


@click.command()
@click.argument("number", type=NUMBER, metavar="TRIAL", shell_complete=complete.trials)
@click.option(
    "--trials",
    type=COUNT,
    help=f"Trials to make; with --until or --record, at most. [default: 1; {_MOST}; {MOST_RECORDED}]",
)
@click.option("--record", "record_", is_flag=True, help="Record it; repeat it until it has the same outcome.")
@click.option(
    "--until",
    default="",
    metavar="VERDICT|TITLE",
    help="Make trials until one comes to a verdict, or to a title that this regular expression is found in.",
)
@click.option("--shell", "shell_", is_flag=True, help="Open a shell in the guest as the trial leaves it.")
@click.option("--gdb", "gdb_", is_flag=True, help="Attach this machine's gdb to the program when it hangs.")
@_SCRIPT
@FULL_TIMEOUT
@HTML
@progress_options
@WORK
def rerun(
    number: int,
    trials: int | None,
    record_: bool,
    until: str,
    shell_: bool,
    gdb_: bool,
    script: Path | None,
    full_timeout: bool,
    html: Path | None,
    work: str | None,
) -> None:
    """Make a trial again.

    Its program, libgo and guest are those of the trial, with the configuration that its run was made with. With --shell
    one trial is made in a fresh guest. When the program has ended, or at its time limit while it still hangs, a shell
    is opened there; all of it is gone when the shell ends, and nothing is stored. --gdb is the same with gdb.

    With --until trials are made and stored until one shows the outcome. A shell, or gdb, is opened at that one.

    With --record each trial is made in a machine that is recorded, from its boot on, until one has the same title.
    Its recording is replayed once, compared, and kept for `harness replay`; those of the others are thrown away. Exit
    status then: 0 a recording is kept, 1 none is.

    \b
    harness rerun 7 --trials 20             how often it comes again
    harness rerun 7 --until hang --gdb      a rare hang, alive in gdb
    harness rerun 7 --until 'nil map'       the first trial with such a title

    Exit status otherwise as of `harness run`.
    """
    look_at = shell_ or gdb_
    if record_:
        if until or look_at or script or html:
            raise HarnessError("--record goes with --trials alone: `harness replay` opens what was recorded")
        request = repeat_request(open_store(work), number, paths.work_dir(work), trials or MOST_RECORDED)
        record_trial(replace(request, full_timeout=full_timeout or request.full_timeout), number)
    _check(until, shell_, gdb_, script)
    if look_at and not until and ((trials or 1) > 1 or html):
        raise HarnessError(
            "--shell and --gdb make one trial and no report, but for --until; leave out --trials and --html"
        )
    store = open_store(work)
    request = repeat_request(store, number, paths.work_dir(work), trials or (_MOST if until else 1), until)
    request = replace(request, full_timeout=full_timeout or request.full_timeout)
    if gdb_:
        debugger.check(load_work_configuration(request.conf_files, work).guest(request.guests[0]).gdbserver)
    with reporter() as report:
        look = _Look(report, gdb_, script, request.work)
        if until or not look_at:
            catcher = Catcher(Wanted.parse(until), look.inspect) if look_at else None
            store, stored_run = _make_run(request, report, catcher, store, html)
        else:
            trial = run_interactive(request, report, look.inspect)
            click.echo(f"{trial.verdict}: {trial.reason}", err=True)
            if look.error:
                raise look.error
            sys.exit(int(trial.verdict is not Verdict.PASS))
    if until:
        click.echo(f"{Tally.of(Wanted.parse(until), store.ended(stored_run.id))}\n")
    try:
        show_run(store, stored_run, html, request.work)
    finally:
        if look.error:
            raise look.error


def _check(until: str, shell_: bool, gdb_: bool, script: Path | None) -> None:
    """Raise HarnessError if options do not go together, or the script or the outcome is none."""
    if until:
        Wanted.parse(until)
    if shell_ and gdb_:
        raise HarnessError("--shell and --gdb do not go together; `harness gdb` attaches to what hangs beside a shell")
    if until == CellVerdict.KILLS and (shell_ or gdb_):
        raise HarnessError("a guest that has died has no shell; leave out --shell and --gdb")
    if gdb_ and until not in ("", Verdict.HANG):
        raise HarnessError("gdb is attached to a program that hangs; --gdb goes with --until hang")
    if script and not gdb_:
        raise HarnessError("--script is for gdb; give --gdb as well")
    _check_script(script)


def _check_script(script: Path | None) -> None:
    if script and not script.is_file():
        raise HarnessError(f"--script {script}: there is no such file")


def _make_run(
    request: Request, report: Reporter, catcher: Catcher | None, store: Store, html: Path | None
) -> tuple[Store, Run]:
    """Make a run. One that does not come to its end ends the harness, and says how often the trial was made.

    Args:
        html: another place for the page of a run that does not come to its end.
    """

    def tally(run: int) -> str:
        return f"\n{Tally.of(Wanted.parse(request.until), store.ended(run))}" if request.until else ""

    with stop_told(request.work, html, tally):
        return run_request(request, report, catcher=catcher)


@click.command("gdb")
@click.argument("folder", required=False, type=click.Path(path_type=Path), metavar="[GUEST_FOLDER]")
@_SCRIPT
@WORK
def gdb(folder: Path | None, script: Path | None, work: str | None) -> None:
    """Attach gdb to a program that hangs beside an open shell.

    The shell is one that `harness rerun TRIAL --shell` has opened, in another terminal. The program goes on when gdb
    ends. Exit status: gdb's, 2 bad input, 3 trouble with the guest.
    """
    _check_script(script)
    machines = paths.work_dir(work) / MACHINES
    programs = debugger.announced_programs(machines)
    if folder:
        programs = {known: program for known, program in programs.items() if known.resolve() == folder.resolve()}
    if not programs:
        where = folder or machines.parent
        raise HarnessError(
            f"{where}: no shell is open beside a program that hangs; `harness rerun TRIAL --shell` opens one"
        )
    if len(programs) > 1:
        names = ", ".join(f"{known} ({program.name})" for known, program in programs.items())
        raise HarnessError(f"several programs hang, name one of {names}")
    (program,) = programs.values()
    sys.exit(_attach(program, script, "The program goes on when gdb ends."))


def _attach(program: HungProgram, script: Path | None, then: str) -> int:
    """Attach gdb, with what a user should know of it. Returns its exit status."""
    say: Callable[[str], None] = partial(click.echo, err=True)
    if script is None:
        say(f"`info threads` and `thread apply all bt` show what it does. {then}")
    return debugger.attach(program, script, lambda text: say(f"gdb: {text}"))
