"""Images: a guest's disk and kernel, made by a recipe, kept in the cache and checked before use.

A recipe is a folder below images/ with a recipe.yaml, whose `kind` names the builder. Knows nothing of what is in an
image beyond the manifest that lies beside its files.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness import cache, paths
from harness.conf.load import nearest
from harness.conf.read import read
from harness.errors import ImageError
from harness.guest import debian, host

#: Part of every image's key: to be raised whenever a builder makes something else of the same recipe.
BUILDER = 1

#: MiB that building an image takes on its way.
_ROOM = 400

#: The builders by their recipes' `kind`.
_KINDS = {"debian": debian.build}


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
    with cache.lock(paths.cache_dir() / "locks" / "ssh.lock"):
        if not (key_file.is_file() and public.is_file()):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
            with tempfile.TemporaryDirectory(dir=folder) as new:
                made = Path(new) / key_file.name
                host.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "harness", "-f", made, what="SSH key")
                os.replace(f"{made}.pub", public)
                os.replace(made, key_file)
    return key_file


def key(name: str) -> str:
    """The cache's key of an image: the hash of all that makes it.

    Raises:
        ImageError: there is no such recipe.
    """
    return cache.digest(
        {
            "builder": BUILDER,
            "recipe": cache.tree_digest(_recipe(name)),
            "host": debian.codename(),
            "ssh": _public_key(),
        }
    )


def find(name: str) -> Image | None:
    """The image of a recipe if it has been built.

    Raises:
        ImageError: there is no such recipe, or the image is damaged.
    """
    folder = _cache().path("images", key(name))
    return _load(name, folder) if folder.is_dir() else None


def build(name: str, progress: Callable[[str], None], force: bool = False) -> Image:
    """The image of a recipe, built if need be.

    Args:
        name: the recipe's name.
        progress: is told what is being done.
        force: whether to remove and build again what is there.

    Raises:
        ImageError: there is no such recipe, it cannot be built, or what is there is damaged.
        ToolMissing: a program that is needed is not installed.
        ConfigError: recipe.yaml is not valid YAML.
    """
    folder, image_key = _recipe(name), key(name)
    recipe, _ = read(folder / "recipe.yaml")
    kind = str(recipe.get("kind"))
    if kind not in _KINDS:
        raise ImageError(f"{folder / 'recipe.yaml'}: kind: no builder named {kind}; {nearest(kind, _KINDS)}")

    def fill(out: Path) -> None:
        told = _KINDS[kind](recipe, folder, out, public_key=_public_key(), progress=progress)
        manifest = {
            "name": name,
            "key": image_key,
            "built": datetime.now(UTC).isoformat(timespec="seconds"),
            "files": {path.name: _describe(path) for path in sorted(out.iterdir())},
            **told,
        }
        (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")

    if force:
        _discard(_cache().path("images", image_key))
    return _load(name, _cache().make("images", image_key, fill, _ROOM))


def remove(name: str) -> int:
    """Remove all images of a recipe, those of its earlier states too. Returns how many there were.

    Raises:
        ImageError: there is no such recipe.
    """
    current = _cache().path("images", key(name))
    doomed = [path for path in _folders() if path == current or _name(path) == name]
    for path in doomed:
        _discard(path)
    return len(doomed)


def listing() -> list[dict[str, Any]]:
    """One row for each recipe: name, state (`built`, `not built` or `damaged`), folder, and its manifest if built."""
    rows = []
    for name in recipes():
        row: dict[str, Any] = {"name": name, "folder": _cache().path("images", key(name))}
        try:
            found = find(name)
        except ImageError:
            row["state"] = "damaged"
        else:
            row |= {"state": "built", "manifest": found.manifest} if found else {"state": "not built"}
        rows.append(row)
    return rows


def verify(image: Image) -> None:
    """Compare all files of an image with the hashes in its manifest.

    Raises:
        ImageError: one differs, or cannot be read.
    """
    for name, told in image.manifest["files"].items():
        try:
            whole = cache.file_digest(image.folder / name) == told["sha256"]
        except OSError as error:
            raise _damaged(image.name, f"{name} cannot be read: {error.strerror}") from error
        if not whole:
            raise _damaged(image.name, f"{name} is not what was built")


def _cache() -> cache.Cache:
    return cache.Cache(paths.cache_dir())


def _recipe(name: str) -> Path:
    known = recipes()
    if name not in known:
        raise ImageError(f"no image named {name}; {nearest(name, known)}")
    return known[name]


def _public_key() -> str:
    return ssh_key().with_suffix(".pub").read_text().strip()


def _describe(path: Path) -> dict[str, Any]:
    path.chmod(0o444)  # guests write to overlays of their own
    return {"sha256": cache.file_digest(path), "size": path.stat().st_size}


def _load(name: str, folder: Path) -> Image:
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        sizes = {file: told["size"] for file, told in manifest["files"].items()}
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
    return ImageError(f"the image {name} is damaged: {why}; build it again with `harness image build {name} --force`")


def _folders() -> list[Path]:
    root = _cache().root / "images"
    return [path for path in root.iterdir() if not path.name.startswith(".")] if root.is_dir() else []


def _name(folder: Path) -> str | None:
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
    except (OSError, ValueError):
        return None
    return manifest.get("name") if isinstance(manifest, dict) else None


def _discard(folder: Path) -> None:
    """Remove a folder of the cache under its lock; renamed first, so that nobody finds half of it."""
    with cache.lock(_cache().root / "locks" / f"images-{folder.name}.lock"):
        old = folder.parent / f".{folder.name}.old"
        shutil.rmtree(old, ignore_errors=True)  # what a killed removal left
        if folder.is_dir():
            os.replace(folder, old)
            shutil.rmtree(old)
