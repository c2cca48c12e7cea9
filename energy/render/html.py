"""A report as a single HTML file that loads no scripts, styles or images from elsewhere."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from tcja_deploy.energy.render.page_style import SCRIPT, STYLE
from tcja_deploy.energy.render.plots import Plot
from tcja_deploy.energy.render.table import Table

__all__ = ["Page", "table_html"]


class Page:
    """A page that is assembled from top to bottom.

    Args:
        title: Heading and title of the page.
        subtitle: One line below the heading.
    """

    def __init__(self, title: str, subtitle: str) -> None:
        self._title = title
        self._subtitle = subtitle
        self._parts: list[str] = []
        self._links: list[tuple[str, str]] = []

    def section(self, anchor: str, title: str) -> None:
        """Start a section, listed at the top of the page."""
        self._links.append((anchor, title))
        self._parts.append(f'<h2 id="{_e(anchor)}">{_e(title)}</h2>')

    def warning(self, text: str) -> None:
        """Add a text that a reader must not miss."""
        self._parts.append(f'<div class="warn">{_e(text)}</div>')

    def cards(self, cards: Sequence[tuple[str, str]]) -> None:
        """Add large numbers with their labels."""
        body = (f'<div class="card"><b>{_e(value)}</b><span>{_e(what)}</span></div>' for value, what in cards)
        self._parts.append(f'<div class="cards">{"".join(body)}</div>')

    def facts(self, facts: Mapping[str, str]) -> None:
        """Add names with their values."""
        body = "".join(f"<dt>{_e(k)}</dt><dd>{_e(v)}</dd>" for k, v in facts.items())
        self._parts.append(f"<dl>{body}</dl>")

    def plots(self, plots: Sequence[Plot]) -> None:
        """Add plots with their captions, side by side where there is room."""
        body = (f"<figure>{p.svg}<figcaption>{_e(p.caption)}</figcaption></figure>" for p in plots)
        self._parts.append(f'<div class="plots">{"".join(body)}</div>')

    def table(self, table: Table, *, titled: bool = True) -> None:
        """Add a table that can be sorted by clicking a heading."""
        self._parts.append(table_html(table, titled=titled))

    def render(self) -> str:
        """The whole document."""
        links = "".join(f'<a href="#{_e(anchor)}">{_e(text)}</a>' for anchor, text in self._links)
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            f"<title>{_e(self._title)}</title><style>{STYLE}</style></head><body><main>"
            f'<header><h1>{_e(self._title)}</h1><p class="soft">{_e(self._subtitle)}</p><nav>{links}</nav></header>'
            f"{''.join(self._parts)}</main><script>{SCRIPT}</script></body></html>\n"
        )


def table_html(table: Table, *, titled: bool = True) -> str:
    """A table and its notes as a fragment; cells carry their raw values for sorting."""
    title = f"<h3>{_e(table.title)}</h3>" if titled else ""
    head = "".join(f"<th{_right(c.right)}>{_e(c.head)}</th>" for c in table.columns)
    rows = []
    for row, cells in zip(table.rows, table.cells(), strict=True):
        body = []
        for column, value, text in zip(table.columns, row, cells, strict=True):
            raw = column.raw(value)[0]
            key = "" if raw is None else str(raw)
            body.append(f'<td{_right(column.right)} data-v="{_e(key)}">{_e(text)}</td>')
        rows.append(f"<tr>{''.join(body)}</tr>")
    notes = "".join(f'<p class="note">{_e(note)}</p>' for note in table.notes)
    return (
        f'{title}<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
        f"{notes}"
    )


def _e(text: str) -> str:
    return html.escape(text, quote=True)


def _right(right: bool) -> str:
    return ' class="r"' if right else ""
