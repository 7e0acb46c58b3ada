"""Whether KVM runs guests on this machine: as tried by `kvm_probe`, and as remembered when a guest failed under it.

That /dev/kvm exists and opens is not enough. In some virtual machines it creates a machine and then emulates each
instruction, thousands of times slower than QEMU's own emulation, or fails at what a kernel does when it boots.
"""

from __future__ import annotations

import grp
import logging
import os
import platform
import subprocess
import sys
from pathlib import Path

from harness import kvm_probe, paths

_log = logging.getLogger(__name__)

#: The device that QEMU opens for its accelerator kvm.
DEVICE = "/dev/kvm"
#: Seconds after which the probe is given up, because the kernel does not return from it.
_LIMIT = 20.0


def problem(device: str = DEVICE) -> str:
    """Why KVM does not run guests here, in a sentence without its full stop; '' if it does."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return f"this processor is {platform.machine()}, and cannot run the guests' x86 by itself"
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return f"there is no {device}: virtualisation is off in the firmware, or not passed on to this machine"
    except PermissionError:
        return f"you may not open {device}; {how_to_open(device)}"
    except OSError as error:
        return f"{device} does not open: {error.strerror}"
    try:  # in a process of its own, which can be killed if the kernel does not return
        process = subprocess.run(
            [sys.executable, "-I", kvm_probe.__file__, device],
            capture_output=True,
            text=True,
            timeout=_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"{device} opens, but a guest that counts to {kvm_probe.TURNS} does not end within {_LIMIT:.0f} s"
    if process.returncode and not process.stdout:
        return f"{device} opens, but the probe ended with status {process.returncode}"
    return process.stdout.strip()


def how_to_open(device: str) -> str:
    """What gives this user the right to open the device, in words."""
    group = os.stat(device).st_gid
    try:
        name = grp.getgrgid(group).gr_name
    except KeyError:  # a group without a name
        name = str(group)
    if name == "root":
        return f"only root may: `sudo chgrp kvm {device} && sudo chmod 660 {device}`"
    if group in os.getgroups():
        return f"its mode does not let the group {name} write: `sudo chmod g+rw {device}`"
    return f"the group {name} may: `sudo adduser $USER {name}`, and log in again"


def failure_record() -> Path:
    """The file that remembers that KVM did not run a guest, until the host boots again."""
    return paths.cache_dir() / "kvm-fails"


def remember_failure() -> None:
    """Have no guest run by KVM any more, until the host boots again. Raises OSError if that cannot be written."""
    failure_record().parent.mkdir(parents=True, exist_ok=True)
    failure_record().write_text(_boot_id())


def failed() -> bool:
    """Whether a guest failed under KVM since the host booted."""
    return failure_record().is_file() and failure_record().read_text() == _boot_id()


def may_work() -> bool:
    """Whether KVM is there and has not failed since the host booted."""
    try:
        os.close(os.open(DEVICE, os.O_RDWR))
    except OSError as error:
        _log.debug("KVM is not used: %s", error)
        return False
    return not failed()


def _boot_id() -> str:
    """What names the host's boot (random(4))."""
    return Path("/proc/sys/kernel/random/boot_id").read_text()
