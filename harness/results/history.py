"""What all runs of a work directory say of each cell: how often it passed, how it went wrong, since when, and whether
that is over.

Pure functions of counts. A trial that an infrastructure error ended counts only if its guest died of its program
(harness/results/deaths.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from harness.programs.model import CellKey
from harness.results.deaths import Attempts, death_title, killers
from harness.results.statistics import LEVEL, fisher, holm, least_p, wilson
from harness.trial.record import Verdict

#: The version of what `History.to_json` gives.
SCHEMA = 1
#: A way to go wrong is gone when chance alone would keep it silent for as long with less than this probability.
GONE = 0.01


class OutcomeCount(NamedTuple):
    """How many trials of a cell ended in one way in one run. `title` is the signature, or the reason without one."""

    run: int
    cell: CellKey
    verdict: Verdict
    title: str
    trials: int


@dataclass
class RunCounts:
    """The outcome of a cell in one run. `titles` counts the trials that went wrong by their verdict and title; `deaths`
    are trials in which the guest died, whether that counts or not."""

    run: int
    passed: int
    trials: int
    titles: dict[tuple[Verdict, str], int]
    deaths: int = 0


@dataclass(frozen=True)
class TitleHistory:
    """A way in which a cell went wrong.

    Attributes:
        first, last: the runs in which it was first and last seen.
        silence: how many trials of the cell came after the last run that had it.
        p: how probable so long a silence is if it still came as often: (span / (span + silence)) ** (trials - 1), where
            the span is the trials from its first run to its last (A. R. Solow, "Inferring extinction from sighting
            data", Ecology 74 (1993) 962-964). Whole runs are counted, so the span is no shorter than it was.
        gone: p is below GONE.
    """

    verdict: Verdict
    title: str
    trials: int
    first: int
    last: int
    silence: int
    p: float
    gone: bool


@dataclass(frozen=True)
class Rise:
    """That a cell fails more often in its newest run than in all before.

    Attributes:
        passed, trials: of the newest run; before_passed, before_trials: of those before.
        p: of Fisher's exact test; p_corrected: Holm's, over all cells that could have come out as clear.
    """

    passed: int
    trials: int
    before_passed: int
    before_trials: int
    p: float
    p_corrected: float


@dataclass(frozen=True)
class CellHistory:
    """A cell over all runs.

    Attributes:
        runs: what came of it in each, oldest first.
        passed, trials: k of n over all of them. interval: Wilson's 95 % interval of that.
        titles: ways to go wrong, the last seen first.
        rise: None if its failures did not become significantly more.
    """

    cell: CellKey
    runs: list[RunCounts]
    passed: int
    trials: int
    interval: tuple[float, float]
    titles: list[TitleHistory]
    rise: Rise | None

    @property
    def live(self) -> bool:
        """Whether it went wrong in a way that is not gone."""
        return any(not title.gone for title in self.titles)


@dataclass(frozen=True)
class History:
    """All cells that have trials, in the order they were first seen."""

    cells: list[CellHistory]

    def to_json(self) -> dict[str, Any]:
        """A JSON object.

        Keys:
            schema: 1.
            cells: objects with guest, variant, program, passed, trials, interval, rise, titles (see CellHistory) and
                runs (run, passed, trials).
        """
        return {"schema": SCHEMA, "cells": [_json(cell) for cell in self.cells]}


def _json(cell: CellHistory) -> dict[str, Any]:
    runs = [{"run": counts.run, "passed": counts.passed, "trials": counts.trials} for counts in cell.runs]
    return {
        **cell.cell._asdict(),
        "passed": cell.passed,
        "trials": cell.trials,
        "interval": list(cell.interval),
        "rise": asdict(cell.rise) if cell.rise else None,
        "titles": [asdict(title) for title in cell.titles],
        "runs": runs,
    }


def collect(outcomes: Iterable[OutcomeCount], wanted: Callable[[CellKey], bool] = lambda cell: True) -> History:
    """The history of each cell.

    Args:
        outcomes: of all runs, oldest first.
        wanted: which cells are reported; guests' deaths are judged by all of them.
    """
    by_run: dict[int, list[OutcomeCount]] = {}
    for outcome in outcomes:
        by_run.setdefault(outcome.run, []).append(outcome)
    cells: dict[CellKey, list[RunCounts]] = {}
    for run in by_run.values():
        for key, counts in _count(run).items():
            if counts.trials and wanted(key):
                cells.setdefault(key, []).append(counts)
    rises = _rises(list(cells.values()))
    return History([_history(key, runs, rise) for (key, runs), rise in zip(cells.items(), rises, strict=True)])


def _count(outcomes: Sequence[OutcomeCount]) -> dict[CellKey, RunCounts]:
    """The outcome of each cell of one run."""
    attempts: dict[CellKey, Attempts] = {}
    for _, cell, verdict, title, trials in outcomes:
        before = attempts.get(cell, Attempts(0, 0))
        died = trials if verdict == Verdict.ERROR and death_title(title) else 0
        attempts[cell] = Attempts(before.attempts + trials, before.deaths + died)
    kills = killers(attempts)
    counted: dict[CellKey, RunCounts] = {}
    for run, cell, verdict, title, trials in outcomes:
        counts = counted.setdefault(cell, RunCounts(run, 0, 0, {}, attempts[cell].deaths))
        if verdict == Verdict.ERROR:
            title = death_title(title)
            if not title or cell not in kills:
                continue
            verdict = Verdict.KILLS
        counts.trials += trials
        if verdict == Verdict.PASS:
            counts.passed += trials
        else:
            counts.titles[verdict, title] = counts.titles.get((verdict, title), 0) + trials
    return counted


def _rises(cells: Sequence[Sequence[RunCounts]]) -> list[Rise | None]:
    tables = []
    for runs in cells:
        *before, newest = runs
        passed, trials = sum(counts.passed for counts in before), sum(counts.trials for counts in before)
        tables.append((newest.passed, newest.trials, passed, trials))
    p_values = [fisher(*table) for table in tables]
    rises: list[Rise | None] = []
    least = [least_p(*table) for table in tables]
    for table, p, corrected in zip(tables, p_values, holm(p_values, least), strict=True):
        passed, trials, before_passed, before_trials = table
        rose = corrected < LEVEL and passed * before_trials < before_passed * trials
        rises.append(Rise(*table, p, corrected) if rose else None)
    return rises


def _history(key: CellKey, runs: list[RunCounts], rise: Rise | None) -> CellHistory:
    passed, trials = sum(counts.passed for counts in runs), sum(counts.trials for counts in runs)
    kinds = dict.fromkeys(kind for counts in runs for kind in counts.titles)
    titles = [_title(kind, runs) for kind in kinds]
    titles.sort(key=lambda title: (-title.last, -title.trials))
    return CellHistory(key, runs, passed, trials, wilson(passed, trials), titles, rise)


def _title(kind: tuple[Verdict, str], runs: Sequence[RunCounts]) -> TitleHistory:
    places = [place for place, counts in enumerate(runs) if kind in counts.titles]
    first, last = places[0], places[-1]
    occurrences = sum(counts.titles.get(kind, 0) for counts in runs)
    span = sum(counts.trials for counts in runs[first : last + 1])
    silence = sum(counts.trials for counts in runs[last + 1 :])
    p = (span / (span + silence)) ** (occurrences - 1)
    return TitleHistory(*kind, occurrences, runs[first].run, runs[last].run, silence, p, p < GONE)
