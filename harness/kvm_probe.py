"""A program that runs a small guest by /dev/kvm: one processor in 64-bit mode, a loop, and a byte written to a port.

`python -I kvm_probe.py DEVICE` prints what is wrong, or nothing if the guest ran. It uses only the standard library,
because -I hides the harness's own modules. The interface is described in the kernel's Documentation/virt/kvm/api.rst,
the structures in arch/x86/include/uapi/asm/kvm.h.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import struct
import sys
import time

_CREATE_VM, _GET_VCPU_MMAP_SIZE, _CREATE_VCPU, _RUN = 0xAE01, 0xAE04, 0xAE41, 0xAE80
_SET_USER_MEMORY_REGION, _SET_REGS, _GET_SREGS, _SET_SREGS = 0x4020AE46, 0x4090AE82, 0x8138AE83, 0x4138AE84
_EXIT_IO, _EXIT_HLT = 2, 5
_EXITS = {8: "the guest's processor was reset", 9: "no entry", 17: "internal error"}
#: Turns of the guest's loop; Python runs as many to compare. A processor that runs the guest itself needs a hundredth
#: of Python's time, an emulation in the kernel a hundred times Python's.
TURNS = 1 << 17
_PORT, _BYTE = 0x3F8, 0x42
_CODE = (
    b"\xb9" + struct.pack("<I", TURNS) + b"\x48\xff\xc9\x75\xfb"  # mov $turns,%ecx; 1: dec %rcx; jnz 1b
    b"\x0f\x20\xd8\x0f\x22\xd8"  # mov %cr3,%rax; mov %rax,%cr3
    b"\x31\xc0\x0f\xa2"  # xor %eax,%eax; cpuid
    b"\x66\xba" + struct.pack("<H", _PORT) + b"\xb0" + bytes([_BYTE]) + b"\xee\xf4"  # mov $port,%dx; out; hlt
)
_MEMORY, _TABLES, _START = 0x200000, 0x10000, 0x1000


def _try(device: str) -> str:
    """Run the guest. Returns what is wrong, or ''."""
    step = "open"
    try:
        kvm = os.open(device, os.O_RDWR | os.O_CLOEXEC)
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
        reason = _run(processor, shared)
        return reason and f"{device} opens, but {reason}"
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, str(error))
        return f"{device} opens, but does not run a guest: {step} fails with {name}"


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
    """Run the guest until it halts, and compare its time with Python's for as many turns. Returns what is wrong, in
    words that follow 'but', or ''."""
    start = time.process_time()
    byte = 0
    while True:
        fcntl.ioctl(processor, _RUN, 0)
        (reason,) = struct.unpack_from("<I", shared, 8)
        if reason != _EXIT_IO:
            break
        offset = struct.unpack_from("<BBHIQ", shared, 32)[4]
        byte = shared[offset]
    guest = time.process_time() - start
    if reason != _EXIT_HLT or byte != _BYTE:
        return f"does not run a guest: {_EXITS.get(reason, f'it exits with reason {reason}')}"
    start = time.process_time()
    turns = TURNS
    while turns:
        turns -= 1
    python = time.process_time() - start
    if guest > 2 * python:
        return f"runs guests by emulation: a loop takes {guest / python:.0f} times as long as in Python"
    return ""


if __name__ == "__main__":
    print(_try(sys.argv[1]))
