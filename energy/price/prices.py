"""Prices of operations from hardware profiles, with bounds, sources and assumptions."""

from __future__ import annotations

from dataclasses import dataclass

from tcja_deploy.energy.count.inventory import Primitive
from tcja_deploy.hardware_profiles import (
    Availability,
    Bound,
    Bounds,
    Nominal,
    OpClass,
    Precision,
    Pricing,
    Quantity,
    Term,
)

__all__ = ["BITS", "Price", "arithmetic", "chip_price", "dram", "quantised_mac", "sram"]

BITS = {
    Precision.FP32: 32,
    Precision.FP16: 16,
    Precision.BF16: 16,
    Precision.INT32: 32,
    Precision.INT8: 8,
    Precision.NATIVE: 32,
}
"""Bits of a stored number; 32 for the native format of a chip."""

_CLASSES = {
    Primitive.ADD: OpClass.AC,
    Primitive.MULTIPLY: OpClass.MULTIPLY,
    Primitive.MAC: OpClass.MAC,
    Primitive.COMPARE: OpClass.COMPARE,
}


@dataclass(frozen=True, slots=True)
class Price:
    """Price of one operation.

    Attributes:
        name: Name of the operation in reports.
        pJ: Lowest, nominal and highest price in pJ; `None` if no price has been published.
        source: Source of the price; empty if there is none.
        assumption: What had to be assumed to use it, or empty.
        reason: Why there is no price, or empty.
    """

    name: str
    pJ: Bounds | None  # noqa: N815 - the unit's own spelling
    source: str = ""
    assumption: str = ""
    reason: str = ""


def arithmetic(primitive: Primitive, pricing: Pricing) -> Price:
    """Price of an elementary operation by a list of arithmetic prices."""
    op = _CLASSES.get(primitive)
    if op is None:
        return Price(primitive.value, None, reason="no available source prices it")
    term = pricing.get(op)
    if term is not None and term.price is not None:
        return _published(op.value, term)
    add = pricing.get(OpClass.AC)
    if op is OpClass.COMPARE and add is not None and add.price is not None:
        return Price(
            op.value, add.price, add.quantity.citation, "a comparison costs what a subtraction costs"
        )
    return Price(op.value, None, reason=_why(term, op, pricing))


def chip_price(op: OpClass, pricing: Pricing) -> Price:
    """Price of an operation class of a chip."""
    term = pricing.get(op)
    if term is not None and term.price is not None:
        return _published(op.value, term)
    return Price(op.value, None, reason=_why(term, op, pricing))


def _published(name: str, term: Term) -> Price:
    """A published price with its source, its evidence, and its caveats."""
    q = term.quantity
    caveats = []
    if q.inherited_from:
        caveats.append(f"the price is that of {q.inherited_from}")
    if q.bound is not None:
        caveats.append(f"the published price is {'a lower' if q.bound is Bound.LOWER else 'an upper'} bound")
    if q.nominal is Nominal.MIDPOINT:
        caveats.append("the price is the geometric mean of the published range")
    assumption = f"{name}: {'; '.join(caveats)}" if caveats else ""
    return Price(name, term.price, _source(q), assumption)


def _source(q: Quantity) -> str:
    grade = f" {q.certainty.value}" if q.certainty else ""
    return f"{q.citation} [{q.evidence.value}{grade}]"


def quantised_mac(pricing: Pricing, bits: int) -> Price:
    """A multiply-accumulate of a `bits`-bit activation with an 8-bit weight.

    An array multiplier adds one shifted copy of the weight per bit of the activation, so the price of the multiplication
    is scaled by `bits / 8`; that of the accumulation is not.
    """
    multiply, add = pricing.get(OpClass.MULTIPLY), pricing.get(OpClass.AC)
    name = f"{bits}-bit x 8-bit mac"
    m, a = (None if t is None else t.price for t in (multiply, add))
    if m is None or a is None or multiply is None:
        return Price(name, None, reason="the list prices no 8-bit multiplication")
    low, value, high = ((getattr(m, f) * bits / 8 + getattr(a, f)) for f in ("low", "value", "high"))
    return Price(
        name,
        Bounds(low=low, value=value, high=high),
        _source(multiply.quantity),
        f"a multiplication by a {bits}-bit activation costs {bits}/8 of one by an 8-bit activation",
    )


def sram(pricing: Pricing, buffer_bits: int, access_bits: int) -> Price:
    """Price of one access of `access_bits` to a buffer of `buffer_bits`, by the smallest listed memory that holds it.

    Larger buffers are banks of the largest listed memory; the wires between banks have no price, so this is a lower
    bound. A write is assumed to cost as much as a read, and memory words to be used fully.
    """
    term = pricing.sram_read(buffer_bits / 8192)
    assumption = "a write costs what a read costs; memory words are used to the full"
    if term is None and pricing.sram_reads:
        term = pricing.sram_reads[-1]
        assumption += (
            "; larger buffers are banks of the largest listed memory, the wires between them are free"
        )
    return _memory("sram access", term, access_bits, assumption)


def dram(pricing: Pricing, access_bits: int) -> Price:
    """Price of one access of `access_bits` to DRAM."""
    return _memory(
        "dram access", pricing.get(OpClass.DRAM_READ), access_bits, "memory words are used to the full"
    )


def _memory(name: str, term: Term | None, bits: int, assumption: str) -> Price:
    if term is None or term.price is None or term.quantity.word_bit is None:
        return Price(name, None, reason="the profile prices no such memory")
    share = bits / term.quantity.word_bit
    p, published = term.price, _published(name, term)
    bounds = Bounds(low=p.low * share, value=p.value * share, high=p.high * share)
    caveats = "; ".join(filter(None, (published.assumption, assumption)))
    return Price(f"{bits}-bit {name}", bounds, published.source, caveats)


def _why(term: Term | None, op: OpClass, pricing: Pricing) -> str:
    note = "" if term is None else term.quantity.note
    if pricing.availability(op) is Availability.INCLUDED:
        return "inside another price"
    return note or f"the profile does not speak of {op.value}"
