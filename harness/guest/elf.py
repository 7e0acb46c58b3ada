"""ELF files as far as the harness needs them: the segments of one, and core files (System V ABI, chapters 4 and 5)."""

from __future__ import annotations

import struct
from collections.abc import Container, Iterable, Mapping
from typing import NamedTuple

_LOAD, _NOTE = 1, 4
_CORE = 4
#: The most pieces of memory that a core file can have.
MOST_PIECES = 65_000
#: The kinds of sections that have symbols: all of them, and those for the dynamic linker.
_SYMBOLS = (2, 11)
#: The machine numbers of x86.
_MACHINES = {4: 3, 8: 62}
#: Bytes of Linux's elf_prstatus, where its process id and where its registers are (its include/linux/elfcore.h), by the
#: bytes of a word; and the names of the registers in their order.
_STATUS = {4: (144, 24, 72), 8: (336, 32, 112)}
REGISTERS = {
    4: ["bx", "cx", "dx", "si", "di", "bp", "ax", "ds", "es", "fs", "gs", "orig_ax", "ip", "cs", "flags", "sp", "ss"],
    8: [
        *("r15", "r14", "r13", "r12", "bp", "bx", "r11", "r10", "r9", "r8", "ax", "cx", "dx", "si", "di", "orig_ax"),
        *("ip", "cs", "flags", "sp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs"),
    ],
}


class Segment(NamedTuple):
    """A part of a file that is loaded: where it is in the file, in memory and in physical memory, and how many bytes
    the file has of it."""

    offset: int
    address: int
    physical: int
    size: int
    executable: bool


def word_size(data: bytes) -> int:
    """The bytes of a word of an ELF file for x86; 0 if it is none."""
    return {b"\x7fELF\x01": 4, b"\x7fELF\x02": 8}.get(data[:5], 0)


def segments(data: bytes) -> list[Segment]:
    """The parts of an ELF file that are loaded; none if it is no such file, or its header is cut off."""
    word = word_size(data)
    if not word:
        return []
    loaded = []
    try:
        if word == 4:
            at, size, count = (*struct.unpack_from("<I", data, 28), *struct.unpack_from("<HH", data, 42))
        else:
            at, size, count = (*struct.unpack_from("<Q", data, 32), *struct.unpack_from("<HH", data, 54))
        for place in range(at, at + size * count, size):
            if word == 4:
                kind, offset, address, physical, length, _, flags, _ = struct.unpack_from("<8I", data, place)
            else:
                kind, flags, offset, address, physical, length, _, _ = struct.unpack_from("<IIQQQQQQ", data, place)
            if kind == _LOAD:
                loaded.append(Segment(offset, address, physical, length, bool(flags & 1)))
    except struct.error:
        return []
    return loaded


def symbols(data: bytes, names: Container[str]) -> dict[str, tuple[int, int]]:
    """The symbols of an ELF file that have some names: the address and the size in bytes of each."""
    word = word_size(data)
    places: dict[str, tuple[int, int]] = {}
    if not word:
        return places
    try:
        if word == 4:
            at, size, count = (*struct.unpack_from("<I", data, 32), *struct.unpack_from("<HH", data, 46))
        else:
            at, size, count = (*struct.unpack_from("<Q", data, 40), *struct.unpack_from("<HH", data, 58))
        form = "<10I" if word == 4 else "<IIQQQQIIQQ"
        sections = [struct.unpack_from(form, data, place) for place in range(at, at + size * count, size)]
        for section in sections:
            if section[1] in _SYMBOLS:
                strings = sections[section[6]]
                for place in range(section[4], section[4] + section[5], section[9]):
                    if word == 4:
                        name, value, length = struct.unpack_from("<III", data, place)
                    else:
                        name, _, value, length = struct.unpack_from("<IIQQ", data, place)
                    start = strings[4] + name
                    text = data[start : data.index(b"\0", start)].decode(errors="replace")
                    if text in names and value:
                        places[text] = value, length
    except (struct.error, IndexError, ValueError):
        return {}
    return places


def core(word: int, threads: Mapping[int, dict[str, int]], memory: Iterable[tuple[int, bytes]]) -> bytes:
    """A core file, as Linux's kernel writes it and gdb reads it.

    Args:
        word: bytes of a word.
        threads: by its number, the registers of each by name.
        memory: pieces of memory, each with its address.
    """
    notes = b"".join(_status(word, number, registers) for number, registers in threads.items())
    pieces = list(memory)
    head, entry = (52, 32) if word == 4 else (64, 56)
    at = head + entry * (1 + len(pieces))
    headers = [_program_header(word, _NOTE, at, 0, len(notes), 0)]
    at += len(notes)
    for address, data in pieces:
        headers.append(_program_header(word, _LOAD, at, address, len(data), 7))
        at += len(data)
    form = "<16sHHIIIIIHHHHHH" if word == 4 else "<16sHHIQQQIHHHHHH"
    ident = b"\x7fELF" + bytes([1 if word == 4 else 2, 1, 1])
    fields = (_CORE, _MACHINES[word], 1, 0, head, 0, 0, head, entry, len(headers), 0, 0, 0)
    return b"".join([struct.pack(form, ident, *fields), *headers, notes, *(data for _, data in pieces)])


def _program_header(word: int, kind: int, offset: int, address: int, size: int, flags: int) -> bytes:
    if word == 4:
        return struct.pack("<8I", kind, offset, address, 0, size, size, flags, 1)
    return struct.pack("<IIQQQQQQ", kind, flags, offset, address, 0, size, size, 1)


def _status(word: int, number: int, registers: dict[str, int]) -> bytes:
    """The note of a thread (NT_PRSTATUS)."""
    size, at_number, at_registers = _STATUS[word]
    status = bytearray(size)
    struct.pack_into("<I", status, at_number, number)
    mask = (1 << 8 * word) - 1
    values = [registers.get(name, 0) & mask for name in REGISTERS[word]]
    struct.pack_into(f"<{len(values)}{'I' if word == 4 else 'Q'}", status, at_registers, *values)
    return struct.pack("<III", 5, size, 1) + b"CORE\0\0\0\0" + bytes(status) + bytes(-size % 4)
