"""Titles of crashes and hangs: golden files of real output, and what must not change a title, or has to mark it."""

import random
import re
from collections import Counter

import pytest
from golden import FOLDER, Golden, read
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.trial.signature import CORRUPTED, LENGTH, of_crash

ALL = [read(file) for file in sorted(FOLDER.glob("*.txt"))]
#: Those whose streams a real program wrote in the guest, and of them those whose title comes of a report.
REAL = [one for one in ALL if one.origin.startswith("src/")]
REPORTS = [one for one in REAL if one.title and not one.title.startswith((CORRUPTED, "SIG")) and one.stderr]
STACKED = [one for one in REPORTS if re.search(r" in (main\.|.* < main\.)", one.title)]
NUMBER = re.compile(r"0x[0-9a-f]+|(?<![A-Za-z_\d.])\d+(?![\d.]*e)")


@pytest.mark.parametrize("golden", ALL, ids=lambda item: item.name)
def test_golden_files(golden):
    assert golden.given() == golden.title
    assert len(golden.title) <= LENGTH and "\n" not in golden.title


def test_there_are_enough_golden_files_and_every_source_has_one():
    assert len(REAL) >= 60
    assert {report.name for report in REAL} == {file.stem for file in FOLDER.glob("src/*.go")}


def test_different_causes_have_different_titles():
    """What shares a title is the same cause told in two ways, or a bare signal, which tells no more."""
    titles = Counter(report.title for report in REPORTS if not report.hung)
    assert {title for title, count in titles.items() if count > 1} <= {
        "fatal error: concurrent map access",
        "unable to allocate additional stack space: errno N",
        # of a function that is nil, and of a C function that was given nil: nothing tells them apart
        "panic: runtime error: invalid memory address or nil pointer dereference [SIGSEGV] in main.main",
        # in main, locked to its thread or not, and in a loop
        "fatal error: all goroutines are asleep - deadlock! chan receive in main.main",
        # glibc's assertion names no place
        "SIGABRT: abort in main.main..func1",
    }


def perturbed(golden: Golden, chance: random.Random) -> str:
    """The same report of another day: other addresses, numbers, goroutines, lines, folders and order."""

    def number(match: re.Match[str]) -> str:
        return hex(chance.getrandbits(32)) if match[0].startswith("0x") else str(chance.randrange(10**9))

    head, *blocks = re.split(r"(?<=\n\n)(?=goroutine \d+ \[)", golden.stderr)
    if blocks:
        blocks[-1], registers, rest = blocks[-1].partition("\n\neax ")
        blocks[-1] += "\n\n" if not blocks[-1].endswith("\n\n") else ""
        first = [] if golden.hung or "deadlock!" in golden.title else blocks[:1]
        others = blocks[len(first) :]
        chance.shuffle(others)
        head += "".join([*first, *others]) + (f"eax {rest}" if registers else "")
    folder = "/" + "".join(chance.choices("abc/", k=12)) + "/"
    text = re.sub(r"(?<=\t)\./(?=[\w-]+\.go:)", folder, head)
    return re.sub(NUMBER, number, text)


@settings(deadline=None, max_examples=400)
@given(st.sampled_from(REPORTS), st.randoms(use_true_random=False))
def test_the_same_cause_has_the_same_title(golden, chance):
    other = Golden(golden.name, "", golden.ended, "", perturbed(golden, chance), golden.stdout)
    assert other.given() == golden.title


@settings(deadline=None, max_examples=400)
@given(st.sampled_from(STACKED), st.randoms(use_true_random=False), st.sampled_from(["worker 7 is done\n", "x: y\n"]))
def test_whole_lines_of_others_between_functions_change_nothing(golden, chance, line):
    lines = golden.stderr.splitlines(keepends=True)
    after = [number for number, text in enumerate(lines, 1) if text.startswith("\t") and ":" in text]
    for number in sorted(chance.sample(after, min(3, len(after))), reverse=True):
        lines.insert(number, line)
    other = Golden(golden.name, "", golden.ended, "", "".join(lines))
    assert other.given() == golden.title


@settings(deadline=None, max_examples=600)
@given(st.sampled_from(REPORTS), st.integers(0), st.sampled_from(["done\n", "\n", "a b\n", "\tx\n", "\t:5\n"]))
def test_a_line_of_others_that_breaks_into_a_stack_is_never_misnamed(golden, at, text):
    """A line that could be no function's name is passed over, so only between lines is it told from one."""
    stacks = golden.stderr.find("goroutine ")
    at = stacks + at % (len(golden.stderr) - stacks) if stacks > 0 else 0
    if text not in ("done\n", "\n"):
        at = golden.stderr.rfind("\n", 0, at) + 1
    other = Golden(golden.name, "", golden.ended, "", golden.stderr[:at] + text + golden.stderr[at:])
    assert other.given() == golden.title or other.given().startswith(CORRUPTED)


@settings(deadline=None, max_examples=600)
@given(st.sampled_from([one for one in REPORTS if not one.hung]), st.integers(0))
def test_a_report_that_is_torn_is_marked(golden, length):
    title = of_crash(golden.stderr[: length % len(golden.stderr)], "SIGKILL")
    assert title in ("SIGKILL", golden.title) or title.startswith(CORRUPTED) or golden.title.startswith(f"{title} in ")


@pytest.mark.parametrize(
    "text", ["a", ".", "/", "a/", "*", "0", "\t:1", "x.c:1: ", "panic: ", "goroutine 1 [x]:\n", "\n"]
)
def test_a_megabyte_of_anything_is_read_in_no_time(text):
    """Where an expression would look at every part from every place, this would not end."""
    wild = text * (1_000_000 // len(text))
    for end in ("signal SIGABRT", "time limit, exit 2"):
        assert len(Golden("", "", end, "", wild, wild).given()) <= LENGTH


@given(st.text(), st.text(), st.sampled_from(["", "SIGSEGV"]), st.booleans())
def test_wild_text_gets_one_short_line(stderr, stdout, signal, hung):
    title = Golden(
        "", "", ("time limit, " if hung else "") + (f"signal {signal}" if signal else "exit 1"), "", stderr, stdout
    )
    assert len(title.given()) <= LENGTH and len(title.given().splitlines()) <= 1


@settings(deadline=None)
@given(st.lists(st.sampled_from([line for one in ALL for line in one.stderr.splitlines(keepends=True)]), max_size=40))
def test_any_lines_of_reports_in_any_order_get_one_short_line(lines):
    for end in ("exit 2", "signal SIGABRT", "time limit, exit 2"):
        title = Golden("", "", end, "", "".join(lines)).given()
        assert len(title) <= LENGTH and len(title.splitlines()) <= 1
