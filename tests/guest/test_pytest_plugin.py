"""pytest as a door: what is collected, what is left alone, and one session's outcomes with a real guest."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

import harness.run.conductor
from harness import paths
from harness.programs.select import select_programs
from harness.results.store import Store

pytest_plugins = ["pytester"]

#: Loaded before pytester notes which modules there are: what a session in this process loads, it forgets again.
assert harness.run.conductor
#: Pytester gives sessions another home, which has nothing built.
CACHE = str(paths.cache_dir().parent)

PROGRAM = "// run\n\npackage main\n\nfunc main() {\n%s\n}\n"
COLUMNS = ("linux-i386[pristine]", "linux-i386[no-thread-destruction]")


@pytest.fixture
def demo(pytester, monkeypatch):
    """A folder of a user's own repository: two tests, an ordinary Go file and one that is only compiled."""

    def put(**more):
        texts = {"ok": PROGRAM % "", "other": PROGRAM % "\tprintln(1)", **more}
        for name, text in {**texts, "library": "package main\n", "compiled": "// compile\n\npackage p\n"}.items():
            path = pytester.path / "demo" / f"{name}.go"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)

    monkeypatch.setenv("XDG_CACHE_HOME", CACHE)
    put()
    return put


def collected(pytester, *words):
    """The ids of what a session collects, and its exit status."""
    result = pytester.runpytest("--collect-only", "-q", *words)
    return [line for line in result.outlines if "::" in line], result


def test_a_folder_of_programs_has_an_item_for_each_cell(pytester, demo):
    ids, _ = collected(pytester, "demo")
    assert ids == [f"demo/{name}.go::{column}" for name in ("ok", "other") for column in COLUMNS]
    assert collected(pytester, "demo", "-k", "other and pristine")[0] == ["demo/other.go::linux-i386[pristine]"]
    assert collected(pytester, f"demo/ok.go::{COLUMNS[1]}")[0] == [f"demo/ok.go::{COLUMNS[1]}"]
    assert collected(pytester, "demo/library.go", "--variant", "distro")[0] == ["demo/library.go::linux-i386[distro]"]
    assert len(collected(pytester, "--variant", "pristine")[0]) == 2, "an option asks for Go files everywhere"


def test_a_folder_has_the_programs_that_harness_run_finds_there(pytester, demo):
    """Those below it too, each once whatever links there are, and none where nobody looks."""
    for place in ("sub/deep", "testdata", "build", ".hidden"):
        folder = pytester.path / "demo" / place
        folder.mkdir(parents=True)
        (folder / "ok.go").write_text(PROGRAM % "")
    (pytester.path / "demo/sub/loop").symlink_to("..")
    (pytester.path / "demo/forgotten.go").write_text(PROGRAM.removeprefix("// run\n") % "")
    ids, result = collected(pytester, ".", "--variant", "pristine")
    assert [each.partition("::")[0] for each in ids] == ["demo/ok.go", "demo/other.go", "demo/sub/deep/ok.go"]
    assert sorted(str(program.source.relative_to(pytester.path)) for program in select_programs(["demo"])) == [
        each.partition("::")[0] for each in ids
    ]
    result = pytester.runpytest("--collect-only", "demo", "--variant", "pristine")
    result.stdout.fnmatch_lines(["not run, for want of `// run` as the first comment: demo/forgotten.go"])
    assert collected(pytester, "demo/testdata", "--variant", "pristine")[0] == [
        "demo/testdata/ok.go::linux-i386[pristine]"
    ]
    assert collected(pytester, "demo", "--variant", "pristine", "-p", "no:cacheprovider", "--rootdir", "/")[0]


def test_what_keeps_a_run_from_its_trials_is_told_in_a_sentence(pytester, demo):
    """No trace of what an error came of, nor what is logged on the way, which the run's folder has."""
    pytester.makeconftest("""
        import logging
        import harness.run.conductor
        from harness.errors import GuestError
        from harness.guest.shell import _SILENT

        def fails(*_, **__):
            logging.getLogger("harness.guest.machine").warning("the log's own words")
            _SILENT.error("paramiko's own words")
            logging.getLogger("mine").warning("what others log")
            try:
                raise OSError("paramiko's own words")
            except OSError as error:
                raise GuestError("SSH: the guest does not answer") from error

        harness.run.conductor.run_request = fails
    """)
    result = pytester.runpytest_subprocess("demo/ok.go", "--variant", "pristine", "-o", "log_cli=true")
    result.assert_outcomes(errors=1)
    text = str(result.stdout)
    assert "\nSSH: the guest does not answer\n" in text
    assert "what others log" in text and "own words" not in text and "Traceback" not in text and "conductor" not in text


C = "// run\n\nint\nmain (void)\n{\n}\n"


def put_c(pytester, **texts):
    """C files in a folder of their own."""
    folder = pytester.mkdir("c")
    for name, text in texts.items():
        (folder / f"{name}.c").write_text(text)


def test_c_programs_have_items_too(pytester, demo):
    put_c(pytester, program=C, library="int f (void);\n", skipped="// skip\n", described="// It is for runs.\n")
    cells = [f"c/program.c::{column}" for column in COLUMNS]
    assert collected(pytester, "c")[0] == cells
    assert collected(pytester, "c/program.c")[0] == cells
    assert collected(pytester, "c/library.c", "--variant", "pristine")[0] == ["c/library.c::linux-i386[pristine]"]
    assert collected(pytester, "--variant", "pristine", "-k", "program.c")[0] == cells[:1]
    assert "only `run` tests can be run" in str(collected(pytester, "c/skipped.c")[1].stdout)


@pytest.mark.parametrize(
    "first", ["int f (void);", "// Copyright", "/* run */", "// running", "#include <run>", "\xff"]
)
def test_a_folder_of_other_c_files_is_no_reason_to_take_part(pytester, first):
    put_c(pytester, other=f"{first}\n// run\n")
    (pytester.path / "c/test_light.py").write_text(
        "import sys\n\ndef test_light():\n    assert 'harness.run' not in sys.modules\n"
    )
    pytester.runpytest_subprocess("c").assert_outcomes(passed=1)


def test_sessions_that_ask_for_no_go_file_are_left_alone(pytester, demo):
    pytester.makepyfile("import sys\n\ndef test_light():\n    assert 'harness.run' not in sys.modules\n")
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(passed=1)
    pytester.runpytest_subprocess("-n", "1").assert_outcomes(passed=1)
    assert collected(pytester)[0] == ["test_sessions_that_ask_for_no_go_file_are_left_alone.py::test_light"]
    assert collected(pytester, "-o", "norecursedirs=demo", ".")[0] == collected(pytester)[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["demo", "--guest", "linux-i368"], "no guest named linux-i368; did you mean linux-i386?"),
        (["demo", "--variant", "netpoll-off"], "variant netpoll-off is for i686-gnu, x86_64-gnu only"),
        (["demo", "--trials", "0"], "must be 1 or more, not 0"),
        (["demo", "--harness-conf", "none.yaml"], "none.yaml: cannot be read"),
        (["demo", "--harness-work", "demo/ok.go"], "demo/ok.go is no folder"),
        (["demo/compiled.go"], "is a `compile` test"),
        (["demo/wrong.go"], "wrong.go:2: 'soon' is not a time"),
    ],
)
def test_bad_input_is_told_before_anything_runs(pytester, demo, words, message):
    demo(wrong="// run\n// timeout: soon\n\npackage main\n")
    _, result = collected(pytester, *words)
    assert result.ret != 0
    assert message in str(result.stdout) + str(result.stderr)


def test_what_a_guest_cannot_run_is_skipped(pytester, demo):
    demo(deep="// run\n// needs: split-stack\n\npackage main\n\nfunc main() {}\n")
    result = pytester.runpytest("demo/deep.go", "--variant", "no-split-stack", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*not for linux-i386 with no-split-stack; it needs split-stack*"])


EXPECTED = """
expected:
  - {program: demo/known, verdict: crash, reason: bug 7, expires: 2100-01-01}
  - {program: demo/ok, verdict: crash, reason: bug 8, expires: 2100-01-01}
  - {program: demo/crsh, verdict: crash, reason: bug 9, expires: 2100-01-01}
"""


def test_a_session_with_a_guest(pytester, demo):
    """Outcomes, what is told of a failure, --lf, -x and xdist, as a user of pytest expects them."""
    demo(
        crash=PROGRAM % '\tprintln("\\x1b[31mred")\n\tpanic("no")',
        broken=PROGRAM % "\tno()",
        known=PROGRAM % '\tpanic("known")',
        stays=PROGRAM.replace("// run", "// run\n// timeout: 5m") % "\tfor {\n\t}",
    )
    (pytester.path / "mine.yaml").write_text(EXPECTED)
    words = ["demo", "--variant", "pristine", "--trials", "2", "--harness-conf", "mine.yaml", "--tb=short"]

    result = pytester.runpytest_subprocess(*words, "-k", "not stays", "--junitxml=j.xml", "-rx")
    result.assert_outcomes(passed=1, failed=3, xfailed=1)
    text = str(result.stdout)
    assert "Captured log" not in text
    assert "[XPASS(strict)] crash (bug 8; mine.yaml:4)\n2 of 2 trials passed" in text
    assert "`program: demo/crsh` matches nothing: demo has no such program; did you mean demo/crash?" in text
    opened = re.search(r"harness open (\d+)\n\S*harness run \S+/demo/crash.go", text, re.MULTILINE)
    assert opened and Store(pytester.path / ".harness/results.sqlite").trial(int(opened[1]))[1].program == "demo/crash"
    assert re.search(r"^  crash +✖ crash 0/2 \?$", text, re.MULTILINE), "the matrix"
    assert "reference to undefined name" in text, "nor does that keep the others from running"
    assert "crash: 0 of 2 trials passed; panic: no" in text
    assert re.search(r"---- stderr \(\d+ bytes\)\n\\x1b\[31mred\npanic: no\n", text) and "\x1b[31mred" not in text
    assert f"harness run {pytester.path}/demo/crash.go --guest linux-i386 --variant pristine" in text
    assert "pytest 'demo/crash.go::linux-i386[pristine]' --variant pristine --trials 2 --harness-conf mine.yaml" in text
    assert "crash (bug 7; mine.yaml:3)" in text
    assert "`harness show 1` shows them" in text
    cases = {
        element.get("classname"): element for element in ElementTree.parse(pytester.path / "j.xml").iter("testcase")
    }
    properties = {element.get("name"): element.get("value") for element in cases["demo.crash.go"].iter("property")}
    assert properties["trials"] == "2" and properties["signature"].startswith("panic: no")

    # The crash is first and the loop never ends: -x does not wait for it, and --lf leaves all others out.
    ids, _ = collected(pytester, *words, "--lf")
    assert ids == [f"demo/{name}.go::linux-i386[pristine]" for name in ("broken", "crash", "ok")]
    result = pytester.runpytest_subprocess(*words, "-x", "-k", "crash or stays")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*stopping after 1 failures*"])

    result = pytester.runpytest_subprocess(*words, "-n", "2", "-k", "other or known", "--harness-work", "mine")
    result.assert_outcomes(passed=1, xfailed=1)
    result.stdout.fnmatch_lines(
        [
            "  known*crash 0/2 known*",
            "  other*2/2*",
            "The workers made runs 1 and 2; merged, they are run 3.",
            "Trials are in *; `*harness show 3 --work */mine` shows them. *",
            "All runs: */mine/index.html",
        ]
    )
