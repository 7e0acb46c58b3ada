"""The record of a trial: what is stored of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from harness.programs.model import CellKey


class Verdict(StrEnum):
    """What a trial came to. ERROR is no verdict on the program: its guest was in trouble. KILLS is never a single
    trial's, but what errors of a cell come to whose guests die again and again (harness/results/deaths.py)."""

    PASS = "pass"
    FAIL = "fail"
    CRASH = "crash"
    HANG = "hang"
    ERROR = "error"
    KILLS = "kills guest"


#: The verdicts on a program.
JUDGED = (Verdict.PASS, Verdict.FAIL, Verdict.CRASH, Verdict.HANG)


@dataclass(frozen=True)
class Trial:
    """One run of one program with one variant on one guest, judged.

    Attributes:
        number: which of its cell's trials this is, from 1.
        attempt: which try at that number, from 1; only an `error` is tried again.
        reason: why, in words.
        signature: a crash's or hang's identity, or ''.
        exit_status: None if the program did not exit.
        signal: the signal's name, or ''.
        stdout: what was kept of the output; stdout_total is how many bytes the program wrote. So for stderr.
        started: UTC, ISO 8601.
        command: what runs it again.
    """

    id: int
    guest: str
    variant: str
    program: str
    number: int
    attempt: int
    verdict: Verdict
    reason: str
    signature: str
    exit_status: int | None
    signal: str
    seconds: float
    stdout: bytes
    stderr: bytes
    stdout_total: int
    stderr_total: int
    started: str
    command: str

    @property
    def cell(self) -> CellKey:
        """The cell that it counts in."""
        return CellKey(self.guest, self.variant, self.program)
