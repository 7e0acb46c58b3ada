"""Whether a command in a Linux guest can still run before a time: which files of /proc to read, and what they prove.

It is a proof, not a guess. Every thread of the command's processes is seen asleep at the first and at the last look:
off its processor, inside a system call (/proc/PID/syscall tells a call of no other thread: task_current_syscall in the
kernel's lib/syscall.c). Its count of context switches, read before and after both, is the same, so it slept all the
time between. What is read between holds for that time. From then on only a timer, a signal, a file or another process
could wake a thread. Short lists of system calls and of kinds of files rule these out. What is not on the lists is a
doubt.

/proc/timer_list does not tell whose a timer is. (All calls on the list wait by such timers, hrtimers.) A timer that is
gone once its time has passed, while all threads slept on, was somebody else's. One that ends only after the limit,
counted from the command's start by the guest's own clock, does not matter.

Only guests with one processor are judged. With more, a timer may have left the list and not yet woken its thread, on a
processor that the host does not let run. Knows nothing of who reads the files, or when.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass

#: Threads that are looked at; more would take a slow guest seconds.
MOST_THREADS = 1000
#: Seconds that are waited for timers to show that they are somebody else's. Busybox's init wakes every second.
LONGEST_WAIT = 5.0
#: Seconds beyond a timer's end until it is looked whether it is gone.
_LATER = 0.1

_NS = 1_000_000_000
#: Ticks per second of the times in /proc/PID/stat (USER_HZ; x86's include/asm/param.h).
_TICKS = 100
#: Where the memory of a program of 32 bits ends.
_NARROW = 1 << 32
#: In the flags of /proc/PID/stat: a kernel thread (PF_KTHREAD, linux/sched.h).
_KERNEL_THREAD = 0x00200000


@dataclass(frozen=True)
class Look:
    """Files to be read in a guest.

    Attributes:
        paths: as harness/guest/agent.c takes them, read in this order.
        delay: seconds to wait before.
    """

    paths: tuple[str, ...]
    delay: float = 0.0


@dataclass(frozen=True)
class Reading:
    """What a look brought.

    Attributes:
        files: name and contents of each file that was read to its end, or where a link leads, in the order of reading.
        whole: whether all folders could be read.
        elapsed: seconds since the command was asked for, by the host's clock.
    """

    files: Sequence[tuple[str, str]]
    whole: bool
    elapsed: float


@dataclass(frozen=True)
class Stillness:
    """The proof that nothing of a command can run before its limit.

    Attributes:
        summary: how its threads sleep, in a few words.
        evidence: what was seen, for people.
    """

    summary: str
    evidence: str


#: Yields looks, takes what they brought, and ends with the proof, or with a sentence on why there is none.
Looks = Generator[Look, Reading, "Stillness | str"]


class _DoubtError(Exception):
    """Why it is not certain that nothing can run."""


@dataclass(frozen=True)
class _Call:
    """A system call in which a thread may sleep.

    Attributes:
        limit: the argument that has its time limit; None if it never has one.
        pointer: whether that argument points to the limit, and 0 means none; else a negative number means none.
        reads: whether its first argument is the descriptor that it waits for.
        count: the argument that has the number of descriptors that it waits for, if they stand in memory.
        sleeps: whether it always has a time limit, on the clock that its first argument names, if `clocked`.
    """

    name: str
    limit: int | None = None
    pointer: bool = True
    reads: bool = False
    count: int | None = None
    sleeps: bool = False
    clocked: bool = False


_READ, _READV = _Call("read", reads=True), _Call("readv", reads=True)
_POLL, _PPOLL = _Call("poll", 2, pointer=False, count=1), _Call("ppoll", 2, count=1)
_SELECT, _PSELECT = _Call("select", 4, count=0), _Call("pselect6", 4, count=0)
_EPOLL, _EPOLL_PWAIT = _Call("epoll_wait", 3, pointer=False), _Call("epoll_pwait", 3, pointer=False)
_EPOLL_PWAIT2 = _Call("epoll_pwait2", 3)
_NANOSLEEP, _CLOCK_NANOSLEEP = _Call("nanosleep", sleeps=True), _Call("clock_nanosleep", sleeps=True, clocked=True)
_PAUSE, _SIGSUSPEND, _SIGTIMEDWAIT = _Call("pause"), _Call("rt_sigsuspend"), _Call("rt_sigtimedwait", 2)
_WAITPID, _WAIT4, _WAITID = _Call("waitpid"), _Call("wait4"), _Call("waitid")
_FUTEX = _Call("futex", 3)

#: By number: the kernel's arch/x86/entry/syscalls/syscall_32.tbl and syscall_64.tbl.
_CALLS_32: Mapping[int, _Call] = {
    3: _READ, 7: _WAITPID, 29: _PAUSE, 114: _WAIT4, 142: _SELECT, 145: _READV, 162: _NANOSLEEP, 168: _POLL,
    177: _SIGTIMEDWAIT, 179: _SIGSUSPEND, 240: _FUTEX, 256: _EPOLL, 267: _CLOCK_NANOSLEEP, 284: _WAITID, 308: _PSELECT,
    309: _PPOLL, 319: _EPOLL_PWAIT, 407: _CLOCK_NANOSLEEP, 413: _PSELECT, 414: _PPOLL, 421: _SIGTIMEDWAIT, 422: _FUTEX,
    441: _EPOLL_PWAIT2,
}  # fmt: skip
_CALLS_64: Mapping[int, _Call] = {
    0: _READ, 7: _POLL, 19: _READV, 23: _SELECT, 34: _PAUSE, 35: _NANOSLEEP, 61: _WAIT4, 128: _SIGTIMEDWAIT,
    130: _SIGSUSPEND, 202: _FUTEX, 230: _CLOCK_NANOSLEEP, 232: _EPOLL, 247: _WAITID, 270: _PSELECT, 271: _PPOLL,
    281: _EPOLL_PWAIT, 441: _EPOLL_PWAIT2,
}  # fmt: skip

#: linux/futex.h: operations that wait, and only for a FUTEX_WAKE; the flags that go with them.
_FUTEX_WAITS = {0: "wait", 9: "wait_bitset"}
_FUTEX_PRIVATE, _FUTEX_REALTIME = 128, 256
#: CLOCK_REALTIME and CLOCK_MONOTONIC; others count a processor's time, or wake a machine.
_CLOCKS = (0, 1)

#: What a descriptor may lead to, so that nothing but the command's own processes can do anything to it. That leaves out
#: all sockets, terminals, timers, and what tells of files, processes and devices.
_PIPE = re.compile(r"pipe:\[(\d+)\]")
_HARMLESS = re.compile(r"/dev/(?:null|zero|full|urandom)|anon_inode:\[event(?:fd|poll)\]")
_READABLE = re.compile(r"pipe:\[\d+\]|anon_inode:\[eventfd\]")
#: Where in the kernel a thread waits that reads from such a one (/proc/PID/wchan; fs/pipe.c, fs/eventfd.c).
_READERS = ("pipe_read", "anon_pipe_read", "pipe_wait", "pipe_wait_readable", "eventfd_read")

#: hrtimers of the kernel's own, and those of timerfds, which no descriptor of the command leads to. Names of functions:
#: kernel/time/tick-sched.c, kernel/watchdog.c, kernel/sched/rt.c, fs/timerfd.c.
_NOT_OURS = {"tick_sched_timer", "tick_nohz_handler", "watchdog_timer_fn", "sched_rt_period_timer", "timerfd_tmrproc"}
#: The one by which system calls with a time limit are ended (kernel/time/hrtimer.c).
_SLEEPER = "hrtimer_wakeup"
#: The first of the clocks whose timers end in a softirq. Sleepers are on it in a kernel with PREEMPT_RT only. There a
#: thread ends them, which may be stopped between taking a timer off the list and waking whom it is for (the same file:
#: __hrtimer_init_sleeper; include/linux/hrtimer.h: enum hrtimer_base_type).
_SOFT_CLOCK = 4


@dataclass(frozen=True)
class _Process:
    """A row of /proc/PID/stat (proc(5)). Times are in ticks, `start` since the boot."""

    pid: int
    name: str
    state: str
    ppid: int
    terminal: int
    flags: int
    cpu: int
    threads: int
    start: int

    @property
    def zombie(self) -> bool:
        """Whether all of it has ended, and its parent has not asked for its status. The first thread of a process may
        have ended alone."""
        return self.state == "Z" and self.threads <= 1


@dataclass(frozen=True)
class _Thread:
    """A thread that sleeps, as two looks compare it.

    Attributes:
        switches: how often it gave its processor away, and how often that was taken from it.
        call: the line in /proc/PID/syscall; '' of a thread that has ended.
    """

    pid: int
    tid: int
    name: str
    switches: tuple[int, int]
    call: str


@dataclass(frozen=True)
class _Timer:
    """An hrtimer: its function, and the ns of its clock between which it ends. `steady`: the clock is never set."""

    function: str
    soft: int
    hard: int
    steady: bool


@dataclass(frozen=True)
class _Timers:
    """What /proc/timer_list tells. `now` is in ns since the boot."""

    now: int
    timers: frozenset[_Timer]
    sleepers: int


def linux(machine: str, limit: float) -> Looks:
    """Look whether anything of the agent's command can run before its limit.

    Args:
        machine: the first part of the guest's target triple.
        limit: seconds that the command may take, from its start.
    """
    try:
        return (yield from _prove(machine, limit))
    except _DoubtError as doubt:
        return str(doubt)


def _prove(machine: str, limit: float) -> Looks:
    if not re.fullmatch(r"i[3-6]86|x86_64", machine):
        raise _DoubtError(f"the system calls of {machine} are not known")
    everyone = _processes((yield Look(("/proc/*/stat",))))
    program, family = _family(everyone)
    for process in family.values():
        if process.state not in "SZ" or process.terminal:
            raise _DoubtError(f"process {process.pid} is in state {process.state}, terminal {process.terminal}")
    if (total := sum(process.threads for process in family.values())) > MOST_THREADS:
        raise _DoubtError(f"there are {total} threads")
    living = [pid for pid, process in family.items() if not process.zombie]
    status, syscall = _each(living, "/task/*/status"), _each(living, "/task/*/syscall")
    first = yield Look(("/proc/*/stat", *status, *syscall))
    if _family(_processes(first))[1] != family:
        raise _DoubtError("a process has run, begun or ended")
    threads = _threads(first, family, living)
    calls = {thread: _call(thread, machine) for thread in threads if thread.call}
    limited = {thread for thread, (call, args) in calls.items() if _has_limit(call, args)}

    readers = [f"/proc/{thread.pid}/task/{thread.tid}/wchan" for thread, (call, _) in calls.items() if call.reads]
    speakers = {thread.pid: thread.tid for thread in calls}  # a thread of each process that has a memory
    others = [pid for pid in _user_processes(everyone) if pid not in family]
    second = yield Look((
        "/proc/timer_list", "/proc/timer_list", "/proc/*/fd/*", *_each(living, "/task/*/fd/*"),
        *_each(living, "/timers"), *readers, *(f"/proc/{pid}/task/{tid}/maps" for pid, tid in speakers.items()),
        *_each(others, "/task/*/status"),
    ))  # fmt: skip
    _check_descriptors(second, calls, family, everyone)
    _check_memory(second, calls, speakers)
    _check_no_timer_of_process(second, living)
    _check_nobody_is_traced(second, others)
    lists = _timer_lists(second)
    end = (program.start + 1) * _NS // _TICKS + int(limit * _NS)
    before = _before(lists, end, len(limited))
    wait = max((timer.hard for timer in before), default=0) - lists[-1].now
    if before and (wait > LONGEST_WAIT * _NS or not all(timer.steady for timer in before)):
        soonest = min(before, key=lambda timer: timer.soft)
        raise _DoubtError(
            f"a timer may be the command's: {soonest.function}, in {(soonest.soft - lists[-1].now) / _NS:.1f} s"
        )

    third = yield Look(("/proc/timer_list", "/proc/timer_list", "/proc/*/stat", *syscall, *status),
                       max(0, wait) / _NS + _LATER if before else 0.0)  # fmt: skip
    later = _timer_lists(third)
    for timer in before:
        if later[0].now <= timer.hard or any(timer in each.timers for each in later):
            raise _DoubtError(f"a timer may be the command's: {timer.function}, or the guest is slow")
    if _family(_processes(third))[1] != family or _threads(third, family, living) != threads:
        raise _DoubtError("a thread has run")
    passed = (later[-1].now - program.start * _NS // _TICKS) / _NS
    if limited and passed > third.elapsed + 1 / _TICKS:
        raise _DoubtError(f"the guest's clock is fast: {passed:.2f} s for {third.elapsed:.2f}")
    rest = min((timer.soft for timer in lists[-1].timers if timer.soft >= end), default=None)
    return Stillness(
        _summary(len(calls), len(limited), len(speakers)),
        _table(family, threads, calls, limited, limit, passed, None if rest is None else (rest - end) / _NS + limit),
    )


def _user_processes(processes: Mapping[int | str, _Process]) -> list[int]:
    """The numbers of all processes but the kernel's own threads."""
    return [pid for pid, each in processes.items() if isinstance(pid, int) and not each.flags & _KERNEL_THREAD]


def _each(pids: Iterable[int], path: str) -> list[str]:
    return [f"/proc/{pid}{path}" for pid in pids]


def _processes(reading: Reading) -> dict[int | str, _Process]:
    """All processes by number, and the agent's own as "self"."""
    if not reading.whole:
        raise _DoubtError("a folder could not be read")
    processes: dict[int | str, _Process] = {}
    for name, text in reading.files:
        if not (match := re.fullmatch(r"/proc/(\d+|self)/stat", name)):
            continue
        pid, _, rest = text.partition(" (")
        command, _, rest = rest.rpartition(") ")
        fields = rest.split()
        if not rest.endswith("\n") or len(fields) < 40 or not re.fullmatch(r"[A-Za-z](?: -?\d+)+", " ".join(fields)):
            raise _DoubtError(f"{name} cannot be read: {text[:200]!r}")
        numbers = [0, *map(int, fields[1:])]
        processes[int(match[1]) if match[1].isdigit() else match[1]] = _Process(
            pid=int(pid) if pid.isdecimal() else 0,
            name=command,
            state=fields[0],
            ppid=numbers[1],
            terminal=numbers[4],
            flags=numbers[6],
            cpu=sum(numbers[11:15]),
            threads=numbers[17],
            start=numbers[19],
        )
    return processes


def _family(processes: Mapping[int | str, _Process]) -> tuple[_Process, dict[int, _Process]]:
    """The command's process, and all that may have to do with it, by number.

    These are all that began after the agent, even of earlier commands, unless a process older than the agent has begun
    them, as an SSH server does. (Process 1 begins none: it inherits those whose parent has ended.)
    """
    agent = processes.get("self")
    rest = {pid: process for pid, process in processes.items() if isinstance(pid, int)}
    if agent is None or agent.pid not in rest or any(pid != process.pid for pid, process in rest.items()):
        raise _DoubtError("the agent's own process is not told")
    programs = [process for process in rest.values() if process.ppid == agent.pid]
    if len(programs) != 1 or programs[0].start < agent.start:
        raise _DoubtError(f"the agent has {len(programs)} processes")
    strangers = {
        pid
        for pid, process in rest.items()
        if pid in (1, agent.pid) or process.flags & _KERNEL_THREAD or process.start < agent.start
    }
    parents = strangers - {1, agent.pid}
    while more := {pid for pid, process in rest.items() if process.ppid in parents and pid not in strangers}:
        strangers |= more
        parents |= more
    return programs[0], {pid: process for pid, process in sorted(rest.items()) if pid not in strangers}


@dataclass(frozen=True)
class _Status:
    """What /proc/PID/status tells of a thread. `coming` are the signals that it is about to get."""

    name: str
    state: str
    tracer: int
    coming: int
    switches: tuple[int, int]

    @classmethod
    def read(cls, text: str) -> _Status:
        """Read the file (proc(5))."""
        fields: dict[str, str] = {}
        for line in text.split("\n")[:-1]:
            key, _, value = line.partition(":\t")
            fields.setdefault(key, value)
        try:
            own, shared, blocked = (int(fields[key], 16) for key in ("SigPnd", "ShdPnd", "SigBlk"))
            given, taken = (int(fields[f"{kind}voluntary_ctxt_switches"]) for kind in ("", "non"))
            return cls(
                fields["Name"], fields["State"][:1], int(fields["TracerPid"]), (own | shared) & ~blocked, (given, taken)
            )
        except (KeyError, ValueError) as error:
            raise _DoubtError(f"the status of a thread cannot be read: {text[:100]!r}") from error


def _threads(reading: Reading, family: Mapping[int, _Process], living: Sequence[int]) -> list[_Thread]:
    """The threads of the family, all of which sleep or have ended."""
    if not reading.whole:
        raise _DoubtError("a folder could not be read")
    calls: dict[tuple[int, int], str] = {}
    states: dict[tuple[int, int], str] = {}
    for name, text in reading.files:
        match = re.fullmatch(r"/proc/(\d+)/task/(\d+)/(status|syscall)", name)
        if match and int(match[1]) in living:
            (states if match[3] == "status" else calls)[int(match[1]), int(match[2])] = text
    threads = []
    for (pid, tid), text in sorted(states.items()):
        status = _Status.read(text)
        if status.state not in ("S", "Z") or status.tracer:
            raise _DoubtError(f"thread {tid} is in state {status.state}, traced by {status.tracer}")
        if status.coming:
            raise _DoubtError(f"thread {tid} is about to get a signal")
        call = calls.get((pid, tid), "") if status.state == "S" else ""
        if status.state == "S" and not re.fullmatch(r"\d+(?: 0x[0-9a-f]+){8}\n", call):
            raise _DoubtError(f"thread {tid} is in no system call: {call[:100]!r}")
        threads.append(_Thread(pid, tid, status.name, status.switches, call))
    for pid in living:
        if sum(thread.pid == pid for thread in threads) != family[pid].threads:
            raise _DoubtError(f"not all threads of process {pid} are told")
        if not any(thread.pid == pid and thread.call for thread in threads):
            raise _DoubtError(f"process {pid} is ending")
    return threads


def _call(thread: _Thread, machine: str) -> tuple[_Call, list[int]]:
    """The system call that a thread is in, and its arguments.

    A program of 32 bits has its own numbers of calls, on a kernel of 64 bits too. Its addresses are all below 4 GiB.
    """
    number, *words = thread.call.split()
    *args, _, _ = [int(word, 16) for word in words]
    narrow = _is_narrow(thread)
    call = (_CALLS_32 if narrow else _CALLS_64).get(int(number))
    if call is None or (not narrow and machine != "x86_64"):
        raise _DoubtError(f"thread {thread.tid} sleeps in system call {number}")
    if call is _FUTEX and args[1] & ~(_FUTEX_PRIVATE | _FUTEX_REALTIME) not in _FUTEX_WAITS:
        raise _DoubtError(f"thread {thread.tid} sleeps in futex operation {args[1]}")
    if call.count is not None and args[call.count]:  # they may be closed already, and so be among those of no process
        raise _DoubtError(f"thread {thread.tid} waits for descriptors in memory ({call.name})")
    if call.clocked and args[0] not in _CLOCKS:
        raise _DoubtError(f"thread {thread.tid} sleeps by clock {args[0]}")
    return call, args


def _is_narrow(thread: _Thread) -> bool:
    """Whether a thread's stack and instruction lie below 4 GiB, as in a program of 32 bits."""
    return max(int(word, 16) for word in thread.call.split()[-2:]) < _NARROW


def _has_limit(call: _Call, args: Sequence[int]) -> bool:
    if call.sleeps or call.limit is None:
        return call.sleeps
    return args[call.limit] != 0 if call.pointer else not args[call.limit] & 1 << 31


def _check_descriptors(
    reading: Reading,
    calls: Mapping[_Thread, tuple[_Call, list[int]]],
    family: Mapping[int, _Process],
    everyone: Mapping[int | str, _Process],
) -> None:
    """Nothing that the family has open is moved by anybody else. The agent reads from its pipes, and writes to none.

    A thread may wait for a file that no descriptor leads to any more. Of one that reads, its place in the kernel tells.
    """
    if not reading.whole:
        raise _DoubtError("a folder could not be read")
    agent = everyone["self"].pid
    own: dict[tuple[int, int], str] = {}
    outside: list[tuple[int, str]] = []
    for name, target in reading.files:
        match = re.fullmatch(r"/proc/(\d+)(?:/task/(\d+))?/fd/(\d+)", name)
        if not match:
            continue
        pid = int(match[1])
        if pid not in family:
            outside.append((pid, target))
        elif not (_HARMLESS.fullmatch(target) or _PIPE.fullmatch(target)):
            raise _DoubtError(f"process {pid} has {target} open")
        elif match[2]:
            own[int(match[2]), int(match[3])] = target
    places = dict(reading.files)
    pipes = {target for target in own.values() if _PIPE.fullmatch(target)}
    for pid, target in outside:
        if target in pipes and (pid != agent or outside.count((pid, target)) > 1):
            raise _DoubtError(f"process {pid} has {target} open, too")
    for thread, (call, args) in calls.items():
        if not any(tid == thread.tid for tid, _ in own):
            raise _DoubtError(f"what thread {thread.tid} has open is not told")
        place = places.get(f"/proc/{thread.pid}/task/{thread.tid}/wchan")
        target = own.get((thread.tid, args[0] & 0xFFFFFFFF), "")
        if call.reads and (place not in _READERS or not _READABLE.fullmatch(target)):
            raise _DoubtError(f"thread {thread.tid} reads from no pipe")


def _check_memory(
    reading: Reading, calls: Mapping[_Thread, tuple[_Call, list[int]]], speakers: Mapping[int, int]
) -> None:
    """No memory is shared with others, and so no futex; the kernel writes to none (asynchronous I/O maps its rings)."""
    files = dict(reading.files)
    private: dict[int, list[range]] = {}
    wide = set()
    for pid, tid in speakers.items():
        text = files.get(f"/proc/{pid}/task/{tid}/maps", "")
        lines = re.findall(r"^([0-9a-f]+)-([0-9a-f]+) ([r-][w-][x-][ps]) [0-9a-f]+ \S+ (\d+)(?: +(.*))?$", text, re.M)
        if not text.endswith("\n") or len(lines) != text.count("\n") or "[stack]" not in text:
            raise _DoubtError(f"the memory of process {pid} cannot be read")
        for begin, end, access, inode, path in lines:
            if int(end, 16) > _NARROW:
                wide.add(pid)
            plain = path.startswith("/") and not path.startswith(("/dev", "/[")) and not path.endswith("(deleted)")
            if access[3] == "s" and (access[1] == "w" or not plain):
                raise _DoubtError(f"process {pid} shares memory: {path or inode}")
            if access[3] == "p" and inode == "0":
                private.setdefault(pid, []).append(range(int(begin, 16), int(end, 16)))
    for thread, (call, args) in calls.items():
        if thread.pid in wide and _is_narrow(thread):  # its call was taken for one of a program of 32 bits
            raise _DoubtError(f"thread {thread.tid} of a program of 64 bits runs below 4 GiB")
        shared = call is _FUTEX and not args[1] & _FUTEX_PRIVATE
        if shared and not any(args[0] in memory for memory in private.get(thread.pid, [])):
            raise _DoubtError(f"thread {thread.tid} waits for a futex that may be shared")


def _check_no_timer_of_process(reading: Reading, living: Sequence[int]) -> None:
    """No process has a POSIX timer (timer_create(2)). One of alarm(2) or setitimer(2) is among the hrtimers."""
    files = dict(reading.files)
    for pid in living:
        if files.get(f"/proc/{pid}/timers") != "":
            raise _DoubtError(f"process {pid} has timers, or they are not told")


def _check_nobody_is_traced(reading: Reading, others: Sequence[int]) -> None:
    """The family traces no process outside, whose fate would end its waiting for a child."""
    read_processes = set()
    for name, text in reading.files:
        if match := re.fullmatch(r"/proc/(\d+)/task/\d+/status", name):
            if _Status.read(text).tracer:
                raise _DoubtError(f"process {match[1]} is traced")
            read_processes.add(int(match[1]))
    if missing := set(others) - read_processes:
        raise _DoubtError(f"processes are gone: {missing}")


def _timer_lists(reading: Reading) -> list[_Timers]:
    """All readings of the list: timers that come and go while it is read may hide another one from a single reading."""
    lists = [_timers(text) for name, text in reading.files if name == "/proc/timer_list"]
    if len(lists) < 2:
        raise _DoubtError("the guest does not tell its timers")
    return lists


_TIMER = re.compile(r" #\d+: <[^>]*>, ([^,\n]+), S:[0-9a-f]+.*\n # expires at (\d+)-(\d+) nsecs .*\n")


def _timers(text: str) -> _Timers:
    """What the file tells (kernel/time/timer_list.c): for each processor its clocks, then whatever else it has."""
    head, *processors = re.split(r"^cpu: \d+\n", text, flags=re.M)
    now = re.search(r"^now at (\d+) nsecs$", head, re.M)
    bases = re.search(r"^HRTIMER_MAX_CLOCK_BASES: (\d+)$", head, re.M)
    if len(processors) != 1 or not now or not bases:
        raise _DoubtError(f"the guest has {len(processors)} processors, or does not tell its timers")
    _, *clocks = re.split(r"^ clock \d+:\n", processors[0], flags=re.M)
    if len(clocks) != int(bases[1]) or not re.search(r"^jiffies: \d+\n", clocks[-1], re.M):
        raise _DoubtError("the guest's list of timers is not whole")
    timers = []
    for index, clock in enumerate(clocks):
        source = re.search(r"^  \.get_time: +(\w+)\n", clock, re.M)
        offset = re.search(r"^  \.offset: +(\d+) nsecs\n", clock, re.M)
        _, found, rest = clock.partition("active timers:\n")
        if not source or not offset or not found:
            raise _DoubtError("the guest's list of timers cannot be read")
        steady = source[1] == "ktime_get" and offset[1] == "0"
        if source[1] == "ktime_get_boottime" and offset[1] != "0":
            raise _DoubtError("the guest was suspended")
        while match := _TIMER.match(rest):
            timers.append(_Timer(match[1], int(match[2]), int(match[3]), steady))
            rest = rest[match.end() :]
            if index >= _SOFT_CLOCK and match[1] == _SLEEPER:
                raise _DoubtError("the guest's kernel wakes sleepers from a thread of its own")
        if rest.startswith(" #"):
            raise _DoubtError("a timer of the guest's cannot be read")
    for timer in timers:
        if not re.fullmatch(r"[A-Za-z_][\w.]*(?: \[\w+\])?", timer.function):
            raise _DoubtError(f"the guest's kernel does not name its functions: {timer.function}")
    sleepers = sum(timer.function == _SLEEPER for timer in timers)
    ours = frozenset(timer for timer in timers if timer.function not in _NOT_OURS)
    return _Timers(int(now[1]), ours, sleepers)


def _before(lists: Sequence[_Timers], end: int, limited: int) -> set[_Timer]:
    """The timers that end before a time and may be the command's. `limited` is how many of its threads wait for one."""
    if limited > min(each.sleepers for each in lists):
        raise _DoubtError("not all timers are told")
    return {
        timer
        for each in lists
        for timer in each.timers
        if (timer.soft < end or not timer.steady) and (limited or timer.function != _SLEEPER)
    }


def _summary(threads: int, limited: int, processes: int) -> str:
    """How they sleep, such as "5 threads of 2 processes sleep: 4 without a limit, 1 beyond the limit"."""
    subject = "1 thread" if threads == 1 else f"{threads} threads"
    subject += f" of {processes} processes" if processes > 1 else ""
    verb = "sleeps" if threads == 1 else "sleep"
    if not limited:
        return f"{subject} {verb} without a limit"
    if limited == threads:
        return f"{subject} {verb} beyond the limit"
    return f"{subject} {verb}: {threads - limited} without a limit, {limited} beyond the limit"


def _table(
    family: Mapping[int, _Process],
    threads: Sequence[_Thread],
    calls: Mapping[_Thread, tuple[_Call, list[int]]],
    limited: set[_Thread],
    limit: float,
    passed: float,
    rest: float | None,
) -> str:
    """What was seen. `rest` is how many seconds after the start the first timer ends that may be the command's."""
    lines = [
        f"All threads slept {passed:.1f} s after the start, by the guest's clock.",
        f"Nothing was left that could wake one before the limit of {limit:g} s.",
        "",
        f"{'process':>7} {'thread':>7}  {'name':15}  {'system call':22}  limit",
    ]
    for thread in threads:
        if thread not in calls:
            lines.append(f"{thread.pid:7} {thread.tid:7}  {thread.name:15}  has ended")
            continue
        call, args = calls[thread]
        what = f"{call.name} ({_FUTEX_WAITS[args[1] & 127]})" if call is _FUTEX else call.name
        what += f" ({args[0] & 0xFFFFFFFF})" if call.reads else ""
        word = "beyond the trial's" if thread in limited else "none"
        lines.append(f"{thread.pid:7} {thread.tid:7}  {thread.name:15}  {what:22}  {word}")
    lines += [f"{pid:7} {pid:7}  {each.name:15}  has ended" for pid, each in family.items() if each.zombie]
    if limited and rest is not None:
        lines += ["", f"No timer that may be theirs ends earlier than {rest:.1f} s after the start."]
    return "\n".join(lines) + "\n"
