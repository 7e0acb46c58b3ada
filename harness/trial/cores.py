"""Core files of programs that crashed: asked for, fetched from the guest, and read by gdb where there is one.

A core is an extra: that it cannot be had is said in words, and is no error. Knows guests only as something that runs
commands.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.errors import GuestError
from harness.guest.shell import Shell

#: The largest core that is fetched, in bytes, and the seconds that fetching may take: 0.3 MB/s is half of what a Hurd
#: without KVM took, and a C program of a few lines leaves 25 MB there.
LARGEST, SECONDS = 128 << 20, 300.0
#: Seconds that gdb may take.
GDB_SECONDS = 60.0
#: Lowers no limit: where it may not be raised, it stays, and no core is found later.
_START = 'rm -f core; ulimit -c unlimited 2>/dev/null; exec "$@"'
#: What gdb says of a core that it was not built for.
_UNREADABLE = ("not a core dump", "file format not recognized", "no core file handler recognizes format")


def allowed(argv: Sequence[str]) -> list[str]:
    """The command that runs a program with leave to write a core; the process stays the same."""
    return ["sh", "-c", _START, "sh", *argv]


def fetch(shell: Shell, folder: str, target: Path, symbols: Sequence[Path], say: Callable[[str], None]) -> str:
    """Bring the core from a program's folder here, and have gdb write all threads' stacks beside it.

    Args:
        folder: the folder in the guest that the program ran in.
        target: the file to write; gdb's words go into the same with `.txt`.
        symbols: the program as it was built, and the libraries that it used.
        say: told what is going on.

    Returns:
        Where it is, or why there is none, in a few words.
    """
    core = shlex.quote(f"{folder}/core")
    try:
        status, out, _ = shell.run(f"wc -c <{core}")
        if status:
            return "no core was written"
        size = int(out)
        if size > LARGEST:
            return f"its core of {size / 1e6:.0f} MB is more than the {LARGEST / 1e6:.0f} MB that are fetched"
        say(f"fetching a core of {size / 1e6:.0f} MB")
        status, data, err = shell.run(f"cat {core}", timeout=min(SECONDS, 30.0 + size / 300_000))
        if status:
            return f"its core could not be read: {err.decode(errors='replace').strip()}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        said = stacks(target, symbols)
        target.with_suffix(".txt").write_text(said)
    except (GuestError, ValueError) as error:
        return f"its core could not be fetched: {error}"
    except OSError as error:
        return f"its core could not be stored: {error.strerror}"
    finally:
        with contextlib.suppress(GuestError):
            shell.run(f"rm -f {core}")
    return f"core: {target}"


def stacks(core: Path, symbols: Sequence[Path]) -> str:
    """What gdb says of a core: the stacks of all threads; or why it says nothing.

    Args:
        core: the file.
        symbols: the program, and the libraries that it used.
    """
    gdb = shutil.which("gdb-multiarch") or shutil.which("gdb")
    if gdb is None:
        return "no gdb on this machine; Debian's package gdb-multiarch reads cores of most systems\n"
    program, *libraries = symbols
    folders = ":".join(str(path.parent) for path in libraries)
    # The core comes from a machine that is not trusted: gdb loads no scripts, and none of this machine's libraries.
    words = [gdb, "-batch", "-nx", "-iex", "set auto-load off", "-iex", "set debuginfod enabled off"]
    words += ["-ex", "set sysroot /dev/null", "-ex", f"set solib-search-path {folders}"]
    words += ["-ex", f"file {program}", "-ex", f"core-file {core}", "-ex", "thread apply all bt 100"]
    try:
        done = subprocess.run(words, capture_output=True, stdin=subprocess.DEVNULL, timeout=GDB_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"gdb took more than {GDB_SECONDS:.0f} s\n"
    text = (done.stdout + done.stderr).decode(errors="replace")
    if any(words in text for words in _UNREADABLE):
        return f"{gdb} cannot read cores of this system\n\n{text}"
    return text
