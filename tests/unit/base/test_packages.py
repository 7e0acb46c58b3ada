"""Debian's packages: what apt would do, read from outputs of the apt of Debian 12 and 13; unpacked compilers."""

import shutil
import subprocess

import pytest

from harness import conf, packages, paths
from harness.build import source, toolchain
from harness.cache import Cache
from harness.errors import ToolMissing

OUTPUTS = paths.DATA / "tests/data/apt"


def simulation(name: str, status: int = 0) -> packages.Simulation:
    return packages.parse_simulation((OUTPUTS / name).read_text(), status)


@pytest.mark.parametrize("name", ["removes.txt", "removes-13.txt"])
def test_packages_that_would_be_removed_are_named(name):
    result = simulation(name)
    assert result.removed == ["gcc-multilib"]
    assert result.harm == "would remove gcc-multilib"
    assert any(step.package.startswith("gccgo-1") and step.new for step in result.steps)


def test_packages_that_would_be_downgraded_are_named():
    result = simulation("downgrades.txt")
    assert result.removed == []
    assert result.harm == "would downgrade cpio"


def test_a_harmless_installation():
    assert simulation("plain.txt") == packages.Simulation((packages.Step("patch", "", "2.8-2+deb13u1"),))
    assert simulation("plain.txt").harm == ""


@pytest.mark.parametrize("name", ["impossible.txt", "impossible-13.txt", "impossible-solver-3.txt"])
def test_packages_in_conflict_are_named(name):
    harm = simulation(name, 100).harm
    assert harm.startswith("is not possible: ")
    assert "gcc-multilib" in harm and "i686-linux-gnu" in harm and "Conflicts" in harm
    assert "Recommends" not in harm and len(harm) < 300


def test_a_package_that_apt_does_not_know():
    assert simulation("unknown.txt", 100).harm == "is not possible: Unable to locate package no-such-package"


def test_a_failure_without_a_reason():
    assert packages.parse_simulation("", 1).harm == "is not possible: apt-get gives no reason"


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return Cache(tmp_path / "cache/harness")


def test_an_unpacked_toolchain_and_source_are_found(own, write, monkeypatch, tmp_path):
    """The compilers are the installed ones, seen from where they lie when they are unpacked."""
    real = toolchain.find("linux-i386", conf.load())
    programs = own.root / "packages/0123/root/usr/bin"
    programs.mkdir(parents=True)
    for name in (f"gccgo-{real.major}", f"gcc-{real.major}", "strip"):
        (programs / f"{real.triple}-{name}").symlink_to(shutil.which(f"{real.triple}-{name}"))
    archive = write("cache/harness/packages/4567/root/usr/src/gcc-99/gcc-99.1.0.tar.xz", "")
    packages.write_wrappers(own.root / "packages/0123")
    monkeypatch.setenv("PATH", str(tmp_path))
    tools = toolchain.find("linux-i386", conf.load())
    wrappers = own.root / "packages/0123/bin"
    assert tools.gccgo == str(wrappers / f"{real.triple}-gccgo-{real.major}")
    assert tools.tool("strip") == str(wrappers / f"{real.triple}-strip")
    assert (tools.version, tools.banner) == (real.version, real.banner)
    assert tools.ask("-print-sysroot") == str(own.root / "packages/0123/root")
    assert packages.gcc_source(99) == archive


def test_without_unpacked_packages_the_package_is_named(own, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing, match="install Debian's package gccgo-i686-linux-gnu"):
        toolchain.find("linux-i386", conf.load())


@pytest.mark.demand
def test_unpacked_compilers_give_the_same_bytes_as_installed_ones(own, write, monkeypatch):
    """By apt, from the archive that this machine is configured with; takes a minute or more."""
    real = toolchain.find("linux-i386", conf.load())
    program = write("hello.go", 'package main\n\nimport "fmt"\n\nfunc main() { fmt.Println("hello") }\n')
    module = write("module.c", '#include <pthread.h>\n#include <stdio.h>\nint f(void) { return puts("f"); }\n')

    def compile_with(gccgo: str, gcc: str, name: str) -> list[bytes]:
        outputs = [program.with_name(f"{name}-{part}") for part in ("program", "module.o")]
        subprocess.run([gccgo, "-o", outputs[0], program], check=True)
        subprocess.run([gcc, "-g", "-O2", "-c", "-o", outputs[1], module], check=True)
        return [file.read_bytes() for file in outputs]

    installed = compile_with(real.gccgo, real.gcc, "installed")
    folder = packages.unpack([f"gccgo-{real.major}-{real.triple}"], own, print)
    wrappers = [str(folder / "bin" / f"{real.triple}-{name}-{real.major}") for name in ("gccgo", "gcc")]
    assert compile_with(wrappers[0], wrappers[1], "unpacked") == installed
    packages.unpack([f"gcc-{real.major}-source"], own, print, alone=True)
    unpacked = packages.unpacked_folders()
    assert any((folder / f"root/usr/src/gcc-{real.major}").is_dir() for folder in unpacked)
    monkeypatch.setenv("PATH", "/bin/none")
    assert real.tool("strip").startswith(str(own.root))
    assert source.find(real).is_file()
