"""A graph as float stages, before quantisation: the summands of populations and relays, gates, and programs.

The stages are exact: batch normalisation is folded, averages are merged into the weights after them, neurons are in
normalised units. A value that several stages read, or that no neuron reads, is sent by a relay. A chain is a graph in
which each stage reads the one before it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.exporters.lava.float_neuron import FloatNeuron
from tcja_deploy.exporters.lava.regions import Region
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.integers.layers import LayerStage, SpatialPool
from tcja_deploy.runtime.integers.network import HostInput, Readout
from tcja_deploy.runtime.integers.stages import NeuronStage, Pair, RelayStage

__all__ = [
    "FloatArray",
    "FloatGate",
    "FloatGraph",
    "FloatMeeting",
    "FloatProgram",
    "FloatStage",
    "FloatSynapse",
    "FloatTerm",
    "scaled",
    "sources",
]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class FloatSynapse:
    """A linear map of one value.

    Attributes:
        node: Name of the node in the graph.
        kind: "conv", "dense" or "transposed".
        in_shape: Shape of one input frame.
        weight: Weights; these and the remaining fields are as in `SynapseStage`.
    """

    node: str
    kind: Literal["conv", "dense", "transposed"]
    in_shape: tuple[int, ...]
    weight: FloatArray
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    output_padding: Pair = (0, 0)
    groups: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class FloatTerm:
    """One summand: a stage's value times a factor, through a synapse if there is one.

    Attributes:
        source: Name of the stage.
        shape: Shape in which its value is read.
        factor: Factor of the value.
        synapse: The synapse that it passes through, or None.
    """

    source: str
    shape: tuple[int, ...]
    factor: float = 1.0
    synapse: FloatSynapse | None = None


@dataclass(frozen=True, slots=True, eq=False)
class FloatMeeting:
    """A population or a relay, in which values are added.

    Attributes:
        name: Node of the neuron, or the node whose value the relay sends.
        observed: Node whose value is the sum that arrives, times `gain`.
        terms: The summands, in the units of the graph.
        bias: Bias `[C]`, in the units of the graph.
        shape: Shape of one frame.
        gain: Factor of the sum.
        neuron: The rule of a population, or None for a relay.
        decay: Leak of a relay's membrane per step, or None.
    """

    name: str
    observed: str
    terms: tuple[FloatTerm, ...]
    bias: FloatArray
    shape: tuple[int, ...]
    gain: float = 1.0
    neuron: FloatNeuron | None = None
    decay: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class FloatGate:
    """A TCJA block of spikes, with the pool after it.

    Attributes:
        name: Node of the block.
        source: Name of the stage that it reads.
        in_shape: Shape of one input frame.
        op: The block.
        pool: Pool of the gated payloads, or None.
        pooled: Node whose value the gate sends: that of the pool, or of the block itself.
    """

    name: str
    source: str
    in_shape: tuple[int, int, int]
    op: ir.TCJA
    pool: SpatialPool | None
    pooled: str


@dataclass(frozen=True, slots=True, eq=False)
class FloatProgram:
    """A part of the graph that becomes a window program.

    Attributes:
        name: Node whose value the program sends.
        region: The part of the graph.
        source: Name of the stage that it reads.
        shape: Shape in which it reads a frame.
    """

    name: str
    region: Region
    source: str
    shape: tuple[int, ...]


FloatStage = FloatMeeting | FloatGate | FloatProgram | LayerStage | NeuronStage | RelayStage


@dataclass(slots=True)
class FloatGraph:
    """A graph as stages that Lava's processes and ours can compute, before quantisation.

    Attributes:
        frames: Number of frames in a window, T.
        host_input: What the host does to frames; its peak is 0 until calibration.
        readout: What the host does to the result.
        stages: The stages in order; logic and pools of spikes are integer stages already.
        notes: For each node, what became of it.
    """

    frames: int
    host_input: HostInput
    readout: Readout = field(default_factory=Readout)
    stages: list[FloatStage] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def values(self) -> dict[str, str]:
        """For each stage that sends the spikes or gated spikes of a node, that node."""
        nodes: dict[str, str] = {}
        for stage in self.stages:
            if isinstance(stage, FloatGate):
                nodes[stage.name] = stage.pooled
            elif stage.name in self.notes and (
                isinstance(stage, LayerStage | NeuronStage)
                or (isinstance(stage, FloatMeeting) and stage.neuron is not None)
            ):
                nodes[stage.name] = stage.name
        return nodes

    @property
    def observed(self) -> set[str]:
        """Nodes whose values calibration has to see."""
        meetings = [stage for stage in self.stages if isinstance(stage, FloatMeeting)]
        relays = {stage.name for stage in meetings if stage.neuron is None}
        terms = [term for stage in meetings for term in stage.terms]
        synapses = {term.synapse.node for term in terms if term.synapse is not None}
        return {stage.observed for stage in meetings} | relays | synapses

    def readers(self) -> dict[str, int]:
        """For each stage, the number of its readers; the host reads the last stage."""
        waiting = {self.stages[-1].name: 1}
        for stage in self.stages:
            for source in sources(stage):
                waiting[source] = waiting.get(source, 0) + 1
        return waiting

    def carried(self) -> dict[str, list[FloatMeeting]]:
        """For each stage, the relays that add its value as it is; these continue a residual stream in its unit."""
        found: dict[str, list[FloatMeeting]] = {}
        for stage in self.stages:
            if isinstance(stage, FloatMeeting) and stage.neuron is None:
                for term in stage.terms:
                    if term.synapse is None and term.factor == 1:
                        found.setdefault(term.source, []).append(stage)
        return found

    @property
    def through_synapses(self) -> set[str]:
        """Stages whose values nothing but synapses reads."""
        terms = [term for stage in self.stages if isinstance(stage, FloatMeeting) for term in stage.terms]
        whole = {term.source for term in terms if term.synapse is None} | {self.stages[-1].name}
        for stage in self.stages:
            whole |= set() if isinstance(stage, FloatMeeting) else sources(stage)
        return {stage.name for stage in self.stages} - whole

    @property
    def synapses(self) -> dict[str, str]:
        """For each node with weights, the stage that they belong to."""
        return {
            term.synapse.node: stage.name
            for stage in self.stages
            if isinstance(stage, FloatMeeting)
            for term in stage.terms
            if term.synapse is not None
        }

    @property
    def programs(self) -> dict[str, str]:
        """For each node inside a window program, the stage that computes it."""
        found = [stage for stage in self.stages if isinstance(stage, FloatProgram)]
        return {node: stage.name for stage in found for node in stage.region.nodes}

    @property
    def widest(self) -> int:
        """Bytes per frame of the largest value that a stage reads: one per spike or count, four per graded element."""
        graded = {
            s.name for s in self.stages
            if isinstance(s, FloatProgram | RelayStage) or (isinstance(s, FloatMeeting) and s.neuron is None)
        }  # fmt: skip
        return max(
            math.prod(shape) * (4 if source in graded else 1)
            for stage in self.stages
            for source, shape in _reads(stage)
        )


def sources(stage: FloatStage) -> set[str]:
    """The stages that a stage reads."""
    return {source for source, _ in _reads(stage)}


def scaled(term: FloatTerm, factor: float) -> FloatTerm:
    """The same term times a factor."""
    return replace(term, factor=term.factor * factor)


def _reads(stage: FloatStage) -> list[tuple[str, tuple[int, ...]]]:
    """The stages that a stage reads, each with the shape in which it is read."""
    if isinstance(stage, FloatMeeting):
        return [(term.source, term.shape) for term in stage.terms]
    if isinstance(stage, FloatProgram):
        return [(stage.source, stage.shape)]
    if isinstance(stage, FloatGate):
        return [(stage.source, stage.in_shape)]
    shape = stage.in_shape if isinstance(stage, LayerStage) else stage.shape
    return [(name, shape) for name in stage.inputs]
