"""A cluster, for real: a scheduler and workers in processes of their own with guests; one of them is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness import cluster, conf, engine, steady
from harness.cli import main
from harness.errors import ConfigError, StoreError
from harness.plan import Made, Program
from harness.results.store import Store

SELECTION = ("threads/lock-ring", "threads/lock-nested", "threads/lock-unlock-exit")


def start(command, *words, **env):
    """A process in a session of its own, so that all of it can be killed."""
    return subprocess.Popen(
        [Path(sys.executable).with_name(command), *words], env={**os.environ, **env}, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def kill(process):
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def until(found, seconds=120):
    end = steady.time() + seconds
    while steady.time() < end:
        if value := found():
            return value
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s")


@pytest.fixture
def started():
    processes = []

    def begin(*words, **env):
        processes.append(start(*words, **env))
        return processes[-1]

    yield begin
    for process in processes:
        kill(process)


@pytest.fixture
def scheduler(started, tmp_path):
    file = tmp_path / "scheduler.json"
    started("dask", "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file))
    return until(lambda: file.exists() and file.read_text() and json.loads(file.read_text())["address"])


def worker(started, scheduler, cache):
    words = ["--nthreads", "1", "--no-dashboard", "--no-nanny", "--host", "127.0.0.1"]
    return started("dask", "worker", scheduler, *words, XDG_CACHE_HOME=str(cache))


def passed(work):
    try:
        trials = list(Store(work / "results.sqlite").trials(1))
        return Counter((trial.program, trial.number) for trial in trials if trial.verdict == "pass")
    except StoreError:
        return Counter()


def test_a_worker_that_is_killed_loses_nothing(started, scheduler, tmp_path):
    cache, work = tmp_path / "cache", tmp_path / "work"  # a worker's cache, in which there is nothing
    workers = [worker(started, scheduler, cache) for _ in range(2)]
    words = [
        "run",
        *SELECTION,
        "--variant",
        "pristine",
        "--trials",
        "12",
        "--scheduler",
        scheduler,
        "--work",
        str(work),
    ]
    run = started("harness", *words)
    until(lambda: sum(passed(work).values()) >= 6)
    kill(workers[0])
    out, _ = run.communicate(timeout=120)
    assert run.returncode == 0, out
    assert passed(work) == {(program, number): 1 for program in SELECTION for number in range(1, 13)}
    store = Store(work / "results.sqlite")
    assert store.run(1).finished and not store.events(1)
    matrix = engine.matrix(store, store.run(1))
    assert [(cell.passed, cell.trials, cell.errors) for cell in matrix.cells] == [(12, 12, 0)] * 3
    assert (cache / "harness" / "fetched").is_dir() and not (cache / "harness" / "libgo").exists()
    guests = cache / "harness" / "work" / "guests"
    until(lambda: not [one for one in guests.iterdir() if one.name != ".lock"])  # those of the killed worker too


def test_where_no_scheduler_is(monkeypatch, tmp_path):
    monkeypatch.setattr(cluster, "ANSWER", 0.5)
    words = ["run", "threads/lock-ring", "--scheduler", "tcp://127.0.0.1:9", "--work", str(tmp_path)]
    got = CliRunner().invoke(main, words)
    assert got.exit_code == 2 and "no scheduler answers at tcp://127.0.0.1:9" in got.output
    assert not list(tmp_path.iterdir())


def test_what_a_cluster_cannot_do(tmp_path):
    got = CliRunner().invoke(main, ["run", "threads/lock-ring", "--cores", "--scheduler", "--work", str(tmp_path)])
    assert got.exit_code == 2 and "--cores and --scheduler do not go together" in got.output
    prints = Program("s/p", tmp_path / "p.go", made=Made(output_flags=("-O2",)))
    request = engine.Request((), (), (), 1, None, (), tmp_path)
    with pytest.raises(ConfigError, match="s/p prints a program"):
        engine._check_for_cluster(engine.Asked(request, conf.load(), {}, {}, [prints]), cluster.LOCAL)
