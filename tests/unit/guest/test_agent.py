"""The agent, compiled and run for real, behind a pipe instead of SSH (which the guest test crosses)."""

import os
import select
import signal
import stat
import subprocess
import time
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

import harness.trial.observe
from harness.conf.system import LINUX
from harness.errors import GuestError
from harness.guest.shell import Agent
from harness.trial.observe import observe
from tests.faults import until


class Pipe:
    """What Agent needs of a channel, over a process's pipes."""

    def __init__(self, process):
        self.process, self.timeout, self.out_window_size = process, None, 0

    def settimeout(self, seconds):
        self.timeout = seconds

    def send(self, data):
        if not select.select([], [self.process.stdin], [], self.timeout)[1]:
            raise TimeoutError
        return os.write(self.process.stdin.fileno(), data[: select.PIPE_BUF])

    def recv(self, size):
        if not select.select([self.process.stdout], [], [], self.timeout)[0]:
            raise TimeoutError
        return os.read(self.process.stdout.fileno(), size)


@pytest.fixture(scope="module")
def program(tmp_path_factory, tools):
    out = tmp_path_factory.mktemp("agent") / "agent"
    source = Path(harness.__file__).parent / "guest" / "agent.c"
    subprocess.run([tools.gcc, "-O2", "-Wall", "-Wextra", "-Werror", "-static", "-o", out, source], check=True)
    return out


@pytest.fixture
def agent(program):
    def as_a_server_in_the_background():
        for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))

    process = subprocess.Popen(
        [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=as_a_server_in_the_background
    )
    yield Agent(Pipe(process))
    process.stdin.close()
    process.wait(timeout=60)  # it leaves when its input ends


def sh(agent, script, limit=20.0, at_limit=lambda pid: "", **env):
    return observe(agent, ["/bin/sh", "-c", script], env, "/", limit, at_limit)


def test_checksums_are_those_of_zlib(program, tmp_path):
    files = {tmp_path / name: data for name, data in (("empty", b""), ("large", os.urandom((3 << 20) + 5)))}
    for file, data in files.items():
        file.write_bytes(data)
    done = subprocess.run([program, *files], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{zlib.crc32(data):08x} {len(data)}" for data in files.values()]
    assert done.stderr == "...", "so that one sees it go on"
    gone = subprocess.run([program, *files, tmp_path / "gone"], capture_output=True, text=True, check=False)
    assert gone.returncode == 1 and f"{tmp_path}/gone: No such file or directory" in gone.stderr
    folder = subprocess.run([program, tmp_path], capture_output=True, text=True, check=False)
    assert folder.returncode == 1 and "Is a directory" in folder.stderr


def test_status_streams_environment_and_folder(agent):
    result = sh(agent, 'echo "$WORD $PWD"; echo err >&2; exit 3', WORD="a b")
    assert (result.exit_status, result.signal, result.stdout, result.stderr) == (3, None, b"a b /\n", b"err\n")
    assert not result.timed_out


def test_a_signal_is_not_taken_for_the_status_a_shell_makes_of_it(agent):
    assert (sh(agent, "kill -SEGV $$").signal, sh(agent, "exit 139").exit_status) == (11, 139)


def test_both_streams_at_once_are_bounded_and_counted(agent):
    result = sh(agent, "head -c 5000000 /dev/zero >&2 & head -c 6000000 /dev/zero; wait")
    assert (len(result.stdout), result.stdout_total) == (1 << 20, 6000000)
    assert (len(result.stderr), result.stderr_total) == (1 << 20, 5000000)
    more = observe(agent, ["/bin/sh", "-c", "head -c 3000000 /dev/zero"], {}, "/", 20.0, keep=2 << 20)
    assert (len(more.stdout), more.stdout_total) == (2 << 20, 3000000)
    assert len(sh(agent, "head -c 3000000 /dev/zero").stdout) == 1 << 20, "the next one is kept as ever"


def test_the_limit_brings_sigquit_then_sigkill_to_the_whole_group(agent, monkeypatch, tmp_path):
    monkeypatch.setattr(harness.trial.observe, "GRACE", 3.0)

    def when_its_trap_is_set(pid):
        until((tmp_path / "set").exists)
        return ""

    script = f"trap 'echo asked' QUIT; : >{tmp_path}/set; while :; do sleep 0.1; done"
    result = sh(agent, script, 0.2, when_its_trap_is_set)
    assert (result.stdout[:6], result.signal, result.timed_out) == (b"asked\n", 9, True)


def test_a_suspended_program_is_seen_before_it_is_killed_and_gets_no_sigquit(agent):
    ways = replace(LINUX, crashed="T")  # as if a stop were a crash, as on a system with a crash server that suspends

    def suspended(pid):
        return ways.suspended(subprocess.run(["sh", "-c", ways.listing], capture_output=True, text=True).stdout, pid)

    script = "trap 'echo asked' QUIT; kill -STOP $$; echo on"
    result = sh(agent, script, 0.2, lambda pid: until(lambda: suspended(pid)))
    assert (result.suspended, result.timed_out, result.signal, result.stdout) == ("T", True, 9, b"")
    assert sh(agent, "sleep 9", 0.2, suspended).suspended == ""


def test_what_a_program_leaves_running_is_killed(agent, tmp_path):
    sign = tmp_path / "alive"
    sh(agent, f"(sleep 1; touch {sign}) & exit 0")
    time.sleep(1.5)
    assert not sign.exists()


def test_a_daemon_that_keeps_writing_does_not_hold_the_trial_up(agent):
    began = time.monotonic()
    sh(agent, "setsid timeout 20 sh -c 'while :; do echo; sleep 0.1; done' & exit 0", limit=60)
    assert time.monotonic() - began < 15  # it would be 20: this is no measure of speed


def test_a_file_that_is_put_is_whole_and_runs(agent, tmp_path):
    script = b"#!/bin/sh\ncksum $0\nexit 7\n" + b"# \x00\xff\n" * 100_000
    for name in ("new/folder/a", "b", "new/folder/a"):
        agent.put(script, str(tmp_path / name))
        result = observe(agent, [str(tmp_path / name)], {}, "/", 20.0)
        assert (result.exit_status, (tmp_path / name).read_bytes()) == (7, script)
    agent.put(b"", str(tmp_path / "empty"))
    sh(agent, "exit 0")
    assert (tmp_path / "empty").stat().st_mode & 0o777 == 0o755
    assert not list(tmp_path.rglob("*.new"))


@pytest.mark.parametrize("size", [0, 10, 200_000])
def test_a_file_that_cannot_be_put_is_told_of_and_not_there(agent, tmp_path, size):
    (tmp_path / "file").write_text("")
    with pytest.raises(GuestError, match="file/below: Not a directory"):
        agent.put(bytes(size), str(tmp_path / "file" / "below"))
    assert sh(agent, "exit 3").exit_status == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a device")
def test_a_file_on_a_full_disk_is_not_there_in_part(agent, tmp_path):
    """A /dev/full of the test's own (mem(4), full(4)): the agent sets the rights of what it writes."""
    os.mknod(tmp_path / "full.new", stat.S_IFCHR | 0o600, os.makedev(1, 7))
    try:
        os.close(os.open(tmp_path / "full.new", os.O_WRONLY))
    except PermissionError:
        pytest.skip("no device can be opened there: it is mounted with nodev, or this is a container")
    with pytest.raises(GuestError, match="full: No space left on device"):
        agent.put(b"x" * 200_000, str(tmp_path / "full"))
    assert not (tmp_path / "full").exists()


def test_what_cannot_be_started(agent):
    with pytest.raises(GuestError, match="No such file"):
        observe(agent, ["/none"], {}, "/", 5)
    assert sh(agent, "exit 4").exit_status == 4  # and the agent is as good as before


def test_a_dead_agent_is_the_guest_s_trouble(agent):
    with pytest.raises(GuestError):
        sh(agent, "kill -9 $PPID; sleep 9")


@pytest.mark.parametrize("name", ["HUP", "INT", "TERM"])
def test_a_signal_that_ends_the_agent_ends_its_command(agent, tmp_path, name):
    with pytest.raises(GuestError, match="closed"):
        sh(agent, f"echo $$ >{tmp_path}/pid; kill -{name} $PPID; exec sleep 1000")
    process = Path("/proc") / (tmp_path / "pid").read_text().strip()

    def ended():
        try:
            return (process / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    until(ended)
