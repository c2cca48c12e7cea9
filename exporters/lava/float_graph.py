"""A graph as float stages, before quantisation: what meets in each population and relay, what gates and programs compute.

All of it is exact: batch normalisation folded, averages merged into the weights behind them, neurons in normalised units. A
value that several stages read, or that no neuron reads, is a relay's. A chain is a graph whose stages read one another.
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
        node: Node of the graph.
        kind: "conv", "dense" or "transposed".
        in_shape: Of one frame.
        weight: As in `SynapseStage`, and so is the rest.
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
        shape: Shape under which its value is read.
        factor: Of the value.
        synapse: What it goes through, or None.
    """

    source: str
    shape: tuple[int, ...]
    factor: float = 1.0
    synapse: FloatSynapse | None = None


@dataclass(frozen=True, slots=True, eq=False)
class FloatMeeting:
    """A population or a relay: where values meet.

    Attributes:
        name: Node of the neuron, or whose value the relay sends.
        observed: Node whose value is the sum that arrives, times `gain`.
        terms: What is added, in the units of the graph.
        bias: `[C]`, in the units of the graph.
        shape: Of one frame.
        gain: Of the sum.
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
    """A TCJA block of spikes, with the pool behind it.

    Attributes:
        name: Node of the block.
        source: Name of the stage that it reads.
        in_shape: Of one frame.
        op: The block.
        pool: Of the gated payloads, or None.
        pooled: Node whose value leaves: that of the pool, or the block's own.
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
        name: Node of the value that leaves.
        region: The part.
        source: Name of the stage that it reads.
        shape: Shape under which it reads a frame.
    """

    name: str
    region: Region
    source: str
    shape: tuple[int, ...]


FloatStage = FloatMeeting | FloatGate | FloatProgram | LayerStage | NeuronStage | RelayStage


@dataclass(slots=True)
class FloatGraph:
    """A graph as the stages that Lava and our processes have, before quantisation.

    Attributes:
        frames: T.
        host_input: What the host does to frames, with a peak of 0 still to be calibrated.
        readout: What the host does to the result.
        stages: In order; logic and pools of spikes are integer already.
        notes: For each node what became of it.
    """

    frames: int
    host_input: HostInput
    readout: Readout = field(default_factory=Readout)
    stages: list[FloatStage] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def values(self) -> dict[str, str | None]:
        """For each stage of spikes or gated spikes the node whose value it computes; None where there is no such node."""
        nodes: dict[str, str | None] = {}
        for stage in self.stages:
            if isinstance(stage, FloatGate):
                nodes[stage.name] = stage.pooled
            elif isinstance(stage, LayerStage | NeuronStage) or (
                isinstance(stage, FloatMeeting) and stage.neuron is not None
            ):
                nodes[stage.name] = stage.name if stage.name in self.notes else None
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
        """For each stage how many read it; the host reads the last."""
        waiting = {self.stages[-1].name: 1}
        for stage in self.stages:
            for source in sources(stage):
                waiting[source] = waiting.get(source, 0) + 1
        return waiting

    def carried(self) -> dict[str, list[FloatMeeting]]:
        """For each stage the relays that add its value as it is: a residual stream goes on in its unit."""
        found: dict[str, list[FloatMeeting]] = {}
        for stage in self.stages:
            if isinstance(stage, FloatMeeting) and stage.neuron is None:
                for term in stage.terms:
                    if term.synapse is None and term.factor == 1:
                        found.setdefault(term.source, []).append(stage)
        return found

    @property
    def synapses(self) -> dict[str, str]:
        """For each node with weights the stage that they belong to."""
        return {
            term.synapse.node: stage.name
            for stage in self.stages
            if isinstance(stage, FloatMeeting)
            for term in stage.terms
            if term.synapse is not None
        }

    @property
    def programs(self) -> dict[str, str]:
        """For each node inside a window program the stage that computes it."""
        found = [stage for stage in self.stages if isinstance(stage, FloatProgram)]
        return {node: stage.name for stage in found for node in stage.region.nodes}

    @property
    def widest(self) -> int:
        """Bytes of a frame of the largest value that a stage reads: one for a spike or count, four where streams are read."""
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
    if isinstance(stage, FloatMeeting):
        return {term.source for term in stage.terms}
    return {stage.source} if isinstance(stage, FloatGate | FloatProgram) else set(stage.inputs)


def scaled(term: FloatTerm, factor: float) -> FloatTerm:
    """The same term times a factor."""
    return replace(term, factor=term.factor * factor)


def _reads(stage: FloatStage) -> list[tuple[str, tuple[int, ...]]]:
    """What a stage reads, and under which shape."""
    if isinstance(stage, FloatMeeting):
        return [(term.source, term.shape) for term in stage.terms]
    if isinstance(stage, FloatProgram):
        return [(stage.source, stage.shape)]
    if isinstance(stage, FloatGate):
        return [(stage.source, stage.in_shape)]
    shape = stage.in_shape if isinstance(stage, LayerStage) else stage.shape
    return [(name, shape) for name in stage.inputs]
