"""From a graph with branches to float stages.

Populations in which several synapses meet, relays for values of real numbers, logic of spikes, window programs for
attention; what comes at the end is the host's.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from tcja_deploy.errors import UnsupportedError
from tcja_deploy.exporters.lava import kernels
from tcja_deploy.exporters.lava.float_graph import (
    FloatGraph,
    FloatMeeting,
    FloatProgram,
    FloatSynapse,
    FloatTerm,
    scaled,
)
from tcja_deploy.exporters.lava.float_network import FloatArray, host_input, normalise
from tcja_deploy.exporters.lava.host_tail import host_tail
from tcja_deploy.exporters.lava.regions import Region, regions
from tcja_deploy.ir import Graph, Kind, Node
from tcja_deploy.ir import ops as ir
from tcja_deploy.ir.linear_steps import why_not_leaky
from tcja_deploy.runtime.integers.layers import or_pool
from tcja_deploy.runtime.integers.stages import HOST, NeuronStage, RelayStage
from tcja_deploy.unsupported import Unsupported, UnsupportedInContext, UnsupportedParts

__all__ = ["is_chain", "lower_graph"]


@dataclass(frozen=True, slots=True, eq=False)
class _Sum:
    """A value that is not placed yet: summands and a bias `[C]`."""

    terms: tuple[FloatTerm, ...]
    bias: FloatArray
    shape: tuple[int, ...]

    @property
    def alone(self) -> FloatTerm | None:
        """The stage's value that this is, perhaps times a factor, if it is no more than that."""
        if len(self.terms) == 1 and self.terms[0].synapse is None and not self.bias.any():
            return self.terms[0]
        return None


def is_chain(graph: Graph) -> bool:
    """Whether every node is one that chains of layers and gates may have, and reads the node before it alone."""
    reads_one = all(
        len(node.inputs) < 2 and len(graph.readers(node.name)) + (node.name == graph.output) < 2
        for node in graph
    )
    return reads_one and all(_known(node) for node in graph.nodes[1:])


def _known(node: Node) -> bool:
    op = node.op
    kinds = ir.Conv2d | ir.Linear | ir.TCJA | ir.MaxPool2d | ir.AvgPool2d | ir.AdaptiveAvgPool2d
    if isinstance(op, ir.Neuron):
        return op.v_reset is not None
    mean = isinstance(op, ir.Reduce) and op.how == "mean" and op.axes == (0,)
    return mean or isinstance(op, kinds | ir.Flatten | ir.TimeMean | ir.Vote)


def lower_graph(graph: Graph, *, input_scale: int = 255) -> FloatGraph:
    """Turn a graph, with batch normalisation folded, into float stages.

    Args:
        graph: Any graph.
        input_scale: The integer that stands for one, for inputs of real numbers.

    Raises:
        UnsupportedError: Nodes that no stage can express; lists all of them with the reason.
    """
    unsupported = UnsupportedParts()
    tail = host_tail(graph)
    result = FloatGraph(graph.T, host_input(graph.input_shape, graph.input.signal.kind, [], input_scale))
    lowering = _Lowering(graph, result)
    programs = {name: region for region in regions(graph) for name in region.nodes}
    for node in graph.nodes[1:]:
        if node.name in tail.nodes:
            result.notes[node.name] = "on the host"
            continue
        region = programs.get(node.name)
        with unsupported.at(f"{node.name} ({type(node.op).__name__})", certain=not unsupported):
            try:
                if region is None:
                    lowering.take(node)
                elif node.name == region.sink:
                    lowering.program(region)
            except Unsupported:
                lowering.unknown(node)
                raise
        if region is not None:
            result.notes[node.name] = f"in the window program {region.sink}"
    with unsupported.at(f"{tail.source} ({type(graph[tail.source].op).__name__})", certain=not unsupported):
        last = lowering.placed(tail.source)
        if last.source == HOST:
            raise Unsupported("the network has no spiking layer")
        if last.factor != 1 or result.stages[-1].name != last.source:
            lowering.relay(tail.source)
        result.readout = tail.readout()
    unsupported.raise_if_any(
        UnsupportedError,
        "Lava cannot express {}",
        noun="node",
        hint="what needs floating point between spiking layers can run as ONNX instead",
    )
    return result


class _Lowering:
    """Reads a graph node by node."""

    def __init__(self, graph: Graph, result: FloatGraph) -> None:
        self.graph, self.result = graph, result
        self.spiking = {HOST} if graph.input.signal.kind is Kind.BINARY else set()
        self.values: dict[str, _Sum] = {}
        self._place(graph.nodes[0].name, HOST, graph.input_shape)

    def take(self, node: Node) -> None:
        """Go on by one node."""
        op = node.op
        self.result.notes[node.name] = ""
        if isinstance(op, ir.Neuron):
            self._neuron(node, op)
        elif isinstance(op, ir.LI | ir.AffineIntegrator):
            self._integrator(node, op)
        elif isinstance(op, ir.Conv2d | ir.ConvTranspose2d | ir.Linear):
            self._synapse(node, op)
        elif isinstance(op, ir.AvgPool2d | ir.AdaptiveAvgPool2d):
            self._average(node, op)
        elif isinstance(op, ir.Add):
            self._add(node)
        elif isinstance(op, ir.Affine):
            if not op.scale:
                raise Unsupported("multiplies by zero")
            x = self.values[node.inputs[0]]
            terms = tuple(scaled(term, op.scale) for term in x.terms)
            self.values[node.name] = _Sum(terms, x.bias * op.scale + op.offset, x.shape)
        elif isinstance(op, ir.Mul):
            self._logic(node)
        elif isinstance(op, ir.MaxPool2d):
            self._max_pool(node, op)
        elif isinstance(op, ir.Flatten | ir.Reshape) and node.signal.streams and self._streams(node):
            self._reshape(node)
        elif isinstance(op, ir.BatchNorm1d | ir.BatchNorm2d):
            self._norm(node, op)
        elif isinstance(op, ir.Recurrence):
            raise Unsupported(f"{why_not_leaky(op)}; Lava's neuron has one leak and one threshold")
        else:
            raise Unsupported("is neither a layer nor part of an attention with one entry and one exit")
        kept = self.values[node.name]
        if kept.alone is None and len(self.graph.readers(node.name)) > 1:
            self.relay(node.name)

    def _streams(self, node: Node) -> bool:
        return all(signal.streams for signal in self.graph.signals_in(node))

    def unknown(self, node: Node) -> None:
        """Go on behind a node that cannot be expressed as if a stage sent its value."""
        self._place(node.name, HOST, node.signal.features or (1,))

    # -- values --------------------------------------------------------------------------------------
    def _place(self, name: str, stage: str, shape: tuple[int, ...]) -> None:
        self.values[name] = _Sum((FloatTerm(stage, shape),), np.zeros(shape[0]), shape)

    def placed(self, name: str) -> FloatTerm:
        """A node's value as that of a stage, with a factor."""
        alone = self.values[name].alone
        return alone if alone is not None and alone.shape == self.values[name].shape else self.relay(name)

    def relay(self, name: str) -> FloatTerm:
        """A relay that sends a node's value."""
        value = self.values[name]
        self.result.stages.append(FloatMeeting(name, name, value.terms, value.bias, value.shape))
        note = self.result.notes.get(name, "")
        self.result.notes[name] = "; ".join(filter(None, [note, "its sum is sent on as a signed payload"]))
        self._place(name, name, value.shape)
        return self.values[name].terms[0]

    def _spikes(self, name: str) -> FloatTerm | None:
        """The stage that sends a node's spikes, times 1 or -1 (plus 1: the spikes inverted)."""
        value = self.values[name]
        term = value.terms[0]
        if len(value.terms) > 1 or term.synapse is not None or term.source not in self.spiking:
            return None
        plain = term.factor == 1 and not value.bias.any()
        inverted = term.factor == -1 and bool((value.bias == 1).all())
        return term if plain or inverted else None

    # -- stages --------------------------------------------------------------------------------------
    def program(self, region: Region) -> None:
        """A window program."""
        source = self.placed(region.source)
        if source.factor != 1:
            source = self.relay(region.source)
        self.result.stages.append(FloatProgram(region.sink, region, source.source, source.shape))
        sink = self.graph[region.sink]
        self._place(region.sink, region.sink, sink.signal.features)

    def _neuron(self, node: Node, op: ir.Neuron) -> None:
        rule, x = normalise(op, soft=True), self.values[node.inputs[0]]
        self.result.stages.append(
            FloatMeeting(node.name, node.inputs[0], x.terms, x.bias, x.shape, rule.gain, rule)
        )
        if rule.leak_error:
            self.result.notes[node.name] = (
                f"leak {rule.leak:.6g} becomes {rule.v_decay}/4096, off by {100 * rule.leak_error:.2g} %"
            )
        self.spiking.add(node.name)
        self._place(node.name, node.name, x.shape)

    def _integrator(self, node: Node, op: ir.LI | ir.AffineIntegrator) -> None:
        if isinstance(op, ir.LI):
            leak, rest, gain = op.decay, op.v_leak, op.decay if op.decay_input else 1.0
        else:
            leak, rest, gain = op.leaky()
            if op.v_threshold is not None:
                raise Unsupported("passes on a membrane that spikes reset")
            rest = rest or op.v_initial
        if rest:
            raise Unsupported(f"leaks to {rest:g} or begins there; a relay's membrane is zero at first")
        x = self.values[node.inputs[0]]
        self.result.stages.append(
            FloatMeeting(node.name, node.inputs[0], x.terms, x.bias, x.shape, gain, None, leak)
        )
        self.result.notes[node.name] = "a relay with a membrane"
        self._place(node.name, node.name, x.shape)

    def _synapse(self, node: Node, op: ir.Conv2d | ir.ConvTranspose2d | ir.Linear) -> None:
        if not node.signal.streams or not self._streams(node):
            raise Unsupported("acts on a value without a stream of frames, outside of an attention")
        source = self.placed(node.inputs[0])
        shape, weight = self.values[node.inputs[0]].shape, op.weight.astype(np.float64)
        if isinstance(op, ir.Linear):
            if len(shape) != 1:
                raise UnsupportedInContext("acts on the columns of maps; flatten them first")
            synapse = FloatSynapse(node.name, "dense", shape, weight)
        elif len(shape) != 3:
            raise UnsupportedInContext("needs maps of shape [C, H, W]")
        elif isinstance(op, ir.ConvTranspose2d):
            synapse = FloatSynapse(
                node.name,
                "transposed",
                shape,
                weight,
                op.stride,
                op.padding,
                op.dilation,
                op.output_padding,
                op.groups,
            )
            if op.groups > kernels.MAX_GROUPS:
                raise Unsupported(f"has {op.groups} groups; Lava counts them in eight bits")
        else:
            dilation, pad = op.dilation, op.padding[:2]
            if op.padding[:2] != op.padding[2:]:
                weight, dilation = kernels.spread(weight, dilation), (1, 1)
                weight, pad = kernels.symmetric(weight, op.padding)
            weight, groups = kernels.regrouped(weight, op.groups), kernels.usable_groups(op.groups)
            synapse = FloatSynapse(node.name, "conv", shape, weight, op.stride, pad, dilation, groups=groups)
        bias = np.zeros(node.signal.features[0]) if op.bias is None else op.bias.astype(np.float64)
        self.values[node.name] = _Sum(
            (FloatTerm(source.source, source.shape, source.factor, synapse),), bias, node.signal.features
        )

    def _average(self, node: Node, op: ir.AvgPool2d | ir.AdaptiveAvgPool2d) -> None:
        source, shape = self.placed(node.inputs[0]), self.values[node.inputs[0]].shape
        channels, height, width = shape
        if isinstance(op, ir.AdaptiveAvgPool2d):
            kernel = (height // op.output_size[0], width // op.output_size[1])
            stride, padding = kernel, (0, 0)
            if (kernel[0] * op.output_size[0], kernel[1] * op.output_size[1]) != (height, width):
                raise Unsupported("averages windows of different sizes")
        else:
            kernel, stride, padding = op.kernel, op.stride, op.padding
            if any(padding) and not op.count_include_pad:
                raise Unsupported("averages windows at the border over fewer pixels")
        weight = kernels.regrouped(np.full((channels, 1, *kernel), 1 / prod(kernel)), channels)
        groups = kernels.usable_groups(channels)
        synapse = FloatSynapse(node.name, "conv", shape, weight, stride, padding, groups=groups)
        self.result.notes[node.name] = "sums of payloads, in a larger unit"
        self.values[node.name] = _Sum(
            (FloatTerm(source.source, source.shape, source.factor, synapse),),
            np.zeros(channels),
            node.signal.features,
        )

    def _add(self, node: Node) -> None:
        for name in node.inputs:
            if node.inputs.count(name) > 1:
                self.placed(name)
        parts = [self.values[name] for name in node.inputs]
        if any(part.shape != node.signal.features for part in parts):
            raise Unsupported("adds values of different shapes")
        terms = tuple(term for part in parts for term in part.terms)
        self.values[node.name] = _Sum(
            terms, np.asarray(np.sum([part.bias for part in parts], 0)), node.signal.features
        )

    def _norm(self, node: Node, op: ir.BatchNorm1d | ir.BatchNorm2d) -> None:
        """A normalisation that was not folded: a weight a channel."""
        source, shape = self.placed(node.inputs[0]), self.values[node.inputs[0]].shape
        k, offset = (np.asarray(v, np.float64) for v in op.scale_offset())
        if len(shape) == 1:
            synapse = FloatSynapse(node.name, "dense", shape, np.diag(k))
        else:
            weight = kernels.regrouped(k.reshape(-1, 1, 1, 1), len(k))
            synapse = FloatSynapse(node.name, "conv", shape, weight, groups=kernels.usable_groups(len(k)))
        self.values[node.name] = _Sum(
            (FloatTerm(source.source, source.shape, source.factor, synapse),), offset, shape
        )

    def _logic(self, node: Node) -> None:
        """A product of spikes, some of them inverted: AND, or AND NOT (IAND)."""
        spikes = [self._spikes(name) for name in node.inputs]
        known = [term for term in spikes if term is not None]
        shape = node.signal.features
        if len(known) < 2 or any(term.shape != shape for term in known):
            raise Unsupported("multiplies values that are not spikes of one shape, outside of an attention")
        negated = [term for term in known if term.factor < 0]
        if len(negated) == len(known):
            raise Unsupported("multiplies inverted spikes only: it would fire from rest")
        names = []
        for index, term in enumerate(known):
            names.append(term.source)
            if term.factor < 0:
                names[-1] = f"{node.name}.not{index}"
                zero = np.zeros(shape[0], np.int64)
                self.result.stages.append(
                    RelayStage(names[-1], (term.source,), shape, zero, 1, bits=2, multiplier=-1)
                )
        threshold = np.asarray(len(known) - len(negated) - 1)
        self.result.stages.append(
            NeuronStage(node.name, tuple(names), shape, np.zeros(shape[0], np.int64), threshold)
        )
        self.result.notes[node.name] = "a threshold of spikes"
        self.spiking.add(node.name)
        self._place(node.name, node.name, shape)

    def _max_pool(self, node: Node, op: ir.MaxPool2d) -> None:
        source = self.placed(node.inputs[0])
        if source.source not in self.spiking or source.factor != 1:
            raise Unsupported("pools values that are not spikes, outside of a program")
        pool = or_pool(node.name, source.shape, op.kernel, op.stride, op.padding, inputs=(source.source,))
        self.result.stages.append(pool)
        self.result.notes[node.name] = "a layer that fires if any spike falls into its window"
        self.spiking.add(node.name)
        self._place(node.name, node.name, node.signal.features)

    def _reshape(self, node: Node) -> None:
        source, shape = self.placed(node.inputs[0]), node.signal.features
        if prod(source.shape) != prod(shape) or len(shape) not in (1, 3):
            raise Unsupported(f"makes frames of {list(shape)}; stages know maps and rows")
        self.result.notes[node.name] = "order of elements, no time"
        term = FloatTerm(source.source, shape, source.factor)
        self.values[node.name] = _Sum((term,), np.zeros(shape[0]), shape)
