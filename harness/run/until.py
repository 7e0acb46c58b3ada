"""A trial repeated until it has the outcome that is looked for, and a user who looks at it while its guest waits."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from harness import clock
from harness.errors import ConfigError
from harness.programs.model import TrialSpec
from harness.progress import Reporter
from harness.results.deaths import death_title
from harness.results.matrix import OUTCOMES
from harness.results.store import EndedTrials
from harness.results.text import render_count
from harness.run.job import Batch, Expected
from harness.run.resolve import ResolvedRequest
from harness.trial.execute import Inspect, Scene
from harness.trial.record import Verdict


@dataclass(frozen=True)
class Wanted:
    """The outcome that is looked for: a verdict, or a title that a pattern is found in."""

    verdict: str
    pattern: re.Pattern[str] | None

    @classmethod
    def parse(cls, text: str) -> Wanted:
        """An outcome as a user writes it: a verdict, `kills guest`, or a regular expression. Raises ConfigError."""
        if text in OUTCOMES:
            return cls(text, None)
        if not text:
            raise ConfigError("an empty outcome is none; name a verdict, or what a title has")
        try:
            return cls("", re.compile(text))
        except re.error as error:
            verdicts = ", ".join(OUTCOMES)
            raise ConfigError(
                f"{text!r} is neither a verdict ({verdicts}) nor a regular expression: {error}"
            ) from error

    def __str__(self) -> str:
        return f"a title with {self.pattern.pattern!r}" if self.pattern else self.verdict

    def shows(self, verdict: str, title: str) -> bool:
        """Whether a trial shows it.

        Args:
            title: the trial's signature; of an error, its reason.
        """
        if verdict == Verdict.ERROR:
            title = death_title(title)
            if self.verdict:
                return self.verdict == Verdict.KILLS and bool(title)
        return bool(title and self.pattern.search(title)) if self.pattern else verdict == self.verdict


@dataclass(frozen=True)
class Tally:
    """How many trials showed the outcome, and how many ended otherwise, by verdict."""

    wanted: Wanted
    shown: int
    others: dict[str, int]

    @classmethod
    def of(cls, wanted: Wanted, ended: Iterable[EndedTrials]) -> Tally:
        """The tally of the trials of a run."""
        count, others = 0, dict[str, int]()
        for trials in ended:
            if wanted.shows(trials.verdict, trials.title):
                count += trials.number
            else:
                others[trials.verdict] = others.get(trials.verdict, 0) + trials.number
        return cls(wanted, count, others)

    @property
    def judged(self) -> int:
        """How many trials have ended that count. An infrastructure error does not, unless it is looked for."""
        return self.shown + sum(number for verdict, number in self.others.items() if verdict != Verdict.ERROR)

    def __str__(self) -> str:
        rest = ", ".join(f"{number} {verdict}" for verdict, number in self.others.items())
        return f"{self.wanted}: {self.shown} of {render_count(self.judged, 'trial')}{f' ({rest})' if rest else ''}"


class Catcher:
    """Lets the user look at the first trial that shows an outcome, in the trial's thread.

    Attributes:
        caught: that there is such a trial.
        busy: that it is being looked at.
    """

    def __init__(self, wanted: Wanted, look: Inspect) -> None:
        self._wanted, self._look = wanted, look
        self._lock = threading.Lock()
        self.caught, self.busy = threading.Event(), threading.Event()

    def inspect(self, scene: Scene) -> None:
        """Let the user look at a trial, if it is the first that shows the outcome."""
        with self._lock:
            if self.caught.is_set() or not self._wanted.shows(scene.verdict, scene.title):
                return
            self.caught.set()
        self.busy.set()
        try:
            self._look(scene)
        finally:
            self.busy.clear()


def until_batch(
    resolved: ResolvedRequest,
    ended: Callable[[], Iterable[EndedTrials]],
    report: Reporter,
    caught: Callable[[], bool] = lambda: False,
) -> Batch:
    """The trials of a request that waits for an outcome: no more are begun when one has shown it.

    Args:
        ended: gives the trials of the run that have ended.
        caught: whether one shows it that has not ended.
    """
    wanted = Wanted.parse(resolved.request.until)

    def tally() -> Tally:
        now = Tally.of(wanted, ended())
        if now.judged:
            report.step("until", str(now))
        return now

    def specs(guest: str) -> Iterator[TrialSpec]:
        for spec in resolved.trials(guest):
            if caught() or tally().shown:
                return
            yield spec

    begun, before = clock.time(), Tally.of(wanted, ended()).judged

    def left() -> Expected:
        now = tally()
        most = 0 if caught() or now.shown else resolved.request.trials - now.judged
        return Expected(most, most * (clock.time() - begun) / max(1, now.judged - before))

    return Batch({name: partial(specs, name) for name in resolved.guests}, expected=left)
