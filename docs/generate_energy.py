"""Write the parts of energy.md that are generated, so that the page cannot differ from the code.

Run from the repository's root: `python docs/generate_energy.py`.
"""

from __future__ import annotations

from pathlib import Path

from tcja_deploy.energy.render.definitions import conventions_text, thresholds_text

PAGE = Path(__file__).parent / "energy.md"
PARTS = {"conventions": conventions_text, "thresholds": thresholds_text}


def filled(page: str) -> str:
    """The page with its generated parts up to date."""
    for name, make in PARTS.items():
        begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
        head, _, rest = page.partition(begin)
        _, _, tail = rest.partition(end)
        page = f"{head}{begin}\n{make()}\n{end}{tail}"
    return page


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
