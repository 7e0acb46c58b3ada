"""A made-up machine's memory: a program in it is found with its address space, its files and its threads."""

import random
import struct
from pathlib import Path

import numpy as np
import pytest

from harness.conf.system import HURD, LINUX
from harness.guest import elf, memory
from harness.guest.memory import LONG, PAE, PAGE, TWO_LEVELS, MappedFile, Memory

FRAMES = 400
BASE = 0x4A3000


def elf_file(code, address=0x1000, word=4):
    """An ELF file with one part that is executed, from offset 0x1000 on."""
    if word == 4:
        head = struct.pack("<16sHHIIIIIHHHHHH", b"\x7fELF\x01\x01\x01", 3, 3, 1, 0, 52, 0, 0, 52, 32, 1, 0, 0, 0)
        head += struct.pack("<8I", 1, 0x1000, address, 0, len(code), len(code), 5, PAGE)
    else:
        head = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 3, 62, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
        head += struct.pack("<IIQQQQQQ", 1, 5, 0x1000, address, 0, len(code), len(code), PAGE)
    return head.ljust(0x1000, b"\0") + code


class Ram:
    """Memory that is filled by hand: pages, and tables that lead to them."""

    def __init__(self, paging):
        self.paging, self.data = paging, np.zeros(FRAMES * PAGE, np.uint8)
        self.free = iter(random.Random(1).sample(range(20, FRAMES), FRAMES - 20))
        self.tables = {}

    def write(self, address, data):
        self.data[address : address + len(data)] = np.frombuffer(data, np.uint8)

    def put(self, page):
        frame = next(self.free)
        self.write(frame * PAGE, page)
        return frame

    def table(self, key):
        if key not in self.tables:
            at = next(self.free) * PAGE
            self.tables[key] = at + 0x40 if len(key) == 1 and self.paging.root < PAGE else at
        return self.tables[key]

    def map(self, space, address, frame, flags=0x67):
        at, key = self.table((space,)), (space,)
        for level, shift in enumerate(self.paging.shifts):
            index = address >> shift & (1 << self.paging.bits(level)) - 1
            entry = at + index * self.paging.entry
            if level + 1 == len(self.paging.shifts):
                value = frame * PAGE | flags
            else:
                key = (*key, index)
                at = self.table(key)
                value = at | (0x1 if level == 0 and self.paging.root < PAGE else 0x67)
            self.write(entry, value.to_bytes(self.paging.entry, "little"))

    def large(self, space, address, frame):
        """Map a large page."""
        level = len(self.paging.shifts) - 2
        self.map(space, address, frame)
        key, at = (space,), self.table((space,))
        for upper in range(level):
            key = (*key, address >> self.paging.shifts[upper] & (1 << self.paging.bits(upper)) - 1)
            at = self.table(key)
        index = address >> self.paging.shifts[level] & (1 << self.paging.bits(level)) - 1
        self.write(at + index * self.paging.entry, (frame * PAGE | 0xE7).to_bytes(self.paging.entry, "little"))


@pytest.mark.parametrize("paging", [TWO_LEVELS, PAE, LONG])
def test_a_program_is_found_by_what_is_in_its_file(paging, tmp_path):
    dice = random.Random(2)
    code, other = dice.randbytes(5 * PAGE + 100), dice.randbytes(3 * PAGE)
    program, library = elf_file(code), elf_file(other, 0x7000)
    ram = Ram(paging)
    frames = [ram.put(code[at : at + PAGE]) for at in range(0, len(code), PAGE)]
    for place in (0, 1, 5):  # the last is not full
        ram.map("program", BASE + 0x1000 + place * PAGE, frames[place], 0x25)
    ram.map("program", 0xB7700000 + 0x8000, ram.put(other[PAGE : 2 * PAGE]))
    ram.map("other", 0x8048000, ram.put(dice.randbytes(PAGE)))
    ram.map("kernel", 0xC0000000, frames[0], 0x63)  # not for user mode
    memory_read = Memory(ram.data)
    assert memory_read.spaces_with(memory.code_pages(program), paging) == {ram.table(("program",))}
    pages = memory_read.mapped(ram.table(("program",)), paging)
    assert pages[BASE + 0x1000] == frames[0] and len(pages) == 4
    names = {Path("program"): program, Path("library"): library, Path("absent"): elf_file(dice.randbytes(PAGE))}
    assert set(memory.locate(memory_read, pages, names)) == {
        MappedFile(Path("program"), BASE),
        MappedFile(Path("library"), 0xB7700000),
    }


@pytest.mark.parametrize("paging", [TWO_LEVELS, PAE, LONG])
def test_a_large_page(paging):
    ram = Ram(paging)
    ram.large("program", 0x8000000, 0)
    pages = Memory(ram.data).mapped(ram.table(("program",)), paging)
    assert pages[0x8000000 + 5 * PAGE] == 5 and len(pages) == FRAMES, "what there is of it"


@pytest.mark.parametrize(
    ("system", "wide", "word", "names", "cs", "ss"),
    [
        (LINUX, False, 4, LINUX.saved_registers[0].order, 0x73, 0x7B),
        (LINUX, True, 8, LINUX.saved_registers[1].order, 0x33, 0x2B),
        (LINUX, True, 4, LINUX.saved_registers[2].order, 0x23, 0x2B),
        (HURD, False, 4, HURD.saved_registers[0].order, 0x17, 0x1F),
    ],
)
def test_threads_are_found_by_the_registers_that_the_kernel_has_saved(system, wide, word, names, cs, ss):
    ram = Ram(TWO_LEVELS)
    order = names.split()
    size = 8 if wide else 4

    def save(stack, ip, sp, end=0, ss=ss):
        values = {"ip": ip, "sp": sp, "cs": cs, "ss": ss, "bx": 0x1234}
        data = b"".join(values.get(name, 0).to_bytes(size, "little") for name in order)
        ram.write((stack + 1) * PAGE - end - len(data), data)

    pages = {0x8048000: 300, 0xB7000000: 301, 0xBF000000: 302}
    save(30, 0x8048123, 0xB7000F00)
    save(31, 0x8048123, 0xBF000010)
    save(32, 0x8048123, 0xBF000010)  # an old stack of the same thread
    save(33, 0x9048123, 0xBF000020)  # another program's
    save(34, 0x8048123, 0xB6000F00)
    save(35, 0x8048123, 0xB7000E00, ss=0x10)
    if system is LINUX:
        save(36, 0x8048123, 0xB7000D00, end=400)  # no bottom of a stack
    threads = Memory(ram.data).saved_registers(pages, system.saved_registers, wide)
    assert [(thread.registers["sp"], thread.word) for thread in threads] == [(0xB7000F00, word), (0xBF000010, word)]
    assert threads[0].registers["bx"] == 0x1234


def test_which_paging():
    assert memory.paging_of({"CR0": 0x11}) is None
    assert memory.paging_of({"CR0": 0x80050033, "CR4": 0x690}) is TWO_LEVELS
    assert memory.paging_of({"CR0": 0x80050033, "CR4": 0x6F0}) is PAE
    assert memory.paging_of({"CR0": 0x80050033, "CR4": 0x6F0, "EFER": 0xD01}) is LONG


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"\x7fELF\x01\x01\x01" + b"\xff" * 60, b"#!/bin/sh\n"])
def test_what_is_no_elf_file_has_no_segments(data):
    assert elf.segments(data) == [] and memory.code_pages(data) == set()


def test_a_dump_of_the_memory(tmp_path):
    parts = [(0x1000, 0x0, b"a" * 0x2000), (0x4000, 0x5000, b"b" * 0x1000)]
    head = struct.pack("<16sHHIIIIIHHHHHH", b"\x7fELF\x01\x01\x01", 4, 3, 1, 0, 52, 0, 0, 52, 32, 2, 0, 0, 0)
    for offset, physical, data in parts:
        head += struct.pack("<8I", 1, offset, 0, physical, len(data), len(data), 0, 0)
    file = tmp_path / "dump"
    file.write_bytes(head.ljust(0x1000, b"\0") + parts[0][2] + bytes(0x1000) + parts[1][2])
    dumped = Memory.of_dump(file)
    assert [dumped.page(frame)[:1] for frame in range(6)] == [b"a", b"a", b"\0", b"\0", b"\0", b"b"]
