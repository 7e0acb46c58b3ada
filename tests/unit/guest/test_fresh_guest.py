"""A guest whose channel leads nowhere: the agent is this machine's, and so is the shell."""

import os
import socket
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness import conf
from harness.cache import Cache
from harness.errors import GuestError
from harness.guest import fresh
from harness.guest.bootfiles import BootFiles
from harness.guest.pool import Pool

NAME = "linux-i386"


@pytest.fixture
def guest(agent_program, tmp_path, monkeypatch):
    """A guest that has two serial ports besides the console, neither of which is the channel."""
    monkeypatch.setattr(fresh, "_FIRST_WORD", 0.5)
    ours, theirs = os.openpty()
    agent = tmp_path / "agent"
    agent.symlink_to(agent_program)
    link, far = socket.socketpair()
    description = SimpleNamespace(
        channels=("/dev/none", os.ttyname(theirs)), exchange_interface=None, folder=str(tmp_path), set_clock="date"
    )
    machine = SimpleNamespace(guest=description, name=NAME, channel=link, check=lambda: None, data=None)

    def run(command, *_, **__):
        done = subprocess.run(["sh", "-c", command], capture_output=True, check=False)
        return done.returncode, done.stdout, done.stderr

    yield fresh.Guest(machine, lambda: None, SimpleNamespace(run=run), {str(agent)}, str(agent))
    for file in (link, far):
        file.close()
    os.close(ours)
    os.close(theirs)


def serving(guest):
    """The agents that serve for a guest."""
    words = f"{guest.agent_path}\0serve\0".encode()
    files = list(Path("/proc").glob("[0-9]*/cmdline"))
    return [file for file in files if file.exists() and file.read_bytes().startswith(words)]


def test_where_no_port_is_the_channel_no_agent_is_left(guest):
    with pytest.raises(GuestError) as failure:
        guest.serve()
    first, second = str(failure.value).split("; ")
    assert first == f"guest {NAME}: no channel by /dev/none: /dev/none: No such file or directory"
    assert second.startswith("no channel by /dev/pts/") and second.endswith(
        "the agent does not answer: nothing came for 0 s"
    )
    assert not guest.serves and guest.agent is None and not serving(guest)


def test_that_a_guest_has_no_channel_is_told_once_and_costs_no_second_wait(guest, tmp_path):
    told = []
    configuration = conf.load().guest(NAME)
    pool = Pool(
        NAME,
        configuration,
        BootFiles(None, None, "", None, (), tmp_path, None),
        {},
        Cache(tmp_path),
        told.append,
        agent=guest.agent_path,
    )
    pool._fill(guest, {}, print)
    assert len(told) == 1 and told[0].endswith("guests are reached through SSH from now on, which takes longer")
    guest.machine.channel = None  # a second conversation would need it
    pool._fill(guest, {}, print)
    assert len(told) == 1
