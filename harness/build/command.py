"""Running a build's commands: their output goes to a log, and a failure ends in the first error they printed."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import BuildError

#: What compilers, linkers, configure scripts and make print when they fail, most telling first.
_ERRORS = (
    re.compile(r"^(?!.*configure: error: in ).*: (?:fatal )?error: .*$", re.MULTILINE),
    re.compile(r"^.*(?:undefined reference to|cannot find -l).*$", re.MULTILINE),
    re.compile(r"^.*No space left on device.*$", re.MULTILINE),
    re.compile(r"^make.*: \*\*\* .*$", re.MULTILINE),
)

#: A build that outlives the harness would go on in a folder that the next one takes for its own. So the kernel tells
#: timeout(1) when the harness is gone (setpriv(1), --pdeathsig), which here sets no limit but runs the command in a
#: process group of its own and passes the signal on to all of it. make removes what is half made (manual, Interrupts).
_END_WITH_THE_HARNESS = ("setpriv", "--pdeathsig", "TERM", "timeout", "0")


def first_error(output: str) -> str:
    """The line of a build's output that tells best why it failed, or its last line."""
    for pattern in _ERRORS:
        if match := pattern.search(output):
            return match[0].strip()
    lines = output.strip().splitlines()
    return lines[-1].strip() if lines else "it printed nothing"


def run(
    command: Sequence[str | Path],
    log: Path,
    *,
    folder: Path,
    what: str,
    env: Mapping[str, str] | None = None,
    keep: Sequence[int] = (),
) -> None:
    """Run a command to its end, its output appended to a log.

    Args:
        command: the program and its arguments.
        log: the file to append to.
        folder: the folder to run in.
        what: what this step is, for the error's text, such as "libgo no-sysmon: make".
        env: variables to add to the environment.
        keep: file descriptors that the command and all that it starts inherit, such as that of a lock.

    Raises:
        BuildError: it failed or cannot be started. The log is copied out of the build's folder, which will be removed.
    """
    with log.open("a+", encoding="utf-8", errors="replace") as file:
        print("+", *command, file=file, flush=True)
        start = file.tell()
        try:
            status = _status(
                [*_END_WITH_THE_HARNESS, *(str(word) for word in command)],
                cwd=folder,
                env={**os.environ, "LC_ALL": "C", **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                pass_fds=keep,
            )
        except OSError as error:
            raise BuildError(f"{what}: {error.filename}: {error.strerror}") from error
        if status:
            file.seek(start)
            raise BuildError(f"{what} failed: {first_error(file.read())} (whole log: {log})")


def _status(command: list[str], **how: Any) -> int:
    """Run a command to its end; when it is interrupted, end it and wait until it is gone."""
    with subprocess.Popen(command, **how) as process:
        try:
            return process.wait()
        except BaseException:
            process.terminate()
            raise  # on the way out, Popen waits
