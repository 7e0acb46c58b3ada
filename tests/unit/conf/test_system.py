"""Operating systems' ways: recorded and real process listings, and what they say of a crash."""

import os
import signal
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import paths
from harness.conf.system import HURD, LINUX, POSIX, SYSTEMS, Process, family, read_ps, read_stat

RECORDED = (paths.DATA / "tests" / "data" / "ps-crash-suspended.txt").read_text()


def test_the_recorded_listing_of_a_hurd():
    rows = {process.pid: process for process in read_ps(RECORDED)}
    assert len(rows) == len(RECORDED.splitlines()) - 1
    assert rows[28] == Process(28, 27, None, "THuo", 2, "./segv")
    assert rows[19].state == "So", "a row without a user id counts too"
    assert (rows[5].threads, rows[9].command) == (29, "/hurd/term /dev/console device console")


@pytest.mark.parametrize(("pid", "state"), [(28, "THuo"), (27, "THuo"), (1, "THuo"), (29, ""), (18, ""), (999, "")])
def test_a_crash_that_a_hurd_suspended(pid, state):
    """Process 27 is the shell that waits for 28, and 21 the SSH server that started 27."""
    assert HURD.suspended(RECORDED, pid) == state


def test_the_same_state_on_linux_is_a_stop_and_no_crash():
    assert LINUX.suspended("28 (segv) T 27 28 21 0 -1 0 0 0 0 0 0 0 0 0 20 0 2 0 \n", 28) == ""
    assert POSIX.suspended(RECORDED, 28) == ""


def test_a_real_listing_of_linux(tmp_path):
    odd = tmp_path / "a) R 1\n(b"
    odd.symlink_to("/bin/sleep")
    with (
        subprocess.Popen(["sh", "-c", "sleep 60 & echo; wait"], stdout=-1, start_new_session=True) as shell,
        subprocess.Popen([odd, "60"]) as other,
    ):
        shell.stdout.readline()  # its child is there
        text = subprocess.run(["sh", "-c", LINUX.listing], capture_output=True, text=True, check=False).stdout
        other.kill()
        os.killpg(shell.pid, signal.SIGKILL)
    rows = {process.pid: process for process in read_stat(text)}
    assert (rows[other.pid].command, rows[other.pid].ppid) == (odd.name, os.getpid())
    first, child = family(rows.values(), shell.pid)
    assert (first.pid, child.ppid, child.group) == (shell.pid, shell.pid, shell.pid)


@given(st.text(max_size=40), st.integers(1, 99999), st.integers(0, 99999), st.sampled_from("RSDTZtXI"))
def test_any_command_of_linux(command, pid, ppid, state):
    numbers = " ".join(map(str, range(14)))
    rows = read_stat(f"{pid} ({command}) {state} {ppid} {pid} {numbers} 7 0 \n1 (init) S 0 1 {numbers} 1 0 \n")
    assert (rows[0].pid, rows[0].ppid, rows[0].state, rows[0].threads) == (pid, ppid, state, 7)
    assert rows[-1].command == "init"


@given(st.text())
def test_what_is_no_listing_says_nothing(text):
    for system in SYSTEMS.values():
        assert system.suspended(text, 1) == ""


@pytest.mark.parametrize(
    ("own", "cores", "server"),
    [
        ({}, False, "/servers/crash-kill"),
        ({}, True, "/servers/crash-dump-core"),
        ({"CRASHSERVER": "/servers/crash-suspend"}, False, "/servers/crash-suspend"),
        ({"CRASHSERVER": "/servers/crash-kill"}, True, "/servers/crash-dump-core"),
    ],
)
def test_what_becomes_of_a_crash(own, cores, server):
    assert HURD.environment({"N": "1", **own}, cores) == {"N": "1", "CRASHSERVER": server}
    assert LINUX.environment(own, cores) == own


def test_signal_numbers():
    assert (LINUX.signals[7], LINUX.signals[10], LINUX.signals[31]) == ("BUS", "USR1", "SYS")
    names = {7: "EMT", 10: "BUS", 12: "SYS", 16: "URG", 17: "STOP", 18: "TSTP", 19: "CONT", 20: "CHLD", 27: "PROF"}
    names |= {30: "USR1", 31: "USR2", 32: "LOST"}
    assert names.items() <= HURD.signals.items()
