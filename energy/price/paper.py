"""The `paper` convention: the published accounting."""

from __future__ import annotations

from enum import StrEnum

from tcja_deploy.energy.count.inventory import Measured, Primitive, Purpose
from tcja_deploy.energy.count.quantities import Ops
from tcja_deploy.energy.price.convention import HOROWITZ, Convention
from tcja_deploy.energy.price.line import Counterpart, Line
from tcja_deploy.energy.price.prices import arithmetic
from tcja_deploy.hardware_profiles import ChipKind, Pricing

__all__ = ["PAPER", "FirstLayer", "ann_lines", "facts", "snn_lines"]


class FirstLayer(StrEnum):
    """How the `paper` convention prices the layer that reads the event frames, on which publications disagree."""

    AC = "ac"  #: rate x T x MACs, accumulations like any other layer
    MAC_ONCE = "mac-once"  #: one dense pass of MACs, as if the frame were presented once
    MAC_NNZ = "mac-nnz"  #: rate x T x MACs, but multiply-accumulates (MA-SNN, for event frames)
    MAC_DENSE = "mac-dense-T"  #: T dense passes of MACs

    @property
    def meaning(self) -> str:
        """One line for reports."""
        return {
            FirstLayer.AC: "input rate x T x MACs, as accumulations",
            FirstLayer.MAC_ONCE: "one dense pass, as MACs",
            FirstLayer.MAC_NNZ: "ratio of non-zero pixels x T x MACs, as MACs (MA-SNN)",
            FirstLayer.MAC_DENSE: "T dense passes, as MACs",
        }[self]


PAPER = Convention(
    "paper",
    "1",
    "The published accounting: firing rate x steps x MACs, arithmetic alone",
    (
        "SOP_l = r_l T M_l, with r_l the share of non-zero inputs of layer l over the window and M_l its dense "
        "MACs of one pass (padding counted)",
        "E_SNN = E_first + sum over the other layers of SOP_l E_AC",
        "E_first: ac: SOP_1 E_AC; mac-once: M_1 E_MAC; mac-nnz: SOP_1 E_MAC; mac-dense-T: T M_1 E_MAC",
        "E_ANN = E_MAC sum_l M_l, one pass of the same layers",
    ),
    (
        "batch normalisation: folded into the weights",
        "attention (squeeze, TLA, CLA, sigmoid, gate), neurons, pooling, bias, read-out: not counted by the papers",
        "memory, data movement, static power: arithmetic alone",
        "payloads of gated spikes: priced as accumulations like binary spikes",
        "borders: kernel positions over the padding are counted, for spikes at the mean over positions",
    ),
    (
        "Zhu et al., TCJA-SNN, TNNLS 2024, arXiv:2206.10177",
        "Yao et al., MA-SNN, TPAMI 2023, arXiv:2209.13929 (mac-nnz)",
        HOROWITZ,
    ),
    (ChipKind.ASIC,),
)


def facts(treatment: FirstLayer) -> dict[str, str]:
    """The choice as text."""
    return {f"first layer in '{PAPER.name}'": f"{treatment.value} ({treatment.meaning})"}


def snn_lines(m: Measured, pricing: Pricing, treatment: FirstLayer) -> list[Line]:
    """Lines of the spiking network."""
    ac, mac = arithmetic(Primitive.ADD, pricing), arithmetic(Primitive.MAC, pricing)
    lines = []
    for layer in m.inventory.trunk:
        dense = Ops.constant(layer.macs.dense_per_inference, len(m))
        if layer.first and treatment is FirstLayer.MAC_ONCE:
            ops, price = Ops.constant(layer.macs.dense, len(m)), mac
        elif layer.first and treatment is FirstLayer.MAC_DENSE:
            ops, price = dense, mac
        elif layer.first and treatment is FirstLayer.MAC_NNZ:
            ops, price = m.synops_by_rate(layer), mac
        elif layer.event_driven:
            ops, price = m.synops_by_rate(layer), ac
        else:
            ops, price = dense, mac
        lines.append(Line(layer.node, Purpose.SYNAPSES, "rate x T x MACs", ops, price))
    return lines


def ann_lines(m: Measured, pricing: Pricing, counterpart: Counterpart) -> list[Line]:
    """Lines of the counterpart: one pass of dense MACs through the same layers."""
    price = counterpart.mac(pricing)
    return [
        Line(layer.node, Purpose.SYNAPSES, "dense MACs", Ops.constant(layer.macs.dense, len(m)), price)
        for layer in m.inventory.trunk
    ]
