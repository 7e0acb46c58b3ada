"""The installed QEMU: its version, and which options it has, of those that not every QEMU has.

QEMU is asked once, by `OPTION --version`: it reads its arguments in order, so it exits with 0 if it knows the option,
and with an error if not (its system/vl.c). The answer is kept in the cache, by the identity of QEMU's file. Knows
nothing of guests.
"""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from harness import paths
from harness.cache import Cache, digest
from harness.errors import ToolMissing

#: What is asked; part of the answer's key, so to be raised with every change.
_QUESTIONS = 1
_KIND = "qemu"
#: User and group nobody by number: the user list of a small container may not name them.
_NOBODY = "65534:65534"
#: The ways to have QEMU drop root, the best first. QEMU 9.1 brought the first one, QEMU 10.0 took the other away.
_DROP_ROOT = (("-run-with", f"user={_NOBODY}"), ("-runas", _NOBODY))
#: Dropping root takes a set-user-id call, which elevateprivileges=deny would refuse.
_SANDBOX = "on,obsolete=deny,elevateprivileges={elevate},spawn=deny,resourcecontrol=deny"


@dataclass(frozen=True)
class Qemu:
    """What is known of a QEMU.

    Attributes:
        version: the first line that it prints of its version.
        sandbox: whether it has a sandbox; one that was built without libseccomp has none.
        drop_root: the option that makes it go on as nobody; empty if it has none.
    """

    version: str
    sandbox: bool
    drop_root: tuple[str, ...]

    @property
    def migrates_to_file(self) -> bool:
        """Whether it saves to a file that is named, `file:`, and restores from one. The one before took an open file,
        `fd:`; that was deprecated in QEMU 9.1 (its docs/about/deprecated.rst), and QEMU 11.1 refuses it."""
        return self.number is None or self.number >= (9, 1)

    @property
    def number(self) -> tuple[int, int] | None:
        """Its version's first two numbers; None if they are not known."""
        number = re.search(r"version (\d+)\.(\d+)", self.version)
        return (int(number[1]), int(number[2])) if number else None

    def confinement(self, root: bool) -> list[str]:
        """The options that keep the guest's machine from the host.

        Args:
            root: whether QEMU is started by root.
        """
        elevate = "allow" if root else "deny"
        sandbox = ["-sandbox", _SANDBOX.format(elevate=elevate)] if self.sandbox else []
        return [*sandbox, *(self.drop_root if root else ())]


def escaped(value: str | Path) -> str:
    """A value among QEMU's options, where a comma is written twice (QEMU manual)."""
    return str(value).replace(",", ",,")


def identity(program: str) -> tuple[str, int, int]:
    """What tells one QEMU from another: its real path, its size in bytes and its time of change in ns."""
    path = Path(program).resolve()
    return str(path), path.stat().st_size, path.stat().st_mtime_ns


def at_hand(program: str) -> Qemu:
    """What is known of a QEMU; it is asked if it never was.

    Args:
        program: its path.

    Raises:
        ToolMissing: it does not even tell its version.
        StoreError: the answer cannot be kept.
    """

    def ask(folder: Path) -> None:
        (folder / "answer.json").write_text(json.dumps(asdict(_ask(program))))

    folder = Cache(paths.cache_dir()).make(_KIND, digest([_QUESTIONS, identity(program)]), ask, about=program)
    answer = json.loads((folder / "answer.json").read_text())
    return Qemu(answer["version"], answer["sandbox"], tuple(answer["drop_root"]))


def _ask(program: str) -> Qemu:
    status, out, err = run(program)
    if status:
        raise ToolMissing(f"{program} --version fails: {' '.join(err.split()) or f'status {status}'}")
    drop_root = next((option for option in _DROP_ROOT if run(program, *option)[0] == 0), ())
    return Qemu(out.partition("\n")[0], run(program, "-sandbox", _SANDBOX.format(elevate="deny"))[0] == 0, drop_root)


def run(program: str, *option: str) -> tuple[int, str, str]:
    """Run `QEMU [OPTION] --version`. Returns its exit status, standard output and standard error. Raises
    ToolMissing if the program cannot be run at all."""
    try:
        process = subprocess.run(
            [program, *option, "--version"], capture_output=True, text=True, errors="replace", check=False
        )
    except OSError as error:  # a file of another architecture, say
        raise ToolMissing(f"{program} cannot be run: {error.strerror}") from error
    return process.returncode, process.stdout, process.stderr
