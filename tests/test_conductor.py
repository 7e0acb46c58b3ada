"""When the conductor hands a trial out, with a stand-in for the crew; real crews are in test_guest and test_trouble."""

from __future__ import annotations

import queue

import pytest

from harness.crew import Outcome
from harness.engine import _Conductor
from harness.plan import Program, Slot
from harness.progress import Reporter
from harness.results.store import Store
from tests.test_store import TRIAL


class Crew:
    """Makes each trial at once, and notes how many were made and not yet stored when the next one came."""

    def __init__(self, store: Store) -> None:
        self.store, self.results = store, queue.Queue()
        self.made, self.behind = 0, []

    def put(self, slot: Slot) -> None:
        self.behind.append(self.made - len(list(self.store.trials(1))))
        self.made += 1
        told = {name: value for name, value in TRIAL.__dict__.items() if name != "attempt"}
        self.results.put(Outcome(slot, {**told, "number": slot.number, "verdict": "pass"}))

    def start(self, guests: dict[str, int]) -> None:
        pass

    def stop(self) -> None:
        pass


@pytest.mark.parametrize("guests", [1, 2])
def test_a_guest_gets_its_next_trial_when_its_last_one_is_stored(tmp_path, guests):
    store = Store(tmp_path / "results.sqlite")
    crew = Crew(store)
    slots = [Slot("g", "v", Program("s/p", tmp_path / "p.go"), number) for number in range(1, 8)]
    with Reporter() as report:
        _Conductor(crew, store, store.begin({}), report, {"g": guests}).conduct({"g": lambda: iter(slots)}, False)
    assert [trial.number for trial in store.trials(1)] == list(range(1, 8))
    assert max(crew.behind) == guests - 1
