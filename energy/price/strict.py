"""The `strict` convention: every operation counted exactly, arithmetic alone."""

from __future__ import annotations

from enum import StrEnum
from fractions import Fraction

import numpy as np

from tcja_deploy.energy.count.inventory import Measured, Primitive, Purpose, SynapticLayer, Work
from tcja_deploy.energy.count.quantities import Ops
from tcja_deploy.energy.price.convention import HOROWITZ, Convention
from tcja_deploy.energy.price.line import Counterpart, Line
from tcja_deploy.energy.price.prices import arithmetic
from tcja_deploy.hardware_profiles import ChipKind, Pricing
from tcja_deploy.ir import Kind

__all__ = ["STRICT", "CountsAs", "alternatives", "ann_lines", "facts", "shared_work", "snn_lines"]


class CountsAs(StrEnum):
    """How `strict` prices whole-number inputs, such as event counts."""

    MAC = "mac"  #: one multiply-accumulate for each non-zero element
    REPEAT = "repeat"  #: as many accumulations as the number says


STRICT = Convention(
    "strict",
    "1",
    "Every operation of the network, counted exactly, arithmetic alone",
    (
        "SOP_l = sum over non-zero inputs of the weights that each one meets, borders, strides, dilation and "
        "groups included",
        "binary inputs: E_AC per SOP; event counts: E_MAC per SOP, or E_AC times the count with 'repeat'; graded "
        "spikes, and numbers other than 1 where the network declares spikes: E_MAC per SOP; dense real inputs: "
        "E_MAC for each border-aware MAC, every step",
        "neurons, each step: leak E_MULT, integration E_AC, threshold E_CMP; soft reset E_AC per spike. The "
        "input factor 1/tau is folded into the weights; a hard reset writes a constant and computes nothing",
        "TCJA: squeeze E_AC per spike and one E_MULT per channel and step; TLA and CLA E_MAC, padding left out; "
        "fusion E_MULT or E_AC; sigmoid; gate E_MULT per spike",
        "pooling: E_CMP or E_AC for each spike and window; bias E_AC per output and step; unfolded batch "
        "normalisation E_MAC per element; residual sums E_AC per operand; read-out likewise",
        "E_ANN: border-aware MACs of one pass, bias, pooling, and one comparison per neuron (ReLU)",
    ),
    (
        "memory, data movement, control, static power: see memory and hardware",
        "attention in the ANN: one pass has no time axis to attend to, which favours the ANN",
    ),
    ("this project's docs/energy.md, sections Synaptic operations and All other work", HOROWITZ),
    (ChipKind.ASIC,),
)


def facts(counts_as: CountsAs) -> dict[str, str]:
    """The choice as text."""
    return {f"event counts in '{STRICT.name}'": counts_as.value}


def alternatives(counts_as: CountsAs) -> list[tuple[str, CountsAs, str, str]]:
    """The variant of the choice: its name, the other value, the other choice and the present one."""
    if counts_as is CountsAs.REPEAT:
        return []
    return [("event counts", CountsAs.REPEAT, "repeated accumulations", "one MAC each")]


def snn_lines(m: Measured, pricing: Pricing, counts_as: CountsAs) -> list[Line]:
    """Lines of the spiking network."""
    lines = []
    for layer in m.inventory.layers:
        purpose = Purpose.ATTENTION if layer.attention else Purpose.SYNAPSES
        for what, ops, primitive in _synapses(m, layer, counts_as):
            lines.append(Line(layer.node, purpose, what, ops, arithmetic(primitive, pricing)))
    for work in m.inventory.operations:
        lines.append(
            Line(work.node, work.purpose, work.what, m.work(work), arithmetic(work.primitive, pricing))
        )
    return lines


def _synapses(m: Measured, layer: SynapticLayer, counts_as: CountsAs) -> list[tuple[str, Ops, Primitive]]:
    if not layer.event_driven:
        return [("dense MACs", m.synops(layer), Primitive.MAC)]
    repeat = layer.kind is Kind.COUNT and counts_as is CountsAs.REPEAT
    if layer.kind is not Kind.BINARY and not repeat:
        what = "event counts" if layer.kind is Kind.COUNT else "graded spikes"
        return [(what, m.synops(layer), Primitive.MAC)]
    what = "event counts, repeated" if repeat else "binary spikes"
    parts = [(what, m.as_accumulations(layer), Primitive.ADD)]
    if (rest := m.beyond_accumulations(layer)) is not None:
        parts.append(("inputs that are not such spikes", rest, Primitive.MAC))
    return parts


_SHARED = (Purpose.BIAS, Purpose.NORM, Purpose.POOLING, Purpose.RESIDUAL)
"""Purposes of work that the ANN counterpart does too, once."""


def shared_work(m: Measured) -> list[tuple[Work, Ops]]:
    """Work besides synapses in one pass of the ANN counterpart."""
    graph = m.inventory.graph
    found = []
    for work in m.inventory.operations:
        if work.purpose in _SHARED:
            steps = graph.T if "T" in graph[work.node].signal.dims else 1  # after a mean over time: once
            found.append((work, Ops(np.full(len(m), work.dense, np.int64), Fraction(1, steps))))
    return found


def ann_lines(m: Measured, pricing: Pricing, counterpart: Counterpart) -> list[Line]:
    """Lines of the counterpart: one pass through the same layers, without padding, with bias, pooling and a ReLU per neuron."""
    inventory = m.inventory
    mac = counterpart.mac(pricing)
    lines = [
        Line(
            layer.node,
            Purpose.SYNAPSES,
            "border-aware MACs",
            Ops.constant(layer.macs.border_aware, len(m)),
            mac,
        )
        for layer in inventory.trunk
    ]
    for work, ops in shared_work(m):
        lines.append(Line(work.node, work.purpose, work.what, ops, arithmetic(work.primitive, pricing)))
    compare = arithmetic(Primitive.COMPARE, pricing)
    for node in inventory.graph.neurons:
        lines.append(Line(node.name, Purpose.NEURON, "ReLU", Ops.constant(node.signal.size, len(m)), compare))
    return lines
