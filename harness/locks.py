"""Locks that processes hold on files and folders; the kernel drops them when a process dies (flock(2)).

Knows nothing of what they guard.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import StoreError


@contextmanager
def lock(path: Path, wait: bool = True, waiting: Callable[[], None] = lambda: None) -> Iterator[int]:
    """Hold an exclusive lock on a file, which is made if need be, for the time of the block.

    A child process that is given the file's descriptor, the value of the block, holds the lock as well until it ends.

    Args:
        waiting: called again and again while somebody else has it; may raise to give up.

    Raises:
        BlockingIOError: it is not to be waited for, and somebody else has it.
        StoreError: the file cannot be made.
    """
    with writable(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    with file:
        _take(file.fileno(), wait, waiting)
        yield file.fileno()


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold an exclusive lock on a folder, which goes with it, for the time of the block.

    Raises:
        BlockingIOError: somebody else has it.
        OSError: the folder is not there.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _take(descriptor, wait=False)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Raise StoreError if something cannot be made in a folder."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written: {error.strerror}") from error


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock on a file. Writes nothing; a file that cannot be read is not locked.

    Raises:
        OSError: the file system has no locks.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        return _is_exclusive(descriptor)
    finally:
        os.close(descriptor)


def _is_exclusive(descriptor: int) -> bool:
    """Whether another holds an exclusive lock. The lock is shared for a moment to find out."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False


def _take(descriptor: int, wait: bool, waiting: Callable[[], None] = lambda: None) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait and _is_exclusive(descriptor):  # not only `is_locked` of another process, for a moment
                raise
            waiting()
            time.sleep(0.05)
        else:
            return
