"""Guests compared: each program and libgo on a guest against the same on the control, and what a libgo changes on one
of them alone.

Pure functions of the cells' outcomes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from harness.programs.model import CellKey
from harness.results.sequential import Outcomes
from harness.results.sequential import p_values as sequential_p_values
from harness.results.statistics import LEVEL, Stratum, fisher, holm, interaction, least_p


@dataclass(frozen=True)
class CellOutcomes:
    """The outcome of a cell. `by_number` is given where trials were made until the run was sure."""

    passed: int
    trials: int
    by_number: Outcomes | None = None


@dataclass(frozen=True)
class GuestDifference:
    """A program with a libgo on a guest, against the same on the control.

    Attributes:
        control_passed: k of the control's cell; control_trials is its n.
        p: as of a difference from the baseline (harness/results/matrix.py).
        p_corrected: Holm's, over all differences of guests that could have come out as clear.
        claimed: p_corrected is below LEVEL.
    """

    guest: str
    variant: str
    program: str
    passed: int
    trials: int
    control_passed: int
    control_trials: int
    p: float
    p_corrected: float
    claimed: bool

    @property
    def worse(self) -> bool:
        """Whether more of the trials pass on the control."""
        return self.passed * self.control_trials < self.control_passed * self.trials

    @property
    def decidable(self) -> bool:
        """Whether it could have been claimed, had it been the only one, by the numbers of trials and of passes."""
        return least_p(self.passed, self.trials, self.control_passed, self.control_trials) < LEVEL


@dataclass(frozen=True)
class Interaction:
    """What a libgo changes in a program on a guest, against what it changes on the control.

    Attributes:
        passed: with the libgo on the guest; baseline_passed with the baseline there. `trials` and `baseline_trials` are
            of how many, and those with `control_` are the control's.
        p: of statistics.interaction. p_corrected: Holm's, over all of them.
        claimed: p_corrected is below LEVEL.
    """

    guest: str
    variant: str
    program: str
    passed: int
    trials: int
    baseline_passed: int
    baseline_trials: int
    control_passed: int
    control_trials: int
    control_baseline_passed: int
    control_baseline_trials: int
    p: float
    p_corrected: float
    claimed: bool


def compare_guests(cells: Mapping[CellKey, CellOutcomes], control: str) -> list[GuestDifference]:
    """Each cell that has trials against the control's cell of the same program and libgo, in the order of the cells."""
    pairs = [
        (key, cell, other)
        for key, cell in cells.items()
        if key.guest != control and cell.trials and (other := cells.get(key._replace(guest=control))) and other.trials
    ]
    least = None
    if any(cell.by_number is not None for _, cell, _ in pairs):
        p_values = sequential_p_values([(cell.by_number or {}, other.by_number or {}) for _, cell, other in pairs])
    else:
        counts = [(cell.passed, cell.trials, other.passed, other.trials) for _, cell, other in pairs]
        p_values, least = [fisher(*four) for four in counts], [least_p(*four) for four in counts]
    return [
        GuestDifference(*key, cell.passed, cell.trials, other.passed, other.trials, p, corrected, corrected < LEVEL)
        for (key, cell, other), p, corrected in zip(pairs, p_values, holm(p_values, least), strict=True)
    ]


def find_interactions(
    cells: Mapping[CellKey, CellOutcomes], control: str, baseline: str, c_programs: Collection[str] = ()
) -> list[Interaction]:
    """Each libgo's effect on a program of a guest against its effect on the control, in the order of the cells. There
    are none where trials were made until the run was sure: their numbers depend on what came of them.

    Args:
        baseline: the variant that the effect is measured from.
        c_programs: those that have no libgo, which are left out.
    """
    effects = []
    for key, cell in cells.items():
        left_out = key.guest == control or key.variant == baseline or key.program in c_programs
        if left_out or cell.by_number is not None:
            continue
        columns = [(guest, variant) for guest in (key.guest, control) for variant in (key.variant, baseline)]
        keys = [CellKey(guest, variant, key.program) for guest, variant in columns]
        four = [cells[each] for each in keys if each in cells and cells[each].trials]
        if len(four) == 4:
            here, there = (Stratum(a.passed, a.trials, b.passed, b.trials) for a, b in (four[:2], four[2:]))
            effects.append((key, here, there))
    p_values = [interaction(here, there) for _, here, there in effects]
    return [
        Interaction(*key, *here, *there, p, corrected, corrected < LEVEL)
        for (key, here, there), p, corrected in zip(effects, p_values, holm(p_values), strict=True)
    ]
