"""Known failures that no cell can be about: typing errors are told, what lies outside of a selection is not."""

from dataclasses import replace

import pytest

from harness import conf
from harness.programs.select import select_programs
from harness.run.expectations import all_programs, describe_unmatched, own_programs
from harness.run.request import Request
from harness.run.resolve import resolve

OK = "// run\n\npackage main\n\nfunc main() {}\n"
END = "verdict: crash, reason: bug 1, expires: 2100-01-01}"


def unmatched(write, entry, selection, listings=None):
    """What is told of one entry of the user's own."""
    mine = write("mine.yaml", f"expected:\n  - {{{entry}, {END}\n")
    listings = listings or {}
    sentences = describe_unmatched(conf.load([mine]), all_programs(select_programs(selection, listings), listings))
    return "; ".join(sentence.removeprefix(f"{mine}:2: ") for sentence in sentences if sentence.startswith(str(mine)))


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ("program: demo/a", ""),
        ("program: demo/b", ""),  # it is there, though it is not selected
        ("program: demo/*", ""),
        ("program: '*'", ""),
        ("program: '[a-z]*/a'", ""),
        ("program: demo/aa", "`program: demo/aa` matches nothing: demo has no such program; did you mean demo/a?"),
        ("program: demo/zzzz*", "`program: demo/zzzz*` matches nothing: demo has no such program"),
        ("program: demo/lib", "`program: demo/lib` matches nothing: demo has no such program"),
        ("program: a", "`program: a` matches nothing: it is not SUITE/PROGRAM; did you mean demo/a?"),
        ("program: demoo/a", "`program: demoo/a` matches nothing: there is no suite demoo; did you mean demo/a?"),
        ("program: thread/x", "`program: thread/x` matches nothing: there is no suite thread; did you mean threads/x?"),
        ("program: 'no*/zzzz'", ""),
        ("program: demoo/zzzz", ""),  # it may be of a folder of that name
        ("program: other/a", ""),
        ("program: threads/lock-rign", ""),  # threads is outside of the selection
        ("program: gcc-go/none", ""),
        ("program: demo/a, guest: hurd-*, variant: pristine", ""),
        ("program: demo/a, variant: no-sysmon+slow-exit", ""),
        (
            "program: demo/a, guest: linux-i386, variant: netpoll-off",
            "`variant: netpoll-off` is not for linux-i386, and the entry matches nothing",
        ),
    ],
)
def test_what_is_told_of_an_entry(write, tmp_path, entry, sentence):
    for name in "ab":
        write(f"demo/{name}.go", OK)
    write("demo/lib.go", "package main\n")
    assert unmatched(write, entry, [str(tmp_path / "demo/a.go")]) == sentence


def test_suites_are_known_whole(write):
    assert "threads/lock-ring?" in unmatched(write, "program: threads/lock-rign", ["threads/lock-*", "gc"])
    programs = [replace(each, name=f"gcc-go/{each.source.stem}", from_gcc=True) for each in select_programs(["gc"])]
    listings = {"gcc-go": lambda: programs}
    assert unmatched(write, "program: gcc-go/none", ["gc"], listings) == ""
    assert "gcc-go has no such program" in unmatched(write, "program: gcc-go/none", ["gcc-go/off"], listings)
    assert unmatched(write, "program: gcc-go/finalizer-once", ["gcc-go/off"], listings) == ""
    assert {name.partition("/")[0] for name in own_programs()} >= {"threads", "pthreads", "gc"}


def test_nothing_is_told_of_the_given_entries_where_their_suites_are_not_looked_at():
    assert describe_unmatched(conf.load(), own_programs()) == []


def test_a_run_is_resolved_with_them(write, tmp_path):
    write("demo/a.go", OK)
    mine = write("mine.yaml", f"expected:\n  - {{program: demo/b, {END}\n")
    request = Request((str(tmp_path / "demo"),), ("linux-i386",), ("pristine",), 1, None, (mine,), tmp_path / "work")
    assert resolve(request).unmatched == (f"{mine}:2: `program: demo/b` matches nothing: demo has no such program",)
