"""Durations in words."""

import pytest

from harness.durations import as_clock, in_words


def test_hours_are_hours():
    assert [as_clock(seconds) for seconds in (0, 59.9, 60, 3599, 3600, 36_061)] == [
        "0:00", "0:59", "1:00", "59:59", "1:00:00", "10:01:01"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.04, "0.0 s"), (59.9, "59.9 s"), (104.4, "1 min 44 s"), (3720, "1 h 2 min")]
)
def test_the_two_units_that_matter(seconds, words):
    assert in_words(seconds) == words
