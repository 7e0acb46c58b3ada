"""How a saved memory is kept: the choice, and what zstd makes of a file. A real guest is restored in test_pool.py."""

import os
import shutil
import time

import pytest

from harness import host
from harness.errors import GuestError
from harness.guest import saved_memory
from harness.guest.saved_memory import Expansion, Figures, Memory

MB = 1e6
needs_zstd = pytest.mark.skipif(not shutil.which("zstd"), reason="zstd is not installed")


@pytest.mark.parametrize(
    ("read", "ratio", "expand", "worth"),
    [
        (3000, 2.3, 900, False),  # an NVMe disk: expanding is slower
        (500, 2.3, 900, True),  # a SATA disk, and a quick processor
        (500, 2.3, 600, False),  # it gains a little, for twice the work
        (100, 2.3, 180, True),  # a hard disk, and a slow processor
        (100, 1.4, 900, False),  # memory that is noise
        (20, 1.0, 2000, False),
        (0.5, 2.3, 900, True),
    ],
)
def test_what_is_worth_compressing(read, ratio, expand, worth):
    figures = Figures(read=read * MB, ratio=ratio, expand=expand * MB)
    assert figures.worth_compressing is worth
    assert str(figures).startswith(f"its disk gives {read:.0f} MB/s, and ")


def test_what_is_stored_is_read_again():
    kept = Memory(form="zstd", figures=Figures(read=1, ratio=2, expand=3))
    assert Memory.model_validate_json(kept.model_dump_json()) == kept
    assert Memory().form == "stream"


@pytest.fixture
def packed(tmp_path):
    """A compressed file, and what it was."""
    file = tmp_path / "memory"
    content = b"".join(os.urandom(8) + bytes(8) for _ in range(1 << 17))
    file.write_bytes(content)
    assert saved_memory.compress(file)
    assert list(tmp_path.iterdir()) == [file] and file.stat().st_size < 0.7 * len(content)
    return file, content


def expand(file):
    """What comes out of a file, and what went wrong."""
    expansion = Expansion(file)
    with os.fdopen(expansion.pipe, "rb") as pipe:
        content = pipe.read()
    failure = expansion.failure()
    expansion.stop()
    return content, failure


@needs_zstd
def test_a_compressed_file_comes_out_whole(packed):
    file, content = packed
    assert expand(file) == (content, "")


@needs_zstd
@pytest.mark.parametrize("damage", ["a byte", "cut off", "no zstd file"])
def test_a_damaged_file_is_told(packed, damage):
    file, content = packed
    bad = bytearray(file.read_bytes())
    if damage == "a byte":
        bad[len(bad) // 2] ^= 1
    file.write_bytes({"a byte": bytes(bad), "cut off": bad[:-100], "no zstd file": content}[damage])
    failure = expand(file)[1]
    assert failure.startswith("its memory cannot be expanded: ") and "ended with status" not in failure


@needs_zstd
def test_it_ends_when_nobody_reads_any_more(packed):
    file, _ = packed
    expansion = Expansion(file)
    assert "pos:" in expansion.position()
    os.close(expansion.pipe)
    deadline = time.monotonic() + 60
    while expansion.position() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert expansion.failure() == ""
    expansion.wait()
    expansion.stop()


@needs_zstd
def test_what_is_measured_is_not_a_hole(tmp_path):
    file = tmp_path / "memory"
    with file.open("wb") as out:
        out.truncate(64 << 20)
        out.seek(40 << 20)
        out.write(os.urandom(1 << 20))
    assert 0.95 < saved_memory.measure(file).ratio < 1.05
    stands_in = saved_memory.measure_disk(tmp_path)
    assert 1.8 < stands_in.ratio < 2.5 and stands_in.read > 0 and stands_in.expand > 0
    assert list(tmp_path.iterdir()) == [file]


def test_what_cannot_be_measured_or_compressed_stays_as_it_is(tmp_path, monkeypatch, caplog):
    file = tmp_path / "memory"
    assert saved_memory.measure(file) is None and "No such file" in caplog.text
    file.touch()
    assert saved_memory.measure(file) is None
    file.write_bytes(b"memory")
    monkeypatch.setattr(host, "find", lambda name: "false")
    assert saved_memory.measure(file) is None and saved_memory.measure_disk(tmp_path) is None
    assert not saved_memory.compress(file) and file.read_bytes() == b"memory"
    monkeypatch.setattr(host, "find", lambda name: None)
    assert saved_memory.measure(file) is None and not saved_memory.compress(file)
    with pytest.raises(GuestError, match=r"is compressed, and zstd is not installed \(Debian package zstd\)"):
        Expansion(file)
    assert list(tmp_path.iterdir()) == [file] and file.read_bytes() == b"memory"


@needs_zstd
def test_a_file_that_is_gone_is_told(tmp_path):
    with pytest.raises(GuestError, match="memory: No such file or directory"):
        Expansion(tmp_path / "memory")
