"""The runs of a work directory in a list: what each is of, how far it is, and whether it is running.

Knows the store and the lock of a run, nothing of terminals. Whatever a guest wrote is not in it.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from rich.cells import cell_len

from harness.escapes import one_line
from harness.invocation import command_line, repeated
from harness.locks import is_locked
from harness.results.plan import RunPlan
from harness.results.store import Run, Store
from harness.trial.record import Verdict

#: The version of the JSON.
SCHEMA: Literal[1] = 1
#: How many names of a list are shown.
_NAMES = 2
#: Where a run has several lines: the columns of the first, and what the others begin with.
_SHORT, _INDENT = 6, " " * 6


class ListedRun(BaseModel):
    """A run in the list."""

    model_config = ConfigDict(frozen=True)

    run: int = Field(description="Its number.")
    begun: str = Field(description="When it began: UTC, ISO 8601.")
    finished: str | None = Field(description="When it ended in good order: UTC, ISO 8601. null if it has not.")
    kind: str = Field(description="What made it: run, rerun, record, trace, pytest, attribute, bisect or merge.")
    state: Literal["done", "running", "stopped"] = Field(
        description="`running`: a living harness makes it. `stopped`: it has not finished, and no harness makes it."
    )
    guests: list[str]
    variants: list[str] = Field(description="Libgos, and libpthreads that are preloaded.")
    programs: list[str]
    trials: int = Field(description="How many trials came to a verdict other than `error`.")
    planned: int | None = Field(
        description="How many trials it makes, if nothing goes wrong. null if that is not known beforehand."
    )
    at_most: bool = Field(description="Whether `planned` is the most, as of a run until it is sure.")
    verdicts: dict[Verdict, int] = Field(
        description="How many trials came to each verdict. `error` counts each time that a trial was tried."
    )
    resume: str | None = Field(description="The command that goes on with it if it is stopped and can be resumed.")
    command: str | None = Field(description="The command that made it.")


class RunList(BaseModel):
    """What `harness list --format json` prints: all runs of a work directory, oldest first."""

    model_config = ConfigDict(frozen=True, title="harness list")

    schema_version: Literal[1] = Field(default=SCHEMA, alias="schema", description="The version of this schema.")
    runs: list[ListedRun]

    def text(self) -> str:
        """It as JSON."""
        return json.dumps(self.model_dump(mode="json", by_alias=True), indent=1) + "\n"


def schema() -> str:
    """The JSON Schema of the list."""
    return json.dumps(RunList.model_json_schema(mode="serialization"), indent=1) + "\n"


def lock_file(work: Path, number: int) -> Path:
    """The file that whoever makes a run holds a lock on."""
    return work / "runs" / str(number) / "lock"


def list_runs(store: Store, work: Path) -> RunList:
    """The runs of a store, oldest first.

    Args:
        work: the store's work directory.

    Raises:
        StoreError: the store cannot be read.
    """
    counts = store.verdict_counts()
    return RunList(runs=[_listed(run, counts.get(run.id, {}), work) for run in store.runs()])


def _listed(run: Run, counts: Mapping[Verdict, int], work: Path) -> ListedRun:
    plan = run.plan
    running = is_locked(lock_file(work, run.id))
    state: Literal["done", "running", "stopped"] = "running" if running else "done" if run.finished else "stopped"
    trials = sum(number for verdict, number in counts.items() if verdict is not Verdict.ERROR)
    command = plan.facts.get("command")
    return ListedRun(
        run=run.id,
        begun=run.created,
        finished=run.finished,
        kind=plan.run_kind,
        state=state,
        guests=plan.guests,
        variants=plan.variants,
        programs=plan.programs,
        trials=trials,
        planned=_planned(plan, trials if run.finished else None),
        at_most=plan.is_open_ended or plan.run_kind == "record",
        verdicts={verdict: counts[verdict] for verdict in Verdict if verdict in counts},
        resume=resume_command(run, work) if state == "stopped" else None,
        command=repeated(str(command), work) if command else None,
    )


def _planned(plan: RunPlan, made: int | None) -> int | None:
    """How many trials are planned. An older version did not store it: then it follows from the plan if no program is
    left out for its guest or libgo, and of a finished run what was made (`made`) was planned."""
    if plan.planned is not None:
        return plan.planned
    if plan.run_kind in ("bisect", "pytest"):
        return None
    if made is not None and not plan.is_open_ended:
        return made
    return plan.trials * len(plan.guests) * len(plan.variants) * len(plan.programs)


def resume_command(run: Run, work: Path) -> str | None:
    """The command that goes on with a run that did not finish; None if there is none."""
    if run.plan.bisect:
        return command_line("bisect", "resume", str(run.id), work=work)
    if run.plan.request is None or not run.plan.resumable:
        return None
    return command_line("run", "--resume", str(run.id), work=work)


def render_names(names: list[str]) -> str:
    """A list of guests or variants in few words."""
    if len(names) <= _NAMES + 1:
        return ", ".join(names)
    return f"{', '.join(names[:_NAMES])}, {len(names) - _NAMES} more"


def render_programs(programs: list[str]) -> str:
    """Programs in few words: by their names if they are few, else by suite."""
    if len(programs) <= _NAMES:
        return ", ".join(programs)
    suites: dict[str, int] = {}
    for program in programs:
        suite = program.partition("/")[0]
        suites[suite] = suites.get(suite, 0) + 1
    if len(suites) > _NAMES + 1:
        return f"{len(programs)} programs of {len(suites)} suites"
    return ", ".join(f"{count} of {suite}" for suite, count in suites.items())


def render_progress(run: ListedRun) -> str:
    """How many trials were made, and of how many."""
    if run.planned is None:
        return f"{run.trials}"
    return f"{run.trials} of at most {run.planned}" if run.at_most else f"{run.trials} of {run.planned}"


def render_verdicts(run: ListedRun) -> str:
    """The verdicts with their counts."""
    return ", ".join(f"{count} {verdict}" for verdict, count in run.verdicts.items())


def render(runs: Sequence[ListedRun], width: int | None) -> Iterator[str]:
    """The list as lines, with a heading.

    Args:
        width: of the terminal. If a run does not fit in a line there, all have two or more. None is a pipe: each run
            has one line, with all guests and libgos.
    """
    stopped = any(run.resume for run in runs)
    heads = ("run", "begun (UTC)", "kind", "state", "trials", "verdicts", "guests", "variants", "programs")
    rows = [(*heads, "goes on with") if stopped else heads, *(_row(run, width is None) for run in runs)]
    lines = align([row if stopped else row[: len(heads)] for row in rows])
    if width is None or max(map(cell_len, lines)) <= width:
        yield from lines
        return
    for line, row in zip(align([row[:_SHORT] for row in rows]), rows, strict=True):
        yield from textwrap.wrap(line, width, subsequent_indent=_INDENT)
        if row is not rows[0]:
            yield from textwrap.wrap(
                "; ".join(row[_SHORT:-1]), width, initial_indent=_INDENT, subsequent_indent=_INDENT
            )
            yield from (f"{_INDENT}$ {command}" for command in row[-1:] if command)


def _row(run: ListedRun, whole: bool) -> tuple[str, ...]:
    names = [", ".join(names) if whole else render_names(names) for names in (run.guests, run.variants)]
    begun = run.begun[:16].replace("T", " ")
    progress = (render_progress(run), render_verdicts(run) or "-")
    texts = map(one_line, [*names, render_programs(run.programs)])
    return (str(run.run), begun, run.kind, run.state, *progress, *texts, run.resume or "")


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines, each column as wide as its widest entry; the first is aligned to the right."""
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        padded = [text + " " * (width - cell_len(text)) for text, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.rjust(widths[0]), *padded]).rstrip())
    return lines
