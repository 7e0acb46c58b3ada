"""One trial's run: a command in a guest, watched under one deadline. Says what was seen, not what it means."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf

from harness import clock
from harness.errors import GuestError
from harness.guest.agent import Agent
from harness.trial.stillness import HangDetector

_log = logging.getLogger(__name__)

#: Bytes kept of each output stream; the rest is counted.
KEEP = 1 << 20
#: Seconds without output between SIGQUIT, at which Go prints its goroutines and ends, and SIGKILL: a guest may be ten
#: times slower than another.
GRACE = 20.0
#: Seconds in which nothing comes of the guest, not even a program's output, before it counts as dead. It is also how
#: long SIGQUIT is given at most to a program that goes on printing.
PATIENCE = 60.0


@dataclass(frozen=True)
class Observation:
    """All that was seen of a trial.

    Attributes:
        exit_status: None if a signal ended it.
        signal: the signal's number in the guest, or None.
        seconds: from the request to the report of the end, by the host's clock.
        stdout, stderr: the first bytes of each, KEEP unless more were asked for; the totals count all.
        timed_out: it was stopped at its limit, or before it (`still`).
        still: how it was seen, before its limit, that nothing of it could run any more, or ''; it was stopped then.
        suspended: its state in the guest's list of processes, if that says that it had crashed and been suspended.
    """

    exit_status: int | None
    signal: int | None
    seconds: float
    stdout: bytes
    stderr: bytes
    stdout_total: int
    stderr_total: int
    timed_out: bool
    suspended: str = ""
    still: str = ""


#: What is seen of a program that was not run.
NOTHING = Observation(None, None, 0.0, b"", b"", 0, 0, timed_out=False)


class GuestLost(GuestError):
    """A guest was lost while a program ran in it.

    Attributes:
        observation: what was seen of the program until then.
    """

    def __init__(self, error: GuestError, observation: Observation) -> None:
        super().__init__(str(error), error.console)
        self.observation = observation


def observe(
    agent: Agent,
    argv: Sequence[str],
    env: Mapping[str, str],
    folder: str,
    limit: float,
    at_limit: Callable[[int], str] = lambda pid: "",
    keep: int = KEEP,
    detector: HangDetector | None = None,
) -> Observation:
    """Run a command in a guest, to its end or its limit.

    Args:
        argv: the program and its arguments.
        env: variables to add to the agent's environment.
        folder: the folder to run in.
        limit: seconds; then come SIGQUIT, GRACE, which begins anew while it prints, and SIGKILL to the whole process
            group.
        at_limit: called at the limit, with the process's id in the guest, before the program is touched. It may take
            its time, which does not count, and gives the program's state if it crashed and was suspended; such a one is
            killed at once, as it would not answer SIGQUIT.
        keep: bytes kept of each output stream.
        detector: looks whether the program can still run. Once that is ruled out, it is treated as at its limit.

    Raises:
        GuestLost: the guest stopped answering.
        GuestError: the program could not be started.
    """
    arguments = [folder, str(len(env)), *(f"{name}={value}" for name, value in env.items()), *argv]
    begun = clock.time()
    agent.keep(keep)
    agent.send("R", b"".join(word.encode() + b"\0" for word in arguments))
    out, err, timed_out, state, still = bytearray(), bytearray(), False, "", ""

    def observation(how: bytes = b"", number: int = 0, out_dropped: int = 0, err_dropped: int = 0) -> Observation:
        return Observation(
            exit_status=number if how == b"exit" else None,
            signal=number if how == b"signal" else None,
            seconds=clock.time() - begun,
            stdout=bytes(out),
            stderr=bytes(err),
            stdout_total=len(out) + out_dropped,
            stderr_total=len(err) + err_dropped,
            timed_out=timed_out,
            suspended=state,
            still=still,
        )

    line, ordered, touched = agent.line, agent.ordered, False
    deadline, order = begun + limit, "P"  # what is sent next, and when
    wait, last = limit, 0.0  # seconds without a word after which it is, and until when words put it off
    while True:
        looking = detector if detector and not (timed_out or still) else None
        until = min(deadline, looking.due) if looking else deadline
        try:
            message = agent.receive(until)
            if looking and message is None and until < deadline:
                looking.act(agent)
                continue
        except GuestError as error:
            raise GuestLost(error, observation()) from error
        if agent.ordered != ordered:  # a dead connection had not brought the command
            begun, ordered, timed_out = agent.ordered, agent.ordered, False
            deadline, order, wait, last = begun + limit, "P", limit, 0.0
        if message is None:
            if (later := min(agent.heard + wait, last)) > deadline:
                deadline = later
                continue
            if not order:
                silent = GuestError("the guest does not answer: a killed program's end was not reported")
                raise GuestLost(silent, observation())
            timed_out = True
            agent.send(order)
            wait, last = PATIENCE, inf  # what the guest keeps of an output, and so what comes, is bounded
            if order == "Q":
                wait, last = GRACE, clock.time() + PATIENCE
            deadline = clock.time() + wait
            order = "K" if order == "Q" else ""
        elif message.type == "P":
            (pid,) = _numbers(message.data.split(), 1)
            paused, touched = clock.time(), True
            state = at_limit(pid)
            begun += clock.time() - paused
            wait, last = 0.0, 0.0
            deadline, order = clock.time(), "K" if state else "Q"
        elif message.type in "OE":
            (out if message.type == "O" else err).extend(message.data)
            if looking:
                looking.disturb()
        elif message.type == "G":
            if looking and (proof := looking.take(agent, message.data)):
                still = f"seen after {clock.time() - begun:.1f} s (limit {limit:g} s): {proof.summary}"
                deadline = clock.time()
        elif message.type == "F":
            raise GuestError(f"the program could not be started: {message.data.decode(errors='replace')}")
        elif message.type == "X":
            how, *rest = message.data.split() or [b""]
            number, out_dropped, err_dropped = _numbers(rest, 3)
            if not touched and agent.line is not line:  # it had ended in time; a dead connection did not tell
                timed_out = False
            _log.debug("%s: %s %d after %.2f s", argv[0], how.decode(), number, clock.time() - begun)
            return observation(how, number, out_dropped, err_dropped)


def _numbers(fields: Sequence[bytes], count: int) -> list[int]:
    """The first words of a message as numbers. Raises GuestError: a program may have written where the agent does."""
    try:
        return [int(fields[index]) for index in range(count)]
    except (ValueError, IndexError) as error:
        raise GuestError(f"the agent sent an invalid message: {b' '.join(fields)[:100]!r}") from error
