"""A guest, a libgo and all that belongs to them, for what works with the engine's own parts: benchmarks and DejaGnu.

Nothing of the user's but his builds, images and saved guests is used, and nothing of it changed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness import conf, paths
from harness.build import program, toolchain
from harness.build.artifacts import AGENT_SOURCE, Artifacts
from harness.build.variants import build_variants, read_variants
from harness.cache import Cache
from harness.guest import boot
from harness.guest.machine import Machine
from harness.guest.pool import Guest, Pool
from harness.guest.shell import Shell
from harness.guest.workspace import guest_folder
from harness.images.bootfiles import find_boot_files
from harness.programs.model import Program
from harness.progress import Reporter

#: The guest that all is measured on.
GUEST = "linux-i386"


class Setting:
    """What there is to work with: the control guest's files, a libgo, the agent, a pool.

    Args:
        folder: for what is gone afterwards.
        report: told what is going on.
        variant: the libgo.
    """

    def __init__(self, folder: Path, report: Reporter, variant: str) -> None:
        self.folder, self.report, self.variant = folder, report, variant
        self.configuration = conf.load()
        self.guest = self.configuration.guest(GUEST)
        self.tools = toolchain.find(self.guest.toolchain, self.configuration)
        self.cache = Cache(paths.cache_dir())
        self.files = find_boot_files(GUEST, self.configuration, lambda text: report.step(f"image {GUEST}", text))
        self.variants = read_variants([variant], [self.tools.triple], self.configuration)
        self.libgo = build_variants(self.variants.values(), self.tools, self.cache, report)[variant]
        self.agent = program.build_agent(AGENT_SOURCE, self.tools, self.cache)

    def say(self, text: str) -> None:
        """Tell what is done about the guest."""
        self.report.step(f"guest {GUEST}", text)

    def built(self, programs: Iterable[Program]) -> Artifacts:
        """What a crew needs to run programs."""
        files = {(self.variant, one.name): program.build(one, self.tools, self.libgo, self.cache) for one in programs}

        def compile_output(variant: str, one: Program, output: bytes) -> Path:
            return program.build_output(one, output, self.tools, self.libgo, self.cache)

        return Artifacts(self.agent, {self.variant: self.libgo}, files, {}, compile_output)

    @contextmanager
    def fresh(self) -> Iterator[Guest]:
        """A guest with the agent and the libgo on it."""
        built = self.built([])
        contents = built.contents(self.guest, [self.variant])
        saved = Cache(self.folder)  # so that it holds these and no more, which a restore's time depends on
        agent = built.agent_target(self.guest)
        pool = Pool(GUEST, self.guest, self.files, contents, saved, self.say, agent=agent)
        with guest_folder(self.folder) as folder:
            guest = pool.fresh(folder, self.say)
            try:
                yield guest
            finally:
                guest.machine.stop()

    @contextmanager
    def boot(self, data: Path | None = None) -> Iterator[Shell]:
        """A booted guest that has answered, with a file system on its data disk."""
        with guest_folder(self.folder) as folder:
            machine = Machine(GUEST, self.guest, self.files, folder)
            try:
                self.say("booting")
                machine.start(data=data)
                shell = boot.wait(machine)
                yield shell
                shell.close()
            finally:
                machine.stop()


@contextmanager
def setting(variant: str = "pristine") -> Iterator[Setting]:
    """What there is to work with, gone after the block."""
    with tempfile.TemporaryDirectory() as folder, Reporter() as report:
        yield Setting(Path(folder), report, variant)
