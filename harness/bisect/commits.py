"""A range of commits of GCC's git repository as units of a bisect, and GCC's source at the beginning of the range.

Reads commits with git's own commands, and changes nothing in the repository. Knows nothing of building.
"""

from __future__ import annotations

import subprocess
import tempfile
from bisect import bisect_left
from collections.abc import Collection
from pathlib import Path

from harness.bisect.hunks import Unit
from harness.build import worktree
from harness.build.source import PARTS, SCRIPTS
from harness.cache import Cache, digest
from harness.errors import BuildError, ConfigError

#: The files whose changes count. Test data are not part of the library, and some of them are binary.
_PATHS = ("libgo", ":(exclude,glob)libgo/**/testdata/**")
#: Options with which git makes the same patch under all settings of the user.
_DIFF_OPTIONS = ("--no-ext-diff", "--no-textconv", "--no-color", "--no-renames", "--src-prefix=a/", "--dst-prefix=b/")


def earlier(repository: Path, bad: str, number: int) -> list[str]:
    """The ids of the commits before one that change libgo and are of the same major version of GCC, newest first.

    Args:
        repository: a clone of GCC's repository.
        bad: the commit.
        number: how many there are at most.

    Raises:
        ConfigError: it is not a repository, or has no such commit.
        ToolMissing: git is not installed.
    """
    try:
        options = ("--first-parent", "--topo-order", f"--max-count={number + 1}")
        commits = worktree.git(repository, "rev-list", *options, "--end-of-options", bad, "--", *_PATHS).split()

        def is_older(commit: bytes) -> bool:
            return _major(repository, commit.decode()) != major

        major = _major(repository, bad)
        same = commits[: bisect_left(commits, True, key=is_older)]
    except BuildError as error:
        raise ConfigError(f"{repository} has no commit {bad}, or is not a repository of GCC") from error
    return [commit.decode() for commit in same[1:]]


def _major(repository: Path, commit: str) -> bytes:
    """The major version of GCC at a commit. Raises BuildError."""
    return worktree.git(repository, "show", f"{commit}:gcc/BASE-VER").partition(b".")[0]


class Commits:
    """The commits of a range that touch libgo, oldest first.

    Args:
        repository: a clone of GCC's repository.
        text: GOOD..BAD, as git takes them.

    Attributes:
        good, bad: the ids of the ends of the range.
        ids: the ids of the commits.
        units: the commits. Only the first ones together can be built.
        needs, likely: empty, as prefixes have no needs.

    Raises:
        ConfigError: it is not a repository, has uncommitted changes, or the range is invalid.
        ToolMissing: git is not installed.
    """

    def __init__(self, repository: Path, text: str) -> None:
        self._repository = repository
        good, dots, bad = text.partition("..")
        if not dots or not good or not bad or bad.startswith("."):
            raise ConfigError(f"{text!r} is not a range of commits; write GOOD..BAD")
        try:
            self._git("rev-parse", "--git-dir")
        except BuildError as error:
            raise ConfigError(f"{repository} is not a git repository") from error
        if self._git("status", "--porcelain", "--untracked-files=no"):
            raise ConfigError(
                f"{repository} has uncommitted changes, which a bisect of commits would leave out;"
                " commit them, or put them away with git stash"
            )
        self.good, self.bad = self._commit(good), self._commit(bad)
        try:
            self._git("merge-base", "--is-ancestor", self.good, self.bad)
        except BuildError as error:
            raise ConfigError(f"{repository}: {good} is not an ancestor of {bad}") from error
        order = ("--reverse", "--first-parent", "--topo-order")
        self.ids = self._text("rev-list", *order, f"{self.good}..{self.bad}", "--", *_PATHS).split()
        if not self.ids:
            raise ConfigError(f"{repository}: no commit of {text} changes libgo")
        subjects = [self._text("log", "-1", "--format=%s", commit) for commit in self.ids]
        self.units = [
            Unit(commit[:12], "libgo", subject, "") for commit, subject in zip(self.ids, subjects, strict=True)
        ]
        self.needs: set[tuple[int, int]] = set()
        self.likely: dict[tuple[int, int], float] = {}

    def compose(self, chosen: Collection[int]) -> bytes:
        """The patch of all commits up to the last of `chosen`; b"" for none."""
        return self._git("diff", *_DIFF_OPTIONS, self.good, self.ids[max(chosen)], "--", *_PATHS) if chosen else b""

    def between(self, first: int, last: int) -> bytes:
        """The patch of the commits from `first` to `last`."""
        return self._git("diff", *_DIFF_OPTIONS, f"{self.ids[first]}^", self.ids[last], "--", *_PATHS)

    def source(self, cache: Cache) -> Path:
        """What libgo needs of GCC's source at the beginning of the range, unpacked once. Raises BuildError."""

        def unpack(staging: Path) -> None:
            names = set(self._text("ls-tree", "-r", "--name-only", self.good, "--", *PARTS).split("\n"))
            parts = [part for part in PARTS if any(name == part or name.startswith(f"{part}/") for name in names)]
            top = self._text("ls-tree", "--name-only", self.good).split("\n")
            scripts = [name for name in top if any(Path(name).match(pattern) for pattern in SCRIPTS)]
            with tempfile.TemporaryFile() as archive:
                archive.write(self._git("archive", "--format=tar", self.good, *parts, *scripts))
                archive.seek(0)
                subprocess.run(["tar", "-x", "-C", staging, "--no-same-owner"], stdin=archive, check=True)
            if not (staging / "libgo" / "configure").is_file():
                raise BuildError(f"{self._repository}: {self.good[:12]} is not GCC's source: it has no libgo/configure")

        return cache.make("gcc-source", digest({"commit": self.good, "parts": PARTS}), unpack, about=self.good)

    def _commit(self, name: str) -> str:
        try:
            return self._text("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        except BuildError as error:
            raise ConfigError(f"{self._repository} has no commit {name}") from error

    def _text(self, *arguments: str) -> str:
        return self._git(*arguments).decode(errors="replace").strip()

    def _git(self, *arguments: str) -> bytes:
        if not self._repository.is_dir():
            raise ConfigError(f"{self._repository} is not a folder")
        return worktree.git(self._repository, *arguments)
