"""Judges the trials of a stored run again, by today's rules."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

from harness.errors import ProgramError, StoreError
from harness.programs.header import read_program
from harness.programs.model import Expectation
from harness.results.store import Run, Store
from harness.trial.execute import NOT_RUN
from harness.trial.observe import Observation
from harness.trial.record import Trial
from harness.trial.verdict import judge, still, suspended


def rejudge_run(store: Store, stored_run: Run) -> list[tuple[Trial, Trial]]:
    """Judge the trials of a stored run again, by today's rules and by what was expected when the run was made.

    An infrastructure error stays one, and what was not run stays as it is. A run of before expectations were stored is
    judged by its programs' files.

    Returns:
        The trials that changed, as they were and as they are now.

    Raises:
        StoreError: what was expected is not known, or the store cannot be written; nothing has changed then.
    """
    expected: dict[str, Expectation] = {
        name: Expectation.from_json(stored) for name, stored in stored_run.plan.expectations.items()
    }
    changed = []
    for trial in store.trials(stored_run.id):
        if trial.verdict == "error" or trial.reason.startswith(NOT_RUN):
            continue
        if trial.program not in expected:
            expected[trial.program] = _expected_by_file(trial)
        verdict = judge(_observed(trial), expected[trial.program], trial.signal)
        # What was collected of a crash is named behind the reason.
        reason = trial.reason if trial.reason.startswith(f"{verdict.reason}; ") else verdict.reason
        rejudged = replace(trial, verdict=verdict.verdict, reason=reason, signature=verdict.signature)
        if rejudged != trial:
            changed.append((trial, rejudged))
    store.judge(rejudged for _, rejudged in changed)
    return changed


def _observed(trial: Trial) -> Observation:
    """What was seen of a stored trial. A verdict `hang` says that it was stopped at its limit."""
    return Observation(
        trial.exit_status, None, trial.seconds, trial.stdout, trial.stderr, trial.stdout_total, trial.stderr_total,
        timed_out=trial.verdict == "hang", suspended=suspended(trial.reason),
        still=still(trial.reason),
    )  # fmt: skip


def _expected_by_file(trial: Trial) -> Expectation:
    """What a program's file says today; the path stands in the command that runs the trial again."""
    source = Path(shlex.split(trial.command)[2])
    try:
        return read_program(source).expected
    except ProgramError as error:
        why = "is not stored with the run, and its file tells it no more"
        raise StoreError(f"what was expected of {trial.program} {why}: {error}") from error
