"""A content-addressed store of folders: what is made once under a key is never made twice.

A folder is made beside its place and renamed into it, so a folder that is there is whole; a lock lets two processes
that want the same key make it once. A folder that a process was given stays until the process ends; what was not used
for longest goes when there is too much (harness/cache_space.py). Knows nothing of what the folders hold.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import cache_space
from harness.errors import StoreError
from harness.invocation import command_line
from harness.locks import lock, writable
from harness.log import ignored

_log = logging.getLogger(__name__)


def digest(value: Any) -> str:
    """The key of a value: 20 hexadecimal digits of the SHA-256 of its JSON, with keys sorted."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:20]


def file_digest(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal. Raises OSError if it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_digest(folder: Path) -> str:
    """The SHA-256 over names, executable bits and contents of all files below a folder."""
    whole = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        mode = "x" if path.stat().st_mode & 0o100 else "-"
        whole.update(f"{path.relative_to(folder)}\0{mode}\0{file_digest(path)}\n".encode())
    return whole.hexdigest()


class Cache:
    """Folders by kind and key below one root.

    Args:
        root: the folder, made when it is first needed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, kind: str, key: str) -> Path:
        """Where a folder is or would be."""
        return self.root / kind / key

    def find(self, kind: str, key: str, about: str = "") -> Path | None:
        """The folder of a key if it is there; it stays as long as this process lives. `about` is as of `make`."""
        return self.path(kind, key) if cache_space.use(self.root, kind, key, about) else None

    def make(
        self,
        kind: str,
        key: str,
        build: Callable[[Path], None],
        room: int = 0,
        again: bool = False,
        waiting: Callable[[], None] = lambda: None,
        about: str = "",
    ) -> Path:
        """The folder of a key, built first if it is not there. It stays as long as this process lives.

        Args:
            kind: what it is, such as `libgo`.
            key: the hash of all that makes it.
            build: fills the empty folder it is given. What it raises is passed on and nothing is left behind.
            room: MiB that the build takes. Without them it is not begun, for few tools say plainly that a disk is full.
            again: whether to build it even if it is there. What is there goes when the new one is whole.
            waiting: called again and again while another process builds it; may raise to give up.
            about: what it is, in words, for `harness cache list`.

        Raises:
            StoreError: there is not enough room, or nothing can be written there.
            ConfigError: the bound of the cache is no size.
        """
        final = self.path(kind, key)
        if not again and cache_space.use(self.root, kind, key, about):
            return final
        cache_space.bound()  # that it is wrong is told before anything is built
        with lock(self._lock(kind, key), waiting=waiting):
            if not again and cache_space.use(self.root, kind, key, about):
                return final
            staging = final.parent / f".{key}.new"
            self._sweep(kind)
            shutil.rmtree(staging, ignore_errors=True)
            with writable(staging.parent):
                staging.mkdir(parents=True)
            free = shutil.disk_usage(staging).free >> 20
            try:
                if free < room:
                    text = f"making {kind} takes about {room} MiB, and only {free} are free"
                    raise StoreError(
                        f"{self.root}: {text}; `{command_line('cache', 'prune', '--size', '1G')}` makes room"
                    )
                build(staging)
                if about:
                    (staging / cache_space.ABOUT).write_text(about)
                cache_space.will_use(self.root, kind, key)
                old = self._set_aside(final)
                os.replace(staging, final)
            except BaseException:
                shutil.rmtree(staging, ignore_errors=True)
                raise
            shutil.rmtree(old, ignore_errors=True)
        cache_space.grew(self.root, kind)
        return final

    def _sweep(self, kind: str) -> None:
        """Remove what killed builds of a kind left; a build that goes on holds its lock."""
        for left in self.root.glob(f"{kind}/.*.new"):
            building = f"removing {left}, which a build has left or goes on with"
            with ignored(_log, building, BlockingIOError), lock(self._lock(kind, left.name[1:-4]), wait=False):
                shutil.rmtree(left, ignore_errors=True)

    def _lock(self, kind: str, key: str) -> Path:
        return self.root / "locks" / f"{kind}-{key}.lock"

    def discard(self, kind: str, key: str, wait: bool = True) -> bool:
        """Remove a folder, and what a killed build left of it. Returns whether it was there.

        Raises:
            BlockingIOError: another process builds it, and is not to be waited for.
        """
        final = self.path(kind, key)
        with lock(self._lock(kind, key), wait):
            existed = final.is_dir()
            for doomed in (self._set_aside(final), final.parent / f".{key}.new"):
                shutil.rmtree(doomed, ignore_errors=True)
        return existed

    @staticmethod
    def _set_aside(final: Path) -> Path:
        """Rename a folder that is to be removed, if it is there, so that nobody finds half of it."""
        old = final.parent / f".{final.name}.old"
        shutil.rmtree(old, ignore_errors=True)
        if final.is_dir():
            os.replace(final, old)
        return old
