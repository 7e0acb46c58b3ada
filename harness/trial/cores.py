"""Core files of programs that crashed: asked for, fetched from the guest, and read by gdb where there is one.

A core is an extra: where it cannot be had, the trial's reason says why, and that is no error. Knows guests only as
something that runs commands.
"""

from __future__ import annotations

import logging
import shlex
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.errors import GuestError
from harness.files import written_whole
from harness.guest.shell import Shell
from harness.log import ignored
from harness.trial import gdb

_log = logging.getLogger(__name__)

#: The largest core that is fetched, in bytes; a C program of a few lines leaves 25 MB on the Hurd.
LARGEST = 128 << 20
#: Seconds that gdb may take.
GDB_SECONDS = 60.0
#: Lowers no limit: where it may not be raised, it stays, and no core is found later.
_START = 'rm -f core; ulimit -c unlimited 2>/dev/null; exec "$@"'
#: What gdb says of a core that it was not built for.
_UNREADABLE = ("not a core dump", "file format not recognized", "no core file handler recognizes format")


def allowed(argv: Sequence[str]) -> list[str]:
    """The command that runs a program with leave to write a core; the process stays the same."""
    return ["/bin/sh", "-c", _START, "sh", *argv]


def executable(stem: str) -> str:
    """The name of a program's file in the guest: one that is named as its core would be gets another name."""
    return f"{stem}-program" if stem == "core" else stem


def place(folder: Path, guest: str, variant: str, program: str, number: int) -> Path:
    """Where the core of a trial goes, below the folder for a run's cores; gdb's words lie beside it, as `.txt`."""
    return folder / guest / f"{'-'.join([variant, *Path(program).parts, str(number)])}.core"


def fetch(
    shell: Shell, folder: str, target: Path, program: Path, libraries: Sequence[Path], say: Callable[[str], None]
) -> str:
    """Bring the core from a program's folder here, and have gdb write all threads' stacks beside it.

    Args:
        folder: the folder in the guest that the program ran in.
        target: the file to write; gdb's words go into the same with `.txt`, and the guest's libraries, without which
            gdb finds no way up a stack, below `root` beside it.
        program: the program as it was built.
        libraries: those that it used and that are here.
        say: told what is going on.

    Returns:
        Where it is, or why there is none, in a few words.
    """
    core = f"{folder}/core"
    try:
        size = _size(shell, core)
        if size is None:
            return "no core was written"
        if size > LARGEST:
            return f"its core of {size / 1e6:.0f} MB is more than the {LARGEST / 1e6:.0f} MB that are fetched"
        say(f"fetching a core of {size / 1e6:.0f} MB")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(_read(shell, core))
        target.with_suffix(".txt").write_text(_stacks(shell, target, program, libraries))
    except (GuestError, ValueError) as error:
        return f"its core could not be fetched: {error}"
    except OSError as error:
        target.unlink(missing_ok=True)
        return f"its core could not be stored: {error.strerror}"
    finally:
        with ignored(_log, "removing a core", GuestError):
            shell.run(f"rm -f {shlex.quote(core)}")
    return f"core: {target}"


def _size(shell: Shell, path: str) -> int | None:
    """The size of a guest's file in bytes, or None if it is not there."""
    status, out, _ = shell.run(f"wc -c <{shlex.quote(path)}")
    return None if status else int(out)


def _read(shell: Shell, path: str) -> bytes:
    status, data, err = shell.run(f"cat {shlex.quote(path)}")
    if status:
        raise GuestError(err.decode(errors="replace").strip() or f"cat ended with status {status}")
    return data


def _stacks(shell: Shell, core: Path, program: Path, libraries: Sequence[Path]) -> str:
    """What gdb says of a core: the stacks of all threads; or why it says nothing."""
    program_of_gdb = gdb.find()
    if program_of_gdb is None:
        return "no gdb on this machine; Debian's package gdb-multiarch reads cores of most systems\n"
    root = core.parent / "root"
    root.mkdir(exist_ok=True)
    folders = ":".join(str(path.parent) for path in libraries)
    # The core comes from a machine that is not trusted: gdb loads no scripts, and none of this machine's libraries.
    command = [program_of_gdb, "-batch", "-nx", *gdb.SAFE]
    command += ["-ex", f"set sysroot {root}", "-ex", f"set solib-search-path {folders}"]
    command += ["-ex", f"file {program}", "-ex", f"core-file {core}"]
    try:
        output = _gdb([*command, "-ex", "info sharedlibrary"])
        if any(sign in output for sign in _UNREADABLE):
            return f"{program_of_gdb} cannot read cores of this system\n\n{output}"
        for name in gdb.missing_libraries(output):
            _library(shell, name, root)
        return _gdb([*command, "-ex", "thread apply all bt 100"])
    except subprocess.TimeoutExpired:
        return f"gdb took more than {GDB_SECONDS:.0f} s\n"


def _library(shell: Shell, name: str, root: Path) -> None:
    """Copy one of the guest's libraries, once, to its place below a folder. One that cannot be had is done without."""
    target = root / name.lstrip("/")
    if target.exists() or ".." in target.parts:
        return
    with ignored(_log, f"fetching {name} of the guest for gdb", GuestError):
        size = _size(shell, name)
        if size is not None and size <= LARGEST:
            data = _read(shell, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(target) as part:  # another guest's thread may look
                part.write_bytes(data)


def _gdb(command: Sequence[str]) -> str:
    # In a group of its own: a ctrl-C is for the harness.
    process = subprocess.run(
        command, capture_output=True, stdin=subprocess.DEVNULL, timeout=GDB_SECONDS, check=False, process_group=0
    )
    return (process.stdout + process.stderr).decode(errors="replace")
