"""pytest as a front end of runs: Go and C programs are collected as items, one a cell, and run behind pytest's back.

`pytest suites/threads --guest linux-i386 --variant no-thread-destruction --trials 5` makes the trials of all selected
items side by side in the guests, in the order of the items, while pytest waits for one item after the other. An item
passes if all trials of its cell do; a known failure (conf/expected.yaml) is an xfail. A guest's trouble is an error of
the item's set-up, never a failure. Trials are stored like those of `harness run`.

They are collected only where they are asked for: in a session that names a .go or .c file, or a folder that holds some,
or that is given --guest or --variant. Of a folder those are taken whose first directive is that of a `run` test.

With pytest-xdist each worker has one guest and runs the items that it is given. The rest of the harness is imported
when the first Go file is met, so that sessions of other projects do not pay for it.
"""

from __future__ import annotations

import argparse
import shlex
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from harness import conf
    from harness.programs.model import CellKey, Program, TrialSpec
    from harness.results.expected import Entry
    from harness.results.matrix import Cell
    from harness.run.job import Batch
    from harness.trial.record import Trial

#: As harness.programs.select has them, which is not imported yet.
_SUFFIXES = (".go", ".c")
#: Seconds that builds and guests may take to end in good order when pytest ends; what is left then ends with pytest.
_ENDING = 5.0


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options; only those that name cells are without the harness's name."""
    group = parser.getgroup("harness", "Go programs on guests (harness)")
    group.addoption("--guest", action="append", default=[], help="A guest; repeatable. [default: linux-i386]")
    group.addoption("--variant", action="append", default=[], help="A libgo; repeatable. [default: the usual ones]")
    group.addoption("--trials", type=_positive, default=1, metavar="N", help="Trials of each cell. [default: 1]")
    group.addoption(
        "--harness-workers",
        "--harness-jobs",
        dest="harness_jobs",
        type=_positive,
        metavar="N",
        help="Guests side by side; one a worker of xdist.",
    )
    group.addoption(
        "--harness-conf", action="append", default=[], type=Path, metavar="FILE", help="A YAML file; repeatable."
    )
    group.addoption("--harness-work", metavar="DIR", help="The work directory. [default: $HARNESS_WORK or .harness]")


def pytest_configure(config: pytest.Config) -> None:
    """Take part in sessions that ask for Go files."""
    if config.option.guest or config.option.variant or any(map(_holds_programs, _named(config))):
        config.pluginmanager.register(_Plugin(config), "harness-session")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, not {text}")
    return int(text)


def _named(config: pytest.Config) -> Iterator[Path]:
    """The files and folders that the user, or `testpaths`, named."""
    if config.args_source != config.ArgsSource.INVOCATION_DIR:
        for word in config.args:
            yield config.invocation_params.dir / word.partition("::")[0]


def _holds_programs(path: Path) -> bool:
    if path.is_dir():
        return any(path.glob("*.go")) or any(map(_is_marked, path.glob("*.c")))
    return path.suffix in _SUFFIXES


def _is_marked(file: Path) -> bool:
    """Whether a C file begins as a `run` test does: other projects' folders have C files too."""
    try:
        if not file.is_file():
            return False
        with file.open("rb") as stream:
            return stream.readline(100).split() == [b"//", b"run"]
    except OSError:
        return False  # of a file that is named, whoever collects it says why it cannot be read


class _Plugin:
    """The hooks of a session with Go files."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._run: _Run | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        """Refuse wrong configuration, guests and variants before anything is collected. Raises pytest.UsageError."""
        from harness.errors import HarnessError

        try:
            self._run = _Run(self._config)
        except HarnessError as error:
            raise pytest.UsageError(str(error)) from error

    def pytest_collect_file(self, file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        """Collect a Go or C file that is named, or is a test by its first directive."""
        if file_path.suffix not in _SUFFIXES or self._run is None:
            return None
        named = parent.session.isinitpath(file_path)
        is_test = _is_marked if file_path.suffix == ".c" else _is_test
        if not named and not is_test(file_path):
            return None
        return GoFile.from_parent(parent, path=file_path, run=self._run)

    def pytest_sessionfinish(self) -> None:
        """End the guests."""
        if self._run:
            self._run.end()

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say where the trials are."""
        if self._run and self._run.summary:
            terminalreporter.write_line(self._run.summary)


def _is_test(path: Path) -> bool:
    from harness.errors import ProgramError
    from harness.programs.header import read_program

    try:
        program = read_program(path)
    except ProgramError:
        return True  # it is an error of the file when that is collected
    return program.marked and program.kind == "run"


class GoFile(pytest.File):
    """A Go or C program; its items are its cells."""

    def __init__(self, *, run: _Run, **more: Any) -> None:
        super().__init__(**more)
        self._run = run

    def collect(self) -> Iterable[pytest.Item]:
        """An item for each guest and variant; one that cannot be run there is skipped."""
        from harness.errors import ProgramError
        from harness.programs.select import select_programs

        try:
            (program,) = select_programs([str(self.path)])
        except ProgramError as error:
            raise self.CollectError(str(error)) from error
        for guest, variant in self._run.columns():
            name = f"{guest}[{variant}]"
            # The id is given as text, so that pytest reads it as it does one of its cache (--lf).
            given = {"name": name, "nodeid": f"{self.nodeid}::{name}"}
            item = GoItem.from_parent(self, run=self._run, key=(guest, variant, program), **given)
            if not self._run.fits(guest, variant, program):
                needs = f"; it needs {', '.join(program.needs)}" if program.needs else ""
                item.add_marker(pytest.mark.skip(f"not for {guest} with {variant}{needs}"))
            yield item


class GoItem(pytest.Item):
    """A cell: all trials of one program with one variant on one guest."""

    def __init__(self, *, run: _Run, key: tuple[str, str, Program], **more: Any) -> None:
        super().__init__(**more)
        self._run = run
        self.guest, self.variant, self.program = key
        self._trials: list[Trial] = []

    def setup(self) -> None:
        """Wait for the trials. Raises HarnessError if a guest, or the harness, could not make them."""
        from harness.errors import GuestError

        self._trials = self._run.wait(self)
        lost = [trial for trial in self._trials if trial.verdict == "error"]
        if lost:
            raise GuestError(
                f"{len(lost)} of {len(self._trials)} trials ended in infrastructure errors: {lost[0].reason}"
            )

    def runtest(self) -> None:
        """Judge the cell."""
        cell = self._run.judge(self, self._trials)
        signatures = "; ".join(cell.signatures)
        facts = {"guest": self.guest, "variant": self.variant, "trials": cell.trials, "passed": cell.passed}
        self.user_properties += [*facts.items(), *([("signature", signatures)] if signatures else [])]
        if cell.known and not cell.surprise:
            pytest.xfail(cell.findings[0].expected)
        if cell.known or cell.surprise:
            raise NotPassed(_failure(cell, self._trials, self._again()))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """What the user is shown: no Python, but the program's own words."""
        from harness.errors import HarnessError

        if isinstance(excinfo.value, NotPassed | HarnessError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Where it stands, with a line as skipping wants one, and its name."""
        return self.path, 0, f"{self.program.name} {self.name}"

    def _again(self) -> str:
        return f"pytest {shlex.quote(self.nodeid)} {self._run.options()}".rstrip()


class NotPassed(Exception):
    """A cell did not come out as expected; the text is the whole story."""


def _failure(cell: Cell, trials: list[Trial], again: str) -> str:
    """Counts, then for each way in which it went wrong its signature and the first such trial's output; commands."""
    from harness.results.text import shown_stream, stream_lines

    title = f"; {cell.findings[0].title}" if cell.findings else ""
    lines = [f"{cell.verdict}: {cell.passed} of {cell.trials} trials passed{title}"]
    commands: list[str] = []
    if cell.contradicts:
        lines.append(f"expected: {cell.contradicts}")
    for finding in cell.findings:
        trial = next(each for each in trials if finding.title == (each.signature or each.reason))
        lines += ["", f"{finding.verdict}, {finding.count} of {cell.trials}: {finding.title}"]
        if finding.title != trial.reason:
            lines.append(trial.reason)
        for name, kept, total in (
            ("stdout", trial.stdout, trial.stdout_total),
            ("stderr", trial.stderr, trial.stderr_total),
        ):
            if total:
                shown = shown_stream(kept, total)
                lines += [f"---- {name} ({shown.size})", *stream_lines(shown)]
        commands.append(trial.command)
    return "\n".join([*lines, "", "---- run it again", *dict.fromkeys(commands), again])


class _Run:
    """The run of a session: begun when the first item needs it, in a thread of its own.

    Raises HarnessError if the configuration, a guest, a variant or the work directory is wrong.

    Attributes:
        summary: where the trials are, once all have been made.
    """

    def __init__(self, config: pytest.Config) -> None:
        from harness import paths
        from harness.build.variants import load_configuration, variant_configs
        from harness.errors import StoreError
        from harness.run.expectations import known_failures

        options = config.option
        self._config = config
        self._worker = hasattr(config, "workerinput")
        self._count: int = options.trials
        self._work = paths.work_dir(options.harness_work)
        existing = next(place for place in (self._work, *self._work.parents) if place.exists())
        if not existing.is_dir():
            raise StoreError(f"the work directory {self._work} cannot be made: {existing} is no folder")
        self._configuration = load_configuration(options.harness_conf, self._work)
        self._guests = {name: self._configuration.guest(name) for name in options.guest or ["linux-i386"]}
        names = dict.fromkeys(options.variant or self._configuration.usual)
        self._triples = {
            name: self._configuration.toolchain(guest.toolchain).triple for name, guest in self._guests.items()
        }
        self._variants = variant_configs(names, self._triples.values(), self._configuration)
        self._expected: list[Entry] = known_failures(self._configuration)
        self._thread: threading.Thread | None = None
        self._orders: SimpleQueue[list[GoItem] | None] = SimpleQueue()
        self._stopped = threading.Event()
        self._changed = threading.Condition()
        self._trials: dict[CellKey, list[Trial]] = {}
        self._ordered: set[CellKey] = set()
        self._failure: BaseException | None = None
        self._steps: SimpleQueue[str] = SimpleQueue()
        self.summary = ""

    def columns(self) -> list[tuple[str, str]]:
        """Each guest with each variant."""
        return [(guest, variant) for guest in self._guests for variant in self._variants]

    def fits(self, guest: str, variant: str, program: Program) -> bool:
        """Whether a run has such a cell."""
        return next(self._slots(guest, variant, program), None) is not None

    def options(self) -> str:
        """The options that a command needs to run one item again as it was run."""
        given = self._config.option
        arguments = [word for name in given.guest for word in ("--guest", name)]
        arguments += [word for name in given.variant for word in ("--variant", name)]
        arguments += ["--trials", str(self._count)] if self._count > 1 else []
        arguments += [word for file in given.harness_conf for word in ("--harness-conf", str(file))]
        return shlex.join(arguments)

    def wait(self, item: GoItem) -> list[Trial]:
        """An item's trials, once all are made. Raises what ended the run before."""
        key = _key(item)
        if key not in self._ordered:
            # A worker of xdist learns of its items one by one; otherwise all that are selected are made at once.
            items = [each for each in item.session.items if isinstance(each, GoItem)]
            others = [each for each in items if self.fits(each.guest, each.variant, each.program)]
            self._order([item] if self._worker else others, others)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._made(key) or self._failure is not None, timeout=0.5)
                if self._made(key):
                    return sorted(self._trials[key], key=lambda trial: trial.number)
                if self._failure:
                    item.session.shouldstop = f"{self._failure}"
                    raise self._failure
            self._show()

    def judge(self, item: GoItem, trials: list[Trial]) -> Cell:
        """The cell that an item's trials make."""
        from harness.conf.load import BASELINE
        from harness.results import matrix

        names = ([item.guest], [item.variant], [item.program.name])
        counted = matrix.build({}, *names, BASELINE, trials, [], expected=self._expected, day=date.today())
        return counted.cells[0]

    def end(self) -> None:
        """End the run; at once, if pytest ends before all that was ordered is made."""
        if not self._thread:
            return
        if not all(map(self._made, self._ordered)):
            self._stopped.set()
        self._orders.put(None)
        self._thread.join(_ENDING)

    def _made(self, key: CellKey) -> bool:
        return len(self._trials.get(key, ())) == self._count

    def _slots(self, guest: str, variant: str, program: Program) -> Iterator[TrialSpec]:
        from harness.programs.select import trial_specs

        guests: dict[str, conf.Guest] = {guest: self._guests[guest]}
        return trial_specs(guests, self._triples, {variant: self._variants[variant]}, [program], self._count)

    def _order(self, items: list[GoItem], selected: list[GoItem]) -> None:
        self._ordered |= set(map(_key, items))
        self._orders.put(items)
        if not self._thread:
            self._thread = threading.Thread(target=self._work_off, args=(selected,), daemon=True)
            self._thread.start()

    def _work_off(self, selected: list[GoItem]) -> None:
        """The thread: what is needed for the selected items is built, then trials are made as they are ordered."""
        from harness.run.conductor import run_request
        from harness.run.job import RunHooks
        from harness.run.request import Request

        options = self._config.option
        request = Request(
            selection=tuple(dict.fromkeys(str(item.path) for item in selected)),
            guests=tuple(dict.fromkeys(item.guest for item in selected)),
            variants=tuple(dict.fromkeys(item.variant for item in selected)),
            trials=self._count,
            jobs=1 if self._worker else options.harness_jobs,
            conf_files=tuple(options.harness_conf),
            work=self._work,
            kind="pytest",
        )
        failure: BaseException = RuntimeError("the run has ended")
        try:
            hooks = RunHooks(self._batches(), self._finished, self._stopped)
            _, run = run_request(request, _steps(self._steps.put), hooks=hooks)
            self.summary = f"Trials are in {self._work}; `harness show {run.id}` shows them"
        except BaseException as error:  # it is raised again by those who wait
            failure = error
        with self._changed:
            self._failure = failure
            self._changed.notify_all()

    def _batches(self) -> Iterator[Batch]:
        from functools import partial

        from harness.run.job import Batch

        while items := self._orders.get():
            slots: dict[str, list[TrialSpec]] = {}
            for item in items:
                slots.setdefault(item.guest, []).extend(self._slots(item.guest, item.variant, item.program))
            yield Batch({guest: partial(list[Any], each) for guest, each in slots.items()})

    def _finished(self, trial: Trial) -> None:
        with self._changed:
            self._trials.setdefault(trial.cell, []).append(trial)
            self._changed.notify_all()

    def _show(self) -> None:
        """Print what goes on before the trials and beside them, as pytest's live logs are printed."""
        terminal: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        capture: Any = self._config.pluginmanager.get_plugin("capturemanager")
        try:
            while True:
                line = self._steps.get_nowait()
                if terminal and capture and not self._worker and self._config.option.verbose >= 0:
                    with capture.global_and_fixture_disabled():
                        terminal.ensure_newline()
                        terminal.write_line(line)
        except Empty:
            pass


def _key(item: GoItem) -> CellKey:
    from harness.programs.model import CellKey

    return CellKey(item.guest, item.variant, item.program.name)


def _steps(put: Callable[[str], None]) -> Any:
    """A reporter of all but the trials, which pytest shows itself."""
    from harness.progress import Reporter

    class Steps(Reporter):
        def count(self, what: str, done: int, total: int, text: str) -> None:
            """Say how far a thing is, unless it is the trials."""
            if what != "trials":
                super().count(what, done, total, text)

    return Steps(put)
