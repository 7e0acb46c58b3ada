"""Images of kind `download`: an operating system's own disk image, fetched and prepared without booting it.

The kernel and its modules are copied out, so that QEMU boots them without a boot loader, and what the harness needs is
written into the root file system. All that is of one operating system stands in its recipe. Knows nothing of where
images are kept.
"""

from __future__ import annotations

import fnmatch
import gzip
import io
import json
import re
import shlex
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urljoin

from pydantic import Field

from harness.errors import DownloadError, ImageError
from harness.guest import disk, download, grub, host
from harness.guest import recipe as recipes

#: The list of checksums in a release's folder.
_SUMS = "SHA512SUMS"
#: A Multiboot kernel has this in its first 8 KiB (Multiboot Specification 0.6.96, 3.1.1).
_MULTIBOOT, _MULTIBOOT_WITHIN = b"\x02\xb0\xad\x1b", 8192
_ELF64 = b"\x7fELF\x02"
#: Bytes that a kernel or a module may have.
_MOST = 256 << 20

#: A path in the image.
InImage = Annotated[str, Field(pattern=r"^(/[\w.+-]+)+$")]


class Recipe(recipes.Recipe):
    """What recipe.yaml says; recipe.yaml of hurd-i386 explains each key."""

    kind: Literal["download"]
    folder: str = Field(pattern=r"^https?://\S+/$")
    files: list[str] = Field(min_length=1)
    room_mib: int = Field(ge=1)
    partition: int = Field(ge=1, le=255)
    grub: InImage
    console: str = Field(pattern=r"^\S+$")
    needs: dict[InImage, str]
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
    said: dict[str, Any],
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
        said: what recipe.yaml says.
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
        ImageError: the recipe or the image is wrong, or the image lacks something.
        ToolMissing: a program that is needed is not installed.
    """
    wanted = recipes.check(Recipe, said, folder)
    for name in ("debugfs", "ssh-keygen"):
        host.which(name)
    if file is None:
        lock = lock_file(downloads, folder.name)
        hint = f"`harness image fetch {folder.name} --file IMAGE` takes an image that is already there"
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
    partition = disk.last_of_kind(image, wanted.partition)
    system = disk.FileSystem(image, partition.offset)
    for path, instructions in wanted.needs.items():
        if system.kind(system.resolve(path)) != "regular":
            raise ImageError(instructions.format(path=path, copy=_copy(archive), name=folder.name).strip())
    boot = _boot(system, wanted, out, progress)
    host_key = _furnish(system, wanted, out, public_key)
    return {"source": source, "partition": asdict(partition), "boot": boot, "host_key": host_key}


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
    progress(f"{name} is taken from now on; its SHA-512 stands in {lock}")
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
            name = max(fit, key=lambda one: (re.findall(r"\d{8}", one)[-1:], one))
            return name, sums[name]
    what = f"with the SHA-512 {sha512[:16]}..." if sha512 else " or ".join(wanted)
    raise DownloadError(f"{url}: lists no file {what}; it has {', '.join(sorted(sums))}")


def _check_sum(file: Path, wanted: str | None, progress: Callable[[str], None]) -> str:
    progress(f"reading {file.name}")
    try:
        got = download.digest(file)
    except OSError as error:
        raise ImageError(f"{file}: cannot be read: {error.strerror}") from error
    if wanted not in (None, got):
        raise ImageError(f"{file}: its SHA-512 is {got}, not the one that --sha512 gives")
    return got


def _copy(archive: Path) -> str:
    """The command that makes a copy of an image, named copy.img, for a user to change."""
    if disk.is_packed(archive):
        return f"tar --transform 's/.*/copy.img/' -xf {shlex.quote(str(archive))}"
    return f"cp --sparse=always {shlex.quote(str(archive))} copy.img"


def _boot(system: disk.FileSystem, recipe: Recipe, out: Path, progress: Callable[[str], None]) -> dict[str, Any] | None:
    """Copy out what GRUB would boot, and give GRUB's own kernels the serial console too."""
    text = system.read(recipe.grub).decode(errors="surrogateescape")
    edited = grub.with_option(text, recipe.console)
    if recipe.console not in edited:
        raise ImageError(f"the image's {recipe.grub} boots no Multiboot kernel")
    system.write(recipe.grub, edited.encode(errors="surrogateescape"), 0o444)
    try:
        entry = grub.entry(text)
        kernel = _program(system, entry.kernel.path)
        if _MULTIBOOT not in kernel[:_MULTIBOOT_WITHIN] or kernel.startswith(_ELF64):
            raise ImageError(f"{entry.kernel.path} is no Multiboot kernel of 32 bits")
        modules = [(_program(system, one.path), one) for one in entry.modules]
    except ImageError as error:
        progress(f"the image will be booted by GRUB, since QEMU cannot boot its kernel: {error}")
        return None
    (out / "kernel").write_bytes(kernel)
    told = []
    for number, (data, one) in enumerate(modules, start=1):
        name = f"module-{number}-{Path(one.path).name.removesuffix('.gz')}"
        (out / name).write_bytes(data)
        told.append({"file": name, "args": one.args})
    words = entry.kernel.args.split()
    append = " ".join(words if recipe.console in words else [*words, recipe.console])
    return {"kernel": "kernel", "append": append, "modules": told}


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
            system.write(path, text.encode() + before, 0o644)
    for path, target in recipe.links.items():
        # Only a link is replaced: what else may stand there, such as a translator's node, is not ours to remove.
        if system.kind(path) in (None, "symlink") and system.kind(f"{path.rpartition('/')[0]}/{target}"):
            system.link(path, target)
    return public
