"""Things that several test modules use."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings

from harness import conf, paths
from harness.build import libgo, source, toolchain
from harness.build.variants import build_variants, read_variants
from harness.cache import Cache
from harness.conf.load import BASELINE
from harness.progress import Reporter
from tests import hostile

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as harness/bisect has it, before NumPy is loaded
# Where `harness` is found by its name, commands are shown so.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
settings.register_profile("untimed", deadline=None)  # how long an example takes is the machine's business
settings.load_profile("untimed")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option that makes the control guest hostile (tests/hostile.py)."""
    parser.addoption("--hostile", action="store_true", help="run guest tests on a guest that makes everything hard")


def pytest_configure(config: pytest.Config) -> None:
    """Have all harnesses, those in processes of their own too, find the hostile guest's description."""
    if not config.getoption("--hostile") or hasattr(config, "workerinput"):  # xdist's workers inherit it all
        return
    stack = ExitStack()
    config.add_cleanup(stack.close)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    os.environ["XDG_CONFIG_HOME"] = str(hostile.configure(folder))
    stack.enter_context(hostile.busy())


@pytest.fixture
def calm(request: pytest.FixtureRequest) -> bool:
    """Whether the control guest is the usual one: for what a hostile one's description rules out."""
    return not request.config.getoption("--hostile")


@pytest.fixture
def write(tmp_path: Path):
    """Write a file below the test's own folder and give its path."""

    def put(name: str, text: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return put


@pytest.fixture(scope="session")
def tools() -> toolchain.Toolchain:
    """The compilers for the control guest, of whichever GCC this machine has."""
    return toolchain.find("linux-i386", conf.load())


@pytest.fixture(scope="session")
def gcc(tools: toolchain.Toolchain) -> Path:
    """GCC's source, unpacked in the user's cache."""
    return source.unpack(tools, Cache(paths.cache_dir()))


@pytest.fixture(scope="session")
def pristine_tree(tools: toolchain.Toolchain) -> Path:
    """The tree of the unpatched libgo in the user's cache, built if it is not there, with GCC's source beside it."""
    cache = Cache(paths.cache_dir())
    with Reporter() as report:
        variants = read_variants([BASELINE], [tools.triple], conf.load())
        build_variants(variants.values(), tools, cache, report)
        return libgo.unpatched_tree(tools, libgo.Recipe(), cache, cache.root / "logs" / "tests", lambda text: None)


@pytest.fixture
def libgo_cache(tmp_path: Path, pristine_tree: Path) -> Cache:
    """A cache that has the unpatched tree and the source, and nothing else."""
    root = tmp_path / "cache" / "harness"
    for kind in ("libgo-tree", "gcc-source"):
        (root / kind).mkdir(parents=True)
        for path in (paths.cache_dir() / kind).glob("[!.]*"):
            (root / kind / path.name).symlink_to(path)
    return Cache(root)
