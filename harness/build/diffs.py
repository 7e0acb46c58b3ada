"""Unified diffs: the changes in a text, and what git says of each file besides its hunks.

What is not part of a change, such as a commit's message, is left out, and nothing of it comes back: GNU patch would
look for patches in it. Knows nothing of libgo, and nothing of where a text comes from.

Source: POSIX.1-2017, diff, "Diff -u Output Format"; git-diff(1), "Generating patch text with -p".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from harness.errors import PatchError

_GIT = "diff --git "
#: What git says between that line and the hunks.
_EXTENDED = re.compile(
    r"(?P<key>old mode|new mode|deleted file mode|new file mode|copy from|copy to|rename from|rename to"
    r"|(?:dis)?similarity index|index) (?P<value>.*)"
)
_HUNK = re.compile(r"@@ -\d+(?:,(?P<before>\d+))? \+\d+(?:,(?P<after>\d+))? @@")
_BINARY = re.compile(r"GIT binary patch$|Binary files .* differ$")
_NULL = "/dev/null"
#: The date of no file, the Epoch somewhere on Earth (GNU diff manual, "Creating and Deleting Files"), or Subversion's
#: words.
_NO_FILE = re.compile(r"1970-01-01|1969-12-31|\(nonexistent\)|\(revision 0\)")


@dataclass(frozen=True)
class Change:
    """What happens to one file.

    Attributes:
        old: its name before, as the text has it; '' if it is new.
        new: its name after; '' if it is removed.
        hunks: the lines of its hunks as they stand in the text, each with its line end.
        copied: it is a copy of `old`, which stays.
        mode: the mode that it gets, as git writes it ("100755"); '' if that is not said.
        line: the number of the line where the text begins to speak of it.
    """

    old: str
    new: str
    hunks: tuple[str, ...] = ()
    copied: bool = False
    mode: str = ""
    line: int = 0

    @property
    def name(self) -> str:
        """The file that is changed, made or removed."""
        return self.new or self.old

    @property
    def renamed(self) -> bool:
        """Whether it has another name after than before."""
        return bool(self.old and self.new and self.old != self.new and not self.copied)

    @property
    def names(self) -> tuple[str, ...]:
        """The files that are read, made or removed."""
        return tuple(dict.fromkeys(filter(None, (self.old, self.new))))

    def count(self, sign: str) -> int:
        """How many lines it adds (+) or removes (-)."""
        return sum(line.startswith(sign) for line in self.hunks)

    def to_unified(self) -> str:
        """Its hunks as a unified diff."""
        if not self.hunks:
            return ""
        old, new = (f"{side}/{name}" if name else _NULL for side, name in (("a", self.old), ("b", self.new)))
        return f"--- {old}\n+++ {new}\n{''.join(self.hunks)}"

    def to_git(self) -> str:
        """All of it, as git writes it."""
        lines = [f"{_GIT}a/{self.old or self.new} b/{self.new or self.old}"]
        if not self.old:
            lines.append(f"new file mode {self.mode or '100644'}")
        elif not self.new:
            lines.append(f"deleted file mode {self.mode or '100644'}")
        else:
            if self.mode:
                executable = self.mode.endswith("755")
                lines += [f"old mode {'100644' if executable else '100755'}", f"new mode {self.mode}"]
            if self.old != self.new:
                verb = "copy" if self.copied else "rename"
                lines += [f"{verb} from {self.old}", f"{verb} to {self.new}"]
        return "\n".join(lines) + "\n" + self.to_unified()


def start(text: str) -> int:
    """Where the first change of a text begins, in characters; its length if there is none."""
    lines = _lines(text)
    at = 0
    for number, line in enumerate(lines):
        if line.startswith(_GIT) or _is_header(lines, number):
            return at
        at += len(line)
    return len(text)


def parse(text: str) -> list[Change]:
    """The changes in a text, in their order.

    Raises:
        PatchError: a hunk is cut short or too long, or a file is binary; the text has the line's number.
    """
    return list(_changes(_lines(text)))


def _lines(text: str) -> list[str]:
    """The lines of a text, each with its end; no other character ends a line of a diff."""
    return [f"{line}\n" for line in text.removesuffix("\n").split("\n")]


def _changes(lines: list[str]) -> Iterator[Change]:
    number = 0
    begun = False
    while number < len(lines):
        line = lines[number].rstrip("\n")
        first = number + 1
        if line.startswith(_GIT):
            change, number = _git_header(lines, number)
        elif _is_header(lines, number):
            change = Change("", "", line=first)
        elif begun and _BINARY.match(line):
            raise PatchError(f"line {first}: it changes a binary file; only text files can be patched")
        else:
            number += 1
            continue
        begun = True
        if _is_header(lines, number):
            old, new = _names(lines[number : number + 3], line.startswith(_GIT))
            if any(name and known and not _same(name, known) for name, known in ((old, change.old), (new, change.new))):
                raise PatchError(f"line {number + 1}: it names other files than `diff --git` in line {first}")
            hunks, number = _hunks(lines, number + 2)
            change = replace(change, old=old, new=new, hunks=hunks)
        yield change


def _same(name: str, other: str) -> bool:
    """Whether two names are the same file's but for what comes before the first slash."""
    return name == other or name.partition("/")[2] == other.partition("/")[2]


def _is_header(lines: list[str], number: int) -> bool:
    """Whether the two lines that name a file, and a hunk, begin here."""
    three = lines[number : number + 3]
    return (
        len(three) == 3
        and three[0].startswith("--- ")
        and three[1].startswith("+++ ")
        and _HUNK.match(three[2]) is not None
    )


def _names(header: list[str], is_git: bool) -> tuple[str, str]:
    """The names in the lines that begin with --- and +++, '' for no file. Behind a tab stands a date, or what
    Subversion says of a revision.

    Without git's header both are the name of one file, of which one copy may be called x.orig; and a date alone may say
    that there is no file.

    Args:
        header: these lines, and the first line of the first hunk.
    """
    hunk = header[2]
    (old, _, old_date), (new, _, new_date) = (line[4:].rstrip("\n").partition("\t") for line in header[:2])
    old, new = old.rstrip(), new.rstrip()
    if not is_git and _NULL not in (old, new):
        same = old if new.startswith(old) else new
        created = hunk.startswith("@@ -0,0 ") and _NO_FILE.match(old_date)
        removed = " +0,0 @@" in hunk and _NO_FILE.match(new_date)
        return "" if created else same, "" if removed else same
    return "" if old == _NULL else old, "" if new == _NULL else new


def _git_header(lines: list[str], number: int) -> tuple[Change, int]:
    """What git says of a file before its hunks, and the number of the line after that."""
    first = number
    fields: dict[str, str] = {}
    number += 1
    while number < len(lines) and (match := _EXTENDED.fullmatch(lines[number].rstrip("\n"))):
        fields[match["key"]] = match["value"]
        number += 1
    old, new = _git_names(lines[first].rstrip("\n"))
    for verb in ("rename", "copy"):
        if f"{verb} from" in fields:  # these have no a/ and b/
            old, new = f"a/{fields[f'{verb} from']}", f"b/{fields.get(f'{verb} to', '')}"
    mode = fields.get("new mode") or fields.get("new file mode") or fields.get("deleted file mode") or ""
    if mode[:3] in ("120", "160"):
        kind = "symbolic link" if mode.startswith("120") else "submodule"
        raise PatchError(f"line {first + 1}: it makes or changes a {kind}; only files can be patched")
    if "new file mode" in fields:
        old = ""
    if "deleted file mode" in fields:
        new = ""
    return Change(old, new, copied="copy from" in fields, mode=mode, line=first + 1), number


def _git_names(line: str) -> tuple[str, str]:
    """The two names of a `diff --git` line, which are the same but for what comes before the first slash, if anything
    does; a rename has them elsewhere."""
    names = line.removeprefix(_GIT)
    middle = len(names) // 2
    if names[middle : middle + 1] == " ":
        old, new = names[:middle], names[middle + 1 :]
        if old == new or old.partition("/")[2] == new.partition("/")[2]:
            return old, new
    old, _, new = names.partition(" ")
    return old, new


def _hunks(lines: list[str], number: int) -> tuple[tuple[str, ...], int]:
    """The lines of a file's hunks, and the number of the line after them. Raises PatchError."""
    hunks: list[str] = []
    while number < len(lines) and (match := _HUNK.match(lines[number])):
        first = number + 1
        before, after = (int(match[side]) if match[side] else 1 for side in ("before", "after"))
        hunks.append(lines[number])
        number += 1
        while before or after:
            line = lines[number] if number < len(lines) else ""
            sign = " " if line == "\n" else line[:1]  # a mailer may take the blank of an empty line
            before -= sign in (" ", "-")
            after -= sign in (" ", "+")
            if sign not in (" ", "-", "+", "\\") or not line or min(before, after) < 0:
                raise PatchError(
                    f"the hunk at line {first} does not have the lines that it announces (line {number + 1});"
                    " lines may have been wrapped, lost or changed on the way"
                )
            hunks.append(" \n" if line == "\n" else line)
            number += 1
        if number < len(lines) and lines[number].startswith("\\"):
            hunks.append(lines[number])
            number += 1
    line = lines[number] if number < len(lines) else ""
    if line.startswith("+") or (line.startswith("-") and not re.match(r"-{2,}(?:\s|$)", line)):
        raise PatchError(
            f"the hunk before line {number + 1} has more lines than it announces; lines may have been added on the way"
        )
    if _HUNK.match(line.lstrip()):
        raise PatchError(f"line {number + 1}: a hunk that belongs to no file")
    return tuple(hunks), number
