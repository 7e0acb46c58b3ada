"""The agent, compiled and run for real, behind a pipe instead of SSH (which the guest test crosses)."""

import contextlib
import os
import random
import re
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
from harness.conf.stillness import Look, Stillness
from harness.conf.system import LINUX
from harness.errors import GuestError
from harness.guest import agent as agent_module
from harness.guest.agent import Agent
from harness.guest.line import Line
from harness.trial import stillness
from harness.trial.observe import observe
from harness.trial.stillness import HangDetector
from tests.faults import until


class Files(Line):
    """A line over two files: a process's pipes, or a terminal that plays the serial port.

    Attributes:
        cut: whether it is as a network that has died: what is sent arrives nowhere, and nothing comes.
        garble: what is done to what comes.
    """

    def __init__(self, to, come, packets=False):
        self.to, self.come, self.packets, self.cut, self.garble = to, come, packets, False, lambda data: data
        self.sent = 0

    def send(self, data, timeout):
        if self.cut:
            return len(data)
        if not select.select([], [self.to], [], timeout)[1]:
            raise TimeoutError
        self.sent += 1
        return os.write(self.to, data[: select.PIPE_BUF])

    def receive(self, timeout):
        if self.cut or not select.select([self.come], [], [], timeout)[0]:
            time.sleep(timeout if self.cut else 0)
            raise TimeoutError
        return self.garble(os.read(self.come, 65536))

    def taken(self):
        return 0

    def close(self):
        pass


@pytest.fixture
def agent(agent_program):
    def as_a_server_in_the_background():
        for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))

    process = subprocess.Popen(
        [agent_program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=as_a_server_in_the_background
    )
    line = Files(process.stdin.fileno(), process.stdout.fileno())
    line.process = process
    yield Agent(line)
    process.stdin.close()
    process.wait(timeout=600)  # it leaves when its input ends


def sh(agent, script, limit=20.0, at_limit=lambda pid: "", **env):
    return observe(agent, ["/bin/sh", "-c", script], env, "/", limit, at_limit)


def test_checksums_are_those_of_zlib(agent_program, tmp_path):
    files = {tmp_path / name: data for name, data in (("empty", b""), ("large", os.urandom((3 << 20) + 5)))}
    for file, data in files.items():
        file.write_bytes(data)
    process = subprocess.run([agent_program, "sum", *files], capture_output=True, text=True, check=True)
    assert process.stdout.splitlines() == [f"{zlib.crc32(data):08x} {len(data)}" for data in files.values()]
    assert process.stderr == "...", "so that one sees it go on"
    gone = subprocess.run(
        [agent_program, "sum", *files, tmp_path / "gone"], capture_output=True, text=True, check=False
    )
    assert gone.returncode == 1 and f"{tmp_path}/gone: No such file or directory" in gone.stderr
    folder = subprocess.run([agent_program, "sum", tmp_path], capture_output=True, text=True, check=False)
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


def read(agent, *paths):
    """What the agent tells of files, while a command runs: the last piece of each by its mark, and its last word."""
    agent.send("R", b"/\0000\0sleep\x001000\0")
    agent.send("G", b"".join(str(path).encode() + b"\0" for path in paths))
    files, parts = [], {}
    while (message := agent.receive(time.monotonic() + 60)) and len(message.data) > 1:
        assert message.type == "G"
        name, _, piece = message.data[1:].partition(b"\0")
        parts[name] = parts.get(name, b"") + piece
        if message.data[:1] == b".":
            files.append((name.decode(), parts.pop(name)))
    agent.send("K")
    assert agent.receive(time.monotonic() + 60).type == "X"
    return files, parts, message.data


def test_files_are_read_by_their_paths(agent, tmp_path):
    contents = {"a/one": b"1", "a/two": b"", "b/one": os.urandom(50_000), "b/.hidden": b"h", "a*/one": b"star"}
    for name, data in contents.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    (tmp_path / "b" / "link").symlink_to("nowhere")
    os.mkfifo(tmp_path / "b" / "pipe")
    files, parts, end = read(agent, tmp_path / "b/one", tmp_path / "*/one", tmp_path / "a*/one", tmp_path / "b/*")
    names = [Path(name).relative_to(tmp_path).as_posix() for name, _ in files]
    assert names[0] == "b/one" and sorted(names[1:4]) == ["a*/one", "a/one", "b/one"] and names[4] == "a*/one"
    assert sorted(names[5:]) == ["b/link", "b/one", "b/pipe"]
    links = {str(tmp_path / "b/link"): b"nowhere", str(tmp_path / "b/pipe"): b""}
    assert all(data == (links[name] if name in links else Path(name).read_bytes()) for name, data in files)
    assert (parts, end) == ({}, b"")
    assert read(agent, tmp_path / "gone", tmp_path / "gone/*", tmp_path / "a/one/*") == ([], {}, b"")
    stat = read(agent, "/proc/self/*/nothing", "/proc/self/stat")[0][0][1]
    assert stat.startswith(b"%d (agent) R" % agent.line.process.pid)


def test_what_cannot_be_read_to_its_end_has_no_end(agent, tmp_path):
    (tmp_path / "folder").mkdir()
    assert read(agent, tmp_path / "folder", "/proc/self/mem") == ([], {}, b"")
    assert read(agent, f"/{'x' * 600}/*")[2] == b"!"


def test_a_command_that_has_ended_is_not_looked_at(agent):
    assert sh(agent, "exit 0").exit_status == 0
    agent.send("G", b"/proc/self/stat\0")
    assert sh(agent, "exit 3").exit_status == 3


def test_a_program_that_cannot_run_any_more_is_stopped_as_at_its_limit(agent, monkeypatch):
    monkeypatch.setattr(stillness, "SILENCE", 0.1)
    monkeypatch.setattr(stillness, "PULSE", 0.1)
    files_read = []

    def looks():
        reading = yield Look(("/proc/self/stat",))
        files_read.extend(reading.files)
        return Stillness("it sleeps", "evidence")

    detector = HangDetector(looks, lambda: 0.0)
    diagnosed = []
    script = "trap 'echo asked; exit 5' QUIT; echo begun; while :; do sleep 0.1; done"
    result = observe(
        agent, ["/bin/sh", "-c", script], {}, "/", 600.0, lambda pid: diagnosed.append(pid) or "", detector=detector
    )
    assert (result.timed_out, result.exit_status, result.stdout) == (True, 5, b"begun\nasked\n")
    assert re.fullmatch(r"seen after \d+\.\d s \(limit 600 s\): it sleeps", result.still)
    assert len(diagnosed) == 1 and files_read[0][0] == "/proc/self/stat"


def test_a_doubt_leaves_a_program_its_time(agent, monkeypatch):
    monkeypatch.setattr(stillness, "SILENCE", 0.1)
    monkeypatch.setattr(stillness, "PULSE", 0.1)
    monkeypatch.setattr(stillness, "AGAIN", 0.0)
    readings = []

    def looks():
        readings.append((yield Look(("/proc/self/stat", "/proc/self/maps"))))
        return "in doubt"

    result = observe(
        agent, ["/bin/sh", "-c", "sleep 2; exit 3"], {}, "/", 60, detector=HangDetector(looks, lambda: 0.0)
    )
    assert (result.exit_status, result.still, result.timed_out) == (3, "", False)
    assert len(readings) > 1 and all(len(reading.files) == 2 for reading in readings)
    assert sh(agent, "exit 4").exit_status == 4


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


@pytest.fixture
def served(agent_program, tmp_path):
    """An agent that serves: the line that its channel is, and a way to get a connection to it."""
    ours, theirs = os.openpty()
    process = subprocess.run(
        [agent_program, "serve", os.ttyname(theirs), tmp_path / "socket"], stdout=subprocess.PIPE, text=True, check=True
    )
    relays = []

    def connect():
        relays.append(
            subprocess.Popen(
                [agent_program, "relay", tmp_path / "socket"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        )
        line = Files(relays[-1].stdin.fileno(), relays[-1].stdout.fileno())
        line.relay = relays[-1].pid
        return line

    yield Files(ours, ours, packets=True), connect
    with contextlib.suppress(ProcessLookupError):
        os.killpg(int(process.stdout), signal.SIGKILL)  # a session of its own
    for relay in relays:
        relay.kill()
        relay.communicate()
    os.close(ours)
    os.close(theirs)


def test_an_agent_serves_by_a_serial_port(served, tmp_path):
    channel, _ = served
    agent = Agent(channel)
    result = sh(agent, "head -c 300000 /dev/zero; echo err >&2; exit 3")
    assert (result.exit_status, result.stdout, result.stderr) == (3, bytes(300000), b"err\n")
    agent.put(b"#!/bin/sh\nexit 7\n" + b"#" * 5000, str(tmp_path / "program"))
    assert observe(agent, [str(tmp_path / "program")], {}, "/", 20.0).exit_status == 7


def test_where_nothing_is_lost_nothing_is_asked_for_again(served, monkeypatch):
    channel, _ = served
    agent = Agent(channel)
    attach, attached = Agent._attach, []
    monkeypatch.setattr(Agent, "_attach", lambda self, quiet=None: attached.append(attach(self, quiet)))
    for number in range(20):
        assert sh(agent, f"head -c {number * 50_000} /dev/zero").stdout_total == number * 50_000
    assert not attached


def test_who_comes_later_goes_on_with_the_same_agent(served):
    """As after a restore: another harness, another conversation, the same memory."""
    channel, _ = served
    Agent(channel).remember("a word")
    sh(Agent(channel), "echo earlier")
    os.write(channel.to, b"\xa5D\x07\xc0half a packet")
    assert Agent(channel).recall() == "a word"
    assert sh(Agent(channel), "echo later").stdout == b"later\n"


def test_a_shell_command_runs_beside_the_program(served):
    channel, connect = served
    agent = Agent(channel, connect=connect)

    def at_limit(pid):
        status, out, err = agent.run(f"cat /proc/{pid}/cmdline; echo beside >&2; exit 5")
        assert (status, out[:8], err) == (5, b"/bin/sh\0", b"beside\n")
        assert agent.run("kill -9 $$")[0] == 128 + 9
        with pytest.raises(GuestError, match="no progress for 0 s"):
            agent.run("sleep 1000", quiet=0.3)
        return "T"  # to be killed at once

    result = sh(agent, "echo before; sleep 1000", 0.5, at_limit)
    assert (result.stdout, result.signal, result.timed_out) == (b"before\n", 9, True)
    assert agent.run("exit 4")[0] == 4


def test_output_of_a_shell_command_that_is_not_kept_is_logged(served, caplog):
    channel, connect = served
    _, out, _ = Agent(channel, connect=connect).run("head -c 5000000 /dev/zero", what="much")
    assert len(out) == 4 << 20 and f"much: {5_000_000 - len(out)} bytes of its output were not kept" in caplog.text


def test_much_output_comes_by_a_connection(served):
    channel, connect = served
    agent = Agent(channel, connect=connect)
    assert sh(agent, "echo little").stdout == b"little\n" and agent.by_channel
    result = sh(agent, "i=0; while [ $i -lt 40000 ]; do echo $i; i=$((i + 1)); done")
    assert result.stdout == b"".join(b"%d\n" % number for number in range(40000)), "whole, and in its order"
    assert not agent.by_channel


def test_a_network_that_dies_mid_trial_costs_nothing(served, tmp_path, monkeypatch):
    monkeypatch.setattr(agent_module, "SILENT", 1.0)
    channel, connect = served
    lines = []
    agent = Agent(channel, connect=lambda: lines.append(connect()) or lines[-1])
    agent.put(bytes(100_000), str(tmp_path / "large"))  # by a connection
    assert not agent.by_channel

    def at_limit(pid):
        assert agent.run("echo diagnostics")[1] == b"diagnostics\n"
        return "T"

    lines[0].cut = True
    result = sh(agent, "echo seen; exec sleep 1000", 1.0, at_limit)
    assert (result.stdout, result.signal, agent.by_channel) == (b"seen\n", 9, True)
    assert sh(agent, "exit 3").exit_status == 3


def test_a_program_that_ends_when_the_network_has_died_is_not_taken_for_one_that_hangs(served, tmp_path, monkeypatch):
    monkeypatch.setattr(agent_module, "SILENT", 1.0)
    channel, connect = served
    lines = []
    agent = Agent(channel, connect=lambda: lines.append(connect()) or lines[-1])
    agent.put(bytes(100_000), str(tmp_path / "large"))
    result = sh(agent, f"kill -STOP {lines[0].relay}; echo done", 0.5)
    assert (result.stdout, result.exit_status, result.timed_out) == (b"done\n", 0, False)


def test_a_program_that_a_dead_network_did_not_bring_is_run_all_the_same(served, tmp_path, monkeypatch):
    monkeypatch.setattr(agent_module, "SILENT", 1.0)
    channel, connect = served
    lines = []
    agent = Agent(channel, connect=lambda: lines.append(connect()) or lines[-1])
    agent.put(bytes(100_000), str(tmp_path / "large"))
    os.kill(lines[0].relay, signal.SIGSTOP)
    result = sh(agent, "sleep 0.3; echo done", 0.8)
    assert (result.stdout, result.exit_status, result.timed_out) == (b"done\n", 0, False)
    assert result.seconds < 0.8


def test_a_connection_that_ends_mid_trial_costs_nothing(served, tmp_path):
    channel, connect = served
    lines = []
    agent = Agent(channel, connect=lambda: lines.append(connect()) or lines[-1])
    agent.put(bytes(100_000), str(tmp_path / "large"))
    result = sh(agent, f"echo one; sleep 0.3; kill -9 {lines[0].relay}; echo two; exit 5")
    assert (result.stdout, result.exit_status, agent.by_channel) == (b"one\ntwo\n", 5, True)


@pytest.mark.parametrize("lose", [0.02, 0.3])
def test_what_a_serial_port_loses_is_sent_again(served, monkeypatch, lose):
    monkeypatch.setattr(agent_module, "_AGAIN", 0.2)
    channel, _ = served
    agent = Agent(channel)
    chance = random.Random(lose)

    def garble(data):
        return bytes(byte for byte in data if chance.random() > lose / 5000)

    channel.garble = garble
    sent = channel.send

    def send(data, timeout):
        return sent(data, timeout) if chance.random() > lose else len(data)

    monkeypatch.setattr(channel, "send", send)
    result = sh(agent, "i=0; while [ $i -lt 1000 ]; do echo $i; i=$((i + 1)); done; exit 9")
    assert (result.stdout, result.exit_status) == (b"".join(b"%d\n" % number for number in range(1000)), 9)


def test_an_agent_that_is_killed_is_told_of(served):
    channel, _ = served
    agent = Agent(channel)
    with pytest.raises(GuestError, match="has ended: signal 9"):
        sh(agent, "kill -9 $PPID; exec sleep 1000")


def test_where_there_is_no_such_device_nobody_serves(agent_program, tmp_path):
    process = subprocess.run(
        [agent_program, "serve", tmp_path / "none", tmp_path / "socket"], capture_output=True, text=True, check=False
    )
    assert (process.returncode, process.stderr) == (1, f"{tmp_path}/none: No such file or directory\n")
