"""The engine: joins plan, builds, guests, trials and the store. The command line and pytest are doors to it.

One thread a guest makes trials; the main thread alone writes the store and decides what is tried again.
"""

from __future__ import annotations

import os
import queue
import shlex
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from harness import conf, paths, plan
from harness.build import command, libgo, patches, program, source, toolchain, worktree
from harness.build.libgo import Libgo
from harness.build.toolchain import Toolchain
from harness.cache import Cache, file_digest
from harness.conf.load import BASELINE, TRACED
from harness.errors import ConfigError, GuestError, HarnessError, ProgramError, StoreError
from harness.guest import boot
from harness.guest.machine import Files, Machine
from harness.guest.pool import Guest, Pool
from harness.guest.shell import Agent
from harness.plan import Expectation, Program, Slot
from harness.progress import READY, Reporter
from harness.results import lifecycle
from harness.results import matrix as matrices
from harness.results.lifecycle import LifeCycle
from harness.results.matrix import Matrix, Trial
from harness.results.store import Run, Store, now
from harness.trial import lifetrace
from harness.trial.run import Observation, observe
from harness.trial.verdict import judge, signal_name

#: How often a trial that a guest spoilt is made again, and how often a guest may fail to boot in a row.
ATTEMPTS = 3
#: The agent's source, compiled for each toolchain.
AGENT = Path(__file__).parent / "guest" / "agent.c"
#: The patch that makes a libgo write its life-cycle trace.
LIFETRACE = paths.DATA / "conf" / "patches" / "lifetrace.patch"


@dataclass(frozen=True)
class Request:
    """What a user asks for. No variants means the usual ones."""

    selection: tuple[str, ...]
    guests: tuple[str, ...]
    variants: tuple[str, ...]
    trials: int
    jobs: int
    conf_files: tuple[Path, ...]
    work: Path


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
class Built:
    """All that was built for one toolchain: its agent, and libgos and programs by variant."""

    agent: Path
    libgos: dict[str, Libgo]
    programs: dict[tuple[str, str], Path]

    def agent_target(self, guest: conf.Guest) -> str:
        """Where the agent lies in a guest; its folder is the cache's, named by the hash of what made it."""
        return f"{guest.folder}/agent-{self.agent.parent.name}"

    def library_target(self, guest: conf.Guest, variant: str) -> str:
        """Where a variant's libgo lies in a guest."""
        lib = self.libgos[variant]
        return f"{guest.folder}/lib/{lib.key}/{lib.library.name}"


def load(conf_files: Sequence[Path], work: Path) -> conf.Configuration:
    """The given configuration, the work trees of a work directory, and the user's own files. Raises ConfigError."""
    return conf.load([*worktree.configurations(work), *conf_files])


def check_variants(names: Sequence[str], triples: Collection[str], configuration: conf.Configuration) -> None:
    """Raise ConfigError if there is no such variant, or one is for none of the target triples."""
    for name in names:
        variant = configuration.variant(name)
        if not any(map(variant.fits, triples)):
            raise ConfigError(f"variant {name} is for {', '.join(variant.only)} only, not for {', '.join(triples)}")


def new_variant(name: str, like: str, toolchain_name: str, configuration: conf.Configuration, work: Path) -> Path:
    """Make a work tree for a new variant that begins as another one. Returns its folder.

    Raises:
        ConfigError: there is a variant of that name already, or none to begin from.
        PatchError, BuildError, ToolMissing: it cannot be made.
    """
    if name in configuration.variants:
        raise ConfigError(f"there is a variant named {name} already")
    tools = toolchain.find(toolchain_name, configuration)
    if configuration.variant(like).prebuilt:
        raise ConfigError(f"variant {like} is prebuilt: it has no source to begin from")
    source_ = source.unpack(tools, Cache(paths.cache_dir()))
    return worktree.make(work, name, source_, recipe(like, configuration).patches, like, tools.version)


def traced(request: Request) -> Request:
    """A request for each of its variants as it is and with the life-cycle trace."""
    names = request.variants or load(request.conf_files, request.work).usual
    plain = [name.removesuffix(TRACED) for name in names]
    return replace(request, variants=tuple(each for name in plain for each in (name, name + TRACED)))


def build_variants(
    names: Sequence[str], tools: Toolchain, configuration: conf.Configuration, cache: Cache, report: Reporter
) -> dict[str, Libgo]:
    """Build the libgos of variants, side by side as the cores allow; those that come to the same share one.

    Raises:
        ConfigError, PatchError, BuildError, ToolMissing: one cannot be built.
    """
    recipes = {name: recipe(name, configuration) for name in names}
    by_key: dict[str, list[str]] = {}
    for name, one in recipes.items():
        by_key.setdefault(libgo.key(tools, one), []).append(name)

    def build(sharing: list[str]) -> Libgo:
        what = f"libgo {', '.join(sharing)}"
        made = libgo.build(tools, recipes[sharing[0]], cache, partial(report.step, what))
        report.step(what, READY)
        return made

    with ThreadPoolExecutor(os.cpu_count()) as threads, command.stoppable(threads):
        jobs = {
            name: job for sharing in by_key.values() for job in [threads.submit(build, sharing)] for name in sharing
        }
        wait(jobs.values(), return_when=FIRST_EXCEPTION)
        # The first that failed, not one that was stopped for it.
        for job in jobs.values():
            if job.done():
                job.result()
        return {name: jobs[name].result() for name in names}


def recipe(name: str, configuration: conf.Configuration) -> libgo.Recipe:
    """What a variant is made of. Raises ConfigError, PatchError, BuildError or ToolMissing."""
    said = configuration.variant(name)
    applied = [patches.read(file) for file in configuration.patches(name)]
    if tree := configuration.tree(name):
        applied.append(worktree.difference(tree))
    if said.trace:
        applied.append(patches.read(LIFETRACE))
    return libgo.Recipe(tuple(applied), tuple(said.configure), tuple(said.flags), said.prebuilt)


def run(request: Request, report: Reporter) -> tuple[Store, Run]:
    """Make all trials of a request, with everything that they need.

    Raises:
        HarnessError: bad input, before anything boots; or a guest that cannot be used, with all finished trials stored.
        KeyboardInterrupt: the user's; all finished trials are stored.
    """
    configuration = load(request.conf_files, request.work)
    request = replace(request, variants=tuple(dict.fromkeys(request.variants or configuration.usual)))
    guests = {name: configuration.guest(name) for name in request.guests}
    triples = {name: configuration.toolchain(guest.toolchain).triple for name, guest in guests.items()}
    check_variants(request.variants, triples.values(), configuration)
    chosen = plan.programs(request.selection)
    store = Store(request.work / "results.sqlite")
    cache = Cache(paths.cache_dir())
    # Compilers come first: to look for them takes a second, an image's download takes minutes.
    tools = {guest.toolchain: toolchain.find(guest.toolchain, configuration) for guest in guests.values()}
    files = {name: boot.files(name, configuration, partial(report.step, f"image {name}")) for name in guests}
    built: dict[str, Built] = {}
    for name, found in tools.items():
        fitting = [variant for variant in request.variants if configuration.variant(variant).fits(found.triple)]
        built[name] = _build(fitting, found, chosen, configuration, cache, report)
    variants = {name: configuration.variant(name) for name in request.variants}
    slots = list(plan.slots(guests, triples, variants, chosen, request.trials))
    number = store.begin(_describe(request, guests, chosen, built, files))
    threads = _Crew(request, configuration, files, built, cache, report)
    try:
        _make_trials(slots, threads, store, number, report)
    finally:
        threads.stop()
    store.finish(number)
    return store, store.run(number)


def matrix(store: Store, run_: Run) -> Matrix:
    """The matrix of a stored run."""
    said = run_.plan
    facts = {"run": run_.id, "created": run_.created, "finished": run_.finished or "no", **said["facts"]}
    return matrices.build(
        facts,
        said["guests"],
        said["variants"],
        said["programs"],
        BASELINE,
        store.trials(run_.id),
        store.events(run_.id),
    )


def rejudge(store: Store, run_: Run) -> list[tuple[Trial, Trial]]:
    """Judge the trials of a stored run again, by today's rules and by what was expected when the run was made.

    What a guest spoilt stays an error. A run of before expectations were stored is judged by its programs' files.

    Returns:
        The trials that changed, as they were and as they are now.

    Raises:
        StoreError: what was expected is not known, or the store cannot be written; nothing has changed then.
    """
    expected: dict[str, Expectation] = {
        name: Expectation.from_json(said) for name, said in run_.plan.get("expected", {}).items()
    }
    changed = []
    for trial in store.trials(run_.id):
        if trial.verdict == "error":
            continue
        if trial.program not in expected:
            expected[trial.program] = _expected_by_file(trial)
        seen = Observation(
            trial.exit_status, None, trial.seconds, trial.stdout, trial.stderr, trial.stdout_total, trial.stderr_total,
            timed_out=trial.verdict == "hang",
        )  # fmt: skip
        verdict = judge(seen, expected[trial.program], trial.signal)
        now_ = replace(trial, verdict=verdict.verdict, reason=verdict.reason, signature=verdict.signature)
        if now_ != trial:
            changed.append((trial, now_))
    store.judge(now_ for _, now_ in changed)
    return changed


def _expected_by_file(trial: Trial) -> Expectation:
    """What a program's file says today; the path stands in the command that runs the trial again."""
    source_ = Path(shlex.split(trial.command)[2])
    try:
        return plan.read(source_).expected
    except ProgramError as error:
        why = "is not stored with the run, and its file tells it no more"
        raise StoreError(f"what was expected of {trial.program} {why}: {error}") from error


def life_cycles(store: Store, run_: Run) -> list[LifeCycle]:
    """The life cycles of the traced programs of a stored run."""
    traces = {trial: lifetrace.parse(data) for trial, data in store.attachments(run_.id, LIFETRACE.stem)}
    return lifecycle.collect(store.trials(run_.id), traces, TRACED) if traces else []


@contextmanager
def fresh_guest(name: str, configuration: conf.Configuration, work: Path, report: Reporter) -> Iterator[Machine]:
    """A fresh guest that answers, for the time of the block. Raises as `boot.files` does, and GuestError."""
    say = partial(report.step, f"guest {name}")
    found = boot.files(name, configuration, partial(report.step, f"image {name}"))
    pool = Pool(name, configuration.guest(name), found, {}, Cache(paths.cache_dir()), say)
    with _folder(work) as folder:
        guest = pool.fresh(folder, say)
        try:
            guest.shell.close()
            say(READY)
            yield guest.machine
        finally:
            guest.machine.stop()


def _build(
    variants: Sequence[str],
    tools: Toolchain,
    chosen: Sequence[Program],
    configuration: conf.Configuration,
    cache: Cache,
    report: Reporter,
) -> Built:
    libgos = build_variants(variants, tools, configuration, cache, report)
    executables: dict[tuple[str, str], Path] = {}
    wanted = [(variant, one) for variant in variants for one in chosen]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        jobs = [threads.submit(program.build, one.source, tools, libgos[variant], cache) for variant, one in wanted]
        try:
            for done, ((variant, one), job) in enumerate(zip(wanted, jobs, strict=True), start=1):
                executables[variant, one.name] = job.result()
                report.count("programs", done, len(wanted), f"compiled {one.name}")
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise
    return Built(program.build_agent(AGENT, tools, cache), libgos, executables)


def _describe(
    request: Request,
    guests: dict[str, conf.Guest],
    chosen: Sequence[Program],
    built: dict[str, Built],
    files: dict[str, Files],
) -> dict[str, Any]:
    facts = {
        "command": shlex.join(["harness", *sys.argv[1:]]),
        "trials of each cell": request.trials,
        "libgo": {name: lib.key for one in built.values() for name, lib in one.libgos.items()},
        "guest": {name: f"{guest.qemu}, {guest.machine}, {guest.memory} MiB" for name, guest in guests.items()},
        "kernel": {name: file_digest(one.kernel) for name, one in files.items() if one.kernel},
    }
    return {
        "guests": list(guests),
        "variants": list(request.variants),
        "programs": [one.name for one in chosen],
        "expected": {one.name: one.expected.to_json() for one in chosen},
        "trials": request.trials,
        "facts": facts,
    }


def _make_trials(slots: Sequence[Slot], crew: _Crew, store: Store, run_: int, report: Reporter) -> None:
    """Hand out slots, store what comes back, and hand out again what a guest spoilt."""
    todo = {slot: 1 for slot in slots}  # the attempt that each slot is at
    crew.start(slots)
    done = 0
    while todo:
        outcome = crew.results.get()
        if outcome.trouble is not None:
            store.event(run_, *outcome.trouble)
        if outcome.failure is not None:
            raise outcome.failure
        if outcome.slot is None:
            continue
        slot, trial = outcome.slot, outcome.trial
        attempt = todo[slot]
        store.add(run_, Trial(**{**trial, "attempt": attempt}), outcome.attachments)
        if trial["verdict"] == "error" and attempt < ATTEMPTS:
            todo[slot] = attempt + 1
            crew.todo[slot.guest].put(slot)
            continue
        del todo[slot]
        done += 1
        report.count("trials", done, len(slots), f"{trial['verdict']} {slot.program.name} ({slot.variant})")


class _Crew:
    """The threads, each with a guest of its own."""

    def __init__(
        self,
        request: Request,
        configuration: conf.Configuration,
        files: dict[str, Files],
        built: dict[str, Built],
        cache: Cache,
        report: Reporter,
    ) -> None:
        self._request, self._configuration, self._files = request, configuration, files
        self._built, self._cache, self._report = built, cache, report
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self.todo: dict[str, queue.Queue[Slot]] = {name: queue.Queue() for name in files}
        self.results: queue.Queue[Outcome] = queue.Queue()
        self._pools = {name: self._pool(name) for name in files}

    def start(self, slots: Sequence[Slot]) -> None:
        """Start as many guests as were asked for and have something to do."""
        for slot in slots:
            self.todo[slot.guest].put(slot)
        each = max(1, self._request.jobs // max(1, len(self.todo)))
        for name, waiting in self.todo.items():
            for index in range(min(each, waiting.qsize())):
                thread = threading.Thread(target=self._work, args=(name, f"guest {name} {index + 1}"), daemon=True)
                thread.start()
                self._threads.append(thread)

    def stop(self) -> None:
        """End all guests."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _pool(self, name: str) -> Pool:
        guest, built = self._configuration.guest(name), self._built[self._configuration.guest(name).toolchain]
        contents = {built.agent_target(guest): built.agent}
        contents |= {built.library_target(guest, variant): lib.library for variant, lib in built.libgos.items()}
        trouble = partial(self._tell, name)
        return Pool(name, guest, self._files[name], contents, self._cache, trouble)

    def _tell(self, name: str, text: str) -> None:
        """Have a guest's trouble shown and stored."""
        self._report.step(f"guest {name}", f"trouble: {text.splitlines()[0]}")
        self.results.put(Outcome(trouble=(name, text)))

    def _work(self, name: str, label: str) -> None:
        failures = 0
        say = partial(self._report.step, label)
        try:
            while not self._stop.is_set() and failures < ATTEMPTS:
                with _folder(self._request.work) as folder:
                    guest = None
                    try:
                        guest = self._pools[name].fresh(folder, say, self._stop.is_set)
                        failures = 0
                        self._serve(name, guest, say)
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

    def _serve(self, name: str, guest: Guest, say: Callable[[str], None]) -> None:
        """Make trials in a guest until the run stops or the guest is in trouble, which is raised as GuestError."""
        said = self._configuration.guest(name)
        built = self._built[said.toolchain]
        agent = guest.shell.agent(guest.put(built.agent, built.agent_target(said)))
        say(READY)
        while not self._stop.is_set():
            try:
                slot = self.todo[name].get(timeout=0.2)
            except queue.Empty:
                continue
            started = now()
            try:
                self.results.put(self._trial(slot, said, built, guest, agent, started))
            except GuestError as error:
                why = str(error) if guest.machine.alive() else f"QEMU ended: {error}"
                self.results.put(Outcome(slot, _spoilt(slot, why, started)))
                raise GuestError(f"{slot.program.name} ({slot.variant}): {why}", guest.machine.last_lines()) from error

    def _trial(
        self,
        slot: Slot,
        said: conf.Guest,
        built: Built,
        guest: Guest,
        agent: Agent,
        started: str,
    ) -> Outcome:
        library = guest.put(built.libgos[slot.variant].library, built.library_target(said, slot.variant))
        source = built.programs[slot.variant, slot.program.name]
        executable = guest.put(source, f"{said.folder}/bin/{source.parent.name}/{slot.program.source.stem}")
        variant = self._configuration.variant(slot.variant)
        env = {**said.env, **slot.program.env, **variant.env, "LD_LIBRARY_PATH": str(Path(library).parent)}
        trace = f"{said.folder}/lifetrace"
        if variant.trace:
            env[lifetrace.VARIABLE] = trace
        argv = [executable, *slot.program.args]
        seen = observe(agent, argv, env, str(Path(executable).parent), slot.program.timeout)
        signal = signal_name(seen, self._configuration.signal_names(slot.guest))
        verdict = judge(seen, slot.program.expected, signal)
        fields = {
            **_fields(slot, started),
            "verdict": verdict.verdict,
            "reason": verdict.reason,
            "signature": verdict.signature,
            "exit_status": seen.exit_status,
            "signal": signal,
            "seconds": seen.seconds,
            "stdout": seen.stdout,
            "stderr": seen.stderr,
            "stdout_total": seen.stdout_total,
            "stderr_total": seen.stderr_total,
        }
        attachments = {}
        if variant.trace:  # The library writes no file that is there already, so it goes at once.
            _, data, _ = guest.shell.run(f"cat {shlex.quote(trace)}; rm -f {shlex.quote(trace)}")
            attachments[LIFETRACE.stem] = data
        return Outcome(slot, fields, attachments)


def _fields(slot: Slot, started: str) -> dict[str, Any]:
    again = ["harness", "run", str(slot.program.source), "--guest", slot.guest, "--variant", slot.variant]
    return {
        "id": 0,
        "guest": slot.guest,
        "variant": slot.variant,
        "program": slot.program.name,
        "number": slot.number,
        "started": started,
        "command": shlex.join(again),
    }


def _spoilt(slot: Slot, why: str, started: str) -> dict[str, Any]:
    nothing = {"signature": "", "exit_status": None, "signal": "", "seconds": 0.0, "stdout": b"", "stderr": b""}
    return {
        **_fields(slot, started),
        **nothing,
        "verdict": "error",
        "reason": why,
        "stdout_total": 0,
        "stderr_total": 0,
    }


@contextmanager
def _folder(work: Path) -> Iterator[Path]:
    """A folder of its own for a guest, gone after the block; what killed processes left goes too."""
    parent = work / "guests"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for old in parent.iterdir():
            if not Path("/proc", old.name.split("-")[0]).exists():
                shutil.rmtree(old, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=parent))
    except OSError as error:
        raise HarnessError(f"{parent}: cannot be written: {error.strerror}") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
