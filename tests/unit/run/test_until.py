"""A trial made again until it comes to an outcome: it ends there, counts what there was, and is looked at once."""

import signal
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.errors import ConfigError
from harness.programs.model import Program, TrialSpec
from harness.progress import Reporter
from harness.results.plan import RunPlan
from harness.results.store import EndedTrials, Store
from harness.run.conductor import Conductor, Interrupted
from harness.run.job import Batch
from harness.run.until import Catcher, Tally, Wanted, until_batch
from harness.trial.execute import Scene
from harness.trial.record import Verdict
from tests.unit.run.test_conductor import InstantExecutor, outcome

GUEST = "g"
DEADLOCK, NIL = "hang: chan receive in main.f", "panic: assignment to entry in nil map in main.f"


@pytest.mark.parametrize(
    ("wanted", "verdict", "title", "matches"),
    [
        ("hang", "hang", "", True),
        ("hang", "hang", DEADLOCK, True),
        ("hang", "crash", "hang: x", False),
        ("fail", "fail", "", True),
        ("pass", "pass", "", True),
        ("chan receive", "hang", DEADLOCK, True),
        ("^hang: chan .* main", "hang", DEADLOCK, True),
        ("nil map", "crash", NIL, True),
        (".", "pass", "", False),
        (".", "hang", "", False),
        ("kills guest", "error", "panic at kern/x.c:1: zone", True),
        ("kills guest", "error", "no room on the disk", False),
        ("kills guest", "crash", "panic: x", False),
        ("hang", "error", "the guest itself hangs", False),
        ("zone", "error", "panic at kern/x.c:1: zone", True),
        ("disk", "error", "no room on the disk", False),
    ],
)
def test_what_shows_an_outcome(wanted, verdict, title, matches):
    assert Wanted.parse(wanted).shows(verdict, title) is matches


@pytest.mark.parametrize("text", ["", "hagn(", "*"])
def test_an_outcome_that_is_none(text):
    with pytest.raises(ConfigError):
        Wanted.parse(text)


def test_a_tally_counts_what_came_of_the_trials():
    outcomes = [
        EndedTrials("pass", "", 50),
        EndedTrials("hang", DEADLOCK, 2),
        EndedTrials("crash", NIL, 1),
        EndedTrials("error", "no room", 3),
    ]
    assert str(Tally.of(Wanted.parse("hang"), outcomes)) == "hang: 2 of 53 trials (50 pass, 1 crash, 3 error)"
    assert (
        str(Tally.of(Wanted.parse("nil"), outcomes)) == "a title with 'nil': 1 of 53 trials (50 pass, 2 hang, 3 error)"
    )
    assert str(Tally.of(Wanted.parse("hang"), [])) == "hang: 0 of 0 trials"


class Executor(InstantExecutor):
    """Stands in for guests: trials pass, but for those with the numbers given."""

    def __init__(self, others):
        super().__init__()
        self.others = others

    def put(self, spec):
        self.count += 1
        stored = outcome(spec, self.others.get(spec.number, Verdict.PASS))
        if stored.trial.verdict == Verdict.CRASH:
            stored = replace(stored, trial=replace(stored.trial, signature=NIL))
        self.results.put(stored)


def conduct(folder, until, others, most=100, guests=1, resume=False, executor=None):
    """The store of a run until an outcome, and how many trials were handed out."""
    store = Store(folder / "results.sqlite")
    run = 1 if resume else store.begin(RunPlan())
    program = Program("s/p", Path("p.go"))
    specs = [TrialSpec(GUEST, "pristine", program, number) for number in range(1, most + 1)]
    request = SimpleNamespace(until=until, trials=most)
    resolved = SimpleNamespace(request=request, guests={GUEST: None}, trials=lambda guest: iter(specs))
    executor = executor or Executor(others)
    with Reporter() as report:
        batch = until_batch(resolved, partial(store.ended, run), report)
        Conductor(executor, store, run, report, {GUEST: guests}).conduct([batch], resume)
    return store, executor.count


@pytest.mark.parametrize(
    ("until", "last"),
    [("hang", 17), ("crash", 5), ("nil map", 5), ("fail", 9), ("kills guest", 100), ("no such title", 100)],
)
@pytest.mark.parametrize("guests", [1, 3])
def test_trials_are_made_until_one_shows_the_outcome(tmp_path, until, last, guests):
    others = {5: Verdict.CRASH, 9: Verdict.FAIL, 17: Verdict.HANG}
    store, count = conduct(tmp_path, until, others, guests=guests)
    numbers = [trial.number for trial in store.trials(1)]
    assert last <= len(numbers) == count < last + guests + (last == 100)
    assert store.db.execute("SELECT count(*) FROM trials").fetchone() == (count,)


def test_a_run_that_is_resumed_goes_on_until_the_outcome(tmp_path):
    class Interrupting(Executor):
        def put(self, spec):
            super().put(spec)
            if self.count == 4:
                signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted) as caught:
        conduct(tmp_path, "hang", {}, executor=Interrupting({9: Verdict.HANG}))
    assert caught.value.number == 1
    store, count = conduct(tmp_path, "hang", {9: Verdict.HANG}, resume=True)
    assert [trial.number for trial in store.trials(1)] == list(range(1, 10)) and count == 5
    _, count = conduct(tmp_path, "hang", {9: Verdict.HANG}, resume=True)
    assert not count, "it has come to it already"


def test_one_trial_is_looked_at_and_a_ctrl_c_meanwhile_is_not_for_the_run():
    scene = Scene(None, Verdict.HANG, "", None, "")
    looked, busy = [], []

    def look(scene):
        looked.append(scene)
        busy.append(catcher.busy.is_set())

    catcher = Catcher(Wanted.parse("hang"), look)
    catcher.inspect(replace(scene, verdict=Verdict.PASS))
    assert not looked and not catcher.caught.is_set()
    threads = [threading.Thread(target=catcher.inspect, args=(scene,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert looked == [scene] and busy == [True]
    assert catcher.caught.is_set() and not catcher.busy.is_set()


def test_while_the_user_is_at_work_in_a_guest_a_ctrl_c_interrupts_nothing(tmp_path):
    store = Store(tmp_path / "results.sqlite")

    class Interrupting(Executor):
        def put(self, spec):
            super().put(spec)
            signal.raise_signal(signal.SIGINT)

    specs = [TrialSpec(GUEST, "pristine", Program("s/p", Path("p.go")), number) for number in (1, 2)]
    with Reporter() as report:
        conductor = Conductor(
            Interrupting({}), store, store.begin(RunPlan()), report, {GUEST: 1}, attended=lambda: True
        )
        conductor.conduct([Batch({GUEST: lambda: specs})], False)
    assert len(list(store.trials(1))) == 2
