"""The command line that starts QEMU for a guest: for the harness itself, for a user, for a capsule.

Only makes text; `process` starts QEMU. QEMU's manual page describes the options.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from harness import conf, host, invocation
from harness.errors import ToolMissing
from harness.guest import datadisk, qemu
from harness.guest.bootfiles import BootFiles
from harness.guest.recording import CONSOLE_MARK, PORT_MARK, Recording, drive_arguments
from harness.guest.saved_memory import Form

#: Where QEMU has the saved memory, which it inherits as file 5, as a file with a name.
MEMORY_URI = "file:/dev/fdset/3"


@dataclass(frozen=True)
class InheritedFiles:
    """The numbers of the files that QEMU inherits besides the fixed ones, 3 to 9 (see `machine`); none where a command
    line is made that starts nothing.

    Attributes:
        keyboard: the end of the serial line of a guest that is maintained.
        channel: the end of the serial port by which the agent is reached.
        exchange: the exchange disk, to write and to read.
        memory: the end of the pipe that compressed memory is read from.
    """

    keyboard: int | None = None
    channel: int | None = None
    exchange: tuple[int, ...] = ()
    memory: int | None = None

    def all(self) -> list[int]:
        """All of them."""
        numbers = (self.keyboard, self.channel, *self.exchange, self.memory)
        return [number for number in numbers if number is not None]


@dataclass(frozen=True)
class MachineDescription:
    """What the command line of a machine follows from, before it is known how it is reached.

    Attributes:
        name: the guest's name.
        guest: its description.
        files: what it boots from.
        maintained: whether its console takes what is typed, and it may reach the network.
        recording: what the machine is recorded to, or replayed from.
    """

    name: str
    guest: conf.Guest
    files: BootFiles
    maintained: bool = False
    recording: Recording | None = None

    def arguments(self, by_kvm: bool, port: int, console: str, inherited: InheritedFiles) -> list[str]:
        """QEMU's arguments for a machine that the harness starts.

        Args:
            by_kvm: whether KVM is tried first.
            port: of 127.0.0.1, which leads to the guest's SSH server.
            console: the file for the console's output.
            inherited: the files that QEMU inherits.

        Raises:
            ToolMissing: QEMU is not installed, or it cannot drop root and root asks.
        """
        if self.recording:
            if not self.recording.template:
                self.recording.template = self._hardware(False, PORT_MARK, f"file:{CONSOLE_MARK}")
            return [*self.recording.command(port, console), *self._connections(inherited)]
        command = self._hardware(by_kvm, str(port), "chardev:serial" if inherited.keyboard else f"file:{console}")
        if inherited.keyboard:
            logfile = qemu.escaped(console)
            command += ["-chardev", f"socket,id=serial,fd={inherited.keyboard},logfile={logfile}"]
        if self.guest.channels:
            command += ["-chardev", f"socket,id=channel,fd={inherited.channel}", "-serial", "chardev:channel"]
        return [*command, *self._connections(inherited)]

    def _hardware(self, by_kvm: bool, port: str, serial: str) -> list[str]:
        """As `hardware_arguments`, with the data disk."""
        recorded = self.recording is not None
        command = hardware_arguments(
            self.name, self.guest, self.files, _overlay_drive(1), by_kvm, port, serial, self.maintained, recorded
        )
        if interface := self.guest.data_interface:
            command += drive_arguments("data", _overlay_drive(2), interface, recorded, ",index=1")
        return command

    def _connections(self, inherited: InheritedFiles) -> list[str]:
        """What connects QEMU with the harness, and keeps it from the host."""
        command = ["-chardev", "socket,id=monitor,fd=3", "-mon", "chardev=monitor,mode=control"]
        if self.guest.disk:
            command += ["-add-fd", "set=1,fd=6", "-add-fd", "set=1,fd=7"]
        if self.guest.data_interface:
            command += ["-add-fd", "set=2,fd=8", "-add-fd", "set=2,fd=9"]
        if interface := self.guest.exchange_interface:
            index = conf.EXCHANGE_INDEX
            # QEMU's lock is for its own kind; it may not find it free, as the file is open twice.
            drive = "file.driver=file,file.filename=/dev/fdset/4,file.locking=off,format=raw,cache=unsafe"
            command += ["-drive", f"{drive},if={interface},index={index}"]
            for number in inherited.exchange:
                command += ["-add-fd", f"set=4,fd={number}"]
        return [*command, *_confinement(self.name, self.guest)]


def hardware_arguments(
    name: str,
    guest: conf.Guest,
    files: BootFiles,
    drive: str,
    by_kvm: bool,
    port: str,
    serial: str,
    online: bool = False,
    recorded: bool = False,
) -> list[str]:
    """QEMU's arguments that make a guest's machine: its hardware, what it boots from, how it is reached.

    Args:
        name: the guest's name.
        guest: its description.
        files: what it boots from.
        drive: the options of -drive that say where the disk is, for a guest that has one.
        by_kvm: whether KVM is tried first.
        port: of 127.0.0.1, which leads to the guest's SSH server.
        serial: what the serial console is connected to (QEMU manual, -serial).
        online: whether the guest may reach the network; it then cannot be reached.
        recorded: whether its disk is one that QEMU can record.
    """
    command = ["-name", name, "-machine", f"{guest.machine},accel={'kvm:tcg' if by_kvm else 'tcg'}"]
    command += ["-m", str(guest.memory), "-smp", str(guest.cpus), "-nodefaults", "-display", "none", "-vga", "std"]
    command += ["-no-reboot", "-no-user-config", "-serial", serial]
    if guest.cpu:
        command += ["-cpu", guest.cpu]
    if files.kernel:
        command += ["-kernel", str(files.kernel), "-append", files.append]
    if files.initrd:
        command += ["-initrd", str(files.initrd)]
    elif files.modules:
        # QEMU separates modules by commas; one inside is written twice (QEMU manual, -initrd).
        modules = [qemu.escaped(f"{path} {args}".strip()) for path, args in files.modules]
        command += ["-initrd", ",".join(modules)]
    if guest.disk:
        command += drive_arguments("disk", drive, guest.disk.interface, recorded)
    reach = "restrict=off" if online else f"restrict=on,hostfwd=tcp:127.0.0.1:{port}-:{guest.ssh.port}"
    command += ["-netdev", f"user,id=net,{reach}", "-device", f"{guest.nic},netdev=net"]
    return [*command, *guest.qemu_args]


def user_command(name: str, guest: conf.Guest, files: BootFiles, disk: str, by_kvm: bool, port: int) -> list[str]:
    """The command with which a user boots a guest: all that makes the machine, with its console on his terminal, and
    nothing that only the harness can use.

    Args:
        name: the guest's name.
        guest: its description.
        files: what it boots from.
        disk: the options of -drive that say where the disk is, for a guest that has one.
        by_kvm: whether KVM is tried first.
        port: of 127.0.0.1, which leads to the guest's SSH server.

    Raises:
        ToolMissing: QEMU is not installed, or it cannot drop root and root asks.
    """
    arguments = hardware_arguments(name, guest, files, disk, by_kvm, str(port), "mon:stdio")
    command = [find_qemu(name, guest), *arguments]
    if interface := guest.data_interface:  # a disk of zeros stands in for the one that brings the harness's files
        command += ["-drive", f"driver=null-co,size={datadisk.SIZE},read-zeroes=on,if={interface},index=1"]
    return [*command, *_confinement(name, guest)]


def incoming_arguments(program: str, form: Form, pipe: int | None) -> list[str]:
    """QEMU's arguments that make it wait for saved memory.

    Args:
        program: QEMU's path.
        form: how the memory is kept.
        pipe: the file by which compressed memory comes; other memory is file 5.
    """
    if pipe is not None:
        return ["-incoming", f"fd:{pipe}"]
    if form is Form.MAPPED:  # QEMU is told by the monitor how to read it, before it reads
        return ["-add-fd", "set=3,fd=5", "-incoming", "defer"]
    if qemu.at_hand(program).migrates_to_file:
        return ["-add-fd", "set=3,fd=5", "-incoming", MEMORY_URI]
    return ["-incoming", "fd:5"]


def find_qemu(name: str, guest: conf.Guest) -> str:
    """The path of a guest's QEMU. Raises ToolMissing if it, or the qemu-img that a disk needs, is not installed."""
    for program in [guest.qemu, "qemu-img"] if guest.disk or guest.data_interface else [guest.qemu]:
        if host.find(program) is None:
            raise ToolMissing(
                f"guest {name}: no {program} on this machine; `{invocation.command_line('doctor')}` says what to do"
            )
    return str(host.find(guest.qemu))


def qemu_version(name: str, guest: conf.Guest) -> str:
    """The first line of what a guest's QEMU says of its version. Raises ToolMissing as `find_qemu` does."""
    return qemu.at_hand(find_qemu(name, guest)).version


def _overlay_drive(fdset: int) -> str:
    """The options of -drive for an overlay that QEMU has as a set of open files."""
    return f"file=/dev/fdset/{fdset},format=qcow2,cache=unsafe"


def _confinement(name: str, guest: conf.Guest) -> list[str]:
    """The options that keep a guest's machine from the host. Raises ToolMissing if QEMU must drop root and cannot."""
    program = find_qemu(name, guest)
    known, root = qemu.at_hand(program), os.geteuid() == 0
    if root and not known.drop_root:
        raise ToolMissing(
            f"guest {name}: {program} cannot drop root, neither by -run-with user= nor by -runas; run the "
            "harness as an ordinary user"
        )
    return known.confinement(root)
