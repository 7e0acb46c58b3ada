"""Progress: few lines for a log, rows for a terminal of any width, and how long each step took."""

import io
import itertools
import os
import pty
import re
import subprocess
import sys

import pytest
from rich.console import Console

from harness import progress
from harness.progress import READY, Reporter, Took, Verbosity

LONG = "gcc-go/fixedbugs/a-very-long-name-of-a-program (no-thread-destruction)"


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    fake_clock = Clock()
    monkeypatch.setattr(progress, "time", fake_clock)
    return fake_clock


@pytest.fixture
def lines(clock):
    return []


@pytest.fixture
def report(lines):
    return Reporter(lines.append)


def test_what_goes_on_is_told_now_and_then(report, lines, clock):
    for number in range(30):
        report.step("libgo pristine", f"compiled {number} of about 203")
        clock.now += 1
    report.step("libgo pristine", READY)
    assert lines == [
        "[0:01] libgo pristine: compiled 1 of about 203",
        "[0:11] libgo pristine (0:11): compiled 11 of about 203",
        "[0:21] libgo pristine (0:21): compiled 21 of about 203",
        "[0:30] libgo pristine: ready after 0:30",
    ]


def test_what_is_over_at_once_is_not_worth_a_line(report, lines, clock):
    for step in ("image linux-i386", "libgo pristine", "patches"):
        report.step(step, "reading what was built")
        clock.now += 0.2
        report.step(step, READY)
    assert not lines


def test_all_that_goes_on_shares_a_line(report, lines, clock):
    report.step("libgo a", "configuring")
    report.step("libgo b", "configuring")
    clock.now += 2
    report.step("libgo a", "compiled 1 of about 203")
    assert lines == ["[0:02] libgo a: compiled 1 of about 203; libgo b: configuring"]


def test_a_count_tells_how_long_it_may_take_by_what_was_made_here(report, lines, clock):
    for count in range(901, 932):  # a run that goes on has 900
        report.count("trials", count, 1000, "900 pass, 1 crash")
        clock.now += 1
    report.count("trials", 1000, 1000, "all")
    assert lines[0] == "[0:01] trials: 902 of 1000 in 0:01, about 1:38 to go: 900 pass, 1 crash"
    assert lines[1] == "[0:11] trials: 912 of 1000 in 0:11, about 1:28 to go: 900 pass, 1 crash"
    assert lines[-1] == "[0:31] trials: 1000 of 1000 in 0:31: all"


def test_a_count_that_begins_takes_no_boot_for_its_pace(report, lines, clock):
    report.count("trials", 900, 1000, "900 pass", begins=True)
    clock.now += 120
    report.count("trials", 901, 1000, "901 pass")
    clock.now += 10
    report.count("trials", 902, 1000, "902 pass")
    assert lines[0] == "[2:00] trials: 901 of 1000 in 2:00: 901 pass"
    clock.now += 10
    report.count("trials", 911, 1000, "911 pass")
    assert lines[-1] == "[2:20] trials: 911 of 1000 in 2:20, about 2:58 to go: 911 pass"


def test_lines_grow_rarer_and_never_stop(report, lines, clock):
    """Thousands of restores were thousands of lines; and a CI system ends a job that is silent for ten minutes."""
    report.count("trials", 1, 100_000, "1 pass")
    for trial in range(2, 4 * 3600):
        clock.now += 1
        report.step("guest linux-i386 1", "restoring")
        report.step("guest linux-i386 1", READY)
        report.count("trials", trial, 100_000, f"{trial} pass")
    at = [seconds_of(line) for line in lines]
    assert not any("guest" in line for line in lines)
    assert all(9 <= after - before <= 61 for before, after in itertools.pairwise(at))
    assert len(lines) < 300 and at[-1] > 4 * 3600 - 120


def seconds_of(line):
    parts = line[1 : line.index("]")].split(":")
    return sum(int(part) * 60**place for place, part in enumerate(reversed(parts)))


@pytest.mark.parametrize(
    ("verbosity", "expected"),
    [
        (Verbosity.QUIET, []),
        (Verbosity.NORMAL, ["(0:30): booting", "ready after 0:31"]),
        (Verbosity.VERBOSE, ["restoring", "ready after 0:00", "booting", "(0:30): booting", "ready after 0:31"]),
    ],
)
def test_guests_are_told_of_when_they_take_long_or_it_is_wanted(lines, clock, verbosity, expected):
    report = Reporter(lines.append, verbosity)
    for text, seconds in (("restoring", 0.5), (READY, 5), ("booting", 30), ("booting", 1), (READY, 1)):
        report.step("guest hurd-i386 1", text)
        clock.now += seconds
    assert [line.partition("hurd-i386 1")[2].removeprefix(":").strip() for line in lines] == expected


def test_what_must_not_wait_is_told_at_once(report, lines, clock):
    report.count("trials", 1, 100, "1 pass")
    report.note("crash", "s/p, g, v: SIGSEGV (trial 1)")
    report.note("crash", "s/q, g, v: SIGSEGV (trial 2)")
    assert lines == ["[0:00] crash: s/p, g, v: SIGSEGV (trial 1)", "[0:00] crash: s/q, g, v: SIGSEGV (trial 2)"]


def test_quiet_tells_only_what_answers_the_user(lines, clock):
    report = Reporter(lines.append, Verbosity.QUIET)
    for count in range(1, 101):
        report.count("trials", count, 100, "")
        report.note("crash", "s/p")
        clock.now += 10
    report.step("libgo x", "configuring")
    report.note("interrupted", "waiting for the 2 trials that run", answer=True)
    assert lines == ["[16:40] interrupted: waiting for the 2 trials that run"]


def test_how_long_it_may_take_moves_while_nothing_happens(report, lines, clock):
    """It stood at 0:51 for seven minutes."""
    report.count("trials", 10, 30, "", left=51.0)
    times = []
    for _ in range(80):
        clock.now += 6
        report.step("libgo x", "compiled")
    for line in lines:
        if match := re.search(r"trials: 10 of 30 in [\d:]+, about ([\d:]+) to go", line):
            times.append(match[1])
    assert times[0] == "0:45" and len(times) > 8
    assert all(before != after for before, after in itertools.pairwise(times))
    report.expect("trials", 25, 5.0)
    clock.now += 100
    report.step("libgo x", "compiled")
    assert "trials: 10 of 25" in lines[-1]


def test_how_long_each_step_took_is_known_by_its_name(report, clock):
    for text, seconds in [
        ("configuring", 12), ("compiled 1 of about 203", 3), ("compiled 90 of about 203, about 2:10 to go", 4),
        (READY, 99), ("receiving libgo.so.21, 25.1 MB", 2), ("receiving libgo.so.22, 5.1 MB", 3), ("compiled 7", 5),
        (READY, 1),
    ]:  # fmt: skip
        report.step("libgo", text)
        report.doing("libgo", "what a guest does between its steps")
        clock.now += seconds
    for number in range(1, 5):
        report.count("programs", number, 4, "compiled x")
        clock.now += 2
    report.step("guest", "booting")  # has not ended
    assert report.took() == [
        Took("libgo", "configuring", 1, 12),
        Took("libgo", "compiled", 2, 12),
        Took("libgo", "receiving libgo.so", 1, 5),
        Took("programs", "", 3, 6),
    ]


@pytest.fixture
def live(clock, monkeypatch):
    """A reporter on a terminal that is as wide as wanted, and what it shows there."""

    def make(width, verbosity=Verbosity.NORMAL):
        stream = io.StringIO()
        stream.isatty = lambda: True
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("TERM", "xterm")
        report = Reporter(verbosity=verbosity)

        def rows():
            screen = Console(file=io.StringIO(), width=width)
            screen.print(report.live.get_renderable())
            return screen.file.getvalue().splitlines()

        return report, rows, stream

    return make


@pytest.mark.parametrize("width", [60, 80, 110, 200])
def test_counts_and_times_are_whole_at_every_width(live, clock, width):
    report, rows, _ = live(width)
    report.step("libgo pristine, no-thread-destruction, no-sysmon", "compiled 12 of about 203, about 2:10 to go")
    report.step("guest linux-i386 1", READY)
    report.doing("guest linux-i386 1", LONG)
    report.count("trials", 1, 12345, f"pass {LONG}")
    clock.now += 90
    report.count("trials", 6000, 12345, f"pass {LONG}")
    lines_shown = rows()
    assert len(lines_shown) == 3 and all(len(row) <= width - len("^C^C") for row in lines_shown)
    assert "6000/12345  1:30, 1:35 to go" in lines_shown[2] and (" pass" in lines_shown[2]) == (width >= 80)
    assert "1:30" in lines_shown[0] and "1:30" in lines_shown[1]  # what a guest is at has a time too
    assert ("━" in lines_shown[2]) == (width >= 100)


def test_what_is_ready_goes_and_leaves_a_line_if_it_took_long(live, clock):
    report, rows, stream = live(80)
    report.step("image linux-i386", "reading what was built")
    report.step("libgo pristine", "configuring")
    report.count("programs", 1, 2, "compiled a")
    clock.now += 0.5
    report.step("image linux-i386", READY)
    report.count("programs", 2, 2, "compiled b")
    clock.now += 64.5
    assert [row.split()[0] for row in rows()] == ["libgo"]
    report.step("libgo pristine", READY)
    assert not [row for row in rows() if row.strip()]
    assert [line for line in stream.getvalue().splitlines() if line.strip()] == [
        "[1:05] libgo pristine: ready after 1:05"
    ]
    report.step("libgo pristine", "configuring")
    assert "0:00" in rows()[0]  # again, from the beginning


def test_a_guest_that_ends_is_not_called_ready(live, clock):
    report, rows, _ = live(80)
    report.step("guest g 1", "restoring")
    report.step("guest g 1", READY)
    report.doing("guest g 1", "s/p (pristine)")
    report.doing("guest g 1", "ending")
    assert "ending" in rows()[0] and READY not in rows()[0]
    report.gone("guest g 1")
    assert not [row for row in rows() if row.strip()]


def test_the_time_of_a_bisect_is_that_of_all_of_it(live, clock):
    report, rows, _ = live(80)
    report.step("bisect", "1 trial, 1 build; comparing both ends")
    clock.now += 60
    report.step("bisect", "2 trials, 1 build; comparing both ends")
    clock.now += 5
    assert "1:05" in rows()[0]


SHOW = """
import time
from harness.progress import Reporter
with Reporter() as report:
    report.step("libgo pristine", "configuring")
    report.count("trials", 1, 3, "1 pass")
    report.note("crash", "s/p")
    time.sleep(1.6)
"""


@pytest.mark.parametrize(("term", "is_live"), [("xterm", True), ("dumb", False), ("", False)])
def test_a_terminal_that_cannot_move_its_cursor_gets_lines(term, is_live):
    """TERM=dumb, as in a shell in Emacs, showed nothing at all."""
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": term, "COLUMNS": "80"}
    subprocess.run([sys.executable, "-c", SHOW], stderr=follower, env=environment, check=True)
    os.close(follower)
    text = b""
    try:
        while piece := os.read(leader, 1 << 16):
            text += piece
    except OSError:  # what Linux says at the end of a terminal
        pass
    os.close(leader)
    assert b"[0:00] crash: s/p\r\n" in text and (b"\x1b" in text) == is_live
    if not is_live:
        assert b"] libgo pristine: configuring; trials: 1 of 3 in " in text
