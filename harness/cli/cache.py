"""Commands on the cache: what it holds, how large it is, and what of it goes."""

from __future__ import annotations

import json
import re
import sys
import textwrap
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click
from rich.console import Console

from harness import cache_space, conf, paths
from harness.cache_space import KINDS, Entry, render_size
from harness.cli import complete
from harness.cli.options import FORMAT
from harness.cli.output import print_text
from harness.conf.naming import nearest
from harness.errors import ConfigError
from harness.escapes import one_line
from harness.results.listing import align

#: Bytes from which on an entry has a row of its own.
_ROW = 1 << 20
_AGES = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


class _Size(click.ParamType[int]):
    """A size, in bytes."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it."""
        try:
            return cache_space.parse_size(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _Age(click.ParamType[float]):
    """A time that has gone by, in seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it."""
        match = re.fullmatch(r"(\d{1,9})\s*([mhdw])", str(value).strip(), re.ASCII)
        if not match:
            self.fail(f"{value!r} is not a time such as 12h, 30d or 4w", param, ctx)
        return float(match[1]) * _AGES[match[2]]


_KINDS = click.option(
    "--kind",
    "kinds",
    multiple=True,
    metavar="KIND",
    shell_complete=complete.cache_kinds,
    help="Only what is of this kind, such as libgo or machines; repeatable.",
)


@click.group()
def cache() -> None:
    """What was built, saved and downloaded: list, prune."""


@cache.command("list")
@_KINDS
@click.option("--all", "whole", is_flag=True, help="Give entries below 1 MiB a row of their own too.")
@FORMAT
def cache_list(kinds: tuple[str, ...], whole: bool, format_: str) -> None:
    """List what the cache holds, what was not used for longest first.

    IN USE names the processes that use an entry; `prune` leaves it. `configured` is what the toolchains that were built
    or named need.
    """
    _check_kinds(kinds)
    limit, root = cache_space.bound(), paths.cache_dir()
    entries = cache_space.entries(root, kinds or None)
    if format_ == "json":
        print_text(json.dumps({"folder": str(root), "bound": limit, "entries": list(map(_to_json, entries))}, indent=1))
        print_text("\n")
        return
    own = [entry for entry in entries if whole or entry.size >= _ROW]
    rows: list[tuple[str, ...]] = [("size", "kind", "last used (UTC)", "in use", "what it is")]
    rows += [_row(entry) for entry in sorted(own, key=lambda entry: entry.kind)]
    for kind in sorted({entry.kind for entry in entries}):
        if small := [entry for entry in entries if entry.kind == kind and not (whole or entry.size >= _ROW)]:
            rows.append(_sum_row(kind, small))
    width = Console().width if sys.stdout.isatty() else None
    for line in align(rows):
        print_text("".join(f"{part}\n" for part in _fold(line, width)))
    click.echo(f"\n{root}: {render_size(sum(entry.size for entry in entries))}. {_describe_bound(entries, limit)}")


def _fold(line: str, width: int | None) -> list[str]:
    return textwrap.wrap(line, width, subsequent_indent=" " * 8) if width else [line]


def _row(entry: Entry) -> tuple[str, ...]:
    return (render_size(entry.size), entry.kind, _day(entry.used), _use(entry), one_line(entry.about))


def _sum_row(kind: str, entries: Sequence[Entry]) -> tuple[str, ...]:
    """The row of small entries of a kind together."""
    users = sorted({user for entry in entries for user in entry.users})
    count = f"{len(entries)} of less than 1 MiB: {entries[0].about}" if len(entries) > 1 else one_line(entries[0].about)
    used = max(entry.used for entry in entries)
    return (render_size(sum(entry.size for entry in entries)), kind, _day(used), _users(users), one_line(count))


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def _use(entry: Entry) -> str:
    return _users(entry.users) or ("configured" if _is_configured(entry) else "")


def _users(users: Sequence[int]) -> str:
    """The processes that use something; 0 is one that is not known."""
    return "" if not users else f"by {', '.join(map(str, users))}" if all(users) else "being made"


def _is_configured(entry: Entry) -> bool:
    """Whether the toolchains that were built or named are, or need, an entry."""
    recorded = conf.recorded()
    return entry.kind in ("toolchains", "sysroots") and recorded.is_file() and str(entry.path) in recorded.read_text()


def _describe_bound(entries: Sequence[Entry], limit: int | None) -> str:
    """How much of some entries the bound holds for, in words."""
    bounded = render_size(sum(entry.size for entry in entries if entry.bounded))
    if limit is None:
        return f"{bounded} of it can be made again; {cache_space.VARIABLE} says that there is no bound."
    text = f"{bounded} of it can be made again, and is kept below {render_size(limit)}"
    return f"{text} ({cache_space.VARIABLE})."


def _to_json(entry: Entry) -> dict[str, Any]:
    return {
        "kind": entry.kind,
        "name": entry.name,
        "about": entry.about,
        "path": str(entry.path),
        "bytes": entry.size,
        "used": datetime.fromtimestamp(entry.used, UTC).isoformat(timespec="seconds"),
        "in_use": bool(entry.users),
        "processes": [user for user in entry.users if user],
        "configured": _is_configured(entry),
        "bounded": entry.bounded,
    }


def _check_kinds(kinds: Sequence[str]) -> None:
    """Raise click.BadParameter if there is no such kind, neither known nor in the cache."""
    present = {entry.kind for entry in cache_space.entries(paths.cache_dir())} if kinds else set()
    for kind in kinds:
        if kind not in KINDS and kind not in present:
            raise click.BadParameter(f"no kind named {kind}; {nearest(kind, KINDS)}", param_hint="--kind")


@cache.command("prune")
@_KINDS
@click.option(
    "--older-than", "age", type=_Age(), metavar="TIME", help="Only what was not used for so long: 12h, 30d, 4w."
)
@click.option("--size", type=_Size(), metavar="SIZE", help="Only until no more than this is left, such as 500M or 2G.")
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
def cache_prune(kinds: tuple[str, ...], age: float | None, size: int | None, dry_run: bool) -> None:
    """Remove what was not used for longest.

    Without an option, what can be made again is brought below the bound ($HARNESS_CACHE_SIZE, 5G by default), as each
    build does by itself. --older-than and --size choose other bounds; both together remove only what both say. Images,
    downloads and compilers go only if --kind names them. What a running harness uses stays, and so does what the
    recorded toolchains need.

    \b
    harness cache prune --older-than 30d          what was not used for a month
    harness cache prune --size 1G --dry-run       what would go to leave 1 GiB
    harness cache prune --kind machines           all saved guests
    """
    _check_kinds(kinds)
    root = paths.cache_dir()
    if size is None and age is None and not kinds:
        size = cache_space.bound()
        if size is None:
            raise ConfigError(
                f"{cache_space.VARIABLE} says that there is no bound; give --size, --older-than or --kind"
            )
    entries = [
        entry
        for entry in cache_space.entries(root, kinds or None)
        if (kinds or entry.bounded) and not _is_configured(entry)
    ]
    doomed = cache_space.removable(entries, None if age is None else time.time() - age, size)
    gone = doomed if dry_run else cache_space.remove(root, doomed)
    rows = [_row(entry) for entry in gone if entry.size >= _ROW]
    for kind in sorted({entry.kind for entry in gone}):
        if small := [entry for entry in gone if entry.kind == kind and entry.size < _ROW]:
            rows.append(_sum_row(kind, small))
    for line in align(rows) if rows else ():
        print_text(f"{line}\n")
    freed = render_size(sum(entry.size for entry in gone))
    verb = "would be removed" if dry_run else "removed"
    click.echo(f"{_entries(len(gone))} {verb}, {freed}")
    if used := sum(1 for entry in entries if entry.users):
        click.echo(f"{_entries(used)} in use, and left")


def _entries(number: int) -> str:
    return "1 entry" if number == 1 else f"{number} entries"
