"""The page of all runs of a work directory: the runs, newest first, and a heat map of each cell by run.

It is one file that asks for nothing; what a run has is linked to that run's own page. Names may be hostile: they are
escaped, and their control characters spelt out.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from harness.escapes import visible
from harness.files import write_page
from harness.programs.model import CellKey
from harness.results.history import CellHistory, History
from harness.results.matrix import cell_keys
from harness.results.page import environment, pack
from harness.results.plan import RunPlan
from harness.results.store import Run
from harness.results.text import describe_title


@dataclass(frozen=True)
class ListedRun:
    """A run as the page lists it. `passing` of its `cells` have only trials that passed."""

    run: Run
    cells: int
    passing: int


def write(path: Path, runs: Sequence[Run], history: History) -> None:
    """Write the page to a file, whole or not at all.

    Args:
        runs: those that the history is made of, oldest first; their pages are in `runs/N/` beside the file.

    Raises:
        OSError: the file cannot be written.
    """
    write_page(path, html(runs, history, path.parent))


def html(runs: Sequence[Run], history: History, work: Path | None = None) -> Iterator[str]:
    """The page in pieces."""
    folder = Path(__file__).parent
    newest = list(reversed(runs))
    rows = _rows(newest, history)
    return (
        environment(work)
        .get_template("index.html.j2")
        .generate(
            runs=_listed(newest, history),
            style=Markup((folder / "page.css").read_text() + (folder / "index.css").read_text()),
            script=Markup((folder / "page_parts.js").read_text() + (folder / "index.js").read_text()),
            rows=len(rows),
            index=pack(json.dumps({"runs": [run.id for run in newest], "rows": rows}, separators=(",", ":"))),
        )
    )


def _listed(runs: Sequence[Run], history: History) -> list[ListedRun]:
    counts = [counts for cell in history.cells for counts in cell.runs]
    cells = Counter(each.run for each in counts)
    passing = Counter(each.run for each in counts if each.passed == each.trials)
    return [ListedRun(run, cells[run.id], passing[run.id]) for run in runs]


def _rows(newest: Sequence[Run], history: History) -> list[list[Any]]:
    """A row for each cell: its names, how it goes wrong, and for each run that has trials of it the run's place, how
    many passed, how many there were, and the number of the cell in the run's page."""
    places = {run.id: (place, _numbers(run.plan)) for place, run in enumerate(newest)}
    rows = []
    for cell in sorted(history.cells, key=lambda cell: (cell.cell.program, cell.cell.guest, cell.cell.variant)):
        counts = []
        for each in cell.runs:
            place, numbers = places[each.run]
            counts.append([place, each.passed, each.trials, numbers.get(cell.cell, -1)])
        rows.append([*map(visible, (cell.cell.program, cell.cell.guest, cell.cell.variant)), _titles(cell), counts])
    return rows


def _titles(cell: CellHistory) -> str:
    return visible("; ".join(describe_title(title) for title in cell.titles[:3]))


def _numbers(plan: RunPlan) -> dict[CellKey, int]:
    """The number of each cell of a run in its page."""
    return {key: number for number, key in enumerate(cell_keys(plan.guests, plan.variants, plan.programs))}
