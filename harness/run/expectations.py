"""The known failures of a configuration, and those of them that no cell can ever be about: typing errors, mostly.

An entry is only held against suites and folders whose programs are all known; of others nothing is said.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Collection, Iterable, Mapping
from itertools import product

from harness import conf
from harness.programs.gcc_suites import suites
from harness.programs.model import Program
from harness.programs.select import Listing, own_suites
from harness.programs.sources import program_files
from harness.results.expected import Entry

#: How like two names are, at least, before one counts as the other misspelt (difflib, ratio).
_LIKE = 0.8
_WILD = "*?["


def known_failures(configuration: conf.Configuration) -> list[Entry]:
    """The known failures of a configuration, as a matrix wants them."""
    return [
        Entry(**failure.model_dump(exclude={"verdict"}), verdicts=tuple(failure.verdict), where=where)
        for failure, where in configuration.expected
    ]


def all_programs(chosen: Iterable[Program], listings: Mapping[str, Listing]) -> set[str]:
    """The names of all programs of the suites and folders that some programs belong to.

    Args:
        listings: the suites in GCC's source, by name.
    """
    chosen = list(chosen)
    names = {program.name for program in chosen}
    for suite in {name.partition("/")[0] for name in names} & set(listings):
        names |= {program.name for program in listings[suite]()}
    for folder in {program.source.parent for program in chosen if not program.from_gcc}:
        names |= {f"{file.parent.name}/{file.stem}" for file in program_files(folder) if file.parent == folder}
    return names


def own_programs() -> set[str]:
    """The names of all programs of the harness's own suites."""
    return {f"{file.parent.name}/{file.stem}" for folder in own_suites().values() for file in program_files(folder)}


def describe_unmatched(configuration: conf.Configuration, programs: Collection[str]) -> list[str]:
    """The known failures that no cell can be about, each in a sentence.

    Args:
        programs: all names of the suites and folders that are looked at, as `all_programs` gives them.
    """
    by_suite: dict[str, list[str]] = {}
    for name in sorted(programs):
        by_suite.setdefault(name.partition("/")[0], []).append(name)
    elsewhere = {*own_suites(), *suites()} - set(by_suite)
    return [
        f"{entry.where}: {why}"
        for entry in known_failures(configuration)
        if (why := _no_program(entry.program, by_suite, elsewhere) or _no_column(entry, configuration))
    ]


def _no_program(pattern: str, by_suite: Mapping[str, list[str]], elsewhere: Collection[str]) -> str:
    """Why a pattern matches no program; '' if it does, or may match one elsewhere.

    Args:
        by_suite: the names that are looked at, by what stands before their first slash.
        elsewhere: suites that are not looked at.
    """
    names = [name for members in by_suite.values() for name in members]
    if fnmatch.filter(names, pattern):
        return ""
    suite, slash, rest = pattern.partition("/")
    if any(sign in suite for sign in _WILD):
        return ""
    if not slash:
        return f"`program: {pattern}` matches nothing: it is not SUITE/PROGRAM{_hint(_like(pattern, names))}"
    if suite in by_suite:
        close = _hint(_like(rest, by_suite[suite]))
        return f"`program: {pattern}` matches nothing: {suite} has no such program{close}"
    if suite in elsewhere:
        return ""
    for close in difflib.get_close_matches(suite, [*by_suite, *elsewhere], cutoff=_LIKE):
        if close in elsewhere or fnmatch.filter(by_suite[close], f"{close}/{rest}"):
            return f"`program: {pattern}` matches nothing: there is no suite {suite}{_hint(f'{close}/{rest}')}"
    return ""


def _like(word: str, names: Iterable[str]) -> str:
    """The name that has after its slash what is most like a word; '' if none is like it."""
    ends = {name.partition("/")[2]: name for name in names}
    return next((ends[end] for end in difflib.get_close_matches(word, ends, n=1)), "")


def _hint(name: str) -> str:
    return f"; did you mean {name}?" if name else ""


def _no_column(entry: Entry, configuration: conf.Configuration) -> str:
    """Why an entry is about no column of any matrix; '' if it is about some. Its guest and variant are known."""
    if "+" in entry.variant:
        return ""
    variants = fnmatch.filter(configuration.variants, entry.variant)
    triples = {
        configuration.toolchain(configuration.guest(guest).toolchain).triple
        for guest in fnmatch.filter(configuration.guests, entry.guest)
    }
    if any(configuration.variant(name).fits(triple) for name, triple in product(variants, triples)):
        return ""
    return f"`variant: {entry.variant}` is not for {entry.guest}, and the entry matches nothing"
