"""Turns the tables of a profile file into a `Profile`, and reports everything that breaks the rules.

The rules that keep an estimate honest: every number has its unit in its key, a source, a place in that source and a grade
of evidence; an unpublished number has no value; and all energies of one price list have the same scope, so that an all-in
energy is never added to the static or neuron terms that it already includes.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TypeVar

from tcja_deploy.hardware_profiles.profile import Pricing, Profile, Term
from tcja_deploy.hardware_profiles.quantity import ChipLimits, ChipTiming, Quantity, Record, Source, key_rule
from tcja_deploy.hardware_profiles.quantity_schema import Context, quantity_entries, read_quantity
from tcja_deploy.hardware_profiles.reader import Problems, TomlTable, suggestion
from tcja_deploy.hardware_profiles.vocabulary import (
    OP_CLASSES,
    UNITS,
    ChipKind,
    OpClass,
    OpGroup,
    Precision,
    Scope,
    Unit,
)

__all__ = ["NAME_PATTERN", "SCHEMA_VERSION", "parse_profile"]

SCHEMA_VERSION = 1
NAME_PATTERN = r"[a-z0-9]+(-[a-z0-9]+)*"
_VERSION = r"\d+\.\d+\.\d+"
_DOI = r"10\.\d{4,9}/\S+"
_ARXIV = r"\d{4}\.\d{4,5}"
_SIZED = r"(?P<op>\w+)_(?P<size>[1-9]\d{0,9})KiB"
_ALL_IN_GROUPS = (OpGroup.ARITHMETIC, OpGroup.SYNAPTIC, OpGroup.SPIKE)

_AnyRecord = TypeVar("_AnyRecord", bound=Record)


def parse_profile(data: object, *, origin: str, sha256: str) -> tuple[Profile | None, list[str]]:
    """Read the parsed TOML of one profile.

    Args:
        data: The result of `tomllib`.
        origin: `built-in`, or the path of the file.
        sha256: SHA-256 of the file's bytes, hexadecimal.

    Returns:
        The profile and an empty list; or None and every violation, each beginning with the dotted key.
    """
    problems = Problems()
    top = TomlTable(data, "", problems)
    schema = top.number("schema_version", whole=True, required=True)
    if schema is not None and schema != SCHEMA_VERSION:
        top.complain("schema_version", f"{schema:g} is not supported, this release reads {SCHEMA_VERSION}")
    name = top.text("name", pattern=NAME_PATTERN)
    title = top.text("title")
    kind = top.choice("kind", ChipKind)
    version = top.text("version", pattern=_VERSION)
    process = top.text("process", required=False)
    notes = top.texts("notes")
    sources = _read_sources(top.table("sources", required=True))
    chip = Context(sources, top.number("node_nm"), top.number("voltage_V"))
    limits = _read_record(top.table("limits"), ChipLimits, chip)
    timing = _read_record(top.table("timing"), ChipTiming, chip)
    facts = _read_facts(top.table("facts"), chip)
    pricings = _read_pricings(top, chip)
    default = top.text("default_pricing")
    active = next((pricing for pricing in pricings if pricing.name == default), None)
    if default and default not in top.table("pricing"):
        top.complain("default_pricing", f"there is no [pricing.{default}]")
    _check_per_core(limits, problems)
    _check_clock(pricings, timing, problems)
    for key in sources:
        if key not in chip.cited:
            problems.add(f"sources.{key}", "is never cited")
    top.close()
    if problems.messages or kind is None or active is None:
        return None, problems.messages
    profile = Profile(
        name=name,
        title=title,
        kind=kind,
        version=version,
        process=process,
        node_nm=chip.node_nm,
        voltage_V=chip.voltage_V,
        pricings=pricings,
        pricing=active,
        limits=limits,
        timing=timing,
        facts=facts,
        sources=tuple(sources.values()),
        notes=notes,
        origin=origin,
        sha256=sha256,
    )
    return profile, []


def _read_sources(table: TomlTable) -> dict[str, Source]:
    sources = {}
    for key in table.keys:
        entry = table.table(key)
        sources[key] = Source(
            key=key,
            title=entry.text("title"),
            doi=entry.text("doi", required=False, pattern=_DOI),
            arxiv=entry.text("arxiv", required=False, pattern=_ARXIV),
            document=entry.text("document", required=False),
        )
        if not {"doi", "arxiv", "document"} & set(entry.keys):
            table.complain(key, "needs a doi, an arxiv number, or the name of a document")
        entry.close()
    return sources


def _read_record(table: TomlTable, kind: type[_AnyRecord], context: Context) -> _AnyRecord:
    found: dict[str, Quantity] = {}
    names = [field.name for field in dataclasses.fields(kind)]
    for key, entry, name, unit in quantity_entries(table):
        rule = key_rule(kind, name)
        if rule is None:
            table.complain(
                key, f"unknown key{suggestion(name, names)}; known: {', '.join(names)}, each with a unit"
            )
        elif rule not in (unit, UNITS[unit][0]):
            table.complain(
                key, f"must end in {f'_{rule}' if isinstance(rule, Unit) else f'a unit of {rule}'}"
            )
        elif name in found:
            table.complain(key, f"'{name}' is given twice")
        elif (
            quantity := read_quantity(entry, name, unit, context, per_core=rule in (Unit.COUNT, Unit.KIB))
        ) is not None:
            found[name] = quantity
    return kind(**found)


def _read_facts(table: TomlTable, context: Context) -> tuple[Quantity, ...]:
    read = [read_quantity(entry, name, unit, context) for _, entry, name, unit in quantity_entries(table)]
    return tuple(quantity for quantity in read if quantity is not None)


def _read_pricings(top: TomlTable, chip: Context) -> tuple[Pricing, ...]:
    lists = top.table("pricing", required=True)
    common = top.table("terms")
    pricings = []
    for name in lists.keys:
        table = lists.table(name)
        if not re.fullmatch(NAME_PATTERN, name):
            lists.complain(name, "the name of a price list has lower-case letters, digits and hyphens")
        title = table.text("title")
        scope = table.choice("scope", Scope)
        precision = table.choice("precision", Precision)
        includes = table.choices("includes", OpClass)
        note = table.text("note", required=False)
        context = chip.below(table.number("node_nm"), table.number("voltage_V"))
        own = table.table("terms")
        table.close()
        if scope is None or precision is None:
            continue
        terms = _read_terms((common, own), context, scope)
        if not common.keys and not own.keys:
            table.complain("terms", "a price list needs at least one term")
        _check_scope(table, scope, terms, includes)
        pricings.append(
            Pricing(
                name=name,
                title=title,
                scope=scope,
                precision=precision,
                terms=terms,
                includes=includes,
                note=note,
            )
        )
    return tuple(pricings)


def _read_terms(tables: tuple[TomlTable, ...], context: Context, scope: Scope) -> tuple[Term, ...]:
    terms: dict[tuple[OpClass, float | None], Term] = {}
    for table in tables:
        for key, entry, name, unit in quantity_entries(table):
            sized = re.fullmatch(_SIZED, name)
            word = sized["op"] if sized else name
            size = float(sized["size"]) if sized else None
            if word not in list(OpClass):
                table.complain(key, f"'{word}' is not an operation class{suggestion(word, OpClass)}")
                continue
            op = OpClass(word)
            info = OP_CLASSES[op]
            if info.needs_size != (size is not None):
                table.complain(
                    key,
                    f"{op} {'needs a size, as in sram_read_8KiB_pJ' if info.needs_size else 'has no size'}",
                )
            elif UNITS[unit][0] is not UNITS[info.unit][0]:
                table.complain(key, f"must end in a unit of {UNITS[info.unit][0]}")
            elif (op, size) in terms:
                table.complain(key, f"'{name}' is priced twice")
            elif (
                quantity := read_quantity(
                    entry, name, unit, context, scope=scope, word=info.needs_word, size_KiB=size
                )
            ) is not None:
                terms[op, size] = Term(op, quantity)
    return tuple(terms.values())


def _check_scope(
    table: TomlTable, scope: Scope, terms: tuple[Term, ...], includes: tuple[OpClass, ...]
) -> None:
    """Check that an all-in list holds energies of one group only, and that no term is priced that another one includes."""
    for term in terms:
        if term.op in includes:
            table.problems.add(
                term.quantity.path, f"{table.at('includes')} says that {term.op} is inside another term"
            )
    if scope is Scope.MARGINAL:
        return
    if not includes:
        table.complain(
            "includes", "an all-in price list says which operation classes are inside its energies"
        )
    groups = list(dict.fromkeys(OP_CLASSES[term.op].group for term in terms))
    allowed = next((group for group in groups if group in _ALL_IN_GROUPS), None)
    for term in terms:
        group = OP_CLASSES[term.op].group
        if group is not allowed:
            table.problems.add(
                term.quantity.path,
                f"a {group} term cannot stand in an all-in price list, whose energies hold it already; "
                "give it its own marginal price list",
            )


def _check_per_core(limits: ChipLimits, problems: Problems) -> None:
    for quantity in limits:
        if quantity.per_core is None:
            continue
        path = f"{quantity.path}.per_core"
        if limits.cores is None or limits.cores.value != len(quantity.per_core):
            problems.add(path, "needs limits.cores_count, and one entry per core")
        if max(quantity.per_core) != quantity.value:
            problems.add(path, "its largest entry must be the value")


def _check_clock(pricings: tuple[Pricing, ...], timing: ChipTiming, problems: Problems) -> None:
    for pricing in pricings:
        term = pricing.get(OpClass.CLOCK_CYCLE)
        if term is not None and term.quantity.known and (timing.clock is None or not timing.clock.known):
            problems.add(term.quantity.path, "needs timing.clock_MHz, the clock that it is counted by")
