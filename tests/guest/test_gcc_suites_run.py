"""A few programs of each kind that GCC's source has, for real: compiled, shipped and run in the control guest."""

import json
import re

from click.testing import CliRunner

from harness.cli.app import main
from harness.results.store import Store

SELECTION = [
    "gcc-go/chan/select3",
    "gcc-go/helloworld",  # prints on stderr what its .out file has
    "gcc-go/fixedbugs/bug437",  # rundir: three packages
    "gcc-go/bom",  # runoutput
    "gcc-go/crlf",
    "gcc-go/recover",  # goes wrong where libgo lacks debugging information
    "gcc-go-torture/Os/go-1",
    "go-runtime/LockOSThreadAlt",
    "go-runtime/SignalExitStatus",
    "libgo-packages/container/list",  # tests inside the package
    "libgo-packages/errors",  # tests outside it
]


def test_some_of_each_kind_for_real(tmp_path, write):
    write("mine/broken.go", "// run\n\npackage main\n\nfunc main() { nothing() }\n")
    words = ["run", *SELECTION, str(tmp_path / "mine"), "--variant", "pristine", "--work", str(tmp_path / "work")]
    result = CliRunner().invoke(main, words)
    matrix = json.loads(next((tmp_path / "work").glob("runs/*/matrix.json")).read_text())
    verdicts = {cell["program"]: cell["verdict"] for cell in matrix["cells"]}
    assert verdicts == {**dict.fromkeys(SELECTION, "pass"), "mine/broken": "fail"}, result.output
    trials = {trial.program: trial for trial in Store(tmp_path / "work" / "results.sqlite").trials(1)}
    assert re.fullmatch(r"does not compile: .*broken.go:5:15: error: .*nothing.*", trials["mine/broken"].reason)
    assert re.fullmatch(r"as expected; \d+ passed", trials["libgo-packages/container/list"].reason)
    assert trials["gcc-go/bom"].command == "harness run gcc-go/bom --guest linux-i386 --variant pristine"
