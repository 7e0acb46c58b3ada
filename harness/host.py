"""Programs of the host that images are made with: found, run, and their failures told in a sentence.

Knows nothing of what they are run for.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from harness.errors import ImageError, ToolMissing

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
    done = subprocess.run(
        [program, *map(str, command[1:])],
        cwd=folder,
        env={**os.environ, "LC_ALL": "C"},
        input=stdin,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise ImageError(f"{what}: {command[0]} failed: {first_error(done.stderr)}")
    return done.stdout


def first_error(stderr: str) -> str:
    """What to show of a failed program's standard error: apt's first `E:` line, or the last three lines."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("E:")]
    return errors[0] if errors else " / ".join(lines[-3:]) or "it printed nothing"


def which(name: str) -> str:
    """The path of one of TOOLS. Raises ToolMissing, which names its package."""
    # An ordinary user's PATH has no sbin on Debian, where mke2fs is.
    path = shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")
    if path is None:
        package = TOOLS.get(name, name)
        raise ToolMissing(f"{name} is needed and not installed (Debian package {package})")
    return path
