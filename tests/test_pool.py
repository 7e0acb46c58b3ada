"""Saved machines, for real: a restore goes on where the saved guest was; what fails ends in a guest all the same.

The guest is the control; its saved machines lie in a cache of the test's own.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from harness import conf
from harness.cache import Cache
from harness.errors import GuestError
from harness.guest import boot
from harness.guest.machine import Machine
from harness.guest.pool import _KEEPER, _PROOF, KEPT, KEPT_IN_ALL, RESTORES, Pool

NAME = "linux-i386"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return Cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def guest_of(tmp_path, cache):
    """A pool, what it said and complained of, and a way to get a guest of it in a folder of its own."""
    configuration = conf.load()
    files = boot.files(NAME, configuration, lambda text: None)
    machines = []

    def get(contents, **changes):
        said, trouble = [], []
        guest = configuration.guest(NAME).model_copy(update=changes)
        pool = Pool(NAME, guest, files, contents, cache, trouble.append)
        got = pool.fresh(tmp_path / str(len(machines)), said.append)
        machines.append(got.machine)
        return got, said, trouble

    yield get
    for machine in machines:
        machine.stop()


def ask(guest, command):
    return guest.shell.run(command)[1].decode().strip()


def test_a_fresh_guest_goes_on_where_another_was_saved(guest_of, write, cache):
    one, two = write("one", "1"), write("two", "2")
    first, said, trouble = guest_of({"/tmp/harness/one": one})
    assert said == ["booting", "receiving one, 0.0 MB", "saving", "restoring"] and not trouble
    assert ask(first, "cat /tmp/harness/one; rm /tmp/harness/one") == "1"
    up = float(ask(first, "cut -d' ' -f1 /proc/uptime"))
    second, said, _ = guest_of({"/tmp/harness/one": one})
    assert said == ["restoring"]
    assert ask(second, "cat /tmp/harness/one") == "1", "what one guest does reaches no other"
    assert float(ask(second, "cut -d' ' -f1 /proc/uptime")) < up + 5
    assert abs(int(ask(second, "date +%s")) - time.time()) < 5, "its clock is set"
    third, said, _ = guest_of({"/tmp/harness/one": one, "/tmp/harness/two": two})
    assert said == ["restoring", "receiving two, 0.0 MB", "saving", "restoring"]
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
    Pool(NAME, conf.load().guest(NAME), None, {}, cache, print)._prune("own", cache.path("machines", "0"))
    kept = {int(path.name) for path in (tmp_path / "machines").iterdir()}
    assert kept == {0, *(number for number in range(5, KEPT_IN_ALL + 5) if number % 4 or number >= 4 * KEPT)}


def saved(cache, contents):
    (folder,) = [
        path.parent
        for path in (cache.root / "machines").glob("*/saved.json")
        if json.loads(path.read_text())["contents"] == list(contents)
    ]
    return folder


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
    got, said, trouble = guest_of(contents)
    assert said == ["restoring"] * RESTORES + ["booting", f"receiving {damage}, 0.0 MB"]
    assert len(trouble) == RESTORES and "guests are booted from now on" in trouble[-1]
    assert ask(got, f"cat {target}") == "1"
    assert not spoilt.exists(), "another one is saved the next time"


def test_what_keeps_the_word_answers_from_the_moment_it_is_saved(tmp_path):
    file = shlex.quote(str(tmp_path / 'it\'s a "$word"'))
    for number in range(30):
        start = ["sh", "-c", _KEEPER.format(file=file)]
        said = {"input": f"{number}\n", "capture_output": True, "text": True, "start_new_session": True}
        keeper = int(subprocess.run(start, check=True, **said).stdout)
        ask = _PROOF.format(file=file, clock="", keeper=keeper)
        done = subprocess.run(["sh", "-c", ask], capture_output=True, text=True, check=False)
        os.killpg(os.getpgid(keeper), signal.SIGKILL)  # with its sleep
        assert done.stdout == f"{number}\n"
    gone = subprocess.run(["sh", "-c", ask], capture_output=True, text=True, check=False)
    assert gone.returncode and not gone.stdout, "nobody waits for one that is gone"


def test_a_saved_machine_that_is_cut_off_is_made_again(guest_of, write, cache):
    contents = {"/tmp/harness/cut": write("one", "1")}
    guest_of(contents)
    memory = saved(cache, contents) / "memory"
    memory.write_bytes(memory.read_bytes()[:-1])
    _, said, trouble = guest_of(contents)
    assert "saving" in said and not trouble


def test_saved_machines_may_be_removed_while_their_guests_run(guest_of, write, cache, monkeypatch):
    contents = {"/tmp/harness/kept": write("one", "1")}
    first, _, _ = guest_of(contents)
    shutil.rmtree(cache.root / "machines")
    assert ask(first, "sync; echo 3 >/proc/sys/vm/drop_caches; cat /tmp/harness/kept") == "1"
    whole = Pool._saved
    removed = []

    def just_now(*arguments):
        """As whole, but when it is first called another run removes the folder before it is used."""
        folder = whole(*arguments)
        if not removed:
            removed.append(shutil.rmtree(folder))
        return folder

    monkeypatch.setattr(Pool, "_saved", just_now)
    second, said, trouble = guest_of(contents)
    assert said.count("saving") == 2 and not trouble, "another's tidying is no failure"
    assert ask(second, "cat /tmp/harness/kept") == "1"


def test_a_saved_machine_that_is_half_removed_ends_in_a_boot(guest_of, write, cache, monkeypatch):
    contents = {"/tmp/harness/half": write("one", "1")}
    guest_of(contents)
    whole = Pool._saved

    def just_now(*arguments):
        """As whole, but somebody removes a file of the folder before it is used."""
        folder = whole(*arguments)
        (folder / "saved.json").unlink(missing_ok=True)
        return folder

    monkeypatch.setattr(Pool, "_saved", just_now)
    got, said, trouble = guest_of(contents)
    assert said[:-1] == ["restoring"] * RESTORES + ["booting"] and len(trouble) == RESTORES
    assert ask(got, "cat /tmp/harness/half") == "1"


def test_a_saved_machine_does_not_need_the_one_it_was_made_from(guest_of, write, cache):
    less = {"/tmp/harness/less": write("one", "1")}
    more = less | {"/tmp/harness/more": write("two", "2")}
    guest_of(less)
    guest_of(more)
    shutil.rmtree(saved(cache, less))
    got, said, trouble = guest_of(more)
    assert said == ["restoring"] and not trouble
    assert ask(got, "cat /tmp/harness/less /tmp/harness/more") == "12"


def test_a_machine_saved_by_another_qemu_is_another(tmp_path, write):
    configuration = conf.load()
    files = boot.files(NAME, configuration, lambda text: None)
    guest = configuration.guest(NAME).model_copy(update={"qemu": str(write("qemu", "#!/bin/sh\n"))})
    (tmp_path / "qemu").chmod(0o755)
    before = Machine(NAME, guest, files, tmp_path / "m").identity
    assert Machine(NAME, guest, files, tmp_path / "n").identity == before
    (tmp_path / "qemu").write_text("#!/bin/sh\n# another version\n")
    assert Machine(NAME, guest, files, tmp_path / "m").identity != before


def test_a_guest_that_cannot_be_saved_is_booted(guest_of):
    got, said, trouble = guest_of({}, qemu_args=["-device", "nvme,serial=1"])  # a device that QEMU cannot save
    assert said == ["booting", "saving", "booting"]
    assert len(trouble) == 1 and "guests are booted instead" in trouble[0]
    assert ask(got, "uname -s") == "Linux"


def test_a_guest_that_does_not_boot_says_so_once(guest_of):
    ready = conf.load().guest(NAME).ready.model_copy(update={"timeout": 1.0})
    with pytest.raises(GuestError, match="not ready within 1 s"):
        guest_of({}, ready=ready, memory=500)


def test_a_machine_is_gone_when_it_was_saved(tmp_path):
    configuration = conf.load()
    machine = Machine(
        NAME, configuration.guest(NAME), boot.files(NAME, configuration, lambda text: None), tmp_path / "m"
    )
    (tmp_path / "saved").mkdir()
    machine.start()
    saved = machine.save(tmp_path / "saved")
    assert not machine.alive()
    assert saved.memory.stat().st_size > 1 << 20 and saved.disk.is_file()
    assert not Path(tmp_path / "m" / "overlay.qcow2").exists()


def test_a_monitor_that_broke_off_is_the_guest_s_trouble(tmp_path):
    configuration = conf.load()
    machine = Machine(
        NAME, configuration.guest(NAME), boot.files(NAME, configuration, lambda text: None), tmp_path / "m", tmp_path
    )
    machine.start()
    shell = machine._process.pid
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
