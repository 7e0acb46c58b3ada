"""How an output that was not expected is shown beside the one that was."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.programs.model import Expectation
from harness.results import outdiff
from harness.results.outdiff import compare, output_diff
from tests import runs


def shown(expected, printed, **more):
    return [f"{line.mark}{line.text}" for line in compare("stdout", expected, printed, **more).lines]


def test_a_difference_reads_as_diff_u():
    assert shown(b"one\ntwo\nthree\n", b"one\n2\nthree\n") == [
        "@expected: lines 1 to 3; printed: lines 1 to 3", " one", "-two", "+2", " three",
    ]  # fmt: skip
    assert shown(b"", b"x\n") == ["@expected: nothing; printed: line 1", "+x"]
    assert shown(b"x\n", b"") == ["@expected: line 1; printed: nothing", "-x"]


@pytest.mark.parametrize(
    ("expected", "printed", "lines"),
    [
        (b"a\n", b"a", ["-a", "+a", "\\no newline at the end of the output"]),
        (b"a\n", b"a \t\n", ["-a", "+a·→"]),
        (b"a\tb c\n", b"a b c\n", ["-a→b·c", "+a·b·c"]),
        (b"a b\n", b"a c\n", ["-a b", "+a c"]),  # nobody misses these spaces
        (b"a\n", b"a\r\n", ["-a", "+a\\r"]),
        (b"a\n", b"\xffa\x00\xe2\x80\xae\n", ["-a", "+\\xffa\\x00\\u202e"]),
        ("é\n".encode(), b"\xe9\n", ["-é", "+\\xe9"]),
        (b"\\xff\n", b"\xff\n", ["-\\xff", "+\\xff"]),
        ("\x9b\xa0\n".encode(), b"\x9b\xa0\n", ["-\\u009b\\u00a0", "+\\x9b\\xa0"]),
    ],
)
def test_what_would_be_missed_is_spelt_out(expected, printed, lines):
    assert shown(expected, printed)[1:] == lines


def test_what_is_spelt_out_is_told_from_what_was_printed():
    minus, plus = compare("stdout", b"\\xff\xc2\xb7\n", b"\xff \n").lines[1:]
    assert minus.pieces == ("\\xff·",) and plus.pieces == ("", "\\xff·")


def test_a_long_output_is_cut_around_the_first_difference():
    numbers = [b"%d\n" % number for number in range(5000)]
    late = compare("stdout", b"".join(numbers), b"".join(numbers[:4000] + numbers[4001:]))
    assert [line.mark + line.text for line in late.lines[1:]] == [
        " 3997", " 3998", " 3999", "-4000", " 4001", " 4002", " 4003",
    ] and not late.left_out  # fmt: skip
    other = compare("stdout", b"".join(numbers), b"".join(b"x" + number for number in numbers))
    assert len(other.lines) == outdiff.SHOWN
    assert other.left_out == (
        "181 more lines of it are not shown; 120 lines from the first difference are compared, 4,880 are not."
    )
    more = compare("stdout", b"a\n", b"a\n" + b"b\n" * 500)
    assert [line.mark for line in more.lines[:3]] == ["@", " ", "+"]


def test_lines_that_only_moved_at_the_cut_are_no_difference():
    numbers = [b"%d\n" % number for number in range(5000)]
    twice = [*numbers[:10], b"new\n", *numbers[10:4000], *numbers[4001:]]
    marks = [line.mark for line in compare("stdout", b"".join(numbers), b"".join(twice)).lines]
    assert marks == ["@", " ", " ", " ", "+", " ", " ", " "]


def test_a_long_line_is_cut_around_the_first_difference():
    minus, plus = shown(b"x" * 500 + b"a" + b"y" * 900, b"x" * 500 + b"b" + b"y" * 900)[1::2]
    assert minus == f"-…460 characters…{'x' * 40}a{'y' * 259}…641 characters…" and "b" in plus


def test_of_an_output_that_was_not_kept_whole_the_beginning_is_compared():
    cut = compare("stdout", b"a\nb\nc\nd\n", b"a\nb\nc", whole=False)
    assert not cut.lines and cut.left_out == "Only the first 5 bytes of the output were kept."
    assert "+x" in shown(b"a\nb\nc\nd\n", b"a\nx\nc", whole=False)


@given(*[st.lists(st.sampled_from([b"a", b"b", b"a b", b"\ta", b"", b"c "]), max_size=14)] * 2, st.booleans())
def test_a_difference_that_is_not_cut_makes_the_one_output_of_the_other(expected, printed, newline):
    before, after = b"\n".join(expected), b"\n".join(printed) + b"\n" * newline
    lines = outdiff._lines(before)
    hunks = compare("stdout", before, after).lines
    assert all(set(piece) <= {"·", "→"} for line in hunks for piece in line.pieces[1::2])
    at = 0
    for place, line in enumerate(hunks):
        raw = "".join(piece if number % 2 == 0 else piece.replace("·", " ").replace("→", "\t")
                      for number, piece in enumerate(line.pieces)).encode()  # fmt: skip
        newline = place + 1 == len(hunks) or hunks[place + 1].mark != "\\"
        if line.mark == "@":
            begin = re.search(r"printed: lines? (\d+)", line.text)
            at = int(begin[1]) - 1 if begin else 0
        elif line.mark == "+":
            lines.insert(at, raw + b"\n" * newline)
            at += 1
        elif line.mark in " -":
            assert lines[at] == raw + b"\n" * newline
            if line.mark == "-":
                del lines[at]
            else:
                at += 1
    assert b"".join(lines) == after


@given(st.binary(max_size=3000), st.binary(max_size=3000), st.booleans())
def test_whatever_is_printed_the_lines_are_few_short_and_plain(expected, printed, whole):
    difference = compare("stdout", expected, printed, whole)
    assert len(difference.lines) <= outdiff.SHOWN
    for line in difference.lines:
        assert line.text.isprintable() and len(line.text) <= 10 * outdiff.WIDTH + 100


def test_only_a_failed_trial_whose_output_was_compared_has_one():
    trial = next(trial for trial in runs.trials(runs.names(10)) if trial.verdict == "fail")
    assert output_diff(trial, Expectation()) is None
    assert output_diff(trial, Expectation(stdout=trial.stdout)) is None
    assert output_diff(trial, Expectation(stdout=b"x\n")).stream == "stdout"
    assert output_diff(trial, Expectation(output=trial.stdout + trial.stderr)) is None
    assert output_diff(trial, Expectation(output=b"x\n")).stream == "stdout and stderr"
    passed = next(trial for trial in runs.trials(runs.names(10)) if trial.verdict == "pass")
    assert output_diff(passed, Expectation(stdout=b"x\n")) is None
