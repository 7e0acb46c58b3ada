"""What shells complete: names and numbers, for every command that takes one, quickly, and without a word on errors."""

import json
import os
import re
import sqlite3
import subprocess
import sys

import click
import pytest
from click.shell_completion import ShellComplete

from harness import paths
from harness.cli import complete, skeleton
from harness.cli.app import main
from harness.results.plan import RunPlan
from harness.results.store import Store
from harness.trial.record import Trial


def walk(command, path=()):
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from walk(each, (*path, name))
    else:
        yield " ".join(path), command


@pytest.fixture(scope="module")
def shell():
    """What a shell is answered, by the commands as they are written down."""
    root = skeleton.rebuild(json.loads(json.dumps(skeleton.describe(main))))
    return ShellComplete(root, {}, "harness", skeleton.VARIABLE)


def offered(shell, *words):
    return [item.value for item in shell.get_completions(list(words[:-1]), words[-1])]


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A work directory with a run, a stopped one, a stopped bisect and one of pytest."""
    monkeypatch.setenv("HARNESS_WORK", str(tmp_path))
    store = Store(tmp_path / "results.sqlite")
    plan = {"guests": ["g"], "variants": ["pristine"], "programs": ["s/p"], "request": {}}
    for more in ({}, {"kind": "trace"}, {"bisect": {}, "resumable": False}, {"kind": "pytest", "resumable": False}):
        run = store.begin(RunPlan.model_validate(plan | more))
        for number, verdict in enumerate(("pass", "crash", "pass"), start=1):
            end = ("", "", 0, "", 0.1, b"", b"", 0, 0, "t", "c")
            store.add(run, Trial(0, "g", "pristine", "s/p", number, 1, verdict, *end), {"registers": b""})
    store.finish(1)
    store.db.close()
    return tmp_path


#: What takes one, by what its help calls it.
_TAKEN = re.compile(r"RUN|TRIAL|GUEST|VARIANT|SUITE|PROGRAM|KIND|FOLDER")


def test_every_parameter_that_takes_a_name_or_a_number_completes(shell):
    lacking = []
    for path, command in walk(main):
        for parameter in command.params:
            named = parameter.metavar or parameter.make_metavar(click.Context(command))
            completes = parameter._custom_shell_complete or isinstance(parameter.type, (click.Path, click.Choice))
            flag = isinstance(parameter, click.Option) and (parameter.is_flag or parameter.name in ("kinds",))
            if _TAKEN.search(named) and not completes and not flag:
                lacking.append(f"{path} {named}")
    assert not lacking


def test_what_is_written_down_completes_as_the_commands_do(shell):
    rebuilt = dict(walk(skeleton.rebuild(json.loads(json.dumps(skeleton.describe(main))))))
    for path, command in walk(main):
        other = rebuilt.pop(path)
        assert [p.name for p in other.params] == [p.name for p in command.params]
        for parameter, twin in zip(command.params, other.params, strict=True):
            assert (parameter.opts, parameter.nargs) == (twin.opts, twin.nargs)
            assert parameter._custom_shell_complete is twin._custom_shell_complete, f"{path} {parameter.name}"
            if isinstance(parameter, click.Option):
                assert (parameter.is_flag, parameter.multiple) == (twin.is_flag, twin.multiple)
    assert not rebuilt


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (("open", ""), [str(number) for number in range(12, 0, -1)]),
        (("open", "1"), ["12", "11", "10", "1"]),
        (("rerun", "2"), ["2"]),
        (("capsule", "0"), []),
        (("open", "x"), []),
        (("show", ""), ["4", "3", "2", "1"]),
        (("rejudge", "3"), ["3"]),
        (("run", "--resume", ""), ["2"]),
        (("run", "--extend", ""), ["2", "1"]),
        (("bisect", "resume", ""), ["3"]),
        (("compare", "1", ""), ["4", "3", "2", "1"]),
        (("open", "5", "--raw", ""), ["stdout", "stderr", "registers"]),
        (("run", "--guest", "linux-i"), ["linux-i386"]),
        (("run", "--variant", "no-sysm"), ["no-sysmon", "no-sysmon+trace"]),
        (("attribute", "--libpthread", "slow"), ["slow-exit"]),
        (("bisect", "patch", "--guest", "linux-i"), ["linux-i386"]),
        (("run", "--baseline", "linux-i386/no-sysm"), ["linux-i386/no-sysmon"]),
        (("run", "threads/lock-n"), ["threads/lock-nested"]),
        (("image", "show", "linux-i"), ["linux-i386"]),
        (("cache", "prune", "--kind", "mach"), ["machines"]),
        (("run", "--isolation", ""), ["trial", "cell", "on-trouble"]),
        (("re",), ["rejudge", "replay", "rerun"]),
    ],
)
def test_what_is_offered(shell, work, words, values):
    assert offered(shell, *words) == values


def test_what_a_number_is_stands_beside_it(shell, work):
    (trial,) = shell.get_completions(["open"], "5")
    assert trial.help == "crash: s/p, pristine, g, run 2"
    (run,) = shell.get_completions(["show"], "2")
    assert run.help.startswith("trace of ") and run.help.endswith(", not finished: s/p; pristine")


def test_a_work_directory_that_is_named_counts(shell, work, monkeypatch):
    monkeypatch.setenv("HARNESS_WORK", "/nonexistent")
    assert offered(shell, "open", "") == []
    assert offered(shell, "open", "--work", str(work), "12") == ["12"]


def test_gcc_programs_are_those_of_a_source_that_was_unpacked(shell, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert not [value for value in offered(shell, "run", "gcc-go/fix") if value.startswith("gcc-go/fixedbugs")]
    source = tmp_path / "harness" / "gcc-source" / "key"
    tests = source / "gcc" / "testsuite" / "go.test" / "test" / "fixedbugs"
    tests.mkdir(parents=True)
    (source / "libgo").mkdir()
    (source / "libgo" / "configure").touch()
    (tests / "bug001.go").write_text("// run\n\npackage main\n\nfunc main() {}\n")
    for _ in range(2):  # computed, then remembered
        assert offered(shell, "run", "gcc-go/fix") == ["gcc-go/fixedbugs/bug001"]
        (tests / "bug001.go").unlink(missing_ok=True)


def asked(words, **env):
    """What a shell gets: exit status, standard output and standard error."""
    code = "import sys; from harness.__main__ import main; sys.argv[0] = 'harness'\n"
    code += "try:\n    main()\nfinally:\n    print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    environment = {**os.environ, **env, "_HARNESS_COMPLETE": "zsh_complete", "COMP_WORDS": words}
    environment["COMP_CWORD"] = str(len(words.split(" ")) - 1)
    process = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    return process.returncode, process.stdout, process.stderr.split()


def test_a_shell_is_answered_without_what_takes_long_to_import(work, tmp_path):
    env = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HARNESS_WORK": str(work)}
    asked("harness open ", **env)
    status, printed, modules = asked("harness open 5", **env)
    assert (status, printed) == (0, "plain\n5\ncrash: s/p, pristine, g, run 2\n")
    assert "click" in modules and not {"numpy", "paramiko", "pydantic", "rich", "httpx", "jinja2"} & set(modules)


@pytest.mark.parametrize("broken", ["none", "no database", "newer", "locked", "folder"])
def test_errors_are_silent_and_change_nothing(shell, work, capfd, broken):
    file = work / "results.sqlite"
    holder = sqlite3.connect(file)
    match broken:
        case "none":
            file.unlink()
        case "no database":
            file.write_bytes(b"no database" * 100)
        case "newer":
            holder.executescript("PRAGMA user_version=99; DROP TABLE trials; DROP TABLE runs")
        case "locked":
            holder.executescript("PRAGMA journal_mode=DELETE; BEGIN EXCLUSIVE")
        case "folder":
            file.unlink()
            file.mkdir()
    before = file.read_bytes() if file.is_file() else None
    assert offered(shell, "open", "") == offered(shell, "show", "") == []
    assert capfd.readouterr() == ("", "")
    assert (file.read_bytes() if file.is_file() else None) == before
    holder.close()


def test_a_cache_that_cannot_be_written_is_no_reason_not_to_answer(tmp_path, monkeypatch):
    (tmp_path / "harness").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert complete.remembered(["x"], "x", lambda: [1]) == [1]


def test_own_suites_and_those_of_gcc_are_offered(shell):
    names = offered(shell, "suite", "show", "")
    assert {"threads", "goroutines", "gcc-go", "libgo-packages"} <= set(names)
    assert all((paths.DATA / "suites" / name).is_dir() for name in names)
