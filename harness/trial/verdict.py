"""What an observation means: a pure function of it and of what is expected, so that old runs can be judged again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from harness.escapes import decoded, one_line
from harness.programs.model import Expectation
from harness.trial import gotests
from harness.trial.observe import Observation
from harness.trial.record import Verdict
from harness.trial.signature import of_crash, of_hang

_LATE = "it did not end within its time limit"
_STILL = "nothing in it can run any more"
_SUSPENDED = "it crashed, and the crash server suspended it"


@dataclass(frozen=True)
class Judgement:
    """`verdict` is pass, fail, crash or hang; `reason` says why in words; `signature` names a crash or hang, or the Go
    tests that failed."""

    verdict: Verdict
    reason: str
    signature: str = ""


def signal_name(seen: Observation, signals: Mapping[int, str]) -> str:
    """The guest's name of the signal that ended a program, or '' if none did."""
    return "" if seen.signal is None else signals.get(seen.signal, f"signal {seen.signal}")


def judge(seen: Observation, expected: Expectation, signal: str) -> Judgement:
    """Judge an observation.

    Args:
        seen: the observation.
        expected: what the program says of itself.
        signal: the guest's name of the signal that ended the program, or ''.
    """
    verdict = _judge(seen, expected, signal)
    if expected.tests:
        return _with_tests(verdict, seen)
    if expected.gcc and (passes := _gcc_says(seen)) != (verdict.verdict == "pass"):
        return replace(verdict, reason=f"{verdict.reason}; GCC would call this {'PASS' if passes else 'FAIL'}")
    return verdict


def _judge(seen: Observation, expected: Expectation, signal: str) -> Judgement:
    stderr = decoded(seen.stderr)
    if seen.suspended:
        reason = f"{_SUSPENDED} (state {seen.suspended})"
        return Judgement(Verdict.CRASH, reason, of_crash(stderr, "suspended by the crash server"))
    if seen.timed_out:
        reason = f"{_STILL}, {seen.still}" if seen.still else _LATE
        return Judgement(Verdict.HANG, reason, of_hang(stderr, signal))
    wrong = _difference(seen, expected, signal)
    if not wrong:
        return Judgement(Verdict.PASS, "as expected")
    if title := of_crash(stderr, signal, decoded(seen.stdout), seen.exit_status):
        return Judgement(Verdict.CRASH, wrong, title)
    return Judgement(Verdict.FAIL, wrong)


def suspended(reason: str) -> str:
    """The state of a suspended program, from the reason of an earlier verdict; '' if it was not suspended."""
    match = re.match(rf"{_SUSPENDED} \(state (.*?)\)", reason)
    return match[1] if match else ""


def still(reason: str) -> str:
    """How a hang was seen before its limit, from the reason of an earlier verdict; '' if its limit was waited for."""
    match = re.match(rf"{_STILL}, (seen after [^;]*)", reason)
    return match[1] if match else ""


def _gcc_says(seen: Observation) -> bool:
    """Whether GCC's go-torture-execute would say PASS."""
    return seen.exit_status == 0 and not seen.timed_out and b"BUG" not in seen.stdout + seen.stderr


def _with_tests(verdict: Judgement, seen: Observation) -> Judgement:
    """A verdict on a binary of Go tests, with their names."""
    tests = gotests.parse(decoded(seen.stdout))
    reason = f"{verdict.reason}; {tests}"
    if seen.exit_status == 1 and tests.failed:  # what a test printed on stderr is no crash then
        return Judgement(Verdict.FAIL, reason, f"FAIL: {', '.join(tests.failed)}"[:200])
    if gotests.TIMED_OUT in decoded(seen.stderr):  # their own limit, which comes before ours
        return Judgement(Verdict.HANG, f"{_LATE}; {tests}", f"hang: tests {', '.join(tests.unfinished)}")
    return replace(verdict, reason=reason)


def _difference(seen: Observation, expected: Expectation, signal: str) -> str:
    """How what was seen differs from what is expected, or ''."""
    if expected.signal:
        if signal != expected.signal:
            return f"{_end(seen, signal)}, expected {expected.signal}"
    elif signal or seen.exit_status != expected.exit_status:
        return f"{_end(seen, signal)}, expected exit status {expected.exit_status}"
    if expected.stdout is not None and seen.stdout != expected.stdout:
        return _first_difference(seen.stdout, expected.stdout)
    if expected.output is not None and not _mixed(seen.stdout, seen.stderr, expected.output):
        return _first_difference(seen.stdout + seen.stderr, expected.output)
    for name, pattern, data in (
        ("stdout", expected.stdout_pattern, seen.stdout),
        ("stderr", expected.stderr_pattern, seen.stderr),
        ("stdout or stderr", expected.output_pattern, seen.stdout + seen.stderr),
    ):
        if pattern and not re.search(pattern, decoded(data), re.MULTILINE):
            return f"nothing on {name} matches {pattern!r}"
    return ""


def _mixed(stdout: bytes, stderr: bytes, whole: bytes) -> bool:
    """Whether a text is what two streams said together, their lines mixed in any way."""
    out, err = stdout.splitlines(keepends=True), stderr.splitlines(keepends=True)
    taken = {0}  # how many lines may have come from stdout so far
    for number, line in enumerate(whole.splitlines(keepends=True)):
        taken = {at + 1 for at in taken if out[at : at + 1] == [line]} | {
            at for at in taken if err[number - at : number - at + 1] == [line]
        }
    return len(out) in taken and len(stdout) + len(stderr) == len(whole)


def _end(seen: Observation, signal: str) -> str:
    return f"ended by {signal}" if signal else f"exit status {seen.exit_status}"


def _first_difference(seen: bytes, expected: bytes) -> str:
    lines, wanted = decoded(seen).splitlines(), decoded(expected).splitlines()
    for number, (line, other) in enumerate(zip(lines, wanted, strict=False), start=1):
        if line != other:
            return f"line {number} of stdout is {_quoted(line)}, expected {_quoted(other)}"
    if len(lines) != len(wanted):
        return f"stdout has {len(lines)} line{'' if len(lines) == 1 else 's'}, expected {len(wanted)}"
    return "stdout differs in white space at line ends"


def _quoted(line: str) -> str:
    return f"'{one_line(line[:100])}'"
