"""The life-cycle trace: what a program wrote, whole or not, and what is said of it."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from harness.results import lifecycle
from harness.trial.lifetrace import EVENTS, parse
from harness.trial.record import Trial


def written(counts, samples, capacity=8, magic=b"LIFETRC1", events=8):
    """A file as the C code of lifetrace.patch writes it."""
    head = struct.pack("<8s4I8I", magic, events, capacity, len(samples), 1, *counts)
    rows = b"".join(struct.pack("<9I", *row) for row in samples)
    return head + rows.ljust(36 * capacity, b"\0")


COUNTS = (5, 7, 6, 2, 2, 9, 4, 3)
SAMPLES = [(0, 1, 0, 0, 0, 0, 1, 0, 0), (1500, 3, 0, 0, 1, 1, 9, 4, 2), (2000000, *COUNTS)]


def test_what_was_written_is_read():
    trace = parse(written(COUNTS, SAMPLES))
    assert list(trace.counts) == list(EVENTS) and tuple(trace.counts.values()) == COUNTS
    assert [(sample.seconds, sample.threads, sample.goroutines) for sample in trace.samples] == [
        (0.0, 2, 1),
        (0.0015, 3, 7),
        (2.0, 4, 8),
    ]


def test_what_was_left_over_from_thinning_out_is_not_read():
    assert len(parse(written(COUNTS, [*SAMPLES, (1, *COUNTS)])).samples) == 3


def test_what_is_no_trace():
    for data in (b"", b"LIFETRC1", written(COUNTS, [], magic=b"LIFETRC2"), written(COUNTS, [], events=9)):
        assert parse(data) is None


@given(st.binary(max_size=200), st.integers(0, 200))
def test_any_bytes_and_any_cut(noise, cut):
    parse(b"LIFETRC1" + noise)
    trace = parse(written(COUNTS, SAMPLES)[:cut])
    assert trace is None or list(trace.samples) == list(parse(written(COUNTS, SAMPLES)).samples[: len(trace.samples)])


def test_were_they_destroyed():
    trace = parse(written(COUNTS, SAMPLES))
    assert trace.threads_destroyed().startswith("Ms were destroyed: 2 of 5 were torn down by Go, and")
    assert "4 ended and were kept, 3 of them were used again" in trace.goroutines_destroyed()
    assert "2 of 5 were torn down by Go; 0 of" in parse(written((5, 0, 0, 2, 0, 1, 0, 0), [])).threads_destroyed()
    assert "the one thread that was made" in parse(written((1, 0, 0, 0, 0, 1, 0, 0), [])).threads_destroyed()
    assert parse(written((5, 0, 0, 0, 0, 1, 0, 0), [])).threads_destroyed().startswith("No M was destroyed: all 5")


def trial(number, variant, seconds, verdict="pass"):
    return Trial(number, "g", variant, "s/p", 1, 1, verdict, "", "", 0, "", seconds, b"", b"", 0, 0, "", "again")


def test_variants_side_by_side():
    trials = [trial(1, "a", 1.0), trial(2, "a+t", 2.0), trial(3, "a", 1.0), trial(4, "a+t", 2.0, "crash")]
    trials += [trial(5, "b+t", 1.0, "hang"), trial(6, "a+t", 0.0, "error")]
    one, other = parse(written(COUNTS, SAMPLES)), parse(written((4, *COUNTS[1:]), SAMPLES[:2]))
    (cycle,) = lifecycle.collect(trials, {2: one, 4: other, 5: None, 6: None}, "+t")
    assert dict(cycle.rows()) == {
        **{event: [str(n), "-"] for event, n in zip(EVENTS, COUNTS, strict=True)},
        "threads made": ["4 to 5", "-"],
        "most threads alive at once": ["3 to 4", "-"],
        "most goroutines alive at once": ["7 to 8", "-"],
    }
    first, second = cycle.columns.values()
    assert first.cost() == "2.00 s with the trace, 1.00 s without, ratio 2.00 (medians of 2 and 2 trials in turn)"
    assert first.verdicts == {"pass": 1, "crash": 1} and second.cost() == ""
    assert second.findings() == ["No trace was written: the program did not come as far as Go's runtime."]
    drawn, empty = cycle.plots("threads")
    assert (drawn.seconds, drawn.most, empty.path) == (2.0, 4, "")
    assert drawn.path == "M0,45H0.2V22.5H320V0H320"


def test_nothing_traced_is_nothing():
    assert lifecycle.collect([trial(1, "a", 1.0)], {}, "+t") == []
