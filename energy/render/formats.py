"""Tables as CSV, Markdown and LaTeX, and for the terminal."""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tcja_deploy.energy.render.table import Table

if TYPE_CHECKING:
    from rich.table import Table as RichTable

__all__ = ["one_line", "to_csv", "to_latex", "to_markdown", "to_rich", "to_text"]


def to_csv(table: Table) -> str:
    """Raw values, one record per line, with units in the column names; empty where there is no value."""
    keys = [key for c in table.columns for key in c.raw_keys]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, keys, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table.records())
    return stream.getvalue()


def one_line(text: str) -> str:
    """A text with its line breaks removed, which would end a comment or a row."""
    return " ".join(text.split())


def to_markdown(table: Table, level: int = 2) -> str:
    """A GitHub table under a heading; names that look like HTML are escaped."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(one_line(c).replace("|", "\\|").replace("<", "&lt;") for c in cells) + " |"

    rule = "|" + "|".join("---:" if c.right else "---" for c in table.columns) + "|"
    body = [line([c.head for c in table.columns]), rule, *map(line, table.cells())]
    notes = [f"\n{note}" for note in table.notes]
    return "\n".join([f"{'#' * level} {table.title}", "", *body, *notes, ""])


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "µ": r"\textmu{}", "×": r"$\times$", "≥": r"$\ge$", "–": "--",
    "→": r"$\to$", "÷": r"$\div$", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
}  # fmt: skip


def _escape(text: str) -> str:
    return "".join(_LATEX.get(c, c) for c in one_line(text))


def to_latex(table: Table) -> str:
    r"""A booktabs table; needs `\usepackage{booktabs}`."""
    columns = "".join("r" if c.right else "l" for c in table.columns)
    lines = [
        r"\begin{table}",
        rf"\caption{{{_escape(table.title)}}}",
        rf"\label{{tab:{table.key}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(_escape(c.head) for c in table.columns) + r" \\",
        r"\midrule",
        *(" & ".join(map(_escape, cells)) + r" \\" for cells in table.cells()),
        r"\bottomrule",
        r"\end{tabular}",
        *(rf"\par {_escape(note)}" for note in table.notes),
        r"\end{table}",
        "",
    ]
    return "\n".join(lines)


_HEADING = 13
"""Number of characters after which a heading above numbers wraps."""


def to_rich(table: Table) -> RichTable:
    """A table for the terminal; print it without cropping, since numbers are not broken in a narrow one."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    result = RichTable(
        title=Text(table.title),
        title_justify="left",
        title_style="bold",
        caption=Text("\n".join(table.notes)) if table.notes else None,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    cells = table.cells()
    for column, *below in zip(table.columns, *cells, strict=True):
        if column.right:  # numbers are not broken; their headings wrap
            width = max([_HEADING, *map(len, below)])
            head = textwrap.fill(column.head, width, break_long_words=False)
            width = max(map(len, [*head.split("\n"), *below]))
            result.add_column(Text(head), justify="right", min_width=width, no_wrap=True)
        else:
            result.add_column(Text(column.head), overflow="fold")
    for row in cells:
        result.add_row(*map(Text, row))
    return result


_WIDE = 120
"""Number of characters in a line of text, unless the numbers need more."""


def to_text(table: Table) -> str:
    """The table as plain text."""
    from rich.console import Console

    console = Console(file=io.StringIO(), width=_WIDE, color_system=None, legacy_windows=False)
    with console.capture() as captured:
        console.print(to_rich(table), crop=False)
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"
