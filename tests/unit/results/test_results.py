"""Counts, statistics and reports: known values."""

import dataclasses
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from harness.errors import StoreError
from harness.results import formats, terminal
from harness.results.build_matrix import build_matrix
from harness.results.statistics import fisher, holm, wilson
from harness.trial.record import Trial


def trial(number=1, variant="pristine", verdict="pass", **more):
    first = Trial(number, "g", variant, "s/p", number, 1, verdict, "why", "", 0, "", 0.1, b"", b"", 0, 0, "t", "again")
    return dataclasses.replace(first, **more)


def build(trials):
    return build_matrix({"run": 1}, ["g"], ["pristine", "other"], ["s/p"], "pristine", trials, [])


def cell(matrix, variant="pristine"):
    (match,) = (entry for entry in matrix.cells if entry.variant == variant)
    return match


def test_known_values():
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)  # Newcombe 1998, method 3
    assert fisher(3, 4, 1, 4) == pytest.approx(0.4857, abs=1e-4)  # Fisher's lady tasting tea, two-sided
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


@given(st.lists(st.floats(0, 1), max_size=30))
def test_holm_never_makes_a_p_value_smaller_or_larger_than_bonferroni(values):
    for before, after in zip(values, holm(values), strict=True):
        assert before <= after <= min(1.0, before * len(values)) + 1e-12 or after == pytest.approx(max(holm(values)))


def test_a_flake_is_shown_and_an_error_is_not_the_program_s():
    matrix = cell(build([trial(1), trial(2, verdict="crash"), trial(3, verdict="error"), trial(3, attempt=2)]))
    assert (matrix.verdict, matrix.passed, matrix.trials, matrix.errors, matrix.lost) == ("flaky", 2, 3, 1, 0)
    assert cell(build([trial(1, verdict="error")])).verdict == "error"


def test_a_difference_is_claimed_only_with_its_evidence():
    def of(each):
        trials = [trial(n) for n in range(1, each + 1)]
        trials += [trial(n, "other", "crash") for n in range(1, each + 1)]
        return cell(build(trials), "other").difference

    assert of(3).claimed is False  # p = 0.1: three against three can never show it
    assert of(6).claimed is True
    assert (of(6).baseline_passed, of(6).baseline_trials) == (6, 6)


def test_a_trial_of_no_cell_is_refused():
    with pytest.raises(StoreError):
        build([trial(program="s/other")])


def test_the_table_without_colours_and_without_unicode():
    text = io.StringIO()
    terminal.print_table(build([trial(verdict="hang")]), Console(file=text, width=80))
    assert "hang 0/1" in text.getvalue()
    assert "\x1b" not in text.getvalue()
    assert max(map(len, text.getvalue().splitlines())) <= 80


def test_json():
    matrix = json.loads(formats.json_text(build([trial()])))
    assert (matrix["schema"], matrix["cells"][0]["trials"]) == (1, 1)
