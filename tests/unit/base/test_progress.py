"""Progress: lines for a log, rows for a terminal of any width, and how long each step took."""

import io
import sys

import pytest
from rich.console import Console

from harness import progress
from harness.progress import READY, Reporter, Took

LONG = "gcc-go/fixedbugs/a-very-long-name-of-a-program (no-thread-destruction)"


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    return made


@pytest.fixture
def lines(clock):
    return []


@pytest.fixture
def report(lines):
    return Reporter(lines.append)


def test_a_step_is_told_once_and_again_after_a_while(report, lines, clock):
    for number in range(30):
        report.step("libgo pristine", f"compiled {number} of about 203")
        clock.now += 1
    report.step("libgo pristine", READY)
    assert lines == [
        "[0:00] libgo pristine: compiled 0 of about 203",
        "[0:11] libgo pristine: compiled 11 of about 203",
        "[0:22] libgo pristine: compiled 22 of about 203",
        "[0:30] libgo pristine: ready",
    ]


def test_a_count_tells_how_long_it_may_take_by_what_was_made_here(report, lines, clock):
    for done in range(901, 932):  # a run that goes on has 900
        report.count("trials", done, 1000, "pass x")
        clock.now += 1
    assert lines[0] == "[0:00] trials: 901 of 1000; pass x"
    assert lines[-1] == "[0:22] trials: 923 of 1000, about 1:17 to go; pass x"


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

    def make(width):
        stream = io.StringIO()
        stream.isatty = lambda: True
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("TERM", "xterm")
        made = Reporter()

        def rows():
            screen = Console(file=io.StringIO(), width=width)
            screen.print(made.live.get_renderable())
            return screen.file.getvalue().splitlines()

        return made, rows, stream

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
    shown = rows()
    assert len(shown) == 3 and all(len(row) <= width for row in shown)
    assert "6000/12345  1:30, 1:35 to go" in shown[2] and " pass" in shown[2]
    assert "1:30" in shown[0] and "1:30" in shown[1]  # what a guest is at has a time too
    assert ("━" in shown[2]) == (width >= 100)


def test_what_is_ready_goes_and_leaves_a_line_if_it_took_long(live, clock):
    report, rows, stream = live(80)
    report.step("image linux-i386", "reading what was built")
    report.step("libgo pristine", "configuring")
    report.count("programs", 1, 2, "compiled a")
    clock.now += 5
    report.step("image linux-i386", READY)
    report.count("programs", 2, 2, "compiled b")
    clock.now += 60
    assert [row.split()[0] for row in rows()] == ["libgo"]
    report.step("libgo pristine", READY)
    assert not [row for row in rows() if row.strip()]
    assert [line for line in stream.getvalue().splitlines() if line.strip()] == [
        "[1:05] libgo pristine: ready after 1:05"
    ]
    report.step("libgo pristine", "configuring")
    assert "0:00" in rows()[0]  # again, from the beginning
