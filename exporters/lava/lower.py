"""From a graph to a float network: which stage of Lava each node becomes.

All nodes that cannot become one are named in one error.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, Literal

import numpy as np

from tcja_deploy.errors import UnsupportedError
from tcja_deploy.exporters.lava import kernels
from tcja_deploy.exporters.lava.float_network import (
    FloatArray,
    FloatGate,
    FloatLayer,
    FloatNetwork,
    adaptive,
    averaging,
    host_input,
    normalise,
)
from tcja_deploy.ir import Graph, Node, Op
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.integers.layers import LayerStage, SpatialPool, or_pool
from tcja_deploy.runtime.integers.network import Readout
from tcja_deploy.runtime.integers.stages import Pair
from tcja_deploy.unsupported import Unsupported, UnsupportedInContext, UnsupportedParts

__all__ = ["lower"]

MAX_READOUT = 1 << 26


@dataclass(frozen=True, slots=True)
class _Pool:
    """An average pool waiting for the weights after it: matrices `[h, H]` and `[w, W]`, and its kernel if it has one."""

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
class _Chain:
    """What has been read of the chain."""

    shape: tuple[int, ...]
    stages: list[FloatLayer | FloatGate | LayerStage] = field(default_factory=list)
    pools: list[_Pool] = field(default_factory=list)
    synapse: _Synapse | None = None
    flat: bool = False
    vote: int = 1
    time_mean: bool = False
    host: list[Any] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)


def lower(graph: Graph, *, input_scale: int = 255) -> FloatNetwork:
    """Turn a graph, with batch normalisation folded, into a float network.

    Args:
        graph: A chain of nodes.
        input_scale: The integer that stands for one, for inputs of real numbers.

    Raises:
        UnsupportedError: Nodes that Lava cannot express; lists all of them with the reason.
    """
    unsupported = UnsupportedParts()
    _check_branches(graph, unsupported)
    branching, chain = unsupported.places, _Chain(graph.input_shape)
    for node in graph.nodes[1:]:
        if _place(node) in branching:
            continue
        with unsupported.at(_place(node), certain=not unsupported):
            try:
                _take(node, graph, chain)
            except Unsupported:
                chain.synapse, chain.pools, chain.shape = None, [], node.signal.features
                raise
    if not unsupported and not chain.stages:
        unsupported.add(_place(graph[graph.output]), Unsupported("the network has no spiking layer"))
    readout = Readout()
    if not unsupported:
        with unsupported.at(_place(graph[graph.output])):
            readout = _readout(chain)
    unsupported.raise_if_any(
        UnsupportedError,
        "Lava cannot express {}",
        noun="node",
        hint="what needs floating point between spiking layers can run as ONNX instead",
    )
    host = host_input(graph.input_shape, graph.input.signal.kind, chain.host, input_scale)
    return FloatNetwork(graph.T, host, tuple(chain.stages), readout, chain.notes)


def _place(node: Node) -> str:
    return f"{node.name} ({type(node.op).__name__})"


def _check_branches(graph: Graph, unsupported: UnsupportedParts) -> None:
    for node in graph:
        readers = graph.readers(node.name)
        with unsupported.at(_place(node)):
            if len(node.inputs) > 1:
                raise Unsupported("joins two branches; netx runs chains of layers only")
            if len(readers) + (node.name == graph.output) > 1:
                raise Unsupported(f"is read by {len(readers)} nodes; netx runs chains of layers only")


def _take(node: Node, graph: Graph, chain: _Chain) -> None:
    """Advance the chain by one node."""
    op = node.op
    if isinstance(op, ir.Neuron):
        _neuron(node, op, chain)
    elif isinstance(op, ir.Conv2d):
        _conv(node, op, chain)
    elif isinstance(op, ir.Linear):
        _linear(node, op, chain)
    elif isinstance(op, ir.TCJA):
        _gate(node, op, chain)
    elif isinstance(op, ir.MaxPool2d):
        _max_pool(node, op, chain)
    elif isinstance(op, ir.AvgPool2d | ir.AdaptiveAvgPool2d):
        _average_pool(node, op, chain)
    elif isinstance(op, ir.Flatten):
        chain.flat, chain.notes[node.name] = True, "order of elements, no time"
    elif isinstance(op, ir.TimeMean) or (isinstance(op, ir.Reduce) and op.how == "mean" and op.axes == (0,)):
        _at_the_end(node, graph, ir.Flatten, ir.Linear, ir.Vote, ir.AvgPool2d, ir.AdaptiveAvgPool2d)
        chain.time_mean, chain.notes[node.name] = True, "on the host"
    elif isinstance(op, ir.Vote):
        _at_the_end(node, graph, ir.TimeMean, ir.Reduce)
        chain.vote, chain.notes[node.name] = op.voters, "on the host"
    else:
        raise Unsupported("has no counterpart among Lava's layers and is not a TCJA block, pool or readout")


def _at_the_end(node: Node, graph: Graph, *allowed: type[Op]) -> None:
    names = [n.name for n in graph]
    later = graph.nodes[names.index(node.name) + 1 :]
    wrong = [n.name for n in later if not isinstance(n.op, allowed)]
    if wrong:
        raise Unsupported(f"is followed by {wrong[0]}; the host can do it only at the end")


def _spikes(chain: _Chain) -> bool:
    """Whether the current payloads are spikes of the last layer."""
    return (
        bool(chain.stages) and isinstance(chain.stages[-1], FloatLayer | LayerStage) and chain.synapse is None
    )


# -- synapses and neurons ---------------------------------------------------------------------------------


def _conv(node: Node, op: ir.Conv2d, chain: _Chain) -> None:
    if chain.synapse is not None:
        raise UnsupportedInContext(f"follows {chain.synapse.node} without a neuron between them")
    if chain.flat or len(chain.shape) != 3:
        raise UnsupportedInContext("needs maps of shape [C, H, W]")
    weight, padding, dilation = op.weight.astype(np.float64), op.padding, op.dilation
    even = padding[:2] == padding[2:]
    if (chain.pools or not even) and dilation != (1, 1):
        weight, dilation = kernels.spread(weight, dilation), (1, 1)
    stride, pad = op.stride, padding[:2]
    if not even:
        weight, pad = kernels.symmetric(weight, padding)
    note = ""
    if chain.pools:
        weight, stride, pad, note = _merge_average(chain, weight, stride, pad)
    bias = np.zeros(weight.shape[0]) if op.bias is None else op.bias.astype(np.float64)
    chain.synapse = _Synapse(node.name, weight, bias, chain.shape, "conv", stride, pad, dilation, op.groups)
    chain.pools = []
    chain.notes[node.name] = note


def _merge_average(
    chain: _Chain, weight: FloatArray, stride: Pair, pad: Pair
) -> tuple[FloatArray, Pair, Pair, str]:
    """Kernel, stride and padding of average pools followed by a convolution (without dilation), as one convolution.

    Equal where the pools tile the map, or the convolution is not padded. A map whose size the tiles do not
    divide loses its last rows and columns first, by a layer that copies the rest.
    """
    own = pad
    for pool in reversed(chain.pools):
        if pool.kernel is None:
            raise UnsupportedInContext("follows an adaptive average pool whose windows differ in size")
        tiles = pool.kernel == pool.stride and pool.padding == (0, 0)
        if pad != (0, 0) and not tiles:
            raise UnsupportedInContext(
                "is padded and follows an average pool that overlaps or is padded; zeros would be averaged"
            )
        weight = kernels.after_average(weight, pool.kernel, pool.stride)
        stride = (stride[0] * pool.stride[0], stride[1] * pool.stride[1])
        pad = (pad[0] * pool.stride[0] + pool.padding[0], pad[1] * pool.stride[1] + pool.padding[1])
    first = chain.pools[0]
    height, width = first.rows.shape[1], first.columns.shape[1]
    factor = [prod(p.stride[axis] for p in chain.pools) for axis in (0, 1)]
    cut = [length % f if p else 0 for length, f, p in zip((height, width), factor, own, strict=True)]
    note = "average pool before it merged into the kernel"
    if any(cut):
        if not _spikes(chain):
            raise UnsupportedInContext("follows an average pool of payloads that drops rows or columns")
        chain.stages.append(
            kernels.crop(f"{chain.stages[-1].name}.crop", (chain.shape[0], height, width), (cut[0], cut[1]))
        )
        note += f"; a layer drops the last {cut[0]} rows and {cut[1]} columns"
    chain.shape = (chain.shape[0], height - cut[0], width - cut[1])
    return weight, stride, pad, note


def _linear(node: Node, op: ir.Linear, chain: _Chain) -> None:
    weight = op.weight.astype(np.float64)
    bias = np.zeros(weight.shape[0]) if op.bias is None else op.bias.astype(np.float64)
    if chain.synapse is not None:
        before = chain.synapse
        if before.kind == "conv":
            raise UnsupportedInContext(f"follows {before.node} without a neuron between them")
        weight, bias = weight @ before.weight, weight @ before.bias + bias
        chain.notes[before.node], chain.notes[node.name] = f"merged into {node.name}", ""
        chain.synapse = _Synapse(node.name, weight, bias, before.in_shape, "dense")
        return
    if len(chain.shape) == 3 and not chain.flat:
        raise UnsupportedInContext("acts on the columns of maps; flatten them first")
    in_shape = chain.shape
    if chain.pools:
        in_shape = (chain.shape[0], chain.pools[0].rows.shape[1], chain.pools[0].columns.shape[1])
    chain.synapse = _Synapse(node.name, _through_pools(chain, weight), bias, in_shape, "dense")
    chain.notes[node.name] = "average pool before it merged into the weights" if chain.pools else ""
    chain.pools = []


def _through_pools(chain: _Chain, weight: FloatArray) -> FloatArray:
    """Weights on the maps before the waiting pools, from weights on those behind them."""
    for pool in reversed(chain.pools):
        maps = weight.reshape(weight.shape[0], -1, pool.rows.shape[0], pool.columns.shape[0])
        maps = np.einsum("ochw,hH,wW->ocHW", maps, pool.rows, pool.columns, optimize=True)
        weight = maps.reshape(weight.shape[0], -1)
    return weight


def _neuron(node: Node, op: ir.Neuron, chain: _Chain) -> None:
    synapse = chain.synapse
    if synapse is None:
        raise UnsupportedInContext("does not follow a convolution or a linear layer")
    rule = normalise(op)
    chain.stages.append(
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
    chain.notes[node.name] = (
        f"leak {rule.leak:.6g} becomes {rule.v_decay}/4096, off by {100 * rule.leak_error:.2g} %"
        if rule.leak_error
        else ""
    )
    chain.synapse, chain.flat = None, False
    chain.shape = node.signal.features


# -- pools and gates --------------------------------------------------------------------------------------


def _gate(node: Node, op: ir.TCJA, chain: _Chain) -> None:
    if not _spikes(chain) or len(chain.shape) != 3:
        raise UnsupportedInContext("a gate needs the spikes of a layer before it")
    channels, height, width = chain.shape
    pool, note = None, "integer weights and a table; its window adds T - 1 steps"
    if chain.pools:
        kernels = [p.kernel for p in chain.pools if p.kernel is not None and p.kernel == p.stride]
        sizes = [prod(k[axis] for k in kernels) for axis in (0, 1)]
        height, width = chain.pools[0].rows.shape[1], chain.pools[0].columns.shape[1]
        tiled = len(kernels) == len(chain.pools) and height % sizes[0] == 0 and width % sizes[1] == 0
        if not tiled:
            raise UnsupportedInContext(
                "follows an average pool that does not divide the map; its means would differ"
            )
        pool = SpatialPool("sum", (sizes[0], sizes[1]), (sizes[0], sizes[1]))
        note += "; the average pool before it is done after it, which is the same"
    chain.stages.append(FloatGate(node.name, (channels, height, width), op, pool, node.name))
    chain.pools = []
    chain.notes[node.name] = note


def _max_pool(node: Node, op: ir.MaxPool2d, chain: _Chain) -> None:
    if chain.pools:
        raise UnsupportedInContext("follows an average pool")
    if chain.synapse is not None:
        raise UnsupportedInContext(
            f"pools the real numbers of {chain.synapse.node}; only spikes and gated spikes can be pooled"
        )
    last = chain.stages[-1] if chain.stages else None
    if isinstance(last, FloatGate):
        if last.pool is not None or op.padding != (0, 0):
            raise UnsupportedInContext("a gate can only be followed by one pool without padding")
        chain.stages[-1] = replace(last, pool=SpatialPool("max", op.kernel, op.stride), pooled=node.name)
        chain.notes[node.name] = f"inside the gate {last.name}"
    elif _spikes(chain):
        chain.stages.append(or_pool(node.name, chain.shape, op.kernel, op.stride, op.padding))
        chain.notes[node.name] = "a layer that fires if any spike falls into its window"
    else:
        raise UnsupportedInContext(
            "pools the input; only spikes and gated spikes can be pooled by their maximum"
        )
    chain.shape = node.signal.features


def _average_pool(node: Node, op: ir.AvgPool2d | ir.AdaptiveAvgPool2d, chain: _Chain) -> None:
    if chain.synapse is not None:
        raise UnsupportedInContext(
            f"pools the real numbers of {chain.synapse.node}; only spikes and payloads can be pooled"
        )
    height, width = chain.shape[1:]
    shape, chain.shape = (height, width), node.signal.features
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
    if not chain.stages:  # object arrays of fractions, so that the composition is exact
        arrays = [np.array(axis, dtype=object) for axis in exact]
        chain.host = (
            [new @ old for new, old in zip(arrays, chain.host, strict=True)] if chain.host else arrays
        )
        chain.notes[node.name] = "on the host, in integers"
        return
    last = chain.stages[-1]
    if isinstance(last, FloatGate) and last.pool is None and not chain.pools and kernel and padding == (0, 0):
        chain.stages[-1] = replace(last, pool=SpatialPool("sum", kernel, stride), pooled=node.name)
        chain.notes[node.name] = f"as sums inside the gate {last.name}"
        return
    matrices = [np.array([[float(v) for v in row] for row in axis]) for axis in exact]
    chain.pools.append(_Pool(matrices[0], matrices[1], kernel, stride, padding))
    chain.notes[node.name] = "merged into the weights after it"


def _readout(chain: _Chain) -> Readout:
    """What stands after the last spiking layer, as one linear map with vote and mean."""
    synapse = chain.synapse
    if synapse is not None and synapse.kind == "conv":
        raise UnsupportedInContext(f"the network ends with the convolution {synapse.node} without a neuron")
    weight, bias = (None, None) if synapse is None else (synapse.weight, synapse.bias)
    if synapse is not None:
        chain.notes[synapse.node] = "in floating point on the host"
    if chain.pools:
        size = prod(chain.shape)
        if (
            size * chain.shape[0] * chain.pools[0].rows.shape[1] * chain.pools[0].columns.shape[1]
            > MAX_READOUT
        ):
            raise UnsupportedInContext("the average pool at the end is too large for the host's matrix")
        weight = _through_pools(chain, np.eye(size))
    return Readout(weight, bias, chain.vote, chain.time_mean)
