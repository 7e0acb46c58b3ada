"""Lines to the agent in a guest: an SSH connection, or the channel, a serial port that is saved with the machine.

Each carries bytes and knows nothing of what they mean.
"""

from __future__ import annotations

import array
import fcntl
import socket
import termios
import zlib
from typing import Protocol

import paramiko

#: Bytes that are sent at a time over a connection.
_PIECE = 32768
#: Bytes of data in a packet: the Hurd's terminals hold no more than some hundred that nobody has read.
_PACKET = 192
_MARK = 0xA5


class Line(Protocol):
    """What carries bytes to the agent and back.

    Attributes:
        packets: whether what is sent is cut into packets, each of which the agent answers (agent.c).
    """

    packets: bool

    def send(self, data: bytes, timeout: float) -> int:
        """Send some of the bytes, and return how many. Raises TimeoutError if none is taken in `timeout` seconds, and
        OSError."""

    def receive(self, timeout: float) -> bytes:
        """The bytes that come, b"" if the line has ended. Raises TimeoutError if none comes in `timeout` seconds, and
        OSError."""

    def taken(self) -> object:
        """Another value whenever the guest has taken more of what was sent."""

    def close(self) -> None:
        """End the line."""


class Connection(Line):
    """An SSH connection on which an agent, or its relay, was started."""

    packets = False

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel

    def send(self, data: bytes, timeout: float) -> int:
        """As of Line."""
        self._channel.settimeout(timeout)
        return self._channel.send(data[:_PIECE])

    def receive(self, timeout: float) -> bytes:
        """As of Line."""
        self._channel.settimeout(timeout)
        return self._channel.recv(65536)

    def taken(self) -> object:
        """How many bytes the guest takes before it must say that it has read some: it changes while they are read."""
        return self._channel.out_window_size

    def close(self) -> None:
        """As of Line."""
        self._channel.close()


class SerialPort(Line):
    """The channel: one end of a socket pair of which QEMU holds the other, as a serial port of the guest's."""

    packets = True

    def __init__(self, link: socket.socket) -> None:
        self._link = link

    def send(self, data: bytes, timeout: float) -> int:
        """As of Line."""
        self._link.settimeout(timeout)
        return self._link.send(data)

    def receive(self, timeout: float) -> bytes:
        """As of Line."""
        self._link.settimeout(timeout)
        return self._link.recv(65536)

    def taken(self) -> object:
        """How many bytes QEMU has not read yet (unix(7), SIOCOUTQ)."""
        size = array.array("i", [0])
        fcntl.ioctl(self._link, termios.TIOCOUTQ, size)
        return size[0]

    def close(self) -> None:
        """Leave the line alone: it is the machine's, and another conversation may begin on it."""


class Packets:
    """Cuts what is sent over a serial port into packets, which it numbers."""

    def __init__(self) -> None:
        self.sequence = 0
        self._first = True

    def next(self, data: bytes) -> tuple[bytes, int]:
        """The packet with as many of the bytes as it takes, and how many those are; `sequence` is its number."""
        self.sequence = (self.sequence + 1) & 0xFF
        piece = data[:_PACKET]
        kind, self._first = ("S" if self._first else "D"), False
        body = bytes([ord(kind), self.sequence, len(piece)]) + piece
        return bytes([_MARK]) + body + zlib.crc32(body).to_bytes(4, "big"), len(piece)
