"""Measures what each step of a libgo's build costs, and writes harness/build/libgo-steps.json, which estimates go by.

    python -m tools.weigh

Takes one whole build, a few minutes. What is measured is the processor's time of each compiler, so other work on the
machine does not matter much; what it means is relative, and the same for all versions of GCC near enough (all carry
Go 1.18). Run it again when steps come or go.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from harness import conf, paths
from harness.build import libgo, steps, toolchain
from harness.cache import Cache

#: Runs a compiler, and adds a line to the record: the output's name and the seconds of processor time.
_TIMED = """#!{python}
import resource, subprocess, sys
status = subprocess.run([{compiler!r}, *sys.argv[1:]]).returncode
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
if "-o" in sys.argv and "-c" in sys.argv:
    with open({record!r}, "a") as file:
        file.write(f"{{sys.argv[sys.argv.index('-o') + 1]}} {{usage.ru_utime + usage.ru_stime:.3f}}\\n")
sys.exit(status)
"""


def main() -> None:
    """Build a libgo, and write the file."""
    tools = toolchain.find("linux-i386", conf.load([]))
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "record"
        wrappers = {}
        for name in ("gccgo", "gcc"):
            wrappers[name] = Path(folder) / name
            text = _TIMED.format(python=sys.executable, compiler=getattr(tools, name), record=str(record))
            wrappers[name].write_text(text)
            wrappers[name].chmod(0o755)
        timed = replace(tools, gccgo=str(wrappers["gccgo"]), gcc=str(wrappers["gcc"]))
        cache = Cache(Path(folder) / "cache")
        (Path(folder) / "cache").mkdir()
        (Path(folder) / "cache" / "gcc-source").symlink_to(paths.cache_dir() / "gcc-source")
        libgo.build(timed, libgo.Recipe(), cache, print)
        (tree,) = (Path(folder) / "cache" / "libgo-tree").glob("[!.]*")
        build = tree / "build" / "libgo"
        seconds = dict(line.split() for line in record.read_text().splitlines())
        costs: dict[str, tuple[float, list[str]]] = {}
        for output, used in seconds.items():
            name = steps.name(output)
            if (build / f"{name}.lo").is_file() or (build / f"{name}.o").is_file():
                costs[name] = (round(float(used), 2), steps.imports(build / f"{name}.lo.dep"))
    rows = [f" {json.dumps(name)}: {json.dumps(step)}" for name, step in sorted(costs.items())]
    file = Path(libgo.__file__).with_name("libgo-steps.json")
    file.write_text("{\n" + ",\n".join(rows) + "\n}\n")
    print(f"{len(rows)} steps, {sum(step[0] for step in costs.values()):.0f} seconds: {file}")


if __name__ == "__main__":
    main()
