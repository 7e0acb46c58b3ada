"""Installs what an image lacks, without a user's help: the image is booted once, logged in to on its serial console,
and halted.

The guest writes to an overlay, which goes into the image only when all commands have succeeded and the guest has halted
in good order. This boot, and no other, may reach the network. Knows nothing of what is installed.
"""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from harness import conf, host, kvm
from harness.conf.model import Regex, Seconds
from harness.errors import GuestError
from harness.guest.bootfiles import BootFiles
from harness.guest.console import FATAL_AT_BOOT
from harness.guest.machine import Machine
from harness.guest.terminal import Terminal

_log = logging.getLogger(__name__)

#: A path in the image.
InImage = Annotated[str, Field(pattern=r"^(/[\w.+-]+)+$")]
#: What a recipe writes on one line, so that it stays below what a serial line takes with all that is put around it.
_Command = Annotated[str, Field(max_length=180, pattern=r"^[^\n\r]+$")]


class Install(BaseModel):
    """What is done where an image lacks something; recipe.yaml of hurd-i386 explains each key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: Regex
    user: str
    passwords: list[InImage] = Field(min_length=1)
    silence: Seconds
    commands: list[_Command] = Field(min_length=1)
    failures: dict[Regex, str]


def install(
    wanted: Install,
    name: str,
    guest: conf.Guest,
    image: Path,
    boot: dict[str, Any] | None,
    progress: Callable[[str], None],
) -> None:
    """Boot an image, run the commands on its console, halt it, and write what has changed into it.

    Args:
        wanted: what to do.
        name: the guest's name, for messages.
        guest: the description of the machine to boot it in.
        image: the raw disk image; beside it lies what it boots from.
        boot: kernel, arguments and modules as an image's manifest has them; None if the image boots by itself.
        progress: is told what is being done.

    Raises:
        ToolMissing: QEMU is not installed.
        GuestError: it does not boot, nobody can log in, a command fails, or it does not halt. The image is as it was.
        ImageError: what has changed cannot be written.
    """
    folder = image.parent
    files = BootFiles(
        disk=image,
        kernel=folder / boot["kernel"] if boot else None,
        append=boot["append"] if boot else "",
        initrd=None,
        modules=tuple((folder / module["file"], module["args"]) for module in boot["modules"]) if boot else (),
        ssh_key=image,  # nobody logs in by SSH
        host_key=None,
    )
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        machine = Machine(name, guest, files, Path(scratch) / "machine", maintained=True)
        try:
            machine.start()
            terminal = _log_in(wanted, machine, progress)
            for command in wanted.commands:
                _run(command, wanted, terminal)
            progress("halting")
            halt = guest.halt.command or guest.os.halt
            terminal.run("sync")
            terminal.send(halt)
            overlay = machine.halted(halt, guest.halt.console or guest.os.halted, wanted.silence)
        except GuestError as error:
            if error.console:
                raise
            raise machine.failure(str(error)) from error
        else:
            host.run("qemu-img", "commit", "-q", "-f", "qcow2", str(overlay), what="writing what was installed")
        finally:
            machine.stop()


def _log_in(wanted: Install, machine: Machine, progress: Callable[[str], None]) -> Terminal:
    """Wait for the login prompt, and log in. A machine that KVM gives up on, or does not bring on, is started again."""

    def check() -> None:
        if trouble := machine.trouble(FATAL_AT_BOOT):
            raise GuestError(f"it does not boot: {trouble}")

    def say(line: str) -> None:
        progress(f"on the image's console: {line[:80]}")

    silent = False
    while True:
        terminal = Terminal(machine.console, machine.type, check, wanted.silence, say)
        try:
            terminal.log_in(wanted.prompt, wanted.user)
        except GuestError as error:
            _log.info("guest %s: logging in on its console: %s", machine.name, error)
            if machine.restart_if_kvm_fails():
                continue
            if machine.restart_if_kvm_is_silent():
                silent = True
                continue
            raise
        if silent:
            kvm.remember_failure()
        return terminal


def _run(command: str, wanted: Install, terminal: Terminal) -> None:
    status, output = terminal.run(command)
    if status:
        why = host.first_error(output)
        hints = [text for pattern, text in wanted.failures.items() if re.search(pattern, output, re.MULTILINE)]
        raise GuestError("; ".join([f"`{command}` failed with status {status}: {why}", *hints[:1]]))
