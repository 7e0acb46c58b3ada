"""A cluster, for real: a scheduler and workers in processes of their own with guests; one of them is killed."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner
from distributed import Client, get_worker

from harness import conf
from harness.build.artifacts import Artifacts
from harness.build.libgo import Libgo
from harness.cache import Cache
from harness.cli.app import main
from harness.errors import ConfigError, StoreError
from harness.programs.model import BuildSpec, Program
from harness.progress import Reporter
from harness.results.load import load_matrix
from harness.results.store import Store
from harness.run import cluster
from harness.run.conductor import check_for_cluster
from harness.run.job import RunContext
from harness.run.request import Request
from harness.run.resolve import ResolvedRequest
from harness.trial.execute import GuestSetup
from tests.faults import until

SELECTION = ("threads/lock-ring", "threads/lock-nested", "threads/lock-unlock-exit")


def start(command, *words, **env):
    """A process in a session of its own, so that all of it can be killed."""
    return subprocess.Popen(
        [Path(sys.executable).with_name(command), *words], start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent), **env},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def kill(process):
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


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


def worker(started, scheduler, folder, **env):
    """A worker with one guest, whose scratch files go to a folder."""
    words = ["--nthreads", "1", "--no-dashboard", "--no-nanny", "--host", "127.0.0.1", "--local-directory", str(folder)]
    return started("dask", "worker", scheduler, *words, **env)


def passed(work):
    try:
        trials = list(Store(work / "results.sqlite").trials(1))
        return Counter((trial.program, trial.number) for trial in trials if trial.verdict == "pass")
    except StoreError:
        return Counter()


def test_a_worker_that_is_killed_loses_nothing(started, scheduler, tmp_path):
    work, scratch = tmp_path / "work", [tmp_path / name for name in ("w1", "w2")]
    workers = [worker(started, scheduler, folder) for folder in scratch]
    words = ["run", *SELECTION, "--variant", "pristine", "--trials", "5", "--scheduler", scheduler, "--work", str(work)]
    run = started("harness", *words)
    until(lambda: sum(passed(work).values()) >= 4)
    guests = list(scratch[0].glob("*/*/harness/guests/[!.]*"))
    kill(workers[0])
    out, _ = run.communicate(timeout=600)
    assert run.returncode == 0, out
    assert passed(work) == {(program, number): 1 for program in SELECTION for number in range(1, 6)}
    store = Store(work / "results.sqlite")
    assert store.run(1).finished and not store.events(1)
    matrix = load_matrix(store, store.run(1))
    assert [(cell.passed, cell.trials, cell.errors) for cell in matrix.cells] == [(5, 5, 0)] * 3
    assert guests
    until(lambda: not any(guest.exists() for guest in guests))  # its guest went with it


def test_a_cluster_of_this_machine_and_a_ctrl_c(started, tmp_path):
    words = ["run", SELECTION[0], "--variant", "pristine", "--trials", "6", "--jobs", "1", "--work", str(tmp_path)]
    run = started("harness", *words, "--scheduler")
    until(lambda: passed(tmp_path))
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does: to the workers' processes too
    out, _ = run.communicate(timeout=600)
    assert run.returncode == 130 and "`harness run --resume 1 --work " in out
    assert 0 < len(passed(tmp_path)) < 6
    run = started("harness", "run", "--resume", "--work", str(tmp_path))  # and it goes on without a cluster
    out, _ = run.communicate(timeout=600)
    assert run.returncode == 0 and "6/6" in out
    assert passed(tmp_path) == {(SELECTION[0], number): 1 for number in range(1, 7)}


def fetched(name, path):
    """Runs on the worker."""
    here = cluster.runner_of(get_worker(), name)._here(path)
    return str(here), here.read_bytes()


def test_a_worker_fetches_what_it_lacks_by_its_hash(started, scheduler, tmp_path):
    agent, lib = tmp_path / "agent", tmp_path / "pristine" / "lib" / "libgo.so.9"
    lib.parent.mkdir(parents=True)
    lib.write_bytes(os.urandom(9 << 20))
    with agent.open("wb") as file:  # with a hole in it, and one at its end
        file.write(b"begins")
        file.seek(30 << 20)
        file.write(b"ends")
        file.truncate(40 << 20)
    artifacts = Artifacts(agent, {"pristine": Libgo("key", lib.parent.parent)}, {}, {}, lambda *any: agent)
    setup = GuestSetup("linux-i386", conf.load().guest("linux-i386"), "i686-linux-gnu", {}, artifacts)
    context = RunContext({"linux-i386": setup}, {}, {}, tmp_path, Cache(tmp_path), "on-trouble")
    worker(started, scheduler, tmp_path / "w", XDG_CACHE_HOME=str(tmp_path / "cache"))
    executor = cluster.Cluster(context, Reporter(lambda line: None), scheduler, 1)
    try:
        for hash_, path in list(executor.goods.items()):  # this machine is to be another one than the worker's
            executor.goods[hash_] = path.rename(tmp_path / f"moved-{path.name}")
        for path in (agent, lib):
            where, data = executor.client.submit(fetched, executor.name, path, pure=False).result(60)
            assert data == (tmp_path / f"moved-{path.name}").read_bytes() and Path(where).is_relative_to(
                tmp_path / "cache"
            )
        assert Path(where).parent.name == "lib"
        (hash_,) = (digest for digest, path in executor.goods.items() if path.name == "moved-agent")
        where, _ = executor.client.submit(fetched, executor.name, agent, pure=False).result(60)
        shutil.rmtree(Path(where).parent)
        executor.goods[hash_] = tmp_path / f"moved-{lib.name}"  # as if it were damaged on its way
        with pytest.raises(StoreError, match="the file received has another SHA-256"):
            executor.client.submit(fetched, executor.name, agent, pure=False).result(60)
    finally:
        executor.stop()


def without_qemu(write):
    """The words of a run whose guest no worker can have."""
    mine = write("mine.yaml", "guests:\n  linux-i386: {qemu: qemu-system-none}\n")
    return ["run", "threads/lock-ring", "--variant", "pristine", "--conf", str(mine), "--scheduler"]


def test_workers_that_cannot_have_guests_are_told_of_before_anything_is_built(started, scheduler, tmp_path, write):
    worker(started, scheduler, tmp_path / "w")
    with Client(scheduler, set_as_default=False) as client:
        client.wait_for_workers(1)
    words = [*without_qemu(write), scheduler, "--work", str(tmp_path / "work")]
    run = started("harness", *words, XDG_CACHE_HOME=str(tmp_path / "cache"))
    out, _ = run.communicate(timeout=600)
    assert run.returncode == 2, out
    assert "no worker can start the guests; tcp://127.0.0.1:" in out and "no qemu-system-none on this machine" in out
    assert not (tmp_path / "cache" / "harness" / "images").exists() and not (tmp_path / "work").exists()


def test_a_worker_that_cannot_have_guests_leaves(started, scheduler, tmp_path, write):
    run = started("harness", *without_qemu(write), scheduler, "--work", str(tmp_path / "work"))
    for line in run.stdout:  # it has passed all that is looked at before
        if "waiting for workers" in line:
            break
    worker(started, scheduler, tmp_path / "w")
    out, _ = run.communicate(timeout=600)
    assert run.returncode == 3 and "no worker is left" in out and "no qemu-system-none on this machine" in out


def test_where_no_scheduler_is(monkeypatch, tmp_path):
    monkeypatch.setattr(cluster, "ANSWER", 0.5)
    words = ["run", "threads/lock-ring", "--scheduler", "tcp://127.0.0.1:9", "--work", str(tmp_path)]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2 and "no scheduler answers at tcp://127.0.0.1:9" in result.output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("nonsense", "missing port number in address 'nonsense'"),
        ("host:x", "invalid literal for int() with base 10: 'x'"),
        ("smoke://host:1", "unknown address scheme 'smoke'"),
    ],
)
def test_a_scheduler_s_address_is_read_before_it_is_called(monkeypatch, address, why):
    monkeypatch.setattr(cluster, "Client", None)
    with pytest.raises(ConfigError, match=f"^no scheduler answers at {address}: {re.escape(why)}"):
        cluster.check(address, conf.load(), [])


def test_what_a_cluster_cannot_do(tmp_path):
    result = CliRunner().invoke(main, ["run", "threads/lock-ring", "--cores", "--scheduler", "--work", str(tmp_path)])
    assert result.exit_code == 2 and "--cores and --scheduler do not go together" in result.output
    prints = Program("s/p", tmp_path / "p.go", build=BuildSpec(output_flags=("-O2",)))
    request = Request((), (), (), 1, None, (), tmp_path)
    with pytest.raises(ConfigError, match="s/p prints a program"):
        check_for_cluster(ResolvedRequest(request, conf.load(), {}, {}, {}, [prints]), cluster.LOCAL)
