"""The `memory` convention: `strict` plus the memory traffic of weights, membranes and spikes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from tcja_deploy.energy.count.branches import attention_nodes
from tcja_deploy.energy.count.inventory import Drive, Measured, Purpose, SynapticLayer
from tcja_deploy.energy.count.quantities import Ops
from tcja_deploy.energy.price import strict
from tcja_deploy.energy.price.convention import HOROWITZ, Convention
from tcja_deploy.energy.price.line import Counterpart, Line
from tcja_deploy.energy.price.prices import BITS, Price, dram, sram
from tcja_deploy.errors import UsageError
from tcja_deploy.hardware_profiles import ChipKind, Pricing
from tcja_deploy.ir import Kind

__all__ = [
    "MEMORY",
    "PER_SYNOP",
    "MemoryModel",
    "address_bits",
    "alternatives",
    "ann_lines",
    "facts",
    "serving",
    "snn_lines",
]


@dataclass(frozen=True, slots=True)
class MemoryModel:
    """Assumptions of the `memory` convention.

    Attributes:
        reuse: Number of operations per read of a weight; 1 means no reuse. Applies to both the SNN and the ANN.
        dram: Whether every weight is fetched from DRAM once per inference, besides the on-chip reads.
        partial_sums: Whether every synaptic operation reads and writes its accumulator in the state memory;
            if not, accumulators are registers. The ANN keeps its sums in registers either way.
        weight_bit: Bits of a weight; `None` for the precision of the price list.
        state_bit: Bits of a membrane; `None` for the precision of the price list.
        payload_bit: Bits of a graded spike's payload or an activation; `None` for the precision of the price
            list.

    Raises:
        UsageError: If `reuse` or a number of bits is less than 1.
    """

    reuse: int = 1
    dram: bool = False
    partial_sums: bool = False
    weight_bit: int | None = None
    state_bit: int | None = None
    payload_bit: int | None = None

    def __post_init__(self) -> None:
        bits = (self.weight_bit, self.state_bit, self.payload_bit)
        if self.reuse < 1 or any(b is not None and b < 1 for b in bits):
            raise UsageError("weight reuse and bit widths must be positive whole numbers")


MEMORY = Convention(
    "memory",
    "1",
    "strict, and the traffic of weights, membranes and spikes to on-chip memory",
    (
        "E = E_strict + sum of accesses x bits / word bits x E_SRAM(size of the buffer)",
        "weights: one read for each operation that uses one, divided by the stated reuse",
        "membranes: one read and one write for each neuron and step",
        "spikes: each event into a layer written and read once, address ceil(log2 elements) bits and, unless "
        "binary, a payload; dense values likewise, without address",
        "with partial_sums, one read and one write of an accumulator for each SOP",
        "with dram, every stored weight fetched once per inference",
        "ANN: weights and activations by the same rules, no membranes",
    ),
    (
        "control, clock, wires between memory banks, static power: no published price available",
        "leakage of the memories: no published price available",
    ),
    (
        "this project's docs/reference/conventions.md",
        "Davidson and Furber, Front. Neurosci. 2021, doi:10.3389/fnins.2021.651141 (why traffic decides)",
        HOROWITZ,
    ),
    (ChipKind.ASIC,),
)


PER_SYNOP = {(Purpose.WEIGHTS, "weight read"), (Purpose.STATE, "accumulator read and write")}
"""Traffic caused by every synaptic operation, by purpose and name."""


def facts(memory: MemoryModel) -> dict[str, str]:
    """The choices as text."""
    bits = {"weight": memory.weight_bit, "state": memory.state_bit, "payload": memory.payload_bit}
    return {
        f"weight reuse in '{MEMORY.name}'": str(memory.reuse),
        f"DRAM in '{MEMORY.name}'": "yes" if memory.dram else "no",
        "accumulators in memory": "yes" if memory.partial_sums else "no, registers",
        f"bits in '{MEMORY.name}'": ", ".join(f"{k} {v or 'as the price list'}" for k, v in bits.items()),
    }


def alternatives(memory: MemoryModel) -> list[tuple[str, MemoryModel, str, str]]:
    """Variants that differ in one choice: its name, the changed model, the changed choice and the present one."""
    much, on = 64 * memory.reuse, {True: "with", False: "without"}
    dram, sums = not memory.dram, not memory.partial_sums
    return [
        ("weight reuse", replace(memory, reuse=much), f"x {much}", f"x {memory.reuse}"),
        ("DRAM fetch of the weights", replace(memory, dram=dram), on[dram], on[not dram]),
        ("accumulators in memory", replace(memory, partial_sums=sums), on[sums], on[not sums]),
    ]


def serving(m: Measured) -> dict[tuple[str, str], Purpose]:
    """Memory traffic, by node and name, that serves work of another purpose, so that both are left out together."""
    found = {(w.node, f"weight read: {w.what}"): w.purpose for w in m.inventory.operations}
    names = ("weight read", "weight fetch", "events", "values", "accumulator read and write")
    found |= {(x.node, name): Purpose.ATTENTION for x in m.inventory.layers if x.attention for name in names}
    blocks = {w.node for w in m.inventory.operations if w.purpose is Purpose.ATTENTION}
    return found | {(node, "weight fetch"): Purpose.ATTENTION for node in blocks}


def snn_lines(m: Measured, pricing: Pricing, counts_as: strict.CountsAs, memory: MemoryModel) -> list[Line]:
    """Lines of the spiking network."""
    return strict.snn_lines(m, pricing, counts_as) + _snn_traffic(m, pricing, memory)


def ann_lines(m: Measured, pricing: Pricing, counterpart: Counterpart, memory: MemoryModel) -> list[Line]:
    """Lines of the counterpart."""
    return strict.ann_lines(m, pricing, counterpart) + _ann_traffic(m, pricing, counterpart, memory)


def address_bits(elements: int) -> int:
    """Bits of an address within one frame: `ceil(log2 elements)`."""
    return math.ceil(math.log2(elements)) if elements > 1 else 1


def _snn_traffic(m: Measured, pricing: Pricing, memory: MemoryModel) -> list[Line]:
    """Accesses of the spiking network in one inference."""
    default = BITS[pricing.precision]
    weight = memory.weight_bit or default
    state = memory.state_bit or default
    payload = memory.payload_bit or default
    lines = []
    for layer in m.inventory.layers:
        stored = _weights(m, layer)
        lines.append(_weight_reads(layer.node, m.synops(layer), stored, weight, memory, pricing))
        lines.append(_events(m, layer, pricing, payload))
        if memory.partial_sums:
            sums = math.prod(layer.shape_out)
            ops = Ops(m.synops(layer).events, Fraction(2))
            price = sram(pricing, sums * state, state)
            lines.append(Line(layer.node, Purpose.STATE, "accumulator read and write", ops, price))
    for work in m.inventory.operations:
        if work.weights:
            line = _weight_reads(work.node, m.work(work), work.weights, weight, memory, pricing)
            lines.append(replace(line, what=f"weight read: {work.what}"))
    for node in m.inventory.membranes:
        updates = node.signal.size * m.inventory.graph.T
        price = sram(pricing, node.signal.size * state, state)
        ops = Ops.constant(2 * updates, len(m))
        lines.append(Line(node.name, Purpose.STATE, "membrane read and write", ops, price))
    return lines + _fetches(m, pricing, weight, memory)


def _ann_traffic(m: Measured, pricing: Pricing, counterpart: Counterpart, memory: MemoryModel) -> list[Line]:
    """Accesses of the ANN counterpart in its one pass.

    Weights are reused as in the SNN; activations are written and read once.
    """
    default = BITS[pricing.precision]
    weight = memory.weight_bit or default
    bits = counterpart.bits or memory.payload_bit or default
    lines = []
    for layer in m.inventory.trunk:
        ops = Ops.constant(layer.macs.border_aware, len(m))
        lines.append(_weight_reads(layer.node, ops, _weights(m, layer), weight, memory, pricing))
        size = math.prod(layer.shape_in)
        moved = Ops.constant(2 * size, len(m))
        lines.append(
            Line(layer.node, Purpose.TRAFFIC, "activations", moved, sram(pricing, size * bits, bits))
        )
    for work, ops in strict.shared_work(m):
        if work.weights:
            line = _weight_reads(work.node, ops, work.weights, weight, memory, pricing)
            lines.append(replace(line, what=f"weight read: {work.what}"))
    attention = attention_nodes(m.inventory.graph)  # the counterpart has no such work
    return lines + [x for x in _fetches(m, pricing, weight, memory) if x.node not in attention]


def _weights(m: Measured, layer: SynapticLayer) -> int:
    return int(m.inventory.graph[layer.node].op.constants()["weight"].size)


def _weight_reads(node: str, ops: Ops, stored: int, bits: int, memory: MemoryModel, pricing: Pricing) -> Line:
    reads = Ops(ops.events, ops.each / memory.reuse)
    return Line(node, Purpose.WEIGHTS, "weight read", reads, sram(pricing, stored * bits, bits))


def _events(m: Measured, layer: SynapticLayer, pricing: Pricing, payload: int) -> Line:
    """Messages into a layer, each written to a queue and read from it once.

    The queue is assumed to hold one frame: a bit map for binary spikes, payloads otherwise.
    """
    size = math.prod(layer.shape_in)
    if not layer.kind.sparse:
        ops = Ops.constant(2 * layer.sites, len(m))
        return Line(layer.node, Purpose.TRAFFIC, "values", ops, sram(pricing, size * payload, payload))
    extra = 0 if layer.kind is Kind.BINARY else payload
    ops = Ops(m.events(Drive(layer.source)), Fraction(2))
    price = sram(pricing, size * max(1, extra), address_bits(size) + extra)
    return Line(layer.node, Purpose.TRAFFIC, "events", ops, price)


def _fetches(m: Measured, pricing: Pricing, bits: int, memory: MemoryModel) -> list[Line]:
    if not memory.dram:
        return []
    price: Price = dram(pricing, bits)
    return [
        Line(n.name, Purpose.WEIGHTS, "weight fetch", Ops(np.full(len(m), n.op.parameters, np.int64)), price)
        for n in m.inventory.graph
        if n.op.parameters
    ]
