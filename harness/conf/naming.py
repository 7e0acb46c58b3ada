"""What names and environment variables may be, in YAML, in program headers and on the command line alike, and what to
say of an unknown one.

Knows nothing of what they name.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def name(value: str) -> str:
    """A variant's name, which is a folder's too; so `+` is free for what the harness adds. Raises ValueError."""
    if not _NAME.fullmatch(value):
        raise ValueError(f"variant {value!r}: a name has letters, digits, dots, hyphens and underscores only")
    if value == "trace":
        raise ValueError("variant 'trace': NAME+trace is the life-cycle trace of NAME")
    return value


def environment(value: Mapping[str, str]) -> dict[str, str]:
    """Environment variables that a shell can hand to a program. Raises ValueError."""
    for variable, text in value.items():
        if not variable or re.search(r"[=\s\0]", variable):
            raise ValueError(f"{variable!r} cannot be the name of an environment variable")
        if "\0" in text:
            raise ValueError(f"the environment variable {variable} cannot hold a NUL")
    return dict(value)


def nearest(word: str, known: Iterable[str]) -> str:
    """What to add to an error about an unknown word: the nearest known one, or all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(names) or 'none'}"
