"""A user's files and commands in a guest. A shell of this machine stands in for the guest's, and runs the same."""

import io
import os
import tarfile

import pytest

from harness.errors import GuestError, HarnessError
from harness.guest.transfer import Transfer, ssh_command, unpack

SSH = '#!/bin/sh\nfor last; do :; done\ncd "${0%/*}/guest" || exit\nexec sh -c "$last"\n'


@pytest.fixture
def guest(tmp_path):
    """The way into a folder that stands in for a guest's login folder; what was noted."""
    (tmp_path / "guest").mkdir()
    ssh = tmp_path / "ssh"
    ssh.write_text(SSH)
    ssh.chmod(0o755)
    notes = []
    transfer = Transfer("g", [str(ssh), "root@guest"], notes.append)
    transfer.notes = notes
    return transfer


@pytest.fixture
def here(tmp_path):
    folder = tmp_path / "here"
    folder.mkdir()
    return folder


def test_a_file_goes_in_and_comes_out(guest, here, tmp_path):
    data = os.urandom(3 << 20)
    (here / "it's").write_bytes(data)
    (here / "it's").chmod(0o750)
    guest.put(here / "it's", "")
    guest.put(here / "it's", "new name")
    assert (tmp_path / "guest/it's").read_bytes() == data
    assert (tmp_path / "guest/new name").stat().st_mode & 0o777 == 0o750
    (here / "back").write_text("older")
    guest.get("it's", here / "back")
    assert (here / "back").read_bytes() == data and os.access(here / "back", os.X_OK)
    assert {path.name for path in here.iterdir()} == {"it's", "back"}


def test_a_folder_goes_in_and_comes_out(guest, here, tmp_path):
    (here / "it's in/sub/empty").mkdir(parents=True)
    (here / "it's in/sub/file").write_text("x" * 100_000)
    (here / "it's in/link").symlink_to("/etc/passwd")
    (here / "it's in/twin").hardlink_to(here / "it's in/sub/file")
    guest.put(here / "it's in", "")
    guest.get("it's in", here / "out")
    assert (here / "out/sub/file").read_text() == (here / "out/twin").read_text() == "x" * 100_000
    assert (here / "out/sub/empty").is_dir() and os.readlink(here / "out/link") == "/etc/passwd"
    with pytest.raises(HarnessError, match="it's in is there already"):
        guest.put(here / "it's in", "")
    with pytest.raises(HarnessError, match="out is there already"):
        guest.get("it's in", here / "out")
    assert {path.name for path in here.iterdir()} == {"it's in", "out"}
    assert [path.name for path in (tmp_path / "guest").iterdir()] == ["it's in"]


def test_what_is_not_there_or_cannot_be_written_leaves_nothing(guest, here, tmp_path):
    (here / "file").write_bytes(b"x" * 3_000_000)
    (tmp_path / "guest/file").touch()
    os.mkfifo(here / "pipe")
    for action, message in (
        (lambda: guest.get("file", here / "pipe"), "pipe is there already, and is no file"),
        (lambda: guest.get("none", here / "new"), "guest g: --get none: there is no such file"),
        (lambda: guest.get("/dev/zero", here / "new"), "--get /dev/zero: is neither a file nor a folder"),
        (lambda: guest.put(here / "file", "no/where"), "guest g: --put .*file: .*no/where"),
        (lambda: guest.put(here / "none", ""), "none: No such file"),
    ):
        with pytest.raises(HarnessError, match=message) as caught:
            action()
        assert "\n" not in str(caught.value)
    assert {path.name for path in here.iterdir()} == {"file", "pipe"}
    assert [path.name for path in (tmp_path / "guest").iterdir()] == ["file"]


def test_a_connection_that_breaks_leaves_nothing(guest, here, tmp_path):
    """ssh ends with 255 then. Half of a file has come, and half of a folder."""
    ssh = tmp_path / "ssh"
    (tmp_path / "guest/folder").mkdir()
    for name in ("file", "folder/file"):
        (tmp_path / "guest" / name).write_bytes(os.urandom(1 << 20))
    ssh.write_text(
        SSH.replace('exec sh -c "$last"', 'sh -c "$last" | head -c 500000; case $last in *if*) ;; *) exit 255; esac')
    )
    for name in ("file", "folder"):
        with pytest.raises(GuestError):
            guest.get(name, here / "new")
    ssh.write_text(SSH.replace('exec sh -c "$last"', 'head -c 5000 | sh -c "$last"'))
    (here / "file").write_bytes(b"x" * 3_000_000)
    with pytest.raises(HarnessError):
        guest.put(here / "file", "file")
    assert (tmp_path / "guest/file").stat().st_size == 1 << 20, "what was there stays"
    assert [path.name for path in here.iterdir()] == ["file"]


def test_a_command_gives_its_exit_status(guest, capfd):
    assert guest.run("echo hi; exit 7", terminal=False) == 7
    assert guest.run("kill -9 $$", terminal=False) in (137, -9)
    assert guest.run("sh -c 'kill -9 $$'", terminal=False) == 137
    assert capfd.readouterr().out == "hi\n"


def member(name, kind=tarfile.REGTYPE, target="", data=b"bad"):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    info.size = len(data) if kind == tarfile.REGTYPE else 0
    return info, io.BytesIO(data)


@pytest.mark.parametrize(
    "members",
    [
        [member("../out")],
        [member("/tmp/../{out}")],
        [member("a", tarfile.SYMTYPE, ".."), member("a/out")],
        [member("a", tarfile.SYMTYPE, ".."), member("a/out", tarfile.SYMTYPE, "/etc/passwd")],
        [member("a", tarfile.SYMTYPE, "b"), member("b", tarfile.SYMTYPE, ".."), member("a/out", tarfile.SYMTYPE, "x")],
        [member("a", tarfile.SYMTYPE, ".."), member("h", tarfile.LNKTYPE, "a/secret")],
        [member("h", tarfile.LNKTYPE, "../secret")],
        [member("out", tarfile.CHRTYPE), member("fifo", tarfile.FIFOTYPE)],
    ],
)
def test_a_hostile_archive_writes_nothing_outside(tmp_path, members):
    (tmp_path / "secret").write_text("secret")
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for info, data in members:
            tar.addfile(info, data)
        tar.addfile(*member("good", data=b"good"))
    archive.seek(0)
    folder = tmp_path / "folder"
    folder.mkdir()
    with tarfile.open(fileobj=archive, mode="r|") as tar:
        try:
            unpack(tar, folder)
            assert (folder / "good").read_bytes() == b"good"
        except OSError:
            pass  # a link in the place of a folder: the copy fails as a whole
    assert {path.name for path in tmp_path.iterdir()} == {"secret", "folder"}
    assert (tmp_path / "secret").stat().st_nlink == 1
    assert not (folder / "fifo").exists()


def test_the_login_reads_no_file_of_the_users_and_pins_the_host_key(tmp_path):
    command = ssh_command(22, "root", tmp_path / "key", "ssh-ed25519 AAAA")
    assert command[:3] == ["ssh", "-F", "none"] and "StrictHostKeyChecking=yes" in command
    assert "KnownHostsCommand=/bin/echo [127.0.0.1]:22 ssh-ed25519 AAAA" in command
    assert "StrictHostKeyChecking=no" in ssh_command(22, "root", tmp_path / "key", None)
