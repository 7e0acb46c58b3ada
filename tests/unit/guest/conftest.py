"""The agent, compiled for this machine."""

import subprocess
from pathlib import Path

import pytest

import harness


@pytest.fixture(scope="session")
def agent_program(tmp_path_factory, tools):
    out = tmp_path_factory.mktemp("agent") / "agent"
    source = Path(harness.__file__).parent / "guest" / "agent.c"
    subprocess.run([tools.gcc, "-O2", "-Wall", "-Wextra", "-Werror", "-static", "-o", out, source], check=True)
    return out
