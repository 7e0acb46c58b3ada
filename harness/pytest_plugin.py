"""pytest as a front end of runs: Go and C programs are collected as items, one a cell, and run in the background.

`pytest suites/threads --guest linux-i386 --variant no-thread-destruction --trials 5` makes the trials of all selected
items side by side in the guests, in the order of the items, while pytest waits for one item after the other. An item
passes if all trials of its cell do; a known failure (conf/expected.yaml) is an xfail, one that passes is reported as a
strict xfail that passes. A guest's trouble is an error of the item's set-up, never a failure. Trials are stored like
those of `harness run`, and a session ends with the run's matrix.

They are collected only where they are asked for: in a session that names a .go or .c file, or a folder that has
programs (harness/programs/sources.py), or that is given --guest or --variant.

With pytest-xdist each worker has one guest, runs the items that it is given and makes a run of its own; in the end the
controller merges these runs. The rest of the harness is imported when a session names a folder or a Go file, so that
others do not pay for it.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import shlex
import sys
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
    from harness.results.matrix import Cell, Matrix
    from harness.run.job import Batch
    from harness.trial.record import Trial

#: As harness.programs.sources has them, which is not imported yet.
_SUFFIXES = (".go", ".c")
#: What a worker of xdist is told if its session asks for Go files.
_ASKED = "harness"
#: The property of a report that has the number of the item's run.
_RUN = "run"
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
    group.addoption(
        "--harness-full-timeout",
        action="store_true",
        help="Wait for the time limit of every program that hangs.",
    )
    group.addoption("--harness-work", metavar="DIR", help="The work directory. [default: $HARNESS_WORK or .harness]")


def pytest_configure(config: pytest.Config) -> None:
    """Take part in sessions that ask for Go files. A worker of xdist cannot tell, and is told."""
    asked = config.option.guest or config.option.variant
    if hasattr(config, "workerinput"):
        asked = _ASKED in config.workerinput
    if asked or any(_holds_programs(path, config) for path in _named(config)):
        config.pluginmanager.register(_Plugin(config), "harness-session")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, not {text}")
    return int(text)


def _named(config: pytest.Config) -> Iterator[Path]:
    """The files and folders that the user, or `testpaths`, named."""
    if config.args_source != config.ArgsSource.INVOCATION_DIR and not hasattr(config, "workerinput"):
        yield from _arguments(config)


def _arguments(config: pytest.Config) -> Iterator[Path]:
    """The files and folders that a session collects from, written as pytest writes those that it collects."""
    for word in config.args:
        yield Path(os.path.abspath(config.invocation_params.dir / word.partition("::")[0]))


def _holds_programs(path: Path, config: pytest.Config) -> bool:
    return any(_programs(path, config)) if path.is_dir() else path.suffix in _SUFFIXES


def _programs(folder: Path, config: pytest.Config) -> Iterator[Path]:
    """The programs of a folder, but for those where pytest does not look."""
    from harness.log import ignored
    from harness.programs.sources import program_files

    with ignored(logging.getLogger(__name__), f"looking for programs in {folder}", OSError):
        yield from program_files(folder, config.getini("norecursedirs"))


class _Plugin:
    """The hooks of a session with Go files."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._run: _Run | None = None
        self._programs: set[Path] = set()

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker of xdist that it takes part."""
        node.workerinput[_ASKED] = True

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        """Refuse wrong configuration, guests and variants before anything is collected. Raises pytest.UsageError."""
        from harness.errors import HarnessError

        try:
            self._run = _Run(self._config)
        except HarnessError as error:
            raise pytest.UsageError(str(error)) from error
        folders = filter(Path.is_dir, _arguments(self._config))
        self._programs = {file for folder in folders for file in _programs(folder, self._config)}

    def pytest_collect_file(self, file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        """Collect a Go or C file that is named, or is a program of a folder that is."""
        if file_path.suffix not in _SUFFIXES or self._run is None:
            return None
        if not parent.session.isinitpath(file_path) and file_path not in self._programs:
            return None
        return GoFile.from_parent(parent, path=file_path, run=self._run)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Name the programs that are selected as the run names them: apart, where two have the same name."""
        from harness.errors import ProgramError
        from harness.log import ignored
        from harness.programs.select import select_programs

        items = [item for item in session.items if isinstance(item, GoItem)]
        # What cannot be told apart is an error of the items that run.
        with ignored(logging.getLogger(__name__), "naming programs", ProgramError):
            chosen = select_programs(list(dict.fromkeys(str(item.path) for item in items))) if items else []
            by_source = {_identity(program.source): program for program in chosen}
            for item in items:
                item.program = by_source[_identity(item.path)]

    def pytest_report_collectionfinish(self) -> list[str]:
        """Say which files of the folders may be programs by mistake left out."""
        from harness.programs.select import describe_overlooked

        note = describe_overlooked([os.path.relpath(path) for path in _named(self._config)])
        return [note] if note and self._config.option.verbose >= 0 else []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note the run that an item was of: with xdist, that of a worker."""
        if self._run and (number := dict(report.user_properties).get(_RUN)):
            self._run.numbers[int(str(number))] = None

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """End the guests, and put together what workers have made."""
        if self._run:
            self._run.end()

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show the matrix, and say where the trials are."""
        if self._run and self._run.summary:
            terminalreporter.section("harness")
            if self._run.matrix and self._config.option.verbose >= 0:
                terminalreporter.write_line(f"{_table(self._run.matrix, self._config)}\n")
            terminalreporter.write_line(self._run.summary)


def _identity(source: Path) -> Path:
    """A source's path without links to its folder."""
    return source.parent.resolve() / source.name


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
        """Wait for the trials. A guest, or the harness, that could not make them is told in a sentence."""
        from harness.errors import HarnessError
        from harness.results.text import render_count

        try:
            self._trials = self._run.wait(self)
        except HarnessError as error:
            raise pytest.fail.Exception(str(error), pytrace=False) from None
        self.user_properties.append((_RUN, self._run.number))
        lost = [trial for trial in self._trials if trial.verdict == "error"]
        if lost:
            trials = render_count(len(self._trials), "trial")
            text = f"{len(lost)} of {trials} ended in infrastructure errors: {lost[0].reason}"
            raise pytest.fail.Exception(f"{text}\n{self._run.opened(lost[0])}", pytrace=False)

    def runtest(self) -> None:
        """Judge the cell."""
        cell = self._run.judge(self, self._trials)
        signatures = "; ".join(cell.signatures)
        facts = {"guest": self.guest, "variant": self.variant, "trials": cell.trials, "passed": cell.passed}
        self.user_properties += [*facts.items(), *([("signature", signatures)] if signatures else [])]
        if cell.known and not cell.surprise:
            pytest.xfail("; ".join(dict.fromkeys(finding.expected for finding in cell.findings if finding.expected)))
        if cell.known or cell.surprise:
            raise NotPassed(_failure(cell, self._trials, self._run, self._again()))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """What the user is shown: no Python, but the program's own words; of --tb=line the first line."""
        if not isinstance(excinfo.value, NotPassed):
            return super().repr_failure(excinfo, style)
        text = str(excinfo.value)
        return text.partition("\n")[0] if self.config.option.tbstyle == "line" else text

    def reportinfo(self) -> tuple[Path, int, str]:
        """Where it stands, with a line as skipping wants one, and its name."""
        return self.path, 0, f"{self.program.name} {self.name}"

    def _again(self) -> str:
        from harness.invocation import program

        path = os.path.relpath(self.path, self.config.invocation_params.dir)
        return f"{shlex.join([*program('pytest'), f'{path}::{self.name}'])} {self._run.options()}".rstrip()


class NotPassed(Exception):
    """A cell did not come out as expected; the text is the whole story."""


def _failure(cell: Cell, trials: list[Trial], run: _Run, again: str) -> str:
    """Counts; the signature of each way in which it went wrong, with the first such trial's output; commands."""
    from harness.invocation import repeated
    from harness.results.text import render_count, shown_stream, stream_lines

    counts = f"{cell.passed} of {render_count(cell.trials, 'trial')} passed"
    if cell.contradicts and cell.passed == cell.trials:  # as pytest tells an xfail(strict=True) that passes
        return "\n".join([f"[XPASS(strict)] {cell.contradicts}", f"{counts}, though it is known to fail", "", again])
    title = f"; {cell.findings[0].title}" if cell.findings else ""
    lines = [f"{cell.verdict}: {counts}{title}"]
    commands: list[str] = []
    if cell.contradicts:
        lines.append(f"expected: {cell.contradicts}")
    for finding in cell.findings:
        trial = next(each for each in trials if finding.title == (each.signature or each.reason))
        if len(cell.findings) > 1:
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
        commands += [run.opened(trial), repeated(trial.command, run.work)]
    return "\n".join([*lines, "", "---- all of it, and to run it again", *dict.fromkeys(commands), again])


class _Run:
    """The run of a session: begun when the first item needs it, in a thread of its own.

    Raises HarnessError if the configuration, a guest, a variant or the work directory is wrong.

    Attributes:
        number: the number of this session's own run, once it has begun.
        numbers: those of all runs of the session that items were of, as keys; with xdist, of the workers.
        summary: where the trials are, once the session has ended; matrix: their matrix, if it can be made.
        work: the work directory.
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
        self.work = paths.work_dir(options.harness_work)
        existing = next(place for place in (self.work, *self.work.parents) if place.exists())
        if not existing.is_dir():
            raise StoreError(f"the work directory {self.work} cannot be made: {existing} is no folder")
        self._configuration = load_configuration(options.harness_conf, self.work)
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
        self._quiet = _Quiet(config)
        self.number = 0
        self.numbers: dict[int, None] = {}
        self.summary = ""
        self.matrix: Matrix | None = None

    def columns(self) -> list[tuple[str, str]]:
        """Each guest with each variant."""
        return [(guest, variant) for guest in self._guests for variant in self._variants]

    def fits(self, guest: str, variant: str, program: Program) -> bool:
        """Whether a run has such a cell."""
        return next(self._slots(guest, variant, program), None) is not None

    def options(self) -> str:
        """The options that a command needs to run one item again as it was run."""
        options = self._config.option
        arguments = [word for name in options.guest for word in ("--guest", name)]
        arguments += [word for name in options.variant for word in ("--variant", name)]
        arguments += ["--trials", str(self._count)] if self._count > 1 else []
        arguments += [word for file in options.harness_conf for word in ("--harness-conf", str(file))]
        arguments += ["--harness-full-timeout"] * options.harness_full_timeout
        arguments += ["--harness-work", options.harness_work] if options.harness_work else []
        return shlex.join(arguments)

    def opened(self, trial: Trial) -> str:
        """The command that shows all of a trial."""
        from harness.invocation import command_line

        return command_line("open", str(trial.id), work=self.work)

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
        from harness.results.build_matrix import build_matrix

        names = ([item.guest], [item.variant], [item.program.name])
        counted = build_matrix({}, *names, BASELINE, trials, [], expected=self._expected, day=date.today())
        return counted.cells[0]

    def end(self) -> None:
        """End the run; at once, if pytest ends before all that was ordered is made. Then sum up what was made."""
        from harness.errors import HarnessError

        if self._thread:
            if not all(map(self._made, self._ordered)):
                self._stopped.set()
            self._orders.put(None)
            self._thread.join(_ENDING)
            self._quiet.end()
        if self.number and not self._worker:
            self.numbers[self.number] = None
        if self.numbers and not self._worker:
            try:
                self.summary = self._sum_up(sorted(self.numbers))
            except (HarnessError, OSError) as error:
                runs = ", ".join(map(str, sorted(self.numbers)))
                self.summary = f"The trials are in {self.work}, runs {runs}: {error}"

    def _sum_up(self, numbers: list[int]) -> str:
        """Merge what was made, if it is several runs, and say where it is. Raises HarnessError."""
        from harness.cli.output import REPORT, unfinished_note, write_index, write_report
        from harness.errors import HarnessError
        from harness.invocation import command_line
        from harness.results.load import load_history, load_matrix
        from harness.results.merge import Source, merge
        from harness.results.store import Store

        store = Store(self.work / "results.sqlite")
        lines: list[str] = []
        number = numbers[0]
        if len(numbers) > 1:
            number = merge([Source(store, store.run(each), self.work) for each in numbers], self.work).number
            *others, last = map(str, numbers)
            lines.append(f"The workers made runs {', '.join(others)} and {last}; merged, they are run {number}.")
        run = store.run(number)
        self.matrix = matrix = load_matrix(store, run)
        write_report(store, run, matrix, self.work, None)
        report = self.work / "runs" / str(number) / REPORT
        shows = command_line("show", str(number), work=self.work)
        lines += [
            *[sentence for sentence in [unfinished_note(run, matrix, self.work)] if sentence],
            *matrix.unmatched,
            f"Trials are in {self.work}; `{shows}` shows them. HTML: {report}",
        ]
        try:
            lines.append(f"All runs: {write_index(store, self.work, load_history(store, self.work))}")
        except HarnessError as error:  # of another run, which says nothing of this one
            lines.append(f"The page of all runs was not written: {error}")
        return "\n".join(lines)

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
            self._quiet.begin()
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
            work=self.work,
            kind="pytest",
            full_timeout=options.harness_full_timeout,
        )
        failure: BaseException = RuntimeError("the run has ended")
        try:
            hooks = RunHooks(self._batches(), self._finished, self._stopped, self._begun)
            with _steps(self._steps.put) as report:
                run_request(request, report, hooks=hooks)
        except BaseException as error:  # it is raised again by those who wait
            failure = error
        with self._changed:
            self._failure = failure
            self._changed.notify_all()

    def _begun(self, number: int) -> None:
        self.number = number

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


class _Quiet:
    """Keeps the harness's log from what pytest shows below whatever item waits. The run's folder has it.

    pytest takes records of all loggers, even those that do not propagate, so its handlers are told.
    """

    def __init__(self, config: pytest.Config) -> None:
        plugin = config.pluginmanager.get_plugin("logging-plugin")
        handlers = (getattr(plugin, f"{name}_handler", None) for name in ("caplog", "report", "log_cli"))
        self._handlers = [handler for handler in handlers if isinstance(handler, logging.Handler)]

    def begin(self) -> None:
        for handler in self._handlers:
            handler.addFilter(_is_foreign)

    def end(self) -> None:
        for handler in self._handlers:
            handler.removeFilter(_is_foreign)


def _is_foreign(record: logging.LogRecord) -> bool:
    return record.name.partition(".")[0] != "harness"


def _table(matrix: Matrix, config: pytest.Config) -> str:
    """The matrix as the terminal of a session can show it."""
    from rich.console import Console

    from harness.results.terminal import print_cells

    class Text(io.StringIO):
        encoding = getattr(sys.__stdout__, "encoding", None) or "ascii"

    writer = config.get_terminal_writer()
    text = Text()
    print_cells(matrix, Console(file=text, width=writer.fullwidth, force_terminal=writer.hasmarkup))
    return "\n".join(line.rstrip() for line in text.getvalue().rstrip().splitlines())


def _key(item: GoItem) -> CellKey:
    from harness.programs.model import CellKey

    return CellKey(item.guest, item.variant, item.program.name)


def _steps(put: Callable[[str], None]) -> Any:
    """A reporter of all but the trials, which pytest shows itself."""
    from harness.progress import Reporter

    class Steps(Reporter):
        def count(
            self, what: str, done: int, total: int, text: str, left: float | None = None, begins: bool = False
        ) -> None:
            """Say how far a thing is, unless it is the trials."""
            if what != "trials":
                super().count(what, done, total, text, left, begins)

    return Steps(put)
