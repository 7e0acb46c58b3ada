"""Progress: what goes on, how far it is, how long it took and may still take. Live on a terminal, lines elsewhere.

Knows nothing of what it shows.
"""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

#: Seconds between two lines about the same thing where there is no terminal.
_PAUSE = 10.0


class Reporter:
    """Shows steps by name and one count of trials. May be called from any thread."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._lock = threading.Lock()
        self._said: dict[str, tuple[float, str]] = {}
        self._since: dict[str, float] = {}
        self._live: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        if sys.stderr.isatty():
            self._live = Progress(
                TextColumn("{task.description:24}"),
                BarColumn(bar_width=20),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("to go"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[text]}"),
                console=Console(stderr=True),
                transient=True,
            )

    def __enter__(self) -> Reporter:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def step(self, what: str, text: str) -> None:
        """Say what a thing, such as `guest linux-i386 1`, is doing."""
        with self._lock:
            if self._live:
                self._live.update(self._task(self._live, what), text=text)
                return
            when, before = self._said.get(what, (0.0, ""))
            if _kind(text) != _kind(before) or time.monotonic() - when > _PAUSE:
                self._said[what] = (time.monotonic(), text)
                self._print(f"{what}: {text}")

    def count(self, what: str, done: int, total: int, text: str) -> None:
        """Say how far a thing is, with the last that happened."""
        with self._lock:
            if self._live:
                self._live.update(self._task(self._live, what), completed=done, total=total, text=text)
                return
            since = self._since.setdefault(what, time.monotonic())
            when, _ = self._said.get(what, (0.0, ""))
            if done in (1, total) or time.monotonic() - when > _PAUSE:
                self._said[what] = (time.monotonic(), text)
                left = (time.monotonic() - since) / max(done, 1) * (total - done)
                self._print(f"{what}: {done} of {total}, about {left:.0f} s to go; {text}")

    def _task(self, live: Progress, what: str) -> TaskID:
        if what not in self._tasks:
            self._tasks[what] = live.add_task(what, total=None, text="")
        return self._tasks[what]

    def _print(self, line: str) -> None:
        elapsed = int(time.monotonic() - self._begun)
        print(f"[{elapsed // 60}:{elapsed % 60:02}] {line}", file=sys.stderr, flush=True)


def _kind(text: str) -> str:
    """A step's text without its numbers: what differs only there is the same step, further on."""
    return "".join(letter for letter in text if not letter.isdigit())
