"""The plan: programs and what they expect of themselves, suites, and the cells of a run in the order of their trials.

Reads programs, runs nothing.
"""

from __future__ import annotations

import difflib
import fnmatch
import json
import os
import re
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from harness import conf, paths
from harness.build.gotags import Target, any_of
from harness.conf import naming
from harness.conf.load import nearest
from harness.conf.units import seconds
from harness.errors import ProgramError
from harness.guest.system import SIGNALS

#: Seconds that a program may run if it does not say.
TIMEOUT = 60.0
#: Kinds of test that GCC's go-test.exp knows; of them only `run` is run so far.
_KINDS = (
    "run", "runoutput", "rundir", "errorcheck", "errorcheckdir", "errorcheckoutput", "errorcheckandrundir", "compile",
    "compiledir", "build", "builddir", "buildrun", "buildrundir", "skip", "cmpout",
)  # fmt: skip
_DIRECTIVES = ("args", "env", "timeout", "expect", "needs")
_TERM = re.compile(
    r"""\s*(?:exit\s+(?P<exit>\d+)|signal\s+(?P<signal>[A-Z0-9]+)
    |(?P<stream>stdout|stderr|output)\s*~\s*(?P<pattern>"(?:[^"\\]|\\.)*"))\s*(?:,|$)""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Expectation:
    """How a program should end, and what it should print. A pattern is a regular expression that must be found.

    Attributes:
        output: what both streams should say together, however their lines are mixed.
        output_pattern: must be found in stdout followed by stderr.
        gcc: it is a program of GCC's own tests, for which GCC's own judgement is told beside ours: the exit status
            is 0 and nothing printed says BUG (gcc/testsuite/lib/go-torture.exp, go-torture-execute).
        tests: it runs tests of Go's package testing, and their names are told.
    """

    exit_status: int = 0
    signal: str = ""
    stdout: bytes | None = None
    stdout_pattern: str = ""
    stderr_pattern: str = ""
    output: bytes | None = None
    output_pattern: str = ""
    gcc: bool = False
    tests: bool = False

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads; output that is no text is kept byte for byte."""
        texts = {"stdout": self.stdout, "output": self.output}
        decoded = {name: None if one is None else one.decode(errors="surrogateescape") for name, one in texts.items()}
        return asdict(self) | decoded

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Expectation:
        """An expectation that was stored."""
        texts = {name: said.get(name) for name in ("stdout", "output")}
        encoded = {name: None if one is None else one.encode(errors="surrogateescape") for name, one in texts.items()}
        return cls(**{**said, **encoded})

    def __str__(self) -> str:
        """In words, as a header says it, and whether output is compared."""
        said = [f"signal {self.signal}" if self.signal else f"exit {self.exit_status}"]
        said += [f"stdout ~ {json.dumps(self.stdout_pattern)}"] * bool(self.stdout_pattern)
        said += [f"stderr ~ {json.dumps(self.stderr_pattern)}"] * bool(self.stderr_pattern)
        said += [f"output ~ {json.dumps(self.output_pattern)}"] * bool(self.output_pattern)
        if self.stdout is not None:
            said.append(f"stdout of {len(self.stdout.splitlines())} lines" if self.stdout else "no output")
        if self.output is not None:
            said.append(f"output of {len(self.output.splitlines())} lines")
        return ", ".join(said)


@dataclass(frozen=True)
class Made:
    """How a program is made, if not of its one source file alone.

    Attributes:
        packages: the files of each package, compiled in this order; the last is the program's own.
        folder: the program is one package: those files of this folder that are for the target.
        flags: for the compiler.
        output_flags: what the program prints is a Go program, which is compiled with these flags and is the one tested.
        package: the program is the tests of this package of libgo, given by its import path.
    """

    packages: tuple[tuple[Path, ...], ...] = ()
    folder: Path | None = None
    flags: tuple[str, ...] = ("-O2", "-g")
    output_flags: tuple[str, ...] = ()
    package: str = ""


@dataclass(frozen=True)
class Program:
    """A test program.

    Attributes:
        name: suite/program.
        source: the file that it is made of, or where to look for what it is made of.
        kind: what GCC's go-test.exp calls it.
        timeout: in seconds.
        needs: what its guest must provide.
        about: what its header says in prose.
        marked: its header says its kind.
        constraints: the words of each `+build` line that counts.
        foreign: it does not lie here, and is selected by its name.
    """

    name: str
    source: Path
    kind: str = "run"
    args: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict, hash=False)
    timeout: float = TIMEOUT
    needs: tuple[str, ...] = ()
    expected: Expectation = Expectation()
    about: str = ""
    marked: bool = False
    made: Made = Made()
    constraints: tuple[tuple[str, ...], ...] = ()
    foreign: bool = False

    @property
    def word(self) -> str:
        """The word that selects it for a run."""
        return self.name if self.foreign else str(self.source)

    def fits(self, target: Target, variant: conf.Variant) -> bool:
        """Whether it can be made for a target with a variant. A prebuilt libgo comes without its packages' sources."""
        if self.made.package and variant.prebuilt:
            return False
        return all(any_of(words, lambda tag: target.has(tag, ("gccgo",))) for words in self.constraints)


@dataclass(frozen=True)
class Suite:
    """A suite that comes with the harness; `about` is the first paragraph of its README.md, or ''."""

    name: str
    folder: Path
    about: str


@dataclass(frozen=True)
class Slot:
    """One trial to be made: `number` counts from 1 within its cell."""

    guest: str
    variant: str
    program: Program
    number: int


def read(source: Path) -> Program:
    """Read a program's header and its `.out` file.

    Raises:
        ProgramError: it is missing or no regular file, its name is no text, or a directive cannot be understood; the
            text names file and line.
    """
    try:
        lines = paths.content(source).decode(errors="replace").splitlines()
    except OSError as error:
        raise ProgramError(f"{source}: cannot be read: {error.strerror}") from error
    try:
        str(source.absolute()).encode()
    except UnicodeEncodeError as error:  # neither a guest's shell nor a report could be told of it
        told = os.fsencode(source).decode(errors="backslashreplace")
        raise ProgramError(f"{told}: its name is not UTF-8") from error
    program = Program(f"{source.absolute().parent.name}/{source.stem}", source.absolute())
    first = True
    for number, line in enumerate(lines, start=1):
        if not line.startswith("//"):
            if line.strip():
                break  # the package clause: the header is over
            continue
        text = line[2:].strip()
        try:
            if first and text and not text.startswith(("+build", "go:build")):
                first = False
                words = text.split()
                if words[0] in _KINDS:
                    args = tuple(shlex.split(text)[1:]) if words[0] == "run" else ()
                    # `run -gcflags=...` carries flags of another compiler
                    args = () if args and args[0].startswith("-") else args
                    program = replace(program, kind=words[0], args=args, marked=True)
                    continue
            program = _directive(program, text)
        except ValueError as error:
            raise ProgramError(f"{source}:{number}: {error}") from error
    out = source.with_suffix(".out")
    if out.is_file():
        program = replace(program, expected=replace(program.expected, stdout=out.read_bytes()))
    return program


def _directive(program: Program, text: str) -> Program:
    match = re.match(r"([A-Za-z]+):(?:\s+|$)(.*)", text)
    if not match:
        return replace(program, about=f"{program.about} {text}".strip())
    word, value = match[1], match[2].strip()
    if word not in _DIRECTIVES:
        if word.islower() and "did you mean" in nearest(word, _DIRECTIVES):
            raise ValueError(f"unknown directive {word}:; {nearest(word, _DIRECTIVES)}")
        return replace(program, about=f"{program.about} {text}".strip())
    if not value:
        raise ValueError(f"{word}: says nothing")
    match word:
        case "args":
            return replace(program, args=tuple(shlex.split(value)))
        case "env":
            pairs = [pair.partition("=") for pair in shlex.split(value)]
            if not all(name and equals for name, equals, _ in pairs):
                raise ValueError(f"env: {value!r} is not NAME=VALUE")
            more = naming.environment({name: text for name, _, text in pairs})
            return replace(program, env={**program.env, **more})
        case "timeout":
            return replace(program, timeout=seconds(value))
        case "needs":
            return replace(program, needs=(*program.needs, *value.replace(",", " ").split()))
    return replace(program, expected=expectation(program.expected, value))


def expectation(expected: Expectation, text: str) -> Expectation:
    """Add what an `expect` directive says to an expectation. Raises ValueError."""
    at = 0
    while at < len(text):
        match = _TERM.match(text, at)
        if not match:
            raise ValueError(
                f"expect: cannot understand {text[at:].strip()!r}; "
                'known: exit N, signal SIGNAME, stdout ~ "regex", stderr ~ "regex", output ~ "regex" (both streams)'
            )
        if match["exit"]:
            if len(match["exit"]) > 3 or int(match["exit"]) > 255:
                raise ValueError(f"expect: exit {match['exit']} cannot be: an exit status is 0 to 255")
            expected = replace(expected, exit_status=int(match["exit"]))
        elif match["signal"]:
            name = match["signal"].removeprefix("SIG")
            if name not in SIGNALS:
                raise ValueError(f"expect: no signal named {name}; {nearest(name, SIGNALS)}")
            expected = replace(expected, signal=f"SIG{name}")
        else:
            try:
                pattern = json.loads(match["pattern"])
                re.compile(pattern)
            except (ValueError, re.error) as error:
                raise ValueError(f"expect: {match['pattern']} is not a regular expression: {error}") from error
            expected = replace(expected, **{f"{match['stream']}_pattern": pattern})
        at = match.end()
    return expected


def suites() -> dict[str, Path]:
    """The suites that come with the harness, by name."""
    return {folder.name: folder for folder in sorted((paths.DATA / "suites").iterdir()) if any(folder.glob("*.go"))}


def suite(name: str, others: Collection[str] = ()) -> Suite:
    """A suite by its name. Raises ProgramError, with the nearest name, also of others."""
    known = suites()
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


def programs(selection: Sequence[str], others: Mapping[str, Listing] | None = None) -> list[Program]:
    """The programs of suites, folders and .go files, and single ones by name; all of our own suites if nothing is
    selected.

    Args:
        selection: names of suites (with or without a slash at the end), folders, .go files, or suite/program, where `*`
            stands for any text.
        others: suites whose programs do not lie here, by name.

    Raises:
        ProgramError: one is missing, holds no program, or has a wrong header, or two bear the same name.
    """
    known = suites()
    found: dict[str, Program] = {}
    for word in selection or list(known):
        for program in _selected(word, known, others or {}):
            other = found.setdefault(program.name, program)
            if other.source != program.source:
                raise ProgramError(f"{other.source} and {program.source} are both named {program.name}")
    return list(found.values())


def _selected(word: str, known: Mapping[str, Path], others: Mapping[str, Listing]) -> Sequence[Program]:
    if not word:
        raise ProgramError("an empty word selects nothing; name a suite, a folder, a program or a .go file")
    path = Path(word)
    if path.is_dir():
        described = path.name in others and not any(path.glob("*.go"))  # the folder of its suite.yaml
        return others[path.name]() if described else _of_folder(path)
    if path.suffix == ".go":
        program = read(path)
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
    listed = [program for program in map(read, sources) if program.kind == "run"]
    if not listed:
        raise ProgramError(f"{folder}: none of its programs is a `run` test")
    return listed


def fitting(chosen: Sequence[Program], triples: Collection[str], variants: Collection[conf.Variant]) -> list[Program]:
    """Those programs that can be made for one of the target triples with one of the variants.

    Raises:
        ProgramError: there are none.
    """
    targets = [Target.of(triple) for triple in triples]
    found = [one for one in chosen if any(one.fits(target, variant) for target in targets for variant in variants)]
    if not found:
        raise ProgramError(f"{', '.join(one.name for one in chosen)}: for another system or compiler, by their header")
    return found


def slots(
    guests: Mapping[str, conf.Guest],
    triples: Mapping[str, str],
    variants: Mapping[str, conf.Variant],
    chosen: Sequence[Program],
    trials: int,
) -> Iterator[Slot]:
    """All trials of a run, in order: the variants of a program stand side by side, and whole rounds follow each other,
    so that what changes in the course of a run changes for all cells alike.

    A cell is left out whose program needs what its guest does not provide, or its variant lacks, and one whose variant
    or program is not for its guest.

    Args:
        triples: the target triples of the guests.
    """
    for number in range(1, trials + 1):
        for program in chosen:
            for guest, said in guests.items():
                for name, variant in variants.items():
                    provided = set(said.provides) - set(variant.lacks)
                    fits = variant.fits(triples[guest]) and program.fits(Target.of(triples[guest]), variant)
                    if fits and set(program.needs) <= provided:
                        yield Slot(guest, name, program, number)
