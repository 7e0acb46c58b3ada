"""Patches: every wrong kind is refused with its reason, and a right one is applied whole or not at all."""

import email.message
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import conf, paths
from harness.build import diffs, patches
from harness.build.toolchain import GCC_VERSIONS
from harness.build.variants import TRACE_PATCH, read_variants
from harness.errors import PatchError

CONFIGURATION = conf.load()
TRIPLES = {toolchain.triple for toolchain in CONFIGURATION.toolchains.values()}
GOOD = "--- a/libgo/f.go\n+++ b/libgo/f.go\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n"


def diff(name, old="two", new="2"):
    """A diff of one line of a file that has three."""
    return f"--- a/{name}\n+++ b/{name}\n@@ -1,3 +1,3 @@\n one\n-{old}\n+{new}\n three\n"


def mail(number, of, subject, body):
    """A patch as `git format-patch --stdout` writes it."""
    return (
        f"From {number * 40} Mon Sep 17 00:00:00 2001\nFrom: A <a@example.org>\nDate: Mon, 1 Jan 2024 00:00:00 +0000\n"
        f"Subject: [PATCH v2 {number}/{of}] {subject}\n\nWhy.\n\n---\n libgo/f.go | 2 +-\n\n{body}-- \n2.39.5\n\n"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "changes nothing"),
        ("only words\n", "changes nothing"),
        (GOOD.replace("\n", "\r\n") + "Bye.\n", "CR LF line ends in some lines"),
        (GOOD.replace("libgo/f.go", "gcc/f.go"), "touches gcc/f.go, which is outside libgo"),
        (GOOD.replace("libgo/f.go", "libgo/../f.go"), "outside libgo"),
        (GOOD.replace("a/libgo/f.go", "/libgo/f.go").replace("b/", "/"), "outside libgo"),
        (GOOD.replace("libgo/f.go", "gcc/testsuite/libgo/f.go"), "touches gcc/testsuite/libgo/f.go, which is outside"),
        (GOOD.replace("libgo/f.go", "gcc/go/f.go"), "touches gcc/go/f.go, which is outside libgo"),
        (GOOD.replace("libgo/f.go", "go/lex.cc") + GOOD, "touches go/lex.cc (it is gofrontend's compiler"),
        (GOOD + GOOD.replace("libgo/f.go", "test/chan/f.go"), "touches test/chan/f.go (it is of Go's own repository"),
        (GOOD.replace("+++ b/libgo/f.go", "+++ b/gcc/f.go"), "touches gcc/f.go"),
        (GOOD + "GIT binary patch\n", "binary"),
        ("diff --git a/libgo/x.gz b/libgo/x.gz\nBinary files a/libgo/x.gz and b/libgo/x.gz differ\n", "binary"),
        (GOOD[:-20], "is not a unified diff: the hunk at line 3 does not have the lines that it announces (line 4)"),
        (GOOD.replace("-two\n", "-two is folded by\na mailer\n"), "the lines that it announces (line 6)"),
        (GOOD + "+more\n", "the hunk before line 8 has more lines than it announces"),
        (GOOD.replace("\n", "\n    ")[:-4].replace("---", "    ---", 1), "its lines are indented or quoted"),
        ("".join(f"> {line}\n" for line in GOOD.splitlines()), "its lines are indented or quoted"),
        ("*** a/libgo/f.go\n--- b/libgo/f.go\n***************\n*** 1 ****\n! one\n", "is a context diff"),
        (
            "diff --cc libgo/f.go\n--- a/libgo/f.go\n+++ b/libgo/f.go\n@@@ -1,1 -1,1 +1,1 @@@\n",
            "combined diff of a merge",
        ),
        ("<!DOCTYPE html>\n<pre>" + "\n", "is a web page"),
        ("diff --git a/libgo/f.go b/libgo/f.go\nindex 1..2 100644\n", "changes nothing"),
        ("diff --git a/libgo/e.go b/libgo/e.go\n" + GOOD, "line 2: it names other files than `diff --git` in line 1"),
    ],
)
def test_what_is_wrong_with_a_patch(write, text, message):
    with pytest.raises(PatchError) as caught:
        patches.read(write("p.patch", text))
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"\x1f\x8b\x08\0", b"\xff\xfe-\0-\0"])
def test_what_is_no_text(tmp_path, data):
    (tmp_path / "p.patch").write_bytes(data)
    with pytest.raises(PatchError, match=r"is compressed|is UTF-16"):
        patches.read(tmp_path / "p.patch")


@pytest.mark.parametrize(
    ("name", "inside"),
    [
        ("a/libgo/go/os/f.go", "libgo/go/os/f.go"),
        ("libgo/go/os/f.go", "libgo/go/os/f.go"),  # svn diff, git diff --no-prefix
        ("a/gcc-12.2.0/libgo/go/os/f.go", "libgo/go/os/f.go"),
        ("gcc-12.2.0.orig/libgo/go/os/f.go", "libgo/go/os/f.go"),
        ("a/src/libgo/go/os/f.go", "libgo/go/os/f.go"),  # Debian's
        ("a/src/os/f.go", "libgo/go/os/f.go"),  # Go's own repository
        ("a/src/vendor/golang.org/x/net/f.go", "libgo/go/golang.org/x/net/f.go"),
        ("a/go/os/f.go", "libgo/go/os/f.go"),  # git diff --relative in libgo
    ],
)
def test_names_that_a_patch_may_have(write, tmp_path, name, inside):
    (patch,) = patches.read(write("p.patch", diff(name).replace("+++ b/a/", "+++ b/").replace("--- a/a/", "--- a/")))
    (plain,) = patches.read(write("q.patch", GOOD.replace("a/libgo/f.go", name).replace("b/libgo/f.go", name)))
    assert patch.files == plain.files == (inside,)
    write(f"tree/{inside}", "one\ntwo\nthree\n")
    patches.apply(plain, tmp_path / "tree")
    assert (tmp_path / "tree" / inside).read_text() == "one\n2\nthree\n"


def test_a_name_of_another_repository_is_told(write, tmp_path):
    (patch,) = patches.read(write("p.patch", diff("src/os/f.go")))
    with pytest.raises(
        PatchError, match=r"patches libgo/go/os/f.go \(src/os/f.go in the patch\), which does not exist"
    ):
        patches.apply(patch, tmp_path)


HUNK = "@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n"


@pytest.mark.parametrize(
    ("text", "files"),
    [
        (f"--- libgo/f.go.orig\t2024-01-01\n+++ libgo/f.go\t2024-01-02\n{HUNK}", {"f.go": "one\n2\nthree\n"}),
        (f"--- libgo/f.go\n+++ libgo/f.go.new\n{HUNK}", {"f.go": "one\n2\nthree\n"}),
        (f"--- gcc.old/libgo/f.go\n+++ gcc/libgo/f.go\n{HUNK}".replace("gcc.old", "gcc-12.2.0.orig"),
         {"f.go": "one\n2\nthree\n"}),
        ("--- a/libgo/g.go\t1970-01-01 01:00:00 +0100\n+++ b/libgo/g.go\t2024-01-01\n@@ -0,0 +1 @@\n+new\n",
         {"f.go": "one\ntwo\nthree\n", "g.go": "new\n"}),
        (f"--- gcc-12.2.0/libgo/f.go\n+++ gcc-12.2.0-hurd/libgo/f.go\n{HUNK}", {"f.go": "one\n2\nthree\n"}),
        (f"--- libgo.orig/f.go\n+++ libgo.new/f.go\n{HUNK}", {"f.go": "one\n2\nthree\n"}),
        (f"\ufeff--- libgo/f.go\n+++ libgo/f.go\n{HUNK}", {"f.go": "one\n2\nthree\n"}),
        ("Index: libgo/g.go\n====\n--- libgo/g.go\t(nonexistent)\n+++ libgo/g.go\t(new)\n@@ -0,0 +1 @@\n+new\n",
         {"f.go": "one\ntwo\nthree\n", "g.go": "new\n"}),
        ("--- a/libgo/f.go\t2024-01-01 10:00\n+++ b/libgo/f.go\t1969-12-31 19:00:00.000000000 -0500\n"
         "@@ -1,3 +0,0 @@\n-one\n-two\n-three\n", {}),
    ],
)  # fmt: skip
def test_what_diff_and_subversion_write(write, tmp_path, text, files):
    write("tree/libgo/f.go", "one\ntwo\nthree\n")
    (patch,) = patches.read(write("p.patch", text))
    patches.apply(patch, tmp_path / "tree")
    assert {file.name: file.read_text() for file in (tmp_path / "tree/libgo").iterdir()} == files


INDENTED = "".join(f"    {line}\n" for line in diff("gcc/BASE-VER").splitlines())


@pytest.mark.parametrize(
    "around",
    [
        f"This needs a change of the compiler:\n\n{INDENTED}\n---\n libgo/f.go | 2 +-\n\n",
        f"From: M\N{LATIN SMALL LETTER O WITH DIAERESIS}\n\n@@ -1 +1 @@ says nothing\n{INDENTED}",
        "commit 0123456789abcdef0123456789abcdef01234567\nAuthor: A\n\n    libgo: f\n\n",
        "Index: libgo/f.go\n===================================================================\n",
    ],
)
def test_what_is_no_part_of_a_patch_has_no_effect(write, tmp_path, around):
    """GNU patch takes the indented one for a patch too, and would change a file outside libgo."""
    compiler, file = write("tree/gcc/BASE-VER", "one\ntwo\nthree\n"), write("tree/libgo/f.go", "one\ntwo\nthree\n")
    (tmp_path / "p.patch").write_bytes((around + GOOD + INDENTED).encode("latin-1"))
    (patch,) = patches.read(tmp_path / "p.patch")
    assert patch.files == ("libgo/f.go",)
    patches.apply(patch, tmp_path / "tree")
    assert file.read_text() == "one\n2\nthree\n" and compiler.read_text() == "one\ntwo\nthree\n"


@given(
    st.lists(st.sampled_from([*GOOD.splitlines(), *INDENTED.splitlines(), "", "x", "-- ", "\\ No newline", "From x"]))
)
def test_only_libgo_is_changed_whatever_the_text(lines):
    """Whatever stands around and between the lines of patches: what is read touches libgo alone."""
    try:
        series = patches.parse("\n".join(lines).encode(), Path("p.patch"))
    except PatchError:
        return
    for patch in series:
        assert set(patch.files) == {"libgo/f.go"}
        assert [change.to_git() for change in diffs.parse(patch.text.decode())] == [patch.text.decode()]


def test_a_series_in_one_file(write, tmp_path):
    """`git format-patch --stdout` of commits that change the same line; a cover letter is no patch."""
    file = write("tree/libgo/f.go", "one\ntwo\nthree\n")
    cover = mail("0", 2, "f: cover letter", "")
    text = cover + mail("1", 2, "f: 2", diff("libgo/f.go")) + mail("2", 2, "f: 3", diff("libgo/f.go", "2", "3"))
    series = patches.read(write("p.mbox", text))
    assert [(patch.place, patch.subject) for patch in series] == [("1 of 2", "f: 2"), ("2 of 2", "f: 3")]
    patches.check(series, tmp_path / "tree")
    assert file.read_text() == "one\ntwo\nthree\n"
    for patch in series:
        patches.apply(patch, tmp_path / "tree")
    assert file.read_text() == "one\n3\nthree\n"
    with pytest.raises(PatchError, match=r"p.mbox \(1 of 2, \u201cf: 2\u201d\) does not apply .*fails at line 1"):
        patches.check(series, tmp_path / "tree")


def test_a_file_that_is_changed_twice_is_changed_in_turn(write, tmp_path):
    file = write("tree/libgo/f.go", "one\ntwo\nthree\n")
    log = "".join(f"commit {n * 10}\nAuthor: A\n\n    {n}: why\n\n" + diff("libgo/f.go", *change)
                  for n, change in (("1234", ("two", "2")), ("5678", ("2", "3"))))  # fmt: skip
    for text in (log, diff("libgo/f.go") + diff("libgo/f.go", "2", "3")):
        write("tree/libgo/f.go", "one\ntwo\nthree\n")
        series = patches.read(write("p.patch", text))
        assert len(series) == 2
        for patch in series:
            patches.apply(patch, tmp_path / "tree")
        assert file.read_text() == "one\n3\nthree\n"
    assert patches.read(write("p.patch", log))[1].subject == "5678: why"


def test_series_of_quilt_and_folders(write, tmp_path):
    write("q/b.patch", diff("libgo/f.go"))
    write("q/a.patch", diff("libgo/f.go", "2", "3"))
    write("q/note.txt", "no patch")
    series = write("q/series", "# the order\nb.patch -p1\n\na.patch # after b\n")
    for path in (series, tmp_path / "q"):
        assert [patch.path.name for patch in patches.read(path)] == ["b.patch", "a.patch"]
    series.unlink()
    assert [patch.path.name for patch in patches.read(tmp_path / "q")] == ["a.patch", "b.patch"]
    write("mails/0000-cover-letter.patch", mail("0", 1, "why", ""))
    write("mails/0001-f.patch", mail("1", 1, "f: 2", diff("libgo/f.go")))
    assert [patch.subject for patch in patches.read(tmp_path / "mails")] == ["f: 2"]
    write("none/note.txt", "")
    write("self/series", "series\n")
    write("empty/series", "# nothing\n")
    write("lost/series", "none.patch\n")
    for folder, message in (
        ("none", "no file named series"),
        ("self", "which is no patch"),
        ("empty", "names no patch"),
        ("lost", "none.patch: cannot be read"),
    ):
        with pytest.raises(PatchError, match=message):
            patches.read(tmp_path / folder)


@pytest.mark.parametrize("kind", ["quoted-printable", "base64", "attachment"])
def test_mails_are_decoded(write, tmp_path, kind):
    file = write("tree/libgo/f.go", "one\nx = 1\nthree\n")
    message = email.message.EmailMessage()
    message["Subject"] = "[PATCH] f: \N{LATIN SMALL LETTER A WITH DIAERESIS} = 2"
    body = diff("libgo/f.go", "x = 1", f"x = 2 {'// long ' * 20}")
    if kind == "attachment":
        message.set_content("See below.\n")
        message.add_attachment(body, filename="p.patch")
    else:
        message.set_content(body, cte=kind)
    (patch,) = patches.read(write("mail.eml", message.as_string()))
    assert patch.subject == "f: \N{LATIN SMALL LETTER A WITH DIAERESIS} = 2"
    patches.apply(patch, tmp_path / "tree")
    assert "x = 2 // long" in file.read_text()
    with pytest.raises(PatchError, match=r"a (quoted-printable|base64) mail|a mail of several parts"):
        patches.apply(patch, tmp_path / "tree")


def test_mails_with_the_line_ends_of_mails(write, tmp_path):
    file = write("tree/libgo/f.go", "one\ntwo\nthree\n")
    (patch,) = patches.read(write("p.eml", mail("1", 1, "f", GOOD).replace("\n", "\r\n")))
    patches.apply(patch, tmp_path / "tree")
    assert file.read_text() == "one\n2\nthree\n"


def test_empty_lines_whose_blank_is_gone(write, tmp_path):
    file = write("tree/libgo/f.go", "one\n\ntwo\n")
    text = "--- a/libgo/f.go\n+++ b/libgo/f.go\n@@ -1,3 +1,3 @@\n one\n\n-two\n+2\n"
    (patch,) = patches.read(write("p.patch", text))
    patches.apply(patch, tmp_path / "tree")
    assert file.read_text() == "one\n\n2\n"


GIT = "diff --git a/libgo/f.go b/libgo/g.go\n"


@pytest.mark.parametrize(
    ("text", "files", "removes"),
    [
        (f"{GIT}similarity index 100%\nrename from libgo/f.go\nrename to libgo/g.go\n",
         {"g.go": "one\ntwo\nthree\n"}, True),
        (f"{GIT}similarity index 60%\nrename from libgo/f.go\nrename to libgo/g.go\n"
         + GOOD.replace("+++ b/libgo/f.go", "+++ b/libgo/g.go"), {"g.go": "one\n2\nthree\n"}, True),
        (f"{GIT}similarity index 60%\ncopy from libgo/f.go\ncopy to libgo/g.go\n"
         + GOOD.replace("+++ b/libgo/f.go", "+++ b/libgo/g.go"),
         {"f.go": "one\ntwo\nthree\n", "g.go": "one\n2\nthree\n"}, False),
        ("diff --git a/libgo/g.go b/libgo/g.go\nnew file mode 100644\nindex 000..e69\n",
         {"f.go": "one\ntwo\nthree\n", "g.go": ""}, False),
        ("diff --git a/libgo/f.go b/libgo/f.go\ndeleted file mode 100644\nindex 1..0\n--- a/libgo/f.go\n+++ /dev/null\n"
         "@@ -1,3 +0,0 @@\n-one\n-two\n-three\n", {}, True),
        ("--- a/libgo/f.go\t2024-01-01\n+++ /dev/null\t1970-01-01\n@@ -1,3 +0,0 @@\n-one\n-two\n-three\n", {}, True),
        ("diff --git a/libgo/f.go b/libgo/f.go\nold mode 100644\nnew mode 100755\n",
         {"f.go": "one\ntwo\nthree\n"}, False),
    ],
)  # fmt: skip
def test_renames_copies_deletions_and_modes(write, tmp_path, text, files, removes):
    source = write("tree/libgo/f.go", "one\ntwo\nthree\n")
    linked = tmp_path / "linked"
    linked.hardlink_to(source)
    (patch,) = patches.read(write("p.patch", text))
    assert patch.removes == removes
    patches.check([patch], tmp_path / "tree")
    patches.apply(patch, tmp_path / "tree")
    assert {file.name: file.read_text() for file in (tmp_path / "tree/libgo").iterdir()} == files
    assert linked.read_text() == "one\ntwo\nthree\n" and not linked.stat().st_mode & 0o100, (
        "files are not written in place"
    )
    if "new mode" in text:
        assert source.stat().st_mode & 0o100
    (again,) = patches.parse(patch.text, Path("again.patch"))
    assert again.text == patch.text


def test_what_git_says_of_a_patch_is_what_is_written(write, tmp_path):
    """git reads what is written of each kind of change."""
    write("tree/libgo/f.go", "one\ntwo\nthree\n")
    text = f"{GIT}rename from libgo/f.go\nrename to libgo/g.go\n" + GOOD.replace("+++ b/libgo/f.go", "+++ b/libgo/g.go")
    (patch,) = patches.read(write("p.patch", text))
    subprocess.run(["git", "apply", "-"], cwd=tmp_path / "tree", input=patch.text, check=True)
    assert (tmp_path / "tree/libgo/g.go").read_text() == "one\n2\nthree\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{GIT}rename from libgo/f.go\nrename to libgo/e.go\n", "it makes libgo/e.go, which exists"),
        (f"{GIT}rename from libgo/none.go\nrename to libgo/g.go\n", "it patches libgo/none.go, which does not exist"),
        ("--- /dev/null\n+++ b/libgo/e.go\n@@ -0,0 +1 @@\n+x\n", "it makes libgo/e.go, which exists"),
    ],
)
def test_a_file_that_is_in_the_way_or_missing(write, tmp_path, text, message):
    write("tree/libgo/f.go", "one\n")
    write("tree/libgo/e.go", "one\n")
    (patch,) = patches.read(write("p.patch", text))
    with pytest.raises(PatchError, match=message):
        patches.apply(patch, tmp_path / "tree")
    assert len(list((tmp_path / "tree/libgo").iterdir())) == 2


def test_a_missing_patch(tmp_path):
    with pytest.raises(PatchError, match="cannot be read"):
        patches.read(tmp_path / "none.patch")


def test_applying(write, tmp_path):
    file = write("tree/libgo/f.go", "one\ntwo\nthree\n")
    (patch,) = patches.read(write("p.patch", "Why.\n" + GOOD))
    patches.apply(patch, tmp_path / "tree")
    assert file.read_text() == "one\n2\nthree\n"
    with pytest.raises(PatchError, match="does not apply"):
        patches.apply(patch, tmp_path / "tree")


def test_why_a_patch_does_not_apply(write, tmp_path):
    write("tree/libgo/f.go", "one\n2\nthree\n")
    write("tree/gcc/BASE-VER", "12.2.0\n")
    (applied,), (lost,) = (
        patches.read(write("p.patch", GOOD)),
        patches.read(write("q.patch", GOOD.replace("f.go", "none.go"))),
    )
    with pytest.raises(PatchError, match=r"does not apply to GCC 12\.2\.0: libgo/f\.go: it has been applied already"):
        patches.apply(applied, tmp_path / "tree")
    with pytest.raises(PatchError, match=r"it patches libgo/none\.go, which does not exist"):
        patches.apply(lost, tmp_path / "tree")


def test_a_patch_that_adds_a_file(write, tmp_path):
    added = "--- /dev/null\n+++ b/libgo/go/new.go\n@@ -0,0 +1 @@\n+package new\n"
    (patch,) = patches.read(write("p.patch", added))
    assert (patch.files, patch.go_files) == (("libgo/go/new.go",), ["libgo/go/new.go"])
    write("tree/libgo/go/other.go", "")
    patches.apply(patch, tmp_path / "tree")
    assert (tmp_path / "tree/libgo/go/new.go").read_text() == "package new\n"


def test_a_failing_patch_names_hunk_and_file_and_changes_nothing(write, tmp_path):
    first = write("tree/libgo/e.go", "one\ntwo\nthree\n")
    write("tree/libgo/f.go", "one\nzwei\nthree\n")
    (patch,) = patches.read(write("p.patch", GOOD.replace("f.go", "e.go") + GOOD))
    with pytest.raises(PatchError, match=r"hunk 1 of libgo/f.go fails at line 1"):
        patches.apply(patch, tmp_path / "tree")
    assert first.read_text() == "one\ntwo\nthree\n"


def test_a_patch_s_header_is_not_part_of_its_key(write):
    texts = ("Why.\n\n" + GOOD, GOOD, GOOD.replace("+2", "+3"))
    (described,), (plain,), (other,) = (patches.read(write("p.patch", text)) for text in texts)
    assert described.key == plain.key != other.key


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("diff --git a/libgo/l b/libgo/l\nnew file mode 120000\n--- /dev/null\n+++ b/libgo/l\n@@ -0,0 +1 @@\n+target\n",
         "line 1: it makes or changes a symbolic link; only files can be patched"),
        ("diff --git a/libgo/l b/libgo/l\nnew file mode 160000\n--- /dev/null\n+++ b/libgo/l\n@@ -0,0 +1 @@\n+Sub\n",
         "a submodule; only files"),
        ("".join(f"\x1b[1m{line}\x1b[m\n" for line in GOOD.splitlines()),
         "has a terminal's colours in it; make it with git diff --no-color"),
    ],
)  # fmt: skip
def test_what_no_patch_can_do_is_told(write, text, message):
    with pytest.raises(PatchError, match=re.escape(message)):
        patches.read(write("p.patch", text))


def test_a_series_that_reverses_a_patch_is_refused(write):
    write("one.diff", GOOD)
    with pytest.raises(PatchError, match=r"reverses one.diff \(-R\)"):
        patches.read(write("series", "one.diff -p1 -R\n"))


def test_a_list_s_archive_is_split_at_its_mails(write):
    mails = "".join(
        f"From x at example.org  Mon Jan  {day} 10:00:00 2024\nSubject: [PATCH {day}/2] part {day}\n\n"
        + GOOD.replace("f.go", f"f{day}.go")
        + "\n"
        for day in (1, 2)
    )
    first, second = patches.read(write("archive.mbox", mails))
    assert "part 1" in str(first) and "part 2" in str(second)


def test_a_mail_that_says_the_patch_again_in_html_has_it_once(write):
    message = email.message.EmailMessage()
    message["Subject"] = "[PATCH] libgo: mail"
    message.set_content(GOOD, charset="utf-8")
    message.add_alternative(f"<html><pre>{GOOD}</pre></html>", subtype="html")
    (patch,) = patches.read(write("mail.eml", message.as_bytes()))
    assert patch.text.count(b"@@ ") == 1


def test_what_one_commit_of_git_show_says_is_its_subject(write):
    text = f"commit {'a' * 40}\nAuthor: x <x@example.org>\n\n    libgo: the subject\n\n    More.\n\n{GOOD}"
    (patch,) = patches.read(write("shown.patch", text))
    assert patch.subject == "libgo: the subject"


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("src/net/http/testdata/file", b"libgo/go/net/http/testdata/file"),
        ("misc/cgo/test/test.go", b"libgo/misc/cgo/test/test.go"),
    ],
)
def test_go_s_own_files_that_are_no_package_s_are_mapped_too(write, name, place):
    (patch,) = patches.read(write("go.patch", GOOD.replace("libgo/f.go", name)))
    assert place in patch.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("eins\n two\nthree\n", "fails at line 1, except with fuzz"),
        ("one\n\t\ttwo\nthree\n", "fails at line 1, except with other white space"),
    ],
)
def test_a_patch_that_nearly_applies(write, tmp_path, text, message):
    write("tree/libgo/f.go", text)
    (patch,) = patches.read(write("p.patch", GOOD.replace("-two", "- two")))
    with pytest.raises(PatchError, match=f"hunk 1 of libgo/f.go {message}"):
        patches.apply(patch, tmp_path / "tree")


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
    for patch in [*variant.recipe.patches, *patches.read(TRACE_PATCH)]:
        patches.apply(patch, tmp_path / "gcc")


def test_each_given_patch_says_what_it_is_for():
    used = {file.name for name in CONFIGURATION.variants for file in CONFIGURATION.patches(name)}
    files = sorted((paths.DATA / "conf" / "patches").glob("*.patch"))
    assert used | {TRACE_PATCH.name} == {file.name for file in files}
    for path in files:
        header = path.read_text().partition("\n--- ")[0]
        keywords = ["Touches:"] if path == TRACE_PATCH else ["Touches:", "Separates:"]
        assert all(keyword in header for keyword in keywords), path.name
