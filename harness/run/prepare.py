"""A resolved request prepared: images found, libgos and programs built, guests booted and saved meanwhile."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from harness import conf, paths
from harness.build import toolchain
from harness.build.artifacts import Artifacts, build_artifacts
from harness.cache import Cache
from harness.errors import GuestError, HarnessError, ProgramError
from harness.guest import dry_start
from harness.guest.bootfiles import BootFiles
from harness.guest.machine import Machine
from harness.guest.pool import Pool
from harness.guest.workspace import SCREENS, guest_folder
from harness.images.bootfiles import find_boot_files
from harness.progress import READY, Reporter
from harness.run.job import RunContext, RunHooks
from harness.run.manifest import describe, versions
from harness.run.resolve import ResolvedRequest

_log = logging.getLogger(__name__)


def add_variant(
    name: str,
    asked: ResolvedRequest,
    provided: PreparedRun,
    report: Reporter,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Build one more variant, with its programs, for trials that are being made.

    Args:
        stopped: as for `build_variants`.

    Raises:
        PatchError, BuildError: it cannot be built.
        ProgramError: a program does not compile with it.
    """
    for key in {guest.toolchain for guest in asked.guests.values()}:
        tools = toolchain.find(key, asked.configuration)
        cache = Cache(paths.cache_dir())
        made = build_artifacts({name: asked.programs}, tools, asked.configuration, cache, report, [], stopped)
        for words in made.broken.values():
            raise ProgramError(words)
        provided.built[key].programs.update(made.programs)
        provided.built[key].libgos.update(made.libgos)


@dataclass(frozen=True)
class PreparedRun:
    """All that the trials of a request need.

    Attributes:
        described: the plan of a run that is made with it.
        troubles: those of guests on the way, to be stored with the run: the guest and what happened.
        failed_boots: by guest, how many boots failed on the way with none that worked after them.
    """

    files: dict[str, BootFiles]
    built: dict[str, Artifacts]
    described: dict[str, Any]
    troubles: list[tuple[str, str]] = field(default_factory=list)
    failed_boots: Mapping[str, int] = field(default_factory=dict)


def prepare_run(
    asked: ResolvedRequest, report: Reporter, door: RunHooks | None = None, boot_here: bool = True
) -> PreparedRun:
    """Find or build what a request needs, and have its guests booted once. Raises HarnessError.

    Args:
        door: of a caller that names every program by its file; one that does not compile is a failure to it, no error.
        boot_here: whether the guests run on this machine.
    """
    request, configuration = asked.request, asked.configuration
    named = [] if door else [Path(word).absolute() for word in request.selection if word.endswith(".go")]
    stopped = door.stopped.is_set if door else lambda: False
    cache = Cache(paths.cache_dir())
    # What may be missing or refused comes first: to try it takes a second, a download and a build take minutes.
    booted = asked.guests if boot_here else {}
    for name in booted:
        dry_start.check(name, configuration)
    tools = {guest.toolchain: toolchain.find(guest.toolchain, configuration) for guest in asked.guests.values()}
    files = {name: find_boot_files(name, configuration, partial(report.step, f"image {name}")) for name in asked.guests}
    for name in booted:
        dry_start.check(name, configuration, files[name])
    with booting_meanwhile(booted, files, request.work, cache, report) as meanwhile:
        built: dict[str, Artifacts] = {}
        for name, found in tools.items():
            fitting = [variant for variant in asked.variants if configuration.variant(variant).fits(found.triple)]
            programs = {variant: asked.programs_of(variant) for variant in fitting}
            built[name] = build_artifacts(programs, found, configuration, cache, report, named, stopped)
    described = describe(request, asked.guests, asked.programs, built, files, configuration, tools)
    described["facts"] |= versions(asked, tools, files, boot_here)
    return PreparedRun(files, built, described | ({"shard": asked.whole} if asked.whole else {}), *meanwhile)


@contextmanager
def booting_meanwhile(
    guests: Mapping[str, conf.Guest], files: Mapping[str, BootFiles], work: Path, cache: Cache, report: Reporter
) -> Iterator[tuple[list[tuple[str, str]], dict[str, int]]]:
    """Boot and save guests that are not saved yet for the time of the block, in which other things are made.

    What goes wrong ends nothing, for it may go right when guests are needed. It is logged. The value of the block is a
    list of it with the guests' names, and by guest how many boots failed with none that worked after them; both are
    whole after the block.
    """
    given_up = threading.Event()
    troubles: list[tuple[str, str]] = []
    failed_boots: dict[str, int] = {}

    def prepare(name: str) -> None:
        say = partial(report.step, f"guest {name}")

        def tell(text: str) -> None:
            _log.warning("guest %s, saved while other things are made: %s", name, text)
            troubles.append((name, text))

        pool = Pool(name, guests[name], files[name], {}, cache, tell, work / SCREENS)
        try:
            with guest_folder(work) as folder:
                pool.prepare(folder, say, given_up.is_set)
            say(READY)
        except HarnessError as error:
            if given_up.is_set():
                _log.info("guest %s was given up: %s", name, error)
                return
            tell(error.whole() if isinstance(error, GuestError) else str(error))
            say("not saved")
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


@contextmanager
def fresh_guest(name: str, configuration: conf.Configuration, work: Path, report: Reporter) -> Iterator[Machine]:
    """A fresh guest that answers, for the time of the block. Raises as `dry_start.check` and `boot.files` do, and
    GuestError."""
    say = partial(report.step, f"guest {name}")
    dry_start.check(name, configuration)
    found = find_boot_files(name, configuration, partial(report.step, f"image {name}"))
    dry_start.check(name, configuration, found)
    pool = Pool(name, configuration.guest(name), found, {}, Cache(paths.cache_dir()), say, work / SCREENS)
    with guest_folder(work) as folder:
        guest = pool.fresh(folder, say)
        try:
            guest.shell.close()
            say(READY)
            yield guest.machine
        finally:
            guest.machine.stop()


def run_context(asked: ResolvedRequest, provided: PreparedRun, kept: Path | None) -> RunContext:
    """What the workers of a run share. `kept` is the folder for core files, None if none are wanted."""
    request = asked.request
    options = [word for file in request.conf_files for word in ("--conf", str(file.absolute()))]
    return RunContext(
        asked.configuration,
        provided.files,
        provided.built,
        request.work,
        Cache(paths.cache_dir()),
        request.isolation,
        kept,
        (*options, *["--cores"] * request.cores),
        provided.failed_boots,
    )
