"""Replays a recorded machine: to its end or to a moment, and compares what it does with what was recorded.

Moments are counts of instructions, since that is what QEMU's log counts. Knows nothing of trials.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from harness import clock
from harness.errors import GuestError
from harness.guest.machine import Machine

#: Seconds between two looks at a machine that is replayed.
_LOOK = 0.005
#: Bytes before the first packet in a file of packets, and what stands before each: times, and its length twice.
_FILE_HEADER, _PACKET = 24, struct.Struct("<IIII")
#: Into how many parts the time is cut in which something is known to have happened.
_PARTS = 200


class Sample(NamedTuple):
    """How far a machine was at a moment: bytes of its console and of its packets. All that there is of them at
    `icount` was there; `icount` was asked for first."""

    icount: int
    console: int
    packets: int


class Replayed(NamedTuple):
    """How a replay ended: the instructions, and when the console and the packets grew."""

    icount: int
    samples: list[Sample]


def to_end(machine: Machine, progress: Callable[[int], None] = lambda icount: None) -> Replayed:
    """Replay a machine that was started, to the end of its log.

    Args:
        progress: called now and then with how many instructions it has executed.

    Raises:
        GuestError: it does not get there.
    """
    samples: list[Sample] = []

    def look(icount: int) -> None:
        sample = Sample(icount, _size(machine.console.file), _size(_packets(machine)))
        if not samples or sample[1:] != samples[-1][1:]:
            samples.append(sample)
        progress(icount)

    return Replayed(_until(machine, "shutdown", look), samples)


def to_icount(machine: Machine, icount: int, progress: Callable[[int], None] = lambda icount: None) -> int:
    """Replay a machine that is paused, until it has executed so many instructions, and leave it paused there.

    Returns:
        How many it has executed: those, or all of the recording if that has fewer.

    Raises:
        GuestError: it does not get there.
    """
    assert machine.monitor is not None
    if icount <= machine.icount():
        return machine.icount()
    machine.monitor.execute("replay-break", icount=icount)
    machine.monitor.execute("cont")
    return _until(machine, "paused", progress)


def to_growth(
    machine: Machine,
    samples: list[Sample],
    console: int = 0,
    packets: int = 0,
    progress: Callable[[int], None] = lambda icount: None,
) -> int:
    """Replay a machine that is paused to the moment when its console and its packets have so many bytes, a part of the
    time between two samples later at most.

    Args:
        samples: those of a whole replay.

    Returns:
        How many instructions it has executed.

    Raises:
        GuestError: it does not get there.
    """
    before, after = bracket(samples, console, packets)
    icount = to_icount(machine, before, progress)
    step = max(1, (after - before) // _PARTS)
    while _size(machine.console.file) < console or _size(_packets(machine)) < packets:
        reached = to_icount(machine, icount + step)
        if reached <= icount:
            break
        icount = reached
    return icount


def bracket(samples: list[Sample], console: int, packets: int) -> tuple[int, int]:
    """The counts of instructions between which the console and the packets came to have so many bytes."""
    before = 0
    for place, sample in enumerate(samples):
        if sample.console >= console and sample.packets >= packets:
            after = samples[place + 1].icount if place + 1 < len(samples) else sample.icount
            return before, max(after, sample.icount)
        before = sample.icount
    return before, before


def last_data(packets: bytes, size: int) -> int:
    """Where the last packet of TCP that has data ends, among the first bytes of what a guest sent.

    Args:
        packets: a file of tcpdump's format (pcap-savefile(5)), as QEMU writes it.
        size: how many bytes of it count.
    """
    at, last = _FILE_HEADER, 0
    while at + _PACKET.size <= len(packets):
        start = at + _PACKET.size
        at = start + _PACKET.unpack_from(packets, at)[2]
        if at > size:
            break
        if _has_data(packets[start:at]):
            last = at
    return last


def _has_data(frame: bytes) -> bool:
    """Whether a frame of Ethernet is one of IPv4 and TCP that has data (RFC 894, RFC 791, RFC 9293)."""
    packet = frame[14:]
    if frame[12:14] != b"\x08\x00" or len(packet) < 40 or packet[9] != 6:
        return False
    header = 4 * (packet[0] & 15)
    return int.from_bytes(packet[2:4], "big") > header + 4 * (packet[header + 12] >> 4)


def differences(machine: Machine, icount: int, recorded_icount: int, console: bytes) -> list[str]:
    """What of a replay that has ended is not as it was recorded, in a few words each.

    Args:
        icount: how many instructions it has executed.
        recorded_icount, console: what was recorded.
    """
    assert machine.recording is not None
    differing = []
    if icount != recorded_icount:
        differing.append(f"it ends after {icount:,} instructions, and not after {recorded_icount:,}")
    for name, data, recorded in (
        ("console", machine.console.file.read_bytes(), console),
        ("output to the network", _packets(machine).read_bytes(), machine.recording.packets.read_bytes()),
    ):
        if data != recorded:
            same = next((at for at, pair in enumerate(zip(data, recorded, strict=False)) if len(set(pair)) > 1), None)
            same = min(len(data), len(recorded)) if same is None else same
            differing.append(f"its {name} differs from byte {same:,} on, of {len(recorded):,}")
    return differing


def _until(machine: Machine, wanted: str, look: Callable[[int], None]) -> int:
    """Wait until a machine that runs has a status of QEMU's (QMP reference, RunState), or has come to its end."""
    assert machine.monitor is not None
    deadline = clock.Deadline()
    icount = 0
    while True:
        try:
            status = str(machine.monitor.execute("query-status")["status"])
            icount = machine.icount()
        except GuestError as error:
            raise machine.failure(f"the replay broke off after {icount:,} instructions: {error}") from error
        look(icount)
        if status in (wanted, "shutdown"):
            return icount
        if status not in ("running", "prelaunch") or deadline.passed(icount):
            raise GuestError(f"guest {machine.name}: the replay stands still after {icount:,} instructions ({status})")
        time.sleep(_LOOK)


def _packets(machine: Machine) -> Path:
    assert machine.recording is not None
    return machine.console.file.with_name(machine.recording.packets.name)


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0
