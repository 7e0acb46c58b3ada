"""Titles for crashes and hangs: the same for the same cause, whatever the addresses and numbers of the day.

Pure functions of text.
"""

from __future__ import annotations

import re
from collections import Counter

#: What a report of a crash begins with: Go's panics and fatal errors, and C's assertions (libgo/go/runtime/panic.go,
#: glibc's assert.c, and the reports of 2013).
_STARTS = (
    re.compile(r"^(?:fatal error|panic|BUG): .*$", re.MULTILINE),
    re.compile(r"^.*Assertion [`'].*failed\.?$", re.MULTILINE),
    re.compile(
        r"^(?:\*\*\* .* \*\*\*.*|.*: symbol lookup error: .*|.*error while loading shared libraries: .*)$", re.MULTILINE
    ),
)
_NORMAL = (
    (re.compile(r"0x[0-9a-fA-F]+"), "ADDR"),
    (re.compile(r"(?:[\w.+-]*/)+([\w.+-]+)"), r"\1"),
    (re.compile(r"goroutine \d+"), "goroutine N"),
    (re.compile(r"\b\d+\b"), "N"),
)
_WAIT = re.compile(r"^goroutine \d+ \[([^\],]+)", re.MULTILINE)


def normal(text: str) -> str:
    """A line with addresses, folders, goroutine ids and numbers replaced."""
    for pattern, by in _NORMAL:
        text = pattern.sub(by, text)
    return " ".join(text.split())[:200]


def of_crash(stderr: str, signal: str) -> str:
    """The title of a crash, or '' if nothing speaks of one."""
    for pattern in _STARTS:
        if match := pattern.search(stderr):
            return normal(match[0])
    return signal


def of_hang(stderr: str) -> str:
    """The title of a hang, from the dump of goroutines that SIGQUIT made."""
    waits = Counter(_WAIT.findall(stderr))
    if not waits:
        return "hang: no goroutine dump"
    (state, _), *_ = sorted(waits.items(), key=lambda item: (-item[1], item[0]))
    return f"hang: goroutines in [{state}]"
