"""Which recording is meant, what is said of a machine that is not what it was, and what a trial came to."""

import errno
import os
from dataclasses import replace
from types import SimpleNamespace

import pytest

from harness.errors import GuestError, HarnessError, StoreError
from harness.guest import qemu
from harness.guest.recording import Recording
from harness.results.plan import RunPlan
from harness.results.store import Store
from harness.run import recordings
from harness.run.recordings import FOLDER, RECORD, RecordedTrial, StoredFile, StoredRecording, outcome
from harness.trial.record import Verdict
from tests import runs


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "results.sqlite")
    for _ in range(2):
        run = store.begin(RunPlan())
        for trial in runs.trials(runs.names(1), each=1):
            store.add(run, trial)
    return store


def keep(work, run, trial, of, **more):
    folder = work / "runs" / str(run) / FOLDER / str(trial)
    folder.mkdir(parents=True)
    fields = {
        "guest": "g",
        "program": "p",
        "variant": "v",
        "title": "hang",
        "qemu": "/q",
        "version": "7",
        "data": False,
    }
    fields |= {"template": [], "files": {}, "disk": None, "begin": 1, "end": 2, "icount": 3, "seconds": 1, "event": ""}
    stored = StoredRecording(trial=trial, of=of, **{**fields, **more})
    (folder / RECORD).write_text(stored.model_dump_json())
    return RecordedTrial(folder, stored)


def test_a_recording_is_found_by_its_trial_and_by_the_one_that_it_repeats(tmp_path, store):
    keep(tmp_path, 1, 2, of=1)
    keep(tmp_path, 2, 5, of=1)
    broken = tmp_path / "runs" / "2" / FOLDER / "9" / RECORD
    broken.parent.mkdir()
    broken.write_text("{")
    assert recordings.find(store, 2, tmp_path).stored.trial == 2
    assert recordings.find(store, 1, tmp_path).stored.trial == 5
    with pytest.raises(StoreError, match=r"trial 3 is not recorded; `.*harness rerun 3 --record --work .*` records it"):
        recordings.find(store, 3, tmp_path)
    with pytest.raises(StoreError):
        recordings.find(store, 99, tmp_path)


def test_a_recording_that_cannot_be_read_is_not_called_missing(tmp_path, store):
    file = keep(tmp_path, 1, 2, of=1).folder / RECORD
    file.write_text("{")
    with pytest.raises(StoreError, match=f"trial 2 cannot be replayed: {file} is missing or damaged"):
        recordings.find(store, 2, tmp_path)


def test_what_a_trial_came_to(store):
    _, trial = store.trial(1)
    assert outcome(replace(trial, verdict=Verdict.PASS, signature="")) == "pass"
    assert outcome(replace(trial, verdict=Verdict.HANG, signature="hang: a < b")) == "hang: a < b"
    assert outcome(replace(trial, verdict=Verdict.CRASH, signature="SIGABRT")) == "crash: SIGABRT"
    deaths = [replace(trial, verdict=Verdict.ERROR, reason=f"panic: at 0x{number}, CPU {number}") for number in (1, 2)]
    assert {outcome(death) for death in deaths} == {"error: panic: at ADDR, CPU N"}, "a guest dies the same way"


def test_a_full_disk_is_told_in_a_sentence(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/w/log")

    monkeypatch.setattr(recordings, "_record", fail)
    with pytest.raises(HarnessError, match="trial 7 cannot be recorded: /w/log: No space left on device"):
        recordings.record(SimpleNamespace(work=tmp_path), 7, None)


def test_what_differs_is_told(tmp_path, monkeypatch):
    kernel = tmp_path / "kernel"
    kernel.write_bytes(b"kernel")
    monkeypatch.setattr(qemu, "at_hand", lambda program: qemu.Qemu("QEMU 8", True, ()))
    recorded = keep(tmp_path, 1, 2, of=1, files={"kernel": StoredFile.of(kernel)}, version="QEMU 8")
    assert recordings.different(recorded) == []
    kernel.touch()
    assert recordings.different(recorded) == [], "the same bytes, written again"
    kernel.write_bytes(b"kernal")
    monkeypatch.setattr(qemu, "at_hand", lambda program: qemu.Qemu("QEMU 9", True, ()))
    assert recordings.different(recorded) == [
        f"{kernel} has changed",
        "it was recorded by QEMU 8, and /q is QEMU 9",
    ]
    log = recorded.log
    log.write_bytes(b"log")
    kept = replace(recorded, stored=recorded.stored.model_copy(update={"kept": [StoredFile.of(log, "log")]}))
    log.write_bytes(b"lo")
    assert f"{log} has changed" in recordings.different(kept)
    kernel.unlink()
    assert recordings.different(recorded)[0] == f"{kernel}: No such file or directory"


def test_a_machine_without_the_data_disk_that_it_was_to_have_is_not_kept(tmp_path):
    maker = object.__new__(recordings.Maker)
    maker._setup = SimpleNamespace(config=SimpleNamespace(data_interface="ide"))
    machine = SimpleNamespace(name="g", recording=Recording(tmp_path), end_recording=lambda: 1, data=None)
    with pytest.raises(GuestError, match="guest g: its data disk could not be made"):
        maker._end(machine, None, {}, "", [], 0.0)
