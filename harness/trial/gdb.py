"""The gdb of this machine: found, kept from what it must not do, left alone with a ctrl-C, and asked which libraries it
lacks.

Programs, cores and libraries come of a guest that is not trusted. Knows nothing of where they are.
"""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from harness import host
from harness.errors import ToolMissing

#: Options with which gdb loads no scripts of what it reads, and asks no server for symbols.
SAFE = ("-iex", "set auto-load off", "-iex", "set debuginfod enabled off")
#: A row of `info sharedlibrary` for a library that was not found.
_MISSING = re.compile(r"^ +No +(/\S+)$", re.MULTILINE)


def find() -> str | None:
    """The gdb that knows most processors; None if there is none."""
    return host.find("gdb-multiarch") or host.find("gdb")


def required() -> str:
    """The same. Raises ToolMissing if there is none."""
    if (path := find()) is None:
        raise ToolMissing(
            "no gdb on this machine; Debian's package is gdb (gdb-multiarch, for guests of any processor)"
        )
    return path


@contextmanager
def interrupts_left_to_it() -> Iterator[None]:
    """During the block a ctrl-C is gdb's, which stops the program, and does not end the harness."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are not for this thread, and whoever they are for looks after them
        return
    before = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def missing_libraries(output: str) -> list[str]:
    """The paths in the guest of the libraries that gdb did not find, by what it printed for `info sharedlibrary`."""
    return _MISSING.findall(output)
