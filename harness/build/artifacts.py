"""All that is built for one toolchain: the agent, the variants' libgos, and the programs with each of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from harness import conf
from harness.build import gotest, program
from harness.build.libgo import Libgo
from harness.build.toolchain import Toolchain
from harness.build.variants import build_variants, variant_recipe
from harness.cache import Cache
from harness.errors import ProgramError
from harness.programs.gotags import Target
from harness.programs.model import Program
from harness.progress import Reporter

#: The agent's source, compiled for each toolchain.
AGENT_SOURCE = Path(__file__).parents[1] / "guest" / "agent.c"


def build_artifacts(
    programs: Mapping[str, Sequence[Program]],
    tools: Toolchain,
    configuration: conf.Configuration,
    cache: Cache,
    report: Reporter,
    named: Collection[Path],
    stopped: Callable[[], bool],
) -> Artifacts:
    """Build everything for one toolchain.

    Args:
        programs: by variant, what is run with it.
        named: programs that the user named as files; a program of a suite may be one that does not compile.
        stopped: as for `build_variants`.
    """
    variants = list(programs)
    libgos = build_variants(variants, tools, configuration, cache, report, stopped)
    executables: dict[tuple[str, str], Path] = {}
    broken: dict[tuple[str, str], str] = {}
    target = Target.of(tools.triple)
    wanted = [
        (name, test)
        for name, chosen in programs.items()
        for test in chosen
        if test.fits(target, configuration.variant(name))
    ]
    recipes = {name: variant_recipe(name, configuration) for name in variants}

    def make(variant: str, one: Program) -> Path:
        if one.made.package:
            return gotest.build(one, tools, libgos[variant], recipes[variant], cache)
        return program.build(one, tools, libgos[variant], cache)

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        running = {threads.submit(make, *each): each for each in wanted}
        try:
            for done, job in enumerate(as_completed(running), start=1):
                variant, one = running[job]
                try:
                    executables[variant, one.name] = job.result()
                except ProgramError as error:
                    if one.source in named:
                        raise
                    broken[variant, one.name] = str(error)
                report.count("programs", done, len(wanted), f"compiled {one.name}")
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise

    def compile_output(variant: str, one: Program, output: bytes) -> Path:
        return program.build_output(one, output, tools, libgos[variant], cache)

    return Artifacts(program.build_agent(AGENT_SOURCE, tools, cache), libgos, executables, broken, compile_output)


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
        libraries = {self.library_target(guest, one): self.libgos[one].library for one in variants}
        return {self.agent_target(guest): self.agent, **libraries}

    def library_target(self, guest: conf.Guest, variant: str) -> str:
        """Where a variant's libgo lies in a guest."""
        lib = self.libgos[variant]
        return f"{guest.folder}/lib/{lib.key}/{lib.library.name}"
