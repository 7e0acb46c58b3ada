"""The store: what was added is there for another process, and tables of another version are refused."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import StoreError
from harness.results.matrix import Trial
from harness.results.store import Store

TRIAL = Trial(
    0, "g", "v", "s/p", 1, 1, "crash", "why", "SIGSEGV", None, "SIGSEGV", 1.5, b"\xff\x00", b"e", 2, 9, "t", "c"
)


def test_a_trial_is_committed_when_it_is_added(tmp_path):
    path = tmp_path / "results.sqlite"
    store = Store(path)
    run = store.begin({"guests": ["g"]})
    store.add(run, TRIAL)
    store.event(run, "g", "panic")
    other = Store(path)  # what is not committed, it would not see
    (got,) = other.trials(run)
    assert got == Trial(**{**TRIAL.__dict__, "id": got.id})
    assert [event["text"] for event in other.events(run)] == ["panic"]
    assert other.run(None).plan == {"guests": ["g"]}
    assert other.run(run).finished is None


def test_what_was_added_outlives_a_process_that_is_killed(tmp_path):
    path = tmp_path / "results.sqlite"
    script = "import os, sys, tests.test_store as t\nstore = t.Store(t.Path(sys.argv[1]))\nrun = store.begin({})\n"
    script += "for _ in range(50): store.add(run, t.TRIAL)\nos.kill(os.getpid(), 9)\n"
    folder = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", script, str(path)], cwd=folder, check=False)
    assert done.returncode == -9
    assert len(list(Store(path).trials(1))) == 50


def test_what_is_not_there(tmp_path):
    store = Store(tmp_path / "r.sqlite")
    with pytest.raises(StoreError, match="no run yet"):
        store.run(None)
    store.begin({})
    with pytest.raises(StoreError, match="no run 7; the newest is 1"):
        store.run(7)


def test_another_version_and_a_file_that_is_no_database(tmp_path):
    path = tmp_path / "r.sqlite"
    Store(path)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=99")
    with pytest.raises(StoreError, match="version 99"):
        Store(path)
    (tmp_path / "x.sqlite").write_text("no database, but long enough to be taken for one" * 50)
    with pytest.raises(StoreError, match="not a database"):
        Store(tmp_path / "x.sqlite")


def test_attachments_come_with_their_trial(tmp_path):
    store = Store(tmp_path / "r.sqlite")
    run, other = store.begin({}), store.begin({})
    store.add(run, TRIAL, {"core": b"1", "trace": b"2"})
    store.add(run, TRIAL)
    store.add(other, TRIAL, {"trace": b"3"})
    assert [data for _, data in store.attachments(run, "trace")] == [b"2"]
    assert [trial for trial, _ in store.attachments(run, "trace")] == [next(store.trials(run)).id]


def test_a_store_of_the_first_version_is_taken_over(tmp_path):
    path = tmp_path / "r.sqlite"
    run = Store(path).begin({})
    with sqlite3.connect(path) as db:
        db.execute("DROP TABLE attachments")
        db.execute("DROP INDEX trials_of_slot")
        db.execute("DROP TABLE times")
        db.execute("PRAGMA user_version=1")
    store = Store(path)
    assert store.times(run) == []
    store.add(run, TRIAL, {"trace": b"2"})
    assert [data for _, data in Store(path).attachments(run, "trace")] == [b"2"]


def test_times_of_a_run_and_of_its_going_on_are_added_up(tmp_path):
    store = Store(tmp_path / "r.sqlite")
    run, other = store.begin({}), store.begin({})
    for number, step, times, seconds in [
        (run, "b", 1, 2.0),
        (run, "a", 2, 3.0),
        (other, "a", 9, 9.0),
        (run, "b", 1, 0.5),
    ]:
        store.took(number, "libgo", step, times, seconds)
    assert store.times(run) == [
        {"what": "libgo", "step": "b", "times": 2, "seconds": 2.5},
        {"what": "libgo", "step": "a", "times": 2, "seconds": 3.0},
    ]
