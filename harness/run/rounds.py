"""The rounds of a run that goes on until every comparison, or every effect of an experiment, is decided."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from harness.errors import ConfigError
from harness.programs.model import CellKey, TrialSpec
from harness.progress import Reporter
from harness.results import sequential
from harness.results.attribution import control_first, find_effects, is_decided
from harness.results.text import render_count
from harness.run.job import Batch
from harness.run.resolve import ResolvedRequest


def _comparisons(
    cells: Iterable[TrialSpec], baseline: str, is_control: Callable[[TrialSpec], bool]
) -> list[tuple[CellKey, CellKey]]:
    """The cells that have a baseline, each with it, but those of the negative control."""
    known = {cell.cell for cell in cells}
    pairs = [(cell.cell, cell.cell._replace(variant=baseline)) for cell in cells if not is_control(cell)]
    return [(key, base) for key, base in pairs if key != base and base in known]


def check_decidable(
    cells: Sequence[TrialSpec], most: int, baseline: str, is_control: Callable[[TrialSpec], bool]
) -> None:
    """Raise ConfigError if a run until it is sure could decide nothing. The arguments are those of `rounds`."""
    comparisons = len(_comparisons(cells, baseline, is_control))
    if not comparisons:
        raise ConfigError(f"nothing to decide: no program is run with {baseline} and another variant")
    if most < (least := sequential.least_rounds(comparisons)):
        raise ConfigError(
            f"at most {render_count(most, 'trial')} of each cell cannot decide"
            f" {render_count(comparisons, 'comparison')}, whatever comes of them;"
            f" it takes --trials {least} or more"
        )


def rounds(
    cells: Sequence[TrialSpec],
    most: int,
    outcomes: Callable[[], Mapping[CellKey, Mapping[int, bool]]],
    report: Reporter,
    baseline: str,
    is_control: Callable[[TrialSpec], bool],
) -> Iterator[Batch]:
    """One round after the other, each with one trial of each cell that can still decide something, and of each of the
    negative control.

    What a round holds follows from the outcomes of those before it alone, so a run that is resumed goes on as it would
    have.

    Args:
        most: the trials of each cell at most.
        outcomes: of each cell, the trials that were judged by number, and whether each passed.
        baseline: the variant that others are compared with.
        is_control: whether a cell is one of the negative control.
    """
    pairs = _comparisons(cells, baseline, is_control)
    controls = {cell.cell for cell in cells if is_control(cell)} - {key for pair in pairs for key in pair}
    for done in range(most):
        seen = {key: {n: passed for n, passed in by.items() if n <= done} for key, by in outcomes().items()}
        compared = [(seen.get(key, {}), seen.get(base, {})) for key, base in pairs]
        undecided = sequential.undecided(compared, done, most)
        still = [pair for pair, is_open in zip(pairs, undecided, strict=True) if is_open]
        wanted = {key for pair in still for key in pair}
        if not wanted:
            return
        wanted |= controls
        undecided_now = f"{len(still)} of {render_count(len(pairs), 'comparison')} undecided"
        report.step("rounds", f"{done + 1} of at most {most}, {undecided_now}")
        yield _round([cell for cell in cells if cell.cell in wanted], done, most)


def attribution_rounds(
    resolved: ResolvedRequest,
    cells: Sequence[TrialSpec],
    outcomes: Callable[[], Mapping[CellKey, Mapping[int, bool]]],
    report: Reporter,
) -> Iterator[Batch]:
    """Rounds of one trial of each cell of an experiment of all combinations, until each effect is claimed or unseen.

    As of `rounds`, what a run that is resumed makes follows from the outcomes.
    """
    design, most = resolved.request.design, resolved.request.trials
    assert design is not None
    guests = control_first({name: guest.os_name for name, guest in resolved.guests.items()})
    programs = [program.name for program in resolved.programs]
    c_programs = [program.name for program in resolved.programs if program.is_c]
    for done in range(most):
        seen = {key: {n: passed for n, passed in by.items() if n <= done} for key, by in outcomes().items()}
        effects = find_effects(seen, design, guests, programs, c_programs)
        if is_decided(effects, done):
            return
        unsure = sum(effect.seen and not effect.claimed for effect in effects)
        open_effects = f"{unsure} of {render_count(len(effects), 'effect')} seen and not sure"
        report.step("rounds", f"{done + 1} of at most {most}, {open_effects}")
        yield _round(cells, done, most)


def _round(cells: Sequence[TrialSpec], done: int, most: int) -> Batch:
    """One more trial of each of some cells, after so many rounds of at most so many."""
    by_guest: dict[str, list[TrialSpec]] = {}
    for cell in cells:
        by_guest.setdefault(cell.guest, []).append(replace(cell, number=done + 1))
    trials = {name: partial(list[TrialSpec], specs) for name, specs in by_guest.items()}
    return Batch(trials, further=(most - done - 1) * len(cells))
