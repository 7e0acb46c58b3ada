"""The matrix: cells with their counts and differences, totals, and the same as JSON.

Knows nothing of where trials are kept, how they are counted (`build_matrix`) or how they are shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

import pydantic

from harness.errors import ConfigError, StoreError
from harness.programs.model import CellKey
from harness.results.attribution import Effect
from harness.results.statistics import (
    LEVEL,
    Stratum,
    holm,
    least_p,
    least_trials,
    stratified,
)
from harness.results.systems import GuestDifference, Interaction
from harness.results.twins import Experiment
from harness.trial.record import JUDGED, Verdict

#: The version of what `Matrix.to_json` gives. It grows when a key changes its meaning or goes away.
SCHEMA = 1
#: What a trial can come to; `error` is the guest's or the harness's doing.
TRIAL_VERDICTS = (*JUDGED, Verdict.ERROR)
#: What a finding can be of.
FINDING_VERDICTS = tuple(Verdict)
#: What counts of a cell's trials: the verdicts on its program, and guests that died of it.
OUTCOMES = (*JUDGED, Verdict.KILLS)


class CellVerdict(StrEnum):
    """What the trials of a cell share. FLAKY: nothing; ERROR: all were infrastructure errors; NONE: there are none."""

    PASS = "pass"
    FAIL = "fail"
    CRASH = "crash"
    HANG = "hang"
    KILLS = "kills guest"
    FLAKY = "flaky"
    ERROR = "error"
    NONE = "none"


@dataclass(frozen=True)
class Difference:
    """A cell against the baseline's cell of the same guest and program.

    Attributes:
        p: Fisher's exact test, two-sided, pass against non-pass; in a run until it was sure, of the sequential test.
        p_corrected: after Holm's correction over those comparisons of the matrix that could have come out as clear.
        claimed: p_corrected is below 0.05.
        baseline_passed: k of the baseline's cell; baseline_trials is its n.
        detectable: of one that is not claimed, the smallest share of failing trials that would have been claimed with a
            probability of POWER if the baseline never failed; None if none would, and in a run until it was sure.
    """

    p: float
    p_corrected: float
    claimed: bool
    baseline_passed: int
    baseline_trials: int
    detectable: float | None = None


@dataclass
class Finding:
    """The trials of a cell that went wrong in the same way.

    Attributes:
        verdict: fail, crash, hang, kills guest or error.
        title: the signature, or where there is none the reason.
        count: how many trials.
        trial: the id of the first one; command is what runs it again.
        expected: what the configuration says of such a known failure, or ''.
    """

    verdict: str
    title: str
    count: int
    trial: int
    command: str
    expected: str = ""


@dataclass
class Cell:
    """All trials of one (guest, variant, program).

    Attributes:
        counts: verdict -> trials, without errors; `kills guest` is there only if it occurs.
        errors: trials that ended in an infrastructure error, whether repeated or not.
        lost: numbers of the plan that only errors came of.
        deaths: trials in which the guest died, whether they count as `kills guest` or as errors.
        ids: the ids of all trials, errors too, in the order they came.
        signatures: signature -> trials, errors not among them.
        findings: what went wrong, in the order it was first seen.
        interval: Wilson's 95 % interval of k of n, None without trials.
        difference: None for the baseline itself, and where either side has no trial.
        known: trials that went wrong as the configuration expects.
        contradicts: entries of known failures that are wrong about it, in words, or ''.
        seconds: how long all trials together took, errors too.
    """

    guest: str
    variant: str
    program: str
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(JUDGED, 0))
    errors: int = 0
    lost: int = 0
    ids: list[int] = field(default_factory=list)
    signatures: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    interval: tuple[float, float] | None = None
    difference: Difference | None = None
    known: int = 0
    contradicts: str = ""
    seconds: float = 0.0
    deaths: int = 0

    @property
    def trials(self) -> int:
        """n: the trials that say something of the program."""
        return sum(self.counts.values())

    @property
    def passed(self) -> int:
        """k of n."""
        return self.counts["pass"]

    @property
    def surprise(self) -> bool:
        """Whether it did not come out as expected: a trial went wrong in an unknown way, or a known failure passed."""
        return self.trials - self.passed > self.known or bool(self.contradicts)

    @property
    def verdict(self) -> CellVerdict:
        """The one verdict that all trials share, or what there is instead."""
        verdicts = [verdict for verdict in OUTCOMES if self.counts.get(verdict)]
        if not verdicts:
            return CellVerdict.ERROR if self.errors else CellVerdict.NONE
        return CellVerdict(verdicts[0]) if len(verdicts) == 1 else CellVerdict.FLAKY

    @property
    def hue(self) -> CellVerdict:
        """The verdict in whose colour it is shown. A cell whose guests died or that lacks trials is never green."""
        troubled = self.verdict is CellVerdict.PASS and (self.deaths or self.lost)
        return CellVerdict.ERROR if troubled else self.verdict

    @property
    def parts(self) -> list[OutcomeCount]:
        """Of a cell that flakes, how many trials came to each verdict that is no pass; else empty."""
        if self.verdict is not CellVerdict.FLAKY:
            return []
        return [OutcomeCount(verdict, self.counts[verdict]) for verdict in OUTCOMES[1:] if self.counts.get(verdict)]


class OutcomeCount(NamedTuple):
    """How many trials came to a verdict."""

    verdict: Verdict
    trials: int


class NumberedCell(NamedTuple):
    """A cell with its number in the matrix."""

    number: int
    cell: Cell


class ComparedCell(NamedTuple):
    """A cell with its number in the matrix, and its difference from the baseline."""

    number: int
    cell: Cell
    difference: Difference


class Column(NamedTuple):
    """A column of the matrix."""

    guest: str
    variant: str

    @staticmethod
    def parse(text: str, guests: Sequence[str], variants: Sequence[str]) -> Column:
        """The column that is named GUEST/VARIANT. Raises ConfigError if there is no such one."""
        guest, slash, variant = text.partition("/")
        if not slash:
            raise ConfigError(f"--baseline {text}: is not GUEST/VARIANT, such as {guests[0]}/{variants[0]}")
        for name, names, kind in ((guest, guests, "guest"), (variant, variants, "variant")):
            if name not in names:
                raise ConfigError(f"--baseline {text}: {name or 'nothing'} is no {kind} of it: {', '.join(names)}")
        return Column(guest, variant)


@dataclass(frozen=True)
class Totals:
    """A matrix in numbers.

    Attributes:
        cells: by verdict, how many cells.
        trials: by verdict, how many trials; errors too.
        lost: numbers of the plan that only errors came of.
        comparisons: tests that were made; claimed: how many of them claim a difference.
        known: cells with known failures.
        surprises: cells that did not come out as expected.
    """

    cells: dict[CellVerdict, int]
    trials: dict[Verdict, int]
    lost: int
    comparisons: int
    claimed: int
    known: int
    surprises: int


@dataclass(frozen=True)
class Overall:
    """All programs of a guest together: one libgo's trials against the baseline's, of those programs that both have.

    Attributes:
        programs: how many they are.
        p: of the exact test stratified by program (statistics.stratified); p_corrected: Holm's, for all such tests.
        claimed: p_corrected is below LEVEL.
    """

    guest: str
    variant: str
    programs: int
    passed: int
    trials: int
    baseline_passed: int
    baseline_trials: int
    p: float
    p_corrected: float
    claimed: bool


@dataclass(frozen=True)
class Matrix:
    """Cells, and what is true of all of them.

    Attributes:
        run: facts of the run for the reader (versions, hashes, times, the command); any JSON object.
        baseline: the variant the others are compared with.
        cells: for each program, each guest, each variant, in the order of these lists.
        events: troubles of guests, JSON objects. Reports know the keys `time`, `guest`, `kind` and `text`, and show
            all others as they are.
        most: the most trials of a cell in a run that made them only until it was sure (harness/results/sequential.py);
            None if their number was fixed beforehand.
        expired: entries of known failures that are about some of the cells, and have expired, in words.
        unmatched: entries of known failures that no cell can be about, in words.
        times: how long builds and guests took: JSON objects with `what`, its `step`, how many `times`, and `seconds`.
        control: the guest that the other ones are compared with, or ''.
        guest_differences, interactions: see harness/results/systems.py; in the order of the cells.
        effects: of an experiment of all combinations: what a failure follows (harness/results/attribution.py).
        experiment: C programs, twins and what is preloaded (harness/results/twins.py).
    """

    run: dict[str, Any]
    guests: list[str]
    variants: list[str]
    programs: list[str]
    baseline: str
    cells: list[Cell]
    events: list[dict[str, Any]]
    most: int | None = None
    expired: Sequence[str] = ()
    unmatched: Sequence[str] = ()
    times: Sequence[dict[str, Any]] = ()
    control: str = ""
    guest_differences: Sequence[GuestDifference] = ()
    interactions: Sequence[Interaction] = ()
    experiment: Experiment = field(default_factory=Experiment)
    effects: Sequence[Effect] = ()

    @property
    def by_key(self) -> dict[CellKey, Cell]:
        """The cells by what they are of."""
        return {CellKey(cell.guest, cell.variant, cell.program): cell for cell in self.cells}

    @property
    def comparisons(self) -> int:
        """How many tests the correction was made for."""
        return sum(cell.difference is not None for cell in self.cells)

    @property
    def columns(self) -> list[Column]:
        """The columns in the order that the cells of a program have."""
        return [Column(guest, variant) for guest in self.guests for variant in self.variants]

    def row(self, program: int) -> list[NumberedCell]:
        """The cells of a program, by its place in `programs`."""
        width = len(self.columns)
        return [NumberedCell(index, self.cells[index]) for index in range(program * width, (program + 1) * width)]

    def overall(self) -> list[Overall]:
        """Each guest's libgos against the baseline, all programs together. None in a run that made trials until it was
        sure: their numbers depend on what came of them, which this test does not allow for."""
        if self.most:
            return []
        strata: dict[Column, list[Stratum]] = {}
        for cell in self.cells:
            if difference := cell.difference:
                stratum = Stratum(cell.passed, cell.trials, difference.baseline_passed, difference.baseline_trials)
                strata.setdefault(Column(cell.guest, cell.variant), []).append(stratum)
        p_values = [stratified(tuple(group)) for group in strata.values()]
        overall = []
        for (column, group), p, corrected in zip(strata.items(), p_values, holm(p_values), strict=True):
            sums = Stratum(*map(sum, zip(*group, strict=True)))
            overall.append(
                Overall(
                    guest=column.guest,
                    variant=column.variant,
                    programs=len(group),
                    passed=sums.passed,
                    trials=sums.trials,
                    baseline_passed=sums.other_passed,
                    baseline_trials=sums.other_trials,
                    p=p,
                    p_corrected=corrected,
                    claimed=corrected < LEVEL,
                )
            )
        return overall

    def differences(self, claimed: bool) -> list[ComparedCell]:
        """Cells that differ from the baseline, least likely by chance first.

        Args:
            claimed: those that stand after the correction; else those with p below 0.05 that do not.
        """
        differences = [
            ComparedCell(index, cell, cell.difference)
            for index, cell in enumerate(self.cells)
            if cell.difference and (cell.difference.claimed if claimed else _suspected(cell.difference))
        ]
        return sorted(differences, key=lambda compared: (compared.difference.p_corrected, compared.difference.p))

    def surprises(self) -> list[NumberedCell]:
        """Cells that did not come out as expected."""
        return [NumberedCell(index, cell) for index, cell in enumerate(self.cells) if cell.surprise]

    def undecided(self) -> list[ComparedCell]:
        """In a run until it was sure: cells of which it was not."""
        return [
            ComparedCell(index, cell, cell.difference)
            for index, cell in enumerate(self.cells)
            if self.most and cell.difference and not cell.difference.claimed
        ]

    @property
    def contenders(self) -> int:
        """How many comparisons could have been claimed, had each been the only one, by the numbers of their trials and
        of all that passed: the others count in no correction."""
        return sum(
            least_p(cell.passed, cell.trials, cell.difference.baseline_passed, cell.difference.baseline_trials) < LEVEL
            for cell in self.cells
            if cell.difference
        )

    @property
    def trials_needed(self) -> int | None:
        """How many trials each cell needs so that anything can be claimed; None if each cell compared has as many, and
        where trials were made until the run was sure."""
        if self.most:
            return None
        needed = least_trials(1)
        short = any(
            cell.difference and min(cell.trials, cell.difference.baseline_trials) < needed for cell in self.cells
        )
        return needed if short else None

    def totals(self) -> Totals:
        """The matrix in numbers."""
        trials = {verdict: sum(cell.counts.get(verdict, 0) for cell in self.cells) for verdict in OUTCOMES}
        cells = Counter(cell.verdict for cell in self.cells)
        return Totals(
            cells={verdict: cells[verdict] for verdict in CellVerdict},
            trials=trials | {Verdict.ERROR: sum(cell.errors for cell in self.cells)},
            lost=sum(cell.lost for cell in self.cells),
            comparisons=self.comparisons,
            claimed=len(self.differences(claimed=True)),
            known=sum(1 for cell in self.cells if cell.known),
            surprises=len(self.surprises()),
        )

    def to_json(self) -> dict[str, Any]:
        """The matrix as a JSON object, for other programs to read.

        Keys:
            schema: 1.
            run, guests, variants, programs, baseline, events, times: as above.
            cells: a list of objects with guest, variant, program, verdict (pass, fail, crash, hang, flaky, error or
                none), passed (k), trials (n), counts (verdict -> trials, their sum is n), errors, lost, deaths and ids
                (see Cell), signatures (title -> trials), findings (verdict, title, count, trial, command, expected),
                interval ([low, high] or null), difference (null or p, p_corrected, claimed, baseline_passed,
                baseline_trials), known, contradicts and seconds (see Cell), surprise (true or false).
            expired, unmatched: as above.
            most: null, or the most trials of a cell in a run that made them only until it was sure; p and p_corrected
                are the sequential test's then.
            totals: see Totals.
            overall: a list of objects, see Overall.
            control, guest_differences, interactions: as above; lists of objects, see harness/results/systems.py.
            experiment: an object with twins, c_programs, besides_libgo and design.
            effects: a list of objects, see harness/results/attribution.py.
        """
        return {
            "schema": SCHEMA,
            "run": self.run,
            "guests": self.guests,
            "variants": self.variants,
            "programs": self.programs,
            "baseline": self.baseline,
            "cells": [_cell_json(cell) for cell in self.cells],
            "most": self.most,
            "expired": list(self.expired),
            "unmatched": list(self.unmatched),
            "totals": _totals_json(self.totals()),
            "overall": [asdict(overall) for overall in self.overall()],
            "control": self.control,
            "guest_differences": [asdict(difference) for difference in self.guest_differences],
            "interactions": [asdict(interaction) for interaction in self.interactions],
            "experiment": asdict(self.experiment),
            "effects": [asdict(effect) for effect in self.effects],
            "events": self.events,
            "times": list(self.times),
        }

    @staticmethod
    def from_json(data: object) -> Matrix:
        """The matrix that `to_json` made an object of. Raises StoreError if it made no such object."""
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            raise StoreError(f"this is not JSON of a run, as `harness show --format json` prints it (schema {SCHEMA})")
        try:
            matrix = pydantic.TypeAdapter(Matrix).validate_python(data)
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise StoreError(f"this JSON is not of a run: {where}: {first['msg']}") from error
        for place, cell in enumerate(matrix.cells):
            if set(cell.counts) - {Verdict.KILLS} != set(JUDGED) or min(cell.counts.values()) < 0:
                raise StoreError(f"this JSON is not of a run: cells.{place}.counts: not a count of each verdict")
        return matrix


def cell_keys(guests: Sequence[str], variants: Sequence[str], programs: Sequence[str]) -> list[CellKey]:
    """The cells of a matrix in their order: a cell's place is its number in pages."""
    return [CellKey(guest, variant, program) for program in programs for guest in guests for variant in variants]


def _suspected(difference: Difference) -> bool:
    """Whether it would have been claimed, had it been the only comparison."""
    return difference.p < LEVEL and not difference.claimed


def _totals_json(totals: Totals) -> dict[str, Any]:
    """The totals as JSON; guests that died of their programs are there only if there are some."""
    data = asdict(totals)
    for counts in (data["cells"], data["trials"]):
        if not counts[Verdict.KILLS]:
            del counts[Verdict.KILLS]
    return data


def _cell_json(cell: Cell) -> dict[str, Any]:
    return asdict(cell) | {
        "verdict": cell.verdict,
        "passed": cell.passed,
        "trials": cell.trials,
        "surprise": cell.surprise,
    }
