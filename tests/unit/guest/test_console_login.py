"""A login on a serial console: a real terminal with a real shell behind a small stand-in for getty and login."""

from __future__ import annotations

import os
import pty
import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.clock import Deadline
from harness.errors import GuestError
from harness.guest import terminal
from harness.guest.console import Console
from harness.guest.terminal import Terminal

#: Asks as login(1) does; $ask is whether for a password, $want the right one.
GETTY = r"""
echo 'Debian GNU/Hurd'
while :; do
    printf '\ndebian login: '
    read -r user
    [ "$user" ] || continue
    password=
    if [ "$ask" ]; then
        stty -echo; printf 'Password: '; read -r password; stty echo; echo
    fi
    [ "$user" = root ] && [ "$password" = "$want" ] && break
    echo 'Login incorrect'
done
echo 'Last login: Fri Nov 27 on console'
exec sh -i
"""

#: A console of a guest, and how to log in to it with a given getty.
Connect = Callable[..., Terminal]


@pytest.fixture
def connect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connect]:
    """Start a getty, and give a terminal that is connected to it."""
    monkeypatch.setattr(terminal, "_SETTLED", 0.5)
    children: list[int] = []

    def start(
        script: str = GETTY,
        silence: float = 30.0,
        through: Callable[[bytes], bytes] = lambda data: data,
        check: Callable[[], None] = lambda: None,
        say: Callable[[str], None] = lambda line: None,
        **variables: str,
    ) -> Terminal:
        log = tmp_path / f"console-{len(children)}.log"
        console = Console(log)
        console.restart()
        child, line = pty.fork()
        if child == 0:
            os.execve(
                "/bin/sh", ["sh", "-c", script], {"PATH": os.environ["PATH"], "PS1": "root@debian:~# ", **variables}
            )
        children.append(child)

        def pump() -> None:
            with log.open("ab", buffering=0) as file:
                while data := _read(line):
                    file.write(through(data))

        threading.Thread(target=pump, daemon=True).start()
        return Terminal(console, lambda data: _write(line, data), check, silence, say)

    yield start
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _read(line: int) -> bytes:
    try:
        return os.read(line, 4096)
    except OSError:  # the other end is closed
        return b""


def _write(line: int, data: bytes) -> None:
    os.write(line, data)


def log_in(line: Terminal) -> Terminal:
    line.log_in(r"^[\w.-]+ login:", "root")
    return line


@pytest.mark.parametrize("variables", [{}, {"ask": "yes"}])
def test_a_command_and_its_end(connect: Connect, variables: dict[str, str]) -> None:
    line = log_in(connect(**variables))
    assert line.run("echo some; echo thing >&2") == (0, "some\nthing")
    assert line.run("exit 7 | false") == (1, "")
    assert line.run("cat; echo read nothing") == (0, "read nothing")
    assert line.run("(exit 3)")[0] == 3
    assert line.run("echo $TERM $LC_ALL $DEBIAN_FRONTEND") == (0, "dumb C noninteractive")


def test_who_may_not_log_in_is_said(connect: Connect) -> None:
    with pytest.raises(GuestError, match="root may not log in on its console without a password"):
        log_in(connect(ask="yes", want="secret"))


def test_what_never_comes_is_said(connect: Connect) -> None:
    with pytest.raises(GuestError, match="no login prompt, and nothing new on its console for 1 s"):
        log_in(connect("echo booting; sleep 100", silence=1))
    with pytest.raises(GuestError, match="no shell answers on its console"):
        log_in(connect("printf 'x login: '; stty -echo; sleep 100", silence=3))


def test_a_command_that_hangs_is_said(connect: Connect) -> None:
    line = log_in(connect())
    line.silence = 1.0
    with pytest.raises(GuestError, match="`sleep 100` has not ended, and nothing new on its console for 1 s"):
        line.run("sleep 100")


def test_who_waits_is_told_at_once_of_a_panic(connect: Connect) -> None:
    trouble: list[str] = []

    def check() -> None:
        if trouble:
            raise GuestError(trouble[0])

    line = log_in(connect(check=check))
    threading.Timer(0.5, trouble.append, ["panic"]).start()
    with pytest.raises(GuestError, match=r"^panic$"):
        line.run("sleep 100")


def test_a_kernel_that_speaks_into_the_end_of_a_command(connect: Connect) -> None:
    """The word that tells of the end is torn: it is asked for once more."""
    torn: list[int] = []

    def tear(data: bytes) -> bytes:
        if b"harness-" in data and log and not torn:
            torn.append(1)
            return data.replace(b"harness-", b"harn[ 12.3] e1000: link up\r\ness-")
        return data

    log: list[int] = []
    line = log_in(connect(through=tear))
    log.append(1)
    line.silence = 4.0
    assert line.run("(exit 5)")[0] == 5
    assert torn
    assert line.run("echo next") == (0, "next"), "the answer that came late is not taken for another's"


def test_a_line_that_is_too_long_is_no_line(connect: Connect) -> None:
    with pytest.raises(ValueError, match="too many for one line"):
        connect().run("x" * 250)


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(
    ("talk", "ends"),
    [
        (lambda second: f"Get:{second} package\n", 1000),
        (lambda second: "INIT: respawning too fast\n", 10),
        (lambda second: ".", 1000),
        (lambda second: "", 10),
    ],
)
def test_progress_is_what_was_not_said_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, talk: Callable[[int], str], ends: int
) -> None:
    """The clock and the console's talk are stand-ins: a real one would take hours."""
    clock = Clock()
    deadline = partial(Deadline, clock=clock.time)
    monkeypatch.setattr(terminal, "clock", SimpleNamespace(time=clock.time, Deadline=deadline))
    monkeypatch.setattr(terminal, "time", SimpleNamespace(sleep=clock.sleep))
    monkeypatch.setattr("harness.guest.console.clock", SimpleNamespace(time=clock.time))
    console = Console(tmp_path / "log")
    console.restart()
    spoken: list[int] = []

    def check() -> None:
        if clock.now >= len(spoken):
            spoken.append(1)
            with console.file.open("a") as file:
                file.write(talk(len(spoken)) if len(spoken) < 990 else "")

    line = Terminal(console, lambda data: None, check, 9.0, lambda text: None)
    with pytest.raises(GuestError, match="has not ended, and nothing new"):
        line.run("apt-get update")
    assert clock.now == pytest.approx(ends, abs=3)
