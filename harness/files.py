"""Files that are whole or not there: what is written goes beside its target first."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Write a file as a whole: it takes its place, or another's, when the block has ended well.

    Yields:
        The path to write to, in the same folder.

    Raises:
        OSError: it cannot be put in its place; what was there before stays.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_page(path: Path, pieces: Iterable[str]) -> None:
    """Write text to a file, whole or not at all.

    A name may hold half a surrogate pair (a file name that is not UTF-8): it is spelt out rather than refused.

    Raises:
        OSError: the file cannot be written.
    """
    with (
        written_whole(path) as part,
        part.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file,
    ):
        file.writelines(pieces)
