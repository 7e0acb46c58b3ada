"""Dossiers: what registers say in words, and what a system's own tools say of real processes."""

import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import paths
from harness.conf.system import LINUX
from harness.errors import GuestError
from harness.trial import diagnostics

DATA = paths.DATA / "tests" / "data" / "registers"
SPINNING, WAITING = ((DATA / f"{name}.txt").read_text() for name in ("spinning", "waiting"))
TWO = (DATA / "two-processors.txt").read_text()
#: As QEMU prints a processor in 64-bit mode (target/i386/cpu-dump.c).
LONG = "CPU#0\nRIP=ffffffff81c3f8ae RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=0\n"


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        ([WAITING] * 8, ["processor 0: waiting: halted at 8 of 8 looks"]),
        ([WAITING] * 6 + [SPINNING] * 2, ["processor 0: waiting: halted at 6 of 8 looks, in programs at 2"]),
        (
            [SPINNING] * 8,
            [
                "processor 0: spinning: halted at 0 of 8 looks, in programs at 8 and in the kernel at 0, at addresses"
                " 00464b6e"
            ],
        ),
        ([SPINNING, WAITING] * 4, ["processor 0: working now and then: halted at 4 of 8 looks"]),
        (
            [LONG] * 2,
            ["processor 0: spinning", "in programs at 0 and in the kernel at 2, at addresses ffffffff81c3f8ae"],
        ),
        ([TWO.replace("HLT=1", "HLT=0", 1)], ["processor 0: spinning", "processor 1: waiting: halted at 1 of 1 looks"]),
        (["no such command"], ["QEMU tells nothing of the processors"]),
        ([], ["QEMU tells nothing of the processors"]),
    ],
)
def test_registers_in_words(samples, words):
    text = diagnostics.registers(samples)
    for word in words:
        assert word in text
    for sample in samples[:1] + samples[-1:]:
        assert sample.strip() in text


def test_where_a_processor_was():
    moved = SPINNING.replace("EIP=00464b6e", "EIP=00464b90")
    assert "at addresses 00464b6e to 00464b90" in diagnostics.registers([moved, SPINNING])


@given(st.lists(st.text(), max_size=3))
def test_any_answer_of_qemu_makes_a_part(samples):
    assert diagnostics.registers(samples)


@given(st.binary(max_size=200), st.integers(10, 100))
def test_a_part_is_bounded_and_keeps_its_ends(data, size):
    result = diagnostics.bounded(data, size)
    if len(data) <= size:
        assert result == data
    else:
        assert result.startswith(data[: size // 2] + b"\n[") and result.endswith(b" left out]\n" + data[-(size // 2) :])


class Here:
    """A shell on this machine, where the guest's would be: the same commands, the same kernel interface."""

    def run(self, command, quiet, limit):
        try:
            process = subprocess.run(["sh", "-c", command], capture_output=True, timeout=min(quiet, limit), check=False)
        except subprocess.TimeoutExpired:
            raise GuestError("no end in time") from None
        return process.returncode, process.stdout, process.stderr


def test_linux_tells_of_threads_and_files_of_a_real_process(tmp_path):
    odd = tmp_path / "a) b (c"
    odd.symlink_to(shutil.which("sleep"))
    with subprocess.Popen([odd, "60"]) as process:
        parts = {"dossier/threads": b""}
        while b"state S" not in parts["dossier/threads"] and process.poll() is None:  # it may be starting yet
            parts = diagnostics.inside(Here(), LINUX.probes, process.pid)
        process.kill()
    assert set(parts) >= {f"dossier/{name}" for name in ("threads", "processes", "memory", "files", "stacks")}
    line = parts["dossier/threads"].decode().splitlines()[0]
    assert line.startswith(f"thread {process.pid} (a) b (c): state S, waits in ")
    assert " ticks 0 user " in line and "system call " in line
    assert b"VmPeak:" in parts["dossier/memory"] and b" 0 -> " in parts["dossier/files"]


def test_what_cannot_be_had_is_said_and_takes_its_time_only(monkeypatch):
    monkeypatch.setattr(diagnostics, "EACH", 3.0)
    looks = {"absent": "no-such-tool {pid}", "slow": "sleep 60", "loud": "head -c 200000 /dev/zero | tr '\\0' {pid}"}
    parts = diagnostics.inside(Here(), looks, 7)
    assert parts["dossier/absent"].startswith(b"the guest has no such tool: ")
    assert parts["dossier/slow"] == b"could not be had: no end in time\n"
    assert len(parts["dossier/loud"]) < diagnostics.LARGEST + 100 and parts["dossier/loud"].endswith(b"777")
    monkeypatch.setattr(diagnostics, "TOTAL", -1.0)
    assert diagnostics.inside(Here(), looks, 7)["dossier/loud"].startswith(b"no time was left")
