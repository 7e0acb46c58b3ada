"""Patches split and composed: every part applies at the lines that it names, and all parts make the whole."""

import difflib
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.bisect import hunks
from harness.build import patches
from harness.errors import PatchError

FILE = "libgo/go/p/f.go"


def difference(before, after, name=FILE, n=3):
    """A patch that makes one text of another."""
    lines = [[f"{line}\n" for line in text] for text in (before, after)]
    return "".join(difflib.unified_diff(*lines, f"a/{name}", f"b/{name}", n=n))


def series(folder, base, *texts, blocks=False):
    """The series of patches that make the texts, one after the other, of a file that GCC's source has."""
    source = folder / "gcc" / FILE
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text("".join(f"{line}\n" for line in base))
    parsed = []
    for number, (before, after) in enumerate(zip([base, *texts], texts, strict=False)):
        parsed += patches.parse(difference(before, after).encode(), Path(f"{number}.patch"))
    return hunks.split(parsed, folder / "gcc", blocks=blocks)


def applied(text, base):
    """The result of GNU patch, which must not have to look for the place."""
    if not text:
        return base
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / FILE
        file.parent.mkdir(parents=True)
        file.write_text("".join(f"{line}\n" for line in base))
        command = ["patch", "-p1", "--fuzz=0", "--batch", "--posix"]
        process = subprocess.run(command, cwd=folder, input=text, capture_output=True, check=False)
        assert process.returncode == 0 and b"offset" not in process.stdout, process.stdout
        return file.read_text().splitlines() if file.exists() else []


LINES = [f"line {number}" for number in range(60)]


def changed(*places, lines=LINES):
    return [f"changed {number}" if number in places else line for number, line in enumerate(lines)]


def test_each_hunk_alone_and_any_of_them(tmp_path):
    parts = series(tmp_path, LINES, changed(5, 25, 45))
    assert [unit.name for unit in parts.units] == ["go/p/f.go:6", "go/p/f.go:26", "go/p/f.go:46"]
    assert parts.needs == set()
    for chosen in [{0}, {1}, {2}, {0, 2}, {0, 1, 2}]:
        assert applied(parts.compose(chosen), LINES) == changed(*[(5, 25, 45)[unit] for unit in chosen])
    assert parts.compose(set()) == b""


def test_blocks_of_one_hunk(tmp_path):
    whole = changed(5, 8, 10)
    assert len(series(tmp_path, LINES, whole).units) == 1
    parts = series(tmp_path, LINES, whole, blocks=True)
    assert [unit.about for unit in parts.units] == ["-line 5", "-line 8", "-line 10"]
    for chosen in [{0}, {1}, {2}, {0, 2}, {1, 2}]:
        assert applied(parts.compose(chosen), LINES) == changed(*[(5, 8, 10)[unit] for unit in chosen])


def test_a_later_patch_needs_what_it_touches(tmp_path):
    first = [*LINES[:10], "new a", "new b", *LINES[10:]]
    second = [line.replace("new b", "newer b") for line in changed(52, lines=first)]
    parts = series(tmp_path, LINES, first, second)
    assert [unit.name for unit in parts.units] == [
        "0.patch: go/p/f.go:11",
        "1.patch: go/p/f.go:12",
        "1.patch: go/p/f.go:53",
    ]
    assert parts.needs == {(1, 0)}
    assert applied(parts.compose({2}), LINES) == [*LINES[:50], "changed 52", *LINES[51:]]
    with pytest.raises(PatchError, match=r"1.patch: go/p/f.go:12 does not apply without"):
        parts.compose({1, 2})


def test_new_and_removed_files_and_ends_without_newline(write, tmp_path):
    write("gcc/libgo/old.c", "one\ntwo")
    write("gcc/libgo/end.c", "one\ntwo")
    text = (
        "--- /dev/null\n+++ b/libgo/new.c\n@@ -0,0 +1,2 @@\n+a\n+b\n\\ No newline at end of file\n"
        "--- a/libgo/old.c\n+++ /dev/null\n@@ -1,2 +0,0 @@\n-one\n-two\n\\ No newline at end of file\n"
        "--- a/libgo/end.c\n+++ b/libgo/end.c\n@@ -1,2 +1,2 @@\n one\n-two\n\\ No newline at end of file\n+two\n"
    )
    parts = hunks.split(patches.parse(text.encode(), Path("p.patch")), tmp_path / "gcc")
    assert parts.needs == set()
    assert parts.compose({0, 1, 2}).decode() == (
        "--- a/libgo/end.c\n+++ b/libgo/end.c\n@@ -1,2 +1,2 @@\n one\n-two\n\\ No newline at end of file\n+two\n"
        "--- /dev/null\n+++ b/libgo/new.c\n@@ -0,0 +1,2 @@\n+a\n+b\n\\ No newline at end of file\n"
        "--- a/libgo/old.c\n+++ /dev/null\n@@ -1,2 +0,0 @@\n-one\n-two\n\\ No newline at end of file\n"
    )
    patches.apply(*patches.parse(parts.compose({1}), Path("one.patch")), tmp_path / "gcc")
    assert not (tmp_path / "gcc/libgo/old.c").exists() and (tmp_path / "gcc/libgo/end.c").read_text() == "one\ntwo"


def test_a_patch_made_elsewhere_in_the_file_is_found(write, tmp_path):
    write(f"gcc/{FILE}", "".join(f"{line}\n" for line in ["above"] * 7 + LINES))
    (patch,) = patches.parse(difference(LINES, changed(5, 25)).encode(), Path("p.patch"))
    parts = hunks.split([patch], tmp_path / "gcc")
    assert b"@@ -30,7 +30,7 @@" in parts.compose({1})


def test_hunks_that_share_a_new_identifier_may_need_each_other(tmp_path):
    text = list(LINES)
    text[5], text[25], text[45] = "var fresh int", "use(fresh)", "nothing to do with it"
    assert set(series(tmp_path, LINES, text).likely) == {(0, 1), (1, 0)}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (f"rename from libgo/a.c\nrename to {FILE}\n", "renames libgo/a.c, which cannot be split"),
        (f"copy from libgo/a.c\ncopy to {FILE}\n", "copies libgo/a.c, which cannot be split"),
        ("old mode 100644\nnew mode 100755\n", f"changes the mode of {FILE}, which cannot be split"),
    ],
)
def test_changes_outside_of_hunks_are_refused(tmp_path, header, message):
    text = f"diff --git a/{FILE} b/{FILE}\n{header}{difference(LINES, changed(5))}"
    if "from libgo/a.c" in header:
        text = text.replace(f"--- a/{FILE}", "--- a/libgo/a.c")
    with pytest.raises(PatchError, match=message):
        hunks.split(patches.parse(text.encode(), Path("p.patch")), tmp_path)


def test_a_patch_that_does_not_apply(tmp_path):
    source = tmp_path / "gcc" / FILE
    source.parent.mkdir(parents=True)
    source.write_text("other\n")
    with pytest.raises(PatchError, match=r"hunk 1 of .* fails at line"):
        hunks.split(patches.parse(difference(LINES, changed(5)).encode(), Path("p.patch")), tmp_path / "gcc")


@st.composite
def edited(draw, lines):
    """A text with some of its lines replaced, removed, and others put between them. All lines differ."""
    result = []
    for line in lines:
        kind = draw(st.sampled_from(["keep"] * 9 + ["remove", "replace", "insert"]))
        result += {"keep": [line], "remove": [], "replace": [f"{line}!"], "insert": [f"{line}+", line]}[kind]
    return result


@settings(max_examples=60)
@given(st.data())
def test_any_series_any_part(tmp_path_factory, data):
    base = [f"l{number}" for number in range(data.draw(st.integers(1, 40)))]
    first = data.draw(edited(base))
    second = data.draw(edited(first))
    if first == base or second == first:
        return
    parts = series(tmp_path_factory.mktemp("series"), base, first, second, blocks=data.draw(st.booleans()))
    everything = set(range(len(parts.units)))
    assert applied(parts.compose(everything), base) == second
    chosen = data.draw(st.sets(st.sampled_from(sorted(everything))))
    while more := {need for unit, need in parts.needs if unit in chosen} - chosen:
        chosen |= more
    text = (parts.text(FILE, chosen) or "").splitlines()
    assert applied(parts.compose(chosen), base) == text
    assert {line for line in text if line in set(base) & set(second)} >= set(base) & set(second)
