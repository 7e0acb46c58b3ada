"""From a guest's description to a guest that answers: its files, its boot, its readiness.

Knows nothing of Go.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

from harness import conf
from harness.errors import GuestError
from harness.guest import image
from harness.guest.machine import Files, Machine
from harness.guest.shell import Shell


def files(name: str, configuration: conf.Configuration, progress: Callable[[str], None]) -> Files:
    """Find what a guest boots from; its image is built if a file of it is named and it is not there yet. Kernel,
    arguments and modules that the guest does not name are those that the image comes with, if it does.

    Raises:
        ConfigError: there is no such guest.
        ImageError, DownloadError, ToolMissing: the image cannot be built, or a file is missing.
    """
    guest = configuration.guest(name)
    named: dict[tuple[str | int, ...], str | None] = {
        ("disk", "file"): guest.disk.file if guest.disk else None,
        ("kernel",): guest.kernel,
        ("initrd",): guest.initrd,
        ("ssh", "key"): guest.ssh.key,
        **{("modules", i, "file"): one.file for i, one in enumerate(guest.modules)},
    }
    own = {at: configuration.file(value, "guests", name, *at) for at, value in named.items() if value}
    built = None
    if guest.image and None in own.values():  # else all its files are the user's own
        built = image.find(guest.image) or image.build(guest.image, progress)

    def path(at: tuple[str | int, ...]) -> Path:
        value = str(named[at])
        return own[at] or (built.folder / value if built else configuration.beside(value, "guests", name, *at))

    found = {at: path(at) for at in own}
    kernel, append = found.get(("kernel",)), guest.append
    modules = [(found["modules", i, "file"], one.args) for i, one in enumerate(guest.modules)]
    if built and (boots := built.manifest.get("boot")):
        kernel, append = kernel or built.folder / boots["kernel"], append or boots["append"]
        if not modules and not guest.initrd:
            modules = [(built.folder / one["file"], one["args"]) for one in boots["modules"]]
    result = Files(
        disk=found.get(("disk", "file")),
        kernel=kernel,
        append=append,
        initrd=found.get(("initrd",)),
        modules=tuple(modules),
        ssh_key=found.get(("ssh", "key")) or image.ssh_key(),
        host_key=guest.ssh.host_key or (built.manifest.get("host_key") if built else None),
    )
    result.check()
    return result


def connect(machine: Machine, timeout: float) -> Shell:
    """Log in to a running machine. Raises GuestError.

    Args:
        timeout: seconds for each step.
    """
    files = machine.files
    return Shell.connect(machine.port, machine.guest.ssh.user, files.ssh_key, files.host_key, timeout)


def wait(machine: Machine, stopped: Callable[[], bool] = lambda: False) -> Shell:
    """Wait until a started machine answers a command over SSH as it should.

    The console's sign comes first: a connection tried while the network comes up has wedged a real Hurd.

    Raises:
        GuestError: it died, panicked or did not answer in time; the error holds the console's last lines.
    """
    ready = machine.guest.ready
    deadline = time.monotonic() + ready.timeout
    why = "its console has not said so" if ready.console else "no answer over SSH"
    said = ready.console is None
    while time.monotonic() < deadline and not stopped():
        if not machine.alive():
            raise GuestError(f"guest {machine.name}: QEMU ended while it booted", machine.last_lines())
        machine.restart_if_kvm_fails()
        if not said:
            said = bool(re.search(ready.console or "", machine.console.read_bytes().decode(errors="replace")))
            if not said:
                time.sleep(0.1)
                continue
        try:
            left = max(1.0, min(30.0, deadline - time.monotonic()))
            shell = connect(machine, left)
        except GuestError as error:
            why = str(error)
            time.sleep(0.5)
            continue
        try:
            _, out, _ = shell.run(ready.command, timeout=left)
            if re.search(ready.expect, out.decode(errors="replace").strip()):
                return shell
            why = f"`{ready.command}` answers {out.decode(errors='replace').strip()!r}"
        except GuestError as error:
            why = str(error)
        shell.close()
        time.sleep(0.5)
    lines = machine.last_lines()
    raise GuestError(f"guest {machine.name}: not ready within {ready.timeout:.0f} s: {why}", lines)
