"""The serial console: bytes into events, for GNU Mach with the Hurd and for Linux alike.

The bytes come torn anywhere, with escape codes and noise among them; however they are torn, the events are the same.
Knows nothing of machines, and nothing of what follows from an event.
"""

from __future__ import annotations

import codecs
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from harness import clock
from harness.escapes import decoded

#: Seconds between two looks at the log of a console that is followed.
_TICK = 0.1


class Kind(StrEnum):
    """What a line can say."""

    KERNEL = "kernel up"
    REBOOT = "reboot"
    MODULE = "module loaded"
    SERVER = "server started"
    SSHD = "sshd up"
    LOGIN = "login prompt"
    PANIC = "panic"
    OOPS = "oops"
    DEBUGGER = "kernel debugger"
    FSCK = "fsck trouble"
    ROOT = "no root file system"
    HALTED = "halted"


#: The kernel is dead, or nothing that it does counts any more.
CRASHES = frozenset({Kind.PANIC, Kind.OOPS, Kind.DEBUGGER})
#: The guest runs no more programs.
FATAL = CRASHES | {Kind.HALTED, Kind.REBOOT}
#: What ends a boot as well: the guest waits for somebody to repair its disk, or has none that it can read.
FATAL_AT_BOOT = FATAL | {Kind.FSCK, Kind.ROOT}


@dataclass(frozen=True)
class Event:
    """Something that the console said.

    Attributes:
        kind: what it is.
        text: the module, the server, the prompt, a panic's message, or else the line.
        file, line, function: where in the kernel's source a panic was called, as far as it says so.
    """

    kind: Kind
    text: str
    file: str = ""
    line: int = 0
    function: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.file else ""
        place = f" in {self.function} ({where})" if self.function else f" at {where}" if where else ""
        return f"{self.kind}{place}: {self.text}"


#: Terminal control: CSI sequences, operating system commands with their end, and the short ones (ECMA-48, 5.3-5.6).
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-Z\\^-~])")
#: The beginning of one, at the end of what has come so far.
_BEGUN = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|\][^\x07\x1b]*\x1b?|[ -/]*)$")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x80-\x9f]")
#: A line that is longer is taken for several: noise need not have line ends.
_LONGEST = 4096
#: Characters of the latest text that are kept.
_KEPT = 65536

# Lines that are known once they have ended. The Linux kernel may put a level, a time and a task or processor before.
_TIME = r"(?:<\d>)?(?:\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? ?)?"
_LINES: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    # `GNU Mach 1.8` alone is no sign: /etc/issue has it too. The memory map is printed by the kernel only
    # (gnumach, i386/i386at/biosmem.c).
    (Kind.KERNEL, re.compile(r"^biosmem: physical memory map:")),
    (Kind.KERNEL, re.compile(rf"^{_TIME}(?P<text>Linux version \S+)")),
    # gnumach, kern/bootstrap.c.
    (Kind.MODULE, re.compile(r"^task loaded: (?P<text>\S+)")),
    # Dropbear on the console; sysvinit, and systemd, starting OpenSSH.
    (Kind.SSHD, re.compile(r"\[\d+\] .*(?P<text>Child connection from)|Secure Shell server\b.*sshd")),
    (Kind.SSHD, re.compile(r"Started .*OpenBSD Secure Shell server|Server listening on \S+ port")),
    # gnumach, kern/debug.c: Assert goes on without a line end, to Debugger, which may be no more than another panic.
    (
        Kind.PANIC,
        re.compile(
            r"^(?:\{cpu\d+\} )?(?P<file>[^\s:]+\.[ch]):(?P<line>\d+): (?P<function>\w+): "
            r"(?P<text>Assertion `.*' failed\.)"
        ),
    ),
    # gnumach, kern/debug.c: Panic.
    (
        Kind.PANIC,
        re.compile(
            r"(?:^|\W)panic (?:\{cpu\d+\} ?)?(?P<file>[^\s:]+):(?P<line>\d+): (?P<function>\w+): (?P<text>.*\S)"
        ),
    ),
    # The same before 2013; see also _OLD_PANIC.
    (Kind.PANIC, re.compile(r"^(?P<text>Assertion `.*' failed) in file \"(?P<file>[^\"]+)\", line (?P<line>\d+)")),
    # Linux, kernel/panic.c, arch/x86/kernel/doublefault_32.c.
    (Kind.PANIC, re.compile(r"Kernel panic - not syncing: (?P<text>.*\S)")),
    (Kind.PANIC, re.compile(rf"^{_TIME}(?:traps: )?PANIC: (?P<text>.*\S)")),
    # gnumach, i386/i386/trap.c, without its debugger and with it (i386/i386/db_interface.c). The panic that follows is
    # the same for every trap.
    (Kind.OOPS, re.compile(r"^(?P<text>Kernel [A-Z][\w /-]* trap), eip ")),
    (Kind.OOPS, re.compile(r"^(?P<text>kernel: [A-Z][\w /-]* trap \(\d+\), code=\w+)")),
    # Linux, lib/bug.c, arch/x86/mm/fault.c, arch/x86/kernel/dumpstack.c, whose __die_header has all the others in one
    # form. A soft lockup is also a `BUG:`, but only says that the host is slow.
    (Kind.OOPS, re.compile(rf"^{_TIME}kernel BUG at (?P<file>[^\s:]+):(?P<line>\d+)!")),
    (Kind.OOPS, re.compile(rf"^{_TIME}(?P<text>(?:BUG: (?:unable to handle|kernel )|Oops: |general protection ).*\S)")),
    (
        Kind.OOPS,
        re.compile(
            rf"^{_TIME}(?!Oops: |general protection )(?P<text>[A-Za-z][^\[\]:]*(?:: [^\[\]:]*)?: [0-9a-f]+ \[#\d+\].*)"
        ),
    ),
    # gnumach, ddb/db_trap.c.
    (Kind.DEBUGGER, re.compile(r"^(?P<text>Stopped\s+at\s.*\S)")),
    # Debian's Hurd: /libexec/rc; e2fsck(8).
    (Kind.FSCK, re.compile(r"Automatic boot failed|UNEXPECTED INCONSISTENCY|RUN fsck MANUALLY", re.IGNORECASE)),
    # The Hurd's libdiskfs, when the server of the root file system, which the kernel starts, cannot go on; then nothing
    # does. A warning, as that of a file system that was not unmounted, is none.
    (Kind.ROOT, re.compile(r"^start \S+: (?P<text>[\w.-]+: (?:(?:\w+:)+\S+|\S+\.c:\d+: \w+): (?!warning: ).*\S)")),
    (
        Kind.ROOT,
        re.compile(
            r"^(?P<text>[\w.-]+fs(?:\.static)?: (?:\w+:)+\S+: "
            r"(?:panic: .*\S|No such .*|.* not configured|Device busy|Input/output error))"
        ),
    ),
    # gnumach, i386/i386at/model_dep.c; Linux, kernel/reboot.c.
    (Kind.HALTED, re.compile(r"now in tight loop|^In tight loop")),
    (Kind.HALTED, re.compile(rf"^{_TIME}reboot: (?:Power down|System halted)")),
    (Kind.REBOOT, re.compile(rf"^{_TIME}reboot: Restarting system")),
)
# Known without a line end: prompts, and the servers that gnumach's bootstrap and then the Hurd's startup name one after
# the other. Each must match at the same place, whatever comes after, or a torn line would give other events.
_PROMPTS: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    (Kind.LOGIN, re.compile(r"^(?P<text>(?!Last )[\w.-]+ login:)")),
    (Kind.DEBUGGER, re.compile(r"^(?P<text>db(?:\{\d+\})?>)")),
)
#: gnumach's panics before 2013 have no place, so that a line of a Go program looks like one. They end in the debugger,
#: or in a loop, within a few lines.
_OLD_PANIC = re.compile(r"^(?:\{cpu\d+\} )?panic: (?P<text>.*\S)")
_OLD_END = re.compile(r"^(?:Kernel Breakpoint trap\b|In tight loop)")
_SOON = 5
_SERVERS = "Hurd server bootstrap:"
#: What has a file system's or a device's name behind it, and what the Hurd starts (hurd/startup, boot scripts of
#: Debian). The kernel may speak in the middle of the line, and right behind a name.
_SERVER = re.compile(
    r"(?<=\s)(?P<text>[\w.-]+\[[^\]\s]*\]|(?:\w+fs|exec|init|startup|proc|auth|acpi|pci-arbiter|rump\w+|netdde|irq\w*)"
    r"(?:\.static)?)(?=\.?\s|(?:task|thread) [0-9a-f]+ )"
)


class Parser:
    """Takes the console's bytes as they come.

    Attributes:
        text: the latest text, cleaned, with the line that has not ended yet.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._ended = ""
        self._rest = ""
        self._known: set[tuple[Kind, int]] = set()  # what is known of the line that has not ended
        self._up = False
        self._old_panic: tuple[int, re.Match[str]] | None = None  # how many lines ago, and what it said

    @property
    def text(self) -> str:
        """See the class."""
        return self._ended + _cleaned(_BEGUN.sub("", self._rest))

    def feed(self, data: bytes) -> list[Event]:
        """Take more bytes and give the events that they complete."""
        self._ended = self._ended[-_KEPT:]
        self._rest += self._decoder.decode(data)
        events: list[Event] = []
        while True:
            end = _end_of_line(self._rest)
            if end is None:
                break
            line, self._rest = self._rest[:end], self._rest[end:]
            if self._rest[:1] in ("\r", "\n"):
                self._rest = self._rest[1:]
            events += self._line(_cleaned(line))
        events += self._parts(_cleaned(_BEGUN.sub("", self._rest)))
        return events

    def _line(self, line: str) -> list[Event]:
        events = self._parts(line + "\n")
        self._known.clear()
        if line.strip():
            self._ended += line + "\n"
        if panic := self._cause(line):
            events.append(_event(Kind.PANIC, panic, line))
        for kind, pattern in _LINES:
            if match := pattern.search(line):
                events.append(_event(self._again(kind), match, line))
        return events

    def _cause(self, line: str) -> re.Match[str] | None:
        """The panic of a kernel before 2013 of which a line is the end."""
        ago, panic = self._old_panic or (0, None)
        if match := _OLD_PANIC.match(line):
            self._old_panic = 0, match
        elif panic and ago < _SOON:
            self._old_panic = ago + 1, panic
        else:
            self._old_panic = None
        if panic and _OLD_END.match(line):
            self._old_panic = None
            return panic
        return None

    def _parts(self, text: str) -> list[Event]:
        matches = [(kind, match) for kind, pattern in _PROMPTS for match in pattern.finditer(text)]
        matches += [(Kind.SERVER, match) for match in _SERVER.finditer(text.partition(_SERVERS)[2])]
        new = [(kind, match) for kind, match in matches if (kind, match.start()) not in self._known]
        self._known |= {(kind, match.start()) for kind, match in new}
        return [_event(kind, match, text) for kind, match in new]

    def _again(self, kind: Kind) -> Kind:
        """A kernel that comes up a second time has been started again."""
        if kind is not Kind.KERNEL:
            return kind
        before, self._up = self._up, True
        return Kind.REBOOT if before else kind


class Console:
    """A machine's serial log, read as it grows.

    Attributes:
        file: where QEMU writes it.
        events: all that it said so far.
        heard: when it last said anything, by clock.time().
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._forget()

    def restart(self) -> None:
        """Begin anew with an empty file."""
        self.file.write_bytes(b"")
        self._forget()

    def _forget(self) -> None:
        self.events: list[Event] = []
        self.heard = clock.time()
        self._parser = Parser()
        self._at = 0

    def poll(self) -> list[Event]:
        """Read what is new, and give all events so far."""
        try:
            with self.file.open("rb") as file:
                file.seek(self._at)
                data = file.read()
        except OSError:
            data = b""
        if data:
            self._at += len(data)
            self.heard = clock.time()
            self.events += self._parser.feed(data)
        return self.events

    def mark(self) -> int:
        """Where it is now, for `since`."""
        self.poll()
        return self._at

    def since(self, mark: int) -> bytes:
        """What it said since a mark, as it came; the last MiB of it if it is more."""
        self.poll()
        with self.file.open("rb") as file:
            file.seek(max(mark, self._at - (1 << 20)))
            return file.read(max(self._at - mark, 0))

    def text_since(self, mark: int) -> str:
        """The same, cleaned; a carriage return ends a line too."""
        text = decoded(self.since(mark)).replace("\r\n", "\n").replace("\r", "\n")
        return _cleaned(text)

    def says(self, pattern: str) -> bool:
        """Whether its latest text, read by `poll`, has something that matches."""
        return re.search(pattern, self._parser.text, re.MULTILINE) is not None

    def last_lines(self, count: int = 12) -> list[str]:
        """The last lines, cleaned, with what is new."""
        self.poll()
        lines = [line.strip() for line in self._parser.text.splitlines()]
        return [line for line in lines if line][-count:]


def _end_of_line(text: str) -> int | None:
    """Where the first line ends, or None if it has not. A carriage return ends a line too."""
    ends = [at for mark in "\r\n" if (at := text.find(mark, 0, _LONGEST)) >= 0]
    if ends:
        return min(ends)
    return _LONGEST if len(text) >= _LONGEST else None


def _cleaned(text: str) -> str:
    return _CONTROL.sub("", _ESCAPE.sub("", text))


def _event(kind: Kind, match: re.Match[str], line: str) -> Event:
    fields = match.groupdict()
    return Event(
        kind,
        fields.get("text") or line.strip(),
        fields.get("file") or "",
        int(fields.get("line") or 0),
        fields.get("function") or "",
    )


@contextmanager
def follow(file: Path, tell: Callable[[bytes], None]) -> Iterator[None]:
    """Give what is written to a console's log during the block, as it comes and as it is.

    Args:
        file: the log, which need not be there yet, and begins anew when its machine is started again.
        tell: called with each piece, in a thread of its own.
    """
    ended = threading.Event()

    def read_all() -> None:
        at = 0
        while True:
            last = ended.wait(_TICK)
            if file.is_file():
                at = at if file.stat().st_size >= at else 0
                with file.open("rb") as log:
                    log.seek(at)
                    while piece := log.read(65536):
                        at += len(piece)
                        tell(piece)
            if last:
                return

    thread = threading.Thread(target=read_all, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
