"""Folders of guests that run, and of their screenshots."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from harness.errors import HarnessError
from harness.locks import folder_lock, lock
from harness.log import ignored

_log = logging.getLogger(__name__)

#: The folder in the work directory for the folders of guests that run.
MACHINES = "guests"
#: The folder in the work directory for screenshots and consoles of guests in trouble.
SCREENS = "screens"


@contextmanager
def guest_folder(work: Path) -> Iterator[Path]:
    """A folder of its own for a guest, gone after the block; what killed processes left goes too.

    Raises:
        HarnessError: it cannot be made.
    """
    parent = work / MACHINES
    with ExitStack() as stack:
        try:
            with lock(parent / ".lock"):
                for old in parent.glob("[!.]*"):
                    _remove_if_free(old)
                folder = Path(tempfile.mkdtemp(dir=parent))
                stack.enter_context(folder_lock(folder))
        except OSError as error:
            raise HarnessError(f"{parent}: cannot be written: {error.strerror}") from error
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        yield folder


@contextmanager
def short_name(folder: Path) -> Iterator[Path]:
    """Another name of a folder during the block, for this user's processes: a socket's name has 107 bytes at most
    (unix(7)), and gdb parts names at blanks."""
    number = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield Path(f"/proc/{os.getpid()}/fd/{number}")
    finally:
        os.close(number)


def _remove_if_free(folder: Path) -> None:
    """Remove a guest's folder whose process is gone."""
    with ignored(_log, f"removing {folder}, which a guest has left or runs in", OSError), folder_lock(folder):
        shutil.rmtree(folder, ignore_errors=True)
