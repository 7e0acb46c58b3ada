"""GRUB's configuration: what its entries boot."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import paths
from harness.errors import ImageError
from harness.images import grub
from harness.images.grub import Module

EXT2FS = (
    "--multiboot-command-line=${kernel-command-line} --host-priv-port=${host-port} "
    "--device-master-port=${device-port} --exec-server-task=${exec-task} -T typed ${root} $(task-create) $(task-resume)"
)
RUMPDISK = (paths.DATA / "tests/data/grub/rumpdisk.cfg").read_text()


def entry(*lines: str) -> grub.Entry:
    return grub.entry("menuentry 'x' {\n" + "\n".join(lines) + "\n}\n")


def test_a_whole_configuration() -> None:
    boot_entry = grub.entry(RUMPDISK)
    assert boot_entry.kernel == Module("/boot/gnumach-1.8-486.gz", "root=part:2:device:wd0 noide")
    assert boot_entry.modules == [
        Module(
            "/hurd/pci-arbiter.static",
            "--host-priv-port=${host-port} --device-master-port=${device-port} --next-task=${acpi-task} "
            "$(pci-task=task-create) $(task-resume)",
        ),
        Module("/hurd/acpi.static", "--next-task=${disk-task} $(acpi-task=task-create)"),
        Module("/hurd/rumpdisk.static", "--next-task=${fs-task} $(disk-task=task-create)"),
        Module(
            "/hurd/ext2fs.static",
            "--readonly --multiboot-command-line=${kernel-command-line} --exec-server-task=${exec-task} "
            "-T typed ${root} $(fs-task=task-create)",
        ),
        Module("/lib/ld.so.1", "/hurd/exec $(exec-task=task-create)"),
    ]


@pytest.mark.parametrize(
    "line",
    [
        f"module /hurd/ext2fs.static ext2fs {EXT2FS}".replace("$", "\\$"),
        f"module /hurd/ext2fs.static {EXT2FS}".replace("$", "\\$"),
        'module /hurd/ext2fs.static ext2fs "' + EXT2FS.replace("$", "\\$").replace(" ", '" "') + '"',
        "module /hurd/ext2fs.static ext2fs '" + EXT2FS.replace(" ", "' \\\n  '") + "' # a comment",
        f"module --nounzip (hd0,msdos2)/hurd/ext2fs.static ext2fs {EXT2FS}".replace("$", "\\$").replace("(t", "\\(t"),
        f"module\t/hurd/ext2fs.static ext2fs.static {EXT2FS}".replace("$", "\\$") + "; boot",
    ],
)
def test_a_module_in_all_its_spellings(line: str) -> None:
    boot_entry = entry("multiboot /boot/gnumach root=device:hd0s2", line)
    assert boot_entry.modules == [Module("/hurd/ext2fs.static", EXT2FS)]


@pytest.mark.parametrize(
    ("line", "kernel"),
    [
        ("multiboot /boot/gnumach.gz root=device:hd0s1 noide", Module("/boot/gnumach.gz", "root=device:hd0s1 noide")),
        ("multiboot /boot/gnumach /boot/gnumach root=x", Module("/boot/gnumach", "root=x")),
        ("multiboot /boot/gnumach gnumach -s", Module("/boot/gnumach", "-s")),
        ("multiboot --quirk-bad-kludge (hd0,2)/gnumach", Module("/gnumach", "")),
        ("multiboot /g 'a b' c\\'d", Module("/g", '"a b" c\\\'d')),
        ("#multiboot /old\nmultiboot /g#x y # z", Module("/g#x", "y")),
    ],
)
def test_a_kernel(line: str, kernel: Module) -> None:
    assert entry(line).kernel == kernel


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "boots no Multiboot kernel"),
        ("menuentry 'Linux' { linux /vmlinuz root=/dev/sda1\n}", "boots no Multiboot kernel"),
        ("module /x\n", "boots no Multiboot kernel"),
        ("multiboot\n", "`multiboot ...` cannot be read"),
        ("multiboot ${prefix}/gnumach\n", "cannot be read without GRUB"),
        ("multiboot /g $kopt\n", "cannot be read without GRUB"),
        ('multiboot /g\nmodule "/x$y"\n', "`module ...` cannot be read without GRUB"),
        ("echo fine\nmultiboot '/g\n", "line 2 cannot be read: a quote is not closed"),
    ],
)
def test_what_cannot_be_read_is_said(text: str, words: str) -> None:
    with pytest.raises(ImageError, match=words.replace("(", r"\(")):
        grub.entry(text)


@given(st.lists(st.text(st.characters(blacklist_characters="'", blacklist_categories=["Cs"])), min_size=1))
def test_what_is_quoted_comes_out_as_it_went_in(words: list[str]) -> None:
    line = "multiboot /g " + " ".join(f"x'{word}'" for word in words)
    (command,) = grub.commands(line)
    assert command == ["multiboot", "/g", *(f"x{word}" for word in words)]


@given(st.text("multibo d/g'\"\\${}();#\n\t x"))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ImageError):
        grub.entry(text)


def test_each_kernel_gets_the_option_once() -> None:
    once = grub.with_option(RUMPDISK, "console=com0")
    assert once.count("console=com0") == 2
    assert grub.entry(once).kernel.args == "console=com0 root=part:2:device:wd0 noide"
    assert grub.entry(once).modules == grub.entry(RUMPDISK).modules
    assert grub.with_option(once, "console=com0") == once


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("multiboot /g", "multiboot /g o=1"),
        ("  multiboot --quirk-x /g a \\\n b\nmodule /m", "  multiboot --quirk-x /g o=1 a \\\n b\nmodule /m"),
        ("multiboot /g a \\\n o=1", "multiboot /g a \\\n o=1"),
        ("multiboot /g o=12", "multiboot /g o=1 o=12"),
        ("# multiboot /g", "# multiboot /g"),
        ("echo multiboot /g", "echo multiboot /g"),
    ],
)
def test_where_the_option_goes(line: str, expected: str) -> None:
    assert grub.with_option(line, "o=1") == expected
