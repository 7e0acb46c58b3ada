"""A resolved request prepared: images found, libgos and programs built, guests booted and saved meanwhile."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from harness import cache_space, conf, paths
from harness.build import toolchain
from harness.build.artifacts import Artifacts, build_artifacts
from harness.build.variants import LibgoVariant
from harness.cache import Cache
from harness.errors import GuestError, HarnessError, ProgramError
from harness.guest import dry_start
from harness.guest.bootfiles import BootFiles
from harness.guest.console import follow
from harness.guest.machine import CONSOLE, Machine
from harness.guest.pool import Pool
from harness.guest.workspace import SCREENS, guest_folder
from harness.images.bootfiles import find_boot_files
from harness.progress import READY, Reporter
from harness.results.plan import RunPlan
from harness.run.job import RunContext, RunHooks
from harness.run.manifest import describe, input_texts
from harness.run.request import Request
from harness.run.resolve import ResolvedRequest
from harness.trial.execute import GuestSetup, TrialOptions

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PreparedRun:
    """All that the trials of a request need.

    Attributes:
        files: what each guest boots from, by its name.
        artifacts: what was built, by toolchain.
        variants: what the configuration says of the variants that are built, by name.
        plan: what is stored with a run that is made with it.
        inputs: the texts that the user wrote, by their keys in the plan, to be stored with it.
        troubles: those of guests on the way, to be stored with the run: the guest and what happened.
        failed_boots: by guest, how many boots failed on the way with none that worked after them.
    """

    files: dict[str, BootFiles]
    artifacts: dict[str, Artifacts]
    variants: dict[str, conf.Variant]
    plan: RunPlan
    inputs: Mapping[str, bytes]
    troubles: list[tuple[str, str]] = field(default_factory=list)
    failed_boots: Mapping[str, int] = field(default_factory=dict)


def prepare_run(
    resolved: ResolvedRequest, report: Reporter, hooks: RunHooks | None = None, boot_here: bool = True
) -> PreparedRun:
    """Find or build what a request needs, and have its guests booted once. Raises HarnessError.

    Args:
        hooks: of a caller that may stop it.
        boot_here: whether the guests run on this machine.
    """
    cache_space.bound()  # that it is wrong is told first
    request, configuration = resolved.request, resolved.configuration
    stopped = hooks.stopped.is_set if hooks else lambda: False
    cache = Cache(paths.cache_dir())
    # What may be missing or refused comes first: to try it takes a second, a download and a build take minutes.
    booted = resolved.guests if boot_here else {}
    for name in booted:
        dry_start.check(name, configuration)
    go = not all(program.is_c for program in resolved.programs)
    tools = {guest.toolchain: toolchain.find(guest.toolchain, configuration, go) for guest in resolved.guests.values()}
    inputs = input_texts(resolved)
    files = {name: _boot_files(name, configuration, report) for name in resolved.guests}
    for name in booted:
        dry_start.check(name, configuration, files[name])
    with booting_meanwhile(booted, files, request.work, cache, report) as meanwhile:
        artifacts: dict[str, Artifacts] = {}
        for name, compilers in tools.items():
            programs = {
                variant.name: resolved.programs_of(variant.name)
                for variant in resolved.variants.values()
                if variant.config.fits(compilers.triple)
            }
            artifacts[name] = build_artifacts(programs, resolved.variants, compilers, cache, report, stopped)
    plan = describe(resolved, artifacts, files, tools, inputs, boot_here)
    configs = {name: variant.config for name, variant in resolved.variants.items()}
    texts = {each.key: each.text for each in inputs.values()}
    return PreparedRun(files, artifacts, configs, plan, texts, *meanwhile)


def add_variant(
    variant: LibgoVariant,
    resolved: ResolvedRequest,
    prepared: PreparedRun,
    report: Reporter,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Build one more variant, with its programs, while trials run.

    Args:
        stopped: as for `build_variants`.

    Raises:
        PatchError, BuildError: it cannot be built.
        ProgramError: a program does not compile with it.
    """
    for name in {guest.toolchain for guest in resolved.guests.values()}:
        tools = toolchain.find(name, resolved.configuration)
        programs, variants = {variant.name: resolved.programs}, {variant.name: variant}
        artifacts = build_artifacts(programs, variants, tools, Cache(paths.cache_dir()), report, stopped)
        for output in artifacts.broken.values():
            raise ProgramError(output)
        prepared.artifacts[name].programs.update(artifacts.programs)
        prepared.artifacts[name].libgos.update(artifacts.libgos)
        prepared.artifacts[name].preloads.update(artifacts.preloads)
    prepared.variants[variant.name] = variant.config


def run_context(resolved: ResolvedRequest, prepared: PreparedRun, cores: Path | None) -> RunContext:
    """What the workers of a run share. `cores` is the folder for core files, None if none are wanted."""
    request = resolved.request
    return RunContext(
        guests=guest_setups(resolved, prepared),
        files=prepared.files,
        variants=prepared.variants,
        work=request.work,
        cache=Cache(paths.cache_dir()),
        isolation=request.isolation,
        options=trial_options(request, cores),
        failed_boots=prepared.failed_boots,
    )


def trial_options(request: Request, cores: Path | None) -> TrialOptions:
    """What all trials of a request have in common. `cores` is as of `run_context`."""
    command = [word for file in request.conf_files for word in ("--conf", str(paths.absolute(file)))]
    command += [*["--cores"] * request.cores, *["--full-timeout"] * request.full_timeout]
    return TrialOptions(cores, request.full_timeout, tuple(command))


def guest_setups(resolved: ResolvedRequest, prepared: PreparedRun) -> dict[str, GuestSetup]:
    """What the trials of each guest need, by its name."""
    return {
        name: GuestSetup(
            name,
            guest,
            resolved.triples[name],
            resolved.configuration.signal_names(name),
            prepared.artifacts[guest.toolchain],
        )
        for name, guest in resolved.guests.items()
    }


@contextmanager
def booting_meanwhile(
    guests: Mapping[str, conf.Guest], files: Mapping[str, BootFiles], work: Path, cache: Cache, report: Reporter
) -> Iterator[tuple[list[tuple[str, str]], dict[str, int]]]:
    """Boot and save guests that are not saved yet, during the block.

    What goes wrong ends nothing, for it may go right when guests are needed. It is logged.

    Yields:
        The troubles, each with its guest's name, and by guest how many boots failed with none that worked after them.
        Both are whole after the block.
    """
    given_up = threading.Event()
    troubles: list[tuple[str, str]] = []
    failed_boots: dict[str, int] = {}

    def prepare(name: str) -> None:
        say = partial(report.step, f"guest {name}")

        def tell(text: str) -> None:
            _log.warning("guest %s, saved during the builds: %s", name, text)
            troubles.append((name, text))

        pool = Pool(name, guests[name], files[name], {}, cache, tell, work / SCREENS)
        try:
            with guest_folder(work) as folder:
                pool.prepare(folder, say, given_up.is_set)
            say("saved", over=True)
        except HarnessError as error:
            if given_up.is_set():
                _log.info("guest %s was given up: %s", name, error)
                return
            tell(error.whole() if isinstance(error, GuestError) else str(error))
            say("not saved", over=True)
        finally:
            failed_boots[name] = pool.failed_boots

    threads = [threading.Thread(target=prepare, args=(name,), daemon=True) for name in guests]
    for thread in threads:
        thread.start()
    try:
        yield troubles, failed_boots
    except BaseException:
        given_up.set()
        raise
    finally:
        for thread in threads:
            thread.join()


def _boot_files(name: str, configuration: conf.Configuration, report: Reporter) -> BootFiles:
    """What a guest boots from; its image is built if it is not there."""
    files = find_boot_files(name, configuration, partial(report.step, f"image {name}"))
    report.step(f"image {name}", READY)
    return files


@contextmanager
def fresh_guest(
    name: str,
    configuration: conf.Configuration,
    work: Path,
    report: Reporter,
    console: Callable[[bytes], None] | None = None,
) -> Iterator[Machine]:
    """A fresh guest that answers, during the block.

    Args:
        console: given what the guest's console says until it answers. The guest is booted then, not restored.

    Raises:
        HarnessError: what `dry_start.check` and `find_boot_files` raise.
        GuestError: it does not boot.
    """
    say = partial(report.step, f"guest {name}")
    files = bootable_files(name, configuration, report)
    pool = Pool(name, configuration.guest(name), files, {}, Cache(paths.cache_dir()), say, work / SCREENS)
    with guest_folder(work) as folder:
        if console:
            with follow(folder / CONSOLE, console):
                guest = pool.booted(folder, say)
        else:
            guest = pool.fresh(folder, say)
        try:
            guest.close()
            say(READY)
            yield guest.machine
        finally:
            guest.machine.stop()


def bootable_files(name: str, configuration: conf.Configuration, report: Reporter) -> BootFiles:
    """What a guest boots from, which QEMU was found to take. Raises what `dry_start.check` and `find_boot_files` do."""
    dry_start.check(name, configuration)
    files = _boot_files(name, configuration, report)
    dry_start.check(name, configuration, files)
    return files
