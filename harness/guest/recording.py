"""A recording of a machine: QEMU's log of all that reached it from outside, from which the same machine runs again,
instruction by instruction (QEMU manual, "Record/replay").

It replays only with the same QEMU and the same files, so the hashes of both are kept with it. Knows nothing of trials.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from harness import conf
from harness.conf.read import Location
from harness.guest import qemu

#: What stands in a recorded command line for what differs from start to start.
PORT_MARK, CONSOLE_MARK = "@PORT@", "@CONSOLE@"
#: Options of QEMU that a guest's `qemu_args` may have, and why such a machine cannot be recorded.
_REFUSED = {
    "-smp": "one processor alone can be recorded",
    "-enable-kvm": "KVM cannot be recorded",
    "-accel": "the accelerator is the recording's",
    "-icount": "-icount is the recording's",
    "-incoming": "a machine can be recorded from its boot on",
    "-loadvm": "a machine can be recorded from its boot on",
    **dict.fromkeys(
        ("-drive", "-hda", "-hdb", "-hdc", "-hdd", "-cdrom", "-fda", "-fdb", "-sd", "-pflash", "-blockdev"),
        "its reads would not be recorded",
    ),
    **dict.fromkeys(("-netdev", "-nic", "-net"), "its packets would not be recorded"),
    **dict.fromkeys(("-virtfs", "-fsdev"), "shared folders cannot be recorded"),
}
#: Devices that take what is random, or somebody else's, past the recording.
_DEVICE = re.compile(r"(virtio-rng|vhost-|vfio-|usb-host|virtio-9p|ivshmem|tpm-)")


@dataclass
class Recording:
    """Where a machine is recorded to, or replayed from.

    Attributes:
        folder: where it lies.
        replays: whether it is replayed.
        template: QEMU's command line of the recorded machine, with placeholders; filled when it is recorded.
        gdb: the socket at which QEMU waits for gdb, if it is to.
    """

    folder: Path
    replays: bool = False
    template: list[str] = field(default_factory=list)
    gdb: Path | None = None

    @property
    def log(self) -> Path:
        """QEMU's log of the recorded machine."""
        return self.folder / "log"

    @property
    def packets(self) -> Path:
        """The packets that it sent, in the format of tcpdump. A replay writes its own."""
        return self.folder / "packets.pcap"

    def command(self, port: int, console: str) -> list[str]:
        """QEMU's arguments that make the machine, and record or replay it.

        Args:
            port: of 127.0.0.1, which leads to the SSH server of a guest that is recorded.
            console: the file for the console's output.
        """
        command = [word.replace(PORT_MARK, str(port)).replace(CONSOLE_MARK, console) for word in self.template]
        if self.replays:  # nobody is to reach it; what came is in the log
            command = [re.sub(r",hostfwd=[^,]*", "", word) for word in command]
        packets = Path(console).with_name(self.packets.name) if self.replays else self.packets
        mode = "replay" if self.replays else "record"
        # Without -no-shutdown QEMU would end where the log does, and nobody could see where that was.
        command += ["-no-shutdown", "-object", "filter-replay,id=recorded,netdev=net"]
        # Of the network, what the guest sends: what is sent to it in its last moments reaches it or not.
        command += ["-object", f"filter-dump,id=packets,netdev=net,queue=rx,file={qemu.escaped(packets)}"]
        command += ["-icount", f"shift=auto,rr={mode},rrfile={qemu.escaped(self.log)}"]
        return [*command, *(["-gdb", f"unix:{qemu.escaped(self.gdb)},server=on,wait=off"] if self.gdb else [])]


def drive_arguments(name: str, drive: str, interface: str, recorded: bool, index: str = "") -> list[str]:
    """QEMU's arguments for a disk.

    Args:
        drive: the options of -drive that say where it is.
        index: the option that gives it its place, if that is not the next one.
        recorded: whether what the guest reads is recorded, by a node that makes each request end when it did first.
    """
    if not recorded:
        return ["-drive", f"{drive},if={interface}{index}"]
    command = ["-drive", f"{drive},if=none,id={name}-file"]
    # Else the end of the machine, which flushes its disks, would be a request in the log that no replay makes.
    command += ["-drive", f"driver=blkreplay,image={name}-file,cache=unsafe,if={interface}{index}"]
    # Else another thread would see at any time what the guest asks of the disk (QEMU's hw/virtio/virtio-pci.c).
    return [*command, *(["-global", "virtio-blk-pci.ioeventfd=off"] if interface == "virtio" else [])]


def recorded_guest(name: str, configuration: conf.Configuration, program: str) -> conf.Guest:
    """A guest as it is described for a machine that is recorded.

    Args:
        program: the path of its QEMU.

    Raises:
        ConfigError: it cannot be recorded; the text names file, line and key.
        ToolMissing: QEMU does not tell its version.
    """
    guest = configuration.guest(name)
    # What this machine does beside the log, no replay knows of.
    changes: dict[str, object] = {"channel": "", "data_disk": guest.data_disk.model_copy(update={"unmount": ""})}
    if guest.record.nic:
        changes["nic"] = guest.record.nic
    if guest.record.interface and guest.disk:
        changes["disk"] = guest.disk.model_copy(update={"interface": guest.record.interface})
    recorded = guest.model_copy(update=changes)
    for location, why in _obstacles(recorded, qemu.at_hand(program).number):
        if location == ("nic",) and guest.record.nic:
            location = ("record", "nic")
        raise configuration.error(("guests", name, *location), f"guest {name} cannot be recorded: {why}")
    return recorded


def _obstacles(guest: conf.Guest, version: tuple[int, int] | None) -> list[tuple[Location, str]]:
    """What of a description QEMU cannot record, each by the way to it below the guest.

    Args:
        version: QEMU's, if it is known.
    """
    obstacles: list[tuple[Location, str]] = []
    if guest.cpus > 1:
        obstacles.append((("cpus",), f"one processor alone can be recorded, and it has {guest.cpus}"))
    if "accel=" in guest.machine:
        obstacles.append((("machine",), "a recorded machine is emulated, and the machine names an accelerator"))
    if guest.cpu and guest.cpu.split(",")[0] == "host":
        obstacles.append((("cpu",), "a recorded machine is emulated, and only KVM has the host's processor"))
    # Its bottom halves are part of the log since 9.0 (QEMU's hw/net/virtio-net.c, replay_bh_schedule_event).
    if guest.nic.startswith("virtio-net") and version and version < (9, 0):
        number = ".".join(map(str, version))
        why = f"QEMU {number} does not replay {guest.nic} (9.0 does); `record: {{nic: e1000}}` records with another one"
        obstacles.append((("nic",), why))
    for place, word in enumerate(guest.qemu_args):
        option = "-" + word.lstrip("-")
        before = guest.qemu_args[place - 1].lstrip("-") if place else ""
        if word.startswith("-") and option in _REFUSED:
            obstacles.append((("qemu_args", place), f"{word}: {_REFUSED[option]}"))
        elif (before in ("machine", "M") and "accel=" in word) or (before == "cpu" and word.split(",")[0] == "host"):
            obstacles.append((("qemu_args", place), f"{word}: a recorded machine is emulated"))
        elif before == "device" and _DEVICE.match(word):
            obstacles.append((("qemu_args", place), f"the device {word.split(',')[0]} cannot be recorded"))
    return obstacles
