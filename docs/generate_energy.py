"""Write the parts of the pages about energy that are generated, so that no page can differ from the code.

Run from the repository's root: `python docs/generate_energy.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tcja_deploy.energy.render.definitions import conventions_text, thresholds_text

DOCS = Path(__file__).parent
PARTS: dict[str, tuple[str, Callable[[], str]]] = {
    "reference/conventions.md": ("conventions", conventions_text),
    "energy.md": ("thresholds", thresholds_text),
}
"""The part of each page: its name in the markers, and what writes it."""


def filled(path: str) -> str:
    """A page with its generated part up to date."""
    name, make = PARTS[path]
    begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
    head, _, rest = (DOCS / path).read_text(encoding="utf-8").partition(begin)
    _, _, tail = rest.partition(end)
    return f"{head}{begin}\n{make()}\n{end}{tail}"


if __name__ == "__main__":
    for page in PARTS:
        (DOCS / page).write_text(filled(page), encoding="utf-8")
