"""The plan: programs and what they expect of themselves, suites, and the cells of a run in the order of their trials.

Reads programs, runs nothing.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from harness import conf, paths
from harness.conf.load import nearest
from harness.conf.units import seconds
from harness.errors import ProgramError

#: Seconds that a program may run if it does not say.
TIMEOUT = 60.0
#: Kinds of test that GCC's go-test.exp knows; of them only `run` is run so far.
_KINDS = (
    "run", "runoutput", "rundir", "errorcheck", "errorcheckdir", "errorcheckoutput", "errorcheckandrundir", "compile",
    "compiledir", "build", "builddir", "buildrun", "buildrundir", "skip", "cmpout",
)  # fmt: skip
_DIRECTIVES = ("args", "env", "timeout", "expect", "needs")
_TERM = re.compile(
    r"""\s*(?:exit\s+(?P<exit>\d{1,3})|signal\s+(?P<signal>[A-Z0-9]+)
    |(?P<stream>stdout|stderr)\s*~\s*(?P<pattern>"(?:[^"\\]|\\.)*"))\s*(?:,|$)""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Expectation:
    """How a program should end, and what it should print. A pattern is a regular expression that must be found."""

    exit_status: int = 0
    signal: str = ""
    stdout: bytes | None = None
    stdout_pattern: str = ""
    stderr_pattern: str = ""

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads; output that is no text is kept byte for byte."""
        stdout = None if self.stdout is None else self.stdout.decode(errors="surrogateescape")
        return asdict(self) | {"stdout": stdout}

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Expectation:
        """An expectation that was stored."""
        stdout = None if said["stdout"] is None else said["stdout"].encode(errors="surrogateescape")
        return cls(**{**said, "stdout": stdout})

    def __str__(self) -> str:
        """In words, as a header says it, and whether output is compared."""
        said = [f"signal {self.signal}" if self.signal else f"exit {self.exit_status}"]
        said += [f"stdout ~ {json.dumps(self.stdout_pattern)}"] * bool(self.stdout_pattern)
        said += [f"stderr ~ {json.dumps(self.stderr_pattern)}"] * bool(self.stderr_pattern)
        if self.stdout is not None:
            said.append(f"stdout of {len(self.stdout.splitlines())} lines" if self.stdout else "no output")
        return ", ".join(said)


@dataclass(frozen=True)
class Program:
    """A test program.

    Attributes:
        name: suite/program.
        timeout: in seconds.
        about: what its header says in prose.
        marked: its header says its kind.
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
        ProgramError: it is missing, or a directive cannot be understood; the text names file and line.
    """
    try:
        lines = source.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise ProgramError(f"{source}: cannot be read: {error.strerror}") from error
    program = Program(f"{source.absolute().parent.name}/{source.stem}", source.absolute())
    first = True
    for number, line in enumerate(lines, start=1):
        if not line.startswith("//"):
            if line.strip():
                break  # the package clause: the header is over
            continue
        text = line[2:].strip()
        if first and text and not text.startswith(("+build", "go:build")):
            first = False
            words = text.split()
            if words[0] in _KINDS:
                args = tuple(shlex.split(text)[1:]) if words[0] == "run" else ()
                # `run -gcflags=...` carries flags of another compiler
                args = () if args and args[0].startswith("-") else args
                program = replace(program, kind=words[0], args=args, marked=True)
                continue
        try:
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
            return replace(program, env={**program.env, **{name: text for name, _, text in pairs}})
        case "timeout":
            return replace(program, timeout=seconds(value))
        case "needs":
            return replace(program, needs=(*program.needs, *value.replace(",", " ").split()))
    return replace(program, expected=_expectation(program.expected, value))


def _expectation(expected: Expectation, text: str) -> Expectation:
    at = 0
    while at < len(text):
        match = _TERM.match(text, at)
        if not match:
            raise ValueError(
                f"expect: cannot understand {text[at:].strip()!r}; "
                'known: exit N, signal SIGNAME, stdout ~ "regex", stderr ~ "regex"'
            )
        if match["exit"]:
            expected = replace(expected, exit_status=int(match["exit"]))
        elif match["signal"]:
            name = match["signal"]
            expected = replace(expected, signal=name if name.startswith("SIG") else f"SIG{name}")
        else:
            try:
                pattern = json.loads(match["pattern"])
                re.compile(pattern)
            except (ValueError, re.error) as error:
                raise ValueError(f"expect: {match['pattern']} is not a regular expression: {error}") from error
            if match["stream"] == "stdout":
                expected = replace(expected, stdout_pattern=pattern)
            else:
                expected = replace(expected, stderr_pattern=pattern)
        at = match.end()
    return expected


def suites() -> dict[str, Path]:
    """The suites that come with the harness, by name."""
    return {folder.name: folder for folder in sorted((paths.DATA / "suites").iterdir()) if any(folder.glob("*.go"))}


def suite(name: str) -> Suite:
    """A suite by its name. Raises ProgramError."""
    known = suites()
    if name not in known:
        raise ProgramError(f"no suite named {name}; {nearest(name, known)}")
    try:
        paragraphs = (known[name] / "README.md").read_text(encoding="utf-8").split("\n\n")
    except FileNotFoundError:
        paragraphs = []
    about = next((text for text in paragraphs if not text.startswith("#")), "")
    return Suite(name, known[name], " ".join(about.split()))


def programs(selection: Sequence[str]) -> list[Program]:
    """The `run` programs of suites, folders and .go files; all suites if nothing is selected.

    Raises:
        ProgramError: one is missing, holds no program, or has a wrong header, or two bear the same name.
    """
    known = suites()
    found: dict[str, Program] = {}
    for word in selection or list(known):
        path = Path(word)
        folder = known[word] if word in known and not path.is_dir() else path
        if folder.is_dir():
            sources = sorted(folder.glob("*.go"))
            if not sources:
                raise ProgramError(f"{folder}: holds no .go file")
        elif folder.suffix == ".go":
            sources = [folder]
        else:
            raise ProgramError(f"no suite, folder or .go file named {word}; {nearest(word, known)}")
        for source in sources:
            program = read(source)
            if program.kind != "run":
                if len(sources) == 1:
                    raise ProgramError(f"{source}: is a `{program.kind}` test, and only `run` tests are run")
                continue
            other = found.setdefault(program.name, program)
            if other.source != program.source:
                raise ProgramError(f"{other.source} and {program.source} are both named {program.name}")
    if not found:
        raise ProgramError("none of the selected programs is a `run` test")
    return list(found.values())


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
    is not for its guest.

    Args:
        triples: the target triples of the guests.
    """
    for number in range(1, trials + 1):
        for program in chosen:
            for guest, said in guests.items():
                for name, variant in variants.items():
                    provided = set(said.provides) - set(variant.lacks)
                    if set(program.needs) <= provided and variant.fits(triples[guest]):
                        yield Slot(guest, name, program, number)
