"""Guests compared: what fails on one and not on the control, and what a libgo changes on one of them alone."""

import io
import itertools
import json
import math

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from harness.cli.app import main
from harness.errors import ConfigError
from harness.results import formats, terminal
from harness.results.answer import answer
from harness.results.build_matrix import build_matrix
from harness.results.load import load_matrix
from harness.results.matrix import Column, Matrix
from harness.results.plan import RunPlan
from harness.results.statistics import Stratum, fisher, interaction
from harness.results.store import Store
from harness.trial.record import Trial

GUESTS, VARIANTS = ["hurd", "linux"], ["pristine", "taken-out"]


def trials(program, **passed):
    """20 trials of each cell; `passed` is how many of them pass, by guest and variant, by default all."""
    for guest, variant in itertools.product(GUESTS, VARIANTS):
        passes = passed.get(f"{guest}_{variant.replace('-', '_')}", 20)
        for number in range(1, 21):
            verdict, title = ("pass", "") if number <= passes else ("crash", "SIGSEGV in main.f")
            yield Trial(
                number, guest, variant, program, number, 1, verdict, "why", title, 0, "", 0.1, b"", b"", 0, 0, "t", "c"
            )  # fmt: skip


def matrix_of(*groups, control="linux", most=None):
    programs = [f"s/{name}" for name in "abcdefghij"[: len(groups)]]
    all_trials = [
        trial for program, passed in zip(programs, groups, strict=True) for trial in trials(program, **passed)
    ]
    return build_matrix({}, GUESTS, VARIANTS, programs, "pristine", all_trials, [], most=most, control=control)


def sentences(matrix):
    return next(paragraph for paragraph in answer(matrix) if paragraph.title == "On hurd and not on linux").sentences


def test_what_fails_on_one_guest_alone():
    matrix = matrix_of({"hurd_pristine": 0, "hurd_taken_out": 0}, {})
    by_cell = {(each.variant, each.program): each for each in matrix.guest_differences}
    assert len(by_cell) == 4 and all(each.guest == "hurd" for each in by_cell.values())
    alone = by_cell["pristine", "s/a"]
    assert (alone.passed, alone.trials, alone.control_passed, alone.control_trials) == (0, 20, 20, 20)
    assert alone.p == fisher(0, 20, 20, 20) and alone.claimed and alone.worse
    assert alone.p_corrected == pytest.approx(2 * alone.p), "cells that always pass are not corrected for"
    assert not by_cell["pristine", "s/b"].claimed
    lines = sentences(matrix)
    assert lines[0] == "2 of 4 cells came out as on linux."
    assert lines[1].startswith("Fails on hurd and not on linux: s/a with pristine; 0 of 20 passed against 20 of 20; p ")
    assert lines[-1] == "That a libgo makes another difference here than on linux cannot be claimed of any program."


def test_both_fail_and_the_control_fails():
    lines = sentences(matrix_of({"hurd_pristine": 2, "linux_pristine": 18, "linux_taken_out": 0}))
    assert any(text.startswith("Fails more often on hurd than on linux: s/a with pristine") for text in lines)
    assert any(text.startswith("Fails on linux and not on hurd: s/a with taken-out") for text in lines)


def test_what_is_not_claimed_is_told_with_what_could_have_been():
    lines = sentences(matrix_of({"hurd_pristine": 18}, {}))
    assert lines[1].startswith("Not claimed: s/a with pristine; 18 pass, 2 crash, on linux 20 pass; p 0.487")
    assert "A program that fails in " in lines[2] and "would have been found with a probability of 80%" in lines[2]
    few = [trial for trial in trials("s/a", hurd_pristine=0) if trial.number == 1]
    matrix = build_matrix({}, GUESTS, VARIANTS, ["s/a"], "pristine", few, [], control="linux")
    assert "1 trial of each cell can show no difference" in sentences(matrix)[2]


def test_a_libgo_that_makes_a_difference_on_one_guest_alone():
    matrix = matrix_of({"hurd_pristine": 0}, {"hurd_pristine": 0, "linux_pristine": 0}, {})
    claimed = [each for each in matrix.interactions if each.claimed]
    assert [(each.guest, each.variant, each.program) for each in claimed] == [("hurd", "taken-out", "s/a")]
    text = "taken-out makes another difference to s/a on hurd than on linux: 20 of 20 passed against 0 of 20 with"
    assert any(sentence.startswith(text) for sentence in sentences(matrix))


def test_a_run_until_sure_has_the_sequential_test_and_no_interactions():
    matrix = matrix_of({"hurd_pristine": 0}, {}, most=20)
    alone = next(each for each in matrix.guest_differences if each.program == "s/a" and each.variant == "pristine")
    assert alone.claimed and alone.p > fisher(0, 20, 20, 20) and not matrix.interactions


def test_nothing_is_compared_without_a_control():
    assert not matrix_of({}, control="").guest_differences and not matrix_of({}, control="gone").interactions


def binomial(n, chance):
    return [math.comb(n, k) * chance**k * (1 - chance) ** (n - k) for k in range(n + 1)]


@pytest.mark.parametrize(
    ("chances", "other"), [((0.5, 0.5), (0.5, 0.5)), ((1, 0.5), (0.5, 0)), ((0.9, 0.6), (0.4, 0.1)), ((1, 0), (1, 0))]
)
def test_equal_differences_are_claimed_too_seldom(chances, other):
    n = 6
    weights = [binomial(n, chance) for chance in (*chances, *other)]
    false = 0.0
    for counts in itertools.product(range(n + 1), repeat=4):
        weight = math.prod(weight[k] for weight, k in zip(weights, counts, strict=True))
        a, b, c, d = counts
        if weight > 1e-6 and interaction(Stratum(a, n, b, n), Stratum(c, n, d, n)) < 0.05:
            false += weight
    assert false <= 0.05


COUNT = st.integers(0, 12)


@given(st.tuples(COUNT, COUNT, COUNT, COUNT))
def test_sides_and_pairs_may_be_swapped(counts):
    a, b, c, d = counts
    p = interaction(Stratum(a, 12, b, 12), Stratum(c, 12, d, 12))
    assert 0 < p <= 1
    assert p == interaction(Stratum(c, 12, d, 12), Stratum(a, 12, b, 12))
    assert p == interaction(Stratum(b, 12, a, 12), Stratum(d, 12, c, 12))
    if a - b == c - d:
        assert p == 1


def test_more_trials_make_it_clearer_and_none_are_refused():
    ps = [interaction(Stratum(0, n, n, n), Stratum(n, n, n, n)) for n in (3, 5, 10, 20, 100)]
    assert ps == sorted(ps, reverse=True) and ps[0] > 0.05 > ps[1] and ps[3] < 1e-5
    with pytest.raises(ValueError, match="no trials"):
        interaction(Stratum(0, 0, 1, 1), Stratum(1, 1, 1, 1))


def test_json_has_it_and_reads_it():
    matrix = matrix_of({"hurd_pristine": 0}, {})
    again = Matrix.from_json(json.loads(formats.json_text(matrix)))
    assert again.control == "linux" and again.to_json() == matrix.to_json()
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(json.loads(formats.json_text(matrix)), json.loads(formats.schema()))


def test_every_report_has_it():
    matrix = matrix_of({"hurd_pristine": 0}, {})
    stream = io.StringIO()
    terminal.print_table(matrix, Console(file=stream, width=200))
    for text in (stream.getvalue(), formats.markdown(matrix).replace("\\", "")):
        assert "On hurd and not on linux" in text and "s/a with pristine; 0 of 20 passed against 20 of 20" in text


def stored(folder, **plan):
    store = Store(folder / "results.sqlite")
    run = store.begin(RunPlan.model_validate({"guests": GUESTS, "variants": VARIANTS, "programs": ["s/a"], **plan}))
    for trial in trials("s/a", hurd_pristine=0):
        store.add(run, trial)
    store.finish(run)
    return store


@pytest.mark.parametrize(
    ("plan", "requested", "control", "baseline"),
    [
        ({}, "", "hurd", "pristine"),
        ({"systems": {"hurd": "hurd", "linux": "linux"}}, "", "linux", "pristine"),
        ({"systems": {"hurd": "hurd", "linux": "linux"}, "baseline": "hurd/taken-out"}, "", "hurd", "taken-out"),
        ({"baseline": "hurd/taken-out"}, "linux/pristine", "linux", "pristine"),
    ],
)
def test_what_the_others_are_compared_with(tmp_path, plan, requested, control, baseline):
    store = stored(tmp_path, **plan)
    matrix = load_matrix(store, store.run(None), requested)
    assert (matrix.control, matrix.baseline) == (control, baseline)


def test_a_baseline_that_is_none(tmp_path):
    stored(tmp_path)
    for word, message in (
        ("hurd", "is not GUEST/VARIANT, such as hurd/pristine"),
        ("mach/pristine", "mach is no guest of it: hurd, linux"),
        ("hurd/", "nothing is no variant of it: pristine, taken-out"),
    ):
        with pytest.raises(ConfigError, match=message):
            Column.parse(word, GUESTS, VARIANTS)
        result = CliRunner().invoke(main, ["show", "--baseline", word, "--work", str(tmp_path)])
        assert result.exit_code == 2 and message in result.output
    result = CliRunner().invoke(main, ["show", "--baseline", "linux/taken-out", "--work", str(tmp_path)])
    assert result.exit_code == 0 and "On hurd and not on linux" in result.output
