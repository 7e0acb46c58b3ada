"""Sets of units as variants, and the preparation of a bisect."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml

from harness import conf, paths
from harness.bisect import hunks
from harness.bisect.commits import Commits
from harness.bisect.course import NOTHING
from harness.bisect.hunks import Unit
from harness.bisect.request import BisectRequest
from harness.bisect.search import Subset
from harness.build import patches, source, toolchain
from harness.build.variants import LibgoVariant, load_configuration, read_variants
from harness.cache import Cache, digest
from harness.errors import ConfigError, StoreError
from harness.files import written_whole
from harness.locks import lock


class Units(Protocol):
    """What a bisect is of: hunks.Series or commits.Commits."""

    units: list[Unit]
    needs: set[tuple[int, int]]
    likely: dict[tuple[int, int], float]

    def compose(self, chosen: Collection[int]) -> bytes:
        """The patch of some of the units."""


@dataclass(frozen=True)
class PreparedBisect:
    """What is bisected, and the variants that its sets of units become."""

    units: Units
    variants: BisectVariants


def prepare_bisect(request: BisectRequest) -> PreparedBisect:
    """Read and check what is bisected. Raises HarnessError, with a sentence for the user, if it cannot be."""
    configuration = load_configuration(request.conf_files, request.work)
    guest = configuration.guest(request.guest)
    tools = toolchain.find(guest.toolchain, configuration)
    baseline = read_variants([request.baseline], [tools.triple], configuration)[request.baseline]
    if baseline.config.prebuilt:
        raise ConfigError(f"variant {request.baseline} is prebuilt: it has no source to patch")
    cache = Cache(paths.cache_dir())
    base = baseline.recipe.patches
    override: dict[str, Any] = {}
    units: Units
    if request.repository:
        commits = Commits(request.repository, request.commits)
        unpacked = commits.source(cache)
        version = (unpacked / "gcc" / "BASE-VER").read_text().strip()
        if version.split(".")[0] != str(tools.major):
            raise ConfigError(
                f"{request.repository} at {commits.good[:12]} is GCC {version}, and toolchain {tools.name} is GCC"
                f" {tools.version}, which compiles the libgo of its own major version only"
            )
        patches.parse(commits.compose(range(len(commits.units))), request.repository)
        override = {guest.toolchain: {"source": str(unpacked)}}
        units = commits
    else:
        series = [patch for file in request.files for patch in patches.read(file)]
        units = hunks.split(series, source.unpack(tools, cache), base, request.blocks)
    return PreparedBisect(units, BisectVariants(request, baseline, units, override))


class BisectVariants:
    """Sets of units as variants, in a folder of their own with a YAML file that describes them.

    Attributes:
        file: the YAML file.
        configuration: where variants are added too, once it is set.
        names: the variants, by their sets.
    """

    def __init__(self, request: BisectRequest, baseline: LibgoVariant, units: Units, override: dict[str, Any]) -> None:
        base = baseline.recipe.patches
        whole = units.compose(range(len(units.units)))
        self.key = digest([request.baseline, [patch.key for patch in base], whole.decode("latin-1")])
        self.folder = request.work / "bisects" / self.key
        self.file = self.folder / "variants.yaml"
        self.configuration: conf.Configuration | None = None
        self.names: dict[Subset, str] = {NOTHING: request.baseline}
        self._baseline, self._units, self._guest = baseline.config, units, request.guest
        self._override = {"toolchains": override} if override else {}
        self._base = [self._write(f"baseline-{place}.patch", patch.text) for place, patch in enumerate(base)]

    def add(self, subset: Subset) -> str:
        """The name of the variant with these units. Raises StoreError if it cannot be written."""
        if subset not in self.names:
            text = self._units.compose(subset)
            name = f"bisect-{digest([self.key, text.decode('latin-1')])[:8]}"
            file = self._write(f"{name}.patch", text)
            about = ", ".join(self._units.units[unit].name for unit in sorted(subset))
            variant = self._baseline.model_copy(
                update={"about": about, "patches": [*map(str, self._base), str(file)], "tree": None, "trace": False}
            )
            entry = variant.model_dump(exclude_defaults=True, exclude_none=True)
            with lock(self.folder / ".lock"):  # a bisect of the same patch may run side by side
                known = yaml.safe_load(self.file.read_text()) if self.file.is_file() else {}
                whole = {**self._override, "variants": {**known.get("variants", {}), name: entry}}
                document = f"# Made by `harness bisect`.\n{yaml.safe_dump(whole, sort_keys=False, width=200)}"
                self._write("variants.yaml", document.encode())
            if self.configuration:
                self.configuration.add(name, variant)
            self.names[subset] = name
        return self.names[subset]

    def read(self, name: str) -> LibgoVariant:
        """One of the variants, to be built. Raises PatchError."""
        assert self.configuration is not None
        triple = self.configuration.toolchain(self.configuration.guest(self._guest).toolchain).triple
        return read_variants([name], [triple], self.configuration)[name]

    def _write(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(path) as part:
                part.write_bytes(data)
        except OSError as error:
            raise StoreError(f"{path}: cannot be written: {error.strerror}") from error
        return path
