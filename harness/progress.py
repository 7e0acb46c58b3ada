"""Progress: what goes on, how far it is, how long it took and may still take.

On a terminal that can move its cursor there is a live row for each activity. Elsewhere (a pipe, CI, a shell in Emacs)
there are lines: now and then one on all that goes on, and one at once for what must not wait. Knows nothing of what it
shows.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from functools import partial
from types import TracebackType

from rich.console import Console, RenderableType
from rich.constrain import Constrain
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from harness import log
from harness.durations import as_clock

_log = logging.getLogger(__name__)

#: A step that says so has nothing more to do: its time stands still.
READY = "ready"
#: Seconds until the first line on what goes on: what is over sooner is not worth one.
_SOON = 1.0
#: Seconds between two lines on what goes on, at first and at most. In between it is a tenth of the whole time, so that
#: a run of hours has some hundreds of lines, and no CI system takes it for dead.
_PAUSE, _LONGEST_PAUSE = 10.0, 60.0
#: Seconds from which on it is worth a line that an activity is ready, and that a guest is at the same step.
_LONG = 10.0
#: The columns of a terminal from which on there is room for a bar.
_WIDE = 100
#: The columns that two `^C`s take.
_ECHO = 4
#: Terminals that cannot move their cursor.
_DUMB = ("", "dumb", "unknown")
#: How the names of activities begin of which there are many, which change all the time.
_MANY = ("guest ", "worker ")


class Verbosity(Enum):
    """How much is told: nothing, what matters, or each step of each guest too."""

    QUIET = "quiet"
    NORMAL = "normal"
    VERBOSE = "verbose"


@dataclass
class Took:
    """How often a step of an activity was made, and how many seconds that took in all.

    Of what is counted the step is '', the times are those after the first, and the seconds are from its end on.
    """

    what: str
    step: str
    times: int = 0
    seconds: float = 0.0


@dataclass
class _Activity:
    """An activity: what goes on under a name. Times are those of time.monotonic.

    Attributes:
        begun: when it was first reported, or again after it was over.
        since: when its step began, or its count.
        text: its step's text, or the last on its count.
        done, total: of its count; `total` is None if it has none.
        paced_since, paced_from: when the first of what is counted was done here, and how many were done then.
        waits: none of what is counted was done here yet.
        left: seconds that it might still take at the time `left_at`; None if that follows from the count.
        over: it has nothing more to do.
        told: a line has been printed about it.
    """

    begun: float
    since: float
    text: str = ""
    done: int = 0
    paced_since: float = 0.0
    paced_from: int = 0
    waits: bool = False
    total: int | None = None
    left: float | None = None
    left_at: float = 0.0
    over: bool = False
    told: bool = False

    def to_go(self, now: float) -> float | None:
        """Seconds that it may still take; None if that is not known.

        It moves while nothing happens: what takes longer than expected is expected to take longer yet.
        """
        if self.total is None or self.done >= self.total:
            return None
        if self.left is not None:
            return max(self.left - (now - self.left_at), (now - self.left_at) / 4)
        count = self.done - self.paced_from
        return (now - self.paced_since) / count * (self.total - self.done) if count > 0 else None


class Reporter:
    """Shows steps by name and counts. May be called from any thread.

    Args:
        put: takes the lines; by default they go to standard error, which is live if it is a terminal that can be.

    Attributes:
        live: the live view of a terminal, None elsewhere.
    """

    def __init__(self, put: Callable[[str], None] | None = None, verbosity: Verbosity = Verbosity.NORMAL) -> None:
        self._put = put or partial(print, file=sys.stderr, flush=True)
        self._verbosity = verbosity
        self._begun = time.monotonic()
        self._lock = threading.RLock()
        self._activities: dict[str, _Activity] = {}
        self._steps: dict[str, tuple[float, str]] = {}  # when an activity's step began, and its name
        self._took: dict[tuple[str, str], Took] = {}
        self._due = self._begun + _SOON
        self._last = ("", self._begun)  # the last line on what goes on, and when it was printed
        self._ended = threading.Event()
        self._ticker: threading.Thread | None = None
        self.live: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._shares: list[str] = []
        if put is None and verbosity is not Verbosity.QUIET and _can_be_live():
            console = Console(stderr=True)
            self.live = _Rows(
                console,
                TextColumn("{task.description}", table_column=Column(no_wrap=True, max_width=24, overflow="ellipsis")),
                _Figures(table_column=Column(no_wrap=True)),
                _Bar(console),
                TextColumn("{task.fields[text]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
            )

    def __enter__(self) -> Reporter:
        if self.live:
            self.live.start()
        elif self._verbosity is not Verbosity.QUIET:
            self._ended.clear()
            self._ticker = threading.Thread(target=self._tick_on, daemon=True)
            self._ticker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.live.stop()
        if self._ticker:
            self._ended.set()
            self._ticker.join()
            self._ticker = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the terminal to somebody else for the time of the block."""
        self.__exit__(None, None, None)
        yield
        self.__enter__()

    def took(self) -> list[Took]:
        """How long the steps took that have ended, by activity and step, in the order of their first ends."""
        with self._lock:
            return list(self._took.values())

    def step(self, what: str, text: str, over: bool = False) -> None:
        """Say what an activity, such as `guest linux-i386 1`, is doing.

        Args:
            over: it has nothing more to do, as with READY.
        """
        with self._lock:
            self._time(what, text)
            activity = self._set(what, text)
            if activity is not None:
                _log.info("%s: %s", what, text)
            if over or text == READY:
                self._end(what, text)
            elif activity is not None and self._verbosity is Verbosity.VERBOSE and what.startswith(_MANY):
                self._line(f"{what}: {text}")
            self._tick()

    def doing(self, what: str, text: str) -> None:
        """Say what an activity does at the moment. It changes too often for lines, so only a terminal shows it."""
        if self.live:
            with self._lock:
                self._set(what, text)

    def gone(self, what: str) -> None:
        """Say that an activity is no more. No line is printed about that."""
        with self._lock:
            if activity := self._activities.get(what):
                activity.over = True
                self._show(what, activity)

    def note(self, what: str, text: str, answer: bool = False) -> None:
        """Say at once what must not wait.

        Args:
            answer: it answers to what the user has just done, and is told by --quiet too.
        """
        with self._lock:
            _log.info("%s: %s", what, text)
            self._line(f"{what}: {text}", answer)

    def shares(self, rows: Sequence[tuple[str, float, str]]) -> None:
        """Show how likely causes are, from 0 to 1, as bars; they take the place of those shown before. Only a terminal
        shows them."""
        if self.live:
            with self._lock:
                for what in self._shares:
                    self.live.update(self._tasks[what], visible=False)
                self._shares = [what for what, _, _ in rows]
                for what, share, text in rows:
                    task = self._task(self.live, what)
                    self.live.update(task, completed=share, total=1.0, text=text, share=True, visible=True)

    def count(
        self, what: str, done: int, total: int, text: str, left: float | None = None, begins: bool = False
    ) -> None:
        """Say how far something is: `done` of `total` steps.

        Args:
            what: what is being done.
            text: the outcome so far.
            left: about how many seconds it may still take; None means that it goes on as it did.
            begins: none of it was done here yet; what is done was done before.
        """
        with self._lock:
            now = time.monotonic()
            activity = self._activities.get(what)
            if activity is None or activity.over or activity.total is None:
                activity = self._activities[what] = _Activity(now, now, done=done, paced_since=now, paced_from=done)
                activity.waits = begins
                self._bring_forward()
            if activity.waits and done > activity.done:
                # What comes before the first, such as a boot, comes once; and a run that goes on has some already.
                activity.waits, activity.paced_since, activity.paced_from = False, now, done
            activity.done, activity.total, activity.text = done, total, text
            activity.left, activity.left_at = left, now
            if done == total and done > activity.paced_from:
                self._took[what, ""] = Took(what, "", done - activity.paced_from, now - activity.paced_since)
            if done == total:
                self._end(what, text)
            else:
                self._show(what, activity)
            self._tick()

    def expect(self, what: str, total: int, left: float) -> None:
        """Say that a counted activity is expected to end at another time, while it gets no further.

        Args:
            left: about how many seconds it may still take.
        """
        with self._lock:
            activity = self._activities.get(what)
            if activity is not None and activity.total is not None and not activity.over:
                activity.total, activity.left, activity.left_at = max(total, activity.done + 1), left, time.monotonic()
                self._show(what, activity)

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

    def _set(self, what: str, text: str) -> _Activity | None:
        """Keep and show an activity's step. Returns the activity if the step is a new one, and not only further on."""
        now = time.monotonic()
        activity = self._activities.get(what)
        fresh = activity is None or activity.over or activity.total is not None
        if activity is None or fresh:
            activity = self._activities[what] = _Activity(now, now)
            if not what.startswith(_MANY):
                self._bring_forward()
        another = fresh or _name(text) != _name(activity.text)
        if another:
            activity.since = now
        activity.text = text
        self._show(what, activity)
        return activity if another else None

    def _end(self, what: str, text: str) -> None:
        """End an activity. A line is printed if it took long; for a count always."""
        activity = self._activities[what]
        activity.over = True
        self._show(what, activity)
        took = time.monotonic() - activity.begun
        if activity.total is not None:
            if took > _SOON or activity.told:
                self._line(f"{what}: {activity.done} of {activity.total} in {as_clock(took)}{_after(text)}")
        else:
            many = what.startswith(_MANY)
            wanted = self._verbosity is Verbosity.VERBOSE if many else took > _LONG
            if wanted or (took > _LONG and (activity.told or self.live)):
                self._line(f"{what}: {text} after {as_clock(took)}")

    # A terminal.

    def _show(self, what: str, activity: _Activity) -> None:
        if self.live:
            task = self._task(self.live, what)
            self.live.update(
                task,
                completed=activity.done,
                total=activity.total,
                text=activity.text,
                activity=activity,
                visible=not activity.over,
            )

    def _task(self, live: Progress, what: str) -> TaskID:
        if what not in self._tasks:
            self._tasks[what] = live.add_task(what, total=None, text="", activity=None)
        return self._tasks[what]

    # Lines.

    def _tick_on(self) -> None:
        while not self._ended.wait(0.5):
            with self._lock:
                self._tick()

    def _tick(self) -> None:
        """Print a line on all that goes on, if one is due."""
        now = time.monotonic()
        if self.live or now < self._due:
            return
        parts = [text for what, activity in self._activities.items() if (text := self._told(what, activity, now))]
        line = "; ".join(parts)
        if line and line != self._last[0]:
            self._last = line, now
            self._line(line)
        if line:
            self._due = now + min(max(_PAUSE, (now - self._begun) / 10), _LONGEST_PAUSE)

    def _bring_forward(self) -> None:
        """Have a line soon, for something new has begun; but not too soon after the one before."""
        self._due = min(self._due, max(time.monotonic() + _SOON, self._last[1] + _PAUSE / 2))

    def _told(self, what: str, activity: _Activity, now: float) -> str:
        """What a line says of an activity; '' if nothing."""
        took = now - activity.since
        if activity.over or took < (_LONG if what.startswith(_MANY) else _SOON if activity.total is not None else 0.0):
            return ""
        activity.told = True
        to_go = activity.to_go(now)
        left = "" if to_go is None else f", about {as_clock(to_go)} to go"
        if activity.total is not None:
            return f"{what}: {activity.done} of {activity.total} in {as_clock(took)}{left}{_after(activity.text)}"
        return f"{what} ({as_clock(took)}): {activity.text}" if took >= _LONG else f"{what}: {activity.text}"

    def _line(self, line: str, answer: bool = False) -> None:
        if self._verbosity is Verbosity.QUIET and not answer:
            return
        line = f"[{as_clock(time.monotonic() - self._begun)}] {line}"
        with log.ignored(_log, "printing progress", OSError):  # nobody listens any more: no reason to lose a run
            if self.live:
                self.live.console.print(Text(line), soft_wrap=True)
            else:
                self._put(line)


def _can_be_live() -> bool:
    """Whether standard error is a terminal on which rows can be drawn over. Lines of the log would tear them."""
    return sys.stderr.isatty() and os.environ.get("TERM", "").lower() not in _DUMB and not log.debugging()


class _Rows(Progress):
    """Rows that leave room for the `^C`s that a terminal echoes: one too many would begin a new line and leave the row
    above behind."""

    def __init__(self, console: Console, *columns: ProgressColumn) -> None:
        self._console = console  # the rows are rendered once before Progress has it
        super().__init__(*columns, console=console, expand=True, transient=True)

    def get_renderable(self) -> RenderableType:
        """The rows."""
        return Constrain(super().get_renderable(), max(self._console.width - _ECHO, 1))


class _Bar(BarColumn):
    """A bar for what is counted, nothing for a step, and nothing where there is no room for one."""

    def __init__(self, console: Console) -> None:
        super().__init__(bar_width=16)
        self._console = console

    def render(self, task: Task) -> RenderableType:  # type: ignore[override] # a column may show anything
        """The bar of one row."""
        return Text("") if task.total is None or self._console.width < _WIDE else super().render(task)


class _Figures(ProgressColumn):
    """How far, how long so far, how long to go; for a step without a count its time alone."""

    def render(self, task: Task) -> Text:
        """The figures of one row."""
        if task.fields.get("share"):
            return Text(f"{task.completed:4.0%}")
        activity: _Activity | None = task.fields["activity"]
        if activity is None:
            return Text("")
        now = time.monotonic()
        so_far = as_clock(now - activity.since)
        if activity.total is None:
            return Text(so_far)
        left = activity.to_go(now)
        figures = f"{activity.done}/{activity.total}  {so_far}"
        return Text(figures if left is None else f"{figures}, {as_clock(left)} to go")


def _after(text: str) -> str:
    return f": {text}" if text else ""


def _name(text: str) -> str:
    """A step's name: its text up to a number or a detail."""
    return re.split(r"[\d,:;(]", text)[0].rstrip(" .")
