"""Price lists and the hardware profile that holds them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tcja_deploy.errors import ProfileError
from tcja_deploy.hardware_profiles.quantity import Bounds, ChipLimits, ChipTiming, Quantity, Source
from tcja_deploy.hardware_profiles.vocabulary import (
    OP_CLASSES,
    Availability,
    ChipKind,
    OpClass,
    Precision,
    Scope,
)

__all__ = ["Pricing", "Profile", "Term"]


@dataclass(frozen=True, slots=True)
class Term:
    """The price of one operation class: an entry of a price list."""

    op: OpClass
    quantity: Quantity

    @property
    def price(self) -> Bounds | None:
        """Price per operation in pJ (`OpClass.STATIC`: power per chip in mW); None if it is not published."""
        return self.quantity.bounds(OP_CLASSES[self.op].unit)


@dataclass(frozen=True, slots=True)
class Pricing:
    """A price list whose terms may be added up.

    Attributes:
        name: Name inside the profile.
        title: What it is, in one line.
        scope: Scope of all its energies. An all-in list holds terms of one group only and no static, neuron, memory or
            traffic terms, so that nothing can be counted twice.
        precision: Number format of its arithmetic.
        terms: The prices, in the order of the file.
        includes: Operation classes already included in the terms; adding a price for them would count them twice.
        note: Remark that a reader needs, or empty.
    """

    name: str
    title: str
    scope: Scope
    precision: Precision
    terms: tuple[Term, ...]
    includes: tuple[OpClass, ...] = ()
    note: str = ""

    def get(self, op: OpClass) -> Term | None:
        """The term of an operation class, with or without a value; None if the list does not mention it.

        Raises:
            ProfileError: If `op` is `OpClass.SRAM_READ`, which has one term per memory size; use `sram_read`.
        """
        if OP_CLASSES[op].needs_size:
            raise ProfileError(
                f"{op} has one price per memory size", where=self.name, hint="use sram_read(size)"
            )
        return next((term for term in self.terms if term.op is op), None)

    def neuron_update(self, *, active: bool) -> Term | None:
        """The term for a neuron update; without a separate term for inactive neurons, the one for all neurons."""
        inactive = None if active else self.get(OpClass.NEURON_UPDATE_INACTIVE)
        return inactive or self.get(OpClass.NEURON_UPDATE)

    @property
    def sram_reads(self) -> tuple[Term, ...]:
        """All SRAM read terms, by increasing memory size."""
        return tuple(sorted((t for t in self.terms if t.op is OpClass.SRAM_READ), key=_size))

    def sram_read(self, buffer_KiB: float) -> Term | None:
        """The SRAM read term of the smallest listed memory that holds a buffer.

        Args:
            buffer_KiB: Size of the buffer in KiB.

        Returns:
            The term; None if the list has no SRAM, or none that is large enough.
        """
        return next((term for term in self.sram_reads if _size(term) >= buffer_KiB), None)

    def availability(self, op: OpClass) -> Availability:
        """Whether the list prices an operation class, includes it elsewhere, marks it as unknown, or does not mention it."""
        terms = [term for term in self.terms if term.op is op]
        if any(term.quantity.known for term in terms):
            return Availability.PRICED
        if op in self.includes:
            return Availability.INCLUDED
        return Availability.UNKNOWN if terms else Availability.ABSENT

    @property
    def priced(self) -> tuple[OpClass, ...]:
        """Operation classes with a value, in the order of `OpClass`."""
        return tuple(op for op in OpClass if self.availability(op) is Availability.PRICED)

    @property
    def missing(self) -> tuple[OpClass, ...]:
        """Operation classes that the list names without a value, in the order of `OpClass`."""
        return tuple(op for op in OpClass if self.availability(op) is Availability.UNKNOWN)


def _size(term: Term) -> float:
    return math.inf if term.quantity.size_KiB is None else term.quantity.size_KiB


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Everything that a profile file states about one chip.

    Attributes:
        name: Name, as `load_profile` takes it.
        title: Full name of the chip.
        kind: Technology node, spiking chip, or processor.
        version: Version of the profile's contents.
        process: Name of the process if it has no figure in nm, or empty.
        node_nm: Technology node in nm, or None.
        voltage_V: Supply voltage in V, or None.
        pricings: All price lists, in the order of the file. They are alternatives and cannot be mixed.
        pricing: The active price list.
        limits: Capacity of one chip.
        timing: Durations.
        facts: Published numbers that no estimate uses: measurements to compare with, other authors' values.
        sources: Publications.
        notes: Remarks that a reader needs.
        origin: `built-in`, or the path of the file.
        sha256: SHA-256 of the file's bytes, hexadecimal.
    """

    name: str
    title: str
    kind: ChipKind
    version: str
    process: str
    node_nm: float | None
    voltage_V: float | None  # noqa: N815 - the unit's own spelling
    pricings: tuple[Pricing, ...]
    pricing: Pricing
    limits: ChipLimits
    timing: ChipTiming
    facts: tuple[Quantity, ...]
    sources: tuple[Source, ...]
    notes: tuple[str, ...]
    origin: str
    sha256: str

    def with_pricing(self, name: str) -> Profile:
        """The same profile with another price list active.

        Raises:
            ProfileError: If there is no such list; the hint names the existing ones.
        """
        chosen = next((pricing for pricing in self.pricings if pricing.name == name), None)
        if chosen is None:
            raise ProfileError(
                f"no price list called '{name}'",
                where=self.name,
                hint=f"choose one of {', '.join(pricing.name for pricing in self.pricings)}",
            )
        return dataclasses.replace(self, pricing=chosen)

    @property
    def label(self) -> str:
        """Name for reports: `asic45:fp32`."""
        return f"{self.name}:{self.pricing.name}"

    @property
    def missing(self) -> tuple[str, ...]:
        """Paths of all numbers that the active price list, the limits or the timing lists without a value."""
        prices = (term.quantity for term in self.pricing.terms)
        return tuple(q.path for group in (prices, self.limits, self.timing) for q in group if not q.known)

    def quantities(self) -> Iterator[Quantity]:
        """Every number of the profile: all price lists, limits, timing, facts."""
        for pricing in self.pricings:
            yield from (term.quantity for term in pricing.terms)
        yield from self.limits
        yield from self.timing
        yield from self.facts

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form without empty entries; holds every value of the file."""
        plain: dict[str, Any] = _plain(self)
        # Sources are given in full once, under "sources"; everywhere else they are named by their key.
        plain["sources"] = {s.key: _entries(s) for s in self.sources}
        plain["pricing"] = self.pricing.name
        return plain


def _plain(value: object) -> Any:
    """Records to dicts without empty entries, tuples to lists, sources to their keys."""
    if isinstance(value, Source):
        return value.key
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if dataclasses.is_dataclass(value):
        return _entries(value)
    return value


def _entries(record: object) -> dict[str, Any]:
    entries = {f.name: _plain(getattr(record, f.name)) for f in dataclasses.fields(record)}  # type: ignore[arg-type]
    return {key: item for key, item in entries.items() if item not in (None, "", [], {})}
