"""libgo variants: what each is made of, and their builds side by side."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path

from harness import conf, paths
from harness.build import command, libgo, patches, source, toolchain, worktree
from harness.build.libgo import Libgo
from harness.build.toolchain import Toolchain
from harness.cache import Cache
from harness.errors import ConfigError
from harness.progress import READY, Reporter

#: The patch that makes a libgo write its life-cycle trace.
TRACE_PATCH = paths.DATA / "conf" / "patches" / "lifetrace.patch"


def load_configuration(conf_files: Sequence[Path], work: Path) -> conf.Configuration:
    """The given configuration, the work trees of a work directory, and the user's own files. Raises ConfigError."""
    return conf.load([*worktree.configurations(work), *conf_files])


def check_variants(names: Sequence[str], triples: Collection[str], configuration: conf.Configuration) -> None:
    """Raise ConfigError if there is no such variant, or one is for none of the target triples."""
    for name in names:
        variant = configuration.variant(name)
        if not any(map(variant.fits, triples)):
            raise ConfigError(f"variant {name} is for {', '.join(variant.only)} only, not for {', '.join(triples)}")


def new_variant(name: str, like: str, toolchain_name: str, configuration: conf.Configuration, work: Path) -> Path:
    """Make a work tree for a new variant that begins as another one. Returns its folder.

    Raises:
        ConfigError: there is a variant of that name already, or none to begin from.
        PatchError, BuildError, ToolMissing: it cannot be made.
    """
    if name in configuration.variants:
        raise ConfigError(f"there is a variant named {name} already")
    tools = toolchain.find(toolchain_name, configuration)
    if configuration.variant(like).prebuilt:
        raise ConfigError(f"variant {like} is prebuilt: it has no source to begin from")
    source_ = source.unpack(tools, Cache(paths.cache_dir()))
    return worktree.make(work, name, source_, variant_recipe(like, configuration).patches, like, tools.version)


def build_variants(
    names: Sequence[str],
    tools: Toolchain,
    configuration: conf.Configuration,
    cache: Cache,
    report: Reporter,
    stopped: Callable[[], bool] = lambda: False,
) -> dict[str, Libgo]:
    """Build the libgos of variants, side by side as the cores allow; those that come to the same share one.

    Args:
        stopped: asked now and then whether to give up; if so, it is as if the user had interrupted it.

    Raises:
        ConfigError, PatchError, BuildError, ToolMissing: one cannot be built.
    """
    recipes = {name: variant_recipe(name, configuration) for name in names}
    by_key: dict[str, list[str]] = {}
    for name, one in recipes.items():
        by_key.setdefault(libgo.key(tools, one), []).append(name)

    def build(sharing: list[str]) -> Libgo:
        what = f"libgo {', '.join(sharing)}"
        made = libgo.build(tools, recipes[sharing[0]], cache, partial(report.step, what))
        report.step(what, READY)
        return made

    with ThreadPoolExecutor(os.cpu_count()) as threads, command.stoppable(threads):
        jobs = {
            name: job for sharing in by_key.values() for job in [threads.submit(build, sharing)] for name in sharing
        }
        while wait(jobs.values(), timeout=0.5, return_when=FIRST_EXCEPTION).not_done:
            if any(job.done() and job.exception() for job in jobs.values()):
                break
            if stopped():
                raise KeyboardInterrupt
        # The first that failed, not one that was stopped for it.
        for job in jobs.values():
            if job.done():
                job.result()
        return {name: jobs[name].result() for name in names}


def variant_recipe(name: str, configuration: conf.Configuration) -> libgo.Recipe:
    """What a variant is made of. Raises ConfigError, PatchError, BuildError or ToolMissing."""
    said = configuration.variant(name)
    applied = [patches.read(file) for file in configuration.patches(name)]
    if tree := configuration.tree(name):
        applied.append(worktree.difference(tree))
    if said.trace:
        applied.append(patches.read(TRACE_PATCH))
    return libgo.Recipe(tuple(applied), tuple(said.configure), tuple(said.flags), said.prebuilt)


def gcc_source(name: str, configuration: conf.Configuration) -> Path:
    """The folder of a toolchain's GCC source. Raises ConfigError, ToolMissing or BuildError."""
    return source.unpack(toolchain.find(name, configuration), Cache(paths.cache_dir()))
