"""Suites in GCC's own source: their descriptions in suites/NAME/suite.yaml, and the programs that they have.

The programs stay where they are. The YAML says where that is, and has what GCC's own scripts know of single programs.
Reads source files, and compiles and runs nothing.
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

#: The kinds of go.test program that are run; the others test only the compiler.
RUN = ("run", "rundir", "runoutput")
#: How GCC compiles what a `runoutput` program prints (gcc/testsuite/go.test/go-test.exp).
_OUTPUT_FLAGS = ("-O0", "-g", "-fno-var-tracking-assignments")


@dataclass(frozen=True)
class Contents:
    """A suite's programs.

    Attributes:
        programs: those that are run.
        skipped: the names of the others of these kinds, with the reasons.
        kinds: how many programs there are of each kind.
    """

    programs: list[Program]
    skipped: dict[str, str]
    kinds: Counter[str] = field(default_factory=Counter)


def suites() -> dict[str, Suite]:
    """The suites by name. Raises ConfigError if a suite.yaml is invalid."""
    suites_by_name = {}
    for file in sorted((paths.DATA / "suites").glob("*/suite.yaml")):
        data, marks = read(file)
        if "source" in data:
            try:
                suites_by_name[file.parent.name] = Suite.model_validate(data)
            except pydantic.ValidationError as error:
                raise ConfigError(explain(error, marks, Suite)) from error
    return suites_by_name


def listings(gcc: Callable[[], Path]) -> dict[str, Listing]:
    """Functions that list the programs of each suite.

    Args:
        gcc: gives GCC's top folder. It is called only when a suite is listed.
    """

    @cache  # a suite is listed for each term that selects from it
    def programs(name: str) -> list[Program]:
        return contents(name, known[name], gcc()).programs

    known = suites()
    return {name: partial(programs, name) for name in known}


def contents(name: str, suite: Suite, gcc: Path) -> Contents:
    """List a suite's programs.

    Args:
        name: the suite's name.
        suite: its description.
        gcc: GCC's top folder.

    Raises:
        ProgramError: GCC's source does not have the suite, or suite.yaml has a wrong expectation of a program.
    """
    source = gcc / suite.source
    if not source.exists():
        raise ProgramError(f"suite {name}: GCC's source at {gcc} has no {suite.source}")
    readers = {"go.test": _go_test, "torture": _torture, "testprog": _testprog, "packages": _packages}
    programs: list[Program] = []
    skipped: dict[str, str] = {}
    kinds: Counter[str] = Counter()
    for program in readers[suite.kind](suite, source):
        kinds[program.kind] += 1
        special = _special(suite, program.name)
        if suite.kind == "go.test" and program.kind not in RUN:
            continue
        if special.skip:
            skipped[program.name] = special.skip
            continue
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
                name=f"{name}/{program.name}",
                args=(*program.args, *special.args),
                env={**program.env, **special.env},
                timeout=special.timeout or suite.timeout,
                needs=tuple(special.needs),
                expected=expected,
                build=build,
                from_gcc=True,
            )
        )
    return Contents(programs, skipped, kinds)


def _special(suite: Suite, name: str) -> Special:
    """The suite's entry for a program: that of its name, else that of the first pattern that matches."""
    return suite.programs.get(name) or next(
        (special for pattern, special in suite.programs.items() if fnmatchcase(name, pattern)), Special()
    )


@dataclass(frozen=True)
class Header:
    """The first lines of a go.test program: the directive, and the terms of each `+build` line."""

    directive: str
    constraints: tuple[tuple[str, ...], ...]


def header(text: str) -> Header:
    """Read a program's first lines as go-test.exp does, up to a line that is not empty and not a `// ` comment."""
    directive, constraints = "", []
    for line in text.splitlines():
        if not line.startswith("// "):
            if line:
                break
            continue
        if line.startswith("// +build "):
            constraints.append(tuple(line.split()[2:]))
        elif not directive:
            directive = line
    return Header(directive.removeprefix("// "), tuple(constraints))


def _go_test(suite: Suite, top: Path) -> Iterator[Program]:
    """The tests among the files below go.test/test. The other files are parts of tests (go-test.exp, go-gc-tests)."""
    for file in sorted(top.glob("**/*.go")):
        place = file.relative_to(top)
        if len(place.parts) > 2 or place.parts[0] in ("bench", "stress", "safe") or place.parent.suffix == ".dir":
            continue
        head = header(file.read_text(encoding="utf-8", errors="replace"))
        kind, *arguments = head.directive.split() or ["none"]
        program = Program(str(place.with_suffix("")), file, kind, constraints=head.constraints)
        yield _with_arguments(program, arguments) if kind in RUN else program


def _with_arguments(program: Program, arguments: list[str]) -> Program:
    """A program with the meaning of the words after its kind: files, or arguments."""
    file = program.source
    files = [file.parent / name for name in arguments if name.endswith(".go")]
    expected = Expectation(gcc=True)
    if (out := file.with_suffix(".out")).is_file():
        expected = replace(expected, output=out.read_bytes())
    program = replace(program, expected=expected)
    if program.kind == "rundir":
        return replace(program, build=BuildSpec(packages=_packages_of(file.with_suffix(".dir"))))
    build = BuildSpec(packages=((file, *files),)) if files else BuildSpec()
    if program.kind == "runoutput":
        return replace(program, build=replace(build, output_flags=_OUTPUT_FLAGS))
    # `run -gcflags=...` has flags for another compiler.
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
    # Package testing's own limit is 10 s shorter, so that it can print the running test before the program is killed.
    for package in file.read_text().split():
        limit = _special(suite, package).timeout or suite.timeout
        args = ("-test.short", "-test.v", f"-test.timeout={limit - 10:.0f}s")
        build = BuildSpec(package=package)
        folder = file.parent / "go" / package
        yield Program(package, folder, "package", args, expected=Expectation(tests=True), build=build)
