"""What the site does to a page's HTML: where code and numbers may break into lines.

Browsers break a line behind any hyphen, also inside of `--target`, and squeeze a column of numbers into one word a line. A
block of code that Markdown took for prose, because of what its fence says, ends a strict build.
"""

from __future__ import annotations

import html as markup
import logging
import re
from typing import Any

__all__ = ["on_page_content"]

LONGEST = 40
"""Characters that are kept on one line: a narrow telephone shows as many."""

_PRE = re.compile(r"(<pre\b.*?</pre>|<svg\b.*?</svg>|<style\b.*?</style>|<script\b.*?</script>)", re.DOTALL)
_CODE = re.compile(r"<code>([^<]+)</code>")
_CELL = re.compile(r"<(td|th)([^>]*)>(.*?)</\1>", re.DOTALL)
_IN_FIGURES = r"[\d\s.,:%+\-–>→~≥≤()/eMGkBbnpµmsxJ]*"
_FIGURES = re.compile(rf"{_IN_FIGURES}\d{_IN_FIGURES}")


def _unbroken(code: re.Match[str]) -> str:
    """Code whose words stay whole, unless they are very long."""
    words = [
        f'<span class="whole">{word}</span>' if "-" in word and len(word) <= LONGEST else word
        for word in code[1].split(" ")
    ]
    return f"<code{' class=short' if len(code[1]) <= LONGEST else ''}>{' '.join(words)}</code>"


def _cell(cell: re.Match[str]) -> str:
    """A cell with the class of what it holds: figures on one line, or a text that needs some width."""
    tag, attributes, inner = cell.groups()
    text = markup.unescape(re.sub(r"<[^>]+>", "", inner)).strip()
    if "class=" in attributes or not text:
        return cell[0]
    if len(text) <= LONGEST:
        if not _FIGURES.fullmatch(text):
            return cell[0]
        kind = "figures"
    else:
        kind = "command" if inner.startswith("<code>") and inner.count("<code>") == 1 else "text"
    return f'<{tag}{attributes} class="{kind}">{inner}</{tag}>'


def on_page_content(html: str, **known: Any) -> str:
    """Called by MkDocs with each page's content."""
    parts = _PRE.split(html)
    if any("```" in part for part in parts[::2]):
        place = known["page"].file.src_uri if "page" in known else "a page"
        logging.getLogger("mkdocs.hooks").warning("%s shows a fence of code as prose", place)
    return "".join(
        part if i % 2 else _CELL.sub(_cell, _CODE.sub(_unbroken, part)) for i, part in enumerate(parts)
    )
