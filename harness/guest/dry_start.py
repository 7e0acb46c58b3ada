"""A dry start: QEMU is started with a guest's own arguments, the guest paused, and ended again.

So within a second, before anything is built, the user sees what QEMU refuses in a guest's description, and the line of
it. What QEMU accepted is remembered, under all that its answer depends on. Knows nothing of what the guest is for.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from harness import conf, paths
from harness.cache import Cache, digest
from harness.errors import GuestError, QemuRefusal
from harness.guest import qemu
from harness.guest.bootfiles import BootFiles
from harness.guest.machine import Machine
from harness.guest.qemu_command import find_qemu

_KIND = "dry-starts"
#: Bytes of the empty disk that stands in for one that is not there yet.
_DISK = 64 << 20
#: What a guest boots from before anything of it is there.
_NOTHING = BootFiles(
    disk=None, kernel=None, append="", initrd=None, modules=(), ssh_key=Path(os.devnull), host_key=None
)
#: The keys of a description that are QEMU's business, those most often wrong first.
_KEYS = ("qemu_args", "cpu", "nic", "machine", "memory", "cpus")

_log = logging.getLogger(__name__)


def check(name: str, configuration: conf.Configuration, files: BootFiles | None = None) -> None:
    """See to it that QEMU starts a guest. What is a passing trouble is logged, and no error.

    Args:
        name: the guest's name.
        configuration: where it is described.
        files: what it boots from; if that is not there yet, an empty disk stands in for the guest's, and it has no
            kernel.

    Raises:
        ConfigError: QEMU refuses it; the text names file, line and key, and has QEMU's words.
        ToolMissing, ImageError, StoreError: it cannot even be tried.
    """
    guest = configuration.guest(name)
    program = find_qemu(name, guest)
    if files is None and not qemu.at_hand(program).sandbox:
        _log.warning("guest %s: %s has no sandbox: it was built without libseccomp", name, program)
    key = digest(Machine(name, guest, files or _NOTHING, Path()).identity)
    try:
        Cache(paths.cache_dir()).make(
            _KIND, key, lambda folder: _start(name, guest, files, folder), about=f"QEMU took the description of {name}"
        )
    except QemuRefusal as error:
        location = _refused_key(name, guest, files)
        raise configuration.error(("guests", name, *location), _words(name, error)) from error
    except GuestError as error:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
        if guest.memory > memory:
            why = f"this machine has {memory} MiB: {_words(name, error)}"
            raise configuration.error(("guests", name, "memory"), why) from error
        _log.warning("%s; it is started again when it is needed", error)


def _start(name: str, guest: conf.Guest, files: BootFiles | None, folder: Path) -> None:
    """Start a guest, paused, and end it. Leaves nothing in the folder. Raises what `Machine.start` raises."""
    if files is None:
        files = _NOTHING
        if guest.disk:
            disk = folder / "disk"
            with disk.open("wb") as file:
                file.truncate(_DISK)
            files = replace(files, disk=disk)
            guest = guest.model_copy(update={"disk": guest.disk.model_copy(update={"format": "raw"})})
    machine = Machine(name, guest, files, folder / "machine")
    try:
        machine.start(paused=True)
    finally:
        machine.stop()
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _words(name: str, error: GuestError | QemuRefusal) -> str:
    return str(error).removeprefix(f"guest {name}: ")


def _refused_key(name: str, guest: conf.Guest, files: BootFiles | None) -> tuple[str, ...]:
    """The key of a guest's description that QEMU refuses, as a location below the guest; empty if no single one is.

    It is the one without which QEMU starts the guest; QEMU's words would not tell, as each version has others.
    """
    for location, other_guest, other_files in _without_one_key(guest, files):
        with tempfile.TemporaryDirectory() as folder:
            try:
                _start(name, other_guest, other_files, Path(folder))
            except (QemuRefusal, GuestError) as error:
                _log.debug("guest %s: without %s: %s", name, ".".join(location), error)
                continue
            return location
    return ()


def _without_one_key(
    guest: conf.Guest, files: BootFiles | None
) -> Iterator[tuple[tuple[str, ...], conf.Guest, BootFiles | None]]:
    """A guest as it would be if its description did not have one of its keys, for each that it has."""
    for key in _KEYS:
        default = conf.Guest.model_fields[key].default
        if getattr(guest, key) != default:
            yield (key,), guest.model_copy(update={key: default}), files
    if guest.disk and guest.disk.interface != (default := conf.Disk.model_fields["interface"].default):
        disk = guest.disk.model_copy(update={"interface": default})
        yield ("disk", "interface"), guest.model_copy(update={"disk": disk}), files
    if files and guest.initrd:
        yield ("initrd",), guest, replace(files, initrd=None)
    if files and guest.modules:
        yield ("modules",), guest, replace(files, modules=())
    if files and guest.kernel:
        yield ("kernel",), guest, replace(files, kernel=None, initrd=None, modules=())
