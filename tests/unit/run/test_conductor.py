"""The conductor, with a stand-in for the executor that answers at once: no trial is lost, and a long run needs no
memory."""

import queue
import signal
import tracemalloc
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from harness import conf
from harness.errors import ConfigError
from harness.programs.model import Program, TrialSpec
from harness.programs.select import trial_specs
from harness.progress import Reporter
from harness.results.build_matrix import build_matrix
from harness.results.plan import RunPlan
from harness.results.sequential import least_rounds
from harness.results.store import Store
from harness.run.conductor import Conductor, Interrupted
from harness.run.job import Batch
from harness.run.rounds import check_decidable, rounds
from harness.trial.execute import Outcome, infra_error
from harness.trial.record import Verdict

GUEST, VARIANT = "linux-i386", "pristine"


def outcome(spec, verdict):
    """What an executor reports of a trial."""
    return Outcome(spec, replace(infra_error(spec, "", "", ()), verdict=verdict))


class InstantExecutor:
    """Stands in for the threads and their guests: every trial has ended when it is put, each seventh as an error."""

    def __init__(self):
        self.results, self.count = queue.SimpleQueue(), 0

    def put(self, spec):
        self.count += 1
        self.results.put(outcome(spec, Verdict.ERROR if self.count % 7 == 0 else Verdict.PASS))

    def start(self, guests):
        pass

    def stop(self):
        pass

    def drain(self):
        return []

    def rest(self):
        while not self.results.empty():
            yield self.results.get()


def conduct(folder, trials, executor=None, resume=False):
    configuration = conf.load()
    chosen = [Program(f"s/{name}", Path(name)) for name in "abcd"]
    guests = {GUEST: configuration.guest(GUEST)}
    specs = {GUEST: partial(trial_specs, guests, {GUEST: ""}, {VARIANT: conf.Variant()}, chosen, trials)}
    store = Store(folder / "results.sqlite")
    store.db.execute("PRAGMA synchronous=OFF")  # the disk's speed is not what this is about
    run = 1 if resume else store.begin(RunPlan())
    Conductor(executor or InstantExecutor(), store, run, Reporter(), {GUEST: 2}).conduct([Batch(specs)], resume)
    return build_matrix({}, [GUEST], [VARIANT], [program.name for program in chosen], VARIANT, store.trials(run), [])


def peak(folder, trials):
    folder.mkdir()
    tracemalloc.start()
    try:
        cells = conduct(folder, trials).cells
        ids = sum(len(cell.ids) for cell in cells)
        assert [(cell.passed, cell.lost) for cell in cells] == [(trials, 0)] * 4
        return tracemalloc.get_traced_memory()[1], ids
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("trials", [2_500, pytest.param(25_000, marks=pytest.mark.demand)])
def test_a_long_run_takes_no_more_memory_than_a_short_one(tmp_path, trials):
    peak(tmp_path / "first", 1)  # what is loaded once
    (short, few), (long, many) = peak(tmp_path / "short", 250), peak(tmp_path / "long", trials)
    numbers = (many - few) * 48  # the matrix holds the number of each trial, and nothing else of it
    assert long < short + numbers + (1 << 18)


def test_a_ctrl_c_between_two_trials_loses_none(tmp_path):
    class Interrupting(InstantExecutor):
        def put(self, spec):
            super().put(spec)
            if self.count == 20:
                signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted, match="of 40 trials of run 1 are stored"):
        conduct(tmp_path, 10, Interrupting())
    cells = conduct(tmp_path, 10, resume=True).cells
    assert [(cell.passed, cell.lost) for cell in cells] == [(10, 0)] * 4


@pytest.mark.parametrize("guests", [1, 2])
def test_a_guest_gets_its_next_trial_when_its_last_one_is_stored(tmp_path, guests):
    store, behind = Store(tmp_path / "results.sqlite"), []

    class Watching(InstantExecutor):
        def put(self, spec):
            behind.append(self.count - len(list(store.trials(1))))  # ended, and not stored yet
            super().put(spec)

    specs = [TrialSpec("g", VARIANT, Program("s/p", Path("p.go")), number) for number in range(1, 6)]
    with Reporter() as report:
        conductor = Conductor(Watching(), store, store.begin(RunPlan()), report, {"g": guests})
        conductor.conduct([Batch({"g": lambda: specs})], False)
    assert [trial.number for trial in store.trials(1)] == list(range(1, 6))
    assert max(behind) == guests - 1


def test_a_trial_begins_while_one_that_reached_its_limit_is_examined(tmp_path):
    """One guest: its first trial is at its limit, a second one is made meanwhile, and only then the first is stored."""
    store = Store(tmp_path / "results.sqlite")

    class AtLimit(InstantExecutor):
        def __init__(self):
            super().__init__()
            self.put_so_far, self.examined = [], None

        def put(self, spec):
            self.put_so_far.append(spec.number)
            if self.examined is None:
                self.examined = replace(outcome(spec, Verdict.HANG), taken_over=True)
                self.results.put(Outcome(one_more="g"))
                return
            self.results.put(outcome(spec, Verdict.PASS))
            if len(self.put_so_far) == 3:
                self.results.put(self.examined)

    specs = [TrialSpec("g", VARIANT, Program("s/p", Path("p.go")), number) for number in range(1, 6)]
    executor = AtLimit()
    with Reporter() as report:
        conductor = Conductor(executor, store, store.begin(RunPlan()), report, {"g": 1})
        conductor.conduct([Batch({"g": lambda: specs})], False)
    assert executor.put_so_far == [1, 2, 3, 4, 5]
    assert [trial.number for trial in store.trials(1)] == [2, 3, 1, 4, 5]


class Scripted(InstantExecutor):
    """Outcomes by cell and number alone; the harness is killed at one of the trials."""

    def __init__(self, killed_at=0):
        super().__init__()
        self.killed_at = killed_at

    def put(self, spec):
        self.count += 1
        if self.count == self.killed_at:
            raise RuntimeError("killed")
        passes = {"s/a": spec.variant == VARIANT, "s/b": True, "s/c": spec.number % 3 == 0}[spec.program.name]
        self.results.put(outcome(spec, Verdict.PASS if passes else Verdict.FAIL))


def no_control(spec):
    return False


def until_sure(folder, executors, most=12, is_control=no_control):
    """Make a run until it is sure, resumed with each further executor. Returns its outcomes by cell."""
    chosen = [Program(f"s/{name}", Path(name)) for name in "abc"]
    variants = {VARIANT: conf.Variant(), "other": conf.Variant()}
    cells = list(trial_specs({GUEST: conf.load().guest(GUEST)}, {GUEST: ""}, variants, chosen, 1))
    store = Store(folder / "results.sqlite")
    run = store.begin(RunPlan())
    for place, executor in enumerate(executors):
        report = Reporter(lambda line: None)
        batches = rounds(cells, most, partial(store.outcomes, run), report, "pristine", is_control)
        try:
            Conductor(executor, store, run, report, {GUEST: 2}).conduct(batches, place > 0)
        except RuntimeError:
            continue
    return store.outcomes(run)


def test_a_run_until_it_is_sure_stops_where_nothing_can_change(tmp_path):
    outcomes = until_sure(tmp_path, [Scripted()])
    counts = {(variant, program): len(by) for (_, variant, program), by in outcomes.items()}
    assert counts[VARIANT, "s/a"] == counts["other", "s/a"] == least_rounds(3), "a claim ends it"
    assert counts["other", "s/b"] < 12, "so does it that no claim is possible any more"
    for program in ("s/a", "s/b", "s/c"):
        assert counts[VARIANT, program] == counts["other", program]


def test_the_negative_control_has_trials_and_decides_nothing(tmp_path):
    outcomes = until_sure(tmp_path, [Scripted()], is_control=lambda spec: spec.program.name == "s/c")
    counts = {(variant, program): len(by) for (_, variant, program), by in outcomes.items()}
    assert counts[VARIANT, "s/a"] == least_rounds(2), "it is not corrected for"
    assert counts[VARIANT, "s/c"] == counts["other", "s/c"] == max(counts.values())


@pytest.mark.parametrize("killed_at", [2, 9, 17])
def test_a_run_until_it_is_sure_goes_on_as_it_would_have(tmp_path, killed_at):
    whole = until_sure(tmp_path / "whole", [Scripted()])
    torn = until_sure(tmp_path / "torn", [Scripted(killed_at), Scripted(killed_at), Scripted()])
    assert torn == whole


def test_what_cannot_be_decided_is_refused():
    chosen = [Program(f"s/{name}", Path(name)) for name in "abc"]
    guests = {GUEST: conf.load().guest(GUEST)}
    specs = list(trial_specs(guests, {GUEST: ""}, {VARIANT: conf.Variant(), "other": conf.Variant()}, chosen, 1))
    check_decidable(specs, least_rounds(3), "pristine", no_control)
    with pytest.raises(ConfigError, match=f"--trials {least_rounds(3)} or more"):
        check_decidable(specs, least_rounds(3) - 1, "pristine", no_control)
    with pytest.raises(ConfigError, match="nothing to decide"):
        check_decidable([slot for slot in specs if slot.variant == "other"], 20, "pristine", no_control)
