"""A guest, a libgo and all that belongs to them, for benchmarks and DejaGnu, which use the harness's own parts.

Uses the user's builds, images and saved guests, and nothing else of his; changes none of it.
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
from harness.guest.fresh import Guest
from harness.guest.machine import Machine
from harness.guest.pool import Pool
from harness.guest.shell import Shell
from harness.guest.workspace import guest_folder
from harness.images.bootfiles import find_boot_files
from harness.programs.model import Program
from harness.progress import Reporter

#: The guest of all measurements.
GUEST = "linux-i386"


class Setting:
    """The control guest's files, a libgo, the agent, and a way to start guests with them.

    Args:
        folder: a temporary folder.
        report: shows the steps.
        variant: the name of the libgo.
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

    def progress(self, text: str) -> None:
        """Show the guest's step."""
        self.report.step(f"guest {GUEST}", text)

    def build(self, programs: Iterable[Program]) -> Artifacts:
        """Build programs, and return all that workers need to run them."""
        executables = {
            (self.variant, source.name): program.build(source, self.tools, self.libgo, self.cache)
            for source in programs
        }

        def compile_output(variant: str, source: Program, output: bytes) -> Path:
            return program.build_output(source, output, self.tools, self.libgo, self.cache)

        return Artifacts(self.agent, {self.variant: self.libgo}, executables, {}, compile_output)

    @contextmanager
    def fresh(self) -> Iterator[Guest]:
        """A restored guest with the agent and the libgo."""
        artifacts = self.build([])
        contents = artifacts.contents(self.guest, [self.variant])
        saved = Cache(self.folder)  # the time of a restore depends on what a saved guest holds
        agent = artifacts.agent_target(self.guest)
        pool = Pool(GUEST, self.guest, self.files, contents, saved, self.progress, agent=agent)
        with guest_folder(self.folder) as folder:
            guest = pool.fresh(folder, self.progress)
            try:
                yield guest
            finally:
                guest.machine.stop()

    @contextmanager
    def boot(self, data: Path | None = None) -> Iterator[Shell]:
        """A guest that was booted and has answered, with a file system on its data disk."""
        with guest_folder(self.folder) as folder:
            machine = Machine(GUEST, self.guest, self.files, folder)
            try:
                self.progress("booting")
                machine.start(data=data)
                shell = boot.wait(machine)
                yield shell
                shell.close()
            finally:
                machine.stop()


@contextmanager
def open_setting(variant: str = "pristine") -> Iterator[Setting]:
    """A setting with a temporary folder, which is removed after the block."""
    with tempfile.TemporaryDirectory() as folder, Reporter() as report:
        yield Setting(Path(folder), report, variant)
