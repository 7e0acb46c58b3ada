"""Export data of Go packages, compared by meaning: what gccgo writes of a package for those that import it.

A change in a function's body often changes only the numbers that the compiler gives to types and results, and the line
numbers of bodies that may be inlined. Nothing that is compiled against either text differs in code then; only debugging
information would name other lines. Knows nothing of builds.

Source of the format: gcc/go/gofrontend/export.h and export.cc (version 3: the types with their count and sizes, then
constants, types, functions and variables by name, a checksum at the end), statements.cc and expressions.cc for bodies.
"""

from __future__ import annotations

import re
from collections import deque

#: What only tells of lines or sizes: a statement's line, a body's file and line, a body's size.
_LINE = re.compile(r" //\d+$")
_PLACE = re.compile(r"^\s*// \S+:\d+$")
_SIZE = re.compile(r"<inl:\d+>")
#: What the compiler numbers as it goes: types, and results that have no name.
_NUMBERED = re.compile(r"<type (\d+)|\$ret(\d+)")
_TYPE = re.compile(r"^type (\d+) ")


def same(data: str, other: str) -> bool:
    """Whether two export data mean the same to all that import the package.

    Both are walked at once from what the package exports. Wherever one names a numbered thing the other must name one
    too, always the same pair of them. Types that nothing leads to do not count.
    """
    ours, theirs = _Package(data), _Package(other)
    if len(ours.roots) != len(theirs.roots):
        return False
    pairs: dict[str, str] = {}
    back: dict[str, str] = {}
    todo: deque[tuple[str, str]] = deque(zip(ours.roots, theirs.roots, strict=True))
    while todo:
        left, right = todo.popleft()
        if _NUMBERED.sub("#", left) != _NUMBERED.sub("#", right):
            return False
        for mine, its in zip(_NUMBERED.finditer(left), _NUMBERED.finditer(right), strict=True):
            if (mine[1] is None) != (its[1] is None):
                return False
            if pairs.setdefault(mine[0], its[0]) != its[0] or back.setdefault(its[0], mine[0]) != mine[0]:
                return False
            if mine[1] is not None:
                # Taken out: each is compared once.
                text, its_text = ours.types.pop(mine[1], ""), theirs.types.pop(its[1], "")
                todo.append((text, its_text))
    return True


class _Package:
    """Export data in two parts: `types` by number, and `roots`, everything else, both without what does not count."""

    def __init__(self, text: str) -> None:
        self.types: dict[str, str] = {}
        self.roots: list[str] = []
        entry: list[str] = []
        for line in text.splitlines():
            if not line.startswith(" ") and entry:
                self._add(entry)
                entry = []
            if not _PLACE.match(line):
                entry.append(_SIZE.sub("<inl>", _LINE.sub("", line)))
        self._add(entry)

    def _add(self, lines: list[str]) -> None:
        """Keep a top-level entry: a line and the indented ones below it."""
        head = lines[0] if lines else ""
        if match := _TYPE.match(head):
            lines[0] = head[match.end() :]
            self.types[match[1]] = "\n".join(lines)
            # The types that have names others can write are exported whether or not anything leads to them.
            if re.match(r'"[^."]', lines[0]):
                self.roots.append(f"<type {match[1]}> is {lines[0]}")
        elif not head.startswith(("types ", "checksum ")):
            self.roots.append("\n".join(lines))
