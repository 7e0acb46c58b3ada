"""The whole way, for real: libgo built, programs compiled, the control guest booted, trials made over SSH.

What is cached is used; on a fresh machine this test builds the image and both libgos.
"""

import json
import re

import pytest
from click.testing import CliRunner

from harness import conf
from harness.cli import main
from harness.engine import fresh_guest
from harness.guest.shell import Shell
from harness.progress import Reporter
from harness.results.store import Store

PROGRAMS = {
    "nil": ("crash", "", "func main() {\n\tvar f func()\n\tf()\n}\n"),
    "deadlock": ("crash", "", "func main() {\n\t<-make(chan int)\n}\n"),
    "spin": ("hang", "// timeout: 4s\n", "func main() {\n\tfor {\n\t}\n}\n"),
    "wrong": ("fail", "", 'func main() {\n\tprint("")\n}\n'),
    "right": ("pass", "// args: a\n", 'import "os"\n\nfunc main() {\n\tos.Stdout.WriteString(os.Args[1])\n}\n'),
}


def test_the_four_ways_to_go_wrong_and_the_right_one(write, tmp_path):
    for name, (_, header, body) in PROGRAMS.items():
        write(f"demo/{name}.go", f"// run\n{header}\npackage main\n\n{body}")
    write("demo/wrong.out", "one\n")
    write("demo/right.out", "a")
    words = ["run", str(tmp_path / "demo"), "threads", "--work", str(tmp_path / "work")]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 1, done.output
    matrix = json.loads(next((tmp_path / "work").glob("runs/*/matrix.json")).read_text())
    assert matrix["variants"] == ["pristine", "no-thread-destruction"]
    for cell in matrix["cells"]:
        suite, name = cell["program"].split("/")
        assert cell["verdict"] == (PROGRAMS[name][0] if suite == "demo" else "pass"), cell
    titles = {trial.program: trial.signature for trial in Store(tmp_path / "work" / "results.sqlite").trials(1)}
    assert titles["demo/deadlock"] == "fatal error: all goroutines are asleep - deadlock!"
    assert "nil pointer dereference" in titles["demo/nil"]
    assert titles["demo/spin"] == "hang: goroutines in [running]"
    assert not list((tmp_path / "work" / "guests").iterdir())


def test_a_guest_cannot_reach_out_and_shows_its_own_host_key(tmp_path):
    with Reporter() as report, fresh_guest("linux-i386", conf.load(), tmp_path, report) as machine:
        files = machine.files
        shell = Shell.connect(machine.port, "root", files.ssh_key, files.host_key, 30)
        assert shell.run("uname -s")[1] == b"Linux\n"
        assert shell.run("cat; exit 5", stdin=b"x" * 200_000) == (5, b"x" * 200_000, b"")
        assert shell.run("nc -w 3 10.0.2.2 22 </dev/null")[0] != 0
        shell.close()
        kind, blob = files.host_key.split()
        with pytest.raises(Exception, match="another host key"):
            Shell.connect(machine.port, "root", files.ssh_key, f"{kind} {blob[:-6]}AAAAAA", 30)


@pytest.mark.parametrize(
    ("line", "said"),
    [("\t\tif GOOS == 3 {", r"proc.go:\d+:\d+: error: "), ("\t\tif false {", None)],
)
def test_a_patch_of_one_s_own(write, line, said):
    old = '\t\tif GOOS != "plan9" { // See golang.org/issue/22227.'
    context = "\t\t// Return to mstart, which will release the P and exit\n\t\t// the thread."
    after = "\t\t\t_g_.m.exiting = true\n\t\t\tgogo(_g_.m.g0)\n\t\t} else {"
    lines = [" " + text for text in context.split("\n")] + ["-" + old, "+" + line]
    lines += [" " + text for text in after.split("\n")]
    name = "libgo/go/runtime/proc.go"
    write("own.patch", f"--- a/{name}\n+++ b/{name}\n@@ -3386,6 +3386,6 @@\n" + "\n".join(lines) + "\n")
    mine = write("own.yaml", "variants:\n  own: {patches: [own.patch]}\n")
    done = CliRunner().invoke(main, ["build", "own", "--conf", str(mine)])
    if said:
        assert done.exit_code == 2
        assert re.search(said, done.output) and "whole log: " in done.output, done.output
    else:
        assert done.exit_code == 0, done.output
