"""Life cycles of threads and goroutines, compared between variants: counts, curves over time, and what tracing costs.

Pure functions of what is handed in. Knows nothing of where traces are kept or how they are shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median

from harness.programs.model import CellKey
from harness.results.text import render_count
from harness.trial.lifetrace import EVENTS, Trace
from harness.trial.record import JUDGED, Trial

#: The size of a plot's drawing area, in the units of its SVG.
WIDTH, HEIGHT = 320, 90


@dataclass
class Column:
    """A traced variant's trials of one program on one guest.

    Attributes:
        name: the variant's name without the mark of tracing.
        traces: of the trials that wrote one.
        verdicts: verdict -> trials.
        seconds: how long the traced trials took; plain, those of the same variant without the trace in the same run.
    """

    name: str
    traces: list[Trace] = field(default_factory=list)
    verdicts: dict[str, int] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    plain: list[float] = field(default_factory=list)

    def count(self, event: str) -> str:
        """How often an event was counted in a trial: a number, a range over the trials, or '-'."""
        return _range(trace.counts[event] for trace in self.traces)

    def most(self, what: str) -> str:
        """The most `threads` or `goroutines` that were alive at once: a number, a range over the trials, or '-'."""
        return _range(max((getattr(sample, what) for sample in trace.samples), default=0) for trace in self.traces)

    def findings(self) -> list[str]:
        """Were Ms destroyed? Were Gs? A sentence on each, of the first trial that wrote a trace."""
        if not self.traces:
            return ["No trace was written: the program did not come as far as Go's runtime."]
        return [self.traces[0].threads_destroyed(), self.traces[0].goroutines_destroyed()]

    def cost(self) -> str:
        """What tracing costs, as measured in this run, or '' where nothing was measured."""
        if not self.seconds or not self.plain:
            return ""
        with_, without = median(self.seconds), median(self.plain)
        return (
            f"{with_:.2f} s with the trace, {without:.2f} s without, ratio {with_ / without:.2f}"
            f" (medians of {len(self.seconds)} and {render_count(len(self.plain), 'trial')} in turn)"
        )


@dataclass
class LifeCycle:
    """One program on one guest: a column for each traced variant."""

    guest: str
    program: str
    columns: dict[str, Column] = field(default_factory=dict)

    def rows(self) -> Iterator[tuple[str, list[str]]]:
        """What is counted, and each column's count."""
        for event in EVENTS:
            yield event, [column.count(event) for column in self.columns.values()]
        for what in ("threads", "goroutines"):
            yield f"most {what} alive at once", [column.most(what) for column in self.columns.values()]

    def plots(self, what: str) -> list[Plot]:
        """A plot of the `threads` or `goroutines` alive for each column, all to the same scale."""
        first = [column.traces[0].samples if column.traces else () for column in self.columns.values()]
        seconds = max((samples[-1].seconds for samples in first if samples), default=0.0)
        most = max((getattr(sample, what) for samples in first for sample in samples), default=0)
        plots = []
        for column, samples in zip(self.columns.values(), first, strict=True):
            points = [(sample.seconds, getattr(sample, what)) for sample in samples]
            plots.append(Plot(column.name, seconds, most, _path(points, seconds, most)))
        return plots


@dataclass(frozen=True)
class Plot:
    """A curve: its title, the greatest values of its axes, and an SVG path within WIDTH and HEIGHT."""

    title: str
    seconds: float
    most: int
    path: str


def collect(trials: Iterable[Trial], traces: dict[int, Trace | None], traced: str) -> list[LifeCycle]:
    """Group traced trials.

    Args:
        trials: all trials of a run, in their order.
        traces: what was read of each traced trial, by its id.
        traced: what a traced variant's name ends in.
    """
    cycles: dict[tuple[str, str], LifeCycle] = {}
    plain: dict[CellKey, list[float]] = {}
    for trial in trials:
        if trial.verdict not in JUDGED:
            continue
        if trial.id not in traces:
            plain.setdefault(trial.cell, []).append(trial.seconds)
            continue
        name = trial.variant.removesuffix(traced)
        cycle = cycles.setdefault((trial.guest, trial.program), LifeCycle(trial.guest, trial.program))
        column = cycle.columns.setdefault(name, Column(name))
        column.verdicts[trial.verdict] = column.verdicts.get(trial.verdict, 0) + 1
        column.seconds.append(trial.seconds)
        if (trace := traces[trial.id]) is not None:
            column.traces.append(trace)
    for (guest, program), cycle in cycles.items():
        for column in cycle.columns.values():
            column.plain = plain.get(CellKey(guest, column.name, program), [])
    return list(cycles.values())


def _range(numbers: Iterable[int]) -> str:
    ordered = sorted(numbers)
    if not ordered:
        return "-"
    return str(ordered[0]) if ordered[0] == ordered[-1] else f"{ordered[0]} to {ordered[-1]}"


def _path(points: Sequence[tuple[float, int]], seconds: float, most: int) -> str:
    """Steps: the number stays what it was until it changes. Points that would fall on one another are left out."""
    if not points or not seconds or not most:
        return ""
    drawn: list[str] = []
    before = (-1.0, -1.0)
    for at, number in points:
        x, y = round(at / seconds * WIDTH, 1), round(HEIGHT - number / most * HEIGHT, 1)
        if (x, y) != before:
            drawn.append(f"M{x:g},{y:g}" if not drawn else f"H{x:g}V{y:g}")
        before = (x, y)
    return "".join([*drawn, f"H{WIDTH}"])
