"""Dry starts with a real QEMU, and what is made of a QEMU that does not start.

Where a QEMU must say what this machine's would not, a script stands before it.
"""

import os
import re
import signal

import pytest
from click.testing import CliRunner

from harness import conf
from harness.cli.app import main
from harness.errors import ConfigError, GuestError, QemuRefusal, ToolMissing
from harness.guest import dry_start
from harness.guest.bootfiles import BootFiles
from harness.guest.machine import Machine
from harness.guest.process import StartFailure
from harness.images.image import ssh_key

REAL = 'exec qemu-system-x86_64 "$@"\n'


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "harness"


@pytest.fixture
def described(write):
    """The configuration with keys of linux-i386 changed, and its file."""

    def make(*lines):
        file = write("mine.yaml", "guests:\n  linux-i386:\n" + "".join(f"    {line}\n" for line in lines))
        return conf.load([file]), file

    return make


@pytest.fixture
def before_qemu(write, tmp_path):
    """Make a script that may stand for QEMU; beside it, `started` gets a line for each start."""

    def make(text):
        script = write("qemu", f'#!/bin/sh\ncase $* in *--version) {REAL};; esac\necho "$*" >>"$0.started"\n{text}')
        script.chmod(0o755)
        return script, lambda: (tmp_path / "qemu.started").read_text().splitlines()

    return make


@pytest.mark.parametrize(
    ("line", "key", "words"),
    [
        ("cpu: bogus", "cpu", "unable to find CPU model 'bogus'"),
        ("nic: bogus", "nic", "'bogus' is not a valid device model name"),
        ("machine: bogus", "machine", "unsupported machine type"),
        ("disk: {interface: scsi}", "disk.interface", "if=scsi"),
        ("qemu_args: [-nodefaults, -bogus]", "qemu_args", "-bogus: invalid option"),
        ("memory: 1048576", "memory", "Cannot allocate memory"),
    ],
)
def test_what_qemu_refuses_is_told_before_anything_is_made(cache, described, line, key, words, tmp_path):
    _, file = described("env: {}", line)
    result = CliRunner().invoke(main, ["run", "threads/lock-ring", "--conf", str(file), "--work", str(tmp_path / "w")])
    assert result.exit_code == 2, result.output
    (text,) = result.output.splitlines()
    assert text.startswith(f"harness: {file}:4: guests.linux-i386.{key}: ") and words in text, text
    assert not (cache / "images").exists() and not list((cache / "dry-starts").glob("[!.]*"))


def test_what_qemu_takes_is_not_tried_again(cache, described, before_qemu):
    script, started = before_qemu(REAL)
    for _ in range(2):
        dry_start.check("linux-i386", described(f"qemu: {script}")[0])
    assert len(started()) == 1 and started()[0].endswith(" -S")
    dry_start.check("linux-i386", described(f"qemu: {script}", "cpus: 2")[0])
    assert len(started()) == 2
    assert not list((cache / "dry-starts").glob("[!.]*/[!.]*")), "nothing of the machines is left"


def test_the_files_are_tried_when_they_are_there(cache, described, write):
    configuration, file = described("env: {}", "kernel: ./kernel", "qemu: qemu-system-i386")
    kernel = write("kernel", "no kernel" * 1000)
    dry_start.check("linux-i386", configuration)
    disk = write("disk", bytes(1 << 20))
    files = BootFiles(disk, kernel, "", None, (), ssh_key(), None)
    with pytest.raises(ConfigError, match=re.escape(f"{file}:4: guests.linux-i386.kernel: qemu-system-i386 does not")):
        dry_start.check("linux-i386", configuration, files)


def test_a_passing_trouble_is_no_refusal_and_is_not_remembered(cache, described, before_qemu, caplog):
    script, started = before_qemu("echo \"cannot set up guest memory 'pc.ram': Cannot allocate memory\" >&2; exit 1\n")
    for _ in range(2):
        dry_start.check("linux-i386", described(f"qemu: {script}", "memory: 16")[0])
    assert len(started()) == 2
    assert [record.message for record in caplog.records if record.name.startswith("harness")] == [
        f"guest linux-i386: {script} does not start: cannot set up guest memory 'pc.ram': Cannot allocate memory; "
        "it is started again when it is needed"
    ] * 2


def test_no_sandbox_is_told(cache, described, write, caplog):
    """A QEMU that is built without libseccomp says so; the rest of it is this machine's."""
    script = write("qemu", f"#!/bin/sh\ncase $* in *-sandbox*) echo 'not enabled' >&2; exit 1;; esac\n{REAL}")
    script.chmod(0o755)
    dry_start.check("linux-i386", described(f"qemu: {script}")[0])
    assert [record.message for record in caplog.records] == [
        f"guest linux-i386: {script} has no sandbox: it was built without libseccomp"
    ]


def test_root_that_cannot_be_dropped(cache, described, write, monkeypatch):
    script = write("qemu", f"#!/bin/sh\ncase $* in *-run*) echo 'invalid option' >&2; exit 1;; esac\n{REAL}")
    script.chmod(0o755)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(ToolMissing, match="cannot drop root, neither by -run-with user= nor by -runas"):
        dry_start.check("linux-i386", described(f"qemu: {script}")[0])


def test_a_refusal_at_the_real_start_ends_the_run_at_once(described, before_qemu, tmp_path):
    script, started = before_qemu(
        f"case $* in *-S) {REAL};; esac\necho 'a file that only the start reads' >&2; exit 1\n"
    )
    _, file = described(f"qemu: {script}")
    words = ["run", "threads/lock-ring", "--variant", "distro", "--conf", str(file), "--work", str(tmp_path / "w")]
    result = CliRunner().invoke(main, [*words, "--jobs", "1"])
    assert result.exit_code == 2, result.output
    error = f"harness: guest linux-i386: {script} does not start: a file that only the start reads"
    assert error in result.output.splitlines()
    real = [line for line in started() if not line.endswith("-S")]
    assert len(real) == 2, "while the program was built, and for the trial"


@pytest.mark.parametrize(
    ("status", "words", "passing", "text"),
    [
        (1, "-foo: invalid option", False, "-foo: invalid option"),
        (1, "-netdev user: Could not set up host forwarding rule 'tcp:127.0.0.1:1-:22'", True, None),
        (1, "allocate 1073741824 bytes for jit buffer: Cannot allocate memory", True, None),
        (1, "could not open: Too many open files", True, None),
        (1, "could not open: No such file or directory", False, None),
        (127, "sh: 5: qemu: not found", False, None),
        (1, "", False, "it ended with status 1 and said nothing"),
        (None, "QEMU's monitor, greeting: TimeoutError", True, None),
        (128 + signal.SIGKILL, "", True, "it was ended by SIGKILL"),
        (128 + signal.SIGSYS, "", False, "it was ended by SIGSYS"),
        (
            128 + signal.SIGABRT,
            "hw/x.c:1: Assertion failed",
            False,
            "it was ended by SIGABRT: hw/x.c:1: Assertion failed",
        ),
        (255, "", False, "it was ended by signal 127"),
    ],
)
def test_how_qemu_fails(status, words, passing, text):
    failure = StartFailure(words, status)
    assert failure.passing is passing and str(failure) == (words if text is None else text)


@pytest.mark.parametrize(
    ("says", "kind", "text"),
    [
        (
            "echo 'qemu-system-i386: warning: old CPU' >&2; echo 'qemu-system-i386: -x: no' >&2; exit 1",
            QemuRefusal,
            "-x: no",
        ),
        ("kill -SYS $$", QemuRefusal, "it was ended by SIGSYS"),
        ("kill -KILL $$", GuestError, "it was ended by SIGKILL"),
        ("echo 'qemu: Cannot allocate memory' >&2; exit 1", GuestError, "Cannot allocate memory"),
    ],
)
def test_what_a_start_raises(described, before_qemu, tmp_path, says, kind, text):
    script, _ = before_qemu(f"{says}\n")
    configuration, _ = described(f"qemu: {script}")
    guest = configuration.guest("linux-i386").model_copy(update={"disk": None})
    machine = Machine("g", guest, BootFiles(None, None, "", None, (), ssh_key(), None), tmp_path / "m")
    with pytest.raises(kind) as caught:
        machine.start()
    assert type(caught.value) is kind and text in str(caught.value) and "warning" not in str(caught.value)
    assert not machine.process.alive()
