"""Command lines of the harness that its users can paste: every one that is shown is made here.

Knows how the harness was started and where it looks for results; nothing of what the commands do.
"""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from harness import paths

_NAME, _PYTEST = "harness", "pytest"
#: Options whose values are files or folders, and how the names of files end that commands take.
_PATH_OPTIONS = ("--conf", "--html", "--libpthread", "--output", "--times", "--work", "-o")
_PATH_SUFFIXES = (".c", ".diff", ".go", ".patch", ".yaml")


def command_line(*words: str, work: Path | None = None, conf_files: Iterable[Path] = ()) -> str:
    """A command line as the user's shell takes it.

    Args:
        words: the command and its arguments.
        work: the work directory that it must use; None for a command that needs none.
        conf_files: the user's own YAML files that it needs.
    """
    options = [word for file in conf_files for word in ("--conf", str(paths.absolute(file)))]
    return f"{shlex.join([*program(), *words, *options])}{work_option(work)}"


def work_option(work: Path | None) -> str:
    """What a command line needs to find a work directory: '' if the command finds it by itself."""
    return "" if work is None else _work_option(paths.absolute(work), paths.work_dir())


@functools.cache
def _work_option(work: Path, default: Path) -> str:
    return "" if work.resolve() == default.resolve() else f" --work {shlex.quote(str(work))}"


def repeated(stored: str, work: Path | None = None) -> str:
    """A command line that was stored with results, as it can be pasted here and now.

    Args:
        stored: it begins with `harness` or `pytest`. An older version named programs of its own suites by the paths of
            their files.
        work: as of `command_line`; whatever other one it names is left out.
    """
    try:
        name, *words = shlex.split(stored)
    except ValueError:  # no command of the harness
        return stored
    if name == _PYTEST:
        return shlex.join([*program(_PYTEST), *words])
    if name != _NAME:
        return stored
    if work is not None:
        words = list(_without_work(words))
    return command_line(*map(_short, words), work=work)


def given() -> str:
    """The command line that this process was started with, from any folder: files and folders by their whole paths."""
    started = Path(sys.argv[0])
    pytest = "pytest" in (started.stem, started.parent.name)
    return shlex.join([_PYTEST if pytest else _NAME, *_with_whole_paths(sys.argv[1:])])


def _with_whole_paths(words: Sequence[str]) -> Iterator[str]:
    before = ""
    for word in words:
        option, equals, value = word.partition("=") if word.startswith("-") else ("", "", word)
        named = option or before  # an option whose value this may be
        sure = "/" in value or Path(value).suffix in _PATH_SUFFIXES
        may_be = sure or named in _PATH_OPTIONS or not (named.startswith("-") or value.isdecimal())
        if value and may_be and Path(value).exists():
            value = str(paths.absolute(Path(value)))
        yield f"{option}{equals}{value}"
        before = word


def _without_work(words: Iterable[str]) -> Iterator[str]:
    rest = iter(words)
    for word in rest:
        if word == "--work":
            next(rest, None)
        elif not word.startswith("--work="):
            yield word


def program(name: str = _NAME) -> list[str]:
    """The words by which the user's shell starts the harness, or pytest: its name if it is found by that, else as it
    was started, or as the script beside this Python."""
    return [_program(name, sys.argv[0], os.environ.get("PATH", ""))]


@functools.cache  # a report has thousands of commands
def _program(name: str, started: str, path: str) -> str:
    places = [Path(started), Path(sys.executable).with_name(name)]
    # A worker of xdist has a bare name for what started it.
    script = next((place for place in places if place.name == name and place.is_file()), None)
    known = shutil.which(name, path=path)
    if script is None or (known and os.path.samefile(known, script)):
        return name
    return str(script)


def _short(word: str) -> str:
    """A word of a command line; a file of one of the harness's own suites is named SUITE/PROGRAM."""
    return own_program(Path(word)) or word


def own_program(source: Path) -> str:
    """SUITE/PROGRAM if a file is a program of one of the harness's own suites, else ''."""
    suites = paths.DATA / "suites"
    if source.is_absolute() and source.parent.parent == suites and source.suffix:
        return f"{source.parent.name}/{source.stem}"
    return ""
