"""How a selection of suites, folders, files and names becomes programs, and programs become trials."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

from harness import conf, paths
from harness.conf.load import nearest
from harness.errors import ProgramError
from harness.programs.gotags import Target
from harness.programs.header import read_program
from harness.programs.model import Program, Suite, TrialSpec


def own_suites() -> dict[str, Path]:
    """The suites that come with the harness, by name."""
    return {folder.name: folder for folder in sorted((paths.DATA / "suites").iterdir()) if any(folder.glob("*.go"))}


def find_suite(name: str, others: Collection[str] = ()) -> Suite:
    """A suite by its name. Raises ProgramError, with the nearest name, also of others."""
    known = own_suites()
    if name not in known:
        raise ProgramError(f"no suite named {name}; {nearest(name, [*known, *others])}")
    try:
        paragraphs = (known[name] / "README.md").read_text(encoding="utf-8").split("\n\n")
    except FileNotFoundError:
        paragraphs = []
    about = next((text for text in paragraphs if not text.startswith("#")), "")
    return Suite(name, known[name], " ".join(about.split()))


#: What lists the programs of a suite; called only if the suite is wanted.
Listing = Callable[[], Sequence[Program]]


def select_programs(selection: Sequence[str], others: Mapping[str, Listing] | None = None) -> list[Program]:
    """The programs of suites, folders and .go files, and single ones by name; all of our own suites if nothing is
    selected.

    Args:
        selection: names of suites (with or without a slash at the end), folders, .go files, or suite/program, where `*`
            stands for any text.
        others: suites whose programs do not lie here, by name.

    Raises:
        ProgramError: one is missing, holds no program, or has a wrong header, or two bear the same name.
    """
    known = own_suites()
    programs: dict[str, Program] = {}
    for word in selection or list(known):
        for program in _selected(word, known, others or {}):
            other = programs.setdefault(program.name, program)
            if other.source != program.source:
                raise ProgramError(f"{other.source} and {program.source} are both named {program.name}")
    return list(programs.values())


def _selected(word: str, known: Mapping[str, Path], others: Mapping[str, Listing]) -> Sequence[Program]:
    if not word:
        raise ProgramError("an empty word selects nothing; name a suite, a folder, a program or a .go file")
    path = Path(word)
    if path.is_dir():
        described = path.name in others and not any(path.glob("*.go"))  # the folder of its suite.yaml
        return others[path.name]() if described else _of_folder(path)
    if path.suffix == ".go":
        program = read_program(path)
        if program.kind != "run":
            raise ProgramError(f"{path}: is a `{program.kind}` test, and only `run` tests are run")
        return [program]
    suite, _, pattern = word.partition("/")
    if suite in others:
        listed = others[suite]()
    elif suite in known:
        listed = _of_folder(known[suite])
    else:
        raise ProgramError(f"no suite, folder or .go file named {word}; {nearest(word, [*known, *others])}")
    if not pattern:
        return listed
    chosen = [program for program in listed if fnmatch.fnmatchcase(program.name, word)]
    if not chosen:
        names = [program.name for program in listed]
        close = difflib.get_close_matches(word, names, n=1)
        hint = f"did you mean {close[0]}?" if close else f"it has {len(names)} others"
        raise ProgramError(f"suite {suite} has no program {pattern} that is run; {hint}")
    return chosen


def _of_folder(folder: Path) -> list[Program]:
    sources = sorted(folder.glob("*.go"))
    if not sources:
        raise ProgramError(f"{folder}: holds no .go file")
    listed = [program for program in map(read_program, sources) if program.kind == "run"]
    if not listed:
        raise ProgramError(f"{folder}: none of its programs is a `run` test")
    return listed


def fitting_programs(
    chosen: Sequence[Program], triples: Collection[str], variants: Collection[conf.Variant]
) -> list[Program]:
    """Those programs that can be made for one of the target triples with one of the variants.

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
            f"{', '.join(program.name for program in chosen)}: for another system or compiler, by their header"
        )
    return fitting


def trial_specs(
    guests: Mapping[str, conf.Guest],
    triples: Mapping[str, str],
    variants: Mapping[str, conf.Variant],
    chosen: Sequence[Program],
    trials: int,
) -> Iterator[TrialSpec]:
    """All trials of a run, in order: the variants of a program stand side by side, and whole rounds follow each other,
    so that what changes in the course of a run changes for all cells alike.

    A cell is left out whose program needs what its guest does not provide, or its variant lacks, and one whose variant
    or program is not for its guest.

    Args:
        triples: the target triples of the guests.
    """
    for number in range(1, trials + 1):
        for program in chosen:
            for guest, config in guests.items():
                for name, variant in variants.items():
                    provided = set(config.provides) - set(variant.lacks)
                    fits = variant.fits(triples[guest]) and program.fits(Target.of(triples[guest]), variant)
                    if fits and set(program.needs) <= provided:
                        yield TrialSpec(guest, name, program, number)
