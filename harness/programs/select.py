"""How a selection of suites, folders, files and names becomes programs, and programs become trials."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from harness import conf, paths
from harness.conf.naming import nearest
from harness.errors import ProgramError
from harness.programs.gotags import Target
from harness.programs.header import read_program
from harness.programs.model import Program, Suite, TrialSpec
from harness.programs.sources import RUN, SUFFIXES, overlooked, program_files, sources

#: Files that are named of many.
_NAMED = 5


def own_suites() -> dict[str, Path]:
    """The folders of the harness's own suites, by name."""
    folders = sorted((paths.DATA / "suites").iterdir())
    return {folder.name: folder for folder in folders if folder.is_dir() and any(program_files(folder))}


def find_suite(name: str, others: Collection[str] = ()) -> Suite:
    """A suite of the harness's own. Raises ProgramError with the nearest name, which may be one of `others`."""
    known = own_suites()
    if name not in known:
        raise ProgramError(f"no suite named {name}; {nearest(name, [*known, *others])}")
    try:
        paragraphs = (known[name] / "README.md").read_text(encoding="utf-8").split("\n\n")
    except FileNotFoundError:  # a suite needs no README.md
        paragraphs = []
    about = next((text for text in paragraphs if not text.startswith("#")), "")
    return Suite(name, known[name], " ".join(about.split()))


#: A function that lists the programs of a suite. It is called only if the suite is selected.
Listing = Callable[[], Sequence[Program]]


def select_programs(selection: Sequence[str], others: Mapping[str, Listing] | None = None) -> list[Program]:
    """The programs that some terms select; those of all own suites if there are no terms.

    Args:
        selection: terms: names of suites (with or without a slash at the end), folders, .go and .c files, or
            suite/program, where `*` stands for any text.
        others: the suites in GCC's source, by name.

    Raises:
        ProgramError: a term selects nothing, a header is invalid, or two programs have the same name.
    """
    known = own_suites()
    chosen: dict[Path | str, Program] = {}
    for term in selection or list(known):
        for program in _selected(term, known, others or {}):
            file = program.source.parent.resolve() / program.source.name
            chosen.setdefault(program.name if program.from_gcc else file, program)
    return _named_apart(list(chosen.values()))


def _named_apart(programs: list[Program]) -> list[Program]:
    """Programs with names of their own: where two would have the same, more folders of their paths are in them, and the
    ends of their files' names if they lie beside each other.

    Raises:
        ProgramError: their paths do not tell two programs apart.
    """
    groups: dict[str, list[Program]] = {}
    for program in programs:
        groups.setdefault(program.name, []).append(program)
    names = {program.source: name for group in groups.values() for program, name in _own_names(group)}
    apart = [program if program.from_gcc else replace(program, name=names[program.source]) for program in programs]
    by_name: dict[str, Path] = {}
    for program in apart:
        other = by_name.setdefault(program.name, program.source)
        if other != program.source:
            raise ProgramError(f"{other} and {program.source} are both named {program.name}")
    return apart


def _own_names(group: Sequence[Program]) -> Iterator[tuple[Program, str]]:
    """The names of programs that would have the same one, with as many folders as tell them apart, if any do."""
    paths_ = [program.source.with_suffix("") for program in group]
    if len(set(paths_)) < len(paths_):  # a Go and a C program beside each other
        paths_ = [program.source for program in group]
    parts = [path.parts[1:] for path in paths_]
    for length in range(2, max(map(len, parts)) + 1):
        names = ["/".join(each[-length:]) for each in parts]
        if len(set(names)) == len(names):
            return zip(group, names, strict=True)
    return ((program, program.name) for program in group)


def describe_overlooked(selection: Sequence[str]) -> str:
    """Which files of the selected folders are no programs, though they have a main function; '' if there are none."""
    files = [str(file) for term in selection if Path(term).is_dir() for file in overlooked(Path(term))]
    if not files:
        return ""
    return f"not run, for want of `// run` as the first comment: {few(files)}"


def few(names: Sequence[str]) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"


def from_anywhere(term: str) -> str:
    """A term of a selection as it is understood in any folder. A file may have the name of a suite, and is none."""
    path = Path(term)
    return str(paths.absolute(path)) if path.is_dir() or (path.suffix in SUFFIXES and path.exists()) else term


def _selected(term: str, known: Mapping[str, Path], others: Mapping[str, Listing]) -> Sequence[Program]:
    if not term:
        raise ProgramError("an empty word selects nothing; name a suite, a folder, a program or a .go or .c file")
    path = Path(term)
    if path.is_dir():
        described = path.name in others and (path / "suite.yaml").is_file()
        return others[path.name]() if described else folder_programs(path)
    if path.suffix in SUFFIXES:
        program = read_program(path)
        if program.kind != RUN:
            raise ProgramError(f"{path} is a `{program.kind}` test; only `run` tests can be run")
        return [program]
    suite, _, pattern = term.partition("/")
    if suite in others:
        listed = others[suite]()
    elif suite in known:
        listed = folder_programs(known[suite])
    else:
        files = [f"{term}{suffix}" for suffix in SUFFIXES if Path(f"{term}{suffix}").is_file()]
        hint = f"did you mean {files[0]}?" if files else nearest(term, [*known, *others])
        raise ProgramError(f"no suite, folder, .go or .c file named {term}; {hint}")
    if not pattern:
        return listed
    chosen = [program for program in listed if fnmatch.fnmatchcase(program.name, term)]
    if not chosen:
        names = [program.name for program in listed]
        close = difflib.get_close_matches(term, names, n=1)
        hint = f"did you mean {close[0]}?" if close else f"it has {len(names)} other{'s' * (len(names) > 1)}"
        raise ProgramError(f"suite {suite} has no runnable program {pattern}; {hint}")
    return chosen


def folder_programs(folder: Path) -> list[Program]:
    """The programs of a folder and of those below it. Raises ProgramError if there are none, or one is invalid."""
    try:
        listed = [read_program(file) for file in program_files(folder)]
    except OSError as error:
        raise ProgramError(f"{folder}: cannot be read: {error.strerror}") from error
    if listed:
        return listed
    if not any(sources(folder)):
        raise ProgramError(f"{folder} has no .go or .c file")
    unmarked = overlooked(folder)
    hint = f"; {unmarked[0].name} can be run if it is named itself" if unmarked else ""
    raise ProgramError(f"{folder} has no `run` test: no .go or .c file in it or below begins with `// run`{hint}")


def fitting_programs(
    chosen: Sequence[Program], triples: Collection[str], variants: Collection[conf.Variant]
) -> list[Program]:
    """The programs that can be built for one of the target triples with one of the variants.

    Raises:
        ProgramError: there are none.
    """
    targets = [Target.of(triple) for triple in triples]
    fitting = [
        program
        for program in chosen
        if any(program.fits(target, variant) for target in targets for variant in variants)
    ]
    if not fitting:
        raise ProgramError(
            f"{', '.join(program.name for program in chosen)}: for another system or compiler, by the header"
        )
    return fitting


def trial_specs(
    guests: Mapping[str, conf.Guest],
    triples: Mapping[str, str],
    variants: Mapping[str, conf.Variant],
    chosen: Sequence[Program],
    trials: int,
    seed: int | None = None,
) -> Iterator[TrialSpec]:
    """All trials of a run, in order.

    One round makes one trial of each cell, with the variants of a program next to each other. So what changes in the
    course of a run changes for all cells alike. A cell is left out if its variant or program is not for its guest, or
    if the program needs a feature that the guest does not provide or the variant lacks.

    Args:
        guests: their descriptions, by name.
        triples: their target triples, by name.
        variants: their descriptions, by name.
        chosen: the programs.
        trials: how many of each cell.
        seed: of all trials; without it each has its number.
    """
    for number in range(1, trials + 1):
        for program in chosen:
            for guest, config in guests.items():
                for name, variant in variants.items():
                    provided = set(config.provides) - set(variant.lacks)
                    fits = variant.fits(triples[guest]) and program.fits(Target.of(triples[guest]), variant)
                    if fits and set(program.needs) <= provided:
                        yield TrialSpec(guest, name, program, number, seed, variant.seeded)
