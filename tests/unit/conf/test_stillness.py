"""Whether a command can still run: looks at real programs, recorded in the control guest, and what may be wrong there.

Each file of tests/data/stillness has the looks at one program, with a limit of 20 s: what was asked for, and what came.
Of the kernel's threads, of status and of the list of timers it has only what matters.
"""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.conf import stillness
from harness.conf.stillness import Reading, Stillness

RECORDED = Path(__file__).parents[2] / "data" / "stillness"
STILL = {
    "mutex-c": "2 threads sleep without a limit",
    "mutex-sysmon": "5 threads sleep: 4 without a limit, 1 beyond the limit",
    "pipe": "1 thread sleeps without a limit",
    "pipe-poller": "3 threads sleep: 2 without a limit, 1 beyond the limit",
    "sleep-long": "3 threads sleep: 1 without a limit, 2 beyond the limit",
    "child-waits": "2 threads of 2 processes sleep without a limit",
    "first-thread-ended": "1 thread sleeps without a limit",
    "zombie": "1 thread sleeps without a limit",
}
DOUBTS = {
    "accept": "sleeps in system call 102",
    "alarm": "a timer may be the command's: .*it_real_fn",
    "child-writes": "a timer may be the command's: .*hrtimer_wakeup",
    "outsiders-pipe": r"process \d+ has pipe:\[\d+\] open, too",
    "posix-timer": "has timers",
    "sem-timedwait": "a timer may be the command's: .*hrtimer_wakeup",
    "shared-futex": "shares memory",
    "sibling-signals": "a timer may be the command's",
    "sleep-short": "a timer may be the command's",
    "spins": "is in state R",
    "timerfd": r"has anon_inode:\[timerfd\] open",
}


def recorded(name):
    looks = json.loads((RECORDED / f"{name}.json").read_text())
    return [Reading([tuple(file) for file in look["files"]], look["whole"], look["elapsed"]) for look in looks]


def judge(readings, machine="i686", limit=20.0):
    """The proof, or the doubt; None if it asks for more than there is."""
    looks = stillness.linux(machine, limit)
    try:
        next(looks)
        for reading in readings:
            looks.send(reading)
    except StopIteration as end:
        return end.value
    return None


def changed(readings, number, path, old, new, count=0):
    """The readings with other text in those files of one look whose whole path matches."""
    result = list(readings)
    files = [(name, re.sub(old, new, text, count=count) if re.fullmatch(path, name) else text)
             for name, text in result[number].files]  # fmt: skip
    assert files != result[number].files, "the case changes something"
    result[number] = Reading(files, result[number].whole, result[number].elapsed)
    return result


def test_every_recorded_program_has_its_case():
    assert {file.stem for file in RECORDED.iterdir()} == {*STILL, *DOUBTS}


@pytest.mark.parametrize("name", STILL)
def test_a_hang_is_proved(name):
    proof = judge(recorded(name))
    assert isinstance(proof, Stillness) and proof.summary == STILL[name], proof
    threads = re.findall(r"^ +\d+ +\d+  ", proof.evidence, re.MULTILINE)
    assert len(threads) >= int(STILL[name].split()[0])


@pytest.mark.parametrize("name", DOUBTS)
def test_what_may_run_is_a_doubt(name):
    doubt = judge(recorded(name))
    assert isinstance(doubt, str) and re.search(DOUBTS[name], doubt), doubt


def test_the_evidence_is_a_table():
    lines = judge(recorded("mutex-sysmon")).evidence.splitlines()
    assert lines[0].startswith("All threads slept 3.2 s after the start")
    assert lines[3].split() == ["process", "thread", "name", "system", "call", "limit"]
    assert sum(line.endswith("futex (wait)            none") for line in lines) == 4
    assert sum(line.endswith("futex (wait)            beyond the trial's") for line in lines) == 1
    assert lines[-1] == "No timer that may be theirs ends earlier than 62.2 s after the start."


@pytest.mark.parametrize(("limit", "still"), [(62.1, True), (62.3, False), (120.0, False), (1000.0, False)])
def test_a_thread_that_wakes_before_the_limit_is_a_doubt(limit, still):
    assert isinstance(judge(recorded("mutex-sysmon"), limit=limit), Stillness) is still


@pytest.mark.parametrize("machine", ["aarch64", "", "i286", "x86_64x"])
def test_numbers_of_system_calls_are_known_of_no_other_processor(machine):
    assert "are not known" in judge(recorded("pipe"), machine)


def test_a_program_of_32_bits_is_known_on_a_kernel_of_64():
    assert isinstance(judge(recorded("pipe"), "x86_64"), Stillness)


STAT = r"/proc/(?!self|1/)\d+/stat"
OWN = r"/proc/\d+/task/\d+/"
#: look, path, old, new, what the doubt says; in the recording of mutex-sysmon.
CASES = [
    (1, f"{OWN}status", r"(voluntary_ctxt_switches:\t)\d+", r"\g<1>99", "a thread has run"),
    (3, f"{OWN}syscall", r"0x80 ", "0x81 ", "a thread has run"),
    (1, f"{OWN}status", "State:\tS", "State:\tD", "in state D"),
    (3, f"{OWN}status", "State:\tS", "State:\tR", "in state R"),
    (1, f"{OWN}status", "TracerPid:\t0", "TracerPid:\t1", "traced by 1"),
    (1, f"{OWN}status", r"ShdPnd:\t0+", "ShdPnd:\t0000000000000400", "about to get a signal"),
    (1, f"{OWN}status", r"SigPnd:\t0+", "SigPnd:\t0000000000000400", "about to get a signal"),
    (1, f"{OWN}syscall", ".*", "running", "in no system call"),
    (1, f"{OWN}syscall", "^240 .*", "-1 0xbfe00000 0xb7000000", "in no system call"),
    (1, f"{OWN}syscall", "^240 ", "72 ", "sleeps in system call 72"),
    (1, f"{OWN}syscall", r"^240 (0x\w+) 0x80 ", r"240 \1 0x86 ", "futex operation 134"),
    (1, f"{OWN}syscall", r"^240 (0x\w+) 0x80 ", r"240 0x1 0x0 ", "futex that may be shared"),
    (1, f"{OWN}syscall", r"^240 0x\w+ ", "267 0x2 ", "sleeps by clock 2"),
    (1, f"{OWN}syscall", r"^240 0x\w+ ", "3 0x0 ", "reads from no pipe"),
    (1, f"{OWN}syscall", r"0x\w+ 0x\w+\n", "0x7ffc00000000 0x7f0000000000\n", "sleeps in system call 240"),
    (1, f"{OWN}syscall", r"^240 0x\w+ 0x80 ", "168 0x0 0x1 ", "waits for descriptors in memory"),
    (1, f"{OWN}syscall", r"^240 0x\w+ 0x80 ", "142 0x5 0x80 ", "waits for descriptors in memory"),
    (2, "/proc/timer_list", "^cpu: 0", "cpu: 0\ncpu: 1", "2 processors"),
    (2, "/proc/timer_list", "hrtimer_wakeup", "0xc0de", "name its functions"),
    (2, "/proc/timer_list", "hrtimer_wakeup", "sleeper", "not all timers are told"),
    (2, "/proc/timer_list", "(ktime_get_boottime\n  .offset: +)0", r"\g<1>5", "suspended"),
    (2, "/proc/timer_list", " clock 7:\n", "", "not whole"),
    (2, "/proc/timer_list", r"(clock 1:(?s:.*?)active timers:\n)",
     r"\1 #0: <0>, hrtimer_wakeup, S:01\n # expires at 9000000000000000000-9000000000000000001 nsecs [in 5 to 5]\n",
     "a timer may be the command's"),
    (2, "/proc/timer_list", r"(clock 4:(?s:.*?)active timers:\n)",
     r"\1 #0: <0>, hrtimer_wakeup, S:01\n # expires at 9000000000000000000-9000000000000000001 nsecs [in 5 to 5]\n",
     "wakes sleepers from a thread of its own"),
    (2, "/proc/timer_list", r" # expires at \d+", " # expires at x", "cannot be read"),
    (2, f"{OWN}maps", r"rw-p(.*\[stack\])", r"rw-s\1", "shares memory"),
    (2, f"{OWN}maps", r"r--p(.*)\n", "r--s 00000000 00:0e 77 anon_inode:[io_uring]\n", "shares memory"),
    (2, f"{OWN}maps", r"\[stack\]", "", "cannot be read"),
    (2, f"{OWN}maps", "^", "7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0\n", "of 64 bits runs below 4 GiB"),
    (2, r"/proc/\d+/timers", "^", "ID: 0\n", "has timers"),
    (2, f"{OWN}fd/0", "/dev/null", "/dev/ttyS0", "has /dev/ttyS0 open"),
    (2, f"{OWN}fd/1", r"pipe:\[\d+\]", "socket:[77]", "has socket"),
    (2, f"{OWN}fd/1", r"pipe:\[\d+\]", "anon_inode:inotify", "has anon_inode:inotify"),
    (2, f"{OWN}status", "TracerPid:\t0", "TracerPid:\t7", "is traced"),
    (3, STAT, r"\) S (\d+ )", r") T \1", "a thread has run"),
    (0, STAT, r"(\) S \d+ \d+ \d+ )0 ", r"\g<1>1025 ", "terminal 1025"),
]  # fmt: skip


@pytest.mark.parametrize(("look", "path", "old", "new", "doubt"), CASES)
def test_one_thing_that_is_otherwise_is_a_doubt(look, path, old, new, doubt):
    old = re.compile(old, re.MULTILINE)
    answer = judge(changed(recorded("mutex-sysmon"), look, path, old, new))
    assert isinstance(answer, str) and doubt in answer, answer


def test_a_thread_that_reads_from_what_its_descriptor_led_to_before_is_a_doubt():
    readings = changed(recorded("pipe"), 2, f"{OWN}wchan", "pipe_read", "timerfd_read")
    assert "reads from no pipe" in judge(readings)


def with_process(readings, ppid, start, path="", text=""):
    """The readings with one more process, 7777, of the same group as no other, and one more file of it in all looks."""
    stat = f"7777 (late) S {ppid} 7777 7777 0 -1 4194304 {'0 ' * 10}1 0 {start} {'0 ' * 30}0\n"
    more = [("/proc/7777/stat", stat), *([(path, text)] if path else [])]
    return [Reading([*each.files, *more], each.whole, each.elapsed) for each in readings]


def start_of_agent(readings):
    return int(dict(readings[0].files)["/proc/self/stat"].rpartition(") ")[2].split()[19])


def test_a_process_that_began_after_the_agent_belongs_to_the_command():
    readings = recorded("pipe")
    later = start_of_agent(readings) + 1
    assert "not all threads of process 7777 are told" in judge(with_process(readings, 1, later))


STATUS = "Name:\tlate\nState:\tR\nTracerPid:\t0\nSigPnd:\t0\nShdPnd:\t0\nSigBlk:\t0\n"
STATUS += "voluntary_ctxt_switches:\t1\nnonvoluntary_ctxt_switches:\t1\n"


@pytest.mark.parametrize("older", ["by itself", "by its parent"])
def test_an_older_process_and_its_children_do_not_matter(older):
    readings = recorded("pipe")
    agent = start_of_agent(readings)
    stats = [text.rpartition(") ")[2].split() for name, text in readings[0].files if re.fullmatch(STAT, name)]
    server = int(next(fields[1] for fields in stats if int(fields[19]) < agent and fields[1] not in "012"))
    ppid, start = (1, agent - 1) if older == "by itself" else (server, agent + 1)
    more = with_process(readings, ppid, start, "/proc/7777/task/7777/status", STATUS)
    assert isinstance(judge(more), Stillness)


def test_a_process_that_begins_between_the_looks_is_a_doubt():
    readings = recorded("pipe")
    more = with_process(readings, 1, start_of_agent(readings) + 1)
    assert judge([*readings[:3], more[3]]) == "a thread has run"


def test_a_thread_that_begins_between_the_looks_is_a_doubt():
    readings = recorded("mutex-c")
    path, text = next(file for file in readings[3].files if re.fullmatch(OWN + "status", file[0]))
    call = dict(readings[3].files)[path.replace("status", "syscall")]
    more = [(re.sub(r"\d+/status", "7777/status", path), text), (re.sub(r"\d+/status", "7777/syscall", path), call)]
    last = Reading([*readings[3].files, *more], True, readings[3].elapsed)
    assert "not all threads" in judge([*readings[:3], last])


TIMER = " #9: <0>, hrtimer_wakeup, S:01\n # expires at {at}-{at} nsecs [in 5 to 5 nsecs]\n"


@pytest.mark.parametrize(
    ("name", "first", "last", "after", "answer"),
    [
        ("mutex-sysmon", True, False, 2.0, Stillness),  # it ran out, and nothing of the command has run
        ("mutex-sysmon", True, True, 2.0, "may be the command's"),
        ("mutex-sysmon", True, False, 0.0, "may be the command's"),  # it was put off, perhaps
        ("mutex-sysmon", False, True, 2.0, Stillness),  # nothing of the command has begun it
        ("mutex-c", True, True, 2.0, Stillness),  # nothing of the command waits for one
    ],
)
def test_whose_a_timer_is_shows_when_it_has_run_out(name, first, last, after, answer):
    readings = recorded(name)
    now = int(re.search(r"now at (\d+)", dict(readings[2].files)["/proc/timer_list"])[1])
    timer = "active timers:\n" + TIMER.format(at=now + 10**9)
    for number, there in ((2, first), (3, last)):
        if there:
            readings = changed(readings, number, "/proc/timer_list", "active timers:\n", timer, count=1)
    last_now = f"now at {now + int(after * 10**9)} nsecs"
    readings = changed(readings, 3, "/proc/timer_list", "now at .*", last_now)
    readings[3] = Reading(readings[3].files, True, readings[3].elapsed + 60)
    proof = judge(readings)
    assert isinstance(proof, Stillness) if answer is Stillness else answer in proof, proof


def test_timers_are_waited_for_and_no_longer_than_is_worth_it():
    def wait(seconds):
        readings = recorded("mutex-sysmon")
        now = int(re.search(r"now at (\d+)", dict(readings[2].files)["/proc/timer_list"])[1])
        timer = "active timers:\n" + TIMER.format(at=now + int(seconds * 10**9))
        looks = stillness.linux("i686", 20.0)
        next(looks)
        looks.send(readings[0])
        looks.send(readings[1])
        return looks.send(changed(readings, 2, "/proc/timer_list", "active timers:\n", timer, count=1)[2]).delay

    assert 3.0 < wait(3.0) < 3.5
    with pytest.raises(StopIteration, match="may be the command's"):
        wait(6.0)


def test_a_guest_whose_clock_runs_ahead_proves_nothing_of_limits():
    readings = recorded("mutex-sysmon")
    early = Reading(readings[3].files, True, 1.0)
    assert "clock is fast" in judge([*readings[:3], early])
    readings = recorded("mutex-c")
    assert isinstance(judge([*readings[:3], Reading(readings[3].files, True, 1.0)]), Stillness)


@pytest.mark.parametrize("name", STILL)
@pytest.mark.parametrize("number", range(4))
def test_a_folder_that_could_not_be_read_is_a_doubt(name, number):
    readings = recorded(name)
    readings[number] = Reading(readings[number].files, False, readings[number].elapsed)
    assert judge(readings) == "a folder could not be read"


#: What a proof rests on, in the looks that ask for it.
GROUNDS = re.compile(r"/proc/(?:self/stat|timer_list|\d+/(?:timers|task/\d+/(?:status|syscall|maps)))")
REAL = {name: recorded(name) for name in STILL}
PLACES = [
    (name, number, place)
    for name, readings in REAL.items()
    for number, reading in enumerate(readings)
    for place, (file, text) in enumerate(reading.files)
    if GROUNDS.fullmatch(file) and not (file.endswith("/syscall") and text.startswith("-1"))  # of a thread that ended
]


@given(place=st.sampled_from(PLACES), data=st.data())
def test_what_is_cut_off_or_gone_proves_nothing(place, data):
    name, number, index = place
    readings = list(REAL[name])
    files = list(readings[number].files)
    file, text = files[index]
    end = text.find("jiffies:") if file == "/proc/timer_list" else len(text) - 1
    cut = data.draw(st.integers(-1, end), label="cut") if end > 0 else -1
    files[index : index + 1] = [] if cut < 0 else [(file, text[:cut])]
    readings[number] = Reading(files, True, readings[number].elapsed)
    assert isinstance(judge(readings), str)


@given(
    name=st.sampled_from([*STILL]),
    number=st.integers(0, 3),
    place=st.integers(0, 10**6),
    at=st.integers(0, 10**6),
    wild=st.text() | st.sampled_from(["\n", "\0", "-1", "9" * 500, "0x" + "f" * 40, "(", ") S ", ": ", "[", "\\"]),
    size=st.integers(0, 40),
)
def test_wild_files_raise_nothing(name, number, place, at, wild, size):
    readings = list(REAL[name])
    files = list(readings[number].files)
    file, text = files[place % len(files)]
    at %= len(text) + 1
    files[place % len(files)] = (file, text[:at] + wild + text[at + size :])
    readings[number] = Reading(files, True, readings[number].elapsed)
    assert isinstance(judge(readings), str | Stillness | None)


def test_answers_may_come_with_nothing_in_them():
    for number in range(4):
        readings = recorded("pipe")
        readings[number] = Reading([], True, 5.0)
        assert isinstance(judge(readings), str)
