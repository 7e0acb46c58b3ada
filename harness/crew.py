"""The crew: one thread a guest, which makes trials in it and sees to it that it is fresh when it must be.

Results go to a queue; whoever reads it stores them and decides what is tried again. Knows nothing of the store.
"""

from __future__ import annotations

import fcntl
import os
import queue
import shlex
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

from harness import conf
from harness.build.command import first_error
from harness.build.gotags import Target
from harness.build.libgo import Libgo
from harness.cache import Cache, lock
from harness.errors import GuestError, HarnessError, ProgramError
from harness.guest.machine import Files, Machine
from harness.guest.pool import Guest, Pool
from harness.guest.shell import Agent
from harness.guest.system import System
from harness.plan import Expectation, Program, Slot
from harness.progress import READY, Reporter
from harness.results.store import now
from harness.trial import cores, dossier, lifetrace
from harness.trial.run import KEEP, Observation, observe
from harness.trial.verdict import Verdict, judge, signal_name

#: How often a trial that a guest spoilt is made again, and how often a guest may fail in a row.
ATTEMPTS = 3
#: Seconds that a guest may say nothing when it is asked for its processes, and for a sign of life, before trials and
#: after one that went wrong.
LISTING, PING = 20.0, 60.0
#: When a guest is replaced by a fresh one: after every trial, before another cell's trial, or after a crash or hang.
Isolation = Literal["trial", "cell", "on-trouble"]
#: Bytes that a program may print that prints a program; the longest of GCC's is 1.3 MB.
PRINTED = 16 << 20
#: What the reason begins with of a trial whose program was not run.
NOT_RUN = ("does not compile: ", "printing a program: ")
#: The folder in the work directory for screenshots of guests in trouble.
SCREENS = "screens"
#: The name under which a life-cycle trace is stored.
LIFETRACE = "lifetrace"
#: Called with the machine as a trial left it, a program that hangs still in it, and told of that in words.
Visit = Callable[[Machine, str], None]


@dataclass(frozen=True)
class Built:
    """All that was built for one toolchain: its agent, and libgos and programs by variant.

    Attributes:
        broken: what the compiler said of programs that do not compile.
        compile_output: builds what a program printed with a variant; raises ProgramError.
    """

    agent: Path
    libgos: dict[str, Libgo]
    programs: dict[tuple[str, str], Path]
    broken: dict[tuple[str, str], str]
    compile_output: Callable[[str, Program, bytes], Path]

    def agent_target(self, guest: conf.Guest) -> str:
        """Where the agent lies in a guest; its folder is the cache's, named by the hash of what made it."""
        return f"{guest.folder}/agent-{self.agent.parent.name}"

    def contents(self, guest: conf.Guest, variants: Iterable[str]) -> dict[str, Path]:
        """The files that a guest needs for trials with these variants, by where they lie in it."""
        libraries = {self.library_target(guest, one): self.libgos[one].library for one in variants}
        return {self.agent_target(guest): self.agent, **libraries}

    def library_target(self, guest: conf.Guest, variant: str) -> str:
        """Where a variant's libgo lies in a guest."""
        lib = self.libgos[variant]
        return f"{guest.folder}/lib/{lib.key}/{lib.library.name}"


@dataclass(frozen=True)
class Outcome:
    """What a thread reports: a trial that came of a slot, a guest's trouble, or a failure that ends the run.

    Attributes:
        trial: the fields of the stored trial, but for the attempt.
        attachments: what was collected of it, by name.
        trouble: the guest and what happened to it.
    """

    slot: Slot | None = None
    trial: dict[str, Any] = field(default_factory=dict)
    attachments: dict[str, bytes] = field(default_factory=dict)
    trouble: tuple[str, str] | None = None
    failure: BaseException | None = None


@dataclass(frozen=True)
class Job:
    """What a crew works on.

    Attributes:
        built: what was built, by toolchain.
        files: what each guest boots from, by name.
        cores: where core files go, or None if none are wanted.
        options: what the command that runs a trial again needs besides the trial's own cell.
        failed_boots: by guest, how many of its boots have failed already.
    """

    configuration: conf.Configuration
    files: Mapping[str, Files]
    built: Mapping[str, Built]
    work: Path
    cache: Cache
    isolation: Isolation
    cores: Path | None
    options: tuple[str, ...] = ()
    failed_boots: Mapping[str, int] = field(default_factory=dict)


@dataclass
class _Made:
    """A trial that is being made: `mark` is where the console was when it began, `parts` are those of its dossier."""

    slot: Slot
    started: str
    mark: int
    parts: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class _Ran:
    """A program that ran in a guest: what was seen, where its file is, the folder it ran in, and how to start it."""

    seen: Observation
    executable: str
    folder: str
    how: str


class Makers(Protocol):
    """Whoever makes trials: the threads of this machine, or the workers of several (harness/cluster.py)."""

    results: queue.SimpleQueue[Outcome]

    def start(self, guests: Mapping[str, int]) -> None:
        """See to it that so many guests of each name are there."""

    def put(self, slot: Slot) -> None:
        """Have a trial made."""

    def drain(self) -> list[Slot]:
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


class Crew(Makers):
    """The threads.

    Attributes:
        results: what they report.
    """

    def __init__(self, job: Job, report: Reporter) -> None:
        self._job, self._report = job, report
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._started: Counter[str] = Counter()
        self._todo: dict[str, queue.Queue[Slot]] = {name: queue.Queue() for name in job.files}
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

    def put(self, slot: Slot) -> None:
        """Have a trial made."""
        self._todo[slot.guest].put(slot)

    def drain(self) -> list[Slot]:
        """Take back the slots that no thread has taken yet. Trials that are being made go on."""
        left = []
        for waiting in self._todo.values():
            with suppress(queue.Empty):
                while True:
                    left.append(waiting.get_nowait())
        return left

    def attend(self, slot: Slot, visit: Visit) -> Outcome:
        """Make one trial in a fresh guest, in this thread, and have the guest visited as the trial leaves it.

        Raises:
            GuestError: the guest is in trouble.
        """
        label = f"guest {slot.guest}"
        say = partial(self._report.step, label)
        said = self._job.configuration.guest(slot.guest)
        built = self._job.built[said.toolchain]
        with folder_for_guest(self._job.work) as folder:
            guest = self._pools[slot.guest].fresh(folder, say)
            try:
                agent = self._agent(slot.guest, guest)
                say(f"{slot.program.name} ({slot.variant})")
                made = _Made(slot, now(), guest.machine.console.mark())
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
                with folder_for_guest(self._job.work) as folder:
                    guest = None
                    try:
                        guest = self._pools[name].fresh(folder, say, self._stop.is_set)
                        agent = self._agent(name, guest)
                        failures = 0
                        held = self._serve(name, label, guest, agent, held)
                    except _Spoilt:
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
            guest.shell.run(said.ways.core_setup)
        agent = guest.shell.agent(guest.put(built.agent, built.agent_target(said)))
        observe(agent, ["/bin/sh", "-c", ":"], {}, "/", PING)
        return agent

    def _serve(self, name: str, label: str, guest: Guest, agent: Agent, held: Slot | None) -> Slot | None:
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
        before: Slot | None = None
        while not self._stop.is_set():
            slot = held or self._next(name)
            held = None
            if slot is None:
                continue
            if before and (self._due(before, slot) or self._lacks(name, guest, slot)):
                return slot
            made = _Made(slot, now(), guest.machine.console.mark())
            self._report.doing(label, f"{slot.program.name} ({slot.variant})")
            try:
                outcome = self._trial(made, said, built, guest, agent, partial(self._report.step, label))
            except GuestError as error:
                if self._stop.is_set():
                    raise
                why = guest.machine.trouble() or str(error)
                parts = {**made.parts, **dossier.outside(guest.machine, made.mark)}
                # Its trouble is told of first: nobody listens after the last trial.
                self._tell(name, guest.machine.failure(f"{slot.program.name} ({slot.variant}): {why}").whole())
                self.results.put(Outcome(slot, spoilt(slot, why, made.started, self._job.options), parts))
                raise _Spoilt(why) from error
            self.results.put(outcome)
            self._report.doing(label, READY)
            if outcome.trial["verdict"] in ("crash", "hang"):
                return None
            before = slot
        return None

    def _next(self, name: str) -> Slot | None:
        try:
            return self._todo[name].get(timeout=0.2)
        except queue.Empty:
            return None

    def _due(self, before: Slot, slot: Slot) -> bool:
        """Whether a guest that made one trial well must be replaced before it makes another."""
        if self._job.isolation == "cell":
            return (before.variant, before.program.name) != (slot.variant, slot.program.name)
        return self._job.isolation == "trial"

    def _lacks(self, name: str, guest: Guest, slot: Slot) -> bool:
        """Whether a guest lacks a trial's library, and a fresh one comes with it sooner than this one is given it."""
        said = self._job.configuration.guest(name)
        library = self._job.built[said.toolchain].library_target(said, slot.variant)
        return library not in guest.files and self._pools[name].restores(library)

    def _trial(
        self,
        made: _Made,
        said: conf.Guest,
        built: Built,
        guest: Guest,
        agent: Agent,
        say: Callable[[str], None],
        visit: Visit | None = None,
    ) -> Outcome:
        slot = made.slot
        if words := built.broken.get((slot.variant, slot.program.name)):
            return self._not_compiled(made, words)
        library = guest.put(built.libgos[slot.variant].library, built.library_target(said, slot.variant))
        source = built.programs[slot.variant, slot.program.name]
        variant = self._job.configuration.variant(slot.variant)
        names = self._job.configuration.signal_names(slot.guest)
        env = environment(self._job.configuration, slot, self._job.cores is not None)
        env["LD_LIBRARY_PATH"] = str(Path(library).parent)

        def run(program: Path, keep: int = KEEP) -> _Ran:
            executable = f"{said.folder}/bin/{program.parent.name}/{cores.executable(slot.program.source.stem)}"
            argv = [guest.ship(agent, program, executable), *slot.program.args]
            folder = str(Path(executable).parent / ("test" if slot.program.made.package else ""))
            if self._job.cores:
                argv = cores.allowed(argv)
            words = shlex.join(["env", *(f"{key}={value}" for key, value in env.items()), *argv])
            how = f"It was started so: cd {shlex.quote(folder)} && {words}"

            def at_limit(pid: int) -> str:
                say("collecting a dossier")
                made.parts.update(dossier.outside(guest.machine, made.mark))
                state = _suspended(guest, said.ways, pid)
                made.parts.update(dossier.inside(guest.shell, said.ways.looks, pid))
                if visit:
                    what = f"crashed and was suspended (state {state})" if state else "reached its time limit"
                    visit(guest.machine, f"{slot.program.name} {what}; it is there yet, as process {pid}. {how}")
                return state

            seen = observe(agent, argv, env, folder, slot.program.timeout, at_limit, keep)
            guest.machine.check()  # what a program did while the kernel died says nothing of the program
            return _Ran(seen, executable, folder, how)

        if slot.program.made.output_flags:
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
            attachments |= dossier.console(guest.machine, made.mark)
        if visit and not seen.timed_out:
            visit(guest.machine, f"{slot.program.name} has ended: {verdict.verdict}, {reason}. {how}")
        if variant.trace:  # The library writes no file that is there already, so it goes at once.
            _, data, _ = guest.shell.run(f"cat {shlex.quote(trace)}; rm -f {shlex.quote(trace)}")
            attachments[LIFETRACE] = data
        return self._outcome(made, seen, signal, replace(verdict, reason=reason))

    def _outcome(self, made: _Made, seen: Observation, signal: str, verdict: Verdict) -> Outcome:
        fields = _fields(made.slot, made.started, self._job.options)
        told = {"verdict": verdict.verdict, "reason": verdict.reason, "signature": verdict.signature}
        return Outcome(made.slot, {**fields, **_seen(seen, signal), **told}, made.parts)

    def _not_compiled(self, made: _Made, words: str) -> Outcome:
        """A trial of a program that does not compile: that is its verdict, for nothing is wrong with the others."""
        said = words.partition("\n")[2] or words
        nothing = Observation(None, None, 0.0, b"", said.encode(), 0, len(said.encode()), False)
        return self._outcome(made, nothing, "", Verdict("fail", f"{NOT_RUN[0]}{first_error(said)}"))


def environment(configuration: conf.Configuration, slot: Slot, cores_: bool) -> dict[str, str]:
    """What the environment of a trial's program has besides the guest's own, and the way to its library.

    Args:
        cores_: whether core files are wanted.
    """
    said = configuration.guest(slot.guest)
    own = said.ways.environment(said.env, cores_)
    program = slot.program.env
    if slot.program.foreign:
        goarch = Target.of(configuration.toolchain(said.toolchain).triple).goarch
        program = {name: value.replace("{goarch}", goarch) for name, value in program.items()}
    return {**own, **program, **configuration.variant(slot.variant).env}


class _Spoilt(GuestError):
    """A guest's trouble that cost a trial: both are told of already, and the trial is not this thread's any more."""


def _suspended(guest: Guest, ways: System, pid: int) -> str:
    """The state of a program whose crash its guest suspended. A guest that does not say is no trouble yet."""
    if not ways.crashed:
        return ""
    try:
        _, out, _ = guest.shell.run(ways.listing, LISTING)
    except GuestError:
        return ""
    return ways.suspended(out.decode(errors="replace"), pid)


def _examine(guest: Guest, library: str, executable: str) -> None:
    """Look whether it may be a guest's doing that a trial went wrong.

    Raises:
        GuestError: it gives no sign of life, its disk is full, or what it was given is gone.
    """
    files = [shlex.quote(file) for file in (library, executable)]
    look = f'for file in {" ".join(files)}; do [ -s "$file" ] || {{ echo "$file is gone" >&2; exit 1; }}; done'
    try:
        status, _, err = guest.shell.run(f"{look}; cat {files[1]} >{files[1]}.copy && rm -f {files[1]}.copy", PING)
    except GuestError as error:
        raise GuestError(f"the guest itself hangs: {str(error).rpartition(': ')[2]}") from error
    if status:
        raise GuestError(f"the guest is not as it was: {err.decode(errors='replace').strip()}")


def _fields(slot: Slot, started: str, options: Sequence[str]) -> dict[str, Any]:
    again = ["harness", "run", slot.program.word, "--guest", slot.guest, "--variant", slot.variant, *options]
    return {
        "id": 0,
        "guest": slot.guest,
        "variant": slot.variant,
        "program": slot.program.name,
        "number": slot.number,
        "started": started,
        "command": shlex.join(again),
    }


def _seen(seen: Observation, signal: str) -> dict[str, Any]:
    return {
        "exit_status": seen.exit_status,
        "signal": signal,
        "seconds": seen.seconds,
        "stdout": seen.stdout,
        "stderr": seen.stderr,
        "stdout_total": seen.stdout_total,
        "stderr_total": seen.stderr_total,
    }


def spoilt(slot: Slot, why: str, started: str, options: Sequence[str]) -> dict[str, Any]:
    """The fields of a stored trial that came to nothing, for no fault of its program's."""
    nothing = Observation(None, None, 0.0, b"", b"", 0, 0, False)
    return {**_fields(slot, started, options), **_seen(nothing, ""), "verdict": "error", "reason": why, "signature": ""}


def _no_program(seen: Observation, signal: str) -> Verdict | None:
    """The verdict on a program that should have printed a program and did not; None if it did."""
    verdict = judge(seen, Expectation(), signal)
    if verdict.verdict == "pass":
        if seen.stdout_total == len(seen.stdout):
            return None
        verdict = Verdict("fail", f"it is {seen.stdout_total} bytes long, and {PRINTED} are kept")
    return replace(verdict, reason=f"{NOT_RUN[1]}{verdict.reason}")


@contextmanager
def folder_for_guest(work: Path) -> Iterator[Path]:
    """A folder of its own for a guest, gone after the block; what killed processes left goes too.

    Raises:
        HarnessError: it cannot be made.
    """
    parent = work / "guests"
    held = -1
    try:
        with lock(parent / ".lock"):
            for old in parent.glob("[!.]*"):
                _remove_if_free(old)
            folder = Path(tempfile.mkdtemp(dir=parent))
            held = os.open(folder, os.O_RDONLY)
            fcntl.flock(held, fcntl.LOCK_EX)  # for as long as this process lives, and it is nobody else's
    except OSError as error:
        raise HarnessError(f"{parent}: cannot be written: {error.strerror}") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def _remove_if_free(folder: Path) -> None:
    """Remove a guest's folder whose process is gone."""
    try:
        held = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        pass
    finally:
        os.close(held)
