"""Finds the files that a guest boots from; builds its image if need be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness import conf
from harness.guest.bootfiles import BootFiles
from harness.images import image


def find_boot_files(name: str, configuration: conf.Configuration, progress: Callable[[str], None]) -> BootFiles:
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
        **{("modules", i, "file"): module.file for i, module in enumerate(guest.modules)},
    }
    own = {at: configuration.file(value, "guests", name, *at) for at, value in named.items() if value}
    built = None
    if guest.image and None in own.values():  # else all its files are the user's own
        built = image.find(guest.image) or image.build(guest.image, progress)

    def path(at: tuple[str | int, ...]) -> Path:
        value = str(named[at])
        return own[at] or (built.folder / value if built else configuration.beside(value, "guests", name, *at))

    found_paths = {at: path(at) for at in own}
    kernel, append = found_paths.get(("kernel",)), guest.append
    modules = [(found_paths["modules", i, "file"], module.args) for i, module in enumerate(guest.modules)]
    if built and (boots := built.manifest.get("boot")):
        kernel, append = kernel or built.folder / boots["kernel"], append or boots["append"]
        if not modules and not guest.initrd:
            modules = [(built.folder / module["file"], module["args"]) for module in boots["modules"]]
    result = BootFiles(
        disk=found_paths.get(("disk", "file")),
        kernel=kernel,
        append=append,
        initrd=found_paths.get(("initrd",)),
        modules=tuple(modules),
        ssh_key=found_paths.get(("ssh", "key")) or image.ssh_key(),
        host_key=guest.ssh.host_key or (built.manifest.get("host_key") if built else None),
    )
    result.check()
    return result
