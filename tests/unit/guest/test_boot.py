"""Readiness: when probes are made, and how each ends.

The machine and the clock are stand-ins, since a real guest would take minutes; others of the tests boot real ones.
"""

import os
import shlex
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness import conf
from harness.errors import GuestError
from harness.guest import boot
from harness.guest.bootfiles import BootFiles
from harness.guest.console import Console, follow
from harness.guest.machine import Machine
from harness.guest.shell import Shell
from harness.images.image import ssh_key


class Clock:
    """Time that passes only when somebody sleeps; what is due by then happens."""

    def __init__(self):
        self.now, self.due = 0.0, []

    def time(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        while self.due and self.due[0][0] <= self.now:
            self.due.pop(0)[1]()


@pytest.fixture
def guest(tmp_path, monkeypatch):
    """A stand-in whose console says lines at given times, waited for with given readiness; the times of its probes."""
    clock = Clock()
    monkeypatch.setattr(boot, "time", clock)
    monkeypatch.setattr("harness.clock.time", clock.time)
    console = Console(tmp_path / "console.log")
    console.restart()
    probes = []

    def run(ready, lines, answers_at=1e9, read=lambda now: 0, waited=lambda now: 0.0):
        def probe(machine, limit):
            probes.append(round(clock.now, 1))
            return ("shell", "") if clock.now >= answers_at else (None, "no answer")

        def say(text):
            with console.file.open("a") as file:
                file.write(text)

        monkeypatch.setattr(boot, "_probe", probe)
        clock.due = [(at, lambda text=text: say(text)) for at, text in lines]
        machine = SimpleNamespace(
            name="g",
            guest=SimpleNamespace(ready=conf.Guest.model_validate({"toolchain": "t", "ready": ready}).ready),
            console=console,
            activity=lambda: (console.mark(), read(clock.now)),
            process=SimpleNamespace(waited=lambda: waited(clock.now)),
            check_wanted=lambda: None,
            restart_if_kvm_fails=lambda: False,
            restart_if_kvm_is_silent=lambda: False,
            trouble=lambda kinds: next((str(event) for event in console.poll() if event.kind in kinds), ""),
            failure=GuestError,
        )
        try:
            return boot.wait(machine), probes
        except GuestError as error:
            return str(error), probes

    return run


def test_the_sign_comes_before_any_probe_and_pauses_grow(guest):
    outcome, probes = guest({"console": "^ready", "timeout": "60s"}, [(1, "rea"), (7, "dy"), (9, "\n")], answers_at=20)
    assert outcome == "shell"
    assert probes == pytest.approx([7, 7.5, 8.5, 10.5, 14.5, 22.5], abs=0.5)


def test_without_a_sign_silence_comes_first(guest):
    talk = [(at, f"line {at}\n") for at in range(1, 9)]
    assert guest({"timeout": "60s"}, talk, answers_at=1) == ("shell", pytest.approx([11], abs=0.5))


def test_a_console_that_never_is_silent_is_waited_for_no_longer_than_that(guest):
    talk = [(at, f"line {at}\n") for at in range(1, 90)]
    assert guest({"timeout": "90s"}, talk, answers_at=1) == ("shell", pytest.approx([20], abs=0.5))


@pytest.mark.parametrize(
    ("ready", "line", "message"),
    [
        ({"console": "ready"}, "panic a.c:1: f: no\n", "it does not boot: panic in f (a.c:1): no"),
        ({}, "db> ", "it does not boot: kernel debugger: db>"),
        ({"console": "ready"}, "Automatic boot failed... help!\n", "it does not boot: fsck trouble"),
        ({"console": "ready", "timeout": "9s"}, "else\n", "not ready within 9 s: its console has not said `ready`"),
        ({"timeout": "9s"}, "else\n", "not ready within 9 s: no answer"),
        (
            {"console": "ready"},
            "start ext2fs:",
            "its boot has stalled at `start ext2fs:`: no progress for 60 s, and its",
        ),
        (
            {},
            "one\nstart pci-arbiter:\n",
            "its boot has stalled at `start pci-arbiter:`: no progress for 60 s, and no",
        ),
        ({"console": "ready"}, "", "its boot has stalled before its console has said a word"),
        ({"timeout": "90s"}, "", "not ready within 90 s: no answer"),
    ],
)
def test_how_a_boot_fails(guest, ready, line, message):
    assert guest(ready, [(1, line)])[0].startswith(message)


FSCK = [(1, "fsck\n"), (400, "done\n")]


def test_a_guest_that_has_to_wait_for_a_processor_does_not_stand_still(guest):
    outcome, _ = guest({"console": "done", "timeout": "61s"}, FSCK, 1, waited=lambda now: 0.9 * now)
    assert outcome == "shell"


@pytest.mark.parametrize(
    ("lines", "read", "comes_up"),
    [
        ([(at, f"line {at}\n") for at in range(50, 300, 55)] + [(310, "done\n")], lambda now: 0, True),
        (FSCK, lambda now: int(now / 50), True),
        (FSCK, lambda now: min(now, 9), False),
    ],
    ids=["lines now and then", "its disk is read", "its disk was read"],
)
def test_what_moves_now_and_then_does_not_stand_still(guest, lines, read, comes_up):
    outcome, _ = guest({"console": "done", "timeout": "10m"}, lines, 1, read)
    assert outcome == "shell" if comes_up else outcome.startswith("its boot has stalled at `fsck`")


def test_a_guest_that_kvm_does_not_bring_to_a_word_is_emulated(monkeypatch):
    """The machine is a stand-in: by KVM it says nothing, by emulation it is ready at once."""
    remembered, emulated = [], []
    monkeypatch.setattr(boot.kvm, "remember_failure", lambda: remembered.append(1))
    monkeypatch.setattr(boot, "_probe", lambda machine, limit: ("shell", ""))
    description = {"toolchain": "t", "ready": {"console": "ready", "timeout": "500ms"}}
    machine = SimpleNamespace(
        guest=conf.Guest.model_validate(description),
        console=SimpleNamespace(says=lambda pattern: bool(emulated)),
        check_wanted=lambda: None,
        trouble=lambda kinds: "",
        failure=GuestError,
        process=SimpleNamespace(waited=lambda: 0.0),
        activity=lambda: (0, 0),
        restart_if_kvm_is_silent=lambda: not emulated and (emulated.append(1) or True),
    )
    assert boot.wait(machine) == "shell" and remembered
    machine.console.says = lambda pattern: False
    remembered.clear()
    with pytest.raises(GuestError, match="not ready"):
        boot.wait(machine)
    assert not remembered, "emulation did no better"


@pytest.fixture
def silent():
    """A port that accepts and says nothing, as QEMU's does before the guest's server listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_probe_has_its_own_limit(silent):
    with pytest.raises(GuestError, match=r"^SSH: "):
        Shell.connect(silent, "root", ssh_key(), None, 0.1)


def test_a_probe_ends_with_the_guest(silent):
    def watch():
        raise GuestError("panic: no")

    with pytest.raises(GuestError, match=r"^panic: no$"):
        Shell.connect(silent, "root", ssh_key(), None, 600, watch)


def test_the_latest_screenshots_and_consoles_are_kept(tmp_path, monkeypatch):
    """The picture is a stand-in: what counts is what becomes of the files."""
    monkeypatch.setattr("harness.guest.machine._SCREENS", 3)
    monkeypatch.setattr(Machine, "screen", lambda self: b"PNG")
    files, screens = BootFiles(tmp_path / "a,b", tmp_path / "k", "", None, (), ssh_key(), None), tmp_path / "screens"
    for number in range(5):
        machine = Machine("g", conf.load().guest("linux-i386"), files, tmp_path / str(number), screens)
        machine.folder.mkdir()
        machine.console.file.write_text(f"{number}\n" * 100)
        error = machine.failure("it panicked")
        for file in screens.glob(f"*-{number}.*"):
            os.utime(file, (number, number))
    assert sorted(path.stem[-1] for path in screens.glob("*.console")) == ["2", "3", "4"]
    assert sorted(path.stem[-1] for path in screens.glob("*.png")) == ["2", "3", "4"]
    assert f"its screen: {screens}" in str(error) and "\n" not in str(error)
    console, command = error.details
    assert Path(console.removeprefix("its whole console: ")).read_text() == "4\n" * 100
    assert f"file={tmp_path / 'a,,b'},format=raw,snapshot=on,if=virtio" in shlex.split(command)
    assert error.whole().splitlines()[-2:] == [f"  {console}", f"  {command}"]


def test_a_console_is_followed_as_it_is_written(tmp_path):
    log, came = tmp_path / "console.log", []
    with follow(log, came.append):
        for piece, until in ((b"one", b"one"), (b" two", b"one two")):
            with log.open("ab") as file:
                file.write(piece)
            while b"".join(came) != until:
                pass
        log.write_bytes(b"new")  # the machine was started again
    assert b"".join(came) == b"one twonew"
