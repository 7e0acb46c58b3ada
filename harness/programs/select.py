"""How a selection of suites, folders, files and names becomes programs, and programs become trials."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

from harness import conf, paths
from harness.conf.naming import nearest
from harness.errors import ProgramError
from harness.programs.gotags import Target
from harness.programs.header import read_program
from harness.programs.model import Program, Suite, TrialSpec

#: How the names of programs' sources end: Go and C.
SUFFIXES = (".go", ".c")


def sources(folder: Path) -> list[Path]:
    """The files of a folder that may be programs."""
    return sorted(file for file in folder.glob("*") if file.suffix in SUFFIXES)


def own_suites() -> dict[str, Path]:
    """The folders of the harness's own suites, by name."""
    return {folder.name: folder for folder in sorted((paths.DATA / "suites").iterdir()) if sources(folder)}


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
    programs: dict[str, Program] = {}
    for term in selection or list(known):
        for program in _selected(term, known, others or {}):
            other = programs.setdefault(program.name, program)
            if other.source != program.source:
                raise ProgramError(f"{other.source} and {program.source} are both named {program.name}")
    return list(programs.values())


def _selected(term: str, known: Mapping[str, Path], others: Mapping[str, Listing]) -> Sequence[Program]:
    if not term:
        raise ProgramError("an empty word selects nothing; name a suite, a folder, a program or a .go or .c file")
    path = Path(term)
    if path.is_dir():
        described = path.name in others and not sources(path)  # the folder of its suite.yaml
        return others[path.name]() if described else _of_folder(path)
    if path.suffix in SUFFIXES:
        program = read_program(path)
        if program.kind != "run":
            raise ProgramError(f"{path} is a `{program.kind}` test; only `run` tests can be run")
        return [program]
    suite, _, pattern = term.partition("/")
    if suite in others:
        listed = others[suite]()
    elif suite in known:
        listed = _of_folder(known[suite])
    else:
        raise ProgramError(f"no suite, folder, .go or .c file named {term}; {nearest(term, [*known, *others])}")
    if not pattern:
        return listed
    chosen = [program for program in listed if fnmatch.fnmatchcase(program.name, term)]
    if not chosen:
        names = [program.name for program in listed]
        close = difflib.get_close_matches(term, names, n=1)
        hint = f"did you mean {close[0]}?" if close else f"it has {len(names)} others"
        raise ProgramError(f"suite {suite} has no runnable program {pattern}; {hint}")
    return chosen


def _of_folder(folder: Path) -> list[Program]:
    files = sources(folder)
    if not files:
        raise ProgramError(f"{folder} has no .go or .c file")
    listed = [program for program in map(read_program, files) if program.kind == "run"]
    if not listed:
        raise ProgramError(f"{folder} has no `run` test, and only those can be run")
    return listed


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
