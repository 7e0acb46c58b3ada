"""Work trees: an edit is a patch, whatever the user's git is like, and nothing else is."""

import errno
import os
import shutil

import pytest

from harness import conf
from harness.build import patches, worktree
from harness.errors import BuildError, PatchError

FIX = "--- a/libgo/go/f.go\n+++ b/libgo/go/f.go\n@@ -1,2 +1,2 @@\n one\n-two\n+2\n"


@pytest.fixture
def source(write):
    write("gcc/libgo/go/f.go", "one\ntwo\n")
    write("gcc/libgo/go/old.go", "old\n")
    return write("gcc/README", "GCC\n").parent


def make(source, tmp_path, applied=(), name="idea"):
    return worktree.make(tmp_path / "work", name, source, applied, "pristine", "12.2.0")


def test_the_edits_are_the_patch(source, tmp_path, write):
    tree = make(source, tmp_path, patches.read(write("p.patch", FIX)))
    assert b"\n-two\n+2\n" in worktree.difference(tree).text
    (tree / "libgo/go/f.go").write_text("one\n2\nthree\n")
    (tree / "libgo/go/new.go").write_text("new\n")
    (tree / "libgo/go/old.go").unlink()
    patch = worktree.difference(tree)
    assert set(patch.files) == {"libgo/go/f.go", "libgo/go/new.go", "libgo/go/old.go"} and patch.removes
    patches.apply(patch, source)
    assert (source / "libgo/go/f.go").read_text() == "one\n2\nthree\n"
    assert (source / "libgo/go/new.go").read_text() == "new\n" and not (source / "libgo/go/old.go").exists()


def test_commits_in_it_count_too(source, tmp_path):
    tree = make(source, tmp_path)
    (tree / "libgo/go/f.go").write_text("1\ntwo\n")
    worktree.git(tree, "add", "--all")
    worktree.git(tree, "-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "-q", "-m", "mine")
    assert b"+1\n" in worktree.difference(tree).text


def test_the_user_s_git_settings_change_nothing(source, tmp_path, write, monkeypatch):
    tree = make(source, tmp_path)
    (tree / "libgo/go/f.go").write_text("1\ntwo\n")
    plain = worktree.difference(tree).text
    settings = write("gitconfig", "[diff]\n noprefix = true\n external = false\n[color]\n ui = always\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    monkeypatch.setenv("GIT_DIR", os.devnull)
    assert worktree.difference(tree).text == plain


def test_a_work_directory_that_is_a_file(source, tmp_path):
    (tmp_path / "work").write_text("")
    with pytest.raises(BuildError, match=r"^variant idea: cannot create .*/work/variants/idea: .*Not a directory"):
        make(source, tmp_path)


def test_a_full_disk_leaves_nothing_behind(source, tmp_path, monkeypatch):
    def full(*files, **more):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(files[1]))

    monkeypatch.setattr(shutil, "copyfile", full)  # stands in for a full disk
    with pytest.raises(BuildError, match=r"cannot create .*idea: \[Errno 28\] No space left on device: [^()]*$"):
        make(source, tmp_path)
    assert list((tmp_path / "work" / "variants").iterdir()) == []


def test_it_is_a_variant(source, tmp_path):
    tree = make(source, tmp_path)
    (file,) = worktree.configurations(tmp_path / "work")
    configuration = conf.load([file])
    assert configuration.tree("idea") == tree and configuration.tree("pristine") is None
    assert "begun from pristine" in configuration.variant("idea").about


def test_invalid_work_trees(source, tmp_path, write):
    tree = make(source, tmp_path)
    with pytest.raises(PatchError, match="has no edits yet"):
        worktree.difference(tree)
    write("work/variants/idea/gcc/x.c", "x")
    with pytest.raises(PatchError, match=r"touches gcc/x.c, which is outside libgo"):
        worktree.difference(tree)
    with pytest.raises(BuildError, match="exists already"):
        make(source, tmp_path)
    with pytest.raises(BuildError, match="is not a work tree"):
        worktree.difference(source)
    for name in ("../x", "", ".x", "a+trace", "a/b"):
        with pytest.raises(BuildError, match="letters, digits"):
            make(source, tmp_path, name=name)


def test_a_failure_leaves_nothing(source, tmp_path, write):
    with pytest.raises(PatchError):
        make(source, tmp_path, patches.read(write("p.patch", FIX.replace("-two", "-zwei"))))
    assert not list((tmp_path / "work/variants").iterdir())
