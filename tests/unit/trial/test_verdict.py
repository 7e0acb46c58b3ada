"""Verdicts and signatures: pure functions of what was seen."""

from dataclasses import replace

import pytest

from harness.programs.model import Expectation
from harness.trial.observe import Observation
from harness.trial.verdict import judge, signal_name, still, suspended

LINUX, HURD = {10: "SIGUSR1", 11: "SIGSEGV"}, {10: "SIGBUS", 11: "SIGSEGV"}


def observation_of(exit_status=0, signal=None, stdout=b"", stderr=b"", timed_out=False):
    return Observation(exit_status, signal, 1.0, stdout, stderr, len(stdout), len(stderr), timed_out)


@pytest.mark.parametrize(
    ("observation", "expected", "verdict", "reason"),
    [
        (observation_of(), Expectation(), "pass", "as expected"),
        (observation_of(3), Expectation(), "fail", "exit status 3, expected exit status 0"),
        (
            observation_of(stdout=b"one\ntwo\n"),
            Expectation(stdout=b"one\n2\n"),
            "fail",
            "line 2 of stdout is 'two', expected '2'",
        ),
        (observation_of(stdout=b"one\n"), Expectation(stdout=b"one\ntwo\n"), "fail", "stdout has 1 line, expected 2"),
        (
            observation_of(stdout=b"a \xff\x1b\n"),
            Expectation(stdout=b"a \xfe\n"),
            "fail",
            r"line 1 of stdout is 'a \xff\x1b', expected 'a \xfe'",
        ),
        (
            observation_of(stdout=b"one"),
            Expectation(stdout=b"one\n"),
            "fail",
            "stdout differs in white space at line ends",
        ),
        (observation_of(stdout=b"x"), Expectation(stdout=b""), "fail", "stdout has 1 line, expected 0"),
        (observation_of(None, 11), Expectation(), "crash", "ended by SIGSEGV, expected exit status 0"),
        (observation_of(None, 11), Expectation(signal="SIGSEGV"), "pass", "as expected"),
        (observation_of(2, stderr=b"panic: no\n"), Expectation(), "crash", "exit status 2, expected exit status 0"),
        (observation_of(2, stderr=b"panic: no\n"), Expectation(2, stderr_pattern="^panic: no"), "pass", "as expected"),
        (
            observation_of(2, stderr=b"else\n"),
            Expectation(2, stderr_pattern="^panic"),
            "fail",
            "nothing on stderr matches '^panic'",
        ),
        (observation_of(2, stderr=b"", timed_out=True), Expectation(2), "hang", "it did not end within its time limit"),
    ],
)
def test_verdicts(observation, expected, verdict, reason):
    result = judge(observation, expected, signal_name(observation, LINUX))
    assert (result.verdict, result.reason) == (verdict, reason)


@pytest.mark.parametrize(
    ("out", "err", "whole", "right"),
    [
        (b"a\nb\n", b"", b"a\nb\n", True),
        (b"", b"a\nb\n", b"a\nb\n", True),
        (b"a\nb\n", b"a\nc\n", b"a\na\nc\nb\n", True),
        (b"a\nb\n", b"c\n", b"b\na\nc\n", False),
        (b"a\n", b"", b"a\na\n", False),
        (b"a\na\n", b"", b"a\n", False),
        (b"a", b"", b"a\n", False),
        (b"", b"", b"", True),
    ],
)
def test_output_of_both_streams_together(out, err, whole, right):
    result = judge(observation_of(stdout=out, stderr=err), Expectation(output=whole), "")
    assert (result.verdict == "pass") is right, result


def test_gcc_s_own_judgement_is_told_where_it_differs():
    expected = Expectation(output=b"one\n", gcc=True)
    assert judge(observation_of(stdout=b"two\n"), expected, "").reason.endswith(
        "expected 'one'; GCC would call this PASS"
    )
    assert judge(observation_of(stdout=b"one\n"), expected, "").reason == "as expected"
    assert judge(observation_of(1, stdout=b"one\n"), expected, "").reason == "exit status 1, expected exit status 0"
    judgement = judge(observation_of(stderr=b"BUG: x\n"), Expectation(gcc=True), "")
    assert (judgement.verdict, judgement.reason) == ("pass", "as expected; GCC would call this FAIL")


TESTS = b"""=== RUN   TestA
--- PASS: TestA (0.00s)
=== RUN   TestB
=== RUN   TestB/sub
--- FAIL: TestB (1.20s)
    --- FAIL: TestB/sub (0.00s)
=== RUN   TestC
text--- SKIP: TestC (0.00s)
    x_test.go:1: no
"""


def test_go_tests_are_named():
    tests = Expectation(tests=True)
    result = judge(observation_of(1, stdout=TESTS + b"FAIL\n", stderr=b"panic: printed by a test\n"), tests, "")
    assert (result.verdict, result.signature) == ("fail", "FAIL: TestB")
    assert result.reason == "exit status 1, expected exit status 0; FAIL: TestB; 1 passed; skipped: TestC"
    rest = TESTS + b"=== RUN   TestD\n"
    result = judge(observation_of(2, stdout=rest, stderr=b"panic: test timed out after 9m50s\n\n"), tests, "")
    assert (result.verdict, result.signature) == ("hang", "hang: tests TestD")
    result = judge(observation_of(2, stdout=rest, stderr=b"fatal error: no\n"), tests, "")
    assert (result.verdict, result.signature) == ("crash", "fatal error: no")
    assert "unfinished: TestD" in result.reason
    assert judge(observation_of(stdout=TESTS[:50]), tests, "").reason == "as expected; 1 passed"


def test_a_suspended_crash_is_no_hang():
    result = judge(replace(observation_of(timed_out=True), suspended="THuo"), Expectation(), "")
    assert (result.verdict, result.signature) == ("crash", "suspended by the crash server")
    assert "state THuo" in result.reason
    assert (suspended(f"{result.reason}; core: x"), suspended("exit status 2")) == ("THuo", "")
    observation = observation_of(timed_out=True, stderr=b"x.c:1: f: Assertion `y' failed.\n")
    assert judge(replace(observation, suspended="T"), Expectation(), "").signature == "x.c: f: Assertion `y' failed."


@pytest.mark.parametrize("expected", [Expectation(), Expectation(gcc=True), Expectation(tests=True)])
def test_a_hang_that_was_seen_early_is_the_same_hang(expected):
    dump = b"SIGQUIT: quit\n\ngoroutine 1 [semacquire]:\nsync.Mutex.Lock\n\t./m.go:81\nmain.main\n\t./p.go:18\n"
    late = observation_of(2, stderr=dump.replace(b"semacquire", b"semacquire, 1 minutes"), timed_out=True)
    early = replace(
        observation_of(2, stderr=dump, timed_out=True), still="seen after 3.4 s (limit 60 s): 5 threads sleep"
    )
    judgements = [judge(each, expected, "") for each in (late, early)]
    assert len({(each.verdict, each.signature) for each in judgements}) == 1
    reason = judgements[1].reason
    assert reason.startswith("nothing in it can run any more, seen after 3.4 s (limit 60 s): 5 threads sleep")
    assert [still(each.reason) for each in judgements] == ["", early.still], "so that it can be judged again"
    assert judge(replace(early, timed_out=False, exit_status=0), Expectation(), "").verdict == "pass"


def test_a_signal_is_named_by_the_guest():
    assert [signal_name(observation_of(None, 10), names) for names in (LINUX, HURD, {})] == [
        "SIGUSR1",
        "SIGBUS",
        "signal 10",
    ]
    assert judge(observation_of(None, 10), Expectation(), "SIGBUS").signature == "SIGBUS"
