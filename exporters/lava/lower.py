"""From a graph to a plan: which stage of Lava each node becomes. Nodes that cannot are all named in one
error."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, Literal

import numpy as np

from tcja_deploy.errors import UnsupportedError
from tcja_deploy.exporters.lava import kernels
from tcja_deploy.exporters.lava.plan import (
    FloatArray,
    FloatGate,
    FloatLayer,
    Plan,
    adaptive,
    averaging,
    host_input,
    normalise,
)
from tcja_deploy.ir import Graph, Node, Op
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.integers.network import Layer, Pair, Readout, SpatialPool, or_pool

__all__ = ["lower"]

MAX_READOUT = 1 << 26


class _RefusedError(Exception):
    """The reason why the current node cannot be lowered, wherever it stands."""


class _MisplacedError(_RefusedError):
    """The reason why it cannot be lowered at its place; without meaning once a node before it was refused."""


@dataclass(frozen=True, slots=True)
class _Pool:
    """An average pool waiting for the weights behind it: matrices (h, H) and (w, W), and its kernel if it has
    one."""

    rows: FloatArray
    columns: FloatArray
    kernel: Pair | None
    stride: Pair
    padding: Pair


@dataclass(slots=True)
class _Synapse:
    """A linear map waiting for its neuron."""

    node: str
    weight: FloatArray
    bias: FloatArray
    in_shape: tuple[int, ...]
    kind: Literal["conv", "dense"]
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1


@dataclass(slots=True)
class _State:
    """What has been read of the chain."""

    shape: tuple[int, ...]
    stages: list[FloatLayer | FloatGate | Layer] = field(default_factory=list)
    pools: list[_Pool] = field(default_factory=list)
    synapse: _Synapse | None = None
    flat: bool = False
    vote: int = 1
    time_mean: bool = False
    host: list[Any] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)


def lower(graph: Graph, *, input_scale: int = 255) -> Plan:
    """Turn a graph, with batch normalisation folded, into a plan.

    Args:
        graph: A chain of nodes.
        input_scale: The integer that stands for one, for inputs of real numbers.

    Raises:
        UnsupportedError: Nodes that Lava cannot express; lists all of them with the reason.
    """
    problems = _branches(graph)
    state = _State(graph.input_shape)
    for node in graph.nodes[1:]:
        if node.name in problems:
            continue
        try:
            _take(node, graph, state)
        except _RefusedError as reason:
            if not (problems and isinstance(reason, _MisplacedError)):
                problems[node.name] = str(reason)
            state.synapse, state.pools, state.shape = None, [], node.signal.features
    if not problems and not state.stages:
        problems[graph.output] = "the network has no spiking layer"
    readout = Readout()
    if not problems:
        try:
            readout = _readout(state)
        except _RefusedError as reason:
            problems[graph.output] = str(reason)
    if problems:
        listed = "\n  - ".join(
            f"{name} ({type(graph[name].op).__name__}): {why}" for name, why in problems.items()
        )
        raise UnsupportedError(
            f"Lava cannot express {len(problems)} of the network's nodes:\n  - {listed}",
            hint="what needs floating point between spiking layers can run as ONNX instead",
        )
    host = host_input(graph.input_shape, graph.input.signal.kind, state.host, input_scale)
    return Plan(graph.T, host, tuple(state.stages), readout, state.notes)


def _branches(graph: Graph) -> dict[str, str]:
    problems = {}
    for node in graph:
        readers = graph.readers(node.name)
        if len(node.inputs) > 1:
            problems[node.name] = "joins two branches; netx runs chains of layers only"
        elif len(readers) + (node.name == graph.output) > 1:
            problems[node.name] = f"is read by {len(readers)} nodes; netx runs chains of layers only"
    return problems


def _take(node: Node, graph: Graph, state: _State) -> None:
    """Advance the state by one node."""
    op = node.op
    if isinstance(op, ir.Neuron):
        _neuron(node, op, state)
    elif isinstance(op, ir.Conv2d):
        _conv(node, op, state)
    elif isinstance(op, ir.Linear):
        _linear(node, op, state)
    elif isinstance(op, ir.TCJA):
        _gate(node, op, state)
    elif isinstance(op, ir.MaxPool2d):
        _max_pool(node, op, state)
    elif isinstance(op, ir.AvgPool2d | ir.AdaptiveAvgPool2d):
        _average_pool(node, op, state)
    elif isinstance(op, ir.Flatten):
        state.flat, state.notes[node.name] = True, "order of elements, no time"
    elif isinstance(op, ir.TimeMean) or (isinstance(op, ir.Reduce) and op.how == "mean" and op.axes == (0,)):
        _at_the_end(node, graph, ir.Flatten, ir.Linear, ir.Vote, ir.AvgPool2d, ir.AdaptiveAvgPool2d)
        state.time_mean, state.notes[node.name] = True, "on the host"
    elif isinstance(op, ir.Vote):
        _at_the_end(node, graph, ir.TimeMean, ir.Reduce)
        state.vote, state.notes[node.name] = op.voters, "on the host"
    else:
        raise _RefusedError("has no counterpart among Lava's layers and is no TCJA block, pool or readout")


def _at_the_end(node: Node, graph: Graph, *allowed: type[Op]) -> None:
    names = [n.name for n in graph]
    later = graph.nodes[names.index(node.name) + 1 :]
    wrong = [n.name for n in later if not isinstance(n.op, allowed)]
    if wrong:
        raise _RefusedError(f"is followed by {wrong[0]}; the host can do it only at the end")


def _spikes(state: _State) -> bool:
    """Whether the current payloads are spikes of the last layer."""
    return bool(state.stages) and isinstance(state.stages[-1], FloatLayer | Layer) and state.synapse is None


# -- synapses and neurons ---------------------------------------------------------------------------------


def _conv(node: Node, op: ir.Conv2d, state: _State) -> None:
    if state.synapse is not None:
        raise _MisplacedError(f"follows {state.synapse.node} without a neuron between them")
    if state.flat or len(state.shape) != 3:
        raise _MisplacedError("needs maps of shape (C, H, W)")
    weight, padding, dilation = op.weight.astype(np.float64), op.padding, op.dilation
    even = padding[:2] == padding[2:]
    if (state.pools or not even) and dilation != (1, 1):
        weight, dilation = kernels.spread(weight, dilation), (1, 1)
    stride, pad = op.stride, padding[:2]
    if not even:
        weight, pad = kernels.symmetric(weight, padding)
    note = ""
    if state.pools:
        weight, stride, pad, note = _merge_average(state, weight, stride, pad)
    bias = np.zeros(weight.shape[0]) if op.bias is None else op.bias.astype(np.float64)
    state.synapse = _Synapse(node.name, weight, bias, state.shape, "conv", stride, pad, dilation, op.groups)
    state.pools = []
    state.notes[node.name] = note


def _merge_average(
    state: _State, weight: FloatArray, stride: Pair, pad: Pair
) -> tuple[FloatArray, Pair, Pair, str]:
    """Kernel, stride and padding of average pools followed by a convolution (without dilation), as one
    convolution.

    Equal where the pools tile the map, or the convolution is not padded. A map whose size the tiles do not
    divide loses its last rows and columns first, by a layer that copies the rest.
    """
    own = pad
    for pool in reversed(state.pools):
        if pool.kernel is None:
            raise _MisplacedError("follows an adaptive average pool whose windows differ in size")
        tiles = pool.kernel == pool.stride and pool.padding == (0, 0)
        if pad != (0, 0) and not tiles:
            raise _MisplacedError(
                "is padded and follows an average pool that overlaps or is padded; zeros would be averaged"
            )
        weight = kernels.after_average(weight, pool.kernel, pool.stride)
        stride = (stride[0] * pool.stride[0], stride[1] * pool.stride[1])
        pad = (pad[0] * pool.stride[0] + pool.padding[0], pad[1] * pool.stride[1] + pool.padding[1])
    first = state.pools[0]
    height, width = first.rows.shape[1], first.columns.shape[1]
    factor = [prod(p.stride[axis] for p in state.pools) for axis in (0, 1)]
    cut = [length % f if p else 0 for length, f, p in zip((height, width), factor, own, strict=True)]
    note = "average pool before it merged into the kernel"
    if any(cut):
        if not _spikes(state):
            raise _MisplacedError("follows an average pool of payloads that drops rows or columns")
        state.stages.append(
            kernels.crop(f"{state.stages[-1].name}.crop", (state.shape[0], height, width), (cut[0], cut[1]))
        )
        note += f"; a layer drops the last {cut[0]} rows and {cut[1]} columns"
    state.shape = (state.shape[0], height - cut[0], width - cut[1])
    return weight, stride, pad, note


def _linear(node: Node, op: ir.Linear, state: _State) -> None:
    weight = op.weight.astype(np.float64)
    bias = np.zeros(weight.shape[0]) if op.bias is None else op.bias.astype(np.float64)
    if state.synapse is not None:
        before = state.synapse
        if before.kind == "conv":
            raise _MisplacedError(f"follows {before.node} without a neuron between them")
        weight, bias = weight @ before.weight, weight @ before.bias + bias
        state.notes[before.node], state.notes[node.name] = f"merged into {node.name}", ""
        state.synapse = _Synapse(node.name, weight, bias, before.in_shape, "dense")
        return
    if len(state.shape) == 3 and not state.flat:
        raise _MisplacedError("acts on the columns of maps; flatten them first")
    in_shape = state.shape
    if state.pools:
        in_shape = (state.shape[0], state.pools[0].rows.shape[1], state.pools[0].columns.shape[1])
    state.synapse = _Synapse(node.name, _through_pools(state, weight), bias, in_shape, "dense")
    state.notes[node.name] = "average pool before it merged into the weights" if state.pools else ""
    state.pools = []


def _through_pools(state: _State, weight: FloatArray) -> FloatArray:
    """Weights on the maps before the waiting pools, from weights on those behind them."""
    for pool in reversed(state.pools):
        maps = weight.reshape(weight.shape[0], -1, pool.rows.shape[0], pool.columns.shape[0])
        maps = np.einsum("ochw,hH,wW->ocHW", maps, pool.rows, pool.columns, optimize=True)
        weight = maps.reshape(weight.shape[0], -1)
    return weight


def _neuron(node: Node, op: ir.Neuron, state: _State) -> None:
    synapse = state.synapse
    if synapse is None:
        raise _MisplacedError("does not follow a convolution or a linear layer")
    rule = normalise(op)
    if isinstance(rule, str):
        raise _RefusedError(rule)
    state.stages.append(
        FloatLayer(
            node.name,
            synapse.node,
            synapse.bias,
            synapse.kind,
            synapse.in_shape,
            kernels.regrouped(synapse.weight, synapse.groups) * rule.gain,
            synapse.bias * rule.gain,
            rule,
            synapse.stride,
            synapse.padding,
            synapse.dilation,
            kernels.usable_groups(synapse.groups),
        )
    )
    state.notes[node.name] = (
        f"leak {rule.leak:.6g} becomes {rule.v_decay}/4096, off by {100 * rule.leak_error:.2g} %"
        if rule.leak_error
        else ""
    )
    state.synapse, state.flat = None, False
    state.shape = node.signal.features


# -- pools and gates --------------------------------------------------------------------------------------


def _gate(node: Node, op: ir.TCJA, state: _State) -> None:
    if not _spikes(state) or len(state.shape) != 3:
        raise _MisplacedError("a gate needs the spikes of a layer before it")
    channels, height, width = state.shape
    pool, note = None, "integer weights and a table; its window adds T - 1 steps"
    if state.pools:
        kernels = [p.kernel for p in state.pools if p.kernel is not None and p.kernel == p.stride]
        sizes = [prod(k[axis] for k in kernels) for axis in (0, 1)]
        height, width = state.pools[0].rows.shape[1], state.pools[0].columns.shape[1]
        tiled = len(kernels) == len(state.pools) and height % sizes[0] == 0 and width % sizes[1] == 0
        if not tiled:
            raise _MisplacedError(
                "follows an average pool that does not divide the map; its means would differ"
            )
        pool = SpatialPool("sum", (sizes[0], sizes[1]), (sizes[0], sizes[1]))
        note += "; the average pool before it is done behind it, which is the same"
    state.stages.append(FloatGate(node.name, (channels, height, width), op, pool, node.name))
    state.pools = []
    state.notes[node.name] = note


def _max_pool(node: Node, op: ir.MaxPool2d, state: _State) -> None:
    if state.pools:
        raise _MisplacedError("follows an average pool")
    if state.synapse is not None:
        raise _MisplacedError(
            f"pools the real numbers of {state.synapse.node}; only spikes and gated spikes can be pooled"
        )
    last = state.stages[-1] if state.stages else None
    if isinstance(last, FloatGate):
        if last.pool is not None or op.padding != (0, 0):
            raise _MisplacedError("a gate can only be followed by one pool without padding")
        state.stages[-1] = replace(last, pool=SpatialPool("max", op.kernel, op.stride), pooled=node.name)
        state.notes[node.name] = f"inside the gate {last.name}"
    elif _spikes(state):
        state.stages.append(or_pool(node.name, state.shape, op.kernel, op.stride, op.padding))
        state.notes[node.name] = "a layer that fires if any spike falls into its window"
    else:
        raise _MisplacedError("pools the input; only spikes and gated spikes can be pooled by their maximum")
    state.shape = node.signal.features


def _average_pool(node: Node, op: ir.AvgPool2d | ir.AdaptiveAvgPool2d, state: _State) -> None:
    if state.synapse is not None:
        raise _MisplacedError(
            f"pools the real numbers of {state.synapse.node}; only spikes and payloads can be pooled"
        )
    height, width = state.shape[1:]
    shape, state.shape = (height, width), node.signal.features
    kernel: Pair | None
    stride = padding = (0, 0)
    if isinstance(op, ir.AdaptiveAvgPool2d):
        exact = [adaptive(n, out) for n, out in zip(shape, op.output_size, strict=True)]
        divides = height % op.output_size[0] == 0 and width % op.output_size[1] == 0
        kernel = (height // op.output_size[0], width // op.output_size[1]) if divides else None
        stride = kernel or (0, 0)
    else:
        exact = [
            averaging(n, k, s, p, count_pad=op.count_include_pad)
            for n, k, s, p in zip(shape, op.kernel, op.stride, op.padding, strict=True)
        ]
        even = op.count_include_pad or op.padding == (0, 0)
        kernel, stride, padding = op.kernel if even else None, op.stride, op.padding
    if not state.stages:  # object arrays of fractions, so that the composition is exact
        arrays = [np.array(axis, dtype=object) for axis in exact]
        state.host = (
            [new @ old for new, old in zip(arrays, state.host, strict=True)] if state.host else arrays
        )
        state.notes[node.name] = "on the host, in integers"
        return
    last = state.stages[-1]
    if isinstance(last, FloatGate) and last.pool is None and not state.pools and kernel and padding == (0, 0):
        state.stages[-1] = replace(last, pool=SpatialPool("sum", kernel, stride), pooled=node.name)
        state.notes[node.name] = f"as sums inside the gate {last.name}"
        return
    matrices = [np.array([[float(v) for v in row] for row in axis]) for axis in exact]
    state.pools.append(_Pool(matrices[0], matrices[1], kernel, stride, padding))
    state.notes[node.name] = "merged into the weights behind it"


def _readout(state: _State) -> Readout:
    """What stands after the last spiking layer, as one linear map with vote and mean."""
    synapse = state.synapse
    if synapse is not None and synapse.kind == "conv":
        raise _MisplacedError(f"the network ends with the convolution {synapse.node} without a neuron")
    weight, bias = (None, None) if synapse is None else (synapse.weight, synapse.bias)
    if synapse is not None:
        state.notes[synapse.node] = "in floating point on the host"
    if state.pools:
        size = prod(state.shape)
        if (
            size * state.shape[0] * state.pools[0].rows.shape[1] * state.pools[0].columns.shape[1]
            > MAX_READOUT
        ):
            raise _MisplacedError("the average pool at the end is too large for the host's matrix")
        weight = _through_pools(state, np.eye(size))
    return Readout(weight, bias, state.vote, state.time_mean)
