"""Tables as data: one record that every output format renders."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["NOTHING", "Column", "Table", "energy_text", "number_text", "shape_text"]

ColumnKind = Literal["text", "label", "int", "number", "percent", "energy", "counts", "energies", "percents"]
"""How a cell is displayed: `label` is text aligned to the right, `energy` is in pJ, `percent` a share of 1; the plurals are
(low, high) pairs."""

_PAIRS = ("counts", "energies", "percents")

NOTHING = "–"

_UNITS = (("J", 1e12), ("mJ", 1e9), ("µJ", 1e6), ("nJ", 1e3), ("pJ", 1.0))


def number_text(value: float, digits: int = 4) -> str:
    """A number with the given significant digits and thousands separators, without an exponent."""
    if value == 0 or not math.isfinite(value):
        return f"{value:.0f}" if value == 0 else NOTHING
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(decimals, 12)}f}"


def _unit(pJ: float) -> tuple[str, float]:
    return next(((name, size) for name, size in _UNITS if abs(pJ) >= size), _UNITS[-1])


def energy_text(pJ: float, digits: int = 4) -> str:
    """An energy given in pJ, as text in a suitable unit."""
    name, size = _unit(pJ)
    return f"{number_text(pJ / size, digits)} {name}"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        key: Machine-readable name, with the unit of the raw value.
        head: Heading, with the unit where cells do not carry one.
        kind: How cells are displayed.
        digits: Significant digits of numbers and energies.
    """

    key: str
    head: str
    kind: ColumnKind = "text"
    digits: int = 4

    @property
    def right(self) -> bool:
        """Whether cells are aligned to the right."""
        return self.kind != "text"

    def text(self, value: Any) -> str:
        """A cell for human readers."""
        if value is None:
            return NOTHING
        match self.kind:
            case "int":
                return f"{value:,.0f}"
            case "number":
                return number_text(value, self.digits)
            case "percent":
                return f"{100 * value:.2f} %"
            case "counts":
                return f"{value[0]:,.0f} – {value[1]:,.0f}"
            case "percents":
                return f"{100 * value[0]:.2f} – {100 * value[1]:.2f} %"
            case "energy":
                return energy_text(value, self.digits)
            case "energies":
                name, size = _unit(max(map(abs, value)))
                return f"{number_text(value[0] / size)} – {number_text(value[1] / size)} {name}"
        return str(value)

    def raw(self, value: Any) -> tuple[Any, ...]:
        """The machine-readable values of a cell: one, or two for pairs."""
        if self.kind in _PAIRS:
            return (None, None) if value is None else tuple(value)
        return (value,)

    @property
    def raw_keys(self) -> tuple[str, ...]:
        """Names of the machine-readable values."""
        return (f"{self.key}_low", f"{self.key}_high") if self.kind in _PAIRS else (self.key,)


@dataclass(frozen=True, slots=True)
class Table:
    """A table.

    Attributes:
        key: Machine-readable name.
        title: Heading.
        columns: Its columns.
        rows: Raw values, one tuple per row.
        notes: Remarks that a reader needs.
    """

    key: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]
    notes: tuple[str, ...] = ()

    def cells(self) -> list[list[str]]:
        """All cells for human readers."""
        return [[c.text(v) for c, v in zip(self.columns, row, strict=True)] for row in self.rows]

    def only(self, *keys: str) -> Table:
        """The same table with some of its columns."""
        picked = [i for i, c in enumerate(self.columns) if c.key in keys]
        columns = tuple(self.columns[i] for i in picked)
        return Table(
            self.key, self.title, columns, tuple(tuple(r[i] for i in picked) for r in self.rows), self.notes
        )

    def records(self) -> list[dict[str, Any]]:
        """Raw values by column key."""
        keys = [key for c in self.columns for key in c.raw_keys]
        return [
            dict(
                zip(keys, (x for c, v in zip(self.columns, row, strict=True) for x in c.raw(v)), strict=True)
            )
            for row in self.rows
        ]


def recordings_text(count: int) -> str:
    """A number of recordings as text, such as "12 recordings"."""
    return f"{count} recording{'' if count == 1 else 's'}"


def shape_text(shape: Sequence[int]) -> str:
    """A shape as text, such as 128×64×64."""
    return "×".join(map(str, shape))
