"""Guests in trouble, for real: kernels that panic at boot and in a trial, a crash's core, a halt and one that fails."""

import re
import shutil
import subprocess

import pytest
from click.testing import CliRunner

from harness import conf, host
from harness.cli.app import main
from harness.errors import GuestError
from harness.guest import boot
from harness.progress import Reporter
from harness.results.store import Store
from harness.run.prepare import fresh_guest


def harness(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def test_a_kernel_without_servers_panics_and_is_reported_as_that(gnumach, write, tmp_path):
    mine = write(
        "panic.yaml",
        f"guests:\n  panic: {{toolchain: linux-i386, kernel: {gnumach}, append: console=com0, system: hurd,\n"
        "    ready: {timeout: 5m}}\n",
    )
    result = harness("shell", "panic", "--conf", mine, "--work", tmp_path / "work")
    assert result.exit_code == 3
    panic = r"panic in bootstrap_create \(../kern/bootstrap.c:\d+\): No bootstrap code loaded with the kernel!"
    assert re.search(f"guest panic: it does not boot: {panic}", result.output), result.output
    assert "console: panic ../kern/bootstrap.c:" in result.output and "not ready within" not in result.output
    (screen,) = (tmp_path / "work" / "screens").glob("*.png")
    assert str(screen) in result.output
    assert screen.read_bytes().startswith(b"\x89PNG") and screen.stat().st_size > 1000


DIES = """// run
// timeout: 90s

package main

import (
	"os"
	"time"
)

func main() {
	os.Stdout.WriteString("last words\\n")
	time.Sleep(time.Second)
	os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0)
	time.Sleep(time.Hour)
}
"""
CRASHES = """// run
// env: GOTRACEBACK=crash

package main

func deeper(n int) {
	if n == 0 {
		panic("no")
	}
	deeper(n - 1)
}

func main() {
	deeper(3)
}
"""
POLICY = """// run

package main

import "os"

func main() {
	os.Stdout.WriteString(os.Getenv("CRASHSERVER"))
}
"""


def test_a_crash_leaves_its_core_and_a_panic_in_a_trial_is_the_guest_s(write, tmp_path):
    write("demo/dies.go", DIES)
    write("demo/core.go", CRASHES)
    write("demo/policy.go", POLICY)
    write("demo/policy.out", "/servers/crash-dump-core")
    write("demo/stuck.go", "// run\n// timeout: 2s\n\npackage main\n\nfunc main() {\n\tfor {\n\t}\n}\n")
    # The control's kernel reboots when it panics, and so ends QEMU; this one stays, as GNU Mach does.
    append = conf.load().guest("linux-i386").append.replace("panic=-1", "panic=0")
    # It is taken for a Hurd, whose way of listing processes it does not have: that must be no trouble.
    mine = write("stays.yaml", f"guests:\n  linux-i386: {{append: {append}, system: hurd}}\n")
    work = tmp_path / "work"
    words = ["--variant", "pristine", "--jobs", 1, "--cores", "--conf", mine, "--work", work]
    result = harness("run", tmp_path / "demo", *words)
    assert result.exit_code == 1, result.output
    assert "† kills guest 1" in result.output and "panic: sysrq triggered crash" in result.output
    store = Store(work / "results.sqlite")
    trials = {}
    for trial in store.trials(1):
        trials.setdefault(trial.program, []).append(trial)
    assert [trial.verdict for trial in trials["demo/policy"]] == ["pass"]
    assert [trial.signature for trial in trials["demo/stuck"]] == ["hang: running in main.main"]

    dead = [(trial.verdict, trial.reason) for trial in trials["demo/dies"]]
    assert dead == [("error", "panic: sysrq triggered crash")] * 3, "not the program's hang at its time limit"
    assert {trial.stdout for trial in trials["demo/dies"]} == {b"last words\n"}, "what it had printed is kept"
    kept = store.collected(trials["demo/dies"][0].id)
    assert b"sysrq triggered crash" in kept["dossier/console"]
    events = [event["text"] for event in store.events(1)]  # a restore may have failed, too, and been made again
    assert any("panic: sysrq triggered crash; its screen: " in trial and "console: " in trial for trial in events)
    assert len(list((work / "screens").glob("*.png"))) == 3

    (crash,) = trials["demo/core"]
    core = work / "runs" / "1" / "cores" / "linux-i386" / "pristine-demo-core-1.core"
    assert (crash.verdict, crash.signal) == ("crash", "SIGABRT") and crash.signature.startswith("panic: no in main.")
    assert crash.reason == f"ended by SIGABRT, expected exit status 0; core: {core}"
    header = core.read_bytes()[:18]
    assert header[:4] == b"\x7fELF" and header[16:] == b"\x04\x00", "a core by elf(5), not the program of that name"
    output = core.with_suffix(".txt").read_text()
    if shutil.which("gdb-multiarch") or shutil.which("gdb"):
        assert "terminated with signal SIGABRT" in output and "main.deeper" in output, output
    else:
        assert "no gdb on this machine" in output


def test_what_a_halted_guest_wrote_is_whole_and_a_killed_guest_s_is_gone(tmp_path):
    configuration = conf.load()
    with Reporter() as report, fresh_guest("linux-i386", configuration, tmp_path / "one", report) as machine:
        shell = boot.connect(machine, 30)
        shell.run("echo written >/root/kept")
        overlay = boot.halt(machine, shell)
        raw = tmp_path / "raw.img"
        subprocess.run(["qemu-img", "convert", "-O", "raw", overlay, raw], check=True)
        assert host.run("debugfs", "-R", "cat /root/kept", raw, what="the disk") == "written\n"
    ways = [("true", 1, "`true` did not halt it within 1 s"), ("reboot -f", 20, "did not exit cleanly: guest-reset")]
    for command, limit, message in ways:
        mine = tmp_path / "mine.yaml"
        mine.write_text(f"guests:\n  linux-i386: {{halt: {{command: {command!r}, timeout: {limit}s}}}}\n")
        with Reporter() as report, fresh_guest("linux-i386", conf.load([mine]), tmp_path / "two", report) as machine:
            overlay = machine.folder / "overlay.qcow2"
            assert overlay.exists()
            with pytest.raises(GuestError, match=message):
                boot.halt(machine, boot.connect(machine, 30))
            assert not overlay.exists() and not machine.process.alive()
