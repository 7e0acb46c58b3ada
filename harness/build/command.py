"""Runs a build's commands. Their output goes to a file, and a failure is reported by the first error they printed.

A command and all processes that it started end with the harness, however that ends: nothing may write into a folder
that another run has taken over.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path

from harness.errors import BuildError

_log = logging.getLogger(__name__)
#: What compilers, linkers, configure scripts and make print when they fail, the most telling first.
_ERRORS = (
    re.compile(r"^(?!.*configure: error: in |collect2: error: ld returned ).*: (?:fatal )?error: .*$", re.MULTILINE),
    re.compile(r"(?:undefined reference to|cannot find -l).*$", re.MULTILINE),  # the paths before it tell nothing
    re.compile(r"^.*: error: .*$", re.MULTILINE),
    re.compile(r"^.*No space left on device.*$", re.MULTILINE),
    re.compile(r"^.*: not found$", re.MULTILINE),
    re.compile(r"^make.*: \*\*\* .*$", re.MULTILINE),
)

#: What a build's tools print when this machine is in trouble and their input is not (gcc/gcc.cc, execute).
TROUBLE = re.compile(r"^.*(?:No space left on device|signal terminated program).*$", re.MULTILINE)


def first_error(output: str) -> str:
    """The line of a build's output that explains best why it failed; else its last line."""
    for pattern in _ERRORS:
        if match := pattern.search(output):
            return match[0].strip()
    lines = output.strip().splitlines()
    return lines[-1].strip() if lines else "it printed nothing"


#: Runs a command in a process group of its own, and ends the group when the pipe on standard input closes: then the
#: harness is gone. At SIGTERM make removes unfinished targets (GNU make manual, Interrupts), so that a build that is
#: continued does not take them for finished ones. Processes that live on for three seconds are killed.
_SUPERVISED = """
exec 3<&0 </dev/null
"$@" 3<&- &
child=$!
(trap "" TERM; read -r line <&3; kill -TERM 0; sleep 3; kill -9 0) &
watcher=$!
wait $child
status=$?
kill -9 $watcher
exit $status
"""
_groups: set[int] = set()
_groups_lock = threading.Lock()
_stopped = threading.Event()


def run(
    command: Sequence[str | Path],
    log: Path,
    *,
    folder: Path,
    what: str,
    env: Mapping[str, str] | None = None,
    lock: int | None = None,
) -> None:
    """Run a command until it ends, and append its output to a file.

    Args:
        command: the program and its arguments.
        log: the file to append to.
        folder: the folder to run in.
        what: the name of this step for the error's text, such as "libgo no-sysmon: make".
        env: variables to add to the environment.
        lock: the descriptor of a lock, which is held until the last process that the command has started ends.

    Raises:
        BuildError: it failed, cannot be started, or was stopped by `stoppable`.
    """
    arguments = [str(argument) for argument in command]
    with log.open("a+", encoding="utf-8", errors="replace") as file:
        print("+", *arguments, file=file, flush=True)
        start = file.tell()
        environment = {**os.environ, "LC_ALL": "C", **(env or {})}
        begun = time.monotonic()
        status = _supervise(arguments, file.fileno(), folder, environment, lock)
        _log.info("%s: %s", what, _summary(arguments, begun, status))
        if _stopped.is_set():
            raise BuildError(f"{what} was stopped")
        if status:
            file.seek(start)
            raise BuildError(f"{what} failed: {first_error(file.read())} (whole log: {log})")


def capture(
    command: Sequence[str | Path],
    *,
    folder: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run a short command, and give back its exit status and output.

    Args:
        command: the program and its arguments.
        folder: the folder to run in.
        env: its whole environment; by default the harness's own.
        stdin: what it reads; by default it has the harness's standard input.
        timeout: seconds after which it is killed.

    Raises:
        OSError: it cannot be started.
        subprocess.TimeoutExpired: it was killed.
    """
    arguments = [str(argument) for argument in command]
    begun = time.monotonic()
    process = subprocess.run(
        arguments, cwd=folder, env=env, input=stdin, capture_output=True, timeout=timeout, check=False
    )
    _log.debug("%s", _summary(arguments, begun, process.returncode))
    return process


def _summary(arguments: Sequence[str], begun: float, status: int) -> str:
    return f"status {status} after {time.monotonic() - begun:.2f} s: {shlex.join(arguments)}"


@contextmanager
def stoppable(workers: Executor) -> Iterator[None]:
    """If an exception leaves the block, end all commands of the workers, and the workers."""
    try:
        yield
    except BaseException:
        with _groups_lock:
            _stopped.set()
            for group in _groups:
                try:
                    os.killpg(group, signal.SIGKILL)
                except ProcessLookupError:
                    _log.debug("process group %d has ended already", group)
        workers.shutdown(cancel_futures=True)
        _stopped.clear()
        raise


def _supervise(command: list[str], output: int, folder: Path, env: Mapping[str, str], lock: int | None) -> int:
    """Run a command in a process group that ends with the harness. Returns its exit status."""
    read_end, write_end = os.pipe()
    # A number above the shell's own descriptors.
    inherited = () if lock is None else (fcntl.fcntl(lock, fcntl.F_DUPFD_CLOEXEC, 10),)
    try:
        with _groups_lock:
            if _stopped.is_set():
                return 1
            process = subprocess.Popen(
                ["sh", "-c", _SUPERVISED, "sh", *command],
                cwd=folder,
                env=env,
                stdin=read_end,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=inherited,
                start_new_session=True,  # Ctrl-C is for the harness, which ends its commands in its own way
            )
            _groups.add(process.pid)
        status = process.wait()
        with _groups_lock:
            _groups.discard(process.pid)
        return status
    finally:
        for descriptor in (read_end, write_end, *inherited):
            os.close(descriptor)
