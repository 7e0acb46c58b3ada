"""From a guest's description to a guest that answers, and back: its files, its boot, its readiness, its halt.

Knows nothing of Go.
"""

from __future__ import annotations

import logging
import re
import time
from pathlib import Path

from harness import clock, kvm
from harness.errors import GuestError
from harness.guest.console import FATAL_AT_BOOT
from harness.guest.machine import Machine
from harness.guest.openssh import Client
from harness.guest.shell import Pair, Shell, WrongHostKey
from harness.log import ignored

_log = logging.getLogger(__name__)

#: Seconds in which nothing comes of a probe: a key exchange without KVM takes 3 of them on a machine that does nothing
#: else.
_PROBE = 60.0
#: Seconds between probes: the first pause, which doubles, and the longest.
_PAUSES = (0.5, 8.0)
#: A guest without a sign is probed after so many seconds of silence on its console, or after so many more in all.
_QUIET, _ENOUGH = 3.0, 20.0
#: Seconds that a halt command may take to come back, if it does.
_SHORT = 10.0


class StoodStill(GuestError):
    """A guest whose boot stands still; the text says at what. Another boot may work."""


def client(machine: Machine) -> Client:
    """OpenSSH's client for a running machine."""
    files = machine.files
    return Client(machine.port, machine.guest.ssh.user, files.ssh_key, files.host_key, machine.check)


def connect(machine: Machine, quiet: float | None = None, pair: Pair | None = None) -> Shell:
    """Log in to a running machine. Raises GuestError; so does all waiting on the shell, as soon as the console tells of
    a panic or the like.

    Args:
        quiet: seconds in which nothing comes before it is given up; None means clock.QUIET.
        pair: as of `Shell.connect`.
    """
    files = machine.files
    user = machine.guest.ssh.user
    return Shell.connect(machine.port, user, files.ssh_key, files.host_key, quiet, machine.check, pair)


def wait(machine: Machine) -> Shell:
    """Wait until a started machine answers a command over SSH as it should.

    The console's sign comes first: a connection tried while the network comes up has wedged a real Hurd. For the same
    reason one probe is made at a time, with more and more time between them.

    Raises:
        StoodStill: for clock.QUIET its console has said nothing, and it has read nothing from its disk.
        GuestError: it died, panicked, did not answer in time or showed a wrong host key; the error has the console's
            last lines and its screen.
    """
    ready = machine.guest.ready

    def guest_time() -> float:
        """The seconds that the guest had: a busy machine may keep QEMU waiting for a processor."""
        return clock.time() - machine.process.waited()

    deadline = guest_time() + ready.timeout
    why = f"its console has not said `{ready.console}`" if ready.console else "no answer over SSH"
    begun, pause = clock.time(), _PAUSES[0]
    still = clock.Deadline(clock=guest_time)
    due: float | None = None  # when the next probe is
    while guest_time() < deadline:
        machine.check_wanted()
        if trouble := machine.trouble(FATAL_AT_BOOT):
            if machine.restart_if_kvm_fails():
                begun, due = clock.time(), None
                deadline, still = guest_time() + ready.timeout, clock.Deadline(clock=guest_time)
                continue
            raise machine.failure(f"it does not boot: {trouble}")
        if due is None and _may_probe(machine, begun):
            due = clock.time()
        if still.passed(machine.activity()) and (ready.console or machine.console.last_lines()):
            if shell := _without_silent_kvm(machine):
                return shell
            raise _stood_still(machine, still, why)
        if due is None or clock.time() < due:
            time.sleep(0.1)
            continue
        shell, why = _probe(machine, max(1.0, min(_PROBE, deadline - guest_time())))
        if shell:
            return shell
        due, pause = clock.time() + pause, min(2 * pause, _PAUSES[1])
    if shell := _without_silent_kvm(machine):
        return shell
    raise machine.failure(f"not ready within {ready.timeout:.0f} s: {why}")


def _without_silent_kvm(machine: Machine) -> Shell | None:
    """The shell of a guest that KVM did not bring to a single word, and emulation does; None if KVM is not to blame."""
    if not machine.restart_if_kvm_is_silent():
        return None
    shell = wait(machine)
    kvm.remember_failure()
    return shell


def halt(machine: Machine, shell: Shell) -> Path | None:
    """Halt a guest in good order, then end QEMU. The shell is closed.

    Returns:
        The overlay with all that the guest wrote, whole, if it has a disk: the only one fit to be written back.

    Raises:
        GuestError: it does not halt. It was killed then, and its overlay is gone.
    """
    config = machine.guest.halt
    command, sign = config.command or machine.guest.os.halt, config.console or machine.guest.os.halted
    try:
        if not command:
            raise machine.failure("its description has no halt.command, and its operating system has no default")
        shell.run("sync")
        with ignored(_log, f"guest {machine.name}: {command}", GuestError):  # the connection may end with the system
            shell.run(command, _SHORT)
        shell.close()
        return machine.halted(command, sign, config.timeout)
    except BaseException:
        machine.stop()
        raise


def _stood_still(machine: Machine, still: clock.Deadline, why: str) -> StoodStill:
    """The error for a boot that stands still."""
    last = machine.console.last_lines(1)
    at = f"at `{last[0]}`" if last else "before its console has said a word"
    error = machine.failure(f"its boot has stalled {at}: no progress for {still.quiet:.0f} s, and {why}")
    return StoodStill.like(error)


def _may_probe(machine: Machine, begun: float) -> bool:
    """Whether probes may begin: the console gave its sign or, without one, is silent or has had time enough."""
    if sign := machine.guest.ready.console:
        return machine.console.says(sign)
    now = clock.time()
    return now > max(begun, machine.console.heard) + _QUIET or now > begun + _ENOUGH


def _probe(machine: Machine, limit: float) -> tuple[Shell | None, str]:
    """Try to log in and ask. Returns the shell, or why there is none.

    Args:
        limit: seconds in which nothing comes before it is given up.
    """
    ready = machine.guest.ready
    try:
        shell = connect(machine, limit)
    except WrongHostKey as error:  # it will show no other the next time
        raise machine.failure(str(error)) from error
    except GuestError as error:
        return None, str(error)
    try:
        _, out, _ = shell.run(ready.command, limit)
        answer = out.decode(errors="replace").strip()
        if re.search(ready.expect, answer):
            return shell, ""
        why = f"`{ready.command}` answers {answer!r}"
    except GuestError as error:
        why = str(error)
    shell.close()
    return None, why
