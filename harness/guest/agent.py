"""The harness's end of the conversation with the agent in a guest (agent.c): messages over any line.

The channel answers at once, and survives the guest's network; an SSH connection carries more. So the harness talks to
the agent by the channel where there is one, and sends much data by a connection. If the connection fails nothing is
lost: what it has not brought comes by the channel. Knows nothing of trials.
"""

from __future__ import annotations

import contextlib
import logging
import zlib
from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import paramiko

from harness import clock
from harness.errors import GuestError
from harness.guest.line import Line, Packets
from harness.log import ignored

_log = logging.getLogger(__name__)

_PIECE = 32768
#: Seconds between two questions to the watch.
_TICK = 0.5
#: Seconds after which a packet that nobody has answered is sent again.
_AGAIN = 2.0
#: Bytes to be sent, and received of a command, from which on a connection is worth its key exchange.
MUCH_TO_SEND, MUCH_TO_RECEIVE = 16 << 10, 64 << 10
#: Seconds of silence after which the channel is asked what a connection has not brought.
SILENT = 20.0
_MARK, _HEAD = 0xA5, 14
_NO_INDEX = 0xFFFFFFFF
#: A message is no longer than what the agent keeps of a command's streams; what claims more is none.
_LONGEST = 1 << 26
#: The messages that answer a command of each type, in agent.c's words.
_ANSWERS = {"R": "X", "W": "W", "r": "x", "n": "N", "P": "P"}

#: Raises GuestError when the guest is past help.
Watch = Callable[[], None]


@dataclass(frozen=True)
class Message:
    """What the agent says; see agent.c for the types."""

    type: str
    data: bytes


@dataclass(frozen=True)
class _Order:
    """A message that was sent to the agent, which may not have obeyed it."""

    number: int
    type: str
    data: bytes


class Agent:
    """The conversation with an agent. Every method raises GuestError when no line works. For use by one thread.

    Args:
        line: the line to begin with.
        watch: asked now and then.
        connect: opens a connection to the same agent, which `line` is not; raises GuestError.
        quiet: seconds in which nothing comes before its first word is given up; None means clock.QUIET.

    Attributes:
        heard: when anything came of it last, by clock.time().
        listener: called with each message as it comes.
        ordered: when it was sent the command that it runs, or ran last; later, if the line before did not bring that.
    """

    def __init__(
        self,
        line: Line,
        watch: Watch = lambda: None,
        connect: Callable[[], Line] | None = None,
        quiet: float | None = None,
    ) -> None:
        self._line, self._watch, self._connect = line, watch, connect
        self._channel = line if line.packets else None
        self._buffer = bytearray()
        self._messages: deque[Message] = deque()
        self._orders: deque[_Order] = deque()
        self._packets, self._acknowledged = Packets(), -1
        self._attached: bytes | None = None
        self._quiet: float | None = None
        self._number = 0
        self._next = _NO_INDEX  # of the message that comes next
        self._lost = False  # whether a message was
        self._keep = 0
        self._received = 0  # bytes since the command began
        self.heard = self.ordered = clock.time()
        self.listener: Callable[[Message], None] = lambda message: None
        self._attach(quiet)

    @property
    def line(self) -> Line:
        """The line that carries the messages now."""
        return self._line

    @property
    def by_channel(self) -> bool:
        """Whether it is the channel that carries the messages now."""
        return self._line is self._channel

    def keep(self, size: int) -> None:
        """From now on, keep at most `size` bytes of each output stream of a command."""
        if size != self._keep:
            self.send("L", str(size).encode())
            self._keep = size

    def send(self, type_: str, data: bytes = b"") -> None:
        """Send one message."""
        if len(data) > MUCH_TO_SEND:
            self._use_connection()
        if type_ in "Rr":
            self._received = 0
        if type_ == "R":
            self.ordered = clock.time()
        self._number += 1
        order = _Order(self._number, type_, data)
        self._orders.append(order)
        try:
            self._transmit(order)
        except (OSError, EOFError, paramiko.SSHException, _NoAnswer) as error:
            self._use_channel(error)

    def put(self, data: bytes, path: str) -> None:
        """Write an executable file in the guest; for small ones this takes a tenth of Shell.put, as no shell and no
        process is started. When it returns the file is there, so that a command's time begins with the command.

        Raises:
            GuestError: the file cannot be written.
        """
        begun = clock.time()
        for at in range(0, len(data), _PIECE):
            self.send("W", path.encode() + b"\0" + data[at : at + _PIECE])
        self.send("W", path.encode() + b"\0")
        answer = self._answer("WF", f"upload of {path}")
        if answer.type == "F":
            raise GuestError(f"upload of {answer.data.decode(errors='replace')}")
        _log.debug("upload of %s by the agent: %d bytes in %.2f s", path, len(data), clock.time() - begun)

    def run(
        self, command: str, quiet: float | None = None, what: str = "", limit: float | None = None
    ) -> tuple[int, bytes, bytes]:
        """Run a shell command beside what the agent runs; arguments, results and errors are those of
        Shell.run."""
        what = what or f"`{command}`"
        begun, deadline = clock.time(), clock.Deadline(quiet, limit)
        self.send("r", command.encode())
        streams = {"o": bytearray(), "e": bytearray()}
        while True:
            message = self._take("oexF", clock.time() + _TICK)
            if message is None:
                if deadline.passed(sum(map(len, streams.values()))):
                    self.send("k")
                    with ignored(_log, f"ending {what}", GuestError):
                        self._answer("x", what)
                    raise GuestError(f"{what}: no progress for {deadline.quiet:.0f} s")
            elif message.type == "F":
                raise GuestError(f"{what}: {message.data.decode(errors='replace')}")
            elif message.type == "x":
                how, number, *dropped = message.data.split()
                status = int(number) + (128 if how == b"signal" else 0)
                if lost := sum(map(int, dropped)):
                    _log.warning("%s: %d bytes of its output were not kept", what, lost)
                _log.debug("%s: status %d after %.2f s, by the agent", what, status, clock.time() - begun)
                return status, bytes(streams["o"]), bytes(streams["e"])
            else:
                streams[message.type] += message.data

    def remember(self, word: str) -> None:
        """Have the agent hold a word in its memory."""
        self.send("N", word.encode())
        self.recall()  # so that it is there when the machine is saved

    def recall(self) -> str:
        """The word that the agent holds."""
        self.send("n")
        return self._answer("N", "the agent's word").data.decode(errors="replace")

    def receive(self, deadline: float) -> Message | None:
        """The next message about the command, or None when clock.time() reaches the deadline first."""
        return self._take("OEXPFG", deadline)

    def _answer(self, types: Collection[str], what: str) -> Message:
        """A message of one of some types, which must come."""
        deadline = clock.Deadline()
        while (message := self._take(types, clock.time() + _TICK)) is None:
            # What is on its way yet is at most what the guest's SSH server takes before it says that it was read.
            if deadline.passed((self._line.taken(), self.heard)):
                raise GuestError(f"{what}: no progress for {deadline.quiet:.0f} s")
        return message

    def _take(self, types: Collection[str], deadline: float) -> Message | None:
        """The first message of one of some types, or None when clock.time() reaches the deadline first."""
        silent = clock.Deadline(SILENT)
        while True:
            for message in self._messages:
                if message.type in types:
                    self._messages.remove(message)
                    return message
            if clock.time() >= deadline:
                return None
            try:
                if silent.passed((self._line.taken(), self.heard)):  # there may be nothing to hear, or it was lost
                    silent = clock.Deadline(SILENT)
                    if self._channel and not self.by_channel:
                        self._change(self._channel)
                    elif self._channel:
                        self._attach()
                self._pump(deadline)
                if self.by_channel and self._buffer and clock.time() > self.heard + _AGAIN:  # the rest was lost
                    self._buffer.clear()
                    self._lost = True
                if self._lost:
                    self._attach()
            except (OSError, EOFError, paramiko.SSHException) as error:
                self._use_channel(error)
            if self._received > MUCH_TO_RECEIVE:
                self._use_connection()

    def _use_connection(self) -> None:
        """Go on by a connection, if one can be had."""
        if not self.by_channel or self._connect is None:
            return
        connect, self._connect = self._connect, None
        try:
            line = connect()
            self._change(line)
            self._connect = connect
        except (GuestError, OSError, EOFError, paramiko.SSHException) as error:
            self._watch()
            _log.warning("no connection to the agent, its messages come by the channel: %s", error)
            if self._channel and self._line is not self._channel:
                self._change(self._channel)

    def _use_channel(self, error: Exception) -> None:
        """Go on by the channel after a connection has failed. Raises GuestError if there is no other line."""
        self._watch()  # raises if it is the guest that has failed
        if self.by_channel or self._channel is None:
            if isinstance(error, GuestError):
                raise error
            raise GuestError(f"the agent: {str(error) or type(error).__name__}") from error
        _log.warning("the connection to the agent failed, its messages come by the channel: %s", error)
        self._connect = None
        self._change(self._channel)

    def _change(self, line: Line) -> None:
        with ignored(_log, "ending a line to the agent", OSError, EOFError, paramiko.SSHException):
            self._line.close()
        self._line = line
        self._buffer.clear()
        self._packets, self._acknowledged = Packets(), -1
        self._attach()

    def _attach(self, quiet: float | None = None) -> None:
        """Have the agent talk over this line, from the message on that was not received, and obey what it has not."""
        with _as_guest_error():
            self._attached, self._quiet = None, quiet
            deadline = clock.Deadline(quiet)
            while self._attached is None:
                self._transmit(_Order(0, "A", b""))
                again = clock.Deadline(_AGAIN if self._line.packets else quiet)
                while self._attached is None and not again.passed(self.heard):
                    self._pump(clock.time() + _TICK)
                if deadline.passed(self.heard) or (self._attached is None and not self._line.packets):
                    raise _NoAnswer(f"nothing came for {deadline.quiet:.0f} s")
            self._quiet = None
            obeyed, first = (int(number) for number in self._attached.split())
            if self._next == _NO_INDEX:
                self._number, self._next = obeyed, first
            while self._orders and self._orders[0].number <= obeyed:
                self._orders.popleft()
            if any(order.type == "R" for order in self._orders):  # what was to become of it is decided anew
                self._orders = deque(order for order in self._orders if order.type not in "PQK")
                self.ordered = clock.time()
            for order in tuple(self._orders):
                self._transmit(order)

    def _transmit(self, order: _Order) -> None:
        head = order.type.encode() + b"".join(
            number.to_bytes(4, "big") for number in (order.number, self._next, len(order.data))
        )
        message = memoryview(head + order.data)
        if self._line.packets:
            while message:
                message = message[self._transmit_packet(bytes(message)) :]
            return
        deadline = clock.Deadline()
        while message:
            try:
                sent = self._line.send(bytes(message[:_PIECE]), _TICK)
                if not sent:
                    raise EOFError("the connection was closed")
                message = message[sent:]
            except TimeoutError as error:
                self._watch()
                if deadline.passed(len(message)):
                    raise _NoAnswer(f"it accepted nothing for {deadline.quiet:.0f} s") from error

    def _transmit_packet(self, data: bytes) -> int:
        """Send as much as goes into a packet, and wait for the answer. Returns how many bytes that was."""
        packet, size = self._packets.next(data)
        deadline = clock.Deadline(self._quiet)
        while True:
            at = 0
            while at < len(packet):
                try:
                    at += self._line.send(packet[at:], _TICK)
                except TimeoutError as error:
                    self._watch()
                    if deadline.passed(at):
                        raise _NoAnswer(f"it accepted nothing for {deadline.quiet:.0f} s") from error
            again = clock.Deadline(_AGAIN)
            while not again.passed(self.heard):
                self._pump(clock.time() + _AGAIN)
                if self._acknowledged == self._packets.sequence:
                    return size
            if deadline.passed(self.heard):
                raise _NoAnswer(f"nothing came for {deadline.quiet:.0f} s")

    def _pump(self, until: float) -> None:
        """Take what comes, if something does by that time."""
        try:
            data = self._line.receive(min(_TICK, max(0.001, until - clock.time())))
        except TimeoutError:
            self._watch()
            return
        if not data:
            raise EOFError("the connection was closed")
        self._buffer += data
        self.heard = clock.time()
        while self._parse():
            pass

    def _parse(self) -> bool:
        """Take the first message out of the buffer, if it is there whole."""
        buffer = self._buffer
        if self._line.packets and buffer and buffer[0] != _MARK:  # what was cut off when another line was taken
            at = buffer.find(_MARK)
            del buffer[: at if at > 0 else len(buffer)]
            self._lost = True
        if len(buffer) < _HEAD:
            return False
        size = int.from_bytes(buffer[6:10], "big")
        if buffer[0] == _MARK and size <= _LONGEST:
            if len(buffer) < _HEAD + size:
                return False
            body = bytes(buffer[1:10]) + bytes(buffer[_HEAD : _HEAD + size])
            if zlib.crc32(body) == int.from_bytes(buffer[10:14], "big"):
                del buffer[: _HEAD + size]
                self._sort(Message(chr(body[0]), body[9:]), int.from_bytes(body[1:5], "big"))
                return True
        if not self._line.packets:
            raise GuestError(f"the agent sent an invalid message: {bytes(buffer[:100])!r}")
        del buffer[0]
        self._lost = True
        return True

    def _sort(self, message: Message, index: int) -> None:
        """See what to do with a message."""
        if index == _NO_INDEX:
            if message.type == "+":
                self._acknowledged = message.data[0] if message.data else -1
            elif message.type == "A":
                self._attached, self._lost = message.data, False
            elif message.type == "!":
                raise GuestError(f"the agent in the guest has ended: {message.data.decode(errors='replace')}")
            return
        if index != self._next:
            self._lost |= self._next != _NO_INDEX and (index - self._next & _NO_INDEX) < 1 << 31
            return
        self._next = index + 1
        self._received += len(message.data) if message.type in "OEoe" else 0
        self._messages.append(message)
        self.listener(message)
        self._forget_orders(message.type)

    def _forget_orders(self, answer: str) -> None:
        """Forget the orders that an answer shows to have been obeyed: that which it answers, and those before it."""
        answered = [order.number for order in self._orders if answer == "F" or _ANSWERS.get(order.type) == answer]
        while answered and self._orders and self._orders[0].number <= answered[-1]:
            self._orders.popleft()


class _NoAnswer(GuestError):
    """A line on which nothing moves."""

    def __init__(self, text: str) -> None:
        super().__init__(f"the agent does not answer: {text}")


@contextlib.contextmanager
def _as_guest_error() -> Iterator[None]:
    try:
        yield
    except (paramiko.SSHException, OSError, EOFError) as error:
        raise GuestError(f"the agent: {str(error) or type(error).__name__}") from error
