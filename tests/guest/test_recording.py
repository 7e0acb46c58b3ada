"""Trials that are recorded and replayed, for real: a hang that is opened in gdb where it hangs, and one in five.

What takes many minutes is marked: ten replays beside other work, moments, and a capsule.
"""

import os
import re
import subprocess
import tarfile
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness import conf
from harness.cli.app import main
from harness.guest import replay
from harness.guest.bootfiles import BootFiles
from harness.guest.machine import Machine
from harness.guest.qemu_command import find_qemu
from harness.guest.recording import Recording, recorded_guest
from harness.results.store import Store
from harness.run import recordings
from tests import hostile
from tests.pages import Page

#: Hangs while the runtime does not see that it does, if a number from the system's random ones is below CHANCE of 256.
HANGS = """// run
// timeout: 3s

package main

import (
	"os"
	"sync"
	"time"
)

var lock sync.Mutex

func takeTwice() {
	println("about to take it twice")
	lock.Lock()
	lock.Lock()
}

func turns() {
	for {
		time.Sleep(100 * time.Millisecond)
	}
}

func main() {
	go turns()
	dice := make([]byte, 1)
	random, _ := os.Open("/dev/urandom")
	random.Read(dice)
	println("begun")
	if int(dice[0]) < CHANCE {
		takeTwice()
	}
}
"""
TITLE = "hang: semacquire in sync.Mutex.Lock < main.takeTwice"
#: The work directory, named as gdb's scripts and QEMU's options have trouble with.
WORK = "a work, folder"


def harness(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def run(folder, chance, trials):
    """Run the program until it hangs; the number of the trial that did."""
    (folder / "demo").mkdir()
    (folder / "demo" / "hangs.go").write_text(HANGS.replace("CHANCE", str(chance)))
    harness("run", folder / "demo", "--variant", "pristine", "--trials", trials, "--work", folder / WORK)
    store = Store(folder / WORK / "results.sqlite")
    return next(trial.id for trial in store.trials(1) if trial.signature == TITLE)


def test_a_hang_is_recorded_and_opened_where_it_hangs(tmp_path):
    number = run(tmp_path, 256, 1)
    work = tmp_path / WORK
    refused = harness("replay", number, "--work", work)
    assert refused.exit_code == 2 and f"harness rerun {number} --record --work " in refused.output
    result = harness("rerun", number, "--record", "--trials", 6, "--work", work)  # QEMU does not replay each recording
    assert result.exit_code == 0, result.output
    assert re.search(r"as trial \d of run 2: hang: semacquire", result.output), result.output
    assert "Replayed once in" in result.output
    (listed,) = [line for line in harness("list", "--work", work).output.splitlines() if " record " in line]
    assert " of at most 6 " in listed
    kept = recordings.find(Store(work / "results.sqlite"), number, work)
    assert str(kept.folder) in harness("open", number, "--work", work).output
    assert not list((work / "guests").glob("[!.]*"))

    script = tmp_path / "stacks.gdb"
    script.write_text("thread apply all bt\ninfo inferiors\ninferior 2\np/x $pc\n")
    result = harness("replay", number, "--script", script, "--work", work)
    assert result.exit_code == 0, result.output
    (stack,) = [part for part in re.split(r"^Thread ", result.output, flags=re.M)[1:] if "main.takeTwice" in part]
    assert re.search(r"sync\.Mutex\.[lL]ock.*main\.takeTwice.*hangs\.go:\d+", stack, re.S), result.output
    assert "main.main" in stack, stack
    assert re.search(r"^\$1 = 0x", result.output, re.M), "the machine itself"
    kept_text = Store(work / "results.sqlite").collected(kept.stored.trial)["dossier/gdb-stacks"].decode()
    assert "main.takeTwice" in kept_text
    trial_data = Page((work / "runs" / "2" / "report.html").read_text()).trials()[kept.stored.trial]
    assert {"dossier/gdb-stacks", recordings.PART} <= {name for name, *_ in trial_data["parts"]}


def test_a_program_that_does_not_compile_is_not_recorded(tmp_path):
    program = tmp_path / "broken.go"
    program.write_text("// run\npackage main\n\nfunc main() { nothing() }\n")
    harness("run", program, "--variant", "pristine", "--work", tmp_path / WORK)
    refused = harness("rerun", 1, "--record", "--work", tmp_path / WORK)
    assert refused.exit_code == 2 and "trial 1 cannot be recorded: " in refused.output, refused.output


@pytest.mark.demand
def test_a_hang_of_one_in_five_replays_ten_times_beside_other_work(tmp_path):
    number = run(tmp_path, 51, 40)
    work = tmp_path / WORK
    result = harness("rerun", number, "--record", "--trials", 40, "--work", work)
    assert result.exit_code == 0, result.output
    icount = re.search(r"^([\d,]+) instructions in", result.output, re.M)[1]
    with hostile.busy():
        for _ in range(10):
            result = harness("replay", number, "--work", work)
            assert result.exit_code == 0, result.output
            assert f"Replayed {icount} instructions" in result.output

    kept = recordings.find(Store(work / "results.sqlite"), number, work)
    with (kept.folder / "log").open("r+b") as log:
        log.seek(kept.stored.icount % 1000 + log.seek(0, os.SEEK_END) // 2)
        log.write(bytes(64))
    result = harness("replay", number, "--work", work)
    assert result.exit_code == 2 and f"{kept.folder / 'log'} has changed" in result.output
    record = kept.folder / recordings.RECORD
    record.write_text(kept.stored.model_copy(update={"kept": []}).model_dump_json())
    result = harness("replay", number, "--work", work)
    assert result.exit_code == 3 and "the replay is not what was recorded: " in result.output


@pytest.mark.demand
def test_moments_and_a_capsule(tmp_path):
    number = run(tmp_path, 256, 1)
    work = tmp_path / WORK
    assert harness("rerun", number, "--record", "--work", work).exit_code == 0
    script = tmp_path / "where.gdb"
    script.write_text("thread apply all bt\n")
    words = ["replay", number, "--script", script, "--work", work]
    stops = {}
    for at in ("output begun", "output about to take it twice", "console Linux version", "end", "2000000000"):
        result = harness(*words, "--at", at)
        assert result.exit_code == 0, result.output
        stops[at] = int(re.search(r"Stopped after ([\d,]+) of", result.output)[1].replace(",", ""))
    assert stops["2000000000"] == 2_000_000_000
    assert (
        stops["console Linux version"] < stops["output begun"] <= stops["output about to take it twice"] < stops["end"]
    )
    assert "never printed 'nothing like it'" in harness(*words, "--at", "output nothing like it").output
    assert harness(*words, "--at", "99999999999999").exit_code == 2

    file = tmp_path / "c.tar.gz"
    recorded_number = recordings.find(Store(work / "results.sqlite"), number, work).stored.trial
    result = harness("capsule", recorded_number, "-o", file, "--image", "--work", work)
    assert result.exit_code == 0, result.output
    with tarfile.open(file) as archive:
        archive.extractall(tmp_path)
    folder = tmp_path / f"trial-{recorded_number}"
    assert not (folder / "observed" / recordings.PART).exists(), "a folder of this machine"
    plain = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    process = subprocess.run([folder / "run.sh", "--replay"], env=plain, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert "console and packets are the same" in process.stderr and "about to take it twice" in process.stderr


@pytest.mark.demand
def test_gnu_mach_finds_its_ide_disks_when_it_is_recorded(gnumach, write, tmp_path):
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(64 << 20)
    lines = "toolchain: linux-i386, qemu: qemu-system-i386, system: hurd, nic: e1000"
    described = write("mach.yaml", f"guests:\n  mach: {{{lines}, disk: {{file: {disk}, interface: ide}}}}\n")
    configuration = conf.load([described])
    guest = recorded_guest("mach", configuration, find_qemu("mach", configuration.guest("mach")))
    files = BootFiles(disk, gnumach, "console=com0 root=device:hd0", None, (), Path(os.devnull), None)
    recording = Recording(tmp_path / "machine")
    machine = Machine("mach", guest, files, recording.folder, recording=recording)
    try:
        machine.start()
        while not machine.console.says("No bootstrap code"):  # its panic, for it has no servers
            machine.console.poll()
            machine.check_wanted()
            time.sleep(0.1)
        icount = machine.end_recording()
    finally:
        machine.stop()
    console = machine.console.file.read_bytes()
    assert b"hd0: QEMU HARDDISK" in console and b"hd1: QEMU HARDDISK" in console
    again = Recording(recording.folder, True, recording.template)
    machine = Machine("mach", guest, files, tmp_path / "again", recording=again)
    try:
        machine.start()
        replayed = replay.to_end(machine)
        assert replay.differences(machine, replayed.icount, icount, console) == []
    finally:
        machine.stop()
