"""Whether a series of patches applies to the sources of the toolchains that there are."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import conf
from harness.build import gcc, patches, source, toolchain
from harness.build.patches import Patch
from harness.cache import Cache
from harness.errors import BuildError, PatchError, ToolMissing

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SourceCheck:
    """The result of a series on one source.

    Attributes:
        gcc: the source's version.
        toolchains: those that build libgo from it.
        failure: why the series does not apply, or ''.
    """

    gcc: str
    toolchains: tuple[str, ...]
    failure: str


def check_sources(
    series: Sequence[Patch], configuration: conf.Configuration, cache: Cache
) -> tuple[list[SourceCheck], list[str]]:
    """Try a series on each toolchain's source, and change none.

    Returns:
        The result on each source; and the toolchains whose source is not there.
    """
    users: dict[Path, list[str]] = {}
    missing: list[str] = []
    for name in configuration.toolchains:
        try:
            users.setdefault(_source(name, configuration, cache), []).append(name)
        except (ToolMissing, BuildError) as error:
            _log.info("%s", error)
            missing.append(name)
    checks = []
    for tree, names in users.items():
        failure = ""
        try:
            patches.check(series, tree)
        except PatchError as error:
            failure = str(error)
        version = (tree / "gcc" / "BASE-VER").read_text().strip()
        checks.append(SourceCheck(version, tuple(names), failure))
    return checks, missing


def _source(name: str, configuration: conf.Configuration, cache: Cache) -> Path:
    """GCC's source for a toolchain, or for one that has not been built yet. Raises ToolMissing or BuildError."""
    config = configuration.toolchain(name)
    try:
        return source.unpack(toolchain.find(name, configuration), cache)
    except ToolMissing:
        if config.build is None:
            raise
        return source.unpack_archive(gcc.source_archive(config), cache)
