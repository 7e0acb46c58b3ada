"""libgo variants: what each is made of, and their builds side by side."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cache as cached
from functools import partial
from pathlib import Path

from harness import clock, conf, paths
from harness.build import command, libgo, patches, source, toolchain, worktree
from harness.build.libgo import Libgo
from harness.build.toolchain import Toolchain
from harness.cache import Cache, digest
from harness.errors import ConfigError
from harness.progress import READY, Reporter

_log = logging.getLogger(__name__)

#: The patch that makes a libgo write its life-cycle trace.
TRACE_PATCH = paths.DATA / "conf" / "patches" / "lifetrace.patch"


def load_configuration(conf_files: Sequence[Path], work: Path) -> conf.Configuration:
    """The given configuration, the work trees of a work directory, and the user's own files. Raises ConfigError."""
    configuration = conf.load([*worktree.configurations(work), *conf_files])
    configuration.given = tuple(conf_files)
    return configuration


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
    gcc = source.unpack(tools, Cache(paths.cache_dir()))
    base = read_variants([like], [tools.triple], configuration)[like]
    return worktree.make(work, name, gcc, base.recipe.patches, like, tools.version)


@dataclass(frozen=True)
class Preload:
    """A C file that is to be preloaded, as it was read."""

    file: Path
    text: bytes

    @property
    def key(self) -> str:
        """A hash of its text."""
        return digest(self.text.decode("latin-1"))


@dataclass(frozen=True)
class LibgoVariant:
    """A variant as it was read: what is built, stored and shown of it follows from this alone.

    Attributes:
        config: what the configuration says of it.
        recipe: its patches, their text included, and its flags.
        preloads: what its programs are run with besides, in its order.
    """

    name: str
    config: conf.Variant
    recipe: libgo.Recipe
    preloads: tuple[Preload, ...] = ()

    @property
    def besides_libgo(self) -> list[str]:
        """What it changes for C programs too: what it preloads, its environment, and whether it is seeded. Variables
        that Go's runtime alone reads have names that begin with GO."""
        preloads = [f"{preload.file.stem} {preload.key}" for preload in self.preloads]
        environment = [f"{name}={text}" for name, text in self.config.env.items() if not name.startswith("GO")]
        return [*preloads, *environment, *["seeded"] * bool(self.config.seeded and self.preloads)]


def variant_configs(
    names: Iterable[str], triples: Collection[str], configuration: conf.Configuration
) -> dict[str, conf.Variant]:
    """What the configuration says of variants. Raises ConfigError as `read_variants` does."""
    configs = {name: configuration.variant(name) for name in names}
    for name, config in configs.items():
        if not any(map(config.fits, triples)):
            raise ConfigError(f"variant {name} is for {', '.join(config.only)} only, not for {', '.join(triples)}")
    return configs


def read_variants(
    names: Iterable[str], triples: Collection[str], configuration: conf.Configuration
) -> dict[str, LibgoVariant]:
    """Read variants by name. Each file and each work tree is read once, for whichever of them need it.

    Args:
        triples: the target triples, for one of which each must be.

    Raises:
        ConfigError: there is no such variant, or one is for none of the target triples.
        PatchError, BuildError, ToolMissing: a patch or a work tree cannot be read.
    """
    configs = variant_configs(names, triples, configuration)
    read_patch, read_tree = cached(patches.read), cached(worktree.difference)
    variants = {}
    for name, config in configs.items():
        series = [patch for file in configuration.patches(name) for patch in read_patch(file)]
        if tree := configuration.tree(name):
            series.append(read_tree(tree))
        if config.trace:
            series += read_patch(TRACE_PATCH)
        recipe = libgo.Recipe(tuple(series), tuple(config.configure), tuple(config.flags), config.prebuilt)
        preloads = tuple(map(_read_preload, configuration.preloads(name)))
        variants[name] = LibgoVariant(name, config, recipe, preloads)
    return variants


def _read_preload(file: Path) -> Preload:
    """A C file to be preloaded. Raises ConfigError."""
    try:
        return Preload(file, file.read_bytes())
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error


def build_variants(
    variants: Collection[LibgoVariant],
    tools: Toolchain,
    cache: Cache,
    report: Reporter,
    stopped: Callable[[], bool] = lambda: False,
) -> dict[str, Libgo]:
    """Build the libgos of variants, side by side as the cores allow. Variants that are equal share one.

    Args:
        stopped: asked now and then whether to give up.

    Returns:
        The libgos by the names of their variants.

    Raises:
        PatchError, BuildError, ToolMissing: one cannot be built.
        KeyboardInterrupt: `stopped` said so, as if the user had interrupted the builds.
    """
    sharing: dict[str, list[LibgoVariant]] = {}
    for variant in variants:
        sharing.setdefault(libgo.key(tools, variant.recipe), []).append(variant)

    def build(variants: Sequence[LibgoVariant]) -> Libgo:
        label = f"libgo {', '.join(variant.name for variant in variants)}"
        begun = clock.time()
        library = libgo.build(tools, variants[0].recipe, cache, partial(report.step, label))
        _log.info("%s of %s: %s after %.1f s", label, tools.triple, library.library, clock.time() - begun)
        report.step(label, READY)
        return library

    with ThreadPoolExecutor(os.cpu_count()) as threads, command.stoppable(threads):
        builds = {key: threads.submit(build, group) for key, group in sharing.items()}
        while wait(builds.values(), timeout=0.5, return_when=FIRST_EXCEPTION).not_done:
            if any(future.done() and future.exception() for future in builds.values()):
                break
            if stopped():
                raise KeyboardInterrupt
        # The first that failed, not one that was stopped for it.
        for future in builds.values():
            if future.done():
                future.result()
        libgos = {variant.name: builds[key].result() for key, group in sharing.items() for variant in group}
    return {variant.name: libgos[variant.name] for variant in variants}


def gcc_source(name: str, configuration: conf.Configuration) -> Path:
    """The folder of a toolchain's GCC source. Raises ConfigError, ToolMissing or BuildError."""
    return source.unpack(toolchain.find(name, configuration), Cache(paths.cache_dir()))
