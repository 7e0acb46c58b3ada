"""Sysroots, taken from a real ext2 image, from real packages and from a folder, and what is missing in them."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from harness import conf
from harness.build import sysroot
from harness.build.sysroot import Folder, Image, Packages
from harness.cache import Cache
from harness.errors import BuildError

#: As Debian lays a Hurd out: /lib is a folder of its own, links and a linker script have absolute names.
PACKAGES = {
    "libc0.3-dev": {
        "usr/include/features.h": "#define __GLIBC__ 2\n",
        "usr/include/mach.h": "#include <mach/mach_types.h>\n",
        "usr/lib/i386-gnu/crt1.o": "an object",
        "usr/lib/i386-gnu/libm.so": "-> /lib/i386-gnu/libm.so.6",
        "usr/lib/i386-gnu/libc.so": "/* GNU ld script, see /usr/share/doc */\n"
        "GROUP ( /lib/i386-gnu/libc.so.0.3  AS_NEEDED ( /lib/ld.so.1 ) )\n",
    },
    "libc0.3": {
        "lib/i386-gnu/libc.so.0.3": "a library",
        "lib/i386-gnu/libm.so.6": "a library too",
        "lib/i386-gnu/ld.so.1": "a loader",
        "lib/ld.so.1": "-> i386-gnu/ld.so.1",
        "usr/share/doc/libc0.3/copyright": "not wanted",
    },
    "gnumach-dev": {"usr/include/i386-gnu/mach/mach_types.h": "\n"},
    "hurd-dev": {"usr/include/i386-gnu/hurd/hurd_types.h": "\n", "usr/lib/i386-gnu/libps.a": "an archive"},
}


@pytest.fixture
def config():
    return conf.load().toolchain("hurd-i386").build


def write_files(root: Path, *packages: str) -> Path:
    for package in packages or PACKAGES:
        for name, text in PACKAGES[package].items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if text.startswith("-> "):
                path.symlink_to(text[3:])
            else:
                path.write_text(text)
    return root


def build_packages(folder: Path, *packages: str) -> Packages:
    files = []
    for package in packages or PACKAGES:
        root = write_files(folder / package, package)
        (root / "DEBIAN").mkdir()
        control = f"Package: {package}\nVersion: 1\nArchitecture: hurd-i386\nMaintainer: a test\nDescription: a test\n"
        (root / "DEBIAN/control").write_text(control)
        files.append(folder / f"{package}.deb")
        subprocess.run(["dpkg-deb", "-b", "--root-owner-group", root, files[-1]], check=True, capture_output=True)
    return Packages(tuple(files))


def build_image(folder: Path, root: Path, offset: int = 1 << 20) -> Image:
    file = folder / "disk.img"
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    with file.open("wb") as image:
        image.truncate(offset + (8 << 20))
    make = [shutil.which("mke2fs", path=path), "-q", "-o", "hurd", "-E", f"offset={offset}", "-d", root, file, "8M"]
    subprocess.run(make, check=True)
    return Image(file, offset)


def tree(root: Path) -> dict[str, str]:
    """Every file and link below a folder; a link is shown by what it says."""
    files = {}
    for path in root.rglob("*"):
        if path.is_symlink() or path.is_file():
            files[str(path.relative_to(root))] = f"-> {path.readlink()}" if path.is_symlink() else path.read_text()
    return files


def test_packages_an_image_and_a_folder_give_the_same(tmp_path, config):
    cache = Cache(tmp_path / "cache")
    root = write_files(tmp_path / "root")
    (root / "dev").mkdir()
    result = sysroot.make(build_packages(tmp_path / "debs"), config, cache)
    assert tree(result) == {
        "lib": "-> usr/lib",
        "usr/lib/ld.so.1": "-> i386-gnu/ld.so.1",
        "usr/lib/i386-gnu/libm.so": "-> libm.so.6",
    } | {
        f"usr/{name.removeprefix('usr/')}": text
        for files in PACKAGES.values()
        for name, text in files.items()
        if "share" not in name and not text.startswith("-> ")
    }
    assert sysroot.make(build_image(tmp_path, root), config, cache) == result
    assert sysroot.make(Folder(root), config, cache) == result
    assert [path.name for path in result.parent.iterdir()] == [result.name]


def test_an_image_whose_lib_is_a_link(tmp_path, config):
    root = write_files(tmp_path / "root")
    shutil.copytree(root / "lib", root / "usr/lib", dirs_exist_ok=True, symlinks=True)
    shutil.rmtree(root / "lib")
    (root / "lib").symlink_to("usr/lib")
    cache = Cache(tmp_path / "cache")
    result = sysroot.make(build_image(tmp_path, root, offset=0), config, cache)
    assert sysroot.make(Folder(write_files(tmp_path / "old")), config, cache) == result


def test_a_link_to_the_file_of_its_own_name(tmp_path, config):
    root = write_files(tmp_path / "root")
    (root / "usr/lib/i386-gnu/libm.so.6").symlink_to("/lib/i386-gnu/libm.so.6")
    result = sysroot.make(Folder(root), config, Cache(tmp_path / "cache"))
    assert (result / "usr/lib/i386-gnu/libm.so").read_text() == "a library too"


@pytest.mark.parametrize(
    ("packages", "message"),
    [
        (("libc0.3-dev", "libc0.3", "hurd-dev"), "no mach/mach_types.h (from package gnumach-dev)"),
        (("libc0.3-dev", "libc0.3", "gnumach-dev"), "no hurd/hurd_types.h (from package hurd-dev)"),
        (
            ("libc0.3", "gnumach-dev", "hurd-dev"),
            "no features.h, mach.h, crt1.o, libc.so (from package libc0.3-dev)",
        ),
        (("libc0.3-dev", "gnumach-dev", "hurd-dev"), "no libc.so.0.3 (from package libc0.3)"),
    ],
)
def test_missing_files_are_named_with_their_package(tmp_path, config, packages, message):
    with pytest.raises(BuildError, match="is not a sysroot") as caught:
        sysroot.make(build_packages(tmp_path, *packages), config, Cache(tmp_path / "cache"))
    assert message in str(caught.value)
    assert not any((tmp_path / "cache/sysroots").iterdir())


def test_a_linker_script_that_names_what_is_not_there(tmp_path, config):
    root = write_files(tmp_path / "root")
    (root / "lib/i386-gnu/ld.so.1").unlink()
    with pytest.raises(BuildError, match=r"usr/lib/i386-gnu/libc\.so names /lib/ld\.so\.1, which is missing"):
        sysroot.make(Folder(root), config, Cache(tmp_path / "cache"))


def test_origins_that_cannot_be_read(tmp_path, config, write):
    cache = Cache(tmp_path / "cache")
    whole = build_packages(tmp_path / "debs", "libc0.3").files[0]
    for origin, message in [
        (Image(tmp_path / "none.img"), "none.img does not exist"),
        (Image(write("disk.img", b"\0" * 4096)), "no ext2 file system begins there; give FILE?offset=BYTES"),
        (Packages((tmp_path / "none.deb",)), "none.deb does not exist"),
        (Packages((write("half.deb", whole.read_bytes()[:200]),)), "half.deb cannot be unpacked: dpkg-deb: error"),
        (Folder(tmp_path / "none"), "is not a sysroot"),
    ]:
        with pytest.raises(BuildError) as caught:
            sysroot.make(origin, config, cache)
        assert message in str(caught.value)


def test_image_names(tmp_path):
    assert Image.parse("/a/b.img") == Image(Path("/a/b.img"))
    assert Image.parse("/a/b.img?offset=512") == Image(Path("/a/b.img"), 512)
    with pytest.raises(BuildError, match="the offset must be a number of bytes"):
        Image.parse("b.img?offset=1M")


def test_the_linker_takes_the_script_s_names_from_the_sysroot(tmp_path):
    """Debian's own cross linker; the target here is one whose C compiler every machine that runs the tests has."""
    root, lib = tmp_path / "root", tmp_path / "root/lib/i386-gnu"
    lib.mkdir(parents=True)
    (root / "usr/lib/i386-gnu").mkdir(parents=True)
    (tmp_path / "f.c").write_text("int f(void) { return 1; }\n")
    (tmp_path / "main.c").write_text("int f(void); int main(void) { return f(); }\n")
    names = [f"i686-linux-gnu-gcc-{major}" for major in range(16, 11, -1)]
    gcc = next(program for name in names if (program := shutil.which(name)))
    subprocess.run([gcc, "-shared", "-nostdlib", "-o", lib / "libx.so.0.3", tmp_path / "f.c"], check=True)
    subprocess.run([gcc, "-c", "-o", tmp_path / "main.o", tmp_path / "main.c"], check=True)
    (root / "usr/lib/i386-gnu/libx.so").write_text("GROUP ( /lib/i386-gnu/libx.so.0.3 )\n")
    result = sysroot.make(Folder(root), conf.Build(multiarch="i386-gnu"), Cache(tmp_path / "cache"))
    link = [
        "i686-linux-gnu-ld",
        f"--sysroot={result}",
        "-L=/usr/lib/i386-gnu",
        "-e",
        "main",
        "-o",
        tmp_path / "program",
    ]
    subprocess.run([*link, tmp_path / "main.o", "-lx"], check=True)
    needed = subprocess.run(["i686-linux-gnu-readelf", "-d", tmp_path / "program"], capture_output=True, text=True)
    assert "libx.so.0.3" in needed.stdout
