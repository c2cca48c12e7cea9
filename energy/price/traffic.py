"""Memory traffic of the `memory` convention: weights, membranes, spikes; for the spiking network and its ANN
twin."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np

from tcja_deploy.energy.count.branches import attention_nodes
from tcja_deploy.energy.count.inventory import Drive, Layer, Measured, Part
from tcja_deploy.energy.count.quantities import Ops
from tcja_deploy.energy.price.conventions import MemoryModel
from tcja_deploy.energy.price.lines import Line, Twin, shared_work
from tcja_deploy.energy.price.prices import BITS, Price, dram, sram
from tcja_deploy.hardware_profiles import Pricing
from tcja_deploy.ir import Kind

__all__ = ["address_bits", "ann_traffic", "snn_traffic"]


def address_bits(elements: int) -> int:
    """Bits that tell the elements of one frame apart: `ceil(log2 elements)`."""
    return math.ceil(math.log2(elements)) if elements > 1 else 1


def snn_traffic(m: Measured, pricing: Pricing, memory: MemoryModel) -> list[Line]:
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
            lines.append(Line(layer.node, Part.STATE, "accumulator read and write", ops, price))
    for work in m.inventory.works:
        if work.weights:
            line = _weight_reads(work.node, m.work(work), work.weights, weight, memory, pricing)
            lines.append(replace(line, what=f"weight read: {work.what}"))
    for node in m.inventory.membranes:
        updates = node.signal.size * m.inventory.graph.T
        price = sram(pricing, node.signal.size * state, state)
        ops = Ops.constant(2 * updates, len(m))
        lines.append(Line(node.name, Part.STATE, "membrane read and write", ops, price))
    return lines + _fetches(m, pricing, weight, memory)


def ann_traffic(m: Measured, pricing: Pricing, twin: Twin, memory: MemoryModel) -> list[Line]:
    """Accesses of the ANN twin in its one pass: weights by the same reuse, activations written and read
    once."""
    default = BITS[pricing.precision]
    weight = memory.weight_bit or default
    bits = twin.bits or memory.payload_bit or default
    lines = []
    for layer in m.inventory.trunk:
        ops = Ops.constant(layer.macs.aware, len(m))
        lines.append(_weight_reads(layer.node, ops, _weights(m, layer), weight, memory, pricing))
        size = math.prod(layer.shape_in)
        moved = Ops.constant(2 * size, len(m))
        lines.append(Line(layer.node, Part.TRAFFIC, "activations", moved, sram(pricing, size * bits, bits)))
    for work, ops in shared_work(m):
        if work.weights:
            line = _weight_reads(work.node, ops, work.weights, weight, memory, pricing)
            lines.append(replace(line, what=f"weight read: {work.what}"))
    attention = attention_nodes(m.inventory.graph)  # the twin has none
    return lines + [x for x in _fetches(m, pricing, weight, memory) if x.node not in attention]


def _weights(m: Measured, layer: Layer) -> int:
    return int(m.inventory.graph[layer.node].op.constants()["weight"].size)


def _weight_reads(node: str, ops: Ops, stored: int, bits: int, memory: MemoryModel, pricing: Pricing) -> Line:
    reads = Ops(ops.events, ops.each / memory.reuse)
    return Line(node, Part.WEIGHTS, "weight read", reads, sram(pricing, stored * bits, bits))


def _events(m: Measured, layer: Layer, pricing: Pricing, payload: int) -> Line:
    """Messages into a layer, each written to and read from a queue once.

    The queue is taken as large as one frame: a bit map for binary spikes, payloads otherwise.
    """
    size = math.prod(layer.shape_in)
    if not layer.kind.sparse:
        ops = Ops.constant(2 * layer.sites, len(m))
        return Line(layer.node, Part.TRAFFIC, "values", ops, sram(pricing, size * payload, payload))
    extra = 0 if layer.kind is Kind.BINARY else payload
    ops = Ops(m.events(Drive(layer.source)), Fraction(2))
    price = sram(pricing, size * max(1, extra), address_bits(size) + extra)
    return Line(layer.node, Part.TRAFFIC, "events", ops, price)


def _fetches(m: Measured, pricing: Pricing, bits: int, memory: MemoryModel) -> list[Line]:
    if not memory.dram:
        return []
    price: Price = dram(pricing, bits)
    return [
        Line(n.name, Part.WEIGHTS, "weight fetch", Ops(np.full(len(m), n.op.parameters, np.int64)), price)
        for n in m.inventory.graph
        if n.op.parameters
    ]
