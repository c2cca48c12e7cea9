"""Priced lines of the `paper` and `strict` conventions, for the spiking network and for its ANN twin."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.energy.count.inventory import Layer, Measured, Part, Primitive, Work
from tcja_deploy.energy.count.quantities import Ops
from tcja_deploy.energy.price.conventions import CountsAs, FirstLayer, Options
from tcja_deploy.energy.price.prices import Price, arithmetic, quantised_mac
from tcja_deploy.hardware_profiles import Pricing
from tcja_deploy.ir import Kind

__all__ = ["Line", "Twin", "paper_ann", "paper_snn", "shared_work", "strict_ann", "strict_snn"]


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """Operations of one sort at one place, and what each costs.

    Attributes:
        node: Name of the node.
        part: What it is for.
        what: Name of the operation in the network.
        ops: Operations per inference, one count a recording.
        price: Price of one operation.
    """

    node: str
    part: Part
    what: str
    ops: Ops
    price: Price

    def energies(self, bound: str = "value") -> NDArray[np.float64] | None:
        """Energy of each recording in pJ at the `low`, nominal (`value`) or `high` price; `None` without a
        price."""
        if self.price.pJ is None:
            return None
        return self.ops.per_recording() * float(getattr(self.price.pJ, bound))


@dataclass(frozen=True, slots=True)
class Twin:
    """The non-spiking network an SNN is compared with: the same layers, one pass, ReLU for the neurons.

    Attributes:
        name: Name in reports.
        bits: Bits of its activations if they are fewer than the arithmetic has; `None` otherwise.
    """

    name: str
    bits: int | None = None

    @staticmethod
    def bit_matched(T: int) -> Twin:
        """The quantised network whose activations tell as many levels apart as T steps of spikes, `0..T`.

        Bits: `ceil(log2(T + 1))` (Yan et al. 2024, arXiv:2409.08290).
        """
        bits = math.ceil(math.log2(T + 1))
        return Twin(f"QNN {bits}-bit", bits)

    def mac(self, pricing: Pricing) -> Price:
        """Price of its multiply-accumulate."""
        return arithmetic(Primitive.MAC, pricing) if self.bits is None else quantised_mac(pricing, self.bits)


def paper_snn(m: Measured, pricing: Pricing, options: Options) -> list[Line]:
    """The published accounting; see `conventions`."""
    ac, mac = arithmetic(Primitive.ADD, pricing), arithmetic(Primitive.MAC, pricing)
    lines = []
    for layer in m.inventory.trunk:
        dense = Ops.constant(layer.macs.dense_per_inference, len(m))
        if layer.first and options.first_layer is FirstLayer.MAC_ONCE:
            ops, price = Ops.constant(layer.macs.dense, len(m)), mac
        elif layer.first and options.first_layer is FirstLayer.MAC_DENSE:
            ops, price = dense, mac
        elif layer.first and options.first_layer is FirstLayer.MAC_NNZ:
            ops, price = m.synops_by_rate(layer), mac
        elif layer.event_driven:
            ops, price = m.synops_by_rate(layer), ac
        else:
            ops, price = dense, mac
        lines.append(Line(layer.node, Part.SYNAPSES, "rate x T x MACs", ops, price))
    return lines


def strict_snn(m: Measured, pricing: Pricing, options: Options) -> list[Line]:
    """Every operation, counted exactly; see `conventions`."""
    lines = []
    for layer in m.inventory.layers:
        part = Part.ATTENTION if layer.attention else Part.SYNAPSES
        for what, ops, primitive in _strict_synapses(m, layer, options):
            lines.append(Line(layer.node, part, what, ops, arithmetic(primitive, pricing)))
    for work in m.inventory.works:
        lines.append(Line(work.node, work.part, work.what, m.work(work), arithmetic(work.primitive, pricing)))
    return lines


def _strict_synapses(m: Measured, layer: Layer, options: Options) -> list[tuple[str, Ops, Primitive]]:
    if not layer.event_driven:
        return [("dense MACs", m.synops(layer), Primitive.MAC)]
    repeat = layer.kind is Kind.COUNT and options.counts_as is CountsAs.REPEAT
    if layer.kind is not Kind.BINARY and not repeat:
        what = "event counts" if layer.kind is Kind.COUNT else "graded spikes"
        return [(what, m.synops(layer), Primitive.MAC)]
    what = "event counts, repeated" if repeat else "binary spikes"
    parts = [(what, m.as_accumulations(layer), Primitive.ADD)]
    if (rest := m.beyond_accumulations(layer)) is not None:
        parts.append(("inputs that are no such spikes", rest, Primitive.MAC))
    return parts


def paper_ann(m: Measured, pricing: Pricing, twin: Twin) -> list[Line]:
    """One pass of dense MACs through the same layers."""
    price = twin.mac(pricing)
    return [
        Line(layer.node, Part.SYNAPSES, "dense MACs", Ops.constant(layer.macs.dense, len(m)), price)
        for layer in m.inventory.trunk
    ]


_SHARED = (Part.BIAS, Part.NORM, Part.POOLING, Part.RESIDUAL)
"""Work that the ANN twin does as well, once."""


def shared_work(m: Measured) -> list[tuple[Work, Ops]]:
    """Work besides synapses in one pass of the ANN twin."""
    graph = m.inventory.graph
    found = []
    for work in m.inventory.works:
        if work.part in _SHARED:
            steps = graph.T if "T" in graph[work.node].signal.dims else 1  # behind a mean over time: once
            found.append((work, Ops(np.full(len(m), work.dense, np.int64), Fraction(1, steps))))
    return found


def strict_ann(m: Measured, pricing: Pricing, twin: Twin) -> list[Line]:
    """One pass through the same layers, padding left out, with bias, pooling and one comparison a neuron."""
    inventory = m.inventory
    mac = twin.mac(pricing)
    lines = [
        Line(layer.node, Part.SYNAPSES, "border-aware MACs", Ops.constant(layer.macs.aware, len(m)), mac)
        for layer in inventory.trunk
    ]
    for work, ops in shared_work(m):
        lines.append(Line(work.node, work.part, work.what, ops, arithmetic(work.primitive, pricing)))
    compare = arithmetic(Primitive.COMPARE, pricing)
    for node in inventory.graph.neurons:
        lines.append(Line(node.name, Part.NEURON, "ReLU", Ops.constant(node.signal.size, len(m)), compare))
    return lines
