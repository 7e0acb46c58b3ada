"""What a run answers: all programs together, what so many trials could have shown, and the sentences of it."""

import dataclasses
import itertools
import math
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.results import formats, page
from harness.results.answer import answer
from harness.results.build_matrix import build_matrix
from harness.results.lifecycle import Column, LifeCycle
from harness.results.statistics import (
    LEVEL,
    POWER,
    failures_needed,
    fisher,
    smallest_difference,
    stratified,
    trials_for,
)
from harness.trial.lifetrace import EVENTS, Trace
from harness.trial.record import Trial

TRIAL = Trial(1, "g", "pristine", "s/p0", 1, 1, "pass", "", "", 0, "", 0.5, b"", b"", 0, 0, "", "again")
#: Passes and trials of two cells.
TABLES = st.integers(1, 6).flatmap(
    lambda n: st.integers(1, 6).flatmap(
        lambda m: st.tuples(st.integers(0, n), st.just(n), st.integers(0, m), st.just(m))
    )
)


@given(TABLES)
def test_one_stratum_is_fisher_s_test(table):
    assert stratified((table,)) == pytest.approx(fisher(*table), rel=1e-9)


@given(st.lists(TABLES, min_size=1, max_size=4))
def test_strata_as_counted_one_by_one(tables):
    """All ways to share each stratum's passes out, weighed by how many orders of trials give them."""
    observed = sum(table[0] for table in tables)
    chances: dict[int, float] = {}
    ranges = [range(max(0, p + q - m), min(p + q, n) + 1) for p, n, q, m in tables]
    for passes in itertools.product(*ranges):
        ways = [
            math.comb(n, k) * math.comb(m, p + q - k) / math.comb(n + m, p + q)
            for k, (p, n, q, m) in zip(passes, tables, strict=True)
        ]
        chances[sum(passes)] = chances.get(sum(passes), 0) + math.prod(ways)
    expected = sum(chance for chance in chances.values() if chance <= chances[observed] * (1 + 1e-7))
    assert stratified(tuple(tables)) == pytest.approx(min(1.0, expected), rel=1e-6)


@given(st.integers(0, 12), st.integers(0, 12))
def test_pairs_of_one_trial_are_a_sign_test(worse, better):
    tables = [(0, 1, 1, 1)] * worse + [(1, 1, 0, 1)] * better + [(1, 1, 1, 1)] * 5
    expected = stats.binomtest(worse, worse + better).pvalue if worse + better else 1.0
    assert stratified(tuple(tables)) == pytest.approx(expected, rel=1e-6)


def test_null_runs_are_claimed_as_seldom_as_stated():
    dice = random.Random(3)
    chances = [dice.random() for _ in range(12)]
    claimed = 0
    for _ in range(1000):
        tables = [
            (sum(dice.random() < chance for _ in range(3)), 3, sum(dice.random() < chance for _ in range(3)), 3)
            for chance in chances
        ]
        claimed += stratified(tuple(tables)) < LEVEL
    assert claimed / 1000 <= LEVEL + 3 * math.sqrt(LEVEL * (1 - LEVEL) / 1000)


@pytest.mark.parametrize(("cells", "trials", "tests"), [(22, 1, 1), (22, 3, 1), (1, 6, 22), (1, 20, 22), (5, 4, 2)])
def test_the_failures_that_are_needed_are_the_fewest(cells, trials, tests):
    def p_value(failures):
        each, more = divmod(failures, cells)
        tables = tuple((trials - each - (place < more), trials, trials, trials) for place in range(cells))
        return stratified(tables) * tests

    needed = failures_needed(cells, trials, tests)
    assert p_value(needed) < LEVEL <= p_value(needed - 1)


@pytest.mark.parametrize(("cells", "trials", "tests"), [(22, 1, 1), (10, 3, 1), (1, 20, 22)])
def test_the_smallest_difference_is_found_as_often_as_stated(cells, trials, tests):
    """Simulated: cells that always pass against cells that fail with that chance."""
    difference = smallest_difference(cells, trials, tests)
    dice = random.Random(5)
    claims = 0
    for _ in range(600):
        failures = [sum(dice.random() < difference for _ in range(trials)) for _ in range(cells)]
        tables = tuple((trials - failed, trials, trials, trials) for failed in failures)
        claims += stratified(tables) * tests < LEVEL
    assert claims / 600 == pytest.approx(POWER, abs=0.1)
    assert claims / 600 > POWER - 3 * math.sqrt(POWER * (1 - POWER) / 600)


def test_too_few_trials_show_nothing():
    assert smallest_difference(1, 1, 22) is None
    assert smallest_difference(1, 5, 22) is None
    assert smallest_difference(1, 6, 22) is not None


@settings(max_examples=30)
@given(st.integers(1, 700), st.sampled_from([0.5, 0.25, 0.1]))
def test_the_trials_proposed_do_find_it(tests, difference):
    trials = trials_for(difference, tests)
    smallest = smallest_difference(1, trials, tests)
    assert smallest is not None and smallest <= difference


def trials_of(programs=22, each=1, failing=()):
    """A run of two libgos in which all pass but the trials (program, number) that fail with the other one."""
    number = 0
    for turn in range(1, each + 1):
        for program in range(programs):
            for variant in ("pristine", "other"):
                number += 1
                verdict = "crash" if variant == "other" and (program, turn) in failing else "pass"
                yield dataclasses.replace(
                    TRIAL, id=number, number=turn, variant=variant, program=f"s/p{program}", verdict=verdict
                )


def matrix_of(trials, programs=22, most=None, guests=("g",), command="harness run s --trials 1 --work w"):
    run = {"about": {"other": "a thing less"}, "command": command}
    names = [f"s/p{place}" for place in range(programs)]
    times = [{"what": "trials", "step": "", "times": 43, "seconds": 21.5}]
    return build_matrix(run, guests, ["pristine", "other"], names, "pristine", trials, [], most, times=times)


def cycle_of(before, after):
    columns = {}
    for name, number in (("pristine", before), ("other", after)):
        counts = dict.fromkeys(EVENTS, 0)
        counts |= {"threads torn down by Go": number, "threads ended in libpthread": number}
        columns[name] = Column(name, [Trace(counts, ())])
    return LifeCycle("g", "s/p3", columns)


def sentences(paragraphs):
    return {paragraph.title: " ".join(paragraph.sentences) for paragraph in paragraphs}


def test_a_first_matrix_answers():
    paragraphs = answer(matrix_of(trials_of()), [cycle_of(49, 0)], Path("/w"))
    answers = sentences(paragraphs)
    assert list(answers) == [
        "What was taken out", "What came of it", "What 1 trial of each cell could have shown (level 5%)",
    ]  # fmt: skip
    assert answers["What was taken out"] == (
        "other: a thing less. Threads of s/p3 on g, counted by the trace: 49 torn down by Go with pristine, 0 with"
        " other; 49 ended in libpthread with pristine, 0 with other."
    )
    assert answers["What came of it"].startswith("other on g: 22 of 22 programs came out as with pristine (22 pass).")
    power = answers["What 1 trial of each cell could have shown (level 5%)"]
    assert "34% of the trials" in power and "A single program: nothing" in power and "4 trials of each cell" in power
    assert paragraphs[-1].command == "harness run s --trials 12 --work /w"
    assert "(about 4 min 24 s)" in power, "22 programs with two libgos, 12 times, half a second each"


def test_what_differs_is_named():
    failing = {(place, 1) for place in range(14)}
    matrix = sentences(answer(matrix_of(trials_of(failing=failing))))
    outcome = matrix["What came of it"]
    assert "8 of 22 programs came out as with pristine (8 pass)." in outcome
    assert "s/p0: 1 crash; with pristine 1 pass." in outcome and "s/p10" not in outcome and "4 more programs" in outcome
    assert "8 of 22 trials passed, with pristine 22 of 22" in outcome and "they differ" in outcome
    assert matrix_of(trials_of(failing=failing)).overall()[0].claimed


def test_no_command_is_made_up():
    matrix = matrix_of(trials_of(), command="pytest suites")
    assert answer(matrix)[-1].command == ""


def test_a_run_until_it_is_sure_has_its_own_words():
    matrix = matrix_of(trials_of(), most=20)
    assert list(sentences(answer(matrix))) == ["What was taken out", "What came of it"]
    assert "All programs together" not in sentences(answer(matrix))["What came of it"]
    assert matrix.overall() == []


def test_nothing_compared_nothing_answered():
    trials = (trial for trial in trials_of() if trial.variant == "pristine")
    assert answer(matrix_of(trials)) == []


def test_every_report_has_it():
    matrix = matrix_of(trials_of())
    assert "came out as with pristine" in formats.markdown(matrix)
    assert "came out as with pristine" in "".join(page.html(matrix, trials_of()))
