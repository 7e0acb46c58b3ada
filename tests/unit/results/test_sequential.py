"""The sequential test: its error rate and power by simulation, and that it stops only where nothing can change."""

import random
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.results import sequential
from harness.results.sequential import e_value, least_rounds, p_values, undecided
from harness.results.statistics import LEVEL, fisher, holm


def matrix(seed, chances, most):
    """Run a matrix until it is sure; `chances` are (cell's, baseline's) of each comparison."""
    rng = random.Random(seed)
    pairs = [({}, {}) for _ in chances]
    done = 0
    while done < most and any(wanted := undecided(pairs, done, most)):
        done += 1
        for pair, open_, both in zip(pairs, wanted, chances, strict=True):
            if open_:
                for outcomes, chance in zip(pair, both, strict=True):
                    outcomes[done] = rng.random() < chance
    claimed = [p < LEVEL for p in holm(p_values(pairs))]
    return claimed, [len(cell) for cell, _ in pairs]


@pytest.mark.parametrize("chance", [0.5, 0.9, 0.99])
def test_false_claims_in_a_whole_matrix_are_as_rare_as_stated(chance):
    matrices = 200
    false = sum(any(matrix(seed, [(chance, chance)] * 6, 30)[0]) for seed in range(matrices))
    assert false <= LEVEL * matrices


def test_peeking_with_fisher_s_test_would_claim_more():
    """The simulation can fail: the test for a fixed number of trials, looked at after each round, exceeds the rate."""
    false = 0
    for seed in range(200):
        rng = random.Random(seed)
        a = b = 0
        for n in range(1, 61):
            a, b = a + (rng.random() < 0.5), b + (rng.random() < 0.5)
            if fisher(a, n, b, n) < LEVEL:
                false += 1
                break
    assert false > 1.5 * LEVEL * 200


def test_real_differences_are_found_with_fewer_trials_than_a_fixed_number():
    most, found, spent, alike = 30, 0, 0, 0
    for seed in range(50):
        claimed, trials = matrix(seed, [(0.3, 0.98), (0.98, 0.98), (1.0, 1.0), (0.0, 1.0)], most)
        found += claimed[0]
        spent += trials[0]
        alike += trials[2]
        assert claimed[3] and trials[3] <= least_rounds(4), "all against none is claimed at once"
    assert found >= 48
    assert spent / 50 < most / 2
    assert alike / 50 < 0.8 * most, "nor does it go on for ever where all pass"


@given(
    st.integers(1, 8).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(0, n))), st.integers(1, 7)
)
def test_what_is_left_undecided_could_really_not_have_been_decided(counts, left):
    """No split of the trials that are left gives more evidence than the one that is looked at."""
    n, a, b = counts
    cell, baseline = ({number: number <= passed for number in range(1, n + 1)} for passed in (a, b))
    least = min(
        1 / max(1, e_value(a + i, n + more, b + j, n + more))
        for more in range(left + 1)
        for i in range(more + 1)
        for j in range(more + 1)
    )
    now = p_values([(cell, baseline)])[0]
    assert undecided([(cell, baseline)], n, n + left)[0] == (now >= LEVEL and min(now, least) < LEVEL)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=20))
def test_evidence_once_seen_is_not_lost(outcomes):
    def p(rounds):
        pair = tuple({n: one[place] for n, one in enumerate(outcomes[:rounds], 1)} for place in (0, 1))
        return p_values([pair])[0]

    values = [p(rounds) for rounds in range(len(outcomes) + 1)]
    assert values == sorted(values, reverse=True)


def test_an_e_value_is_one_on_average_when_there_is_no_difference():
    """At most one, that is: exactly so over all outcomes of three trials of each."""
    for chance in (0.1, 0.5, 0.8):
        mean = sum(
            comb(3, a) * comb(3, b) * chance ** (a + b) * (1 - chance) ** (6 - a - b) * e_value(a, 3, b, 3)
            for a in range(4)
            for b in range(4)
        )
        assert mean <= 1


@pytest.mark.parametrize("comparisons", [1, 2, 24, 500])
def test_the_least_rounds_are_the_first_that_can_claim_everything(comparisons):
    rounds = least_rounds(comparisons)
    none = [({}, {})] * comparisons
    assert all(undecided(none, 0, rounds))
    assert not any(undecided(none, 0, rounds - 1))


def test_a_lost_trial_counts_for_nothing():
    whole = ({1: True, 2: True, 3: True}, {1: False, 2: False, 3: False})
    torn = ({1: True, 3: True}, {1: False, 2: False, 3: False})
    assert p_values([torn])[0] > p_values([whole])[0]
    assert sequential.p_values([({}, {1: True})]) == [1.0]
