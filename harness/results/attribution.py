"""What a failure follows: the guest, a change of libgo or a change of libpthread, by an experiment of all combinations.

Each program is run with each libgo, on each libpthread, on each guest. A level of a factor, such as one libgo, is
compared with the factor's base in all combinations of the other factors, one stratum each. The evidence of a stratum is
that of blocks of one trial with the level and one with the base (harness/results/sequential.py). Strata have no trial
in common, so their e-values multiply to an e-value, whenever the trials are stopped.

Pure functions of the cells' outcomes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from harness.programs.model import CellKey
from harness.results.sequential import Outcomes, evidence
from harness.results.statistics import LEVEL, difference_interval, holm

#: Rounds that are made at least: a factor that seems to make no difference has so many blocks in each stratum.
FEWEST = 6


class Factor(StrEnum):
    """What is changed."""

    GUEST = "guest"
    LIBGO = "libgo"
    LIBPTHREAD = "libpthread"


@dataclass(frozen=True)
class Design:
    """The levels of the experiment besides the guests.

    Attributes:
        libgos: variants that change libgo; the first is the base.
        libpthreads: variants that change libpthread; the base, which is the guest's own, is not among them.
    """

    libgos: Sequence[str]
    libpthreads: Sequence[str]

    def variants(self) -> list[str]:
        """The variants of all combinations, the base first."""
        return [self.variant(libgo, libpthread) for libpthread in ("", *self.libpthreads) for libgo in self.libgos]

    def variant(self, libgo: str, libpthread: str) -> str:
        """The variant of a combination. The guest's own libpthread is ''."""
        return f"{libgo}+{libpthread}" if libpthread else libgo


@dataclass(frozen=True)
class Effect:
    """A program with a level of a factor, against the same with the factor's base.

    Attributes:
        level, base: variants or guests; the guest's own libpthread is ''.
        failed, trials: with the level, over all strata; base_failed and base_trials with the base.
        everywhere: with the level it failed in all strata, with the base in none.
        low, high: the 95 % interval of how much more often it fails with the level.
        p: 1 / the evidence, which stands whenever the trials were stopped. p_corrected: Holm's, over all effects.
        claimed: p_corrected is below LEVEL.
    """

    program: str
    factor: Factor
    level: str
    base: str
    failed: int
    trials: int
    base_failed: int
    base_trials: int
    everywhere: bool
    low: float
    high: float
    p: float
    p_corrected: float
    claimed: bool

    @property
    def direction(self) -> int:
        """1 if it fails more often with the level, -1 if less often, 0 if as often in all strata together."""
        more = self.failed * self.base_trials - self.base_failed * self.trials
        return (more > 0) - (more < 0)

    @property
    def seen(self) -> bool:
        """Whether the two differ in what came of them; in sum they may not, though they do in each stratum."""
        return self.claimed or self.failed * self.base_trials != self.base_failed * self.trials


@dataclass(frozen=True)
class _Comparison:
    program: str
    factor: Factor
    level: str
    base: str
    strata: Sequence[tuple[CellKey, CellKey]]


def find_effects(
    outcomes: Mapping[CellKey, Outcomes],
    design: Design,
    guests: Sequence[str],
    programs: Sequence[str],
    c_programs: Sequence[str],
) -> list[Effect]:
    """The effect of each level of each factor on each program that has trials with it and with the base.

    Args:
        outcomes: what came of each cell, by round.
        guests: the first is the base.
        c_programs: those that have no libgo, so that none can make a difference.
    """
    counted = []
    for comparison in _comparisons(design, guests, programs, c_programs):
        pairs = [(outcomes.get(cell, {}), outcomes.get(base, {})) for cell, base in comparison.strata]
        pairs = [(cell, base) for cell, base in pairs if cell and base]
        if pairs:
            counted.append((comparison, pairs))
    p_values = [min(1.0, 1 / math.prod(evidence(*pair).product for pair in pairs)) for _, pairs in counted]
    effects = []
    for (comparison, pairs), p, corrected in zip(counted, p_values, holm(p_values), strict=True):
        failed, trials = _failures([cell for cell, _ in pairs])
        base_failed, base_trials = _failures([base for _, base in pairs])
        everywhere = not any(any(cell.values()) for cell, _ in pairs) and base_failed == 0
        low, high = difference_interval(failed, trials, base_failed, base_trials)
        effects.append(
            Effect(
                comparison.program,
                comparison.factor,
                comparison.level,
                comparison.base,
                failed,
                trials,
                base_failed,
                base_trials,
                everywhere,
                low,
                high,
                p,
                corrected,
                corrected < LEVEL,
            )
        )
    return effects


def control_first(systems: Mapping[str, str]) -> list[str]:
    """The guests with the base of the others first: a Linux guest if there is one, else the first.

    Args:
        systems: the guests' operating systems, by name.
    """
    control = next((name for name, system in systems.items() if system == "linux"), "")
    return sorted(systems, key=lambda name: name != control)


def is_decided(effects: Sequence[Effect], rounds: int) -> bool:
    """Whether no more rounds are needed: each effect is claimed, or nothing at all is seen of it."""
    return rounds >= FEWEST and all(effect.claimed or not effect.seen for effect in effects)


def _comparisons(
    design: Design, guests: Sequence[str], programs: Sequence[str], c_programs: Sequence[str]
) -> Iterator[_Comparison]:
    libpthreads = ("", *design.libpthreads)
    for program in programs:

        def key(guest: str, libgo: str, libpthread: str, program: str = program) -> CellKey:
            return CellKey(guest, design.variant(libgo, libpthread), program)

        for level in design.libpthreads:
            strata = [(key(g, go, level), key(g, go, "")) for g in guests for go in design.libgos]
            yield _Comparison(program, Factor.LIBPTHREAD, level, "", strata)
        base = design.libgos[0]
        for level in design.libgos[1:] if program not in c_programs else ():
            strata = [(key(g, level, pthread), key(g, base, pthread)) for g in guests for pthread in libpthreads]
            yield _Comparison(program, Factor.LIBGO, level, base, strata)
        for level in guests[1:]:
            combinations = [(go, pthread) for go in design.libgos for pthread in libpthreads]
            strata = [(key(level, *both), key(guests[0], *both)) for both in combinations]
            yield _Comparison(program, Factor.GUEST, level, guests[0], strata)


def _failures(cells: Sequence[Outcomes]) -> tuple[int, int]:
    """How many trials of some cells failed, and how many there are."""
    outcomes = [passed for cell in cells for passed in cell.values()]
    return outcomes.count(False), len(outcomes)
