"""Test programs, compiled for a toolchain against a libgo's export data, and the agent that starts them in a guest.

A program is built once for all libgos that look alike from outside, so that variants run the same bytes. Knows nothing
of expectations or guests.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from harness.build import command
from harness.build.libgo import Libgo
from harness.build.toolchain import Toolchain
from harness.cache import Cache, digest, file_digest
from harness.errors import ProgramError

#: As GCC's go-test.exp compiles `run` tests, with debugging information so that tracebacks have lines.
FLAGS = ("-O2", "-g")


def build(source: Path, toolchain: Toolchain, libgo: Libgo, cache: Cache) -> Path:
    """Compile and link a program of one file, or take it from the cache.

    Returns:
        The path of the executable.

    Raises:
        ProgramError: it does not compile; the text has the compiler's words.
    """
    made_of = {
        "source": file_digest(source),
        "name": source.name,
        "flags": [*FLAGS, *libgo.flags],
        "interface": libgo.interface,
    }
    key = digest({**made_of, "toolchain": toolchain.identity})

    def compile_(staging: Path) -> None:
        words = [toolchain.gccgo, *toolchain.compile_flags, *FLAGS, *libgo.compile_flags]
        # The name in the debugging information must not depend on where the harness lies.
        words += [f"-fdebug-prefix-map={source.parent}=.", "-o", str(staging / "program"), str(source)]
        done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode:
            raise ProgramError(f"{source} does not compile:\n{done.stderr.strip()}")

    return cache.make("programs", key, compile_) / "program"


def build_agent(source: Path, toolchain: Toolchain, cache: Cache) -> Path:
    """Compile the guest's agent, or take it from the cache.

    Raises:
        BuildError: it does not compile; the text has the compiler's first error.
    """
    key = digest({"source": file_digest(source), "toolchain": toolchain.identity})

    def compile_(staging: Path) -> None:
        words: list[str | Path] = [
            toolchain.gcc,
            *toolchain.compile_flags,
            "-O2",
            "-s",
            "-o",
            staging / "agent",
            source,
        ]
        command.run(words, cache.root / "agent.log", folder=staging, what=f"compiling the agent for {toolchain.triple}")

    return cache.make("agent", key, compile_) / "agent"
