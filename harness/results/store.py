"""The store: runs, trials and events in one SQLite database a work directory. A trial is a committed row.

Knows nothing of guests or Go.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import tenacity

from harness.clock import now
from harness.errors import StoreError
from harness.invocation import command_line
from harness.programs.model import CellKey
from harness.results.plan import RunPlan
from harness.trial.record import Trial, Verdict

#: The version of the tables, kept as SQLite's user_version.
VERSION = 4
_TABLES = """
CREATE TABLE runs (id INTEGER PRIMARY KEY, created TEXT NOT NULL, finished TEXT, plan TEXT NOT NULL);
CREATE TABLE trials (
    id INTEGER PRIMARY KEY, run INTEGER NOT NULL REFERENCES runs, guest TEXT NOT NULL, variant TEXT NOT NULL,
    program TEXT NOT NULL, number INTEGER NOT NULL, attempt INTEGER NOT NULL, verdict TEXT NOT NULL,
    reason TEXT NOT NULL, signature TEXT NOT NULL, exit_status INTEGER, signal TEXT NOT NULL, seconds REAL NOT NULL,
    stdout BLOB NOT NULL, stderr BLOB NOT NULL, stdout_total INTEGER NOT NULL, stderr_total INTEGER NOT NULL,
    started TEXT NOT NULL, command TEXT NOT NULL);
CREATE INDEX trials_of_run ON trials (run, id);
CREATE TABLE events (run INTEGER NOT NULL REFERENCES runs, time TEXT NOT NULL, guest TEXT NOT NULL, text TEXT NOT NULL);
"""
#: What makes tables of a version out of those of the version before.
_STEPS = {
    2: """
CREATE TABLE attachments (
    trial INTEGER NOT NULL REFERENCES trials, name TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (trial, name));
CREATE INDEX trials_of_slot ON trials (run, guest, variant, program, number);
""",
    3: """
CREATE TABLE times (
    run INTEGER NOT NULL REFERENCES runs, what TEXT NOT NULL, step TEXT NOT NULL, times INTEGER NOT NULL,
    seconds REAL NOT NULL);
""",
    4: """
CREATE TABLE texts (key TEXT PRIMARY KEY, packed BLOB NOT NULL);
""",
}
_FIELDS = [field.name for field in fields(Trial)]


class CellSeconds(NamedTuple):
    """Times of a cell's trials.

    Attributes:
        trials: how many were judged; seconds: of all of them.
        guests_lost: how many of them crashed or hung, after which comes a fresh guest.
    """

    cell: CellKey
    trials: int
    seconds: float
    guests_lost: int


class EndedTrials(NamedTuple):
    """How many trials of a run ended in one way; `title` is the signature, or of an error the reason."""

    verdict: str
    title: str
    number: int


class KnownDeath(NamedTuple):
    """A cell in which a title was seen: how many trials of a run have it, and the first one's id."""

    run: int
    cell: CellKey
    trials: int
    first: int


@dataclass(frozen=True)
class Run:
    """A run. `created` and `finished` are UTC, ISO 8601; `finished` is None until the run has ended in good order."""

    id: int
    created: str
    finished: str | None
    plan: RunPlan


def _open(path: Path) -> sqlite3.Connection:
    """Open a database, and make what it lacks of its tables. Raises StoreError or sqlite3.Error."""
    db = sqlite3.connect(path, timeout=60)
    try:
        if _version_now(db, path) != VERSION:
            for attempt in _while_busy():
                with attempt:
                    db.execute("PRAGMA journal_mode=WAL")
            with db:
                db.execute("BEGIN IMMEDIATE")  # another process may be making the tables
                version = _version(db, path)
                scripts = [] if version else [_TABLES]
                scripts += [_STEPS[step] for step in range(max(version, 1) + 1, VERSION + 1)]
                for statement in filter(str.strip, ";".join(scripts).split(";")):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version={VERSION}")
        # A commit is written, but the disk is not waited for: when this process is killed, however it is, nothing is
        # lost. When the machine loses power the last commits may be, and their trials are made again; the database
        # stays whole (SQLite manual, PRAGMA synchronous).
        db.execute("PRAGMA synchronous=NORMAL")
    except BaseException:
        db.close()
        raise
    return db


def _while_busy() -> tenacity.Retrying:
    """Attempts while another process has the database: SQLite does not wait where two that wait could wait for each
    other, as when both change the journal of a new one (SQLite manual, sqlite3_busy_handler)."""
    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(_is_busy),
        wait=tenacity.wait_random(0.01, 0.1),
        stop=tenacity.stop_after_delay(60),
        reraise=True,
    )


def _is_busy(error: BaseException) -> bool:
    # Its low byte is the error, the others say which kind of it (SQLite manual, result codes).
    return isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY


def _open_as_it_is(path: Path) -> sqlite3.Connection:
    """Open a database for reading beside which nothing can be written. Raises StoreError or sqlite3.Error."""
    log = path.with_name(f"{path.name}-wal")
    # SQLite wants to write a file beside a database with a log; with none nothing can change (SQLite manual, URI).
    still = "" if log.is_file() and log.stat().st_size else "&immutable=1"
    db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro{still}", uri=True)
    try:
        if _version_now(db, path) != VERSION:
            raise StoreError(f"{path} was written by an older version and must be upgraded, but it is read-only")
    except BaseException:
        db.close()
        raise
    return db


def _trial(row: Sequence[Any]) -> Trial:
    """A stored trial. Raises StoreError if this version does not know its verdict."""
    trial = Trial(*row)
    try:
        return replace(trial, verdict=Verdict(trial.verdict))
    except ValueError as error:
        text = f"the results cannot be read: trial {trial.id} has the unknown verdict {trial.verdict!r}"
        raise StoreError(text) from error


def _version_now(db: sqlite3.Connection, path: Path) -> int:
    """The version, read in one transaction: another process may be making the tables."""
    with db:
        db.execute("BEGIN")
        return _version(db, path)


def _version(db: sqlite3.Connection, path: Path) -> int:
    """The version of a database's tables, 0 of an empty one. Raises StoreError if they are not the harness's."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    names = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not names and not version:
        return 0
    if not version or not names >= {"runs", "trials", "events"}:
        raise StoreError(f"{path}: not a database of the harness")
    if version > VERSION:
        raise StoreError(f"{path}: its tables have version {version}; this harness supports up to {VERSION}")
    return int(version)


class Store:
    """A work directory's database. Every method raises StoreError when SQLite refuses.

    Attributes:
        db: the connection.
    """

    def __init__(self, path: Path) -> None:
        """Open a database, and make it if it is not there.

        One that lies where nothing can be written, a read-only or a full disk, can be read all the same.

        Raises:
            StoreError: it is none, not one of the harness, of a later version, or can be neither written nor read.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self.db = _open(path)
            except sqlite3.OperationalError as error:
                if not path.is_file() or _is_busy(error):
                    raise
                self.db = _open_as_it_is(path)
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"{path}: {error}") from error

    def insert(
        self,
        plan: RunPlan,
        created: str,
        finished: str | None,
        rows: Callable[[int], Iterable[tuple[Trial, Mapping[str, bytes]]]],
        events: Iterable[Mapping[str, str]],
    ) -> int:
        """Add a whole run: all of it or nothing.

        Args:
            rows: gives its trials, with what was collected of each, when told the run's number.

        Returns:
            The run's number.
        """
        with self._writing():
            run = self.db.execute(
                "INSERT INTO runs (created, finished, plan) VALUES (?, ?, ?)",
                (created, finished, json.dumps(plan.to_json())),
            ).lastrowid
            assert run
            for trial, attachments in rows(run):
                self._insert(run, trial, attachments)
            self.db.executemany(
                "INSERT INTO events VALUES (?, ?, ?, ?)",
                [(run, event["time"], event["guest"], event["text"]) for event in events],
            )
        return run

    def begin(self, plan: RunPlan) -> int:
        """Start a run and give its number."""
        return self._write("INSERT INTO runs (created, plan) VALUES (?, ?)", (now(), json.dumps(plan.to_json())))

    def keep(self, texts: Mapping[str, bytes]) -> None:
        """Add texts that runs were made of, by their keys; those that are there stay."""
        with self._writing():
            packed = ((key, zlib.compress(text)) for key, text in texts.items())
            self.db.executemany("INSERT OR IGNORE INTO texts VALUES (?, ?)", packed)

    def text(self, key: str) -> bytes | None:
        """A text that was kept; None if there is none, as of a run that an older version made."""
        for (packed,) in self._read("SELECT packed FROM texts WHERE key = ?", (key,)):
            return zlib.decompress(packed)
        return None

    def replan(self, run: int, plan: RunPlan) -> None:
        """Change what is planned of a run that finds its way as it goes."""
        self._write("UPDATE runs SET plan = ? WHERE id = ?", (json.dumps(plan.to_json()), run))

    def extend(self, run: int, plan: RunPlan) -> None:
        """Have a run make more trials: it has not finished until they are made."""
        self._write("UPDATE runs SET plan = ?, finished = NULL WHERE id = ?", (json.dumps(plan.to_json()), run))

    def finish(self, run: int) -> None:
        """Mark a run as ended in good order."""
        self._write("UPDATE runs SET finished = ? WHERE id = ?", (now(), run))

    def add(self, run: int, trial: Trial, attachments: Mapping[str, bytes] | None = None) -> int:
        """Add a trial to a run, with what was collected of it, by name: all of it or nothing. Its own id is ignored.

        Returns:
            Its id.
        """
        with self._writing():
            return self._insert(run, trial, attachments or {})

    def _insert(self, run: int, trial: Trial, attachments: Mapping[str, bytes]) -> int:
        names = ["run", *_FIELDS[1:]]
        marks = ", ".join("?" * len(names))
        row = self.db.execute(f"INSERT INTO trials ({', '.join(names)}) VALUES ({marks})", (run, *astuple(trial)[1:]))
        for name, data in attachments.items():
            self.db.execute("INSERT INTO attachments VALUES (?, ?, ?)", (row.lastrowid, name, data))
        return int(row.lastrowid or 0)

    def attach(self, trial: int, name: str, data: bytes) -> None:
        """Add something that was collected of a trial of the store, in the place of what has its name."""
        with self._writing():
            self.db.execute("INSERT OR REPLACE INTO attachments VALUES (?, ?, ?)", (trial, name, data))

    def judge(self, trials: Iterable[Trial]) -> None:
        """Give trials of the store the verdict, reason and signature that they bear here: all of them or none."""
        with self._writing():
            self.db.executemany(
                "UPDATE trials SET verdict = ?, reason = ?, signature = ? WHERE id = ?",
                [(trial.verdict, trial.reason, trial.signature, trial.id) for trial in trials],
            )

    def attempts(self, run: int, guest: str, variant: str, program: str, number: int) -> tuple[int, bool]:
        """How often trial `number` of a cell was tried in a run, and whether the program got a verdict."""
        (row,) = self._read(
            "SELECT count(*), count(nullif(verdict, 'error')) FROM trials"
            " WHERE run = ? AND guest = ? AND variant = ? AND program = ? AND number = ?",
            (run, guest, variant, program, number),
        )
        return row[0], row[1] > 0

    def attachments(self, run: int, name: str) -> Iterator[tuple[int, bytes]]:
        """What was collected under a name in a run: the trials' ids, in their order, and the data."""
        tables = "attachments JOIN trials ON trials.id = trial"
        query = f"SELECT trial, data FROM {tables} WHERE run = ? AND name = ? ORDER BY trial"
        yield from self._read(query, (run, name))

    def collected(self, trial: int) -> dict[str, bytes]:
        """All that was collected of one trial, by name."""
        return dict(self._read("SELECT name, data FROM attachments WHERE trial = ? ORDER BY rowid", (trial,)))

    def with_title(self, title: str) -> Iterator[KnownDeath]:
        """The cells of which trials died as a title says, newest run first; a guest's death stands in a reason."""
        query = (
            "SELECT run, guest, variant, program, count(*), min(id) FROM trials"
            " WHERE signature = ?1 OR (verdict = 'error' AND instr(reason, ?1))"
            " GROUP BY run, guest, variant, program ORDER BY run DESC, min(id)"
        )
        for run, guest, variant, program, trials, first in self._read(query, (title,)):
            yield KnownDeath(run, CellKey(guest, variant, program), trials, first)

    def trial(self, number: int) -> tuple[Run, Trial]:
        """A trial by its id, and the run that it belongs to."""
        run, trial = self._trial(number)
        return self.run(run), trial

    def row(self, number: int) -> Trial:
        """A trial by its id."""
        return self._trial(number)[1]

    def _trial(self, number: int) -> tuple[int, Trial]:
        query = f"SELECT run, {', '.join(_FIELDS)} FROM trials WHERE id = ?"
        for row in self._read(query, (number,)):
            return row[0], _trial(row[1:])
        ((last,),) = self._read("SELECT max(id) FROM trials", ())
        known = f"the newest is {last}" if last else "none was made yet"
        raise StoreError(f"there is no trial {number}; {known}")

    def event(self, run: int, guest: str, text: str) -> None:
        """Add a guest's trouble to a run."""
        self._write("INSERT INTO events VALUES (?, ?, ?, ?)", (run, now(), guest, text))

    def runs(self) -> list[Run]:
        """All runs, oldest first. Raises StoreError if the plan of one is damaged."""
        runs = []
        query = "SELECT id, created, finished, plan FROM runs ORDER BY id"
        for number, created, finished, plan in self._read(query, ()):
            try:
                runs.append(Run(number, created, finished, RunPlan.model_validate(json.loads(plan))))
            except ValueError as error:
                raise StoreError(f"the results cannot be read: the plan of run {number} is damaged: {error}") from error
        return runs

    def run(self, number: int | None) -> Run:
        """A run by its number, or the newest. Raises StoreError if there is none."""
        runs = self.runs()
        if not runs:
            raise StoreError(f"there is no run yet; `{command_line('run')}` makes one")
        for run in reversed(runs):
            if number in (None, run.id):
                return run
        raise StoreError(f"there is no run {number}; the newest is {runs[-1].id}")

    def trials(self, run: int) -> Iterator[Trial]:
        """The trials of a run in the order they ended, one at a time."""
        query = f"SELECT {', '.join(_FIELDS)} FROM trials WHERE run = ? ORDER BY id"
        for row in self._read(query, (run,)):
            yield _trial(row)

    def outcome_counts(self) -> Iterator[tuple[int, CellKey, Verdict, str, int]]:
        """How many trials of each cell of each run ended in each way, oldest run first: the run, the cell, the verdict,
        the signature or else the reason, and the number. Raises StoreError if a verdict is unknown."""
        query = (
            "SELECT run, guest, variant, program, verdict,"
            " CASE WHEN verdict = 'pass' THEN '' WHEN signature != '' THEN signature ELSE reason END AS title, count(*)"
            " FROM trials GROUP BY run, guest, variant, program, verdict, title ORDER BY run, min(id)"
        )
        for run, guest, variant, program, verdict, title, trials in self._read(query, ()):
            if verdict not in set(Verdict):
                raise StoreError(
                    f"the results cannot be read: a trial of run {run} has the unknown verdict {verdict!r}"
                )
            yield run, CellKey(guest, variant, program), Verdict(verdict), title, trials

    def verdict_counts(self) -> dict[int, dict[Verdict, int]]:
        """By run, how many of its trials came to each verdict. Errors count each time that a trial was tried.
        Raises StoreError if a verdict is unknown."""
        counts: dict[int, dict[Verdict, int]] = {}
        for run, verdict, trials in self._read("SELECT run, verdict, count(*) FROM trials GROUP BY run, verdict", ()):
            if verdict not in set(Verdict):
                raise StoreError(
                    f"the results cannot be read: a trial of run {run} has the unknown verdict {verdict!r}"
                )
            counts.setdefault(run, {})[Verdict(verdict)] = trials
        return counts

    def ended(self, run: int) -> list[EndedTrials]:
        """How the trials of a run ended, and how many in each way; each attempt is one."""
        query = (
            "SELECT verdict, CASE verdict WHEN 'error' THEN reason ELSE signature END AS title, count(*)"
            " FROM trials WHERE run = ? GROUP BY verdict, title ORDER BY count(*) DESC"
        )
        return [EndedTrials(*row) for row in self._read(query, (run,))]

    def seconds(self) -> Iterator[CellSeconds]:
        """The times of each cell's trials in all runs."""
        query = (
            "SELECT guest, variant, program, count(*), sum(seconds), sum(verdict IN ('crash', 'hang')) FROM trials"
            " WHERE verdict != 'error' GROUP BY guest, variant, program ORDER BY guest, variant, program"
        )
        for guest, variant, program, trials, seconds, lost in self._read(query, ()):
            yield CellSeconds(CellKey(guest, variant, program), trials, seconds, lost)

    def outcomes(self, run: int) -> dict[CellKey, dict[int, bool]]:
        """Of each cell of a run: the numbers of the trials that were judged, and whether each passed."""
        outcomes: dict[CellKey, dict[int, bool]] = {}
        query = "SELECT guest, variant, program, number, verdict FROM trials WHERE run = ? AND verdict != 'error'"
        for guest, variant, program, number, verdict in self._read(query, (run,)):
            outcomes.setdefault(CellKey(guest, variant, program), {})[number] = verdict == "pass"
        return outcomes

    def events(self, run: int) -> list[dict[str, str]]:
        """The guests' troubles in a run."""
        rows = self._read("SELECT time, guest, text FROM events WHERE run = ? ORDER BY rowid", (run,))
        return [{"time": time, "guest": guest, "text": text} for time, guest, text in rows]

    def took(self, run: int, what: str, step: str, times: int, seconds: float) -> None:
        """Add to a run how many times a step of something was made, and how many seconds that took in all."""
        self._write("INSERT INTO times VALUES (?, ?, ?, ?, ?)", (run, what, step, times, seconds))

    def times(self, run: int) -> list[dict[str, Any]]:
        """How long builds and guests took in a run, all its parts together if it was resumed."""
        query = "SELECT what, step, sum(times), sum(seconds) FROM times WHERE run = ?"
        query += " GROUP BY what, step ORDER BY min(rowid)"
        names = ("what", "step", "times", "seconds")
        return [dict(zip(names, row, strict=True)) for row in self._read(query, (run,))]

    def _read(self, query: str, values: tuple[Any, ...]) -> Iterator[Any]:
        try:
            yield from self.db.execute(query, values)
        except sqlite3.Error as error:
            raise StoreError(f"the results cannot be read: {error}") from error

    def _write(self, statement: str, values: tuple[Any, ...]) -> int:
        with self._writing():
            return self.db.execute(statement, values).lastrowid or 0

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with self.db:
                yield
        except sqlite3.Error as error:
            raise StoreError(f"the results cannot be written: {error}") from error
