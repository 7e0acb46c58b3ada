"""Disk images: unpacking, partition tables, and files in an ext2 file system."""

from __future__ import annotations

import contextlib
import io
import os
import random
import shutil
import struct
import subprocess
import tarfile
import tracemalloc
import uuid
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ImageError
from harness.images import disk
from harness.images.disk import FileSystem, Partition

MIB = 1 << 20
needs_ext2 = pytest.mark.skipif(
    not shutil.which("mke2fs", path="/usr/sbin:/sbin:/usr/bin"), reason="e2fsprogs is not installed"
)


def table(*entries: tuple[int, int, int]) -> bytes:
    """A sector with a partition table of (type, first sector, sectors)."""
    rows = b"".join(struct.pack("<4xB3xII", *entry) for entry in entries)
    return bytes(446) + rows.ljust(64, b"\0") + b"\x55\xaa"


def say_nothing(_: str) -> None:
    """Progress that nobody wants."""


# Unpacking


def pack(path: Path, *members: tuple[str | tarfile.TarInfo, bytes], mode: str = "w:xz") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for member, data in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def special(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


DATA = b"start".ljust(5 * MIB, b"\0") + b"middle" + bytes(5 * MIB)


@pytest.mark.parametrize("mode", ["w:xz", "w:gz", "w:bz2"])
@pytest.mark.parametrize("name", ["debian-hurd-20250807.img", "./x.img"])
def test_an_archive_is_unpacked_without_its_holes(tmp_path: Path, mode: str, name: str) -> None:
    source, messages = pack(tmp_path / "x", (name, DATA), mode=mode), list[str]()
    disk.unpack(source, tmp_path / "out", 20 * MIB, messages.append)
    assert (tmp_path / "out").read_bytes() == DATA
    assert (tmp_path / "out").stat().st_blocks * 512 < MIB
    assert messages[-1].startswith("unpacking x: ")


def test_an_image_itself_is_copied_without_its_holes(tmp_path: Path) -> None:
    (tmp_path / "x.img").write_bytes(DATA)
    disk.unpack(tmp_path / "x.img", tmp_path / "out", 20 * MIB, say_nothing)
    assert (tmp_path / "out").read_bytes() == DATA
    assert (tmp_path / "out").stat().st_blocks * 512 < MIB


@pytest.mark.parametrize("form", ["gnu", "posix"])
def test_an_archive_that_stores_holes(tmp_path: Path, form: str) -> None:
    with (tmp_path / "x.img").open("wb") as file:
        file.write(b"start")
        file.seek(100 * MIB)
        file.write(b"end")
    subprocess.run(["tar", "-cJSf", "x.tar.xz", f"--format={form}", "x.img"], cwd=tmp_path, check=True)
    disk.unpack(tmp_path / "x.tar.xz", tmp_path / "out", 101 * MIB, say_nothing)
    assert subprocess.run(["cmp", "x.img", "out"], cwd=tmp_path, check=False).returncode == 0
    assert (tmp_path / "out").stat().st_blocks * 512 < MIB


def test_zeros_are_not_held_in_memory(tmp_path: Path) -> None:
    """A few kB expand to many MB of zeros. Held in memory, they would be copied at each read, for hours."""
    with (tmp_path / "x.img").open("wb") as file:
        file.truncate(256 * MIB)
    subprocess.run(["tar", "-cJf", "x.tar.xz", "x.img"], cwd=tmp_path, env={**os.environ, "XZ_OPT": "-1"}, check=True)
    lines = list[str]()
    tracemalloc.start()
    disk.unpack(tmp_path / "x.tar.xz", tmp_path / "out", 256 * MIB, lines.append)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 16 * MIB
    assert (tmp_path / "out").stat().st_size == 256 * MIB
    assert lines[-1] == "unpacking x.tar.xz: 268 of 268 MB", "progress counts what comes out"


@pytest.mark.parametrize(
    "members",
    [
        [],
        [("readme", b"x")],
        [("x.img", b"x"), ("y.img", b"y")],
        [("../x.img", b"x")],
        [("/x.img", b"x")],
        [("a/x.img", b"x")],
        [(special("x.img", tarfile.SYMTYPE, "/etc/passwd"), b"")],
        [(special("x.img", tarfile.LNKTYPE, "/etc/passwd"), b"")],
        [(special("x.img", tarfile.CHRTYPE), b"")],
        [(special("x.img", tarfile.DIRTYPE), b"")],
        [(special("x.img", tarfile.FIFOTYPE), b"")],
    ],
)
def test_an_archive_of_anything_else_is_refused(tmp_path: Path, members: list[tuple[str, bytes]]) -> None:
    source = pack(tmp_path / "x.tar.xz", *members)
    with pytest.raises(ImageError, match=r"x\.tar\.xz: (?:holds|contains) "):
        disk.unpack(source, tmp_path / "out", MIB, say_nothing)
    assert not (tmp_path.parent / "x.img").exists()


def test_a_bomb_is_refused_before_it_goes_off(tmp_path: Path) -> None:
    source = pack(tmp_path / "x.tar.xz", ("x.img", bytes(64 * MIB)))
    with pytest.raises(ImageError, match=r"its image has 64 MiB, more than the 63 that it may have"):
        disk.unpack(source, tmp_path / "out", 63 * MIB, say_nothing)
    assert (tmp_path / "out").stat().st_size == 0


@given(st.data())
def test_a_damaged_archive_is_said(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    whole = pack(folder / "x.tar.xz", ("x.img", random.Random(0).randbytes(50_000))).read_bytes()
    cut = data.draw(st.integers(6, len(whole) - 200))
    (folder / "x.tar.xz").write_bytes(whole[:cut] + (b"" if data.draw(st.booleans()) else bytes(len(whole) - cut)))
    with pytest.raises(ImageError, match=r"x\.tar\.xz: "):
        disk.unpack(folder / "x.tar.xz", folder / "out", MIB, say_nothing)


@pytest.mark.skipif(not os.access("/dev/full", os.W_OK), reason="/dev/full may not be written here")
def test_a_missing_file_and_a_full_disk_are_said(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"nowhere\.img: cannot be unpacked: No such file"):
        disk.unpack(tmp_path / "nowhere.img", tmp_path / "out", MIB, say_nothing)
    (tmp_path / "x.img").write_bytes(os.urandom(MIB))
    with pytest.raises(ImageError, match=r"x\.img: cannot be unpacked: No space left"):
        disk.unpack(tmp_path / "x.img", Path("/dev/full"), MIB, say_nothing)
    with pytest.raises(ImageError, match=r"x\.img: has 1 MiB, more than the 0 "):
        disk.unpack(tmp_path / "x.img", tmp_path / "out", MIB - 1, say_nothing)


# Partitions


def test_primary_partitions(tmp_path: Path) -> None:
    image = tmp_path / "x.img"
    image.write_bytes(table((0x82, 8, 8), (0, 0, 0), (0x83, 16, 8), (0x83, 24, 8)).ljust(32 * 512, b"\0"))
    assert disk.partitions(image)[0] == Partition(0x82, 4096, 4096)
    assert disk.last_of_kind(image, [0xA5, 0x83]) == Partition(0x83, 24 * 512, 4096)
    assert disk.last_of_kind(image, [0x82, 0x83]).kind == 0x82, "the first type counts most"
    with pytest.raises(ImageError, match="no partition of type 0xa5 or 0xa6; it has 0x82, 0x83, 0x83"):
        disk.last_of_kind(image, [0xA5, 0xA6])


LINUX = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
SWAP = uuid.UUID("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f")


def gpt(*entries: tuple[uuid.UUID, int, int], size: int = 128) -> bytearray:
    """The first sectors of a disk with a GPT of (type, first sector, last sector)."""
    rows = b"".join(
        struct.pack("<16s16sQQ", kind.bytes_le, bytes(range(16)), *ends).ljust(size, b"\0") for kind, *ends in entries
    ).ljust(8 * size, b"\0")
    fields = (1, 99, 34, 90, bytes(16), 2, 8, size, zlib.crc32(rows))
    header = struct.pack("<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, 0, 0, *fields)
    header = header[:16] + struct.pack("<I", zlib.crc32(header)) + header[20:]
    return bytearray(table((0xEE, 1, 99)) + header.ljust(512, b"\0") + rows.ljust(98 * 512, b"\0"))


@pytest.mark.parametrize("size", [128, 256])
def test_a_gpt(tmp_path: Path, size: int) -> None:
    (tmp_path / "x.img").write_bytes(gpt((SWAP, 34, 41), (LINUX, 42, 49), (LINUX, 50, 57), size=size))
    assert disk.partitions(tmp_path / "x.img")[0] == Partition(SWAP, 34 * 512, 8 * 512)
    assert disk.last_of_kind(tmp_path / "x.img", [0x83, LINUX]) == Partition(LINUX, 50 * 512, 8 * 512)
    with pytest.raises(ImageError, match=f"no partition of type 0x83; it has {SWAP}, {LINUX}"):
        disk.last_of_kind(tmp_path / "x.img", [0x83])


@pytest.mark.skipif(not shutil.which("sfdisk", path="/usr/sbin:/sbin"), reason="sfdisk (Debian: fdisk) is missing")
@pytest.mark.parametrize("label", ["gpt", "dos"])
def test_a_table_that_another_program_wrote(tmp_path: Path, label: str) -> None:
    image, types = tmp_path / "x.img", {"gpt": (str(SWAP), str(LINUX)), "dos": ("82", "83")}[label]
    with image.open("wb") as file:
        file.truncate(8 * MIB)
    rows = f"label: {label}\nstart=2048, size=2048, type={types[0]}\nstart=4096, size=4096, type={types[1]}\n"
    command = ["sfdisk", "-q", image]
    subprocess.run(command, input=rows, text=True, env={"PATH": "/usr/sbin:/sbin"}, check=True, capture_output=True)
    assert disk.last_of_kind(image, [0x83, LINUX]).offset == 2 * MIB


@pytest.mark.parametrize(
    ("at", "data", "words"),
    [
        (512, b"X", "says that it has a GPT, and there is none"),
        (512 + 80, b"\xff\xff", r"\(GPT\) is damaged"),
        (512 + 12, b"\xff\xff", r"\(GPT\) is damaged"),
        (1024 + 32, b"\x07", r"\(GPT\) is damaged"),
    ],
)
def test_a_damaged_gpt_is_said(tmp_path: Path, at: int, data: bytes, words: str) -> None:
    image = gpt((LINUX, 42, 49))
    image[at : at + len(data)] = data
    (tmp_path / "x.img").write_bytes(image)
    with pytest.raises(ImageError, match=words):
        disk.partitions(tmp_path / "x.img")
    (tmp_path / "x.img").write_bytes(image[:700])
    with pytest.raises(ImageError, match="GPT"):
        disk.partitions(tmp_path / "x.img")


@given(st.binary(max_size=600), st.integers(0, 2000))
def test_any_bytes_in_a_gpt_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes, at: int) -> None:
    image = gpt((LINUX, 42, 49))
    image[at : at + len(data)] = data
    path = tmp_path_factory.mktemp("gpt") / "x.img"
    path.write_bytes(image)
    with contextlib.suppress(ImageError):
        disk.partitions(path)


def test_logical_partitions_lie_where_their_own_tables_say(tmp_path: Path) -> None:
    image = bytearray(100 * 512)
    image[:512] = table((0x83, 1, 9), (0x05, 10, 90))
    image[10 * 512 : 11 * 512] = table((0x82, 2, 10), (0x05, 20, 70))
    image[30 * 512 : 31 * 512] = table((0x83, 3, 60))
    (tmp_path / "x.img").write_bytes(image)
    kinds = [
        (partition.kind, partition.offset // 512, partition.size // 512)
        for partition in disk.partitions(tmp_path / "x.img")
    ]
    assert kinds == [(0x83, 1, 9), (0x82, 12, 10), (0x83, 33, 60)]
    assert disk.last_of_kind(tmp_path / "x.img", [0x83]).offset == 33 * 512


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no partition table"),
        (b"short", "no partition table"),
        (bytes(4096), "no partition table"),
        (table(), "no partition of type 0x83"),
        (table((0x83, 1, 8)), "cut short: 4096 bytes"),
        (table((0x05, 9, 8)), "no partition table"),
        (table((0x05, 1, 8)) + table((0x05, 0, 8)), "is a loop"),
        (table((0x05, 1, 8)) + table((0x83, 1, 1), (0x05, 1, 8)) + table((0x83, 1, 1), (0x05, 1, 8)), "is a loop"),
    ],
)
def test_a_wrong_partition_table_is_said(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "x.img").write_bytes(data)
    with pytest.raises(ImageError, match=words):
        disk.last_of_kind(tmp_path / "x.img", [0x83])


# Files


@pytest.fixture
def system(tmp_path: Path) -> FileSystem:
    """A file system of the Hurd's kind at 1 MiB of an image with a quote in its folder's name."""
    root, folder = tmp_path / "root", tmp_path / 'it\'s a "folder"'
    (root / "usr/bin").mkdir(parents=True)
    (root / "bin").symlink_to("usr/bin")
    (root / "usr/bin/sshd").write_bytes(b"\x7fELF\0\xff")
    (root / "usr/bin/ssh").symlink_to("../../bin/sshd")
    (root / "long").symlink_to("/" + "./" * 60 + "usr/bin/sshd")
    (root / "loop").symlink_to("loop")
    folder.mkdir()
    with (folder / "x.img").open("wb") as file:
        file.truncate(9 * MIB)
    command = ["mke2fs", "-q", "-t", "ext2", "-o", "hurd", "-d", root, "-E", f"offset={MIB}", folder / "x.img", "8M"]
    subprocess.run(command, env={"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"}, check=True, capture_output=True)
    return FileSystem(folder / "x.img", MIB)


def check(system: FileSystem) -> None:
    """Have e2fsck read the file system, which says nothing of one at an offset."""
    part = system.image.with_name("part.img")
    part.write_bytes(system.image.read_bytes()[MIB:])
    command = ["e2fsck", "-f", "-n", part]
    process = subprocess.run(
        command, env={"PATH": "/usr/sbin:/sbin:/usr/bin"}, check=False, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stdout


@needs_ext2
def test_what_is_there(system: FileSystem) -> None:
    paths = ["/usr/bin/sshd", "/usr", "/bin", "/nowhere", "/nowhere/x", "/usr/bin/sshd/x"]
    assert [system.kind(path) for path in paths] == ["regular", "directory", "symlink", None, None, None]
    assert system.resolve("/usr/bin/ssh") == "/usr/bin/sshd"
    assert system.resolve("/nowhere/x") == "/nowhere/x"
    for path in ("/usr/bin/sshd", "/bin/ssh", "/long"):
        assert system.read(path) == b"\x7fELF\0\xff"


@needs_ext2
@pytest.mark.parametrize("path", ["/nowhere", "/usr", "/usr/bin/nowhere"])
def test_what_cannot_be_read_is_said(system: FileSystem, path: str) -> None:
    with pytest.raises(ImageError, match=f"the image has no file {path}"):
        system.read(path)
    with pytest.raises(ImageError, match="/loop is a loop"):
        system.read("/loop")


@needs_ext2
def test_files_are_written_for_root_alone_and_the_file_system_stays_whole(system: FileSystem) -> None:
    system.write("/root/.ssh/authorized_keys", b"key\n", 0o600)
    system.write("/bin/ssh", os.urandom(700_000), 0o755)
    system.write("/bin/ssh", b"", 0o755)
    system.write("/a file", b'with "quotes"', 0o644)
    system.link("/servers", "usr")
    system.link("/servers", "bin")
    assert system.read("/a file") == b'with "quotes"'
    assert system.read("/usr/bin/sshd") == b"", "a link is followed"
    assert system.resolve("/servers") == "/usr/bin"
    for path, mode in (("/root", "0700"), ("/root/.ssh", "0700"), ("/root/.ssh/authorized_keys", "0600")):
        words = system.stat(path).split()
        assert words[words.index("Mode:") + 1] == mode
        assert words[words.index("User:") + 1] == words[words.index("Group:") + 1] == "0"
    check(system)


@needs_ext2
def test_a_full_file_system_is_said(system: FileSystem) -> None:
    with pytest.raises(ImageError, match=r"changing /big: .*allocate"):
        system.write("/big", os.urandom(10 * MIB), 0o644)
    check(system)


@needs_ext2
def test_another_file_system_is_said(tmp_path: Path) -> None:
    (tmp_path / "x.img").write_bytes(bytes(MIB))
    with pytest.raises(ImageError, match="partition at byte 512 holds no ext2 file system"):
        FileSystem(tmp_path / "x.img", 512)
