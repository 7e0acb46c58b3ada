"""Images of kind `download`: an operating system's own disk image, fetched and prepared.

The kernel and its modules are copied out, so that QEMU boots them without a boot loader, and what the harness needs is
written into the root file system. It is not booted for that, unless it lacks what only its own tools can install. All
that is of one operating system stands in its recipe. Knows nothing of where images are kept.
"""

from __future__ import annotations

import contextlib
import fnmatch
import gzip
import io
import json
import logging
import re
import shlex
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urljoin
from uuid import UUID

from pydantic import Field

from harness import conf, host
from harness.errors import DownloadError, GuestError, ImageError, QemuRefusal, ToolMissing
from harness.guest.install import InImage, Install, install
from harness.images import debian, disk, download, grub
from harness.images import recipe as recipes
from harness.invocation import command_line

_log = logging.getLogger(__name__)

#: The list of checksums in a release's folder.
_SUMS = "SHA512SUMS"
#: A Multiboot kernel has this in its first 8 KiB (Multiboot Specification 0.6.96, 3.1.1).
_MULTIBOOT, _MULTIBOOT_WITHIN = b"\x02\xb0\xad\x1b", 8192
_ELF64 = b"\x7fELF\x02"
#: Bytes that a kernel or a module may have.
_MOST = 256 << 20


class Keyring(recipes.Recipe):
    """The keys of the image's archive, as a package of the host's archive brings them, and where the image has them."""

    package: str
    file: str = Field(pattern=r"^[\w.+-]+(/[\w.+-]+)*$")
    targets: list[InImage]


class Recipe(recipes.Recipe):
    """What recipe.yaml says; recipe.yaml of hurd-i386 explains each key."""

    kind: Literal["download"]
    folder: str = Field(pattern=r"^https?://\S+/$")
    files: list[str] = Field(min_length=1)
    room_mib: int = Field(ge=1)
    partition: list[Annotated[int, Field(ge=1, le=255)] | UUID] = Field(min_length=1)
    grub: InImage
    console: str = Field(pattern=r"^\S+$")
    guest: str
    needs: dict[InImage, str]
    install: Install
    keyring: Keyring | None = None
    authorized_keys: InImage
    host_key: InImage
    prepend: dict[InImage, str]
    links: dict[InImage, str]


@dataclass(frozen=True)
class Pin:
    """Which file of a release is taken, and what its SHA-512 must be: what a recipe's lock file holds."""

    file: str
    sha512: str
    url: str
    recorded: str


def build(
    recipe: dict[str, Any],
    folder: Path,
    out: Path,
    *,
    public_key: str,
    progress: Callable[[str], None],
    downloads: Path,
    file: Path | None = None,
    sha512: str | None = None,
) -> dict[str, Any]:
    """Make root.img, and the kernel and modules beside it.

    Args:
        recipe: what recipe.yaml says.
        folder: the recipe's folder.
        out: the folder to fill.
        public_key: the OpenSSH public key that may log in as root.
        progress: is told what is being done.
        downloads: the folder for the release's file and the lock file.
        file: an image to take instead of the release's.
        sha512: what the SHA-512 of the file, or of the release's file, must be.

    Returns:
        The manifest's part on source, partition, boot and host key. `boot` is None if the image boots by GRUB.

    Raises:
        DownloadError: the release's file cannot be had, or is not what it should be.
        ConfigError: there is no such guest as the recipe names.
        ImageError: the recipe or the image is wrong.
        GuestError: the image lacks something that could not be installed.
        ToolMissing: a program that is needed is not installed.
    """
    wanted = recipes.check(Recipe, recipe, folder)
    for name in ("debugfs", "ssh-keygen"):
        host.which(name)
    if file is None:
        lock = lock_file(downloads, folder.name)
        fetch = command_line("image", "fetch", folder.name, "--file", "IMAGE")
        hint = f"`{fetch}` takes an image that is already there"
        try:
            pin = resolve(wanted, lock, sha512, progress)
            archive = downloads / pin.file
            download.fetch(pin.url, archive, pin.sha512, progress)
        except DownloadError as error:
            wants = f"; {lock} says which file is wanted" if lock.is_file() else ""
            raise DownloadError(f"{error}{wants}; {hint}") from error
        source = {"url": pin.url, "sha512": pin.sha512}
    else:
        archive = file
        source = {"file": str(file.absolute()), "sha512": _check_sum(file, sha512, progress)}
    image = out / "root.img"
    disk.unpack(archive, image, wanted.room_mib << 20, progress)
    progress("preparing the image")
    with _named(archive):
        partition = disk.last_of_kind(image, wanted.partition)
        system = disk.FileSystem(image, partition.offset)
        boot = _boot(system, wanted, out, progress)
        if missing := _missing(system, wanted):
            by_hand = wanted.needs[missing[0]].format(copy=_copy(archive), qemu=_machine(wanted), name=folder.name)
            _install(system, wanted, image, boot, missing[0], progress, by_hand.strip())
        host_key = _furnish(system, wanted, out, public_key)
    facts = {"kind": str(partition.kind), "offset": partition.offset, "size": partition.size}
    return {"source": source, "partition": facts, "boot": boot, "host_key": host_key, "installed": missing}


@contextlib.contextmanager
def _named(archive: Path) -> Iterator[None]:
    """Say in errors which file it is that has something wrong with it."""
    try:
        yield
    except ImageError as error:
        raise ImageError(f"{archive}: {error}") from error


def _missing(system: disk.FileSystem, recipe: Recipe) -> list[str]:
    """What the image should have and has not."""
    return [path for path in recipe.needs if system.kind(system.resolve(path)) != "regular"]


def _install(
    system: disk.FileSystem,
    recipe: Recipe,
    image: Path,
    boot: dict[str, Any] | None,
    missing: str,
    progress: Callable[[str], None],
    by_hand: str,
) -> None:
    """Have the image install what it lacks. Raises GuestError, which says how to do it by hand."""
    progress(f"the image has no {missing}; it is booted once, with access to the network, to install it")
    refresh_keyring(system, recipe, progress)
    user = recipe.install.user
    existing = [path for path in recipe.install.passwords if system.kind(path) == "regular"]
    passwords = (existing or recipe.install.passwords)[0]
    before = set_password(system, passwords, user, "")
    try:
        install(recipe.install, recipe.guest, conf.load().guest(recipe.guest), image, boot, progress)
        set_password(system, passwords, user, before)
        if still := _missing(system, recipe):
            raise GuestError(f"all commands have succeeded, and there still is no {still[0]}")
    except (GuestError, QemuRefusal) as error:
        text = f"the image has no {missing}, and it could not be installed: {error}\n{by_hand}"
        raise (GuestError.like(error, text) if isinstance(error, GuestError) else GuestError(text)) from error


def set_password(system: disk.FileSystem, path: str, user: str, password: str) -> str:
    """Write a user's password, as the file has it, encrypted or empty (shadow(5)). Returns the one that was there.
    Raises ImageError if there is no such user."""
    match = re.search(rf"^{re.escape(user)}:([^:\n]*)".encode(), text := system.read(path), re.MULTILINE)
    if match is None:
        raise ImageError(f"the image's {path} has no user {user}")
    before = match[1].decode(errors="surrogateescape")
    if before != password:
        start, end = match.span(1)
        system.write(path, text[:start] + password.encode(errors="surrogateescape") + text[end:])
    return before


def refresh_keyring(system: disk.FileSystem, recipe: Recipe, progress: Callable[[str], None]) -> None:
    """Give the image the keys of its archive of today: those that it has may have expired since it was made."""
    if recipe.keyring is None:
        return
    try:
        keys = debian.package_file(recipe.keyring.package, recipe.keyring.file)
    except (ImageError, ToolMissing) as error:
        _log.warning("no newer %s: %s", recipe.keyring.package, error)
        progress(f"the image keeps its archive's old keys: {error}")
        return
    for path in recipe.keyring.targets:
        system.write(path, keys, 0o644)


def lock_file(downloads: Path, name: str) -> Path:
    """The file that says which file of a release is taken and what its SHA-512 is, from the first fetch on."""
    return downloads / f"{name}.lock.json"


def resolve(recipe: Recipe, lock: Path, sha512: str | None, progress: Callable[[str], None]) -> Pin:
    """The file to download: what the lock file says, else what the release's list of checksums says now, which is
    recorded in the lock file.

    Args:
        recipe: where to look.
        lock: the lock file.
        sha512: what the sum must be; another one in the lock file is replaced.
        progress: is told what is being done.

    Raises:
        DownloadError: the list cannot be had, or holds no such file.
        ImageError: the lock file is damaged.
    """
    if lock.is_file():
        try:
            pin = Pin(**json.loads(lock.read_text()))
        except (ValueError, TypeError) as error:
            raise ImageError(f"{lock}: is damaged; remove it to take the release's file of today") from error
        if sha512 in (None, pin.sha512):
            return pin
    url = urljoin(recipe.folder, _SUMS)
    name, digest = choose(download.checksums(url, progress), recipe.files, sha512, url)
    pin = Pin(name, digest, urljoin(recipe.folder, name), datetime.now(UTC).isoformat(timespec="seconds"))
    lock.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=lock.parent, delete=False) as new:
        new.write(json.dumps(asdict(pin), indent=1) + "\n")
    Path(new.name).replace(lock)
    progress(f"{name} is taken from now on; its SHA-512 is recorded in {lock}")
    return pin


def choose(sums: dict[str, str], wanted: list[str], sha512: str | None, url: str) -> tuple[str, str]:
    """The name and sum of the file to take.

    Args:
        sums: SHA-512 by name.
        wanted: names and patterns in order of preference; of the names that fit a pattern, the latest date is taken.
        sha512: the sum that it must have.
        url: where the sums come from, for the error.

    Raises:
        DownloadError: there is no such file.
    """
    for pattern in wanted:
        fit = [name for name in fnmatch.filter(sums, pattern) if "/" not in name and sha512 in (None, sums[name])]
        if fit:
            name = max(fit, key=lambda each: (re.findall(r"\d{8}", each)[-1:], each))
            return name, sums[name]
    what = f"with the SHA-512 {sha512[:16]}..." if sha512 else " or ".join(wanted)
    raise DownloadError(f"{url}: lists no file {what}; it has {', '.join(sorted(sums))}")


def _check_sum(file: Path, wanted: str | None, progress: Callable[[str], None]) -> str:
    progress(f"reading {file.name}")
    try:
        checksum = download.digest(file)
    except OSError as error:
        raise ImageError(f"{file}: cannot be read: {error.strerror}") from error
    if wanted not in (None, checksum):
        raise ImageError(f"{file}: its SHA-512 is {checksum}, not the one that --sha512 gives")
    return checksum


def _copy(archive: Path) -> str:
    """The command that makes a copy of an image, named copy.img, for a user to change."""
    if disk.is_packed(archive):
        return f"tar --transform 's/.*/copy.img/' -xf {shlex.quote(str(archive))}"
    return f"cp --sparse=always {shlex.quote(str(archive))} copy.img"


def _machine(recipe: Recipe) -> str:
    """The command that boots copy.img in a window, in a machine like the guest's."""
    guest = conf.load().guest(recipe.guest)
    drive = f"file=copy.img,format=raw,if={guest.disk.interface if guest.disk else 'ide'}"
    command = [guest.qemu, "-machine", guest.machine, "-m", str(guest.memory), "-nic", f"user,model={guest.nic}"]
    return shlex.join([*command, "-drive", drive])


def _boot(system: disk.FileSystem, recipe: Recipe, out: Path, progress: Callable[[str], None]) -> dict[str, Any] | None:
    """Copy out what GRUB would boot, and give GRUB's own kernels the serial console too."""
    text = system.read(recipe.grub).decode(errors="surrogateescape")
    edited = grub.with_option(text, recipe.console)
    if recipe.console not in edited:
        raise ImageError(f"the image's {recipe.grub} boots no Multiboot kernel")
    system.write(recipe.grub, edited.encode(errors="surrogateescape"))
    try:
        entry = grub.entry(text)
        kernel = _program(system, entry.kernel.path)
        if _MULTIBOOT not in kernel[:_MULTIBOOT_WITHIN] or kernel.startswith(_ELF64):
            raise ImageError(f"{entry.kernel.path} is not a 32-bit Multiboot kernel")
        modules = [(_program(system, module.path), module) for module in entry.modules]
    except ImageError as error:
        progress(f"the image will be booted by GRUB, since QEMU cannot boot its kernel: {error}")
        return None
    (out / "kernel").write_bytes(kernel)
    facts = []
    for number, (data, module) in enumerate(modules, start=1):
        name = f"module-{number}-{Path(module.path).name.removesuffix('.gz')}"
        (out / name).write_bytes(data)
        facts.append({"file": name, "args": module.args})
    arguments = entry.kernel.args.split()
    append = " ".join(arguments if recipe.console in arguments else [*arguments, recipe.console])
    return {"kernel": "kernel", "append": append, "modules": facts}


def _program(system: disk.FileSystem, path: str) -> bytes:
    """A kernel or module of the image, unpacked: QEMU does not do that for Multiboot, as GRUB does."""
    data = system.read(path)
    if data[:2] != b"\x1f\x8b":
        return data
    try:
        with gzip.open(io.BytesIO(data)) as file:
            data = file.read(_MOST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ImageError(f"{path} cannot be unpacked: {error}") from error
    if len(data) > _MOST:
        raise ImageError(f"{path} has more than {_MOST >> 20} MiB")
    return data


def _furnish(system: disk.FileSystem, recipe: Recipe, out: Path, public_key: str) -> str:
    """Write what the harness needs into the root file system. Returns the public line of the SSH host key.

    The key is made here, since an image's own would be the same for all who have the image, or not be known before
    the first boot.
    """
    with tempfile.TemporaryDirectory(dir=out) as folder:
        key = Path(folder) / "host_key"
        host.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key, what="the SSH host key")
        public = " ".join(key.with_suffix(".pub").read_text().split()[:2])
        system.write(recipe.host_key, key.read_bytes(), 0o600)
        system.write(f"{recipe.host_key}.pub", f"{public}\n".encode(), 0o644)
    system.write(recipe.authorized_keys, f"{public_key}\n".encode(), 0o600)
    for path, text in recipe.prepend.items():
        before = system.read(path)
        if not before.startswith(text.encode()):  # an image may come here twice
            system.write(path, text.encode() + before)
    for path, target in recipe.links.items():
        # Only a link is replaced: what else may stand there, such as a translator's node, is not ours to remove.
        if system.kind(path) in (None, "symlink") and system.kind(f"{path.rpartition('/')[0]}/{target}"):
            system.link(path, target)
    return public
