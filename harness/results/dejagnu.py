"""A matrix as DejaGnu's .sum file, and the other way round, so that GCC's scripts and its test results go together.

A column is a variation (`Running target GUEST/VARIANT`), a cell a test, named as GCC names it where the program is one
of GCC's. Knows matrices and the names of suites, and runs nothing.

Source: DejaGnu 1.6.3, framework.exp (log_summary) and runtest.exp; GCC's gcc/testsuite/lib/go-torture.exp for the names
of tests.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from enum import StrEnum

from harness.conf.model import Suite
from harness.errors import StoreError
from harness.escapes import one_line
from harness.results.matrix import Cell, Column, Matrix
from harness.results.statistics import wilson


class Result(StrEnum):
    """A test's result, in the order of a summary."""

    PASS = "expected passes"
    FAIL = "unexpected failures"
    XPASS = "unexpected successes"
    XFAIL = "expected failures"
    UNRESOLVED = "unresolved testcases"
    UNTESTED = "untested testcases"
    UNSUPPORTED = "unsupported tests"


#: How GCC's go-test.exp compiles the programs that it runs.
_OPTIONS = "-O2 -g"
_TESTSUITE = "gcc/testsuite/"
_HEADING = re.compile(r"^\t\t=== \S+ tests ===$", re.MULTILINE)
_TARGET = re.compile(r"Running target (?P<name>\S+)")
_LINE = re.compile(r"(?P<result>X?PASS|X?FAIL|KPASS|KFAIL|UNRESOLVED|UNTESTED|UNSUPPORTED): (?P<name>.*\S)\s*")
_EXECUTION = re.compile(r"(?P<program>\S+) (?:execution,?|compilation failed to produce executable) *(?P<options>.*)")
#: A test of the compiler alone.
_COMPILED = re.compile(r"\(test for .*\)$")
#: The name of a fact that tells a matrix that was read from a .sum file.
FACT = "results"


def sum_text(matrix: Matrix, suites: Mapping[str, Suite]) -> Iterator[str]:
    """The lines of a .sum file. Each variation has a summary as that of a run with a single one: dg-cmp-results.sh goes
    on to the next heading of that form, and would take several for one.

    Args:
        suites: those in GCC's source, by name.
    """
    created = datetime.fromisoformat(str(matrix.run.get("created") or "1970-01-01T00:00:00+00:00"))
    compilers = [_version(str(banner)) for _, banner in sorted(dict(matrix.run.get("gcc") or {}).items())]
    unfinished = matrix.run.get("finished") == "no"
    targets = [one_line(f"{column.guest}/{column.variant}") for column in matrix.columns]
    yield f"Test run by harness on {created:%a %b %e %H:%M:%S %Y}"
    yield f"Native configuration is {one_line('+'.join(matrix.guests))}"
    yield from ("", "\t\t=== go tests ===", "", "Schedule of variations:", *(f"    {target}" for target in targets), "")
    for place, target in enumerate(targets):
        yield f"Running target {target}"
        counts: Counter[Result] = Counter()
        for cell in matrix.cells[place :: len(matrix.columns)]:
            result = _result(cell, unfinished)
            counts[result] += 1
            yield f"{result.name}: {one_line(test_name(cell.program, suites))}"
        yield from _summary(counts)
        yield ""
    yield from compilers
    yield ""


def _version(banner: str) -> str:
    """A compiler's version as GCC's tests print it at the end."""
    match = re.fullmatch(r"(\S+) \((.*)\) (\S+)", one_line(banner))
    return f"{match[1]} version {match[3]} ({match[2]})" if match else f"gccgo version {one_line(banner)}"


def _summary(counts: Mapping[Result, int]) -> Iterator[str]:
    yield from ("", "\t\t=== go Summary ===", "")
    for result in Result:
        if counts.get(result):
            text = f"# of {result}"
            yield text + "\t" * (1 + (len(text) < 24)) + str(counts[result])


def _result(cell: Cell, unfinished: bool) -> Result:
    """What DejaGnu would call a cell. One test has one result: a cell of which some trials fail, fails."""
    if not cell.trials:
        return Result.UNRESOLVED if cell.errors or unfinished else Result.UNSUPPORTED
    failed = cell.trials - cell.passed
    if failed:
        return Result.XFAIL if cell.known == failed else Result.FAIL
    return Result.XPASS if cell.contradicts else Result.PASS


def test_name(program: str, suites: Mapping[str, Suite]) -> str:
    """The name of a program's test, with the options that it is compiled with; GCC's own for GCC's programs."""
    suite_name, _, name = program.partition("/")
    suite = suites.get(suite_name)
    if suite and suite.kind == "packages":
        return name
    if suite and suite.kind == "go.test":
        return f"{suite.source.removeprefix(_TESTSUITE)}/{name}.go execution,  {_OPTIONS} "
    if suite and suite.kind == "torture":
        option, _, file = name.partition("/")
        flags = " ".join(suite.options.get(option, []))
        return f"{suite.source.removeprefix(_TESTSUITE)}/{file}.go execution,  {flags} "
    return f"{program}.go execution,  {_OPTIONS} "


def program_name(test: str, suites: Mapping[str, Suite]) -> str:
    """The program of a test, the other way round; '' for a test that none of the suites has."""
    match = _EXECUTION.fullmatch(test.strip())
    if match is None:
        packages = next((name for name, suite in suites.items() if suite.kind == "packages"), "")
        return f"{packages}/{test}" if packages and re.fullmatch(r"[\w./-]+", test) else ""
    file, options = match["program"].removesuffix(".go"), match["options"].split()
    for suite_name, suite in suites.items():
        folder = f"{suite.source.removeprefix(_TESTSUITE)}/"
        if not file.startswith(folder):
            continue
        name = file.removeprefix(folder)
        if suite.kind == "go.test":
            return f"{suite_name}/{name}"
        option = next((option for option, flags in suite.options.items() if flags == options), None)
        return f"{suite_name}/{option}/{name}" if suite.kind == "torture" and option else ""
    return file if "/" in file and not file.startswith(("go.test/", "go.go-torture/")) else ""


def is_sum(text: str) -> bool:
    """Whether a text is a .sum file."""
    return _HEADING.search(text) is not None


def parse(text: str, name: str, suites: Mapping[str, Suite]) -> Matrix:
    """The matrix in a .sum file: each result is a trial, a variation that is not GUEST/VARIANT a guest of that name.

    A test of no program of the suites is a program of its own name, and tests of the compiler alone are left out.

    Args:
        name: the file's, for errors and as a fact.

    Raises:
        StoreError: it has no result.
    """
    column, cells = Column("unix", ""), dict[tuple[Column, str], Cell]()
    columns: dict[Column, None] = {}
    for line in text.splitlines():
        if target := _TARGET.match(line):
            guest, _, variant = target["name"].partition("/")
            column = Column(guest, variant)
        if (match := _LINE.fullmatch(line)) and not _COMPILED.search(match["name"]):
            test = match["name"]
            program = program_name(test, suites) or test
            columns[column] = None
            cell = cells.setdefault((column, program), Cell(column.guest, column.variant, program))
            _count(cell, match["result"])
    if not cells:
        raise StoreError(f"{name}: has no result of a test that runs")
    programs = list(dict.fromkeys(program for _, program in cells))
    guests = list(dict.fromkeys(column.guest for column in columns))
    variants = list(dict.fromkeys(column.variant for column in columns))
    all_cells = [
        cells.get((Column(guest, variant), program)) or Cell(guest, variant, program)
        for program in programs
        for guest in guests
        for variant in variants
    ]
    for cell in all_cells:
        if cell.trials:
            cell.interval = wilson(cell.passed, cell.trials)
    return Matrix({FACT: f"DejaGnu's {name}"}, guests, variants, programs, "", all_cells, [])


def _count(cell: Cell, result: str) -> None:
    """Add a result to a cell."""
    match result:
        case "PASS" | "XPASS" | "KPASS":
            cell.counts["pass"] += 1
            if result != "PASS":
                cell.contradicts = "a known failure, which passed"
        case "FAIL" | "XFAIL" | "KFAIL":
            cell.counts["fail"] += 1
            cell.known += result != "FAIL"
        case "UNRESOLVED":
            cell.errors += 1


def align(matrix: Matrix, other: Matrix) -> Matrix:
    """A matrix to be compared with another one.

    If it was read from a .sum file and the other one was not, DejaGnu's results stand for each column of the other one,
    unless they have that very column; tests of no program of the harness are left out. Else it is as it was.
    """
    if FACT not in matrix.run or FACT in other.run:
        return matrix
    own = set(matrix.columns)
    by_program = {(Column(cell.guest, cell.variant), cell.program): cell for cell in matrix.cells}
    known = {cell.program for cell in other.cells}
    programs = [program for program in matrix.programs if program in known or " " not in program]
    first = matrix.columns[0]
    cells = [
        replace(cell, guest=column.guest, variant=column.variant)
        for program in programs
        for column in other.columns
        if (cell := by_program.get((column if column in own else first, program)))
    ]
    run = {**other.run, **matrix.run}
    return replace(matrix, run=run, guests=other.guests, variants=other.variants, programs=programs, cells=cells)
