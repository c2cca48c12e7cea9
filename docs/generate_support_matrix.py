"""Write the support matrix: run every family of networks through every target and note what happened.

    python docs/generate_support_matrix.py

needs the extra `test` and about a minute. The table goes into docs/support-matrix.md. What is run is in tests/families
(`family_nets.py`: the rows, `targets.py`: the columns); `test_support_matrix.py` there does the same and compares, so
that the table cannot say what is not so.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- generated: begin -->\n", "<!-- generated: end -->\n"

__all__ = ["documents", "header", "main", "row", "table"]


def documents() -> list[Path]:
    """The files that hold the table."""
    return [p for p in (ROOT / "docs" / "support-matrix.md", ROOT / "README.md") if BEGIN in p.read_text()]


def table(document: Path) -> list[str]:
    """The lines of the table in a file."""
    return document.read_text().split(BEGIN)[1].split(END)[0].splitlines(keepends=True)


def row(title: str, cells: list[str]) -> str:
    """One line of the table."""
    return f"| {' | '.join([title, *cells])} |\n"


def header(columns: list[str]) -> str:
    """The first two lines."""
    return row("", columns) + "|" + "---|" * (len(columns) + 1) + "\n"


def main() -> None:
    """Run everything, and replace the table in the documents."""
    sys.path[:0] = [str(ROOT / "tests" / "families"), str(ROOT / "examples")]
    from family_nets import FAMILIES, net
    from targets import TARGETS

    lines = header(list(TARGETS))
    for key, family in FAMILIES.items():
        with tempfile.TemporaryDirectory() as folder:
            cells = [check(net(key), Path(folder)) for check in TARGETS.values()]
        lines += row(family.title, cells)
        print(lines.splitlines()[-1], flush=True)
    for document in documents():
        before, rest = document.read_text().split(BEGIN)
        document.write_text(before + BEGIN + lines + END + rest.split(END)[1])


if __name__ == "__main__":
    main()
