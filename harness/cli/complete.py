"""What a shell may complete: the names of guests, libgos, programs and the like, and the numbers of runs and trials.

A shell waits for it, so what takes long to import is imported where it is needed (harness/cli/skeleton.py), and nothing
is built, unpacked or upgraded. A completion never fails: where something cannot be read, nothing is offered.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from harness import __version__, cache_space, paths
from harness.cache import Cache, digest
from harness.escapes import one_line
from harness.log import ignored

if TYPE_CHECKING:
    from harness import conf

_log = logging.getLogger(__name__)

#: What click calls: gives what an unfinished word may become.
Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
#: How many runs and trials are offered, the newest first.
_RUNS, _TRIALS = 200, 100
#: Seconds that a database which somebody writes is waited for.
_BUSY = 0.2
#: The kind of the cache's entries for completions.
KIND = "completions"


def _quiet(complete: Complete) -> Complete:
    """The same, with nothing offered where something fails: a shell that completes shows no errors."""

    def offered(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
        with ignored(_log, "completing a word", Exception):
            return complete(context, parameter, begun)
        return []

    return offered


def _of(names: Callable[[conf.Configuration], Iterable[str]]) -> Complete:
    """What completes names that the configuration of a command line has."""

    def complete(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
        from harness import conf
        from harness.build import worktree

        given, work = context.params.get("conf_files") or (), paths.work_dir(context.params.get("work"))
        configuration = conf.load([*worktree.configurations(work), *map(Path, given)])
        return [CompletionItem(name) for name in names(configuration) if name.startswith(begun)]

    return _quiet(complete)


def _traced(names: Iterable[str]) -> list[str]:
    from harness.conf.load import TRACED

    return [each for name in names for each in (name, name + TRACED)]


guests = _of(lambda configuration: configuration.guests)
toolchains = _of(lambda configuration: configuration.toolchains)
variants = _of(lambda configuration: _traced(configuration.variants))
plain_variants = _of(lambda configuration: configuration.variants)
libpthreads = _of(
    lambda configuration: [name for name, variant in configuration.variants.items() if variant.preload or variant.env]
)


def libpthreads_and_files(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Variants that change libpthread; where none begins so, the shell completes files."""
    return libpthreads(context, parameter, begun) or [CompletionItem(begun, type="file")]


columns = _of(
    lambda configuration: [f"{guest}/{variant}" for guest in configuration.guests for variant in configuration.variants]
)


def _names(known: Iterable[str], begun: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in known if name.startswith(begun)]


@_quiet
def images(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """The recipes of images."""
    return _names(sorted(path.parent.name for path in (paths.DATA / "images").glob("*/recipe.yaml")), begun)


@_quiet
def suites(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """The suites: our own, and GCC's."""
    return _names(sorted(path.name for path in (paths.DATA / "suites").iterdir() if path.is_dir()), begun)


@_quiet
def selection(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Suites and, once a suite is named, its programs; the shell completes folders and files."""
    suite, slash, _ = begun.partition("/")
    if slash and (names := _programs(suite)):
        return _names(names, begun)
    return suites(context, parameter, begun) or [CompletionItem(begun, type="file")]


def _programs(suite: str) -> list[str]:
    """SUITE/PROGRAM of all programs of a suite; none if there is no such suite, or GCC's source was never unpacked."""
    folder = paths.DATA / "suites" / suite
    if not suite or not folder.is_dir():
        return []
    if not (folder / "suite.yaml").is_file():
        from harness.programs.select import select_programs

        return [program.name for program in select_programs([suite])]
    sources = [path.parents[1] for path in (paths.cache_dir() / "gcc-source").glob("[!.]*/libgo/configure")]
    if not sources:
        return []
    source = max(sources, key=lambda path: path.stat().st_mtime)

    def listed() -> list[str]:
        from harness.programs import gcc_suites

        return [program.name for program in gcc_suites.contents(suite, gcc_suites.suites()[suite], source).programs]

    state = (folder / "suite.yaml").stat()
    names = remembered([suite, source.name, state.st_mtime_ns, state.st_size], f"programs of {suite}", listed)
    return list(map(str, names))


def remembered(key: list[object], about: str, compute: Callable[[], Any]) -> Any:
    """A JSON value that takes long to compute: kept in the cache, if that can be written.

    Args:
        key: all that it depends on, besides the version.
        about: what it is.
    """
    cache, name = Cache(paths.cache_dir()), digest([__version__, *key])
    file = cache.path(KIND, name) / "value.json"
    with ignored(_log, f"reading {file}", OSError, ValueError):
        return json.loads(file.read_text())
    value = compute()
    with ignored(_log, f"keeping {file}", Exception):
        cache.make(KIND, name, lambda folder: _write(folder / "value.json", value), about=about)
    return value


def _write(file: Path, value: Any) -> None:
    file.write_text(json.dumps(value))


@_quiet
def suites_and_folders(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Suites; where none begins so, the shell completes folders."""
    return suites(context, parameter, begun) or [CompletionItem(begun, type="dir")]


def folders(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """The shell completes folders."""
    return [CompletionItem(begun, type="dir")]


def cache_kinds(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """The kinds of what is in the cache."""
    kinds = cache_space.KINDS.items()
    return [CompletionItem(name, help=kind.about) for name, kind in kinds if name.startswith(begun)]


# What is stored


def _rows(context: click.Context, query: str, values: tuple[object, ...]) -> Iterator[Any]:
    """Rows of the database of a command line, which is neither made nor changed. Raises sqlite3.Error."""
    file = paths.work_dir(context.params.get("work")) / "results.sqlite"
    db = sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=_BUSY)
    try:
        yield from db.execute(query, values)
    finally:
        db.close()


def _ranges(begun: str) -> Iterator[tuple[int, int]]:
    """The numbers whose digits begin so, as ranges, the greatest first."""
    if not begun:
        yield 1, 2**63 - 1
    elif begun.isdecimal() and begun.isascii() and not begun.startswith("0"):
        for digits in range(18 - len(begun), -1, -1):
            yield int(begun) * 10**digits, (int(begun) + 1) * 10**digits - 1


def _numbers(context: click.Context, query: str, begun: str, most: int) -> Iterator[Any]:
    """Rows of a query of a range of numbers that begin so, the newest first."""
    for low, high in _ranges(begun):
        for row in _rows(context, f"{query} AND id BETWEEN ? AND ? ORDER BY id DESC LIMIT ?", (low, high, most)):
            most -= 1
            yield row


def _run_completion(condition: str, wanted: Callable[[dict[str, Any]], bool] = lambda plan: True) -> Complete:
    """What completes numbers of runs that meet a condition in SQL, and one of their plans."""

    def complete(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
        query = f"SELECT id, created, finished, plan FROM runs WHERE {condition}"
        rows = ((*row[:3], json.loads(row[3])) for row in _numbers(context, query, begun, _RUNS))
        return [CompletionItem(str(row[0]), help=_describe_run(*row[1:])) for row in rows if wanted(row[3])]

    return _quiet(complete)


def _describe_run(created: str, finished: str | None, plan: dict[str, Any]) -> str:
    """What a run is, in few words."""
    kind = plan.get("kind") or ("bisect" if _is_bisect(plan) else "run")
    programs = plan.get("programs", [])
    what = ", ".join(programs) if len(programs) <= 2 else f"{len(programs)} programs"
    unfinished = "" if finished else ", not finished"
    return one_line(
        f"{kind} of {created[:16].replace('T', ' ')}{unfinished}: {what}; {', '.join(plan['variants'][:3])}"
    )


def _is_bisect(plan: dict[str, Any]) -> bool:
    return plan.get("bisect") is not None


def _may_go_on(plan: dict[str, Any]) -> bool:
    return not _is_bisect(plan) and plan.get("resumable", True)


def _may_be_extended(plan: dict[str, Any]) -> bool:
    request = plan.get("request") or {}
    return not (_is_bisect(plan) or plan.get("kind") == "pytest" or request.get("design") or request.get("shard"))


runs = _run_completion("1")
stopped_runs = _run_completion("finished IS NULL", _may_go_on)
extensible_runs = _run_completion("1", _may_be_extended)
stopped_bisects = _run_completion("finished IS NULL", _is_bisect)


def runs_and_files(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Numbers of runs; where none begins so, the shell completes files."""
    return runs(context, parameter, begun) or [CompletionItem(begun, type="file")]


@_quiet
def trials(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Numbers of trials, the newest first."""
    query = "SELECT id, run, verdict, program, variant, guest FROM trials WHERE 1"
    return [
        CompletionItem(str(number), help=one_line(f"{verdict}: {program}, {variant}, {guest}, run {run}"))
        for number, run, verdict, program, variant, guest in _numbers(context, query, begun, _TRIALS)
    ]


@_quiet
def parts(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """What is stored of the trial of a command line."""
    query = "SELECT name FROM attachments WHERE trial = ? ORDER BY rowid"
    # click stops to read arguments at an option without a value, as the last one is here.
    number = context.params.get("number") or next(iter(context.args), None)
    rows = list(_rows(context, query, (number,)))
    return _names(["stdout", "stderr", *(name for (name,) in rows)], begun)
