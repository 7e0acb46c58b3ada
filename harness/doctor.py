"""What the host must have, whether it has it, and how to get it: Debian packages, by apt.

Uses the standard library alone, since the Makefile runs it before there is a virtual environment:
`python3 -m harness.doctor --install`, with `--tests` for what the tests need besides.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

#: Programs by the Debian package that brings them.
_PROGRAMS = {
    "qemu-system-x86": ["qemu-system-i386", "qemu-system-x86_64"],
    "qemu-utils": ["qemu-img"],
    "openssh-client": ["ssh", "ssh-keygen"],
    "dropbear-bin": ["dropbearkey"],
    "e2fsprogs": ["mke2fs", "debugfs"],
    "fakeroot": ["fakeroot"],
    "cpio": ["cpio"],
    "make": ["make"],
    "patch": ["patch"],
    "xz-utils": ["xz"],
}
#: The same for the tests alone: the report is looked at in a browser, and GRUB boots disks that the tests make.
_TEST_PROGRAMS = {"chromium": ["chromium"], "grub-pc-bin": ["grub-mkimage"]}
#: The target of the control guest's toolchain.
_TRIPLE = "i686-linux-gnu"
#: That of its 64-bit twin's, which is asked for by tests only, and otherwise told of when the guest is used.
_TWIN = "x86_64-linux-gnu"


@dataclass(frozen=True)
class Need:
    """Something that the host must have. `there` says whether it has it."""

    what: str
    package: str
    there: bool


def needs(tests: bool = False) -> list[Need]:
    """All that the harness, or (tests) that and its tests, need of the host."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    found = [
        Need(program, package, shutil.which(program, path=path) is not None)
        for package, programs in {**_PROGRAMS, **(_TEST_PROGRAMS if tests else {})}.items()
        for program in programs
    ]
    major = _gcc()
    found.append(Need(f"{_TRIPLE}-gccgo-{major}", f"gccgo-{major}-{_TRIPLE}", _installed_gccgo() == major))
    source = any(Path(f"/usr/src/gcc-{major}").glob(f"gcc-{major}.*.tar.xz"))
    if tests and platform.machine() == "x86_64":  # a cross compiler for other machines' own target has another name
        twin = f"{_TWIN}-gccgo-{major}"
        found.append(Need(twin, f"gccgo-{major}", shutil.which(twin) is not None))
    found.append(Need(f"the source of GCC {major}", f"gcc-{major}-source", source))
    return found


def _installed_gccgo() -> int | None:
    """The newest cross gccgo that is installed."""
    majors = [major for major in range(16, 11, -1) if shutil.which(f"{_TRIPLE}-gccgo-{major}")]
    return majors[0] if majors else None


def _gcc() -> int:
    """The GCC to use: the one whose cross gccgo is installed, else the distribution's default."""
    installed = _installed_gccgo()
    if installed:
        return installed
    asked = (
        subprocess.run(["apt-cache", "depends", f"gccgo-{_TRIPLE}"], capture_output=True, text=True, check=False).stdout
        if shutil.which("apt-cache")
        else ""
    )
    match = re.search(rf"gccgo-(\d+)-{_TRIPLE}", asked)
    return int(match[1]) if match else 12


def install(tests: bool = False) -> int:
    """Install what is missing, for the tests too if they are to be run. Returns apt's exit status."""
    root = [] if os.geteuid() == 0 else ["sudo"]
    if not any(need.there for need in needs() if need.package.startswith("gccgo")):
        _apt([*root, "apt-get", "update", "-q"])  # before the question which GCC is the default
    missing = sorted({need.package for need in needs(tests) if not need.there})
    if not missing:
        return 0
    print("installing", *missing, flush=True)
    command = [
        *root,
        "env",
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "install",
        "-q",
        "-y",
        "--no-install-recommends",
    ]
    if _apt([*command, *missing]) == 0:
        return 0
    _apt([*root, "apt-get", "update", "-q"])  # an old index names packages that are gone
    return _apt([*command, *missing])


def _apt(command: list[str]) -> int:
    try:
        return subprocess.run(command, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, check=False).returncode
    except FileNotFoundError as error:
        print(f"{error.filename}: not found; install by hand what `harness doctor` names", file=sys.stderr)
        return 2


def report() -> str:
    """What is there and what is missing, and the command that brings it."""
    lines = [f"{'ok      ' if need.there else 'MISSING '} {need.what}" for need in needs()]
    kvm = os.access("/dev/kvm", os.R_OK | os.W_OK)
    lines.append(f"ok       KVM {'is tried first' if kvm else 'is not to be had: guests run by emulation'}")
    missing = sorted({need.package for need in needs() if not need.there})
    if missing:
        lines.append(f"\nTo get what is missing: sudo apt-get install {' '.join(missing)}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(install("--tests" in sys.argv[1:]) if "--install" in sys.argv[1:] else print(report()))
