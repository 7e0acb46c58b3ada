"""What can be recorded, the command lines of machines that are recorded and replayed, and moments in a replay."""

import shutil
import struct

import pytest

from harness import conf
from harness.errors import ConfigError
from harness.guest import qemu
from harness.guest.bootfiles import BootFiles
from harness.guest.machine import Machine
from harness.guest.qemu_command import InheritedFiles, MachineDescription
from harness.guest.recording import Recording, recorded_guest
from harness.guest.replay import Sample, bracket, last_data


@pytest.fixture
def refusal(write, monkeypatch):
    """What is said of the control guest with some lines more, by a QEMU of a version."""

    def say(lines, version="7.2.22", name="mine"):
        answer = qemu.Qemu(f"QEMU emulator version {version}", True, ())
        monkeypatch.setattr(qemu, "at_hand", lambda program: answer)
        file = write("mine.yaml", f"guests:\n  mine:\n    from: linux-i386\n{lines}")
        try:
            recorded_guest(name, conf.load([file]), "qemu")
        except ConfigError as error:
            return str(error).replace(f"{file}:", "")
        return ""

    return say


@pytest.mark.parametrize(
    ("lines", "place", "why"),
    [
        ("    cpus: 2\n", "4: guests.mine.cpus", "one processor alone can be recorded, and it has 2"),
        ("    memory: 300\n    cpu: host,+x\n", "5: guests.mine.cpu", "only KVM has the host's processor"),
        ("    machine: pc,accel=kvm\n", "4: guests.mine.machine", "the machine names an accelerator"),
        ("    record: {nic: virtio-net-pci}\n", "4: guests.mine.record.nic", "QEMU 7.2 does not replay virtio-net-pci"),
        ("    qemu_args:\n      - -m\n      - -smp\n", "6: guests.mine.qemu_args.1", "-smp: one processor"),
        ("    qemu_args: [--drive, x]\n", "4: guests.mine.qemu_args.0", "its reads would not be recorded"),
        ("    qemu_args: [-M, accel=kvm]\n", "4: guests.mine.qemu_args.1", "a recorded machine is emulated"),
        ("    qemu_args: [-cpu, 'host,+x']\n", "4: guests.mine.qemu_args.1", "a recorded machine is emulated"),
        ("    qemu_args: [-device, virtio-rng-pci]\n", "4: guests.mine.qemu_args.1", "device virtio-rng-pci cannot"),
    ],
)
def test_the_line_that_cannot_be_recorded_is_named(refusal, lines, place, why):
    text = refusal(lines)
    assert text.startswith(f"{place}: guest mine cannot be recorded: ") and why in text


def test_what_can_be_recorded(refusal):
    assert refusal("    qemu_args: [-device, pvpanic, -rtc, clock=vm]\n") == ""
    assert refusal("    record: {nic: virtio-net-pci}\n", version="9.0.1") == ""
    assert refusal("    nic: rtl8139\n    record: {nic: rtl8139}\n") == ""
    assert refusal("", name="hurd-i386") == ""


def test_the_command_lines_of_a_recorded_machine(tmp_path):
    configuration = conf.load()
    guest = recorded_guest("linux-i386", configuration, str(shutil.which("qemu-system-x86_64")))
    boots = BootFiles(tmp_path / "disk", None, "", None, (), tmp_path / "key", None)
    recording = Recording(tmp_path / "a,b")
    description = MachineDescription("linux-i386", guest, boots, recording=recording)
    recorded = description.arguments(False, 1234, str(tmp_path / "console.log"), InheritedFiles())
    assert "-no-shutdown" in recorded and f"rr=record,rrfile={tmp_path}/a,,b/log" in " ".join(recorded)
    assert any("hostfwd=tcp:127.0.0.1:1234-:22" in word for word in recorded)
    assert "driver=blkreplay,image=disk-file,cache=unsafe,if=virtio" in recorded
    assert "driver=blkreplay,image=data-file,cache=unsafe,if=virtio,index=1" in recorded
    assert not any("fdset" in word and "if=virtio" in word for word in recorded), "each disk goes by the recording"
    assert not any("channel" in word for word in recorded), "what comes by a channel is not recorded"
    assert recording.template and not any("1234" in word for word in recording.template)

    replayed = Recording(tmp_path / "a,b", True, recording.template).command(0, str(tmp_path / "other" / "console"))
    assert "rr=replay" in " ".join(replayed) and "hostfwd" not in " ".join(replayed)
    assert f"filter-dump,id=packets,netdev=net,queue=rx,file={tmp_path}/other/packets.pcap" in replayed
    assert "@" not in " ".join(replayed)


def test_a_machine_whose_guest_has_died_is_recorded_to_its_end(tmp_path):
    guest = recorded_guest("linux-i386", conf.load(), str(shutil.which("qemu-system-x86_64")))
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(1 << 20))
    boots = BootFiles(disk, None, "", None, (), tmp_path / "key", None)
    machine = Machine("linux-i386", guest, boots, tmp_path / "machine", recording=Recording(tmp_path / "machine"))
    try:
        machine.start()
        machine.monitor.execute("system_reset")  # as a kernel does that panics
        while machine.trouble() != "QEMU ended":
            assert machine.trouble() == ""
        assert machine.end_recording() >= 0
        assert machine.recording.log.stat().st_size
    finally:
        machine.stop()


def test_a_moment_lies_between_two_samples():
    samples = [Sample(0, 0, 0), Sample(100, 10, 24), Sample(200, 10, 90), Sample(300, 40, 90)]
    assert bracket(samples, console=10, packets=0) == (0, 200)
    assert bracket(samples, console=11, packets=0) == (200, 300)
    assert bracket(samples, console=0, packets=90) == (100, 300)
    assert bracket(samples, console=0, packets=91) == (300, 300), "what never came came last"


def frame(kind, payload, protocol=6):
    """A frame as a file of packets has it."""
    packet = bytes([0x45, 0]) + struct.pack(">H", 40 + len(payload)) + bytes(5) + bytes([protocol]) + bytes(10)
    data = bytes(12) + kind + packet + bytes(12) + b"\x50" + bytes(7) + payload
    return struct.pack("<IIII", 1, 2, len(data), len(data)) + data


def test_the_last_packet_with_data():
    empty, data, other = frame(b"\x08\x00", b""), frame(b"\x08\x00", b"abc"), frame(b"\x86\xdd", b"abc")
    packets = bytes(24) + data + empty + data + empty + other + frame(b"\x08\x00", b"abc", protocol=17)
    first = 24 + len(data)
    second = first + len(empty) + len(data)
    assert last_data(packets, len(packets)) == second
    assert last_data(packets, second - 1) == first and last_data(packets, first - 1) == 0
    assert last_data(packets[:-5], len(packets)) == second, "a file that is cut off"
    assert last_data(b"", 0) == 0
