"""What a worker has brought to its guest, with stand-ins for the guest and its agent."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from harness import conf
from harness.progress import Reporter
from harness.run import workers
from harness.run.workers import WorkerPool
from harness.trial.execute import TrialOptions


@pytest.mark.parametrize(("isolation", "programs"), [("on-trouble", 2), ("cell", 0), ("trial", 0)])
def test_a_guest_that_is_replaced_after_a_program_is_brought_no_others(isolation, programs, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "observe", lambda *arguments: None)
    context = SimpleNamespace(guests={}, work=tmp_path, isolation=isolation, options=TrialOptions())
    with Reporter() as report:
        pool = WorkerPool(context, report)
    built = {("pristine", name): Path("/cache") / name / name for name in ("one", "two")}
    artifacts = SimpleNamespace(programs=built, agent=Path("/agent"))
    context.guests["g"] = SimpleNamespace(config=conf.load().guest("linux-i386"), artifacts=artifacts)
    guest = SimpleNamespace(upcoming={}, agent_path="", put=lambda source, target: None, attach=lambda: None)
    pool._agent("g", guest)
    assert len(guest.upcoming) == programs
