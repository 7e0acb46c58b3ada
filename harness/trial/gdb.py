"""The gdb of this machine: found, kept from what it must not do, and asked which libraries it lacks.

Programs, cores and libraries come of a guest that is not trusted. Knows nothing of where they are.
"""

from __future__ import annotations

import re

from harness import host

#: Options with which gdb loads no scripts of what it reads, and asks no server for symbols.
SAFE = ("-iex", "set auto-load off", "-iex", "set debuginfod enabled off")
#: A row of `info sharedlibrary` for a library that was not found.
_MISSING = re.compile(r"^ +No +(/\S+)$", re.MULTILINE)


def find() -> str | None:
    """The gdb that knows most processors; None if there is none."""
    return host.find("gdb-multiarch") or host.find("gdb")


def missing_libraries(output: str) -> list[str]:
    """The paths in the guest of the libraries that gdb did not find, by what it printed for `info sharedlibrary`."""
    return _MISSING.findall(output)
