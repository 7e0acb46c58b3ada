"""Progress: what goes on, how far it is, how long it took and may still take. Live on a terminal, lines elsewhere.

Knows nothing of what it shows.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from types import TracebackType

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

#: Seconds between two lines about the same thing where there is no terminal.
_PAUSE = 10.0
#: A step that says so has nothing more to do: its time stands still.
READY = "ready"


class Reporter:
    """Shows steps by name and one count of trials. May be called from any thread.

    Args:
        put: takes the lines; by default they go to standard error, which is live if it is a terminal.
    """

    def __init__(self, put: Callable[[str], None] | None = None) -> None:
        self._put = put or partial(print, file=sys.stderr, flush=True)
        self._begun = time.monotonic()
        self._lock = threading.Lock()
        self._said: dict[str, tuple[float, str]] = {}
        self._since: dict[str, tuple[float, int]] = {}  # when a count began, and with how many
        self._live: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._shares: list[str] = []
        if put is None and sys.stderr.isatty():
            self._live = Progress(
                TextColumn("{task.description}", table_column=Column(no_wrap=True, width=24, overflow="ellipsis")),
                _Figures(table_column=Column(no_wrap=True, width=34)),
                _Bar(bar_width=None, table_column=Column(width=16)),
                TextColumn("{task.fields[text]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
                console=Console(stderr=True),
                expand=True,
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

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the terminal to somebody else for the time of the block."""
        if self._live:
            self._live.stop()
        yield
        if self._live:
            self._live.start()

    def step(self, what: str, text: str) -> None:
        """Say what a thing, such as `guest linux-i386 1`, is doing; READY when it has nothing more to do."""
        with self._lock:
            when, before = self._said.get(what, (0.0, ""))
            another = _kind(text) != _kind(before)
            if self._live:
                task = self._task(self._live, what)
                if another:  # the time of a step, not of the thing
                    self._live.reset(task, total=None)
                self._said[what] = (0.0, text)
                self._live.update(task, text=text)
                if text == READY:
                    self._live.stop_task(task)
            elif another or time.monotonic() - when > _PAUSE:
                self._said[what] = (time.monotonic(), text)
                self._print(f"{what}: {text}")

    def doing(self, what: str, text: str) -> None:
        """Say what a thing does at the moment. It changes too often for lines, so only a terminal shows it."""
        if self._live:
            self.step(what, text)

    def shares(self, rows: Sequence[tuple[str, float, str]]) -> None:
        """Show how likely things are, from 0 to 1, as bars; they take the place of those shown before. Only a terminal
        shows them."""
        if self._live:
            with self._lock:
                for what in self._shares:
                    self._live.update(self._tasks[what], visible=False)
                self._shares = [what for what, _, _ in rows]
                for what, share, text in rows:
                    task = self._task(self._live, what)
                    self._live.update(task, completed=share, total=1.0, text=text, share=True, visible=True)

    def count(self, what: str, done: int, total: int, text: str) -> None:
        """Say how far a thing is, with the last that happened."""
        with self._lock:
            if self._live:
                task = self._task(self._live, what)
                self._live.update(task, completed=done, total=total, text=text)
                if done == total:
                    self._live.stop_task(task)
                return
            since, before = self._since.setdefault(what, (time.monotonic(), done - 1))
            when, _ = self._said.get(what, (0.0, ""))
            if done in (1, total) or time.monotonic() - when > _PAUSE:
                self._said[what] = (time.monotonic(), text)
                took = time.monotonic() - since
                made = done - before  # a run that goes on has some already
                left = f", about {took / made * (total - done):.0f} s to go" if made > 1 and done < total else ""
                self._print(f"{what}: {done} of {total}{left}; {text}")

    def _task(self, live: Progress, what: str) -> TaskID:
        if what not in self._tasks:
            self._tasks[what] = live.add_task(what, total=None, text="")
        return self._tasks[what]

    def _print(self, line: str) -> None:
        with suppress(OSError):  # nobody listens any more, or the log's disk is full: no reason to lose a run
            self._put(f"[{_clock(time.monotonic() - self._begun)}] {line}")


class _Bar(BarColumn):
    """A bar for what is counted, nothing for a step."""

    def render(self, task: Task) -> RenderableType:  # type: ignore[override] # a column may show anything
        """The bar of one row."""
        return Text("") if task.total is None else super().render(task)


class _Figures(ProgressColumn):
    """How far, how long so far, how long to go; for a step without a count its time alone."""

    def render(self, task: Task) -> Text:
        """The figures of one row."""
        if task.fields.get("share"):
            return Text(f"{task.completed:4.0%}")
        if task.total is None:
            return Text("" if task.stop_time is not None else _clock(task.elapsed or 0))
        told = f"{task.completed:.0f}/{task.total:.0f}  {_clock(task.elapsed or 0)}"
        if not task.finished and task.completed:
            left = (task.elapsed or 0) / task.completed * (task.total - task.completed)
            told += f", {_clock(left)} to go"
        return Text(told)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def _kind(text: str) -> str:
    """A step's text without its numbers: what differs only there is the same step, further on."""
    return "".join(letter for letter in text if not letter.isdigit())
