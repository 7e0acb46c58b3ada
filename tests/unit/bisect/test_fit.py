"""Whether two rates are enough, and how many trials tell one from the other."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from harness.bisect.fit import FITS, GRADED, PRIOR, Tally, graded, repetitions


def test_a_rate_between_two_others_is_graded():
    ends = Tally(0, 20), Tally(18, 20)
    assert graded(Tally(7, 20), *ends, inside=False) > GRADED
    assert graded(Tally(7, 20), *ends, inside=True) > GRADED
    assert graded(Tally(0, 20), *ends, inside=False) < FITS
    assert graded(Tally(18, 20), *ends, inside=True) < FITS
    assert graded(Tally(0, 0), *ends, inside=True) == pytest.approx(PRIOR)


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 20), st.booleans())
def test_it_is_a_probability_and_as_likely_seen_from_the_other_side(checked, without, with_, inside):
    value = graded(Tally(checked, 20), Tally(without, 20), Tally(with_, 20), inside)
    assert 0 <= value <= 1


@given(st.floats(0, 0.9), st.floats(0.1, 1), st.sampled_from([0.05, 0.01, 0.2]))
def test_the_repetitions_are_the_fewest_that_tell(p0, difference, error):
    p1 = min(1.0, p0 + difference)
    trials = repetitions(p0, p1, error)
    assert trials is not None

    def worst(number):
        return min(max(binom.sf(least, number, p0), binom.cdf(least, number, p1)) for least in range(number))

    assert worst(trials) <= error + 1e-9
    assert all(worst(fewer) >= error - 1e-9 for fewer in range(max(1, trials - 5), trials))


def test_rates_that_are_alike_cannot_be_told_apart():
    assert repetitions(0.5, 0.5001, 0.05) is None
