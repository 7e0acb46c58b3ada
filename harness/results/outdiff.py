"""The difference between what a program printed and what was expected of it, as lines to be shown.

Whatever a program printed is hostile: only characters that can be printed are there as they were. All others, and white
space that would be missed, are spelt out, and are told from what the program printed. Knows bytes and expectations,
nothing of where they come from or how lines are shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import NamedTuple

from harness.escapes import spelt
from harness.programs.model import Expectation
from harness.trial.record import Trial, Verdict

#: Lines around a difference that are shown too, as of `diff -u`.
CONTEXT = 3
#: Lines of each output that are compared, from the first that differs; and lines that are shown.
COMPARED, SHOWN = 120, 60
#: Characters of a line that are shown, and how many of them stand before the first that differs.
WIDTH, BEFORE = 300, 40
#: What stands for white space that would be missed.
_SPACES = {" ": "·", "\t": "→"}
_TRAILING = re.compile(r"[ \t]*$")


@dataclass(frozen=True)
class DiffLine:
    """A line of a difference.

    Attributes:
        mark: `-` expected, `+` printed, ` ` both; `@` where lines of both begin, `\\` a remark on the line before.
        pieces: texts that are there as they were and texts that are spelt out, in turn, beginning with the former.
    """

    mark: str
    pieces: tuple[str, ...]

    @property
    def text(self) -> str:
        """The line without its mark."""
        return "".join(self.pieces)


@dataclass(frozen=True)
class OutputDiff:
    """What differs between the output that was expected and the one that came.

    Attributes:
        stream: what was compared: `stdout`, or `stdout and stderr`.
        lines: the difference; those of its first place, if it is long.
        left_out: what of it is not in the lines, in a sentence, or ''.
    """

    stream: str
    lines: tuple[DiffLine, ...]
    left_out: str = ""


def output_diff(trial: Trial, expected: Expectation) -> OutputDiff | None:
    """How the output of a failed trial differs from what was expected.

    Returns:
        None if the trial did not fail, if nothing is expected of its output, or if that came.
    """
    if trial.verdict != Verdict.FAIL:
        return None
    if expected.stdout is not None and trial.stdout != expected.stdout:
        return compare("stdout", expected.stdout, trial.stdout, trial.stdout_total == len(trial.stdout))
    if expected.output is not None:
        printed = trial.stdout + trial.stderr
        if sorted(printed.split(b"\n")) != sorted(expected.output.split(b"\n")):  # else they are only mixed differently
            whole = trial.stdout_total + trial.stderr_total == len(printed)
            return compare("stdout and stderr", expected.output, printed, whole)
    return None


def compare(stream: str, expected: bytes, printed: bytes, whole: bool = True) -> OutputDiff:
    """Compare two outputs.

    Args:
        whole: whether `printed` is all that the program printed, and not its beginning only.
    """
    before, after = _lines(expected), _lines(printed)
    if not whole and after and not after[-1].endswith(b"\n"):
        after.pop()  # a line that was cut is no difference
    same = _common(before, after)
    end = 0 if not whole else _common(before[same:][::-1], after[same:][::-1])
    first = max(0, same - CONTEXT)
    differing = max(len(before), len(after)) - end - same
    stop = same + COMPARED if differing > COMPARED else len(before) + len(after)
    old, new = (lines[first : min(stop, len(lines) - end + CONTEXT)] for lines in (before, after))
    cut = _Cut(stop < len(before), stop < len(after) or not whole)
    lines = list(_hunks(old, new, first, cut))
    left_out = []
    if len(lines) > SHOWN:
        lines, more = lines[:SHOWN], len(lines) - SHOWN
        left_out.append(
            f"{more} more {'line' if more == 1 else 'lines'} of it {'is' if more == 1 else 'are'} not shown"
        )
    if differing > COMPARED:
        left_out.append(f"{COMPARED} lines from the first difference are compared, {differing - COMPARED:,} are not")
    if not whole:
        left_out.append(f"only the first {len(printed):,} bytes of the output were kept")
    sentence = "; ".join(left_out)
    return OutputDiff(stream, tuple(lines), f"{sentence[0].upper()}{sentence[1:]}." if sentence else "")


def _lines(data: bytes) -> list[bytes]:
    return data.splitlines(keepends=True) if b"\r" not in data else re.findall(rb"[^\n]*\n|[^\n]+", data)


def _common(before: Sequence[bytes], after: Sequence[bytes]) -> int:
    """How many lines both begin with."""
    pairs = enumerate(zip(before, after, strict=False))
    return next((place for place, (line, other) in pairs if line != other), min(len(before), len(after)))


class _Cut(NamedTuple):
    """Whether lines are missing at the end of what is compared: of the old ones, of the new ones."""

    old: bool
    new: bool


def _hunks(old: Sequence[bytes], new: Sequence[bytes], first: int, cut: _Cut) -> Iterator[DiffLine]:
    """The difference of some lines; `first` is the number of lines before them."""
    groups = list(SequenceMatcher(None, old, new, autojunk=False).get_grouped_opcodes(CONTEXT))
    if groups:
        tag, _, old_end, _, new_end = groups[-1][-1]
        # What one side alone has at the end may be among the lines that are missing of the other.
        unknown = (tag == "insert" and cut.old) or (tag == "delete" and cut.new)
        if unknown and (old_end, new_end) == (len(old), len(new)):
            groups[-1].pop()
            if all(tag == "equal" for tag, *_ in groups[-1]):
                groups.pop()
    for group in groups:
        old_range = _range(first + group[0][1], first + group[-1][2])
        new_range = _range(first + group[0][3], first + group[-1][4])
        yield DiffLine("@", (f"expected: {old_range}; printed: {new_range}",))
        for tag, old_begin, old_end, new_begin, new_end in group:
            if tag == "equal":
                for line in old[old_begin:old_end]:
                    yield from _shown(" ", line)
                continue
            yield from _changed(old[old_begin:old_end], new[new_begin:new_end])


def _range(begin: int, end: int) -> str:
    return f"lines {begin + 1} to {end}" if end > begin + 1 else f"line {begin + 1}" if end > begin else "nothing"


def _changed(old: Sequence[bytes], new: Sequence[bytes]) -> Iterator[DiffLine]:
    """Lines in place of others. All white space is spelt out of those that differ in nothing else."""
    bare = {_bare(line) for line in old} & {_bare(line) for line in new}
    starts = [
        0 if line is None or other is None else _first_difference(line, other) for line, other in zip_longest(old, new)
    ]
    for mark, lines in (("-", old), ("+", new)):
        for line, start in zip(lines, starts, strict=False):
            yield from _shown(mark, line, start, everywhere=_bare(line) in bare)


def _bare(line: bytes) -> bytes:
    return b"".join(line.split())


def _first_difference(line: bytes, other: bytes) -> int:
    """The column of the first character that differs."""
    text, other_text = _text(line), _text(other)
    return next(
        (place for place, (a, b) in enumerate(zip(text, other_text, strict=False)) if a != b),
        min(len(text), len(other_text)),
    )


def _text(line: bytes) -> str:
    return line.removesuffix(b"\n").decode("utf-8", "surrogateescape")


def _shown(mark: str, line: bytes, start: int = 0, everywhere: bool = False) -> Iterator[DiffLine]:
    """A line, cut around a column, and a remark if nothing ends it."""
    text = _text(line)
    begin = max(0, min(start - BEFORE, len(text) - WIDTH))
    end = begin + WIDTH
    trailing = len(text) if mark == " " else 0 if everywhere else len(_TRAILING.sub("", text))
    pieces = [""]
    if begin:
        _append(pieces, f"…{begin:,} characters…", spelt=True)
    for place, character in enumerate(text[begin:end], start=begin):
        spelt = _spell(character, mark != " " and (place >= trailing or character == "\t"))
        _append(pieces, spelt, spelt != character)
    if end < len(text):
        _append(pieces, f"…{len(text) - end:,} characters…", spelt=True)
    yield DiffLine(mark, tuple(pieces))
    if not line.endswith(b"\n"):
        yield DiffLine("\\", ("no newline at the end of the output",))


def _spell(character: str, space: bool) -> str:
    if character in _SPACES:
        return _SPACES[character] if space else character
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else spelt(character)


def _append(pieces: list[str], text: str, spelt: bool) -> None:
    """Add a text to what is there as it was, or to what is spelt out."""
    if (len(pieces) % 2 == 0) != spelt:
        pieces.append("")
    pieces[-1] += text
