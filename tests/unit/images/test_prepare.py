"""Images of kind `download`: from a server on this machine to what a guest boots from.

The image is made here: a partition table, an ext2 file system of the Hurd's kind and the few files that matter, with
Debian's own GNU Mach as the kernel where it can be had. It is not Debian GNU/Hurd's image.
"""

from __future__ import annotations

import gzip
import hashlib
import http.server
import json
import re
import shutil
import stat
import struct
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tenacity
import yaml
from click.testing import CliRunner

from harness import conf, paths
from harness.cli.app import main
from harness.conf.read import read
from harness.errors import DownloadError, GuestError, HarnessError, ImageError, StoreError
from harness.guest import boot
from harness.guest.machine import Machine
from harness.images import debian, disk, download, image, prepare
from harness.images.bootfiles import find_boot_files
from tests import grubdisk

PATH = "/usr/sbin:/sbin:/usr/bin:/bin"
pytestmark = pytest.mark.skipif(
    not all(shutil.which(name, path=PATH) for name in ("mke2fs", "ssh-keygen")), reason="e2fsprogs or ssh is missing"
)
needs_qemu = pytest.mark.skipif(not shutil.which("qemu-system-i386"), reason="qemu-system-i386 is not installed")
needs_grub = pytest.mark.skipif(not grubdisk.available(), reason="GRUB (Debian: grub-pc-bin, grub-common) is missing")
DATA = paths.DATA
GRUB = (paths.DATA / "tests/data/grub/rumpdisk.cfg").read_text()
KERNEL = b"\x7fELF".ljust(4096, b"\0") + b"\x02\xb0\xad\x1b" + bytes(8192)
MIB = 1 << 20


def make_image(folder: Path, kernel: bytes = KERNEL, without: str = "", grub: str = GRUB) -> Path:
    """A disk image of a swap partition and a root file system, as the Hurd's installer lays it out."""
    root = folder / "root"
    files = {
        "boot/grub/grub.cfg": grub.encode(),
        "boot/gnumach-1.8-486.gz": gzip.compress(kernel),
        "etc/shadow": b"root::20000:0:99999:7:::\n",
        "etc/ssh/sshd_config": b"Include /etc/ssh/sshd_config.d/*.conf\nPasswordAuthentication yes\n",
        "hurd/acpi.static": b"acpi",
        "hurd/ext2fs.static": b"ext2fs",
        "hurd/pci-arbiter.static": gzip.compress(b"pci"),
        "hurd/rumpdisk.static": b"rumpdisk",
        "servers/crash-kill": b"",
        "usr/lib/ld-2.42.so": b"loader",
        "usr/sbin/sshd": b"sshd",
    }
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if name != without:
            (root / name).write_bytes(data)
    (root / "lib").symlink_to("usr/lib")
    (root / "usr/lib/ld.so.1").symlink_to("ld-2.42.so")
    (root / "servers/crash").symlink_to("crash-suspend")
    path = folder / "debian-hurd-20250807.img"
    with path.open("wb") as file:
        rows = struct.pack("<4xB3xII4xB3xII", 0x82, 2048, 2048, 0x83, 4096, 16 * 2048)
        file.write(bytes(446) + rows.ljust(64, b"\0") + b"\x55\xaa")
        file.truncate(18 * MIB)
    command = ["mke2fs", "-q", "-t", "ext2", "-o", "hurd", "-d", root, "-E", f"offset={2 * MIB}", path, "16M"]
    subprocess.run(command, env={"PATH": PATH}, check=True, capture_output=True)
    shutil.rmtree(root)
    return path


def say_nothing(_: str) -> None:
    """Progress that nobody wants."""


class Release:
    """A folder that is served, with a disk image in it and its SHA512SUMS.

    Attributes:
        asked: the paths that were asked for.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked = folder, list[str]()
        release = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_request(self, *_: object) -> None:
                release.asked.append(self.path.rpartition("/")[2])

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder))
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def publish(self, image_file: Path, name: str) -> str:
        """Pack an image and list it. Returns its SHA-512."""
        with tarfile.open(self.folder / name, "w:xz", preset=0) as archive:
            archive.add(image_file, image_file.name)
        digest = hashlib.sha512((self.folder / name).read_bytes()).hexdigest()
        with (self.folder / "SHA512SUMS").open("a") as sums:
            sums.write(f"{digest}  {name}\n")
        return digest


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Release]:
    """A release on a server, and a recipe `hurd` for it: the given one, with another folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(paths, "DATA", tmp_path)
    monkeypatch.setattr(download, "WAIT", tenacity.wait_none())
    for name in ("conf", "images"):
        shutil.copytree(DATA / name, tmp_path / name)
    (tmp_path / "release").mkdir()
    served = Release(tmp_path / "release")
    (tmp_path / "images/hurd").mkdir()
    recipe = {"base": "hurd-i386", "folder": served.url, "room_mib": 64, "keyring": None}
    (tmp_path / "images/hurd/recipe.yaml").write_text(yaml.safe_dump(recipe))
    yield served
    served.server.shutdown()


@pytest.fixture
def image_file(tmp_path: Path) -> Path:
    return make_image(tmp_path)


@pytest.fixture
def published(release: Release, image_file: Path) -> str:
    """The SHA-512 of the release's only file."""
    return release.publish(image_file, "debian-hurd-i386-20250807.img.tar.xz")


def file_system(built: image.Image) -> disk.FileSystem:
    return disk.FileSystem(built.folder / "root.img", built.manifest["partition"]["offset"])


def lock() -> Path:
    return prepare.lock_file(paths.cache_dir() / "downloads", "hurd")


def test_the_given_recipes_are_whole() -> None:
    for name, ending in (("hurd-i386", "13.0/hurd-i386/"), ("hurd-amd64", "13.0/hurd-amd64/"), ("hurd-i386-2023", "")):
        recipe_text, folders = image.read_recipe(name)
        recipe = prepare.recipes.check(prepare.Recipe, recipe_text, folders[0])
        assert recipe.folder.endswith(ending)
        assert conf.load().guest(recipe.guest).image in (name, "hurd-i386")
        for pattern in recipe.install.failures:
            re.compile(pattern)
    assert recipe_text["folder"] == read(DATA / "images/hurd-i386-2023/recipe.yaml")[0]["folder"]


def test_an_image_is_fetched_and_prepared(release: Release, published: str) -> None:
    lines: list[str] = []
    fetched = image.fetch("hurd", lines.append)
    name = "debian-hurd-i386-20250807.img.tar.xz"
    assert release.asked == ["SHA512SUMS", name]
    assert any(str(lock()) in line for line in lines), "where the sum is recorded is said"
    assert json.loads(lock().read_text())["sha512"] == published
    assert fetched.manifest["source"] == {"url": release.url + name, "sha512": published}
    image.verify(fetched)

    system, public_key = file_system(fetched), image.ssh_key().with_suffix(".pub").read_text()
    assert system.read("/root/.ssh/authorized_keys").decode() == public_key
    assert "Mode:  0600" in system.stat("/root/.ssh/authorized_keys")
    settings = system.read("/etc/ssh/sshd_config").decode()
    assert settings.index("\nPasswordAuthentication no\n") < settings.index("Include ")
    assert "\nPermitEmptyPasswords no\n" in settings
    host_key = fetched.folder.parent / "key"
    host_key.write_bytes(system.read("/etc/ssh/harness_host_key"))
    host_key.chmod(stat.S_IRUSR)
    output = subprocess.run(["ssh-keygen", "-y", "-f", host_key], capture_output=True, text=True, check=True).stdout
    assert output.split() == fetched.manifest["host_key"].split()
    assert system.resolve("/servers/crash") == "/servers/crash-kill"
    assert system.read("/boot/grub/grub.cfg").decode().count("console=com0") == 2

    part = fetched.folder.parent / "part"
    part.write_bytes((fetched.folder / "root.img").read_bytes()[2 * MIB :])
    checked = subprocess.run(["e2fsck", "-f", "-n", part], env={"PATH": PATH}, capture_output=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_a_guest_boots_what_its_image_brings_unless_it_says_otherwise(
    release: Release, published: str, tmp_path: Path
) -> None:
    (tmp_path / "my.yaml").write_text(
        "guests:\n  hurd-i386: {image: hurd}\n  mine: {image: hurd, toolchain: hurd-i386, signals: hurd, "
        "disk: {file: root.img, interface: ide}, kernel: ./mach, append: -x}\n"
    )
    (tmp_path / "mach").write_bytes(KERNEL)
    configuration = conf.load([tmp_path / "my.yaml"])
    files = find_boot_files("hurd-i386", configuration, say_nothing)
    assert files.kernel and files.kernel.read_bytes() == KERNEL
    assert files.append == "root=part:2:device:wd0 noide console=com0"
    assert [path.read_bytes() for path, _ in files.modules] == [b"pci", b"acpi", b"rumpdisk", b"ext2fs", b"loader"]
    assert [args.split()[0] for _, args in files.modules][::2] == [
        "--host-priv-port=${host-port}",
        "--next-task=${fs-task}",
        "/hurd/exec",
    ]
    assert files.disk and files.disk.name == "root.img"
    assert files.host_key and files.host_key.startswith("ssh-ed25519 ")
    mine = find_boot_files("mine", configuration, say_nothing)
    assert (mine.kernel, mine.append, mine.modules) == (tmp_path / "mach", "-x", files.modules)


def test_a_guest_whose_files_are_all_the_users_own_needs_no_image(release: Release, tmp_path: Path) -> None:
    for name in ("mine.img", "mach", "ext2fs", "key"):
        (tmp_path / name).write_bytes(KERNEL)
    (tmp_path / "my.yaml").write_text("guests: {hurd-i386: {image: hurd, disk: {file: ./mine.img}, ssh: {key: ./key}}}")
    files = find_boot_files("hurd-i386", conf.load([tmp_path / "my.yaml"]), say_nothing)
    assert (files.disk, files.kernel, files.modules) == (tmp_path / "mine.img", None, ())
    (tmp_path / "my.yaml").write_text(
        "guests: {hurd-i386: {image: hurd, disk: {file: ./mine.img}, ssh: {key: ./key}, kernel: ./mach, append: a,\n"
        "  modules: [{file: ./ext2fs, args: b}]}}"
    )
    files = find_boot_files("hurd-i386", conf.load([tmp_path / "my.yaml"]), say_nothing)
    assert (files.kernel, files.append, files.modules) == (tmp_path / "mach", "a", ((tmp_path / "ext2fs", "b"),))
    assert (files.ssh_key, files.host_key) == (tmp_path / "key", None)
    assert release.asked == []


def test_what_is_there_is_not_fetched_again(release: Release, published: str) -> None:
    fetched = image.fetch("hurd", say_nothing)
    release.server.shutdown()
    assert image.fetch("hurd", say_nothing) == image.build("hurd", say_nothing) == fetched
    assert image.fetch("hurd", say_nothing, sha512=published) == fetched
    assert image.build("hurd", say_nothing, force=True).manifest["host_key"] != fetched.manifest["host_key"]
    assert len(release.asked) == 2


def test_the_lock_file_is_enforced(release: Release, published: str, tmp_path: Path) -> None:
    image.fetch("hurd", say_nothing)
    assert image.remove("hurd") == 1
    assert lock().is_file()
    assert not list(lock().parent.glob("*.xz")), "the archive goes with the image"
    (release.folder / "SHA512SUMS").unlink()
    other = tmp_path / "other"
    other.mkdir()
    changed = release.publish(make_image(other, KERNEL + b"x"), "debian-hurd-i386-20250807.img.tar.xz")
    with pytest.raises(DownloadError, match=rf"not the file that is wanted.*; {lock()} says which file is wanted"):
        image.fetch("hurd", say_nothing)
    assert image.find("hurd") is None
    assert image.fetch("hurd", say_nothing, sha512=changed).manifest["source"]["sha512"] == changed
    assert json.loads(lock().read_text())["sha512"] == changed


def test_a_sum_given_by_hand_is_required(release: Release, published: str) -> None:
    with pytest.raises(DownloadError, match=r"lists no file with the SHA-512 0000000000000000\.\.\.; it has debian"):
        image.fetch("hurd", say_nothing, sha512="0" * 128)
    assert not lock().exists()
    assert image.fetch("hurd", say_nothing, sha512=published).manifest["source"]["sha512"] == published


def test_a_file_of_the_users_own(release: Release, image_file: Path, tmp_path: Path) -> None:
    fetched = image.fetch("hurd", say_nothing, file=image_file)
    digest = hashlib.sha512(image_file.read_bytes()).hexdigest()
    assert fetched.manifest["source"] == {"file": str(image_file), "sha512": digest}
    assert release.asked == []
    again = tmp_path / "again.img"
    shutil.copy(fetched.folder / "root.img", again)
    second = file_system(image.fetch("hurd", say_nothing, file=again))
    assert second.read("/etc/ssh/sshd_config").count(b"HostKey") == 1, "an image may come twice"
    assert second.read("/boot/grub/grub.cfg").count(b"console=com0") == 2
    with pytest.raises(ImageError, match=rf"its SHA-512 is {digest}, not the one"):
        image.fetch("hurd", say_nothing, file=image_file, sha512="0" * 128)


def no_such_file(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(10 * MIB)


def other_partition(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(446 + 16 + 4)
        file.write(b"\xa5")


def other_file_system(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(2 * MIB)
        file.write(bytes(4096))


def too_big(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(65 * MIB)


@pytest.mark.parametrize("harm", [no_such_file, cut, other_partition, other_file_system, too_big])
def test_a_wrong_image_is_one_sentence_and_loses_nothing(
    release: Release, image_file: Path, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    good = image.fetch("hurd", say_nothing, file=image_file)
    harm(image_file)
    result = CliRunner().invoke(main, ["image", "fetch", "hurd", "--file", str(image_file)])
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith("harness: ")
    assert image.find("hurd") == good
    image.verify(good)


def change_recipe(folder: Path, **changes: Any) -> None:
    path = folder / "images/hurd/recipe.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))


@needs_qemu
def test_what_cannot_be_installed_is_said_with_the_way_by_hand(release: Release, tmp_path: Path) -> None:
    """The kernel is none, so QEMU ends at once."""
    release.publish(make_image(tmp_path, without="usr/sbin/sshd"), "debian-hurd-i386-20250807.img.tar.xz")
    by_hand = (
        r"(?s)no /usr/sbin/sshd, and it could not be installed: .*apt-get install.*image fetch hurd --file copy\.img$"
    )
    with pytest.raises(GuestError, match=by_hand) as caught:
        image.fetch("hurd", say_nothing)
    assert image.find("hurd") is None
    (tar,) = re.findall(r"^ +(tar .*)", str(caught.value), re.MULTILINE)
    subprocess.run(tar, shell=True, cwd=tmp_path, check=True)
    assert (tmp_path / "copy.img").stat().st_size == 18 * MIB, "what was downloaded is still there for that"
    with pytest.raises(GuestError, match=rf"cp --sparse=always {tmp_path}/copy\.img copy\.img\n"):
        image.fetch("hurd", say_nothing, file=tmp_path / "copy.img")


def test_the_archives_keys_come_from_the_hosts_archive(release: Release, tmp_path: Path) -> None:
    package, file = "debian-ports-archive-keyring", "usr/share/keyrings/debian-ports-archive-keyring.gpg"
    try:
        keys = debian.package_file(package, file)
    except HarnessError as error:
        pytest.skip(f"the package cannot be had: {error}")
    system, lines = disk.FileSystem(make_image(tmp_path), 2 * MIB), list[str]()
    fields = read(DATA / "images/hurd-i386/recipe.yaml")[0]
    recipe = prepare.Recipe.model_validate(fields)
    prepare.refresh_keyring(system, recipe, lines.append)
    assert recipe.keyring and recipe.keyring.file == file
    assert [system.read(path) for path in recipe.keyring.targets] == [keys, keys]
    fields["keyring"]["file"] = "usr/share/keyrings/none"
    prepare.refresh_keyring(system, prepare.Recipe.model_validate(fields), lines.append)
    assert "old keys" in lines[-1] and "has no file usr/share/keyrings/none" in lines[-1]


def test_a_password_is_taken_away_and_given_back(tmp_path: Path) -> None:
    system = disk.FileSystem(make_image(tmp_path), 2 * MIB)
    text = b"toor:x:1::\nroot:$y$j9T$a/b.c:20000:0:99999:7:::\ndemo::1::\n"
    system.write("/etc/shadow", text, 0o640)
    system.change("", ["set_inode_field /etc/shadow gid 42"])
    assert prepare.set_password(system, "/etc/shadow", "root", "") == "$y$j9T$a/b.c"
    assert b"\nroot::20000:" in system.read("/etc/shadow")
    assert prepare.set_password(system, "/etc/shadow", "root", "$y$j9T$a/b.c") == ""
    assert system.read("/etc/shadow") == text
    assert disk.file_owner(system.stat("/etc/shadow")) == (0o640, 0, 42), "its owner is as it was"
    with pytest.raises(ImageError, match="/etc/shadow has no user nobody"):
        prepare.set_password(system, "/etc/shadow", "nobody", "")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"kernel": bytes(9000)}, "gnumach-1.8-486.gz is not a 32-bit Multiboot kernel"),
        ({"kernel": b"\x7fELF\x02" + KERNEL}, "not a 32-bit Multiboot kernel"),
        ({"without": "hurd/acpi.static"}, "no file /hurd/acpi.static"),
        ({"grub": "multiboot $x\n"}, "cannot be read without GRUB"),
    ],
)
def test_an_image_that_qemu_cannot_boot_by_itself_is_booted_by_grub(
    release: Release, tmp_path: Path, change: dict[str, Any], why: str
) -> None:
    lines: list[str] = []
    fetched = image.fetch("hurd", lines.append, file=make_image(tmp_path, **change))
    assert fetched.manifest["boot"] is None
    assert any("booted by GRUB" in line and why in line for line in lines)
    (tmp_path / "my.yaml").write_text("guests: {hurd-i386: {image: hurd}}")
    files = find_boot_files("hurd-i386", conf.load([tmp_path / "my.yaml"]), say_nothing)
    assert (files.kernel, files.modules) == (None, ())
    assert b"console=com0" in file_system(fetched).read("/boot/grub/grub.cfg")


def test_an_image_that_boots_no_multiboot_kernel_is_refused(release: Release, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"/boot/grub/grub\.cfg boots no Multiboot kernel"):
        image.fetch("hurd", say_nothing, file=make_image(tmp_path, grub="linux /vmlinuz\n"))


@pytest.mark.parametrize(
    ("names", "patterns", "expected"),
    [
        (["a-20250807", "a-20251105"], ["a-20250807", "a-*"], "a-20250807"),
        (["a-20250807", "a-20251105", "a"], ["b", "a*"], "a-20251105"),
        (["b-20230608", "a-20250807"], ["*-2*"], "a-20250807"),
        (["a.img", "../a-2.img"], ["*.img"], "a.img"),
    ],
)
def test_which_file_is_taken(names: list[str], patterns: list[str], expected: str) -> None:
    assert prepare.choose(dict.fromkeys(names, "x"), patterns, None, "url") == (expected, "x")


def test_a_release_without_the_file_says_what_it_has(release: Release, image_file: Path) -> None:
    release.publish(image_file, "netinst.iso")
    with pytest.raises(DownloadError, match=r"lists no file debian-hurd-i386-.* it has netinst\.iso; `harness image"):
        image.fetch("hurd", say_nothing)


def test_a_damaged_lock_file_is_said(release: Release, published: str) -> None:
    lock().parent.mkdir(parents=True)
    lock().write_text('{"file": "x"}')
    with pytest.raises(ImageError, match=r"hurd\.lock\.json: is damaged; remove it"):
        image.fetch("hurd", say_nothing)


def test_a_full_disk_is_said_before_anything_is_downloaded(
    release: Release, published: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))  # type: ignore[attr-defined]
    with pytest.raises(StoreError, match="takes about 64 MiB"):
        image.fetch("hurd", say_nothing)
    assert release.asked == []


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["linux-i386"], "the image linux-i386 is not downloaded but built"),
        (["hurd-i38"], "no image named hurd-i38; did you mean hurd-i386?"),
        (["hurd", "--sha512", "12"], "must be 128 hexadecimal digits"),
    ],
)
def test_bad_input(release: Release, words: list[str], text: str) -> None:
    result = CliRunner().invoke(main, ["image", "fetch", *words])
    assert result.exit_code == 2
    assert text in result.stderr


@pytest.fixture(scope="module")
def gnumach(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Debian's GNU Mach for i386, from the archive that the host's apt knows."""
    folder = tmp_path_factory.mktemp("gnumach")
    if not shutil.which("qemu-system-i386"):
        pytest.skip("qemu-system-i386 is not installed")
    try:
        (deb,) = debian.Apt(folder / "apt", "i386").kernel(["gnumach-image-1.8-486"])
    except HarnessError as error:
        pytest.skip(f"GNU Mach cannot be had: {error}")
    subprocess.run(["dpkg-deb", "-x", deb, folder], check=True)
    (packed,) = folder.glob("boot/gnumach-*.gz")
    return gzip.decompress(packed.read_bytes())


def test_gnu_mach_boots_with_what_grub_would_have_given_it(
    release: Release, tmp_path: Path, gnumach: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.kvm.may_work", lambda: False)  # a bad one ends QEMU without a word
    image.fetch("hurd", say_nothing, file=make_image(tmp_path, gnumach))
    (tmp_path / "my.yaml").write_text("guests: {hurd-i386: {image: hurd}}")
    configuration = conf.load([tmp_path / "my.yaml"])
    files = find_boot_files("hurd-i386", configuration, say_nothing)
    machine = Machine("hurd-i386", configuration.guest("hurd-i386"), files, tmp_path / "machine")
    machine.start()
    try:
        deadline = time.monotonic() + 60
        while b"5 multiboot modules" not in machine.console.file.read_bytes() and time.monotonic() < deadline:
            assert machine.process.alive()
            time.sleep(0.1)
    finally:
        machine.stop()
    console = machine.console.file.read_text(errors="replace")
    assert "GNU Mach 1.8" in console, "the console is on the serial line"
    lines = [line.split(" ", 3)[3].strip() for line in console.splitlines() if line.startswith("module ")]
    assert lines == [args for _, args in files.modules]


@needs_grub
def test_gnu_mach_is_booted_by_grub_from_the_disk_where_qemu_cannot(
    release: Release, tmp_path: Path, gnumach: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way of 64-bit images: the disk's boot sector is run. Mach panics, since there is no Hurd."""
    monkeypatch.setattr("harness.kvm.may_work", lambda: False)
    root = tmp_path / "root"
    (root / "boot/grub").mkdir(parents=True)
    (root / "usr/sbin").mkdir(parents=True)
    (root / "etc/ssh").mkdir(parents=True)
    (root / "boot/gnumach.gz").write_bytes(gzip.compress(gnumach))
    # QEMU could boot this kernel; the variable keeps the harness from reading what GRUB is to do.
    (root / "boot/grub/grub.cfg").write_text("set kernel=/boot/gnumach.gz\nmultiboot $kernel root=hd0s1\nboot\n")
    (root / "usr/sbin/sshd").write_bytes(b"sshd")
    (root / "etc/ssh/sshd_config").write_bytes(b"")
    command = ["mke2fs", "-q", "-t", "ext2", "-o", "hurd", "-d", root, tmp_path / "root.ext2", "32M"]
    subprocess.run(command, env={"PATH": PATH}, check=True, capture_output=True)
    grubdisk.make(tmp_path / "grub.img", tmp_path / "root.ext2")
    lines: list[str] = []
    fetched = image.fetch("hurd", lines.append, file=tmp_path / "grub.img")
    assert fetched.manifest["boot"] is None
    assert any("booted by GRUB" in line for line in lines)
    (tmp_path / "my.yaml").write_text("guests: {hurd-i386: {image: hurd}}")
    configuration = conf.load([tmp_path / "my.yaml"])
    files = find_boot_files("hurd-i386", configuration, say_nothing)
    machine = Machine("hurd-i386", configuration.guest("hurd-i386"), files, tmp_path / "machine")
    machine.start()
    try:
        with pytest.raises(GuestError, match=r"it does not boot: panic.*No bootstrap code loaded with the kernel"):
            boot.wait(machine)
        assert "GNU Mach 1.8" in machine.console.file.read_text(errors="replace"), "GRUB gave it the serial console"
    finally:
        machine.stop()
