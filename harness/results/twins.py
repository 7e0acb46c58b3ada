"""Go programs beside their C twins, which make the same calls without Go: whether a failure lies below Go; and C
programs with different libgos, which they do not have, as a negative control.

Pure functions of the cells' outcomes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol

from harness.programs.model import CellKey
from harness.results.attribution import Design
from harness.results.statistics import LEVEL, Stratum, fisher, holm, stratified


@dataclass(frozen=True)
class Experiment:
    """What a run has besides Go programs and libgos.

    Attributes:
        twins: by Go program, the C program that makes the same calls.
        c_programs: the programs that have no libgo.
        besides_libgo: by variant, what it changes for C programs too.
        design: of an experiment of all combinations (harness/results/attribution.py).
    """

    twins: Mapping[str, str] = field(default_factory=dict)
    c_programs: Sequence[str] = field(default_factory=list)
    besides_libgo: Mapping[str, Sequence[str]] = field(default_factory=dict)
    design: Design | None = None

    def is_control(self, program: str, variant: str, baseline: str) -> bool:
        """Whether two variants are the same to a program: it is a C program, and they differ in libgo alone."""
        changes = self.besides_libgo
        return program in self.c_programs and changes.get(variant, ()) == changes.get(baseline, ())


#: The p of four counts: passes and trials of the one and of the other.
Test = Callable[[int, int, int, int], float]


class Counts(Protocol):
    """The outcome of a cell: how many of its trials passed."""

    @property
    def passed(self) -> int:
        """Those that passed."""

    @property
    def trials(self) -> int:
        """Those that say something of the program."""


class Failing(StrEnum):
    """Which of a Go program and its twin fail."""

    NEITHER = "neither"
    BOTH = "with Go and without"
    GO_ALONE = "with Go alone"
    C_ALONE = "without Go alone"


@dataclass(frozen=True)
class Pair:
    """A Go program on a guest, and its C twin there, with all variants in which the same of the two fail.

    Attributes:
        variants: in the order of the matrix.
        p_values: of each variant, that both have one chance of a pass.
        compared: with how many variants the two were compared.
    """

    guest: str
    variants: tuple[str, ...]
    program: str
    twin: str
    passed: int
    trials: int
    twin_passed: int
    twin_trials: int
    p_values: tuple[float, ...]
    compared: int = 1

    @property
    def p(self) -> float:
        """That both have one chance of a pass with each variant: the least p, by Bonferroni."""
        return min(1.0, self.compared * min(self.p_values))

    @property
    def go_fails_more(self) -> bool:
        """Whether it is no chance that the Go program fails more often than its twin."""
        return self.passed * self.twin_trials < self.twin_passed * self.trials and self.p < LEVEL

    @property
    def failing(self) -> Failing:
        """Which of the two fail in some of their trials."""
        return {
            (False, False): Failing.NEITHER,
            (True, True): Failing.BOTH,
            (True, False): Failing.GO_ALONE,
            (False, True): Failing.C_ALONE,
        }[self.passed < self.trials, self.twin_passed < self.twin_trials]

    def with_more(self, other: Pair) -> Pair:
        """The pair with the trials of another variant."""
        return Pair(
            self.guest,
            (*self.variants, *other.variants),
            self.program,
            self.twin,
            self.passed + other.passed,
            self.trials + other.trials,
            self.twin_passed + other.twin_passed,
            self.twin_trials + other.twin_trials,
            (*self.p_values, *other.p_values),
        )

    @property
    def sure(self) -> bool:
        """Whether it is no chance that only one of the two fails. That both do needs no test: each has failed."""
        return self.failing in (Failing.NEITHER, Failing.BOTH) or self.p < LEVEL


def find_pairs(cells: Mapping[CellKey, Counts], twins: Mapping[str, str], test: Test = fisher) -> list[Pair]:
    """Each Go program of a guest whose twin has trials with the same variants, once for each way to fail.

    Args:
        test: of the two cells' counts; another one than Fisher's where the numbers of trials depend on what came of
            them.
    """
    pairs: dict[tuple[str, str, Failing], Pair] = {}
    compared: Counter[tuple[str, str]] = Counter()
    for key, cell in cells.items():
        twin = twins.get(key.program, "")
        other = cells.get(key._replace(program=twin))
        if not (other and cell.trials and other.trials):
            continue
        counts = (cell.passed, cell.trials, other.passed, other.trials)
        pair = Pair(key.guest, (key.variant,), key.program, twin, *counts, (test(*counts),))
        known = pairs.get((key.guest, key.program, pair.failing))
        pairs[key.guest, key.program, pair.failing] = known.with_more(pair) if known else pair
        compared[key.guest, key.program] += 1
    return [replace(pair, compared=compared[pair.guest, pair.program]) for pair in pairs.values()]


@dataclass(frozen=True)
class NegativeControl:
    """C programs on a guest with a libgo against the same with another one: a difference is noise.

    Attributes:
        base: the variant that it is compared with, which differs in libgo alone.
        alike: how many of the programs came out the same.
        p: of the exact test stratified by program, corrected by Holm for all of them.
    """

    guest: str
    variant: str
    base: str
    programs: int
    alike: int
    passed: int
    trials: int
    base_passed: int
    base_trials: int
    p: float


def negative_controls(
    cells: Mapping[CellKey, Counts], experiment: Experiment, variants: Sequence[str]
) -> list[NegativeControl]:
    """The C programs of each guest with each variant against the first one that differs in libgo alone.

    Args:
        variants: the baseline first.
    """
    bases: dict[tuple[str, ...], str] = {}
    of_variant = {
        variant: bases.setdefault(tuple(experiment.besides_libgo.get(variant, ())), variant) for variant in variants
    }
    strata: dict[tuple[str, str], list[Stratum]] = {}
    for key, cell in cells.items():
        base = of_variant.get(key.variant, key.variant)
        other = cells.get(key._replace(variant=base))
        if key.program in experiment.c_programs and base != key.variant and other and cell.trials and other.trials:
            stratum = Stratum(cell.passed, cell.trials, other.passed, other.trials)
            strata.setdefault((key.guest, key.variant), []).append(stratum)
    p_values = holm([stratified(tuple(group)) for group in strata.values()])
    controls = []
    for ((guest, variant), group), p in zip(strata.items(), p_values, strict=True):
        sums = Stratum(*map(sum, zip(*group, strict=True)))
        alike = sum(fours[0] * fours[3] == fours[2] * fours[1] for fours in group)
        controls.append(NegativeControl(guest, variant, of_variant[variant], len(group), alike, *sums, p))
    return controls
