"""Export data of Go packages, compared by meaning. gccgo writes them for the packages that import one.

A change in a function's body often changes only the numbers that the compiler gives to types and results, and the line
numbers of bodies that may be inlined. Then the importers are compiled to the same code, and only debugging information
names other lines. Knows nothing of builds.

Source of the format: gcc/go/gofrontend/export.h and export.cc (version 3: the types with their count and sizes, then
constants, types, functions and variables by name, a checksum at the end), statements.cc and expressions.cc for bodies.
"""

from __future__ import annotations

import re
from collections import deque

#: Parts that give only lines or sizes: a statement's line, a body's file and line, a body's size.
_LINE = re.compile(r" //\d+$")
_PLACE = re.compile(r"^\s*// \S+:\d+$")
_SIZE = re.compile(r"<inl:\d+>")
#: What the compiler numbers in the order in which it meets it: types, and results without a name.
_NUMBERED = re.compile(r"<type (\d+)|\$ret(\d+)")
_TYPE = re.compile(r"^type (\d+) ")


def same(left_text: str, right_text: str) -> bool:
    """Whether two export data mean the same to all that import the package.

    Both are walked in parallel from what the package exports. Wherever one refers to a numbered type or result the
    other must refer to one too, and always to the same one. Types that nothing refers to do not count.
    """
    left, right = _Package(left_text), _Package(right_text)
    if len(left.roots) != len(right.roots):
        return False
    right_of: dict[str, str] = {}
    left_of: dict[str, str] = {}
    pairs: deque[tuple[str, str]] = deque(zip(left.roots, right.roots, strict=True))
    while pairs:
        left_entry, right_entry = pairs.popleft()
        if _NUMBERED.sub("#", left_entry) != _NUMBERED.sub("#", right_entry):
            return False
        matches = zip(_NUMBERED.finditer(left_entry), _NUMBERED.finditer(right_entry), strict=True)
        for left_match, right_match in matches:
            left_name, right_name = left_match[0], right_match[0]
            if (left_match[1] is None) != (right_match[1] is None):
                return False
            if right_of.setdefault(left_name, right_name) != right_name:
                return False
            if left_of.setdefault(right_name, left_name) != left_name:
                return False
            if left_match[1] is not None:
                # Removed from both, so that each type is compared once.
                pairs.append((left.types.pop(left_match[1], ""), right.types.pop(right_match[1], "")))
    return True


class _Package:
    """Export data in two parts: `types` by number, and `roots`, everything else; both without lines and sizes."""

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
        """Store a top-level entry: a line and the indented ones below it."""
        head = lines[0] if lines else ""
        if match := _TYPE.match(head):
            lines[0] = head[match.end() :]
            self.types[match[1]] = "\n".join(lines)
            # Types whose names importers can write are exported even if nothing refers to them.
            if re.match(r'"[^."]', lines[0]):
                self.roots.append(f"<type {match[1]}> is {lines[0]}")
        elif not head.startswith(("types ", "checksum ")):
            self.roots.append("\n".join(lines))
