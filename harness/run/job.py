"""What a run and those who make its trials share."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from harness import conf
from harness.build.artifacts import Artifacts
from harness.cache import Cache
from harness.guest.bootfiles import BootFiles
from harness.programs.model import TrialSpec
from harness.results.matrix import Trial
from harness.run.request import Isolation
from harness.trial.execute import Outcome


@dataclass(frozen=True)
class Batch:
    """Trials that are made side by side; the next batch begins when all of them are stored.

    Attributes:
        slots: by guest, what makes its slots in their order, anew at each call.
        further: how many more the batches to come may ask for, at most.
        expected: asked now and then how many more trials there will be, about. Then the slots are made one by one, each
            when one before it is stored, and end when they like; all guests there may be make them.
    """

    slots: Mapping[str, Callable[[], Iterable[TrialSpec]]]
    further: int = 0
    expected: Callable[[], int] | None = None


@dataclass(frozen=True)
class RunHooks:
    """How a caller in another thread takes part in a run.

    Attributes:
        batches: the trials that it wants of those that were asked for, in its own order. It may wait for the next.
        finished: told of each trial that is stored and not made again.
        stopped: when it is set, the run ends at once, as if interrupted.
    """

    batches: Iterable[Batch]
    finished: Callable[[Trial], None]
    stopped: threading.Event


#: How often a trial that a guest spoilt is made again, and how often a guest may fail in a row.
ATTEMPTS = 3


@dataclass(frozen=True)
class RunContext:
    """What a crew works on.

    Attributes:
        built: what was built, by toolchain.
        files: what each guest boots from, by name.
        cores: where core files go, or None if none are wanted.
        options: what the command that runs a trial again needs besides the trial's own cell.
        failed_boots: by guest, how many of its boots have failed already.
    """

    configuration: conf.Configuration
    files: Mapping[str, BootFiles]
    built: Mapping[str, Artifacts]
    work: Path
    cache: Cache
    isolation: Isolation
    cores: Path | None
    options: tuple[str, ...] = ()
    failed_boots: Mapping[str, int] = field(default_factory=dict)


class Executor(Protocol):
    """Whoever makes trials: the threads of this machine, or the workers of several (harness/run/cluster.py)."""

    results: queue.SimpleQueue[Outcome]

    def start(self, guests: Mapping[str, int]) -> None:
        """See to it that so many guests of each name are there."""

    def put(self, slot: TrialSpec) -> None:
        """Have a trial made."""

    def drain(self) -> list[TrialSpec]:
        """Take back the slots that nobody has begun."""

    def stop(self) -> None:
        """End all guests, and what they do."""

    def rest(self) -> Iterator[Outcome]:
        """The results that nobody has taken, when all has ended; what failed does not matter any more."""
        with suppress(queue.Empty):
            while True:
                outcome = self.results.get_nowait()
                if outcome.failure is None:
                    yield outcome
