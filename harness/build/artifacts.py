"""All that is built for one toolchain: the agent, the variants' libgos, and the programs with each of them."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from harness import conf
from harness.build import gotest, program
from harness.build.libgo import Libgo
from harness.build.toolchain import Toolchain
from harness.build.variants import LibgoVariant, build_variants
from harness.cache import Cache
from harness.errors import ProgramError
from harness.programs.gotags import Target
from harness.programs.model import Program
from harness.progress import Reporter

_log = logging.getLogger(__name__)

#: The agent's source, compiled for each toolchain.
AGENT_SOURCE = Path(__file__).parents[1] / "guest" / "agent.c"


@dataclass(frozen=True)
class Artifacts:
    """All that was built for one toolchain: its agent, and libgos, programs and preloaded libraries by variant.

    Attributes:
        libgos: of the variants with which Go programs are run; C programs have none.
        preloads: of the variants that have some.
        broken: what the compiler said of programs that do not compile.
        compile_output: builds what a program printed with a variant; raises ProgramError.
    """

    agent: Path
    libgos: dict[str, Libgo]
    programs: dict[tuple[str, str], Path]
    broken: dict[tuple[str, str], str]
    compile_output: Callable[[str, Program, bytes], Path]
    preloads: dict[str, tuple[Path, ...]] = field(default_factory=dict)

    def agent_target(self, guest: conf.Guest) -> str:
        """Where the agent lies in a guest; its folder is the cache's, named by the hash of what made it."""
        return f"{guest.folder}/agent-{self.agent.parent.name}"

    def contents(self, guest: conf.Guest, variants: Iterable[str]) -> dict[str, Path]:
        """The files that a guest needs for trials with these variants, by where they lie in it."""
        files = {self.agent_target(guest): self.agent}
        for name in variants:
            files |= self.libraries(guest, name, with_libgo=True)
        return files

    def libraries(self, guest: conf.Guest, variant: str, with_libgo: bool) -> dict[str, Path]:
        """The libraries of a variant by where they lie in a guest: its libgo, if there is one, and what it preloads.

        Args:
            with_libgo: whether the libgo is wanted, which C programs do not need.
        """
        files = {}
        if with_libgo and variant in self.libgos:
            files[self._libgo_target(guest, variant)] = self.libgos[variant].library
        return files | {_preload_target(guest, library): library for library in self.preloads.get(variant, ())}

    def environment(self, guest: conf.Guest, variant: str, program: Program) -> dict[str, str]:
        """What a program's environment says of the libraries of a variant. Paths are those of `libraries`."""
        environment = {}
        if not program.is_c:
            environment["LD_LIBRARY_PATH"] = str(Path(self._libgo_target(guest, variant)).parent)
        if preloads := self.preloads.get(variant):
            environment["LD_PRELOAD"] = ":".join(_preload_target(guest, library) for library in preloads)
        return environment

    def _libgo_target(self, guest: conf.Guest, variant: str) -> str:
        libgo = self.libgos[variant]
        return f"{guest.folder}/lib/{libgo.key}/{libgo.library.name}"


def _preload_target(guest: conf.Guest, library: Path) -> str:
    """Where a preloaded library lies in a guest; its folder is the cache's, named by the hash of what made it."""
    return f"{guest.folder}/lib/{library.parent.name}/{library.name}"


def build_artifacts(
    programs: Mapping[str, Sequence[Program]],
    variants: Mapping[str, LibgoVariant],
    tools: Toolchain,
    cache: Cache,
    report: Reporter,
    stopped: Callable[[], bool],
) -> Artifacts:
    """Build everything for one toolchain.

    Args:
        programs: by variant, what is run with it.
        variants: the variants by name.
        stopped: as for `build_variants`.

    Raises:
        PatchError, BuildError, ToolMissing: a libgo cannot be built.
        ProgramError: what a variant preloads does not compile. A program that does not is a result.
    """
    with_go = [name for name, chosen in programs.items() if not all(program.is_c for program in chosen)]
    libgos = build_variants([variants[name] for name in with_go], tools, cache, report, stopped)
    preloads = {
        name: tuple(program.build_preload(preload, tools, cache) for preload in variants[name].preloads)
        for name in programs
        if variants[name].preloads
    }
    executables: dict[tuple[str, str], Path] = {}
    broken: dict[tuple[str, str], str] = {}
    target = Target.of(tools.triple)
    pairs = [
        (name, program)
        for name, chosen in programs.items()
        for program in chosen
        if program.fits(target, variants[name].config)
    ]

    def compile_program(variant: str, source: Program) -> Path:
        if source.is_c:
            return program.build_c(source, tools, cache)
        if source.build.package:
            return gotest.build(source, tools, libgos[variant], variants[variant].recipe, cache)
        return program.build(source, tools, libgos[variant], cache)

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        futures = {threads.submit(compile_program, *pair): pair for pair in pairs}
        try:
            for count, future in enumerate(as_completed(futures), start=1):
                variant, source = futures[future]
                try:
                    executables[variant, source.name] = future.result()
                except ProgramError as error:
                    _log.info("%s with %s does not compile: %s", source.name, variant, error)
                    broken[variant, source.name] = str(error)
                report.count("programs", count, len(pairs), f"compiled {source.name}")
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise

    def compile_output(variant: str, source: Program, output: bytes) -> Path:
        return program.build_output(source, output, tools, libgos[variant], cache)

    agent = program.build_agent(AGENT_SOURCE, tools, cache)
    return Artifacts(agent, libgos, executables, broken, compile_output, preloads)
