"""The work that a network does in one inference: its inventory, joined with recorded activity.

Rules of counting, the same everywhere:

* One operation per operand: accumulators start at zero, so a sum of n numbers takes n additions, and the maximum of a
window of n numbers n comparisons. Multiply-accumulates are counted in the same way. * Where the operand is a sparse
signal (spikes, counts, graded spikes), an operation happens per non-zero
  element; the number is recorded, never estimated. Elsewhere it happens per element, without padding.
* Every node is counted, deliberately ignored for a stated reason, or reported as unsupported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.energy.count.quantities import Ints, Macs, Ops, Rate
from tcja_deploy.ir import Graph, Kind, Node
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.activity.axes import frame_shape
from tcja_deploy.runtime.activity.measures import Measure
from tcja_deploy.runtime.activity.predicted import Predicted
from tcja_deploy.runtime.activity.record import Activity, Watch

__all__ = [
    "Coverage",
    "Drive",
    "Inventory",
    "Measured",
    "Primitive",
    "Purpose",
    "Status",
    "SynapticLayer",
    "Work",
]


class Primitive(StrEnum):
    """Elementary operations."""

    ADD = "add"  #: an addition, subtraction or accumulation
    MULTIPLY = "multiply"
    MAC = "mac"  #: a multiplication with accumulation
    COMPARE = "compare"
    SIGMOID = "sigmoid"  #: one evaluation of the logistic function


class Purpose(StrEnum):
    """The purpose of work, so that a reader can leave out terms."""

    SYNAPSES = "synapses"
    BIAS = "bias"
    NORM = "batch norm"
    POOLING = "pooling"
    ATTENTION = "attention"
    NEURON = "neurons"
    RESIDUAL = "residual"
    READOUT = "read-out"
    OTHER = "other"
    WEIGHTS = "weight reads"
    STATE = "membrane traffic"
    TRAFFIC = "spike traffic"
    STATIC = "static power"


class Status(StrEnum):
    """How a node is covered."""

    COUNTED = "counted"
    IGNORED = "ignored"
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True, slots=True)
class Coverage:
    """How a node is covered, and why."""

    node: str
    op: str
    status: Status
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Drive:
    """The non-zero elements of a value, each weighted by the map called `map` (`""`: counted once)."""

    value: str
    map: str = ""


@dataclass(frozen=True, slots=True)
class SynapticLayer:
    """One layer with weights.

    Attributes:
        node: Name of the node.
        op: Name of its op.
        map_axes: Number of trailing axes of the result that are positions, see `Op`.
        source: The value it reads.
        kind: Signal kind of that value.
        shape_in: Shape of one frame of the input.
        shape_out: Shape of one frame of the result.
        parameters: Number of stored weights, including biases.
        macs: Multiply-accumulates.
        sites: Number of input elements in one inference.
        first: Whether it reads the network's input (pooled at most).
        attention: Whether it belongs to an attention branch.
    """

    node: str
    op: str
    map_axes: int
    source: str
    kind: Kind
    shape_in: tuple[int, ...]
    shape_out: tuple[int, ...]
    parameters: int
    macs: Macs
    sites: int
    first: bool
    attention: bool

    @property
    def drive(self) -> Drive:
        """The recorded events that are its synaptic operations."""
        return Drive(self.source, self.node)

    @property
    def event_driven(self) -> bool:
        """Whether silent inputs cost nothing: the input is sparse, and the layer is not an attention map."""
        return self.kind.sparse and not self.attention


@dataclass(frozen=True, slots=True)
class Work:
    """Operations of one kind that a node performs besides synaptic ones.

    Attributes:
        node: Name of the node.
        purpose: What it is for.
        what: Name of the operation in the network: squeeze, gate, leak.
        primitive: Elementary operation.
        dense: Number of operations per inference if every element is processed.
        drive: Recorded events that cause the operations; `None` if the dense number is the true one.
        weights: Number of stored numbers that it uses, one per operation; 0 if there are none.
    """

    node: str
    purpose: Purpose
    what: str
    primitive: Primitive
    dense: int
    drive: Drive | None = None
    weights: int = 0


@dataclass(frozen=True, eq=False)
class Inventory:
    """All work of a graph, before any activity is known.

    Attributes:
        graph: The graph.
        layers: Layers with weights, in order.
        operations: All other work, in order.
        coverage: One entry per node.
        maps: Integer maps to be recorded, by value and reader.
    """

    graph: Graph
    layers: tuple[SynapticLayer, ...]
    operations: tuple[Work, ...]
    coverage: tuple[Coverage, ...]
    maps: Mapping[str, Mapping[str, Ints]] = field(default_factory=dict)

    @property
    def unsupported(self) -> tuple[Coverage, ...]:
        """Nodes without a counting rule."""
        return tuple(c for c in self.coverage if c.status is Status.UNSUPPORTED)

    @property
    def trunk(self) -> tuple[SynapticLayer, ...]:
        """Layers with weights outside attention branches."""
        return tuple(layer for layer in self.layers if not layer.attention)

    @property
    def membranes(self) -> tuple[Node, ...]:
        """Nodes with a membrane: spiking neurons and leaky integrators."""
        return tuple(n for n in self.graph if n.op.membrane)

    def watches(self) -> tuple[Watch, ...]:
        """What has to be recorded: the input, all spikes, and every value that drives work."""
        names = {self.graph.input.name, *self.maps}
        names |= {layer.source for layer in self.layers if layer.kind.sparse}
        names |= {n.name for n in self.graph.neurons}
        names |= {w.drive.value for w in self.operations if w.drive is not None}
        watched = []
        for node in self.graph:
            if node.name in names:
                steps, features = frame_shape(node.signal, self.graph.T)
                computed = not isinstance(node.op, ir.Input)  # the input may hold any numbers
                binary = computed and node.signal.kind is Kind.BINARY
                watched.append(Watch(node.name, features, steps, self.maps.get(node.name, {}), binary))
        return tuple(watched)


@dataclass(frozen=True, eq=False)
class Measured:
    """An inventory with the activity that drives it. All counts are per inference, with one number per recording."""

    inventory: Inventory
    activity: Activity
    predicted: Predicted | None = None

    def __len__(self) -> int:
        return len(self.activity)

    def events(self, drive: Drive, measure: Measure = Measure.NONZERO) -> Ints:
        """Events of a drive in each recording, `[recordings]`."""
        counts: Ints = self.activity[drive.value].counts(measure, drive.map).sum(1)
        return counts

    def work(self, work: Work) -> Ops:
        """Operations of a piece of work."""
        if work.drive is None:
            return Ops.constant(work.dense, len(self))
        return Ops(self.events(work.drive))

    def synops(self, layer: SynapticLayer, measure: Measure = Measure.NONZERO) -> Ops:
        """Synaptic operations: exactly the weights met by non-zero inputs; all weights if the input is dense."""
        if not layer.event_driven:
            return Ops.constant(layer.macs.border_aware_per_inference, len(self))
        return Ops(self.events(layer.drive, measure))

    def as_accumulations(self, layer: SynapticLayer) -> Ops:
        """Accumulations of a layer whose inputs are spikes.

        One per synaptic operation of a 1 or -1; for event counts, as many as the count.
        """
        return self.synops(layer, Measure.UNIT if layer.kind is Kind.BINARY else Measure.PAYLOAD)

    def beyond_accumulations(self, layer: SynapticLayer) -> Ops | None:
        """Synaptic operations that `as_accumulations` does not cover; `None` if there are none, as usual.

        They occur where the data is not of the kind that the network declares: numbers other than 1 where spikes were
        declared, fractions where counts were.
        """
        proper = Measure.UNIT if layer.kind is Kind.BINARY else Measure.INTEGER
        rest = self.events(layer.drive) - self.events(layer.drive, proper)
        return Ops(rest) if rest.any() else None

    def synops_by_rate(self, layer: SynapticLayer) -> Ops:
        """The usual formula, rate x steps x dense MACs: every spike counts as the mean dense fan-out."""
        if not layer.event_driven:
            return Ops.constant(layer.macs.dense_per_inference, len(self))
        each = Fraction(layer.macs.dense_per_inference, layer.sites)
        return Ops(self.events(Drive(layer.source)), each)

    def rate(self, value: str) -> Rate:
        """Share of non-zero elements of a value over all recordings and steps."""
        counts = self.activity[value]
        return Rate(int(counts.counts().sum()), counts.size * counts.steps * len(self))

    def rates(self, value: str) -> NDArray[np.float64]:
        """Share of non-zero elements of a value in each recording, `[recordings]`."""
        counts = self.activity[value]
        events: Ints = counts.counts().sum(1)
        return events / np.float64(counts.size * counts.steps)
