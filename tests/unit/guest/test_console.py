"""The console's reader: recorded logs and the events they must give, whole, torn anywhere, and among noise."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness import paths
from harness.guest.console import FATAL, FATAL_AT_BOOT, Console, Kind, Parser

DATA = paths.DATA / "tests" / "data" / "console"
PANIC = b"panic ../kern/bootstrap.c:182: bootstrap_create: No bootstrap code loaded with the kernel!\n"


def events(*pieces):
    parser = Parser()
    return [event for piece in pieces for event in parser.feed(piece)]


@pytest.mark.parametrize("log", sorted(DATA.glob("*.log")), ids=lambda path: path.stem)
def test_recorded_logs(log):
    result = [
        [str(event.kind), event.text, event.file, event.line, event.function] for event in events(log.read_bytes())
    ]
    assert result == json.loads(log.with_suffix(".json").read_text())


@pytest.mark.parametrize("log", sorted(DATA.glob("*.log")), ids=lambda path: path.stem)
@given(data=st.data())
def test_a_log_torn_anywhere_gives_the_same_events(log, data):
    whole = log.read_bytes()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=40)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert events(*pieces) == events(whole)


_WORDS = [b"\x1b[6n", b"\x1b[", b"\x1b]0;title\x07", b"\x1b]", b"\x1b", b"\r\n", b"\n", b"db>", b"db{1}> ", b"login:"]
_WORDS += [
    b"Hurd server bootstrap:",
    b" exec",
    b" auth.\n",
    b"debian login: ",
    PANIC,
    b"\xc3\xa9",
    b"\xff",
    b"x" * 3000,
]
NOISE = st.lists(st.one_of(st.sampled_from(_WORDS), st.binary(max_size=8)), max_size=30).map(b"".join)


@given(NOISE)
@example(b"\x1b[3\x01mdb>")
@example(b"x" * 4094 + b"\ndb>\n" + b"y" * 4096 + b"\n" + PANIC)
def test_noise_byte_by_byte_gives_the_same_events(noise):
    assert events(*(bytes([byte]) for byte in noise)) == events(noise)


@given(NOISE, st.sampled_from([b"\x1b[K", b"\x1b[31;1m", b"\x1b(B", b"\0", b"\x1b]0;t\x07"]), st.data())
def test_a_panic_is_seen_after_noise_and_with_escapes_in_it(noise, escape, data):
    at = data.draw(st.integers(0, len(PANIC) - 1))
    result = events(noise + b"\n", PANIC[:at] + escape + PANIC[at:])[-1]
    assert (result.kind, result.file, result.line) == (Kind.PANIC, "../kern/bootstrap.c", 182)
    assert (result.function, result.text) == ("bootstrap_create", "No bootstrap code loaded with the kernel!")


@pytest.mark.parametrize(
    ("message", "kind", "text"),
    [
        # gnumach's kern/debug.c for several processors, its assertions, and its debugger
        ("panic {cpu1} ../i386/i386/trap.c:400: kernel_trap: trap\n", "panic", "trap"),
        (
            "{cpu0} ../vm/vm_page.c:9: vm_page_seg: Assertion `a == b' failed."
            "panic ../kern/debug.c:83: Debugger: Debugger invoked, but there isn't one!\n",
            "panic",
            "Assertion `a == b' failed.",
        ),
        ("Stopped       at  0xc1012345:  int $3\n", "kernel debugger", "Stopped       at  0xc1012345:  int $3"),
        ("traps: PANIC: double fault, error_code: 0x0\n", "panic", "double fault, error_code: 0x0"),
        (
            "start ext2fs: ext2fs: ../../libdiskfs/boot-start.c:140: diskfs_start_bootstrap: Unexpected error:"
            " (os/kern) invalid argument.\n",
            "no root file system",
            "ext2fs: ../../libdiskfs/boot-start.c:140: diskfs_start_bootstrap: Unexpected error: (os/kern) invalid"
            " argument.",
        ),
        # its traps, without the debugger and with it, and its panics and assertions before 2013
        ("Kernel General protection trap, eip 0xc1034567, code 0, cr2 4\n", "oops", "Kernel General protection trap"),
        ("kernel: Page fault trap (14), code=2\n", "oops", "kernel: Page fault trap (14), code=2"),
        ("panic: kmem_alloc: no space\nKernel Breakpoint trap, eip 0x2002\n", "panic", "kmem_alloc: no space"),
        (
            "panic: kmem_alloc: no space\nb0\nIn tight loop: hit ctl-alt-del to reboot\n",
            "panic",
            "kmem_alloc: no space",
        ),
        (
            'Assertion `port->refs > 0\' failed in file "../ipc/ipc_port.c", line 40\nKernel Breakpoint trap, eip 0\n',
            "panic",
            "Assertion `port->refs > 0' failed",
        ),
        # the root file system's server
        (
            "start ext2fs: ext2fs: device:hd1s2: No such device or address\n",
            "no root file system",
            "ext2fs: device:hd1s2: No such device or address",
        ),
        (
            "start ext2fs.static: ext2fs.static: part:1:device:wd0: panic: bad magic number 0x0\n",
            "no root file system",
            "ext2fs.static: part:1:device:wd0: panic: bad magic number 0x0",
        ),
        (
            "ext2fs: device:hd0s1: Input/output error\n",
            "no root file system",
            "ext2fs: device:hd0s1: Input/output error",
        ),
        # Linux, each die() in one form
        ("[   87.1] stack segment: 0000 [#2] SMP\n", "oops", "stack segment: 0000 [#2] SMP"),
        ("<1>[ 87.1][  T12] int3: 0000 [#1] PREEMPT SMP\n", "oops", "int3: 0000 [#1] PREEMPT SMP"),
        ("[1.5] Internal error: Oops: 96000005 [#1] SMP\n", "oops", "Internal error: Oops: 96000005 [#1] SMP"),
        ("[1.5] PANIC: double fault, error_code: 0x0\n", "panic", "double fault, error_code: 0x0"),
        ("db> ", "kernel debugger", "db>"),
        ("db{0}> ", "kernel debugger", "db{0}>"),
        ("debian login: ", "login prompt", "debian login:"),
        ("Starting OpenBSD Secure Shell server: sshd.\n", "sshd up", "Starting OpenBSD Secure Shell server: sshd."),
        ("Automatic boot failed... help!\n", "fsck trouble", "Automatic boot failed... help!"),
        (
            "/dev/hd0s2: UNEXPECTED INCONSISTENCY; RUN fsck MANUALLY.\n",
            "fsck trouble",
            "/dev/hd0s2: UNEXPECTED INCONSISTENCY; RUN fsck MANUALLY.",
        ),
        ("[    1.5] Linux version 6.1.0-30-686 (x@y)\n", "kernel up", "Linux version 6.1.0-30-686"),
        (
            "[    1.5] Kernel panic - not syncing: VFS: Unable to mount root fs\n",
            "panic",
            "VFS: Unable to mount root fs",
        ),
        (
            "[   12.3] BUG: unable to handle page fault for address: fffff000\n",
            "oops",
            "BUG: unable to handle page fault for address: fffff000",
        ),
        ("[   12.3] kernel BUG at mm/slub.c:4050!\n", "oops", "[   12.3] kernel BUG at mm/slub.c:4050!"),
        ("[  99.1] reboot: Power down\n", "halted", "[  99.1] reboot: Power down"),
        ("[  99.1] reboot: Restarting system\n", "reboot", "[  99.1] reboot: Restarting system"),
    ],
)
def test_lines(message, kind, text):
    first, *_ = events(message.encode())
    assert (first.kind, first.text) == (kind, text)


@pytest.mark.parametrize(
    "line",
    [
        "GNU Mach 1.8",  # /etc/issue has it as well
        "panic: runtime error: index out of range",  # a Go program's, not the kernel's
        "ext2fs.static: ../../libdiskfs/x.c:9: f: Assertion `x' failed.",  # a server's
        "watchdog: BUG: soft lockup - CPU#0 stuck for 22s!",  # the host is slow
        "traps: prog[31] general protection fault ip:8048",  # a program's
        "Last login: Tue Nov 24",
        "sandb> x",
    ],
)
def test_what_is_no_event(line):
    assert events(line.encode() + b"\n") == []


def test_a_second_kernel_is_a_reboot():
    up = b"biosmem: physical memory map:\n"
    assert [event.kind for event in events(up, up)] == [Kind.KERNEL, Kind.REBOOT]


def test_a_panic_says_where_it_was():
    (panic,) = events(PANIC)
    assert panic.kind in FATAL
    assert str(panic) == (
        "panic in bootstrap_create (../kern/bootstrap.c:182): No bootstrap code loaded with the kernel!"
    )


def test_a_growing_file_is_read_on_and_begun_anew(tmp_path):
    console = Console(tmp_path / "log")
    assert console.poll() == [] and console.last_lines() == []
    with console.file.open("ab") as file:
        file.write(b"\x1b[Kharness: guest re")
        file.flush()
        console.poll()
        assert not console.says("guest ready$")
        file.write(b"ady")
        file.flush()
    console.poll()
    assert console.says("^harness: guest ready$"), "the line has not ended, and must not need to"
    assert console.last_lines() == ["harness: guest ready"]
    console.restart()
    assert console.poll() == [] and not console.says("ready")


@pytest.mark.parametrize(
    ("line", "servers"),
    [
        ("start ext2fs: Hurd server bootstrap: ext2fs[device:hd0] exec startup proc auth.\n", "exec startup proc auth"),
        (
            "start x: Hurd server bootstrap: acpi pci-arbiter rumpdisk ext2fs.static[part:1:device:wd0] exec\n",
            "acpi pci-arbiter rumpdisk exec",
        ),
        (
            "start ext2fs: Hurd server bootstrap: ext2fs[device:hd0] exec init proctask c1120dc8 deallocating an"
            " invalid port 1345, most probably a bug.\n",
            "exec init proc",
        ),
        ("start ext2fs: Hurd server bootstrap: ext2fs[device:hd0] thread c11 has no port, and that is a bug\n", ""),
    ],
)
def test_servers_and_what_the_kernel_says_among_them(line, servers):
    names = [event.text for event in events(line.encode()) if event.kind is Kind.SERVER]
    assert " ".join(name for name in names if "[" not in name) == servers
    assert [name for name in names if "[" in name]


@pytest.mark.parametrize(
    "line",
    [
        "start ext2fs: ext2fs: device:hd0s1: warning: FILESYSTEM NOT UNMOUNTED CLEANLY; PLEASE fsck",
        "ext2fs: device:hd0s1: warning: FILESYSTEM NOT UNMOUNTED CLEANLY; PLEASE fsck",
        "ext2fs: part:5:device:wd0: /home: optional features 3 are not known",
        "process x: 1234 [1] done",
    ],
)
def test_what_ends_no_boot(line):
    assert not [event for event in events(f"{line}\n".encode()) if event.kind in FATAL_AT_BOOT]
