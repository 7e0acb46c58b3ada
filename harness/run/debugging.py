"""A replayed machine opened in gdb: the machine itself by QEMU's gdbstub, and the program as a core file of it.

The core file is made from the stopped machine: the program's address space is found in its memory, with all threads of
it that the kernel knows, where its files are mapped, and the registers that it had saved. So `bt` works in each thread,
also in those that wait in the kernel. Knows nothing of how the machine came where it is.
"""

from __future__ import annotations

import logging
import re
import shlex
import shutil
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from harness.conf.system import SYSTEMS
from harness.errors import HarnessError
from harness.guest import elf, memory
from harness.guest.machine import Machine
from harness.guest.memory import PAGE, MappedFile, Memory, Paging, Thread
from harness.images.disk import FileSystem, partitions
from harness.log import ignored
from harness.run.recordings import DATA, PROGRAM, RecordedTrial
from harness.trial import gdb, goroutines
from harness.trial.goroutines import Goroutine

_log = logging.getLogger(__name__)

#: What is added to a goroutine's number to be a thread's in gdb, and how many of them are named.
GOROUTINES, _NAMED = 1000, 20
#: How many address spaces are looked at that may be the program's.
_SPACES = 64
#: Symbols of Linux's vdso, and the most bytes of one (vdso(7)).
_OF_VDSO, _VDSO = ("__kernel_vsyscall", "__vdso_clock_gettime"), 8 * PAGE
#: A register in what QEMU prints of a processor (its target/i386/cpu-dump.c).
_REGISTER = re.compile(r"\b([A-Z][A-Z0-9]{1,5}) ?=\s?([0-9a-f]{8,16})\b")
_SELECTOR = re.compile(r"^(ES|CS|SS|DS|FS|GS) =([0-9a-f]{4})", re.MULTILINE)
_LEVEL = re.compile(r"\bCPL=(\d)")


@dataclass(frozen=True)
class OpenedMachine:
    """A stopped machine made ready for gdb.

    Attributes:
        script: the file of gdb's commands that opens it.
        text: what was found, in a few lines.
        threads: how many threads of the program were found.
    """

    script: Path
    text: str
    threads: int


def open_machine(machine: Machine, recorded: RecordedTrial) -> OpenedMachine:
    """Make a paused machine ready for gdb, in its folder. Its files go by the name that the folder has there.

    Args:
        machine: one that waits for gdb.

    Raises:
        GuestError: QEMU does not give its memory or registers.
        OSError: there is no room for them.
    """
    assert machine.recording is not None and machine.recording.gdb is not None
    socket = machine.recording.gdb
    folder = socket.parent
    dump = folder / "memory.elf"
    machine.dump_memory(dump)
    ram = Memory.of_dump(dump)
    dump.unlink()
    text = machine.registers()
    values = {name: int(value, 16) for name, value in _REGISTER.findall(text)}
    selectors = {name: int(value, 16) for name, value in _SELECTOR.findall(text)}
    files = _files(recorded, folder)
    lines = ["set pagination off", "set confirm off", "set width 0", "set print thread-events off"]
    lines += ["set auto-load libthread-db off", "set style enabled off"]
    paging = memory.paging_of(values)
    program = (recorded.folder / PROGRAM).read_bytes()
    spaces = ram.spaces_with(memory.code_pages(program), paging) if paging else set()
    words = [f"The program is not in the machine's memory at this moment ({machine.icount():,} instructions)."]
    threads: list[Thread] = []
    contents = {path: path.read_bytes() for path in files}
    space = _space(ram, spaces, paging, recorded, contents[files[0]], values.get("CR3", 0)) if paging else None
    if paging and space:
        pages, threads = space.pages, list(space.threads)
        if values.get("CR3", 0) & ~0xFFF == space.root & ~0xFFF and (level := _LEVEL.search(text)) and level[1] == "3":
            threads.insert(0, _running(values, selectors))
        mapped = memory.locate(ram, pages, contents)
        mapped += _vdso(ram, pages, {thread.registers["ip"] for thread in threads}, folder)
        word = elf.word_size(program)
        core = folder / "program.core"
        threads = [thread for thread in threads if thread.word == word]
        numbered = {number: thread.registers for number, thread in enumerate(threads, start=1)}
        waiting = _goroutines(ram, pages, mapped, word)
        if waiting and threads:
            usual = {name: threads[0].registers.get(name, 0) for name in ("cs", "ss", "ds", "es", "fs", "gs", "flags")}
            numbered |= {GOROUTINES + each.number: usual | each.registers for each in waiting}
        core.write_bytes(elf.core(word, numbered, _pieces(ram, pages)))
        lines += [f"core-file {core}"]
        lines += [f"add-symbol-file {shlex.quote(str(each.file))} -o {each.offset:#x}" for each in mapped]
        words = [_found(recorded, len(threads), mapped)]
        if waiting:
            names = ", ".join(str(each.number) for each in waiting[:_NAMED]) + (
                ", ..." if len(waiting) > _NAMED else ""
            )
            words.append(f"Goroutines that no thread runs: {names}. Goroutine N is LWP {GOROUTINES} + N in gdb.")
    lines += ["add-inferior -no-connection", "inferior 2", *_kernel(recorded), f"target remote {socket}"]
    words.append("inferior 2 is the machine itself: what it executes, by QEMU's gdbstub.")
    if threads:
        lines += ["inferior 1", "thread 1"]
        words.insert(0, "inferior 1 is the program as it is at this moment: `info threads`, `thread apply all bt`.")
    script = folder / "open.gdb"
    script.write_text("\n".join(lines) + "\n")
    return OpenedMachine(script, "\n".join(words), len(threads))


class _Space(NamedTuple):
    """An address space: the address of its first table, the pages of it, and the threads that the kernel keeps."""

    root: int
    pages: dict[int, int]
    threads: list[Thread]


def _space(
    ram: Memory, roots: set[int], paging: Paging, recorded: RecordedTrial, program: bytes, current: int
) -> _Space | None:
    """The program's address space among those that may be it: what looks like a table need not be one. It has a thread,
    or is the processor's, and the program at one place; of several, the one with most of it and the fewest pages.

    Args:
        current: the processor's CR3.
    """
    layouts = SYSTEMS[recorded.stored.system].saved_registers
    enough = min(2, len(memory.code_pages(program)))
    best: tuple[tuple[int, int], _Space] | None = None
    for root in sorted(roots)[:_SPACES]:
        pages = ram.mapped(root, paging)
        known = memory.recognized(ram, pages, program)
        if known < enough or len(_pieces_of(pages)) > elf.MOST_PIECES:
            continue
        threads = ram.saved_registers(pages, layouts, wide=paging is memory.LONG)
        rank = known, -len(pages)
        if (threads or root & ~0xFFF == current & ~0xFFF) and (best is None or rank > best[0]):
            best = rank, _Space(root, pages, threads)
    return best[1] if best else None


def debug(opened: OpenedMachine) -> int:
    """Have the user debug a machine. Returns gdb's exit status. Raises ToolMissing if there is no gdb."""
    with gdb.interrupts_left_to_it():
        return subprocess.run(_gdb(opened, "-q"), check=False).returncode


def run_script(opened: OpenedMachine, script: Path) -> tuple[int, bytes]:
    """Run the gdb commands of a file on a machine. Returns gdb's exit status, and what it printed. Raises ToolMissing
    if there is no gdb."""
    command = [*_gdb(opened, "-q", "-batch"), "-x", str(script)]
    process = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    return process.returncode, process.stdout


def _gdb(opened: OpenedMachine, *options: str) -> list[str]:
    """The command that opens a machine in gdb."""
    return [gdb.required(), *gdb.SAFE, *options, "-nx", "-x", str(opened.script)]


def _running(values: Mapping[str, int], selectors: Mapping[str, int]) -> Thread:
    """The thread that the processor runs, in user mode."""
    wide = "RIP" in values
    prefix = "R" if wide else "E"
    registers = {name.lower(): selector for name, selector in selectors.items()}
    for name in ("ip", "ax", "bx", "cx", "dx", "si", "di", "bp", "sp"):
        registers[name] = values.get(prefix + name.upper(), 0)
    for number in range(8, 16):
        registers[f"r{number}"] = values.get(f"R{number}", 0)
    registers["flags"] = values.get("RFL", values.get("EFL", 0))
    return Thread(registers, 8 if selectors.get("CS") == 0x33 else 4)


def _files(recorded: RecordedTrial, folder: Path) -> list[Path]:
    """The files that the program has mapped: itself, its libraries, and the system's that this machine has."""
    stored = recorded.stored
    program = folder / Path(stored.program).name
    shutil.copyfile(recorded.folder / PROGRAM, program)
    files = [program]
    for library in stored.libraries:
        target = folder / Path(library).name
        with ignored(_log, f"{library}: reading it from the recording", HarnessError, OSError):
            if stored.data:
                target.write_bytes(FileSystem(recorded.folder / DATA, 0).read(library))
            else:
                shutil.copyfile(recorded.folder / target.name, target)
            files.append(target)
    if stored.disk is None or stored.disk.format != "raw":
        return files
    disk = Path(stored.files["disk"].path)
    offsets = [0]
    with ignored(_log, f"{disk}: its partitions", HarnessError, OSError):
        offsets += [part.offset for part in partitions(disk)]
    for offset in offsets:
        for name in SYSTEMS[stored.system].libraries:
            target = folder / Path(name).name
            with ignored(_log, f"{name}: reading it from {disk}", HarnessError, OSError):
                target.write_bytes(FileSystem(disk, offset).read(name))
                files.append(target)
    return files


def _vdso(ram: Memory, pages: Mapping[int, int], pointers: Collection[int], folder: Path) -> list[MappedFile]:
    """The library that Linux maps into each program, made a file: the only one that lies in memory whole and alone.

    Args:
        pointers: where threads are; one that none is in is not needed.
    """
    libraries = []
    for address, frame in pages.items():
        if not any(address <= pointer < address + _VDSO for pointer in pointers) or not elf.word_size(ram.page(frame)):
            continue
        data = b""
        while address + len(data) in pages and len(data) < _VDSO:
            data += ram.page(pages[address + len(data)])
        if elf.symbols(data, _OF_VDSO):
            target = folder / f"vdso-{address:x}.so"
            target.write_bytes(data)
            libraries.append(MappedFile(target, address))
    return libraries


def _goroutines(ram: Memory, pages: Mapping[int, int], mapped: Sequence[MappedFile], word: int) -> list[Goroutine]:
    """The goroutines that no thread runs, as libgo's own data have them."""

    def read(address: int, size: int) -> bytes:
        data = b""
        while len(data) < size and (frame := pages.get((address + len(data)) & ~(PAGE - 1))) is not None:
            data += ram.page(frame)[(address + len(data)) % PAGE :]
        return data[:size]

    for each in mapped:
        known = elf.symbols(each.file.read_bytes(), goroutines.SYMBOLS)
        moved = {name: (value + each.offset, size) for name, (value, size) in known.items()}
        if parked := goroutines.parked(read, moved, word):
            return parked
    return []


def _pieces(ram: Memory, pages: Mapping[int, int]) -> list[tuple[int, bytes]]:
    """What is mapped, in pieces that are each without a gap."""
    return [(piece[0], b"".join(ram.page(pages[address]) for address in piece)) for piece in _pieces_of(pages)]


def _pieces_of(pages: Mapping[int, int]) -> list[list[int]]:
    """The addresses of pages, those without a gap together."""
    pieces: list[list[int]] = []
    for address in sorted(pages):
        if pieces and pieces[-1][-1] + PAGE == address:
            pieces[-1].append(address)
        else:
            pieces.append([address])
    return pieces


def _kernel(recorded: RecordedTrial) -> list[str]:
    """The commands that give gdb the kernel's symbols, if it has some: GNU Mach's is an ELF file, Linux's is not."""
    kernel = recorded.stored.files.get("kernel")
    if kernel is None:
        return []
    with ignored(_log, f"{kernel.path}: reading it", OSError), Path(kernel.path).open("rb") as file:
        return [f"symbol-file {shlex.quote(kernel.path)}"] if elf.word_size(file.read(16)) else []
    return []


def _found(recorded: RecordedTrial, threads: int, mapped: Sequence[MappedFile]) -> str:
    """What was found of a program, in words."""
    where = ", ".join(f"{each.file.name} at {each.offset:#x}" for each in mapped)
    return f"{recorded.stored.program}: {threads} thread{'' if threads == 1 else 's'}; {where or 'none of its files'}"
