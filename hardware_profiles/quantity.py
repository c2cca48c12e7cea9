"""Numbers with unit and provenance, and the records made of them: limits and timing.

Numbers stay as published, in the unit that the file names; `Quantity.bounds` converts by powers of ten. A
number that nobody has published is a quantity without a value, never zero.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from tcja_deploy.errors import ProfileError
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

__all__ = ["Bounds", "ChipLimits", "ChipTiming", "Quantity", "Record", "Source", "key_rule"]


@dataclass(frozen=True, slots=True)
class Bounds:
    """Lowest, nominal and highest value in one unit; all three are equal if no range is published."""

    low: float
    value: float
    high: float


@dataclass(frozen=True, slots=True)
class Source:
    """A publication that numbers are taken from.

    Attributes:
        key: Name of the source inside the profile.
        title: Authors or maker, venue and year.
        doi: DOI, or empty.
        arxiv: arXiv number, or empty.
        document: Name of a document without DOI or arXiv number (technology brief, source file), or empty.
    """

    key: str
    title: str
    doi: str = ""
    arxiv: str = ""
    document: str = ""

    @property
    def reference(self) -> str:
        """Shortest unambiguous reference: DOI, else arXiv number, else the document's name."""
        if self.doi:
            return f"doi:{self.doi}"
        return f"arXiv:{self.arxiv}" if self.arxiv else self.document


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """One number with unit and provenance.

    Attributes:
        path: Its dotted key in the file.
        name: Key without its unit.
        unit: Unit of `value`, `low` and `high`.
        value: Nominal value; None if nothing is published.
        low: Published lower end, or None.
        high: Published upper end, or None.
        nominal: Whether `value` is stated in the file, or the geometric mean of `low` and `high`, or missing.
        bound: Whether the published number is a lower or an upper bound, or None.
        evidence: How the number was obtained.
        certainty: How certain the transcription is; None for unknown numbers.
        source: Publication; None only for unknown numbers.
        where: Table, figure, section or page in the source.
        node_nm: Technology node in nm, or None.
        voltage_V: Supply voltage in V, or None.
        scope: All-in or marginal, for energies and powers; None otherwise.
        word_bit: Bits of the word that a memory or transport price is for, or None.
        size_KiB: Size of the memory that a read price is for, or None.
        per_core: One number per core if the cores differ, with `value` the largest of these; or None.
        inherited_from: Profile from which the number was taken over, or empty.
        note: Remark that a reader needs, or empty.
    """

    path: str
    name: str
    unit: Unit
    value: float | None
    low: float | None = None
    high: float | None = None
    nominal: Nominal
    bound: Bound | None = None
    evidence: Evidence
    certainty: Certainty | None = None
    source: Source | None = None
    where: str = ""
    node_nm: float | None = None
    voltage_V: float | None = None  # noqa: N815 - the unit's own spelling
    scope: Scope | None = None
    word_bit: int | None = None
    size_KiB: float | None = None  # noqa: N815 - the unit's own spelling
    per_core: tuple[int, ...] | None = None
    inherited_from: str = ""
    note: str = ""

    @property
    def known(self) -> bool:
        """Whether there is a value."""
        return self.value is not None

    @property
    def citation(self) -> str:
        """Title, place and reference of the source; empty for unknown numbers without one."""
        if self.source is None:
            return ""
        return ", ".join(part for part in (self.source.title, self.where, self.source.reference) if part)

    def bounds(self, unit: Unit) -> Bounds | None:
        """Low, nominal and high value in `unit`.

        Args:
            unit: Unit of the same dimension as `self.unit`.

        Returns:
            The three numbers, correctly rounded; None if no value is published.

        Raises:
            ProfileError: If `unit` is of another dimension.
        """
        dimension, exponent = UNITS[self.unit]
        wanted, to_exponent = UNITS[unit]
        if dimension is not wanted or (self.unit is not unit and dimension not in _CONVERTIBLE):
            raise ProfileError(f"{self.unit} cannot be given in {unit}", where=self.path)
        if self.value is None:
            return None

        def convert(number: float) -> float:
            # Decimal keeps 13.3 nJ -> 13300 pJ exact; a float factor may err in the last place.
            return float(Decimal(str(number)).scaleb(exponent - to_exponent))

        low = self.value if self.low is None else self.low
        high = self.value if self.high is None else self.high
        return Bounds(low=convert(low), value=convert(self.value), high=convert(high))


_CONVERTIBLE = frozenset({Dimension.ENERGY, Dimension.POWER, Dimension.TIME})


def _rule(unit: Unit | Dimension, meaning: str) -> dict[str, Any]:
    """Metadata of a field: the unit that its key must end in, or the dimension of that unit, and its meaning."""
    return {"rule": unit, "meaning": meaning}


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Base of the records whose fields are optional quantities; a field that is None is not published."""

    def __iter__(self) -> Iterator[Quantity]:
        """The quantities that the profile states, in the order of the fields."""
        return (value for f in dataclasses.fields(self) if (value := getattr(self, f.name)) is not None)

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the fields that have no value."""
        stated = {quantity.name for quantity in self if quantity.known}
        return tuple(f.name for f in dataclasses.fields(self) if f.name not in stated)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChipLimits(Record):
    """Capacity of one chip; `value` is the largest number allowed. A field is None if nothing is published."""

    cores: Quantity | None = field(default=None, metadata=_rule(Unit.COUNT, "cores on one chip"))
    neurons_per_core: Quantity | None = field(
        default=None, metadata=_rule(Unit.COUNT, "neurons one core can hold")
    )
    neurons: Quantity | None = field(default=None, metadata=_rule(Unit.COUNT, "neurons one chip can hold"))
    synapses: Quantity | None = field(default=None, metadata=_rule(Unit.COUNT, "synapses one chip can hold"))
    synaptic_memory_per_core: Quantity | None = field(
        default=None, metadata=_rule(Unit.KIB, "memory for weights in one core")
    )
    memory_per_core: Quantity | None = field(
        default=None, metadata=_rule(Unit.KIB, "memory of one core, all uses")
    )
    memory: Quantity | None = field(default=None, metadata=_rule(Unit.KIB, "memory of one chip, all uses"))
    axons_in_per_core: Quantity | None = field(
        default=None, metadata=_rule(Unit.COUNT, "input axons of one core")
    )
    axons_out_per_core: Quantity | None = field(
        default=None, metadata=_rule(Unit.COUNT, "output axons of one core")
    )
    fan_in: Quantity | None = field(default=None, metadata=_rule(Unit.COUNT, "synapses into one neuron"))
    feature_map_side: Quantity | None = field(
        default=None, metadata=_rule(Unit.PX, "height and width of a layer's output map")
    )
    input_side: Quantity | None = field(
        default=None, metadata=_rule(Unit.PX, "height and width of the network's input")
    )
    layers: Quantity | None = field(
        default=None, metadata=_rule(Unit.COUNT, "layers with neurons on one chip")
    )
    weight: Quantity | None = field(default=None, metadata=_rule(Unit.BIT, "bits of a weight"))
    payload: Quantity | None = field(default=None, metadata=_rule(Unit.BIT, "bits of a spike's payload"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ChipTiming(Record):
    """Durations, from which static power becomes energy. A field is None if nothing is published."""

    step: Quantity | None = field(default=None, metadata=_rule(Dimension.TIME, "the chip's fixed time step"))
    step_min: Quantity | None = field(default=None, metadata=_rule(Dimension.TIME, "shortest time step"))
    synop: Quantity | None = field(
        default=None, metadata=_rule(Dimension.TIME, "one synaptic operation in one core")
    )
    neuron_update: Quantity | None = field(
        default=None, metadata=_rule(Dimension.TIME, "one update of an active neuron in one core")
    )
    neuron_update_inactive: Quantity | None = field(
        default=None, metadata=_rule(Dimension.TIME, "one visit of an inactive neuron in one core")
    )
    barrier_sync: Quantity | None = field(
        default=None, metadata=_rule(Dimension.TIME, "synchronisation of all cores at the end of a step")
    )
    clock: Quantity | None = field(
        default=None, metadata=_rule(Dimension.FREQUENCY, "clock that `clock_cycle` is counted by")
    )


def key_rule(kind: type[Record], name: str) -> Unit | Dimension | None:
    """Unit that a field's key must end in, or the dimension of that unit; None if there is no such field."""
    found = next((f for f in dataclasses.fields(kind) if f.name == name), None)
    return None if found is None else found.metadata["rule"]
