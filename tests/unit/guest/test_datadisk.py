"""The data disk: the file system is read by others' tools here, and by a real guest in test_pool.py."""

import os
import subprocess
from pathlib import Path

import pytest

from harness.errors import ImageError
from harness.guest import datadisk
from harness.host import which

MIB = 1 << 20


def tool(name, *words):
    return subprocess.run([which(name), *map(str, words)], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def umask():
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.parametrize(("creator", "name"), [("hurd", "Hurd"), ("linux", "Linux")])
def test_another_tool_reads_what_was_put_there(tmp_path, creator, name, umask):
    sizes = {"empty": 0, "byte": 1, "block": 4096, "indirect": 48 * 1024 + 1, "twice-indirect": 5 * MIB + 7}
    files = {}
    for number, (word, size) in enumerate(sizes.items()):
        source = tmp_path / word
        source.write_bytes(os.urandom(size))
        files[f"/tmp/harness/lib/{number}/{word}"] = source
    image = tmp_path / "data.img"
    image.write_bytes(b"\1" * 20 * MIB)  # what lay there before
    datadisk.make(files, image, creator)
    head = dict(line.split(":", 1) for line in tool("dumpe2fs", "-h", image).splitlines() if ":" in line)
    assert head["Filesystem OS type"].strip() == name
    assert head["Block size"].strip() == "4096", "the Hurd reads no other"
    tool("e2fsck", "-fn", image)
    for path, source in files.items():
        copy = tmp_path / "copy"
        tool("debugfs", "-R", f"dump {path} {copy}", image)
        assert copy.read_bytes() == source.read_bytes()
        assert "Mode:  0755" in tool("debugfs", "-R", f"stat {path}", image)
    assert "Mode:  0755" in tool("debugfs", "-R", "stat /tmp/harness/lib", image)
    assert image.stat().st_size < sum(sizes.values()) + 8 * MIB
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*sizes, "copy", "data.img"]), "nothing is left"


@pytest.mark.parametrize("count", [0, 1, 400])
def test_there_is_room_for_many_small_files(tmp_path, count):
    (tmp_path / "small").write_text("x")
    files = {f"/a/{number}/{number % 7}/small": tmp_path / "small" for number in range(count)}
    datadisk.make(files, tmp_path / "data.img", "hurd")
    tool("e2fsck", "-fn", tmp_path / "data.img")


def test_what_does_not_fit_is_told_before_it_is_copied(tmp_path):
    with (tmp_path / "large").open("wb") as file:
        file.truncate(datadisk.SIZE)
    with pytest.raises(ImageError, match=r"its files take \d+ MiB, and it has 2047"):
        datadisk.make({"/large": tmp_path / "large"}, tmp_path / "data.img", "linux")
    assert not Path(tmp_path / "data.img").exists()


def test_what_mke2fs_says_is_passed_on(tmp_path):
    with pytest.raises(ImageError, match=r"the data disk: mke2fs failed: .*plan9"):
        datadisk.make({}, tmp_path / "data.img", "plan9")
