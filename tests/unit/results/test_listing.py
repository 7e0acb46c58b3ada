"""The list of runs: what each is, how far it is, whether somebody makes it, and how it is shown."""

import json
import subprocess
import sys

import jsonschema
import pytest
from click.testing import CliRunner

from harness.cli.app import main
from harness.results.listing import list_runs, lock_file, render, render_programs, schema
from harness.results.plan import RunPlan
from harness.results.store import Store
from harness.trial.record import Trial

PLAN = {"guests": ["g"], "variants": ["pristine", "v"], "programs": ["s/p"], "trials": 3, "planned": 6, "request": {}}
HOLD = """
import sys
from pathlib import Path
from harness.run.conductor import locked_run
with locked_run(Path(sys.argv[1]), int(sys.argv[2])):
    print(flush=True)
    sys.stdin.read()
"""


def begin(store, verdicts=(), **plan):
    run = store.begin(RunPlan.model_validate(PLAN | plan))
    for number, verdict in enumerate(verdicts, start=1):
        end = ("", "", 0, "", 0.1, b"", b"", 0, 0, "t", "c")
        store.add(run, Trial(0, "g", "pristine", "s/p", number, 1, verdict, *end))
    return run


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results.sqlite")


@pytest.mark.parametrize(
    ("plan", "kind"),
    [
        ({"kind": "rerun"}, "rerun"),
        ({}, "run"),
        ({"request": None}, "run"),
        ({"facts": {"command": "harness rerun 7 --trials 3"}}, "rerun"),
        ({"facts": {"command": "harness trace x.go"}}, "trace"),
        ({"facts": {"command": "harness run rerun"}}, "run"),
        ({"bisect": {}, "resumable": False}, "bisect"),
        ({"merged": ["run 1 of a"], "resumable": False}, "merge"),
        ({"request": {"design": {"libgos": ["pristine"]}}}, "attribute"),
        ({"resumable": False}, "pytest"),
    ],
)
def test_the_kind_of_a_run_of_before_follows_from_its_plan(plan, kind):
    assert RunPlan.model_validate(PLAN | plan).run_kind == kind


def test_a_run_that_is_made_is_told_from_one_that_was_stopped(store, tmp_path):
    for _ in range(3):
        begin(store)
    store.finish(2)
    command = [sys.executable, "-c", HOLD, str(tmp_path), "3"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as maker:
        maker.stdout.readline()
        states = [run.state for run in list_runs(store, tmp_path).runs]
        maker.kill()
    assert states == ["stopped", "done", "running"]
    assert [run.state for run in list_runs(store, tmp_path).runs] == ["stopped", "done", "stopped"]


def test_looking_at_a_lock_makes_no_file(store, tmp_path):
    begin(store)
    list_runs(store, tmp_path)
    assert not lock_file(tmp_path, 1).exists()


@pytest.mark.parametrize(
    ("plan", "command"),
    [
        ({}, "harness run --resume 1"),
        ({"bisect": {}, "resumable": False}, "harness bisect resume 1"),
        ({"kind": "pytest", "resumable": False}, None),
        ({"request": None}, None),
    ],
)
def test_a_stopped_run_has_the_command_that_goes_on_with_it(store, tmp_path, plan, command):
    begin(store, **plan)
    (run,) = list_runs(store, tmp_path).runs
    command = command and f"{command} --work {tmp_path}"
    assert run.resume == command
    for width in (None, 80, 1000):
        assert (f"{command}" in "\n".join(render([run], width))) == (command is not None)


def test_progress_and_verdicts(store, tmp_path):
    begin(store, ["pass", "error", "crash", "pass"])
    begin(store, ["pass"], planned=None)
    begin(store, ["pass"], planned=None, bisect={})
    begin(store, ["pass"], request={"until_sure": True})
    begin(store, ["pass"], planned=None)
    store.finish(5)
    runs = list_runs(store, tmp_path).runs
    assert runs[0].verdicts == {"pass": 2, "crash": 1, "error": 1}
    assert [(run.trials, run.planned, run.at_most) for run in runs] == [
        (3, 6, False), (1, 6, False), (1, None, False), (1, 6, True), (1, 1, False)
    ]  # fmt: skip
    text = "\n".join(render(runs, None))
    assert "3 of 6  " in text and "1 of at most 6  " in text and "2 pass, 1 crash, 1 error" in text


@pytest.mark.parametrize(
    ("programs", "text"),
    [
        (["a/b"], "a/b"),
        (["a/b", "c/d"], "a/b, c/d"),
        (["a/b", "a/c", "d/e/f"], "2 of a, 1 of d"),
        ([f"{suite}/p" for suite in "abcde"], "5 programs of 5 suites"),
    ],
)
def test_programs_in_few_words(programs, text):
    assert render_programs(programs) == text


def test_a_line_each_in_a_pipe_and_within_the_width_of_a_terminal(store, tmp_path):
    variants = [f"take-something-out-of-libgo-{number}" for number in range(9)]
    begin(store, ["pass"], variants=variants, programs=["my/odd\x1b[2J\udcff name"])
    begin(store, ["pass"])
    piped = CliRunner().invoke(main, ["list", "--work", str(tmp_path)], env={"COLUMNS": "40"})
    lines = piped.stdout_bytes.decode().splitlines()
    assert len(lines) == 3 and all(variant in lines[1] for variant in variants)
    assert "my/odd\\x1b[2J\\udcff name" in lines[1]
    runs = list_runs(store, tmp_path).runs
    for width in (40, 80, 100):
        assert max(len(line) for line in render(runs, width) if "$ " not in line) <= width
    assert len(list(render(runs[1:], 200))) == 2


def test_the_json_follows_its_schema(store, tmp_path):
    begin(store, ["pass", "error"], programs=["s/\udcff"])  # a name that is not UTF-8
    begin(store, kind="bisect", bisect={})
    printed = CliRunner().invoke(main, ["list", "--format", "json", "--work", str(tmp_path)]).output
    described = json.loads(CliRunner().invoke(main, ["list", "--schema", "--work", str(tmp_path / "none")]).output)
    assert described == json.loads(schema())
    jsonschema.Draft202012Validator.check_schema(described)
    jsonschema.validate(json.loads(printed), described)
    assert set(json.loads(printed)) == {"schema", "runs"}
    assert [(run["kind"], run["programs"]) for run in json.loads(printed)["runs"]] == [
        ("run", ["s/\udcff"]),
        ("bisect", ["s/p"]),
    ]
