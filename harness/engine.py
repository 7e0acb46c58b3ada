"""The engine: joins plan, builds, guests, trials and the store. The command line and pytest are doors to it.

The crew's threads make trials; the main thread alone writes the store and decides what is tried again.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import re
import shlex
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, as_completed, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from harness import __version__, conf, gccsuites, paths, plan, shards
from harness.build import command, gotest, libgo, patches, program, source, toolchain, worktree
from harness.build.gotags import Target
from harness.build.libgo import Libgo
from harness.build.toolchain import Toolchain
from harness.cache import Cache, digest, file_digest, lock
from harness.conf.load import BASELINE, TRACED
from harness.crew import (
    ATTEMPTS,
    LIFETRACE,
    NOT_RUN,
    SCREENS,
    Built,
    Crew,
    Isolation,
    Job,
    Makers,
    Outcome,
    Visit,
    folder_for_guest,
)
from harness.errors import ConfigError, GuestError, HarnessError, ProgramError, StoreError, ToolMissing
from harness.guest import boot, ciphers, dry_start, image
from harness.guest.machine import Files, Machine, qemu_version
from harness.guest.pool import Pool
from harness.plan import Expectation, Program, Slot
from harness.progress import READY, Reporter
from harness.results import lifecycle, sequential
from harness.results import matrix as matrices
from harness.results.expected import Entry
from harness.results.lifecycle import LifeCycle
from harness.results.matrix import Matrix, Trial
from harness.results.merge import source as source_of
from harness.results.store import Run, Store
from harness.shards import CellKey, Shard, Times
from harness.trial import lifetrace
from harness.trial.run import Observation
from harness.trial.verdict import judge, suspended

_log = logging.getLogger(__name__)

#: The agent's source, compiled for each toolchain.
AGENT = Path(__file__).parent / "guest" / "agent.c"
#: The patch that makes a libgo write its life-cycle trace.
TRACE_PATCH = paths.DATA / "conf" / "patches" / "lifetrace.patch"
#: MiB that QEMU takes besides the guest's memory.
_QEMU = 200


@dataclass(frozen=True)
class Request:
    """What a user asks for.

    Attributes:
        variants: none means the usual ones.
        jobs: how many guests run side by side; None means as many as the cores and the memory allow.
        cores: whether the core files of crashes are wanted.
        isolation: when a guest is replaced by a fresh one.
        until_sure: make trials of a cell only for as long as they can decide whether it differs from the baseline's;
            `trials` is the most then.
        shard: which job of how many this is, counted from 1: only its part of the trials is made.
        times: what the jobs are cut by.
        traced: selects programs of which each libgo's threads are counted as well, in one trial more.
    """

    selection: tuple[str, ...]
    guests: tuple[str, ...]
    variants: tuple[str, ...]
    trials: int
    jobs: int | None
    conf_files: tuple[Path, ...]
    work: Path
    cores: bool = False
    isolation: Isolation = "on-trouble"
    until_sure: bool = False
    shard: tuple[int, int] | None = None
    times: Times = field(default_factory=Times)
    traced: tuple[str, ...] = ()


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
    names: Sequence[str],
    tools: Toolchain,
    configuration: conf.Configuration,
    cache: Cache,
    report: Reporter,
    stopped: Callable[[], bool] = lambda: False,
) -> dict[str, Libgo]:
    """Build the libgos of variants, side by side as the cores allow; those that come to the same share one.

    Args:
        stopped: asked now and then whether to give up; if so, it is as if the user had interrupted it.

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
        while wait(jobs.values(), timeout=0.5, return_when=FIRST_EXCEPTION).not_done:
            if any(job.done() and job.exception() for job in jobs.values()):
                break
            if stopped():
                raise KeyboardInterrupt
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
        applied.append(patches.read(TRACE_PATCH))
    return libgo.Recipe(tuple(applied), tuple(said.configure), tuple(said.flags), said.prebuilt)


@dataclass(frozen=True)
class Batch:
    """Trials that are made side by side; the next batch begins when all of them are stored.

    Attributes:
        slots: by guest, what makes its slots in their order, anew at each call.
        further: how many more the batches to come may ask for, at most.
        expected: asked now and then how many more trials there will be, about. Then the slots are made one by one, each
            when one before it is stored, and end when they like; all guests there may be make them.
    """

    slots: Mapping[str, Callable[[], Iterable[Slot]]]
    further: int = 0
    expected: Callable[[], int] | None = None


@dataclass(frozen=True)
class Door:
    """How a caller in another thread takes part in a run.

    Attributes:
        batches: the trials that it wants of those that were asked for, in its own order. It may wait for the next.
        finished: told of each trial that is stored and not made again.
        stopped: when it is set, the run ends at once, as if interrupted.
    """

    batches: Iterable[Batch]
    finished: Callable[[Trial], None]
    stopped: threading.Event


def run(
    request: Request,
    report: Reporter,
    resume: int | None = None,
    door: Door | None = None,
    scheduler: str | None = None,
) -> tuple[Store, Run]:
    """Make all trials of a request, with everything that they need.

    Args:
        resume: the number of a run that this request was of; only what it lacks is made.
        door: what the caller has to do with it. Such a run cannot be resumed.
        scheduler: that of the cluster which makes the trials (harness/cluster.py); None means this machine.

    Raises:
        HarnessError: bad input, before anything boots; or a guest that cannot be used, with all finished trials stored.
        Interrupted: the user's doing; all finished trials are stored.
    """
    asked = read(request)
    request = asked.request
    if door is None:
        asked.cell()  # there is one
    if request.until_sure:
        _check_decidable(list(asked.slots(asked.guests, trials=1)), request.trials)
    if scheduler is not None:
        _check_for_cluster(asked, scheduler)
    store = Store(request.work / "results.sqlite")
    provided = provide(asked, report, door, boot_here=scheduler is None)
    described = {**provided.described, "resumable": door is None}
    if resume is not None:
        check_same(store.run(resume), described, f"run {resume} cannot go on")
    number = store.begin(described) if resume is None else resume
    batches: Iterable[Batch]
    if door:
        batches = door.batches
    elif request.until_sure:
        cells = list(asked.slots(asked.guests, trials=1))
        batches = _rounds(cells, request.trials, partial(store.outcomes, number), report)
        if asked.traced:
            batches = chain([Batch({name: partial(asked.traced_slots, name) for name in asked.guests})], batches)
    else:
        batches = [Batch({name: partial(asked.all_slots, name) for name in asked.guests})]
    resumed = resume is not None
    conduct(asked, provided, store, number, report, lambda makers, interrupted: batches, resumed, door, scheduler)
    store.finish(number)
    return store, store.run(number)


def conduct(
    asked: Asked,
    provided: Provided,
    store: Store,
    number: int,
    report: Reporter,
    batches: Callable[[Makers, Callable[[], bool]], Iterable[Batch]],
    resume: bool = False,
    door: Door | None = None,
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
        job, guests = _job(asked, provided, kept), _guests_each(request, asked.guests)
        makers: Makers
        if scheduler is None:
            makers = Crew(job, report)
        else:
            makers, guests = _cluster(job, report, scheduler, guests)
        conductor = _Conductor(makers, store, number, report, guests, door)
        try:
            conductor.conduct(batches(makers, conductor.interrupted), resume)
        finally:
            _note_times(store, number, report)


def add_variant(
    name: str, asked: Asked, provided: Provided, report: Reporter, stopped: Callable[[], bool] = lambda: False
) -> None:
    """Build one more variant, with its programs, for trials that are being made.

    Args:
        stopped: as for `build_variants`.

    Raises:
        PatchError, BuildError: it cannot be built.
        ProgramError: a program does not compile with it.
    """
    for key in {guest.toolchain for guest in asked.guests.values()}:
        tools = toolchain.find(key, asked.configuration)
        cache = Cache(paths.cache_dir())
        made = _build({name: asked.programs}, tools, asked.configuration, cache, report, [], stopped)
        for words in made.broken.values():
            raise ProgramError(words)
        provided.built[key].programs.update(made.programs)
        provided.built[key].libgos.update(made.libgos)


def _check_for_cluster(asked: Asked, address: str) -> None:
    """Raise ConfigError if a cluster cannot make a request, or there is none, and ToolMissing if dask is not there.

    Raises also what `dry_start.check` raises, if none of its workers could start the guests.
    """
    if asked.request.cores:
        raise ConfigError(
            "--cores and --scheduler do not go together: a core stays on the machine that it is written on"
        )
    if printing := [one.name for one in asked.programs if one.made.output_flags]:
        raise ConfigError(
            f"{printing[0]} prints a program, which must be compiled here: --scheduler cannot be used with it"
        )
    try:
        from harness import cluster
    except ImportError as error:
        raise ToolMissing(f"--scheduler takes the extra `cluster` of the harness ({error.name} is missing)") from error
    if address == cluster.LOCAL:
        for name in asked.guests:
            dry_start.check(name, asked.configuration)
    else:
        cluster.check(address, asked.configuration, list(asked.guests))


def _cluster(job: Job, report: Reporter, address: str, guests: Mapping[str, int]) -> tuple[Makers, dict[str, int]]:
    """The workers of a cluster, and how many trials on each guest they are given at a time.

    Args:
        guests: those that this machine could have.

    Raises:
        ConfigError: it cannot be had.
    """
    from harness import cluster  # an extra

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


@dataclass(frozen=True)
class Asked:
    """A request, read and found to be right. `triples` are the target triples of the guests.

    Attributes:
        traced: the programs of which threads are counted as well.
        part: what the job makes, if it is one of several.
        whole: what is told of all the jobs, for those who put them together.
    """

    request: Request
    configuration: conf.Configuration
    guests: dict[str, conf.Guest]
    triples: dict[str, str]
    programs: list[Program]
    traced: tuple[Program, ...] = ()
    part: Shard | None = None
    whole: dict[str, Any] | None = None

    @property
    def variants(self) -> list[str]:
        """The libgos that are needed: those of the matrix, then those that count threads besides."""
        return [*self.request.variants, *(self.traced_variants if self.traced else [])]

    @property
    def traced_variants(self) -> list[str]:
        """Those of the request with the trace, if they are not in the request themselves."""
        plain = dict.fromkeys(name.removesuffix(TRACED) for name in self.request.variants)
        return [name + TRACED for name in plain if name + TRACED not in self.request.variants]

    def programs_of(self, variant: str) -> Sequence[Program]:
        """The programs that are run with one of `variants`."""
        return self.programs if variant in self.request.variants else self.traced

    def traced_slots(self, name: str) -> Iterator[Slot]:
        """The trials of a guest that count threads, and are in no cell of the matrix: one of each program."""
        traced_variants = self.traced_variants if self.traced else []  # a prebuilt one has none
        variants = {variant: self.configuration.variant(variant) for variant in traced_variants}
        return plan.slots({name: self.guests[name]}, self.triples, variants, self.traced, 1)

    def all_slots(self, name: str) -> Iterator[Slot]:
        """All trials of a guest, those that count threads last."""
        return chain(self.slots({name: self.guests[name]}, self.request.trials), self.traced_slots(name))

    def slots(self, guests: Mapping[str, conf.Guest], trials: int) -> Iterator[Slot]:
        """All trials of some of the guests, so many of each cell, in their order."""
        variants = {name: self.configuration.variant(name) for name in self.request.variants}
        found = plan.slots(guests, self.triples, variants, self.programs, trials)
        return found if self.part is None else filter(self.part.has, found)

    def cut(self, jobs: int) -> list[Shard]:
        """The trials cut into so many jobs. Raises ConfigError if they cannot be, ProgramError if there are none."""
        if self.request.until_sure:
            raise ConfigError("a run until it is sure looks at the whole matrix after every round: it cannot be cut")
        self.cell()
        cells = [(one.guest, one.variant, one.program.name) for one in self.slots(self.guests, trials=1)]
        return shards.cut(cells, self.request.trials, self.request.times, jobs)

    def cell(self) -> Slot:
        """The first cell of a request. Raises ProgramError if nothing of it can be run."""
        for slot in self.slots(self.guests, trials=1):
            return slot
        number = len(self.programs)
        what = self.programs[0].name if number == 1 else f"each of the {number} programs"
        raise ProgramError(f"{what} needs what its guest and libgo do not provide")


@dataclass(frozen=True)
class Provided:
    """All that the trials of a request need.

    Attributes:
        described: the plan of a run that is made with it.
        troubles: those of guests on the way, to be stored with the run: the guest and what happened.
        failed_boots: by guest, how many boots failed on the way with none that worked after them.
    """

    files: dict[str, Files]
    built: dict[str, Built]
    described: dict[str, Any]
    troubles: list[tuple[str, str]] = field(default_factory=list)
    failed_boots: Mapping[str, int] = field(default_factory=dict)


def read(request: Request) -> Asked:
    """Read what a request names. Raises HarnessError: bad input."""
    configuration = load(request.conf_files, request.work)
    request = replace(request, variants=tuple(dict.fromkeys(request.variants or configuration.usual)))
    guests = {name: configuration.guest(name) for name in request.guests}
    triples = {name: configuration.toolchain(guest.toolchain).triple for name, guest in guests.items()}
    check_variants(request.variants, triples.values(), configuration)
    others = _others(request.guests, configuration)
    chosen = plan.programs(request.selection, others)
    variants = [configuration.variant(name) for name in request.variants]
    fitting = plan.fitting(chosen, triples.values(), variants)
    asked = Asked(request, configuration, guests, triples, fitting)
    if request.traced:
        asked = replace(asked, traced=_traced_programs(request.traced, fitting, others))
        for name in asked.traced_variants:
            configuration.variant(name)
    return _part(asked, *request.shard) if request.shard else asked


def _traced_programs(
    selection: Sequence[str], programs: Sequence[Program], others: Mapping[str, plan.Listing]
) -> tuple[Program, ...]:
    """The programs of a run of which threads are counted. Raises ConfigError if the run does not have one."""
    names = {program.name for program in programs}
    chosen = plan.programs(selection, others)
    for missing in (test.name for test in chosen if test.name not in names):
        raise ConfigError(f"--trace {missing}: is not among the programs of this run")
    return tuple(chosen)


def _part(asked: Asked, number: int, jobs: int) -> Asked:
    """What one of several jobs makes of a request. Raises ConfigError if that is nothing."""
    if number > jobs:
        raise ConfigError(f"there is no shard {number} of {jobs}")
    cut = asked.cut(jobs)
    part = cut[number - 1]
    if not part.blocks:
        raise ConfigError(f"shard {number}/{jobs} is empty: there are not so many jobs in these trials")
    whole = {
        "numbers": [number],
        "of": jobs,
        "all": [place for place, one in enumerate(cut, start=1) if one.blocks],
        "cut": digest([[[*key, str(numbers)] for key, numbers in one.blocks.items()] for one in cut]),
        "guests": list(asked.guests),
        "programs": [one.name for one in asked.programs],
    }
    of_guests, of_programs = map(set, zip(*part.blocks, strict=True))
    guests = {name: guest for name, guest in asked.guests.items() if name in of_guests}
    programs = [one for one in asked.programs if one.name in of_programs]
    return replace(asked, guests=guests, programs=programs, part=part, whole=whole)


def provide(asked: Asked, report: Reporter, door: Door | None = None, boot_here: bool = True) -> Provided:
    """Find or build what a request needs, and have its guests booted once. Raises HarnessError.

    Args:
        door: of a caller that names every program by its file; one that does not compile is a failure to it, no error.
        boot_here: whether the guests run on this machine.
    """
    request, configuration = asked.request, asked.configuration
    named = [] if door else [Path(word).absolute() for word in request.selection if word.endswith(".go")]
    stopped = door.stopped.is_set if door else lambda: False
    cache = Cache(paths.cache_dir())
    # What may be missing or refused comes first: to try it takes a second, a download and a build take minutes.
    booted = asked.guests if boot_here else {}
    for name in booted:
        dry_start.check(name, configuration)
    tools = {guest.toolchain: toolchain.find(guest.toolchain, configuration) for guest in asked.guests.values()}
    files = {name: boot.files(name, configuration, partial(report.step, f"image {name}")) for name in asked.guests}
    for name in booted:
        dry_start.check(name, configuration, files[name])
    with _booting_meanwhile(booted, files, request.work, cache, report) as meanwhile:
        built: dict[str, Built] = {}
        for name, found in tools.items():
            fitting = [variant for variant in asked.variants if configuration.variant(variant).fits(found.triple)]
            programs = {variant: asked.programs_of(variant) for variant in fitting}
            built[name] = _build(programs, found, configuration, cache, report, named, stopped)
    described = _describe(request, asked.guests, asked.programs, built, files, configuration, tools)
    described["facts"] |= _versions(asked, tools, files, boot_here)
    return Provided(files, built, described | ({"shard": asked.whole} if asked.whole else {}), *meanwhile)


def attend(request: Request, report: Reporter, visit: Visit) -> dict[str, Any]:
    """Make one trial of a request of one cell, store nothing, and have the guest visited as the trial leaves it.

    Returns:
        What it came to, as the crew tells it.

    Raises:
        HarnessError: bad input, or a guest in trouble.
    """
    asked = read(request)
    slot = asked.cell()
    provided = provide(asked, report)
    with tempfile.TemporaryDirectory() as folder:
        crew = Crew(_job(asked, provided, Path(folder) if request.cores else None), report)
        return crew.attend(slot, visit).trial


def again(store: Store, number: int, work: Path, trials: int = 1) -> Request:
    """The request that makes a trial's cell again, as the run was made that the trial is of.

    Raises:
        StoreError: there is no such trial, or its run does not tell how it was made.
        ProgramError: the program is not there any more.
    """
    run_, trial = store.trial(number)
    request = _request(run_, work)
    others = _others(request.guests, load(request.conf_files, work))
    found = [one for one in plan.programs(request.selection, others) if one.name == trial.program]
    if not found:
        raise ProgramError(f"{trial.program}, which trial {number} ran, is not there any more")
    selection = (found[0].word,)
    request = replace(request, selection=selection, trials=trials, until_sure=False, shard=None, traced=())
    return replace(request, guests=(trial.guest,), variants=(trial.variant,))


def _job(asked: Asked, provided: Provided, kept: Path | None) -> Job:
    request = asked.request
    options = [word for file in request.conf_files for word in ("--conf", str(file.absolute()))]
    return Job(
        asked.configuration,
        provided.files,
        provided.built,
        request.work,
        Cache(paths.cache_dir()),
        request.isolation,
        kept,
        (*options, *["--cores"] * request.cores),
        provided.failed_boots,
    )


def request_of(work: Path, number: int | None) -> tuple[Request, int]:
    """The request that a stored run was made for, so that it can go on.

    Args:
        work: the work directory.
        number: the run; None is the newest that has not finished.

    Raises:
        StoreError: there is no such run, or it has finished.
    """
    path = work / "results.sqlite"
    if not path.is_file():
        raise StoreError(f"{work}: no run has been made here; `harness run` makes one")
    store = Store(path)
    if number is None:
        unfinished = [one.id for one in store.runs() if one.finished is None and one.plan.get("resumable", True)]
        if not unfinished:
            raise StoreError(f"{work}: all runs have finished; there is nothing to resume")
        number = unfinished[-1]
    found = store.run(number)
    if found.finished is not None:
        raise StoreError(f"run {number} has finished; there is nothing to resume")
    if "bisect" in found.plan:
        raise StoreError(f"run {number} is a bisect; `harness bisect resume {number}` goes on with it")
    if not found.plan.get("resumable", True):
        raise StoreError(f"run {number} was made by pytest or put together of others: it does not go on by itself")
    return _request(found, work), number


def _request(run_: Run, work: Path) -> Request:
    """What a stored run was made for. Raises StoreError."""
    said = run_.plan.get("request")
    if said is None:
        raise StoreError(f"run {run_.id} was made by an older harness, which did not note how to go on")
    return Request(
        selection=tuple(said["selection"]),
        guests=tuple(said["guests"]),
        variants=tuple(said["variants"]),
        trials=said["trials"],
        jobs=said["jobs"],
        conf_files=tuple(map(Path, said["conf_files"])),
        work=work,
        cores=said["cores"],
        isolation=said["isolation"],
        until_sure=said.get("until_sure", False),
        shard=tuple(said["shard"]) if said.get("shard") else None,
        times=Times.from_json(said.get("times", [])),
        traced=tuple(said.get("traced", [])),
    )


def trials(store: Store, run_: Run) -> Iterator[Trial]:
    """The trials of a stored run that are in its matrix: not those that were made besides, to count threads."""
    variants = run_.plan["variants"]
    return (trial for trial in store.trials(run_.id) if trial.variant in variants or not trial.variant.endswith(TRACED))


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
        trials(store, run_),
        store.events(run_.id),
        said["trials"] if said.get("request", {}).get("until_sure") else None,
        [Entry.from_json(one) for one in said.get("expected", [])],
        date.fromisoformat(run_.created[:10]),
        store.times(run_.id),
    )


def stored_matrix(said: str, work: Path) -> Matrix:
    """The matrix of a run that is named in words.

    Args:
        said: the number of a run of the work directory; a file of JSON as `harness show --format json` prints it; or
            another work directory or its database, with `#N` behind it for another run than the newest.

    Raises:
        StoreError: there is no such run, or the file is no such file.
    """
    file = Path(said)
    if file.is_file() and file.suffix == ".json":
        try:
            return Matrix.from_json(json.loads(file.read_bytes()))
        except (OSError, ValueError, RecursionError) as error:
            raise StoreError(f"{file}: cannot be read: {error}") from error
        except StoreError as error:
            raise StoreError(f"{file}: {error}") from error
    found = source_of(said, work, others="no JSON of one, ")
    return matrix(found.store, found.run)


def rejudge(store: Store, run_: Run) -> list[tuple[Trial, Trial]]:
    """Judge the trials of a stored run again, by today's rules and by what was expected when the run was made.

    What a guest spoilt stays an error, and what was not run stays as it is. A run of before expectations were stored is
    judged by its programs' files.

    Returns:
        The trials that changed, as they were and as they are now.

    Raises:
        StoreError: what was expected is not known, or the store cannot be written; nothing has changed then.
    """
    expected: dict[str, Expectation] = {
        name: Expectation.from_json(said) for name, said in run_.plan.get("expectations", {}).items()
    }
    changed = []
    for trial in store.trials(run_.id):
        if trial.verdict == "error" or trial.reason.startswith(NOT_RUN):
            continue
        if trial.program not in expected:
            expected[trial.program] = _expected_by_file(trial)
        verdict = judge(_observed(trial), expected[trial.program], trial.signal)
        # What was collected of a crash is named behind the reason.
        reason = trial.reason if trial.reason.startswith(f"{verdict.reason}; ") else verdict.reason
        now_ = replace(trial, verdict=verdict.verdict, reason=reason, signature=verdict.signature)
        if now_ != trial:
            changed.append((trial, now_))
    store.judge(now_ for _, now_ in changed)
    return changed


def _observed(trial: Trial) -> Observation:
    """What was seen of a stored trial. A verdict `hang` says that it was stopped at its limit."""
    return Observation(
        trial.exit_status, None, trial.seconds, trial.stdout, trial.stderr, trial.stdout_total, trial.stderr_total,
        timed_out=trial.verdict == "hang", suspended=suspended(trial.reason),
    )  # fmt: skip


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
    traces = {trial: lifetrace.parse(data) for trial, data in store.attachments(run_.id, LIFETRACE)}
    return lifecycle.collect(store.trials(run_.id), traces, TRACED) if traces else []


@contextmanager
def fresh_guest(name: str, configuration: conf.Configuration, work: Path, report: Reporter) -> Iterator[Machine]:
    """A fresh guest that answers, for the time of the block. Raises as `dry_start.check` and `boot.files` do, and
    GuestError."""
    say = partial(report.step, f"guest {name}")
    dry_start.check(name, configuration)
    found = boot.files(name, configuration, partial(report.step, f"image {name}"))
    dry_start.check(name, configuration, found)
    pool = Pool(name, configuration.guest(name), found, {}, Cache(paths.cache_dir()), say, work / SCREENS)
    with folder_for_guest(work) as folder:
        guest = pool.fresh(folder, say)
        try:
            guest.shell.close()
            say(READY)
            yield guest.machine
        finally:
            guest.machine.stop()


def _others(guests: Sequence[str], configuration: conf.Configuration) -> dict[str, plan.Listing]:
    """The suites that lie in GCC's source: the first guest's toolchain's, so that all guests run the same programs."""
    return gccsuites.listings(lambda: gcc_source(configuration.guest(guests[0]).toolchain, configuration))


def gcc_source(name: str, configuration: conf.Configuration) -> Path:
    """The folder of a toolchain's GCC source. Raises ConfigError, ToolMissing or BuildError."""
    return source.unpack(toolchain.find(name, configuration), Cache(paths.cache_dir()))


def _build(
    programs: Mapping[str, Sequence[Program]],
    tools: Toolchain,
    configuration: conf.Configuration,
    cache: Cache,
    report: Reporter,
    named: Collection[Path],
    stopped: Callable[[], bool],
) -> Built:
    """Build everything for one toolchain.

    Args:
        programs: by variant, what is run with it.
        named: programs that the user named as files; a program of a suite may be one that does not compile.
        stopped: as for `build_variants`.
    """
    variants = list(programs)
    libgos = build_variants(variants, tools, configuration, cache, report, stopped)
    executables: dict[tuple[str, str], Path] = {}
    broken: dict[tuple[str, str], str] = {}
    target = Target.of(tools.triple)
    wanted = [
        (name, test)
        for name, chosen in programs.items()
        for test in chosen
        if test.fits(target, configuration.variant(name))
    ]
    recipes = {name: recipe(name, configuration) for name in variants}

    def make(variant: str, one: Program) -> Path:
        if one.made.package:
            return gotest.build(one, tools, libgos[variant], recipes[variant], cache)
        return program.build(one, tools, libgos[variant], cache)

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        running = {threads.submit(make, *each): each for each in wanted}
        try:
            for done, job in enumerate(as_completed(running), start=1):
                variant, one = running[job]
                try:
                    executables[variant, one.name] = job.result()
                except ProgramError as error:
                    if one.source in named:
                        raise
                    broken[variant, one.name] = str(error)
                report.count("programs", done, len(wanted), f"compiled {one.name}")
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise

    def compile_output(variant: str, one: Program, output: bytes) -> Path:
        return program.build_output(one, output, tools, libgos[variant], cache)

    return Built(program.build_agent(AGENT, tools, cache), libgos, executables, broken, compile_output)


def _describe(
    request: Request,
    guests: dict[str, conf.Guest],
    chosen: Sequence[Program],
    built: dict[str, Built],
    files: dict[str, Files],
    configuration: conf.Configuration,
    tools: Mapping[str, Toolchain],
) -> dict[str, Any]:
    kernels = {name: file_digest(one.kernel) for name, one in files.items() if one.kernel}
    facts = {
        "command": shlex.join(["harness", *sys.argv[1:]]),
        "trials of each cell": f"at most {request.trials}" if request.until_sure else request.trials,
        "libgo": {name: lib.key for one in built.values() for name, lib in one.libgos.items()},
        "about": {name: configuration.variant(name).about for name in request.variants},
        "guest": {name: f"{guest.qemu}, {guest.machine}, {guest.memory} MiB" for name, guest in guests.items()},
        "kernel": kernels,
    }
    return {
        # What runs that are put together must have alike, besides what they are made of.
        "origin": {
            "harness": __version__,
            "compilers": {name: digest(tools[name].identity) for name in built},
            "images": {
                name: image.contents(found)
                for name, guest in guests.items()
                if guest.image and (found := image.find(guest.image))
            },
        },
        "guests": list(guests),
        "variants": list(request.variants),
        "programs": [one.name for one in chosen],
        "expectations": {one.name: one.expected.to_json() for one in chosen},
        "trials": request.trials,
        "facts": facts,
        "expected": [entry.to_json() for entry in expected(configuration)],
        "request": {
            "selection": [str(Path(word).absolute()) if Path(word).exists() else word for word in request.selection],
            "guests": list(request.guests),
            "variants": list(request.variants),
            "trials": request.trials,
            "jobs": request.jobs,
            "conf_files": [str(file.absolute()) for file in request.conf_files],
            "cores": request.cores,
            "isolation": request.isolation,
            "until_sure": request.until_sure,
            "shard": request.shard,
            "times": request.times.to_json() if request.shard else [],
            "traced": list(request.traced),
        },
        # What a trial's outcome depends on: a run goes on only with the same.
        "made of": {
            **{f"libgo {key} for {name}": lib.key for name, one in built.items() for key, lib in one.libgos.items()},
            **{
                f"program {key} with {variant} for {name}": file.parent.name
                for name, one in built.items()
                for (variant, key), file in one.programs.items()
            },
            **{
                f"program {key} with {variant} for {name}": "does not compile"
                for name, one in built.items()
                for variant, key in one.broken
            },
            **{f"guest {name}": digest(guest.model_dump(mode="json")) for name, guest in guests.items()},
            **{f"kernel of {name}": kernel for name, kernel in kernels.items()},
        },
    }


def _versions(
    asked: Asked, tools: Mapping[str, Toolchain], files: Mapping[str, Files], boot_here: bool
) -> dict[str, Any]:
    """What the outcome of a run may depend on, for the reader: versions, and the hashes of images and patches."""
    configuration = asked.configuration
    measured = {
        name: ciphers.known(Machine(name, asked.configuration.guest(name), found, Path("/")), Cache(paths.cache_dir()))
        for name, found in files.items()
        if boot_here
    }
    images = {name: image.find(guest.image) for name, guest in asked.guests.items() if guest.image}
    applied = {
        name: [f"{patch.path.name} {patch.key}" for patch in recipe(name, configuration).patches]
        for name in asked.request.variants
    }
    return {
        "harness": __version__,
        "qemu": {name: qemu_version(name, guest) for name, guest in asked.guests.items() if boot_here},
        "ssh": {name: str(choice) for name, choice in measured.items() if choice},
        "gcc": {name: one.banner for name, one in tools.items()},
        "image": {
            name: {file: said["sha256"] for file, said in found.manifest["files"].items()}
            for name, found in images.items()
            if found
        },
        "patches": {name: patches_ for name, patches_ in applied.items() if patches_},
    }


def expected(configuration: conf.Configuration) -> list[Entry]:
    """The known failures as a matrix wants them."""
    return [
        Entry(**said.model_dump(exclude={"verdict"}), verdicts=tuple(said.verdict), where=where)
        for said, where in configuration.expected
    ]


def _comparisons(cells: Iterable[Slot]) -> list[tuple[CellKey, CellKey]]:
    """The cells that have a baseline, each with it."""
    keys = [(cell.guest, cell.variant, cell.program.name) for cell in cells]
    known = set(keys)
    pairs = [(key, (key[0], BASELINE, key[2])) for key in keys]
    return [(key, base) for key, base in pairs if key != base and base in known]


def _check_decidable(cells: Sequence[Slot], most: int) -> None:
    """Raise ConfigError if a run until it is sure could decide nothing."""
    comparisons = len(_comparisons(cells))
    if not comparisons:
        raise ConfigError(f"there is nothing to be sure of: no program is run with {BASELINE} and another variant")
    if most < (least := sequential.least_rounds(comparisons)):
        raise ConfigError(
            f"at most {most} trials of each cell cannot decide {comparisons} comparisons, whatever comes of them;"
            f" it takes --trials {least} or more"
        )


def _rounds(
    cells: Sequence[Slot], most: int, outcomes: Callable[[], Mapping[CellKey, Mapping[int, bool]]], report: Reporter
) -> Iterator[Batch]:
    """A round after the other, each with one trial of each cell that can still decide something.

    What a round holds follows from the outcomes of those before it alone, so a run that is resumed goes on as it would
    have.
    """
    pairs = _comparisons(cells)
    for done in range(most):
        seen = {key: {n: passed for n, passed in by.items() if n <= done} for key, by in outcomes().items()}
        compared = [(seen.get(key, {}), seen.get(base, {})) for key, base in pairs]
        still = [pair for pair, open_ in zip(pairs, sequential.undecided(compared, done, most), strict=True) if open_]
        wanted = {key for pair in still for key in pair}
        if not wanted:
            return
        report.step("rounds", f"{done + 1} of at most {most}, {len(still)} of {len(pairs)} comparisons undecided")
        slots: dict[str, list[Slot]] = {}
        for cell in cells:
            if (cell.guest, cell.variant, cell.program.name) in wanted:
                slots.setdefault(cell.guest, []).append(replace(cell, number=done + 1))
        made = {name: partial(list[Slot], each) for name, each in slots.items()}
        yield Batch(made, further=(most - done - 1) * len(wanted))


def check_same(run_: Run, described: dict[str, Any], cannot: str, whole: bool = True) -> None:
    """Raise StoreError if a run was begun with other libgos, programs or guests than there are now.

    Args:
        described: the plan of a run that would be made now.
        cannot: what cannot be done then, for the error's text.
        whole: whether it is a plan of the whole run, and not of some of its cells.
    """
    before, after = run_.plan.get("made of", {}), described["made of"]
    for what in [*before, *after] if whole else after:
        if before.get(what) != after.get(what):
            raise StoreError(f"{cannot}: {what} is not what it was when the run was begun")


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


@contextmanager
def _booting_meanwhile(
    guests: Mapping[str, conf.Guest], files: Mapping[str, Files], work: Path, cache: Cache, report: Reporter
) -> Iterator[tuple[list[tuple[str, str]], dict[str, int]]]:
    """Boot and save guests that are not saved yet for the time of the block, in which other things are made.

    What goes wrong ends nothing, for it may go right when guests are needed. It is logged. The value of the block is a
    list of it with the guests' names, and by guest how many boots failed with none that worked after them; both are
    whole after the block.
    """
    given_up = threading.Event()
    troubles: list[tuple[str, str]] = []
    failed_boots: dict[str, int] = {}

    def prepare(name: str) -> None:
        say = partial(report.step, f"guest {name}")

        def tell(text: str) -> None:
            _log.warning("guest %s, saved while other things are made: %s", name, text)
            troubles.append((name, text))

        pool = Pool(name, guests[name], files[name], {}, cache, tell, work / SCREENS)
        try:
            with folder_for_guest(work) as folder:
                pool.prepare(folder, say, given_up.is_set)
            say(READY)
        except HarnessError as error:
            if given_up.is_set():
                _log.info("guest %s was given up: %s", name, error)
                return
            tell(error.whole() if isinstance(error, GuestError) else str(error))
            say("not saved")
        finally:
            failed_boots[name] = pool.failed_boots

    threads = [threading.Thread(target=prepare, args=(name,), daemon=True) for name in guests]
    for thread in threads:
        thread.start()
    try:
        yield troubles, failed_boots
    except BaseException:
        given_up.set()
        raise
    finally:
        for thread in threads:
            thread.join()


class Interrupted(Exception):
    """The user stopped a run. What has finished is stored."""

    def __init__(self, number: int, done: int, total: int) -> None:
        super().__init__(
            f"interrupted: {done} of {total} trials of run {number} are stored;"
            f" `harness run --resume {number}` goes on, `harness show {number}` shows them"
        )


class _Conductor:
    """Hands out slots, stores what comes back, and hands out again what a guest spoilt. Holds few slots at a time."""

    def __init__(
        self, crew: Makers, store: Store, run_: int, report: Reporter, guests: dict[str, int], door: Door | None
    ) -> None:
        self._crew, self._store, self._run, self._report, self._guests = crew, store, run_, report, guests
        self._door = door
        self._attempts: dict[Slot, int] = {}  # those that are handed out
        self._waiting: dict[str, Iterator[tuple[Slot, int]]] = {}
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

    def _left(self, slots: Iterable[Slot]) -> Iterator[tuple[Slot, int]]:
        """The slots that a run still lacks, with the attempts that were made at each."""
        for slot in slots:
            attempts, judged = self._store.attempts(self._run, slot.guest, slot.variant, slot.program.name, slot.number)
            if judged or attempts >= ATTEMPTS:
                self._done += 1
            else:
                yield slot, attempts

    def _hand_out(self, slots: Iterator[tuple[Slot, int]]) -> None:
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
