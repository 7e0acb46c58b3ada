"""Matrices and life cycles of stored runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from fnmatch import fnmatchcase
from functools import cache, partial
from pathlib import Path

from harness.conf.load import BASELINE, TRACED
from harness.errors import StoreError
from harness.programs.gcc_suites import suites
from harness.programs.model import CellKey, Expectation
from harness.results import dejagnu, history, lifecycle
from harness.results.attribution import Design, control_first
from harness.results.build_matrix import build_matrix
from harness.results.compare import StoredInput
from harness.results.expected import Entry
from harness.results.history import History, OutcomeCount
from harness.results.lifecycle import LifeCycle
from harness.results.matrix import Column, Matrix
from harness.results.merge import source as source_of
from harness.results.outdiff import OutputDiff, output_diff
from harness.results.plan import RunPlan
from harness.results.store import Run, Store
from harness.results.twins import Experiment
from harness.trial import lifetrace
from harness.trial.execute import LIFETRACE
from harness.trial.record import Trial

#: How a merged run names its parts (harness/results/merge.py, Source).
_PART = re.compile(r"run (\d+) of (.*?)(?: \(shard [^)]*\))?$")


def matrix_trials(store: Store, stored_run: Run) -> Iterator[Trial]:
    """The trials of a stored run that are in its matrix: not those that were made besides, to count threads."""
    variants = stored_run.plan.variants
    trials = store.trials(stored_run.id)
    return (trial for trial in trials if trial.variant in variants or not trial.variant.endswith(TRACED))


def load_matrix(store: Store, stored_run: Run, asked: str = "") -> Matrix:
    """The matrix of a stored run.

    Args:
        asked: GUEST/VARIANT that the others are compared with, if not with what the run's user asked for.

    Raises:
        ConfigError: the run has no such guest or variant.
    """
    plan = stored_run.plan
    control, baseline = Column.parse(asked, plan.guests, plan.variants) if asked else _baseline(plan)
    facts = {"run": stored_run.id, "created": stored_run.created, "finished": stored_run.finished or "no", **plan.facts}
    return build_matrix(
        facts,
        plan.guests,
        plan.variants,
        plan.programs,
        baseline,
        matrix_trials(store, stored_run),
        store.events(stored_run.id),
        plan.trials if plan.is_sequential else None,
        [Entry.from_json(entry) for entry in plan.expected],
        date.fromisoformat(stored_run.created[:10]),
        store.times(stored_run.id),
        control,
        Experiment(plan.twins, plan.c_programs, plan.besides_libgo, _design(plan)),
        plan.unmatched,
    )


def _design(plan: RunPlan) -> Design | None:
    design = plan.request.design if plan.request else None
    return Design(design.libgos, design.libpthreads) if design else None


def _baseline(plan: RunPlan) -> Column:
    """What the columns of a run are compared with: what its user asked for, or `pristine` and the first Linux guest; if
    there is none, the first guest."""
    if plan.baseline:
        guest, _, variant = plan.baseline.partition("/")
        return Column(guest, variant)
    guests = control_first({guest: plan.systems.get(guest, "") for guest in plan.guests})
    return Column(next(iter(guests), ""), BASELINE)


def find_matrix(name: str, work: Path) -> Matrix:
    """The matrix of a run that is named in words.

    Args:
        name: the number of a run of the work directory; a file of JSON as `harness show --format json` prints it; a
            .sum file of DejaGnu; or another work directory or its database, with `#N` behind it for another run than
            the newest.

    Raises:
        StoreError: there is no such run, or the file is no such file.
    """
    file = Path(name)
    if file.is_file() and file.suffix == ".json":
        try:
            return Matrix.from_json(json.loads(file.read_bytes()))
        except (OSError, ValueError, RecursionError) as error:
            raise StoreError(f"{file}: cannot be read: {error}") from error
        except StoreError as error:
            raise StoreError(f"{file}: {error}") from error
    if file.is_file() and (text := _text(file)) and dejagnu.is_sum(text):
        return dejagnu.parse(text, name, suites())
    source = source_of(name, work, others="no JSON of one, no .sum file, ")
    return load_matrix(source.store, source.run)


def find_inputs(name: str, work: Path) -> dict[str, StoredInput]:
    """What the user of a run that is named in words wrote, by part: programs' sources, variants and guests. Empty where
    that is not known, as of a file."""
    if Path(name).is_file() and Path(name).suffix != ".sqlite":
        return {}
    source = source_of(name, work)
    return {part: StoredInput(key, partial(source.store.text, key)) for part, key in source.run.plan.inputs.items()}


def _text(file: Path) -> str:
    """The text of a file, or '' of a database. Raises StoreError."""
    try:
        with file.open("rb") as opened:
            return "" if opened.read(16).startswith(b"SQLite format 3") else file.read_text(errors="replace")
    except OSError as error:
        raise StoreError(f"{file}: cannot be read: {error.strerror}") from error


def load_history(store: Store, work: Path, selection: Sequence[str] = ()) -> History:
    """What all runs of a store say of each cell. Bisects are left out, whose libgos are parts of one, and runs of which
    the same work directory has a merged one.

    Args:
        work: the store's work directory.
        selection: names of suites and of SUITE/PROGRAM, and patterns of them; none means all.

    Raises:
        StoreError: something selected has never been run.
    """
    runs = {run.id: run.plan for run in history_runs(store, work)}
    outcomes = (
        OutcomeCount(*outcome)
        for outcome in store.outcome_counts()
        if (plan := runs.get(outcome[0])) and outcome[1].variant in plan.variants
    )
    loaded = history.collect(outcomes, lambda cell: not selection or any(_selects(word, cell) for word in selection))
    for word in selection:
        if not any(_selects(word, each.cell) for each in loaded.cells):
            raise StoreError(f"{word}: no trial of it in {work}")
    return loaded


def history_runs(store: Store, work: Path) -> list[Run]:
    """The runs that a history is made of, oldest first."""
    runs = store.runs()
    merged = [_PART.match(part) for run in runs for part in run.plan.merged or ()]
    parts = {int(part[1]) for part in merged if part and Path(part[2]).resolve() == work.resolve()}
    return [run for run in runs if not run.plan.bisect and run.id not in parts]


def _selects(word: str, cell: CellKey) -> bool:
    """Whether a suite, a program or a pattern names the program of a cell."""
    suite = cell.program.partition("/")[0]
    return any(fnmatchcase(name, word) for name in (suite, cell.program))


def output_differ(plan: RunPlan) -> Callable[[Trial], OutputDiff | None]:
    """What tells how the output of a failed trial of a run differs from what was expected when the run was made; None
    for a trial of which that is not known, as in a run of a version that did not store it."""

    @cache
    def expectation(program: str) -> Expectation | None:
        stored = plan.expectations.get(program)
        return Expectation.from_json(stored) if stored else None

    def differ(trial: Trial) -> OutputDiff | None:
        expected = expectation(trial.program)
        return output_diff(trial, expected) if expected else None

    return differ


def load_life_cycles(store: Store, stored_run: Run) -> list[LifeCycle]:
    """The life cycles of the traced programs of a stored run."""
    traces = {trial: lifetrace.parse(data) for trial, data in store.attachments(stored_run.id, LIFETRACE)}
    return lifecycle.collect(store.trials(stored_run.id), traces, TRACED) if traces else []
