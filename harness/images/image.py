"""Images: a guest's disk and kernel, made by a recipe, kept in the cache and checked before use.

A recipe is a folder below images/ with a recipe.yaml, whose `kind` names the builder; with `base` it says only what
differs from another recipe's. Knows nothing of what is in an image beyond the manifest that lies beside its files.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness import cache, cache_space, host, locks, paths
from harness.cache_space import Entry
from harness.conf.naming import nearest
from harness.conf.read import read
from harness.errors import ImageError
from harness.images import debian, prepare
from harness.invocation import command_line
from harness.log import ignored

_log = logging.getLogger(__name__)

#: Part of every image's key: to be raised whenever a builder makes something else of the same recipe.
BUILDER = 1

#: MiB that building an image takes on its way, where its recipe has no `room_mib`.
_ROOM = 400

#: A builder: takes what recipe.yaml says, the recipe's folder and the folder to fill, gives the manifest's part.
Builder = Callable[..., dict[str, Any]]

#: The builders by their recipes' `kind`.
KINDS: dict[str, Builder] = {"debian": debian.build, "download": prepare.build}


@dataclass(frozen=True)
class Image:
    """A whole image.

    Attributes:
        name: the recipe's name.
        folder: where its files are.
        manifest: name, key, built, files {name: {sha256, size}}, and what the builder tells, such as host_key.
    """

    name: str
    folder: Path
    manifest: dict[str, Any]


def recipes() -> dict[str, Path]:
    """The folders of all recipes, by name."""
    return {path.parent.name: path.parent for path in sorted((paths.DATA / "images").glob("*/recipe.yaml"))}


def ssh_key() -> Path:
    """The private key that the harness logs in with, made when it is first needed; `.pub` beside it is the public one.

    Raises:
        ToolMissing: ssh-keygen is not installed.
        ImageError: it failed.
    """
    folder = paths.cache_dir() / "ssh"
    key_file, public = folder / "id_ed25519", folder / "id_ed25519.pub"
    with locks.lock(paths.cache_dir() / "locks" / "ssh.lock"):
        if not (key_file.is_file() and public.is_file()):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
            with tempfile.TemporaryDirectory(dir=folder) as new:
                new_key = Path(new) / key_file.name
                host.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "harness", "-f", new_key, what="SSH key")
                os.replace(f"{new_key}.pub", public)
                os.replace(new_key, key_file)
    return key_file


def key(name: str) -> str:
    """The cache's key of an image: the hash of all that makes it.

    Raises:
        ImageError: there is no such recipe.
    """
    recipe, folders = read_recipe(name)
    parts = {"builder": BUILDER, "recipe": [cache.tree_digest(each) for each in folders], "ssh": _public_key()}
    if recipe.get("kind") == "debian":
        parts["host"] = debian.codename()  # what it is made of comes from the host's archive
    return cache.digest(parts)


def find(name: str) -> Image | None:
    """The image of a recipe if it has been built.

    Raises:
        ImageError: there is no such recipe, or the image is damaged.
    """
    folder = _cache().find("images", key(name))
    return _load(name, folder) if folder else None


def build(name: str, progress: Callable[[str], None], force: bool = False) -> Image:
    """The image of a recipe, built if need be.

    Args:
        name: the recipe's name.
        progress: is told what is being done.
        force: whether to build again what is there. If that fails, what is there stays.

    Raises:
        ImageError: there is no such recipe, it cannot be built, what is there is damaged, or it is to be replaced while
            another process uses it.
        DownloadError: what it is made of cannot be downloaded.
        ToolMissing: a program that is needed is not installed.
        ConfigError: recipe.yaml is not valid YAML.
    """
    return _build(name, _builder(name), progress, force)


def fetch(name: str, progress: Callable[[str], None], file: Path | None = None, sha512: str | None = None) -> Image:
    """The image of a recipe of kind `download`; if it is there and is what is asked for, nothing is done.

    Args:
        name: the recipe's name.
        progress: is told what is being done.
        file: a disk image to prepare instead of the release's, as `.img` or `.img.tar.xz`.
        sha512: what the SHA-512 of the file, or of the release's file, must be, in hexadecimal.

    Raises:
        ImageError: there is no such recipe, it is of another kind, or the image cannot be made.
        ToolMissing: a program of this machine is missing.
    """
    recipe, _ = read_recipe(name)
    if recipe.get("kind") != "download":
        build_it = command_line("image", "build", name)
        raise ImageError(f"the image {name} is not downloaded but built; `{build_it}` does it")
    builder = functools.partial(_builder(name), file=file, sha512=sha512)
    try:
        built = find(name)
    except ImageError as error:
        _log.warning("%s", error)
        return _build(name, builder, progress, force=True)
    if built and file is None and sha512 in (None, built.manifest["source"]["sha512"]):
        return built
    return _build(name, builder, progress, force=built is not None)


def _builder(name: str) -> Builder:
    recipe, folders = read_recipe(name)
    kind = str(recipe.get("kind"))
    if kind not in KINDS:
        raise ImageError(f"{folders[0] / 'recipe.yaml'}: kind: no builder named {kind}; {nearest(kind, KINDS)}")
    if kind == "download":
        return functools.partial(KINDS[kind], downloads=_downloads())
    return functools.partial(KINDS[kind], bases=folders[1:]) if folders[1:] else KINDS[kind]


def _build(name: str, builder: Builder, progress: Callable[[str], None], force: bool) -> Image:
    recipe, folders = read_recipe(name)
    image_key = key(name)
    if force:
        _unused_by_others(name, [image_key])

    def fill(out: Path) -> None:
        facts = builder(recipe, folders[0], out, public_key=_public_key(), progress=progress)
        progress("reading what was built")
        manifest = {
            "name": name,
            "key": image_key,
            "built": datetime.now(UTC).isoformat(timespec="seconds"),
            "files": {path.name: _describe(path) for path in sorted(out.iterdir())},
            **facts,
        }
        (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")

    room = recipe.get("room_mib")
    folder = _cache().make("images", image_key, fill, room if isinstance(room, int) else _ROOM, again=force, about=name)
    return _load(name, folder)


def remove(name: str) -> int:
    """Remove all images of a recipe, those of its earlier states too, and what was downloaded for it. Its lock file
    stays. Returns how many images there were.

    Raises:
        ImageError: there is no such recipe, or another process uses one of its images; then all stay.
        StoreError: the cache cannot be written.
    """
    mine = [key(name), *(path.name for path in _folders() if _name(path) == name)]
    doomed = _unused_by_others(name, mine)
    lock = prepare.lock_file(_downloads(), name)
    with ignored(_log, f"image {name}: removing what was downloaded", OSError, ValueError, KeyError):
        archive = lock.with_name(Path(json.loads(lock.read_text())["file"]).name)
        for path in (archive, archive.with_name(f"{archive.name}.part")):
            path.unlink(missing_ok=True)
    return len(cache_space.remove(_cache().root, doomed, even_own=True))


def _unused_by_others(name: str, keys: Collection[str]) -> list[Entry]:
    """The images of some keys. Raises ImageError if another process uses or makes one of them."""
    root = _cache().root
    entries = [entry for entry in cache_space.entries(root, ["images"]) if entry.name in keys]
    if users := sorted({process for entry in entries for process in entry.users} - {os.getpid()}):
        processes = f"process{'es' if len(users) > 1 else ''} {', '.join(map(str, users))}"
        raise ImageError(f"the image {name} is in use by {processes}; nothing was changed")
    if any(locks.is_locked(root / "locks" / f"images-{image_key}.lock") for image_key in keys):
        raise ImageError(f"the image {name} is being built; nothing was changed")
    return entries


def listing() -> list[dict[str, Any]]:
    """One row for each recipe: name, state (`built`, `not built` or `damaged`), folder, and its manifest if built."""
    rows = []
    for name in recipes():
        row: dict[str, Any] = {"name": name, "folder": _cache().path("images", key(name))}
        try:
            built = find(name)
        except ImageError as error:
            _log.warning("%s", error)
            row["state"] = "damaged"
        else:
            row |= {"state": "built", "manifest": built.manifest} if built else {"state": "not built"}
        rows.append(row)
    return rows


def contents(image: Image) -> str:
    """The hash of what an image is made of, without what each build makes anew, such as its host key."""
    return cache.digest({key: image.manifest.get(key) for key in ("packages", "source")})


def manifest_digest(path: Path) -> str | None:
    """The SHA-256 of a file as the manifest beside it says, if there is one; a disk takes long to be read whole."""
    with ignored(_log, f"looking for {path.name} in a manifest", OSError, ValueError, KeyError, TypeError):
        files = json.loads(path.with_name("manifest.json").read_text())["files"][path.name]
        return str(files["sha256"]) if files["size"] == path.stat().st_size else None
    return None


def verify(image: Image) -> None:
    """Compare all files of an image with the hashes in its manifest.

    Raises:
        ImageError: one differs, or cannot be read.
    """
    for name, facts in image.manifest["files"].items():
        try:
            whole = cache.file_digest(image.folder / name) == facts["sha256"]
        except OSError as error:
            raise _damaged(image.name, f"{name} cannot be read: {error.strerror}") from error
        if not whole:
            raise _damaged(image.name, f"{name} is not what was built")


def _cache() -> cache.Cache:
    return cache.Cache(paths.cache_dir())


def _downloads() -> Path:
    return paths.cache_dir() / "downloads"


def read_recipe(name: str) -> tuple[dict[str, Any], list[Path]]:
    """What a recipe says, with what its base says, and their folders, its own first. Raises ImageError if there
    is no such recipe."""
    known = recipes()
    if name not in known:
        raise ImageError(f"no image named {name}; {nearest(name, known)}")
    recipe, _ = read(known[name] / "recipe.yaml")
    base = recipe.pop("base", None)
    if base is None:
        return recipe, [known[name]]
    more, folders = read_recipe(str(base))
    return {**more, **recipe}, [known[name], *folders]


def _public_key() -> str:
    return ssh_key().with_suffix(".pub").read_text().strip()


def _describe(path: Path) -> dict[str, Any]:
    path.chmod(0o444)  # guests write to overlays of their own
    return {"sha256": cache.file_digest(path), "size": path.stat().st_size}


def _load(name: str, folder: Path) -> Image:
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        sizes = {file: facts["size"] for file, facts in manifest["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(name, "its manifest cannot be read") from error
    for file, size in sizes.items():
        path = folder / file
        if not path.is_file():
            raise _damaged(name, f"{file} is missing")
        if path.stat().st_size != size:
            raise _damaged(name, f"{file} has {path.stat().st_size} bytes instead of {size}")
    return Image(name, folder, manifest)


def _damaged(name: str, why: str) -> ImageError:
    again = command_line("image", "build", name, "--force")
    return ImageError(f"the image {name} is damaged: {why}; build it again with `{again}`")


def _folders() -> list[Path]:
    root = _cache().root / "images"
    return [path for path in root.iterdir() if not path.name.startswith(".")] if root.is_dir() else []


def _name(folder: Path) -> str | None:
    with ignored(_log, f"reading the manifest in {folder}", OSError, ValueError):
        manifest = json.loads((folder / "manifest.json").read_text())
        return manifest.get("name") if isinstance(manifest, dict) else None
    return None
