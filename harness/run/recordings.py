"""Recordings of trials: a trial is repeated in recorded machines until one has the same outcome, and that recording is
kept. A kept recording is replayed and checked against what was recorded.

A recording lies in the folder of its run. A machine is recorded from its boot on: a restored one has a past that no log
has. Knows nothing of gdb and of capsules.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from harness import clock, conf, log, paths
from harness.cache import Cache, file_digest
from harness.errors import GuestError, HarnessError, ProgramError, StoreError
from harness.guest import qemu
from harness.guest import replay as replays
from harness.guest.agent import Message
from harness.guest.bootfiles import BootFiles
from harness.guest.machine import Machine
from harness.guest.pool import Pool
from harness.guest.qemu_command import find_qemu, qemu_version
from harness.guest.recording import Recording, recorded_guest
from harness.guest.replay import Replayed
from harness.guest.workspace import SCREENS, guest_folder, short_name
from harness.invocation import command_line
from harness.locks import lock
from harness.programs.model import TrialSpec
from harness.progress import READY, Reporter
from harness.results.deaths import death_title
from harness.results.listing import lock_file
from harness.results.store import Run, Store
from harness.run.job import ATTEMPTS
from harness.run.manifest import check_repeated
from harness.run.prepare import guest_setups, prepare_run, trial_options
from harness.run.request import Request
from harness.run.resolve import resolve
from harness.trial import diagnostics
from harness.trial.execute import PING, Execution, GuestSetup, Scene, TrialOptions, infra_error
from harness.trial.observe import NOTHING, GuestLost, observe
from harness.trial.record import Trial, Verdict
from harness.trial.signature import normal

_log = logging.getLogger(__name__)

#: The folder of a run that holds its recordings, each in a folder of its trial's number, and what describes one there.
FOLDER, RECORD = "recordings", "recording.json"
#: The files of a recording that hold the contents of the data disk, and the program.
DATA, PROGRAM = "data.img", "program"
#: The part of a trial that says where its recording is.
PART = f"{diagnostics.PREFIX}recording"


class StoredFile(BaseModel):
    """A file that a recorded machine needs. If it is part of the recording, `path` is its name in there. `changed` is
    its time of change in ns: while that is the same, the file need not be read again."""

    path: str
    size: int
    changed: int
    sha256: str

    @classmethod
    def of(cls, path: Path, name: str = "") -> StoredFile:
        """A file as it is. Raises OSError."""
        status = path.stat()
        return cls(path=name or str(path), size=status.st_size, changed=status.st_mtime_ns, sha256=file_digest(path))

    def differs(self, folder: Path) -> str:
        """How the file has changed, in a few words; '' if it has not. `folder` is the recording's."""
        path = folder / self.path
        try:
            status = path.stat()
            if (status.st_size, status.st_mtime_ns) == (self.size, self.changed):
                return ""
            same = status.st_size == self.size and file_digest(path) == self.sha256
        except OSError as error:
            return f"{path}: {error.strerror}"
        return "" if same else f"{path} has changed"


class Output(BaseModel):
    """A piece of a program's output, when it came: `packets` is how many bytes of the network's packets there were."""

    stream: str
    text: str
    packets: int


class StoredRecording(BaseModel):
    """What is kept of a recording beside QEMU's log.

    Attributes:
        trial: its trial; of: the one that it repeats.
        qemu: the path of QEMU; version: the first line of what it says of it.
        template: its command line (harness/guest/recording.py).
        files: what the machine boots from, by what it is.
        kept: the recording's own files.
        disk: its disk, if it has one.
        data: whether it has a data disk.
        system: its operating system's name.
        begin: how many instructions the machine had executed when the trial began.
        end: the same, when the program had ended or, at its time limit, was still there.
        icount: the same, when the machine was ended.
        seconds: how long it ran by the host's clock.
        event: what happened at `end`, in a sentence.
        libraries: the paths in the guest of the libraries that came with the program.
        output: the program's output, in the order in which it came.
        samples: when, in instructions, the console and the packets grew in a replay.
    """

    model_config = ConfigDict(extra="allow")
    trial: int
    of: int
    guest: str
    program: str
    variant: str
    title: str
    qemu: str
    version: str
    template: list[str]
    files: dict[str, StoredFile]
    kept: list[StoredFile] = []
    disk: conf.Disk | None
    data: bool
    system: str = "posix"
    begin: int
    end: int
    icount: int
    seconds: float
    event: str
    libraries: list[str] = []
    output: list[Output] = []
    samples: list[tuple[int, int, int]] = []


@dataclass(frozen=True)
class RecordedTrial:
    """A recording that is kept: where it lies, and what is kept of it."""

    folder: Path
    stored: StoredRecording

    @property
    def console(self) -> Path:
        """What the console of the recorded machine said."""
        return self.folder / "console.log"

    @property
    def log(self) -> Path:
        """QEMU's log."""
        return Recording(self.folder).log

    @property
    def packets(self) -> Path:
        """What it sent to its network."""
        return Recording(self.folder).packets

    @property
    def size(self) -> int:
        """How many bytes it takes."""
        return sum(file.stat().st_blocks * 512 for file in self.folder.iterdir())


@dataclass(frozen=True)
class Tries:
    """The result of repeating a trial in recorded machines.

    Attributes:
        kept: the recording, if a trial had the same outcome.
        replayed: how many seconds its replay took.
        outcomes: how often trials came to what.
        lacks: why recordings of trials with the same outcome were not kept.
    """

    run: Run
    wanted: str
    kept: RecordedTrial | None
    replayed: float
    outcomes: Counter[str]
    lacks: list[str]


def outcome(trial: Trial) -> str:
    """A trial's outcome: its verdict and its title; if the guest was in trouble, the trouble, without its numbers."""
    title = trial.signature
    if trial.verdict is Verdict.ERROR:
        title = death_title(trial.reason) or normal(trial.reason)
    return (
        f"{trial.verdict}: {title}" if title and not title.startswith(f"{trial.verdict}: ") else title or trial.verdict
    )


def record(request: Request, number: int, report: Reporter) -> Tries:
    """Repeat a trial in recorded machines until one has the same outcome, at most as often as the request has trials.

    Args:
        request: that of the trial's cell.
        number: the trial's.

    Raises:
        HarnessError: bad input, or a guest that cannot be recorded.
        GuestError: guests that cannot be used, with all finished trials stored.
    """
    try:
        with log.of_run() as log_to, ExitStack() as stack:
            return _record(request, number, report, log_to, stack)
    except BrokenPipeError:  # of whoever reads what is printed
        raise
    except OSError as error:
        where = error.filename or request.work
        raise HarnessError(f"trial {number} cannot be recorded: {where}: {error.strerror}") from error


def _record(request: Request, number: int, report: Reporter, log_to: Callable[[Path], None], stack: ExitStack) -> Tries:
    resolved = resolve(request)
    (name,) = resolved.guests
    store = Store(request.work / "results.sqlite")
    wanted = outcome(store.trial(number)[1])
    specs = list(islice(resolved.matrix_trials([name], request.trials), request.trials)) or resolved.cells()
    guest = recorded_guest(name, resolved.configuration, find_qemu(name, resolved.guests[name]))
    prepared = prepare_run(resolved, report, boot_here=False)
    check_repeated(request, prepared.plan, store)
    for output in prepared.artifacts[guest.toolchain].broken.values():
        raise ProgramError(f"trial {number} cannot be recorded: {output}")
    facts = {
        **prepared.plan.facts,
        "qemu": {name: qemu_version(name, guest)},
        "recorded": f"until a trial comes to what trial {number} did; a recorded machine is emulated and slower",
    }
    store.keep(prepared.inputs)
    run = store.begin(
        prepared.plan.with_changes({"resumable": False, "kind": "record", "planned": len(specs), "facts": facts})
    )
    stack.enter_context(lock(lock_file(request.work, run)))
    log_to(request.work / "runs" / str(run))
    setup = replace(guest_setups(resolved, prepared)[name], config=guest)
    options = trial_options(request, None)
    maker = Maker(
        request.work, setup, prepared.files[name], prepared.variants, report, partial(store.event, run, name), options
    )
    outcomes: Counter[str] = Counter()
    lacks: list[str] = []
    kept, took, failures = None, 0.0, 0
    report.count("trials", 0, len(specs), "", begins=True)
    for place, spec in enumerate(specs, start=1):
        with guest_folder(request.work) as folder:
            attempt = maker.make(spec, folder)
            number_now = store.add(run, attempt.trial, attempt.attachments)
            came_to = outcome(attempt.trial)
            outcomes[came_to] += 1
            report.count("trials", place, len(specs), came_to)
            failures = failures + 1 if attempt.trial.verdict is Verdict.ERROR and came_to != wanted else 0
            if came_to == wanted and attempt.stored is None:
                lacks.append(attempt.lack)
            elif came_to == wanted and attempt.stored is not None:
                stored = attempt.stored.model_copy(update={"trial": number_now, "of": number, "title": wanted})
                stored = maker.complete(stored, spec, folder)
                recorded = RecordedTrial(folder, stored)
                played = check(recorded, request.work, report)
                if not played.differences:
                    samples = [tuple(sample) for sample in played.replayed.samples]
                    stored = stored.model_copy(update={"samples": samples})
                    kept, took = _keep(recorded, stored, request.work, run), played.seconds
                    store.attach(number_now, PART, _describe(kept, request.work).encode(errors="backslashreplace"))
                    break
                _log.warning("trial %d: not kept, its replay is not the same: %s", number_now, played.differences)
                lacks += [f"its replay was not the same: {difference}" for difference in played.differences]
        if failures >= ATTEMPTS:
            raise GuestError(f"guest {name} failed {ATTEMPTS} times in a row, the last time so: {attempt.trial.reason}")
    store.finish(run)
    return Tries(store.run(run), wanted, kept, took, outcomes, lacks)


def _describe(kept: RecordedTrial, work: Path) -> str:
    """What the report says of a recording."""
    stored = kept.stored
    return (
        f"{stored.icount:,} instructions in {stored.seconds:.1f} s, recorded by {stored.version}, in {kept.folder}\n"
        f"$ {command_line('replay', str(stored.trial), work=work)}\n"
    )


def _place(work: Path, run: int, trial: int) -> Path:
    """The folder of a trial's recording."""
    return work / "runs" / str(run) / FOLDER / str(trial)


def _keep(recorded: RecordedTrial, stored: StoredRecording, work: Path, run: int) -> RecordedTrial:
    """Move a recording from its machine's folder to its run's."""
    target = _place(work, run, stored.trial)
    names = [recorded.log.name, recorded.packets.name, recorded.console.name, PROGRAM]
    names += [DATA] if stored.data else [Path(library).name for library in stored.libraries]
    part = target.with_name(f".{target.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        for name in names:
            shutil.move(recorded.folder / name, part / name)
        stored = stored.model_copy(update={"kept": [StoredFile.of(part / name, name) for name in names]})
        (part / RECORD).write_text(stored.model_dump_json(indent=1) + "\n")
        os.replace(part, target)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise HarnessError(f"{target}: the recording cannot be kept: {error.strerror}") from error
    return RecordedTrial(target, stored)


@dataclass(frozen=True)
class MadeTrial:
    """A trial that was made in a recorded machine.

    Attributes:
        stored: what is kept of its recording, to be completed; None if there is no whole one.
        lack: why there is none.
    """

    trial: Trial
    attachments: dict[str, bytes]
    stored: StoredRecording | None
    lack: str = ""


class Maker:
    """Makes trials in machines that are recorded, each in one of its own."""

    def __init__(
        self,
        work: Path,
        setup: GuestSetup,
        files: BootFiles,
        variants: dict[str, conf.Variant],
        report: Reporter,
        trouble: Callable[[str], None],
        options: TrialOptions,
    ) -> None:
        self._work, self._setup, self._files, self._variants = work, setup, files, variants
        self._options = options
        self._say = partial(report.step, f"guest {setup.name}")
        artifacts = setup.artifacts
        names = list(dict.fromkeys([*artifacts.libgos, *artifacts.preloads]))
        contents = artifacts.contents(setup.config, names)
        cache, agent = Cache(paths.cache_dir()), artifacts.agent_target(setup.config)
        self._pool = Pool(setup.name, setup.config, files, contents, cache, trouble, work / SCREENS, agent)

    def make(self, spec: TrialSpec, folder: Path, recorded: bool = True) -> MadeTrial:
        """Make a trial in a machine in a folder, which then has its recording.

        Args:
            recorded: whether the machine is recorded; one that is not is the same otherwise, to be compared with.
        """
        setup = self._setup
        recording = Recording(folder) if recorded else None
        machine = Machine(setup.name, setup.config, self._files, folder, self._work / SCREENS, recording=recording)
        moments: dict[str, int] = {}
        event = ""
        output: list[Output] = []
        begun = clock.time()
        try:
            guest = self._pool.boot(machine, self._say)
            guest.put(setup.artifacts.agent, guest.agent_path)
            agent = guest.attach()
            observe(agent, ["/bin/sh", "-c", ":"], {}, "/", PING)

            def note(message: Message) -> None:
                if recording and message.type in ("O", "E"):
                    stream = "stdout" if message.type == "O" else "stderr"
                    size = recording.packets.stat().st_size
                    output.append(Output(stream=stream, text=message.data.decode("latin-1"), packets=size))

            agent.listener = note

            def inspect(scene: Scene) -> None:
                nonlocal event
                if "end" not in moments:  # a program that hung is looked at when it has been killed, too
                    moments["end"], event = scene.machine.icount() if recording else 0, scene.text

            execution = Execution(setup, guest, agent, self._variants, self._options, self._say)
            running = execution.begin(spec)
            moments["begin"] = machine.icount() if recording else 0
            self._say(f"{spec.program.name} ({spec.variant}), recorded")
            attachments = running.attachments
            try:
                result = execution.run(running, inspect)
                assert result.trial is not None
                trial = result.trial
            except GuestError as error:
                reason = machine.trouble() or str(error)
                attachments |= diagnostics.outside(machine, running.mark)
                attachments |= diagnostics.whole_console(machine, running.mark)
                observation = error.observation if isinstance(error, GuestLost) else NOTHING
                trial = infra_error(spec, reason, running.started, self._options.command, observation)
                event = reason
            seconds = clock.time() - begun
            stored, lack = None, ""
            if recording:
                try:
                    stored = self._end(machine, spec, moments, event, output, seconds)
                except GuestError as error:
                    lack = f"its recording is not whole: {error}"
                    _log.warning("guest %s: %s", machine.name, lack)
            return MadeTrial(trial, dict(attachments), stored, lack)
        except GuestError as error:
            failed = infra_error(spec, str(error), clock.now(), self._options.command)
            return MadeTrial(failed, {}, None, f"its guest was in trouble: {error}")
        finally:
            machine.stop()
            self._say(READY)

    def _end(
        self,
        machine: Machine,
        spec: TrialSpec,
        moments: dict[str, int],
        event: str,
        output: list[Output],
        seconds: float,
    ) -> StoredRecording:
        """End a recorded machine. Raises GuestError if its recording is not whole."""
        assert machine.recording is not None
        icount = machine.end_recording()
        guest = self._setup.config
        if guest.data_interface and machine.data is None:  # its files came through SSH, which took longer
            raise GuestError(f"guest {machine.name}: its data disk could not be made")
        program = find_qemu(machine.name, guest)
        return StoredRecording(
            trial=0,
            of=0,
            guest=machine.name,
            program=spec.program.name,
            variant=spec.variant,
            title="",
            qemu=program,
            version=qemu.at_hand(program).version,
            template=machine.recording.template,
            files={},
            disk=guest.disk,
            data=guest.data_interface is not None,
            system=guest.os_name,
            begin=moments.get("begin", 0),
            end=moments.get("end", icount),
            icount=icount,
            seconds=seconds,
            event=event,
            output=output,
        )

    def complete(self, stored: StoredRecording, spec: TrialSpec, folder: Path) -> StoredRecording:
        """Put a trial's program beside its recording, and its libraries if they are on no data disk; name the files
        that the machine boots from. Raises OSError."""
        setup, files = self._setup, self._files
        boots = {"disk": files.disk, "kernel": files.kernel, "initrd": files.initrd}
        boots |= {f"module {place}": path for place, (path, _) in enumerate(files.modules, start=1)}
        shutil.copyfile(setup.artifacts.programs[spec.variant, spec.program.name], folder / PROGRAM)
        libraries = setup.artifacts.libraries(setup.config, spec.variant, with_libgo=not spec.program.is_c)
        if setup.config.data_interface is None:
            for library in libraries.values():
                shutil.copyfile(library, folder / library.name)
        known = {what: StoredFile.of(path) for what, path in boots.items() if path}
        return stored.model_copy(update={"files": known, "libraries": list(libraries)})


@dataclass(frozen=True)
class Check:
    """A replay of a recording to its end: what differed, and how many seconds it took."""

    replayed: Replayed
    differences: list[str]
    seconds: float


def find(store: Store, number: int, work: Path) -> RecordedTrial:
    """The recording of a trial, or the newest that was made for it.

    Raises:
        StoreError: there is no such trial, or no recording that can be read.
    """
    run, _ = store.trial(number)
    if (recorded := search(store, number, work)) is None:
        folder = _place(work, run.id, number)
        if folder.is_dir():
            raise StoreError(f"trial {number} cannot be replayed: {folder / RECORD} is missing or damaged")
        how = command_line("rerun", str(number), "--record", work=work)
        raise StoreError(f"trial {number} is not recorded; `{how}` records it")
    return recorded


def search(store: Store, number: int, work: Path) -> RecordedTrial | None:
    """As `find`; None if there is no recording."""
    recordings = [recorded for run in store.runs() for recorded in of_run(work, run.id)]
    for key in ("trial", "of"):
        if matching := [recorded for recorded in recordings if getattr(recorded.stored, key) == number]:
            return max(matching, key=lambda recorded: recorded.stored.trial)
    return None


def of_run(work: Path, run: int) -> list[RecordedTrial]:
    """The recordings of a run. One whose record cannot be read is logged and left out."""
    recordings = []
    for file in sorted((work / "runs" / str(run) / FOLDER).glob(f"[0-9]*/{RECORD}")):
        try:
            recordings.append(RecordedTrial(file.parent, StoredRecording.model_validate_json(file.read_text())))
        except (OSError, ValidationError) as error:
            _log.warning("%s is damaged: its recording is left out", file)
            _log.info("reading %s", file, exc_info=error)
    return recordings


def check(recorded: RecordedTrial, work: Path, report: Reporter) -> Check:
    """Replay a recording to its end and compare it with what was recorded.

    Raises:
        HarnessError: QEMU, or a file that the machine needs, is not what it was.
        GuestError: QEMU does not start.
    """
    stored = recorded.stored

    def progress(icount: int) -> None:
        report.doing("replay", f"{100 * icount // max(1, stored.icount)} % of {stored.icount:,} instructions")

    report.step("replay", f"{stored.program} ({stored.variant})")
    begun = clock.time()
    with replaying(recorded, work) as machine:
        try:
            replayed = replays.to_end(machine, progress)
        except GuestError as error:
            return Check(Replayed(0, []), [str(error)], clock.time() - begun)
        differing = replays.differences(machine, replayed.icount, stored.icount, recorded.console.read_bytes())
    report.step("replay", READY)
    return Check(replayed, differing, clock.time() - begun)


@contextmanager
def replaying(recorded: RecordedTrial, work: Path, paused: bool = False, gdb: bool = False) -> Iterator[Machine]:
    """A machine that replays a recording, during the block.

    Args:
        paused: whether it is not to begin.
        gdb: whether QEMU is to wait for gdb at a socket, in the machine's folder by a short name of it.

    Raises:
        HarnessError, GuestError: as of `check`.
    """
    stored = recorded.stored
    if changes := different(recorded):
        raise HarnessError(f"trial {stored.trial} cannot be replayed: {'; '.join(changes)}")
    data = conf.DataDisk(interface="ide" if stored.data else None, mount="-" if stored.data else "")
    guest = conf.Guest(toolchain="-", qemu=stored.qemu, disk=stored.disk, data_disk=data, channel="")
    boots = BootFiles(
        disk=Path(stored.files["disk"].path) if stored.disk else None,
        kernel=None,
        append="",
        initrd=None,
        modules=(),
        ssh_key=Path(os.devnull),
        host_key=None,
    )
    with guest_folder(work) as folder, short_name(folder) as short:
        socket = short / "gdb" if gdb else None
        recording = Recording(recorded.folder, True, stored.template, socket)
        machine = Machine(stored.guest, guest, boots, folder, recording=recording)
        try:
            machine.start(data=recorded.folder / DATA if stored.data else None, paused=paused)
            yield machine
        finally:
            machine.stop()


@dataclass(frozen=True)
class Moment:
    """A moment of a recording: its end, a count of instructions, or when a text was whole.

    Attributes:
        icount: the count; None for the end, or for a text.
        text: in the program's output or on the console.
        console: whether it is on the console.
    """

    icount: int | None = None
    text: bytes | None = None
    console: bool = False


def go_to(machine: Machine, recorded: RecordedTrial, moment: Moment, report: Reporter) -> int:
    """Replay a paused machine to a moment. Returns how many instructions it has executed there.

    Raises:
        HarnessError: there is no such moment.
        GuestError: the machine does not get there.
    """
    stored = recorded.stored

    def progress(icount: int) -> None:
        report.doing("replay", f"{icount:,} instructions")

    report.step("replay", f"{stored.program} ({stored.variant})")
    if moment.text is None:
        icount = stored.end if moment.icount is None else moment.icount
        if icount > stored.icount:
            raise HarnessError(f"the recording of trial {stored.trial} ends after {stored.icount:,} instructions")
        reached = replays.to_icount(machine, icount, progress)
    else:
        samples = [replays.Sample(*sample) for sample in stored.samples]
        text = moment.text.decode(errors="backslashreplace")
        if moment.console:
            at = recorded.console.read_bytes().find(moment.text)
            if at < 0:
                raise HarnessError(f"the console of trial {stored.trial} never said {text!r}")
            reached = replays.to_growth(machine, samples, console=at + len(moment.text), progress=progress)
        else:
            size = _output_by(stored, moment.text)
            if size is None:
                raise HarnessError(f"the program of trial {stored.trial} never printed {text!r}")
            size = replays.last_data(recorded.packets.read_bytes(), size)
            reached = replays.to_growth(machine, samples, packets=size, progress=progress)
    report.step("replay", READY)
    return reached


def _output_by(stored: StoredRecording, text: bytes) -> int | None:
    """How many bytes of packets there were when a text was whole in one of a program's streams, if it ever was."""
    streams: dict[str, bytes] = {}
    for piece in stored.output:
        streams[piece.stream] = streams.get(piece.stream, b"") + piece.text.encode("latin-1")
        if text in streams[piece.stream]:
            return piece.packets
    return None


def different(recorded: RecordedTrial) -> list[str]:
    """What a recorded machine needs and is not what it was, in a sentence each."""
    stored = recorded.stored
    files = [*stored.files.values(), *stored.kept]
    changes = [words for file in files if (words := file.differs(recorded.folder))]
    try:
        version = qemu.at_hand(stored.qemu).version
    except OSError as error:
        return [*changes, f"it needs {stored.version} as {stored.qemu}: {error.strerror}"]
    except HarnessError as error:
        return [*changes, f"it needs {stored.version}: {error}"]
    if version != stored.version:
        changes.append(f"it was recorded by {stored.version}, and {stored.qemu} is {version}")
    return changes
