"""Drives a bisect: asks the course what to do and has it done.

The next libgo is built while trials run. Every trial is in the store like one of any run. What is known follows from
the trials and the builds, so a bisect that was interrupted goes on. Knows nothing of how it is shown.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from harness import log
from harness.bisect.commits import Commits
from harness.bisect.course import NOTHING, Case, Course, JudgedTrial, Question
from harness.bisect.report import Story
from harness.bisect.request import BisectInterrupted, BisectRequest
from harness.bisect.search import Costs, Subset
from harness.bisect.variants import PreparedBisect, Units, prepare_bisect
from harness.build import command
from harness.cache import file_digest
from harness.errors import BuildError, ConfigError, GuestError, PatchError, ProgramError, StoreError
from harness.escapes import one_line
from harness.programs.model import TrialSpec
from harness.progress import READY, Reporter
from harness.results.deaths import death_title
from harness.results.plan import FailedBuild, RunPlan, StoredBisect
from harness.results.store import Run, Store
from harness.results.text import render_count
from harness.run.conductor import Interrupted, conduct, guests_at_once, locked_run
from harness.run.job import ATTEMPTS, Batch, Executor, Expected, RunHooks
from harness.run.manifest import check_same
from harness.run.prepare import PreparedRun, add_variant, prepare_run
from harness.run.request import Request
from harness.run.resolve import ResolvedRequest, resolve
from harness.run.workers import WorkerPool
from harness.trial.record import Trial, Verdict

#: Seconds that things take before they have been measured: a build; a trial besides its program; and until guests have
#: a libgo that they had not at once before.
_BUILD, _TRIAL, _SHIP = 60.0, 1.0, 2.0
#: Units whose bars are shown.
_BARS = 12


@dataclass(frozen=True)
class Finished:
    """A bisect that is over.

    Attributes:
        patch: the smallest that changes what the program does.
        variants: by set, the variant that it was built as.
    """

    request: BisectRequest
    run: Run
    units: Units
    course: Course
    patch: bytes
    variants: Mapping[Subset, str]

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

    def trial_ids(self, trials: Iterable[Trial]) -> dict[tuple[Subset, int], int]:
        """The ids of the trials of the run, by their set and their number: of one that was tried again, the last."""
        subsets = {variant: subset for subset, variant in self.variants.items()}
        return {(subsets[trial.variant], trial.number): trial.id for trial in trials if trial.variant in subsets}


def run_bisect(request: BisectRequest, report: Reporter, resume: int | None = None) -> Finished:
    """Make a bisect.

    Args:
        resume: the number of the run that it is, if it was begun before.

    Raises:
        HarnessError: bad input, before anything boots; or trouble, with all finished trials stored.
        Interrupted: the user's doing; all finished trials are stored.
    """
    with log.of_run() as log_to, ExitStack() as stack:
        if resume is not None:
            stack.enter_context(locked_run(request.work, resume))
        return _run_bisect(request, report, resume, log_to, stack)


def _run_bisect(
    request: BisectRequest,
    report: Reporter,
    resume: int | None,
    log_to: Callable[[Path], None],
    stack: ExitStack,
) -> Finished:
    prepared = prepare_bisect(request)
    whole = prepared.variants.add(frozenset(range(len(prepared.units.units))))
    conf_files = (*request.conf_files, prepared.variants.file)
    variants = (request.baseline, whole)
    ends = Request(
        (request.program,),
        (request.guest,),
        variants,
        1,
        request.jobs,
        conf_files,
        request.work,
        full_timeout=request.full_timeout,
    )
    resolved = resolve(ends)
    if len(resolved.programs) != 1:
        raise ConfigError(f"{request.program} matches {len(resolved.programs)} programs; a bisect needs exactly one")
    if resolved.programs[0].is_c:
        raise ConfigError(f"{request.program} is a C program, and has no libgo of which to blame a part")
    resolved.cells()
    prepared.variants.configuration = resolved.configuration
    store = Store(request.work / "results.sqlite")
    prepared_run = prepare_run(resolved, report)
    check_built(prepared_run, request.baseline, whole)
    plan = prepared_run.plan.model_copy(
        update={"kind": "bisect", "resumable": False, "bisect": _stored(request, prepared)}
    )
    if resume is None:
        store.keep(prepared_run.inputs)
        number = store.begin(plan)
        stack.enter_context(locked_run(request.work, number))
    else:
        number = resume
        before = store.run(number)
        check_same(before, plan, f"bisect {number} cannot go on", whole=False)
        if before.plan.bisect is None or before.plan.bisect.made_of != _stored(request, prepared).made_of:
            raise StoreError(f"bisect {number} cannot go on: the patch has changed since it began")
        plan = before.plan
    log_to(request.work / "runs" / str(number))
    driver = Driver(request, prepared, resolved, prepared_run, store, number, plan, report)
    try:
        if resume is not None:
            driver.replay()
        hooks = RunHooks((), driver.finished, threading.Event())
        conduct(resolved, prepared_run, store, number, report, driver.batches, hooks=hooks)
    except (KeyboardInterrupt, Interrupted) as error:
        raise BisectInterrupted(number, len(driver.course.trials)) from error
    finally:
        driver.stop()
    store.finish(number)
    patch = _patch(prepared.units, driver.course)
    return Finished(request, store.run(number), prepared.units, driver.course, patch, prepared.variants.names)


def check_built(prepared: PreparedRun, baseline: str, whole: str) -> None:
    """Raise HarnessError if the program does not compile, or both ends are the same."""
    (artifacts,) = prepared.artifacts.values()
    for output in artifacts.broken.values():
        raise ProgramError(output)
    libraries = [artifacts.libgos[name].library for name in (baseline, whole)]
    if file_digest(libraries[0]) == file_digest(libraries[1]):
        raise PatchError(f"the patch changes nothing in the libgo that is built: it is the one of {baseline}")


def _stored(request: BisectRequest, prepared: PreparedBisect) -> StoredBisect:
    """What is stored of a bisect that begins."""
    units = prepared.units.units
    return StoredBisect.model_validate(
        {
            "request": request.to_json(),
            "made of": [prepared.variants.key, [unit.name for unit in units]],
            "units": [{"name": unit.name, "about": unit.about} for unit in units],
            "built": {},
            "failed": [],
        }
    )


def _patch(units: Units, course: Course) -> bytes:
    """The smallest patch that an answer comes to: of commits their own."""
    if not course.result or not course.result.answer:
        return b""
    sets = course.result.answer.alternatives
    if isinstance(units, Commits) and course.result.grades:
        steps = sorted((grade.answer.alternatives for grade in course.result.grades), key=lambda step: min(step[0]))
        return b"".join(units.between(min(step[0]), max(step[-1])) for step in steps)
    return units.between(min(sets[0]), max(sets[-1])) if isinstance(units, Commits) else units.compose(sets[0])


@dataclass(frozen=True)
class _RunningBuild:
    """The build of a set that began at `begun`, in seconds of time.monotonic."""

    subset: Subset
    begun: float
    future: Future[None]


class Driver:
    """Asks the course what to do and has it done.

    Attributes:
        course: what is known.
    """

    def __init__(
        self,
        request: BisectRequest,
        prepared: PreparedBisect,
        resolved: ResolvedRequest,
        prepared_run: PreparedRun,
        store: Store,
        number: int,
        plan: RunPlan,
        report: Reporter,
    ) -> None:
        units = prepared.units
        self._units, self._variants = units, prepared.variants
        self._resolved, self._prepared, self._report = resolved, prepared_run, report
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
                bool(request.steps_back),
            )
        )
        self._cell = resolved.cells()[0]
        self._workers = guests_at_once(resolved.request, resolved.guests)[self._cell.guest]
        self._numbers: Counter[Subset] = Counter()
        self._current: Subset | None = None
        self._held: Subset | None = None
        self._times: list[float] = []
        self._builds: list[float] = []
        self._wanted: Subset | None = None
        self._building: _RunningBuild | None = None
        self._builder = ThreadPoolExecutor(1)
        self._stopped = threading.Event()
        self._pool: WorkerPool | None = None
        # What was told to be looked for, and whether that effects are graded.
        self._told_question: tuple[Question, bool] | None = None
        self._looked_for: tuple[Question | None, bool] | None = None  # the same, when it was estimated
        self._left, self._left_at = 0.0, 0  # how many trials were left by estimate, and after how many

    def replay(self) -> None:
        """Learn again what an interrupted bisect knew; what it had built is built, or comes from the cache.

        Raises:
            StoreError: a libgo is not what it was.
        """
        stored = self._bisect()
        by_name = {}
        for name, units in stored.built.items():
            subset = frozenset(units)
            if self._variants.add(subset) != name:
                raise StoreError(f"bisect {self._number} cannot go on: {name} has changed")
            add_variant(self._variants.read(name), self._resolved, self._prepared, self._report)
            by_name[name] = subset
        by_name |= {name: subset for subset, name in self._variants.names.items()}
        failed = [(build.after, frozenset(build.units), build.why) for build in stored.failed]
        for trial in self._store.trials(self._number):
            subset = by_name[trial.variant]
            self._numbers[subset] = max(self._numbers[subset], trial.number)
            if trial.verdict == "error" and trial.attempt < ATTEMPTS:
                continue
            if (judged := self._judged(subset, trial)) is None:
                self._lost(subset, trial)
            else:
                while failed and failed[0][0] <= len(self.course.trials):
                    self.course.fails(*failed.pop(0)[1:])
                if subset not in self.course.built:
                    self.course.builds(subset)
                self.course.record(judged)
        for _, subset, why in failed:
            self.course.fails(subset, why)
        for subset in by_name.values():
            self.course.builds(subset)

    def batches(self, executor: Executor, interrupted: Callable[[], bool]) -> Iterator[Batch]:
        """The trials: as many as can run until a libgo is needed that is not built yet, and so on.

        Raises:
            KeyboardInterrupt: the user interrupts a build.
        """
        self._pool = executor if isinstance(executor, WorkerPool) else None
        self._hold()
        while not self.course.result:
            yield Batch({self._cell.guest: self._trials}, expected=self._expected)
            if interrupted():
                raise KeyboardInterrupt
            if not self.course.result and self._wanted is not None:
                self._build(self._wanted)
                estimated = time.monotonic()
                while self._building and not self._building.future.done():
                    if interrupted():
                        raise KeyboardInterrupt
                    time.sleep(0.1)
                    if time.monotonic() - estimated > 1:
                        estimated, expected = time.monotonic(), self._expected()
                        self._report.expect("trials", len(self.course.trials) + expected.trials, expected.seconds)
                self._collect()

    def stop(self) -> None:
        """End a build that nobody waits for any more."""
        self._stopped.set()
        self._builder.shutdown(cancel_futures=True)

    def finished(self, trial: Trial) -> None:
        """A trial is stored."""
        subset = next(subset for subset, name in self._variants.names.items() if name == trial.variant)
        self.course.end_trial(subset)
        judged = self._judged(subset, trial)
        if judged is None:
            self._lost(subset, trial)
            return
        self.course.record(judged)
        self._times.append(trial.seconds + _TRIAL)
        self._show()

    def _lost(self, subset: Subset, trial: Trial) -> None:
        """A trial ended in an infrastructure error as often as it was tried. Raises GuestError if all do at an end."""
        if self.course.lost(subset) and subset in (NOTHING, self.course.case.whole):
            raise GuestError(
                f"every trial with {trial.variant} ends in trouble with its guest; the last time: {trial.reason}"
            )

    def _judged(self, subset: Subset, trial: Trial) -> JudgedTrial | None:
        """The outcome of a trial that is not tried again, or None for an infrastructure error.

        If guests that die are looked for, a death in any of its attempts is what came of it: which would have hidden
        it is the guest that lived. One death is no proof, but the search is about how often they come.
        """
        question = self.course.case.question
        if question and (question.verdict == Verdict.KILLS or question.title):
            for attempt in self._store.trials(self._number):
                if attempt.cell == trial.cell and attempt.number == trial.number and attempt.verdict == Verdict.ERROR:
                    title = death_title(attempt.reason)
                    if title and (question.verdict == Verdict.KILLS or question.title in title):
                        return JudgedTrial(subset, Verdict.KILLS, title, trial.number)
        if trial.verdict == Verdict.ERROR:
            return None
        return JudgedTrial(subset, trial.verdict, trial.signature or trial.reason, trial.number)

    def _trials(self) -> Iterator[TrialSpec]:
        while (subset := self._next()) is not None:
            if subset not in (self._held, NOTHING, self.course.case.whole):
                self._held = subset
                self._hold(subset)
            self._current = subset
            self._numbers[subset] += 1
            self.course.begin_trial(subset)
            yield replace(self._cell, variant=self._variants.names[subset], number=self._numbers[subset])

    def _hold(self, *subsets: Subset) -> None:
        """Have fresh guests come with the libgos of the ends and of some sets: so a guest with all but one new libgo is
        saved already, and is given that one only."""
        if self._pool:
            everything = (NOTHING, self.course.case.whole, *subsets)
            self._pool.hold([self._variants.names[subset] for subset in everything])

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

    def _expected(self) -> Expected:
        """About what is still to come: trials, side by side on the guests, and builds, for which trials wait."""
        costs = self._costs()
        trials, builds = self._smoothed(self.course.to_go(costs)), self.course.builds_to_go()
        seconds = trials * costs.trial / self._workers
        if self._building:
            took = time.monotonic() - self._building.begun
            seconds += max(costs.build - took, took / 4)
            builds -= 1
        return Expected(trials, seconds + max(builds, 0) * costs.build)

    def _smoothed(self, left: int) -> int:
        """How many trials are left, by what is said now and before: it leaps with the set that seems best to try."""
        done, course = len(self.course.trials), self.course
        if self._looked_for != (course.question, bool(course.rest)):
            self._looked_for, self._left = (course.question, bool(course.rest)), float(left)
        elif done > self._left_at:
            self._left = 0.8 * (self._left - (done - self._left_at)) + 0.2 * left
        self._left_at = done
        return max(1, round(self._left))

    def _costs(self) -> Costs:
        trial = sum(self._times[-20:]) / len(self._times[-20:]) if self._times else 2 * _TRIAL
        build = sum(self._builds) / len(self._builds) if self._builds else _BUILD
        built = {subset: 0.0 if subset == self._current else _SHIP for subset in self.course.built}
        return Costs(trial, build + _SHIP, built)

    def _build(self, subset: Subset) -> None:
        """Begin to build a set, unless something is being built."""
        if self._building is None:
            variant = self._variants.read(self._variants.add(subset))
            build = partial(add_variant, variant, self._resolved, self._prepared, self._report, self._stopped.is_set)
            self._building = _RunningBuild(subset, time.monotonic(), self._builder.submit(build))

    def _collect(self) -> None:
        """Learn what came of the build that has ended, if one has."""
        if self._building is None or not self._building.future.done():
            return
        build, self._building = self._building, None
        subset, stored = build.subset, self._bisect()
        name = self._variants.names[subset]
        try:
            build.future.result()
        except (BuildError, ProgramError) as error:
            if command.TROUBLE.search(str(error)):
                raise
            self._report.step(f"libgo {name}", READY)
            self.course.fails(subset, str(error).splitlines()[0])
            failure = FailedBuild(units=sorted(subset), why=str(error), after=len(self.course.trials))
            self._plan = self._plan.model_copy(
                update={"bisect": stored.model_copy(update={"failed": [*stored.failed, failure]})}
            )
        else:
            self._builds.append(time.monotonic() - build.begun)
            self.course.builds(subset)
            (artifacts,) = self._prepared.artifacts.values()
            facts = self._plan.facts
            built = {**stored.built, name: sorted(subset)}
            self._plan = self._plan.model_copy(
                update={
                    "bisect": stored.model_copy(update={"built": built}),
                    "variants": list(dict.fromkeys([*self._plan.variants, name])),
                    "facts": {**facts, "libgo": {**facts["libgo"], name: artifacts.libgos[name].key}},
                }
            )
        self._store.replan(self._number, self._plan)
        self._show()

    def _bisect(self) -> StoredBisect:
        assert self._plan.bisect is not None
        return self._plan.bisect

    def _show(self) -> None:
        """Say what is known."""
        course, units = self.course, self._units.units
        builds = render_count(len(course.built) - 1 + len(course.failed), "build")
        effort = f"{render_count(len(course.trials), 'trial')}, {builds}"
        if not course.question:
            self._report.step("bisect", f"{effort}; comparing both ends")
            return
        blame = course.blame()
        order = sorted(range(len(units)), key=lambda unit: -blame[unit])
        suspects = ", ".join(f"{units[unit].name} {blame[unit]:.0%}" for unit in order[:3])
        repetitions = course.repetitions
        verb = "tells" if repetitions == 1 else "tell"
        calibrated = "no number of trials tells a build"
        if repetitions:
            calibrated = f"about {render_count(repetitions, 'trial')} {verb} a build"
        phase = "effects are graded; " if course.rest else ""
        question = (course.question, bool(course.rest))
        if question != self._told_question:
            self._told_question = question
            self._report.note("bisect", f"{phase}looking for {one_line(str(course.question))}; {calibrated}")
        self._report.step("bisect", f"{effort}; {calibrated}; {phase}{one_line(str(course.question))}: {suspects}")
        self._report.shares([(units[unit].name, blame[unit], units[unit].about) for unit in order[:_BARS]])
