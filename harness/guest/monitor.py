"""QEMU's monitor: commands over QMP, each with a deadline.

Knows nothing of guests. The connection is one end of a socket pair that QEMU inherits, so there is no socket file and
nobody else can talk to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from qemu.qmp import EventListener, QMPClient, QMPError

from harness.errors import GuestError
from harness.log import ignored

_log = logging.getLogger(__name__)

#: Seconds that a command may take. A QEMU that is alive answers at once, however slow its guest is; but this machine
#: may be busy. Commands that take longer are jobs, whose state is asked for.
SHORT = 60.0


class Monitor:
    """A QMP connection, for use by one thread at a time. Every method raises GuestError when QEMU does not answer."""

    def __init__(self, link: socket.socket) -> None:
        self._loop = asyncio.new_event_loop()
        self._client = QMPClient()
        self._ends = EventListener("SHUTDOWN")
        self._client.register_listener(self._ends)
        try:
            self._wait(lambda: self._client.connect(link), "greeting")
        except GuestError:
            self._loop.close()
            raise

    def execute(self, command: str, **arguments: object) -> Any:
        """Run a command; underscores in the names of arguments stand for hyphens. Returns what QEMU returns."""
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        return self._wait(lambda: self._client.execute(command, named), command)

    def give_file(self, name: str, number: int) -> str:
        """Pass an open file, given by its number, to QEMU, which knows it by a name from then on (QMP reference,
        getfd). Returns its URI. Raises GuestError."""
        self._send_file(number)
        self.execute("getfd", fdname=name)
        return f"fd:{name}"

    def give_fdset(self, number: int) -> int:
        """Pass an open file, given by its number, to QEMU, which may open it as /dev/fdset/N (QMP reference, add-fd).
        Returns N. Raises GuestError."""
        self._send_file(number)
        return int(self.execute("add-fd")["fdset-id"])

    def screenshot(self, number: int) -> None:
        """Have the screen written as PNG to an open file, given by its number: QEMU may open no file of ours. Raises
        GuestError."""
        fdset = self.give_fdset(number)
        try:
            self.execute("screendump", filename=f"/dev/fdset/{fdset}", format="png")
        finally:
            self.execute("remove-fd", fdset_id=fdset)

    def registers(self) -> str:
        """The registers of all processors, as QEMU prints them for people (QEMU manual, `info registers -a`)."""
        return str(self.execute("human-monitor-command", command_line="info registers -a"))

    def ended(self) -> str:
        """Why QEMU ended or is about to: `guest-shutdown`, `guest-reset` or the like (QMP reference, ShutdownCause).

        One that stays when its guest ends says that first, and then why it ends itself.
        """
        self._wait(lambda: asyncio.sleep(0.1), "events")  # what has come is read only while the loop runs
        events: list[Any] = self._ends.clear()
        return str(events[-1]["data"]["reason"]) if events else "it does not say why"

    def close(self) -> None:
        """End the connection; QEMU goes on."""
        with ignored(_log, "leaving QEMU's monitor", GuestError):
            self._wait(self._client.disconnect, "disconnect")
        self._loop.close()

    def _send_file(self, number: int) -> None:
        with _as_guest_error("file"):
            self._client.send_fd_scm(number)

    def _wait(self, what: Callable[[], Coroutine[Any, Any, Any]], name: str) -> Any:
        with _as_guest_error(name):  # the very call fails when the connection is known to be dead
            return self._loop.run_until_complete(asyncio.wait_for(what(), SHORT))


@contextlib.contextmanager
def _as_guest_error(name: str) -> Iterator[None]:
    try:
        yield
    except (QMPError, TimeoutError, OSError, EOFError) as error:
        raise GuestError(f"QEMU's monitor, {name}: {str(error) or type(error).__name__}") from error
