"""What a CI system needs to make a matrix with several jobs: the jobs, their commands, and the times they are cut by.

Knows the formats of GitHub Actions and GitLab CI, and nothing of how a job is run.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import yaml

from harness.errors import ConfigError, StoreError
from harness.results.store import Store
from harness.results.text import render_count
from harness.run.shards import AROUND, RESTORE, Shard, Times

#: Who reads a plan: GitHub's `strategy: matrix`, GitLab's child pipelines, or any other program.
Format = Literal["github", "gitlab", "json"]
#: The hidden job that those of a GitLab pipeline extend: what is before and after the command is its user's to say.
TEMPLATE = ".harness-shard"
#: GitHub's limit (GitHub documentation, "Running variations of jobs in a workflow").
GITHUB = 256
_SCHEMA = 1


@dataclass(frozen=True)
class ShardJob:
    """A job of a plan.

    Attributes:
        shard: K/N.
        name: what it holds, in a few words.
        seconds: how long it is expected to take with one guest at a time.
        command: what makes it, as a shell reads it.
    """

    shard: str
    name: str
    seconds: int
    command: str


def shard_jobs(shards: Sequence[Shard], command: Sequence[str]) -> list[ShardJob]:
    """The jobs of a cut, without the empty ones.

    Args:
        command: what runs all of it.
    """
    return [
        ShardJob(
            place := f"{number}/{len(shards)}",
            f"{place}: {_described(shard)}",
            round(shard.seconds),
            shlex.join([*command, "--shard", place]),
        )
        for number, shard in enumerate(shards, start=1)
        if shard.blocks
    ]


def _described(shard: Shard) -> str:
    guests = sorted({guest for guest, _ in shard.blocks})
    return ", ".join([*guests, render_count(len(shard.blocks), "program")])


def render(jobs: Sequence[ShardJob], format_: Format) -> str:
    """A plan as its reader wants it; GitHub's is one line, for $GITHUB_OUTPUT. Raises ConfigError."""
    match format_:
        case "github":
            if len(jobs) > GITHUB:
                raise ConfigError(f"GitHub runs at most {GITHUB} jobs of a matrix, not {len(jobs)}")
            return json.dumps({"include": [asdict(job) for job in jobs]})
        case "gitlab":
            pipeline = {f"harness {job.shard}": _gitlab(job) for job in jobs}
            return yaml.safe_dump(pipeline, sort_keys=False, width=1000).rstrip("\n")
        case "json":
            return json.dumps({"schema": _SCHEMA, "jobs": [asdict(job) for job in jobs]}, indent=1)


def _gitlab(job: ShardJob) -> dict[str, object]:
    return {"extends": TEMPLATE, "variables": {"HARNESS_SHARD": job.shard}, "script": [job.command]}


def read_times(path: Path) -> Times:
    """The times in a file that `write_times` wrote. Raises ConfigError."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["schema"] != _SCHEMA:
            raise ConfigError(f"{path}: has schema {document['schema']}, this harness knows {_SCHEMA}")
        return Times.from_json(document["times"])
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; `harness ci plan` writes it") from error
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{path}: not a file of times that `harness ci plan` wrote") from error


def write_times(path: Path, times: Times) -> None:
    """Write down what a cut is made by, so that each job makes the same one. Raises ConfigError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"schema": _SCHEMA, "times": times.to_json()}) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error


def times_of(source: Path) -> Times:
    """The times of earlier runs: of all in a work directory or its database, or those in a file of times.

    Raises:
        ConfigError, StoreError: there is no such thing.
    """
    if source.suffix == ".json":
        return read_times(source)
    database = source / "results.sqlite" if source.is_dir() else source
    if not database.is_file():
        raise StoreError(f"{source}: not a work directory, a results.sqlite or a file of times")
    return Times(
        {
            sums.cell: (sums.seconds + sums.guests_lost * RESTORE) / sums.trials + AROUND
            for sums in Store(database).seconds()
        }
    )
