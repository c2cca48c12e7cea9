"""The rules that every number of a profile file has to follow."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from tcja_deploy.hardware_profiles.quantity import Quantity, Source
from tcja_deploy.hardware_profiles.reader import TomlTable, suggestion
from tcja_deploy.hardware_profiles.vocabulary import (
    UNITS,
    Bound,
    Certainty,
    Dimension,
    Evidence,
    Nominal,
    Scope,
    Unit,
)

__all__ = ["Context", "quantity_entries", "read_quantity"]

_KEY_NAME = r"[A-Za-z][A-Za-z0-9_]*"
_WHOLE_UNITS = (Unit.COUNT, Unit.PX, Unit.BIT)
_VALUE_KEYS = ("value", "min", "max", "bound", "certainty", "inherited_from", "per_core")


@dataclass(frozen=True, slots=True)
class Context:
    """Defaults for a quantity: the sources, and the node and voltage of the chip or of its price list."""

    sources: dict[str, Source]
    node_nm: float | None
    voltage_V: float | None  # noqa: N815 - the unit's own spelling
    cited: set[str] = field(default_factory=set)

    def below(self, node_nm: float | None, voltage_V: float | None) -> Context:
        """The context of a price list, which may state its own node and voltage."""
        return replace(self, node_nm=node_nm or self.node_nm, voltage_V=voltage_V or self.voltage_V)


def quantity_entries(table: TomlTable) -> Iterator[tuple[str, TomlTable, str, Unit]]:
    """Key, table, name and unit of each quantity in a table; a key without a unit is reported and left out."""
    units = [unit.value for unit in Unit]
    for key in table.keys:
        entry = table.table(key)
        name, _, suffix = key.rpartition("_")
        if suffix not in units or not re.fullmatch(_KEY_NAME, name):
            table.complain(key, f"must be a name and a unit: _{', _'.join(units)}{suggestion(suffix, units)}")
        elif entry.is_table:
            yield key, entry, name, Unit(suffix)


def read_quantity(
    entry: TomlTable,
    name: str,
    unit: Unit,
    context: Context,
    *,
    scope: Scope | None = None,
    word: bool = False,
    size_KiB: float | None = None,
    per_core: bool = False,
) -> Quantity | None:
    """Read one number with its provenance.

    Args:
        entry: Its table.
        name: Its key without the unit.
        unit: The unit in its key.
        context: Default node and voltage, and the sources.
        scope: Scope of the price list that it belongs to; None for facts, which may state their own.
        word: Whether it is a price per word, so that `word_bit` is required.
        size_KiB: Memory size in its key, or None.
        per_core: Whether it may list one number per core.

    Returns:
        The quantity; None if anything is wrong with it, which `entry` has then reported.
    """
    before = len(entry.problems.messages)
    evidence = entry.choice("evidence", Evidence)
    note = entry.text("note", required=evidence in (Evidence.UNKNOWN, Evidence.DERIVED))
    node_nm = entry.number("node_nm") or context.node_nm
    voltage_V = entry.number("voltage_V") or context.voltage_V
    word_bit = entry.number("word_bit", whole=True, required=True) if word else None
    may_have_scope = scope is None and UNITS[unit][0] in (Dimension.ENERGY, Dimension.POWER)
    own_scope = entry.choice("scope", Scope, required=False) if may_have_scope else scope
    if scope is not None and "scope" in entry:
        entry.forbid("scope", "belongs to the price list, whose energies share one scope")
    source = _read_source(entry, context, required=evidence is not Evidence.UNKNOWN)
    where = entry.text("where", required=source is not None)
    if evidence is Evidence.UNKNOWN:
        for key in _VALUE_KEYS:
            if key in entry:
                entry.forbid(key, "an unknown number has none")
        low = high = value = None
        nominal, bound, certainty, inherited, cores = Nominal.MISSING, None, None, "", None
    else:
        low, value, high, nominal = _read_range(entry, whole=unit in _WHOLE_UNITS)
        bound = entry.choice("bound", Bound, required=False)
        certainty = entry.choice("certainty", Certainty)
        inherited = entry.text("inherited_from", required=evidence is Evidence.INHERITED)
        if inherited and evidence is not Evidence.INHERITED:
            entry.complain("inherited_from", 'needs evidence = "inherited"')
        cores = entry.wholes("per_core") or None if per_core else None
    entry.close()
    if evidence is None or len(entry.problems.messages) > before:
        return None
    return Quantity(
        path=entry.path,
        name=name,
        unit=unit,
        value=value,
        low=low,
        high=high,
        nominal=nominal,
        bound=bound,
        evidence=evidence,
        certainty=certainty,
        source=source,
        where=where,
        node_nm=node_nm,
        voltage_V=voltage_V,
        scope=own_scope,
        word_bit=None if word_bit is None else int(word_bit),
        size_KiB=size_KiB,
        per_core=cores,
        inherited_from=inherited,
        note=note,
    )


def _read_source(entry: TomlTable, context: Context, *, required: bool) -> Source | None:
    key = entry.text("source", required=required)
    if not key:
        return None
    context.cited.add(key)
    if key not in context.sources:
        entry.complain("source", f"there is no [sources.{key}]{suggestion(key, context.sources)}")
    return context.sources.get(key)


def _read_range(entry: TomlTable, *, whole: bool) -> tuple[float | None, float | None, float | None, Nominal]:
    """Low, nominal and high value; a range without a nominal value gets its geometric mean as one."""
    value = entry.number("value", whole=whole)
    low = entry.number("min", whole=whole, zero="value" in entry)
    high = entry.number("max", whole=whole)
    if low is not None and high is not None and low > high:
        entry.complain("min", f"{low:g} is above max = {high:g}")
    elif value is not None and low is not None and low > value:
        entry.complain("min", f"{low:g} is above value = {value:g}")
    elif value is not None and high is not None and high < value:
        entry.complain("max", f"{high:g} is below value = {value:g}")
    if "value" in entry:
        return low, value, high, Nominal.STATED
    if "min" not in entry or "max" not in entry or whole:
        hint = "" if whole else ", or min and max"
        entry.complain("value", f'missing{hint}; an unpublished number has evidence = "unknown"')
    if low is None or high is None:
        return low, None, high, Nominal.MISSING
    return low, math.sqrt(low * high), high, Nominal.MIDPOINT
