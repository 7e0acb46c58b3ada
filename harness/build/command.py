"""Running a build's commands: their output goes to a log, and a failure ends in the first error they printed.

A command and all that it started end with the harness, however that ends, so that nothing writes into a folder that
another run has taken over.
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
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.errors import BuildError

_log = logging.getLogger(__name__)

#: What compilers, linkers, configure scripts and make print when they fail, most telling first.
_ERRORS = (
    re.compile(r"^(?!.*configure: error: in ).*: (?:fatal )?error: .*$", re.MULTILINE),
    re.compile(r"^.*(?:undefined reference to|cannot find -l).*$", re.MULTILINE),
    re.compile(r"^.*No space left on device.*$", re.MULTILINE),
    re.compile(r"^.*: not found$", re.MULTILINE),
    re.compile(r"^make.*: \*\*\* .*$", re.MULTILINE),
)

#: What a build's tools say when this machine is in trouble, and not what they build (gcc/gcc.cc, execute).
TROUBLE = re.compile(r"^.*(?:No space left on device|signal terminated program).*$", re.MULTILINE)


def first_error(output: str) -> str:
    """The line of a build's output that tells best why it failed, or its last line."""
    for pattern in _ERRORS:
        if match := pattern.search(output):
            return match[0].strip()
    lines = output.strip().splitlines()
    return lines[-1].strip() if lines else "it printed nothing"


#: Runs a command in a process group of its own, and ends the whole group when the pipe that comes as standard input
#: ends: then the harness is gone. At SIGTERM make removes what is half made (GNU make manual, Interrupts), so that
#: nobody takes it for whole who goes on with that build; what is still there after a moment is killed.
_WATCHED = """
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
_running: set[int] = set()
_guard = threading.Lock()
_stopped = threading.Event()


def run(
    command: Sequence[str | Path],
    log: Path,
    *,
    folder: Path,
    what: str,
    env: Mapping[str, str] | None = None,
    keep: int | None = None,
) -> None:
    """Run a command to its end, its output appended to a log.

    Args:
        command: the program and its arguments.
        log: the file to append to.
        folder: the folder to run in.
        what: what this step is, for the error's text, such as "libgo no-sysmon: make".
        env: variables to add to the environment.
        keep: the descriptor of a lock, which is held until the last process that the command has started ends.

    Raises:
        BuildError: it failed, cannot be started, or was stopped by `stoppable`.
    """
    with log.open("a+", encoding="utf-8", errors="replace") as file:
        print("+", *command, file=file, flush=True)
        start = file.tell()
        environment = {**os.environ, "LC_ALL": "C", **(env or {})}
        begun = time.monotonic()
        status = _watched([str(word) for word in command], file.fileno(), folder, environment, keep)
        seconds = time.monotonic() - begun
        _log.info("%s: status %d after %.1f s: %s", what, status, seconds, shlex.join(map(str, command)))
        if _stopped.is_set():
            raise BuildError(f"{what} was stopped")
        if status:
            file.seek(start)
            raise BuildError(f"{what} failed: {first_error(file.read())} (whole log: {log})")


@contextmanager
def stoppable(workers: Executor) -> Iterator[None]:
    """When the block is left by an exception, end all commands of the workers, and the workers."""
    try:
        yield
    except BaseException:
        with _guard:
            _stopped.set()
            for group in _running:
                with suppress(ProcessLookupError):
                    os.killpg(group, signal.SIGKILL)
        workers.shutdown(cancel_futures=True)
        _stopped.clear()
        raise


def _watched(command: list[str], output: int, folder: Path, env: Mapping[str, str], keep: int | None) -> int:
    theirs, ours = os.pipe()
    kept = () if keep is None else (fcntl.fcntl(keep, fcntl.F_DUPFD_CLOEXEC, 10),)  # out of the shell's way
    try:
        with _guard:
            if _stopped.is_set():
                return 1
            process = subprocess.Popen(
                ["sh", "-c", _WATCHED, "sh", *command],
                cwd=folder,
                env=env,
                stdin=theirs,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=kept,
                start_new_session=True,  # a ctrl-C is for the harness, which ends its commands in its own way
            )
            _running.add(process.pid)
        status = process.wait()
        with _guard:
            _running.discard(process.pid)
        return status
    finally:
        for descriptor in (theirs, ours, *kept):
            os.close(descriptor)
