"""How each op is counted: one rule per op. An op without a rule is reported, never assumed to be free."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from tcja_deploy.energy.count.branches import attention_nodes, first_layers
from tcja_deploy.energy.count.fanout import elements, fan_out, macs, pool_windows, taps
from tcja_deploy.energy.count.inventory import (
    Coverage,
    Drive,
    Inventory,
    Primitive,
    Purpose,
    Status,
    SynapticLayer,
    Work,
)
from tcja_deploy.energy.count.quantities import Ints
from tcja_deploy.ir import Graph, Kind, Node, Op, Signal
from tcja_deploy.ir import ops as ir
from tcja_deploy.ir.ops.arithmetic import COMPARISONS, ROUNDINGS

__all__ = ["RULES", "take_inventory"]


def take_inventory(graph: Graph) -> Inventory:
    """Everything a graph does in one inference, op by op."""
    tally = _Tally(graph, attention_nodes(graph), first_layers(graph))
    for node in graph:
        rule = RULES.get(type(node.op))
        if rule is None:
            tally.note(node, Status.UNSUPPORTED, f"there is no counting rule for {type(node.op).__name__}")
        elif isinstance(rule, str):
            tally.note(node, Status.IGNORED, rule)
        else:
            reason = rule(tally, node)
            tally.note(node, Status.IGNORED if reason else Status.COUNTED, reason or "")
    return Inventory(graph, tuple(tally.layers), tuple(tally.operations), tuple(tally.coverage), tally.maps)


@dataclass
class _Tally:
    """The inventory while it is being taken."""

    graph: Graph
    attention: frozenset[str]
    first: frozenset[str]
    layers: list[SynapticLayer] = field(default_factory=list)
    operations: list[Work] = field(default_factory=list)
    coverage: list[Coverage] = field(default_factory=list)
    maps: dict[str, dict[str, Ints]] = field(default_factory=dict)

    def note(self, node: Node, status: Status, reason: str) -> None:
        self.coverage.append(Coverage(node.name, type(node.op).__name__, status, reason))

    def inputs(self, node: Node) -> tuple[Signal, ...]:
        return self.graph.signals_in(node)

    def size(self, signal: Signal) -> int:
        return elements(signal, self.graph.T)

    def map(self, value: str, reader: str, weights: Ints) -> Drive:
        self.maps.setdefault(value, {})[reader] = weights
        return Drive(value, reader)

    def add(
        self,
        node: Node,
        purpose: Purpose,
        what: str,
        primitive: Primitive,
        dense: int,
        drive: Drive | None = None,
        weights: int = 0,
    ) -> None:
        purpose = Purpose.ATTENTION if node.name in self.attention else purpose
        self.operations.append(Work(node.name, purpose, what, primitive, dense, drive, weights))


CountingRule = Callable[[_Tally, Node], str | None]
"""Records the work of a node; returns a reason if there is nothing to count."""


def _synapses(tally: _Tally, node: Node) -> None:
    (x,) = tally.inputs(node)
    op, T = node.op, tally.graph.T
    tally.layers.append(
        SynapticLayer(
            node=node.name,
            op=type(op).__name__,
            map_axes=op.map_axes,
            source=node.inputs[0],
            kind=x.kind,
            shape_in=x.features,
            shape_out=node.signal.features,
            parameters=op.parameters,
            macs=macs(op, x, T),
            sites=tally.size(x),
            first=node.name in tally.first,
            attention=node.name in tally.attention,
        )
    )
    tally.map(node.inputs[0], node.name, fan_out(op, x, T))
    bias = op.constants()["bias"]
    if bias is not None:
        tally.add(node, Purpose.BIAS, "bias", Primitive.ADD, tally.size(node.signal), weights=bias.size)


def _batch_norm(tally: _Tally, node: Node) -> None:
    channels = node.op.parameters // 4  # one factor and one offset per channel, from four stored statistics
    tally.add(
        node, Purpose.NORM, "scale and offset", Primitive.MAC, tally.size(node.signal), weights=2 * channels
    )


def _pooling(tally: _Tally, node: Node) -> str | None:
    (x,) = tally.inputs(node)
    if x == node.signal and isinstance(node.op, ir.AdaptiveAvgPool2d):
        return "the size stays: nothing to compute"
    weights = pool_windows(node.op, x, tally.graph.T)
    dense = int(weights.sum()) * (tally.size(x) // weights.size)
    drive = tally.map(node.inputs[0], node.name, weights) if x.kind.sparse else None
    if isinstance(node.op, ir.MaxPool2d):
        tally.add(node, Purpose.POOLING, "maximum", Primitive.COMPARE, dense, drive)
    else:
        tally.add(node, Purpose.POOLING, "sum", Primitive.ADD, dense, drive)
        tally.add(node, Purpose.POOLING, "divide by window", Primitive.MULTIPLY, tally.size(node.signal))
    return None


def _charge(tally: _Tally, node: Node, op: ir.AffineNeuron | ir.AffineIntegrator) -> None:
    """Count the operations of `a V + b + g X`, omitting factors of 1 and products with 0."""
    updates = tally.size(node.signal)
    if (op.leak != 1).any():
        tally.add(node, Purpose.NEURON, "leak", Primitive.MULTIPLY, updates)
    if op.has_gain:
        tally.add(node, Purpose.NEURON, "gain", Primitive.MULTIPLY, updates)
    if op.has_offset:
        tally.add(node, Purpose.NEURON, "offset", Primitive.ADD, updates)
    if op.floor is not None:
        tally.add(node, Purpose.NEURON, "floor", Primitive.COMPARE, updates)
    tally.add(node, Purpose.NEURON, "integrate", Primitive.ADD, updates)


def _affine_integrator(tally: _Tally, node: Node) -> None:
    op = node.op
    if not isinstance(op, ir.AffineIntegrator):
        raise TypeError(type(op).__name__)
    _charge(tally, node, op)
    if op.v_threshold is not None:
        tally.add(node, Purpose.NEURON, "threshold", Primitive.COMPARE, tally.size(node.signal))


def _neuron(tally: _Tally, node: Node) -> None:
    op, updates = node.op, tally.size(node.signal)
    if isinstance(op, ir.AffineNeuron):
        _charge(tally, node, op)
    else:
        if not isinstance(op, ir.IF):
            tally.add(node, Purpose.NEURON, "leak", Primitive.MULTIPLY, updates)
        tally.add(node, Purpose.NEURON, "integrate", Primitive.ADD, updates)
    tally.add(node, Purpose.NEURON, "threshold", Primitive.COMPARE, updates)
    if isinstance(op, ir.Neuron) and op.v_reset is None:
        tally.add(node, Purpose.NEURON, "soft reset", Primitive.ADD, updates, Drive(node.name))


_WORK: dict[str, Primitive | None] = {
    **dict.fromkeys(("add", "sub"), Primitive.ADD),
    **dict.fromkeys(("mul", "div", "sqrt"), Primitive.MULTIPLY),
    **dict.fromkeys((*COMPARISONS, *ROUNDINGS, "max", "min", "sign"), Primitive.COMPARE),
    **dict.fromkeys(("sigmoid", "tanh", "exp"), Primitive.SIGMOID),
    **dict.fromkeys(("abs", "neg", "where"), None),
}
"""Operations of a function in a recurrence: divisions and roots count as products, roundings as comparisons, exponentials
as a logistic function; signs and selections are free."""


def _recurrence(tally: _Tally, node: Node) -> None:
    """Count a recurrence line by line, each line once per element and step, whatever the spikes."""
    op, updates = node.op, tally.size(node.signal)
    if not isinstance(op, ir.Recurrence):
        raise TypeError(type(op).__name__)
    functions = Counter(line[0] for line in op.lines)
    for function, times in functions.items():
        primitive = _WORK[function]
        if primitive is not None:
            tally.add(node, Purpose.NEURON, function, primitive, times * updates)


def _integrator(tally: _Tally, node: Node) -> None:
    updates = tally.size(node.signal)
    if node.op.constants()["decay"]:
        tally.add(node, Purpose.NEURON, "leak", Primitive.MULTIPLY, updates)
    tally.add(node, Purpose.NEURON, "integrate", Primitive.ADD, updates)


def _tcja(tally: _Tally, node: Node) -> None:
    op, T = node.op, tally.graph.T
    if not isinstance(op, ir.TCJA):
        raise TypeError(type(op).__name__)
    (x,) = tally.inputs(node)
    channels, size = x.features[0], tally.size(x)
    gates = T * channels
    drive = Drive(node.inputs[0]) if x.kind.sparse else None

    def add(
        what: str, primitive: Primitive, dense: int, drive: Drive | None = None, weights: int = 0
    ) -> None:
        tally.add(node, Purpose.ATTENTION, what, primitive, dense, drive, weights)

    add("squeeze: sum", Primitive.ADD, size, drive)
    add("squeeze: divide by area", Primitive.MULTIPLY, gates)
    if op.tla is not None:
        along = int(taps(T, T, op.k_t, pad=ir.same_padding(op.k_t)[0]).sum())
        add("TLA: Conv1d along time", Primitive.MAC, channels * channels * along, weights=op.tla.size)
    if op.cla is not None:
        along = int(taps(channels, channels, op.k_c, pad=ir.same_padding(op.k_c)[0]).sum())
        add("CLA: Conv1d along channels", Primitive.MAC, T * T * along, weights=op.cla.size)
    if op.tla is not None and op.cla is not None:
        add("fusion", Primitive.MULTIPLY if op.fusion == "multiply" else Primitive.ADD, gates)
    add("sigmoid", Primitive.SIGMOID, gates)
    add("gate", Primitive.MULTIPLY, size, drive)


def _sum_of(tally: _Tally, node: Node) -> None:
    """Count a sum: its first dense operand is free; every other dense element, and every spike, is one addition."""
    whole = tally.size(node.signal)
    dense = [s for s in tally.inputs(node) if not s.kind.sparse]
    if len(dense) > 1:
        tally.add(node, Purpose.RESIDUAL, "sum", Primitive.ADD, whole * (len(dense) - 1))
    for name, x in zip(node.inputs, tally.inputs(node), strict=True):
        if x.kind.sparse:
            drive = Drive(name) if tally.size(x) == whole else None
            tally.add(node, Purpose.RESIDUAL, f"sum: {name}", Primitive.ADD, whole, drive)


def _product(tally: _Tally, node: Node) -> None:
    """Count a product, computed only where its most specific sparse operand of full size (the first of several) spikes."""
    whole = tally.size(node.signal)
    order = list(Kind)
    sparse = [
        (order.index(x.kind), name)
        for name, x in zip(node.inputs, tally.inputs(node), strict=True)
        if x.kind.sparse and tally.size(x) == whole
    ]
    drive = Drive(min(sparse, key=lambda operand: operand[0])[1]) if sparse else None
    for _ in node.inputs[1:]:
        tally.add(
            node,
            Purpose.OTHER,
            "gate" if node.name in tally.attention else "product",
            Primitive.MULTIPLY,
            whole,
            drive,
        )


def _affine(tally: _Tally, node: Node) -> str | None:
    op, whole = node.op, tally.size(node.signal)
    if not isinstance(op, ir.Affine):
        raise TypeError(type(op).__name__)
    if op.scale == 1 and op.offset == 0:
        return "scale 1 and offset 0: nothing to compute"
    sparse = tally.inputs(node)[0].kind.sparse
    if op.offset == 0:
        tally.add(
            node, Purpose.OTHER, "scale", Primitive.MULTIPLY, whole, Drive(node.inputs[0]) if sparse else None
        )
    else:
        both = Primitive.ADD if op.scale in (1, -1) else Primitive.MAC
        tally.add(node, Purpose.OTHER, "scale and offset", both, whole)
    return None


def _reduction(tally: _Tally, node: Node) -> None:
    op, (x,) = node.op, tally.inputs(node)
    how = op.how if isinstance(op, ir.Reduce) else "mean"
    purpose = Purpose.READOUT if isinstance(op, ir.TimeMean | ir.Vote) else Purpose.OTHER
    drive = Drive(node.inputs[0]) if x.kind.sparse else None
    used = tally.size(x)
    if isinstance(op, ir.Vote):  # outputs beyond the last whole group of voters are not read
        used = tally.size(node.signal) * op.voters
        mask = (np.arange(x.features[-1]) < node.signal.features[-1] * op.voters).astype(np.int64)
        drive = drive and tally.map(drive.value, node.name, mask.reshape((1,) * len(x.features) + mask.shape))
    if how == "max":
        tally.add(node, purpose, "maximum", Primitive.COMPARE, used, drive)
        return
    tally.add(node, purpose, "sum", Primitive.ADD, used, drive)
    if how == "mean":
        tally.add(node, purpose, "divide by count", Primitive.MULTIPLY, tally.size(node.signal))


def _sigmoid(tally: _Tally, node: Node) -> None:
    tally.add(node, Purpose.OTHER, "sigmoid", Primitive.SIGMOID, tally.size(node.signal))


def _relu(tally: _Tally, node: Node) -> str | None:
    (x,) = tally.inputs(node)
    if x.kind in (Kind.BINARY, Kind.COUNT):
        return "its input is never negative"
    drive = Drive(node.inputs[0]) if x.kind.sparse else None
    tally.add(node, Purpose.OTHER, "rectify", Primitive.COMPARE, tally.size(x), drive)
    return None


def _clamp(tally: _Tally, node: Node) -> str | None:
    (x,) = tally.inputs(node)
    drive = Drive(node.inputs[0]) if x.kind.sparse and node.signal.kind.sparse else None
    bounds = (
        sum(abs(v) < ir.LARGEST for v in (node.op.low, node.op.high)) if isinstance(node.op, ir.Clamp) else 0
    )
    tally.add(node, Purpose.OTHER, "clamp", Primitive.COMPARE, bounds * tally.size(x), drive)
    return None


_MOVE = "moves numbers, computes none"

RULES: dict[type[Op], CountingRule | str] = {
    ir.AdaptiveAvgPool2d: _pooling,
    ir.Add: _sum_of,
    ir.Affine: _affine,
    ir.AvgPool2d: _pooling,
    ir.BatchNorm1d: _batch_norm,
    ir.BatchNorm2d: _batch_norm,
    ir.Clamp: _clamp,
    ir.Concat: _MOVE,
    ir.Conv1d: _synapses,
    ir.Conv2d: _synapses,
    ir.ConvTranspose2d: _synapses,
    ir.Flatten: _MOVE,
    ir.AffineIntegrator: _affine_integrator,
    ir.AffineNeuron: _neuron,
    ir.IF: _neuron,
    ir.Input: "where frames enter",
    ir.LI: _integrator,
    ir.LIF: _neuron,
    ir.Linear: _synapses,
    ir.MaxPool2d: _pooling,
    ir.Mul: _product,
    ir.PLIF: _neuron,
    ir.Permute: _MOVE,
    ir.ReLU: _relu,
    ir.Recurrence: _recurrence,
    ir.Reduce: _reduction,
    ir.Reshape: _MOVE,
    ir.Sigmoid: _sigmoid,
    ir.Slice: _MOVE,
    ir.TCJA: _tcja,
    ir.TimeMean: _reduction,
    ir.Vote: _reduction,
}
"""The rule for each op, or a text that says why there is nothing to count."""
