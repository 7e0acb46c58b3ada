"""Options and arguments that several commands share."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import click

from harness.cli import complete
from harness.errors import HarnessError
from harness.progress import Verbosity
from harness.run.request import Isolation
from harness.run.shards import MOST_JOBS


class WholeNumber(click.IntRange):
    """A whole number in a range. click calls one that is none `not a valid integer range`."""

    name = "integer"


COUNT = WholeNumber(1)
#: The number of a run or a trial: what SQLite can hold (its manual, "Datatypes").
NUMBER = WholeNumber(1, 2**63 - 1)
#: Where a command's context keeps how much progress is told.
VERBOSITY = "harness.verbosity"
#: What stands for the newest run that did not finish.
NEWEST = -1


class ResumedRun(click.ParamType[int]):
    """The number of a run, or _NEWEST."""

    name = "integer"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it. What the user says is text, so _NEWEST cannot be said."""
        return NEWEST if value == NEWEST else NUMBER.convert(value, param, ctx)


class ResumingCommand(click.Command):
    """A command with --resume: its number may be left out, so click takes the -5 of --resume=-5 for an option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        for word in args:
            if word.startswith("--resume=-") and not ctx.resilient_parsing:
                raise HarnessError(f"{word.partition('=')[2]} is not a run's number")
        return super().parse_args(ctx, args)


def _set_verbosity(context: click.Context, option: click.Parameter, value: bool) -> None:
    if not value:
        return
    chosen = Verbosity(option.name)
    if context.meta.setdefault(VERBOSITY, chosen) is not chosen:
        raise click.UsageError("--quiet and --verbose exclude each other")


def progress_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add what commands have that take long: how much of their progress is told (harness/cli/output.py, reporter)."""
    for short, name, text in (
        ("-v", "--verbose", "Print each step of each guest too."),
        ("-q", "--quiet", "Print no progress, only the result."),
    ):
        option = click.option(short, name, is_flag=True, expose_value=False, callback=_set_verbosity, help=text)
        function = option(function)
    return function


CONF = click.option(
    "--conf", "conf_files", multiple=True, type=click.Path(path_type=Path), help="A YAML file of your own; repeatable."
)
WORK = click.option(
    "--work",
    metavar="FOLDER",
    shell_complete=complete.folders,
    help="The work directory. [default: $HARNESS_WORK or .harness]",
)
GUESTS = click.option(
    "--guest",
    "guests",
    multiple=True,
    default=["linux-i386"],
    show_default=True,
    metavar="NAME",
    shell_complete=complete.guests,
    help="A guest; repeatable.",
)
FORMAT = click.option(
    "--format",
    "format_",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="For a terminal or a pipe, or other programs.",
)
VARIANTS = click.option(
    "--variant",
    "variants",
    multiple=True,
    metavar="NAME",
    shell_complete=complete.variants,
    help="A libgo; repeatable. NAME+trace counts threads too. [default: the configuration's `usual` ones]",
)
BASELINE = click.option(
    "--baseline",
    default="",
    metavar="GUEST/VARIANT",
    shell_complete=complete.columns,
    help="What the others are compared with. [default: the first Linux guest, pristine]",
)
SELECTION = click.argument(
    "selection",
    nargs=-1,
    metavar="[SUITE|SUITE/PROGRAM|FOLDER|FILE.go]...",
    shell_complete=complete.selection,
)
TRIALS = click.option("--trials", type=COUNT, help="Trials of each cell; the most, if --until-sure. [default: 1; 20]")
CORES = click.option("--cores", is_flag=True, help="Make crashes leave core files, fetch them, and read them with gdb.")
FULL_TIMEOUT = click.option(
    "--full-timeout",
    is_flag=True,
    help="Wait for the time limit of every program that hangs, even if nothing in it can provably run any more.",
)
ISOLATION = click.option(
    "--isolation",
    type=click.Choice(get_args(Isolation)),
    default="on-trouble",
    show_default=True,
    help="When a guest is replaced by a fresh one: after every trial, for every cell, or after a crash or hang.",
)
WORKERS = click.option(
    "--workers",
    "--jobs",
    "jobs",
    type=COUNT,
    help="Guests side by side. [default: as many as the cores and the memory allow]",
)
TOOLCHAIN = click.option(
    "--toolchain",
    "toolchain_name",
    default="linux-i386",
    show_default=True,
    metavar="NAME",
    shell_complete=complete.toolchains,
    help="The compilers.",
)


class ReportFile(click.Path):
    """A file to be written after hours: that it can be is seen at once."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Read it."""
        file = Path(value)
        if not value:
            raise HarnessError("--html '': the file's name is empty")
        if file.is_dir():
            raise HarnessError(f"--html {file}: is a folder")
        if not file.parent.is_dir():
            raise HarnessError(f"--html {file}: there is no folder {file.parent}")
        if not os.access(file if file.exists() else file.parent, os.W_OK):
            raise HarnessError(f"--html {file}: may not be written")
        return file


HTML = click.option("--html", type=ReportFile(), help="Write the report here as well.")


class ShardNumber(click.ParamType[tuple[int, int]]):
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


TIMES = click.option(
    "--times",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="What jobs are cut by, as `harness ci plan` wrote it; the same for all of them. [default: all trials alike]",
)
