"""The life-cycle trace: what a libgo with conf/patches/lifetrace.patch wrote of its threads and goroutines.

Pure functions of bytes. The words: an M is a thread of Go's scheduler, a G a goroutine (libgo/go/runtime/proc.go).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

#: The environment variable that names the file to write.
VARIABLE = "HARNESS_LIFETRACE"
#: What is counted, in the order of the counters in the file.
EVENTS = (
    "threads made",
    "threads parked",
    "threads reused",
    "threads torn down by Go",
    "threads ended in libpthread",
    "goroutines made",
    "goroutines put on a free list",
    "goroutines taken from a free list",
)
_MAGIC = b"LIFETRC1"
_HEAD = struct.Struct("<8s4I")
_COUNTS = struct.Struct(f"<{len(EVENTS)}I")
_SAMPLE = struct.Struct(f"<I{len(EVENTS)}I")


@dataclass(frozen=True)
class Sample:
    """The state at one moment.

    Attributes:
        seconds: since the first event, by the guest's monotonic clock.
        threads: alive, the program's first one among them.
        goroutines: alive, those of the runtime among them.
    """

    seconds: float
    threads: int
    goroutines: int


@dataclass(frozen=True)
class Trace:
    """One program's life cycle.

    Attributes:
        counts: event -> how often, in the order of EVENTS.
        samples: the time line, oldest first; at most 4096.
    """

    counts: dict[str, int]
    samples: tuple[Sample, ...]

    def threads_destroyed(self) -> str:
        """Whether Ms were destroyed, in a sentence."""
        torn, ended = self.counts["threads torn down by Go"], self.counts["threads ended in libpthread"]
        threads_made = self.counts["threads made"]
        if not torn and not ended:
            stayed = "the one thread that was" if threads_made == 1 else f"all {threads_made} threads that were"
            return f"No M was destroyed: {stayed} made stayed."
        if torn == ended:
            ends = ", and their threads ended in libpthread"
        else:
            ends = f"; {ended} of their threads ended in libpthread"
        return f"Ms were destroyed: {torn} of {threads_made} were torn down by Go{ends}."

    def goroutines_destroyed(self) -> str:
        """Whether Gs were destroyed, in a sentence: libgo has no way to do that (proc.go, allgs)."""
        put, taken = self.counts["goroutines put on a free list"], self.counts["goroutines taken from a free list"]
        return (
            f"No G was destroyed, for libgo keeps them all: {put} ended and were kept, {taken} of them were used again."
        )


def parse(data: bytes) -> Trace | None:
    """Read a trace, also one of a program that died while it wrote; None if it is none."""
    if len(data) < _HEAD.size + _COUNTS.size:
        return None
    magic, events, _, used, _ = _HEAD.unpack_from(data)
    if magic != _MAGIC or events != len(EVENTS):
        return None
    counts = dict(zip(EVENTS, _COUNTS.unpack_from(data, _HEAD.size), strict=True))
    start = _HEAD.size + _COUNTS.size
    whole = min(used, (len(data) - start) // _SAMPLE.size)
    return Trace(counts, tuple(_samples(data[start : start + whole * _SAMPLE.size])))


def _samples(data: bytes) -> Iterator[Sample]:
    before = 0
    for microseconds, *counts in _SAMPLE.iter_unpack(data):
        if microseconds < before:
            return  # the rest was left as it was when the time line was thinned out
        before = microseconds
        threads_made, _, _, _, ended, new, put, taken = counts
        yield Sample(microseconds / 1e6, 1 + threads_made - ended, new + taken - put)
