"""How each op is written in NIR, and why some ops cannot be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import nir
import numpy as np

from tcja_deploy.exporters.nir.convolution import diagonal, portable
from tcja_deploy.exporters.nir.dynamics import (
    integrator,
    logical_or,
    power_of_two,
    spiking,
    spiking_with_current,
)
from tcja_deploy.exporters.nir.writer import NirValue, Writer, WriterRule
from tcja_deploy.ir import Graph, Kind, Node, Op
from tcja_deploy.ir import ops as ir
from tcja_deploy.ir.linear_steps import CurrentBased, current_based
from tcja_deploy.unsupported import Unsupported, UnsupportedParts

__all__ = ["RULES", "unsupported_nodes"]


# -- weights -----------------------------------------------------------------------------------------------------
def _undone(w: Writer, node: Node, op: Any, x: NirValue) -> Any:
    """The op, with weights that undo its input's factor."""
    if x.factor == 1.0:
        return op
    w.note(node, f"weights divided by {x.factor:g}" + ("" if power_of_two(x.factor) else ", which rounds"))
    return replace(op, weight=(op.weight.astype(np.float64) / x.factor).astype(np.float32))


def _bias(op: ir.Conv1d | ir.Conv2d) -> Any:
    return np.zeros(op.weight.shape[0], np.float32) if op.bias is None else op.bias


def _linear(w: Writer, node: Node, op: ir.Linear, x: NirValue) -> NirValue:
    op = _undone(w, node, op, x)
    return w.put(node, nir.Linear(op.weight) if op.bias is None else nir.Affine(op.weight, op.bias), x)


def _conv2d(w: Writer, node: Node, op: ir.Conv2d, x: NirValue, part: str = "") -> NirValue:
    op, done = portable(_undone(w, node, op, x))
    w.note(node, done)
    written = nir.Conv2d(
        input_shape=w.input(node).features[1:], weight=op.weight, stride=op.stride, padding=op.padding[:2],
        dilation=op.dilation, groups=1, bias=_bias(op),
    )  # fmt: skip
    return w.put(node, written, x, part)


def _conv1d(w: Writer, node: Node, op: ir.Conv1d, x: NirValue) -> NirValue:
    op = _undone(w, node, op, x)
    written = nir.Conv1d(
        input_shape=w.input(node).features[1], weight=op.weight, stride=op.stride, padding=op.padding[0],
        dilation=op.dilation, groups=1, bias=_bias(op),
    )  # fmt: skip
    return w.put(node, written, x)


def _batch_norm1d(w: Writer, node: Node, op: ir.BatchNorm1d, x: NirValue) -> NirValue:
    scale, offset = op.scale_offset()
    w.note(node, "written as a diagonal matrix")
    return _linear(w, node, ir.Linear(np.diag(scale).astype(np.float32), offset.astype(np.float32)), x)


def _batch_norm2d(w: Writer, node: Node, op: ir.BatchNorm2d, x: NirValue) -> NirValue:
    scale, offset = op.scale_offset()
    w.note(node, "written as a 1 x 1 convolution")
    kernels = scale.astype(np.float32)[:, None, None]
    return _conv2d(w, node, diagonal(kernels, bias=offset.astype(np.float32)), x)


# -- shapes and pooling ------------------------------------------------------------------------------------------
def _flatten(w: Writer, node: Node, op: ir.Flatten, x: NirValue) -> NirValue:
    features = w.input(node).features
    if len(features) == 1:
        return x
    # Axes are counted from the end: nir has no batch axis; Norse and snnTorch pass them to torch, which has one.
    written = nir.Flatten(np.array(features), start_dim=-len(features), end_dim=-1)
    return replace(w.put(node, written, x), factor=x.factor)


def _sums(w: Writer, node: Node, op: ir.AvgPool2d | ir.MaxPool2d, x: NirValue, part: str) -> NirValue:
    """Sums over pooling windows. Norse and nirtorch drop the padding of SumPool2d, so padded sums become a convolution."""
    if op.padding == (0, 0):
        written = nir.SumPool2d(*map(np.array, (op.kernel, op.stride, op.padding)))
        return replace(w.put(node, written, x, part), factor=x.factor)
    w.note(node, "padded sums written as a convolution with ones")
    kernels = np.ones((w.input(node).features[0], *op.kernel), np.float32)
    return _conv2d(w, node, diagonal(kernels, stride=op.stride, padding=(*op.padding, *op.padding)), x, part)


def _max_pool(w: Writer, node: Node, op: ir.MaxPool2d, x: NirValue) -> NirValue:
    w.note(node, "logical or of spikes: their sum, and neurons that fire from 1 on and hold nothing")
    return w.put(node, logical_or(node.signal.features, w.dt), _sums(w, node, op, x, "sum"))


def _avg_pool(w: Writer, node: Node, op: ir.AvgPool2d, x: NirValue) -> NirValue:
    size = op.kernel[0] * op.kernel[1]
    if w.absorbed(node.name):
        w.note(node, f"sums; the next layer divides by {size}")
        sums = _sums(w, node, op, x, "")
        return replace(sums, factor=sums.factor * size)
    if op.padding == (0, 0):
        return w.put(node, nir.AvgPool2d(*map(np.array, (op.kernel, op.stride, op.padding))), x)
    w.note(node, "padded means written as a convolution")
    kernels = np.full((w.input(node).features[0], *op.kernel), 1 / size, np.float32)
    return _conv2d(w, node, diagonal(kernels, stride=op.stride, padding=(*op.padding, *op.padding)), x)


def _equal_windows(op: ir.AdaptiveAvgPool2d, features: tuple[int, ...]) -> ir.AvgPool2d | None:
    """An equal average pool with windows of one size, if there is one."""
    h, w = (n // out for n, out in zip(features[-2:], op.output_size, strict=True))
    fits = (h * op.output_size[0], w * op.output_size[1]) == features[-2:]
    return ir.AvgPool2d((h, w), (h, w)) if fits else None


def _adaptive_avg_pool(w: Writer, node: Node, op: ir.AdaptiveAvgPool2d, x: NirValue) -> NirValue:
    same = _equal_windows(op, w.input(node).features)
    if same is None:
        raise Unsupported("its windows differ in size")
    return x if same.kernel == (1, 1) else _avg_pool(w, node, same, x)


def _affine(w: Writer, node: Node, op: ir.Affine, x: NirValue) -> NirValue:
    return w.put(node, nir.Scale(np.full(node.signal.features, op.scale, np.float32)), x)


# -- neurons -----------------------------------------------------------------------------------------------------
def _current_of(graph: Graph, neuron: Node) -> ir.LI | None:
    """The integrator before a neuron, if the two form a current-based neuron."""
    if not isinstance(neuron.op, ir.LIF | ir.PLIF):
        return None
    before = graph[neuron.inputs[0]]
    if (
        not isinstance(before.op, ir.LI)
        or before.op.v_leak
        or not before.op.decay
        or before.name == graph.output
    ):
        return None
    return before.op if len(graph.readers(before.name)) == 1 else None


def _neuron(w: Writer, node: Node, op: ir.Neuron, x: NirValue) -> NirValue:
    current, shape = _current_of(w.network, node), node.signal.features
    if current is None or not isinstance(op, ir.LIF | ir.PLIF):
        written = spiking(op, shape, w.dt, x.factor)
    else:
        written = spiking_with_current(current, op, shape, w.dt, x.factor)
    w.note(node, written.note)
    return w.put(node, written.node, x)


def _current_based(op: ir.Recurrence) -> CurrentBased:
    try:
        return current_based(op)
    except Unsupported as error:
        raise Unsupported(
            f"{error.reason}; NIR's neurons have one leak and one threshold and return to v_reset, some with a leaky current "
            "before"
        ) from error


def _recurrence(w: Writer, node: Node, op: ir.Recurrence, x: NirValue) -> NirValue:
    found = _current_based(op)
    written = spiking_with_current(
        found.current, found.neuron, node.signal.features, w.dt, x.factor / found.gain
    )
    w.note(node, "a current and the membrane that it flows into", written.note)
    return w.put(node, written.node, x)


def _integrator(w: Writer, node: Node, op: ir.LI | ir.AffineIntegrator, x: NirValue) -> NirValue:
    readers = w.network.readers(node.name)
    if len(readers) == 1 and _current_of(w.network, readers[0]) is op:
        w.note(node, f"current of {readers[0].name}")
        return x
    return w.put(node, integrator(op, node.signal.features, w.dt), x)


RULES: dict[type[Op], WriterRule] = {
    ir.AdaptiveAvgPool2d: _adaptive_avg_pool,
    ir.Affine: _affine,
    ir.AffineIntegrator: _integrator,
    ir.AffineNeuron: _neuron,
    ir.AvgPool2d: _avg_pool,
    ir.BatchNorm1d: _batch_norm1d,
    ir.BatchNorm2d: _batch_norm2d,
    ir.Conv1d: _conv1d,
    ir.Conv2d: _conv2d,
    ir.Flatten: _flatten,
    ir.IF: _neuron,
    ir.LI: _integrator,
    ir.LIF: _neuron,
    ir.Linear: _linear,
    ir.MaxPool2d: _max_pool,
    ir.PLIF: _neuron,
    ir.Recurrence: _recurrence,
}


# -- what NIR cannot hold ----------------------------------------------------------------------------------------
def unsupported_nodes(graph: Graph) -> UnsupportedParts:
    """The nodes that NIR cannot hold, and why."""
    found = UnsupportedParts()
    for node in graph.nodes[1:]:
        with found.at(node.name):
            _check(graph, node)
    return found


def _check(graph: Graph, node: Node) -> None:
    """Check that NIR can hold a node.

    Raises:
        Unsupported: If it cannot.
    """
    if isinstance(node.op, ir.Recurrence):
        _current_based(node.op)
    if type(node.op) not in {*RULES, ir.Add}:
        raise Unsupported(f"NIR has no primitive for {type(node.op).__name__}")
    inputs = graph.signals_in(node)
    for signal in (*inputs, node.signal):
        if signal.dims != ("T", "N", *signal.features):
            raise Unsupported(f"NIR computes frame by frame, and this is {signal}")
    if reason := _misfit(node.op, inputs[0].features, inputs[0].kind):
        raise Unsupported(reason)
    if isinstance(node.op, ir.Conv2d):
        portable(node.op)
    if isinstance(node.op, ir.AffineNeuron):
        node.op.plain()
    if isinstance(node.op, ir.AffineIntegrator):
        integrator(node.op, node.signal.features, 1.0)


def _misfit(op: Op, features: tuple[int, ...], kind: Kind) -> str:
    """Why NIR cannot hold an op that reads frames of this shape and kind; empty if it can."""
    match op:
        case ir.MaxPool2d() if kind is not Kind.BINARY:
            return f"NIR has no max-pooling; of binary spikes it is a logical or, but these are {kind}"
        case ir.MaxPool2d() | ir.AvgPool2d() | ir.Conv2d() | ir.BatchNorm2d() if len(features) != 3:
            return f"NIR takes frames [C, H, W] here, and these are {list(features)}"
        case ir.Linear() | ir.BatchNorm1d() if len(features) != 1:
            return f"NIR's matrices take vectors, and these are {list(features)}"
        case ir.AvgPool2d(padding=padding, count_include_pad=False) if any(padding):
            return "NIR's average counts the padded zeros"
        case ir.AdaptiveAvgPool2d() if _equal_windows(op, features) is None:
            return f"{list(features[-2:])} does not divide into {list(op.output_size)} equal windows"
        case ir.Affine(offset=offset) if offset:
            return "NIR has no constant offset"
        case ir.Neuron(v_reset=None):
            return "a spike lowers this membrane by the threshold (soft reset); NIR's neurons can only return to v_reset"
        case ir.LI(decay=0, decay_input=True):
            return "an integrator whose input is multiplied by a leak of 0 computes nothing"
        case ir.Conv1d(padding=(left, right), groups=groups) if left != right or groups != 1:
            return "NIR's readers take 1-D convolutions with the same padding on both sides and one group"
    return ""
