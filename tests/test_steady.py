"""The clock that stands still while the machine sleeps."""

from harness.steady import Clock


def test_gaps_do_not_count():
    now = [100.0]
    clock = Clock(lambda: now[0])
    begun = clock.time()
    for step, so_far in ((1.0, 1.0), (9.0, 10.0), (3600.0, 10.0), (2.0, 12.0), (50.0, 12.0), (0.0, 12.0)):
        now[0] += step
        assert clock.time() - begun == so_far
