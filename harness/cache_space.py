"""What the cache holds, how large it is, which of it living processes use, and what goes when it grows too large.

An entry is a folder (or a file) below the folder of its kind. A process notes each entry that it uses in a file of its
own, which it holds a lock on: when it ends, however it ends, the kernel drops the lock, and nothing is used by it any
more. Whoever notes an entry shares a lock; whoever removes entries has that lock alone while it reads what is used and
renames what is not. So what is in use is never removed, and what is being removed is never found. Removing goes by the
time of last use, which is the time of change of the entry.

Only what this machine makes again by itself goes without being asked for: no image, no download, no compiler.
Knows nothing of what entries hold. Needs no package besides Python: `harness doctor` runs before any is installed.
"""

from __future__ import annotations

import atexit
import fcntl
import logging
import os
import re
import secrets
import shutil
import threading
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from harness.errors import ConfigError, StoreError
from harness.locks import is_locked, lock, writable
from harness.log import ignored

_log = logging.getLogger(__name__)


class Kind(NamedTuple):
    """A kind of entry: what one is, and whether the bound holds for it, because it is made again by itself."""

    about: str
    bounded: bool


KINDS = {
    "agent": Kind("the agent that starts programs in guests", True),
    "ciphers": Kind("how fast a guest's ciphers are", True),
    "downloads": Kind("a downloaded disk image, packed", False),
    "completions": Kind("what a shell completes", True),
    "dry-starts": Kind("a guest's description that QEMU has taken", True),
    "fetched": Kind("a file from the machine that runs the matrix", True),
    "gcc-source": Kind("GCC's source, unpacked", True),
    "images": Kind("a guest's image", False),
    "libgo": Kind("a libgo", True),
    "libgo-for-tests": Kind("what tests of libgo's packages need of its build", True),
    "libgo-tree": Kind("the build that patched libgos start from", True),
    "logs": Kind("the log of a build", True),
    "machines": Kind("a saved guest", True),
    "packages": Kind("unpacked packages: compilers, GCC's source", False),
    "preload": Kind("a library that is preloaded", True),
    "programs": Kind("a compiled program", True),
    "qemu": Kind("which options a QEMU has", True),
    "sysroots": Kind("a target's headers and libraries", False),
    "toolchain-builds": Kind("a build of compilers that was interrupted", False),
    "toolchains": Kind("compilers that were built here", False),
}
#: What is in the cache besides: the key that guests' images know, and locks.
_NO_KINDS = ("locks", "ssh")
#: The environment variable that has the bound, and what it is without one.
VARIABLE, DEFAULT = "HARNESS_CACHE_SIZE", "5G"
#: The file in an entry that says what it is, if whoever made it did.
ABOUT = ".about"
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@dataclass(frozen=True)
class Entry:
    """What lies under a key.

    Attributes:
        name: its key.
        about: what it is, in words.
        size: bytes on the disk; of a file with several links, its share.
        used: when it was last used or made, in seconds since 1970.
        users: the ids of the processes that use it; empty if it is not in use.
    """

    kind: str
    name: str
    path: Path
    about: str
    size: int
    used: float
    users: tuple[int, ...]

    @property
    def bounded(self) -> bool:
        """Whether the bound holds for it."""
        return self.kind in KINDS and KINDS[self.kind].bounded


def parse_size(text: str) -> int:
    """A size in bytes: `5G`, `500M`, `1.5 GiB`, `0`. Units are powers of 1024. Raises ValueError if it is none."""
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,15})?)\s*([KMGT]?)(?:iB|B)?", text.strip(), re.IGNORECASE | re.ASCII)
    if not match:
        raise ValueError(f"{text!r} is not a size such as 5G or 500M")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def render_size(size: float) -> str:
    """A size in words: `2.6 GiB`, `741 MiB`, `4 KiB`."""
    units = ["KiB", "MiB", "GiB"]
    size /= 1024
    while size >= 1000 and len(units) > 1:
        size /= 1024
        del units[0]
    return f"{size:.1f} {units[0]}" if units[0] == "GiB" else f"{size:.0f} {units[0]}"


def bound() -> int | None:
    """The most bytes of entries that are made again by themselves; None is no bound.

    Raises:
        ConfigError: the environment variable has no size.
    """
    try:
        return parse_size(os.environ.get(VARIABLE) or DEFAULT) or None
    except ValueError as error:
        raise ConfigError(f"{VARIABLE}: {error}; 0 is no bound") from error


# What is used


@dataclass
class _Register:
    """The entries that this process uses, and the file in which it notes them, locked."""

    root: Path
    names: set[str] = field(default_factory=set)
    file: int | None = None
    failed: bool = False

    def note(self, name: str) -> None:
        """Note an entry. If that cannot be written, nobody removes anything as long as this process lives."""
        if name in self.names:
            return
        try:
            if self.file is None:
                folder = _users_folder(self.root)
                folder.mkdir(parents=True, exist_ok=True)
                path = folder / f"{os.getpid()}-{secrets.token_hex(4)}"
                self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL, 0o666)
                fcntl.flock(self.file, fcntl.LOCK_EX)
                atexit.register(self._leave, path, os.getpid())
            line = f"{name}\n".encode()
            if os.write(self.file, line) < len(line):
                raise OSError(f"{name} was not written whole")
        except OSError as error:
            self._fail(error)
        self.names.add(name)

    @staticmethod
    def _leave(path: Path, process: int) -> None:
        """Remove the file when its process ends; of one that is killed it goes when something is removed."""
        if process == os.getpid():
            with ignored(_log, f"removing {path}", OSError):
                path.unlink(missing_ok=True)

    def _fail(self, error: OSError) -> None:
        if not self.failed:
            self.failed = True
            _log.info("%s: what is used cannot be noted: %s", self.root, error)
            with ignored(_log, "holding the cache as it is", OSError):
                fcntl.flock(os.open(_lock_file(self.root, "unnoted"), os.O_RDONLY), fcntl.LOCK_SH)


#: The places of the two locks among those that `_open_locks` opens.
_UNNOTED, _REMOVAL = 0, 1
_registers: dict[tuple[int, Path], _Register] = {}
_mutex = threading.Lock()


def use(root: Path, kind: str, key: str, about: str = "") -> bool:
    """Note that this process uses an entry, until it ends, and that it was used now. Returns whether it is there.

    Args:
        about: what it is, in words; written down if it does not have them yet.
    """
    folder = root / kind / key
    if not folder.is_dir():
        return False
    with _mutex:
        if f"{kind}/{key}" in _register(root).names:
            return True
        with _noting(root):
            if not folder.is_dir():  # removed a moment ago
                return False
            _register(root).note(f"{kind}/{key}")
    with ignored(_log, f"{folder}: noting its use", OSError):  # a cache may be read-only
        if about and not (folder / ABOUT).exists():
            (folder / ABOUT).write_text(about)
        os.utime(folder)
    return True


def will_use(root: Path, kind: str, key: str) -> None:
    """Note that this process is about to put an entry in its place, so that it is in use from its first moment."""
    with _mutex, _noting(root):
        _register(root).note(f"{kind}/{key}")


def _register(root: Path) -> _Register:
    return _registers.setdefault((os.getpid(), root), _Register(root))  # a fork is another process


@contextmanager
def _noting(root: Path) -> Iterator[None]:
    """Keep others from removing anything during the block. Where nothing can be locked nothing can be removed."""
    descriptors: list[int] = []
    with ignored(_log, f"{root}: locking the cache", OSError):
        descriptors += _open_locks(root)
        fcntl.flock(descriptors[_REMOVAL], fcntl.LOCK_SH)
    try:
        yield
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _open_locks(root: Path) -> list[int]:
    """Open the files that are locked by who could not note what he uses, and by who removes. Raises OSError."""
    descriptors: list[int] = []
    (root / "locks").mkdir(parents=True, exist_ok=True)
    try:
        for name in ("unnoted", "removal"):
            descriptors.append(os.open(_lock_file(root, name), os.O_RDONLY | os.O_CREAT, 0o666))
    except OSError:
        for descriptor in descriptors:
            os.close(descriptor)
        raise
    return descriptors


def _lock_file(root: Path, name: str) -> Path:
    return root / "locks" / f"cache-{name}.lock"


def _users_folder(root: Path) -> Path:
    return root / "locks" / "cache-users"


def _users(root: Path, tidy: bool = False) -> dict[str, tuple[int, ...]]:
    """The processes that use entries, by the entries' `kind/key`.

    Args:
        tidy: remove the files of processes that have ended; only for who has the cache alone.
    """
    users: dict[str, tuple[int, ...]] = {}
    for file in sorted(_users_folder(root).glob("*-*")):
        with ignored(_log, f"reading {file}", OSError):  # its process has just ended
            if is_locked(file):
                process = int(file.name.partition("-")[0])
                for name in file.read_text().splitlines():
                    users[name] = (*users.get(name, ()), process)
            elif tidy:
                file.unlink(missing_ok=True)
    own = _registers.get((os.getpid(), root))
    for name in list(own.names) if own else ():  # even if they could not be written
        users[name] = tuple({*users.get(name, ()), os.getpid()})
    return users


# What there is


def entries(root: Path, kinds: Collection[str] | None = None) -> list[Entry]:
    """All entries of a cache, or those of some kinds, the one that was not used for longest first."""
    users = _users(root)
    listed = []
    for folder in _kind_folders(root):
        if kinds is None or folder.name in kinds:
            listed += [entry for path in _paths(folder) if (entry := _entry(root, path, users))]
    return sorted(listed, key=lambda entry: (entry.used, entry.kind, entry.name))


def _kind_folders(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    return sorted(path for path in root.iterdir() if path.name not in _NO_KINDS and path.is_dir())


def _paths(folder: Path) -> list[Path]:
    """The entries of a kind. What begins with a dot is being made or removed. A link leads to another cache."""
    try:
        return [
            path
            for path in folder.iterdir()
            if not path.name.startswith(".") and not path.name.endswith(".lock.json") and not path.is_symlink()
        ]
    except OSError as error:
        _log.info("%s is left out: %s", folder, error)
        return []


def _entry(root: Path, path: Path, users: dict[str, tuple[int, ...]]) -> Entry | None:
    try:
        used = path.stat().st_mtime
    except OSError as error:  # removed meanwhile
        _log.info("%s is left out: %s", path, error)
        return None
    kind = path.parent.name
    by = users.get(f"{kind}/{path.name}", ())
    if not by and _is_busy(root, path):
        by = (0,)
    return Entry(kind, path.name, path, _about(path), size_of(path), used, by)


def _is_busy(root: Path, path: Path) -> bool:
    """Whether an entry that no process notes is in use all the same, because something is being made of it."""
    match path.parent.name:
        case "logs":  # NAME.log, or NAME.PART.log, is of the build that holds NAME.lock
            return is_locked(root / "locks" / f"{path.name.partition('.')[0]}.lock")
        case "toolchain-builds":
            return is_locked(path / "lock")
        case "downloads":
            return any(is_locked(file) for file in (root / "locks").glob("images-*.lock"))
    return False


def _about(path: Path) -> str:
    kind = KINDS.get(path.parent.name)
    try:
        return " ".join((path / ABOUT).read_text(errors="replace").split())
    except OSError:
        return kind.about if kind else "not known to this version"


def size_of(path: Path) -> int:
    """The bytes on the disk of a file or of all below a folder; of a file with several links, its share."""
    try:
        status = path.lstat()
        size = status.st_blocks * 512 // (1 if path.is_dir() else status.st_nlink)
        if path.is_dir() and not path.is_symlink():
            with os.scandir(path) as children:
                size += sum(_size_below(child) for child in children)
    except OSError as error:  # removed meanwhile
        _log.debug("%s: its size is left out: %s", path, error)
        return 0
    return size


def _size_below(child: os.DirEntry[str]) -> int:
    if child.is_dir(follow_symlinks=False):
        return size_of(Path(child.path))
    status = child.stat(follow_symlinks=False)
    return status.st_blocks * 512 // max(1, status.st_nlink)


# What goes


def removable(candidates: Iterable[Entry], older: float | None, size: int | None) -> list[Entry]:
    """The entries to remove of some: not used for longest first, and none that is in use.

    Args:
        older: only those last used before this time, in seconds since 1970.
        size: as many as it takes for the others to have no more bytes than this together; None is all.
    """
    chosen = sorted(candidates, key=lambda entry: entry.used)
    total = sum(entry.size for entry in chosen)
    doomed = []
    for entry in chosen:
        if size is not None and total <= size:
            break
        if not entry.users and (older is None or entry.used < older):
            doomed.append(entry)
            total -= entry.size
    return doomed


def remove(root: Path, doomed: Iterable[Entry], even_own: bool = False) -> list[Entry]:
    """Remove entries, and what killed processes left half made or half removed.

    Args:
        even_own: also what this process alone uses.

    Returns:
        Those that were removed: one that is in use by now, or is being made again, stays.

    Raises:
        StoreError: the cache cannot be written, which may be after some are removed; or a process could not note what
            it uses.
    """
    removed: list[Entry] = []
    renamed: list[Path] = []
    failures: list[str] = []
    with _alone(root):
        users = _users(root, tidy=True)
        for entry in doomed:
            by = users.get(f"{entry.kind}/{entry.name}", ())
            if any(process != os.getpid() or not even_own for process in by) or _is_busy(root, entry.path):
                continue
            old = entry.path.with_name(f".{entry.name}.old")
            path = root / "locks" / f"{entry.kind}-{entry.name}.lock"
            try:
                with lock(path, wait=False):
                    _delete(old)
                    os.replace(entry.path, old)
                removed.append(entry)
                renamed.append(old)
            except (BlockingIOError, FileNotFoundError) as error:
                _log.info("%s is being made again, or is gone: %s", entry.path, error)
            except (OSError, StoreError) as error:
                _log.info("%s cannot be removed: %s", entry.path, error)
                failures.append(f"{entry.path} cannot be removed: {getattr(error, 'strerror', None) or error}")
    for folder in _kind_folders(root):
        renamed += folder.glob(".*.old")
        for left in folder.glob(".*.new"):
            half = f"{folder.name}-{left.name[1:-4]}" if left.name != ".new" else folder.name
            making = f"removing {left}, which a build has left or goes on with"
            path = root / "locks" / f"{half}.lock"
            with ignored(_log, making, BlockingIOError, StoreError), lock(path, wait=False):
                _delete(left)
    for old in renamed:
        _delete(old)
    if failures:
        raise StoreError(failures[0])
    return removed


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Have the cache alone during the block: nobody notes what he uses. Raises StoreError."""
    with writable(root):
        descriptors = _open_locks(root)
    _mutex.acquire()  # before the lock, as `use` has them
    try:
        try:
            fcntl.flock(descriptors[_UNNOTED], fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreError(
                f"{root}: a running harness could not note what it uses of it, so nothing is removed until it ends"
            ) from error
        fcntl.flock(descriptors[_REMOVAL], fcntl.LOCK_EX)  # others hold it for no longer than a note takes
        yield
    finally:
        _mutex.release()
        for descriptor in descriptors:
            os.close(descriptor)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


#: The caches that this process has put something new into since it last kept their bound.
_grown: set[Path] = set()


def grew(root: Path, kind: str) -> None:
    """Tell that there is a new entry. The bound is kept when this process ends.

    Not at once: what a run will use, but has not asked for yet, may be what was not used for longest. If the process is
    killed, the next one that makes something keeps the bound.
    """
    if KINDS.get(kind, Kind("", False)).bounded:
        if not _grown:
            atexit.register(_keep_bounds)
        _grown.add(root)


def _keep_bounds() -> None:
    for root in list(_grown):
        keep_bound(root)


def keep_bound(root: Path) -> None:
    """Remove what was not used for longest, if this process has brought what is bounded above the bound.

    What is in use stays, so it may stay above. That it cannot be kept is logged, and ends nothing.
    """
    if root not in _grown:
        return
    _grown.discard(root)
    with ignored(_log, f"{root}: keeping its bound", OSError, StoreError, ConfigError):
        limit = bound()
        bounded = [entry for entry in entries(root) if entry.bounded]
        size = sum(entry.size for entry in bounded)
        if limit is not None and size > limit:
            removed = remove(root, removable(bounded, None, limit))
            _log.info("%s: removed %d entries, for %s is above its bound", root, len(removed), render_size(size))
