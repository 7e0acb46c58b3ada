"""Patches: every wrong kind is refused with its reason, and a right one is applied whole or not at all."""

import pytest

from harness import paths
from harness.build import patches
from harness.errors import PatchError

GOOD = "--- a/libgo/f.go\n+++ b/libgo/f.go\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "changes nothing"),
        ("only words\n", "changes nothing"),
        (GOOD.replace("\n", "\r\n"), "CR LF"),
        (GOOD.replace("a/libgo", "libgo").replace("b/libgo", "libgo"), "must be made as `git diff` does"),
        (GOOD.replace("libgo/f.go", "gcc/f.go"), "touches gcc/f.go, which is outside libgo"),
        (GOOD.replace("libgo/f.go", "libgo/../f.go"), "outside libgo"),
        (GOOD + "GIT binary patch\n", "binary"),
        (GOOD[:-20], "not a unified diff"),
    ],
)
def test_wrong_patches(write, text, said):
    with pytest.raises(PatchError) as caught:
        patches.read(write("p.patch", text))
    assert said in str(caught.value)


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


def test_what_does_not_fit_names_hunk_and_file_and_changes_nothing(write, tmp_path):
    first = write("tree/libgo/e.go", "one\ntwo\nthree\n")
    write("tree/libgo/f.go", "one\nzwei\nthree\n")
    patch = patches.read(write("p.patch", GOOD.replace("f.go", "e.go") + GOOD))
    with pytest.raises(PatchError, match=r"hunk 1 of libgo/f.go fails at line 1"):
        patches.apply(patch, tmp_path / "tree")
    assert first.read_text() == "one\ntwo\nthree\n"


def test_a_patch_s_words_are_not_part_of_its_key(write):
    one, other = patches.read(write("a.patch", "Why.\n\n" + GOOD)), patches.read(write("b.patch", GOOD))
    assert one.key == other.key
    assert patches.read(write("c.patch", GOOD.replace("+2", "+3"))).key != one.key


def test_the_given_patches_can_be_read():
    found = list((paths.DATA / "conf" / "patches").glob("*.patch"))
    assert found
    for path in found:
        assert patches.read(path).files
