"""Files that are whole or absent, because they are written beside their target first; and sparse copies, which take no
room for zeros.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

#: Bytes that are read at a time; a piece of zeros is not written.
_PIECE = 1 << 16


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


def copy_sparse(source: Path, target: Path) -> Path:
    """Copy a file; what is zero in it takes no room in the copy. Returns the copy. Raises OSError."""
    with source.open("rb") as file, target.open("wb") as out:
        write_sparse(file, out)
    return target


def write_sparse(source: IO[bytes], out: IO[bytes], tell: Callable[[], object] = lambda: None) -> None:
    """Write what is read from a file to another, which is empty; what is zero takes no room in it.

    Args:
        tell: called after each piece.

    Raises:
        OSError: one cannot be read or the other not be written.
    """
    zeros = bytes(_PIECE)
    while piece := source.read(_PIECE):
        if piece == zeros[: len(piece)]:
            out.seek(len(piece), os.SEEK_CUR)
        else:
            out.write(piece)
        tell()
    out.truncate(out.tell())
