"""The page of all runs of a work directory: the runs, newest first, and a heat map of each cell by run.

It is one file that asks for nothing; what a run has is linked to that run's own pages. Names may be hostile: they are
escaped, and their control characters spelt out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.escapes import visible
from harness.files import write_page
from harness.programs.model import CellKey
from harness.results.history import CellHistory, History, RunCounts
from harness.results.listing import ListedRun, render_programs, render_progress
from harness.results.matrix import CellVerdict, cell_keys
from harness.results.page import assets, environment, pack, text_signs
from harness.results.plan import RunPlan
from harness.results.store import Run
from harness.results.text import describe_title
from harness.trial.record import Verdict


@dataclass(frozen=True)
class RunEntry:
    """A run as the page lists it.

    Attributes:
        pages: its pages that there are, by what they are called; addresses are as seen from the page of all runs.
    """

    run: ListedRun
    pages: Mapping[str, str]

    @property
    def programs(self) -> str:
        """Its programs in few words."""
        return render_programs(self.run.programs)

    @property
    def progress(self) -> str:
        """How many trials were made, and of how many."""
        return render_progress(self.run)


def write(path: Path, entries: Sequence[RunEntry], runs: Sequence[Run], history: History) -> None:
    """Write the page to a file, whole or not at all.

    Args:
        entries: all runs, oldest first.
        runs: those that the history is made of, oldest first; their pages are in `runs/N/` beside the file.

    Raises:
        OSError: the file cannot be written.
    """
    write_page(path, html(entries, runs, history, path.parent))


def html(entries: Sequence[RunEntry], runs: Sequence[Run], history: History, work: Path | None = None) -> Iterator[str]:
    """The page in pieces."""
    newest = list(reversed(runs))
    shown = {entry.run.run for entry in entries if entry.pages}
    index = {
        "runs": [run.id for run in newest],
        "pages": [run.id in shown for run in newest],
        "verdicts": list(CellVerdict),
        "signs": text_signs(),
        "rows": _rows(newest, history),
    }
    return (
        environment(work)
        .get_template("index.html.j2")
        .generate(
            entries=list(reversed(entries)),
            cells=len(history.cells),
            links={},
            index=pack(json.dumps(index, separators=(",", ":"))),
            **assets("index.css", "index.js"),
        )
    )


def _rows(newest: Sequence[Run], history: History) -> list[list[Any]]:
    """A row for each cell: its names, how it goes wrong, and for each run that has trials of it the run's place, how
    many passed, how many there were, the number of the cell in the run's page, and the verdict that it is shown as."""
    verdicts = list(CellVerdict)
    places = {run.id: (place, _numbers(run.plan)) for place, run in enumerate(newest)}
    rows = []
    for cell in sorted(history.cells, key=lambda cell: (cell.cell.program, cell.cell.guest, cell.cell.variant)):
        counts = []
        for each in cell.runs:
            place, numbers = places[each.run]
            number = numbers.get(cell.cell, -1)
            counts.append([place, each.passed, each.trials, number, verdicts.index(_verdict(each))])
        rows.append([*map(visible, (cell.cell.program, cell.cell.guest, cell.cell.variant)), _titles(cell), counts])
    return rows


def _verdict(counts: RunCounts) -> CellVerdict:
    """What most of the trials that did not pass came to; of a cell that passed in spite of guests' deaths an error."""
    failed: dict[Verdict, int] = {}
    for (verdict, _), number in counts.titles.items():
        failed[verdict] = failed.get(verdict, 0) + number
    if failed:
        return CellVerdict(max(failed, key=lambda verdict: failed[verdict]))
    return CellVerdict.ERROR if counts.deaths else CellVerdict.PASS


def _titles(cell: CellHistory) -> str:
    return visible("; ".join(describe_title(title) for title in cell.titles[:3]))


def _numbers(plan: RunPlan) -> dict[CellKey, int]:
    """The number of each cell of a run in its page."""
    return {key: number for number, key in enumerate(cell_keys(plan.guests, plan.variants, plan.programs))}
