"""A bisect made: sets of units become variants, variants are built, and the engine makes their trials.

The next libgo is built while trials are made. Every trial is in the store like one of any run, and what is known
follows from the trials and the builds, so a bisect that was interrupted goes on. Knows nothing of how it is shown.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import yaml

from harness import conf, engine, paths
from harness.bisect import hunks
from harness.bisect.commits import Commits
from harness.bisect.course import NOTHING, Case, Course, Question, Seen
from harness.bisect.hunks import Unit
from harness.bisect.report import Story
from harness.bisect.search import Costs, Subset
from harness.build import command, patches, source, toolchain
from harness.build.patches import Patch
from harness.cache import Cache, digest, file_digest, lock
from harness.conf.load import BASELINE
from harness.crew import ATTEMPTS, Crew, Makers
from harness.engine import Asked, Batch, Door, Provided
from harness.errors import BuildError, ConfigError, GuestError, PatchError, ProgramError, StoreError
from harness.plan import Slot
from harness.progress import READY, Reporter
from harness.results.matrix import Trial
from harness.results.store import Run, Store
from harness.results.words import one_line

#: Seconds that things take before they have been measured: a build; a trial besides its program; and until guests have
#: a libgo that they had not at once before.
_BUILD, _TRIAL, _SHIP = 60.0, 1.0, 15.0
#: Units whose bars are shown.
_BARS = 12


@dataclass(frozen=True)
class Request:
    """What a user asks for.

    Attributes:
        files: the patches, in their order; or else `repository` and `commits`, a range GOOD..BAD of it.
        outcome: a verdict or a text of the title that is looked for; "" means what differs most.
        confidence: how probable the answer must be.
        trials: of each end at most, until they are seen to differ.
    """

    program: str
    guest: str
    work: Path
    baseline: str = BASELINE
    files: tuple[Path, ...] = ()
    repository: Path | None = None
    commits: str = ""
    blocks: bool = False
    outcome: str = ""
    confidence: float = 0.95
    trials: int = 40
    jobs: int | None = None
    conf_files: tuple[Path, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads; the work directory is where it is stored."""
        said = {name: value for name, value in asdict(self).items() if name != "work"}
        for name in ("files", "conf_files"):
            said[name] = [str(Path(file).absolute()) for file in said[name]]
        return {**said, "repository": self.repository and str(self.repository.absolute())}

    @classmethod
    def from_json(cls, said: dict[str, Any], work: Path) -> Request:
        """A request that was stored."""
        files = {name: tuple(map(Path, said[name])) for name in ("files", "conf_files")}
        return cls(**{**said, **files, "repository": said["repository"] and Path(said["repository"]), "work": work})


class Units(Protocol):
    """What a bisect is of: hunks.Series or commits.Commits."""

    units: list[Unit]
    needs: set[tuple[int, int]]
    likely: dict[tuple[int, int], float]

    def compose(self, chosen: Collection[int]) -> bytes:
        """The patch of some of the units."""


@dataclass(frozen=True)
class Finished:
    """A bisect that is over; `patch` is the smallest that changes what the program does."""

    request: Request
    run: Run
    units: Units
    course: Course
    patch: bytes

    @property
    def exit_status(self) -> int:
        """0 if the answer is as sure as was asked for, else 1."""
        result = self.course.result
        return 0 if result and result.answer and result.decided else 1

    def story(self) -> Story:
        """What there is to tell."""
        request = self.request
        what = "commit" if request.repository else "block" if request.blocks else "hunk"
        return Story(self.course, self.units.units, what, request.program, request.guest, request.baseline)


class Interrupted(Exception):
    """The user stopped a bisect. What has finished is stored."""

    def __init__(self, number: int, trials: int) -> None:
        super().__init__(
            f"interrupted: {trials} trials of bisect {number} are stored; `harness bisect resume {number}` goes on"
        )


def run(request: Request, report: Reporter, resume: int | None = None) -> Finished:
    """Make a bisect.

    Args:
        resume: the number of the run that it is, if it was begun before.

    Raises:
        HarnessError: bad input, before anything boots; or trouble, with all finished trials stored.
        Interrupted: the user's doing; all finished trials are stored.
    """
    prepared = _prepare(request)
    whole = prepared.variants.add(frozenset(range(len(prepared.units.units))))
    conf_files = (*request.conf_files, prepared.variants.file)
    one = engine.Request(
        (request.program,), (request.guest,), (request.baseline, whole), 1, request.jobs, conf_files, request.work
    )
    asked = engine.read(one)
    if len(asked.programs) != 1:
        raise ConfigError(f"{request.program} is {len(asked.programs)} programs, and a bisect is of one")
    asked.cell()
    prepared.variants.configuration = asked.configuration
    store = Store(request.work / "results.sqlite")
    provided = engine.provide(asked, report)
    _check_built(asked, provided, request.baseline, whole)
    plan = {**provided.described, "resumable": False, "bisect": _described(request, prepared)}
    if resume is None:
        number = store.begin(plan)
    else:
        number = resume
        before = store.run(number)
        engine.check_same(before, plan, f"bisect {number} cannot go on", whole=False)
        if before.plan["bisect"]["made of"] != plan["bisect"]["made of"]:
            raise StoreError(f"bisect {number} cannot go on: the patch is not what it was when it was begun")
        plan = before.plan
    driver = _Driver(request, prepared, asked, provided, store, number, plan, report)
    try:
        if resume is not None:
            driver.replay()
        door = Door((), driver.finished, threading.Event())
        engine.conduct(asked, provided, store, number, report, driver.batches, door=door)
    except (KeyboardInterrupt, engine.Interrupted) as error:
        raise Interrupted(number, len(driver.course.seen)) from error
    finally:
        driver.stop()
    store.finish(number)
    return Finished(request, store.run(number), prepared.units, driver.course, _patch(prepared.units, driver.course))


def request_of(work: Path, number: int | None) -> tuple[Request, int]:
    """The request of a bisect that did not finish, and the number of its run.

    Args:
        number: the run; None is the newest that has not finished.

    Raises:
        StoreError: there is none.
    """
    path = work / "results.sqlite"
    if not path.is_file():
        raise StoreError(f"{work}: no bisect has been made here")
    store = Store(path)
    if number is None:
        unfinished = [one for one in store.runs() if one.finished is None and "bisect" in one.plan]
        if not unfinished:
            raise StoreError(f"{work}: all bisects have finished; there is nothing to resume")
        number = unfinished[-1].id
    found = store.run(number)
    if "bisect" not in found.plan:
        raise StoreError(f"run {number} is no bisect")
    if found.finished is not None:
        raise StoreError(f"bisect {number} has finished; there is nothing to resume")
    return Request.from_json(found.plan["bisect"]["request"], work), number


@dataclass(frozen=True)
class _Prepared:
    units: Units
    variants: _Variants


def _prepare(request: Request) -> _Prepared:
    """Read and check what is bisected. Raises HarnessError."""
    configuration = engine.load(request.conf_files, request.work)
    guest = configuration.guest(request.guest)
    tools = toolchain.find(guest.toolchain, configuration)
    engine.check_variants([request.baseline], [tools.triple], configuration)
    if configuration.variant(request.baseline).prebuilt:
        raise ConfigError(f"variant {request.baseline} is prebuilt: it has no source to patch")
    cache = Cache(paths.cache_dir())
    base = engine.recipe(request.baseline, configuration).patches
    override: dict[str, Any] = {}
    units: Units
    if request.repository:
        commits = Commits(request.repository, request.commits)
        unpacked = commits.source(cache)
        version = (unpacked / "gcc" / "BASE-VER").read_text().strip()
        if version.split(".")[0] != str(tools.major):
            raise ConfigError(
                f"{request.repository} at {commits.good[:12]} is GCC {version}, and toolchain {tools.name} is GCC"
                f" {tools.version}, which compiles the libgo of its own major version only"
            )
        patches.parse(commits.compose(range(len(commits.units))), request.repository)
        override = {guest.toolchain: {"source": str(unpacked)}}
        units = commits
    else:
        series = [patches.read(file) for file in request.files]
        units = hunks.split(series, source.unpack(tools, cache), base, request.blocks)
    return _Prepared(units, _Variants(request, configuration.variant(request.baseline), base, units, override))


class _Variants:
    """Sets of units as variants, in a folder of their own with a YAML file that describes them.

    Attributes:
        file: the YAML file.
        configuration: where variants are added too, once there is one.
        names: the variants, by their sets.
    """

    def __init__(
        self, request: Request, like: conf.Variant, base: Sequence[Patch], units: Units, override: dict[str, Any]
    ) -> None:
        everything = range(len(units.units))
        self.key = digest(
            [request.baseline, [patch.key for patch in base], units.compose(everything).decode("latin-1")]
        )
        self.folder = request.work / "bisects" / self.key
        self.file = self.folder / "variants.yaml"
        self.configuration: conf.Configuration | None = None
        self.names: dict[Subset, str] = {NOTHING: request.baseline}
        self._like, self._units = like, units
        self._override = {"toolchains": override} if override else {}
        self._base = [self._write(f"baseline-{place}.patch", patch.text) for place, patch in enumerate(base)]

    def add(self, subset: Subset) -> str:
        """The name of the variant with these units. Raises StoreError if it cannot be written."""
        if subset not in self.names:
            text = self._units.compose(subset)
            name = f"bisect-{digest([self.key, text.decode('latin-1')])[:8]}"
            file = self._write(f"{name}.patch", text)
            about = ", ".join(self._units.units[unit].name for unit in sorted(subset))
            variant = self._like.model_copy(
                update={"about": about, "patches": [*map(str, self._base), str(file)], "tree": None, "trace": False}
            )
            said = variant.model_dump(exclude_defaults=True, exclude_none=True)
            with lock(self.folder / ".lock"):  # a bisect of the same patch may be made side by side
                known = yaml.safe_load(self.file.read_text()) if self.file.is_file() else {}
                whole = {**self._override, "variants": {**known.get("variants", {}), name: said}}
                text_ = f"# Made by `harness bisect`.\n{yaml.safe_dump(whole, sort_keys=False, width=200)}"
                self._write("variants.yaml", text_.encode())
            if self.configuration:
                self.configuration.add(name, variant)
            self.names[subset] = name
        return self.names[subset]

    def _write(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        part = path.with_name(f".{name}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(data)
            os.replace(part, path)
        except OSError as error:
            raise StoreError(f"{path}: cannot be written: {error.strerror}") from error
        return path


def _check_built(asked: Asked, provided: Provided, baseline: str, whole: str) -> None:
    """Raise HarnessError if the program does not compile, or both ends are the same."""
    (built,) = provided.built.values()
    for words in built.broken.values():
        raise ProgramError(words)
    libraries = [built.libgos[name].library for name in (baseline, whole)]
    if file_digest(libraries[0]) == file_digest(libraries[1]):
        raise PatchError(f"the patch changes nothing in the libgo that is built: it is the one of {baseline}")


def _described(request: Request, prepared: _Prepared) -> dict[str, Any]:
    return {
        "request": request.to_json(),
        "made of": [prepared.variants.key, [unit.name for unit in prepared.units.units]],
        "units": [{"name": unit.name, "about": unit.about} for unit in prepared.units.units],
        "built": {},
        "failed": [],
    }


def _patch(units: Units, course: Course) -> bytes:
    """The smallest patch that an answer comes to: of commits their own."""
    if not course.result or not course.result.answer:
        return b""
    sets = course.result.answer.alternatives
    return units.between(min(sets[0]), max(sets[-1])) if isinstance(units, Commits) else units.compose(sets[0])


class _Driver:
    """Asks the course what to do and has it done.

    Attributes:
        course: what is known.
    """

    def __init__(
        self,
        request: Request,
        prepared: _Prepared,
        asked: Asked,
        provided: Provided,
        store: Store,
        number: int,
        plan: dict[str, Any],
        report: Reporter,
    ) -> None:
        units = prepared.units
        self._units, self._variants = units, prepared.variants
        self._asked, self._provided, self._report = asked, provided, report
        self._store, self._number, self._plan = store, number, plan
        self.course = Course(
            Case(
                len(units.units),
                request.repository is not None,
                frozenset(units.needs),
                units.likely,
                request.confidence,
                request.trials,
                Question.parse(request.outcome) if request.outcome else None,
            )
        )
        self._slot = asked.cell()
        self._numbers: Counter[Subset] = Counter()
        self._current: Subset | None = None
        self._held: Subset | None = None
        self._times: list[float] = []
        self._builds: list[float] = []
        self._wanted: Subset | None = None
        self._building: tuple[Subset, float, Future[None]] | None = None
        self._builder = ThreadPoolExecutor(1)
        self._stopped = threading.Event()
        self._crew: Crew | None = None

    def replay(self) -> None:
        """Learn what a bisect that goes on knew already; what it had built is built, or comes from the cache."""
        said = self._plan["bisect"]
        by_name = {}
        for name, units in said["built"].items():
            subset = frozenset(units)
            if self._variants.add(subset) != name:
                raise StoreError(f"bisect {self._number} cannot go on: {name} is not what it was")
            engine.add_variant(name, self._asked, self._provided, self._report)
            by_name[name] = subset
        by_name |= {name: subset for subset, name in self._variants.names.items()}
        failed = [(one["after"], frozenset(one["units"]), one["why"]) for one in said["failed"]]
        for trial in self._store.trials(self._number):
            subset = by_name[trial.variant]
            self._numbers[subset] = max(self._numbers[subset], trial.number)
            if trial.verdict == "error" and trial.attempt == ATTEMPTS:
                self._lost(subset, trial)
            if trial.verdict != "error":
                while failed and failed[0][0] <= len(self.course.seen):
                    self.course.fails(*failed.pop(0)[1:])
                if subset not in self.course.built:
                    self.course.builds(subset)
                self._saw(subset, trial)
        for _, subset, why in failed:
            self.course.fails(subset, why)
        for subset in by_name.values():
            self.course.builds(subset)

    def batches(self, makers: Makers, interrupted: Callable[[], bool]) -> Iterator[Batch]:
        """The trials: as many as can be made until a libgo is wanted that is not built yet, and so on."""
        self._crew = makers if isinstance(makers, Crew) else None
        self._hold()
        while not self.course.result:
            yield Batch({self._slot.guest: self._slots}, expected=lambda: self.course.to_go(self._costs()))
            if interrupted():
                raise KeyboardInterrupt
            if not self.course.result and self._wanted is not None:
                self._build(self._wanted)
                while self._building and not self._building[2].done():
                    if interrupted():
                        raise KeyboardInterrupt
                    time.sleep(0.1)
                self._collect()

    def stop(self) -> None:
        """End a build that nobody waits for any more."""
        self._stopped.set()
        self._builder.shutdown(cancel_futures=True)

    def finished(self, trial: Trial) -> None:
        """A trial is stored."""
        subset = next(subset for subset, name in self._variants.names.items() if name == trial.variant)
        self.course.pending[subset] -= 1
        if trial.verdict == "error":
            self._lost(subset, trial)
            return
        self._saw(subset, trial)
        self._times.append(trial.seconds + _TRIAL)
        self._show()

    def _lost(self, subset: Subset, trial: Trial) -> None:
        """A trial was spoilt as often as it was tried. Raises GuestError if that is always so at one of the ends."""
        if self.course.lost(subset) and subset in (NOTHING, self.course.case.whole):
            raise GuestError(f"no trial with {trial.variant} can be made, the last time so: {trial.reason}")

    def _saw(self, subset: Subset, trial: Trial) -> None:
        self.course.saw(Seen(subset, trial.verdict, trial.signature or trial.reason))

    def _slots(self) -> Iterator[Slot]:
        while (subset := self._next()) is not None:
            if subset not in (self._held, NOTHING, self.course.case.whole):
                self._held = subset
                self._hold(subset)
            self._current = subset
            self._numbers[subset] += 1
            self.course.pending[subset] += 1
            yield replace(self._slot, variant=self._variants.names[subset], number=self._numbers[subset])

    def _hold(self, *subsets: Subset) -> None:
        """Have fresh guests come with the libgos of the ends and of some sets: so a guest with all but one new libgo is
        saved already, and is given that one only."""
        if self._crew:
            everything = (NOTHING, self.course.case.whole, *subsets)
            self._crew.hold([self._variants.names[subset] for subset in everything])

    def _next(self) -> Subset | None:
        """The set of the next trial; None if there is none, or it has to be built first and no other one tells much."""
        self._collect()
        costs = self._costs()
        subset = self.course.next(costs)
        self._wanted = None
        if subset is None:
            return None
        if subset in self.course.built:
            if ahead := self.course.ahead(subset, costs):
                self._build(ahead)
            return subset
        self._wanted = subset
        self._build(subset)
        return self.course.meanwhile(costs)

    def _costs(self) -> Costs:
        trial = sum(self._times[-20:]) / len(self._times[-20:]) if self._times else 2 * _TRIAL
        build = sum(self._builds) / len(self._builds) if self._builds else _BUILD
        built = {subset: 0.0 if subset == self._current else _SHIP for subset in self.course.built}
        return Costs(trial, build + _SHIP, built)

    def _build(self, subset: Subset) -> None:
        """Begin to build a set, unless something is being built."""
        if self._building is None:
            name = self._variants.add(subset)
            job = partial(engine.add_variant, name, self._asked, self._provided, self._report, self._stopped.is_set)
            self._building = subset, time.monotonic(), self._builder.submit(job)

    def _collect(self) -> None:
        """Learn what came of the build that has ended, if one has."""
        if self._building is None or not self._building[2].done():
            return
        subset, begun, job = self._building
        self._building = None
        said = self._plan["bisect"]
        name = self._variants.names[subset]
        try:
            job.result()
        except (BuildError, ProgramError) as error:
            if command.TROUBLE.search(str(error)):
                raise
            self._report.step(f"libgo {name}", READY)
            self.course.fails(subset, str(error).splitlines()[0])
            said["failed"].append({"units": sorted(subset), "why": str(error), "after": len(self.course.seen)})
        else:
            self._builds.append(time.monotonic() - begun)
            self.course.builds(subset)
            said["built"][name] = sorted(subset)
            (built,) = self._provided.built.values()
            self._plan["variants"] = list(dict.fromkeys([*self._plan["variants"], name]))
            self._plan["facts"]["libgo"][name] = built.libgos[name].key
        self._store.replan(self._number, self._plan)
        self._show()

    def _show(self) -> None:
        """Say what is known."""
        course, units = self.course, self._units.units
        made = f"{len(course.seen)} trials, {len(course.built) - 1 + len(course.failed)} builds"
        if not course.question:
            self._report.step("bisect", f"{made}; comparing both ends")
            return
        blame = course.search.blame()
        order = sorted(range(len(units)), key=lambda unit: -blame[unit])
        told = ", ".join(f"{units[unit].name} {blame[unit]:.0%}" for unit in order[:3])
        self._report.step("bisect", f"{made}; {one_line(str(course.question))}: {told}")
        self._report.shares([(units[unit].name, float(blame[unit]), units[unit].about) for unit in order[:_BARS]])
