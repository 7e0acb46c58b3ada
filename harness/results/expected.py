"""What is known to fail: entries of the configuration held against the cells of a matrix.

A surprise is a trial that went wrong in a way that no entry knows of, and a cell that passed though an entry says that
it fails. An entry that has expired excuses nothing. Pure functions; knows nothing of YAML.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any


@dataclass(frozen=True)
class Entry:
    """One known failure.

    Attributes:
        guest, variant, program: what cells it is about; `*` stands for any text.
        verdicts: what its trials come to; none means any that is no pass.
        signature: a regular expression that is found in a crash's or hang's signature, or ''.
        reason: why, and where that is known from.
        expires: the last day on which it holds.
        flaky: it may pass too.
        where: the file and line that say so.
    """

    guest: str
    variant: str
    program: str
    verdicts: tuple[str, ...]
    signature: str
    reason: str
    expires: date
    flaky: bool
    where: str

    def to_json(self) -> dict[str, Any]:
        """A JSON object for `from_json`."""
        return {**vars(self), "expires": self.expires.isoformat()}

    @staticmethod
    def from_json(data: dict[str, Any]) -> Entry:
        """What `to_json` made an object of."""
        more = {"verdicts": tuple(data["verdicts"]), "expires": date.fromisoformat(data["expires"])}
        return Entry(**{**data, **more})

    def about(self, guest: str, variant: str, program: str) -> bool:
        """Whether it is about a cell."""
        pairs = ((guest, self.guest), (variant, self.variant), (program, self.program))
        return all(fnmatch.fnmatchcase(name, pattern) for name, pattern in pairs)

    def knows(self, verdict: str, signature: str) -> bool:
        """Whether it knows of such an end, of a cell that it is about."""
        if self.verdicts and verdict not in self.verdicts:
            return False
        return not self.signature or bool(re.search(self.signature, signature))

    def __str__(self) -> str:
        ends = [" or ".join(self.verdicts) or "no pass", *([f"~ {self.signature}"] if self.signature else [])]
        return f"{' '.join(ends)} ({self.reason}; {self.where})"


def excuse(entries: Sequence[Entry], verdict: str, signature: str, day: date) -> Entry | None:
    """The entry, of those that are about a cell, that knows of such an end on a day; None if it is a surprise."""
    return next((entry for entry in entries if day <= entry.expires and entry.knows(verdict, signature)), None)


def contradicted(entries: Sequence[Entry], passed: int, trials: int, unknown: int, day: date) -> str:
    """The entries that are wrong about a cell, in words; '' if none is.

    Args:
        entries: those that are about the cell.
        passed: its trials that passed, of `trials`.
        unknown: those that went wrong in a way that no entry knows of.
    """
    stale = trials > 0 and passed == trials
    wrong = [entry for entry in entries if day <= entry.expires and (unknown or (stale and not entry.flaky))]
    return "; ".join(map(str, wrong))
