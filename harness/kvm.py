"""Whether /dev/kvm runs a guest, which is tried: one processor in 64-bit mode, a loop, a word on a port.

That it is there and opens says little. Inside of other virtual machines there are some that create a machine and then
run it by emulating each instruction, thousands of times slower than QEMU's own emulation, or give up on what a kernel
does when it boots. Uses the standard library alone; run as a program it prints what is wrong, if anything is. The
interface is the kernel's Documentation/virt/kvm/api.rst, its structures those of arch/x86/include/uapi/asm/kvm.h.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import grp
import mmap
import os
import platform
import struct
import subprocess
import sys
import time

_DEVICE = "/dev/kvm"
_CREATE_VM, _GET_VCPU_MMAP_SIZE, _CREATE_VCPU, _RUN = 0xAE01, 0xAE04, 0xAE41, 0xAE80
_SET_USER_MEMORY_REGION, _SET_REGS, _GET_SREGS, _SET_SREGS = 0x4020AE46, 0x4090AE82, 0x8138AE83, 0x4138AE84
_EXIT_IO, _EXIT_HLT = 2, 5
_EXITS = {8: "the guest's processor was reset", 9: "no entry", 17: "internal error"}
#: Turns of the guest's loop, which Python makes as well. A processor that runs the guest itself needs a hundredth of
#: Python's time, an emulation in the kernel a hundred times as long.
_TURNS = 1 << 17
_PORT, _WORD = 0x3F8, 0x42
_CODE = (
    b"\xb9" + struct.pack("<I", _TURNS) + b"\x48\xff\xc9\x75\xfb"  # mov $turns,%ecx; 1: dec %rcx; jnz 1b
    b"\x0f\x20\xd8\x0f\x22\xd8"  # mov %cr3,%rax; mov %rax,%cr3
    b"\x31\xc0\x0f\xa2"  # xor %eax,%eax; cpuid
    b"\x66\xba" + struct.pack("<H", _PORT) + b"\xb0" + bytes([_WORD]) + b"\xee\xf4"  # mov $port,%dx; out; hlt
)
_MEMORY, _TABLES, _START = 0x200000, 0x10000, 0x1000
#: Seconds after which a kernel that does not come back from it is given up.
_LIMIT = 20.0


def problem() -> str:
    """Why KVM does not run guests here, in a sentence without its full stop; '' if it does."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return f"this processor is {platform.machine()}, and cannot run the guests' x86 by itself"
    try:
        os.close(os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return f"there is no {_DEVICE}: virtualisation is off in the firmware, or not passed on to this machine"
    except PermissionError:
        return f"{_DEVICE} is not yours to open; {how_to_open()}"
    except OSError as error:
        return f"{_DEVICE} does not open: {error.strerror}"
    try:  # in a process of its own, which can be killed when the kernel does not come back
        done = subprocess.run(
            [sys.executable, "-I", __file__], capture_output=True, text=True, timeout=_LIMIT, check=False
        )
    except subprocess.TimeoutExpired:
        return f"{_DEVICE} is there, and a guest that counts to {_TURNS} does not end within {_LIMIT:.0f} s"
    if done.returncode and not done.stdout:
        return f"{_DEVICE} is there, and trying it ended with status {done.returncode}"
    return done.stdout.strip()


def how_to_open() -> str:
    group = os.stat(_DEVICE).st_gid
    try:
        name = grp.getgrgid(group).gr_name
    except KeyError:
        name = str(group)
    if name == "root":
        return f"it belongs to root alone: `sudo chgrp kvm {_DEVICE} && sudo chmod 660 {_DEVICE}`"
    if group in os.getgroups():
        return f"its mode does not let the group {name} write: `sudo chmod g+rw {_DEVICE}`"
    return f"it is for the group {name}: `sudo adduser $USER {name}`, and log in again"


def try_kvm() -> str:
    """Run the guest. Returns what is wrong, or ''."""
    step = "open"
    try:
        kvm = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
        step = "KVM_CREATE_VM"
        machine = fcntl.ioctl(kvm, _CREATE_VM, 0)
        step = "KVM_SET_USER_MEMORY_REGION"
        memory = mmap.mmap(-1, _MEMORY)
        memory[_START : _START + len(_CODE)] = _CODE
        # Three levels of page tables; the last entry is a page of 2 MiB (Intel SDM, volume 3A, 4.5).
        for place, entry in ((0, _TABLES + 0x1003), (0x1000, _TABLES + 0x2003), (0x2000, 0x83)):
            struct.pack_into("<Q", memory, _TABLES + place, entry)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        fcntl.ioctl(machine, _SET_USER_MEMORY_REGION, struct.pack("<IIQQQ", 0, 0, 0, _MEMORY, address))
        step = "KVM_CREATE_VCPU"
        processor = fcntl.ioctl(machine, _CREATE_VCPU, 0)
        shared = mmap.mmap(processor, fcntl.ioctl(kvm, _GET_VCPU_MMAP_SIZE, 0))
        step = "KVM_SET_SREGS"
        fcntl.ioctl(processor, _SET_SREGS, _long_mode(processor))
        step = "KVM_SET_REGS"
        registers = bytearray(144)  # struct kvm_regs: 16 registers, rip, rflags
        struct.pack_into("<Q", registers, 6 * 8, 0x8000)  # rsp
        struct.pack_into("<QQ", registers, 16 * 8, _START, 2)
        fcntl.ioctl(processor, _SET_REGS, registers)
        step = "KVM_RUN"
        return _run(processor, shared)
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, str(error))
        return f"{_DEVICE} is there, and does not run a guest: {step} fails with {name}"


def _long_mode(processor: int) -> bytearray:
    """A struct kvm_sregs for 64-bit mode: segments cs ds es fs gs ss, tr, ldt, gdt, idt, control registers, EFER."""
    registers = bytearray(312)
    fcntl.ioctl(processor, _GET_SREGS, registers)
    for number in range(6):
        code = number == 0
        # struct kvm_segment: base, limit, selector, type, present, dpl, db, s, l, g
        fields = (0, 0xFFFFFFFF, 8 if code else 16, 11 if code else 3, 1, 0, 0 if code else 1, 1, int(code), 1)
        struct.pack_into("<QIH7B", registers, number * 24, *fields)
    struct.pack_into("<6Q", registers, 224, 0x80050033, 0, _TABLES, 0x20, 0, 0x500)
    return registers


def _run(processor: int, shared: mmap.mmap) -> str:
    """Run the guest until it halts, and compare its time with Python's for as many turns."""
    start = time.process_time()
    answer = 0
    while True:
        fcntl.ioctl(processor, _RUN, 0)
        (reason,) = struct.unpack_from("<I", shared, 8)
        if reason != _EXIT_IO:
            break
        offset = struct.unpack_from("<BBHIQ", shared, 32)[4]
        answer = shared[offset]
    taken = time.process_time() - start
    if reason != _EXIT_HLT or answer != _WORD:
        return f"{_DEVICE} is there, and does not run a guest: {_EXITS.get(reason, f'it exits with reason {reason}')}"
    start = time.process_time()
    turns = _TURNS
    while turns:
        turns -= 1
    python = time.process_time() - start
    if taken > 2 * python:
        return (
            f"{_DEVICE} is there, and runs guests by emulation: a loop takes {taken / python:.0f} times as long as in "
            "Python"
        )
    return ""


if __name__ == "__main__":
    print(try_kvm())
