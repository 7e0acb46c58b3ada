"""Goroutines that no thread runs, found in a made-up program's memory."""

import struct

import pytest

from harness.trial.goroutines import ALL, OWN, SAVER, parked

SYMBOLS = {ALL: (0x1000, 12), SAVER: (0x500000, 0x200)}


class Program:
    """Memory of a program by address."""

    def __init__(self, word):
        self.word, self.parts = word, {}

    def read(self, address, size):
        for start, data in self.parts.items():
            if start <= address < start + len(data):
                return data[address - start :][:size]
        return b""

    def put(self, address, *words):
        self.parts[address] = struct.pack(f"<{len(words)}{'I' if self.word == 4 else 'Q'}", *words)

    def goroutine(self, address, number, status, saved, at=40):
        """A g whose context has words up to the instruction pointer, the first of them `at` words on."""
        data = bytearray(2048)
        places = (24, 28) if self.word == 4 else (48, 56)
        struct.pack_into("<I", data, places[0], status)
        struct.pack_into("<Q", data, places[1], number)
        struct.pack_into(f"<{len(saved)}{'I' if self.word == 4 else 'Q'}", data, at * self.word, *saved)
        self.parts[address] = bytes(data)


def test_those_that_wait_and_may_run_32():
    program = Program(4)
    program.put(0x1000, 0x2000, 5, 8)
    program.put(0x2000, 0x10000, 0x11000, 0x12000, 0x13000, 0x14000)
    program.put(0xB0000000, 7, 7)
    context = [4, 5, 6, 0xB0000000, 8, 9, 10, 11, 0, 0, 0x500044]  # di si bp sp bx dx cx ax trap error ip
    program.goroutine(0x10000, 1, 4, context)
    program.goroutine(0x11000, 17, 0x1001, context)  # runnable, and looked at by the collector
    program.goroutine(0x12000, 3, 2, context)  # a thread runs it
    program.goroutine(0x13000, 4, 4, [*context[:-1], 0x400044])  # never stopped there
    goroutines = parked(program.read, SYMBOLS, 4)
    assert [(each.number, each.state) for each in goroutines] == [(1, "waiting"), (17, "runnable")]
    assert goroutines[0].registers == {"di": 4, "si": 5, "bp": 6, "sp": 0xB0000000, "bx": 8, "ip": 0x500044}


@pytest.mark.parametrize("own", [True, False])
def test_those_of_64_bits_with_either_way_to_save_a_context(own):
    program = Program(8)
    program.put(0x1000, 0x2000, 1, 8)
    program.put(0x2000, 0x10000)
    program.put(0x7F0000000000, 7, 7)
    mine = [1, 2, 12, 13, 14, 15, 0x7F0000000000, 0x500044]  # bp bx r12 r13 r14 r15 sp ip
    libc = [12, 13, 14, 15, 8, 9, 1, 2, 0, 0, 0, 0x7F0000000000, 0x500044]  # r12 to r15 di si bp bx dx ax cx sp ip
    program.goroutine(0x10000, 1, 4, mine if own else libc)
    (goroutine,) = parked(program.read, SYMBOLS | ({OWN: (0x600000, 40)} if own else {}), 8)
    names = ("bp", "bx", "r12", "r13", "r14", "r15", "sp", "ip")
    assert [goroutine.registers[name] for name in names] == [1, 2, 12, 13, 14, 15, 0x7F0000000000, 0x500044]


def test_nothing_is_found_where_nothing_is():
    program = Program(4)
    assert parked(program.read, {}, 4) == [] and parked(program.read, SYMBOLS, 4) == []
    program.put(0x1000, 0x2000, 0xFFFFFFFF, 8)
    assert parked(program.read, SYMBOLS, 4) == []
