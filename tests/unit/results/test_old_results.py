"""Results that an older version stored: they open, are shown, judged again, merged and compared as they were then.

tests/data/old-results holds three work directories and what the version that made them (tables of version 3, plans as
dictionaries) printed of them: a run with passes, failures, crashes, hangs, a program that does not compile and traces;
one that did not finish; and two shards of a third.
"""

import gzip
import json
import re

import pytest
from click.testing import CliRunner

from harness import paths
from harness.cli.app import main
from harness.results.store import Store
from harness.run.request import stored_request

DATA = paths.DATA / "tests" / "data" / "old-results"


@pytest.fixture
def old(tmp_path, monkeypatch):
    """The work directories, in the current folder: what opens them may change them."""
    for packed in DATA.glob("*/*.gz"):
        folder = tmp_path / packed.parent.name
        folder.mkdir()
        (folder / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_WORK", "work")  # which commands that are shown need not name then
    return tmp_path


def call(*words, status=0):
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == status, result.output
    return result.stdout


def as_it_was(text):
    """Without what it did not have: in CSV guests killed, in JSON guests compared, deaths and power; and in JUnit XML
    with the commands that it showed."""
    if text.startswith("{"):
        data = json.loads(text)
        for key in ("control", "guest_differences", "interactions", "experiment", "effects", "unmatched"):
            del data[key]
        for cell in data["cells"]:
            (cell["difference"] or {}).pop("detectable", None)
            assert cell.pop("deaths") == 0
        return data
    if not text.startswith("guest,"):
        return re.sub(r"harness open (\d+)\n(harness run [^<\n]*)", r"\2\nharness rerun \1", text)
    rows = [line.split(",") for line in text.splitlines()]
    place = rows[0].index("kills guest")
    return "".join(",".join([*row[:place], *row[place + 1 :]]) + "\n" for row in rows)


@pytest.mark.parametrize(("format_", "file"), [("json", "show.json"), ("csv", "show.csv"), ("junit", "show.xml")])
def test_a_run_is_shown_as_it_was(old, format_, file):
    before = (DATA / file).read_text().replace(" --work work", "")  # the default here, which is not shown
    output = as_it_was(call("show", 1, "--format", format_, "--work", "work"))
    assert output == (json.loads(before) if format_ == "json" else before)


def test_runs_are_listed_with_what_was_not_stored_of_them(old):
    listed = json.loads(call("list", "--format", "json", "--work", "work"))["runs"]
    keys = ("run", "begun", "state", "kind", "trials", "planned", "resume")
    assert [[run[key] for key in keys] for run in listed] == [
        [1, "2026-11-27T20:48:07+00:00", "done", "run", 26, 26, None],
        [2, "2026-11-27T20:48:45+00:00", "stopped", "run", 6, 800, "harness run --resume 2"],
    ]
    assert listed[0]["verdicts"] == {"pass": 10, "fail": 8, "crash": 4, "hang": 4}


def test_its_matrix_and_page_name_each_way_to_go_wrong(old):
    table, page = call("show", 1, "--work", "work"), call("show", 1, "--format", "html", "--work", "work")
    for title in ("panic: no way out in main.main", "hang: sleep in time.Sleep ", "does not compile"):
        assert title in table and title in page


def test_every_trial_can_be_opened(old):
    store = Store(old / "work" / "results.sqlite")
    verdicts = {str(trial.verdict) for trial in store.trials(1)}
    assert verdicts == {"pass", "fail", "crash", "hang"}
    for trial in store.trials(1):
        output = call("open", trial.id, "--work", "work")
        assert f"{trial.verdict} trial {trial.id} of run 1" in output and trial.reason.split(";")[0][:40] in output
    hang = next(trial for trial in store.trials(1) if trial.verdict == "hang")
    assert "dossier/threads" in call("open", hang.id, "--work", "work")


def test_todays_rules_judge_it_the_same(old):
    assert call("rejudge", 1, "--work", "work").startswith("Run 1: 0 trials changed.")


def test_its_shards_are_merged_as_they_were(old):
    call("merge", "shard-1", "shard-2", "--work", "merged")
    assert as_it_was(call("show", 1, "--format", "csv", "--work", "merged")) == (DATA / "merged.csv").read_text()


def test_it_is_compared_as_it_was(old):
    """Its kinds were fewer: what then was worse for a single failure is a new failure now."""
    comparison = json.loads(call("compare", 1, "shard-1", "--work", "work", "--format", "json"))
    then = json.loads((DATA / "compare.json").read_text())
    assert comparison["counts"].pop("new failure") == 0 and comparison.pop("detectable") is None
    assert comparison.pop("diffs") == {}, "the texts were not stored"
    assert comparison | {"schema": 1} == then


def test_the_run_that_did_not_finish_can_be_resumed(old):
    request, number = stored_request(old / "work", None)
    assert (number, request.trials, request.variants) == (2, 400, ("pristine", "no-thread-destruction"))
    assert request.selection == ("/home/porter/demo/ok.go",) and request.isolation == "on-trouble"
    shard, _ = Store(old / "shard-2" / "results.sqlite").trial(1)
    assert shard.plan.request.shard == (2, 2) and shard.plan.shard.numbers == [2]
