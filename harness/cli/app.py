"""The command line: its root, which turns errors into one sentence and an exit status."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from harness import __version__, log
from harness.cli.attribute import attribute
from harness.cli.bisect import bisect_
from harness.cli.build import build, suite, toolchain_, variant
from harness.cli.cache import cache
from harness.cli.ci import ci_, merge
from harness.cli.classify import classify
from harness.cli.completion import completion_
from harness.cli.guest import doctor_, guest_, image
from harness.cli.replay import replay
from harness.cli.rerun import gdb, rerun
from harness.cli.results import capsule_, compare, history, list_, open_, rejudge, show
from harness.cli.run import run, trace
from harness.cli.shell import shell
from harness.errors import HarnessError

#: The commands as the help shows them; others come last.
_SECTIONS = {
    "Make and look at matrices": ("run", "trace", "list", "show", "compare", "history", "rejudge"),
    "Open what did not pass": ("open", "rerun", "gdb", "replay", "classify", "capsule", "bisect", "attribute"),
    "Programs and libgos": ("suite", "variant", "build"),
    "Guests": ("guest", "image", "shell"),
    "Several jobs": ("ci", "merge"),
    "This machine": ("doctor", "toolchain", "cache", "completion"),
}


class _Group(click.Group):
    """Turns the harness's errors into one sentence and an exit status, and shows the commands by what they are for."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands below their sections."""
        others = tuple(name for name in self.commands if not any(name in names for names in _SECTIONS.values()))
        for title, names in {**_SECTIONS, "Others": others}.items():
            rows = [
                (name, command.get_short_help_str(limit=66)) for name in names if (command := self.commands.get(name))
            ]
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
            click.echo(f"harness: {error.whole()}", err=True)
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
    epilog="`harness COMMAND --help` says what each one takes. README.md describes all of them.",
)
@click.version_option(__version__)
def main() -> None:
    """Runs Go programs with several libgos on guests in QEMU, and shows what passes, fails, crashes and hangs.

    \b
    harness doctor            what is missing on this machine
    harness run threads       a suite with two libgos on the control guest: the matrix
    harness open 1            why trial 1 ended as it did
    """
    if os.environ.get("COLUMNS") == "0":  # a shell without a terminal; rich would print nothing at all
        del os.environ["COLUMNS"]


def _debug(context: click.Context, option: click.Parameter, value: bool) -> None:
    if value:
        log.to_stderr()


def _with_debug(command: click.Command) -> None:
    """Give a command, and those below it, the option --debug."""
    command.params.append(
        click.Option(
            ["--debug"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_debug,
            help="Log QEMU's command lines, what guests and compilers do, and errors that end nothing.",
        )
    )
    if isinstance(command, click.Group):
        for subcommand in command.commands.values():
            _with_debug(subcommand)


for _command in (
    run,
    trace,
    rerun,
    replay,
    gdb,
    attribute,
    show,
    compare,
    history,
    open_,
    classify,
    capsule_,
    rejudge,
    list_,
    build,
    suite,
    variant,
    toolchain_,
    guest_,
    shell,
    doctor_,
    image,
    bisect_,
    merge,
    ci_,
    cache,
    completion_,
):
    main.add_command(_command)
_with_debug(main)
