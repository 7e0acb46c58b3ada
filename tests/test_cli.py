"""Bad input on the command line: one clear sentence, exit status 2, and nothing boots."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from harness import gccsuites, plan
from harness.cli import main
from harness.plan import Expectation
from harness.results.matrix import Trial
from harness.results.store import Store


def call(*words, **env):
    return CliRunner().invoke(main, words, env=env)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "--guest", "linux-i368"), "no guest named linux-i368; did you mean linux-i386?"),
        (("run", "--variant", "pristin"), "no variant named pristin; did you mean pristine?"),
        (("run", "goroutine"), "no suite, folder or .go file named goroutine; did you mean goroutines?"),
        (("run", "none.go"), "none.go: cannot be read: No such file or directory"),
        (("run", "--conf", "none.yaml"), "none.yaml: cannot be read"),
        (("shell", "hurd"), "no guest named hurd"),
        (("image", "show", "linux-i368"), "did you mean linux-i386?"),
        (("build", "no-thread-destructio"), "did you mean no-thread-destruction?"),
        (("build", "--toolchain", "x"), "no toolchain named x"),
        (("show",), "no run has been made here"),
        (("show", "--format", "junit"), "no run has been made here"),
        (("compare", "1", "2"), "no run has been made here"),
        (("list",), "no run has been made here"),
        (("rejudge", "1"), "no run has been made here"),
        (("suite", "show", "goroutine"), "no suite named goroutine; did you mean goroutines?"),
    ],
)
def test_bad_input(words, said, tmp_path):
    got = call(*words, HARNESS_WORK=str(tmp_path / "work"))
    assert got.exit_code == 2
    assert said in got.output
    assert len(got.output.strip().splitlines()) == 1


def test_no_qemu_names_it(tmp_path, write):
    mine = write("mine.yaml", "guests:\n  linux-i386: {qemu: qemu-system-none}\n")
    got = call("shell", "linux-i386", "--conf", str(mine), HARNESS_WORK=str(tmp_path / "work"))
    assert got.exit_code == 2
    assert "no qemu-system-none on this machine; `harness doctor` says what to do" in got.output
    words = ("run", "threads/lock-ring", "--conf", str(mine))
    got = call(*words, HARNESS_WORK=str(tmp_path / "work"), XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert got.exit_code == 2 and "no qemu-system-none on this machine" in got.output
    assert not (tmp_path / "cache" / "harness" / "libgo").exists(), "it is told before anything is built"


def test_show_and_list_of_a_stored_run(tmp_path):
    store = Store(tmp_path / "results.sqlite")
    plan = {"guests": ["g"], "variants": ["pristine"], "programs": ["s/p"], "trials": 1, "facts": {}}
    run = store.begin(plan)
    store.add(run, Trial(0, "g", "pristine", "s/p", 1, 1, "pass", "", "", 0, "", 0.1, b"", b"", 0, 0, "t", "c"))
    got = json.loads(call("show", "--format", "json", "--work", str(tmp_path)).output)
    assert got["cells"][0]["passed"] == 1
    assert "s" in call("show", "--work", str(tmp_path)).output
    assert "unfinished  1 cells" in call("list", "--work", str(tmp_path)).output


@pytest.mark.parametrize(
    ("format_", "begins", "has"),
    [
        ("markdown", "## 1 of 2 cells pass, 1 surprise\n", "`say \\udcff`"),
        ("junit", '<?xml version="1.0" encoding="UTF-8"?>\n<testsuites', "---- stdout of trial 1 (4 bytes)"),
        ("csv", "guest,variant,program,", "g,pristine,s/p,crash,0,1,"),
        ("html", "<!doctype html>\n", "1 of 2 cells pass"),
    ],
)
def test_show_prints_every_format_in_any_locale(tmp_path, format_, begins, has):
    store = Store(tmp_path / "results.sqlite")
    run = store.begin({"guests": ["g"], "variants": ["pristine"], "programs": ["s/p", "s/q"], "trials": 1, "facts": {}})
    end = ("", None, "", 0.1, b"\xff \xe2\x9c\x94", b"", 4, 0, "t", "say \\udcff")
    store.add(run, Trial(0, "g", "pristine", "s/p", 1, 1, "crash", "say \\udcff", *end))
    store.add(run, Trial(0, "g", "pristine", "s/q", 1, 1, "pass", "", *end))
    got = call("show", "1", "--format", format_, "--work", str(tmp_path), LC_ALL="C", PYTHONIOENCODING="ascii")
    assert got.exit_code == 0, got.output
    said = got.stdout_bytes.decode()
    assert said.startswith(begins) and has in said


@pytest.mark.parametrize("format_", ["markdown", "junit", "json", "csv", "html"])
def test_a_full_disk_behind_standard_output_is_told_in_a_sentence(tmp_path, format_):
    store = Store(tmp_path / "results.sqlite")
    store.begin({"guests": ["g"], "variants": ["pristine"], "programs": ["s/p"], "trials": 1, "facts": {}})
    command = [sys.executable, "-c", "from harness.cli import main; main()", "show", "--format", format_]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*command, "--work", tmp_path], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2
    assert done.stderr == "harness: standard output cannot be written: No space left on device\n"


def test_the_schema_is_shown_without_a_run(tmp_path):
    got = call("show", "--schema", HARNESS_WORK=str(tmp_path / "none"))
    assert got.exit_code == 0 and json.loads(got.output)["$id"] == "urn:harness:run:1"


def stored(work, expected, command="harness run gone.go"):
    """A run as an older harness may have judged it: a crash that passes for a failure, with a title of its own."""
    store = Store(work / "results.sqlite")
    said = {"guests": ["g"], "variants": ["pristine"], "programs": ["s/p"], "trials": 3, "facts": {}, **expected}
    run = store.begin(said)
    crash = b"SIGABRT: abort\nPC=0x1 m=0 sigcode=0\n\ngoroutine 1 [running]:\nmain.f\n\t./p.go:3\nmakecontext\n\t:0\n"
    for number, (verdict, signature, status, stderr) in enumerate(
        [("fail", "", 2, crash), ("hang", "old", 2, b""), ("pass", "", 0, b""), ("error", "", None, b"")], start=1
    ):
        end = (status, "", 0.1, b"out", stderr, 3, len(stderr), "t", command)
        store.add(run, Trial(0, "g", "pristine", "s/p", number, 1, verdict, "?", signature, *end))
    return store, run


def test_a_run_is_judged_again_by_what_was_expected_then(tmp_path):
    store, run = stored(tmp_path, {"expectations": {"s/p": Expectation(stdout=b"out").to_json()}})
    got = call("rejudge", str(run), "--work", str(tmp_path))
    assert got.exit_code == 0, got.output
    assert "Run 1: 3 trials changed" in got.output and "SIGABRT: abort in main.f" in got.output
    assert [(one.verdict, one.signature, one.reason) for one in store.trials(run)] == [
        ("crash", "SIGABRT: abort in main.f", "exit status 2, expected exit status 0"),
        ("hang", "hang: no goroutine dump", "it did not end within its time limit"),
        ("pass", "", "as expected"),
        ("error", "", "?"),
    ]
    cells = json.loads((tmp_path / "runs" / "1" / "matrix.json").read_text())["cells"]
    assert cells[0]["counts"] == {"pass": 1, "fail": 0, "crash": 1, "hang": 1}
    assert "Run 1: 0 trials changed" in call("rejudge", str(run), "--work", str(tmp_path)).output


def test_a_run_of_before_is_judged_by_its_programs_files_or_not_at_all(tmp_path, write):
    source = write("s/p.go", "// run\n// expect: exit 2\n\npackage main\n")
    store, run = stored(tmp_path / "a", {}, f"harness run {source} --guest g")
    assert call("rejudge", str(run), "--work", str(tmp_path / "a")).exit_code == 0
    assert [one.verdict for one in store.trials(run)] == ["pass", "hang", "fail", "error"]
    store, run = stored(tmp_path / "b", {})
    before = list(store.trials(run))
    got = call("rejudge", str(run), "--work", str(tmp_path / "b"))
    assert got.exit_code == 2 and len(got.output.strip().splitlines()) == 1
    assert "what was expected of s/p is not stored with the run" in got.output and "gone.go" in got.output
    assert list(store.trials(run)) == before


def test_suites_say_what_they_and_their_programs_are_for():
    listed = call("suite", "list", COLUMNS="200").output
    for name in gccsuites.suites():
        assert any(line.split()[:2] == [name, "GCC's"] for line in listed.splitlines()), name
    assert "go-runtime/GCZombie: not run: gccgo's garbage collector" in call("suite", "show", "go-runtime").output
    for folder in plan.suites().values():
        count = len(list(folder.glob("*.go")))
        assert count >= 6, folder
        assert any(line.split()[:2] == [folder.name, str(count)] for line in listed.splitlines()), folder
        assert (folder / "README.md").read_text().split("\n\n")[1].split()[0] in listed
    shown = call("suite", "show", "seed-2013").output
    assert "seed-2013/two-says-silent: expects exit 0, no output\n  Two go statements" in shown


@pytest.mark.parametrize("words", [["run"], ["trace"], ["ci", "plan", "--jobs", "2", "--format", "json"]])
def test_where_nothing_can_be_run_that_is_said(write, tmp_path, words):
    program = write("s/n.go", "// run\n// needs: warp-drive\n\npackage main\n\nfunc main() {}\n")
    got = CliRunner().invoke(main, [*words, str(program)], env={"HARNESS_WORK": str(tmp_path / "work")})
    assert (got.exit_code, got.stdout) == (2, "")
    assert got.stderr == "harness: s/n needs what its guest and libgo do not provide\n"
    assert not (tmp_path / "work").exists()
