"""All that is built for one toolchain: the agent, the variants' libgos, and the programs with each of them."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
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
    """All that was built for one toolchain: its agent, and libgos and programs by variant.

    Attributes:
        broken: what the compiler said of programs that do not compile.
        compile_output: builds what a program printed with a variant; raises ProgramError.
    """

    agent: Path
    libgos: dict[str, Libgo]
    programs: dict[tuple[str, str], Path]
    broken: dict[tuple[str, str], str]
    compile_output: Callable[[str, Program, bytes], Path]

    def agent_target(self, guest: conf.Guest) -> str:
        """Where the agent lies in a guest; its folder is the cache's, named by the hash of what made it."""
        return f"{guest.folder}/agent-{self.agent.parent.name}"

    def contents(self, guest: conf.Guest, variants: Iterable[str]) -> dict[str, Path]:
        """The files that a guest needs for trials with these variants, by where they lie in it."""
        libraries = {self.library_target(guest, name): self.libgos[name].library for name in variants}
        return {self.agent_target(guest): self.agent, **libraries}

    def library_target(self, guest: conf.Guest, variant: str) -> str:
        """Where a variant's libgo lies in a guest."""
        lib = self.libgos[variant]
        return f"{guest.folder}/lib/{lib.key}/{lib.library.name}"


def build_artifacts(
    programs: Mapping[str, Sequence[Program]],
    variants: Mapping[str, LibgoVariant],
    tools: Toolchain,
    cache: Cache,
    report: Reporter,
    required: Collection[Path],
    stopped: Callable[[], bool],
) -> Artifacts:
    """Build everything for one toolchain.

    Args:
        programs: by variant, what is run with it.
        variants: the variants by name.
        required: source files of programs that must compile; of others, that they do not is a result.
        stopped: as for `build_variants`.

    Raises:
        PatchError, BuildError, ToolMissing: a libgo cannot be built.
        ProgramError: a required program does not compile.
    """
    libgos = build_variants([variants[name] for name in programs], tools, cache, report, stopped)
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
                    if source.source in required:
                        raise
                    _log.info("%s with %s does not compile: %s", source.name, variant, error)
                    broken[variant, source.name] = str(error)
                report.count("programs", count, len(pairs), f"compiled {source.name}")
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise

    def compile_output(variant: str, source: Program, output: bytes) -> Path:
        return program.build_output(source, output, tools, libgos[variant], cache)

    return Artifacts(program.build_agent(AGENT_SOURCE, tools, cache), libgos, executables, broken, compile_output)
