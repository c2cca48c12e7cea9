"""The four conventions: what each counts, what it leaves out and why, with formulas and sources. Defined here
alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from tcja_deploy.errors import UsageError
from tcja_deploy.hardware_profiles import ChipKind

__all__ = ["CONVENTIONS", "Convention", "CountsAs", "FirstLayer", "MemoryModel", "Options", "convention"]


class FirstLayer(StrEnum):
    """How the `paper` convention prices the layer that reads the event frames. Publications do not agree."""

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


class CountsAs(StrEnum):
    """How `strict` prices whole-number inputs, such as event counts."""

    MAC = "mac"  #: one multiply-accumulate for each non-zero element
    REPEAT = "repeat"  #: as many accumulations as the number says


@dataclass(frozen=True, slots=True)
class MemoryModel:
    """Assumptions of the `memory` convention.

    Attributes:
        reuse: Operations that one read of a weight serves; 1 is no reuse. Holds for the SNN and for the ANN.
        dram: Whether every weight is fetched from DRAM once per inference, besides the on-chip reads.
        partial_sums: Whether every synaptic operation reads and writes its accumulator in the state memory;
            if not, accumulators are registers. The ANN keeps its sums in registers either way.
        weight_bit: Bits of a weight; `None` for the precision of the price list.
        state_bit: Bits of a membrane; `None` for the precision of the price list.
        payload_bit: Bits of a graded spike's payload or an activation; `None` for the precision of the price
            list.
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


@dataclass(frozen=True, slots=True)
class Options:
    """Choices that a convention leaves open; every report prints them."""

    first_layer: FirstLayer = FirstLayer.AC
    counts_as: CountsAs = CountsAs.MAC
    memory: MemoryModel = field(default_factory=MemoryModel)


@dataclass(frozen=True, slots=True)
class Convention:
    """One way to account for energy.

    Attributes:
        name: Name.
        version: Version of its definition; changes whenever a number could change.
        title: In one line.
        formulas: What is added up.
        excluded: What is left out, and why.
        sources: Where the convention is from.
        kinds: Kinds of profiles that can price it.
    """

    name: str
    version: str
    title: str
    formulas: tuple[str, ...]
    excluded: tuple[str, ...]
    sources: tuple[str, ...]
    kinds: tuple[ChipKind, ...]

    @property
    def label(self) -> str:
        """Name and version, printed with every number."""
        return f"{self.name} v{self.version}"


_HOROWITZ = "Horowitz, ISSCC 2014, doi:10.1109/ISSCC.2014.6757323 (prices of the 45 nm profile)"

CONVENTIONS = {
    c.name: c
    for c in (
        Convention(
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
                _HOROWITZ,
            ),
            (ChipKind.ASIC,),
        ),
        Convention(
            "strict",
            "1",
            "Every operation of the network, counted exactly, arithmetic alone",
            (
                "SOP_l = sum over non-zero inputs of the weights that each one meets, borders, strides, dilation and "
                "groups included",
                "binary inputs: E_AC a SOP; event counts: E_MAC a SOP, or E_AC times the count with 'repeat'; graded "
                "spikes, and numbers other than 1 where the network declares spikes: E_MAC a SOP; dense real inputs: "
                "E_MAC for each border-aware MAC, every step",
                "neurons, each step: leak E_MULT, integration E_AC, threshold E_CMP; soft reset E_AC a spike. The "
                "input factor 1/tau is folded into the weights; a hard reset writes a constant and computes nothing",
                "TCJA: squeeze E_AC a spike and one E_MULT a channel and step; TLA and CLA E_MAC, padding left out; "
                "fusion E_MULT or E_AC; sigmoid; gate E_MULT a spike",
                "pooling: E_CMP or E_AC for each spike and window; bias E_AC an output and step; unfolded batch "
                "normalisation E_MAC an element; residual sums E_AC an operand; read-out likewise",
                "E_ANN: border-aware MACs of one pass, bias, pooling, and one comparison a neuron (ReLU)",
            ),
            (
                "memory, data movement, control, static power: see memory and hardware",
                "attention in the ANN: one pass has no time axis to attend to, which favours the ANN",
            ),
            ("this project's docs/energy.md, sections Synaptic operations and All other work", _HOROWITZ),
            (ChipKind.ASIC,),
        ),
        Convention(
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
                "control, clock, wires between memory banks, static power: no price at hand",
                "leakage of the memories: no price at hand",
            ),
            (
                "this project's docs/energy.md, section Conventions",
                "Davidson and Furber, Front. Neurosci. 2021, doi:10.3389/fnins.2021.651141 (why traffic decides)",
                _HOROWITZ,
            ),
            (ChipKind.ASIC,),
        ),
        Convention(
            "hardware",
            "1",
            "Published prices of one chip, as far as they go",
            (
                "E = SOP E_synop + graded SOP E_synop_graded + updates E_neuron + spikes E_spike + messages E_axon "
                "+ static power x chips x latency",
                "event counts enter as graded spikes where the chip prices them, else as repeated binary spikes; fractions "
                "among them, and numbers other than 1 where the network declares spikes, as graded spikes",
                "messages: one for each spike and channel slice of the layer that reads it (see Placement)",
                "latency: T steps of the chip's time step; else, with the chip's operation times, T times the busiest "
                "layer's share per core plus the barrier: an estimate, perfect balance makes it short and operation times "
                "published as maxima make it long",
                "CPU and GPU: dense MACs of all T steps; their published prices do not profit from zeros",
                "a price that is all-in stands alone",
            ),
            (
                "terms without a published price: listed, never zero",
                "attention and dense layers on spiking chips: the chips have no such operation; listed",
                "pooling, bias, residual sums, read-out: done on the way by the chip's own means",
                "host, input and output, DRAM: no price at hand",
            ),
            ("the profile's own sources, printed with each price",),
            (ChipKind.NEUROMORPHIC, ChipKind.PROCESSOR),
        ),
    )
}
"""The conventions by name."""


def convention(name: str) -> Convention:
    """A convention by name.

    Raises:
        UsageError: There is none of that name.
    """
    try:
        return CONVENTIONS[name]
    except KeyError:
        raise UsageError(
            f"there is no convention {name!r}", hint=f"choose from {', '.join(CONVENTIONS)}"
        ) from None
