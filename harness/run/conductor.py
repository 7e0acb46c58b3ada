"""Conducts a run: hands trials to an executor, stores what comes back, and decides what is tried again.

The executor's threads run trials; the main thread alone writes the store.
"""

from __future__ import annotations

import os
import queue
import re
import signal
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import date
from functools import partial
from itertools import chain
from pathlib import Path

from harness import conf, host, log
from harness.errors import ConfigError, HarnessError, StoreError, ToolMissing
from harness.escapes import one_line
from harness.guest import dry_start
from harness.locks import lock
from harness.programs.model import CellKey, TrialSpec
from harness.progress import Reporter
from harness.results.expected import Entry, excuse
from harness.results.listing import lock_file
from harness.results.store import Run, Store
from harness.results.text import render_count
from harness.run.expectations import known_failures
from harness.run.job import ATTEMPTS, Batch, Executor, Expected, RunContext, RunHooks
from harness.run.manifest import check_origin, check_repeated, check_same
from harness.run.prepare import PreparedRun, prepare_run, run_context
from harness.run.request import Request
from harness.run.resolve import ResolvedRequest, resolve
from harness.run.rounds import attribution_rounds, check_decidable, rounds
from harness.run.spares import QEMU
from harness.run.until import Catcher, until_batch
from harness.run.workers import WorkerPool
from harness.trial.execute import Inspect, Outcome
from harness.trial.record import Trial, Verdict


def run_request(
    request: Request,
    report: Reporter,
    resume: int | None = None,
    hooks: RunHooks | None = None,
    scheduler: str | None = None,
    catcher: Catcher | None = None,
) -> tuple[Store, Run]:
    """Run all trials of a request, with everything that they need.

    Args:
        resume: the number of a run that this request was of; only the trials that it lacks are run. If the request has
            more trials of each cell, the run is extended.
        hooks: how a caller in another thread takes part. Such a run cannot be resumed.
        scheduler: that of the cluster which runs the trials (harness/run/cluster.py); None means this machine.
        catcher: looks at the trial that the request waits for. Only on this machine.

    Raises:
        HarnessError: bad input, before anything boots; or a guest that cannot be used, with all finished trials stored.
        Interrupted: the user's doing; all finished trials are stored.
    """
    with log.of_run() as log_to, ExitStack() as stack:
        if resume is not None:
            stack.enter_context(locked_run(request.work, resume))
        return _run_request(request, report, resume, hooks, scheduler, log_to, stack, catcher)


def _run_request(
    request: Request,
    report: Reporter,
    resume: int | None,
    hooks: RunHooks | None,
    scheduler: str | None,
    log_to: Callable[[Path], None],
    stack: ExitStack,
    catcher: Catcher | None,
) -> tuple[Store, Run]:
    resolved = resolve(request)
    cells = [] if hooks else resolved.cells()
    if left_out := resolved.describe_left_out(cells) if cells else "":
        report.note("not run", left_out)
    if request.until_sure and not request.design:
        check_decidable(cells, request.trials, resolved.baseline, resolved.is_control)
    if scheduler is not None:
        check_for_cluster(resolved, scheduler)
    store = Store(request.work / "results.sqlite")
    prepared = prepare_run(resolved, report, hooks, boot_here=scheduler is None)
    planned = None if hooks else resolved.planned(cells)
    plan = prepared.plan.model_copy(update={"resumable": hooks is None, "planned": planned})
    check_repeated(request, plan, store)
    if resume is not None:
        before = store.run(resume)
        if request.trials > before.plan.trials:
            check_same(before, plan, f"run {resume} cannot be extended")
            check_origin(before, plan, f"run {resume} cannot be extended")
            store.extend(resume, before.plan.extended_to(request.trials, resolved.planned(cells)))
        else:
            check_same(before, plan, f"run {resume} cannot be resumed")
    store.keep(prepared.inputs)
    if resume is None:
        number = store.begin(plan)
        stack.enter_context(locked_run(request.work, number))
    else:
        number = resume
    log_to(request.work / "runs" / str(number))
    batches: Iterable[Batch]
    if hooks:
        hooks.begun(number)
        batches = hooks.batches
    elif request.design:
        batches = attribution_rounds(resolved, cells, partial(store.outcomes, number), report)
    elif request.until_sure:
        batches = rounds(
            cells, request.trials, partial(store.outcomes, number), report, resolved.baseline, resolved.is_control
        )
        if resolved.traced:
            counting = Batch({name: partial(resolved.traced_trials, name) for name in resolved.guests})
            batches = chain([counting], batches)
    elif request.until:
        caught = catcher.caught.is_set if catcher else lambda: False
        batches = [until_batch(resolved, partial(store.ended, number), report, caught)]
    else:
        batches = [Batch({name: partial(resolved.trials, name) for name in resolved.guests})]
    resumed = resume is not None
    try:
        conduct(resolved, prepared, store, number, report, lambda *_: batches, resumed, hooks, scheduler, catcher)
    except HarnessError as error:
        error.run = number
        raise
    store.finish(number)
    return store, store.run(number)


def conduct(
    resolved: ResolvedRequest,
    prepared: PreparedRun,
    store: Store,
    number: int,
    report: Reporter,
    make_batches: Callable[[Executor, Callable[[], bool]], Iterable[Batch]],
    resume: bool = False,
    hooks: RunHooks | None = None,
    scheduler: str | None = None,
    catcher: Catcher | None = None,
) -> None:
    """Run the trials of a run that is in the store, and locked (`locked_run`).

    Args:
        number: the run's.
        make_batches: called with the executor and with what tells whether the user has interrupted the run.
        resume: whether some of the trials are in the store.

    Raises:
        HarnessError, Interrupted: as of `run_request`.
    """
    request = resolved.request
    folder = request.work / "runs" / str(number)
    while prepared.troubles:  # once, if more than one run is made with it
        store.event(number, *prepared.troubles.pop(0))
    context = run_context(resolved, prepared, folder / "cores" if request.cores else None)
    workers = guests_at_once(request, resolved.guests)
    executor: Executor
    if scheduler is None:
        executor = WorkerPool(context, report, catcher.inspect if catcher else None)
    else:
        executor, workers = _cluster_executor(context, report, scheduler, workers)
    known = known_failures(resolved.configuration)
    is_surprise = partial(_is_surprise, known) if hooks is None else lambda trial: False
    attended = catcher.busy.is_set if catcher else lambda: False
    conductor = Conductor(executor, store, number, report, workers, hooks, is_surprise, attended)
    try:
        conductor.conduct(make_batches(executor, conductor.interrupted), resume)
    finally:
        _note_times(store, number, report)


def check_for_cluster(resolved: ResolvedRequest, address: str) -> None:
    """Raise ConfigError if a cluster cannot run a request, or there is none, and ToolMissing if dask is not there.

    Raises also what `dry_start.check` raises, if none of its workers could start the guests.
    """
    if resolved.request.cores:
        raise ConfigError(
            "--cores and --scheduler do not go together: a core stays on the machine that it is written on"
        )
    if printing := [program.name for program in resolved.programs if program.build.output_flags]:
        raise ConfigError(
            f"{printing[0]} prints a program, which must be compiled here: --scheduler cannot be used with it"
        )
    try:
        from harness.run import cluster
    except ImportError as error:
        raise ToolMissing(f"--scheduler takes the extra `cluster` of the harness ({error.name} is missing)") from error
    if address == cluster.LOCAL:
        for name in resolved.guests:
            dry_start.check(name, resolved.configuration)
    else:
        cluster.check(address, resolved.configuration, list(resolved.guests))


def _cluster_executor(
    context: RunContext, report: Reporter, address: str, workers: Mapping[str, int]
) -> tuple[Executor, dict[str, int]]:
    """The workers of a cluster, and how many trials on each guest they are given at a time.

    Args:
        workers: how many guests of each name this machine could have.

    Raises:
        ConfigError: there is no such cluster.
    """
    from harness.run import cluster  # an extra

    executor = cluster.Cluster(context, report, address, max(workers.values()))
    return executor, dict.fromkeys(workers, cluster.AT_ONCE)


def _note_times(store: Store, number: int, report: Reporter) -> None:
    """Store how long builds and guests took; those of guests of one name together."""
    sums: dict[tuple[str, str], tuple[int, float]] = {}
    for took in report.took():
        key = re.sub(r"^(guest .+) \d+$", r"\1", took.what), took.step
        times, seconds = sums.get(key, (0, 0.0))
        sums[key] = times + took.times, seconds + took.seconds
    for (what, step), (times, seconds) in sums.items():
        store.took(number, what, step, times, round(seconds, 3))


def run_interactive(request: Request, report: Reporter, inspect: Inspect) -> Trial:
    """Run one trial of a request of one cell, store nothing, and have the guest inspected as the trial leaves it.

    Raises:
        HarnessError: bad input, or a guest in trouble.
    """
    resolved = resolve(request)
    spec = resolved.cells()[0]
    prepared = prepare_run(resolved, report)
    check_repeated(request, prepared.plan, Store(request.work / "results.sqlite"))
    with tempfile.TemporaryDirectory() as folder:
        context = run_context(resolved, prepared, Path(folder) if request.cores else None)
        return WorkerPool(context, report).run_interactive(spec, inspect)


def guests_at_once(request: Request, guests: Mapping[str, conf.Guest]) -> dict[str, int]:
    """How many guests of each name run side by side: what cores and memory allow, or --workers, shared out."""
    largest = max(guest.memory for guest in guests.values()) + QEMU
    workers = request.jobs or max(1, min(os.cpu_count() or 1, host.available_memory() // largest))
    return {name: max(1, workers // len(guests)) for name in guests}


@contextmanager
def locked_run(work: Path, number: int) -> Iterator[None]:
    """Lock a run during the block. Raises StoreError if another harness makes it, or it cannot be written."""
    with ExitStack() as stack:
        try:
            stack.enter_context(lock(lock_file(work, number), wait=False))
        except BlockingIOError as error:
            raise StoreError(f"run {number} is in use by another harness") from error
        yield


def _is_surprise(known: Sequence[Entry], trial: Trial) -> bool:
    """Whether a trial went wrong in a way that none of the known failures knows of. An error is a guest's trouble."""
    if trial.verdict in (Verdict.PASS, Verdict.ERROR):
        return False
    entries = [entry for entry in known if entry.about(*trial.cell)]
    return excuse(entries, trial.verdict, trial.signature, date.today()) is None


class Interrupted(Exception):
    """The user stopped a run. What has finished is stored.

    Attributes:
        number: the run's.
    """

    def __init__(self, number: int, done: int, total: int) -> None:
        verb = "is" if done == 1 else "are"
        super().__init__(f"interrupted: {done} of {render_count(total, 'trial')} of run {number} {verb} stored")
        self.number = number


class Conductor:
    """Hands out trials, stores what comes back, and hands out again what infrastructure errors cost. Holds few of them.

    Args:
        run: the number of the run.
        workers: how many trials on each guest are handed out at a time.
        is_surprise: whether the user is told at once what came of a trial.
        attended: whether the user is at work in a guest. A ctrl-C is for that then.
    """

    def __init__(
        self,
        executor: Executor,
        store: Store,
        run: int,
        report: Reporter,
        workers: Mapping[str, int],
        hooks: RunHooks | None = None,
        is_surprise: Callable[[Trial], bool] = lambda trial: False,
        attended: Callable[[], bool] = lambda: False,
    ) -> None:
        self._executor, self._store, self._run, self._report = executor, store, run, report
        self._workers, self._hooks, self._is_surprise, self._attended = workers, hooks, is_surprise, attended
        self._attempts: dict[TrialSpec, int] = {}  # those that are handed out
        self._waiting: dict[str, Iterator[tuple[TrialSpec, int]]] = {}  # each with the attempts so far
        self._early: Counter[str] = Counter()  # trials that were handed out before another one was stored, by guest
        self._interrupts = 0
        self._answered = False  # the user was told that an interrupt was heard
        self._done = self._total = 0
        self._expected: Callable[[], Expected] | None = None
        self._verdicts: Counter[Verdict] = Counter()
        self._told: set[tuple[CellKey, Verdict, str]] = set()  # the surprises that were told

    def interrupted(self) -> bool:
        """Whether the user has interrupted the run."""
        return self._interrupts > 0

    def conduct(self, batches: Iterable[Batch], resume: bool) -> None:
        """Run all trials of some batches.

        Args:
            resume: whether some of them are in the store.

        Raises:
            Interrupted: the user stopped it.
            HarnessError: it cannot go on.
        """
        if resume:
            judged = self._store.verdict_counts().get(self._run, {})
            self._verdicts.update({verdict: judged[verdict] for verdict in judged if verdict is not Verdict.ERROR})
        with self._interruptible():
            try:
                for batch in batches:
                    self._run_batch(batch, resume)
                    if self._interrupts:
                        break
                else:
                    self._total = self._done
                    self._count()
            finally:
                self._executor.stop()
            for outcome in self._executor.rest():
                self._take(outcome)
        if self._done < self._total:
            raise Interrupted(self._run, self._done, self._total)

    def _run_batch(self, batch: Batch, resume: bool) -> None:
        """Run the trials of a batch, with as many guests as they need."""
        self._expected = batch.expected
        if batch.expected:
            counts = {name: self._workers[name] for name in batch.trials}
        else:
            counts = {name: sum(1 for _ in specs()) for name, specs in batch.trials.items()}
            self._total = self._done + sum(counts.values()) + batch.further
        self._waiting = {
            name: self._left(specs()) if resume else ((spec, 0) for spec in specs())
            for name, specs in batch.trials.items()
        }
        workers = {name: min(self._workers[name], counts[name]) for name in self._waiting}
        for name, waiting in self._waiting.items():
            for _ in range(workers[name]):
                self._hand_out(waiting)
        self._executor.start({name: number for name, number in workers.items() if self._awaits(name)})
        left = None
        if batch.expected:
            expected = batch.expected()
            self._total, left = self._done + expected.trials, expected.seconds
        if self._attempts:
            self._count(left, begins=True)
        while self._attempts and self._interrupts < 2:
            self._take(self._next())

    def _next(self) -> Outcome:
        """The next outcome that the executor reports; an empty one when the run is stopped."""
        while True:
            try:
                return self._executor.results.get(timeout=0.5)
            except queue.Empty:
                if self._hooks and self._hooks.stopped.is_set():
                    self._interrupts = 2
                    return Outcome()

    def _awaits(self, guest: str) -> bool:
        return any(spec.guest == guest for spec in self._attempts)

    def _left(self, specs: Iterable[TrialSpec]) -> Iterator[tuple[TrialSpec, int]]:
        """The trials that a run still lacks, each with the attempts so far."""
        for spec in specs:
            attempts, judged = self._store.attempts(self._run, spec.guest, spec.variant, spec.program.name, spec.number)
            if judged or attempts >= ATTEMPTS:
                self._done += 1
            else:
                yield spec, attempts

    def _hand_out(self, waiting: Iterator[tuple[TrialSpec, int]]) -> bool:
        """Hand out the next trial, if there is one and the run goes on, and tell whether that was so."""
        if self._interrupts or not (pair := next(waiting, None)):
            return False
        spec, attempts = pair
        self._attempts[spec] = attempts + 1
        self._executor.put(spec)
        return True

    def _take(self, outcome: Outcome) -> None:
        if outcome.trouble is not None:
            self._store.event(self._run, *outcome.trouble)
        if outcome.failure is not None:
            raise outcome.failure
        if self._interrupts:
            self._take_back()
        # Whoever chooses trials by those that are stored is not asked before.
        if outcome.one_more and not self._expected and self._hand_out(self._waiting[outcome.one_more]):
            self._early[outcome.one_more] += 1
        if outcome.spec is None or outcome.trial is None:
            return
        spec = outcome.spec
        trial = replace(outcome.trial, attempt=self._attempts.pop(spec))
        trial = replace(trial, id=self._store.add(self._run, trial, outcome.attachments))
        if trial.verdict is Verdict.ERROR and trial.attempt < ATTEMPTS:
            if not self._interrupts:
                self._attempts[spec] = trial.attempt + 1
                self._executor.put(spec)
            return
        self._done += 1
        if self._hooks:
            self._hooks.finished(trial)
        left = None
        if self._expected:
            expected = self._expected()
            self._total, left = self._done + expected.trials, expected.seconds
        self._tell(trial, left)
        if outcome.taken_over and self._early[spec.guest]:
            self._early[spec.guest] -= 1
        else:
            self._hand_out(self._waiting[spec.guest])

    def _tell(self, trial: Trial, left: float | None) -> None:
        """Have it shown how far the run is, and what came of a trial if it is a surprise: each end of a cell once.

        Args:
            left: about how many seconds the rest takes; None if that follows from what the trials took.
        """
        self._verdicts[trial.verdict] += 1
        title = trial.signature or trial.reason
        key = trial.cell, trial.verdict, title
        if self._is_surprise(trial) and key not in self._told:
            self._told.add(key)
            where = f"{trial.program}, {trial.guest}, {trial.variant}"
            self._report.note(trial.verdict, one_line(f"{where}: {title} (trial {trial.id})"))
        self._count(left)

    def _count(self, left: float | None = None, begins: bool = False) -> None:
        counts = ", ".join(f"{self._verdicts[verdict]} {verdict}" for verdict in Verdict if self._verdicts[verdict])
        self._report.count("trials", self._done, self._total, counts, left, begins)

    def _take_back(self) -> None:
        """After a ctrl-C: leave only the trials that run."""
        for spec in self._executor.drain():
            del self._attempts[spec]
        left = len(self._attempts)
        if left and not self._answered:
            running = f"the {render_count(left, 'trial')} that {'runs' if left == 1 else 'run'}"
            again = "it" if left == 1 else "them"
            self._report.note("interrupted", f"waiting for {running}; ctrl-C again ends {again}", answer=True)
        self._answered = True

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """A ctrl-C lets the trials that run end; a second one ends them.

        The handler does no more than wake the loop that waits for outcomes: it may come while this very thread holds
        any lock but a SimpleQueue's.
        """
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread gets signals
            return

        def interrupt(number: int, frame: object) -> None:
            if self._attended():
                return
            self._interrupts += 1
            self._executor.results.put(Outcome())

        before = signal.signal(signal.SIGINT, interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
