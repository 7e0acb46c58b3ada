"""Paths from the root."""

from pathlib import Path

from harness import paths


def test_a_path_with_dots_does_not_depend_on_the_folders_that_it_passes_through(tmp_path, monkeypatch):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "a/b")
    monkeypatch.chdir(tmp_path / "a")
    assert paths.absolute(Path("../w/x")) == tmp_path / "w/x"
    assert paths.absolute(Path("b/../../link/w")) == tmp_path / "link/w", "links stay"
    assert paths.absolute(tmp_path / "link/../w") == tmp_path / "a/w", "as the kernel sees it"
    assert paths.work_dir("../w") == tmp_path / "w"
