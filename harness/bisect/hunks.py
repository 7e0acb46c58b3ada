"""A series of patches split into units (hunks, or blocks of changed lines), and patches composed of some of the units.

Every line of a file has an identity throughout the series, whether it is GCC's or added by a unit. So the place of a
unit is known whichever others are left out. A unit needs another one of an earlier patch if it touches the other's
lines, or lies where the other has changed something. The composed patch is one to GCC's source with exact line numbers.
Knows nothing of building.
"""

from __future__ import annotations

import difflib
import itertools
import re
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from unidiff.constants import LINE_TYPE_ADDED, LINE_TYPE_CONTEXT, LINE_TYPE_NO_NEWLINE, LINE_TYPE_REMOVED
from unidiff.patch import Hunk, PatchedFile, PatchSet

from harness.build import patches
from harness.build.patches import Patch
from harness.errors import PatchError

#: Lines around a block that must be unchanged, as the context of a hunk.
_CONTEXT = 3
#: The probability that one of two units needs the other if both add, or both remove, the same new identifier.
_SHARED_IDENTIFIER = 0.3
_IDENTIFIER = re.compile(r"\b[A-Za-z_]\w{2,}")
_NO_NEWLINE = "\n\\ No newline at end of file\n"
#: The kinds of a hunk's lines that are in the file before the patch.
_SOURCE = (LINE_TYPE_CONTEXT, LINE_TYPE_REMOVED)
#: A line's identity.
_Line = int


@dataclass(frozen=True)
class Unit:
    """A part of a patch that a build has as a whole or not at all.

    Attributes:
        name: the patch, if there are several, and the file and line in it.
        file: the file that it touches, below GCC's top folder.
        about: the first line that it changes.
        text: its lines in the patch.
    """

    name: str
    file: str
    about: str
    text: str


@dataclass(frozen=True)
class _Edit:
    """Removed lines, and the added ones in their place, which follow line `after`; None is the file's beginning."""

    after: _Line | None
    removed: tuple[_Line, ...]
    added: tuple[_Line, ...]


@dataclass(frozen=True)
class _Part:
    """The effect of a unit, which applies where the lines of `window` follow each other. `creates` and `deletes` say
    whether its file is new, and whether it is removed."""

    patch: int
    file: str
    window: tuple[_Line, ...]
    edits: tuple[_Edit, ...]
    creates: bool
    deletes: bool


#: The lines of each file, or None where there is no such file.
_State = dict[str, list[_Line] | None]


class Series:
    """Patches, split into units.

    Args:
        series: the patches.
        base: the files before them, by name; None where there is no such file.
        blocks: each run of changed lines is a unit, not each hunk.

    Attributes:
        units: in the order of the patches.
        needs: (u, v) if unit u does not apply without unit v.
        likely: (u, v) if u may not compile without v, with the probability of that.
    """

    def __init__(self, series: Sequence[Patch], base: dict[str, str | None], blocks: bool) -> None:
        self._base = base
        self._texts: list[str] = []
        self._begin: _State = {file: text if text is None else self._lines(text) for file, text in base.items()}
        self.units: list[Unit] = []
        self._parts: list[_Part] = []
        for number, patch in enumerate(series):
            prefix = f"{patch.label}: " if len(series) > 1 else ""
            state, _ = self._apply(range(len(self._parts)))
            for file in PatchSet(patch.text.decode("utf-8", "surrogateescape")):
                for part, unit in self._split(number, file, state, prefix, blocks):
                    self._parts.append(part)
                    self.units.append(unit)
        everything = range(len(self.units))
        self.needs = {
            (unit, left)
            for left in everything
            for unit in set(everything) - {left} - self._apply(other for other in everything if other != left)[1]
        }
        self.likely = {pair: _SHARED_IDENTIFIER for pair in self._related() if pair not in self.needs}

    def compose(self, chosen: Collection[int]) -> bytes:
        """The patch of some of the units; b"" for none.

        Raises:
            PatchError: one of them needs a unit that is not among them.
        """
        if missing := set(chosen) - self._apply(sorted(chosen))[1]:
            raise PatchError(f"{self.units[min(missing)].name} does not apply without a unit that is left out")
        differences = [_difference(file, before, self.text(file, chosen)) for file, before in self._base.items()]
        return "".join(differences).encode(errors="surrogateescape")

    def text(self, file: str, chosen: Iterable[int]) -> str | None:
        """A file with some of the units; None if it does not exist then."""
        lines = self._apply(sorted(chosen))[0][file]
        return None if lines is None else "".join(self._texts[line] for line in lines)

    def _lines(self, text: str) -> list[_Line]:
        """Give identities to the lines of a text."""
        begin = len(self._texts)
        self._texts += _split_lines(text)
        return list(range(begin, len(self._texts)))

    def _apply(self, chosen: Iterable[int]) -> tuple[_State, set[int]]:
        """The files after some of the units in their order, and the units that apply."""
        state: _State = dict(self._begin)
        applied: set[int] = set()
        for (_, file), group in itertools.groupby(
            chosen, key=lambda unit: (self._parts[unit].patch, self._parts[unit].file)
        ):
            lines = state[file]
            units = [unit for unit in group if _applies(self._parts[unit], lines)]
            if units:
                applied.update(units)
                state[file] = _changed([self._parts[unit] for unit in units], lines or [])
        return state, applied

    def _split(
        self, number: int, file: PatchedFile, state: _State, prefix: str, blocks: bool
    ) -> Iterator[tuple[_Part, Unit]]:
        """The units of one file in one patch; `state` has the files before that patch."""
        name = file.path
        creates, deletes = (side.split("\t")[0] == "/dev/null" for side in (file.source_file, file.target_file))
        lines = state[name] or []
        shift = 0
        for hunk in file:
            source = [_text(hunk, index) for index, line in enumerate(hunk) if line.line_type in _SOURCE]
            # A hunk without source lines has the number of the line before it.
            expected = hunk.source_start - (1 if source else 0)
            start = self._find(lines, source, expected + shift)
            shift = start - expected
            end = start + len(source)
            runs = _runs(hunk)
            for group in [[run] for run in runs] if blocks and not creates else [runs]:
                edits = [self._edit(run, hunk, lines, start) for run in group]
                begin, last = start, end
                if blocks:
                    begin = max(start, start + group[0].source - _CONTEXT)
                    last = min(end, start + group[0].source + group[0].removed + _CONTEXT)
                window = tuple(lines[begin:last])
                part = _Part(number, name, window, tuple(edits), creates, deletes)
                yield part, _unit(prefix, name, hunk, group)

    def _edit(self, run: _Run, hunk: Hunk, lines: Sequence[_Line], start: int) -> _Edit:
        at = start + run.source
        texts = [_text(hunk, index) for index in range(run.first, run.last) if hunk[index].line_type == LINE_TYPE_ADDED]
        begin = len(self._texts)
        self._texts += texts
        removed = tuple(lines[at : at + run.removed])
        after = removed[-1] if removed else lines[at - 1] if at else None
        return _Edit(after, removed, tuple(range(begin, len(self._texts))))

    def _find(self, lines: Sequence[_Line], source: Sequence[str], expected: int) -> int:
        """The place of a hunk's source lines that is nearest to the expected one, as GNU patch finds it."""
        texts = [self._texts[line] for line in lines]
        for distance in range(len(texts) + 1):
            for at in (expected + distance, expected - distance):
                if 0 <= at <= len(texts) - len(source) and texts[at : at + len(source)] == list(source):
                    return at
        raise PatchError(f"a hunk near line {expected + 1} cannot be found in its file")

    def _related(self) -> Iterator[tuple[int, int]]:
        """Pairs of units that both add an identifier which is nowhere else, or remove one completely."""
        before = set(_IDENTIFIER.findall("".join(filter(None, self._base.values()))))
        state, _ = self._apply(range(len(self.units)))
        after = self._identifiers(line for lines in state.values() for line in lines or [])
        own = []
        for part in self._parts:
            added = self._identifiers(line for edit in part.edits for line in edit.added)
            removed = self._identifiers(line for edit in part.edits for line in edit.removed)
            own.append((added - before) | (removed - after))
        for unit, other in itertools.permutations(range(len(own)), 2):
            if own[unit] & own[other]:
                yield unit, other

    def _identifiers(self, lines: Iterable[_Line]) -> set[str]:
        """The identifiers in some lines."""
        return {identifier for line in lines for identifier in _IDENTIFIER.findall(self._texts[line])}


def split(series: Sequence[Patch], source: Path, baseline: Sequence[Patch] = (), blocks: bool = False) -> Series:
    """Split patches into units.

    Args:
        series: the patches, which apply one after the other.
        source: GCC's top folder.
        baseline: patches that come before them and are not split.
        blocks: each run of changed lines is a unit, not each hunk.

    Raises:
        PatchError: one does not apply, or cannot be split.
    """
    for patch in series:
        _check(patch)
    touched = sorted({file for patch in [*baseline, *series] for file in patch.files})
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for file in ["gcc/BASE-VER", *touched]:
            if (source / file).is_file():
                (tree / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source / file, tree / file)
        for patch in baseline:
            patches.apply(patch, tree)
        base = {file: _read(tree / file) for file in touched}
        for patch in series:
            patches.apply(patch, tree)
        units = Series(series, base, blocks)
        for file in touched:
            if units.text(file, range(len(units.units))) != _read(tree / file):
                raise PatchError(f"{file}: the patch cannot be split exactly; make it again with git diff")
    return units


def _check(patch: Patch) -> None:
    """Raise PatchError if a patch renames or copies files or changes their modes, which is in no hunk."""
    for change in patch.changes:
        what = "renames" if change.renamed else "copies" if change.copied else ""
        if change.old and change.new and change.mode:
            what = "changes the mode of"
        if what:
            raise PatchError(f"{patch} {what} {change.old}, which cannot be split; make it with git diff --no-renames")


def _read(path: Path) -> str | None:
    return path.read_bytes().decode(errors="surrogateescape") if path.is_file() else None


def _text(hunk: Hunk, index: int) -> str:
    """A line of a hunk without its sign. The last one of a file may have no newline."""
    cut = index + 1 < len(hunk) and hunk[index + 1].line_type == LINE_TYPE_NO_NEWLINE
    value = str(hunk[index].value)
    return value.removesuffix("\n") if cut else value


@dataclass(frozen=True)
class _Run:
    """A run of changed lines of a hunk, from index `first` to before index `last`; the number of source lines that the
    hunk has before it, and the number of source lines that it removes."""

    first: int
    last: int
    source: int
    removed: int


def _runs(hunk: Hunk) -> list[_Run]:
    runs, source = [], 0
    for context, group in itertools.groupby(
        range(len(hunk)), key=lambda index: hunk[index].line_type == LINE_TYPE_CONTEXT
    ):
        indexes = list(group)
        lines = sum(1 for index in indexes if hunk[index].line_type in _SOURCE)
        if not context and any(hunk[index].line_type != LINE_TYPE_NO_NEWLINE for index in indexes):
            runs.append(_Run(indexes[0], indexes[-1] + 1, source, lines))
        source += lines
    return runs


def _applies(part: _Part, lines: list[_Line] | None) -> bool:
    if lines is None or part.creates:
        return lines is None and part.creates
    if not part.window:
        return all(edit.after is None or edit.after in lines for edit in part.edits)
    try:
        at = lines.index(part.window[0])
    except ValueError:  # its first line has been removed
        return False
    return lines[at : at + len(part.window)] == list(part.window)


def _changed(parts: Sequence[_Part], lines: Sequence[_Line]) -> list[_Line] | None:
    """The lines of a file after the edits of one patch; None if it is deleted."""
    edits = [edit for part in parts for edit in part.edits]
    removed = {line for edit in edits for line in edit.removed}
    added: dict[_Line | None, list[_Line]] = {}
    for edit in edits:
        added.setdefault(edit.after, []).extend(edit.added)
    result = list(added.get(None, []))
    for line in lines:
        result += [] if line in removed else [line]
        result += added.get(line, [])
    return None if not result and any(part.deletes for part in parts) else result


def _split_lines(text: str) -> list[str]:
    """Lines as diff splits them: at newlines only."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def _unit(prefix: str, file: str, hunk: Hunk, runs: Sequence[_Run]) -> Unit:
    lines = hunk[runs[0].first : runs[-1].last]
    changed = [line for line in lines if line.line_type in (LINE_TYPE_ADDED, LINE_TYPE_REMOVED)]
    first = next((line for line in changed if line.value.strip()), changed[0])
    number = changed[0].source_line_no or changed[0].target_line_no
    sign, text = str(first)[:1], str(first)[1:]
    about = f"{sign}{' '.join(text.split())}"
    return Unit(f"{prefix}{file.removeprefix('libgo/')}:{number}", file, about, "".join(map(str, lines)))


def _difference(file: str, before: str | None, after: str | None) -> str:
    """A file's part of a patch; "" if it does not change."""
    old, new = ("/dev/null" if before is None else f"a/{file}"), ("/dev/null" if after is None else f"b/{file}")
    lines = difflib.unified_diff(_split_lines(before or ""), _split_lines(after or ""), old, new, n=_CONTEXT)
    return "".join(line if line.endswith("\n") else line + _NO_NEWLINE for line in lines)
