"""Test programs: how they are built, what is expected of them, and the trials to be made of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness import conf
from harness.programs.gotags import Target, any_of

#: Seconds that a program may run if it does not say.
TIMEOUT = 60.0


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
        decoded = {
            name: None if data is None else data.decode(errors="surrogateescape") for name, data in texts.items()
        }
        return asdict(self) | decoded

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Expectation:
        """An expectation that was stored."""
        texts = {name: stored.get(name) for name in ("stdout", "output")}
        encoded = {
            name: None if text is None else text.encode(errors="surrogateescape") for name, text in texts.items()
        }
        return cls(**{**stored, **encoded})

    def __str__(self) -> str:
        """In words, as a header says it, and whether output is compared."""
        terms = [f"signal {self.signal}" if self.signal else f"exit {self.exit_status}"]
        terms += [f"stdout ~ {json.dumps(self.stdout_pattern)}"] * bool(self.stdout_pattern)
        terms += [f"stderr ~ {json.dumps(self.stderr_pattern)}"] * bool(self.stderr_pattern)
        terms += [f"output ~ {json.dumps(self.output_pattern)}"] * bool(self.output_pattern)
        if self.stdout is not None:
            terms.append(f"stdout of {len(self.stdout.splitlines())} lines" if self.stdout else "no output")
        if self.output is not None:
            terms.append(f"output of {len(self.output.splitlines())} lines")
        return ", ".join(terms)


@dataclass(frozen=True)
class BuildSpec:
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
    build: BuildSpec = BuildSpec()
    constraints: tuple[tuple[str, ...], ...] = ()
    foreign: bool = False

    @property
    def word(self) -> str:
        """The word that selects it for a run."""
        return self.name if self.foreign else str(self.source)

    def fits(self, target: Target, variant: conf.Variant) -> bool:
        """Whether it can be made for a target with a variant. A prebuilt libgo comes without its packages' sources."""
        if self.build.package and variant.prebuilt:
            return False
        return all(any_of(words, lambda tag: target.has(tag, ("gccgo",))) for words in self.constraints)


@dataclass(frozen=True)
class Suite:
    """A suite that comes with the harness; `about` is the first paragraph of its README.md, or ''."""

    name: str
    folder: Path
    about: str


@dataclass(frozen=True)
class TrialSpec:
    """One trial to be made: `number` counts from 1 within its cell."""

    guest: str
    variant: str
    program: Program
    number: int
