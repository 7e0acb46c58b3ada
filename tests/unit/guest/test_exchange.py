"""The exchange disk, made by the real tools. The guest is this machine, which mounts it by copying what is on it."""

import filecmp
import os
import subprocess
from types import SimpleNamespace

import pytest

from harness import conf, host
from harness.errors import GuestError, ImageError
from harness.guest import exchange, fresh
from harness.guest.exchange import Exchange, InUse


@pytest.fixture
def guest(tmp_path, agent_program):
    """An exchange disk, what runs commands in the guest, the folder where it is seen, and the agent's path."""
    image, folder = tmp_path / "disk.img", tmp_path / "seen"
    image.touch()
    mount = f"[ ! -e {tmp_path}/broken ] && debugfs -R 'rdump / {folder}' {image} 2>/dev/null"
    unmount = f"[ ! -e {tmp_path}/used ] && rm -rf {folder} || {{ echo busy >&2; exit 1; }}"
    disk = Exchange(image, "hurd", ["false", mount], unmount, str(folder))

    def run(command):
        process = subprocess.run(["sh", "-c", command], capture_output=True, check=False)
        return process.returncode, process.stdout, process.stderr

    return disk, run, folder, str(agent_program)


@pytest.fixture
def files(tmp_path):
    """Files by where they are to be found."""
    result = {}
    for name, size in (("lib/libgo.so.21", 3_000_000), ("bin/a/name with blanks", 100), ("bin/b/name", 0)):
        source = tmp_path / "sources" / name.replace("/", "-")
        source.parent.mkdir(exist_ok=True)
        source.write_bytes(os.urandom(size))
        result[str(tmp_path / "guest" / name)] = source
    return result


def whole(files):
    return all(os.path.islink(target) and filecmp.cmp(source, target, False) for target, source in files.items())


def test_files_are_found_at_their_paths_and_more_can_come(guest, files, tmp_path):
    disk, run, _, agent = guest
    disk.bring(run, files, {})
    disk.link(run, files, agent)
    assert whole(files) and disk.usable and all(disk.holds(target) for target in files)
    assert all(os.access(target, os.X_OK) for target in files)
    more = {str(tmp_path / "guest" / "lib" / "more"): tmp_path / "sources" / "more"}
    (tmp_path / "sources" / "more").write_bytes(b"more")
    disk.bring(run, files | more, {})
    disk.link(run, more, agent)
    assert whole(files | more)
    for command, words in ((["e2fsck", "-fn"], "Pass 5"), (["dumpe2fs", "-h"], "OS type:       Hurd")):
        command = [str(host.find(command[0])), *command[1:], str(tmp_path / "disk.img")]
        process = subprocess.run(command, capture_output=True, text=True, check=False)
        assert process.returncode == 0 and words in " ".join(process.stdout.split("\n")), process.stdout


def test_a_disk_that_is_in_use_stays_as_it_is(guest, files, tmp_path):
    disk, run, _, agent = guest
    (first, source), *rest = files.items()
    disk.bring(run, {first: source}, {})
    disk.link(run, {first: source}, agent)
    (tmp_path / "used").touch()
    with pytest.raises(InUse, match="the exchange disk is in use: busy"):
        disk.bring(run, dict(rest), {})
    assert disk.usable and whole({first: source}) and not disk.holds(rest[0][0])
    (tmp_path / "used").unlink()
    disk.bring(run, dict(rest), {})
    disk.link(run, files, agent)
    assert whole(files)


def test_a_disk_that_the_guest_does_not_mount_is_of_no_use(guest, files, tmp_path):
    disk, run, _, _ = guest
    (tmp_path / "broken").touch()
    with pytest.raises(GuestError, match="mounting the exchange disk: status 1"):
        disk.bring(run, files, {})
    assert not disk.usable


def test_what_is_not_whole_is_told(guest, files):
    disk, run, _, agent = guest
    disk.bring(run, files, {})
    target = next(iter(files))
    with open(disk.place(target), "r+b") as file:
        file.write(b"other")
    with pytest.raises(GuestError, match=f"the exchange disk: {target} is not what was put on it"):
        disk.link(run, files, agent)


def test_what_does_not_fit_is_refused_before_anything_changes(guest, files, monkeypatch):
    disk, run, _, _ = guest
    monkeypatch.setattr(exchange, "SIZE", exchange._RESERVE + 1000)
    with pytest.raises(ImageError, match="the exchange disk: 2 MiB of files do not fit"):
        disk.bring(run, files, {})


def test_a_full_disk_is_made_anew_with_what_is_kept(guest, files, tmp_path, monkeypatch):
    disk, run, folder, agent = guest
    monkeypatch.setattr(exchange, "SIZE", exchange._RESERVE + 4_000_000)
    (libgo, source), *_ = files.items()
    disk.bring(run, files, {})
    (tmp_path / "next").write_bytes(os.urandom(900_000))
    second, third = ({str(tmp_path / "guest" / name): tmp_path / "next"} for name in ("second", "third"))
    assert disk.bring(run, second, {libgo: source}) == set()
    assert disk.bring(run, third, {libgo: source}) == {*list(files)[1:], *second}
    disk.link(run, {libgo: source} | third, agent)
    assert whole({libgo: source} | third) and not any(disk.holds(target) for target in second)
    assert len(list(folder.glob("*/*"))) == 2


def test_a_guest_whose_exchange_disk_is_full_has_what_its_next_trial_needs(agent_program, tmp_path, monkeypatch):
    """Libgos in turn, as in a bisect, and programs between them; the disk holds two of these and one of those."""
    monkeypatch.setattr(exchange, "SIZE", exchange._RESERVE + 7_000_000)
    monkeypatch.setattr(fresh, "_KEPT", 3_000_000)
    image = tmp_path / fresh.EXCHANGE
    image.touch()
    mount = f"debugfs -R 'rdump / {{folder}}' {image} 2>/dev/null # {{device}}"
    changes = {"folder": str(tmp_path / "guest"), "data_disk": conf.DataDisk(mount=mount, unmount="rm -rf {folder}")}
    machine = SimpleNamespace(
        guest=conf.load().guest("linux-i386").model_copy(update=changes), folder=tmp_path, name="here", check=print
    )

    def run(command, *_, **__):
        done = subprocess.run(["sh", "-c", command], capture_output=True, check=False)
        return done.returncode, done.stdout, done.stderr

    def random(name, size):
        (tmp_path / name).write_bytes(os.urandom(size))
        return tmp_path / name

    told = []
    guest = fresh.Guest(machine, lambda: None, SimpleNamespace(run=run), None, str(agent_program), told.append)
    libgos = {str(tmp_path / "guest" / f"libgo-{number}"): random(f"libgo-{number}", 3_000_000) for number in range(3)}
    program = random("program", 700_000)
    for target, libgo in [*libgos.items(), *libgos.items()]:
        guest.put(libgo, target)
        place = guest.ship(None, program, str(tmp_path / "guest" / "bin" / "program"))
        assert whole({target: libgo, place: program})
    assert not told


def test_a_file_that_cannot_be_read_is_told(guest, files):
    disk, run, _, _ = guest
    next(iter(files.values())).unlink()
    with pytest.raises(OSError, match="No such file"):
        disk.bring(run, files, {})
