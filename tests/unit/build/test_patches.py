"""Patches: every wrong kind is refused with its reason, and a right one is applied whole or not at all."""

import shutil
import subprocess
from pathlib import Path

import pytest

from harness import conf, paths
from harness.build import patches
from harness.build.toolchain import GCC_VERSIONS
from harness.build.variants import TRACE_PATCH, read_variants
from harness.errors import PatchError

CONFIGURATION = conf.load()
TRIPLES = {toolchain.triple for toolchain in CONFIGURATION.toolchains.values()}
GOOD = "--- a/libgo/f.go\n+++ b/libgo/f.go\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "changes nothing"),
        ("only words\n", "changes nothing"),
        (GOOD.replace("\n", "\r\n"), "CR LF"),
        (GOOD.replace("a/libgo", "libgo").replace("b/libgo", "libgo"), "must be made as `git diff` does"),
        (GOOD.replace("libgo/f.go", "gcc/f.go"), "touches gcc/f.go, which is outside libgo"),
        (GOOD.replace("libgo/f.go", "libgo/../f.go"), "outside libgo"),
        (GOOD.replace("libgo/f.go", "gcc-12.2.0/libgo/f.go"), "must be made as `git diff` does"),
        (GOOD.replace("libgo/f.go", "go/runtime/f.go"), "must be made as `git diff` does"),
        (GOOD.replace("libgo/f.go", "gcc/go/f.go"), "touches gcc/go/f.go, which is outside libgo"),
        (GOOD + "GIT binary patch\n", "binary"),
        (GOOD[:-20], "not a unified diff"),
    ],
)
def test_wrong_patches(write, text, message):
    with pytest.raises(PatchError) as caught:
        patches.read(write("p.patch", text))
    assert message in str(caught.value)


def test_a_missing_patch(tmp_path):
    with pytest.raises(PatchError, match="cannot be read"):
        patches.read(tmp_path / "none.patch")


def test_applying(write, tmp_path):
    file = write("tree/libgo/f.go", "one\ntwo\nthree\n")
    patch = patches.read(write("p.patch", "Why.\n" + GOOD))
    patches.apply(patch, tmp_path / "tree")
    assert file.read_text() == "one\n2\nthree\n"
    with pytest.raises(PatchError, match="does not apply"):
        patches.apply(patch, tmp_path / "tree")


def test_why_a_patch_does_not_apply(write, tmp_path):
    write("tree/libgo/f.go", "one\n2\nthree\n")
    write("tree/gcc/BASE-VER", "12.2.0\n")
    applied, lost = (
        patches.read(write("p.patch", GOOD)),
        patches.read(write("q.patch", GOOD.replace("f.go", "none.go"))),
    )
    with pytest.raises(PatchError, match=r"does not apply to GCC 12\.2\.0: libgo/f\.go: it has been applied already"):
        patches.apply(applied, tmp_path / "tree")
    with pytest.raises(PatchError, match="it patches a file that does not exist"):
        patches.apply(lost, tmp_path / "tree")


def test_a_patch_that_adds_a_file(write, tmp_path):
    added = "--- /dev/null\n+++ b/libgo/go/new.go\n@@ -0,0 +1 @@\n+package new\n"
    patch = patches.read(write("p.patch", added))
    assert (patch.files, patch.go_files) == (("libgo/go/new.go",), ["libgo/go/new.go"])
    write("tree/libgo/go/other.go", "")
    patches.apply(patch, tmp_path / "tree")
    assert (tmp_path / "tree/libgo/go/new.go").read_text() == "package new\n"


def test_a_failing_patch_names_hunk_and_file_and_changes_nothing(write, tmp_path):
    first = write("tree/libgo/e.go", "one\ntwo\nthree\n")
    write("tree/libgo/f.go", "one\nzwei\nthree\n")
    patch = patches.read(write("p.patch", GOOD.replace("f.go", "e.go") + GOOD))
    with pytest.raises(PatchError, match=r"hunk 1 of libgo/f.go fails at line 1"):
        patches.apply(patch, tmp_path / "tree")
    assert first.read_text() == "one\ntwo\nthree\n"


def test_a_patch_s_header_is_not_part_of_its_key(write):
    described, plain = patches.read(write("a.patch", "Why.\n\n" + GOOD)), patches.read(write("b.patch", GOOD))
    assert described.key == plain.key
    assert patches.read(write("c.patch", GOOD.replace("+2", "+3"))).key != plain.key


def test_a_patch_that_applies_only_with_fuzz(write, tmp_path):
    write("tree/libgo/f.go", "eins\ntwo\nthree\n")
    with pytest.raises(PatchError, match=r"hunk 1 of libgo/f.go fails at line 1, except with fuzz"):
        patches.apply(patches.read(write("p.patch", GOOD)), tmp_path / "tree")


SOURCES = [
    archive
    for major in GCC_VERSIONS
    for archive in sorted(Path(f"/usr/src/gcc-{major}").glob(f"gcc-{major}.*.tar.xz"))[-1:]
]


@pytest.fixture(scope="module", params=SOURCES, ids=lambda archive: archive.name)
def libgo_source(request, tmp_path_factory):
    """What the patches touch of each GCC source that this machine has."""
    tree = tmp_path_factory.mktemp("gcc")
    files = ["*/libgo/runtime/proc.c", "*/libgo/go/runtime/*.go"]
    tar = ["tar", "-xf", request.param, "-C", tree, "--strip-components=1", "--wildcards", *files]
    subprocess.run(tar, check=True)
    return tree


def test_gcc_s_source_is_installed():
    assert SOURCES, "no patch was tried"


@pytest.mark.parametrize("name", [name for name, variant in CONFIGURATION.variants.items() if variant.patches])
def test_each_variant_s_patches_apply_and_the_trace_after_them(libgo_source, tmp_path, name):
    shutil.copytree(libgo_source, tmp_path / "gcc")
    variant = read_variants([name], TRIPLES, CONFIGURATION)[name]
    for patch in [*variant.recipe.patches, patches.read(TRACE_PATCH)]:
        patches.apply(patch, tmp_path / "gcc")


def test_each_given_patch_says_what_it_is_for():
    used = {file.name for name in CONFIGURATION.variants for file in CONFIGURATION.patches(name)}
    files = sorted((paths.DATA / "conf" / "patches").glob("*.patch"))
    assert used | {TRACE_PATCH.name} == {file.name for file in files}
    for path in files:
        header = path.read_text().partition("\n--- ")[0]
        keywords = ["Touches:"] if path == TRACE_PATCH else ["Touches:", "Separates:"]
        assert all(keyword in header for keyword in keywords), path.name
