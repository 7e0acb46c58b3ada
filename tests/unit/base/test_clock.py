"""The clock that stands still while the machine sleeps, and deadlines that progress puts off."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from harness import clock as clocks
from harness.clock import Clock, Deadline


def test_gaps_do_not_count():
    now = [100.0]
    clock = Clock(lambda: now[0])
    begun = clock.time()
    for step, so_far in ((1.0, 1.0), (9.0, 10.0), (3600.0, 10.0), (2.0, 12.0), (50.0, 12.0), (0.0, 12.0)):
        now[0] += step
        assert clock.time() - begun == so_far


@given(
    some.lists(some.tuples(some.integers(0, 9), some.integers(0, 1)), max_size=60), some.none() | some.integers(1, 99)
)
def test_a_deadline_passes_when_nothing_has_moved_for_as_long_or_at_its_limit(steps, limit):
    now, moved, mark = 0, 0, None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clocks, "time", lambda: now)
        deadline = Deadline(10, limit)
        for seconds, further in steps:
            now += seconds
            if mark is None or further:
                mark, moved = (mark or 0) + further, now
            assert deadline.passed(mark) == (now - moved > 10 or (limit is not None and now > limit))


def test_a_slow_thing_is_waited_for_and_a_dead_one_is_not(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(clocks, "time", lambda: now[0])
    slow, dead = Deadline(), Deadline()
    for moved in range(100):
        assert not slow.passed(moved)
        now[0] += clocks.QUIET
    assert dead.passed(None)
