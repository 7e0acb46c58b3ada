"""Titles for crashes and hangs: the same for the same cause, whatever the addresses and numbers of the day.

Pure functions of text. A report is what a dying program writes to stderr: Go's (libgo/go/runtime/panic.go and
signal_unix.go), glibc's, or the dynamic linker's. What a title says, it is sure of: a report that is torn, or mixed
with another one, gets a title that begins with `corrupted: ` and leaves out what cannot be known.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import takewhile

#: The longest title, in characters, and how many of them a place in the program may take.
LENGTH, PLACE = 200, 90
CORRUPTED = "corrupted: "

#: How Go's reports begin: a panic, an error of the runtime, a signal that it does not turn into a panic.
_HEAD = re.compile(r"(?:.*[^\t])??(?P<kind>panic|fatal error|SIG[A-Z]+\d*): .*(?P<end>\n)?")
#: What C libraries and the dynamic linker say at the end (glibc 2.36: assert.c, assert-perr.c, malloc.c,
#: fortify_fail.c, libc_fatal.c, nptl/unwind.c, nptl/pthread_cancel.c, dl-error; the assertions of 2013 look the same;
#: musl, src/exit/assert.c), and libgo before it calls abort (go-assert.c, go-unwind.c). The group is what is kept.
_MESSAGES = tuple(
    re.compile(pattern, re.MULTILINE)
    for pattern in (
        r"(?:^|: |/)(?P<kept>[\w.+-]+\.\w+:\d+: (?:.{,200}?: )?Assertion [`'](?:.|\n(?! )){,500}? failed\.?)$",
        r"(?:^|: |/)(?P<kept>[\w.+-]+\.\w+:\d+: (?:.{,200}?: )?Unexpected error: .+)$",
        r"^(?P<kept>Assertion failed: .+ \([^():]+: [^()]*: \d+\))$",
        r"(?:^|: |/)(?P<kept>[\w.+-]+\.\w+:\d+: libgo assertion failure)$",
        r"^(?P<kept>failed to throw unwind exception.*)$",
        r"(?P<kept>Fatal glibc error: .*)$",
        r"^(?P<kept>FATAL: .+)$",
        r"^(?P<kept>Inconsistency detected by ld\.so: .+)$",
        r"^(?P<kept>terminate called .+)$",
        r"(?P<kept>(?<!\S)[\w.+-]+\.so\.\d+ must be installed for \w+ to work)$",
        r"\*\*\* glibc detected \*\*\* \S+: (?P<kept>.*) \*\*\*$",
        r"\*\*\* Error in `[^']*': (?P<kept>.*) \*\*\*$",
        r"(?P<kept>\*\*\* [^*\n]+ \*\*\*: (?:.{1,200} )?terminated)$",
        r"^(?P<kept>\*\*\* [^*\n]+ \*\*\*)$",
        r"(?P<kept>\b(?:free|\w*alloc|memalign|munmap_chunk|mremap_chunk|malloc_\w+|free_check|tcache_\w+)\(\): .+)$",
        r"(?P<kept>double free or corruption .*|corrupted (?:size vs\. |double-linked list).*)$",
        r"(?P<kept>symbol lookup error: .*)$",
        r"(?P<kept>(?<![\w.+-])[\w.+-]+: version `[^']+' not found)",
        r"(?P<kept>error while loading shared libraries: .*)$",
        r"(?P<kept>The futex facility returned an unexpected error code\..*)$",
        r"(?P<kept>unable to allocate additional stack space: .*)$",
    )
)
#: What malloc, whatever its function, says before it aborts.
_MALLOC = re.compile(r"^\w+\(\): .+$", re.MULTILINE)
#: What the runtime, libgo's or Go's own, says when it gives up without a traceback (mem_gccgo.go, signal_unix.go).
#: The last ones may follow what the program printed on the same line.
_GIVES_UP = re.compile(
    r"runtime: .+|open /dev/zero: errno=.*|.*?(?P<fatal>fatal: (?:bad g in|morestack on|systemstack called) .+)"
)
#: The exit statuses of Go's runtime: after a panic or an error, and when another one comes meanwhile (panic.go).
_EXITS = (2, 4, 5)
#: A shell's exit status is this and a signal's number (POSIX.1-2017, XCU 2.8.2).
_SHELL_SIGNAL = 128
#: What C's message is made to: today's form, the place before the words, and no number of a line.
_FORMS = (
    (re.compile(r"(\.\w+):N\b|(?<=lookup error: )\S+: (?=undefined)"), r"\1"),
    (re.compile(r"^(Assertion failed: .*) \(([^():]+: [^()]*): N\)$"), r"\2: \1"),
    (re.compile(r"(?<=\*\*\*: ).+ (?=terminated$)"), ""),
)
#: What GCC's Go tests say on stderr. On stdout it is output, and wrong.
_BUG = re.compile(r"^BUG: .*$", re.MULTILINE)
#: The beginning of a message of C's.
_TORN = re.compile(r"(?:(?<![\w.+-])[\w.+-]+\.\w+:\d+: |\*\*\* ).*\Z")
#: How a shell tells that a signal ended a program.
_SHELL = {
    "Aborted": "SIGABRT",
    "Bus error": "SIGBUS",
    "Floating point exception": "SIGFPE",
    "Illegal instruction": "SIGILL",
    "Killed": "SIGKILL",
    "Segmentation fault": "SIGSEGV",
    "Terminated": "SIGTERM",
}
_NORMAL = (
    (re.compile(r"0x[0-9a-fA-F]+"), "ADDR"),
    (re.compile(r"\b(?=\d*[a-f])(?=[a-f]*\d)[0-9a-f]{8,16}\b"), "N"),
    # Not the subsystem of an error of Mach's, as in `(ipc/rcv) invalid name`.
    (re.compile(r"(?<![\w.+-])(?!(?<=\()[a-z?]+/[a-z?]+\) )(?:[\w.+-]*/)+([\w.+-]+)"), r"\1"),
    (re.compile(r"(?<![A-Za-z_\d])\d+(?:\.\d+)*(?:e[+-]\d+)?"), "N"),
)
#: Errors that strike whoever comes next, and assertions, which name their place: the stack adds nothing to these.
_ANYWHERE = re.compile(
    r"out of memory|(?:cannot|unable to) allocate|thread exhaustion|^fatal error: pthread_create|concurrent map"
    r"|^(?:malloc|realloc|calloc)\(\)|^corrupted |Assertion (?:[`']|failed: )|^Fatal glibc error|Unexpected error: "
    r"|lookup error|shared libraries",
)
#: Which of these Go prints depends on who is first.
_RACE = re.compile(r"concurrent map (?:writes|read and map write|iteration and map write)")
_DEADLOCK = "all goroutines are asleep - deadlock!"

_BLOCK = re.compile(r"goroutine (?P<number>\d+) \[(?P<state>[^\],]+)[^\]]*\]:|runtime stack:")
#: The stack of a thread of the scheduler.
_SYSTEM = "runtime stack"
_NAME = re.compile(r"[\w./$*()<>@-]*")
_PLACE = re.compile(r"\t(?!panic: ).*:\d+(?: \+0x[0-9a-f]+)?")
#: The outermost functions of goroutines and threads: what C started; where libgo has debugging information, by which it
#: leaves that out, Go's own or a package's initialisation. A stack as deep as this may end before them, for 100 are
#: printed at most (runtime2.go), the runtime's own not among them.
_BOTTOM = re.compile(
    r"makecontext|runtime_mstart|_start|(?:__)?clone|(?:main|runtime)\.main|runtime\.kickoff"
    r"|[\w./]*\.\.(?:init\d+|import)"
)
_DEEPEST = 90
_MAKER = "created by "
_UNAVAILABLE = re.compile(r"\tgoroutine (?:running on other thread|(?P<c>in C code)); stack unavailable")
_NESTED = re.compile(r"^\t+panic: (.*)$", re.MULTILINE)
_SIGNAL = re.compile(r"^\[signal (SIG\w+)", re.MULTILINE)
#: Functions that every report shows: the way into a goroutine, the way out of a crash, the way to sleep. Where Go
#: calls itself in C, and where C's abort calls itself, differs between systems and their versions.
_RUNTIME = re.compile(
    r"runtime[._].*|panic|\w+\.throw|testing\.tRunner.*|testing\.(?:common|T|B|F|M|PB)\.\w+(?:\.\.func\d+)*"
    r"|(?:sync|internal_1poll|time|os_1signal|reflect)\.runtime__.*|makecontext|getcontext"
    r"|raise|abort|\w*_?pthread_kill\w*|__libc_\w+|__fortify_fail\w*|__assert\w*|ffi_call\w*|_start|main|syscall|"
)
#: Of these a report of an error in the runtime itself is made, so they do not name it.
_MACHINERY = re.compile(
    r"runtime\.(?:dopanic__m|throw|fatalthrow|sigpanic|sigtramp\w*|panicmem\w*|kickoff|main|mcall|gopark\w*)"
    r"|runtime_(?:mstart|throw)|(?!runtime[._]).*"
)
#: What a goroutine waits for that is the runtime's own (libgo/go/runtime/runtime2.go, waitReasonStrings), and the
#: function that waits for signals: a program cannot be blamed for these.
_IDLE = re.compile(r"idle|.*\(idle\)|finalizer wait|GC (?:sweep|scavenge) wait|trace reader \(blocked\)")
_SIGNAL_LOOP = "os_1signal.loop"
#: What is called to sleep, and to panic. Where the testing package calls it, a test is waited for, or its time is up.
_SLEEP = re.compile(r"(?:runtime|sync|time)[._].*|panic|")
#: The functions of runtime/debug by which a program writes a stack of its own.
_LOGGED = re.compile(r"(?:runtime_1debug|runtime/debug)\.(?:Print)?Stack\b")
#: The number of the goroutine that runs main.
_MAIN = 1
#: What waits least of itself comes last, what does not wait at all comes first, where as many do one as the other.
_WAITS, _SLEEPS = 2, 3
_RANK = {"running": 0, "in C code": 1, "sleep": _SLEEPS}
#: Between these a goroutine that goes on changes all the time.
_GOES_ON = ("running", "runnable", "syscall")


@dataclass(frozen=True)
class _Goroutine:
    """One stack of a report: `frames` are the functions, innermost first; `maker` is who started it, or ''.

    `number` is the goroutine's, 0 for a thread of the scheduler; `whole` is False if a line is missing or another one
    came between.
    """

    number: int
    state: str
    frames: tuple[str, ...]
    maker: str
    whole: bool

    @property
    def is_main(self) -> bool:
        """Whether it runs main.main."""
        return self.number == _MAIN or ("main.main" in self.frames and not self.maker)

    def place(self) -> str:
        """Where in the program it is: the function of package main and what that called, else what there is."""
        frames = [name for name in self.frames if not _RUNTIME.fullmatch(name)]
        frames = [name for name, before in zip(frames, ["", *frames], strict=False) if name != before]
        mains = [index for index, name in enumerate(frames) if name.startswith("main.")]
        start = max(0, mains[0] - 1) if mains else 0
        return " < ".join(frames[start : start + 2])

    def crash(self) -> str:
        """Where a program crashed, if this is the goroutine of a report that comes first; in the runtime, if there."""
        if self.state not in ("running", _SYSTEM):
            return ""  # a signal came from outside, and found the program waiting
        place = self.place() or next((name for name in self.frames if not _MACHINERY.fullmatch(name)), "")
        return place and f"in {place}"

    def task(self) -> str:
        """What it does, in words; '' for what the runtime and the libraries do for themselves."""
        if _IDLE.fullmatch(self.state) or _SIGNAL_LOOP in self.frames:
            return ""
        if next((name for name in self.frames if not _SLEEP.fullmatch(name)), "").startswith("testing."):
            return ""
        if place := self.place():
            return f"{self.state} in {place}"
        own = self.maker and not _RUNTIME.fullmatch(self.maker)
        return f"{self.state} in a goroutine of {self.maker}" if own else ""


class Basis(StrEnum):
    """What a title was made of."""

    REPORT = "Go's report"
    MESSAGE = "a message of the runtime or the C library"
    LAST_WORDS = "the line before Go's report of SIGABRT"
    DUMP = "a dump of goroutines"
    END = "how the program ended"


@dataclass(frozen=True)
class Title:
    """A title in its parts.

    Attributes:
        said: what is said.
        place: where in the program that is, or ''.
        corrupted: what it was made of is torn, or mixed with something else.
        frames: the functions that the place was found among, innermost first.
        basis: what it was made of.
    """

    said: str
    place: str = ""
    corrupted: bool = False
    frames: tuple[str, ...] = ()
    basis: Basis = Basis.REPORT

    def __str__(self) -> str:
        """One line of at most LENGTH characters; where it is too long, what is said gives way before the place."""
        mark = CORRUPTED if self.corrupted else ""
        place = _cut(f" {self.place}", PLACE) if self.place and not _ANYWHERE.search(self.said) else ""
        return mark + _cut(self.said, LENGTH - len(mark) - len(place)) + place


def normal(text: str) -> str:
    """A line with addresses, folders, goroutine ids and numbers replaced."""
    for pattern, by in _NORMAL:
        text = pattern.sub(by, text)
    return " ".join(text.split())


def of_crash(stderr: str, signal: str, stdout: str = "", exit_status: int | None = None) -> str:
    """The title of a crash as text, or '' if nothing speaks of one; see `crash_title`."""
    return str(crash_title(stderr, signal, stdout, exit_status) or "")


def of_hang(stderr: str, signal: str = "") -> str:
    """The title of a hang as text; see `hang_title`."""
    return str(hang_title(stderr, signal))


def crash_title(stderr: str, signal: str, stdout: str = "", exit_status: int | None = None) -> Title | None:
    """The title of a crash, or None if nothing speaks of one.

    Args:
        stderr, stdout: what the program wrote; messages of C are looked for in both.
        signal: the name of the signal that ended it, or '' if none did.
        exit_status: None if it is not known, or a signal ended it. A program that exits with a status that neither Go's
            runtime nor a shell has for a crash has only written what looks like one, such as a stack that it logged.
    """
    stderr = _without_logged_stacks(stderr)
    died = exit_status is None or exit_status in _EXITS or exit_status > _SHELL_SIGNAL
    report = _report(stderr, ended=signal in ("", "SIGABRT")) if died else None
    aborted = signal == "SIGABRT" or (report is not None and report.said.startswith("SIGABRT"))
    message = _message(stderr, aborted) or _message(stdout, aborted)
    if report and report.said.startswith("SIG"):
        if aborted and not message:
            message = _last_words(stderr)
        if message and _ANYWHERE.search(message.said):
            return message
        if message:  # Go reports the SIGABRT that follows a message of C, and adds only the place
            return replace(
                report, said=message.said, corrupted=report.corrupted or message.corrupted, basis=message.basis
            )
    if title := report or message:
        return title
    if bug := _BUG.search(stderr):
        return Title(normal(bug[0]), basis=Basis.MESSAGE)
    if signal and _TORN.search(stderr):
        return Title(signal, corrupted=True, basis=Basis.END)
    *_, last = ["", *stderr.rstrip().splitlines()]
    if died and not signal and (match := _GIVES_UP.fullmatch(last)):
        return Title(normal(match["fatal"] or last), basis=Basis.MESSAGE)
    end = signal or _SHELL.get(last.removesuffix(" (core dumped)"), "")
    return Title(end, basis=Basis.END) if end else None


def hang_title(stderr: str, signal: str = "") -> Title:
    """The title of a hang, from the dump of goroutines that SIGQUIT made: what most of them do.

    A program that crashed and did not end, as one whose crash is kept for a debugger, is named by its crash.

    Args:
        signal: the name of the signal that ended the program, or '' if it exited after its dump. With
            GOTRACEBACK=crash it ends by SIGABRT.
    """
    before, quit_, after = stderr.partition("SIGQUIT: quit\n")
    if crash := crash_title(before, ""):
        torn = not quit_ and str(crash).startswith("SIGQUIT")  # something was printed into the dump's first line
        return replace(crash, said=f"hang after {crash}", place="", corrupted=torn)
    dump = after if quit_ else stderr
    goroutines = list(_goroutines(dump))
    if not goroutines:
        return Title("hang: no goroutine dump", corrupted=_headless(dump), basis=Basis.END)
    whole = signal in ("", "SIGABRT") and not _headless(dump) and all(goroutine.whole for goroutine in goroutines)
    place, frames = _most(goroutines)
    return Title("hang:", place or "in the runtime", not whole, frames, Basis.DUMP)


def has_goroutines(text: str) -> bool:
    """Whether a text has a stack of a goroutine that is no program's own log."""
    return any(_goroutines(_without_logged_stacks(text)))


def _without_logged_stacks(text: str) -> str:
    """A text without the stacks that a program has logged: those of runtime/debug's functions, which end nothing."""
    lines = text.splitlines(keepends=True)
    kept: list[str] = []
    number = 0
    while number < len(lines):
        if _BLOCK.fullmatch(lines[number].rstrip()) and _LOGGED.match("".join(lines[number + 1 : number + 2])):
            number += 1
            while number + 1 < len(lines) and _PLACE.fullmatch(lines[number + 1].rstrip("\n")):
                number += 2
            continue
        kept.append(lines[number])
        number += 1
    return "".join(kept)


def _report(stderr: str, ended: bool) -> Title | None:
    """What Go's report of a crash says, or None if there is none.

    Args:
        ended: Go ended the program itself, so that a report without stacks is one with GOTRACEBACK=none.
    """
    lines = _without_early_stacks(stderr.splitlines(keepends=True))
    stacks = next((number for number, line in enumerate(lines) if _BLOCK.fullmatch(line.rstrip())), len(lines))
    matches = [match for line in lines[:stacks] if (match := _HEAD.match(line))]
    heads = [match for match in matches if not match.start("kind")]
    if not heads and stacks < len(lines):
        heads = matches  # something else had begun the line: `doing this... panic: no`
    if not heads:
        return None
    head, text = heads[0], "".join(lines[:stacks])
    if not head["end"]:
        return Title(head["kind"], corrupted=True)
    title, corrupted = _said(head, text), head.start("kind") > 0
    if len({_first_line(each) for each in heads}) > 1:
        return Title(title, corrupted=True)  # two goroutines crashed at once, and whose stack it is cannot be known
    if _headless(text):
        return Title(title, corrupted=True)
    goroutines = list(_goroutines("".join(lines[stacks:])))
    if not goroutines:
        return Title(title, corrupted=corrupted or not ended)
    if _ANYWHERE.search(title):
        return Title(title, corrupted=corrupted)
    if _DEADLOCK in title:
        whole = ended and all(goroutine.whole for goroutine in goroutines)
        place, frames = _most(goroutines)
        return Title(title, place, corrupted or not whole, frames)
    first = goroutines[0]
    return Title(title, first.crash() if first.whole else "", corrupted or not first.whole, first.frames)


def _without_early_stacks(lines: list[str]) -> list[str]:
    """The lines from the first report's head on, if stacks stand before it: the program logged them, and died later."""
    heads = ((number, _HEAD.match(line)) for number, line in enumerate(lines))
    head = next((number for number, match in heads if match and not match.start("kind")), 0)
    blocks = [number for number in range(head) if _BLOCK.fullmatch(lines[number].rstrip())]
    for number in blocks:
        if any(_HEAD.match(line) for line in lines[:number]):
            return lines  # the report may have begun in the middle of a line
    return lines[head:] if blocks else lines


def _first_line(head: re.Match[str]) -> str:
    """How a report begins, in normal words."""
    text = normal(head[0][head.start("kind") :].rstrip().removesuffix(" [recovered]"))
    return _RACE.sub("concurrent map access", text)


def _said(head: re.Match[str], text: str) -> str:
    """What a report says: the first panic, the last one, and the signal that is the cause."""
    line, nested, signal = _first_line(head), _NESTED.findall(text), _SIGNAL.search(text)
    last = normal(nested[-1].removesuffix(" [recovered]")) if nested else ""
    if last and not line.endswith(f": {last}"):
        line += f"; then panic: {last}"
    return line + (f" [{signal[1]}]" if signal else "")


def _message(text: str, aborted: bool) -> Title | None:
    """What a message of C's libraries says. The program's own name and the number of the line are left out.

    Args:
        aborted: the program ended by SIGABRT, so that what looks like a message of malloc's is one.
    """
    for pattern in _MESSAGES:
        if match := pattern.search(text):
            message = normal(match["kept"])
            for form, by in _FORMS:
                message = form.sub(by, message)
            return Title(message, corrupted=match.end() == len(text), basis=Basis.MESSAGE)
    if aborted and (match := _MALLOC.search(text)):
        return Title(normal(match[0]), corrupted=match.end() == len(text), basis=Basis.MESSAGE)
    return None


def _last_words(stderr: str) -> Title | None:
    """The line before Go's report of a signal, which is what whoever called abort has said."""
    before = stderr[: match.start("kind")] if (match := re.search(rf"^{_HEAD.pattern}", stderr, re.MULTILINE)) else ""
    lines = [line for line in before.splitlines() if line.strip()]
    return Title(normal(lines[-1]), basis=Basis.LAST_WORDS) if lines and before.endswith("\n") else None


def _headless(text: str) -> bool:
    """Whether there is a stack whose first line is missing."""
    lines = text.splitlines()
    before = takewhile(lambda line: not _BLOCK.fullmatch(line), lines)
    return any(map(_PLACE.match, before))


def _goroutines(text: str) -> Iterator[_Goroutine]:
    """The stacks of a report."""
    lines = text.splitlines(keepends=True)
    starts = [(number, match) for number, line in enumerate(lines) if (match := _BLOCK.fullmatch(line.rstrip()))]
    ends = [number for number, _ in starts[1:]] + [len(lines)]
    for (start, match), end in zip(starts, ends, strict=False):
        state = match["state"] or _SYSTEM
        number = int(match["number"] or 0)
        yield _goroutine(number, "running" if state in _GOES_ON else state, lines[start + 1 : end])


def _goroutine(number: int, state: str, lines: list[str]) -> _Goroutine:
    """Read pairs of lines, a function's name and its place; a line of anything else between pairs is passed over."""
    frames: list[str] = []
    maker, pending, seen = "", None, False
    whole = not lines or lines[-1].endswith("\n")
    for place, raw in enumerate(lines):
        line = raw.rstrip("\n")
        if unavailable := _UNAVAILABLE.fullmatch(line):
            seen, state = True, unavailable["c"] or state
        elif _PLACE.fullmatch(line):
            whole = whole and pending is not None
            if pending is not None and pending.startswith(_MAKER):
                maker = pending.removeprefix(_MAKER)
            elif pending is not None:
                frames.append(pending)
            seen, pending = True, None
        elif pending == "":  # an empty line, which is a function without a name if its place follows, else the end
            whole = whole and not any(map(_PLACE.match, lines[place:]))
            break
        else:
            whole = whole and pending is None
            pending = line if line.startswith(_MAKER) or _NAME.fullmatch(line) else None
    ended = pending == ""
    seen = seen or (ended and state not in _GOES_ON)  # one that waits in the runtime alone shows nothing of it
    if frames and not maker and not ended:
        whole = whole and (bool(_BOTTOM.fullmatch(frames[-1])) or len(frames) >= _DEEPEST)
    return _Goroutine(number, state, tuple(frames), maker, whole and seen and not pending)


def _most(goroutines: list[_Goroutine]) -> tuple[str, tuple[str, ...]]:
    """What most goroutines do; where as many do another thing, what does not wait, else what main does, else what waits
    least of itself. With the functions of one that does it."""
    tasks: dict[str, list[_Goroutine]] = {}
    for goroutine in goroutines:
        if task := goroutine.task():
            tasks.setdefault(task, []).append(goroutine)

    def order(task: str) -> tuple[int, bool, bool, int, str]:
        group = tasks[task]
        rank = min(_RANK.get(goroutine.state, _WAITS) if goroutine.place() else _SLEEPS for goroutine in group)
        return -len(group), rank >= _WAITS, not any(goroutine.is_main for goroutine in group), rank, task

    task = min(tasks, key=order, default="")
    return task, tasks[task][0].frames if task else ()


def _cut(text: str, room: int = LENGTH) -> str:
    return text if len(text) <= room else f"{text[: room - 1].rstrip()}…"
