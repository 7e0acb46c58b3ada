"""Saves and restores the memory of a machine, by QEMU's migration to a file and from it.

It chooses the form in which the memory is kept, by what `saved_memory` measures. Knows nothing of disks.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from harness import clock
from harness.errors import GuestError
from harness.guest import saved_memory
from harness.guest.monitor import Monitor
from harness.guest.process import QemuProcess
from harness.guest.qemu_command import MEMORY_URI
from harness.guest.saved_memory import Expansion, Form, Memory

_log = logging.getLogger(__name__)

#: MiB of a guest's memory from which on it is kept page by page. Of 0.9 GB in use in 2 GiB a restore took 0.55 s, as a
#: stream 0.70 s (QEMU 10.0, read from the disk); of 0.05 GB in 512 MiB 0.21 and 0.22 s, with QEMU 11.1 0.23 and 0.16 s.
MAPPED_FROM = 2048


class Migration:
    """The migration of one QEMU.

    Args:
        name: the guest's name, for messages.
        process: QEMU's process.
        monitor: its monitor.
    """

    def __init__(self, name: str, process: QemuProcess, monitor: Monitor) -> None:
        self._name, self._process, self._monitor = name, process, monitor

    def save(self, file: Path, size: int, by_name: bool) -> Memory:
        """Save the memory of a machine that stands still; as a stream if it may be worth compressing. The choice comes
        first: once QEMU has saved a machine it does not again before it has run, and it cannot run, as it does not get
        its disks back (cont: `Failed to get "write" lock`).

        Args:
            file: where it is saved.
            size: the MiB of the guest's memory.
            by_name: whether this QEMU saves to a file that is named.

        Raises:
            GuestError: QEMU cannot save it, or nothing was written for clock.QUIET.
        """
        self._monitor.execute("migrate-set-parameters", max_bandwidth=1 << 40)
        capabilities = self._monitor.execute("query-migrate-capabilities")
        known = any(capability["capability"] == Form.MAPPED for capability in capabilities)
        if known and size >= MAPPED_FROM:
            figures = saved_memory.measure_disk(file.parent)
            if not (figures and figures.worth_compressing):
                try:
                    self._map_memory(True)
                    self._migrate(file, by_name=True)
                    return Memory(form=Form.MAPPED, figures=figures)
                except GuestError as error:
                    _log.info("guest %s: its memory cannot be saved as %s: %s", self._name, Form.MAPPED, error)
            self._map_memory(False)  # it is on in a machine that was restored that way
        self._migrate(file, by_name)
        return Memory(figures=saved_memory.measure(file))

    def restore(self, form: Form, expansion: Expansion | None) -> None:
        """Have the memory read, and let the guest go on: it was stopped when it was saved, and still is.

        Args:
            form: how the memory is kept.
            expansion: what expands compressed memory.

        Raises:
            GuestError: QEMU cannot restore it, or nothing was read for clock.QUIET.
        """
        bad = ("internal-error", "io-error", "guest-panicked", "shutdown")
        try:
            if form is Form.MAPPED:
                self._map_memory(True)
                self._monitor.execute("migrate-incoming", uri=MEMORY_URI)
            self._until("query-status", "paused", bad, lambda: self._memory_read(expansion))
            if expansion is not None:  # only its end tells whether all of it was right
                expansion.wait()
        except GuestError as error:
            if expansion is not None and (failure := expansion.failure()):
                raise GuestError(f"guest {self._name}: {failure}") from error
            raise
        self._monitor.execute("cont")

    def _map_memory(self, state: bool) -> None:
        """Have memory saved and restored page by page, or as a stream. Raises GuestError."""
        # Several channels (multifd) were measured too: no quicker with the memory of a guest.
        capability = {"capability": Form.MAPPED.value, "state": state}
        self._monitor.execute("migrate-set-capabilities", capabilities=[capability])

    def _migrate(self, file: Path, by_name: bool) -> None:
        """Save the memory into a file. Raises GuestError."""
        with file.open("wb") as target:
            if by_name:
                uri = f"file:/dev/fdset/{self._monitor.give_fdset(target.fileno())}"
            else:
                uri = self._monitor.give_file("memory", target.fileno())
        self._monitor.execute("migrate", uri=uri)
        # Of a file in which each page has its place the size may be known from the beginning.
        self._until(
            "query-migrate", "completed", ("failed", "cancelled"), lambda: (file.stat().st_size, file.stat().st_blocks)
        )

    def _memory_read(self, expansion: Expansion | None) -> str:
        """How far QEMU is with the memory: where it is in the file that it got as file 5 (proc(5), fdinfo), or zstd is
        in the compressed one, and how much memory it has (statm), as where a page lies may be read without moving."""
        position = [expansion.position()] if expansion else self._process.proc_files("fdinfo/5")
        return "".join([*position, *self._process.proc_files("statm")])

    def _until(self, question: str, good: str, bad: tuple[str, ...], progress: Callable[[], object]) -> None:
        """Ask QEMU again and again until its status is the good one, for as long as there is progress."""
        deadline = clock.Deadline()
        status = ""
        while not deadline.passed(progress()) and status not in bad:
            try:
                answer = self._monitor.execute(question)
            except GuestError as error:
                raise GuestError(f"guest {self._name}: {' '.join(self._process.log().split()) or error}") from error
            status = answer.get("status", "")
            if status == good:
                return
            time.sleep(0.02)
        raise GuestError(f"guest {self._name}: {question} says {answer.get('error-desc') or status}")
