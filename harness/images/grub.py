"""GRUB's configuration: the kernel and modules that its first Multiboot entry boots, with their arguments.

Reads as much of GRUB's language as such entries use (GRUB manual, "Shell-like scripting" and "multiboot"). Knows
nothing of disks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from harness.errors import ImageError

#: One piece of a word or what parts words, in the order in which they are tried.
_PIECE = re.compile(
    r"""
    (?P<joined>\\\n)                                     # a line that goes on
  | (?P<space>[ \t\r]+)
  | (?P<end>[\n;{}|&<>])
  | \\(?P<literal>\$\{[\w-]*\})                         # braces too, though GRUB would end the word at them
  | '(?P<single>[^']*)'
  | "(?P<double>(?:\\.|[^"\\])*)"
  | \\(?P<escaped>.)
  | (?P<variable>\$(?:\w+|\{\w+\}|[?*@\#]))
  | (?P<plain>[^\s;{}|&<>'"\\$]+|\$)
    """,
    re.VERBOSE | re.DOTALL,
)
#: In double quotes a backslash escapes these alone.
_ESCAPED = re.compile(r'\\([$"\\])|\\\n')
_VARIABLE = re.compile(r"(?<!\\)(?:\\\\)*\$(?:\w+|\{\w+\}|[?*@#])")


@dataclass
class Module:
    """A file that GRUB loads, and the arguments after its name, as the kernel gets them."""

    path: str
    args: str


@dataclass
class Entry:
    """What a Multiboot entry boots."""

    kernel: Module
    modules: list[Module] = field(default_factory=list)


def entry(text: str) -> Entry:
    """The first Multiboot entry.

    The name that the configuration repeats after a module's path is left out: it is the program's first argument for
    GRUB, where QEMU gives the module's path instead.

    Raises:
        ImageError: there is none, or its lines use variables, whose values are not known here.
    """
    chosen: Entry | None = None
    for command in commands(text):
        name, *rest = command
        if name not in ("multiboot", "module"):
            continue
        rest = _without_options(rest)
        if None in rest or not rest:
            raise ImageError(f"grub.cfg: its line `{name} ...` cannot be read without GRUB")
        path, *args = [word for word in rest if word is not None]
        path = re.sub(r"^\([^)]*\)", "", path)  # (hd0,msdos2)/boot/x
        if name == "multiboot":
            if chosen:
                break
            repeated = args[:1] and args[0] in (path, path.rpartition("/")[2])
            chosen = Entry(Module(path, _join(args[1:] if repeated else args)))
        elif chosen:
            named = args[:1] and re.fullmatch(r"[\w.+][\w.+-]*", args[0])
            chosen.modules.append(Module(path, _join(args[1:] if named else args)))
    if chosen is None:
        raise ImageError("grub.cfg: it boots no Multiboot kernel")
    return chosen


def with_option(text: str, option: str) -> str:
    """The configuration with an option given to each Multiboot kernel that does not have it yet.

    Args:
        text: the configuration.
        option: a word such as `console=com0`.
    """

    def add(line: re.Match[str]) -> str:
        return line[0] if option in line[0].split() else f"{line['start']} {option}{line['rest']}"

    multiboot_line = r"^(?P<start>[ \t]*multiboot(?:[ \t]+--\S+)*[ \t]+[^\s;]+)(?P<rest>(?:\\\n|[^\n])*)$"
    return re.sub(multiboot_line, add, text, flags=re.MULTILINE)


def _without_options(arguments: list[str | None]) -> list[str | None]:
    # As in multiboot --quirk-..., module --nounzip.
    while arguments and arguments[0] is not None and arguments[0].startswith("--"):
        arguments = arguments[1:]
    return arguments


def commands(text: str) -> Iterator[list[str | None]]:
    """The commands, each as its words; None stands for a word with a variable in it. Raises ImageError if a
    quote is not closed."""
    command: list[str | None] = []
    word: str | None = ""
    begun = False
    at = 0
    while at < len(text):
        if text[at] == "#" and not begun:  # a comment begins where a word could
            at = text.find("\n", at) if "\n" in text[at:] else len(text)
            continue
        piece = _PIECE.match(text, at)
        if piece is None:
            raise ImageError(f"grub.cfg: line {text.count(chr(10), 0, at) + 1} cannot be read: a quote is not closed")
        at = piece.end()
        kind = piece.lastgroup
        if kind == "joined":
            continue
        if kind in ("space", "end"):
            if begun:
                command.append(word)
            word, begun = "", False
            if kind == "end" and command:
                yield command
                command = []
            continue
        begun = True
        more = _value(piece)
        word = None if word is None or more is None else word + more
    if begun:
        command.append(word)
    if command:
        yield command


def _value(piece: re.Match[str]) -> str | None:
    if piece["variable"] is not None:
        return None
    if piece["double"] is not None:
        return None if _VARIABLE.search(piece["double"]) else _ESCAPED.sub(r"\1", piece["double"])
    return next(part for part in piece.group("literal", "single", "escaped", "plain") if part is not None)


def _join(arguments: list[str]) -> str:
    """Words as GRUB hands them to a kernel (GRUB's grub-core/lib/cmdline.c)."""
    escaped = [re.sub(r"""([\\'"])""", r"\\\1", word) for word in arguments]
    return " ".join(f'"{word}"' if " " in word else word for word in escaped)
