"""Two runs compared: what counts as worse, with its evidence, and bad input."""

import dataclasses
import io
import json
import random
from datetime import date
from functools import partial

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from harness.cli.app import main
from harness.errors import StoreError
from harness.results import formats, terminal
from harness.results.build_matrix import build_matrix
from harness.results.compare import KINDS, StoredInput, compare
from harness.results.expected import Entry
from harness.results.load import find_inputs
from harness.results.plan import RunPlan
from harness.results.sequential import e_value
from harness.results.statistics import fisher, smallest_difference
from harness.results.store import Store
from harness.trial.record import JUDGED, Trial
from tests import runs

FLAKY = Entry("*", "*", "*", ("crash",), "", "r", date(2030, 1, 1), True, "here:1")


def trials(variant="v", program="s/p", title="SIGSEGV in f", **verdicts):
    outcomes = [verdict for verdict, number in verdicts.items() for _ in range(number)]
    for number, verdict in enumerate(outcomes, start=1):
        yield Trial(
            number, "g", variant, program, number, 1, verdict, "why", title if verdict in ("crash", "hang") else "",
            0, "", 0.1, b"", b"", 0, 0, "t", "again",
        )  # fmt: skip


def run(*parts, programs=("s/p",), variants=("v",), facts=None, **more):
    all_trials = [trial for part in parts for trial in part]
    return build_matrix(facts or {}, ["g"], variants, programs, "v", all_trials, [], day=date(2026, 1, 1), **more)


def only(before, after, **more):
    (change,) = compare(run(trials(**before)), run(trials(**after), **more)).cells
    return change


@pytest.mark.parametrize(
    ("before", "after", "kind", "why"),
    [
        ({"pass": 5}, {"pass": 5}, "same", ""),
        ({"pass": 5}, {"pass": 9}, "same", ""),
        ({"pass": 20}, {"pass": 3, "crash": 17}, "worse", "fewer of its trials pass"),
        ({"pass": 3, "crash": 17}, {"pass": 20}, "better", "more of its trials pass"),
        ({"pass": 1}, {"crash": 1}, "new failure", "it fails, which it did not before; that may be chance"),
        ({"pass": 20}, {"pass": 19, "hang": 1}, "new failure", "it fails, which it did not before; that may be chance"),
        ({"pass": 19, "crash": 1}, {"pass": 18, "crash": 2}, "same", ""),
        ({"pass": 1, "crash": 1}, {"pass": 2}, "changed", "a failure is gone"),
        ({"crash": 2}, {"crash": 2, "fail": 1}, "changed", "it fails in another way"),
        ({"crash": 2}, {"fail": 2}, "changed", "it fails in another way and a failure is gone"),
        ({"crash": 2}, {"pass": 1, "crash": 1}, "changed", "its verdict"),
        ({"pass": 2}, {"error": 3}, "worse", "all its trials ended in infrastructure errors"),
        ({"pass": 2}, {}, "worse", "it was not run"),
        ({}, {"pass": 2}, "changed", "it was not judged before"),
        ({}, {}, "same", ""),
        ({"error": 1}, {"error": 2}, "same", ""),
        ({"pass": 2}, {"pass": 2, "error": 1}, "same", ""),
    ],
)
def test_what_became_of_a_cell(before, after, kind, why):
    change = only(before, after)
    assert (change.kind, change.why) == (kind, why)


def test_what_is_known_to_fail_is_not_worse():
    assert only({"pass": 20}, {"pass": 3, "crash": 17}, expected=[FLAKY]).kind == "changed"
    assert only({"pass": 20}, {"pass": 19, "crash": 1}, expected=[FLAKY]).kind == "changed"
    assert only({"pass": 20}, {"pass": 19, "hang": 1}, expected=[FLAKY]).kind == "new failure"


def test_the_evidence_is_fisher_s_test_corrected_for_all_cells():
    programs = [f"s/{number}" for number in range(4)]
    flaky = [list(trials(program=program, **{"pass": 17, "fail": 3})) for program in programs[1:]]
    before = run(trials(program="s/0", **{"pass": 20}), *flaky, programs=programs)
    after = run(trials(program="s/0", **{"pass": 14, "crash": 6}), *flaky, programs=programs)
    comparison = compare(before, after)
    worst = comparison.cells[0]
    assert worst.p == pytest.approx(fisher(20, 20, 14, 20)) and worst.p < 0.05
    assert worst.p_corrected == pytest.approx(4 * worst.p)
    assert comparison.test == "Fisher's exact test, Holm's correction for 4 cells"
    calm = [list(trials(program=program, **{"pass": 20})) for program in programs[1:]]
    before, after = (run(trials(program="s/0", **counts), *calm, programs=programs) for counts in (
        {"pass": 20}, {"pass": 14, "crash": 6}))  # fmt: skip
    assert compare(before, after).cells[0].p_corrected == pytest.approx(worst.p), "cells that always pass do not count"
    assert comparison.counts() == {
        "worse": 0,
        "new failure": 1,
        "changed": 0,
        "better": 0,
        "new": 0,
        "gone": 0,
        "same": 3,
    }


def test_runs_until_they_were_sure_are_compared_by_the_test_that_allows_for_that():
    before, after = run(trials(**{"pass": 8}), most=8), run(trials(crash=8))
    (change,) = compare(before, after).cells
    assert change.p == pytest.approx(1 / e_value(8, 8, 0, 8)) and change.kind == "worse"
    assert compare(before, after).test.startswith("The sequential test")


@given(
    st.lists(st.sampled_from([*JUDGED, "error"]), max_size=8), st.lists(st.sampled_from([*JUDGED, "error"]), max_size=8)
)
def test_a_run_is_never_worse_than_itself_and_better_never_fails_more(before, after):
    count = [{verdict: side.count(verdict) for verdict in side} for side in (before, after)]
    assert not compare(run(trials(**count[0])), run(trials(**count[0]))).fails("new")
    change = only(*count)
    assert change.kind in KINDS
    if change.kind == "better":
        assert change.after[1] * change.before[2] > change.before[1] * change.after[2]
    if change.kind == "worse" and change.after[2]:
        assert change.after[1] < change.after[2]


def test_cells_that_one_run_alone_has():
    before = run(trials(), variants=["v", "old"])
    comparison = compare(before, run(trials(), variants=["v", "fresh"]))
    assert [(cell.variant, cell.kind) for cell in comparison.cells] == [
        ("fresh", "new"),
        ("old", "gone"),
        ("v", "same"),
    ]
    assert not comparison.fails("new")


def test_runs_without_a_common_cell_are_no_good_gate():
    with pytest.raises(StoreError, match="no cell in common"):
        compare(run(trials()), run(trials(program="s/other"), programs=["s/other"]))


def test_what_the_runs_were_made_of():
    facts = {"run": 1, "created": "a", "finished": "b", "gcc": "12.2.0", "libgo": {"v": "x", "w": "y"}}
    other_facts = {"run": 2, "created": "c", "finished": "d", "gcc": "13.3.0", "libgo": {"v": "x"}, "image": "z"}
    comparison = compare(run(facts=facts), run(facts=other_facts))
    assert comparison.facts == {"gcc": ("12.2.0", "13.3.0"), "libgo.w": ("y", ""), "image": ("", "z")}


def test_what_it_could_have_found():
    comparison = compare(run(trials(**{"pass": 20})), run(trials(**{"pass": 20})))
    assert comparison.detectable == smallest_difference(1, 20, 1) == comparison.to_json()["detectable"]
    assert f"fails in {comparison.detectable:.0%} of its trials would have been found" in comparison.summary()
    few = compare(run(trials(**{"pass": 2})), run(trials(**{"pass": 2})))
    assert few.detectable is None and "would have been" not in few.summary()


def test_what_users_wrote_that_is_not_the_same():
    texts = {"a": b"same\nold\n", "b": b"same\nnew\n", "d": None}

    def inputs(**keys):
        return {part: StoredInput(key, partial(texts.get, key)) for part, key in keys.items()}

    before = inputs(**{"source of s/p": "a", "source of s/gone": "a", "variant v": "a", "guest g": "a"})
    after = inputs(**{"source of s/p": "b", "source of s/new": "a", "variant v": "a", "guest g": "d"})
    comparison = compare(run(facts={"gcc": "12"}), run(facts={"gcc": "13"})).with_inputs(before, after)
    assert comparison.facts == {"gcc": ("12", "13"), "source of s/p": ("a", "b"), "guest g": ("a", "d")}
    lines = ["@@ -1,2 +1,2 @@", " same", "-old", "+new"]
    assert comparison.diffs == {"source of s/p": lines, "guest g": []} == comparison.to_json()["diffs"]
    stream = io.StringIO()
    terminal.print_comparison(comparison, Console(file=stream, width=80))
    assert "source of s/p:\n    @@ -1,2 +1,2 @@\n     same\n    -old\n    +new\n" in stream.getvalue()
    assert "guest g:\n    a → d\n" in stream.getvalue()
    assert not compare(run(), run()).with_inputs(before, {}).facts, "a file does not tell"


def test_a_run_tells_what_its_user_wrote(tmp_path):
    made_of = {"libgo v": "a", "program s/p": "a", "source of s/p": "b", "variant v": "c"}
    store = Store(tmp_path / "results.sqlite")
    store.keep({"b": b"package main"})
    store.keep({"b": b"another text never replaces it"})
    store.finish(store.begin(RunPlan.model_validate({"made of": made_of})))
    inputs = find_inputs("1", tmp_path)
    assert {part: each.key for part, each in inputs.items()} == {"source of s/p": "b", "variant v": "c"}
    assert inputs["source of s/p"].read() == b"package main" and inputs["variant v"].read() is None
    (tmp_path / "matrix.json").write_text("{}")
    assert find_inputs(str(tmp_path / "matrix.json"), tmp_path) == {}


@pytest.fixture
def hostile():
    before = run(trials(**{"pass": 1}), facts={"gcc": runs.EVIL})
    return compare(before, run(trials(title=runs.EVIL, crash=1), facts={"gcc": "b"}))


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_terminal_shows_it_all_and_nothing_raw(hostile, encoding):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    terminal.print_comparison(hostile, Console(file=stream, width=80))
    stream.flush()
    text = stream.buffer.getvalue().decode()
    assert (
        "new failure s/p, g, v" in text and "it fails, which it did not before" in text and "p 1, corrected 1" in text
    )
    assert "new:\n    </script>" in text and "gcc:" in text
    assert "\x1b" not in text and "\u202e" not in text and text.isascii() == (encoding == "ascii")


def test_markdown_and_json_of_it(hostile):
    text = formats.comparison_markdown(hostile)
    assert text.startswith("## Nothing got significantly worse, 1 new failure\n")
    assert "- **new failure**: s/p, g, v: ✔ pass 1/1 → ✖ crash 0/1" in text
    assert "; ``new: </script>" in text and "``</script>" in text  # in code, so it is text
    data = json.loads(formats.comparison_json(hostile))
    assert data["counts"]["new failure"] == 1 and data["facts"]["gcc"][1] == "b"
    assert data["cells"][0]["before"] == {"verdict": "pass", "passed": 1, "trials": 1}
    assert len(formats.comparison_markdown(hostile, 700).encode()) <= 700


# By its door.


def store(folder, *ends):
    """A work directory with a run for each end of its only cell."""
    results = Store(folder / "results.sqlite")
    for end in ends:
        number = results.begin(
            RunPlan.model_validate({"guests": ["g"], "variants": ["v"], "programs": ["s/p"], "trials": 1, "facts": {}})
        )
        for trial in trials(**{end: 1}):
            results.add(number, dataclasses.replace(trial, id=0))
    return folder


def call(*words):
    return CliRunner().invoke(main, ["compare", *map(str, words)])


def test_runs_are_named_by_number_folder_database_and_json(tmp_path):
    work = store(tmp_path / "a", "pass", "crash", "pass")
    other = store(tmp_path / "b", "crash")
    result = CliRunner().invoke(main, ["show", "2", "--format", "json", "--work", str(work)])
    (tmp_path / "two.json").write_text(result.output)
    for names, status in (
        (("1", "2"), 1),
        (("1", "3"), 0),
        (("2", "1"), 0),
        ((work, other), 1),
        ((f"{work}#2", other), 0),
        ((f"{work}/results.sqlite#1", other / "results.sqlite"), 1),
        ((tmp_path / "two.json", "1"), 0),
        (("1", tmp_path / "two.json"), 1),
    ):
        result = call(*names, "--gate", "new", "--work", work)
        assert result.exit_code == status, (names, result.output)
    assert json.loads(call("1", "2", "--format", "json", "--work", work).output)["counts"]["new failure"] == 1
    assert "## Nothing got significantly worse" in call("1", "3", "--format", "markdown", "--work", work).output


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("9", "there is no run 9; the newest is 1"),
        ("nothing", "nothing: is not a run's number, no JSON of one, no .sum file, no work directory"),
        ("{}/none.json", "is not a run's number, no JSON of one, no .sum file, no work directory"),
        ("{}/empty.json", "cannot be read: Expecting value"),
        ("{}/list.json", "not JSON of a run"),
        ("{}/text", "not a database"),
        ("{}#7", "there is no run 7; the newest is 1"),
        ("{}/folder", "is not a run's number, no JSON of one, no .sum file, no work directory"),
    ],
)
def test_bad_input(tmp_path, write, name, message):
    store(tmp_path, "pass")
    write("empty.json", "")
    write("list.json", "[]")
    write("text", "no database, but long enough to be taken for one" * 50)
    (tmp_path / "folder").mkdir()
    result = call(name.format(tmp_path), "1", "--work", tmp_path)
    assert result.exit_code == 2 and message in result.output and len(result.output.strip().splitlines()) == 1
    assert sorted(file.name for file in (tmp_path / "folder").iterdir()) == []


def test_no_run_was_made_here(tmp_path):
    result = call("1", "2", "--work", tmp_path / "x")
    assert result.exit_code == 2 and "no run has been made here" in result.output and not (tmp_path / "x").exists()


def test_flakes_do_not_close_the_gate():
    """Simulated: cells that fail once in a hundred trials, 20 trials each, and nothing changed."""
    dice, programs, nights = random.Random(3), [f"s/{n}" for n in range(60)], 40
    alarms = new = 0
    for _ in range(nights):
        failures = [[sum(dice.random() < 0.01 for _ in range(20)) for _ in programs] for _ in range(2)]
        before, after = (
            run(*(trials(program=p, **{"pass": 20 - k, "crash": k}) for p, k in zip(programs, counts, strict=True)),
                programs=programs)
            for counts in failures
        )  # fmt: skip
        comparison = compare(before, after)
        alarms += comparison.fails()
        new += comparison.counts()["new failure"]
    assert alarms <= 0.05 * nights + 3 and new > nights, "the old rule would have ended every night with an alarm"


def test_a_failure_that_an_earlier_run_had_is_not_new(tmp_path):
    work = store(tmp_path / "a", "crash", "pass", "crash")
    output = call("2", "3", "--gate", "new", "--work", work)
    assert output.exit_code == 0 and "it fails as it did in run 1" in output.output
    other = store(tmp_path / "b", "pass", "crash")
    assert call("1", "2", "--gate", "new", "--work", other).exit_code == 1
    assert call("1", "2", "--work", other).exit_code == 0
