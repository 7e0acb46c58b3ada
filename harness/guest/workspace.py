"""Folders of guests that run, and of their screenshots."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.cache import lock
from harness.errors import HarnessError

#: The folder in the work directory for screenshots of guests in trouble.
SCREENS = "screens"


@contextmanager
def guest_folder(work: Path) -> Iterator[Path]:
    """A folder of its own for a guest, gone after the block; what killed processes left goes too.

    Raises:
        HarnessError: it cannot be made.
    """
    parent = work / "guests"
    descriptor = -1
    try:
        with lock(parent / ".lock"):
            for old in parent.glob("[!.]*"):
                _remove_if_free(old)
            folder = Path(tempfile.mkdtemp(dir=parent))
            descriptor = os.open(folder, os.O_RDONLY)
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # for as long as this process lives, and it is nobody else's
    except OSError as error:
        raise HarnessError(f"{parent}: cannot be written: {error.strerror}") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _remove_if_free(folder: Path) -> None:
    """Remove a guest's folder whose process is gone."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        pass
    finally:
        os.close(descriptor)
