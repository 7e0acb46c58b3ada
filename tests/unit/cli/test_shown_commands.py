"""Every command that is shown can be pasted as it is, from whatever folder: it names the work directory, it is quoted,
and what it names is there."""

import html
import json
import re
import shlex
from pathlib import Path
from xml.etree import ElementTree

import click
import pytest
from click.testing import CliRunner

import harness.cli.rerun
import harness.cli.run
from harness import paths
from harness.bisect import driver
from harness.bisect.request import BisectInterrupted
from harness.cli.app import main
from harness.errors import GuestError
from harness.invocation import command_line, given, repeated
from harness.programs.model import TrialSpec
from harness.programs.select import select_programs
from harness.results.plan import RunPlan
from harness.results.store import Store
from harness.run.conductor import Interrupted
from harness.run.request import stored_request
from harness.trial.execute import _trial
from harness.trial.observe import NOTHING
from harness.trial.record import Verdict
from harness.trial.verdict import Judgement
from tests.pages import Page


@pytest.fixture
def work(tmp_path, monkeypatch, write):
    """A work directory, with a blank in its name, that holds a run of two programs that crash, one of them of the
    harness's own; a bisect that did not finish; and a run that did not. The current folder is another one."""
    folder = tmp_path / "the work"
    mine = write("my programs/it's.go", "// run\n\npackage main\n\nfunc main() {}\n")
    monkeypatch.chdir(mine.parent)
    programs = select_programs(["threads/lock-ring", "it's.go"])
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    store = Store(folder / "results.sqlite")
    command = f"harness run threads/lock-ring {shlex.quote(str(mine))} --variant pristine --variant no-sysmon"
    for more in ({}, {"bisect": {}}, {"request": {"selection": ["threads/lock-ring"], "guests": ["linux-i386"]}}):
        plan = {
            "guests": ["linux-i386"], "variants": ["pristine", "no-sysmon"], "trials": 1,
            "programs": [program.name for program in programs], "facts": {"command": command}, **more,
        }  # fmt: skip
        run = store.begin(RunPlan.model_validate(plan))
        for program in programs:
            for variant in ("pristine", "no-sysmon"):
                spec = TrialSpec("linux-i386", variant, program, 1)
                judgement = Judgement(Verdict.CRASH, "ended by SIGSEGV", "SIGSEGV: it's over in main.main")
                store.add(run, _trial(spec, "t", ("--cores",), NOTHING, "SIGSEGV", judgement))
        if not more:
            store.finish(run)
    return folder


def call(*words, status=None):
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert status is None or result.exit_code == status, result.output
    return result.output


#: What follows what a command is shown with, in texts for people: a prompt, and quotation.
SHOWN = re.compile(
    r"\$ (harness .*)$|`(harness [^`]*)`|(?:Trials|then): (harness .*)$|; (harness open .*)$", re.MULTILINE
)


def in_text(text):
    return ["".join(groups) for groups in SHOWN.findall(text)]


def parsed(command):
    """The parameters of a command as click understands it, with all that it checks by itself."""
    words = shlex.split(command)
    assert words[0] == "harness", command
    subcommand, arguments = main, words[1:]
    while isinstance(subcommand, click.Group):
        subcommand, arguments = subcommand.commands[arguments[0]], arguments[1:]
    return subcommand.name, subcommand.make_context(subcommand.name, list(arguments)).params


def check(command, work):
    """That a command is one, works on the results that it was shown for, and names programs that are there."""
    name, parameters = parsed(command)
    assert "work" not in parameters or parameters["work"] == str(work), command
    if name == "run" and parameters["resume"] is None:
        assert select_programs(parameters["selection"]), command
    return name


def test_those_of_a_run_in_a_terminal(work):
    commands = in_text(call("show", 1, "--work", work))
    assert {check(command, work) for command in commands} == {"open", "run"}
    assert any("--trials" in command for command in commands), "what more trials would show"
    for run, name in ((2, "resume"), (3, "run")):
        note = in_text(call("show", run, "--work", work))[0]
        assert check(note, work) == name and f" {run} --work" in note
    commands = in_text(call("open", 1, "--work", work))
    assert [check(command, work) for command in commands] == ["rerun", "rerun", "rerun", "run", "capsule"]
    assert "run threads/lock-ring --guest" in commands[3], "no path of this installation"


def test_those_of_long_output_and_of_known_deaths(work, write):
    store = Store(work / "results.sqlite")
    with store.db:
        store.db.execute("UPDATE trials SET stderr = ?, stderr_total = 99 WHERE id = 1", (b"a\n" * 99,))
    text = call("open", 1, "--work", work)
    (command,) = re.findall(r"all of it: (harness .*)\]$", text, re.MULTILINE)
    assert check(command, work) == "open" and command.endswith(f"1 --raw stderr --work '{work}'")
    log = write("log", "SIGABRT: abort\nPC=0x1 m=0 sigcode=0\n\ngoroutine 1 [running]:\nmain.f\n\t./p.go:3\n")
    title = json.loads(call("classify", log, "--json"))[0]["title"]
    with store.db:
        store.db.execute("UPDATE trials SET signature = ? WHERE id = 1", (title,))
    assert [check(command, work) for command in in_text(call("classify", log, "--known", "--work", work))] == ["open"]


def test_those_of_what_other_programs_read(work):
    markdown = in_text(call("show", 1, "--format", "markdown", "--work", work))
    assert {check(command, work) for command in markdown} == {"open", "run"}
    cells = ElementTree.fromstring(call("show", 1, "--format", "junit", "--work", work)).iter("failure")
    commands = [line for cell in cells for line in cell.text.splitlines()]
    assert [check(command, work) for command in commands] == ["open", "run"] * 4
    document = json.loads(call("show", 1, "--format", "json", "--work", work))
    commands = [finding["command"] for cell in document["cells"] for finding in cell["findings"]]
    assert [check(command, work) for command in commands] == ["run"] * 4


def test_those_of_a_page(work):
    text = call("show", 1, "--format", "html", "--work", work)
    commands = [html.unescape(code) for code in re.findall(r"<code>(harness [^<]*)</code>", text)]
    assert {check(command, work) for command in commands} == {"open", "run"}
    page = Page(text)
    index = page.data("index")
    option = index["option"]
    for trial in page.trials().values():
        assert check(trial["command"] + option, work) == "run"
    assert index["harness"] == "harness"


def test_those_of_what_was_interrupted(work, monkeypatch, write):
    def interrupted(*rest, **more):
        raise Interrupted(3, 1, 40)

    monkeypatch.setattr(harness.cli.run, "run_request", interrupted)
    text = call("run", "threads", "--work", work, status=130)
    assert "1 of 40 trials of run 3 is stored" in text
    assert [check(command, work) for command in in_text(text)] == ["run", "show"]
    assert parsed(in_text(text)[0])[1]["resume"] == 3
    page = html.unescape((work / "runs" / "3" / "report.html").read_text())
    assert f"<code>harness run --resume 3 --work '{work}'</code>" in page and len(Page(page).trials()) == 4

    def interrupted_bisect(*rest, **more):
        raise BisectInterrupted(2, 1)

    monkeypatch.setattr(driver, "run_bisect", interrupted_bisect)
    patch = write("x.patch", "")
    text = call("bisect", "patch", patch, "--program", "threads/lock-ring", "--work", work, status=130)
    assert "1 trial of bisect 2 is stored" in text
    assert [check(command, work) for command in in_text(text)] == ["resume", "show"]
    assert (work / "runs" / "2" / "report.html").is_file()


def test_those_of_a_run_that_a_guest_s_trouble_ends(work, monkeypatch):
    """Its finished trials are stored as those of an interrupted one: it has a page, and goes on when all is well."""

    def in_trouble(*rest, **more):
        error = GuestError("guest linux-i386 failed 3 times in a row", ["panic: no init"])
        error.run = 3
        raise error

    for module, words in ((harness.cli.run, ["run", "threads"]), (harness.cli.rerun, ["rerun", 1])):
        monkeypatch.setattr(module, "run_request", in_trouble)
        (work / "runs" / "3" / "report.html").unlink(missing_ok=True)
        monkeypatch.setattr(harness.cli.rerun, "repeat_request", lambda *_: stored_request(work, 3)[0])
        text = call(*words, "--work", work, status=3)
        assert "harness: guest linux-i386 failed 3 times in a row\n  console: panic: no init" in text
        assert [check(command, work) for command in in_text(text)] == ["run", "show"]
        assert (work / "runs" / "3" / "report.html").is_file()


def test_those_of_errors(work, tmp_path, write):
    empty = tmp_path / "an empty one"
    for words, name in (
        (["show", "--work", empty], "run"),
        (["run", "--resume", "--work", empty], "run"),
        (["variant", "diff", "pristine", "--work", empty], "new"),
    ):
        assert [check(command, empty) for command in in_text(call(*words, status=2))] == [name]
    assert [check(each, work) for each in in_text(call("run", "--resume", "2", "--work", work, status=2))] == ["resume"]
    mine = write("a b.yaml", "toolchains:\n  mine: {triple: m68k-unknown-none, unavailable: nobody has it}\n")
    (use,) = (each for each in in_text(call("toolchain", "list", "--conf", mine)) if " mine " in each)
    name, parameters = parsed(use)
    assert (name, parameters["name"], parameters["conf_files"]) == ("use", "mine", (mine,))


def test_a_work_directory_that_is_found_by_itself_is_not_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HARNESS_WORK", raising=False)
    assert command_line("open", "1", work=tmp_path / ".harness") == "harness open 1"
    assert command_line("open", "1", work=tmp_path / "x") == f"harness open 1 --work {tmp_path / 'x'}"
    monkeypatch.setenv("HARNESS_WORK", "x")
    assert command_line("open", "1", work=tmp_path / "x") == "harness open 1"
    assert command_line("open", "1", work=tmp_path / ".harness") == f"harness open 1 --work {tmp_path / '.harness'}"


def test_the_harness_is_named_as_the_user_s_shell_finds_it(tmp_path, monkeypatch):
    script = tmp_path / "bin" / "harness"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["bin/harness", "run"])
    monkeypatch.setenv("PATH", "/nowhere")
    assert command_line("list") == "bin/harness list"
    monkeypatch.setattr("sys.argv", [str(script), "run"])
    assert command_line("list") == f"{script} list"
    monkeypatch.chdir(script.parent)
    monkeypatch.setenv("PATH", str(script.parent))
    assert command_line("list") == "harness list"
    script.with_name("pytest").symlink_to(script)
    monkeypatch.setattr("sys.argv", [str(script.with_name("pytest")), "x.go"])
    assert repeated("pytest x.go") == "pytest x.go"
    monkeypatch.setenv("PATH", "/nowhere")
    assert repeated("pytest 'a b.go'") == f"{script.parent}/pytest 'a b.go'"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["pytest"])  # in a worker of xdist
    monkeypatch.setattr("sys.executable", str(script.with_name("python")))
    assert repeated("pytest a.go") == f"{script.parent}/pytest a.go"


def test_a_command_of_an_older_version_is_shown_as_of_today(tmp_path):
    old = f"harness run {paths.DATA / 'suites' / 'threads' / 'lock-ring.go'} --guest g"
    assert repeated(old) == "harness run threads/lock-ring --guest g"
    assert repeated("harness run it's") == "harness run it's", "what cannot be read stays"


@pytest.mark.parametrize(
    ("words", "remembered"),
    [
        (["run", "my.go", "idea"], "harness run {0}/my.go {0}/idea"),
        (["run", "--variant", "idea", "threads"], "harness run --variant idea threads"),
        (["run", "--conf=my.yaml", "--until-sure", "my.go"], "harness run --conf={0}/my.yaml --until-sure {0}/my.go"),
        (["rerun", "3"], "harness rerun 3"),
        (["run", "--work", "idea"], "harness run --work {0}/idea"),
    ],
)
def test_the_command_of_a_run_is_remembered_with_whole_paths(tmp_path, monkeypatch, words, remembered):
    monkeypatch.chdir(tmp_path)
    for name in ("my.go", "my.yaml"):
        Path(name).touch()
    for name in ("idea", "3"):
        Path(name).mkdir()
    monkeypatch.setattr("sys.argv", ["/usr/bin/harness", *words])
    assert given() == remembered.format(tmp_path)
    monkeypatch.setattr("sys.argv", ["/usr/bin/pytest", "my.go"])
    assert given() == f"pytest {tmp_path}/my.go"
