"""The command classify."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from harness import paths
from harness.cli.options import WORK
from harness.cli.output import open_store
from harness.conf.naming import nearest
from harness.conf.system import SIGNALS, SYSTEMS
from harness.errors import ConfigError, HarnessError
from harness.escapes import decoded, one_line
from harness.invocation import command_line
from harness.results.store import KnownDeath
from harness.results.text import render_count
from harness.trial.classify import Death, End, deaths

#: Cells of a known title that are shown.
_SHOWN = 10


@click.command()
@click.argument("file", default="-", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--exit", "status", type=click.IntRange(0, 255), metavar="N", help="The program's exit status.")
@click.option("--signal", metavar="NAME", help="The signal that ended it: a name, or the system's number.")
@click.option("--hang", is_flag=True, help="It was stopped at a time limit.")
@click.option(
    "--system",
    type=click.Choice(sorted(name for name, system in SYSTEMS.items() if system.signals)),
    default="linux",
    show_default=True,
    help="Whose numbers signals have.",
)
@click.option("--known", is_flag=True, help="Look for the same titles among the trials of the work directory.")
@click.option("--json", "as_json", is_flag=True, help="Print a list of JSON objects.")
@WORK
def classify(
    file: Path,
    status: int | None,
    signal: str | None,
    hang: bool,
    system: str,
    known: bool,
    as_json: bool,
    work: str | None,
) -> None:
    """Name the deaths in a text that you paste.

    That is stderr, a dump of goroutines, a console, or a log of DejaGnu, go test or a build with several deaths in it.
    Each gets a verdict and the title that a trial of a run would get, the frames that it was made of, and how sure it
    is. FILE is - for standard input by default. What is known of the end holds for each death.

    \b
    harness run my.go 2>log; harness classify log
    harness classify --hang --known <dump

    Exit status: 0 there is a death, 1 there is none, 2 bad input.
    """
    end = End(status, _signal(signal, system), hang)
    if status is not None and end.signal:
        raise ConfigError("--exit and --signal exclude each other: a program ends by one of them")
    found_deaths = deaths(_read(file), end)
    store = open_store(work) if known else None
    matches = [list(store.with_title(death.title)) if store else [] for death in found_deaths]
    folder = paths.work_dir(work)
    if as_json:
        click.echo(json.dumps([_json(*pair, known) for pair in zip(found_deaths, matches, strict=True)], indent=1))
    else:
        for number, (death, cells) in enumerate(zip(found_deaths, matches, strict=True)):
            click.echo("\n" * (number > 0) + "\n".join(_describe(death, cells if store else None, folder)))
        if not found_deaths:
            click.echo("No death is known by what the text says.")
    sys.exit(not any(death.title for death in found_deaths))


def _read(file: Path) -> str:
    try:
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise HarnessError(f"{file}: cannot be read: {error.strerror}") from error
    return decoded(data)


def _signal(word: str | None, system: str) -> str:
    """A signal's name as trials have it. Raises ConfigError."""
    if not word:
        return ""
    if word.isdigit():
        name = SYSTEMS[system].signals.get(int(word))
        if name is None:
            raise ConfigError(f"--signal {word}: {system} has no signal of that number")
        return f"SIG{name}"
    name = word.upper().removeprefix("SIG")
    if name not in SIGNALS:
        raise ConfigError(f"--signal {word}: no signal has that name; {nearest(name, SIGNALS)}")
    return f"SIG{name}"


def _describe(death: Death, cells: list[KnownDeath] | None, work: Path) -> list[str]:
    title = one_line(death.title) or "nothing says that it died"
    lines = [title if title.startswith(f"{death.verdict}: ") else f"{death.verdict}: {title}"]
    place = f"line {death.first}" if death.first == death.last else f"lines {death.first} to {death.last}"
    lines.append(f"  {place}" + (f", {one_line(death.name)}" if death.name else ""))
    if death.frames:
        lines.append(f"  frames: {one_line(' < '.join(filter(None, death.frames)))}")
    lines.append(f"  {death.confidence}: {death.why}")
    if cells is not None and not cells:
        lines.append("  not known: no trial has this title")
    for cell in (cells or [])[:_SHOWN]:
        where = f"{cell.cell.program}, {cell.cell.guest}, {cell.cell.variant}"
        count = render_count(cell.trials, "trial")
        opened = command_line("open", str(cell.first), work=work)
        lines.append(f"  known: run {cell.run}, {where}: {count}; {opened}")
    if cells and len(cells) > _SHOWN:
        lines.append(f"  known: {render_count(len(cells) - _SHOWN, 'more cell')}; --json has all")
    return lines


def _json(death: Death, cells: list[KnownDeath], known: bool) -> dict[str, Any]:
    return asdict(death) | (
        {"known": [{"run": c.run, **c.cell._asdict(), "trials": c.trials, "trial": c.first} for c in cells]}
        if known
        else {}
    )
