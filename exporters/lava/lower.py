"""Lowering of a graph to float stages.

The stages are layers of neurons, populations in which several synapses meet, relays for real values, logic of spikes,
gates, and window programs for attention of any other kind; the host does what comes at the two ends. A chain is a graph
like any other. One error names all nodes that no stage can express.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from tcja_deploy.errors import UnsupportedError
from tcja_deploy.exporters.lava import kernels
from tcja_deploy.exporters.lava.averages import (
    AverageOp,
    AveragePool,
    before_kernel,
    before_matrix,
    host_input,
)
from tcja_deploy.exporters.lava.composed import composed
from tcja_deploy.exporters.lava.float_graph import (
    FloatArray,
    FloatGraph,
    FloatMeeting,
    FloatProgram,
    FloatSynapse,
    FloatTerm,
    scaled,
)
from tcja_deploy.exporters.lava.float_neuron import normalise
from tcja_deploy.exporters.lava.host_tail import HostTail, host_tail
from tcja_deploy.exporters.lava.lowered_gates import Gates
from tcja_deploy.exporters.lava.lowered_values import Sum
from tcja_deploy.exporters.lava.regions import Region, regions
from tcja_deploy.ir import Graph, Node
from tcja_deploy.ir import ops as ir
from tcja_deploy.ir.linear_steps import why_not_leaky
from tcja_deploy.runtime.integers.layers import SpatialPool, or_pool
from tcja_deploy.runtime.integers.stages import HOST, NeuronStage, RelayStage
from tcja_deploy.unsupported import Unsupported, UnsupportedInContext, UnsupportedParts

__all__ = ["lower"]


def lower(graph: Graph, *, input_scale: int = 255) -> FloatGraph:
    """Turn a graph, with batch normalisation folded, into float stages.

    Args:
        graph: Any graph.
        input_scale: The integer that stands for one in inputs of real numbers.

    Raises:
        UnsupportedError: If no stage can express some nodes; lists all of them with the reason.
    """
    unsupported = UnsupportedParts()
    tail = host_tail(graph)
    result = FloatGraph(graph.T, host_input(graph.input_shape, graph.input.signal.kind, [], input_scale))
    lowering = _Lowering(graph, result)
    programs = {name: region for region in _before(tail, regions(graph)) for name in region.nodes}
    for node in graph.nodes[1:]:
        if node.name in tail.nodes:
            result.notes[node.name] = "on the host"
            continue
        region = programs.get(node.name)
        if region is not None and node.name == region.nodes[0] and lowering.gated(region):
            region = None
            programs = {name: other for name, other in programs.items() if other.nodes[0] != node.name}
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
    kind = graph.input.signal.kind
    result.host_input = host_input(graph.input_shape, kind, lowering.host, input_scale)
    return result


def _before(tail: HostTail, found: list[Region]) -> list[Region]:
    """The regions without the nodes that the host computes."""
    kept = [replace(r, nodes=tuple(n for n in r.nodes if n not in tail.nodes)) for r in found]
    return [region for region in kept if region.nodes]


class _Lowering(Gates):
    """Reads a graph node by node."""

    def take(self, node: Node) -> None:
        """Lower one node.

        Raises:
            Unsupported: If no stage can express it.
        """
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
            x = self.settled(node.inputs[0])
            terms = tuple(scaled(term, op.scale) for term in x.terms)
            self.values[node.name] = Sum(terms, x.bias * op.scale + op.offset, x.shape)
        elif isinstance(op, ir.Mul):
            self._logic(node)
        elif isinstance(op, ir.MaxPool2d):
            self._max_pool(node, op)
        elif isinstance(op, ir.TCJA):
            self.gate(node, op)
        elif isinstance(op, ir.Flatten | ir.Reshape) and node.signal.streams and self._streams(node):
            self._reshape(node)
        elif isinstance(op, ir.BatchNorm1d | ir.BatchNorm2d):
            self._norm(node, op)
        elif isinstance(op, ir.Recurrence):
            raise Unsupported(f"{why_not_leaky(op)}; Lava's neuron has one leak and one threshold")
        elif isinstance(op, ir.TimeMean | ir.Vote):
            raise Unsupported("is followed by spiking layers; the host can do it only at the end")
        else:
            raise Unsupported("is neither a layer nor part of an attention with one entry and one exit")
        kept = self.values[node.name]
        if kept.alone is None and len(self.graph.readers(node.name)) > 1:
            self.relay(node.name)

    def unknown(self, node: Node) -> None:
        """Continue after a node that cannot be expressed, as if a stage sent its value."""
        self.place(node.name, HOST, node.signal.features or (1,))

    def _streams(self, node: Node) -> bool:
        return all(signal.streams for signal in self.graph.signals_in(node))

    # -- stages --------------------------------------------------------------------------------------
    def program(self, region: Region) -> None:
        """Lower a region to a window program."""
        source = self.placed(region.source)
        if source.factor != 1:
            source = self.relay(region.source)
        self.result.stages.append(FloatProgram(region.sink, region, source.source, source.shape))
        sink = self.graph[region.sink]
        self.place(region.sink, region.sink, sink.signal.features)

    def _neuron(self, node: Node, op: ir.Neuron) -> None:
        rule, x = normalise(op), self.settled(node.inputs[0])
        self.result.stages.append(
            FloatMeeting(node.name, node.inputs[0], x.terms, x.bias, x.shape, rule.gain, rule)
        )
        if rule.leak_error:
            self.result.notes[node.name] = (
                f"leak {rule.leak:.6g} becomes {rule.v_decay}/4096, off by {100 * rule.leak_error:.2g} %"
            )
        self.spiking.add(node.name)
        self.place(node.name, node.name, x.shape)

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
        x = self.settled(node.inputs[0])
        self.result.stages.append(
            FloatMeeting(node.name, node.inputs[0], x.terms, x.bias, x.shape, gain, None, leak)
        )
        self.result.notes[node.name] = "a relay with a membrane"
        self.place(node.name, node.name, x.shape)

    def _synapse(self, node: Node, op: ir.Conv2d | ir.ConvTranspose2d | ir.Linear) -> None:
        if not node.signal.streams or not self._streams(node):
            raise Unsupported("acts on a value without a stream of frames, outside of an attention")
        bias = np.zeros(node.signal.features[0]) if op.bias is None else op.bias.astype(np.float64)
        one = None if isinstance(op, ir.ConvTranspose2d) else self._composed(node, op, bias)
        if one is not None:
            term, bias = one
        elif isinstance(op, ir.Linear):
            term = self._linear(node, op)
        elif len(self.values[node.inputs[0]].shape) != 3:
            raise UnsupportedInContext("needs maps of shape [C, H, W]")
        elif isinstance(op, ir.Conv2d):
            term = self._conv(node, op)
        else:
            if op.groups > kernels.MAX_GROUPS:
                raise Unsupported(f"has {op.groups} groups; Lava counts them in eight bits")
            source = self.placed(node.inputs[0])
            synapse = FloatSynapse(
                node.name, "transposed", source.shape, op.weight.astype(np.float64), op.stride, op.padding, op.dilation,
                op.output_padding, op.groups,
            )  # fmt: skip
            term = replace(source, synapse=synapse)
        self.values[node.name] = Sum((term,), bias, node.signal.features)

    def _linear(self, node: Node, op: ir.Linear) -> FloatTerm:
        """A linear map, with the averages before it merged into its weights.

        Raises:
            UnsupportedInContext: If it acts on the columns of maps.
        """
        x, weight = self.values[node.inputs[0]], op.weight.astype(np.float64)
        if len(x.shape) != 1:
            raise UnsupportedInContext("acts on the columns of maps; flatten them first")
        if x.averages:
            self.result.notes[node.name] = "average pool before it merged into the weights"
            term, weight = x.terms[0], before_matrix(x.averages, weight)
        else:
            term = self.placed(node.inputs[0])
        return replace(term, synapse=FloatSynapse(node.name, "dense", term.shape, weight))

    def _composed(
        self, node: Node, op: ir.Linear | ir.Conv2d, bias: FloatArray
    ) -> tuple[FloatTerm, FloatArray] | None:
        """A linear map as one with that before it; None if there is none, or if two are less work."""
        x = self.values[node.inputs[0]]
        first = x.terms[0].synapse
        if len(x.terms) > 1 or x.averages or first is None:
            return None
        made = composed(node.name, op, first, x.shape, node.signal.features)
        if made is None:
            return None
        both = f"{made.together:,} multiply-accumulates a frame as one, {made.apart:,} as two"
        if not made.pays:
            self.result.notes[node.name] = f"not merged with {first.node}: {both}"
            return None
        self.result.notes[first.node] = f"merged into {node.name}: {both}"
        return replace(x.terms[0], synapse=made.synapse), made.second @ x.bias + bias

    def _conv(self, node: Node, op: ir.Conv2d) -> FloatTerm:
        """A convolution, with the averages before it merged into its kernel where possible."""
        x, weight = self.values[node.inputs[0]], op.weight.astype(np.float64)
        stride, dilation, pad = op.stride, op.dilation, op.padding[:2]
        even = op.padding[:2] == op.padding[2:]
        if (x.averages or not even) and dilation != (1, 1):
            weight, dilation = kernels.spread(weight, dilation), (1, 1)
        if not even:
            weight, pad = kernels.symmetric(weight, op.padding)
        merged = before_kernel(x.averages, weight, stride, pad) if x.averages else None
        term = x.terms[0]
        whole = merged is not None and not any(merged.cut)
        if merged is not None and (whole or (term.source in self.spiking and term.factor == 1)):
            weight, stride, pad = merged.weight, merged.stride, merged.padding
            note = "average pool before it merged into the kernel"
            if not whole:
                crop = kernels.crop(f"{term.source}.crop", term.shape, merged.cut)
                self.result.stages.append(replace(crop, inputs=(term.source,)))
                term = FloatTerm(crop.name, crop.out_shape)
                note += f"; a layer drops the last {merged.cut[0]} rows and {merged.cut[1]} columns"
            self.result.notes[node.name] = note
        else:
            term = self.placed(node.inputs[0])
        weight, groups = kernels.regrouped(weight, op.groups), kernels.usable_groups(op.groups)
        synapse = FloatSynapse(node.name, "conv", term.shape, weight, stride, pad, dilation, groups=groups)
        return replace(term, synapse=synapse)

    def _average(self, node: Node, op: AverageOp) -> None:
        """An average pool: on the host, inside the gate before it, or left to what follows."""
        name = node.inputs[0]
        x, alone = self.values[name], len(self.graph.readers(name)) == 1
        average = AveragePool.of(node.name, op, *x.shape[1:])
        term, gate = x.alone, self.open_gate(name)
        if term is not None and term.source == HOST and alone and term.factor == 1:
            self.host.append(average)
            self.spiking.discard(HOST)
            self.result.notes[node.name] = "on the host, in integers"
            self.place(node.name, HOST, node.signal.features)
        elif average.kernel is not None and not any(average.padding) and gate is not None:
            pool = SpatialPool("sum", average.kernel, average.stride)
            self.pool_gate(node, gate, pool, "as sums inside the gate")
        else:
            term = x.terms[0] if x.averages else self.placed(name)
            pending = (*x.averages, average)
            self.values[node.name] = Sum((term,), np.zeros(term.shape[0]), node.signal.features, pending)
            self.result.notes[node.name] = "merged into the weights after it"

    def _add(self, node: Node) -> None:
        for name in node.inputs:
            if node.inputs.count(name) > 1:
                self.placed(name)
        parts = [self.settled(name) for name in node.inputs]
        if any(part.shape != node.signal.features for part in parts):
            raise Unsupported("adds values of different shapes")
        terms = tuple(term for part in parts for term in part.terms)
        self.values[node.name] = Sum(
            terms, np.asarray(np.sum([part.bias for part in parts], 0)), node.signal.features
        )

    def _norm(self, node: Node, op: ir.BatchNorm1d | ir.BatchNorm2d) -> None:
        """A normalisation that was not folded: one weight per channel."""
        source = self.placed(node.inputs[0])
        shape = source.shape
        k, offset = (np.asarray(v, np.float64) for v in op.scale_offset())
        if len(shape) == 1:
            synapse = FloatSynapse(node.name, "dense", shape, np.diag(k))
        else:
            weight = kernels.regrouped(k.reshape(-1, 1, 1, 1), len(k))
            synapse = FloatSynapse(node.name, "conv", shape, weight, groups=kernels.usable_groups(len(k)))
        self.values[node.name] = Sum((replace(source, synapse=synapse),), offset, shape)

    def _logic(self, node: Node) -> None:
        """A product of spikes, some of them inverted: AND, or AND NOT (IAND).

        Raises:
            Unsupported: If an operand is not spikes of the product's shape, or all are inverted.
        """
        spikes = [self.spikes(name) for name in node.inputs]
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
        self.place(node.name, node.name, shape)

    def _max_pool(self, node: Node, op: ir.MaxPool2d) -> None:
        gate = self.open_gate(node.inputs[0])
        if gate is not None and op.padding == (0, 0):
            self.pool_gate(node, gate, SpatialPool("max", op.kernel, op.stride), "inside the gate")
            return
        source = self.placed(node.inputs[0])
        if source.source not in self.spiking or source.factor != 1:
            raise Unsupported("pools values that are not spikes, outside of a program")
        pool = or_pool(node.name, source.shape, op.kernel, op.stride, op.padding, inputs=(source.source,))
        self.result.stages.append(pool)
        self.result.notes[node.name] = "a layer that fires if any spike falls into its window"
        self.spiking.add(node.name)
        self.place(node.name, node.name, node.signal.features)

    def _reshape(self, node: Node) -> None:
        x, shape = self.values[node.inputs[0]], node.signal.features
        if x.averages and len(shape) == 1:
            self.values[node.name] = replace(x, shape=shape)
            self.result.notes[node.name] = "order of elements, no time"
            return
        source = self.placed(node.inputs[0])
        if prod(source.shape) != prod(shape) or len(shape) not in (1, 3):
            raise Unsupported(f"makes frames of {list(shape)}; stages know maps and rows")
        self.result.notes[node.name] = "order of elements, no time"
        term = FloatTerm(source.source, shape, source.factor)
        self.values[node.name] = Sum((term,), np.zeros(shape[0]), shape)
