"""Images: reading the host's apt sources, modules in order, keys, damage, and what bad input gets for an answer.

Nothing here downloads; the build itself is tried where a guest is booted.
"""

from __future__ import annotations

import json
import lzma
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import host, locks, paths
from harness.errors import ImageError, ToolMissing
from harness.images import debian, image

needs_keygen = pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="ssh-keygen is not installed")

RECIPE = {
    "kind": "debian",
    "architecture": "i386",
    "kernel": ["linux-image-686"],
    "modules": [],
    "packages": [],
    "root_mib": 64,
}
TARGETS = """\
http://mirror.example/debian/|bookworm|bookworm|Debian|main|/etc/apt/sources.list.d/debian.sources:1
http://mirror.example/debian/|bookworm|bookworm|Debian|contrib|/etc/apt/sources.list.d/debian.sources:1
http://mirror.example/debian/|bookworm-updates|bookworm-updates|Debian|main|/etc/apt/sources.list.d/debian.sources:1
http://other.example/apt/|bookworm|bookworm|Other|main|/etc/apt/sources.list:3
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the cache and the recipes are below, with one recipe `small`."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(paths, "DATA", tmp_path)
    monkeypatch.setattr(debian, "codename", lambda: "bookworm")
    folder = tmp_path / "images/small"
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text("kind: debian\n")
    (tmp_path / "images/notes").mkdir()
    return tmp_path


@pytest.fixture
def built(place: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A builder that writes one file; the list of what it was called for."""
    calls: list[str] = []

    def fake(
        recipe: dict[str, Any], folder: Path, out: Path, *, public_key: str, progress: Callable[[str], None]
    ) -> dict[str, Any]:
        calls.append(folder.name)
        (out / "root.img").write_bytes(b"disk")
        return {"host_key": "ssh-ed25519 AAAA", "authorized": public_key}

    monkeypatch.setitem(image.KINDS, "debian", fake)
    return calls


def say_nothing(_: str) -> None:
    """Progress that nobody wants."""


# The host's apt sources


def test_main_suite_is_debians_own_and_no_other() -> None:
    (source,) = debian.main_suite(debian.read_targets(TARGETS + TARGETS), ["bookworm"])
    assert (source.uri, source.suite, source.entry.rpartition(":")[2]) == (
        "http://mirror.example/debian/",
        "bookworm",
        "1",
    )


@pytest.mark.parametrize("text", ["", "E: nonsense\n", TARGETS])
def test_no_main_suite_is_said(text: str) -> None:
    with pytest.raises(ImageError, match=r"no index of Debian trixie main.*apt-get update"):
        debian.main_suite(debian.read_targets(text), ["trixie"])


def test_unstable_is_told_from_testing_by_what_apt_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have this os-release (base-files 14); a stable release's names itself alone."""
    release = {"PRETTY_NAME": "Debian GNU/Linux forky/sid", "VERSION_CODENAME": "forky"}
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: release)
    for apt, suite in (("sid",), "sid"), (("forky",), "forky"), (("sid", "forky"), "forky"):
        sources = [debian.Source("http://mirror.example/debian/", name, name, "Debian", "main", "x:1") for name in apt]
        assert [source.suite for source in debian.main_suite(sources, debian.codenames())] == [suite]
    release |= {"PRETTY_NAME": "Debian GNU/Linux 13 (trixie)", "VERSION_CODENAME": "trixie"}
    assert (debian.codename(), debian.codenames()) == ("trixie", ["trixie"])


@pytest.mark.parametrize(
    ("suffix", "text", "expected"),
    [
        (
            ".sources",
            "# Types: deb\n\nTypes: deb\nURIs: http://mirror.example/debian\nSuites: bookworm-updates\n"
            "Signed-By: /wrong\n\n"
            "Types: deb deb-src\nURIs: http://mirror.example/debian\n# between\nSuites: sid bookworm\n"
            "signed-by: /a.gpg\n",
            {"signed-by": "/a.gpg"},
        ),
        (
            ".sources",
            "Types: deb\nURIs: http://mirror.example/debian/\nSuites: bookworm\nSigned-By:\n -----BEGIN\n .\n key\n",
            {"signed-by": "\n -----BEGIN\n .\n key"},
        ),
        (
            ".sources",
            "Enabled: no\nTypes: deb\nURIs: http://mirror.example/debian\nSuites: bookworm\nSigned-By: /old\n\n"
            "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm\nCheck-Valid-Until: no\nTrusted: yes\n",
            {"check-valid-until": "no"},
        ),
        (
            ".list",
            "# deb [signed-by=/wrong] http://mirror.example/debian bookworm main\n"
            "deb-src [signed-by=/wrong] http://mirror.example/debian bookworm main\n"
            "deb [ arch=amd64 signed-by=/a.gpg,/b.gpg ] http://mirror.example/debian bookworm main\n",
            {"signed-by": "/a.gpg,/b.gpg"},
        ),
        (".list", "deb http://mirror.example/debian bookworm main\n", {}),
    ],
)
def test_options_of_a_source(suffix: str, text: str, expected: dict[str, str]) -> None:
    (source,) = debian.main_suite(debian.read_targets(TARGETS), ["bookworm"])
    assert debian.options(text, suffix, source) == expected


def test_options_are_found_by_uri_however_many_slashes() -> None:
    source = debian.Source("mirror+file:/etc/mirrors/", "bookworm", "bookworm", "Debian", "main", "x:1")
    text = "deb [signed-by=/k] mirror+file:///etc/mirrors bookworm main"
    assert debian.options(text, ".list", source) == {"signed-by": "/k"}


def test_stanza_never_says_trusted() -> None:
    (source,) = debian.main_suite(debian.read_targets(TARGETS), ["bookworm"])
    text = debian.stanza(source, {"signed-by": "/a.gpg"}, "i386")
    assert "Signed-By: /a.gpg\n" in text
    assert "Architectures: i386 amd64\n" in text
    assert "Trusted" not in text


# Tools


@pytest.mark.parametrize(
    ("stderr", "expected"),
    [
        ("W: old\nE: first\nE: second\n", "E: first"),
        ("a\nb\n\nc\nd\n", "b / c / d"),
        ("\n", "it printed nothing"),
    ],
)
def test_first_error(stderr: str, expected: str) -> None:
    assert host.first_error(stderr) == expected


def test_a_failing_tool_says_what_it_was_doing() -> None:
    with pytest.raises(ImageError, match=r"^the disk: sh failed: it broke$"):
        host.run("sh", "-c", "echo it broke >&2; exit 3", what="the disk")


def test_a_tool_does_not_get_the_ctrl_c_that_is_the_harness_s_and_ends_with_the_harness_s_step(tmp_path: Path) -> None:
    """Trials that run go on after a first ctrl-C, and what brings them their files must."""
    child = tmp_path / "child"

    def interrupted(number: int, frame: object) -> None:
        assert os.getpgid(int(child.read_text())) != os.getpgrp()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupted)
    command = f"read line; sleep 1000 & echo $! >{child}; kill -USR1 {os.getpid()}; wait"
    try:
        with pytest.raises(KeyboardInterrupt):
            host.run("sh", "-c", command, what="the disk", stdin="begin\n")  # which it gets when it is waited for
    finally:
        signal.signal(signal.SIGUSR1, before)
    status = Path(f"/proc/{int(child.read_text())}/stat")
    while status.exists() and ") Z " not in status.read_text():
        time.sleep(0.01)


def test_a_missing_tool_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, path: None)
    with pytest.raises(ToolMissing, match=r"mke2fs .*\(Debian package e2fsprogs\)"):
        host.run("mke2fs", what="the disk")


# Modules


def test_depends_reads_modinfo() -> None:
    assert debian.depends(b"\x7fELF\0license=GPL\0depends=virtio-ring,virtio\0name=x\0") == ["virtio_ring", "virtio"]
    assert debian.depends(b"\0depends=\0name=x\0") == []
    assert debian.depends(b"") == []


def test_load_order_puts_needs_first_and_each_once() -> None:
    needs = {"a": ["b", "c"], "b": ["c"], "c": [], "d_e": ["c"]}
    assert debian.load_order(["a", "d-e", "b"], needs.__getitem__) == ["c", "b", "a", "d_e"]


@pytest.mark.parametrize(
    ("lib", "vmlinuz"),
    [("lib", "boot/vmlinuz-6.1"), ("usr/lib", "boot/vmlinuz-6.1"), ("usr/lib", "usr/lib/modules/6.1/vmlinuz")],
    ids=["Debian 12", "Debian 13", "sid"],
)
def test_kernel_parts(tmp_path: Path, lib: str, vmlinuz: str) -> None:
    folder = tmp_path / lib / "modules/6.1"
    (folder / "kernel").mkdir(parents=True)
    (tmp_path / "boot").mkdir()
    recipe = debian.Recipe.model_validate(RECIPE | {"modules": ["disk_part"], "optional_modules": ["nowhere"]})
    with pytest.raises(ImageError, match=r"hold no vmlinuz of 6\.1"):
        debian.kernel_parts(tmp_path, recipe)
    (tmp_path / vmlinuz).touch()
    (folder / "modules.builtin").write_text("kernel/drivers/virtio.ko\n")
    (folder / "kernel/disk-part.ko.xz").write_bytes(lzma.compress(b"\0depends=virtio,ring\0"))
    (folder / "kernel/ring.ko").write_bytes(b"ring")
    assert debian.kernel_parts(tmp_path, recipe) == (
        "6.1",
        tmp_path / vmlinuz,
        [("ring", b"ring"), ("disk_part", b"\0depends=virtio,ring\0")],
    )
    with pytest.raises(ImageError, match="no module nowhere"):
        debian.kernel_parts(tmp_path, debian.Recipe.model_validate(RECIPE | {"modules": ["nowhere"]}))
    (tmp_path / lib / "modules/6.2").mkdir()
    with pytest.raises(ImageError, match="modules of 2 kernels, not of one"):
        debian.kernel_parts(tmp_path, recipe)


def test_merge_usr(tmp_path: Path) -> None:
    for name in ("lib/i386/libc.so", "usr/lib/i386/libm.so", "usr/bin/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "lib/ld.so").symlink_to("i386/libc.so")
    debian.merge_usr(tmp_path)
    assert (tmp_path / "lib").readlink() == Path("usr/lib")
    assert (tmp_path / "lib/i386/libm.so").exists()
    assert (tmp_path / "usr/lib/ld.so").resolve() == tmp_path / "usr/lib/i386/libc.so"
    assert (tmp_path / "sbin").is_dir()


# Recipes


def test_the_given_recipes_are_whole() -> None:
    for name, architecture in (("linux-i386", "i386"), ("linux-amd64", "amd64")):
        recipe, folders = image.read_recipe(name)
        assert debian.check_package_index(recipe, folders).architecture == architecture


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"root_mib": "big"}, r"recipe\.yaml: root_mib: .*integer"),
        ({"root_mib": 1}, r"root_mib: .*16"),
        ({"kernel": []}, r"kernel: .*at least 1"),
        ({"kernels": ["x"]}, r"kernels: "),
        ({"architecture": 'i386"; x'}, r"architecture: "),
        ({}, r"the recipe's file init is missing"),
    ],
)
def test_a_wrong_recipe_is_told_before_anything_is_downloaded(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(ImageError, match=words):
        debian.build(RECIPE | change, tmp_path, tmp_path / "out", public_key="", progress=say_nothing)


@needs_keygen
@pytest.mark.parametrize("call", [image.key, image.find, image.remove, lambda name: image.build(name, say_nothing)])
def test_unknown_name_gets_the_nearest(place: Path, call: Callable[[str], object]) -> None:
    with pytest.raises(ImageError, match=r"no image named smal; did you mean small\?"):
        call("smal")


@needs_keygen
def test_unknown_kind(place: Path) -> None:
    (place / "images/small/recipe.yaml").write_text("kind: debain\n")
    with pytest.raises(ImageError, match=r"no builder named debain; did you mean debian\?"):
        image.build("small", say_nothing)


# Images in the cache


@needs_keygen
def test_ssh_key_is_made_once_and_private(place: Path) -> None:
    first = image.ssh_key()
    text = first.read_text()
    assert first.stat().st_mode & 0o777 == 0o600
    assert image.ssh_key().read_text() == text
    assert first.with_suffix(".pub").read_text().startswith("ssh-ed25519 ")
    assert sorted(path.name for path in first.parent.iterdir()) == ["id_ed25519", "id_ed25519.pub"]


@needs_keygen
def test_key_is_of_all_that_makes_the_image(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [image.key("small"), image.key("small")]
    assert keys[0] == keys[1]
    (place / "images/small/init").write_text("#!/bin/sh\n")
    keys.append(image.key("small"))
    monkeypatch.setattr(debian, "codename", lambda: "trixie")
    keys.append(image.key("small"))
    image.ssh_key().unlink()
    keys.append(image.key("small"))
    assert len(set(keys)) == 4


@needs_keygen
def test_build_find_verify_remove(built: list[str]) -> None:
    assert image.find("small") is None
    assert [row["state"] for row in image.listing()] == ["not built"]
    matrix = image.build("small", say_nothing)
    assert image.build("small", say_nothing) == matrix == image.find("small")
    assert matrix.manifest["files"]["root.img"]["size"] == 4
    assert matrix.manifest["host_key"] == "ssh-ed25519 AAAA"
    image.verify(matrix)
    assert [row["state"] for row in image.listing()] == ["built"]
    image.build("small", say_nothing, force=True)
    assert built == ["small", "small"]
    assert image.remove("small") == 1
    assert image.find("small") is None
    assert image.remove("small") == 0


@needs_keygen
def test_remove_takes_earlier_images_too(place: Path, built: list[str]) -> None:
    image.build("small", say_nothing)
    (place / "images/small/init").touch()
    image.build("small", say_nothing)
    assert image.remove("small") == 2


@needs_keygen
def test_an_image_that_another_process_uses_is_neither_removed_nor_replaced(built: list[str]) -> None:
    folder = image.build("small", say_nothing).folder
    root = folder.parents[1]
    script = f"""if True:
        import pathlib, sys
        from harness.cache import Cache
        Cache(pathlib.Path({str(root)!r})).find("images", {folder.name!r})
        print(flush=True)
        sys.stdin.read()"""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", script], stdin=pipe, stdout=pipe) as user:
        assert user.stdout and user.stdout.readline()
        for change in (image.remove, lambda name: image.build(name, say_nothing, force=True)):
            with pytest.raises(ImageError, match=f"image small is in use by process {user.pid}; nothing was changed"):
                change("small")
        user.communicate()
    with locks.lock(root / "locks" / f"images-{folder.name}.lock"), pytest.raises(ImageError, match="is being built"):
        image.remove("small")
    assert image.find("small")
    assert image.remove("small") == 1 and not folder.exists()


def _lose_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def _break_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("{")


def _wrong_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text(json.dumps({"files": ["root.img"]}))


def _lose_file(folder: Path) -> None:
    (folder / "root.img").unlink()


def _cut_file(folder: Path) -> None:
    (folder / "root.img").chmod(0o644)
    (folder / "root.img").write_bytes(b"di")


@needs_keygen
@pytest.mark.parametrize("harm", [_lose_manifest, _break_manifest, _wrong_manifest, _lose_file, _cut_file])
def test_a_damaged_image_is_refused_and_built_again(built: list[str], harm: Callable[[Path], None]) -> None:
    harm(image.build("small", say_nothing).folder)
    for use in (image.find, lambda name: image.build(name, say_nothing)):
        with pytest.raises(ImageError, match=r"small is damaged: .*`harness image build small --force`"):
            use("small")
    assert [row["state"] for row in image.listing()] == ["damaged"]
    image.verify(image.build("small", say_nothing, force=True))


@needs_keygen
def test_verify_sees_what_the_size_does_not(built: list[str]) -> None:
    matrix = image.build("small", say_nothing)
    (matrix.folder / "root.img").chmod(0o644)
    (matrix.folder / "root.img").write_bytes(b"dusk")
    assert image.find("small") == matrix
    with pytest.raises(ImageError, match=r"root\.img is not what was built"):
        image.verify(matrix)


@needs_keygen
def test_a_failed_build_leaves_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> dict[str, Any]:
        raise ImageError("no")

    monkeypatch.setitem(image.KINDS, "debian", fail)
    with pytest.raises(ImageError, match=r"^no$"):
        image.build("small", say_nothing)
    assert image.find("small") is None
    assert list((place / "cache/harness/images").iterdir()) == []
