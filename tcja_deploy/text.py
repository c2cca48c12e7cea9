"""Text that others wrote, made safe to print: names of nodes, keys and files may hold anything."""

from __future__ import annotations

import unicodedata

__all__ = ["a_screen", "printable", "with_article"]

_LINES, _CHARACTERS, _LONGEST = 40, 4000, 1000
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Unicode categories that move the cursor, turn the writing direction, or show nothing."""


def printable(text: str, keep: str = "") -> str:
    r"""Control characters, escape sequences, direction marks and undecodable bytes are shown (`\x1b`), not sent.

    Args:
        text: What is to be printed.
        keep: Characters to leave as they are, such as a line break.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in keep or unicodedata.category(c) not in _UNSEEN else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


def with_article(noun: str) -> str:
    """A noun after "a" or "an": by its first letter, or by the name of that letter in an abbreviation."""
    sounds = "AEFHILMNORSX" if noun[:2].isupper() else "AEIOUaeiou"
    return f"{'an' if noun[0] in sounds else 'a'} {noun}"


def a_screen(text: str) -> str:
    """At most a screen of a message, safe to print; the end, which has the advice, is kept."""
    lines = [
        line if len(line) <= _LONGEST else f"{line[: _LONGEST - 200]} [...] {line[-150:]}"
        for line in printable(text, keep="\n").split("\n")
    ]
    used = 0
    for count, line in enumerate(lines):
        used += len(line)
        if count >= _LINES - 2 or used > _CHARACTERS:
            left = len(lines) - count - 1
            if left:
                return "\n".join([*lines[:count], f"  [... {left:,} more lines]", lines[-1]])
    return "\n".join(lines)
