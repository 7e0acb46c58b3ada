"""The plan of a run, as it is stored: what was asked for, what it is made of, and the facts its outcome depends on.

Plans of every version open: what an older version did not store has a default, and what this one does not know is kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

#: The parts of what a trial is made of that a user writes, and that compilers and the harness's version do not change.
INPUTS = ("source of ", "variant ", "guest ")


class _Stored(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True, populate_by_name=True)

    def to_json(self) -> dict[str, Any]:
        """What was stored, or is to be: no key that nobody set."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


class StoredDesign(_Stored):
    """The levels of an experiment of all combinations (harness/results/attribution.py)."""

    libgos: list[str]
    libpthreads: list[str] = []


class StoredRequest(_Stored):
    """What a user asked for, so that the run can be resumed (harness/run/request.py).

    Attributes:
        times: guest, variant, program and seconds of each cell by which the run was cut.
    """

    selection: list[str] = []
    only: str = ""
    guests: list[str] = []
    variants: list[str] = []
    trials: int = 1
    jobs: int | None = None
    conf_files: list[str] = []
    cores: bool = False
    isolation: str = "on-trouble"
    until_sure: bool = False
    shard: tuple[int, int] | None = None
    times: list[tuple[str, str, str, float]] = []
    traced: list[str] = []
    baseline: str = ""
    until: str = ""
    seed: int | None = None
    design: StoredDesign | None = None
    full_timeout: bool = False


class StoredShard(_Stored):
    """The part of a matrix that a run is.

    Attributes:
        numbers: of the shards that it holds, from 1.
        of: how many there are.
        all: the numbers of those that are not empty.
        cut: a hash of the cut; shards of one matrix have the same.
        guests: of the whole matrix, as `programs`.
    """

    numbers: list[int] = []
    of: int = 0
    all: list[int] = []
    cut: str = ""
    guests: list[str] = []
    programs: list[str] = []


class Origin(_Stored):
    """What runs that are merged must have alike, besides what they are made of: hashes by name."""

    harness: str
    compilers: dict[str, str] = {}
    images: dict[str, str] = {}


class FailedBuild(_Stored):
    """A set of units whose libgo could not be built. `after` is how many trials there were before."""

    units: list[int]
    why: str
    after: int


class StoredBisect(_Stored):
    """What a bisect was asked for and has built, so that it can be resumed (harness/bisect/driver.py).

    Attributes:
        made_of: the key of its variants and the names of its units.
        built: by variant, the units that it has.
    """

    request: dict[str, Any] = {}
    made_of: list[Any] = Field(default=[], alias="made of")
    units: list[dict[str, str]] = []
    built: dict[str, list[int]] = {}
    failed: list[FailedBuild] = []


class RunPlan(_Stored):
    """The plan of a run.

    Attributes:
        kind: what made the run, as `harness list` names it; '' in a run of an older version, see `run_kind`.
        planned: how many trials it makes, at most if it is one until it is sure; None if that was not known.
        trials: of each cell; the most, in a run until it was sure.
        extended: how many trials of each cell there were to be before each time that the run was extended.
        facts: versions and hashes for the reader, by what they are of.
        expected: the known failures (harness/results/expected.py).
        unmatched: those of them that no cell can be about, in words (harness/run/expectations.py).
        expectations: what is expected of each program (harness/programs/model.py).
        made_of: hashes of all that a trial's outcome depends on; a run is resumed only with the same.
        twins: by Go program, the C program that makes the same calls.
        c_programs: the programs that have no libgo.
        besides_libgo: by variant, what it changes for C programs too.
        systems: the guests' operating systems, by the guests' names.
        baseline: GUEST/VARIANT that the others are compared with, if the user asked for one.
        resumable: whether the run can be resumed by itself.
        merged: the runs that it was merged from.
    """

    kind: str = ""
    guests: list[str] = []
    variants: list[str] = []
    programs: list[str] = []
    trials: int = 1
    planned: int | None = None
    extended: list[int] = []
    facts: dict[str, Any] = {}
    expected: list[dict[str, Any]] = []
    unmatched: list[str] = []
    expectations: dict[str, dict[str, Any]] = {}
    origin: Origin | None = None
    request: StoredRequest | None = None
    made_of: dict[str, str] = Field(default={}, alias="made of")
    shard: StoredShard | None = None
    twins: dict[str, str] = {}
    c_programs: list[str] = []
    besides_libgo: dict[str, list[str]] = {}
    systems: dict[str, str] = {}
    baseline: str = ""
    resumable: bool = True
    bisect: StoredBisect | None = None
    merged: list[str] | None = None

    @property
    def inputs(self) -> dict[str, str]:
        """Of what it is made of, what its user wrote, by part."""
        return {part: value for part, value in self.made_of.items() if part.startswith(INPUTS)}

    @property
    def until_sure(self) -> bool:
        """Whether the run went on until its comparisons were decided."""
        return self.request is not None and self.request.until_sure

    @property
    def is_open_ended(self) -> bool:
        """Whether it has the trials that were planned only at most."""
        return self.request is not None and (self.request.until_sure or bool(self.request.until))

    @property
    def run_kind(self) -> str:
        """What made the run: `run`, `rerun`, `record`, `trace`, `pytest`, `attribute`, `bisect` or `merge`. Of a run of
        an older version it follows from what was stored."""
        if self.kind:
            return self.kind
        if self.bisect:
            return "bisect"
        if self.merged is not None:
            return "merge"
        if self.request is not None and self.request.design:
            return "attribute"
        if self.request is not None and not self.resumable:
            return "pytest"
        command = re.match(r"harness (rerun|trace) ", str(self.facts.get("command", "")))
        return command[1] if command else "run"

    @property
    def is_sequential(self) -> bool:
        """Whether its differences are claimed by the test that may be looked at again and again: in a run that was
        extended, what was seen before may be why there are more trials."""
        return self.until_sure or bool(self.extended)

    def extended_to(self, trials: int, planned: int) -> RunPlan:
        """The plan of the same run with more trials of each cell, `planned` in all."""
        request = self.request.to_json() if self.request else {}
        facts = {**self.facts, "trials of each cell": f"at most {trials}" if self.until_sure else trials}
        extended = [*self.extended, self.trials]
        if not self.until_sure:
            facts["extended"] = f"from {', '.join(map(str, extended))} to {trials} trials of each cell"
        changes = {"trials": trials, "planned": planned, "resumable": True, "extended": extended, "facts": facts}
        return self.with_changes({**changes, "request": {**request, "trials": trials}})

    def with_changes(self, changes: Mapping[str, Any]) -> RunPlan:
        """The plan with other values under some of its stored keys."""
        return RunPlan.model_validate({**self.to_json(), **changes})
