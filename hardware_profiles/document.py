"""Renders the profiles and their vocabulary as Markdown tables, for docs/hardware-profiles.md."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from tcja_deploy.hardware_profiles.profile import Profile, Term
from tcja_deploy.hardware_profiles.quantity import ChipLimits, ChipTiming, Quantity, Record
from tcja_deploy.hardware_profiles.vocabulary import OP_CLASSES, UNITS, Bound, Evidence, Nominal, Unit

__all__ = [
    "facts_table",
    "limits_table",
    "prices_table",
    "profiles_table",
    "range_text",
    "value_text",
    "vocabulary_tables",
]


def value_text(quantity: Quantity) -> str:
    """Nominal value with unit: `23.6 pJ`, `>= 23.6 pJ` for a lower bound, `not published`.

    The geometric mean of a published range is marked: `3.46 pJ (midpoint)`.
    """
    if quantity.value is None:
        return "not published"
    if quantity.nominal is Nominal.MIDPOINT:
        return f"{quantity.value:.3g} {quantity.unit} (midpoint)"
    sign = {Bound.LOWER: ">= ", Bound.UPPER: "<= ", None: ""}[quantity.bound]
    return f"{sign}{_number(quantity.value)} {quantity.unit}"


def range_text(quantity: Quantity) -> str:
    """Published range without unit: `3 to 4`, `from 1`, `up to 45`; empty if there is none."""
    if quantity.low is None and quantity.high is None:
        return ""
    if quantity.low is None or quantity.high is None:
        return f"up to {_number(quantity.high)}" if quantity.low is None else f"from {_number(quantity.low)}"
    return f"{_number(quantity.low)} to {_number(quantity.high)}"


def profiles_table(profiles: Iterable[Profile]) -> str:
    """One row per profile: its price lists, what they include, and remarks."""
    rows = []
    for profile in profiles:
        lists = []
        for pricing in profile.pricings:
            star = "*" if pricing is profile.pricing else ""
            included = f" Includes {', '.join(pricing.includes)}." if pricing.includes else ""
            note = f" {pricing.note}" if pricing.note else ""
            head = f"`{pricing.name}`{star} ({pricing.scope}, {pricing.precision})"
            lists.append(f"{head}: {pricing.title}.{note}{included}")
        rows.append(
            (f"`{profile.name}`", profile.title, profile.kind, "<br>".join(lists), " ".join(profile.notes))
        )
    return _table(("profile", "chip", "kind", "price lists", "notes"), rows)


def prices_table(profiles: Iterable[Profile]) -> str:
    """One row per price, for all price lists of all profiles; default price lists are marked with a star."""
    rows = []
    for profile in profiles:
        for pricing in profile.pricings:
            star = "*" if pricing is profile.pricing else ""
            name = f"`{profile.name}:{pricing.name}`{star}"
            rows += [
                (name, pricing.scope, _operation(term), *_provenance(term.quantity)) for term in pricing.terms
            ]
    return _table(("price list", "scope", "operation", *_PROVENANCE), rows)


def limits_table(profiles: Iterable[Profile]) -> str:
    """One row per published limit or duration."""
    rows = []
    for profile in profiles:
        for record in (profile.limits, profile.timing):
            kind = "limit" if isinstance(record, ChipLimits) else "time"
            rows += [(f"`{profile.name}`", kind, f"`{q.name}`", *_provenance(q)) for q in record]
    return _table(("profile", "kind", "name", *_PROVENANCE), rows)


def facts_table(profiles: Iterable[Profile]) -> str:
    """One row per published number that no estimate uses."""
    rows = [(f"`{p.name}`", f"`{q.name}`", *_provenance(q)) for p in profiles for q in p.facts]
    return _table(("profile", "name", *_PROVENANCE), rows)


def vocabulary_tables() -> str:
    """Operation classes, limits, durations, units and grades of evidence."""
    ops = [
        (
            f"`{op}`",
            info.group,
            info.unit,
            info.meaning + ("; `word_bit` says of how many bits" if info.needs_word else ""),
        )
        for op, info in OP_CLASSES.items()
    ]
    units = [(f"`_{unit}`", UNITS[unit][0]) for unit in Unit]
    grades = [(f"`{grade}`", grade.meaning) for grade in Evidence]
    parts = (
        _table(("operation class", "group", "unit of `Term.price`", "one count of it is"), ops),
        _table(("limit", "unit", "meaning"), _fields(ChipLimits)),
        _table(("duration", "unit", "meaning"), _fields(ChipTiming)),
        _table(("key ends in", "measures"), units),
        _table(("evidence", "meaning"), grades),
    )
    return "\n\n".join(parts)


_PROVENANCE = ("value", "range", "node", "supply", "evidence", "certainty", "source", "note")


def _provenance(quantity: Quantity) -> tuple[str, ...]:
    return (
        value_text(quantity),
        range_text(quantity),
        "" if quantity.node_nm is None else f"{_number(quantity.node_nm)} nm",
        "" if quantity.voltage_V is None else f"{_number(quantity.voltage_V)} V",
        quantity.evidence
        if not quantity.inherited_from
        else f"{quantity.evidence} from {quantity.inherited_from}",
        quantity.certainty or "",
        quantity.citation,
        quantity.note,
    )


def _operation(term: Term) -> str:
    size = "" if term.quantity.size_KiB is None else f", {_number(term.quantity.size_KiB)} KiB"
    word = "" if term.quantity.word_bit is None else f", {term.quantity.word_bit} bit"
    return f"`{term.op}`{size}{word}"


def _fields(kind: type[Record]) -> list[tuple[str, ...]]:
    return [(f"`{f.name}`", str(f.metadata["rule"]), f.metadata["meaning"]) for f in dataclasses.fields(kind)]


def _number(number: float | None) -> str:
    return "" if number is None else f"{number:.15g}"


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(
        f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |" for line in lines
    )
