"""What a binary of Go tests says of its tests when it runs with -test.v. Pure functions of text."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: An end, which stands behind whatever the test printed last without a line's end; subtests have a slash in their name
#: (libgo/go/testing/testing.go, T.report).
_ENDED = re.compile(r"--- (PASS|FAIL|SKIP): ([^\s/]+) \(\d")
_STARTED = re.compile(r"^=== RUN +([^\s/]+)$", re.MULTILINE)
#: What the testing package panics with at -test.timeout (libgo/go/testing/testing.go, startAlarm).
TIMED_OUT = "panic: test timed out after"


@dataclass(frozen=True)
class Tests:
    """The names of tests by how they ended; `unfinished` are those that had begun and did not."""

    passed: tuple[str, ...]
    failed: tuple[str, ...]
    skipped: tuple[str, ...]
    unfinished: tuple[str, ...]

    def __str__(self) -> str:
        parts = [f"FAIL: {', '.join(self.failed)}"] if self.failed else []
        parts += [f"unfinished: {', '.join(self.unfinished)}"] if self.unfinished else []
        parts += [f"{len(self.passed)} passed"]
        parts += [f"skipped: {', '.join(self.skipped)}"] if self.skipped else []
        return "; ".join(parts)


def parse(stdout: str) -> Tests:
    """Read the tests' ends in what a test binary printed."""
    ends: dict[str, list[str]] = {"PASS": [], "FAIL": [], "SKIP": []}
    for how, name in _ENDED.findall(stdout):
        ends[how].append(name)
    ended = {name for names in ends.values() for name in names}
    unfinished = dict.fromkeys(name for name in _STARTED.findall(stdout) if name not in ended)
    return Tests(tuple(ends["PASS"]), tuple(ends["FAIL"]), tuple(ends["SKIP"]), tuple(unfinished))
