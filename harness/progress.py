"""Progress: what goes on, how far it is, how long it took and may still take. Live on a terminal, lines elsewhere.

Knows nothing of what it shows.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import TracebackType

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from harness import log
from harness.durations import as_clock

_log = logging.getLogger(__name__)

#: Seconds between two lines about the same thing where there is no terminal, and from which on it is worth a line on a
#: terminal that a thing is ready.
_PAUSE = 10.0
#: A step that says so has nothing more to do: its time stands still.
READY = "ready"
#: The columns of a terminal from which on there is room for a bar.
_WIDE = 100


@dataclass
class Took:
    """How often a step of a thing was made, and how many seconds that took in all.

    Of what is counted the step is '', the times are those after the first, and the seconds are from its end on.
    """

    what: str
    step: str
    times: int = 0
    seconds: float = 0.0


class Reporter:
    """Shows steps by name and one count of trials. May be called from any thread.

    On a terminal there is a row for each thing that goes on; what is ready goes, and leaves a line if it took long.

    Args:
        put: takes the lines; by default they go to standard error, which is live if it is a terminal.

    Attributes:
        live: the live view of a terminal, None elsewhere.
    """

    def __init__(self, put: Callable[[str], None] | None = None) -> None:
        self._put = put or partial(print, file=sys.stderr, flush=True)
        self._begun = time.monotonic()
        self._lock = threading.Lock()
        self._said: dict[str, tuple[float, str]] = {}
        self._first: dict[str, float] = {}  # when a thing was first told of, or again after it was ready
        self._since: dict[str, tuple[float, int]] = {}  # when a count began, and with how many
        self._steps: dict[str, tuple[float, str]] = {}  # when a thing's step began, and its name
        self._took: dict[tuple[str, str], Took] = {}
        self.live: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._shares: list[str] = []
        if put is None and sys.stderr.isatty() and not log.debugging():  # lines of the log would tear it
            console = Console(stderr=True)
            self.live = Progress(
                TextColumn("{task.description}", table_column=Column(no_wrap=True, max_width=24, overflow="ellipsis")),
                _Figures(table_column=Column(no_wrap=True)),
                *([_Bar(bar_width=16)] if console.width >= _WIDE else []),
                TextColumn("{task.fields[text]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
                console=console,
                expand=True,
                transient=True,
            )

    def __enter__(self) -> Reporter:
        if self.live:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.live.stop()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the terminal to somebody else for the time of the block."""
        if self.live:
            self.live.stop()
        yield
        if self.live:
            self.live.start()

    def took(self) -> list[Took]:
        """How long the steps took that have ended, by thing and step, in the order of their first ends."""
        with self._lock:
            return list(self._took.values())

    def step(self, what: str, text: str) -> None:
        """Say what a thing, such as `guest linux-i386 1`, is doing; READY when it has nothing more to do."""
        with self._lock:
            self._time(what, text)
            if _name(text) != _name(self._said.get(what, (0.0, ""))[1]):
                _log.info("%s: %s", what, text)
            if self.live:
                self._show(self.live, what, text)
                if text == READY:
                    self._end(self.live, what)
                return
            when, before = self._said.get(what, (0.0, ""))
            if _kind(text) != _kind(before) or time.monotonic() - when > _PAUSE:
                self._said[what] = (time.monotonic(), text)
                self._print(f"{what}: {text}")

    def doing(self, what: str, text: str) -> None:
        """Say what a thing does at the moment. It changes too often for lines, so only a terminal shows it."""
        if self.live:
            with self._lock:
                self._show(self.live, what, text)

    def shares(self, rows: Sequence[tuple[str, float, str]]) -> None:
        """Show how likely things are, from 0 to 1, as bars; they take the place of those shown before. Only a terminal
        shows them."""
        if self.live:
            with self._lock:
                for what in self._shares:
                    self.live.update(self._tasks[what], visible=False)
                self._shares = [what for what, _, _ in rows]
                for what, share, text in rows:
                    task = self._task(self.live, what)
                    self.live.update(task, completed=share, total=1.0, text=text, share=True, visible=True)

    def count(self, what: str, done: int, total: int, text: str) -> None:
        """Say how far a thing is, with the last that happened."""
        with self._lock:
            since, before = self._since.setdefault(what, (time.monotonic(), done))
            took = time.monotonic() - since
            count = done - before  # since then; a run that goes on has some already
            left = took / count * (total - done) if count and done < total else None
            if count and done == total:
                self._took[what, ""] = Took(what, "", count, took)
            if self.live:
                task = self._task(self.live, what)
                self.live.update(task, completed=done, total=total, left=left, text=text)
                if done == total:
                    self._end(self.live, what)
                return
            when, _ = self._said.get(what, (0.0, ""))
            if done in (1, total) or time.monotonic() - when > _PAUSE:
                self._said[what] = (time.monotonic(), text)
                to_go = "" if left is None else f", about {as_clock(left)} to go"
                self._print(f"{what}: {done} of {total}{to_go}; {text}")

    def _time(self, what: str, text: str) -> None:
        """Note how long the step took that ends with this one."""
        name = _name(text)
        when, before = self._steps.get(what, (0.0, READY))
        if name == before:
            return
        if before not in (READY, ""):
            took = self._took.setdefault((what, before), Took(what, before))
            took.times += 1
            took.seconds += time.monotonic() - when
        self._steps[what] = (time.monotonic(), name)

    def _show(self, live: Progress, what: str, text: str) -> None:
        _, before = self._said.get(what, (0.0, ""))
        task = self._task(live, what)
        if _kind(text) != _kind(before):  # the time of a step, not of the thing
            live.update(task, since=None if text == READY else time.monotonic())
        self._said[what] = (0.0, text)
        live.update(task, text=text, visible=True)

    def _end(self, live: Progress, what: str) -> None:
        """Take away the row of a thing that is ready; it comes again if more is said of it."""
        live.update(self._task(live, what), visible=False)
        if (took := time.monotonic() - self._first.pop(what)) > _PAUSE:
            live.console.print(
                Text(f"[{as_clock(time.monotonic() - self._begun)}] {what}: {READY} after {as_clock(took)}")
            )

    def _task(self, live: Progress, what: str) -> TaskID:
        self._first.setdefault(what, time.monotonic())
        if what not in self._tasks:
            self._tasks[what] = live.add_task(what, total=None, text="", since=time.monotonic(), left=None)
        return self._tasks[what]

    def _print(self, line: str) -> None:
        with log.ignored(_log, "printing progress", OSError):  # nobody listens any more: no reason to lose a run
            self._put(f"[{as_clock(time.monotonic() - self._begun)}] {line}")


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
        since, left = task.fields["since"], task.fields["left"]
        so_far = "" if since is None else as_clock(time.monotonic() - since)
        if task.total is None:
            return Text(so_far)
        figures = f"{task.completed:.0f}/{task.total:.0f}  {so_far}"
        return Text(figures if left is None else f"{figures}, {as_clock(left)} to go")


def _kind(text: str) -> str:
    """A step's text without its numbers: what differs only there is the same step, further on."""
    return "".join(letter for letter in text if not letter.isdigit())


def _name(text: str) -> str:
    """A step's name: its text up to a number or a detail."""
    return re.split(r"[\d,:;(]", text)[0].rstrip(" .")
