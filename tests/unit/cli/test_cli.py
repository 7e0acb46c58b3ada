"""Bad input on the command line: one clear sentence, exit status 2, and nothing boots."""

import json
import os
import subprocess
import sys
import tomllib

import pytest
from click.testing import CliRunner

import harness.cli.build
from harness import conf, paths
from harness.cli.app import main
from harness.programs import gcc_suites
from harness.programs.model import Expectation
from harness.programs.select import own_suites
from harness.programs.sources import program_files
from harness.results.plan import RunPlan
from harness.results.store import Store
from harness.trial.record import Trial


def call(*words, **env):
    return CliRunner().invoke(main, words, env=env)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "--guest", "linux-i368"), "no guest named linux-i368; did you mean linux-i386?"),
        (("run", "--variant", "pristin"), "no variant named pristin; did you mean pristine?"),
        (("run", "goroutine"), "no suite, folder, .go or .c file named goroutine; did you mean goroutines?"),
        (("run", "none.go"), "none.go: cannot be read: No such file or directory"),
        (("run", "--conf", "none.yaml"), "none.yaml: cannot be read"),
        (("shell", "hurd"), "no guest named hurd"),
        (("shell", "linux-i386", "--put", "none:/x"), "--put none:/x: there is no such file or folder here"),
        (("shell", "linux-i386", "--get", "/"), "--get /: name the file or folder to make here"),
        (("shell", "linux-i386", "--get", "/x:/none/x"), "--get /x:/none/x: there is no folder /none here"),
        (("shell", "linux-i386", "--print", "--", "ls"), "--print boots nothing; leave out"),
        (("rerun", "1", "--until", "hagn("), "'hagn(' is neither a verdict"),
        (("rerun", "1", "--shell", "--gdb"), "--shell and --gdb do not go together"),
        (("rerun", "1", "--until", "crash", "--gdb"), "--gdb goes with --until hang"),
        (("rerun", "1", "--until", "kills guest", "--shell"), "a guest that has died has no shell"),
        (("rerun", "1", "--gdb", "--script", "none"), "--script none: there is no such file"),
        (("rerun", "1", "--shell", "--trials", "2"), "leave out --trials and --html"),
        (("rerun", "1", "--until", "hang", "--record"), "--record goes with --trials alone"),
        (("rerun", "1", "--script", "s.gdb", "--record"), "--record goes with --trials alone"),
        (("gdb",), "no shell is open beside a program that hangs"),
        (("guest", "show", "linux-i368"), "no guest named linux-i368; did you mean linux-i386?"),
        (("image", "show", "linux-i368"), "did you mean linux-i386?"),
        (("build", "no-thread-destructio"), "did you mean no-thread-destruction?"),
        (("build", "--toolchain", "x"), "no toolchain named x"),
        (("show",), "no run has been made here"),
        (("show", "--format", "junit"), "no run has been made here"),
        (("compare", "1", "2"), "no run has been made here"),
        (("compare", "", "2"), "the name of a run is empty"),
        (("list",), "no run has been made here"),
        (("rejudge", "1"), "no run has been made here"),
        (("run", "none.go", "--html", ""), "--html '': the file's name is empty"),
        (("run", "none.go", "--html", "."), "--html .: is a folder"),
        (("run", "none.go", "--html", "/none/x.html"), "--html /none/x.html: there is no folder /none"),
        (("merge", "none", "--html", "/proc/version/x"), "there is no folder /proc/version"),
        (("run", "--resume=-5"), "-5 is not a run's number"),
        (("suite", "show", "goroutine"), "no suite named goroutine; did you mean goroutines?"),
        (("run", "goroutines", "--trace", "threads/lock-ring"), "--trace threads/lock-ring: is not among the programs"),
        (("run", "threads", "--trace", "threads/lock-rng"), "did you mean threads/lock-ring?"),
        (
            ("run", "threads", "--variant", "distro", "--trace", "threads/lock-ring"),
            "distro is prebuilt and cannot be traced",
        ),
        (("run", "threads", "--trace", ""), "an empty word selects nothing"),
    ],
)
def test_bad_input(words, message, tmp_path):
    result = call(*words, HARNESS_WORK=str(tmp_path / "work"))
    assert result.exit_code == 2
    assert message in result.output
    assert len(result.output.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "threads", "--shard", "1/100000000"), "'1/100000000' is of more than 10000 jobs"),
        (("run", "threads", "--shard", "1/" + "9" * 5000), "is not K/N with K from 1 to N"),
        (("run", "threads", "--shard", "9999/10000"), "is empty: these trials do not fill so many jobs"),
        (("ci", "plan", "threads", "--jobs", "100000000"), "100000000 is not in the range 1<=x<=10000"),
    ],
)
def test_more_jobs_than_there_can_be_are_refused(words, message, tmp_path):
    result = call(*words, HARNESS_WORK=str(tmp_path / "work"))
    assert result.exit_code == 2 and message in result.output


@pytest.mark.parametrize("number", ["0", str(2**63), "9" * 5000])
@pytest.mark.parametrize(
    "words",
    [("show",), ("open",), ("rerun",), ("capsule",), ("rejudge",), ("run", "--resume"), ("bisect", "resume")],
)
def test_a_number_that_no_run_or_trial_can_have_is_refused(words, number, tmp_path):
    Store(tmp_path / "results.sqlite")
    result = call(*words, number, HARNESS_WORK=str(tmp_path))
    assert result.exit_code == 2
    assert "is not in the range" in result.output or "is not a valid integer." in result.output


def test_the_newest_run_is_resumed_without_a_number(tmp_path):
    Store(tmp_path / "results.sqlite")
    result = call("run", "--resume", "--work", str(tmp_path))
    assert result.exit_code == 2 and "all runs have finished; there is nothing to resume" in result.output
    result = call("run", "--resume", "7", "--work", str(tmp_path))
    assert result.exit_code == 2 and "there is no run yet" in result.output


def test_no_qemu_names_it(tmp_path, write):
    mine = write("mine.yaml", "guests:\n  linux-i386: {qemu: qemu-system-none}\n")
    result = call("shell", "linux-i386", "--conf", str(mine), HARNESS_WORK=str(tmp_path / "work"))
    assert result.exit_code == 2
    assert "no qemu-system-none on this machine; `harness doctor` says what to do" in result.output
    words = ("run", "threads/lock-ring", "--conf", str(mine))
    result = call(*words, HARNESS_WORK=str(tmp_path / "work"), XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert result.exit_code == 2 and "no qemu-system-none on this machine" in result.output
    assert not (tmp_path / "cache" / "harness" / "libgo").exists(), "it is told before anything is built"


def test_show_and_list_of_a_stored_run(tmp_path):
    store = Store(tmp_path / "results.sqlite")
    plan = {"guests": ["g"], "variants": ["pristine"], "programs": ["s/p"], "trials": 1, "facts": {}}
    run = store.begin(RunPlan.model_validate(plan))
    store.add(run, Trial(0, "g", "pristine", "s/p", 1, 1, "pass", "", "", 0, "", 0.1, b"", b"", 0, 0, "t", "c"))
    result = json.loads(call("show", "--format", "json", "--work", str(tmp_path)).output)
    assert result["cells"][0]["passed"] == 1
    assert "pass 1" in call("show", "--work", str(tmp_path)).output
    assert "run   stopped  1 of 1  1 pass    g " in call("list", "--work", str(tmp_path)).output


def test_trials_that_only_count_threads_are_in_no_cell(tmp_path):
    store = Store(tmp_path / "results.sqlite")
    plan = {"guests": ["g"], "variants": ["pristine"], "programs": ["s/p"], "trials": 1, "facts": {}}
    run = store.begin(RunPlan.model_validate(plan))
    for variant, verdict in (("pristine", "pass"), ("pristine+trace", "crash")):
        store.add(run, Trial(0, "g", variant, "s/p", 1, 1, verdict, "", "", 0, "", 0.1, b"", b"", 0, 0, "t", "c"))
    result = json.loads(call("show", "--format", "json", "--work", str(tmp_path)).output)
    assert [(cell["variant"], cell["passed"], cell["trials"]) for cell in result["cells"]] == [("pristine", 1, 1)]
    assert "crash trial 2 of run 1" in call("open", "2", "--work", str(tmp_path)).output
    assert call("show", "--format", "html", "--work", str(tmp_path)).exit_code == 0


def test_a_trace_is_no_job_s(tmp_path):
    result = call("run", "threads", "--trace", "threads/lock-ring", "--shard", "1/2", "--work", str(tmp_path))
    assert result.exit_code == 2 and "--trace and --shard do not go together" in result.output


def test_a_width_of_nothing_is_none(tmp_path):
    store = Store(tmp_path / "results.sqlite")
    store.begin(
        RunPlan.model_validate(
            {"guests": ["g"], "variants": ["pristine"], "programs": ["s/p"], "trials": 1, "facts": {}}
        )
    )
    assert "pristine" in call("show", "--work", str(tmp_path), COLUMNS="0").output


@pytest.mark.parametrize("name", ["image", "toolchain"])
def test_the_help_names_commands_that_there_are(name):
    group = main.commands[name]
    assert group.help.removesuffix(".").partition(": ")[2].split(", ") == list(group.commands)


@pytest.mark.parametrize("format_", ["table", "markdown"])
@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"request": {}}, "Not finished, with 1 of at most 6 trials made; `harness run --resume 1 --work {}` goes on"),
        ({"request": {}, "resumable": False}, "Not finished, with 1 trial made."),
        ({"bisect": {}}, "Not finished, with 1 trial made; `harness bisect resume 1 --work {}` goes on"),
    ],
)
def test_show_says_that_a_run_has_not_finished(tmp_path, monkeypatch, format_, more, message):
    monkeypatch.chdir(tmp_path)
    store = Store(tmp_path / "w" / "results.sqlite")
    plan = {"guests": ["g"], "variants": ["pristine"], "programs": ["s/p", "s/q"], "trials": 3, "facts": {}, **more}
    run = store.begin(RunPlan.model_validate(plan))
    store.add(run, Trial(0, "g", "pristine", "s/p", 1, 1, "pass", "", "", 0, "", 0.1, b"", b"", 0, 0, "t", "c"))
    result = call("show", "--format", format_, "--work", "w").output.replace("\\", "")
    assert message.format(tmp_path / "w") in result
    store.finish(run)
    assert "Not finished" not in call("show", "--format", format_, "--work", "w").output


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
    run = store.begin(
        RunPlan.model_validate(
            {"guests": ["g"], "variants": ["pristine"], "programs": ["s/p", "s/q"], "trials": 1, "facts": {}}
        )
    )
    end = ("", None, "", 0.1, b"\xff \xe2\x9c\x94", b"", 4, 0, "t", "say \\udcff")
    store.add(run, Trial(0, "g", "pristine", "s/p", 1, 1, "crash", "say \\udcff", *end))
    store.add(run, Trial(0, "g", "pristine", "s/q", 1, 1, "pass", "", *end))
    result = call("show", "1", "--format", format_, "--work", str(tmp_path), LC_ALL="C", PYTHONIOENCODING="ascii")
    assert result.exit_code == 0, result.output
    text = result.stdout_bytes.decode()
    assert text.startswith(begins) and has in text


def put_to(where, *words):
    """The exit status of a command whose standard output goes somewhere, and what it says on standard error."""
    command = [sys.executable, "-c", "from harness.cli.app import main; main()", *words]
    shell = ["sh", "-c", f'exec "$@" >{where}', "sh", *command]
    process = subprocess.run(shell, stderr=subprocess.PIPE, text=True, check=False)
    return process.returncode, process.stderr


@pytest.mark.skipif(not os.access("/dev/full", os.W_OK), reason="/dev/full may not be written here")
@pytest.mark.parametrize(
    "words",
    [
        *(("show", "--format", format_) for format_ in ("table", "markdown", "junit", "json", "csv", "html")),
        ("list",),
        ("compare", "1", "1"),
        ("run", "--help"),
        ("--help",),
    ],
)
def test_a_full_disk_behind_standard_output_is_told_in_a_sentence(tmp_path, monkeypatch, words):
    monkeypatch.setenv("HARNESS_WORK", str(tmp_path))
    monkeypatch.setenv("PYTHONUNBUFFERED", "1" if words == ("list",) else "")
    store = Store(tmp_path / "results.sqlite")
    store.begin(
        RunPlan.model_validate(
            {"guests": ["g"], "variants": ["pristine"], "programs": ["s/p"], "trials": 1, "facts": {}}
        )
    )
    message = "harness: standard output cannot be written: No space left on device\n"
    assert put_to("/dev/full", *words) == (2, message)


@pytest.mark.parametrize("words", [("show", "--schema"), ("--help",)])
def test_a_closed_standard_output_is_told_in_a_sentence(words):
    message = "harness: standard output is closed; send it to /dev/null if it is not wanted\n"
    assert put_to("&-", *words) == (2, message)


STOPPED = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job has it ignored

class Finder:
    def find_spec(self, name, *rest):
        if name == "harness.cli":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
from {module} import {function}
{function}()
"""


def test_a_ctrl_c_during_the_imports_is_told_like_any_other():
    script = tomllib.loads((paths.DATA / "pyproject.toml").read_text())["project"]["scripts"]["harness"]
    module, _, function = script.partition(":")
    code = STOPPED.format(module=module, function=function)
    process = subprocess.run([sys.executable, "-c", code, "--version"], capture_output=True, text=True, check=False)
    assert (process.returncode, process.stdout, process.stderr) == (130, "", "harness: interrupted\n")


def test_another_files_error_is_not_taken_for_one_of_standard_output(monkeypatch):
    monkeypatch.setattr(harness.cli.build, "own_suites", lambda: os.stat("/none"))
    assert isinstance(call("suite", "list").exception, FileNotFoundError)


def test_the_schema_is_shown_without_a_run(tmp_path):
    result = call("show", "--schema", HARNESS_WORK=str(tmp_path / "none"))
    assert result.exit_code == 0 and json.loads(result.output)["$id"] == "urn:harness:run:1"


def stored(work, expected, command="harness run gone.go"):
    """A run as an older harness may have judged it: a crash that passes for a failure, with a title of its own."""
    store = Store(work / "results.sqlite")
    plan = {"guests": ["g"], "variants": ["pristine"], "programs": ["s/p"], "trials": 3, "facts": {}, **expected}
    run = store.begin(RunPlan.model_validate(plan))
    crash = b"SIGABRT: abort\nPC=0x1 m=0 sigcode=0\n\ngoroutine 1 [running]:\nmain.f\n\t./p.go:3\nmakecontext\n\t:0\n"
    for number, (verdict, signature, status, stderr) in enumerate(
        [("fail", "", 2, crash), ("hang", "old", 2, b""), ("pass", "", 0, b""), ("error", "", None, b"")], start=1
    ):
        end = (status, "", 0.1, b"out", stderr, 3, len(stderr), "t", command)
        store.add(run, Trial(0, "g", "pristine", "s/p", number, 1, verdict, "?", signature, *end))
    return store, run


def test_a_run_is_judged_again_by_what_was_expected_then(tmp_path):
    store, run = stored(tmp_path, {"expectations": {"s/p": Expectation(stdout=b"out").to_json()}})
    result = call("rejudge", str(run), "--work", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert "Run 1: 3 trials changed" in result.output and "SIGABRT: abort in main.f" in result.output
    assert [(trial.verdict, trial.signature, trial.reason) for trial in store.trials(run)] == [
        ("crash", "SIGABRT: abort in main.f", "exit status 2, expected exit status 0"),
        ("hang", "hang: no goroutine dump", "it did not end within its time limit"),
        ("pass", "", "as expected"),
        ("error", "", "?"),
    ]
    cells = json.loads((tmp_path / "runs" / "1" / "matrix.json").read_text())["cells"]
    assert cells[0]["counts"] == {"pass": 1, "fail": 0, "crash": 1, "hang": 1}
    assert "Run 1: 0 trials changed" in call("rejudge", str(run), "--work", str(tmp_path)).output


def test_a_hang_that_was_seen_early_stays_one_when_it_is_judged_again(tmp_path):
    store, run = stored(tmp_path, {"expectations": {"s/p": Expectation().to_json()}})
    reason = "nothing in it can run any more, seen after 3.4 s (limit 60 s): 2 threads sleep without a limit"
    end = (None, "SIGQUIT", 3.5, b"", b"", 0, 0, "t", "harness run s/p")
    store.add(run, Trial(0, "g", "pristine", "s/p", 5, 1, "hang", reason, "old", *end))
    assert call("rejudge", str(run), "--work", str(tmp_path)).exit_code == 0
    again = list(store.trials(run))[-1]
    assert (again.verdict, again.reason, again.signature) == ("hang", reason, "hang: no goroutine dump")


def test_a_run_of_before_is_judged_by_its_programs_files_or_not_at_all(tmp_path, write):
    source = write("s/p.go", "// run\n// expect: exit 2\n\npackage main\n")
    store, run = stored(tmp_path / "a", {}, f"harness run {source} --guest g")
    assert call("rejudge", str(run), "--work", str(tmp_path / "a")).exit_code == 0
    assert [trial.verdict for trial in store.trials(run)] == ["pass", "hang", "fail", "error"]
    store, run = stored(tmp_path / "b", {})
    before = list(store.trials(run))
    result = call("rejudge", str(run), "--work", str(tmp_path / "b"))
    assert result.exit_code == 2 and len(result.output.strip().splitlines()) == 1
    assert "what was expected of s/p is not stored with the run" in result.output and "gone.go" in result.output
    assert list(store.trials(run)) == before


def test_a_folder_is_shown_as_a_suite_is(write, tmp_path):
    text = "// run\n\n// It waits.\n\npackage main\n\nfunc main() {}\n"
    for name, program in (("mine/a", text), ("mine/x/y/b", text), ("mine/z/y/b", text), ("mine/c", text[7:])):
        write(f"{name}.go", program)
    result = call("suite", "show", str(tmp_path / "mine"))
    assert f"{tmp_path}/mine: 3 programs\n\nmine/a: expects exit 0\n  It waits.\n\nx/y/b: " in result.output
    assert f"not run, for want of `// run` as the first comment: {tmp_path}/mine/c.go" in result.output


def test_a_folder_with_a_suite_s_name_is_shown_as_it_is_run(write, tmp_path, monkeypatch):
    write("threads/a.go", "// run 'a b' c\n\npackage main\n\nfunc main() {}\n")
    monkeypatch.chdir(tmp_path)
    assert (
        call("suite", "show", "threads/").output == "threads: 1 program\n\nthreads/a: expects exit 0\n  args: 'a b' c\n"
    )
    own = own_suites()["threads"]
    assert call("suite", "show", str(own)).output == call("suite", "show", f"{own}/").output
    assert call("suite", "show", str(own)).output.startswith("threads: ")


def test_suites_say_what_they_and_their_programs_are_for():
    listed = call("suite", "list", COLUMNS="200").output
    for name in gcc_suites.suites():
        assert any(line.split()[:2] == [name, "GCC's"] for line in listed.splitlines()), name
    assert "go-runtime/GCZombie: not run: gccgo's garbage collector" in call("suite", "show", "go-runtime").output
    for folder in own_suites().values():
        count = len(list(program_files(folder)))
        assert count >= 6, folder
        assert any(line.split()[:2] == [folder.name, str(count)] for line in listed.splitlines()), folder
        assert (folder / "README.md").read_text().split("\n\n")[1].split()[0] in listed
    output = call("suite", "show", "seed-2013").output
    assert "seed-2013/two-says-silent: expects exit 0, no output\n  Two go statements" in output


@pytest.mark.parametrize("words", [["run"], ["trace"], ["ci", "plan", "--jobs", "2", "--format", "json"]])
def test_where_nothing_can_be_run_that_is_said(write, tmp_path, words):
    program = write("s/n.go", "// run\n// needs: warp-drive\n\npackage main\n\nfunc main() {}\n")
    result = CliRunner().invoke(main, [*words, str(program)], env={"HARNESS_WORK": str(tmp_path / "work")})
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "harness: s/n needs what its guest and libgo do not provide\n"
    assert not (tmp_path / "work").exists()


def test_a_guest_is_shown_with_where_each_field_is_written(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text('guests:\n  mine:\n    from: linux-i386\n    memory: 99\n    set_clock: "a\\nb # c"\n')
    output = call("guest", "show", "mine", "--conf", str(mine)).output
    assert f"    memory: 99 # {mine}:4\n" in output
    assert "    nic: virtio-net-pci # conf/guests.yaml:" in output
    assert "    cpus: 1 # default\n" in output
    again = tmp_path / "again.yaml"
    again.write_text(output)
    assert conf.load([again]).guest("mine") == conf.load([mine]).guest("mine")
    rows = call("guest", "list", "--conf", str(mine), COLUMNS="500").output.splitlines()
    assert [row.split() for row in rows if str(mine) in row] == [["mine", "linux", "linux-i386", "99", f"{mine}:2"]]


def run_with_output(work):
    """A run of one trial whose output is no text, and of which only the beginning was kept."""
    store = Store(work / "results.sqlite")
    plan = {"guests": ["g"], "variants": ["pristine"], "programs": ["s/p"], "trials": 1, "facts": {}}
    run = store.begin(RunPlan.model_validate(plan))
    end = (1, "", 0.1, b"\xff\x00\x1b[2J\r\n", b"err\n", 9000, 4, "t", "harness run s/p")
    trial = Trial(0, "g", "pristine", "s/p", 1, 1, "fail", "line 1 of stdout is '\\xff'", "", *end)
    store.add(run, trial, {"dossier/threads": b"\xfe", "dossier/screen.png": b"\x89PNG"})


@pytest.mark.parametrize(
    ("part", "data"),
    [
        ("stdout", b"\xff\x00\x1b[2J\r\n"),
        ("stderr", b"err\n"),
        ("dossier/threads", b"\xfe"),
        ("threads", b"\xfe"),
        ("dossier/screen.png", b"\x89PNG"),
    ],
)
def test_a_part_of_a_trial_is_printed_byte_for_byte(tmp_path, part, data):
    run_with_output(tmp_path)
    result = call("open", "1", "--raw", part, "--work", str(tmp_path))
    assert (result.exit_code, result.stdout_bytes) == (0, data)
    note = "harness: 9,000 bytes were written, of which the first 8 are kept\n"
    assert result.stderr == (note if part == "stdout" else "")


def test_a_part_that_there_is_not_is_refused_with_those_that_there_are(tmp_path):
    run_with_output(tmp_path)
    for name in ("stdin", ""):
        result = call("open", "1", "--raw", name, "--work", str(tmp_path))
        assert (result.exit_code, result.stdout) == (2, "")
        assert "it has stdout, stderr, dossier/threads, dossier/screen.png" in result.stderr


@pytest.mark.parametrize("format_", ["table", "markdown", "junit", "html", "json"])
def test_no_invalid_byte_becomes_a_replacement_character(tmp_path, format_):
    run_with_output(tmp_path)
    output = call("show", "1", "--format", format_, "--work", str(tmp_path)).stdout_bytes.decode()
    output += call("open", "1", "--work", str(tmp_path)).stdout_bytes.decode()
    assert "\\xff" in output and "\ufffd" not in output
    assert not set(output) & set("\x00\x1b\r")


def test_a_table_in_a_pipe_is_never_cut(tmp_path):
    for words in (("variant", "list"), ("suite", "list"), ("image", "list")):
        narrow, wide = (call(*words, COLUMNS=width, HARNESS_WORK=str(tmp_path)).output for width in ("30", "400"))
        assert narrow == wide and "\u2026" not in narrow
        assert not any(line.endswith(" ") for line in narrow.splitlines())


def test_quiet_and_verbose_exclude_each_other(tmp_path):
    result = call("run", "threads", "--quiet", "--verbose", HARNESS_WORK=str(tmp_path))
    assert result.exit_code == 2 and "--quiet and --verbose exclude each other" in result.output
    for name in ("run", "trace", "rerun", "attribute", "build", "shell", "capsule", "replay"):
        assert {"quiet", "verbose", "debug"} <= {parameter.name for parameter in main.commands[name].params}, name
