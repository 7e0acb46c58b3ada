"""Saved machines, for real: a restore goes on where the saved guest was; what fails ends in a guest all the same.

The guest is the control; its saved machines lie in a cache of the test's own.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from harness import clock, conf, kvm
from harness.build import program, toolchain
from harness.build.artifacts import AGENT_SOURCE
from harness.cache import Cache, file_digest
from harness.errors import GuestError
from harness.guest import boot, datadisk
from harness.guest.fresh import Guest
from harness.guest.machine import Machine, Saved
from harness.guest.pool import FAILED_BOOTS, KEEPER, KEPT, KEPT_IN_ALL, PROOF, RESTORES, Pool
from harness.guest.saved_memory import Figures, Form, Memory
from harness.images.bootfiles import find_boot_files
from harness.progress import Reporter
from harness.run.prepare import booting_meanwhile
from harness.trial.observe import observe

NAME = "linux-i386"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return Cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def guest_of(tmp_path, cache):
    """A pool, what it said and complained of, and a way to get a guest of it in a folder of its own."""
    configuration = conf.load()
    files = find_boot_files(NAME, configuration, lambda text: None)
    machines = []

    def get(contents, agent="", failed_boots=0, **changes):
        steps, trouble = [], []
        guest = configuration.guest(NAME).model_copy(update=changes)
        pool = Pool(NAME, guest, files, contents, cache, trouble.append, None, agent, failed_boots)
        result = pool.fresh(tmp_path / str(len(machines)), steps.append)
        machines.append(result.machine)
        # What the first one says besides that is given a large file through SSH.
        steps = [text for text in steps if not text.startswith(("measuring ciphers", "SSH by "))]
        return result, steps, trouble

    yield get
    for machine in machines:
        machine.stop()


def ask(guest, command):
    return guest.shell.run(command)[1].decode().strip()


def test_a_fresh_guest_goes_on_where_another_was_saved(guest_of, write, cache):
    one, two = write("one", "1"), write("two", "2")
    first, steps, trouble = guest_of({"/tmp/harness/one": one})
    assert steps == ["booting", "receiving one, 0.0 MB", "saving", "restoring"] and not trouble
    assert ask(first, "cat /tmp/harness/one; rm /tmp/harness/one") == "1"
    second, steps, _ = guest_of({"/tmp/harness/one": one}, set_clock="echo {seconds} >/tmp/clock; date -s @{seconds}")
    assert steps == ["restoring"]
    assert ask(second, "cat /tmp/harness/one") == "1", "what one guest does reaches no other"
    assert abs(int(ask(second, "cat /tmp/clock")) - time.time()) < 600, "its clock is set"
    third, steps, _ = guest_of({"/tmp/harness/one": one, "/tmp/harness/two": two})
    assert steps == ["restoring", "receiving two, 0.0 MB", "saving", "restoring"]
    assert ask(third, "cat /tmp/harness/one /tmp/harness/two") == "12"
    assert len(list((cache.root / "machines").iterdir())) == 2


def test_the_saved_machines_that_were_used_last_are_kept(tmp_path):
    cache = Cache(tmp_path)
    for number in range(KEPT_IN_ALL + 5):
        folder = cache.path("machines", str(number))
        folder.mkdir(parents=True)
        base = "own" if number % 4 == 0 else "another"
        (folder / "saved.json").write_text(json.dumps({"base": base, "contents": [], "sizes": {}}))
        os.utime(folder, (number, number))
    files = find_boot_files(NAME, conf.load(), lambda text: None)
    Pool(NAME, conf.load().guest(NAME), files, {}, cache, print)._prune("own", cache.path("machines", "0"))
    kept = {int(path.name) for path in (tmp_path / "machines").iterdir()}
    assert kept == {0, *(number for number in range(5, KEPT_IN_ALL + 5) if number % 4 or number >= 4 * KEPT)}


def saved(cache, contents):
    (folder,) = [
        path.parent
        for path in (cache.root / "machines").glob("*/saved.json")
        if json.loads(path.read_text())["contents"] == list(contents)
    ]
    return folder


AGENT = "/tmp/harness/agent"


@pytest.fixture(scope="module")
def with_agent(tmp_path_factory):
    """Contents that come by disk: the agent, and a file that takes more than one block of pointers."""
    tools = toolchain.find(NAME, conf.load())
    folder = tmp_path_factory.mktemp("contents")
    (folder / "large").write_bytes(os.urandom(12 << 20))
    agent = program.build_agent(AGENT_SOURCE, tools, Cache(folder / "cache"))
    return {AGENT: agent, "/tmp/harness/lib/large": folder / "large"}


def by_disk(guest, contents):
    """Which of its files a guest has on its data disk; all are what they should be."""
    for target, source in contents.items():
        (size, name), want = ask(guest, f"wc -c {target}").split(), source.stat().st_size
        assert (int(size), name) == (want, target)
        assert ask(guest, f"sha256sum <{target}").split()[0] == file_digest(source)
    links = {target: ask(guest, f"readlink {target} || :") for target in contents}
    assert all(link in ("", f"/tmp/harness/data{target}") for target, link in links.items())
    return {target for target, link in links.items() if link}


def test_files_come_by_disk_from_the_boot_on(guest_of, with_agent, write, cache):
    changes = {"append": conf.load().guest(NAME).append + " harness.test=boot"}  # a description that is not saved yet
    first, steps, trouble = guest_of(with_agent, AGENT, **changes)
    assert not trouble and steps[::2] == ["booting", "saving"] and steps[3] == "restoring" and len(steps) == 4
    assert steps[1].startswith("reading its data disk, 12.6 MB")
    assert by_disk(first, with_agent) == set(with_agent)
    assert "/tmp/harness/data ext2 ro," in ask(first, "cat /proc/mounts")
    assert observe(first.attach(), ["/bin/sh", "-c", "echo up"], {}, "/", 30.0).stdout == b"up\n"
    second, steps, _ = guest_of(with_agent, AGENT, **changes)
    assert steps == ["restoring"]
    ask(second, "echo 3 >/proc/sys/vm/drop_caches")  # so that it reads the disk itself
    assert by_disk(second, with_agent) == set(with_agent)
    (folder,) = [path.parent for path in (cache.root / "machines").glob("*/data.img")]
    shutil.rmtree(folder)
    ask(second, "echo 3 >/proc/sys/vm/drop_caches")
    assert by_disk(second, with_agent) == set(with_agent), "others may remove the saved machine meanwhile"


def test_a_running_guest_gets_files_by_the_exchange_disk_and_does_without_its_network(guest_of, with_agent, tmp_path):
    guest, _, trouble = guest_of(with_agent, AGENT)
    agent = guest.attach()
    assert guest.serves and agent.by_channel, "it was restored without an SSH connection"
    files = {f"/tmp/harness/new/{name}": tmp_path / name for name in ("one", "two", "three", "four")}
    for file in files.values():
        file.write_bytes(os.urandom(3 << 20))
    (one, first), (two, second), (three, third), (four, fourth) = files.items()
    guest.put(first, one)
    guest.put(second, two)  # what is on the disk is replaced while the guest runs
    for target in (one, two):
        _, out, _ = guest.run(f"sha256sum {target}; readlink {target}")
        assert out.split()[0].decode() == file_digest(files[target]) and b"/exchange/" in out
    in_use = ["/bin/sh", "-c", f"setsid sleep 1000 <{one} >/dev/null 2>&1 & sleep 1"]
    observe(agent, in_use, {}, "/", 30.0)
    guest.put(third, three)  # the disk cannot be unmounted
    assert guest.run(f"readlink {three} || sha256sum {three}")[1].split()[0].decode() == file_digest(third)
    assert guest.run("kill $(pidof sleep) && while pidof sleep; do :; done")[0] == 0
    guest.put(fourth, four)
    assert b"/exchange/" in guest.run(f"readlink {four}")[1] and guest.run(f"cmp {one} {one}")[0] == 0
    program = tmp_path / "program" / "name"
    program.parent.mkdir()
    program.write_bytes(b"#!/bin/sh\necho program\n" + b"#" * 100_000)
    path = guest.ship(agent, program, "/tmp/harness/bin/program/name")
    assert observe(agent, [path], {}, "/", 30.0).stdout == b"program\n"
    assert guest.shell.run("echo network")[1] == b"network\n"
    agent.put(bytes(100_000), "/tmp/by-connection")
    assert not agent.by_channel

    def diagnostics(pid):
        return guest.run(f"cat /proc/{pid}/comm")[1].decode().strip()

    dies = ["/bin/sh", "-c", "echo before; ip link set eth0 down; echo after; exec sleep 1000"]
    observation = observe(agent, dies, {}, "/", 5.0, diagnostics)
    assert (observation.stdout, observation.suspended, observation.signal, agent.by_channel) == (
        b"before\nafter\n",
        "sleep",
        9,
        True,
    )
    assert not trouble


def test_where_the_channel_does_not_survive_a_restore_guests_are_reached_through_ssh(guest_of, with_agent, monkeypatch):
    def silent(guest, quiet=None):
        """As `go_on` in a guest that was just started, and in a restored one as if its serial port were dead."""
        if quiet is None:
            raise GuestError("the agent does not answer: nothing came for 60 s")
        go_on(guest, quiet)

    go_on = Guest.go_on
    monkeypatch.setattr(Guest, "go_on", silent)
    guest, steps, trouble = guest_of(with_agent, AGENT, memory=536)
    assert "the agent does not answer: nothing came for 60 s; guests are reached through SSH" in trouble[0]
    assert len(trouble) == 2 and "restoring failed" in trouble[1] and steps.count("saving") == 2
    assert not guest.serves and observe(guest.attach(), ["/bin/sh", "-c", "echo up"], {}, "/", 30.0).stdout == b"up\n"


def test_a_guest_that_was_saved_before_its_files_were_known_gets_them_by_disk(guest_of, with_agent, write):
    guest_of({}, memory=532)
    first, steps, trouble = guest_of(with_agent, AGENT, memory=532)
    assert not trouble and (steps[0], steps[2:]) == ("restoring", ["saving", "restoring"])
    assert by_disk(first, with_agent) == set(with_agent)
    more = with_agent | {"/tmp/harness/lib/more": write("more", "more")}
    second, steps, _ = guest_of(more, AGENT, memory=532)
    assert (steps[0], steps[2:]) == ("restoring", ["saving", "restoring"]) and "12.6 MB" in steps[1]
    assert by_disk(second, more) == set(more)


@pytest.mark.parametrize(
    ("mount", "why"),
    [
        ("echo mount is broken >&2; false {device}", "mounting the data disk: mount is broken"),
        ("mount -t tmpfs tmpfs {folder}", "mounting the data disk: status 1"),  # mounts, but something else
        ("mount -t ext2 -o ro /dev/none {folder}", "mounting the data disk: mount: .*/dev/none"),
    ],
)
def test_where_the_disk_cannot_be_mounted_files_come_through_ssh(guest_of, with_agent, mount, why):
    guest, steps, trouble = guest_of(with_agent, AGENT, data_disk=conf.DataDisk(mount=mount))
    assert len(trouble) == 1 and re.match(why, trouble[0]) and "through SSH from now on" in trouble[0]
    assert [word.split()[0] for word in steps] == [
        "booting",
        "reading",
        "receiving",
        "receiving",
        "saving",
        "restoring",
    ]
    assert by_disk(guest, with_agent) == set()


def test_what_is_not_whole_on_the_disk_comes_through_ssh(guest_of, with_agent, monkeypatch):
    def spoilt(contents, target, creator):
        """As `make`, and then a byte of a file changes."""
        make(contents, target, creator)
        data = target.read_bytes()
        at = data.index(with_agent["/tmp/harness/lib/large"].read_bytes()[-100:])
        with target.open("r+b") as file:
            file.seek(at)
            file.write(bytes([data[at] ^ 1]))

    make = datadisk.make
    monkeypatch.setattr(datadisk, "make", spoilt)
    guest, _, trouble = guest_of(with_agent, AGENT, memory=520)
    assert len(trouble) == 1 and "the data disk: /tmp/harness/lib/large is not what was put on it;" in trouble[0]
    assert by_disk(guest, with_agent) == set()


def test_where_no_file_system_can_be_made_files_come_through_ssh(guest_of, with_agent, monkeypatch):
    monkeypatch.setattr(datadisk, "SIZE", 1 << 20)
    guest, steps, trouble = guest_of(with_agent, AGENT, memory=524)
    assert len(trouble) == 1 and "its files take 14 MiB, and it has 1; files come through SSH" in trouble[0]
    assert [word.split()[0] for word in steps] == ["booting", "receiving", "receiving", "saving", "restoring"]
    assert by_disk(guest, with_agent) == set()


def test_a_guest_that_has_no_data_disk_gets_its_files_through_ssh(guest_of, with_agent):
    guest, _, trouble = guest_of(with_agent, AGENT, memory=528, data_disk=conf.DataDisk(mount=""))
    assert not trouble and by_disk(guest, with_agent) == set()
    assert ask(guest, "ls /dev/vd*") == "/dev/vda"


@pytest.mark.parametrize("damage", ["memory", "disk.qcow2", "saved.json"])
def test_a_restore_that_fails_ends_in_a_boot(guest_of, write, cache, damage):
    target = f"/tmp/harness/{damage}"
    contents = {target: write("one", "1")}
    guest_of(contents)
    spoilt = saved(cache, contents) / damage
    if damage == "saved.json":
        spoilt.write_text(json.dumps(json.loads(spoilt.read_text()) | {"word": "another"}))
    else:
        with spoilt.open("r+b") as file:
            file.write(b"\0" * 4096)
    guest, steps, trouble = guest_of(contents)
    assert steps == ["restoring"] * RESTORES + ["booting", f"receiving {damage}, 0.0 MB"]
    assert len(trouble) == RESTORES and "guests are booted from now on" in trouble[-1]
    assert ask(guest, f"cat {target}") == "1"
    assert not spoilt.exists(), "another one is saved the next time"


def every_signal_ignored():
    """As under a server that leaves all signals ignored that can be."""
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)


@pytest.mark.parametrize("shell", [["sh"], *([["busybox", "sh"]] if shutil.which("busybox") else [])])
def test_what_keeps_the_word_answers_once_without_a_signal_and_in_a_folder_that_it_makes(tmp_path, shell):
    folder = tmp_path / 'it\'s a "$word"' / "below"
    way = {"capture_output": True, "text": True, "preexec_fn": every_signal_ignored, "timeout": 100}
    for number in range(5):
        start = KEEPER.format(folder=shlex.quote(str(folder)))
        begun = subprocess.run([*shell, "-c", start], check=True, input=f"{number}\n", **way)
        proof = PROOF.format(folder=shlex.quote(str(folder)), clock="echo 12:00", keeper=int(begun.stdout))
        process = subprocess.run([*shell, "-c", proof], check=True, **way)
        assert process.stdout == f"{number}\n" and not list(folder.iterdir())
    gone = subprocess.run([*shell, "-c", proof], check=False, **way)
    assert not gone.stdout, "nobody waits for one that is gone"


def test_a_saved_machine_that_is_cut_off_is_made_again_on_a_slow_disk_compressed(
    guest_of, write, cache, monkeypatch, tmp_path
):
    contents = {"/tmp/harness/cut": write("one", "1")}
    guest_of(contents)
    memory = saved(cache, contents) / "memory"
    os.truncate(memory, memory.stat().st_size - 1)
    monkeypatch.setattr(Figures, "worth_compressing", True)
    guest, steps, trouble = guest_of(contents)
    assert "saving" in steps and not trouble
    assert ask(guest, "cat /tmp/harness/cut") == "1"
    kept = Memory.model_validate(json.loads((memory.parent / "saved.json").read_text())["memory"])
    assert kept.form is Form.COMPRESSED and kept.figures
    os.truncate(memory, memory.stat().st_size - 100)
    machine = Machine(NAME, guest.machine.guest, guest.machine.files, tmp_path / "spoilt")  # nobody looks at sizes
    with pytest.raises(GuestError, match="its memory cannot be expanded: "):
        machine.start(Saved.at(memory.parent, kept))
    machine.stop()


def test_saved_machines_may_be_removed_while_their_guests_run(guest_of, write, cache, monkeypatch):
    contents = {"/tmp/harness/kept": write("one", "1")}
    first, _, _ = guest_of(contents)
    shutil.rmtree(cache.root / "machines")
    assert ask(first, "sync; echo 3 >/proc/sys/vm/drop_caches; cat /tmp/harness/kept") == "1"
    whole = Pool.saved_machine
    removed = []

    def just_now(*arguments):
        """As whole, but when it is first called another run removes the folder before it is used."""
        folder = whole(*arguments)
        if not removed:
            removed.append(shutil.rmtree(folder))
        return folder

    monkeypatch.setattr(Pool, "saved_machine", just_now)
    second, steps, trouble = guest_of(contents)
    assert steps.count("saving") == 2 and not trouble, "another's tidying is no failure"
    assert ask(second, "cat /tmp/harness/kept") == "1"


def test_a_saved_machine_that_is_half_removed_ends_in_a_boot(guest_of, write, cache, monkeypatch):
    contents = {"/tmp/harness/half": write("one", "1")}
    guest_of(contents)
    whole = Pool.saved_machine

    def just_now(*arguments):
        """As whole, but somebody removes a file of the folder before it is used."""
        folder = whole(*arguments)
        (folder / "saved.json").unlink(missing_ok=True)
        return folder

    monkeypatch.setattr(Pool, "saved_machine", just_now)
    guest, steps, trouble = guest_of(contents)
    assert steps[:-1] == ["restoring"] * RESTORES + ["booting"] and len(trouble) == RESTORES
    assert ask(guest, "cat /tmp/harness/half") == "1"


def test_a_saved_machine_does_not_need_the_one_it_was_made_from(guest_of, write, cache):
    less = {"/tmp/harness/less": write("one", "1")}
    more = less | {"/tmp/harness/more": write("two", "2")}
    guest_of(less)
    guest_of(more)
    shutil.rmtree(saved(cache, less))
    guest, steps, trouble = guest_of(more)
    assert steps == ["restoring"] and not trouble
    assert ask(guest, "cat /tmp/harness/less /tmp/harness/more") == "12"


def test_a_machine_saved_by_another_qemu_is_another(tmp_path, write):
    configuration = conf.load()
    files = find_boot_files(NAME, configuration, lambda text: None)
    guest = configuration.guest(NAME).model_copy(update={"qemu": str(write("qemu", "#!/bin/sh\n"))})
    (tmp_path / "qemu").chmod(0o755)
    before = Machine(NAME, guest, files, tmp_path / "m").identity
    assert Machine(NAME, guest, files, tmp_path / "n").identity == before
    (tmp_path / "qemu").write_text("#!/bin/sh\n# another version\n")
    assert Machine(NAME, guest, files, tmp_path / "m").identity != before


def test_a_machine_saved_with_another_folder_is_another(tmp_path):
    """What a saved guest was given lies in that folder, and so does what proves that it was restored."""
    configuration = conf.load()
    files = find_boot_files(NAME, configuration, lambda text: None)
    guest = configuration.guest(NAME)
    other = guest.model_copy(update={"folder": "/var/harness"})
    assert Machine(NAME, other, files, tmp_path / "m").identity != Machine(NAME, guest, files, tmp_path / "m").identity


@pytest.fixture
def kvm_unknown(tmp_path, monkeypatch):
    """A host that does not know yet whether its KVM works, and has a /dev/kvm, real or not."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    record = kvm.failure_record()
    monkeypatch.setattr(kvm, "may_work", lambda: not record.exists())
    return record


#: A QEMU that has no KVM, which `accel=kvm:tcg` is silent about.
WITHOUT_KVM = """#!/usr/bin/env python3
import os, sys
os.execvp("{qemu}", ["{qemu}", *(word.replace("accel=kvm:tcg", "accel=tcg") for word in sys.argv[1:])])
"""


@pytest.mark.parametrize("way", ["without a word", "really"])
def test_a_machine_that_kvm_gave_up_on_is_saved_as_an_emulated_one(guest_of, write, kvm_unknown, tmp_path, way):
    qemu = shutil.which(conf.load().guest(NAME).qemu)
    if way == "without a word":
        wrapper = write("qemu", WITHOUT_KVM.format(qemu=qemu))
        wrapper.chmod(0o755)
        qemu = str(wrapper)
    elif not os.access("/dev/kvm", os.W_OK):
        pytest.skip("there is no /dev/kvm")
    changes = {"qemu": qemu, "memory": 480}  # what another test has saved must not do
    contents = {"/tmp/harness/one": write("one", "1")}
    _, steps, trouble = guest_of(contents, **changes)
    assert steps == ["booting", "receiving one, 0.0 MB", "saving", "restoring"], "it is not booted a second time"
    assert not trouble
    if way == "really" and not kvm_unknown.exists():
        pytest.skip("this machine's KVM works")
    assert kvm_unknown.exists()
    guest, steps, trouble = guest_of(contents, **changes)
    assert steps == ["restoring"] and not trouble, "it is found by who knows that KVM fails"
    kvm_unknown.unlink()
    machine = Machine(NAME, conf.load().guest(NAME).model_copy(update=changes), guest.machine.files, tmp_path / "m")
    assert "accel=kvm" in str(machine.identity), "by KVM it would be another"


def test_a_guest_that_cannot_be_saved_is_booted(guest_of):
    guest, steps, trouble = guest_of({}, qemu_args=["-device", "nvme,serial=1"])  # a device that QEMU cannot save
    assert steps == ["booting", "saving", "booting"]
    assert len(trouble) == 1 and "guests are booted instead" in trouble[0]
    assert ask(guest, "uname -s") == "Linux"


def boot_sector(text):
    """A disk whose boot sector prints a text on the serial line and stops: mov dx, 0x3f8; mov al, N; out dx, al; hlt"""
    code = b"\xba\xf8\x03" + b"".join(b"\xb0" + bytes([letter]) + b"\xee" for letter in text) + b"\xf4\xeb\xfd"
    return (code.ljust(510, b"\0") + b"\x55\xaa").ljust(1 << 20, b"\0")


def test_a_root_file_system_that_cannot_be_had_ends_a_boot(tmp_path, cache, write, monkeypatch):
    """As the Hurd says it. No silence and no time limit would end the boot while the test runs."""
    monkeypatch.setattr(clock, "QUIET", 3600.0)
    disk = write("boot.img", boot_sector(b"start ext2fs: ext2fs: device:hd0s1: No such device or address\r\n"))
    configuration = conf.load()
    files = replace(find_boot_files(NAME, configuration, lambda text: None), disk=disk, kernel=None, initrd=None)
    pool = Pool(NAME, configuration.guest(NAME), files, {}, cache, lambda text: None)
    why = "it does not boot: no root file system: ext2fs: device:hd0s1: No such device or address"
    with pytest.raises(GuestError, match=why):
        pool.fresh(tmp_path / "guest", lambda text: None)


def test_a_boot_that_stands_still_is_tried_once_the_other_way(tmp_path, cache, write, monkeypatch):
    monkeypatch.setattr(clock, "QUIET", 15.0)
    configuration, troubles = conf.load(), []
    bootable = write("boot.img", boot_sector(b"disk"))
    files = find_boot_files(NAME, configuration, lambda text: None)
    files = replace(files, disk=bootable, append="console=ttyS0 rdinit=/bin/busybox -- sleep 9999")
    pool = Pool(NAME, configuration.guest(NAME), files, {}, cache, troubles.append)
    with pytest.raises(GuestError, match="its boot has stalled at `disk`: no progress for 15 s"):
        pool.fresh(tmp_path / "guest", lambda text: None)
    (first,) = troubles
    assert re.match(r"guest linux-i386: its boot has stalled at `\[.*`: no progress for 15 s", first), first
    assert first.endswith("It is booted once more, by the boot loader on its disk.")


def test_a_boot_that_stood_still_and_then_worked_is_counted(guest_of, monkeypatch):
    wait, waited = boot.wait, []

    def wait_(machine):
        """As wait, but the first boot stands still."""
        waited.append(machine.files)
        if len(waited) == 1:
            raise boot.StoodStill("its boot has stalled at `start ext2fs:`")
        return wait(machine)

    monkeypatch.setattr(boot, "wait", wait_)
    guest, steps, trouble = guest_of({}, failed_boots=1, memory=536)
    assert steps == ["booting", "booting", "saving", "restoring"] and ask(guest, "uname -s") == "Linux"
    assert trouble == ["its boot has stalled at `start ext2fs:`\nIt is booted once more.", f"{FAILED_BOOTS}2"]
    assert waited[0] == waited[1], "there is no boot loader on its disk"


def test_a_guest_is_saved_while_other_things_are_made(tmp_path, cache):
    configuration = conf.load()
    guests = {NAME: configuration.guest(NAME).model_copy(update={"memory": 470})}
    files = {NAME: find_boot_files(NAME, configuration, lambda text: None)}
    with Reporter() as report, booting_meanwhile(guests, files, tmp_path, cache, report) as (troubles, failed_boots):
        pass
    assert not troubles and failed_boots == {NAME: 0}
    lines = []
    result = Pool(NAME, guests[NAME], files[NAME], {}, cache, lines.append).fresh(tmp_path / "guest", lines.append)
    result.machine.stop()
    assert lines == ["restoring"]


def test_what_goes_wrong_while_other_things_are_made_is_told(tmp_path, cache, caplog):
    configuration = conf.load()
    guests = {NAME: configuration.guest(NAME).model_copy(update={"qemu_args": ["-device", "no-such-device"]})}
    files = {NAME: find_boot_files(NAME, configuration, lambda text: None)}
    with Reporter() as report, booting_meanwhile(guests, files, tmp_path, cache, report) as (troubles, _):
        pass
    ((name, message),) = troubles
    assert name == NAME and "no-such-device" in message
    assert message in caplog.text


def test_a_guest_that_does_not_boot_says_so_once(guest_of):
    ready = conf.load().guest(NAME).ready.model_copy(update={"timeout": 1.0})
    with pytest.raises(GuestError, match="not ready within 1 s"):
        guest_of({}, ready=ready, memory=500)


def test_a_machine_is_gone_when_it_was_saved(tmp_path):
    configuration = conf.load()
    machine = Machine(
        NAME, configuration.guest(NAME), find_boot_files(NAME, configuration, lambda text: None), tmp_path / "m"
    )
    (tmp_path / "saved").mkdir()
    machine.start()
    saved = machine.save(tmp_path / "saved")
    assert not machine.process.alive()
    assert saved.memory.stat().st_size > 1 << 20 and saved.disk.is_file()
    assert not Path(tmp_path / "m" / "overlay.qcow2").exists()


def test_a_monitor_that_broke_off_is_the_guest_s_trouble(tmp_path):
    configuration = conf.load()
    machine = Machine(
        NAME,
        configuration.guest(NAME),
        find_boot_files(NAME, configuration, lambda text: None),
        tmp_path / "m",
        tmp_path,
    )
    machine.start()
    shell = machine.process.pid
    (qemu,) = [int(pid) for pid in Path(f"/proc/{shell}/task/{shell}/children").read_text().split() if "qemu" in
               Path(f"/proc/{pid}/comm").read_text()]  # fmt: skip
    try:
        os.kill(shell, signal.SIGSTOP)  # so that QEMU's end is seen by its monitor only
        os.kill(qemu, signal.SIGKILL)
        for _ in range(3):
            assert "QEMU's monitor" in machine.trouble()
            assert "its screen" not in str(machine.failure("gone"))
    finally:
        os.kill(shell, signal.SIGCONT)
        machine.stop()
