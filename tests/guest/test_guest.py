"""The whole way, for real: libgo built, programs compiled, the control guest booted, trials made over SSH.

What is cached is used; on a fresh machine this test builds the image and both libgos.
"""

import json
import re

import pytest
from click.testing import CliRunner

from harness import conf
from harness.cli.app import main
from harness.guest.shell import Shell
from harness.progress import Reporter
from harness.results.load import load_life_cycles
from harness.results.store import Store
from harness.run.prepare import fresh_guest
from harness.trial import stillness

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
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 1, result.output
    matrix = json.loads(next((tmp_path / "work").glob("runs/*/matrix.json")).read_text())
    assert matrix["variants"] == ["pristine", "no-thread-destruction"]
    for cell in matrix["cells"]:
        suite, name = cell["program"].split("/")
        assert cell["verdict"] == (PROGRAMS[name][0] if suite == "demo" else "pass"), cell
    titles = {trial.program: trial.signature for trial in Store(tmp_path / "work" / "results.sqlite").trials(1)}
    assert titles["demo/deadlock"] == "fatal error: all goroutines are asleep - deadlock! chan receive in main.main"
    assert "nil pointer dereference" in titles["demo/nil"]
    assert titles["demo/spin"] == "hang: running in main.main"
    assert not list((tmp_path / "work" / "guests").glob("[!.]*"))
    assert ("guest linux-i386", "restoring") in {(one["what"], one["step"]) for one in matrix["times"]}
    versions = {kind: matrix["run"][kind]["linux-i386"] for kind in ("qemu", "gcc", "image")}
    assert versions["qemu"].startswith("QEMU emulator version ") and "gccgo" in versions["gcc"]
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in versions["image"].values())
    assert matrix["run"]["patches"]["no-thread-destruction"][0].startswith("no-thread-destruction.patch ")


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


LOCKED = "\tfor i := 0; i < 5; i++ {\n\t\tc := make(chan int)\n\t\tgo func() {\n\t\t\truntime.LockOSThread()\n"
LOCKED += "\t\t\tclose(c)\n\t\t}()\n\t\t<-c\n\t}\n\ttime.Sleep(300 * time.Millisecond)\n"


def test_the_life_cycle_is_told_of_programs_that_crash_and_hang_too(write, tmp_path):
    head = 'package main\n\nimport (\n\t"runtime"\n\t"time"\n)\n\nfunc main() {\n' + LOCKED
    write("demo/crash.go", f'// run\n\n{head}\tpanic("now")\n}}\n')
    write("demo/hang.go", f"// run\n// timeout: 15s\n\n{head}\tfor {{\n\t}}\n}}\n")
    words = ["run", str(tmp_path / "demo"), "--variant", "no-thread-exit+trace", "--variant", "pristine+trace"]
    result = CliRunner().invoke(main, [*words, "--work", str(tmp_path / "work")])
    assert result.exit_code == 1, result.output
    store = Store(tmp_path / "work" / "results.sqlite")
    cycles = load_life_cycles(store, store.run(None))
    assert {cycle.program: dict(cycle.columns["pristine"].verdicts) for cycle in cycles} == {
        "demo/crash": {"crash": 1},
        "demo/hang": {"hang": 1},
    }
    for cycle in cycles:
        for variant, end in (("pristine", True), ("no-thread-exit", False)):
            (trace,) = cycle.columns[variant].traces
            torn = trace.counts["threads torn down by Go"]
            assert torn in (4, 5), "the first thread of all is never torn down, and a goroutine may have had that"
            assert trace.counts["threads ended in libpthread"] == (torn if end else 0)
            assert len(trace.samples) > 10
    (page,) = (tmp_path / "work").glob("runs/*/report.html")
    assert page.read_text().count('class="curve"') == 8


INCLUDES = "".join(f"#include <{name}.h>\n" for name in ("netinet/in", "signal", "stdio", "sys/socket", "unistd"))
LOOKALIKES = {
    "alarm": "signal(SIGALRM, on); alarm(3); pause();",
    "child-writes": "pipe(p); if (!fork()) { sleep(3); write(p[1], p, 1); _exit(0); } read(p[0], p, 1);",
    "child-signals": "signal(SIGUSR1, on); if (!fork()) { sleep(3); kill(getppid(), SIGUSR1); _exit(0); } pause();",
    "network": "struct sockaddr_in a = {AF_INET, htons(7777)}; int s = socket(AF_INET, SOCK_STREAM, 0);"
    " bind(s, (void *)&a, sizeof a); listen(s, 1); if (!fork()) { sleep(3); s = socket(AF_INET, SOCK_STREAM, 0);"
    " connect(s, (void *)&a, sizeof a); sleep(9); } accept(s, 0, 0);",
}


def test_a_hang_is_seen_early_and_what_looks_like_one_is_not(write, tmp_path, monkeypatch):
    monkeypatch.setattr(stillness, "SILENCE", 0.5)  # so that programs of 3 s are looked at, again and again
    monkeypatch.setattr(stillness, "PULSE", 0.25)
    monkeypatch.setattr(stillness, "AGAIN", 0.25)
    for name, body in LOOKALIKES.items():
        text = f"// run\n{INCLUDES}static void on(int s) {{}}\nint main(void)\n{{\nint p[2] = {{0}};\n{body}\n"
        write(f"demo/{name}.c", f'{text}puts("done");\nreturn 0;\n}}\n')
        write(f"demo/{name}.out", "done\n")
    imports = 'import (\n\t"os"\n\t"os/signal"\n\t"sync"\n)\n\n'
    body = "\tsignal.Notify(make(chan os.Signal, 1), os.Interrupt)\n\tvar m sync.Mutex\n\tm.Lock()\n\tm.Lock()\n"
    write("demo/hangs.go", f"// run\n\npackage main\n\n{imports}func main() {{\n{body}}}\n")
    words = ["run", str(tmp_path / "demo"), "--variant", "pristine", "--work", str(tmp_path / "work")]
    result = CliRunner().invoke(main, words)
    store = Store(tmp_path / "work" / "results.sqlite")
    trials = {trial.program.removeprefix("demo/"): trial for trial in store.trials(1)}
    assert {name: trial.verdict for name, trial in trials.items() if name != "hangs"} == dict.fromkeys(
        LOOKALIKES, "pass"
    )
    hang = trials["hangs"]
    assert (hang.verdict, hang.signature) == ("hang", "hang: semacquire in sync.Mutex.Lock < main.main"), result.output
    assert re.fullmatch(
        r"nothing in it can run any more, seen after \d+\.\d s \(limit 60 s\): \d threads sleep: \d without a limit, "
        r"1 beyond the limit",
        hang.reason,
    )
    collected = store.collected(hang.id)
    assert b"beyond the trial's" in collected["dossier/stillness"] and b"hangs" in collected["dossier/threads"]


@pytest.mark.parametrize(
    ("line", "message"),
    [("\t\tif GOOS == 3 {", r"proc.go:\d+:\d+: error: "), ("\t\tif false {", None)],
)
def test_a_patch_of_one_s_own(write, line, message):
    old = '\t\tif GOOS != "plan9" { // See golang.org/issue/22227.'
    context = "\t\t// Return to mstart, which will release the P and exit\n\t\t// the thread."
    after = "\t\t\t_g_.m.exiting = true\n\t\t\tgogo(_g_.m.g0)\n\t\t} else {"
    lines = [" " + text for text in context.split("\n")] + ["-" + old, "+" + line]
    lines += [" " + text for text in after.split("\n")]
    name = "libgo/go/runtime/proc.go"
    write("own.patch", f"--- a/{name}\n+++ b/{name}\n@@ -3386,6 +3386,6 @@\n" + "\n".join(lines) + "\n")
    mine = write("own.yaml", "variants:\n  own: {patches: [own.patch]}\n")
    result = CliRunner().invoke(main, ["build", "own", "--conf", str(mine)])
    if message:
        assert result.exit_code == 2
        assert re.search(message, result.output) and "whole log: " in result.output, result.output
    else:
        assert result.exit_code == 0, result.output
