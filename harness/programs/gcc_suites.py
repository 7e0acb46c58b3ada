"""Suites that lie in GCC's own source: what suites/NAME/suite.yaml says of one, and the programs it has.

The programs stay where they are; the YAML says where, and what GCC's own scripts know of single programs. Reads source
files, compiles and runs nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cache, partial
from pathlib import Path

import pydantic

from harness import paths
from harness.conf.load import explain
from harness.conf.model import Special, Suite
from harness.conf.read import read
from harness.errors import ConfigError, ProgramError
from harness.programs.header import parse_expectation
from harness.programs.model import BuildSpec, Expectation, Program
from harness.programs.select import Listing

#: The kinds of go.test program that are run; the others only try the compiler.
RUN = ("run", "rundir", "runoutput")
#: How GCC compiles what a `runoutput` program prints (gcc/testsuite/go.test/go-test.exp).
_OUTPUT_FLAGS = ("-O0", "-g", "-fno-var-tracking-assignments")


@dataclass(frozen=True)
class Contents:
    """What a suite has.

    Attributes:
        programs: those that are run.
        skipped: those that are not, with the reason.
        kinds: how many programs there are of each kind.
    """

    programs: list[Program]
    skipped: dict[str, str]
    kinds: Counter[str] = field(default_factory=Counter)


def suites() -> dict[str, Suite]:
    """The suites by name. Raises ConfigError if a suite.yaml is wrong."""
    suites_ = {}
    for file in sorted((paths.DATA / "suites").glob("*/suite.yaml")):
        data, marks = read(file)
        if "source" in data:
            try:
                suites_[file.parent.name] = Suite.model_validate(data)
            except pydantic.ValidationError as error:
                raise ConfigError(explain(error, marks, Suite)) from error
    return suites_


def listings(gcc: Callable[[], Path]) -> dict[str, Listing]:
    """What lists the programs of each suite. `gcc` gives GCC's top folder, and is called only if that is needed."""

    @cache  # asked again for each word that selects of it
    def programs(name: str) -> list[Program]:
        return contents(name, known[name], gcc()).programs

    known = suites()
    return {name: partial(programs, name) for name in known}


def contents(name: str, suite: Suite, gcc: Path) -> Contents:
    """List a suite's programs.

    Args:
        gcc: GCC's top folder.

    Raises:
        ProgramError: the suite is not there, or suite.yaml says something wrong of a program.
    """
    place = gcc / suite.source
    if not place.exists():
        raise ProgramError(f"suite {name}: GCC's source has no {suite.source} at {gcc}")
    makers = {"go.test": _go_test, "torture": _torture, "testprog": _testprog, "packages": _packages}
    programs: list[Program] = []
    skipped: dict[str, str] = {}
    kinds: Counter[str] = Counter()
    for program in makers[suite.kind](suite, place):
        kinds[program.kind] += 1
        special = _said(suite, program.name)
        if suite.kind == "go.test" and program.kind not in RUN:
            continue
        if special.skip:
            skipped[program.name] = special.skip
            continue
        whole = f"{name}/{program.name}"
        try:
            expected = parse_expectation(program.expected, special.expect) if special.expect else program.expected
        except ValueError as error:
            raise ProgramError(f"suite {name}: {program.name}: {error}") from error
        build = program.build
        if special.flags:
            build = replace(build, flags=(*build.flags, *special.flags))
        programs.append(
            replace(
                program,
                name=whole,
                args=(*program.args, *special.args),
                env={**program.env, **special.env},
                timeout=special.timeout or suite.timeout,
                needs=tuple(special.needs),
                expected=expected,
                build=build,
                foreign=True,
            )
        )
    return Contents(programs, skipped, kinds)


def _said(suite: Suite, name: str) -> Special:
    """What is said of a program: by its own name, else by the first pattern that fits."""
    return suite.programs.get(name) or next(
        (special for pattern, special in suite.programs.items() if fnmatchcase(name, pattern)), Special()
    )


@dataclass(frozen=True)
class Header:
    """What the first lines of a go.test program say: the line that counts, and the words of the `+build` lines."""

    line: str
    constraints: tuple[tuple[str, ...], ...]


def header(text: str) -> Header:
    """Read a program's first lines as go-test.exp does, up to the first that is neither empty nor begins with `// `."""
    line, constraints = "", []
    for line_ in text.splitlines():
        if not line_.startswith("// "):
            if line_:
                break
            continue
        if line_.startswith("// +build "):
            constraints.append(tuple(line_.split()[2:]))
        elif not line:
            line = line_
    return Header(line.removeprefix("// "), tuple(constraints))


def _go_test(suite: Suite, top: Path) -> Iterator[Program]:
    """The tests among the files below go.test/test; the others are parts of tests (go-test.exp, go-gc-tests)."""
    for file in sorted(top.glob("**/*.go")):
        place = file.relative_to(top)
        if len(place.parts) > 2 or place.parts[0] in ("bench", "stress", "safe") or place.parent.suffix == ".dir":
            continue
        head = header(file.read_text(encoding="utf-8", errors="replace"))
        kind, *arguments = head.line.split() or ["none"]
        program = Program(str(place.with_suffix("")), file, kind, constraints=head.constraints)
        yield _as_kind(program, arguments) if kind in RUN else program


def _as_kind(program: Program, arguments: list[str]) -> Program:
    """A program with what the words after its kind mean."""
    file = program.source
    files = [file.parent / word for word in arguments if word.endswith(".go")]
    expected = Expectation(gcc=True)
    if (out := file.with_suffix(".out")).is_file():
        expected = replace(expected, output=out.read_bytes())
    program = replace(program, expected=expected)
    if program.kind == "rundir":
        return replace(program, build=BuildSpec(packages=_packages_of(file.with_suffix(".dir"))))
    build = BuildSpec(packages=((file, *files),)) if files else BuildSpec()
    if program.kind == "runoutput":
        return replace(program, build=replace(build, output_flags=_OUTPUT_FLAGS))
    # `run -gcflags=...` carries flags of another compiler.
    args = () if files or (arguments and arguments[0].startswith("-")) else tuple(arguments)
    return replace(program, build=build, args=args)


def _packages_of(folder: Path) -> tuple[tuple[Path, ...], ...]:
    """The files of a folder by package, in the order in which the packages first occur (go-find-packages)."""
    packages: dict[str, list[Path]] = {}
    for file in sorted(folder.glob("*.go")):
        match = re.search(r"^package (\w+)", file.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
        packages.setdefault(match[1] if match else "", []).append(file)
    return tuple(map(tuple, packages.values()))


def _torture(suite: Suite, folder: Path) -> Iterator[Program]:
    for file in sorted(folder.glob("*.go")):
        for option, flags in suite.options.items():
            build = BuildSpec(flags=tuple(flags))
            yield Program(f"{option}/{file.stem}", file, build=build, expected=Expectation(gcc=True))


def _testprog(suite: Suite, folder: Path) -> Iterator[Program]:
    for name in suite.programs:
        yield Program(name, folder, args=(name,), build=BuildSpec(folder=folder))


def _packages(suite: Suite, file: Path) -> Iterator[Program]:
    # testing's own limit comes first, so that it can say which test ran; gotest kills 10 s later.
    for package in file.read_text().split():
        limit = _said(suite, package).timeout or suite.timeout
        args = ("-test.short", "-test.v", f"-test.timeout={limit - 10:.0f}s")
        build = BuildSpec(package=package)
        folder = file.parent / "go" / package
        yield Program(package, folder, "package", args, expected=Expectation(tests=True), build=build)
