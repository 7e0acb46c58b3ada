"""Merging: runs of the same matrix, made on several machines or several times, put together as one run.

A trial is identified by its cell and by all that was observed, so a store that is given twice counts once. Trials that
were made twice are two trials, and both count: to take the better one would hide a flake. Knows stores, no guests.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from harness.clock import now
from harness.errors import StoreError
from harness.programs.model import CellKey
from harness.results.plan import RunPlan
from harness.results.store import Run, Store
from harness.trial import cores
from harness.trial.record import Trial, Verdict

#: What runs of one matrix have been asked for alike, and how it is called.
_ASKED = {
    "variants": "libgo variants",
    "trials": "number of trials",
    "cores": "--cores",
    "isolation": "isolation",
    "seed": "--seed",
}
#: The path in a reason at which a core was put.
_CORE = r"core: .*\.core\b"


@dataclass(frozen=True)
class Source:
    """A run that is put together with others: its store, and the work directory that the store lies in."""

    store: Store
    run: Run
    work: Path

    def __str__(self) -> str:
        shard = self.run.plan.shard
        numbers = ", ".join(f"{number}/{shard.of}" for number in shard.numbers) if shard else ""
        return f"run {self.run.id} of {self.work}" + (f" (shard {numbers})" if numbers else "")

    @property
    def shards(self) -> set[int]:
        """The numbers of the shards that it holds whole."""
        plan = self.run.plan
        whole = self.run.finished or plan.merged is not None
        return set(plan.shard.numbers) if plan.shard and whole else set()


@dataclass(frozen=True)
class Merged:
    """The result of a merge.

    Attributes:
        number: the new run's.
        twice: trials that were in several of the stores, and count once.
        further: trials that were made more than once, and count all the same.
        lacking: why the run is not whole, one sentence for each cause.
    """

    number: int
    twice: int
    further: int
    lacking: list[str]


class _SlotKey(NamedTuple):
    """A trial of the plan."""

    cell: CellKey
    number: int


class _Row(NamedTuple):
    """A stored trial: its source's place, and its id there."""

    place: int
    id: int


@dataclass
class _Slot:
    """The rows of one trial of the plan: errors, and those that came to a verdict."""

    errors: list[_Row] = field(default_factory=list)
    judged: list[_Row] = field(default_factory=list)


def source(name: str, work: Path, others: str = "") -> Source:
    """The run that is named in words.

    Args:
        name: the number of a run of the work directory; or another work directory or its database, with `#N` behind it
            for another run than the newest.
        others: what else it might have been, for the error's text.

    Raises:
        StoreError: there is no such run.
    """
    if not name:
        raise StoreError("the name of a run is empty")
    path, mark, number = name.rpartition("#")
    if name.isdecimal():
        path, number = str(work), name
    elif not mark or not number.isdecimal():
        path, number = name, ""
    place = Path(path)
    database = place / "results.sqlite" if place.is_dir() else place
    if not database.is_file():
        none = "no run has been made here" if name.isdecimal() else f"is not a run's number, {others}no work directory"
        raise StoreError(f"{path}: {none}")
    store = Store(database)
    try:
        return Source(store, store.run(int(number) if number else None), database.parent)
    except StoreError as error:
        raise StoreError(f"{path}: {error}") from error


def merge(sources: Sequence[Source], work: Path, folders: Sequence[str] = ()) -> Merged:
    """Put runs together as a new run of a work directory: all of it or nothing.

    Args:
        folders: those of the work directories whose files come along, such as the screenshots.

    Raises:
        StoreError: they are not of the same matrix, or something cannot be read or written.
    """
    check_together(sources)
    slots, twice = _slots(sources)
    lacking = _lacking(sources)
    created = min(origin.run.created for origin in sources)
    files: list[Path] = []

    def rows(number: int) -> Iterator[tuple[Trial, Mapping[str, bytes]]]:
        files.append(work / "runs" / str(number))
        return _rows(sources, slots, files[0] / "cores")

    try:
        _bring(sources, work, folders)
        store = Store(work / "results.sqlite")
        for origin in sources:
            keys = origin.run.plan.inputs.values()
            store.keep({key: text for key in keys if (text := origin.store.text(key)) is not None})
        number = store.insert(plan_of(sources, work), created, None if lacking else now(), rows, _events(sources))
    except BaseException as error:
        for folder in files:
            shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError):
            raise StoreError(f"the runs cannot be put together: {error}") from error
        raise
    for origin in {(origin.work.resolve(), origin.run.id): origin for origin in sources}.values():
        for time in origin.store.times(origin.run.id):
            store.took(number, **time)
    further = sum(max(0, len(slot.judged) - 1) for slot in slots.values())
    return Merged(number, twice, further, lacking)


def check_together(sources: Sequence[Source]) -> None:
    """Raise StoreError if runs are not of the same matrix; it says in what they differ."""
    first, *others = sources
    for origin in sources:
        if origin.run.plan.origin is None or origin.run.plan.request is None:
            raise StoreError(f"{origin} was made by an older version, which did not store what it was made of")
        if origin.run.plan.until_sure:
            raise StoreError(f"{origin} was made with --until-sure: its trials decide its own comparisons only")
        if origin.run.plan.extended:
            raise StoreError(f"{origin} was extended: its trials are compared in its own rounds only")
    for other in others:
        if different := list(_differences(first.run.plan.to_json(), other.run.plan.to_json())):
            more = f" and {len(different) - 3} more" if len(different) > 3 else ""
            raise StoreError(f"{other} does not belong to {first}: they differ in {', '.join(different[:3])}{more}")


def _differences(before: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    """In what two plans differ that ought to be alike; of guests and programs those count that both have."""
    mine, others = before["origin"], other["origin"]
    if mine["harness"] != others["harness"]:
        yield "the version of the harness"
    yield from (f"the compilers of {name}" for name in _unlike(mine["compilers"], others["compilers"]))
    yield from (f"the image of {name}" for name in _unlike(mine["images"], others["images"]))
    yield from (name for key, name in _ASKED.items() if before["request"].get(key) != other["request"].get(key))
    if before["expected"] != other["expected"]:
        yield "the known failures"
    yield from (f"what is expected of {name}" for name in _unlike(before["expectations"], other["expectations"]))
    yield from _unlike(before["made of"], other["made of"])
    if {"shard"} <= before.keys() & other.keys() and before["shard"]["cut"] != other["shard"]["cut"]:
        yield "how the matrix was cut"


def _unlike(before: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    """The keys of both under which they hold something different."""
    return (key for key in before if key in other and before[key] != other[key])


def plan_of(sources: Sequence[Source], work: Path) -> RunPlan:
    """The plan of the run that runs of the same matrix are put together to, in a work directory."""
    plans = [origin.run.plan.to_json() for origin in sources]
    first = plans[0]
    wholes = [plan["shard"] for plan in plans if "shard" in plan]
    names = [f"{origin.work.absolute()}#{origin.run.id}" for origin in sources]
    facts = {
        **first["facts"],
        "command": shlex.join(["harness", "merge", *names, "--work", str(work.absolute())]),
    }
    for key in (key for key, value in facts.items() if isinstance(value, dict)):
        facts[key] = _union(plan["facts"].get(key, {}) for plan in plans)
    shard = (
        {**wholes[0], "numbers": sorted(set[int]().union(*(origin.shards for origin in sources)))} if wholes else None
    )
    plan = {
        **first,
        # What the workers of one pytest made is pytest's, whose choice of cells no request tells.
        "kind": "pytest" if all(origin.run.plan.run_kind == "pytest" for origin in sources) else "merge",
        "planned": None,
        **({"shard": shard} if shard else {}),
        **{key: _names(part[key] for part in [*wholes, *plans]) for key in ("guests", "programs")},
        "facts": facts,
        "origin": {
            **first["origin"],
            **{key: _union(each["origin"][key] for each in plans) for key in ("compilers", "images")},
        },
        "expectations": _union(each["expectations"] for each in plans),
        "made of": _union(each["made of"] for each in plans),
        **{key: _union(each.get(key, {}) for each in plans) for key in ("systems", "twins", "besides_libgo")},
        **{key: _names(each.get(key, []) for each in plans) for key in ("c_programs", "unmatched")},
        "request": {
            **first["request"],
            **{key: _names(each["request"][key] for each in plans) for key in ("selection", "guests", "conf_files")},
            "shard": None,
            "times": [],
        },
        "resumable": False,
        "merged": [str(origin) for origin in sources],
    }
    return RunPlan.model_validate(plan)


def _names(lists: Iterable[Sequence[str]]) -> list[str]:
    """The names of all lists, each once, in the order they first come in."""
    return list(dict.fromkeys(name for name_list in lists for name in name_list))


def _union(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return {key: value for part in parts for key, value in part.items()}


def _lacking(sources: Sequence[Source]) -> list[str]:
    """Why the runs together are not the whole matrix, in words."""
    lacking = [
        f"{origin} has not finished" for origin in sources if origin.run.plan.shard is None and not origin.run.finished
    ]
    wholes = [origin.run.plan.shard for origin in sources if origin.run.plan.shard]
    present = set[int]().union(*(origin.shards for origin in sources))
    if wholes and (missing := sorted(set(wholes[0].all) - present)):
        names = ", ".join(f"{number}/{wholes[0].of}" for number in missing)
        lacking.append(f"shard {names} is not there or has not finished")
    return lacking


def _slots(sources: Sequence[Source]) -> tuple[dict[_SlotKey, _Slot], int]:
    """The rows of each trial of the plan, each once, and how many were there more than once."""
    slots: dict[_SlotKey, _Slot] = {}
    seen: set[bytes] = set()
    twice = 0
    for place, origin in enumerate(sources):
        for trial in origin.store.trials(origin.run.id):
            identity = _identity(trial)
            if identity in seen:
                twice += 1
                continue
            seen.add(identity)
            slot = slots.setdefault(_SlotKey(trial.cell, trial.number), _Slot())
            (slot.errors if trial.verdict == "error" else slot.judged).append(_Row(place, trial.id))
    return slots, twice


def _identity(trial: Trial) -> bytes:
    """What a trial is known by, wherever its row is: all of it but how it was judged, which may be done anew."""
    known = replace(trial, id=0, signature="")
    if trial.verdict != "error":
        known = replace(known, verdict=Verdict.PASS, reason="")
    return hashlib.sha256(repr(known).encode()).digest()[:16]


def _rows(
    sources: Sequence[Source], slots: Mapping[_SlotKey, _Slot], cores_folder: Path
) -> Iterator[tuple[Trial, Mapping[str, bytes]]]:
    """The rows of the new run, each trial's errors before its verdict; cores are copied on the way.

    A trial that was made again gets the next number of its cell.
    """
    last: dict[CellKey, int] = {}
    for cell, number in slots:
        last[cell] = max(last.get(cell, 0), number)
    for (cell, number), slot in slots.items():
        for attempt, (place, id_) in enumerate([*slot.errors, *slot.judged[:1]], start=1):
            yield _row(sources[place], id_, number, attempt, cores_folder)
        for place, id_ in slot.judged[1:]:
            last[cell] += 1
            yield _row(sources[place], id_, last[cell], 1, cores_folder)


def _row(origin: Source, id_: int, number: int, attempt: int, cores_folder: Path) -> tuple[Trial, Mapping[str, bytes]]:
    trial = origin.store.row(id_)
    old = origin.work / "runs" / str(origin.run.id) / "cores"
    before, after = (
        cores.place(folder, trial.guest, trial.variant, trial.program, at)
        for folder, at in ((old, trial.number), (cores_folder, number))
    )
    reason = trial.reason
    for suffix in (".core", ".txt"):
        if before.with_suffix(suffix).is_file():
            after.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(before.with_suffix(suffix), after.with_suffix(suffix))
            reason = re.sub(_CORE, lambda _: f"core: {after}", reason)
    return replace(trial, number=number, attempt=attempt, reason=reason), origin.store.collected(id_)


def _events(sources: Sequence[Source]) -> list[dict[str, str]]:
    """The guests' troubles of all runs, each once, in the order of their times."""
    events = {
        (each["time"], each["guest"], each["text"]): each
        for origin in sources
        for each in origin.store.events(origin.run.id)
    }
    return [events[key] for key in sorted(events)]


def _bring(sources: Sequence[Source], work: Path, folders: Sequence[str]) -> None:
    """Copy folders of the work directories that hold files of unique names."""
    for origin in sources:
        for name in folders:
            if origin.work.resolve() != work.resolve() and (origin.work / name).is_dir():
                shutil.copytree(origin.work / name, work / name, dirs_exist_ok=True)
