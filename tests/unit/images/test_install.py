"""An image without an SSH server gets one without a hand: booted, logged in to on its serial console, halted, prepared.

The system is the control's, on a disk that GRUB boots, without its SSH server and with a getty on its serial line. Its
installer is wget, from a server on this machine.
"""

from __future__ import annotations

import http.server
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness import conf, paths
from harness.errors import GuestError
from harness.guest import boot
from harness.guest.machine import Machine
from harness.images import disk, image
from harness.images.bootfiles import find_boot_files
from tests import grubdisk

pytestmark = pytest.mark.skipif(
    not (grubdisk.available() and shutil.which("qemu-system-x86_64")),
    reason="GRUB (Debian: grub-pc-bin, grub-common) or QEMU is missing",
)
DROPBEAR = "/usr/sbin/dropbear"
#: The second entry is never booted; the first is what the image's GRUB boots.
GRUB = """\
set timeout=0
menuentry 'Linux' {
    linux /boot/vmlinuz root=/dev/vda1 rw console=ttyS0 panic=-1 quiet cryptomgr.notests noisapnp no_timer_check
    initrd /boot/initrd.gz
}
menuentry 'GNU' {
    multiboot /boot/gnumach root=hd0s1
}
"""
INITTAB = f"""\
ttyS0::respawn:/sbin/getty -L 115200 ttyS0 dumb
::respawn:/bin/sh -c '[ -x {DROPBEAR} ] && exec {DROPBEAR} -F -s -r /etc/dropbear/host_key -p 22; sleep 1'
::shutdown:/bin/umount -a -r
"""
INSTALL = {
    "prompt": r"^[\w.-]+ login:",
    "user": "root",
    "passwords": ["/etc/shadow", "/etc/passwd"],
    "silence": "5m",
    "failures": {"can't connect|404": "there is no such server"},
}
GUEST = {
    "image": "control",
    "toolchain": "linux-i386",
    "qemu": "qemu-system-x86_64",
    "machine": "pc",
    "memory": 512,
    "disk": {"file": "root.img", "interface": "virtio"},  # GRUB takes minutes to read a kernel from IDE without KVM
    "ready": {"console": "harness: guest ready", "expect": "^Linux$", "timeout": "10m"},
    "system": "linux",
}


@pytest.fixture
def control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """An image without its SSH server, a recipe that lacks only its commands, and where the server can be had."""
    source = image.build("linux-i386", lambda text: None)
    monkeypatch.setattr("harness.kvm.may_work", lambda: False)  # under a bad one GRUB may hang
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    system = grubdisk.make(tmp_path / "control.img", source.folder / "root.img")
    served = tmp_path / "served"
    served.mkdir()
    (served / "dropbear").write_bytes(system.read(DROPBEAR))
    system.change("", [f"rm {DROPBEAR}"])
    system.write("/boot/vmlinuz", (source.folder / "vmlinuz").read_bytes())
    system.write("/boot/initrd.gz", (source.folder / "initrd.gz").read_bytes())
    system.write("/boot/grub/grub.cfg", GRUB.encode())
    system.write("/etc/inittab", INITTAB.encode())

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=served))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

    for name in ("conf", "images"):
        shutil.copytree(paths.DATA / name, tmp_path / name)
    monkeypatch.setattr(paths, "DATA", tmp_path)
    guests = yaml.safe_load((tmp_path / "conf/guests.yaml").read_text())
    guests["guests"]["by-grub"] = {**GUEST, "ssh": {"host_key": source.manifest["host_key"]}}
    (tmp_path / "conf/guests.yaml").write_text(yaml.safe_dump(guests))
    recipe = {
        "base": "hurd-i386",
        "room_mib": 1100,
        "guest": "by-grub",
        "needs": {DROPBEAR: "By hand: {copy}"},
        "install": INSTALL,
        "keyring": None,
        "prepend": {},
        "links": {},
    }
    yield {"recipe": recipe, "file": tmp_path / "control.img", "url": f"http://10.0.2.2:{server.server_port}/dropbear"}
    server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def fetch(tmp_path: Path, control: dict[str, Any], commands: list[str], lines: list[str]) -> image.Image:
    recipe = {**control["recipe"], "install": {**INSTALL, "commands": commands}}
    (tmp_path / "images/control").mkdir(exist_ok=True)
    (tmp_path / "images/control/recipe.yaml").write_text(yaml.safe_dump(recipe))
    return image.fetch("control", lines.append, file=control["file"])


def test_an_ssh_server_is_installed_on_the_console(tmp_path: Path, control: dict[str, Any]) -> None:
    system = disk.FileSystem(control["file"], grubdisk.MIB)
    encrypted = "$1$abcdefgh$G//4keteveJp0qb8z2DxG/"  # nobody knows the password
    system.write("/etc/passwd", system.read("/etc/passwd").replace(b"root:*:", f"root:{encrypted}:".encode()))
    before, lines = control["file"].read_bytes()[: grubdisk.MIB], list[str]()
    install = f"wget -q -O {DROPBEAR}.new {control['url']} && chmod 755 {DROPBEAR}.new && mv {DROPBEAR}.new {DROPBEAR}"
    installed = fetch(tmp_path, control, ["uname -a", install], lines)
    assert "the image has no /usr/sbin/dropbear; it is booted once, with access to the network, to install it" in lines
    assert any(line.startswith("on the image's console: ") for line in lines)
    assert installed.manifest["installed"] == [DROPBEAR] and installed.manifest["boot"] is None
    prepared = disk.FileSystem(installed.folder / "root.img", grubdisk.MIB)
    assert f"root:{encrypted}:".encode() in prepared.read("/etc/passwd"), "the password is given back"
    assert control["file"].read_bytes()[: grubdisk.MIB] == before and system.kind(DROPBEAR) is None
    assert not [path for path in installed.folder.iterdir() if path.is_dir()], "nothing of the boot is left"

    configuration = conf.load()
    files = find_boot_files("by-grub", configuration, lambda text: None)
    machine = Machine("by-grub", configuration.guest("by-grub"), files, tmp_path / "machine")
    machine.start()
    try:
        shell = boot.wait(machine)
        _, out, _ = shell.run(f"ls {DROPBEAR}; wget -q -T 5 -O /tmp/got {control['url']} || echo cannot reach out")
        assert out.decode().splitlines() == [DROPBEAR, "cannot reach out"], "this boot has no network any more"
        shell.close()
    finally:
        machine.stop()


def test_what_fails_on_the_console_leaves_nothing(tmp_path: Path, control: dict[str, Any]) -> None:
    system = disk.FileSystem(control["file"], grubdisk.MIB)
    system.write("/etc/passwd", system.read("/etc/passwd").replace(b"root:*:", b"root::"))
    command = f"touch /half-done; wget -O {DROPBEAR} {control['url']}-not-there"
    with pytest.raises(GuestError) as caught:
        fetch(tmp_path, control, [command], [])
    message = str(caught.value)
    assert message.startswith("the image has no /usr/sbin/dropbear, and it could not be installed: guest by-grub: ")
    assert f"`{command}` failed with status 1: " in message and " 404 " in message
    assert "; there is no such server" in message and message.endswith(
        f"By hand: cp --sparse=always {control['file']} copy.img"
    )
    assert any("404" in line for line in caught.value.console), "the console's last lines are shown"
    assert image.find("control") is None
    assert not list((tmp_path / "cache/harness/images").glob("**/root.img"))
    assert system.kind("/half-done") is None
