"""Goroutines in the memory of a stopped program: those that no thread runs, with the registers that they go on with.

What gccgo's runtime keeps of a goroutine is in its g: libgo's go/runtime/runtime2.go, type g, and runtime/proc.c,
runtime.mcall, which saves the context of one that stops running. GCC 12 to 16 have the same. Knows nothing of machines.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import NamedTuple

#: The symbols of libgo that lead to them.
ALL, SAVER = "runtime.allgs", "runtime.mcall"
#: The one that it has if it saves contexts itself, and not by libc.
OWN = "__go_getcontext"
SYMBOLS = (ALL, SAVER, OWN)
#: Where status and number of a g are, by the bytes of a word.
_PLACES = {4: (24, 28), 8: (48, 56)}
#: The numbers of the states in which no thread runs a goroutine: it may run, and it waits.
_STATES = {1: "runnable", 4: "waiting"}
#: Bytes of a g that are looked through for its context, and the most goroutines that are read.
_SIZE, _MOST = 2048, 10_000
#: By how many words registers lie before the instruction pointer. 32 bits: glibc's getcontext (its
#: sysdeps/i386/sys/ucontext.h, the REG_ numbers). 64 bits: libgo's own (its runtime/go-context.S), and glibc's.
_SAVED = {
    (4, False): {"di": 10, "si": 9, "bp": 8, "sp": 7, "bx": 6},
    (8, False): {"r12": 12, "r13": 11, "r14": 10, "r15": 9, "bp": 6, "bx": 5, "sp": 1},
    (8, True): {"bp": 7, "bx": 6, "r12": 5, "r13": 4, "r14": 3, "r15": 2, "sp": 1},
}
#: Gives bytes of the program's memory, or fewer where it is not mapped.
Reader = Callable[[int, int], bytes]


class Goroutine(NamedTuple):
    """A goroutine that no thread runs."""

    number: int
    state: str
    registers: dict[str, int]


def parked(read: Reader, symbols: Mapping[str, tuple[int, int]], word: int) -> list[Goroutine]:
    """The goroutines of a program that no thread runs, by number.

    Args:
        read: reads its memory.
        symbols: the address and size of SYMBOLS in it; without ALL and SAVER, none are found.
        word: the bytes of a word.
    """
    layout = _SAVED.get((word, OWN in symbols))
    if ALL not in symbols or SAVER not in symbols or layout is None:
        return []
    form = "<{}" + ("I" if word == 4 else "Q")
    head = read(symbols[ALL][0], 2 * word)
    if len(head) < 2 * word:
        return []
    array, count = struct.unpack(form.format(2), head)
    table = read(array, min(count, _MOST) * word)
    start, size = symbols[SAVER]
    goroutines = []
    for (address,) in struct.iter_unpack(form.format(1), table[: len(table) // word * word]):
        data = read(address, _SIZE)
        at_status, at_number = _PLACES[word]
        if len(data) < at_number + 8:
            continue
        state = _STATES.get(int.from_bytes(data[at_status : at_status + 4], "little") & 0xFFF)
        number = int.from_bytes(data[at_number : at_number + 8], "little")
        words = struct.unpack(form.format(len(data) // word), data[: len(data) // word * word])
        at = next((place for place, value in enumerate(words) if start < value < start + size), None)
        if state is None or at is None:
            continue
        registers = {name: words[at - before] for name, before in layout.items() if at >= before}
        if len(registers) == len(layout) and read(registers["sp"], word):
            goroutines.append(Goroutine(number, state, registers | {"ip": words[at]}))
    return sorted(goroutines)
