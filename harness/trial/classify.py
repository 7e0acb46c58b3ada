"""Pasted text, taken apart into deaths: stderr, dumps of goroutines, consoles, logs of test runs and builds.

A death is named by the very functions that name a run's trials, so that its title can be looked up among them. Pure
functions of text.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from harness.escapes import decoded
from harness.guest.console import CRASHES, FATAL_AT_BOOT, Event, Kind, Parser
from harness.programs.model import Expectation
from harness.trial import gotests
from harness.trial.observe import Observation
from harness.trial.record import Verdict
from harness.trial.signature import Basis, Title, crash_title, hang_title, has_goroutines
from harness.trial.verdict import judge

#: The verdict on a guest whose kernel or root file system died: no program is to blame alone.
GUEST = "guest"


class Confidence(StrEnum):
    """How much a title says."""

    SURE = "sure"
    LIKELY = "likely"
    WEAK = "weak"


#: What a title is worth by what it was made of.
_WORTH = {
    Basis.REPORT: Confidence.SURE,
    Basis.MESSAGE: Confidence.SURE,
    Basis.DUMP: Confidence.SURE,
    Basis.LAST_WORDS: Confidence.LIKELY,
    Basis.END: Confidence.WEAK,
}


@dataclass(frozen=True)
class End:
    """What is known of how a program ended.

    Attributes:
        exit_status: None if it is not known, or a signal ended it.
        signal: the signal's name, or ''.
        hung: it was stopped at a time limit.
    """

    exit_status: int | None = None
    signal: str = ""
    hung: bool = False

    @property
    def known(self) -> bool:
        """Whether anything is."""
        return self.exit_status is not None or bool(self.signal) or self.hung


@dataclass(frozen=True)
class Death:
    """One death in a text.

    Attributes:
        verdict: crash or hang; GUEST for a kernel or a root file system that died; of a text that speaks of no death
            and whose end is known, pass or fail.
        title: as a trial's signature, or what the console says.
        first, last: the numbers of its lines.
        name: the test that died, where the log says so, or ''.
        frames: the functions that the title was made of, innermost first.
        confidence: how much the title says.
        why: why it says no more or no less, in words.
    """

    verdict: str
    title: str
    first: int
    last: int
    name: str
    frames: tuple[str, ...]
    confidence: Confidence
    why: str


#: A line that ends what came before it, and names it: DejaGnu's results, go test's, make's.
_RESULT = re.compile(
    r"(?:X?(?:PASS|FAIL)|K(?:PASS|FAIL)|UNRESOLVED|UNSUPPORTED|UNTESTED): (?P<name>\S.*)"
    r"|(?:FAIL|ok  )\t(?P<package>\S+).*|make(?:\[\d+\])?: \*\*\* .*"
)
#: What the go command says of how a program ended.
_STATUS = re.compile(r"exit status (\d+)")
#: A line that begins a program or a test.
_BEGINS = re.compile(
    r"spawn |Executing on |Setting LD_LIBRARY_PATH to |Running .* \.\.\.$|=== (?:RUN|CONT|PAUSE) "
    r"|make(?:\[\d+\])?: (?:Enter|Leav)ing "
)
_HEAD = re.compile(r"(?:panic|fatal error|SIG[A-Z0-9]+): ")
_FRAME = re.compile(r"\s+\S.*:\d+(?: \+0x[0-9a-f]+)?$")
_TIMED_OUT = re.compile(rf"^(?:WARNING: program timed out|{gotests.TIMED_OUT}|SIGQUIT: quit$)", re.MULTILINE)
#: What stands before each line of a log: CI systems' times, the journal's time, machine and program.
_PREFIXES = (
    re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.\d]*(?:Z|[+-]\d\d:?\d\d) ?"),
    re.compile(r"^[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+ [\w./-]+(?:\[\d+\])?: "),
    re.compile(r"^> ?"),
)
_ESCAPE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
#: A line of a report whose tab has become blanks on its way: a place in a stack, which may have a blank in it (libgo's
#: `./ libcalls.go`), what stands in place of a stack, and a further panic.
_BLANKS = re.compile(
    r"^ {2,}(?=(?:\S*|\./ \S+):\d+(?: \+0x[0-9a-f]+)?$|goroutine .*; stack unavailable$|panic: )", re.MULTILINE
)
#: The share of lines that have a prefix from which on it is one.
_MOST = 0.8


def deaths(text: str, end: End = End()) -> list[Death]:
    """The deaths in a text, in their order.

    Args:
        end: what is known of how the program ended; it holds for each death.
    """
    lines = _clean(text)
    kernels = list(_of_kernels(lines))
    for death in kernels:  # what a kernel says when it dies is no program's
        lines[death.first - 1 : death.last] = [""] * (death.last - death.first + 1)
    programs = list(_of_programs(lines, end))
    if not kernels and not programs and end.known:
        programs = [_classify(_Piece(0, len(lines)), lines, end)]
    return sorted([*kernels, *programs], key=lambda death: death.first)


def _clean(text: str) -> list[str]:
    """The lines without what stands before each of them, and without a terminal's colours."""
    text = _ESCAPE.sub("", text.replace("\r\n", "\n"))
    lines = textwrap.dedent(text).split("\n")
    for prefix in _PREFIXES:
        filled = [line for line in lines if line.strip()]
        if filled and sum(bool(prefix.match(line)) for line in filled) >= _MOST * len(filled):
            lines = [prefix.sub("", line) for line in lines]
    return _BLANKS.sub("\t", "\n".join(lines)).removesuffix("\n").split("\n")


def _of_kernels(lines: list[str]) -> Iterator[Death]:
    """A death for each boot of a kernel on a console: its first cause."""
    parser, events = Parser(), list[tuple[int, Event]]()
    for number, line in enumerate(lines, start=1):
        events += [(number, event) for event in parser.feed(f"{line}\n".encode())]
    # An assertion of a C program may look as the kernel's does; where nothing else is of a kernel, it is the program's.
    others = [event for _, event in events if not (event.kind is Kind.PANIC and event.text.startswith("Assertion"))]
    dead = False
    for place, (number, event) in enumerate(events):
        if event.kind in (Kind.KERNEL, Kind.REBOOT):
            dead = False
        if event.kind not in FATAL_AT_BOOT - {Kind.HALTED, Kind.REBOOT} or dead or not others:
            continue
        dead = True
        first = next(
            at for at in range(number, 0, -1) if event.text in lines[at - 1]
        )  # an old panic is known by its end
        last = max(at for at, later in events[place:] if later.kind in CRASHES | {event.kind})
        yield Death(GUEST, str(event), first, last, "", (), Confidence.SURE, "the console says so")


def _of_programs(lines: list[str], end: End) -> Iterator[Death]:
    for piece in _pieces(lines):
        text = piece.text(lines)
        if crash_title(text, "") or has_goroutines(text) or _TIMED_OUT.search(text):
            death = _classify(piece, lines, end)
            if death.verdict in (Verdict.CRASH, Verdict.HANG):
                yield death


@dataclass(frozen=True)
class _Piece:
    """A part of a log in which at most one program died: its lines, the test's name, and how it ended."""

    first: int
    last: int
    name: str = ""
    exit_status: int | None = None

    def text(self, lines: list[str]) -> str:
        """Its text, without what others say of how it ended."""
        return "".join(f"{line}\n" for line in lines[self.first : self.last] if not _STATUS.fullmatch(line))


def _pieces(lines: list[str]) -> Iterator[_Piece]:
    """Cut a log where one program ends and another one begins."""
    first, has_head, has_stack, status = 0, False, False, None
    for number, line in enumerate(lines):
        if result := _RESULT.fullmatch(line):
            yield _Piece(first, number, (result["name"] or result["package"] or "").strip(), status)
            first, has_head, has_stack, status = number + 1, False, False, None
            continue
        if match := _STATUS.fullmatch(line):
            status = int(match[1])
        if _BEGINS.match(line):
            yield _Piece(first, number, "", status)
            first, has_head, has_stack, status = number + 1, False, False, None
            continue
        head = _HEAD.match(line) is not None and not line.startswith("SIGQUIT: ")  # a dump may follow a crash
        if head and has_stack:
            before = _message_before(lines, first, number)
            yield _Piece(first, before, "", status)
            first, has_head, has_stack, status = before, False, False, None
        has_head |= head
        has_stack |= has_head and _FRAME.match(line) is not None
    yield _Piece(first, len(lines), "", status)


def _message_before(lines: list[str], first: int, head: int) -> int:
    """Where what belongs to a report begins that stands before its head: C's words, which end what came before."""
    number = head
    while number > first + 1 and lines[number - 1].strip() and not _FRAME.match(lines[number - 1]):
        number -= 1
    return number


def _classify(piece: _Piece, lines: list[str], end: End) -> Death:
    """What the rules of a run make of a piece."""
    text = piece.text(lines)
    if gotests.TIMED_OUT in text:  # go test's own limit, and then a dump
        text = text.partition(gotests.TIMED_OUT)[2].partition("\n")[2]
        end = replace(end, hung=True)
    status = piece.exit_status if end.exit_status is None and not end.signal else end.exit_status
    hung = end.hung or _TIMED_OUT.search(text) is not None
    asked = status in (None, 2) and end.signal in ("", "SIGQUIT", "SIGABRT")
    if not hung and asked and crash_title(text, "") is None and has_goroutines(text):
        hung = True  # a dump that somebody asked for
    observation = Observation(
        status, None, 0.0, b"", text.encode(errors="backslashreplace"), 0, len(text), timed_out=hung
    )
    judgement = judge(observation, Expectation(), end.signal)
    first, last = _bounds(piece, lines)
    if judgement.verdict not in (Verdict.CRASH, Verdict.HANG):
        return Death(judgement.verdict, "", first, last, piece.name, (), Confidence.WEAK, judgement.reason)
    stderr = decoded(observation.stderr)
    title = hang_title(stderr, end.signal) if hung else crash_title(stderr, end.signal, "", status)
    assert title is not None and str(title) == judgement.signature
    return Death(
        judgement.verdict, judgement.signature, first, last, piece.name, title.frames, _confidence(title), _why(title)
    )


def _bounds(piece: _Piece, lines: list[str]) -> tuple[int, int]:
    """The numbers of a piece's first and last line that are not empty."""
    filled = [number for number in range(piece.first, piece.last) if lines[number].strip()]
    return (filled[0] + 1, filled[-1] + 1) if filled else (piece.first + 1, piece.first + 1)


def _confidence(title: Title) -> Confidence:
    worth = _WORTH[title.basis]
    return Confidence.LIKELY if title.corrupted and worth is Confidence.SURE else worth


def _why(title: Title) -> str:
    by = f"by {title.basis}"
    return f"{by}, which is torn or mixed with something else" if title.corrupted else by
