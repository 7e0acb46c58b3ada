"""Conducts a run: hands trials to an executor, stores what comes back, and decides what is tried again.

The executor's threads run trials; the main thread alone writes the store.
"""

from __future__ import annotations

import logging
import os
import queue
import re
import signal
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from harness import conf
from harness.cache import lock
from harness.errors import ConfigError, StoreError, ToolMissing
from harness.guest import dry_start
from harness.programs.model import TrialSpec
from harness.progress import Reporter
from harness.trial.record import Trial
from harness.results.store import Run, Store
from harness.run.job import ATTEMPTS, Batch, Executor, RunContext, RunHooks
from harness.run.manifest import check_same
from harness.run.prepare import PreparedRun, prepare_run, run_context
from harness.run.request import Request
from harness.run.resolve import ResolvedRequest, resolve
from harness.run.rounds import check_decidable, rounds
from harness.run.workers import WorkerPool
from harness.trial.execute import Inspect, Outcome

_log = logging.getLogger(__name__)
#: MiB that QEMU takes besides the guest's memory.
_QEMU = 200


def run_request(
    request: Request,
    report: Reporter,
    resume: int | None = None,
    door: RunHooks | None = None,
    scheduler: str | None = None,
) -> tuple[Store, Run]:
    """Make all trials of a request, with everything that they need.

    Args:
        resume: the number of a run that this request was of; only what it lacks is made.
        door: what the caller has to do with it. Such a run cannot be resumed.
        scheduler: that of the cluster which makes the trials (harness/run/cluster.py); None means this machine.

    Raises:
        HarnessError: bad input, before anything boots; or a guest that cannot be used, with all finished trials stored.
        Interrupted: the user's doing; all finished trials are stored.
    """
    asked = resolve(request)
    request = asked.request
    if door is None:
        asked.cell()  # there is one
    if request.until_sure:
        check_decidable(list(asked.slots(asked.guests, trials=1)), request.trials)
    if scheduler is not None:
        _check_for_cluster(asked, scheduler)
    store = Store(request.work / "results.sqlite")
    provided = prepare_run(asked, report, door, boot_here=scheduler is None)
    described = {**provided.described, "resumable": door is None}
    if resume is not None:
        check_same(store.run(resume), described, f"run {resume} cannot go on")
    number = store.begin(described) if resume is None else resume
    batches: Iterable[Batch]
    if door:
        batches = door.batches
    elif request.until_sure:
        cells = list(asked.slots(asked.guests, trials=1))
        batches = rounds(cells, request.trials, partial(store.outcomes, number), report)
        if asked.traced:
            batches = chain([Batch({name: partial(asked.traced_slots, name) for name in asked.guests})], batches)
    else:
        batches = [Batch({name: partial(asked.all_slots, name) for name in asked.guests})]
    resumed = resume is not None
    conduct(asked, provided, store, number, report, lambda makers, interrupted: batches, resumed, door, scheduler)
    store.finish(number)
    return store, store.run(number)


def conduct(
    asked: ResolvedRequest,
    provided: PreparedRun,
    store: Store,
    number: int,
    report: Reporter,
    batches: Callable[[Executor, Callable[[], bool]], Iterable[Batch]],
    resume: bool = False,
    door: RunHooks | None = None,
    scheduler: str | None = None,
) -> None:
    """Make the trials of a run that is in the store.

    Args:
        number: the run's.
        batches: given who makes the trials, and what tells whether the user has interrupted the run, makes them.
        resume: whether some of their trials are in the store.

    Raises:
        HarnessError, Interrupted: as of `run`.
    """
    request = asked.request
    folder = request.work / "runs" / str(number)
    with _held(folder, number):
        while provided.troubles:  # once, if more than one run is made with it
            store.event(number, *provided.troubles.pop(0))
        kept = folder / "cores" if request.cores else None
        job, guests = run_context(asked, provided, kept), _guests_each(request, asked.guests)
        makers: Executor
        if scheduler is None:
            makers = WorkerPool(job, report)
        else:
            makers, guests = _cluster_executor(job, report, scheduler, guests)
        conductor = Conductor(makers, store, number, report, guests, door)
        try:
            conductor.conduct(batches(makers, conductor.interrupted), resume)
        finally:
            _note_times(store, number, report)


def _check_for_cluster(asked: ResolvedRequest, address: str) -> None:
    """Raise ConfigError if a cluster cannot make a request, or there is none, and ToolMissing if dask is not there.

    Raises also what `dry_start.check` raises, if none of its workers could start the guests.
    """
    if asked.request.cores:
        raise ConfigError(
            "--cores and --scheduler do not go together: a core stays on the machine that it is written on"
        )
    if printing := [one.name for one in asked.programs if one.build.output_flags]:
        raise ConfigError(
            f"{printing[0]} prints a program, which must be compiled here: --scheduler cannot be used with it"
        )
    try:
        from harness.run import cluster
    except ImportError as error:
        raise ToolMissing(f"--scheduler takes the extra `cluster` of the harness ({error.name} is missing)") from error
    if address == cluster.LOCAL:
        for name in asked.guests:
            dry_start.check(name, asked.configuration)
    else:
        cluster.check(address, asked.configuration, list(asked.guests))


def _cluster_executor(
    job: RunContext, report: Reporter, address: str, guests: Mapping[str, int]
) -> tuple[Executor, dict[str, int]]:
    """The workers of a cluster, and how many trials on each guest they are given at a time.

    Args:
        guests: those that this machine could have.

    Raises:
        ConfigError: it cannot be had.
    """
    from harness.run import cluster  # an extra

    makers = cluster.Cluster(job, report, address, max(guests.values()))
    return makers, dict.fromkeys(guests, cluster.AT_ONCE)


def _note_times(store: Store, number: int, report: Reporter) -> None:
    """Store how long builds and guests took; those of guests of one name together."""
    sums: dict[tuple[str, str], tuple[int, float]] = {}
    for one in report.took():
        key = re.sub(r"^(guest .+) \d+$", r"\1", one.what), one.step
        times, seconds = sums.get(key, (0, 0.0))
        sums[key] = times + one.times, seconds + one.seconds
    for (what, step), (times, seconds) in sums.items():
        store.took(number, what, step, times, round(seconds, 3))


def run_interactive(request: Request, report: Reporter, visit: Inspect) -> dict[str, Any]:
    """Make one trial of a request of one cell, store nothing, and have the guest visited as the trial leaves it.

    Returns:
        What it came to, as the crew tells it.

    Raises:
        HarnessError: bad input, or a guest in trouble.
    """
    asked = resolve(request)
    slot = asked.cell()
    provided = prepare_run(asked, report)
    with tempfile.TemporaryDirectory() as folder:
        crew = WorkerPool(run_context(asked, provided, Path(folder) if request.cores else None), report)
        return crew.attend(slot, visit).trial


def _guests_each(request: Request, guests: dict[str, conf.Guest]) -> dict[str, int]:
    """How many guests of each name to run side by side: the machine's cores and memory, or --jobs, shared out."""
    cores_ = os.cpu_count() or 1
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    largest = max(guest.memory for guest in guests.values()) + _QEMU
    jobs = request.jobs or max(1, min(cores_, available // largest))
    return {name: max(1, jobs // len(guests)) for name in guests}


@contextmanager
def _held(folder: Path, number: int) -> Iterator[None]:
    """Hold a run for the time of the block. Raises StoreError if another harness makes it, or it cannot be written."""
    with ExitStack() as held:
        try:
            held.enter_context(lock(folder / "lock", wait=False))
        except BlockingIOError as error:
            raise StoreError(f"run {number} is being made by another harness") from error
        yield


class Interrupted(Exception):
    """The user stopped a run. What has finished is stored."""

    def __init__(self, number: int, done: int, total: int) -> None:
        super().__init__(
            f"interrupted: {done} of {total} trials of run {number} are stored;"
            f" `harness run --resume {number}` goes on, `harness show {number}` shows them"
        )


class Conductor:
    """Hands out slots, stores what comes back, and hands out again what a guest spoilt. Holds few slots at a time."""

    def __init__(
        self, crew: Executor, store: Store, run_: int, report: Reporter, guests: dict[str, int], door: RunHooks | None
    ) -> None:
        self._crew, self._store, self._run, self._report, self._guests = crew, store, run_, report, guests
        self._door = door
        self._attempts: dict[TrialSpec, int] = {}  # those that are handed out
        self._waiting: dict[str, Iterator[tuple[TrialSpec, int]]] = {}
        self._interrupts = 0
        self._done = self._total = 0
        self._expected: Callable[[], int] | None = None

    def interrupted(self) -> bool:
        """Whether the user has interrupted the run."""
        return self._interrupts > 0

    def conduct(self, batches: Iterable[Batch], resume: bool) -> None:
        """Make all trials of a plan.

        Args:
            resume: whether some of them are in the store.

        Raises:
            Interrupted: the user stopped it.
            HarnessError: it cannot go on.
        """
        with self._interruptible():
            try:
                for batch in batches:
                    self._make(batch, resume)
                    if self._interrupts:
                        break
                else:
                    self._total = self._done
            finally:
                self._crew.stop()
            for outcome in self._crew.rest():
                self._take(outcome)
        if self._done < self._total:
            raise Interrupted(self._run, self._done, self._total)

    def _make(self, batch: Batch, resume: bool) -> None:
        """Make the trials of a batch, with as many guests as they need."""
        self._expected = batch.expected
        if batch.expected:
            count = {name: self._guests[name] for name in batch.slots}
        else:
            count = {name: sum(1 for _ in make()) for name, make in batch.slots.items()}
            self._total = self._done + sum(count.values()) + batch.further
        self._waiting = {
            name: self._left(make()) if resume else ((slot, 0) for slot in make()) for name, make in batch.slots.items()
        }
        wanted = {name: min(self._guests[name], count[name]) for name in self._waiting}
        for name, slots in self._waiting.items():
            for _ in range(wanted[name]):
                self._hand_out(slots)
        self._crew.start({name: number for name, number in wanted.items() if self._waits(name)})
        while self._attempts and self._interrupts < 2:
            self._take(self._next())

    def _next(self) -> Outcome:
        """The next that the crew reports; nothing at all when the run is stopped."""
        while True:
            try:
                return self._crew.results.get(timeout=0.5)
            except queue.Empty:
                if self._door and self._door.stopped.is_set():
                    self._interrupts = 2
                    return Outcome()

    def _waits(self, name: str) -> bool:
        return any(slot.guest == name for slot in self._attempts)

    def _left(self, slots: Iterable[TrialSpec]) -> Iterator[tuple[TrialSpec, int]]:
        """The slots that a run still lacks, with the attempts that were made at each."""
        for slot in slots:
            attempts, judged = self._store.attempts(self._run, slot.guest, slot.variant, slot.program.name, slot.number)
            if judged or attempts >= ATTEMPTS:
                self._done += 1
            else:
                yield slot, attempts

    def _hand_out(self, slots: Iterator[tuple[TrialSpec, int]]) -> None:
        if not self._interrupts and (found := next(slots, None)):
            slot, attempts = found
            self._attempts[slot] = attempts + 1
            self._crew.put(slot)

    def _take(self, outcome: Outcome) -> None:
        if outcome.trouble is not None:
            self._store.event(self._run, *outcome.trouble)
        if outcome.failure is not None:
            raise outcome.failure
        if self._interrupts:
            self._take_back()
        if outcome.slot is None:
            return
        slot, trial = outcome.slot, outcome.trial
        attempt = self._attempts[slot]
        stored = Trial(**{**trial, "attempt": attempt})
        self._store.add(self._run, stored, outcome.attachments)
        del self._attempts[slot]
        if trial["verdict"] == "error" and attempt < ATTEMPTS:
            if not self._interrupts:
                self._attempts[slot] = attempt + 1
                self._crew.put(slot)
            return
        self._done += 1
        if self._door:
            self._door.finished(stored)
        if self._expected:
            self._total = self._done + self._expected()
        told = f"{trial['verdict']} {slot.program.name} ({slot.variant})"
        self._report.count("trials", self._done, self._total, told)
        self._hand_out(self._waiting[slot.guest])

    def _take_back(self) -> None:
        """After a ctrl-C: leave only the trials that are being made."""
        for slot in self._crew.drain():
            del self._attempts[slot]
        left = len(self._attempts)
        self._report.step("trials", f"interrupted; waiting for {left} that are being made, ctrl-C again ends them")

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """A ctrl-C lets the trials that are being made end; a second one ends them.

        The handler does no more than wake the loop that waits for results: it may come while this very thread holds
        any lock but a SimpleQueue's.
        """
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread gets signals
            return

        def interrupt(number: int, frame: object) -> None:
            self._interrupts += 1
            self._crew.results.put(Outcome())

        before = signal.signal(signal.SIGINT, interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
