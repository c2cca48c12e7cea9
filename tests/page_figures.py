"""Figures that pages state, and what comments in a page's source say about where they come from.

A comment stands right before the paragraph, list or table that states them:

- `<!-- figures: CODE -->`: Python, on one line or several, whose last expression gives the values, as the text has them. What
    differs from machine to machine is `...` there.
- `<!-- figures by: tests/... -->`: that test compares them.
- `<!-- figures of: REASON -->`: nothing compares them, for one of the reasons in `REASONS`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from page_blocks import ROOT

__all__ = [
    "REASONS",
    "Near",
    "NotAtHandError",
    "Statement",
    "agree",
    "evaluate",
    "figures",
    "statements_of",
    "unmarked_prose",
    "unmarked_tables",
]

REASONS = (
    "the times of one machine",
    "minutes of work: ",
    "published by others",
    "rules and settings",
    "data from elsewhere: ",
)
"""Why nothing compares figures."""

_COMMENT = re.compile(
    r"^<!-- (?P<word>figures|figures by|figures of):(?P<said>.+?)-->\n\n?", re.DOTALL | re.MULTILINE
)
_FIGURE = re.compile(
    r"(?<![\w.,-])[-+]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?(?![.]\d)(?!\.?\w*[A-Za-z_]\w*\d)"
)


@dataclass(frozen=True)
class Statement:
    """A part of a page that states figures.

    Attributes:
        page: The page's path from the root of the repository.
        line: Its first line there.
        text: What a reader sees.
        word: The comment's first words.
        said: What it says.
    """

    page: str
    line: int
    text: str
    word: str
    said: str

    @property
    def place(self) -> str:
        """Where to look."""
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Near:
    """A value that changes a little with versions of libraries or a name's length: sizes of files.

    Attributes:
        value: As found.
        part: By how much of it the stated figure may differ.
    """

    value: float
    part: float = 0.001


class NotAtHandError(Exception):
    """Data that the repository does not hold, without which a statement is not compared."""


def statements_of(page: str) -> list[Statement]:
    """The marked statements of a page, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        Statement(
            page,
            text.count("\n", 0, found.end()) + 1,
            text[found.end() :].partition("\n\n")[0],
            found["word"],
            found["said"].strip(),
        )
        for found in _COMMENT.finditer(text)
    ]


def figures(text: str) -> list[str]:
    """Figures of a paragraph, or of a table's cells behind the first of each row, in order; what is code is none."""
    text = re.sub(r"`[^`]*`|\]\([^)]*\)", " ", text)
    rows = text.splitlines()
    if rows[0].startswith("|"):
        text = "\n".join(" | ".join(row.split("|")[2:]) for row in rows[2:])
    return _FIGURE.findall(text)


def _flat(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, Iterable) and not isinstance(value, str):
            yield from _flat(value)
        else:
            yield value


def agree(stated: str, value: Any) -> bool:
    """Whether a figure is the value to the digits that are stated; whole numbers exactly."""
    number = stated.replace(",", "").lstrip("+")
    if isinstance(value, Near):
        return abs(float(number) - value.value) <= value.part * abs(value.value)
    if isinstance(value, int):
        return "." not in number and int(float(number)) == value
    mantissa, _, exponent = number.partition("e")
    digits = len(mantissa.partition(".")[2]) - int(exponent or 0)
    return abs(float(number) - value) <= 0.5000001 * 10.0**-digits


def evaluate(statement: Statement, names: dict[str, Any]) -> None:
    """Compare what a statement says with what its code finds."""
    body = ast.parse(statement.said)
    last = body.body.pop()
    assert isinstance(last, ast.Expr), f"{statement.place}: the last line is no expression"
    try:
        exec(compile(body, statement.place, "exec"), names)
        found = list(_flat(eval(compile(ast.Expression(last.value), statement.place, "eval"), names)))
    except NotAtHandError:
        return
    stated = figures(statement.text)
    assert len(stated) == len(found), f"{statement.place}: states {stated}, found {found}"
    assert any(value is not ... for value in found), f"{statement.place}: compares nothing"
    for figure, value in zip(stated, found, strict=True):
        assert value is ... or agree(figure, value), (
            f"{statement.place}: says {figure}, not {value}; all that was found: {found}"
        )


def _without(pattern: str, text: str) -> str:
    """A text with empty lines in the place of what matches."""
    return re.sub(pattern, lambda found: "\n" * found[0].count("\n"), text, flags=re.DOTALL | re.MULTILINE)


_GENERATED = r"<!-- (?:begin (\w+)|\w+: begin|(\w+)) -->\n.*?<!-- (?:end \1|\w+: end|/\2) -->"
_MEASURED = re.compile(
    r"(?<![\w.,-])\d+(?:,\d{3}|\.\d)[\d,.]*(?:e-\d+)? (?:%|ms|s|ns|[kMG]B|[µp]J|points|values|spikes|million)(?!\w)"
)


def unmarked_prose(page: str) -> list[str]:
    """Paragraphs and lists with measured figures that no comment says the origin of, as `page:line`."""
    text = _without(_GENERATED, (ROOT / page).read_text(encoding="utf-8"))
    text = _without(r"<!--.*?-->", _without(r"^```.*?^```", text))
    marked = {statement.line for statement in statements_of(page)}
    found = []
    for part in re.finditer(r"(?:^[^\n|#].*\n?)+", text, re.MULTILINE):
        line = text.count("\n", 0, part.start()) + 1
        code = part[0].startswith("    ")
        if not code and line not in marked and _MEASURED.search(re.sub(r"`[^`]*`", "", part[0])):
            found.append(f"{page}:{line}")
    return found


def unmarked_tables(page: str) -> list[str]:
    """Tables with measured figures that no comment says the origin of, as `page:line`."""
    text = _without(_GENERATED, (ROOT / page).read_text(encoding="utf-8"))
    marked = {statement.line for statement in statements_of(page)}
    found = []
    for table in re.finditer(r"^\|.*\n\|[-:| ]+\|\n(?:\|.*\n)+", text, re.MULTILINE):
        line = text.count("\n", 0, table.start()) + 1
        measured = [f for f in figures(table[0].rstrip("\n")) if re.search(r"[.,e]", f)]
        if len(measured) >= 3 and line not in marked:
            found.append(f"{page}:{line}")
    return found
