"""Programs that harm their guest, and what a run must make of each; and looks at what a run leaves behind."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

from harness.results.store import Store

T = TypeVar("T")


@dataclass(frozen=True)
class Fault:
    """What a program does, in Go, and what must come out.

    Attributes:
        body: the statements of main.
        verdicts: those that its trials may come to. Of `error` alone each trial is made as often as it may be.
        reason: a pattern that the reason of each of its trials must match.
        limit: its time limit in seconds.
        output: what is expected on its standard output, if anything is.
    """

    body: str
    verdicts: tuple[str, ...]
    reason: str = ""
    limit: int = 20
    output: str | None = None

    def source(self) -> str:
        """The program."""
        packages = {
            "os": "os.",
            "os/exec": "exec.",
            "os/signal": "signal.",
            "syscall": "syscall.",
            "time": "time.",
            "unsafe": "unsafe.",
        }
        import_lines = "\n".join(f'\t"{name}"' for name, used in packages.items() if used in self.body)
        lines = "\n".join("\t" + line for line in self.body.strip().splitlines())
        imports = f"import (\n{import_lines}\n)\n\n" if import_lines else ""
        return f"// run\n// timeout: {self.limit}s\n\npackage main\n\n{imports}func main() {{\n{lines}\n}}\n"


def sh(script: str) -> str:
    """Go that has the guest's shell do something."""
    return f"exec.Command(`/bin/sh`, `-c`, `{script}`).Run()"


WAIT = "\ntime.Sleep(time.Hour)"
#: What is said of a program that waits, by whichever way it is seen.
STOPPED = "time limit|nothing in it can run"
#: By the name of the program. A healthy program stands between any two of them when they run.
IN_GUEST = {
    "panics-the-kernel": Fault(
        "os.WriteFile(`/proc/sysrq-trigger`, []byte(`c`), 0)" + WAIT, ("error",), "QEMU ended|panic"
    ),
    "kills-the-ssh-server": Fault(sh("killall -9 dropbear") + WAIT, ("hang",), STOPPED),
    "kills-the-agent": Fault("syscall.Kill(os.Getppid(), syscall.SIGKILL)" + WAIT, ("error",), "the agent"),
    "kills-everything": Fault("syscall.Kill(-1, syscall.SIGKILL)" + WAIT, ("error",), "the agent|SSH"),
    # Its lines are files of the agent's; what is none of the agent's messages is left out.
    "talks-for-the-agent": Fault(
        "for _, name := range []string{`1`, `3`} {\n"
        "\tif file, err := os.OpenFile(`/proc/`+itoa(os.Getppid())+`/fd/`+name, os.O_WRONLY, 0); err == nil {\n"
        '\t\tfile.WriteString("\\xa5X\\x00\\x00\\x00\\x07\\x00\\x00\\x00\\x07exit no")\n\t}\n}' + WAIT,
        ("hang",),
        STOPPED,
    ),
    "forks-without-end": Fault(sh("b() { b | b & }; b; sleep 1000"), ("hang", "error"), limit=3),
    "eats-memory": Fault(
        "var kept [][]byte\nfor {\n\tpart := make([]byte, 1<<24)\n\tfor i := 0; i < len(part); i += 4096 {\n"
        "\t\tpart[i] = 1\n\t}\n\tkept = append(kept, part)\n}",
        ("crash", "error"),
        limit=300,
    ),
    "fills-the-disk": Fault(
        "file, _ := os.Create(`/tmp/full`)\npart := make([]byte, 1<<22)\n"
        "for {\n\tif _, err := file.Write(part); err != nil {\n\t\treturn\n\t}\n}",
        ("pass",),
        limit=300,
    ),
    "stops-itself": Fault("syscall.Kill(os.Getpid(), syscall.SIGSTOP)", ("hang",), "time limit", 2),
    "ignores-sigquit": Fault("signal.Ignore(syscall.SIGQUIT)\nfor {\n}", ("hang",), "time limit", 2),
    "leaves-its-group": Fault(
        "group, _ := syscall.Getpgid(os.Getppid())\nsyscall.Setpgid(0, group)\nfor {\n}", ("hang",), "time limit", 2
    ),
    "leaves-a-child-with-its-output": Fault(sh("setsid sleep 1000 &"), ("pass",)),
    "leaves-a-child-that-spins": Fault(
        "child := exec.Command(`/bin/sh`, `-c`, `while :; do :; done`)\n"
        "child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}\nchild.Start()",
        ("pass",),
    ),
    "writes-20-megabytes": Fault(
        "part := make([]byte, 1<<20)\nfor i := 0; i < 20; i++ {\n\tos.Stdout.Write(part)\n}", ("pass",)
    ),
    "closes-its-output": Fault(
        "os.Stdout.Close()\nos.Stdout.WriteString(`said`)", ("fail",), "stdout has 0 lines", output="said\n"
    ),
    "cuts-the-network": Fault(sh("ip link set eth0 down") + WAIT, ("hang",), STOPPED, 5),
    "sets-the-clock-back": Fault(sh("date -s @$(($(date +%s) - 86400))"), ("pass",)),
    "sets-the-clock-ahead": Fault(sh("date -s @$(($(date +%s) + 3600))"), ("pass",)),
    "reboots": Fault(sh("reboot -f") + WAIT, ("error",), "QEMU ended|reboot|the agent"),
    "switches-off": Fault(sh("poweroff -f") + WAIT, ("error",), "QEMU ended|halted|the agent"),
    "removes-its-libgo": Fault("os.RemoveAll(os.Getenv(`LD_LIBRARY_PATH`))", ("pass",)),
    "removes-itself": Fault("os.Remove(os.Args[0])", ("pass",)),
    "opens-all-it-can": Fault("for {\n\tif _, err := os.Open(`/`); err != nil {\n\t\treturn\n\t}\n}", ("pass",)),
    "takes-the-processor": Fault(
        "os.WriteFile(`/proc/sys/kernel/sched_rt_runtime_us`, []byte(`-1`), 0)\npriority := int32(99)\n"
        "syscall.RawSyscall(syscall.SYS_SCHED_SETSCHEDULER, 0, 1, uintptr(unsafe.Pointer(&priority)))\nfor {\n}",
        # From Linux 6.12 on a real-time program leaves 5 % to the others all the same (its kernel/sched/deadline.c,
        # fair_server_init): the guest answers, and the program is stopped at its limit.
        ("error", "hang"),
        "does not answer|QEMU|time limit",
        5,
    ),
}
#: Those that pass, and leave a guest in which the next trial goes wrong, whichever that is: they are run by themselves,
#: so that what is told of another one is that one's own doing.
TRAPS = ("fills-the-disk", "removes-its-libgo")
HEALTHY = Fault("os.Stdout.WriteString(`well`)", ("pass",), output="well")
SLOW = Fault("time.Sleep(700 * time.Millisecond)\nos.Stdout.WriteString(`well`)", ("pass",), output="well")
ITOA = """
func itoa(number int) string {
	if number < 10 {
		return string(rune('0' + number))
	}
	return itoa(number/10) + string(rune('0'+number%10))
}
"""


def write(folder: Path, programs: dict[str, Fault]) -> Path:
    """Write programs as a suite. Returns its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, fault in programs.items():
        more = ITOA if "itoa(" in fault.body else ""
        (folder / f"{name}.go").write_text(fault.source() + more)
        if fault.output is not None:
            (folder / f"{name}.out").write_text(fault.output)
    return folder


def command(*words: object, before: str = "") -> list[str]:
    """The command line of a harness in a process of its own, with Python to run before it."""
    code = f"import sys\n{before}\nfrom harness.cli.app import main\nmain()"
    return [sys.executable, "-c", code, *map(str, words)]


#: The harnesses that `start` has started.
STARTED: list[subprocess.Popen[str]] = []


def start(*words: object, before: str = "", output: IO[str] | None = None) -> subprocess.Popen[str]:
    """Start a harness as a shell does: in a process group of its own. Its output goes to a file, or to a pipe."""

    def as_in_a_shell() -> None:
        """What started the tests may have had signals ignored, as nohup and a shell's background jobs do."""
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)

    process = subprocess.Popen(
        command(*words, before=before),
        stdout=output or subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
        preexec_fn=as_in_a_shell,
    )
    STARTED.append(process)
    return process


def until(condition: Callable[[], T], seconds: float = 600.0) -> T:
    """Wait for something, and give it; the limit is there only so that a failure does not hang."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.05)
    return value


def until_nothing_is_left(work: Path) -> None:
    """Wait until nothing of a work directory's runs is left behind; what is left after two minutes is shown."""
    end = time.monotonic() + 120
    while leftovers := left_behind(work):
        assert time.monotonic() < end, leftovers
        time.sleep(0.05)


def stored(work: Path, run: int = 1) -> int:
    """How many trials are stored of a run."""
    path = work / "results.sqlite"
    return sum(1 for _ in Store(path).trials(run)) if path.is_file() else 0


def counts(work: Path, run: int = 1, errors: bool = False) -> dict[tuple[str, str], int]:
    """How many trials of a run came to what, by program and verdict."""
    trials = Store(work / "results.sqlite").trials(run)
    return dict(Counter((trial.program, trial.verdict) for trial in trials if errors or trial.verdict != "error"))


def processes(work: Path) -> dict[int, list[str]]:
    """The processes that bear a work directory in their arguments, but for harnesses: QEMUs and their shells."""
    commands = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if any(str(work / "guests") in word for word in words) and int(folder.name) != os.getpid():
            commands[int(folder.name)] = words
    return commands


def qemus(work: Path) -> list[int]:
    """The QEMUs of a work directory."""
    return [pid for pid, words in processes(work).items() if Path(words[0]).name.startswith("qemu-system")]


def left_behind(work: Path) -> list[str]:
    """What is there of a work directory's runs though none goes on: processes, guests' folders, sockets, locks."""
    leftovers = [f"process {pid}: {' '.join(words)[:100]}" for pid, words in processes(work).items()]
    leftovers += [str(path) for path in (work / "guests").glob("[!.]*")]
    leftovers += [str(path) for path in work.rglob("*") if path.is_socket()]
    for file in [work / "guests" / ".lock", *work.glob("runs/*/lock")]:
        if file.exists():
            with file.open() as opened:
                try:
                    fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    leftovers.append(f"{file} is held")
    return leftovers
