"""What a reader sees in a terminal, at its worst."""

import io
import itertools
import re
from datetime import date
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from harness.guest.pool import FAILED_BOOTS
from harness.results import page, terminal
from harness.results.build_matrix import build_matrix
from harness.results.expected import Entry
from harness.results.lifecycle import Column, LifeCycle
from harness.results.outdiff import compare
from harness.results.text import SHOWN, SIGNS, shown_stream, stream_lines
from harness.trial import lifetrace
from harness.trial.lifetrace import Sample, Trace
from harness.trial.record import Trial

HOSTILE = b"</script><script>alert(1)</script><!--<script>\x1b]0;owned\x07\xff\x00 \xe2\x80\xa8 &amp;\n"
EVIL = "'\"><img src=x onerror=alert(1)>\x1b[2J\u202e\udcff"
PROGRAMS = [f"threads/lock-exit-{n}" for n in range(10)] + [f"gotest/chan/select{n}" for n in range(10)]
VARIANTS = ["pristine", "no-thread-destruction"]
EVENTS = [{"time": "2025-01-01T00:00:00Z", "guest": "hurd-i386", "kind": "panic", "text": EVIL, "machine": 3}]


def sample(guests=("hurd-i386",)):
    """Twenty programs, five trials each; the first crashes with pristine, the second is flaky, the third spoilt."""
    number = 0
    for guest in guests:
        for place, program in enumerate(PROGRAMS):
            for variant in VARIANTS:
                for turn in range(1, 6):
                    number += 1
                    bad = variant == "pristine" and (place == 0 or (place == 1 and turn > 3))
                    verdict = "error" if place == 2 and turn == 1 else "crash" if bad else "pass"
                    yield Trial(
                        number, guest, variant, program, turn, 1, verdict, "" if verdict == "pass" else EVIL,
                        EVIL if bad else "", None if bad else 0, "SIGSEGV" if bad else "", 0.25, HOSTILE, HOSTILE,
                        len(HOSTILE), len(HOSTILE), "2025-01-01T00:00:00Z", f"harness again {number}",
                    )  # fmt: skip


def matrix_of(guests=("hurd-i386",), run=None):
    return build_matrix(run or {"note": EVIL}, guests, VARIANTS, PROGRAMS, "pristine", sample(guests), EVENTS)


def printed(matrix, width=80, encoding="utf-8", **more):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, errors="strict" if encoding == "ascii" else "surrogateescape")
    terminal.print_table(matrix, Console(file=stream, width=width, **more))
    stream.flush()
    return raw.getvalue().decode(encoding, "surrogateescape")


def test_eighty_columns_hold_the_table_and_all_but_commands():
    text = printed(matrix_of())
    assert all(cell_len(line) <= 80 for line in text.splitlines() if "$ " not in line)
    assert sum(line.startswith("program") for line in text.splitlines()) == 1
    assert "✖ crash 0/5 ?" in text and "~ 3/5 ✖2 ?" in text and "✔ 4/4 !1" in text


def test_no_byte_of_a_program_reaches_the_terminal_raw():
    text = printed(matrix_of())
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e]", text)
    assert "\\x1b[2J" in text


def test_a_trial_is_shown_with_its_dossier_s_text_and_no_byte_of_it_raw():
    parts = {"dossier/threads": HOSTILE * 2000, "dossier/screen.png": b"\x89PNG", "lifetrace": b"\0" * 9}
    text = opened(next(sample()), parts)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e]", text)
    assert f"dossier/threads ({2000 * len(HOSTILE):,} bytes)" in text and "PNG" not in text


def test_a_trial_s_reason_and_commands_come_first_and_what_is_long_is_cut():
    lines = "".join(f"line {number}\n" for number in range(500)).encode()
    parts = {"dossier/threads": lines, "dossier/few": b"few\n", "dossier/long": b"x" * 5000}
    text = opened(next(sample()), parts)
    order = ("reason ", "$ harness again 1", "stdout (", "stderr (", "dossier/threads (")
    assert [text.index(word) for word in order] == sorted(text.index(word) for word in order)
    assert text.index("$ harness again 1") < 1000
    assert "\nline 19\n[460 lines left out; all of it: see dossier/threads]\nline 480\n" in text
    assert "xxx[4000 more characters; all of it: see dossier/long]\n" in text and "\nfew\n" in text
    assert len(text.splitlines()) < 80


@pytest.mark.parametrize(("encoding", "tab", "space"), [("utf-8", "→", "·"), ("ascii", "\\t", "\\x20")])
def test_an_output_is_shown_beside_what_was_expected_and_no_byte_of_it_raw(encoding, tab, space):
    difference = compare("stdout", b"a\nb c\n", HOSTILE + b"b\tc")
    raw = io.BytesIO()
    console = Console(file=io.TextIOWrapper(raw, encoding=encoding, write_through=True), width=80)
    terminal.print_trial(7, next(sample()), {}, difference, [], [], "see {}".format, console)
    text = raw.getvalue().decode(encoding)
    part = text.partition("stdout, expected (-) and printed (+)\n")[2].partition("\n\n")[0]
    assert part.startswith("@ expected: lines 1 to 2; printed: lines 1 to 2\n-a\n")
    assert f"\n-b{space}c\n+</script>" in part and "\\x1b]0;owned\\x07\\xff\\x00 \\u2028 &amp;" in part
    assert f"\n+b{tab}c\n\\ no newline at the end of the output\n" in part
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u2028]", text)


def opened(trial, parts):
    stream = io.StringIO()
    raw = "see {}".format
    terminal.print_trial(7, trial, parts, None, [], ["harness again 1", "harness rerun 1"], raw, Console(file=stream))
    return stream.getvalue()


def test_each_title_stands_once_with_where_it_occurs():
    """It did so once a variant: 330 lines for what 90 say."""
    trials = list(sample(("hurd-i386", "linux-i386")))
    text = printed(matrix_of(("hurd-i386", "linux-i386")), width=200)
    section = text.partition("Not passed")[2].partition("\nDifferences")[0]
    assert section.count(EVIL[:10]) == 1 and len(trials) == 400
    assert "crash, 14 trials\n" in section
    assert "    threads/lock-exit-0; hurd-i386: pristine 5 of 5; linux-i386: pristine 5 of 5\n" in section
    assert "    threads/lock-exit-1; hurd-i386: pristine 2 of 5; linux-i386: pristine 2 of 5\n" in section
    assert section.count("$ harness open 1\n") == 1


def test_programs_that_went_wrong_alike_share_a_line_and_known_failures_come_last():
    names = [f"s/p{number}" for number in range(12)]
    trials = [
        Trial(
            number, "g", variant, name, 1, 1, "fail", "known thing" if name == "s/p0" else "new thing", "", 1, "",
            0.1, b"", b"", 0, 0, "t", "harness run x",
        )
        for number, (name, variant) in enumerate(itertools.product(names, VARIANTS), start=1)
    ]  # fmt: skip
    entry = Entry("*", "*", "s/p0", (), "", "reported", date(2030, 1, 1), False, "x.yaml:1")
    text = printed(
        build_matrix({}, ["g"], VARIANTS, names, "pristine", trials, [], expected=[entry], day=date(2026, 1, 1)), 200
    )
    places = f"{', '.join(names[1:9])} and 3 more programs; g: pristine 1 of 1, no-thread-destruction 1 of 1"
    assert f"fail, 22 trials\n    new thing\n    {places}\n    $ harness open 3\n" in text
    assert text.index("    new thing\n") < text.index("    known thing\n    s/p0; g: ") < text.index("reported")


def test_commands_name_the_work_directory_that_was_named():
    stream = io.StringIO()
    terminal.print_table(matrix_of(), Console(file=stream), Path("/w"))
    commands = [line for line in stream.getvalue().splitlines() if line.startswith("    $ ")]
    assert commands and all(line.endswith(" --work /w") for line in commands)
    assert {line.split()[2] for line in commands} == {"open"}


def test_ascii_streams_get_ascii():
    text = printed(matrix_of(), encoding="ascii")
    assert text.isascii()
    assert "X crash 0/5" in text and "+ 5/5" in text


def test_colour_only_where_it_is_wanted():
    assert "\x1b[" not in printed(matrix_of())
    assert "\x1b[" in printed(matrix_of(), force_terminal=True, color_system="standard")


def test_a_guest_s_columns_stay_together_when_the_table_is_split():
    heads = [line.split() for line in printed(matrix_of(("hurd-i386", "linux-i386"))).splitlines() if "program" in line]
    assert heads[:2] == [["program", *VARIANTS]] * 2


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_every_column_is_printed_at_every_width(width):
    matrix = matrix_of(("hurd-i386", "linux-i386"))
    parts = list(terminal.column_groups(matrix, width, False))
    assert [column for part in parts for column in part] == list(range(4))


def test_signs_differ_in_shape_and_are_one_column_wide():
    for signs in zip(*((sign, plain) for sign, plain, _ in SIGNS.values()), strict=True):
        assert len(set(signs)) == len(signs)
        assert all(cell_len(sign) == 1 for sign in signs)


def test_an_empty_matrix_can_be_shown():
    assert "Nothing was compared" in printed(build_matrix({}, [], [], [], "pristine", [], []))


def test_the_first_troubles_of_each_guest_are_told_and_the_others_counted():
    events = [
        {"time": f"t{n}", "guest": guest, "text": f"trouble {n} of {guest}\n  console: one\n  console: {EVIL}"}
        for guest in ("a", "b")
        for n in range(terminal.TOLD + 2)
    ]
    text = printed(build_matrix({}, ["g"], VARIANTS, PROGRAMS, "pristine", [], events))
    assert "a: trouble, 5 times" in text and "b: trouble, 5 times" in text
    assert f"t0 trouble 0 of a\n      console: one\n      console: {EVIL[:5]}" in text
    assert "trouble 2 of b" in text and "trouble 3 of b" not in text
    assert text.count("2 more: the HTML page has all of them") == 2
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e]", text)


def test_boots_that_failed_before_one_worked_are_counted_by_all_reports():
    events = [
        {"time": "t", "guest": "a", "text": text}
        for text in (f"{FAILED_BOOTS}1", "it stands still", f"{FAILED_BOOTS}2")
    ]
    matrix = build_matrix({}, ["a"], VARIANTS, PROGRAMS, "pristine", [], events)
    assert "3 boots failed before one worked." in printed(matrix)
    assert "<p>3 boots failed before one worked.</p>" in "".join(page.html(matrix, []))
    assert "before one worked" not in printed(build_matrix({}, ["a"], VARIANTS, PROGRAMS, "pristine", [], events[1:2]))


def test_long_output_is_cut_in_the_middle_and_says_so():
    kept = b"begin" + b"x" * 200_000 + b"end"
    stream = shown_stream(kept, 1_000_000)
    assert [len(part) for part in stream.parts] == [SHOWN // 2] * 2
    assert stream.parts[0].startswith("begin") and stream.parts[1].endswith("end")
    assert stream.size == "1,000,000 bytes, 65,536 of them here"
    first, between, last = stream_lines(stream)
    assert between == "[134,472 bytes left out here]"
    assert (first, last) == stream.parts


@pytest.mark.parametrize(
    ("written", "lines"),
    [
        (b"", []),
        (b"a\n", ["a"]),
        (b"a\r\n\nb", ["a", "", "b"]),
        (b"\ta\x1b[0m\xe2\x80\xae", [" " * 8 + "a\\x1b[0m\\u202e"]),
    ],
)
def test_a_stream_s_lines_are_as_they_were_and_can_do_nothing(written, lines):
    assert list(stream_lines(shown_stream(written, len(written)))) == lines


def test_life_cycles_are_counted_and_their_names_are_text():
    trace = Trace(dict.fromkeys(lifetrace.EVENTS, 1), (Sample(0.0, 1, 1), Sample(0.5, 3, 9)))
    cycle = LifeCycle(EVIL, EVIL, {EVIL: Column(EVIL, [trace], {"pass": 1})})
    console = Console(file=io.StringIO(), width=80)
    terminal.print_life_cycles([cycle], console)
    assert "Ms were destroyed" in console.file.getvalue() and "\x1b" not in console.file.getvalue()
