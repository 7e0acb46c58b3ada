"""DejaGnu's .sum files: written so that GCC's own scripts read them, and read so that they are compared with runs."""

import re
import subprocess
from datetime import date
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from harness.build.toolchain import GCC_VERSIONS
from harness.cli.app import main
from harness.errors import StoreError
from harness.programs import gcc_suites
from harness.results import dejagnu
from harness.results.build_matrix import build_matrix
from harness.results.compare import compare
from harness.results.expected import Entry
from harness.results.plan import RunPlan
from harness.results.store import Store
from harness.trial.record import Trial, Verdict

SUITES = gcc_suites.suites()
GUEST, VARIANTS = "linux-i386", ["pristine", "no-thread-destruction"]
PROGRAMS = ["threads/lock-ring", "gcc-go/ken/cplx2", "gcc-go-torture/O2-inline/array-1", "libgo-packages/net/http"]
SCRIPTS = ("test_summary", "compare_tests", "dg-cmp-results.sh")


def trial(number, variant, program, verdict):
    status = None if verdict == "error" else int(verdict != "pass")
    return Trial(
        number, GUEST, variant, program, 1, 1, Verdict(verdict), "", "", status, "", 1.0, b"", b"", 0, 0, "", "x"
    )


def matrix_of(verdicts, programs=PROGRAMS, expected=(), finished="2026-11-30T06:00:00+00:00"):
    """A run with the verdicts of each variant's programs; None is no trial."""
    run = {
        "created": "2026-11-30T05:00:00+00:00",
        "finished": finished,
        "gcc": {"x": "x-gccgo-12 (Debian 12.2.0-1) 12.2.0"},
    }
    cells = [(variant, program) for program in programs for variant in VARIANTS]
    trials = [
        trial(number, *cell, verdict)
        for number, (cell, verdict) in enumerate(zip(cells, verdicts, strict=True), start=1)
        if verdict
    ]
    return build_matrix(
        run, [GUEST], VARIANTS, programs, "pristine", trials, [], expected=expected, day=date(2026, 11, 30)
    )


def text_of(matrix):
    return "\n".join(dejagnu.sum_text(matrix, SUITES))


@pytest.fixture(scope="module")
def contrib(tmp_path_factory):
    """GCC's own scripts, from the source package."""
    archives = [file for major in GCC_VERSIONS for file in Path(f"/usr/src/gcc-{major}").glob(f"gcc-{major}.*.tar.xz")]
    folder = tmp_path_factory.mktemp("contrib")
    tar = ["tar", "-xf", archives[-1], "-C", folder, "--strip-components=2", "--wildcards"]
    subprocess.run([*tar, *(f"*/contrib/{script}" for script in SCRIPTS)], check=True)
    return folder


def script(contrib, folder, name, *words):
    process = subprocess.run(["bash", contrib / name, *words], cwd=folder, capture_output=True, text=True, check=False)
    assert not process.stderr, process.stderr
    return process.stdout


def test_gcc_s_scripts_read_it(contrib, tmp_path):
    old, new = matrix_of(["pass"] * 8), matrix_of(["pass", "crash", "pass", "hang", *["pass"] * 4])
    for name, matrix in (("old.sum", old), ("new.sum", new)):
        (tmp_path / name).write_text(text_of(matrix))
    changes = script(contrib, tmp_path, "compare_tests", "old.sum", "new.sum")
    assert changes.startswith("Tests that now fail, but worked before (2 tests):")
    assert f"{GUEST}/no-thread-destruction: threads/lock-ring.go execution,  -O2 -g" in changes
    assert not script(contrib, tmp_path, "compare_tests", "old.sum", "old.sum")
    for variant, failures in (("pristine", 0), ("no-thread-destruction", 2)):
        output = script(contrib, tmp_path, "dg-cmp-results.sh", f"{GUEST}\\/{variant}", "old.sum", "new.sum")
        assert output.count("PASS->FAIL:") == failures, output
    (tmp_path / "old.sum").unlink()
    (tmp_path / "config.status").write_text("#!/bin/sh\necho \"'/src/gcc/configure' '--enable-languages=go'\"\n")
    (tmp_path / "config.status").chmod(0o755)
    mail = script(contrib, tmp_path, "test_summary", "-t")
    assert "# of unexpected failures\t2" in mail and f"Running target {GUEST}/pristine" in mail
    assert "FAIL: go.test/test/ken/cplx2.go execution,  -O2 -g" in mail
    assert "Compiler version: 12.2.0 (Debian 12.2.0-1) go" in mail and f"Platform: {GUEST}" in mail


@pytest.mark.parametrize(
    ("verdicts", "expected", "finished", "results"),
    [
        (["pass", "fail"], [], "yes", ["PASS", "FAIL"]),
        (["crash", "hang"], [], "yes", ["FAIL", "FAIL"]),
        (["error", None], [], "yes", ["UNRESOLVED", "UNSUPPORTED"]),
        ([None, None], [], "no", ["UNRESOLVED", "UNRESOLVED"]),
        (["fail", "pass"], ["fail"], "yes", ["XFAIL", "XPASS"]),
    ],
)
def test_each_result(verdicts, expected, finished, results):
    entries = [
        Entry("*", "*", "threads/lock-ring", (verdict,), "", "known", date(2099, 1, 1), False, "f:1")
        for verdict in expected
    ]
    text = text_of(matrix_of(verdicts, ["threads/lock-ring"], entries, finished))
    assert re.findall(r"^(\w+): threads/lock-ring.go execution,  -O2 -g $", text, re.MULTILINE) == results
    names = dict.fromkeys(dejagnu.Result[result].value for result in results)
    assert all(f"# of {name}\t" in text for name in names)


def test_a_flaky_cell_fails():
    run = {"created": "2026-11-30T05:00:00+00:00", "finished": "yes"}
    trials = [trial(1, "pristine", "a/b", "pass"), trial(2, "pristine", "a/b", "crash")]
    assert "FAIL: a/b.go" in text_of(build_matrix(run, [GUEST], ["pristine"], ["a/b"], "pristine", trials, []))


@pytest.mark.parametrize(
    ("program", "test"),
    [
        ("threads/lock-ring", "threads/lock-ring.go execution,  -O2 -g "),
        ("gcc-go/ken/cplx2", "go.test/test/ken/cplx2.go execution,  -O2 -g "),
        ("gcc-go-torture/O0/array-1", "go.go-torture/execute/array-1.go execution,  -O0 "),
        (
            "gcc-go-torture/O2-inline/array-1",
            "go.go-torture/execute/array-1.go execution,  -O2 -fomit-frame-pointer -finline-functions ",
        ),
        ("libgo-packages/net/http", "net/http"),
    ],
)
def test_names_of_programs_and_tests(program, test):
    assert dejagnu.test_name(program, SUITES) == test
    assert dejagnu.program_name(test, SUITES) == program
    assert dejagnu.program_name(test.strip(), SUITES) == program


@pytest.mark.parametrize(
    "test", ["gcc.dg/x.c (test for warnings, line 3)", "go.go-torture/execute/a.go execution,  -Oz"]
)
def test_tests_of_no_program(test):
    assert dejagnu.program_name(test, SUITES) == ""


@given(st.lists(st.sampled_from(["pass", "fail", "crash", "hang", "error", None]), min_size=8, max_size=8))
def test_what_is_written_is_read_again(verdicts):
    matrix = matrix_of(verdicts)
    again = dejagnu.parse(text_of(matrix), "go.sum", SUITES) if any(verdicts) else matrix
    for cell in again.cells:
        before = next(c for c in matrix.cells if (c.variant, c.program) == (cell.variant, cell.program))
        assert (cell.passed, cell.trials) == (before.passed, before.trials)


SUM = """Test run by user on Mon Dec  5 10:00:00 2016
Native configuration is i686-pc-linux-gnu

\t\t=== go tests ===

Schedule of variations:
    unix

Running target unix
PASS: go.test/test/ken/cplx2.go (test for excess errors)
FAIL: go.test/test/ken/cplx2.go execution,  -O2 -g\x20
PASS: go.test/test/ken/array.go execution,  -O2 -g\x20
PASS: net/http
UNRESOLVED: go.test/test/ken/string.go compilation failed to produce executable
XFAIL: go.test/test/ken/label.go execution,  -O2 -g\x20
PASS: go.test/test/assign.go  (test for errors, line 20)

\t\t=== go Summary ===

# of expected passes\t\t2
"""


def test_results_of_dejagnu_stand_for_each_column():
    programs = ["gcc-go/ken/cplx2", "gcc-go/ken/array", "threads/lock-ring"]
    run = matrix_of(["pass", "pass", "pass", "crash", "pass", "pass"], programs)
    results = dejagnu.parse(SUM, "go.sum", SUITES)
    assert len(results.cells) == 5, "tests of the compiler alone are left out"
    comparison = compare(dejagnu.align(results, run), dejagnu.align(run, results))
    kinds = {(change.program, change.variant): change.kind for change in comparison.cells}
    assert kinds["gcc-go/ken/array", "no-thread-destruction"] == "new failure"
    assert kinds["gcc-go/ken/array", "pristine"] == "same"
    assert kinds["gcc-go/ken/cplx2", "pristine"] == "changed"
    assert kinds["threads/lock-ring", "pristine"] == "new"
    assert comparison.facts == {"results": ("DejaGnu's go.sum", "")}
    back = compare(dejagnu.align(run, results), dejagnu.align(results, run))
    assert {change.kind for change in back.cells if change.program == "gcc-go/ken/cplx2"} == {"new failure"}


def test_two_files_of_dejagnu():
    old, new = (
        dejagnu.parse(text, "go.sum", SUITES) for text in (SUM, SUM.replace("PASS: net/http", "FAIL: net/http"))
    )
    comparison = compare(dejagnu.align(old, new), dejagnu.align(new, old))
    assert [change.program for change in comparison.changed()] == ["libgo-packages/net/http"]


def test_a_file_without_results():
    with pytest.raises(StoreError, match="no result of a test that runs"):
        dejagnu.parse(SUM.partition("Running")[0], "go.sum", SUITES)
    assert dejagnu.is_sum(SUM) and not dejagnu.is_sum("PASS: words\n")


def test_the_commands(tmp_path):
    store = Store(tmp_path / "work" / "results.sqlite")
    plan = {"guests": [GUEST], "variants": ["pristine"], "programs": ["gcc-go/ken/cplx2"], "trials": 1, "facts": {}}
    run = store.begin(RunPlan.model_validate(plan))
    store.add(run, trial(1, "pristine", "gcc-go/ken/cplx2", "pass"))
    work = ("--work", str(tmp_path / "work"))
    result = CliRunner().invoke(main, ["show", "--format", "sum", *work])
    assert result.exit_code == 0 and "\nPASS: go.test/test/ken/cplx2.go execution,  -O2 -g \n" in result.stdout
    (tmp_path / "go.sum").write_text(SUM)
    result = CliRunner().invoke(main, ["compare", "1", str(tmp_path / "go.sum"), "--gate", "new", *work])
    assert result.exit_code == 1 and "new failure gcc-go/ken/cplx2, linux-i386, pristine" in result.stdout
