"""Write the table of file formats in docs/data.md from the readers themselves: `python docs/generate_readers.py`."""

from __future__ import annotations

from pathlib import Path

PAGE = Path(__file__).parent / "data.md"
BEGIN, END = "<!-- readers: begin -->\n", "<!-- readers: end -->\n"

__all__ = ["filled", "main"]


def filled(page: str) -> str:
    """The page with its table as the readers are now."""
    from tcja_deploy.events.formats import READERS

    rows = [
        "| Format | What it may hold | Written by | Read by |\n|---|---|---|---|\n",
        *(
            f"| {r.name} | {r.holds} | {r.written_by} | {r.read_with} |\n"
            for r in sorted(READERS, key=lambda r: r.name.lower())
        ),
    ]
    before, rest = page.split(BEGIN)
    return before + BEGIN + "".join(rows) + END + rest.split(END)[1]


def main() -> None:
    """Replace the table in the page."""
    PAGE.write_text(filled(PAGE.read_text()))


if __name__ == "__main__":
    main()
