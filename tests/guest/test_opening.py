"""Trials that can be opened, for real: dossiers of a hang and a crash, a shell at a hang, a capsule on its own."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli.app import main
from harness.results.store import Store
from tests.pages import Page

SPINS = '// run\n// timeout: 4s\n\npackage main\n\nfunc main() {\n\tprintln("begun\\x1b[2J")\n\tfor {\n\t}\n}\n'
WAITS = '// run\n// timeout: 4s\n\npackage main\n\nimport "time"\n\nfunc main() {\n\ttime.Sleep(time.Hour)\n}\n'
CRASHES = '// run\n\npackage main\n\nimport "os"\n\nfunc main() {\n'
CRASHES += '\tos.WriteFile("/dev/kmsg", []byte("<0>a word from the kernel\\n"), 0)\n\tpanic("now")\n}\n'
FAILS = """// run
// args: one "two $three 'four"
// env: WORD="five six"

package main

import "os"

func main() {
	for _, arg := range os.Args[1:] {
		println(arg)
	}
	os.Stdout.WriteString(os.Getenv("WORD") + "\\n")
	os.Exit(7)
}
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A work directory with a run of one trial each: 1 crashes, 2 fails, 3 spins, 4 waits."""
    folder = tmp_path_factory.mktemp("opening")
    for name, text in (("a-crashes", CRASHES), ("b-fails", FAILS), ("c-spins", SPINS), ("d-waits", WAITS)):
        (folder / "demo").mkdir(exist_ok=True)
        (folder / "demo" / f"{name}.go").write_text(text)
    mine = folder / "mine.yaml"
    mine.write_text("variants:\n  mine: {about: pristine with a variable, env: {MINE: sure}}\n")
    words = [folder / "demo", "--variant", "mine", "--conf", mine, "--jobs", 1, "--work", folder / "work"]
    result = harness("run", *words)
    assert result.exit_code == 1, result.output
    assert f"    $ harness open 1 --work {folder / 'work'}" in result.output.splitlines()
    return folder / "work"


def harness(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def parts(work, trial):
    collected = Store(work / "results.sqlite").collected(trial)
    return {name: data if name.endswith(".png") else data.decode() for name, data in collected.items()}


def test_what_was_collected(work):
    crash, fail, spin, wait = (parts(work, trial) for trial in (1, 2, 3, 4))
    assert "a word from the kernel" in crash["dossier/console"] and set(crash) == {"dossier/console"}
    assert set(fail) <= {"dossier/console"}
    assert re.match("processor 0: spinning: .* in programs at [1-9]", spin["dossier/registers"])
    assert wait["dossier/registers"].startswith("processor 0: waiting: ")
    for name, hung in (("c-spins", spin), ("d-waits", wait)):
        threads = re.findall(
            rf"^thread \d+ \({name}\): state (\w), waits in \w+,", hung["dossier/threads"], re.MULTILINE
        )
        assert len(threads) >= 2 and ("R" in threads) == (name == "c-spins")
        assert name in hung["dossier/processes"] and "libgo.so" in hung["dossier/memory"]
        assert hung["dossier/screen.png"].startswith(b"\x89PNG")


def test_a_trial_is_opened_in_the_terminal_and_in_the_page(work):
    result = harness("open", 3, "--work", work)
    assert result.exit_code == 0, result.output
    for word in ("∞ hang trial 3 of run 1", "demo/c-spins, linux-i386, mine", "begun\\x1b[2J", "SIGQUIT: quit"):
        assert word in result.output
    assert "dossier/threads (" in result.output and "\x1b" not in result.output and "\x89PNG" not in result.output
    screen = work / "runs" / "1" / "trial-3-screen.png"
    assert str(screen) in result.output.splitlines() and screen.read_bytes() == parts(work, 3)["dossier/screen.png"]
    assert f"$ harness rerun 3 --shell --work {work}" in result.output.splitlines()
    assert f"--conf {work.parent / 'mine.yaml'}" in result.output, "the command that runs it again is the whole one"
    trial_data = Page((work / "runs" / "1" / "report.html").read_text()).trials()[3]
    (threads,) = (texts for name, _, _, texts in trial_data["parts"] if name == "dossier/threads")
    assert "state R" in threads[0] and trial_data["screen"].startswith("iVBORw0KGgo")


def test_a_shell_where_a_program_hangs(work):
    words = [Path(sys.executable).with_name("harness"), "rerun", "3", "--shell", "--work", work]
    look = 'tr "\\0" "\\n" </proc/$(pidof c-spins)/environ; cat /proc/$(pidof c-spins)/stat\n'
    process = subprocess.run(words, input=look, capture_output=True, text=True, check=False)
    assert process.returncode == 1, process.stderr
    (pid,) = re.findall(r"demo/c-spins reached its time limit; it is there yet, as process (\d+)\.", process.stderr)
    assert f"{pid} (c-spins) R " in process.stdout and "MINE=sure\n" in process.stdout
    assert "hang: it did not end within its time limit" in process.stderr
    assert not list((work / "guests").glob("[!.]*")) and len(Store(work / "results.sqlite").runs()) == 1


@pytest.mark.skipif(shutil.which("gdb") is None, reason="takes a gdb, which the harness does without otherwise")
def test_gdb_on_a_program_that_hangs(work, tmp_path):
    script = tmp_path / "script.gdb"
    script.write_text("thread apply all bt\ninfo sharedlibrary\n")
    words = [Path(sys.executable).with_name("harness"), "rerun", "3", "--until", "hang", "--trials", "2", "--gdb"]
    result = subprocess.run([*words, "--script", script, "--work", work], capture_output=True, text=True, check=False)
    assert result.returncode == 1, result.stderr
    assert re.search(r"^#0 .*main\.main \(\) at .*c-spins\.go:\d", result.stdout, re.MULTILINE), result.stdout
    assert "in runtime.sysmon () at " in result.stdout and re.search(r"Yes +\S+/libgo\.so", result.stdout)
    assert "hang: 1 of 1 trial\n" in result.stdout, "it went on after gdb, and was judged"
    assert not list((work / "guests").glob("[!.]*"))


def test_a_command_and_files_in_a_guest_and_the_command_that_boots_it(work, tmp_path):
    words = [Path(sys.executable).with_name("harness"), "shell", "linux-i386", "--work", work]
    source, copy = tmp_path / "a folder", tmp_path / "copy"
    source.mkdir()
    (source / "data").write_bytes(os.urandom(100_000))
    command = ["--put", source, "--get", f"a folder/data:{copy}", "--", "cat a*/data | wc -c; exit 9"]
    process = subprocess.run([*words, *command], capture_output=True, text=True, check=False)
    assert (process.returncode, process.stdout) == (9, "100000\n"), process.stderr
    assert copy.read_bytes() == (source / "data").read_bytes()
    printed = subprocess.run([*words, "--print"], capture_output=True, text=True, check=True).stdout
    script = re.sub(r"^(/\S*qemu-system.*)$", r"timeout 2 \1 -S", printed, flags=re.MULTILINE).partition("# Log in")[0]
    process = subprocess.run(["sh", "-e"], input=script, capture_output=True, text=True, check=False)
    assert process.returncode == 124, f"QEMU did not take it: {process.stderr}"


def test_a_trial_is_made_again(work):
    before = Store(work / "results.sqlite").run(None).id
    result = harness("rerun", 2, "--trials", 2, "--work", work)
    assert result.exit_code == 1 and "≠ fail 0/2" in result.output, result.output
    run = Store(work / "results.sqlite").run(None)
    assert (run.plan.programs, run.plan.variants, run.id) == (["demo/b-fails"], ["mine"], before + 1)
    source = work.parent / "demo" / "b-fails.go"
    source.write_text(FAILS.replace("Exit(7)", "Exit(8)"))
    result = harness("rerun", 2, "--work", work)
    source.write_text(FAILS)
    refusal = "trial 2 cannot be made again: source of demo/b-fails has changed since the run was made"
    assert result.exit_code == 2 and refusal in result.output
    source.rename(work.parent / "demo" / "x.go")
    result = harness("rerun", 2, "--work", work)
    (work.parent / "demo" / "x.go").rename(work.parent / "demo" / "b-fails.go")
    assert result.exit_code == 2 and "demo/b-fails, which trial 2 ran, is not there any more" in result.output


def test_a_capsule_runs_without_the_harness(work, tmp_path):
    file = tmp_path / "out" / "c.tar.gz"
    result = harness("capsule", 2, "-o", file, "--work", work)
    assert result.exit_code == 2 and f"{file}: there is no such folder" in result.output
    file.parent.mkdir()
    result = harness("capsule", 2, "--image", "-o", file, "--work", work)
    assert result.exit_code == 0, result.output
    assert [path.name for path in file.parent.iterdir()] == ["c.tar.gz"]
    with tarfile.open(file) as archive:
        archive.extractall(tmp_path)
    folder = tmp_path / "trial-2"
    assert (folder / "observed" / "stdout").read_bytes() == b"five six\n"
    assert json.loads((folder / "manifest.json").read_text())["trial"]["program"] == "demo/b-fails"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    plain = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PORT": str(port)}
    words = [folder / "run.sh", "image", "image/key"]  # which it takes by default, seen from another folder
    process = subprocess.run(words, cwd=folder, env=plain, capture_output=True, text=True, check=False)
    assert (process.returncode, process.stdout) == (7, "five six\n"), process.stderr
    assert "\none\ntwo $three 'four\n" in process.stderr
    assert "run.sh: exit status 7; the trial was: fail, " in process.stderr

    with (folder / "image" / "initrd.gz").open("ab") as image:
        image.write(b"!")
    process = subprocess.run([folder / "run.sh"], env=plain, capture_output=True, text=True, check=False)
    assert process.returncode == 125 and "is not the one of the trial" in process.stderr
