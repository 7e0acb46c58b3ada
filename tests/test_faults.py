"""Faults on purpose, for real: each is injected into a run of the control guest, which must lose nothing by it."""

from __future__ import annotations

import re

import pytest
from click.testing import CliRunner

import harness.crew
import harness.engine
import harness.trial.run
from harness.cli import main
from harness.results.store import Store
from tests import faults
from tests.faults import HEALTHY, IN_GUEST


def run(*words):
    return CliRunner().invoke(main, ["run", *map(str, words), "--variant", "pristine"])


@pytest.fixture(scope="module")
def harmed(tmp_path_factory):
    """A run of all that harms its guest, a healthy program after each, twice: its exit status and its trials."""
    work = tmp_path_factory.mktemp("harmed")
    programs = {}
    for index, (name, fault) in enumerate(sorted(IN_GUEST.items())):
        programs |= {f"{index:02}-{name}": fault, f"{index:02}-then": HEALTHY}
    with pytest.MonkeyPatch.context() as patch:  # what is waited for is the same, for a shorter time
        patch.setattr(harness.trial.run, "GRACE", 1.0)
        patch.setattr(harness.trial.run, "PATIENCE", 4.0)
        patch.setattr(harness.engine, "ATTEMPTS", 2)
        done = run(faults.write(work / "harm", programs), "--trials", 2, "--jobs", 2, "--work", work / "w")
    trials = {}
    for trial in Store(work / "w" / "results.sqlite").trials(1):
        trials.setdefault(trial.program.removeprefix("harm/"), []).append(trial)
    return done, trials, work / "w"


@pytest.mark.parametrize("name", sorted(IN_GUEST))
def test_what_comes_of_a_program_that_harms_its_guest(harmed, name):
    _, trials, _ = harmed
    index = sorted(IN_GUEST).index(name)
    fault, told = IN_GUEST[name], trials[f"{index:02}-{name}"]
    said = [(trial.verdict, trial.reason) for trial in told]
    if fault.verdicts == ("error",):
        assert [trial.verdict for trial in told] == ["error"] * 4, said
    else:
        judged = [trial for trial in told if trial.verdict != "error"]
        assert {trial.verdict for trial in judged} <= set(fault.verdicts), said
        assert "error" in fault.verdicts or [trial.number for trial in judged] in ([1, 2], [2, 1]), said
    for trial in told:
        if trial.verdict in fault.verdicts:
            assert re.search(fault.reason, trial.reason), said
    healthy = [trial.verdict for trial in trials[f"{index:02}-then"] if trial.verdict != "error"]
    assert healthy == ["pass"] * 2, "a neighbour has paid for it"


def test_what_such_a_run_says_and_leaves(harmed):
    done, trials, work = harmed
    assert done.exit_code == 3, done.output
    assert not faults.left_behind(work)
    spoilt = sum(trial.verdict == "error" for told in trials.values() for trial in told)
    assert len(Store(work / "results.sqlite").events(1)) == spoilt, "each trouble is counted"
    (large,) = [told for name, told in trials.items() if name.endswith("megabytes")]
    assert {(trial.stdout_total, len(trial.stdout)) for trial in large if trial.verdict == "pass"} == {
        (20 << 20, 1 << 20)
    }
