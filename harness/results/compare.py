"""Two runs compared: which cells got worse or better, with the evidence, and what the runs were made of.

A cell is identified by guest, variant and program. The counts of each cell in both runs are put to Fisher's exact test,
or, if one of the runs was made until it was sure, to the sequential test, which stays valid whenever trials were
stopped. Holm's correction is for all cells that are compared and could have differed as much. Pure functions; knows
nothing of where runs are kept.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

from harness.errors import StoreError
from harness.escapes import decoded
from harness.programs.model import CellKey
from harness.results.matrix import Cell, CellVerdict, Matrix
from harness.results.sequential import e_value
from harness.results.statistics import LEVEL, POWER, Stratum, fisher, holm, least_p, smallest_difference, tests_counted
from harness.results.text import flatten_facts, render_count, render_p

#: The version of what `Comparison.to_json` gives. It grows when a key changes its meaning or goes away.
SCHEMA = 2
#: What may have become of a cell, worst first.
KINDS = ("worse", "new failure", "changed", "better", "new", "gone", "same")
#: What a gate counts: what is significantly worse, or failures that are new too.
GATES = {"worse": ("worse",), "new": ("worse", "new failure")}
#: Facts that are different in any two runs.
_OWN = ("run", "created", "finished", "about")


class StoredInput(NamedTuple):
    """What a user wrote of a run: its key, and what reads its text, which gives None if that was not stored."""

    key: str
    read: Callable[[], bytes | None]


class CellCounts(NamedTuple):
    """The outcome of a cell in one run: k passed of n trials."""

    verdict: CellVerdict
    passed: int
    trials: int


class Test(NamedTuple):
    """What a test of a cell in two runs gave."""

    p: float
    p_corrected: float


#: Gives the number of an earlier run in which trials of a cell went wrong in the way of a title, or None.
Earlier = Callable[[CellKey, str], int | None]


@dataclass(frozen=True)
class Change:
    """A cell in two runs.

    Attributes:
        kind: `worse` if significantly fewer trials pass, and not all that fail are known to, or if it has no verdict
            any more. `new failure` if some fail though none did before, which may be chance, unless an earlier run had
            the same. `better` if significantly more pass; `changed` if its verdict or the ways in which it fails
            changed, and it is neither; `new` or `gone` if one run alone has it; else `same`.
        why: in words, '' if it is the same.
        before, after: what came of it in each run; None if the run does not have it.
        p, p_corrected: of the test, None if one run has no trials of it.
        appeared, vanished: titles of findings that one run alone has.
    """

    guest: str
    variant: str
    program: str
    kind: str
    why: str
    before: CellCounts | None
    after: CellCounts | None
    p: float | None = None
    p_corrected: float | None = None
    appeared: list[str] = field(default_factory=list)
    vanished: list[str] = field(default_factory=list)

    def reasons(self) -> list[str]:
        """Why it is what it is, a line for each thing."""
        sentences = [self.why]
        if self.p is not None and self.p_corrected is not None:
            sentences.append(f"p {render_p(self.p)}, corrected {render_p(self.p_corrected)}")
        return [
            *sentences,
            *(f"new: {title}" for title in self.appeared),
            *(f"gone: {title}" for title in self.vanished),
        ]


@dataclass(frozen=True)
class Comparison:
    """What changed between two runs.

    Attributes:
        cells: all cells of both runs, worst first.
        facts: name -> what the two runs say, of those that are not the same.
        test: which test the p values are of.
        diffs: the lines of a unified diff, by the names of facts that are texts, as far as the texts were stored.
        detectable: the smallest share of failing trials of a cell that always passed before that would have been found
            worse with a probability of POWER; None if none would, and where trials were made until a run was sure.
    """

    cells: list[Change]
    facts: dict[str, tuple[str, str]]
    test: str
    detectable: float | None = None
    diffs: Mapping[str, list[str]] = field(default_factory=dict)

    def fails(self, gate: str = "worse") -> bool:
        """Whether any cell is what a gate of GATES counts."""
        return any(change.kind in GATES[gate] for change in self.cells)

    def with_inputs(self, before: Mapping[str, StoredInput], after: Mapping[str, StoredInput]) -> Comparison:
        """The same with what the users of the two runs wrote, where that is not the same; nothing, where one run does
        not tell. Parts that one run alone has are no difference: it may have run other programs."""
        changed = [part for part in before if part in after and before[part].key != after[part].key]
        keys = {part: (before[part].key, after[part].key) for part in changed}
        diffs = {part: _diff(before[part].read(), after[part].read()) for part in changed}
        return replace(self, facts={**self.facts, **keys}, diffs=diffs)

    def changed(self) -> list[Change]:
        """The cells that are not the same."""
        return [change for change in self.cells if change.kind != "same"]

    def counts(self) -> dict[str, int]:
        """Kind -> cells."""
        return {kind: sum(change.kind == kind for change in self.cells) for kind in KINDS}

    def summary(self) -> str:
        """How many cells of each kind, the test, and what it could have found."""
        counts = ", ".join(f"{number} {kind}" for kind, number in self.counts().items() if number)
        sentence = f"Cells: {counts or 'none'}. {self.test}."
        if self.detectable is not None:
            sentence += (
                f" A cell that always passed and then fails in {self.detectable:.0%} of its trials would have been"
                f" found with a probability of {POWER:.0%}."
            )
        return sentence

    def to_json(self) -> dict[str, Any]:
        """A JSON object.

        Keys:
            schema: 2.
            test, counts, detectable: as above.
            facts: name -> [before, after]. diffs: name -> lines.
            cells: objects with the attributes of Change; before and after are objects with verdict, passed and trials.
                Cells that are the same are left out.
        """
        return {
            "schema": SCHEMA,
            "test": self.test,
            "counts": self.counts(),
            "detectable": self.detectable,
            "facts": {name: list(pair) for name, pair in self.facts.items()},
            "diffs": dict(self.diffs),
            "cells": [_json(change) for change in self.changed()],
        }


def _diff(before: bytes | None, after: bytes | None) -> list[str]:
    """The lines in which two texts differ, each with one around it; none if one of them was not stored."""
    if before is None or after is None:
        return []
    old, new = (decoded(text).splitlines() for text in (before, after))
    return list(difflib.unified_diff(old, new, lineterm="", n=1))[2:]


def _json(change: Change) -> dict[str, Any]:
    counts = {"before": change.before, "after": change.after}
    return asdict(change) | {key: end._asdict() if end else None for key, end in counts.items()}


def compare(before: Matrix, after: Matrix, earlier: Earlier = lambda key, title: None) -> Comparison:
    """Compare two runs.

    Args:
        earlier: gives the number of an earlier run in which trials of a cell went wrong in a way, or None.

    Raises:
        StoreError: they have no cell in common, so that nothing would be compared.
    """
    old, new = before.by_key, after.by_key
    if not old.keys() & new.keys():
        raise StoreError("the runs have no cell in common: no program with the same guest and variant is in both")
    tested = [key for key, cell in old.items() if cell.trials and key in new and new[key].trials]
    if sequential := bool(before.most or after.most):
        values = [1 / max(1.0, e_value(*_counts(old[key], new[key]))) for key in tested]
    else:
        values = [fisher(*_counts(old[key], new[key])) for key in tested]
    least = None if sequential else [least_p(*_counts(old[key], new[key])) for key in tested]
    detectable = None if least is None else _detectable([_counts(old[key], new[key]) for key in tested], least)
    tests = dict(zip(tested, map(Test, values, holm(values, least)), strict=True))
    changes = [_change(key, old.get(key), new.get(key), tests.get(key), earlier) for key in {**old, **new}]
    before_facts = dict(flatten_facts(before.run)), dict(flatten_facts(after.run))
    facts = {
        name: (before_facts[0].get(name, ""), before_facts[1].get(name, ""))
        for name in {**before_facts[0], **before_facts[1]}
        if name.partition(".")[0] not in _OWN and before_facts[0].get(name) != before_facts[1].get(name)
    }
    name = "The sequential test" if sequential else "Fisher's exact test"
    test = f"{name}, Holm's correction for {render_count(len(tested), 'cell')}"
    return Comparison(sorted(changes, key=lambda change: KINDS.index(change.kind)), facts, test, detectable)


def _detectable(counts: Sequence[Stratum], least: Sequence[float]) -> float | None:
    """What the cell with the fewest trials could have shown."""
    trials = min((min(each.trials, each.other_trials) for each in counts), default=0)
    return smallest_difference(1, trials, tests_counted(len(counts), sum(p < LEVEL for p in least)))


def _counts(old: Cell, new: Cell) -> Stratum:
    return Stratum(old.passed, old.trials, new.passed, new.trials)


def _change(key: CellKey, old: Cell | None, new: Cell | None, test: Test | None, earlier: Earlier) -> Change:
    ends = [CellCounts(cell.verdict, cell.passed, cell.trials) if cell else None for cell in (old, new)]
    if old is None or new is None:
        kind, why = (
            ("gone", "the second run does not have it") if new is None else ("new", "the first run does not have it")
        )
        return Change(*key, kind, why, ends[0], ends[1])
    titles = [[finding.title for finding in cell.findings if finding.verdict != "error"] for cell in (old, new)]
    appeared = [title for title in titles[1] if title not in titles[0]]
    vanished = [title for title in titles[0] if title not in titles[1]]
    kind, why = _judge(old, new, test, appeared, vanished)
    if kind == "new failure":
        runs = [earlier(key, title) for title in appeared]
        if runs and None not in runs:
            kind, why = "changed", f"it fails as it did in run {max(filter(None, runs))}"
    p, p_corrected = test or (None, None)
    return Change(*key, kind, why, ends[0], ends[1], p, p_corrected, appeared, vanished)


def _judge(old: Cell, new: Cell, test: Test | None, appeared: list[str], vanished: list[str]) -> tuple[str, str]:
    """What became of a cell that both runs have, and why that is said."""
    if test is None:
        if old.trials:
            return "worse", "all its trials ended in infrastructure errors" if new.errors else "it was not run"
        return ("changed", "it was not judged before") if new.trials else ("same", "")
    unexpected = new.trials - new.passed > new.known
    if test.p_corrected < LEVEL:
        if new.passed * old.trials > old.passed * new.trials:
            return "better", "more of its trials pass"
        return ("worse", "fewer of its trials pass") if unexpected else ("changed", "fewer pass, as is known")
    if old.passed == old.trials and unexpected:
        return "new failure", "it fails, which it did not before; that may be chance"
    if appeared or vanished:
        reasons = [*(["it fails in another way"] if appeared else []), *(["a failure is gone"] if vanished else [])]
        return "changed", " and ".join(reasons)
    return ("changed", "its verdict") if old.verdict != new.verdict else ("same", "")
