"""The conventions as text for the documentation, generated from their definitions."""

from __future__ import annotations

from tcja_deploy.energy.price.conventions import ACCOUNTINGS
from tcja_deploy.energy.report.thresholds import THRESHOLDS

__all__ = ["conventions_text", "thresholds_text"]


def conventions_text() -> str:
    """All conventions in Markdown."""
    parts = []
    for c, accounting in ACCOUNTINGS.items():
        kinds = " or ".join(kind.value for kind in c.kinds)
        parts += [
            f"## `{c.name}`, version {c.version}",
            "",
            f"{c.title}. Priced by profiles of kind {kinds}.",
            "",
        ]
        for title, lines in (("Adds up", c.formulas), ("Leaves out", c.excluded), ("Sources", c.sources)):
            parts += [f"{title}:", "", *(f"- {line}" for line in lines), ""]
        if accounting.choices is not None:
            title, values = accounting.choices
            parts += [f"{title}:", "", *(f"- `{value}`: {meaning}" for value, meaning in values), ""]
    return "\n".join(parts)


def thresholds_text() -> str:
    """The published break-even points as a Markdown table."""
    rows = [
        "| publication | quantity | SNN wins below | SNN loses above | derived for | source |",
        "|---|---|---|---|---|---|",
    ]
    for t in THRESHOLDS:
        rows.append(f"| {t.name} | {t.quantity} | {t.low:g} | {t.high:g} | {t.condition} | {t.source} |")
    return "\n".join([*rows, ""])
