"""One trial in a guest: ship the program, run it, watch it, stop it, and judge what was observed.

Knows nothing of who wants the trial, of how a guest is replaced, and of where results go.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from harness import conf
from harness.build.artifacts import Artifacts
from harness.build.command import first_error
from harness.clock import now
from harness.conf.system import OperatingSystem
from harness.errors import GuestError, ProgramError
from harness.guest.agent import Agent
from harness.guest.fresh import Guest
from harness.guest.machine import Machine
from harness.guest.transfer import login
from harness.programs.gotags import Target
from harness.programs.model import Expectation, TrialSpec
from harness.trial import cores, diagnostics, lifetrace
from harness.trial.debugger import HungProgram
from harness.trial.observe import KEEP, NOTHING, GuestLost, Observation, observe
from harness.trial.record import Trial, Verdict
from harness.trial.stillness import HangDetector
from harness.trial.verdict import Judgement, judge, signal_name

_log = logging.getLogger(__name__)

#: Seconds that a guest may say nothing when it is asked for its processes, and for a sign of life, before trials and
#: after one that went wrong.
LISTING, PING = 20.0, 60.0
#: Bytes that a program may print that prints a program; the longest of GCC's is 1.3 MB.
PRINTED = 16 << 20
#: What the reason begins with of a trial whose program was not run.
NOT_RUN = ("does not compile: ", "printing a program: ")
#: The name under which a life-cycle trace is stored.
LIFETRACE = "lifetrace"


@dataclass(frozen=True)
class GuestSetup:
    """A guest of a run, with all that its trials need.

    Attributes:
        triple: its target triple.
        signal_names: the names of its signals by its own numbers, such as {11: "SIGSEGV"}.
        artifacts: what was built for its toolchain.
    """

    name: str
    config: conf.Guest
    triple: str
    signal_names: Mapping[int, str]
    artifacts: Artifacts


@dataclass(frozen=True)
class TrialOptions:
    """What all trials of a run have in common.

    Attributes:
        cores: the folder for core files, or None if none are wanted.
        full_timeout: whether a program that hangs is given all of its time, even if it is certain that it hangs.
        command: what the command that runs a trial again needs besides the trial's own cell.
    """

    cores: Path | None = None
    full_timeout: bool = False
    command: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scene:
    """A guest as a trial left it, or at its time limit, when the program has not ended.

    Attributes:
        verdict: what the trial came to, or comes to if the program has not ended.
        title: its signature; '' if it has none, or the program must end before it is known.
        hung: the program, if it has not ended.
        text: sentences about all that.
    """

    machine: Machine
    verdict: Verdict
    title: str
    hung: HungProgram | None
    text: str


#: Whoever looks at a trial at its time limit, if it reaches that, and again when it has ended. The guest waits.
Inspect = Callable[[Scene], None]


@dataclass(frozen=True)
class Outcome:
    """What a worker reports: a trial that has ended, a guest's trouble, or a failure that ends the run.

    Attributes:
        spec: the trial that was wanted.
        trial: what came of it, as the first attempt; whoever stores it knows which attempt it was.
        attachments: what was collected of it, by name.
        trouble: the guest and what happened to it.
        one_more: the guest on which one more trial can run before this one is reported, as its guest is spoilt and
            another one takes its place.
        taken_over: whether that was so of this trial.
    """

    spec: TrialSpec | None = None
    trial: Trial | None = None
    attachments: Mapping[str, bytes] = field(default_factory=dict)
    trouble: tuple[str, str] | None = None
    one_more: str = ""
    taken_over: bool = False
    failure: BaseException | None = None


@dataclass
class RunningTrial:
    """A trial while it runs.

    Attributes:
        started: UTC, ISO 8601.
        mark: where the console was when the trial began.
        attachments: what has been collected of it, by name.
    """

    spec: TrialSpec
    started: str
    mark: int
    attachments: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class _Process:
    """A program that ran in a guest.

    Attributes:
        executable: its file in the guest.
        folder: the folder that it ran in.
        command: a sentence on how it was started.
    """

    observation: Observation
    executable: str
    folder: str
    command: str


class Execution:
    """Runs trials in one guest.

    Args:
        setup: what the guest's trials need.
        guest: the guest that runs them.
        agent: the agent in the guest.
        variants: the variants by name, as the configuration describes them.
        say: told what is going on, in a word or two.
        spoilt: called when a trial has reached its limit, and is examined from then on.
    """

    def __init__(
        self,
        setup: GuestSetup,
        guest: Guest,
        agent: Agent,
        variants: Mapping[str, conf.Variant],
        options: TrialOptions,
        say: Callable[[str], None],
        spoilt: Callable[[], None] = lambda: None,
    ) -> None:
        self._spoilt = spoilt
        self._setup, self._guest, self._agent = setup, guest, agent
        self._variants, self._options, self._say = variants, options, say

    def begin(self, spec: TrialSpec) -> RunningTrial:
        """A trial that begins now."""
        return RunningTrial(spec, now(), self._guest.machine.console.mark())

    def run(self, running: RunningTrial, inspect: Inspect | None = None) -> Outcome:
        """Run a trial and judge it.

        Args:
            running: the trial; what is collected of it is added to it, whatever happens.
            inspect: called at the time limit, before the program is killed, and after its end.

        Raises:
            GuestError: the guest is in trouble; that says nothing of the program.
        """
        spec, artifacts = running.spec, self._setup.artifacts
        if output := artifacts.broken.get((spec.variant, spec.program.name)):
            return self._not_compiled(running, output)
        variant = self._variants[spec.variant]
        libraries = artifacts.libraries(self._setup.config, spec.variant, with_libgo=not spec.program.is_c)
        for target, library in libraries.items():
            self._guest.put(library, target)
        environment = program_environment(self._setup, spec, variant, self._options.cores is not None)
        environment |= artifacts.environment(self._setup.config, spec.variant, spec.program)
        program = artifacts.programs[spec.variant, spec.program.name]
        if spec.program.build.output_flags:
            # Only the guest is sure to run what prints the program; the compiler is here.
            printing = self._start(running, program, environment, inspect, PRINTED)
            signal = signal_name(printing.observation, self._setup.signal_names)
            if judgement := _printed_no_program(printing.observation, signal):
                _check_guest(self._guest, [*libraries, printing.executable])
                return self._outcome(running, printing.observation, signal, judgement)
            self._say("compiling what a program printed")
            try:
                program = artifacts.compile_output(spec.variant, spec.program, printing.observation.stdout)
            except ProgramError as error:
                return self._not_compiled(running, str(error))
        trace = f"{self._setup.config.folder}/lifetrace"
        if variant.trace:
            environment[lifetrace.VARIABLE] = trace
        process = self._start(running, program, environment, inspect)
        observation = process.observation
        signal = signal_name(observation, self._setup.signal_names)
        judgement = judge(observation, spec.program.expected, signal)
        if judgement.verdict is not Verdict.PASS:
            _check_guest(self._guest, [*libraries, process.executable])
            running.attachments |= diagnostics.console(self._guest.machine, running.mark)
        if self._options.cores and judgement.verdict is Verdict.CRASH:
            judgement = self._with_core(judgement, spec, process, program)
        if inspect:
            text = f"{spec.program.name} has ended: {judgement.verdict}, {judgement.reason}. {process.command}"
            inspect(Scene(self._guest.machine, judgement.verdict, judgement.signature, None, text))
        if (
            variant.trace and not spec.program.is_c
        ):  # The library writes no file that is there already, so it goes at once.
            _, data, _ = self._guest.run(f"cat {shlex.quote(trace)}; rm -f {shlex.quote(trace)}")
            running.attachments[LIFETRACE] = data
        return self._outcome(running, observation, signal, judgement)

    def _start(
        self,
        running: RunningTrial,
        program: Path,
        environment: Mapping[str, str],
        inspect: Inspect | None,
        keep: int = KEEP,
    ) -> _Process:
        """Run a program to its end, or to its time limit. `keep` is how many bytes of each stream are kept."""
        spec, guest, config = running.spec, self._guest, self._setup.config
        executable = _place(config, program, spec.program.source.stem)
        argv = [guest.ship(self._agent, program, executable), *spec.program.args]
        folder = str(Path(executable).parent / ("test" if spec.program.build.package else ""))
        if self._options.cores:
            argv = cores.allowed(argv)
        command_line = shlex.join(["env", *(f"{key}={value}" for key, value in environment.items()), *argv])
        command = f"It was started so: cd {shlex.quote(folder)} && {command_line}"

        detector = self._hang_detector(spec.program.timeout)

        def at_limit(pid: int) -> str:
            self._spoilt()
            self._say("collecting diagnostics")
            if detector and detector.evidence:
                running.attachments[diagnostics.STILLNESS] = diagnostics.bounded(detector.evidence.encode())
            running.attachments.update(diagnostics.outside(guest.machine, running.mark))
            state = _suspended(guest, config.os, pid)
            running.attachments.update(diagnostics.inside(guest, config.os.probes, pid))
            if inspect:
                event = f"crashed and was suspended (state {state})" if state else _event(detector)
                text = f"{spec.program.name} {event}; it is there yet, as process {pid}. {command}"
                verdict = Verdict.CRASH if state else Verdict.HANG
                inspect(Scene(guest.machine, verdict, "", self._hung(spec, program, pid), text))
            return state

        observation = observe(self._agent, argv, environment, folder, spec.program.timeout, at_limit, keep, detector)
        try:
            guest.machine.check()  # what a program did while the kernel died says nothing of the program
        except GuestError as error:
            raise GuestLost(error, observation) from error
        return _Process(observation, executable, folder, command)

    def _hang_detector(self, limit: float) -> HangDetector | None:
        """What looks whether a program hangs before its limit; None where that is not wanted, or cannot be proved."""
        looks, machine = self._setup.config.os.stillness, self._setup.triple.partition("-")[0]
        if looks is None or self._options.full_timeout:
            return None
        return HangDetector(lambda: looks(machine, limit), self._guest.machine.process.processor_time)

    def _hung(self, spec: TrialSpec, program: Path, pid: int) -> HungProgram:
        """A program that has not ended. `program` is its file here, `pid` its process in the guest."""
        setup = self._setup
        return HungProgram(
            name=spec.program.name,
            guest=spec.guest,
            ssh=login(self._guest.machine),
            folder=setup.config.folder,
            gdbserver=setup.config.gdbserver,
            pid=pid,
            executable=program,
            libraries=setup.artifacts.libraries(setup.config, spec.variant, with_libgo=not spec.program.is_c),
            sources=spec.program.source.absolute().parent,
        )

    def _with_core(self, judgement: Judgement, spec: TrialSpec, process: _Process, program: Path) -> Judgement:
        """The judgement on a crash, which says where its core file is, or why there is none."""
        assert self._options.cores is not None
        target = cores.place(self._options.cores, spec.guest, spec.variant, spec.program.name, spec.number)
        libraries = self._setup.artifacts.libraries(self._setup.config, spec.variant, with_libgo=not spec.program.is_c)
        shell = self._guest.shell
        text = cores.fetch(shell, process.folder, target, program, list(libraries.values()), self._say)
        return replace(judgement, reason=f"{judgement.reason}; {text}")

    def _not_compiled(self, running: RunningTrial, output: str) -> Outcome:
        """A trial of a program that does not compile: that is its verdict, for nothing is wrong with the others."""
        text = output.partition("\n")[2] or output
        observation = replace(NOTHING, stderr=text.encode(), stderr_total=len(text.encode()))
        return self._outcome(running, observation, "", Judgement(Verdict.FAIL, f"{NOT_RUN[0]}{first_error(text)}"))

    def _outcome(self, running: RunningTrial, observation: Observation, signal: str, judgement: Judgement) -> Outcome:
        trial = _trial(running.spec, running.started, self._options.command, observation, signal, judgement)
        return Outcome(running.spec, trial, running.attachments)


def program_places(setup: GuestSetup) -> dict[str, Path]:
    """The programs that were built, by where they lie in a guest; a name ends like its source (programs/select.py)."""
    programs = setup.artifacts.programs.copy()  # a bisect adds some meanwhile
    return {_place(setup.config, path, PurePosixPath(name).name): path for (_, name), path in programs.items()}


def _place(config: conf.Guest, program: Path, stem: str) -> str:
    """Where a program lies in a guest, in a folder of its own, which is named as the cache's."""
    return f"{config.folder}/bin/{program.parent.name}/{cores.executable(stem)}"


def program_environment(setup: GuestSetup, spec: TrialSpec, variant: conf.Variant, with_cores: bool) -> dict[str, str]:
    """The environment of a trial's program, besides the guest's own and what is said there of libraries.

    Args:
        with_cores: whether crashes are to leave core files.
    """
    environment = spec.program.env
    if spec.program.from_gcc:
        goarch = Target.of(setup.triple).goarch
        environment = {name: value.replace("{goarch}", goarch) for name, value in environment.items()}
    seed = {conf.SEED: str(spec.own_seed)} if spec.seeded else {}
    return {**setup.config.os.environment(setup.config.env, with_cores), **environment, **seed, **variant.env}


def infra_error(
    spec: TrialSpec, reason: str, started: str, options: Sequence[str], observation: Observation = NOTHING
) -> Trial:
    """A trial that says nothing of its program: its guest, or what makes guests, was in trouble.

    Args:
        observation: what was seen of the program before; how it ended is not known, and not kept.
    """
    unended = replace(observation, exit_status=None, signal=None)
    return _trial(spec, started, options, unended, "", Judgement(Verdict.ERROR, reason))


def _trial(
    spec: TrialSpec,
    started: str,
    options: Sequence[str],
    observation: Observation,
    signal: str,
    judgement: Judgement,
) -> Trial:
    """A trial to be stored, which gives it its id."""
    command = ["harness", "run", spec.program.word, "--guest", spec.guest, "--variant", spec.variant, *options]
    if spec.seeded:
        command += ["--seed", str(spec.own_seed)]
    return Trial(
        id=0,
        guest=spec.guest,
        variant=spec.variant,
        program=spec.program.name,
        number=spec.number,
        attempt=1,
        verdict=judgement.verdict,
        reason=judgement.reason,
        signature=judgement.signature,
        exit_status=observation.exit_status,
        signal=signal,
        seconds=observation.seconds,
        stdout=observation.stdout,
        stderr=observation.stderr,
        stdout_total=observation.stdout_total,
        stderr_total=observation.stderr_total,
        started=started,
        command=shlex.join(command),
    )


def _event(detector: HangDetector | None) -> str:
    """What has become of a program that is still there."""
    return "cannot run any more" if detector and detector.evidence else "reached its time limit"


def _suspended(guest: Guest, system: OperatingSystem, pid: int) -> str:
    """The state of a program whose crash its guest suspended, or ''. A guest that does not say is no trouble yet."""
    if not system.crashed:
        return ""
    try:
        _, out, _ = guest.run(system.listing, LISTING)
    except GuestError as error:
        _log.warning("guest %s: its processes cannot be listed: %s", guest.machine.name, error)
        return ""
    return system.suspended(out.decode(errors="replace"), pid)


def _check_guest(guest: Guest, files: Sequence[str]) -> None:
    """Check whether it may be a guest's doing that a trial went wrong.

    Args:
        files: what it was given, the program's executable last.

    Raises:
        GuestError: it gives no sign of life, its disk is full, or what it was given is gone.
    """
    names = [shlex.quote(file) for file in files]
    look = f'for file in {" ".join(names)}; do [ -s "$file" ] || {{ echo "$file is gone" >&2; exit 1; }}; done'
    try:
        status, _, err = guest.run(f"{look}; cat {names[-1]} >{names[-1]}.copy && rm -f {names[-1]}.copy", PING)
    except GuestError as error:
        raise GuestError(f"the guest itself hangs: {str(error).rpartition(': ')[2]}") from error
    if status:
        raise GuestError(f"the guest is not as it was: {err.decode(errors='replace').strip()}")


def _printed_no_program(observation: Observation, signal: str) -> Judgement | None:
    """The judgement on a program that should have printed a program and did not; None if it did."""
    judgement = judge(observation, Expectation(), signal)
    if judgement.verdict is Verdict.PASS:
        if observation.stdout_total == len(observation.stdout):
            return None
        judgement = Judgement(Verdict.FAIL, f"it is {observation.stdout_total} bytes long, and {PRINTED} are kept")
    return replace(judgement, reason=f"{NOT_RUN[1]}{judgement.reason}")
