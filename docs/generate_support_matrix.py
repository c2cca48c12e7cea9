"""Write the table of docs/support-matrix.md: runs every family of networks through every target and notes what happened.

    python docs/generate_support_matrix.py

needs the extra `test`; takes about a minute. What is run is in tests/families (`family_nets.py`: the rows, `targets.py`: the
columns); `tests/families/test_support_matrix.py` does the same and compares, so that the table cannot say what is not so.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "support-matrix.md"
BEGIN, END = "<!-- generated: begin -->\n", "<!-- generated: end -->\n"

__all__ = ["BEGIN", "DOCUMENT", "END", "header", "main", "row"]


def row(title: str, cells: list[str]) -> str:
    """One line of the table."""
    return f"| {' | '.join([title, *cells])} |\n"


def header(columns: list[str]) -> str:
    """The first two lines."""
    return row("", columns) + "|" + "---|" * (len(columns) + 1) + "\n"


def main() -> None:
    """Run everything, and replace the table in the document."""
    sys.path[:0] = [str(ROOT / "tests" / "families"), str(ROOT / "examples")]
    from family_nets import FAMILIES, net
    from targets import TARGETS

    lines = header(list(TARGETS))
    for key, family in FAMILIES.items():
        with tempfile.TemporaryDirectory() as folder:
            cells = [check(net(key), Path(folder)) for check in TARGETS.values()]
        lines += row(family.title, cells)
        print(lines.splitlines()[-1], flush=True)
    before, rest = DOCUMENT.read_text().split(BEGIN)
    DOCUMENT.write_text(before + BEGIN + lines + END + rest.split(END)[1])


if __name__ == "__main__":
    main()
