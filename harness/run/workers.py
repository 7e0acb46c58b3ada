"""The worker pool: one thread a guest, which runs trials in it and replaces it when it must be fresh.

Outcomes go to a queue; whoever reads it stores them and decides what is tried again. Knows nothing of the store.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NoReturn

from harness.errors import GuestError
from harness.guest.agent import Agent
from harness.guest.fresh import Guest
from harness.guest.pool import Pool
from harness.guest.workspace import SCREENS
from harness.programs.model import TrialSpec
from harness.progress import READY, Reporter
from harness.run.job import ATTEMPTS, Executor, RunContext
from harness.run.spares import Spares, room_for
from harness.trial import diagnostics
from harness.trial.execute import PING, Execution, Inspect, Outcome, RunningTrial, infra_error, program_places
from harness.trial.observe import NOTHING, GuestLost, observe
from harness.trial.record import Trial, Verdict

_log = logging.getLogger(__name__)


class WorkerPool(Executor):
    """The threads of a run.

    Args:
        inspect: looks at each trial, in its thread.

    Attributes:
        results: the outcomes that they report.
    """

    def __init__(self, context: RunContext, report: Reporter, inspect: Inspect | None = None) -> None:
        self._context, self._report, self._inspect = context, report, inspect
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._started: Counter[str] = Counter()
        self._todo: dict[str, queue.Queue[TrialSpec]] = {name: queue.Queue() for name in context.guests}
        self.results: queue.SimpleQueue[Outcome] = queue.SimpleQueue()  # a signal's handler may put to it
        self._pools = {name: self._pool(name) for name in context.guests}
        self._spares = Spares(context.work, self._stop.is_set)
        self._spoilt: Counter[str] = Counter()  # guests that a trial has spoilt, by name

    def start(self, guests: Mapping[str, int]) -> None:
        """Have so many guests of each name."""
        for name, count in guests.items():
            for index in range(self._started[name], count):
                self._started[name] += 1
                thread = threading.Thread(target=self._work, args=(name, f"guest {name} {index + 1}"), daemon=True)
                thread.start()
                self._threads.append(thread)

    def hold(self, variants: Sequence[str]) -> None:
        """Have fresh guests come with the libgos of these variants from now on, and with no others."""
        for name, pool in self._pools.items():
            pool.hold(self._contents(name, variants))

    def put(self, spec: TrialSpec) -> None:
        """Have a trial run."""
        self._todo[spec.guest].put(spec)

    def drain(self) -> list[TrialSpec]:
        """Take back the trials that no thread has taken yet. Those that run go on."""
        left = []
        for todo in self._todo.values():
            while True:
                try:
                    left.append(todo.get_nowait())
                except queue.Empty:
                    break
        return left

    def run_interactive(self, spec: TrialSpec, inspect: Inspect) -> Trial:
        """Run one trial in a fresh guest, in this thread, and have the guest inspected as the trial leaves it.

        Raises:
            GuestError: the guest is in trouble.
        """
        say = partial(self._report.step, f"guest {spec.guest}")
        with self._spares.guest(spec.guest, self._pools[spec.guest], say) as guest:
            execution = self._execution(spec.guest, guest, self._agent(spec.guest, guest), say)
            say(f"{spec.program.name} ({spec.variant})")
            outcome = execution.run(execution.begin(spec), inspect)
            assert outcome.trial is not None
            return outcome.trial

    def stop(self) -> None:
        """End all guests, and what they do."""
        self._stop.set()
        for thread in self._threads:  # some may be added meanwhile
            thread.join()
        self._spares.end()

    def _pool(self, name: str) -> Pool:
        setup, context = self._context.guests[name], self._context
        return Pool(
            name,
            setup.config,
            context.files[name],
            self._contents(name, list(dict.fromkeys([*setup.artifacts.libgos, *setup.artifacts.preloads]))),
            context.cache,
            partial(self._report_trouble, name),
            context.work / SCREENS,
            setup.artifacts.agent_target(setup.config),
            context.failed_boots.get(name, 0),
        )

    def _contents(self, name: str, variants: Sequence[str]) -> dict[str, Path]:
        """The files that a fresh guest is to have, by where they lie in it."""
        setup = self._context.guests[name]
        return setup.artifacts.contents(setup.config, variants)

    def _execution(
        self,
        name: str,
        guest: Guest,
        agent: Agent,
        say: Callable[[str], None],
        at_limit: Callable[[], None] = lambda: None,
    ) -> Execution:
        context = self._context
        return Execution(context.guests[name], guest, agent, context.variants, context.options, say, at_limit)

    def _report_trouble(self, name: str, text: str) -> None:
        """Have a guest's trouble shown, logged and stored."""
        _log.warning("guest %s: %s", name, text)
        self._report.note(f"guest {name}", f"trouble: {text.splitlines()[0]}")
        self.results.put(Outcome(trouble=(name, text)))

    def _work(self, name: str, label: str) -> None:
        """Serve with one fresh guest after the other until the run stops, or until another thread has taken over."""
        failures = 0  # guests in a row that were of no use
        spec: TrialSpec | None = None  # the trial to begin with
        place = _Place(label)
        try:
            while not self._stop.is_set() and failures < ATTEMPTS and not place.taken_over:
                try:
                    with self._spares.guest(name, self._pools[name], partial(self._say, place)) as guest:
                        agent = self._agent(name, guest)
                        failures = 0
                        take_over = partial(self._take_over, name, place)
                        execution = self._execution(name, guest, agent, partial(self._say, place), take_over)
                        spec = self._serve(place, guest, execution, name, spec)
                        self._report.doing(place.label, "ending")
                except _TrialLost:
                    spec = None
                except GuestError as error:
                    failures += 1
                    last = error
                    if not self._stop.is_set():
                        self._report_trouble(name, error.whole())
                finally:
                    self._report.gone(place.label)
            if failures >= ATTEMPTS:
                text = f"guest {name} failed {ATTEMPTS} times in a row, the last time so: {last.whole()}"
                self.results.put(Outcome(failure=GuestError(text)))
        except BaseException as error:
            self.results.put(Outcome(failure=error))

    def _say(self, place: _Place, text: str) -> None:
        self._report.step(place.label, text)

    def _take_over(self, name: str, place: _Place) -> None:
        """Have another thread go on in the place of one whose guest is spoilt, and is examined yet."""
        self._spoilt[name] += 1
        if self._stop.is_set() or place.taken_over or not room_for(self._context.guests[name].config.memory):
            return
        place.taken_over, label = True, place.label
        place.label = f"{label}, spoilt"
        thread = threading.Thread(target=self._work, args=(name, label), daemon=True)
        self._threads.append(thread)
        thread.start()
        self.results.put(Outcome(one_more=name))

    def _agent(self, name: str, guest: Guest) -> Agent:
        """The agent in a fresh guest, which has run a command already. A guest that runs one and then fails is no
        reason to give up on guests. Raises GuestError."""
        setup = self._context.guests[name]
        if self._context.isolation == "on-trouble":  # else it runs one program
            guest.upcoming = program_places(setup)
        if self._context.options.cores:
            guest.run(setup.config.os.core_setup)
        guest.put(setup.artifacts.agent, guest.agent_path)
        agent = guest.attach()
        observe(agent, ["/bin/sh", "-c", ":"], {}, "/", PING)
        return agent

    def _serve(
        self, place: _Place, guest: Guest, execution: Execution, name: str, first: TrialSpec | None
    ) -> TrialSpec | None:
        """Run trials in a guest until another guest is due.

        Args:
            first: the trial to begin with, if there is one.

        Returns:
            The trial that the next guest is to begin with.

        Raises:
            _TrialLost: the guest is in trouble that cost a trial.
            GuestError: it is in trouble otherwise.
        """
        self._report.step(place.label, READY)
        before: TrialSpec | None = None
        while not self._stop.is_set():
            spec = first or self._next(name)
            first = None
            if spec is None:
                continue
            if before and (self._due(before, spec) or self._lacks(name, guest, spec)):
                return spec
            running = execution.begin(spec)
            self._report.doing(place.label, f"{spec.program.name} ({spec.variant})")
            if self._spoilt[name] or self._context.isolation != "on-trouble":
                self._spares.prepare(name, self._pools[name], self._context.guests[name].config.memory)
            try:
                outcome = execution.run(running, self._inspect)
            except GuestError as error:
                if self._stop.is_set():
                    raise
                self._lose(name, guest, running, error, place.taken_over)
            self.results.put(replace(outcome, taken_over=place.taken_over))
            if outcome.trial and outcome.trial.verdict in (Verdict.CRASH, Verdict.HANG):
                self._spoilt[name] += 1
                return None
            if place.taken_over:
                return None
            self._report.doing(place.label, "waiting for a trial")
            before = spec
        return None

    def _lose(self, name: str, guest: Guest, running: RunningTrial, error: GuestError, taken_over: bool) -> NoReturn:
        """Report a trial that its guest's trouble cost. Raises _TrialLost."""
        spec = running.spec
        reason = guest.machine.trouble() or str(error)
        outside = diagnostics.outside(guest.machine, running.mark)
        attachments = {**running.attachments, **outside, **diagnostics.whole_console(guest.machine, running.mark)}
        # The trouble is reported first: nobody listens after the last trial.
        failure = guest.machine.failure(f"{spec.program.name} ({spec.variant}): {reason}")
        self._report_trouble(name, failure.whole())
        observation = error.observation if isinstance(error, GuestLost) else NOTHING
        trial = infra_error(spec, reason, running.started, self._context.options.command, observation)
        self.results.put(Outcome(spec, trial, attachments, taken_over=taken_over))
        raise _TrialLost(reason) from error

    def _next(self, name: str) -> TrialSpec | None:
        try:
            return self._todo[name].get(timeout=0.2)
        except queue.Empty:
            return None

    def _due(self, before: TrialSpec, spec: TrialSpec) -> bool:
        """Whether a guest whose last trial went well must be replaced before it runs another."""
        if self._context.isolation == "cell":
            return (before.variant, before.program.name) != (spec.variant, spec.program.name)
        return self._context.isolation == "trial"

    def _lacks(self, name: str, guest: Guest, spec: TrialSpec) -> bool:
        """Whether a guest lacks a trial's library, and a fresh one comes with it sooner than this one is given it."""
        if guest.takes_files_at_once():
            return False
        setup = self._context.guests[name]
        libraries = setup.artifacts.libraries(setup.config, spec.variant, with_libgo=not spec.program.is_c)
        return any(library not in guest.files and self._pools[name].restores(library) for library in libraries)


@dataclass
class _Place:
    """A thread's place among those that serve with guests.

    Attributes:
        label: what its guest is called.
        taken_over: whether another thread has taken the place, so that this one ends after its trial.
    """

    label: str
    taken_over: bool = False


class _TrialLost(GuestError):
    """A guest's trouble that cost a trial. Already reported; the trial goes back to whoever hands trials out."""
