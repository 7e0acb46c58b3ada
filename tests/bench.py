"""Benchmarks: ratios measured side by side in one run, each with its goal and its method. `make bench` runs them.

Each part builds in a cache of its own, so that nothing is there already and nothing of the user's is touched.
"""

from __future__ import annotations

import filecmp
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from harness import conf, engine
from harness.build import libgo, source, toolchain
from harness.cache import Cache
from harness.progress import READY, Reporter


class Bench:
    """Measures steps and keeps what is shown at the end."""

    def __init__(self, title: str, method: str) -> None:
        self.title, self.method = title, method
        self.rows: list[tuple[str, ...]] = []
        self.seconds: dict[str, float] = {}

    def measure(self, name: str, what: Callable[[], object]) -> None:
        """Take the time of a step by the wall clock."""
        begun = time.monotonic()
        what()
        self.seconds[name] = time.monotonic() - begun

    def ratio(self, name: str, against: str, goal: float) -> None:
        """A step against another one, and what was hoped for."""
        ratio = self.seconds[name] / self.seconds[against]
        met = "met" if ratio <= goal else "missed"
        self.rows.append((name, f"{self.seconds[name]:.2f} s", f"{ratio:.3f}", f"at most {goal:g}: {met}"))

    def show(self) -> None:
        """Print the table."""
        table = Table("step", "time", "ratio", "goal", title=self.title, caption=self.method)
        for row in self.rows:
            table.add_row(*row)
        Console(width=110).print(table)


@contextmanager
def caches(number: int) -> Iterator[list[Cache]]:
    """Empty caches that share GCC's unpacked source, which every build finds there."""
    with tempfile.TemporaryDirectory(dir=Path.home()) as folder:
        yield [Cache(Path(folder) / str(place)) for place in range(number)]


def libgo_builds() -> Bench:
    """A full build, an incremental one, and one that is there already; and that the incremental one is right."""
    configuration = conf.load()
    tools = toolchain.find("linux-i386", configuration)
    go, c = "no-thread-destruction", "explicit-stack-size"
    bench = Bench(
        "libgo",
        f"One build of each, one after the other, GCC {tools.version}, `harness build`'s own steps without the start of"
        " Python. Full: configure and make of the unpatched source. Whole: the same of the patched source.",
    )
    recipes = {name: engine.recipe(name, configuration) for name in ("pristine", go, c)}
    with caches(2) as (cache, other), Reporter() as report:

        def make(name: str, into: Cache = cache, whole: bool = False) -> libgo.Libgo:
            label = f"libgo {name}{', whole' * whole}"
            made = libgo.build(tools, recipes[name], into, lambda text: report.step(label, text), whole=whole)
            report.step(label, READY)
            return made

        for one in (cache, other):
            source.unpack(tools, one)
        bench.measure("full build", lambda: make("pristine"))
        bench.measure(f"incremental build: {go}, a Go function", lambda: make(go))
        bench.measure(f"incremental build: {c}, a C function", lambda: make(c))
        bench.measure("nothing to do", lambda: make(go))
        bench.measure(f"whole build: {go}", lambda: make(go, other, whole=True))
        bench.rows.append(("full build", f"{bench.seconds['full build']:.2f} s", "1", ""))
        for name, goal in zip(list(bench.seconds)[1:4], (0.1, 0.1, 0.01), strict=True):
            bench.ratio(name, "full build", goal)
        same = filecmp.cmp(make(go).library, make(go, other, whole=True).library, shallow=False)
        name = f"whole build: {go}"
        words = (
            "the library is the incremental one's, byte for byte"
            if same
            else "ANOTHER LIBRARY than the incremental one"
        )
        bench.rows.append((name, f"{bench.seconds[name]:.2f} s", "", words))
    return bench


PARTS = {"libgo": libgo_builds}


def main() -> None:
    """Run the parts that are named, by default all."""
    unknown = [name for name in sys.argv[1:] if name not in PARTS]
    if unknown:
        sys.exit(f"bench: no part named {unknown[0]}; known: {', '.join(PARTS)}")
    for name in sys.argv[1:] or PARTS:
        PARTS[name]().show()


if __name__ == "__main__":
    main()
