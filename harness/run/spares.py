"""Spare guests: restored while trials run in others, and paused until one of those has to be replaced.

Knows nothing of trials.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from pathlib import Path

from harness import host
from harness.errors import HarnessError
from harness.guest.fresh import Guest
from harness.guest.pool import Pool
from harness.guest.workspace import guest_folder
from harness.log import ignored

_log = logging.getLogger(__name__)

#: MiB that QEMU takes besides the guest's memory.
QEMU = 200


def room_for(memory: int) -> bool:
    """Whether this machine has memory for one more guest of so many MiB, beside what those that run may still take."""
    return host.available_memory() > 2 * (memory + QEMU)


class Spares:
    """At most one spare guest of each pool. May be used from several threads.

    Args:
        work: the work directory, where guests have their folders.
        stopped: whether no guest is wanted any more.
    """

    def __init__(self, work: Path, stopped: Callable[[], bool]) -> None:
        self._work, self._stopped = work, stopped
        self._lock = threading.Lock()
        self._spares: dict[str, Future[tuple[Guest, ExitStack]]] = {}

    @contextmanager
    def guest(self, name: str, pool: Pool, say: Callable[[str], None]) -> Iterator[Guest]:
        """A fresh guest during the block: the spare one, if there is one. Raises what `Pool.fresh` raises."""
        with self._lock:
            spare = self._spares.pop(name, None)
        if spare is not None:
            try:
                guest, stack = spare.result()
            except HarnessError as error:
                _log.info("guest %s: no spare: %s", name, error)
            else:
                with stack:
                    pool.wake(guest)
                    yield guest
                return
        with ExitStack() as stack:
            yield self._fresh(pool, stack, say)

    def prepare(self, name: str, pool: Pool, memory: int) -> None:
        """Begin to prepare a spare guest, if there is none and this machine has the memory."""
        with self._lock:
            if name in self._spares or self._stopped() or not room_for(memory):
                return
            spare: Future[tuple[Guest, ExitStack]] = Future()
            self._spares[name] = spare
        threading.Thread(target=self._prepare, args=(pool, spare), name=f"spare {name}", daemon=True).start()

    def end(self) -> None:
        """End the spare guests that nobody has taken."""
        with self._lock:
            left, self._spares = list(self._spares.values()), {}
        for spare in left:
            with ignored(_log, "ending a spare guest", HarnessError):
                _, stack = spare.result()
                stack.close()

    def _prepare(self, pool: Pool, spare: Future[tuple[Guest, ExitStack]]) -> None:
        with ExitStack() as stack:
            try:
                guest = self._fresh(pool, stack, lambda text: None)
                guest.machine.pause()
            except BaseException as error:
                spare.set_exception(error)
                return
            spare.set_result((guest, stack.pop_all()))

    def _fresh(self, pool: Pool, stack: ExitStack, say: Callable[[str], None]) -> Guest:
        folder = stack.enter_context(guest_folder(self._work))
        guest = pool.fresh(folder, say, self._stopped)
        stack.callback(guest.machine.stop)
        return guest
