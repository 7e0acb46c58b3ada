"""What a program is: the one rule by which files become programs, whoever asks.

A program is a `.go` or `.c` file whose first comment is `// run`, as in GCC's and Go's own tests. A folder has those
that lie in it and in the folders below it. A file that is named itself needs no `// run`, but is no program if its
first comment names another kind of test. Uses the standard library alone, since every session of pytest asks.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from harness.log import ignored

_log = logging.getLogger(__name__)

#: How the names of programs' sources end: Go and C.
SUFFIXES = (".go", ".c")
#: The kind that is run.
RUN = "run"
#: The kinds of test of GCC's go-test.exp. Of the user's own programs only those of kind `run` are run.
KINDS = (
    RUN, "runoutput", "rundir", "errorcheck", "errorcheckdir", "errorcheckoutput", "errorcheckandrundir", "compile",
    "compiledir", "build", "builddir", "buildrun", "buildrundir", "skip", "cmpout",
)  # fmt: skip
#: Folders that are left out below a named one: those that Go's tools leave out (`go help packages`) and those that
#: pytest does (its manual, norecursedirs).
LEFT_OUT = (".*", "_*", "testdata", "vendor", "build", "dist", "node_modules", "venv")
#: Characters that are read of a line of a header.
_LINE = 10_000
_MAIN = {".go": re.compile(r"^func main\(", re.MULTILINE), ".c": re.compile(r"\bmain\s*\(")}


def is_source(path: Path) -> bool:
    """Whether a file's name is that of a Go or C source. Hidden files, such as an editor's, and `_*` are none."""
    return path.suffix in SUFFIXES and not path.name.startswith((".", "_"))


def sources(folder: Path, left_out: Sequence[str] = ()) -> Iterator[Path]:
    """The Go and C files of a folder and of the folders below it, in the order of their names.

    A folder that is reached in several ways, as by a symbolic link, counts once; one that cannot be read is left out.

    Args:
        left_out: patterns of names of folders below it that are left out besides LEFT_OUT.

    Raises:
        OSError: the folder itself cannot be read.
    """
    patterns = (*LEFT_OUT, *left_out)
    seen: set[tuple[int, int]] = set()
    links: list[Path] = []

    def visit(path: Path) -> Iterator[Path]:
        status = path.stat()
        if (status.st_dev, status.st_ino) in seen:
            return
        seen.add((status.st_dev, status.st_ino))
        entries = [path / name for name in sorted(os.listdir(path))]
        yield from (entry for entry in entries if is_source(entry) and os.path.isfile(entry))
        for entry in entries:
            if not os.path.isdir(entry) or any(fnmatchcase(entry.name, each) for each in patterns):
                continue
            if entry.is_symlink():
                links.append(entry)
                continue
            with ignored(_log, f"looking for programs in {entry}", OSError):
                yield from visit(entry)

    yield from visit(folder)
    while links:
        link = links.pop(0)
        with ignored(_log, f"looking for programs in {link}", OSError):
            yield from visit(link)


def program_files(folder: Path, left_out: Sequence[str] = ()) -> Iterator[Path]:
    """The programs of a folder. Arguments and errors are those of `sources`."""
    return (file for file in sources(folder, left_out) if kind_of(file) == RUN)


def overlooked(folder: Path) -> list[Path]:
    """The files of a folder that have a main function and no kind, whose `// run` somebody may have forgotten."""
    return [file for file in sources(folder) if not kind_of(file) and _has_main(file)]


def _has_main(file: Path) -> bool:
    return bool(_MAIN[file.suffix].search(file.read_text(encoding="utf-8", errors="replace")))


def kind_of(file: Path) -> str:
    """The kind of test that a regular file says it is, or ''. One that cannot be read is RUN: its reader says why."""
    try:
        with file.open(encoding="utf-8-sig", errors="replace") as stream:
            for _, text in header_lines(iter(lambda: stream.readline(_LINE), "")):
                if text and not is_constraint(text):
                    return kind_in(text)
    except OSError as error:
        _log.info("%s cannot be read: %s", file, error)
        return RUN
    return ""


def header_lines(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """The `//` comments before the first line that is neither one nor empty: their line numbers and texts."""
    for number, line in enumerate(lines, start=1):
        if line.startswith("//"):
            yield number, line[2:].strip()
        elif line.strip():
            return


def is_constraint(text: str) -> bool:
    """Whether a comment is a build constraint, which may stand before the kind."""
    return text.startswith(("+build ", "go:build "))


def kind_in(text: str) -> str:
    """The kind that a comment names, or ''."""
    word = text.split()[0]
    return word if word in KINDS else ""
