"""Which address space is a program's, of several that look like it, and when none is."""

import random
from types import SimpleNamespace

import pytest

from harness.guest.memory import TWO_LEVELS, Memory, code_pages
from harness.run import debugging
from harness.run.debugging import OpenedMachine
from tests.unit.guest.test_memory import Ram, elf_file

CODE = random.Random(3).randbytes(3 * 4096)
RECORDED = SimpleNamespace(stored=SimpleNamespace(system="linux"))


@pytest.fixture
def ram():
    """A machine with a program, mapped whole by `program`, by one page in what only looks like a table."""
    ram = Ram(TWO_LEVELS)
    frames = [ram.put(CODE[at : at + 4096]) for at in range(0, len(CODE), 4096)]
    for place, frame in enumerate(frames):
        ram.map("program", 0x8049000 + place * 4096, frame)
    ram.map("program", 0xBF000000, ram.put(bytes(4096)))
    ram.map("looks like it", 0x1000, frames[0])
    ram.map("looks like it", 0xBF000000, ram.put(bytes(4096)))
    return ram


def space(ram, current=0):
    memory, program = Memory(ram.data), elf_file(CODE, 0x1000)
    roots = memory.spaces_with(code_pages(program), TWO_LEVELS)
    assert roots == {ram.table(("program",)), ram.table(("looks like it",))}
    return debugging._space(memory, roots, TWO_LEVELS, RECORDED, program, current)


def test_the_one_that_has_a_thread(ram):
    assert space(ram) is None, "a program that nobody runs has ended, or not begun"
    words = [0] * 12 + [0x8049010, 0x73, 0, 0xBF000010, 0x7B]
    ram.write(15 * 4096 - 4 * len(words), b"".join(word.to_bytes(4, "little") for word in words))
    process = space(ram)
    assert process.root == ram.table(("program",)) and len(process.threads) == 1


def test_the_one_that_runs(ram):
    assert space(ram, current=ram.table(("program",))).threads == []
    assert space(ram, current=ram.table(("looks like it",))) is None


def test_a_ctrl_c_is_gdbs(tmp_path, monkeypatch):
    fake = tmp_path / "gdb-multiarch"
    fake.write_text('#!/bin/sh\nkill -INT $PPID\necho "$@" >"$0.said"\nexit 7\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    opened = OpenedMachine(tmp_path / "open.gdb", "", 0)
    assert debugging.debug(opened) == 7
    assert "set auto-load off" in fake.with_name("gdb-multiarch.said").read_text(), "what a guest brings runs nothing"
