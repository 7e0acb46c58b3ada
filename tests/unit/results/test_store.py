"""The store: what was added is there for another process, and tables of another version are refused."""

import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import paths
from harness.errors import StoreError
from harness.results.plan import RunPlan
from harness.results.store import Store
from harness.trial.record import Trial

TRIAL = Trial(
    0, "g", "v", "s/p", 1, 1, "crash", "why", "SIGSEGV", None, "SIGSEGV", 1.5, b"\xff\x00", b"e", 2, 9, "t", "c"
)


def test_a_trial_is_committed_when_it_is_added(tmp_path):
    path = tmp_path / "results.sqlite"
    store = Store(path)
    run = store.begin(RunPlan.model_validate({"guests": ["g"]}))
    store.add(run, TRIAL)
    store.event(run, "g", "panic")
    other = Store(path)  # what is not committed, it would not see
    (stored,) = other.trials(run)
    assert stored == Trial(**{**TRIAL.__dict__, "id": stored.id})
    assert [event["text"] for event in other.events(run)] == ["panic"]
    assert other.run(None).plan.to_json() == {"guests": ["g"]}
    assert other.run(run).finished is None


def test_what_was_added_outlives_a_process_that_is_killed(tmp_path):
    path = tmp_path / "results.sqlite"
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom harness.results.store import Store\n"
        "from harness.results.plan import RunPlan\nfrom tests.unit.results.test_store import TRIAL\n"
        "store = Store(Path(sys.argv[1]))\nrun = store.begin(RunPlan())\n"
        "for _ in range(50): store.add(run, TRIAL)\nos.kill(os.getpid(), 9)\n"
    )
    process = subprocess.run([sys.executable, "-c", script, str(path)], cwd=paths.DATA, check=False)
    assert process.returncode == -9
    assert len(list(Store(path).trials(1))) == 50


def test_what_is_not_there(tmp_path):
    store = Store(tmp_path / "r.sqlite")
    with pytest.raises(StoreError, match="no run yet"):
        store.run(None)
    store.begin(RunPlan())
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


def test_a_database_that_several_make_at_once(tmp_path):
    """Each round is a race; one in eight was lost when its version and its tables were read one after the other."""
    with ThreadPoolExecutor(4) as pool:
        for number in range(40):
            path, start = tmp_path / f"{number}.sqlite", threading.Barrier(4)

            def begin(_, path=path, start=start):
                start.wait()
                store = Store(path)
                run = store.begin(RunPlan())
                store.db.close()
                return run

            assert sorted(pool.map(begin, range(4))) == [1, 2, 3, 4]


@pytest.mark.parametrize("version", [0, 3])
def test_a_database_of_something_else_is_left_alone(tmp_path, version):
    path = tmp_path / "app.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE bookmarks (url TEXT)")
        db.execute(f"PRAGMA user_version={version}")
    db.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"app.sqlite: not a database of the harness$"):
        Store(path)
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["app.sqlite"]


def test_results_where_nothing_can_be_written_are_read(tmp_path):
    for name in ("there", "here"):
        (tmp_path / name).mkdir()
    store = Store(tmp_path / "there" / "r.sqlite")
    store.add(store.begin(RunPlan()), TRIAL)
    store.db.close()
    words = ["mount", "--bind", "-o", "ro", str(tmp_path / "there"), str(tmp_path / "here")]
    if subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("mounting takes root")
    try:
        store = Store(tmp_path / "here" / "r.sqlite")
        assert len(list(store.trials(1))) == 1
        with pytest.raises(StoreError, match="cannot be written: attempt to write a readonly database"):
            store.begin(RunPlan())
        store.db.close()
    finally:
        subprocess.run(["umount", str(tmp_path / "here")], check=True)


def test_locked_results_are_not_read_past_the_lock(tmp_path, monkeypatch):
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *where, **how: connect(*where, **{**how, "timeout": 0.1}))
    Store(tmp_path / "r.sqlite").db.close()
    other = connect(tmp_path / "r.sqlite", isolation_level=None)
    other.execute("PRAGMA locking_mode=EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreError, match=r"r\.sqlite: database is locked$"):
        Store(tmp_path / "r.sqlite")
    other.close()


def test_damaged_results_are_told_of(tmp_path):
    store = Store(tmp_path / "r.sqlite")
    store.add(store.begin(RunPlan()), TRIAL)
    with sqlite3.connect(tmp_path / "r.sqlite") as db:
        db.execute("DROP TABLE attachments")
        db.execute("UPDATE runs SET plan = '{'")
    with pytest.raises(StoreError, match="the results cannot be read: no such table: attachments"):
        store.collected(1)
    with pytest.raises(StoreError, match="the results cannot be read: the plan of run 1 is damaged"):
        store.runs()


def test_attachments_come_with_their_trial(tmp_path):
    store = Store(tmp_path / "r.sqlite")
    run, other = store.begin(RunPlan()), store.begin(RunPlan())
    store.add(run, TRIAL, {"core": b"1", "trace": b"2"})
    store.add(run, TRIAL)
    store.add(other, TRIAL, {"trace": b"3"})
    assert [data for _, data in store.attachments(run, "trace")] == [b"2"]
    assert [trial for trial, _ in store.attachments(run, "trace")] == [next(store.trials(run)).id]


def test_a_store_of_the_first_version_is_taken_over(tmp_path):
    path = tmp_path / "r.sqlite"
    run = Store(path).begin(RunPlan())
    with sqlite3.connect(path) as db:
        db.execute("DROP TABLE attachments")
        db.execute("DROP INDEX trials_of_slot")
        db.execute("DROP TABLE times")
        db.execute("DROP TABLE texts")
        db.execute("PRAGMA user_version=1")
    store = Store(path)
    assert store.times(run) == [] and store.text("key") is None
    store.add(run, TRIAL, {"trace": b"2"})
    assert [data for _, data in Store(path).attachments(run, "trace")] == [b"2"]


def test_times_of_a_run_and_of_its_going_on_are_added_up(tmp_path):
    store = Store(tmp_path / "r.sqlite")
    run, other = store.begin(RunPlan()), store.begin(RunPlan())
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


def test_a_verdict_that_is_not_known_is_told_of(tmp_path):
    store = Store(tmp_path / "r.sqlite")
    store.add(store.begin(RunPlan()), TRIAL)
    with sqlite3.connect(tmp_path / "r.sqlite") as db:
        db.execute("UPDATE trials SET verdict = 'splendid'")
    for read in (lambda: list(store.trials(1)), lambda: store.trial(1)):
        with pytest.raises(
            StoreError, match=r"^the results cannot be read: trial 1 has the unknown verdict 'splendid'$"
        ):
            read()
