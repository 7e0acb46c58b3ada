"""What a user asks of a run, and the request of a stored run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from harness.build.variants import load_configuration
from harness.conf.load import TRACED
from harness.errors import StoreError
from harness.results.store import Run, Store
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


def traced_request(request: Request) -> Request:
    """A request for each of its variants as it is and with the life-cycle trace."""
    names = request.variants or load_configuration(request.conf_files, request.work).usual
    plain = [name.removesuffix(TRACED) for name in names]
    return replace(request, variants=tuple(each for name in plain for each in (name, name + TRACED)))


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
    return request_of_run(found, work), number


def request_of_run(run_: Run, work: Path) -> Request:
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


#: When a guest is replaced by a fresh one: after every trial, before another cell's trial, or after a crash or hang.
Isolation = Literal["trial", "cell", "on-trouble"]
