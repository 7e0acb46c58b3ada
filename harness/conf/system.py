"""Operating systems' ways: signal numbers, process listing, crash policy, halting. Whatever else differs between guests
stands in their descriptions, and no other module may ask which system a guest has.

Knows nothing of machines, shells or Go: commands are text, and so is what they print.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from harness.conf import stillness


@dataclass(frozen=True)
class Process:
    """A row of a process listing. `group` is None where the listing does not tell; `threads` counts all."""

    pid: int
    ppid: int
    group: int | None
    state: str
    threads: int
    command: str


@dataclass(frozen=True)
class SavedRegisters:
    """How a kernel keeps the registers of a thread that came from user mode, on the thread's stack or beside it.

    Attributes:
        word: bytes of each of them.
        user: bytes of a word of the program: a kernel of 64 bits runs programs of 32 bits too.
        order: their names, from the lowest address on; `?` is none of the program's.
        cs, ss: the selectors of user mode, by which they are recognized.
        at_end: how many bytes before the end of a page the last of them may end; None if anywhere.
    """

    word: int
    user: int
    order: str
    cs: int
    ss: int
    at_end: tuple[int, ...] | None = None


@dataclass(frozen=True)
class OperatingSystem:
    """An operating system.

    Attributes:
        signals: its names of signals by number, without SIG.
        listing: a shell command that prints all processes, and does not wait for one that hangs.
        read: makes processes of what it prints; what cannot be read is left out.
        crashed: letters of a state that mean that a crash was suspended.
        kill: environment with which a crash ends a program, and no more.
        core: environment with which it leaves a core file in the program's folder.
        core_setup: a shell command that makes core files go there, run once a guest.
        probes: what a process does, told by the system's own tools: a name, and a shell command in which `{pid}` stands
            for the process. Each prints for people, and leaves the process as it was.
        stillness: looks whether a command can still run before its limit, given the first part of the target triple and
            the limit in seconds; None where the system does not tell enough for a proof.
        creator: the system that a file system for it is made by, as mke2fs(8) names it.
        mount: a shell command that mounts an ext2 file system for reading; `{device}` stands for the disk, `{folder}`
            for the folder where it is to be seen.
        unmount: a shell command that unmounts it, and fails if anything on it is in use.
        second_disks: what the second disk of a machine may be called, by QEMU's interface.
        exchange_disks: the same of its third, which is the last that an IDE controller can have.
        channels: what a machine's second serial port may be called.
        halt: a shell command that ends the system in good order.
        halted: what the console says when the machine may be switched off, a regular expression.
        saved_registers: how its kernels keep the registers of threads.
        libraries: the files of its C library that programs have mapped.
    """

    signals: Mapping[int, str]
    listing: str = ""
    read: Callable[[str], list[Process]] = lambda text: []
    crashed: str = ""
    kill: Mapping[str, str] = field(default_factory=dict)
    core: Mapping[str, str] = field(default_factory=dict)
    core_setup: str = ":"
    probes: Mapping[str, str] = field(default_factory=dict)
    stillness: Callable[[str, float], stillness.Looks] | None = None
    creator: str = "linux"
    mount: str = ""
    unmount: str = ""
    second_disks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    exchange_disks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    channels: tuple[str, ...] = ()
    halt: str = ""
    halted: str = ""
    saved_registers: tuple[SavedRegisters, ...] = ()
    libraries: tuple[str, ...] = ()

    def environment(self, own: Mapping[str, str], cores: bool) -> dict[str, str]:
        """A guest's environment for programs, with what decides on their crashes.

        Args:
            own: what its description says, which wins over the default.
            cores: whether crashes are to leave core files, which wins over both.
        """
        return {**self.kill, **own, **(self.core if cores else {})}

    def suspended(self, listing: str, pid: int) -> str:
        """The state of a process, or of one that comes from it, whose crash was suspended; '' if none was.

        Args:
            listing: what `listing` printed.
            pid: the process.
        """
        processes = family(self.read(listing), pid)
        return next((process.state for process in processes if set(process.state) & set(self.crashed)), "")


def family(processes: Iterable[Process], pid: int) -> list[Process]:
    """A process, all that descend from it, and all of its process group, it first."""
    rest = list(processes)
    members = [process for process in rest if process.pid == pid]
    rest = [process for process in rest if process.pid != pid]
    known = {pid}
    while more := [process for process in rest if process.ppid in known or process.group == pid]:
        members += more
        known |= {process.pid for process in more}
        rest = [process for process in rest if process.pid not in known]
    return members


#: proc(5), /proc/pid/stat: pid, (command), state, ppid, pgrp, and the number of threads as field 20. A command may hold
#: anything, ends of lines too.
_STAT = re.compile(r"^(\d+) \((.*?)\) ([A-Za-z]) (\d+) (\d+)((?: -?\d+){14}) (\d+) ", re.MULTILINE | re.DOTALL)


def read_stat(text: str) -> list[Process]:
    """The processes in /proc/*/stat of Linux, one after the other."""
    return [
        Process(int(pid), int(ppid), int(group), state, int(threads), command)
        for pid, command, state, ppid, group, _, threads in _STAT.findall(text)
    ]


def read_ps(text: str) -> list[Process]:
    """The processes that `ps -l` of the Hurd prints, by the names of its columns."""
    lines = text.splitlines()
    columns = lines[0].split() if lines else []
    if not {"PID", "PPID", "TH", "STAT", "COMMAND"} <= set(columns):
        return []
    result = []
    for line in lines[1:]:
        row = dict(zip(columns, line.split(maxsplit=len(columns) - 1), strict=False))
        if len(row) == len(columns) and all(row[name].isdigit() for name in ("PID", "PPID", "TH")):
            numbers = (int(row["PID"]), int(row["PPID"]))
            result.append(Process(*numbers, None, row["STAT"], int(row["TH"]), row["COMMAND"]))
    return result


def _numbered(names: str) -> dict[int, str]:
    return dict(enumerate(names.split(), start=1))


#: The threads of a process, by proc(5): a line each, and below it where it is in the kernel, as root may see. The shell
#: does it all, since a process a thread would take seconds of a slow guest. The times are fields 14 and 15 of stat.
_LINUX_THREADS = r"""
cd /proc/{pid}/task && for thread in [0-9]*; do
  wchan= call=
  read -r stat <$thread/stat || continue
  read -r wchan <$thread/wchan
  read -r call <$thread/syscall
  name=${stat#*(}
  set -- ${stat##*) }
  echo "thread $thread (${name%)*}): state $1, waits in ${wchan:-?}, ticks ${12} user ${13} kernel, system call $call"
  while read -r line; do echo "    $line"; done <$thread/stack
done 2>/dev/null
"""
_GDB = "gdb -batch -nx -p {pid} -ex 'thread apply all bt 50'"

#: arch/x86/include/asm/ptrace.h, struct pt_regs; arch/x86/include/asm/segment.h for the selectors, and
#: arch/x86/include/asm/thread_info.h, TOP_OF_KERNEL_STACK_PADDING, for what lies above them.
_LINUX_32 = "bx cx dx si di bp ax ds es fs gs orig_ax ip cs flags sp ss"
_LINUX_64 = "r15 r14 r13 r12 bp bx r11 r10 r9 r8 ax cx dx si di orig_ax ip cs flags sp ss"
_LINUX_SAVED = (
    SavedRegisters(4, 4, _LINUX_32, cs=0x73, ss=0x7B, at_end=(0, 8, 16)),
    SavedRegisters(8, 8, _LINUX_64, cs=0x33, ss=0x2B, at_end=(0,)),
    SavedRegisters(8, 4, _LINUX_64, cs=0x23, ss=0x2B, at_end=(0,)),
)
#: i386/i386/thread.h of gnumach, struct i386_saved_state, and i386/i386/ldt.h for the selectors.
_MACH_SAVED = (SavedRegisters(4, 4, "gs fs es ds di si bp ? bx dx cx ax ? ? ip cs flags sp ss", cs=0x17, ss=0x1F),)
_LINUX_LIBRARIES = tuple(
    f"/{folder}/{name}"
    for folder in ("lib/i386-linux-gnu", "lib/x86_64-linux-gnu")
    for name in ("libc.so.6", "libgcc_s.so.1", "ld-linux.so.2", "ld-linux-x86-64.so.2", "libpthread.so.0")
)
_HURD_LIBRARIES = tuple(
    f"/lib/{folder}/{name}"
    for folder in ("i386-gnu", "x86_64-gnu")
    for name in (
        "libc.so.0.3",
        "libpthread.so.0.3",
        "libgcc_s.so.1",
        "ld.so.1",
        "libmachuser.so.1",
        "libhurduser.so.0.3",
    )
)

#: What disks are called, by QEMU's interface. The letter tells the place among those of its kind, the guest's own disk
#: among them if it is of that interface.
_LINUX_DISKS = {"virtio": "vd", "ide": "sd", "scsi": "sd"}
#: Signals: signal(7), x86 numbers. A process in state T was stopped by a signal, which is no crash.
#: busybox's poweroff -f calls reboot(2) at once, after sync(2); QEMU ends, or the kernel says so (kernel/reboot.c).
LINUX = OperatingSystem(
    signals=_numbered(
        "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU "
        "URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS"
    ),
    listing="cat /proc/[0-9]*/stat 2>/dev/null",
    read=read_stat,
    core_setup="echo core >/proc/sys/kernel/core_pattern; echo 0 >/proc/sys/kernel/core_uses_pid",
    probes={
        "threads": _LINUX_THREADS,
        "processes": "ps -A -o pid,ppid,stat,args",
        "memory": "cat /proc/{pid}/status /proc/{pid}/maps",
        "files": "ls -l /proc/{pid}/fd",
        "stacks": _GDB,
    },
    stillness=stillness.linux,
    mount="mount -t ext2 -o ro {device} {folder}",
    unmount="umount {folder}",
    second_disks={name: (f"/dev/{kind}b", f"/dev/{kind}a") for name, kind in _LINUX_DISKS.items()},
    exchange_disks={name: (f"/dev/{kind}c", f"/dev/{kind}b") for name, kind in _LINUX_DISKS.items()},
    channels=("/dev/ttyS1",),
    halt="poweroff -f",
    halted=r"reboot: (Power down|System halted)",
    saved_registers=_LINUX_SAVED,
    libraries=_LINUX_LIBRARIES,
)

#: Signals: glibc's sysdeps/mach/hurd/bits/signum-arch.h, BSD numbers. The crash server is the node that CRASHSERVER
#: names, else /servers/crash, which may suspend the program (glibc's hurd/hurdsig.c, the Hurd's trans/crash.c). T in a
#: state is PSTAT_STATE_P_STOP (libps/ps.h), what the crash server's suspending sets. ps needs -M, or it may block on a
#: process that hangs; without it, and from msgport, one learns whether the process still answers messages, and what its
#: threads wait for (utils/ps.c and utils/msgport.c of the Hurd). The last lines of the kernel and of startup:
#: i386/i386at/model_dep.c of gnumach. A disk is hdN by the kernel's own IDE driver, by its place, and wdN by rumpdisk,
#: in their order (sutils/MAKEDEV.sh of the Hurd); comN is a serial port. `settrans -g` makes a translator go away,
#: and fails if files of it are open (utils/settrans.c, libdiskfs/fsys-goaway.c).
HURD = OperatingSystem(
    signals=_numbered(
        "HUP INT QUIT ILL TRAP ABRT EMT FPE KILL BUS SEGV SYS PIPE ALRM TERM URG STOP TSTP CONT CHLD TTIN TTOU IO "
        "XCPU XFSZ VTALRM PROF WINCH INFO USR1 USR2 LOST"
    ),
    listing="ps -A -M -l",
    read=read_ps,
    crashed="T",
    kill={"CRASHSERVER": "/servers/crash-kill"},
    core={"CRASHSERVER": "/servers/crash-dump-core"},
    probes={
        "threads": "ps -M -T -l {pid}",
        "processes": "ps -A -M -l",
        "memory": "vminfo {pid}",
        "ports": "portinfo -v {pid}",
        "waits": "ps -T -l {pid}",
        "messages": "msgport --pwd {pid}",
        "stacks": _GDB,
    },
    creator="hurd",
    mount="settrans -a {folder} /hurd/ext2fs --readonly {device}",
    unmount="settrans -g {folder}",
    second_disks={"ide": ("/dev/hd1", "/dev/wd1")},
    exchange_disks={"ide": ("/dev/hd3", "/dev/wd2")},
    channels=("/dev/com1",),
    halt="halt",
    halted=r"now in tight loop",
    saved_registers=_MACH_SAVED,
    libraries=_HURD_LIBRARIES,
)

#: A system of which nothing is known beyond POSIX; its signals stand in the guest's description.
POSIX = OperatingSystem(signals={})

SYSTEMS = {"linux": LINUX, "hurd": HURD, "posix": POSIX}
#: The names of all systems' signals.
SIGNALS = frozenset(name for system in SYSTEMS.values() for name in system.signals.values())
