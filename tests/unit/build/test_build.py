"""libgo variants built for real, from the unpatched tree in the user's cache, into a cache of the test's own."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.build import libgo, patches, program
from harness.cache import tree_digest
from harness.cli.app import main
from harness.errors import BuildError
from harness.programs.header import read_program

RING = """--- a/libgo/go/container/ring/ring.go
+++ b/libgo/go/container/ring/ring.go
@@ -6,4 +6,7 @@
 package ring
 
+// Answer is new.
+func Answer() int { return 42 }
+
 // A Ring is an element of a circular list, or ring.
 // Rings do not have a beginning or end; a pointer to any ring element
"""
#: A file is added, and what is in it used; nothing that the package exports changes.
SPLIT = """--- a/libgo/go/container/ring/ring.go
+++ b/libgo/go/container/ring/ring.go
@@ -135,5 +135,5 @@
 \tif r != nil {
 \t\tf(r.Value)
-\t\tfor p := r.Next(); p != r; p = p.next {
+\t\tfor p := following(r); p != r; p = p.next {
 \t\t\tf(p.Value)
 \t\t}
--- /dev/null
+++ b/libgo/go/container/ring/following.go
@@ -0,0 +1,4 @@
+package ring
+
+//go:noinline
+func following(r *Ring) *Ring { return r.Next() }
"""
#: A change of a C file; what stands for LINE comes before the function.
YIELD = """--- a/libgo/runtime/yield.c
+++ b/libgo/runtime/yield.c
@@ -23,4 +23,5 @@
 /* Spin wait.  */
 
+LINE
 void
 runtime_procyield (uint32 cnt)
"""
PROGRAM = 'package main\n\nimport "container/ring"\n\nfunc main() {\n\tif ring.Answer() != 42 {\n\t\tpanic(0)\n\t}\n}\n'


def patch(write, text, name="p.patch"):
    (patch,) = patches.read(write(name, text))
    return patch


def test_programs_can_use_new_exports_of_a_package(tools, libgo_cache, pristine_tree, write):
    before = tree_digest(pristine_tree)
    steps = []
    library = libgo.build(tools, libgo.Recipe((patch(write, RING),)), libgo_cache, steps.append)
    assert "export data changed, compiling the importers" in steps
    assert program.build(read_program(write("x.go", PROGRAM)), tools, library, libgo_cache).is_file()
    assert not (library.folder / "tree").exists()
    assert tree_digest(pristine_tree) == before, "the tree that variants start from stays as it is"


def test_a_file_that_is_added_is_compiled_with_the_others(tools, libgo_cache, write):
    steps = []
    libgo.build(tools, libgo.Recipe((patch(write, SPLIT),)), libgo_cache, steps.append)
    assert not any("export data changed" in text for text in steps), "make was left to find the new file"


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ('package a\n\nimport "b"\n\nvar c = 1\n', 'package a\n\nimport "b"\n\nvar c, d = 1, 2\n', True),
        ("// One.\n\npackage a\n", "package a\n", False),
        ("//go:build linux\n\npackage a\n", "//go:build hurd\n\npackage a\n", False),
        ("/*\nconst\n*/\npackage a\n", '/*\nconst\n*/\npackage a\n\nimport "b"\n', False),
        ('package a\n\nimport (\n\t"b"\n)\n', 'package a\n\nimport (\n\t"b"\n\tc "d"\n)\n', False),
        ('package a\n\nimport "b"\n', 'package a\n\nimport x "c"\n', False),
        ('package a\nimport (\n\t"b"\n)\nfunc x() {}\n', 'package a\nimport (\n\t"b"\n)\nfunc y() {}\n', True),
    ],
)
def test_a_changed_header_is_noticed(tmp_path, before, after, same):
    for tree, text in (("there", before), ("here", after)):
        (tmp_path / tree / "src").mkdir(parents=True)
        (tmp_path / tree / "src" / "a.go").write_text(text)
    assert libgo.has_same_header(tmp_path / "there", tmp_path / "here", "a.go") is same


def test_a_c_file_alone(tools, libgo_cache, write):
    steps = []
    c_patch = patch(write, YIELD.replace("LINE", "__attribute__ ((noinline))"))
    library = libgo.build(tools, libgo.Recipe((c_patch,)), libgo_cache, steps.append)
    assert steps[:3] == ["waiting for the unpatched libgo", "copying the tree", "compiling what the patches touch"]
    assert not any("export data changed" in text for text in steps)
    plain = libgo.build(tools, libgo.Recipe(), libgo_cache)
    assert library.interface == plain.interface, "programs are compiled to the same bytes"
    assert library.library.name == plain.library.name


def test_a_patch_that_breaks_the_build(tools, libgo_cache, write):
    with pytest.raises(BuildError, match=r"yield.c:25:\d+: error: .* \(whole log: (.*)\)") as caught:
        libgo.build(tools, libgo.Recipe((patch(write, YIELD.replace("LINE", "no such type")),)), libgo_cache)
    log = str(caught.value).rpartition("whole log: ")[2].rstrip(")")
    assert "error:" in Path(log).read_text()
    assert not list((libgo_cache.root / "libgo").iterdir()), "nothing half made is left"


def test_killed_in_the_middle_and_begun_again(libgo_cache, write, tmp_path):
    write("p.patch", YIELD.replace("LINE", "__attribute__ ((noinline))"))
    mine = write("mine.yaml", "variants:\n  mine: {patches: [p.patch]}\n")
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    arguments = ["build", "mine", "--conf", str(mine)]
    harness = Path(sys.executable).with_name("harness")
    process = subprocess.Popen([harness, *arguments], env=environment, stderr=subprocess.DEVNULL)
    staging = libgo_cache.root / "libgo"
    deadline = time.monotonic() + 60
    while not list(staging.glob(".*.new/tree/place")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (half,) = staging.glob(".*.new")
    while any(_stands_in(half)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_stands_in(half))
    assert not list(staging.glob("[!.]*"))
    result = CliRunner().invoke(main, arguments, env={"XDG_CACHE_HOME": environment["XDG_CACHE_HOME"]})
    assert result.exit_code == 0, result.output
    assert not list(staging.glob(".*"))


def _stands_in(folder):
    """The processes whose current folder is in a folder."""
    for process in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if process.isdigit() and os.readlink(f"/proc/{process}/cwd").startswith(str(folder)):
                yield process


def test_the_distribution_s_own_libgo(tools, libgo_cache, write):
    library = libgo.build(tools, libgo.Recipe(prebuilt=True), libgo_cache)
    assert library.library.read_bytes()[:4] == b"\x7fELF"
    source = write("y.go", "package main\n\nfunc main() {}\n")
    assert program.build(read_program(source), tools, library, libgo_cache).is_file()


def test_a_killed_compiler_is_not_an_error_of_the_program(tools, libgo_cache, write, tmp_path):
    library = libgo.build(tools, libgo.Recipe(prebuilt=True), libgo_cache)
    message = "gccgo: fatal error: Killed signal terminated program go1"
    stand_in = write(
        "gccgo", f'#!/bin/sh\ncase $1 in -print*) exec {tools.gccgo} "$1";; esac\necho "{message}" >&2\nexit 1\n'
    )
    stand_in.chmod(0o755)
    source = read_program(write("z.go", "package main\n\nfunc main() {}\n"))
    with pytest.raises(BuildError, match=f"could not be compiled: {message}"):
        program.build(source, replace(tools, gccgo=str(stand_in)), library, libgo_cache)
