"""Programs of the host that images are made with: found, run, and their failures told in a sentence.

Knows nothing of what they are run for.
"""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from harness.errors import ImageError, ToolMissing

_log = logging.getLogger(__name__)

#: The host's programs that are run, and the Debian package that brings each.
TOOLS = {
    "apt-cache": "apt",
    "apt-get": "apt",
    "cpio": "cpio",
    "debugfs": "e2fsprogs",
    "dpkg-deb": "dpkg",
    "dropbearkey": "dropbear-bin",
    "fakeroot": "fakeroot",
    "mke2fs": "e2fsprogs",
    "qemu-img": "qemu-utils",
    "ssh-keygen": "openssh-client",
}


def run(*command: str | Path, what: str, folder: Path | None = None, stdin: str = "") -> str:
    """Run one of TOOLS, or a shell, and give back its standard output.

    Args:
        command: the program's name and its arguments.
        what: what this step is, for the error's text.
        folder: the folder to run in.
        stdin: what the program reads.

    Raises:
        ToolMissing: the program is not installed.
        ImageError: it failed; the text holds apt's first error, or the last lines of standard error.
    """
    program = which(str(command[0]))
    begun = time.monotonic()
    with subprocess.Popen(
        [program, *map(str, command[1:])],
        cwd=folder,
        env={**os.environ, "LC_ALL": "C"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        process_group=0,  # a ctrl-C is for the harness, which may go on with its trials
    ) as process:
        try:
            out, err = process.communicate(stdin)
        except BaseException:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            raise
    text = shlex.join(map(str, command))
    _log.info("%s: status %d after %.2f s: %s", what, process.returncode, time.monotonic() - begun, text)
    if process.returncode:
        raise ImageError(f"{what}: {command[0]} failed: {first_error(err)}")
    return out


def first_error(stderr: str) -> str:
    """What to show of a failed program's standard error: apt's first `E:` line, or the last three lines."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("E:")]
    return errors[0] if errors else " / ".join(lines[-3:]) or "it printed nothing"


def which(name: str, package: str | None = None, path: str | None = None) -> str:
    """The path of a program, as `find` finds it.

    Args:
        package: the Debian package that brings it; None means that of TOOLS.

    Raises:
        ToolMissing: it is not installed; the text names the package.
    """
    program = find(name, path)
    if program is None:
        raise ToolMissing(f"{name} is not installed (Debian package {package or TOOLS.get(name, name)})")
    return program


def find(name: str, path: str | None = None) -> str | None:
    """The path of a program, or None if it is not installed.

    Args:
        path: the folders to search, as in PATH; None means PATH and, where an ordinary user of Debian has mke2fs, sbin.
    """
    return shutil.which(name, path=path or search_path())


def available_memory(groups: Path = Path("/sys/fs/cgroup")) -> int:
    """The MiB of memory that programs can still have: of this machine's (proc(5), MemAvailable), and of what the groups
    that this process is in may have, as in a container (Linux, Documentation/admin-guide/cgroup-v2.rst).

    Args:
        groups: the folder of all groups.
    """
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) << 10
    membership = Path("/proc/self/cgroup")
    lines = membership.read_text().splitlines() if membership.exists() else []
    own = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    for folder in [groups / own, *(groups / parent for parent in Path(own).parents)]:
        available = min(available, _left_to(folder))
    return available >> 20


def _left_to(group: Path) -> int:
    """The bytes that a group may still have; files that were read and lie in memory make room for others."""
    try:
        most = (group / "memory.max").read_text().strip()
        taken = int((group / "memory.current").read_text())
        counts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except OSError as error:  # the uppermost has no bound, and not each machine has such groups
        _log.debug("the memory of %s: %s", group, error)
        return sys.maxsize
    return sys.maxsize if most == "max" else max(0, int(most) - taken + int(counts.get("inactive_file", 0)))


def search_path() -> str:
    """PATH with the folders of programs that are root's on Debian."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
