"""Values of nodes while a graph is lowered: sums that are not in a stage yet, and what stages send."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import numpy as np

from tcja_deploy.exporters.lava import kernels
from tcja_deploy.exporters.lava.averages import AveragePool
from tcja_deploy.exporters.lava.float_graph import (
    FloatArray,
    FloatGate,
    FloatGraph,
    FloatMeeting,
    FloatSynapse,
    FloatTerm,
)
from tcja_deploy.ir import Graph, Kind
from tcja_deploy.runtime.integers.stages import HOST
from tcja_deploy.unsupported import Unsupported

__all__ = ["Sum", "Values"]


@dataclass(frozen=True, slots=True, eq=False)
class Sum:
    """A value that no stage sends yet: summands and a bias `[C]`, or average pools of a single summand."""

    terms: tuple[FloatTerm, ...]
    bias: FloatArray
    shape: tuple[int, ...]
    averages: tuple[AveragePool, ...] = ()

    @property
    def alone(self) -> FloatTerm | None:
        """The summand, if the value is nothing but a stage's value times a factor; else None."""
        plain = len(self.terms) == 1 and self.terms[0].synapse is None and not self.averages
        if plain and not self.bias.any():
            return self.terms[0]
        return None


class Values:
    """Values of the nodes read so far.

    Attributes:
        graph: The graph.
        result: The stages made so far.
        spiking: Stages that send spikes, including the host if it does.
        values: Values by node.
        host: Average pools before everything else.
    """

    def __init__(self, graph: Graph, result: FloatGraph) -> None:
        self.graph, self.result = graph, result
        self.spiking = {HOST} if graph.input.signal.kind is Kind.BINARY else set()
        self.values: dict[str, Sum] = {}
        self.host: list[AveragePool] = []
        self.place(graph.nodes[0].name, HOST, graph.input_shape)

    def place(self, name: str, stage: str, shape: tuple[int, ...]) -> None:
        """Record that a stage sends a node's value."""
        self.values[name] = Sum((FloatTerm(stage, shape),), np.zeros(shape[0]), shape)

    def placed(self, name: str) -> FloatTerm:
        """A node's value as a stage's value times a factor; adds a relay if necessary."""
        alone = self.settled(name).alone
        return alone if alone is not None and alone.shape == self.values[name].shape else self.relay(name)

    def relay(self, name: str) -> FloatTerm:
        """Add a relay that sends a node's value."""
        value = self.settled(name)
        self.result.stages.append(FloatMeeting(name, name, value.terms, value.bias, value.shape))
        note = self.result.notes.get(name, "")
        self.result.notes[name] = "; ".join(filter(None, [note, "its sum is sent on as a signed payload"]))
        self.place(name, name, value.shape)
        return self.values[name].terms[0]

    def settled(self, name: str) -> Sum:
        """A node's value, with its averages as synapses.

        Raises:
            Unsupported: If an average has windows of different sizes.
        """
        value = self.values[name]
        if not value.averages:
            return value
        term, channels = value.terms[0], value.terms[0].shape[0]
        for average in value.averages:
            shape = (channels, *average.out_size)
            if average.kernel is None:
                raise Unsupported("averages windows of different sizes")
            weight = np.full((channels, 1, *average.kernel), 1 / prod(average.kernel))
            synapse = FloatSynapse(
                average.node, "conv", term.shape, kernels.regrouped(weight, channels), average.stride, average.padding,
                groups=kernels.usable_groups(channels),
            )  # fmt: skip
            self.values[average.node] = Sum((replace(term, synapse=synapse),), np.zeros(channels), shape)
            self.result.notes[average.node] = "sums of payloads, in a larger unit"
            if average is not value.averages[-1] or name != average.node:
                term = self.relay(average.node)
        if name != value.averages[-1].node:
            shaped = replace(term, shape=value.shape)
            self.values[name] = Sum((shaped,), np.zeros(value.shape[0]), value.shape)
        return self.values[name]

    def spikes(self, name: str) -> FloatTerm | None:
        """The stage whose spikes are a node's value, with the factor 1, or -1 if they are inverted (1 - spike); else None."""
        value = self.values[name]
        term = value.terms[0]
        unknown = term.synapse is not None or term.source not in self.spiking or value.averages
        if len(value.terms) > 1 or unknown:
            return None
        plain = term.factor == 1 and not value.bias.any()
        inverted = term.factor == -1 and bool((value.bias == 1).all())
        return term if plain or inverted else None

    def open_gate(self, name: str) -> FloatGate | None:
        """The gate that sends a node's value, if it has no pool yet and the value has a single reader; else None."""
        stage = next((s for s in self.result.stages if s.name == name), None)
        single = len(self.graph.readers(name)) == 1
        return stage if isinstance(stage, FloatGate) and stage.pool is None and single else None
