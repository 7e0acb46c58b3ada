"""Where things lie: the files that come with the harness, the user's cache and configuration, a work directory.

Knows nothing of what is in them; reads only what a user names, and whole.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
#: The folder that holds conf/, images/ and suites/: in the package when it is installed, beside it in a clone.
DATA = _PACKAGE / "data" if (_PACKAGE / "data").is_dir() else _PACKAGE.parent


def cache_dir() -> Path:
    """The folder for what can be made again: downloads, images, libgo variants, programs.

    It is `harness` below $XDG_CACHE_HOME, by default ~/.cache (XDG Base Directory Specification 0.8).
    """
    return _xdg("XDG_CACHE_HOME", ".cache")


def config_dir() -> Path:
    """The folder for what the user has decided: `harness` below $XDG_CONFIG_HOME, by default ~/.config."""
    return _xdg("XDG_CONFIG_HOME", ".config")


def work_dir(option: str | None = None) -> Path:
    """The folder for what a run leaves: its results and its guests' files.

    Args:
        option: what the user gave as --work; else $HARNESS_WORK counts, else `.harness` in the current folder.
    """
    return absolute(Path(option or os.environ.get("HARNESS_WORK") or ".harness"))


def absolute(path: Path) -> Path:
    """A path from the root, without `..`: it stays right when a folder goes that it only passes through.

    Links stay as they are named, but for those before a `..`.
    """
    places = path.absolute()
    if ".." not in places.parts:
        return places
    last = max(place for place, part in enumerate(places.parts) if part == "..")
    return Path(*places.parts[: last + 1]).resolve().joinpath(*places.parts[last + 1 :])


def content(file: Path) -> bytes:
    """What a regular file holds. Raises OSError, also for a pipe or a device, which may have no end."""
    if stat.S_ISREG(file.stat().st_mode):
        return file.read_bytes()
    raise OSError(errno.EINVAL, "it is no regular file", str(file))


def _xdg(variable: str, default: str) -> Path:
    base = os.environ.get(variable)
    return (Path(base) if base and os.path.isabs(base) else Path.home() / default) / "harness"
