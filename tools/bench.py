"""Benchmarks: ratios of two measurements, each with its goal and its method. `make bench` runs them.

The two are measured in turn, A B A B, so that a change of the machine's load affects both. A ratio is the median of
those of the pairs; its spread is from the smallest to the largest. `python -m tools.bench trial guests` runs the named
parts.
"""

from __future__ import annotations

import argparse
import filecmp
import itertools
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest import mock

from rich.console import Console
from rich.table import Table

from harness import conf, host, paths
from harness.build import libgo, source, toolchain
from harness.build.artifacts import Artifacts
from harness.build.variants import build_variants, read_variants
from harness.cache import Cache
from harness.guest import datadisk, migration, saved_memory
from harness.guest.machine import Machine, Saved
from harness.guest.qemu_command import find_qemu
from harness.guest.recording import recorded_guest
from harness.guest.saved_memory import Figures, Form
from harness.guest.workspace import guest_folder
from harness.programs.header import read_program
from harness.programs.model import Program, TrialSpec
from harness.progress import READY, Reporter
from harness.results import page
from harness.results.load import load_matrix
from harness.results.matrix import Matrix
from harness.results.plan import RunPlan
from harness.results.store import Store
from harness.run.job import RunContext
from harness.run.recordings import Maker, RecordedTrial, check
from harness.run.workers import WorkerPool
from harness.trial.execute import GuestSetup, TrialOptions
from harness.trial.record import Trial, Verdict
from tests import bisects, runs
from tools import dejagnu
from tools.setting import GUEST, Setting, open_setting

#: The libgo of all measurements.
VARIANT = "pristine"
#: A second one, where two are needed.
OTHER = "no-thread-destruction"
#: How often each measurement is made.
TURNS = 7
#: The same for measurements that take minutes.
LONG_TURNS = 3
#: A hard disk, or a disk by network; and zstd as it was measured.
_SLOW_DISK = Figures(read=60e6, ratio=2.0, expand=700e6)


class Bench:
    """Measures steps, and has the rows of the table that is printed at the end."""

    def __init__(self, title: str, method: str) -> None:
        self.title, self.method = title, method
        self.rows: list[tuple[str, ...]] = []
        self.seconds: dict[str, list[float]] = {}
        self.columns: tuple[str, ...] = ("step", "median time", "spread", "ratio (spread)", "goal")

    def measure(self, name: str, step: Callable[[], object]) -> None:
        """Run a step and measure its time by the wall clock."""
        begun = time.monotonic()
        step()
        self.note(name, time.monotonic() - begun)

    def note(self, name: str, seconds: float) -> None:
        """Add a measured time of a step."""
        self.seconds.setdefault(name, []).append(seconds)

    def row(self, name: str, ratio: str = "", note: str = "") -> None:
        """Add a row to the table: a step's median time, its spread, a ratio and a note."""
        seconds = self.seconds[name]
        median = f"{statistics.median(seconds):.3g} s"
        spread = f"{min(seconds):.3g} to {max(seconds):.3g} s" if len(seconds) > 1 else ""
        self.rows.append((name, median, spread, ratio, note))

    def ratio(self, name: str, against: str, goal: float, inverse: bool = False) -> None:
        """Add a row with the ratio of a step's time to another's, and whether the goal is met.

        Args:
            goal: the greatest ratio of the times; if it is inverse, the least.
            inverse: the ratio is that of the speeds.
        """
        pairs = zip(self.seconds[name], self.seconds[against], strict=True)
        ratios = [(other / step if inverse else step / other) for step, other in pairs]
        ratio = statistics.median(ratios)
        met = "met" if (ratio >= goal if inverse else ratio <= goal) else "missed"
        spread = f" ({min(ratios):.3g} to {max(ratios):.3g})" if len(ratios) > 1 else ""
        self.row(name, f"{ratio:.3g}{spread}", f"at {'least' if inverse else 'most'} {goal:g}: {met}")

    def show(self) -> None:
        """Print the table."""
        table = Table(*self.columns, title=self.title, caption=self.method, width=130)
        for row in self.rows:
            table.add_row(*row)
        Console(width=130).print(table)


#: Numbers of the stores of a bench.
_STORES = itertools.count(1)


class Trials:
    """Guests that make trials in the harness's own way, any number of them."""

    def __init__(
        self,
        setting: Setting,
        artifacts: Artifacts,
        guests: int,
        wanted: Verdict = Verdict.PASS,
        options: TrialOptions | None = None,
    ) -> None:
        self._guests, self._wanted = guests, wanted
        names = setting.configuration.signal_names(GUEST)
        setup = GuestSetup(GUEST, setting.guest, setting.tools.triple, names, artifacts)
        variants = {name: variant.config for name, variant in setting.variants.items()}
        files = {GUEST: setting.files}
        context = RunContext(
            {GUEST: setup}, files, variants, setting.folder, setting.cache, "on-trouble", options or TrialOptions()
        )
        self._pool = WorkerPool(context, setting.report)
        self._store = Store(setting.folder / f"results-{next(_STORES)}.sqlite")
        self._run = self._store.begin(RunPlan())
        self._numbers = itertools.count(1)
        self._pool.start({GUEST: guests})

    def make(self, programs: Iterable[Program]) -> list[Trial]:
        """Make one trial of each program. As in a run, a guest gets its next trial when its last one is stored."""
        numbered = zip(programs, self._numbers, strict=False)
        specs = (TrialSpec(GUEST, VARIANT, program, number) for program, number in numbered)
        pending = early = 0

        def put(count: int) -> int:
            """Have so many more run, if there are so many. Returns how many those are."""
            chosen = list(itertools.islice(specs, count))
            for spec in chosen:
                self._pool.put(spec)
            return len(chosen)

        pending += put(self._guests)
        finished = []
        while pending:
            outcome = self._pool.results.get()
            if outcome.one_more:  # another guest takes the place of one that is examined yet
                more = put(1)
                pending, early = pending + more, early + more
                continue
            if outcome.trial is None or outcome.trial.verdict is not self._wanted:
                sys.exit(f"bench: a trial that should come to {self._wanted} did not: {outcome}")
            finished.append(outcome.trial)
            self._store.add(self._run, outcome.trial)
            pending -= 1
            if outcome.taken_over and early:
                early -= 1
            else:
                pending += put(1)
        return finished

    def stop(self) -> None:
        """End the guests."""
        self._pool.stop()


@contextmanager
def start_guests(
    setting: Setting,
    artifacts: Artifacts,
    guests: int,
    wanted: Verdict = Verdict.PASS,
    options: TrialOptions | None = None,
) -> Iterator[Trials]:
    """Guests that make trials, which should come to a verdict, and end with the block."""
    trials = Trials(setting, artifacts, guests, wanted, options)
    try:
        yield trials
    finally:
        trials.stop()


def samples(folder: Path) -> list[Program]:
    """A program that prints a word, and one that ends a thread."""
    hello = folder / "bench" / "hello.go"
    hello.parent.mkdir()
    hello.write_text('package main\n\nimport "os"\n\nfunc main() {\n\tos.Stdout.WriteString("hello\\n")\n}\n')
    return [read_program(hello), read_program(paths.DATA / "suites" / "threads" / "lock-exit-once.go")]


def trial_overhead() -> Bench:
    """A trial through the harness against the same command in a loop of the guest's shell."""
    block, turns = 4, 15
    bench = Bench(
        "trial",
        f"A trial's time, the mean of {block} in a row, {turns} times in turn in the same guest. Harness: from the"
        " request to the stored result, all that the harness does for it. Loop: `while ...; do PROGRAM >/dev/null 2>&1;"
        " done` in the guest's shell, one command by the host's clock.",
    )
    with open_setting() as setting:
        programs = samples(setting.folder)
        artifacts = setting.build(programs)
        loops = {}
        for program in programs:
            file = artifacts.programs[VARIANT, program.name]
            # Workers put a program there. The loop is another program to them, which is run the same way.
            target = f"{setting.guest.folder}/bin/{file.parent.name}/{program.source.stem}"
            loop = setting.folder / f"loop-{program.source.stem}" / "loop"
            loop.parent.mkdir()
            loop.write_text(
                f"#!/bin/sh\ni=0\nwhile [ $i -lt {block} ]; do\n{target} >/dev/null 2>&1 || exit 1\ni=$((i+1))\ndone\n"
            )
            loops[program] = Program(f"loop/{program.source.stem}", loop, timeout=600)
            artifacts.programs[VARIANT, loops[program].name] = loop
        with start_guests(setting, artifacts, 1) as guest:
            guest.make(programs)  # the guest starts, the programs are shipped
            for _, (program, loop_program) in itertools.product(range(turns), loops.items()):
                setting.report.step("bench", f"trial, {program.name}")
                begun = time.monotonic()
                guest.make([program] * block)
                bench.note(f"harness: {program.name}", (time.monotonic() - begun) / block)
                (trial,) = guest.make([loop_program])
                bench.note(f"loop: {program.name}", trial.seconds / block)
        for program in programs:
            bench.row(f"loop: {program.name}")
            bench.ratio(f"harness: {program.name}", f"loop: {program.name}", 1.15)
    return bench


#: Programs that hang, each in a way of its own.
HANGS = {
    "mutex.go": 'package main\n\nimport (\n\t"os"\n\t"os/signal"\n\t"sync"\n)\n\nfunc main() {\n'
    "\tsignal.Notify(make(chan os.Signal, 1), os.Interrupt)\n\tvar m sync.Mutex\n\tm.Lock()\n\tm.Lock()\n}\n",
    "pipe.go": 'package main\n\nimport "os"\n\nfunc main() {\n\tr, w, _ := os.Pipe()\n\tr.Read(make([]byte, 1))\n'
    "\tw.Close()\n}\n",
    "sleep.go": 'package main\n\nimport "time"\n\nfunc main() {\n\ttime.Sleep(time.Hour)\n}\n',
}


def hangs() -> Bench:
    """A suite of hanging programs, whose hangs are seen early, against the same with --full-timeout."""
    bench = Bench(
        "hangs",
        f"One trial each of {len(HANGS)} programs that hang, with the usual limit of 60 s, in one guest, {LONG_TURNS}"
        " times in turn. Full: --full-timeout. Both with all that follows a hang: diagnostics, SIGQUIT, a fresh guest.",
    )
    with open_setting() as setting:
        programs = _hanging(setting.folder / "hangs")
        artifacts = setting.build(programs)
        with (
            start_guests(setting, artifacts, 1, Verdict.HANG) as early,
            start_guests(setting, artifacts, 1, Verdict.HANG, TrialOptions(full_timeout=True)) as full,
        ):
            for turn, (name, guest) in itertools.product(range(LONG_TURNS), (("early", early), ("full", full))):
                setting.report.step("bench", f"hangs, {name}, {turn + 1} of {LONG_TURNS}")
                bench.measure(name, partial(guest.make, programs))
    bench.row("full")
    bench.ratio("early", "full", 1 / 6)
    return bench


def spoilt_guests() -> Bench:
    """Trials that spoil their guests, with guests that are ready before they are needed, against without."""
    bench = Bench(
        "spoilt",
        f"{len(HANGS)} trials in a row of programs that hang, whose hangs are seen early, {LONG_TURNS} times in turn."
        " Ready: a spare guest is restored while trials run, and the next trial begins while the one that hangs is"
        " examined. One at a time: as where this machine has no memory for that.",
    )
    with open_setting() as setting:
        programs = _hanging(setting.folder / "hangs")
        artifacts = setting.build(programs)
        with (
            start_guests(setting, artifacts, 1, Verdict.HANG) as ready,
            start_guests(setting, artifacts, 1, Verdict.HANG) as single,
        ):
            for guest in (ready, single):
                guest.make(programs[:1])  # the first guest of each starts
            for turn in range(LONG_TURNS):
                setting.report.step("bench", f"spoilt guests, {turn + 1} of {LONG_TURNS}")
                bench.measure("ready", partial(ready.make, programs))
                with mock.patch.object(host, "available_memory", return_value=0):
                    bench.measure("one at a time", partial(single.make, programs))
    bench.row("one at a time")
    bench.ratio("ready", "one at a time", 0.8)
    return bench


def _hanging(folder: Path) -> list[Program]:
    """Programs that hang, in a new folder."""
    folder.mkdir()
    for name, text in HANGS.items():
        (folder / name).write_text(f"// run\n\n{text}")
    return [read_program(folder / name) for name in HANGS]


def restores() -> Bench:
    """A restore against a cold boot."""
    bench = Bench(
        "restore",
        f"Until the guest has answered its first command, {TURNS} times in turn. Boot: over SSH, without the shipping"
        " of the libgo and of the agent. Restore: with both on it, by the channel that was saved with it, and over SSH."
        " First answer: the same, from the moment when the restored machine goes on.",
    )
    with open_setting() as setting:
        with setting.fresh():
            pass  # boots and saves a guest, if there is none yet

        def until_answer(guest: Callable[[], object]) -> None:
            with ExitStack() as stack:
                # The end of the guest is not in the time.
                begun = time.monotonic()
                stack.enter_context(guest())  # type: ignore[arg-type]
                bench.note(guest.__name__, time.monotonic() - begun)

        @contextmanager
        def by_ssh() -> Iterator[None]:
            with setting.fresh() as guest:
                begun = time.monotonic()
                guest.shell.run("true")
                bench.note("first answer over SSH", time.monotonic() - begun)
                begun = time.monotonic()
                guest.run("true")
                bench.note("first answer by the channel", time.monotonic() - begun)
                yield

        for _ in range(TURNS):
            until_answer(setting.boot)
            until_answer(setting.fresh)
            until_answer(by_ssh)
    bench.seconds["cold boot"], bench.seconds["restore"] = bench.seconds["boot"], bench.seconds["fresh"]
    bench.seconds["restore, SSH"] = bench.seconds["by_ssh"]
    bench.row("cold boot")
    bench.ratio("restore", "cold boot", 0.1)
    bench.ratio("restore", "restore, SSH", 0.7)
    bench.row("first answer over SSH")
    bench.ratio("first answer by the channel", "first answer over SSH", 0.2)
    return bench


def kept_memory() -> Bench:
    """A restore by the forms that memory is kept in: compressed against plain, mapped-ram against a stream."""
    bench = Bench(
        "memory",
        f"From the start of QEMU until the guest goes on, {TURNS} times in turn, its memory in none of this machine's."
        f" Slow disk: the file comes by a pipe that gives {_SLOW_DISK.read / 1e6:.0f} MB/s, which stands in for one."
        " Mapped-ram: where QEMU has it.",
    )
    # What makes a machine choose each form: what is measured of the disk before, and of the memory afterwards.
    measured = {
        Form.STREAM: (_SLOW_DISK, None),
        Form.COMPRESSED: (_SLOW_DISK, _SLOW_DISK),
        Form.MAPPED: (None, None),
    }
    with open_setting() as setting:
        saved = {}
        for form, (before, afterwards) in measured.items():
            (setting.folder / form).mkdir()
            with (
                setting.fresh() as guest,
                mock.patch.object(saved_memory, "measure_disk", return_value=before),
                mock.patch.object(saved_memory, "measure", return_value=afterwards),
                mock.patch.object(migration, "MAPPED_FROM", 0),
            ):
                guest.close()
                saved[form] = guest.machine.save(setting.folder / form)
        if saved[Form.MAPPED].kept.form is not Form.MAPPED:
            del saved[Form.MAPPED]
        for _ in range(TURNS):
            for form, machine in saved.items():
                bench.note(form, _restore(setting, machine))
            for form in (Form.STREAM, Form.COMPRESSED):
                with _slowly(saved[form].memory) as pipe:
                    bench.note(f"{form}, slow disk", _restore(setting, replace(saved[form], memory=pipe)))
        sizes = {form: machine.memory.stat().st_blocks * 512 / 1e6 for form, machine in saved.items()}
    for form in (Form.STREAM, Form.COMPRESSED):
        bench.row(form, note=f"{sizes[form]:.0f} MB on the disk")
    if Form.MAPPED in saved:
        note = f"{sizes[Form.MAPPED]:.0f} MB on the disk; used from {migration.MAPPED_FROM} MiB on"
        bench.row(Form.MAPPED, note=note)
    bench.row(f"{Form.STREAM}, slow disk")
    bench.ratio(f"{Form.COMPRESSED}, slow disk", f"{Form.STREAM}, slow disk", 1 / saved_memory.WORTH)
    return bench


def _restore(setting: Setting, saved: Saved) -> float:
    """Restore a machine, and return the seconds that it took."""
    with guest_folder(setting.folder) as folder:
        if saved.memory.is_file():
            with saved.memory.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        machine = Machine(GUEST, setting.guest, setting.files, folder)
        begun = time.monotonic()
        try:
            machine.start(saved)
            return time.monotonic() - begun
        finally:
            machine.stop()


@contextmanager
def _slowly(file: Path) -> Iterator[Path]:
    """A named pipe that gives what a file holds, as fast as a slow disk."""
    pipe = file.with_name("pipe")
    os.mkfifo(pipe)

    def feed() -> None:
        with file.open("rb") as source, pipe.open("wb") as target:
            begun, sent = time.monotonic(), 0
            while piece := source.read(1 << 16):
                sent += target.write(piece)
                time.sleep(max(0.0, begun + sent / _SLOW_DISK.read - time.monotonic()))

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    yield pipe
    feeder.join()
    pipe.unlink()


def files_by_disk() -> Bench:
    """The agent and two libgos on a data disk against the same through SSH."""
    bench = Bench(
        "disk",
        f"The agent and two libgos, {VARIANT} and {OTHER}, {LONG_TURNS} times in turn, each in a freshly booted guest."
        " Disk: the file system is made, mounted, read whole for its checksums. SSH: they are uploaded. The boot is not"
        " in the time.",
    )
    with open_setting() as setting:
        artifacts = setting.build([])
        other = read_variants([OTHER], [setting.tools.triple], setting.configuration)
        artifacts.libgos.update(build_variants(other.values(), setting.tools, setting.cache, setting.report))
        contents = artifacts.contents(setting.guest, [VARIANT, OTHER])
        agent, mount = artifacts.agent_target(setting.guest), f"{setting.guest.folder}/data"
        for _ in range(LONG_TURNS):
            with setting.boot() as shell:
                begun = time.monotonic()
                for target, file in contents.items():
                    shell.put(file.read_bytes(), target)
                bench.note("SSH", time.monotonic() - begun)
            image = setting.folder / "data.img"
            begun = time.monotonic()
            datadisk.make(contents, image, setting.guest.os.creator)
            creation = time.monotonic() - begun
            with setting.boot(image) as shell:
                begun = time.monotonic()
                datadisk.bring(shell, setting.guest.mounts(mount), mount, contents, agent)
                bench.note("disk", creation + time.monotonic() - begun)
    bench.row("SSH", note=f"{sum(file.stat().st_size for file in contents.values()) / 1e6:.0f} MB")
    bench.ratio("disk", "SSH", 0.2)
    return bench


def files_while_running() -> Bench:
    """A libgo for a guest that runs, by the exchange disk against through SSH."""
    bench = Bench(
        "exchange",
        f"A libgo, {OTHER}, {LONG_TURNS} times in turn, each time for a restored guest. Exchange: the disk is written"
        " here, mounted and read for its checksum. SSH: the connection is made, the file is uploaded.",
    )
    with open_setting() as setting:
        other = read_variants([OTHER], [setting.tools.triple], setting.configuration)
        library = build_variants(other.values(), setting.tools, setting.cache, setting.report)[OTHER].library
        for _ in range(LONG_TURNS):
            for way in ("SSH", "exchange"):
                with setting.fresh() as guest:
                    begun = time.monotonic()
                    if way == "SSH":
                        guest.shell.put(library.read_bytes(), "/tmp/harness/lib/other")
                    else:
                        guest.put(library, "/tmp/harness/lib/other")
                    bench.note(way, time.monotonic() - begun)
    bench.row("SSH", note=f"{library.stat().st_size / 1e6:.0f} MB")
    bench.ratio("exchange", "SSH", 0.2)
    return bench


def guests_side_by_side() -> Bench:
    """Two guests against one."""
    block = 20
    bench = Bench(
        "guests",
        f"Time of {block} trials, {TURNS} times in turn; the guests are there already. Trials of the same two programs"
        f" one after the other. This machine has {os.cpu_count()} cores.",
    )
    with open_setting() as setting:
        programs = samples(setting.folder)
        artifacts = setting.build(programs)
        with start_guests(setting, artifacts, 1) as single, start_guests(setting, artifacts, 2) as pair:
            for guests in (single, pair):
                guests.make(programs * 4)
            for _ in range(TURNS):
                setting.report.step("bench", "guests")
                bench.measure("one guest", lambda: single.make(programs * (block // 2)))
                bench.measure("two guests", lambda: pair.make(programs * (block // 2)))
    bench.row("one guest")
    bench.ratio("two guests", "one guest", 1.8, inverse=True)
    return bench


def against_dejagnu() -> Bench:
    """The harness against DejaGnu, on the same programs."""
    number = 60
    bench = Bench(
        "dejagnu",
        f"{number} `run` programs of GCC's go.test, once each, {LONG_TURNS} times in turn, libgo {VARIANT}. Harness:"
        " the whole command `harness run`, with the start of Python, the restore of its guests, as many as there are"
        " cores, and the report. DejaGnu: `runtest`, its ssh protocol over one kept connection, on one guest that is"
        " there already. Compiled: all programs are before, for both. Compiling: each compiles all of them with the"
        " same words, the harness on all cores."
        " Only the harness compares output with .out files.",
    )
    with open_setting() as setting, setting.fresh() as guest:
        simple = [test for test in dejagnu.go_tests(setting) if test.kind == "run" and not test.build.packages]
        programs = simple[:: len(simple) // number][:number]
        artifacts = setting.build(programs)
        executables = {program: artifacts.programs[VARIANT, program.name] for program in programs}
        board = dejagnu.DejaGnu(setting, guest, executables)
        results: dict[str, str] = {}
        trials: dict[str, Trial] = {}

        def run_dejagnu(compiling: bool) -> None:
            results.update(board.run(compiling))

        def run_harness(compiling: bool) -> None:
            if compiling:  # the harness finds nothing in the cache, and compiles the same programs again
                for executable in artifacts.programs.values():
                    shutil.rmtree(executable.parent)
            trials.update(dejagnu.run_harness(setting, programs))

        try:
            for _, compiling in itertools.product(range(LONG_TURNS), (False, True)):
                for name, run in (("DejaGnu", run_dejagnu), ("harness", run_harness)):
                    step = f"{name}, {'compiling' if compiling else 'compiled'}"
                    setting.report.step("bench", step)
                    bench.measure(step, partial(run, compiling))
        finally:
            board.close()
    for kind in ("compiled", "compiling"):
        bench.row(f"DejaGnu, {kind}")
        bench.ratio(f"harness, {kind}", f"DejaGnu, {kind}", 3, inverse=True)
    differ = [name for name, result in results.items() if (result == "PASS") != (trials[name].verdict == "pass")]
    passed = sum(result == "PASS" for result in results.values())
    summary = f"{passed} of {len(results)} pass with DejaGnu, {len(differ)} differ"
    bench.rows.append(("verdicts", "", "", summary, f"the same: {'missed' if differ else 'met'}"))
    for name in differ:
        bench.rows.append(
            (f"  {name}", "", "", f"DejaGnu {results[name]}, harness {trials[name].verdict}", trials[name].reason)
        )
    return bench


@contextmanager
def caches(number: int) -> Iterator[list[Cache]]:
    """Empty caches."""
    with tempfile.TemporaryDirectory(dir=Path.home()) as folder:
        yield [Cache(Path(folder) / str(place)) for place in range(number)]


def libgo_builds() -> Bench:
    """A full build, an incremental one, and one that is cached already; and a check of the incremental one."""
    configuration = conf.load()
    tools = toolchain.find("linux-i386", configuration)
    go, c = "no-thread-destruction", "explicit-stack-size"
    bench = Bench(
        "libgo",
        f"One build of each, one after the other, GCC {tools.version}, `harness build`'s own steps without the start of"
        " Python, in caches of their own. Full: configure and make of the unpatched source. Whole: the same of the"
        " patched source.",
    )
    variants = read_variants(("pristine", go, c), [tools.triple], configuration)
    with caches(2) as (cache, other), Reporter() as report:

        def make(name: str, into: Cache = cache, whole: bool = False) -> libgo.Libgo:
            label = f"libgo {name}{', whole' * whole}"
            progress = partial(report.step, label)
            library = libgo.build(tools, variants[name].recipe, into, progress, whole=whole)
            report.step(label, READY)
            return library

        for each in (cache, other):
            source.unpack(tools, each)
        bench.measure("full build", lambda: make("pristine"))
        bench.measure(f"incremental build: {go}, a Go function", lambda: make(go))
        bench.measure(f"incremental build: {c}, a C function", lambda: make(c))
        bench.measure("nothing to do", lambda: make(go))
        bench.measure(f"whole build: {go}", lambda: make(go, other, whole=True))
        bench.row("full build", "1")
        for name, goal in zip(list(bench.seconds)[1:4], (0.1, 0.1, 0.01), strict=True):
            bench.ratio(name, "full build", goal)
        stripped = []
        for place, build in enumerate((make(go), make(go, other, whole=True))):
            # Debugging information may have other lines for inlined functions; nothing else may differ.
            stripped.append(cache.root / f"stripped{place}")
            subprocess.run([tools.tool("strip"), "--strip-debug", "-o", stripped[-1], build.library], check=True)
        note = (
            "the library is the incremental one's, byte for byte"
            if filecmp.cmp(stripped[0], stripped[1], shallow=False)
            else "ANOTHER LIBRARY than the incremental one"
        )
        bench.row(f"whole build: {go}", note=note)
    return bench


def simulated_bisects() -> Bench:
    """The trials of synthetic bisects against those of a plain one."""
    bench = Bench(
        "bisect",
        "Synthetic bisects with random outcomes: 1 to 64 hunks or commits; the outcome comes with a chance of 0 to"
        " 50 % without the culprit, and of 33 to 100 % with it. The plain bisect knows these chances, and what does"
        " not build; it repeats each step as often as it takes to be right in all steps together with 95 %, and finds"
        " two hunks by halving twice. The trials of both ends are in both counts; those that check whether effects are"
        " graded, which a plain bisect does not, have a column of their own. Rows of chances are of hunks.",
    )
    bench.columns = ("bisects", "trials each", "to check it", "plain bisect", "ratio", "goal")

    def row(name: str, summary: bisects.Summary, goal: bool) -> None:
        ratio = summary.trials / summary.plain
        met = f"at most 0.5: {'met' if ratio <= 0.5 else 'missed'}" if goal else ""
        trials, checks, plain = f"{summary.trials:.1f}", f"{summary.checks:.1f}", f"{summary.plain:.1f}"
        bench.rows.append((name, trials, checks, plain, f"{ratio:.2f}", met))
        met = "met" if summary.right >= summary.claimed - summary.spread else "missed"
        claimed = f"claimed {summary.claimed:.1%} ± {summary.spread:.1%}"
        bench.rows.append(
            (f"  right of {summary.answers}", f"{summary.right:.1%}", "", "", claimed, f"as claimed: {met}")
        )

    row("one or two hunks", bisects.many("any", 2000, seed=7), goal=True)
    row("one commit", bisects.many("prefixes", 2000, seed=7), goal=False)
    row("one hunk, builds that fail", bisects.many("needs", 1000, seed=7), goal=False)
    for p0, p1 in ((0.0, 1.0), (0.0, 0.75), (0.0, 0.5), (0.0, 0.33), (0.1, 0.9), (0.25, 0.75)):
        row(f"p0 = {p0:g}, p1 = {p1:g}", bisects.many("any", 300, seed=8, chances=(p0, p1)), goal=False)
    return bench


def report_of_many() -> Bench:
    """The report of 100,000 trials: writing it, opening it and using it."""
    from playwright.sync_api import Page, sync_playwright

    bench = Bench(
        "report",
        "A made-up run of 100,000 trials in a store: 1,000 programs, two guests, two variants, 25 trials. Opened: until"
        " the matrix is there and all has been loaded. Used: until the result is shown.",
    )
    programs = runs.names(1000)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        store = Store(Path(folder) / "results.sqlite")
        plan = RunPlan(guests=[*runs.GUESTS], variants=[*runs.VARIANTS], programs=programs, trials=25)
        number = store.begin(plan)
        for trial in runs.trials(programs, each=25):
            store.add(number, trial)
        file = Path(folder) / "report.html"
        matrices: list[Matrix] = []
        bench.measure("count the trials", lambda: matrices.append(load_matrix(store, store.run(number))))
        bench.measure(
            "write the page", lambda: page.write(file, matrices[0], store.trials(number), (), store.collected)
        )
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"))
        for _ in range(TURNS):
            tab = browser.new_page(viewport={"width": 1280, "height": 900})

            def open_page(tab: Page = tab) -> None:
                tab.goto(file.as_uri())
                tab.wait_for_selector("html[data-ready]")

            def open_cell(tab: Page = tab) -> None:
                tab.locator(".cell").first.click()
                tab.wait_for_selector("#drawer .command")

            bench.measure("open it", open_page)
            bench.measure("filter it by a word", partial(tab.fill, "#filter-text", "program-99"))
            bench.measure("open a cell", open_cell)
            tab.close()
        browser.close()
        bench.row("count the trials")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        bench.row(
            "write the page", note=f"{file.stat().st_size / 1e6:.1f} MB; this process took {peak:.0f} MiB at most"
        )
        for name, goal in (("open it", 3.0), ("filter it by a word", 0.5), ("open a cell", 0.5)):
            met = "met" if statistics.median(bench.seconds[name]) < goal else "missed"
            bench.row(name, note=f"under {goal:g} s: {met}")
    return bench


#: Prints how many seconds the guest has run.
_UPTIME = """package main

import (
	"fmt"
	"os"
)

func main() {
	text, _ := os.ReadFile("/proc/uptime")
	fmt.Print(string(text))
}
"""


def recorded_machines() -> Bench:
    """A machine that is recorded against the same that is not, and its replay."""
    bench = Bench(
        "recordings",
        f"Time of a boot, of a trial that ends at once, and of the machine's end, {LONG_TURNS} times in turn. A second"
        " of the guest is one of its own clock.",
    )
    sizes, guest_seconds = [], []
    with open_setting() as setting:
        source = setting.folder / "uptime.go"
        source.write_text(_UPTIME)
        program = read_program(source)
        config = recorded_guest(GUEST, setting.configuration, find_qemu(GUEST, setting.guest))
        names = setting.configuration.signal_names(GUEST)
        setup = GuestSetup(GUEST, config, setting.tools.triple, names, setting.build([program]))
        variants = {name: variant.config for name, variant in setting.variants.items()}
        maker = Maker(setting.folder, setup, setting.files, variants, setting.report, setting.progress, TrialOptions())
        spec = TrialSpec(GUEST, VARIANT, program, 1)
        for _ in range(LONG_TURNS):
            with guest_folder(setting.folder) as folder:
                bench.measure("plain", partial(maker.make, spec, folder, recorded=False))
            with guest_folder(setting.folder) as folder:
                begun = time.monotonic()
                made = maker.make(spec, folder)
                bench.note("record", time.monotonic() - begun)
                if made.stored is None:
                    sys.exit(f"bench: {made.lack}")
                recorded = RecordedTrial(folder, maker.complete(made.stored, spec, folder))
                checked = check(recorded, setting.folder, setting.report)
                if checked.differences:
                    sys.exit(f"bench: the replay is not what was recorded: {'; '.join(checked.differences)}")
                bench.note("replay", checked.seconds)
                sizes.append(recorded.log.stat().st_size)
                guest_seconds.append(float(made.trial.stdout.split()[0]))
    bench.row("plain")
    bench.ratio("record", "plain", 4.0)
    rates = [size / seconds / 1e6 for size, seconds in zip(sizes, guest_seconds, strict=True)]
    bench.ratio("replay", "record", 2.0)
    size = f"{statistics.median(sizes) / 1e6:.1f} MB of log, {statistics.median(rates):.2g} MB"
    bench.row("replay", note=f"{size} for a second of the guest's")
    return bench


PARTS = {
    "trial": trial_overhead,
    "hangs": hangs,
    "spoilt": spoilt_guests,
    "restore": restores,
    "memory": kept_memory,
    "exchange": files_while_running,
    "disk": files_by_disk,
    "guests": guests_side_by_side,
    "recordings": recorded_machines,
    "dejagnu": against_dejagnu,
    "libgo": libgo_builds,
    "bisect": simulated_bisects,
    "report": report_of_many,
}


def main() -> None:
    """Run the named parts, by default all."""
    parts = "\n".join(f"  {name:12}{(part.__doc__ or '').partition('.')[0]}" for name, part in PARTS.items())
    parser = argparse.ArgumentParser(
        "python -m tools.bench",
        description=(__doc__ or "").partition("\n")[0],
        epilog=f"parts, by default all:\n{parts}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("part", nargs="*")
    chosen = parser.parse_args().part or list(PARTS)
    for name in chosen:
        if name not in PARTS:
            parser.error(f"no part named {name}; known: {', '.join(PARTS)}")
    if "dejagnu" in chosen and not shutil.which("runtest"):
        sys.exit("bench: DejaGnu is not installed: apt-get install dejagnu")
    for name in chosen:
        PARTS[name]().show()


if __name__ == "__main__":
    main()
