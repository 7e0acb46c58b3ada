"""The worker pool: one thread a guest, which runs trials in it and replaces it when it must be fresh.

Results go to a queue; whoever reads it stores them and decides what is tried again. Knows nothing of the store.
"""

from __future__ import annotations

import queue
import shlex
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from harness import conf
from harness.build.artifacts import Artifacts
from harness.build.command import first_error
from harness.clock import now
from harness.errors import GuestError, ProgramError
from harness.guest.pool import Guest, Pool
from harness.guest.shell import Agent
from harness.guest.workspace import SCREENS, guest_folder
from harness.programs.model import TrialSpec
from harness.progress import READY, Reporter
from harness.run.job import ATTEMPTS, Executor, RunContext
from harness.trial import cores, diagnostics, lifetrace
from harness.trial.execute import (
    LIFETRACE,
    NOT_RUN,
    PING,
    PRINTED,
    Inspect,
    Outcome,
    RunningTrial,
    _examine,
    _fields,
    _no_program,
    _ProgramRun,
    _seen,
    _suspended,
    infra_error,
    program_environment,
)
from harness.trial.observe import KEEP, Observation, observe
from harness.trial.verdict import Judgement, judge, signal_name


class WorkerPool(Executor):
    """The threads.

    Attributes:
        results: what they report.
    """

    def __init__(self, job: RunContext, report: Reporter) -> None:
        self._job, self._report = job, report
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._started: Counter[str] = Counter()
        self._todo: dict[str, queue.Queue[TrialSpec]] = {name: queue.Queue() for name in job.files}
        self.results: queue.SimpleQueue[Outcome] = queue.SimpleQueue()  # a signal's handler may put to it
        self._pools = {name: self._pool(name) for name in job.files}

    def start(self, guests: Mapping[str, int]) -> None:
        """See to it that so many guests of each name are there."""
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

    def put(self, slot: TrialSpec) -> None:
        """Have a trial made."""
        self._todo[slot.guest].put(slot)

    def drain(self) -> list[TrialSpec]:
        """Take back the slots that no thread has taken yet. Trials that are being made go on."""
        left = []
        for waiting in self._todo.values():
            with suppress(queue.Empty):
                while True:
                    left.append(waiting.get_nowait())
        return left

    def attend(self, slot: TrialSpec, visit: Inspect) -> Outcome:
        """Make one trial in a fresh guest, in this thread, and have the guest visited as the trial leaves it.

        Raises:
            GuestError: the guest is in trouble.
        """
        label = f"guest {slot.guest}"
        say = partial(self._report.step, label)
        said = self._job.configuration.guest(slot.guest)
        built = self._job.built[said.toolchain]
        with guest_folder(self._job.work) as folder:
            guest = self._pools[slot.guest].fresh(folder, say)
            try:
                agent = self._agent(slot.guest, guest)
                say(f"{slot.program.name} ({slot.variant})")
                made = RunningTrial(slot, now(), guest.machine.console.mark())
                return self._trial(made, said, built, guest, agent, say, visit)
            finally:
                guest.machine.stop()

    def stop(self) -> None:
        """End all guests, and what they do."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _pool(self, name: str) -> Pool:
        guest = self._job.configuration.guest(name)
        contents = self._contents(name, list(self._job.built[guest.toolchain].libgos))
        trouble = partial(self._tell, name)
        agent = self._job.built[guest.toolchain].agent_target(guest)
        screens = self._job.work / SCREENS
        files, failed_boots = self._job.files[name], self._job.failed_boots.get(name, 0)
        return Pool(name, guest, files, contents, self._job.cache, trouble, screens, agent, failed_boots)

    def _contents(self, name: str, variants: Sequence[str]) -> dict[str, Path]:
        """The files that a fresh guest is to have."""
        guest = self._job.configuration.guest(name)
        return self._job.built[guest.toolchain].contents(guest, variants)

    def _tell(self, name: str, text: str) -> None:
        """Have a guest's trouble shown and stored."""
        self._report.step(f"guest {name}", f"trouble: {text.splitlines()[0]}")
        self.results.put(Outcome(trouble=(name, text)))

    def _work(self, name: str, label: str) -> None:
        """Serve with one fresh guest after the other until the run stops."""
        failures, held = 0, None  # guests in a row that were of no use, and a slot to begin with
        say = partial(self._report.step, label)
        try:
            while not self._stop.is_set() and failures < ATTEMPTS:
                with guest_folder(self._job.work) as folder:
                    guest = None
                    try:
                        guest = self._pools[name].fresh(folder, say, self._stop.is_set)
                        agent = self._agent(name, guest)
                        failures = 0
                        held = self._serve(name, label, guest, agent, held)
                    except _InfraError:
                        held = None
                    except GuestError as error:
                        failures += 1
                        last = error
                        if not self._stop.is_set():
                            self._tell(name, error.whole())
                    finally:
                        if guest:
                            guest.machine.stop()
            if failures >= ATTEMPTS:
                text = f"guest {name} failed {ATTEMPTS} times in a row, the last time so: {last.whole()}"
                self.results.put(Outcome(failure=GuestError(text)))
        except BaseException as error:
            self.results.put(Outcome(failure=error))

    def _agent(self, name: str, guest: Guest) -> Agent:
        """The agent in a fresh guest, which has run a command already: what a guest that did so cannot do, or dies of,
        is no reason to give up on guests. Raises GuestError."""
        said = self._job.configuration.guest(name)
        built = self._job.built[said.toolchain]
        if self._job.cores:
            guest.shell.run(said.os.core_setup)
        agent = guest.shell.agent(guest.put(built.agent, built.agent_target(said)))
        observe(agent, ["/bin/sh", "-c", ":"], {}, "/", PING)
        return agent

    def _serve(self, name: str, label: str, guest: Guest, agent: Agent, held: TrialSpec | None) -> TrialSpec | None:
        """Make trials in a guest until another guest is due.

        Args:
            held: a slot to begin with.

        Returns:
            The slot that the next guest is to begin with.

        Raises:
            _Spoilt: the guest is in trouble that cost a trial.
            GuestError: it is in trouble otherwise.
        """
        said = self._job.configuration.guest(name)
        built = self._job.built[said.toolchain]
        self._report.step(label, READY)
        before: TrialSpec | None = None
        while not self._stop.is_set():
            slot = held or self._next(name)
            held = None
            if slot is None:
                continue
            if before and (self._due(before, slot) or self._lacks(name, guest, slot)):
                return slot
            made = RunningTrial(slot, now(), guest.machine.console.mark())
            self._report.doing(label, f"{slot.program.name} ({slot.variant})")
            try:
                outcome = self._trial(made, said, built, guest, agent, partial(self._report.step, label))
            except GuestError as error:
                if self._stop.is_set():
                    raise
                why = guest.machine.trouble() or str(error)
                parts = {**made.parts, **diagnostics.outside(guest.machine, made.mark)}
                # Its trouble is told of first: nobody listens after the last trial.
                self._tell(name, guest.machine.failure(f"{slot.program.name} ({slot.variant}): {why}").whole())
                self.results.put(Outcome(slot, infra_error(slot, why, made.started, self._job.options), parts))
                raise _InfraError(why) from error
            self.results.put(outcome)
            self._report.doing(label, READY)
            if outcome.trial["verdict"] in ("crash", "hang"):
                return None
            before = slot
        return None

    def _next(self, name: str) -> TrialSpec | None:
        try:
            return self._todo[name].get(timeout=0.2)
        except queue.Empty:
            return None

    def _due(self, before: TrialSpec, slot: TrialSpec) -> bool:
        """Whether a guest that made one trial well must be replaced before it makes another."""
        if self._job.isolation == "cell":
            return (before.variant, before.program.name) != (slot.variant, slot.program.name)
        return self._job.isolation == "trial"

    def _lacks(self, name: str, guest: Guest, slot: TrialSpec) -> bool:
        """Whether a guest lacks a trial's library, and a fresh one comes with it sooner than this one is given it."""
        said = self._job.configuration.guest(name)
        library = self._job.built[said.toolchain].library_target(said, slot.variant)
        return library not in guest.files and self._pools[name].restores(library)

    def _trial(
        self,
        made: RunningTrial,
        said: conf.Guest,
        built: Artifacts,
        guest: Guest,
        agent: Agent,
        say: Callable[[str], None],
        visit: Inspect | None = None,
    ) -> Outcome:
        slot = made.slot
        if words := built.broken.get((slot.variant, slot.program.name)):
            return self._not_compiled(made, words)
        library = guest.put(built.libgos[slot.variant].library, built.library_target(said, slot.variant))
        source = built.programs[slot.variant, slot.program.name]
        variant = self._job.configuration.variant(slot.variant)
        names = self._job.configuration.signal_names(slot.guest)
        env = program_environment(self._job.configuration, slot, self._job.cores is not None)
        env["LD_LIBRARY_PATH"] = str(Path(library).parent)

        def run(program: Path, keep: int = KEEP) -> _ProgramRun:
            executable = f"{said.folder}/bin/{program.parent.name}/{cores.executable(slot.program.source.stem)}"
            argv = [guest.ship(agent, program, executable), *slot.program.args]
            folder = str(Path(executable).parent / ("test" if slot.program.build.package else ""))
            if self._job.cores:
                argv = cores.allowed(argv)
            words = shlex.join(["env", *(f"{key}={value}" for key, value in env.items()), *argv])
            how = f"It was started so: cd {shlex.quote(folder)} && {words}"

            def at_limit(pid: int) -> str:
                say("collecting a dossier")
                made.parts.update(diagnostics.outside(guest.machine, made.mark))
                state = _suspended(guest, said.os, pid)
                made.parts.update(diagnostics.inside(guest.shell, said.os.probes, pid))
                if visit:
                    what = f"crashed and was suspended (state {state})" if state else "reached its time limit"
                    visit(guest.machine, f"{slot.program.name} {what}; it is there yet, as process {pid}. {how}")
                return state

            seen = observe(agent, argv, env, folder, slot.program.timeout, at_limit, keep)
            guest.machine.check()  # what a program did while the kernel died says nothing of the program
            return _ProgramRun(seen, executable, folder, how)

        if slot.program.build.output_flags:
            # Only the guest is sure to run what prints the program; the compiler is here.
            printed = run(source, PRINTED)
            if wrong := _no_program(printed.seen, signal_name(printed.seen, names)):
                _examine(guest, library, printed.executable)
                return self._outcome(made, printed.seen, signal_name(printed.seen, names), wrong)
            say("compiling what a program printed")
            try:
                source = built.compile_output(slot.variant, slot.program, printed.seen.stdout)
            except ProgramError as error:
                return self._not_compiled(made, str(error))
        trace = f"{said.folder}/lifetrace"
        if variant.trace:
            env[lifetrace.VARIABLE] = trace
        ran = run(source)
        seen, folder, how = ran.seen, ran.folder, ran.how
        signal = signal_name(seen, names)
        verdict = judge(seen, slot.program.expected, signal)
        if verdict.verdict != "pass":
            _examine(guest, library, ran.executable)
        reason = verdict.reason
        if self._job.cores and verdict.verdict == "crash":
            target = cores.place(self._job.cores, slot.guest, slot.variant, slot.program.name, slot.number)
            lib = built.libgos[slot.variant].library
            reason += f"; {cores.fetch(guest.shell, folder, target, source, [lib], say)}"
        attachments = made.parts
        if verdict.verdict != "pass":
            attachments |= diagnostics.console(guest.machine, made.mark)
        if visit and not seen.timed_out:
            visit(guest.machine, f"{slot.program.name} has ended: {verdict.verdict}, {reason}. {how}")
        if variant.trace:  # The library writes no file that is there already, so it goes at once.
            _, data, _ = guest.shell.run(f"cat {shlex.quote(trace)}; rm -f {shlex.quote(trace)}")
            attachments[LIFETRACE] = data
        return self._outcome(made, seen, signal, replace(verdict, reason=reason))

    def _outcome(self, made: RunningTrial, seen: Observation, signal: str, verdict: Judgement) -> Outcome:
        fields = _fields(made.slot, made.started, self._job.options)
        told = {"verdict": verdict.verdict, "reason": verdict.reason, "signature": verdict.signature}
        return Outcome(made.slot, {**fields, **_seen(seen, signal), **told}, made.parts)

    def _not_compiled(self, made: RunningTrial, words: str) -> Outcome:
        """A trial of a program that does not compile: that is its verdict, for nothing is wrong with the others."""
        said = words.partition("\n")[2] or words
        nothing = Observation(None, None, 0.0, b"", said.encode(), 0, len(said.encode()), False)
        return self._outcome(made, nothing, "", Judgement(Verdict.FAIL, f"{NOT_RUN[0]}{first_error(said)}"))


class _InfraError(GuestError):
    """A guest's trouble that cost a trial: both are told of already, and the trial is not this thread's any more."""
