"""Diagnostics of a trial that went wrong: what can be seen of the guest from outside, and of the program from inside.

Each part is an extra. One that cannot be collected is listed as missing; the verdict stays, and the time it takes is
bounded. Nothing here changes the program. Knows nothing of who reads it.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from typing import NamedTuple

from harness import clock
from harness.errors import GuestError
from harness.guest.fresh import Guest
from harness.guest.machine import Machine

_log = logging.getLogger(__name__)

#: What the names of the parts begin with, among all that is stored of a trial.
PREFIX = "dossier/"
#: The part that is a picture, PNG.
SCREEN = f"{PREFIX}screen.png"
#: The part that shows that a program could not run any more, if it was stopped before its limit.
STILLNESS = f"{PREFIX}stillness"
#: Bytes kept of each part, half from its beginning and half from its end, and of a picture, which is whole or missing.
LARGEST, PICTURE = 64 << 10, 256 << 10
#: Seconds for the guest's own tools: all of them, and each while it prints nothing, for one may wait for a process that
#: hangs.
TOTAL, EACH = 60.0, 10.0
#: How often the registers are looked at, and the seconds between two looks.
SAMPLES, PAUSE = 8, 0.025

#: The words that matter in what QEMU prints of a processor (its target/i386/cpu-dump.c).
_PROCESSOR = re.compile(r"^CPU#(\d+)\s*$", re.MULTILINE)
_POINTER = re.compile(r"\b[ER]IP=([0-9a-f]+)")
_STATE = re.compile(r"\bCPL=(\d) .*\bHLT=(\d)")


def outside(machine: Machine, mark: int) -> dict[str, bytes]:
    """The parts that need nothing of the guest: the registers, the screen, and the console.

    Args:
        mark: where the console was when the trial began.
    """
    parts = console(machine, mark)
    try:
        parts[f"{PREFIX}registers"] = bounded(registers(_samples(machine)).encode())
        if len(picture := machine.screen()) <= PICTURE:
            parts[SCREEN] = picture
    except (GuestError, OSError) as error:  # a QEMU that does not answer once is not asked again
        parts.setdefault(f"{PREFIX}registers", _missing(error))
    return parts


def console(machine: Machine, mark: int) -> dict[str, bytes]:
    """What the console said since a mark, if it said anything."""
    try:
        output = machine.console.since(mark)
    except OSError as error:
        _log.warning("guest %s: its console's log cannot be read: %s", machine.name, error)
        return {}
    return {f"{PREFIX}console": bounded(output)} if output.strip() else {}


def whole_console(machine: Machine, mark: int) -> dict[str, bytes]:
    """All that the console of a guest that was lost has said, if it said anything before a mark."""
    parts = console(machine, 0) if mark else {}
    return {f"{PREFIX}console-whole": data for data in parts.values()}


def inside(guest: Guest, looks: Mapping[str, str], pid: int) -> dict[str, bytes]:
    """What the guest's own tools tell of a process.

    Args:
        looks: name -> a shell command in which `{pid}` stands for the process (harness/conf/system.py).
        pid: the process's id in the guest.
    """
    deadline = clock.time() + TOTAL
    return {
        f"{PREFIX}{name}": _look(guest, command.replace("{pid}", str(pid)), deadline) for name, command in looks.items()
    }


def registers(samples: list[str]) -> str:
    """What several looks at the registers say: in words whether the guest works or waits, then the first and the last.

    A processor that waits is halted until the next interrupt (HLT=1): so do Linux and GNU Mach when nothing can run.
    """
    looks = [_processors(sample) for sample in samples]
    numbers = sorted({number for look in looks for number in look})
    sentences = [_word(number, [look[number] for look in looks if number in look]) for number in numbers]
    shown = [f"first look:\n{samples[0].strip()}", f"last look:\n{samples[-1].strip()}"] if samples else []
    return "\n\n".join(["\n".join(sentences) or "QEMU tells nothing of the processors", *shown]) + "\n"


def bounded(data: bytes, size: int = LARGEST) -> bytes:
    """At most about `size` bytes of a part: its two ends, and between them a line that says how much is left out."""
    if len(data) <= size:
        return data
    half = size // 2
    return data[:half] + f"\n[{len(data) - 2 * half:,} bytes left out]\n".encode() + data[-half:]


def _missing(error: Exception) -> bytes:
    return f"could not be had: {error}\n".encode(errors="backslashreplace")


def _look(guest: Guest, command: str, deadline: float) -> bytes:
    """What a command prints, or why there is nothing."""
    left = deadline - clock.time()
    if left <= 0:
        return f"no time was left of {TOTAL:.0f} s\n".encode()
    try:
        status, out, err = guest.run(command, min(EACH, left), limit=left)
    except GuestError as error:
        return _missing(error)
    if status == 127:  # POSIX, Shell Command Language, 2.8.2
        return b"the guest has no such tool: " + bounded(err)
    return bounded(out + err)


def _samples(machine: Machine) -> list[str]:
    samples = []
    for number in range(SAMPLES):
        if number:
            time.sleep(PAUSE)
        samples.append(machine.registers())
    return samples


class _Processor(NamedTuple):
    """A processor at one moment."""

    pointer: str
    in_kernel: bool
    halted: bool


def _processors(sample: str) -> dict[int, _Processor]:
    """The processors in what QEMU printed, by number."""
    _, *parts = _PROCESSOR.split(sample) if _PROCESSOR.search(sample) else ["", "0", sample]
    processors = {}
    for number, text in zip(parts[::2], parts[1::2], strict=True):
        pointer, state = _POINTER.search(text), _STATE.search(text)
        if pointer and state:
            processors[int(number)] = _Processor(pointer[1], state[1] == "0", state[2] == "1")
    return processors


def _word(number: int, looks: list[_Processor]) -> str:
    """Whether a processor works or waits, and where."""
    halted, kernel = sum(look.halted for look in looks), sum(look.in_kernel for look in looks if not look.halted)
    working = len(looks) - halted
    if 4 * halted >= 3 * len(looks):
        word = "waiting"
    elif 4 * halted <= len(looks):
        word = "spinning"
    else:
        word = "working now and then"
    where = sorted({look.pointer for look in looks if not look.halted})
    sentence = f"processor {number}: {word}: halted at {halted} of {len(looks)} looks"
    if not working:
        return sentence
    at = where[0] if len(where) == 1 else f"{where[0]} to {where[-1]}"
    return f"{sentence}, in programs at {working - kernel} and in the kernel at {kernel}, at addresses {at}"
