"""What a run and those who make its trials share."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from harness import conf
from harness.cache import Cache
from harness.guest.bootfiles import BootFiles
from harness.programs.model import TrialSpec
from harness.run.request import Isolation
from harness.trial.execute import GuestSetup, Outcome, TrialOptions
from harness.trial.record import Trial


class Expected(NamedTuple):
    """About how many more trials there will be, and how many seconds they and what they wait for take."""

    trials: int
    seconds: float


@dataclass(frozen=True)
class Batch:
    """Trials that run side by side; the next batch begins when all of them are stored.

    Attributes:
        trials: by guest, what gives its trials in their order, anew at each call.
        further: how many more the batches to come may ask for, at most.
        expected: asked now and then what is still to come. Then trials are taken one by one, each when one before it is
            stored, and end when they like; all guests there may be run them.
    """

    trials: Mapping[str, Callable[[], Iterable[TrialSpec]]]
    further: int = 0
    expected: Callable[[], Expected] | None = None


@dataclass(frozen=True)
class RunHooks:
    """How a caller in another thread takes part in a run.

    Attributes:
        batches: the trials that it wants of those that were asked for, in its own order. It may wait for the next.
        finished: called with each trial that is stored and not tried again.
        stopped: when it is set, the run ends at once, as if interrupted.
        begun: called with the number of the run, before any trial.
    """

    batches: Iterable[Batch]
    finished: Callable[[Trial], None]
    stopped: threading.Event
    begun: Callable[[int], None] = lambda number: None


#: How often a trial that ends in an infrastructure error is tried, and how often a guest may fail in a row.
ATTEMPTS = 3


@dataclass(frozen=True)
class RunContext:
    """What the workers of a run share.

    Attributes:
        guests: by name, each with what its trials need.
        files: what each guest boots from, by name.
        variants: what the configuration says of the variants, by name; a bisect adds some while trials run.
        failed_boots: by guest, how many of its boots have failed already.
    """

    guests: Mapping[str, GuestSetup]
    files: Mapping[str, BootFiles]
    variants: Mapping[str, conf.Variant]
    work: Path
    cache: Cache
    isolation: Isolation
    options: TrialOptions = field(default_factory=TrialOptions)
    failed_boots: Mapping[str, int] = field(default_factory=dict)


class Executor(Protocol):
    """Whoever runs trials: threads of this machine (harness/run/workers.py), or workers of several machines
    (harness/run/cluster.py)."""

    results: queue.SimpleQueue[Outcome]

    def start(self, guests: Mapping[str, int]) -> None:
        """Have so many guests of each name."""

    def put(self, spec: TrialSpec) -> None:
        """Have a trial run."""

    def drain(self) -> list[TrialSpec]:
        """Take back the trials that nobody has begun."""

    def stop(self) -> None:
        """End all guests, and what they do."""

    def rest(self) -> Iterator[Outcome]:
        """The outcomes that nobody has taken, when all has ended; failures do not matter any more."""
        while True:
            try:
                outcome = self.results.get_nowait()
            except queue.Empty:
                return
            if outcome.failure is None:
                yield outcome
