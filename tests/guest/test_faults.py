"""Faults on purpose, for real: each is injected into a run of the control guest, which must lose nothing by it."""

from __future__ import annotations

import os
import re
import signal
import socket
import sqlite3
import subprocess
import time

import pytest
from click.testing import CliRunner

import harness.guest.machine
import harness.guest.pool
import harness.run.conductor
import harness.run.workers
import harness.trial.observe
from harness.cli.app import main
from harness.images import image
from harness.results.store import Store
from tests import faults
from tests.faults import (
    HEALTHY,
    IN_GUEST,
    SLOW,
    TRAPS,
    Fault,
    counts,
    left_behind,
    start,
    stored,
    until,
    until_nothing_is_left,
)

#: For a harness in a process of its own: QEMU's monitor is not waited for as long, and a gap is sooner taken for sleep.
SHORTER = "from harness.guest import monitor; monitor.SHORT = 3.0\nfrom harness import clock; clock.GAP = 2.0"


def run(*words):
    return CliRunner().invoke(main, ["run", *map(str, words)])


@pytest.fixture(autouse=True)
def no_harness_is_left():
    """What a test that failed has started goes on no longer than the test."""
    yield
    while faults.STARTED:
        faults.STARTED.pop().kill()


@pytest.fixture(scope="module")
def harmed(tmp_path_factory):
    """A run of all that harms its guest, with a healthy program after each, and one of the traps: the end of the first,
    the trials of both, their work directory."""
    folder = tmp_path_factory.mktemp("harmed")
    suites = {"others": {}, "traps": {}}
    for index, (name, fault) in enumerate(sorted(IN_GUEST.items())):
        programs = suites["traps" if name in TRAPS else "others"]
        programs |= {f"{index:02}-{name}": fault, f"{index:02}-then": HEALTHY}
    with pytest.MonkeyPatch.context() as patch:  # what is waited for is the same, for a shorter time
        patch.setattr(harness.trial.observe, "GRACE", 1.0)
        patch.setattr(harness.trial.observe, "PATIENCE", 4.0)
        patch.setattr(harness.run.conductor, "ATTEMPTS", 2)
        words = ("--variant", "pristine", "--jobs", 2, "--work", folder / "w")
        ends = [run(faults.write(folder / place / "harm", programs), *words) for place, programs in suites.items()]
    trials = {}
    store = Store(folder / "w" / "results.sqlite")
    for trial in (*store.trials(1), *store.trials(2)):
        trials.setdefault(trial.program.removeprefix("harm/"), []).append(trial)
    return ends[0], trials, folder / "w"


@pytest.mark.parametrize("name", sorted(IN_GUEST))
def test_what_comes_of_a_program_that_harms_its_guest(harmed, name):
    _, trials, _ = harmed
    index = sorted(IN_GUEST).index(name)
    fault, own_trials = IN_GUEST[name], trials[f"{index:02}-{name}"]
    judgements = [(trial.verdict, trial.reason) for trial in own_trials]
    if fault.verdicts == ("error",):
        assert [trial.verdict for trial in own_trials] == ["error"] * 2, judgements
    else:  # a neighbour may have cost it a trial, which was made again then
        assert judgements[-1][0] in fault.verdicts, judgements
    for trial in own_trials:
        assert trial.verdict not in fault.verdicts or re.search(fault.reason, trial.reason), judgements
    assert trials[f"{index:02}-then"][-1].verdict == "pass", "its neighbour has paid for it"


def test_what_such_a_run_says_and_leaves(harmed):
    result, trials, work = harmed
    assert result.exit_code == 3, result.output
    assert not left_behind(work)
    spoilt = sum(trial.verdict == "error" for row in trials.values() for trial in row)
    store = Store(work / "results.sqlite")
    assert len(store.events(1)) + len(store.events(2)) == spoilt, "each trouble is counted"
    (large,) = [row for name, row in trials.items() if name.endswith("megabytes")]
    assert (large[-1].stdout_total, len(large[-1].stdout)) == (20 << 20, 1 << 20)
    image.verify(image.find("linux-i386"))  # the base is never written


def test_a_program_that_removes_itself_is_there_for_its_next_trial(tmp_path):
    suite = faults.write(tmp_path / "s", {"gone": IN_GUEST["removes-itself"]})
    result = run(suite, "--variant", "pristine", "--jobs", 1, "--trials", 2, "--work", tmp_path / "w")
    assert result.exit_code == 0, result.output
    (_, error, _) = Store(tmp_path / "w" / "results.sqlite").trials(1)
    assert (error.number, error.attempt, error.verdict) == (2, 1, "error")
    assert "could not be started" in error.reason and counts(tmp_path / "w") == {("s/gone", "pass"): 2}


@pytest.fixture
def slow(tmp_path):
    """A suite of two programs that take a while, a work directory, and the words to run them so often."""
    suite = faults.write(tmp_path / "slow", {"one": SLOW, "two": SLOW})
    work = tmp_path / "w"
    return work, lambda trials: ["run", suite, "--variant", "pristine", "--jobs", 2, "--trials", trials, "--work", work]


def whole(trials, *programs):
    return {(f"slow/{name}", "pass"): trials for name in programs or ("one", "two")}


def test_whatever_ends_a_harness_its_run_goes_on(slow):
    work, words = slow
    process = start(*words(24))
    ends = [(signal.SIGKILL,), (signal.SIGTERM,), (signal.SIGHUP,), (signal.SIGINT,), (signal.SIGINT, signal.SIGINT)]
    for ending in ends:
        before = stored(work)
        until(lambda: stored(work) > before + 1 or process.poll() is not None)  # noqa: B023
        assert process.poll() is None, process.communicate()[0]
        if ending == (signal.SIGTERM,):
            other = run("--resume", "--work", work)
            assert (other.exit_code, "is in use by another harness" in other.output) == (2, True), other.output
        for number in ending:  # to the whole group, as a terminal does
            os.killpg(process.pid, number)
            time.sleep(0.2)
        output, _ = process.communicate(timeout=600)
        if signal.SIGINT in ending:
            assert process.returncode == 130 and "`harness run --resume 1 --work " in output, output
        else:
            assert process.returncode == -ending[0]
        until_nothing_is_left(work)
        process = start("run", "--resume", "--work", work)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    assert counts(work, errors=True) == whole(24), "none is lost, none is made twice, and none was spoilt"
    assert "nothing to resume" in run("--resume", "--work", work).output


def test_a_second_ctrl_c_waits_for_no_trial(tmp_path):
    work = tmp_path / "w"
    suite = faults.write(tmp_path / "s", {"waits": Fault("time.Sleep(time.Hour)", (), limit=3600)})
    with (tmp_path / "log").open("w") as log:
        process = start("run", suite, "--variant", "pristine", "--verbose", "--work", work, output=log)
    until(lambda: "guest linux-i386 1: ready" in (tmp_path / "log").read_text())
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    until(lambda: "waiting for the 1 trial that runs" in (tmp_path / "log").read_text())
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert "interrupted: 0 of 1 trial of run 1 are stored" in (tmp_path / "log").read_text()
    assert not left_behind(work)


def test_what_happens_to_qemu_and_to_the_results_costs_a_trial_at_most(slow):
    work, words = slow
    process = start(*words(80), before=SHORTER)  # so many that a guest is left to work while the other is found out

    def hit(fault, troubles):
        before = stored(work)
        until(lambda: stored(work) > before + 1)  # two guests may wait for a minute each, and be restored
        fault()
        until(lambda: len(Store(work / "results.sqlite").events(1)) == troubles)

    def locked():
        database = sqlite3.connect(work / "results.sqlite", isolation_level=None)
        database.execute("BEGIN IMMEDIATE")
        time.sleep(2)
        database.execute("ROLLBACK")
        database.close()

    def asleep():
        everyone = [process.pid, *faults.qemus(work)]
        for pid in everyone:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(5)
        for pid in everyone:
            os.kill(pid, signal.SIGCONT)

    def busy(number):
        """The QEMU, or with the index 1 its shell, of a guest in which a trial is made."""
        until(lambda: len(faults.qemus(work)) == 2)
        return faults.qemus(work)[number]

    hit(locked, 0)
    hit(asleep, 0)
    hit(lambda: os.kill(busy(0), signal.SIGKILL), 1)
    hit(lambda: os.kill(busy(1), signal.SIGSTOP), 2)
    shell = next(pid for pid, words in faults.processes(work).items() if words[0] == "sh")
    hit(lambda: os.kill(shell, signal.SIGKILL), 3)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    assert counts(work) == whole(80)
    assert stored(work) <= 160 + 3, "a guest that was being restored costs none"
    assert not left_behind(work)


def test_two_runs_at_once_in_one_work_directory(slow):
    work, words = slow
    processes = [start(*words(4)), start(*words(4))]
    for process in processes:
        output, _ = process.communicate(timeout=600)
        assert process.returncode == 0, output
    assert counts(work, 1, errors=True) == counts(work, 2, errors=True) == whole(4)
    assert not left_behind(work)


def test_a_run_whose_progress_nobody_reads_goes_on(slow):
    work, words = slow
    theirs, ours = os.pipe()
    os.close(theirs)
    process = subprocess.run(
        faults.command(*words(1)), stdout=subprocess.DEVNULL, stderr=ours, check=False, timeout=600
    )
    os.close(ours)
    assert (process.returncode, counts(work)) == (0, whole(1))


def test_full_results_end_a_run_that_can_go_on(slow, monkeypatch):
    work, words = slow
    begin = Store.begin

    def small(store, plan):
        number = begin(store, plan)
        (pages,) = store.db.execute("PRAGMA page_count").fetchone()
        store.db.execute(f"PRAGMA max_page_count={pages + 1}")
        return number

    monkeypatch.setattr(Store, "begin", small)
    faults.write(work.parent / "slow", {"one": IN_GUEST["writes-20-megabytes"]})
    (work.parent / "slow" / "one.out").unlink()
    result = run(*words(2)[1:])
    assert result.exit_code == 2 and "the results cannot be written: database or disk is full" in result.output, (
        result.output
    )
    assert not left_behind(work)
    result = run("--resume", "--work", work)
    assert result.exit_code == 0, result.output
    assert counts(work, errors=True) == whole(2)


@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk can be mounted by root only")
def test_a_full_disk_of_this_machine_is_told_of_as_that(tmp_path):
    work = tmp_path / "w"
    work.mkdir()
    body = (
        "file, _ := os.Create(`/tmp/big`)\nfile.Write(make([]byte, 64<<20))\nfile.Sync()\nos.Stdout.WriteString(`well`)"
    )
    suite = faults.write(tmp_path / "slow", {"fills": Fault(body, (), output="well"), "one": HEALTHY})
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", work], check=True)
    try:
        result = run(suite, "--variant", "pristine", "--jobs", 1, "--work", work)
        assert result.exit_code == 2, result.output
        assert "overlay cannot be written, so this machine's disk is full" in result.output
        assert "the results cannot be written: database or disk is full" in result.output and not left_behind(work)
        subprocess.run(["mount", "-o", "remount,size=512m", work], check=True)
        result = run("--resume", "--work", work)
        assert result.exit_code == 0, result.output
        assert counts(work) == whole(1, "fills", "one")
    finally:
        subprocess.run(["umount", "--lazy", work], check=True)


def test_a_port_that_somebody_has_is_passed_over(slow, monkeypatch):
    work, words = slow
    free, calls = harness.guest.machine.free_port, []
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()

        def port():
            calls.append(1)
            return busy.getsockname()[1] if len(calls) < 3 else free()

        monkeypatch.setattr(harness.guest.machine, "free_port", port)
        result = run(*words(1)[1:])
    assert (result.exit_code, counts(work, errors=True)) == (0, whole(1)), result.output
    assert len(calls) > 3 and not Store(work / "results.sqlite").events(1)


def test_a_guest_that_cannot_be_had_ends_the_run_at_once(slow, write, monkeypatch):
    work, words = slow
    monkeypatch.setattr(harness.guest.pool, "RESTORES", 1)
    monkeypatch.setattr(harness.run.workers, "ATTEMPTS", 1)
    key = "host_key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA"
    mine = write("mine.yaml", f"guests:\n  linux-i386: {{channel: '', ssh: {{{key}}}}}\n")
    result = run(*words(1)[1:], "--conf", mine)
    assert result.exit_code == 3 and "SSH: the guest shows another host key" in result.output, result.output
    assert stored(work) == 0 and not left_behind(work)
