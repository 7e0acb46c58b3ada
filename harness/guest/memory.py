"""A stopped machine's memory: its address spaces, where files are mapped in them, and the registers of threads.

It needs to know nothing of the guest's kernel. A program's pages are found by what is in its file; the page tables that
point at them by the pages' numbers; and the registers of a thread that is in the kernel by the selectors that its user
mode has (Intel's Software Developer's Manual, volume 3, chapters 4 and 6). Knows nothing of QEMU.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.conf.system import SavedRegisters
from harness.guest.elf import segments

PAGE = 4096
_WORDS: dict[int, type[Any]] = {4: np.uint32, 8: np.uint64}
#: Bytes of memory that are looked through at a time.
_PIECE = 32 << 20
#: A page table's entry: present, and open to user mode. Of the entries of PAE's first table the first bit alone counts.
_PRESENT, _USER = 1, 4
#: The frame's address in an entry of eight bytes.
_FRAME = 0x000F_FFFF_FFFF_F000
#: Pages of a file that are looked for; a few of them are in memory if it is mapped.
_PAGES = 10_000
#: How many different bytes a page must have to be recognized by.
_DIFFERENT = 16


class Paging(NamedTuple):
    """How a machine's page tables are laid out.

    Attributes:
        entry: bytes of an entry.
        shifts: by level, the first one first, by how much an address is shifted to have its index.
        root: bytes of the first table.
    """

    entry: int
    shifts: tuple[int, ...]
    root: int

    def bits(self, level: int) -> int:
        """How many bits of an address are the index in a level's table."""
        size = self.root if level == 0 else PAGE
        return (size // self.entry).bit_length() - 1


#: By what the processor's registers say: two levels, three with PAE, four in long mode.
TWO_LEVELS = Paging(4, (22, 12), PAGE)
PAE = Paging(8, (30, 21, 12), 32)
LONG = Paging(8, (39, 30, 21, 12), PAGE)


def paging_of(registers: Mapping[str, int]) -> Paging | None:
    """The paging of a machine with these control registers, CR0, CR4 and EFER; None if it is off."""
    if not registers.get("CR0", 0) >> 31 & 1:
        return None
    if registers.get("EFER", 0) >> 10 & 1:
        return LONG
    return PAE if registers.get("CR4", 0) >> 5 & 1 else TWO_LEVELS


class MappedFile(NamedTuple):
    """A file in an address space: by how much its addresses there are greater than those in the file."""

    file: Path
    offset: int


class Thread(NamedTuple):
    """A thread of a process: its registers by name, and the bytes of a word of its program."""

    registers: dict[str, int]
    word: int


class Memory:
    """The physical memory of a machine, from address 0 on."""

    def __init__(self, data: NDArray[np.uint8]) -> None:
        self._bytes = data
        self._frames = len(data) // PAGE
        self._saved: dict[SavedRegisters, list[dict[str, int]]] = {}

    @classmethod
    def of_dump(cls, file: Path) -> Memory:
        """The memory that QEMU has dumped (QMP reference, dump-guest-memory without paging): an ELF file."""
        whole = np.memmap(file, np.uint8, "r")
        parts = [part for part in segments(whole[:PAGE].tobytes()) if part.size]
        memory = np.zeros(max((part.physical + part.size for part in parts), default=0), np.uint8)
        for part in parts:
            memory[part.physical : part.physical + part.size] = whole[part.offset : part.offset + part.size]
        return cls(memory)

    def page(self, frame: int) -> bytes:
        """The contents of a page, given by its frame number."""
        return bytes(self._bytes[frame * PAGE : (frame + 1) * PAGE])

    @cached_property
    def _heads(self) -> NDArray[np.uint64]:
        """A few bytes of each page, by which the others need not be read."""
        return self._bytes[: self._frames * PAGE].reshape(-1, PAGE)[:, 64:72].copy().view(np.uint64)[:, 0]

    def frames_with(self, pages: set[bytes]) -> set[int]:
        """The numbers of the pages that have one of some contents."""
        if not self._frames or not pages:
            return set()
        wanted = np.array(sorted({int.from_bytes(page[64:72], "little") for page in pages}), np.uint64)
        frames = np.flatnonzero(np.isin(self._heads, wanted))
        return {int(frame) for frame in frames if self.page(int(frame)) in pages}

    def _pieces(self, word: int) -> Iterator[tuple[int, NDArray[Any]]]:
        """The memory as words of so many bytes, in pieces, each with the number of its first word."""
        for at in range(0, self._frames * PAGE, _PIECE):
            piece = self._bytes[at : min(at + _PIECE, self._frames * PAGE)]
            yield at // word, piece.view(_WORDS[word])

    def spaces_with(self, pages: set[bytes], paging: Paging) -> set[int]:
        """The address spaces (CR3) in which a page with one of some contents is mapped."""
        targets = self.frames_with(pages)
        level = len(paging.shifts) - 1
        while targets and level >= 0:
            table = np.zeros(self._frames, bool)
            table[list(targets)] = True
            user = level > 0 or paging.root == PAGE
            targets = self._tables_with(table, paging, user, root=level == 0)
            level -= 1
        return targets

    def _tables_with(self, wanted: NDArray[np.bool_], paging: Paging, user: bool, root: bool) -> set[int]:
        """The tables with an entry for one of some pages: the numbers of their pages, or the addresses of the first."""
        flags = _PRESENT | (_USER if user else 0)
        size = paging.root if root else PAGE
        tables: set[int] = set()
        for start, entries in self._pieces(paging.entry):
            candidates = np.flatnonzero((entries & flags) == flags)
            frames = (entries[candidates].astype(np.uint64) & _FRAME) >> 12
            inside = frames < np.uint64(self._frames)
            candidates, frames = candidates[inside], frames[inside]
            hits = candidates[wanted[frames.astype(np.int64)]] + start
            tables |= {int(address) for address in np.unique(hits * paging.entry // size)}
        return {table * size for table in tables} if root else tables

    def mapped(self, space: int, paging: Paging) -> dict[int, int]:
        """The pages that user mode may read in an address space: the address of each, and the page's number. None if
        they are more than there are, for then it is no address space."""
        pages: dict[int, int] = {}
        self._walk(space, 0, 0, paging, pages)
        return pages if len(pages) <= self._frames else {}

    def _walk(self, table: int, level: int, base: int, paging: Paging, pages: dict[int, int]) -> None:
        size = paging.root if level == 0 else PAGE
        if table + size > self._frames * PAGE:
            return
        entries = self._bytes[table : table + size].view(_WORDS[paging.entry])
        user = 0 if level == 0 and paging.root != PAGE else _USER
        last = level == len(paging.shifts) - 1
        for index, entry in enumerate(entries.tolist()):
            if entry & (_PRESENT | user) != _PRESENT | user:
                continue
            if len(pages) > self._frames:
                return
            address = base | index << paging.shifts[level]
            if not last and entry >> 7 & 1 and (level or paging.entry == 4):
                self._add_large(entry, address, 1 << paging.shifts[level], pages)
            elif last:
                frame = (entry & _FRAME) >> 12
                if frame < self._frames:
                    pages[address] = frame
            else:
                self._walk(entry & _FRAME, level + 1, address, paging, pages)

    def _add_large(self, entry: int, address: int, size: int, pages: dict[int, int]) -> None:
        first = (entry & _FRAME & ~(size - 1)) >> 12
        frames = range(first, min(first + size // PAGE, self._frames))
        pages.update(zip(range(address, address + size, PAGE), frames, strict=False))

    def saved_registers(
        self, pages: Mapping[int, int], layouts: tuple[SavedRegisters, ...], wide: bool
    ) -> list[Thread]:
        """The registers of the threads of an address space that the kernel has saved, each once, by stack.

        Args:
            pages: those of the address space.
            layouts: how the system's kernels save them.
            wide: whether the kernel is one of 64 bits.
        """
        threads: dict[int, Thread] = {}
        for layout in layouts:
            if (layout.word == 8) is not wide:
                continue
            for registers in self._registers_by(layout):
                if registers["ip"] & ~(PAGE - 1) in pages and registers["sp"] & ~(PAGE - 1) in pages:
                    threads.setdefault(registers["sp"], Thread(registers, layout.user))
        return sorted(threads.values(), key=lambda thread: thread.registers["sp"])

    def _registers_by(self, layout: SavedRegisters) -> list[dict[str, int]]:
        """What looks like registers that a kernel has saved by a layout, of all address spaces; looked for once."""
        if layout not in self._saved:
            self._saved[layout] = list(self._find_registers(layout))
        return self._saved[layout]

    def _find_registers(self, layout: SavedRegisters) -> Iterator[dict[str, int]]:
        names = layout.order.split()
        cs, ss = names.index("cs"), names.index("ss")
        for start, words in self._pieces(layout.word):
            at = np.flatnonzero(words == layout.cs)
            at = at[(at >= cs) & (at + len(names) - cs <= len(words))]
            at = at[words[at - cs + ss] == layout.ss]
            for place in at - cs:
                end = (start + int(place) + len(names)) * layout.word % PAGE
                if layout.at_end is None or (PAGE - end) % PAGE in layout.at_end:
                    values = [int(value) for value in words[place : place + len(names)]]
                    yield dict(zip(names, values, strict=True))


def locate(memory: Memory, pages: Mapping[int, int], files: Mapping[Path, bytes]) -> list[MappedFile]:
    """Where files are mapped in an address space: found by the pages that are in memory as they are in the file.

    Args:
        pages: those of the address space.
        files: the contents of ELF files by name.
    """
    votes = _votes(memory, pages, files)
    best: dict[Path, int] = {}
    for (file, offset), count in votes.items():
        if count > votes[file, best.get(file, -1)]:
            best[file] = offset
    return [MappedFile(file, offset) for file, offset in best.items()]


def recognized(memory: Memory, pages: Mapping[int, int], data: bytes) -> int:
    """How many pages of an ELF file's code are mapped in an address space as they are in the file, at one place."""
    return max(_votes(memory, pages, {Path(): data}).values(), default=0)


def _votes(memory: Memory, pages: Mapping[int, int], files: Mapping[Path, bytes]) -> Counter[tuple[Path, int]]:
    """By file and place, how many of its pages speak for it."""
    places: dict[bytes, list[tuple[Path, int]]] = {}
    for file, data in files.items():
        for address, page in _code(data):
            places.setdefault(page, []).append((file, address))
    votes: Counter[tuple[Path, int]] = Counter()
    known_frames = memory.frames_with(set(places))  # a space may have all of the memory, and few of the pages
    for address, frame in pages.items():
        if frame in known_frames:
            votes.update((file, address - known) for file, known in places[memory.page(frame)])
    return votes


def code_pages(data: bytes) -> set[bytes]:
    """Pages of an ELF file's code by which it is recognized in memory: those that have something in them."""
    return {page for _, page in _code(data)}


def _code(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The pages of an ELF file in which something is executed: the address of each, and its contents. They are mapped
    whole, with what stands before and after it in the file."""
    count = 0
    for segment in segments(data):
        if not segment.executable:
            continue
        before = segment.offset % PAGE
        for start in range(segment.offset - before, segment.offset + segment.size, PAGE):
            page = data[start : start + PAGE].ljust(PAGE, b"\0")
            if len(set(page)) > _DIFFERENT and (count := count + 1) <= _PAGES:
                yield start - segment.offset + segment.address, page
