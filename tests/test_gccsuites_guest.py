"""A few programs of each kind that GCC's source has, for real: compiled, shipped and run in the control guest."""

import json
import re

from click.testing import CliRunner

from harness.cli import main
from harness.results.store import Store

SELECTION = {
    "gcc-go/chan/select3": "pass",
    "gcc-go/helloworld": "pass",  # prints on stderr what its .out file has
    "gcc-go/args": "pass",
    "gcc-go/fixedbugs/bug437": "pass",  # rundir
    "gcc-go/fixedbugs/bug206": "pass",
    "gcc-go/fixedbugs/issue9110": "pass",
    "gcc-go/sizeof": "pass",
    "gcc-go-torture/Os/go-1": "pass",
    "go-runtime/LockOSThreadAlt": "pass",
    "go-runtime/SignalExitStatus": "pass",
    "libgo-packages/container/list": "pass",
    "libgo-packages/sync/atomic": "pass",
}


def test_some_of_each_kind_for_real(tmp_path, write):
    write("mine/broken.go", "// run\n\npackage main\n\nfunc main() { nothing() }\n")
    words = ["run", *SELECTION, str(tmp_path / "mine"), "--variant", "pristine", "--work", str(tmp_path / "work")]
    done = CliRunner().invoke(main, words)
    matrix = json.loads(next((tmp_path / "work").glob("runs/*/matrix.json")).read_text())
    got = {cell["program"]: cell["verdict"] for cell in matrix["cells"]}
    assert got == {**SELECTION, "mine/broken": "fail"}, done.output
    (trial,) = (one for one in Store(tmp_path / "work" / "results.sqlite").trials(1) if one.program == "mine/broken")
    assert re.fullmatch(r"does not compile: .*broken.go:5:15: error: .*nothing.*", trial.reason)
