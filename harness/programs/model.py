"""Test programs: how they are built, the expectation of their end and output, and the trials to be made of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from harness import conf
from harness.invocation import own_program
from harness.programs.gotags import Target, any_of, expression

#: Seconds that a program may run unless its header has a timeout.
TIMEOUT = 60.0


@dataclass(frozen=True)
class Expectation:
    """How a program should end, and what it should print. A pattern is a regular expression that must be found.

    Attributes:
        output: the expected content of both streams together, however their lines are mixed.
        output_pattern: must be found in stdout followed by stderr.
        gcc: it is one of GCC's own tests, so the verdict also has GCC's: a pass if the exit status is 0 and the output
            does not contain BUG (gcc/testsuite/lib/go-torture.exp, go-torture-execute).
        tests: it runs tests of Go's package testing, and the verdict names those that fail.
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
        """The form that `from_json` reads. Output that is not UTF-8 is kept byte for byte."""
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
        """The terms as a header has them, and whether output is compared."""
        terms = [f"signal {self.signal}" if self.signal else f"exit {self.exit_status}"]
        terms += [f"stdout ~ {json.dumps(self.stdout_pattern)}"] * bool(self.stdout_pattern)
        terms += [f"stderr ~ {json.dumps(self.stderr_pattern)}"] * bool(self.stderr_pattern)
        terms += [f"output ~ {json.dumps(self.output_pattern)}"] * bool(self.output_pattern)
        if self.stdout is not None:
            terms.append(f"stdout of {_lines(self.stdout)}" if self.stdout else "no output")
        if self.output is not None:
            terms.append(f"output of {_lines(self.output)}")
        return ", ".join(terms)


def _lines(text: bytes) -> str:
    number = len(text.splitlines())
    return f"{number} line{'' if number == 1 else 's'}"


@dataclass(frozen=True)
class BuildSpec:
    """How a program is built, unless it is one source file and no more.

    Attributes:
        packages: the files of each package, compiled in this order; the last is the program's own.
        folder: the program is one package, of the files in this folder that are for the target.
        flags: for the compiler.
        output_flags: the program prints a Go program, which is compiled with these flags, and is the one to test.
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
        source: its source file, or the folder that has its source files.
        kind: its kind in GCC's go-test.exp.
        twin: the name of the C program that makes the same calls without Go; "" if there is none.
        args: its arguments.
        env: its environment variables.
        timeout: in seconds.
        needs: the features that its guest must provide.
        expected: how it should end, and what it should print.
        about: the prose in its header.
        build: how it is built.
        constraints: the options of each `+build` line that counts.
        go_build: the expression of its `//go:build` line, which counts in their place.
        from_gcc: it belongs to GCC's source, and is selected by its name.
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
    build: BuildSpec = BuildSpec()
    constraints: tuple[tuple[str, ...], ...] = ()
    go_build: str = ""
    from_gcc: bool = False
    twin: str = ""

    @property
    def is_c(self) -> bool:
        """Whether it is a C program, which has no libgo."""
        return self.source.suffix == ".c"

    @property
    def word(self) -> str:
        """The term that selects it for a run, from any folder: its name if it has one by itself, else a path."""
        source = self.source.absolute()
        return self.name if self.from_gcc or own_program(source) else str(source)

    def fits(self, target: Target, variant: conf.Variant) -> bool:
        """Whether it can be built for a target with a variant. A prebuilt libgo has no sources of its packages."""
        if self.build.package and variant.prebuilt:
            return False

        def has(tag: str) -> bool:
            return target.has(tag, ("gccgo",))

        if self.go_build:
            return expression(self.go_build, has)
        return all(any_of(options, has) for options in self.constraints)


@dataclass(frozen=True)
class Suite:
    """A suite of the harness's own. `about` is the first paragraph of its README.md, or ''."""

    name: str
    folder: Path
    about: str


class CellKey(NamedTuple):
    """A cell of the matrix: the names of its guest, its variant and its program."""

    guest: str
    variant: str
    program: str


@dataclass(frozen=True)
class TrialSpec:
    """One trial to be made.

    Attributes:
        number: counts from 1 within its cell.
        seed: what its program gets as its seed if the trial is seeded; None means the number.
    """

    guest: str
    variant: str
    program: Program
    number: int
    seed: int | None = None
    seeded: bool = False

    @property
    def own_seed(self) -> int:
        """The seed that its program gets, if it is seeded."""
        return self.number if self.seed is None else self.seed

    @property
    def cell(self) -> CellKey:
        """The cell that the trial counts in."""
        return CellKey(self.guest, self.variant, self.program.name)
