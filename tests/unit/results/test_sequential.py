"""The sequential test: its error rate and power by simulation, and that it stops only where nothing can change."""

import random
import statistics
from itertools import product
from math import comb

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.results import sequential
from harness.results.sequential import e_value, least_rounds, p_values, undecided
from harness.results.statistics import LEVEL, fisher, holm


def matrix(seed, chances, most):
    """Run a matrix until it is sure; `chances` are (cell's, baseline's) of each comparison."""
    rng = random.Random(seed)
    pairs = [({}, {}) for _ in chances]
    rounds = 0
    while rounds < most and any(open_pairs := undecided(pairs, rounds, most)):
        rounds += 1
        for pair, open_, pair_chances in zip(pairs, open_pairs, chances, strict=True):
            if open_:
                for outcomes, chance in zip(pair, pair_chances, strict=True):
                    outcomes[rounds] = rng.random() < chance
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
    most, claims, spent, alike = 30, 0, 0, 0
    for seed in range(50):
        claimed, trials = matrix(seed, [(0.3, 0.98), (0.98, 0.98), (1.0, 1.0), (0.0, 1.0)], most)
        claims += claimed[0]
        spent += trials[0]
        alike += trials[2]
        assert claimed[3] and trials[3] <= least_rounds(4), "all against none is claimed at once"
    assert claims >= 48
    assert spent / 50 < most / 2
    assert alike / 50 < 0.85 * most, "nor does it go on for ever where all pass"


BLOCKS = list(product((True, False), repeat=2))


@given(st.lists(st.sampled_from(BLOCKS), max_size=8), st.integers(1, 4))
@settings(deadline=None)
def test_what_is_left_undecided_could_really_not_have_been_decided(blocks, left):
    """No outcome of the trials that are left gives more evidence than the one that is looked at."""

    def p(outcomes):
        return p_values([tuple({n: both[place] for n, both in enumerate(outcomes, 1)} for place in (0, 1))])[0]

    n = len(blocks)
    pair = tuple({n: both[place] for n, both in enumerate(blocks, 1)} for place in (0, 1))
    least = min(p([*blocks, *more]) for more in product(BLOCKS, repeat=left))
    now = p(blocks)
    assert undecided([pair], n, n + left)[0] == (now >= LEVEL and least < LEVEL)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=20))
def test_evidence_once_seen_is_not_lost(outcomes):
    def p(rounds):
        pair = tuple({n: block[place] for n, block in enumerate(outcomes[:rounds], 1)} for place in (0, 1))
        return p_values([pair])[0]

    values = [p(rounds) for rounds in range(len(outcomes) + 1)]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("chance", [0.05, 0.3, 0.5, 0.8, 0.99])
@given(st.lists(st.sampled_from(BLOCKS), max_size=12))
def test_a_block_is_worth_one_on_average_when_there_is_no_difference(chance, blocks):
    """At most one, that is, whatever came before: the ratio of the products with the block and without."""
    before = tuple({n: both[place] for n, both in enumerate(blocks, 1)} for place in (0, 1))
    evidence = sequential.evidence(*before)
    mean = sum(
        (chance if a else 1 - chance) * (chance if b else 1 - chance) * evidence.after(a, b).product / evidence.product
        for a, b in BLOCKS
    )
    assert mean <= 1 + 1e-9


def test_counts_are_worth_one_on_average_when_there_is_no_difference():
    for chance in (0.1, 0.5, 0.8):
        mean = sum(
            comb(3, a) * comb(3, b) * chance ** (a + b) * (1 - chance) ** (6 - a - b) * e_value(a, 3, b, 3)
            for a in range(4)
            for b in range(4)
        )
        assert mean <= 1


def rounds_until(chances, seed, most=400):
    """How many rounds it takes to claim one comparison, at most so many and one more."""
    rng = random.Random(seed)
    evidence = sequential.evidence({}, {})
    for rounds in range(1, most + 1):
        evidence = evidence.after(*(rng.random() < chance for chance in chances))
        if evidence.greatest > 1 / LEVEL:
            return rounds
    return most + 1


@pytest.mark.parametrize(
    ("chances", "median"), [((1.0, 0.9), 60), ((1.0, 0.7), 22), ((0.95, 0.6), 24), ((1.0, 0.0), 5)]
)
def test_how_soon_a_difference_is_claimed(chances, median):
    for order in (chances, chances[::-1]):
        assert statistics.median(rounds_until(order, seed) for seed in range(400)) <= median


@pytest.mark.parametrize("drift", [False, True])
def test_two_thousand_null_matrices_claim_falsely_at_most_as_often_as_stated(drift):
    """Four comparisons with one baseline in each, of a chance that stays or drifts; a claim of any is a false one."""
    rng, false, matrices, comparisons = random.Random(7), 0, 2000, 4
    for _ in range(matrices):
        chance = rng.choice([0.5, 0.8, 0.95])
        sums = [sequential.evidence({}, {})] * comparisons
        for _ in range(40):
            if drift:
                chance = min(1.0, max(0.0, chance + rng.uniform(-0.1, 0.1)))
            baseline = rng.random() < chance
            sums = [evidence.after(rng.random() < chance, baseline) for evidence in sums]
        false += max(evidence.greatest for evidence in sums) > comparisons / LEVEL
    assert false <= LEVEL * matrices


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
