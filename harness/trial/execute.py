"""One trial in a guest: ship the program, run it, watch it, stop it, and judge what was observed."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness import conf
from harness.conf.system import OperatingSystem
from harness.errors import GuestError
from harness.guest.machine import Machine
from harness.guest.pool import Guest
from harness.programs.gotags import Target
from harness.programs.model import Expectation, TrialSpec
from harness.trial.observe import Observation
from harness.trial.verdict import Verdict, judge

#: Seconds that a guest may say nothing when it is asked for its processes, and for a sign of life, before trials and
#: after one that went wrong.
LISTING, PING = 20.0, 60.0
#: Bytes that a program may print that prints a program; the longest of GCC's is 1.3 MB.
PRINTED = 16 << 20
#: What the reason begins with of a trial whose program was not run.
NOT_RUN = ("does not compile: ", "printing a program: ")
#: The name under which a life-cycle trace is stored.
LIFETRACE = "lifetrace"
#: Called with the machine as a trial left it, a program that hangs still in it, and told of that in words.
Inspect = Callable[[Machine, str], None]


@dataclass(frozen=True)
class Outcome:
    """What a thread reports: a trial that came of a slot, a guest's trouble, or a failure that ends the run.

    Attributes:
        trial: the fields of the stored trial, but for the attempt.
        attachments: what was collected of it, by name.
        trouble: the guest and what happened to it.
    """

    slot: TrialSpec | None = None
    trial: dict[str, Any] = field(default_factory=dict)
    attachments: dict[str, bytes] = field(default_factory=dict)
    trouble: tuple[str, str] | None = None
    failure: BaseException | None = None


@dataclass
class RunningTrial:
    """A trial that is being made: `mark` is where the console was when it began, `parts` are those of its dossier."""

    slot: TrialSpec
    started: str
    mark: int
    parts: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class _ProgramRun:
    """A program that ran in a guest: what was seen, where its file is, the folder it ran in, and how to start it."""

    seen: Observation
    executable: str
    folder: str
    how: str


def program_environment(configuration: conf.Configuration, slot: TrialSpec, cores_: bool) -> dict[str, str]:
    """What the environment of a trial's program has besides the guest's own, and the way to its library.

    Args:
        cores_: whether core files are wanted.
    """
    said = configuration.guest(slot.guest)
    own = said.ways.environment(said.env, cores_)
    program = slot.program.env
    if slot.program.foreign:
        goarch = Target.of(configuration.toolchain(said.toolchain).triple).goarch
        program = {name: value.replace("{goarch}", goarch) for name, value in program.items()}
    return {**own, **program, **configuration.variant(slot.variant).env}


def _suspended(guest: Guest, ways: OperatingSystem, pid: int) -> str:
    """The state of a program whose crash its guest suspended. A guest that does not say is no trouble yet."""
    if not ways.crashed:
        return ""
    try:
        _, out, _ = guest.shell.run(ways.listing, LISTING)
    except GuestError:
        return ""
    return ways.suspended(out.decode(errors="replace"), pid)


def _examine(guest: Guest, library: str, executable: str) -> None:
    """Look whether it may be a guest's doing that a trial went wrong.

    Raises:
        GuestError: it gives no sign of life, its disk is full, or what it was given is gone.
    """
    files = [shlex.quote(file) for file in (library, executable)]
    look = f'for file in {" ".join(files)}; do [ -s "$file" ] || {{ echo "$file is gone" >&2; exit 1; }}; done'
    try:
        status, _, err = guest.shell.run(f"{look}; cat {files[1]} >{files[1]}.copy && rm -f {files[1]}.copy", PING)
    except GuestError as error:
        raise GuestError(f"the guest itself hangs: {str(error).rpartition(': ')[2]}") from error
    if status:
        raise GuestError(f"the guest is not as it was: {err.decode(errors='replace').strip()}")


def _fields(slot: TrialSpec, started: str, options: Sequence[str]) -> dict[str, Any]:
    again = ["harness", "run", slot.program.word, "--guest", slot.guest, "--variant", slot.variant, *options]
    return {
        "id": 0,
        "guest": slot.guest,
        "variant": slot.variant,
        "program": slot.program.name,
        "number": slot.number,
        "started": started,
        "command": shlex.join(again),
    }


def _seen(seen: Observation, signal: str) -> dict[str, Any]:
    return {
        "exit_status": seen.exit_status,
        "signal": signal,
        "seconds": seen.seconds,
        "stdout": seen.stdout,
        "stderr": seen.stderr,
        "stdout_total": seen.stdout_total,
        "stderr_total": seen.stderr_total,
    }


def infra_error(slot: TrialSpec, why: str, started: str, options: Sequence[str]) -> dict[str, Any]:
    """The fields of a stored trial that came to nothing, for no fault of its program's."""
    nothing = Observation(None, None, 0.0, b"", b"", 0, 0, False)
    return {**_fields(slot, started, options), **_seen(nothing, ""), "verdict": "error", "reason": why, "signature": ""}


def _no_program(seen: Observation, signal: str) -> Verdict | None:
    """The verdict on a program that should have printed a program and did not; None if it did."""
    verdict = judge(seen, Expectation(), signal)
    if verdict.verdict == "pass":
        if seen.stdout_total == len(seen.stdout):
            return None
        verdict = Verdict("fail", f"it is {seen.stdout_total} bytes long, and {PRINTED} are kept")
    return replace(verdict, reason=f"{NOT_RUN[1]}{verdict.reason}")
