"""What a user asks of a run, and the request of a stored run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

from harness.build.variants import load_configuration
from harness.conf.load import TRACED
from harness.errors import StoreError
from harness.invocation import command_line
from harness.results.attribution import Design
from harness.results.store import Run, Store
from harness.results.text import render_count
from harness.run.shards import Times


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
        seed: of all trials; None means that each has its number within its cell.
        design: of an experiment of all combinations of guests, libgos and libpthreads; `trials` is the most then.
        only: the name of the one program, of those selected, that is run; '' means all of them. It is named as beside
            the others, which may have the same name.
        repeats: the number of a stored trial that is made again, with what it was made of or not at all.
        full_timeout: give a program that hangs all of its time, even if it is certain that it hangs.
        baseline: GUEST/VARIANT that the others are compared with; '' means a Linux guest, and `pristine`.
        traced: selects programs of which each libgo's threads are counted as well, in one trial more.
        kind: what makes the run, for `harness list` (harness/results/plan.py, run_kind).
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
    seed: int | None = None
    design: Design | None = None
    only: str = ""
    repeats: int | None = None
    baseline: str = ""
    kind: str = "run"
    full_timeout: bool = False
    until: str = ""


def traced_request(request: Request) -> Request:
    """A request for each of its variants as it is and with the life-cycle trace."""
    names = request.variants or load_configuration(request.conf_files, request.work).usual
    plain = [name.removesuffix(TRACED) for name in names]
    variants = tuple(each for name in plain for each in (name, name + TRACED))
    return replace(request, variants=variants, kind="trace")


def stored_request(work: Path, number: int | None) -> tuple[Request, int]:
    """The request that a stored run was made for, so that it can go on.

    Args:
        work: the work directory.
        number: the run; None is the newest that has not finished.

    Raises:
        StoreError: there is no such run, or it has finished.
    """
    path = work / "results.sqlite"
    if not path.is_file():
        raise StoreError(f"{work}: no run has been made here; `{command_line('run', work=work)}` makes one")
    store = Store(path)
    if number is None:
        unfinished = [run.id for run in store.runs() if run.finished is None and run.plan.resumable]
        if not unfinished:
            raise StoreError(f"{work}: all runs have finished; there is nothing to resume")
        number = unfinished[-1]
    run = store.run(number)
    if run.finished is not None:
        raise StoreError(f"run {number} has finished; there is nothing to resume")
    if run.plan.bisect:
        go_on = command_line("bisect", "resume", str(number), work=work)
        raise StoreError(f"run {number} is a bisect; `{go_on}` goes on with it")
    if not run.plan.resumable:
        raise StoreError(f"run {number} was made by pytest, or merged from other runs; it cannot be resumed")
    return request_of_run(run, work), number


def extended_request(work: Path, number: int, trials: int) -> Request:
    """The request that a stored run was made for, with more trials of each cell.

    A run until it is sure may be extended too: its test is valid whenever one looks, and goes on if one goes on.

    Args:
        work: the work directory.
        number: the run, finished or not.
        trials: how many each cell is to have; the most, in a run until it is sure.

    Raises:
        StoreError: there is no such run, it cannot be extended, or it has as many trials.
    """
    path = work / "results.sqlite"
    if not path.is_file():
        raise StoreError(f"{work}: no run has been made here; `{command_line('run', work=work)}` makes one")
    run = Store(path).run(number)
    if why := _never_extended(run):
        raise StoreError(f"run {number} {why}; it cannot be extended")
    each = render_count(run.plan.trials, "trial")
    if trials <= run.plan.trials and run.finished is None and run.plan.resumable:
        go_on = command_line("run", "--resume", str(number), work=work)
        raise StoreError(f"run {number} was to make {each} of each cell already; `{go_on}` goes on with it")
    if trials <= run.plan.trials:
        raise StoreError(f"run {number} has {each} of each cell already; --trials must be more")
    return replace(request_of_run(run, work), trials=trials)


def _never_extended(run: Run) -> str:
    """Why a run cannot be extended, whatever is asked; '' if it can be."""
    plan = run.plan
    if plan.bisect:
        return "is a bisect, which makes the trials that it needs"
    if plan.request and plan.request.design:
        return "is an experiment of `harness attribute`, which makes the trials that it needs"
    if plan.run_kind == "pytest":
        return "was made by pytest, which chose its trials"
    if plan.request and plan.request.shard:
        return "is a shard: with more trials the matrix is cut in another way"
    return ""


def request_of_run(run: Run, work: Path) -> Request:
    """What a stored run was made for. Raises StoreError."""
    stored = run.plan.request
    if stored is None:
        raise StoreError(f"run {run.id} was made by an older version, which did not store how to resume it")
    return Request(
        selection=tuple(stored.selection),
        only=stored.only,
        guests=tuple(stored.guests),
        variants=tuple(stored.variants),
        trials=stored.trials,
        jobs=stored.jobs,
        conf_files=tuple(map(Path, stored.conf_files)),
        work=work,
        cores=stored.cores,
        isolation=_isolation(stored.isolation),
        until_sure=stored.until_sure,
        shard=stored.shard,
        times=Times.from_json(stored.times),
        traced=tuple(stored.traced),
        baseline=stored.baseline,
        full_timeout=stored.full_timeout,
        until=stored.until,
        seed=stored.seed,
        design=Design(stored.design.libgos, stored.design.libpthreads) if stored.design else None,
    )


#: When a guest is replaced by a fresh one: after every trial, before another cell's trial, or after a crash or hang.
Isolation = Literal["trial", "cell", "on-trouble"]


def _isolation(name: str) -> Isolation:
    """An isolation by its stored name. Raises StoreError."""
    for isolation in get_args(Isolation):
        if isolation == name:
            return isolation  # type: ignore[no-any-return] # get_args has no types
    raise StoreError(f"no isolation named {name}")
