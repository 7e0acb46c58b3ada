"""Counts trials into the cells of a matrix, and finds the differences between cells that the counts support.

Pure functions of what is handed in. Knows nothing of where trials are kept or how a matrix is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from harness.errors import StoreError
from harness.programs.model import CellKey
from harness.results.attribution import Effect, find_effects
from harness.results.deaths import Attempts, death_title, killers
from harness.results.expected import Entry, contradicted, excuse
from harness.results.matrix import TRIAL_VERDICTS, Cell, Difference, Finding, Matrix, cell_keys
from harness.results.sequential import p_values as sequential_p_values
from harness.results.statistics import LEVEL, fisher, holm, least_p, smallest_difference, tests_counted, wilson
from harness.results.systems import CellOutcomes, compare_guests, find_interactions
from harness.results.twins import Experiment
from harness.trial.record import Trial, Verdict


@dataclass(frozen=True)
class _Death:
    """A guest that died in a trial."""

    number: int
    title: str
    reason: str
    trial: int
    command: str


def build_matrix(
    run: Mapping[str, Any],
    guests: Sequence[str],
    variants: Sequence[str],
    programs: Sequence[str],
    baseline: str,
    trials: Iterable[Trial],
    events: Iterable[dict[str, Any]],
    most: int | None = None,
    expected: Sequence[Entry] = (),
    day: date = date.max,
    times: Sequence[dict[str, Any]] = (),
    control: str = "",
    experiment: Experiment | None = None,
    unmatched: Sequence[str] = (),
) -> Matrix:
    """Count trials into cells, and compare every variant's cells with the baseline's.

    The trials are read once and none is kept, so a run may be far bigger than memory.

    Args:
        baseline: a variant; if it is not among `variants`, nothing is compared.
        most: see Matrix.
        control: the guest that the other ones are compared with; if it is not among `guests`, none is.
        experiment: what there is besides Go programs and libgos.
        expected: the known failures; those count that have not expired on `day`.
        unmatched: see Matrix.

    Raises:
        StoreError: a trial belongs to no cell, or its verdict is unknown.
    """
    matrix_cells = {key: Cell(*key) for key in cell_keys(guests, variants, programs)}
    errors_only: dict[tuple[int, int], Cell] = {}
    died: dict[CellKey, list[_Death]] = {}
    findings: dict[tuple[int, str, str], Finding] = {}
    outcomes: dict[int, dict[int, bool]] = {}
    for trial in trials:
        cell = matrix_cells.get(trial.cell)
        if cell is None:
            name = f"{trial.guest}, {trial.variant}, {trial.program}"
            raise StoreError(f"Trial {trial.id} belongs to no cell of the run: {name}")
        if trial.verdict not in TRIAL_VERDICTS:
            raise StoreError(f"Trial {trial.id} has the unknown verdict {trial.verdict!r}")
        cell.ids.append(trial.id)
        cell.seconds += trial.seconds
        if trial.verdict == "error":
            cell.errors += 1
            errors_only[id(cell), trial.number] = cell
            if title := death_title(trial.reason):
                died.setdefault(trial.cell, []).append(
                    _Death(trial.number, title, trial.reason, trial.id, trial.command)
                )
        else:
            cell.counts[trial.verdict] += 1
            errors_only.pop((id(cell), trial.number), None)  # a trial's errors come before its verdict
            if most:
                outcomes.setdefault(id(cell), {})[trial.number] = trial.verdict == "pass"
            if trial.signature:
                cell.signatures[trial.signature] = cell.signatures.get(trial.signature, 0) + 1
        if trial.verdict != "pass":
            title = trial.signature or trial.reason
            finding = findings.get((id(cell), trial.verdict, title))
            if finding is None:
                finding = Finding(trial.verdict, title, 0, trial.id, trial.command)
                findings[id(cell), trial.verdict, title] = finding
                cell.findings.append(finding)
            finding.count += 1
    for key, deaths in died.items():
        matrix_cells[key].deaths = len(deaths)
    attempts = {key: Attempts(cell.trials + cell.errors, len(died.get(key, ()))) for key, cell in matrix_cells.items()}
    for key in killers(attempts):
        cell = matrix_cells[key]
        _blame(cell, died[key])
        for death in died[key]:
            errors_only.pop((id(cell), death.number), None)
            if most:  # the guest that lived does not hide it
                outcomes.setdefault(id(cell), {})[death.number] = False
    for cell in errors_only.values():
        cell.lost += 1
    for cell in matrix_cells.values():
        if cell.trials:
            cell.interval = wilson(cell.passed, cell.trials)
    expired = _expect(matrix_cells.values(), expected, day)
    experiment = experiment or Experiment()
    _compare(matrix_cells, baseline, experiment, outcomes if most else None)
    counted = {
        key: CellOutcomes(cell.passed, cell.trials, outcomes.get(id(cell), {}) if most else None)
        for key, cell in matrix_cells.items()
    }
    return Matrix(
        run=dict(run),
        guests=list(guests),
        variants=list(variants),
        programs=list(programs),
        baseline=baseline,
        cells=list(matrix_cells.values()),
        events=list(events),
        most=most,
        expired=expired,
        unmatched=unmatched,
        times=times,
        control=control,
        guest_differences=compare_guests(counted, control),
        interactions=find_interactions(counted, control, baseline, experiment.c_programs),
        experiment=experiment,
        effects=_effects(counted, experiment, guests, programs, control),
    )


def _effects(
    counted: Mapping[CellKey, CellOutcomes],
    experiment: Experiment,
    guests: Sequence[str],
    programs: Sequence[str],
    control: str,
) -> list[Effect]:
    if experiment.design is None:
        return []
    ordered = sorted(guests, key=lambda guest: guest != control)
    outcomes = {key: cell.by_number or {} for key, cell in counted.items()}
    return find_effects(outcomes, experiment.design, ordered, programs, experiment.c_programs)


def _blame(cell: Cell, died: Sequence[_Death]) -> None:
    """Count the deaths of a cell's guests as what came of its trials, not as errors."""
    cell.errors -= len(died)
    cell.counts[Verdict.KILLS] = len(died)
    reasons = {death.reason for death in died}
    cell.findings = [f for f in cell.findings if not (f.verdict == Verdict.ERROR and f.title in reasons)]
    findings: dict[str, Finding] = {}
    for death in died:
        finding = findings.setdefault(death.title, Finding(Verdict.KILLS, death.title, 0, death.trial, death.command))
        finding.count += 1
        cell.signatures[death.title] = cell.signatures.get(death.title, 0) + 1
    cell.findings = [*findings.values(), *cell.findings]


def _expect(cells: Iterable[Cell], entries: Sequence[Entry], day: date) -> list[str]:
    """Hold cells against the known failures; returns the entries that are about some of them but have expired."""
    expired: dict[str, None] = {}
    for cell in cells:
        about = [entry for entry in entries if entry.about(cell.guest, cell.variant, cell.program)]
        wrong = [finding for finding in cell.findings if finding.verdict != "error"]
        for finding in wrong:
            signature = finding.title if finding.title in cell.signatures else ""
            if known := excuse(about, finding.verdict, signature, day):
                finding.expected = str(known)
                cell.known += finding.count
        unknown = cell.trials - cell.passed - cell.known
        cell.contradicts = contradicted(about, cell.passed, cell.trials, unknown, day)
        expired |= {f"{entry.expires}: {entry}": None for entry in about if cell.trials and entry.expires < day}
    return list(expired)


def _compare(
    cells: Mapping[CellKey, Cell],
    baseline: str,
    experiment: Experiment,
    outcomes: Mapping[int, Mapping[int, bool]] | None,
) -> None:
    """Give each cell its difference from the baseline's, unless it is one of the negative control.

    Args:
        outcomes: by the cell's id, what came of each number, if the sequential test is wanted.
    """
    pairs = [
        (cell, other)
        for cell in cells.values()
        if cell.variant != baseline
        and not experiment.is_control(cell.program, cell.variant, baseline)
        and cell.trials
        and (other := cells.get(CellKey(cell.guest, baseline, cell.program)))
        and other.trials
    ]
    least = None
    if outcomes is None:
        counts = [(cell.passed, cell.trials, other.passed, other.trials) for cell, other in pairs]
        p_values, least = [fisher(*four) for four in counts], [least_p(*four) for four in counts]
    else:
        p_values = sequential_p_values([(outcomes[id(cell)], outcomes[id(other)]) for cell, other in pairs])
    tests = tests_counted(len(pairs), sum(p < LEVEL for p in least or ()))
    for (cell, other), p, corrected in zip(pairs, p_values, holm(p_values, least), strict=True):
        claimed = corrected < LEVEL
        unclaimed = outcomes is None and not claimed
        detectable = smallest_difference(1, min(cell.trials, other.trials), tests) if unclaimed else None
        cell.difference = Difference(p, corrected, claimed, other.passed, other.trials, detectable)
