"""Shards: the trials of a matrix cut into jobs of equal expected time.

What is cut are blocks: trials of one program on one guest, always with all variants. So what is compared runs on the
same machine, side by side, and no variant gains or loses by differences between machines. That is why variants are not
spread over jobs, though each job needs them all: they are built once and come from a cache.

The cut follows from the cells, the number of trials and the known times alone, so jobs that are told the same make the
same cut. Knows nothing of where times are kept, and runs nothing.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.programs.model import CellKey, TrialSpec

#: Seconds that a job needs for a guest: a boot without KVM, and a libgo's way into it, for each variant.
BOOT, LIBGO = 10.0, 15.0
#: Seconds of a trial besides those that its program runs, and of the fresh guest that follows a crash or a hang.
AROUND, RESTORE = 0.1, 1.5
#: Seconds of a trial where nothing is known at all: a Go program takes 0.5 s to be loaded without KVM.
UNKNOWN = 1.0
#: Seconds that no trial is expected to stay below.
LEAST = 0.001
#: The most jobs of a cut: far more than a CI system starts (GitHub's and GitLab's limits are some hundreds).
MOST_JOBS = 10_000


@dataclass(frozen=True)
class Times:
    """The mean seconds that a trial of a cell took. Those of a cell that is not known are the median of its guest's and
    suite's known ones, or else of all."""

    known: Mapping[CellKey, float] = field(default_factory=dict)

    def to_json(self) -> list[list[Any]]:
        """What `from_json` reads: guest, variant, program and seconds of each cell."""
        return [[*key, self.known[key]] for key in sorted(self.known)]

    @classmethod
    def from_json(cls, rows: Iterable[Sequence[Any]]) -> Times:
        """Times that were written down. Raises ValueError or TypeError if it is something else."""
        known = {CellKey(str(guest), str(variant), str(program)): float(time) for guest, variant, program, time in rows}
        if not all(0 <= time < math.inf for time in known.values()):
            raise ValueError("a time must be a number of seconds, 0 or more")
        return cls(known)

    def of(self, cells: Iterable[CellKey]) -> dict[CellKey, float]:
        """The expected seconds of a trial of each cell."""
        suites: dict[tuple[str, str], list[float]] = {}
        for key in sorted(self.known):
            suites.setdefault(_suite(key), []).append(self.known[key])
        medians = {suite: statistics.median(values) for suite, values in suites.items()}
        rest = statistics.median(self.known.values()) if self.known else UNKNOWN
        return {key: self.known.get(key, medians.get(_suite(key), rest)) for key in cells}


def _suite(key: CellKey) -> tuple[str, str]:
    return key.guest, key.program.partition("/")[0]


@dataclass
class Shard:
    """What one job makes.

    Attributes:
        blocks: by guest and program, the numbers of the trials, as ranges.
        seconds: how long one guest at a time is expected to take.
    """

    blocks: dict[tuple[str, str], list[range]] = field(default_factory=dict)
    seconds: float = 0.0

    def has(self, spec: TrialSpec) -> bool:
        """Whether a trial is one of its own."""
        return any(spec.number in numbers for numbers in self.blocks.get((spec.guest, spec.program.name), ()))


@dataclass(frozen=True)
class _Piece:
    """A block, or where a block is longer than a job's share, some of its trials."""

    seconds: float
    guest: str
    program: str
    numbers: range


def cut(cells: Sequence[CellKey], trials: int, times: Times, jobs: int) -> list[Shard]:
    """Cut a matrix: the longest piece first, each to the job that ends first with it.

    Args:
        cells: those of the matrix.
        trials: of each cell.
        times: how long trials take.
        jobs: how many shards are cut.

    Returns:
        One shard for each job. A shard is empty where a job would only wait for a guest to boot.
    """
    each = times.of(cells)
    rounds: dict[tuple[str, str], float] = {}  # seconds of one trial with each variant
    variants: dict[str, set[str]] = {}
    for cell in cells:
        pair = cell.guest, cell.program
        rounds[pair] = rounds.get(pair, 0.0) + max(each[cell], LEAST)
        variants.setdefault(cell.guest, set()).add(cell.variant)
    share = sum(rounds.values()) * trials / jobs
    pieces = [
        _Piece(seconds * len(numbers), guest, program, numbers)
        for (guest, program), seconds in rounds.items()
        for numbers in _ranges(trials, math.ceil(seconds * trials / share))
    ]
    shards = [Shard() for _ in range(min(jobs, len(pieces)))]
    served: list[set[str]] = [set() for _ in shards]
    for piece in sorted(
        pieces, key=lambda piece: -piece.seconds
    ):  # stable: the order of the plan decides between equals
        start = BOOT + LIBGO * len(variants[piece.guest])
        ends = [
            shard.seconds + piece.seconds + (0.0 if piece.guest in guests else start)
            for shard, guests in zip(shards, served, strict=True)
        ]
        first = ends.index(min(ends))
        shards[first].seconds = ends[first]
        shards[first].blocks.setdefault((piece.guest, piece.program), []).append(piece.numbers)
        served[first].add(piece.guest)
    return shards + [Shard() for _ in range(jobs - len(shards))]


def _ranges(trials: int, parts: int) -> Iterator[range]:
    """The numbers from 1 to `trials` in so many parts, or fewer, whose lengths differ by one at most."""
    parts = min(parts, trials)
    for part in range(parts):
        yield range(part * trials // parts + 1, (part + 1) * trials // parts + 1)
