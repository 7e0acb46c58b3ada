"""Bytes and texts of programs and guests, as readers are shown them: whatever could do something is spelt out.

The bytes as they are come from `harness open N --raw`.
"""

from __future__ import annotations


def decoded(data: bytes) -> str:
    r"""Bytes as text. Those that are no UTF-8 are escapes, such as `\xff`; control characters are still there."""
    return data.decode("utf-8", "backslashreplace")


def visible(text: str, kept: str = "\n\t") -> str:
    """Text with all that could do something to a reader's view spelt out: control, invisible and direction characters.

    Args:
        kept: those that stay as they are; by default it has lines and columns as it had.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in kept else spelt(c) for c in text)


def spelt(character: str) -> str:
    r"""A character spelt out. U+009B is `\u009b`, for `\x9b` is a byte that is no UTF-8."""
    code = ord(character)
    return f"\\u{code:04x}" if 0x80 <= code <= 0xFF else character.encode("unicode_escape").decode()


def one_line(text: str) -> str:
    """The same without lines and columns: what makes them is spelt out too."""
    return visible(text, kept="")
