"""The compilers for GNU/Hurd, really built, without a sysroot: run on demand by `tox run -e compilers`.

It takes about ten minutes on two cores, 2 GB of disk, and what `harness toolchain build` asks for. The build is kept
in the user's cache, and goes on there when it was interrupted.
"""

import subprocess
import time

import pytest

from harness import conf, paths
from harness.build import gcc
from harness.cache import Cache

pytestmark = pytest.mark.demand

HELLO = 'package main\n\nfunc main() { c := make(chan int); go func() { c <- 1 }(); println("hello", <-c) }\n'


@pytest.fixture(scope="module")
def tools():
    """The prefix of the built tools, and the flags that the configuration gives them."""
    config = conf.load().toolchain("hurd-i386")
    begun = time.monotonic()
    built = gcc.build(
        "hurd-i386",
        config,
        None,
        Cache(paths.cache_dir()),
        lambda text: print(f"[{time.monotonic() - begun:.0f} s] {text}", flush=True),
    )
    return f"{built.folder}/bin/i686-gnu-", config.flags


def output_of(*command, text=None):
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


def test_they_are_for_the_hurd(tools):
    prefix, _ = tools
    for compiler in ("gcc", "gccgo"):
        assert output_of(f"{prefix}{compiler}", "-dumpmachine") == "i686-gnu\n"
    defined = output_of(f"{prefix}gcc", "-dM", "-E", "-xc", "-", text="").splitlines()
    assert {"#define __gnu_hurd__ 1", "#define __i386__ 1"} <= set(defined)
    assert "#define __linux__ 1" not in defined


def test_a_go_program_becomes_an_i386_object(tools, tmp_path):
    prefix, flags = tools
    (tmp_path / "hello.go").write_text(HELLO)
    assembly, compiled = tmp_path / "hello.s", tmp_path / "hello.o"
    for mode, out in (("-S", assembly), ("-c", compiled)):
        output_of(f"{prefix}gccgo", *flags, "-O2", mode, "-o", out, tmp_path / "hello.go")
    assert "\nmain.main:\n" in assembly.read_text()
    header = output_of(f"{prefix}readelf", "-h", compiled)
    assert "ELF32" in header
    assert "Intel 80386" in header
    symbols = output_of(f"{prefix}nm", compiled)
    assert " T main.main\n" in symbols
    assert " U runtime.chanrecv1\n" in symbols


def test_c_becomes_an_i386_object(tools, tmp_path):
    prefix, flags = tools
    (tmp_path / "one.c").write_text("int one(void) { return __gnu_hurd__; }\n")
    output_of(f"{prefix}gcc", *flags, "-O2", "-c", "-o", tmp_path / "one.o", tmp_path / "one.c")
    assert "Intel 80386" in output_of(f"{prefix}readelf", "-h", tmp_path / "one.o")
