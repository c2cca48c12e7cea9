"""Recognising TCJA blocks by what they compute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from tcja_deploy.ir import Graph, GraphBuilder, Node
from tcja_deploy.ir.op import Array
from tcja_deploy.ir.ops import (
    TCJA,
    AdaptiveAvgPool2d,
    Add,
    AvgPool2d,
    Conv1d,
    Flatten,
    Mul,
    Permute,
    Reduce,
    Reshape,
    Sigmoid,
    same_padding,
)
from tcja_deploy.ir.ops.numeric import float32

__all__ = ["recognise_tcja", "written_out"]

_LAYOUT = Permute | Reshape | Flatten
"""Ops that move values without changing them."""


def recognise_tcja(graph: Graph) -> Graph:
    """Replace `x * sigmoid(TLA(mean(x)) (* or +) CLA(mean(x)))`, written with generic ops, by one TCJA node each.

    Names of classes and attributes, the order of permutations, the place of singleton axes and the way the mean is taken do not
    matter: an axis is followed by what it is (time, samples, channels), and a Conv1d along time that mixes channels is TLA, one
    along channels that mixes time is CLA. A match counts only if the TCJA op then gives the same result on random input, which
    settles what axes of equal length leave open. A block with biases, strides, groups or other padding than "same" stays as
    generic ops. The node takes the name of the module that held the block.
    """
    found = {node.name: block for node in graph if (block := _match(graph, node)) is not None}
    builder = GraphBuilder(graph.T)
    name_of: dict[str, str] = {}
    taken = {n.name for n in graph} - set(found)
    for node in graph:
        if node.name in found:
            block = found[node.name]
            module = node.name.rpartition(".")[0]
            name = module if module and module not in taken else node.name
            taken.add(name)
            name_of[node.name] = builder.add(name, block.op, name_of[block.x])
        else:
            name_of[node.name] = builder.add(node.name, node.op, *(name_of[i] for i in node.inputs))
    return builder.finish(name_of[graph.output], graph.source)


def written_out(graph: Graph) -> list[str]:
    """Names of the products that end a TCJA block in generic ops."""
    return [node.name for node in graph if _match(graph, node) is not None]


@dataclass(frozen=True)
class _Block:
    x: str
    op: TCJA


def _match(graph: Graph, node: Node) -> _Block | None:
    """The block whose final product a node is."""
    if not isinstance(node.op, Mul) or len(node.inputs) != 2:
        return None
    for x, gate in (node.inputs, node.inputs[::-1]):
        dims = graph[x].signal.dims
        if len(dims) == 5 and dims[:2] == ("T", "N") and graph[gate].signal.dims == (*dims[:3], 1, 1):
            op = _gate(graph, gate, x)
            if op is not None and _same_result(graph, node, x, op):
                return _Block(x, op)
    return None


def _same_result(graph: Graph, node: Node, x: str, op: TCJA) -> bool:
    """Whether the generic ops between `x` and a node compute what the block computes.

    The input is scaled so that the sigmoid's argument is of the order of 1: gates of small weights are all close to one half,
    and would look alike.
    """
    root = _skip_layout(graph, x)
    frames = np.random.default_rng(0).uniform(0, 1, graph[x].signal.shape(graph.T, 2))
    argument = op.joint(*op.maps(float32(frames.mean((3, 4)))))
    size = float(np.sqrt(np.square(argument, dtype=np.float64).mean()))
    order = 2 if op.fusion == "multiply" and op.tla is not None and op.cla is not None else 1
    scale = size ** (-1 / order) if size > 0 else 1.0
    values = {
        root.name: float32(scale * np.random.default_rng(1).uniform(0, 1, root.signal.shape(graph.T, 2)))
    }

    def value(name: str) -> Array:
        if name not in values:
            inner = graph[name]
            values[name] = inner.op.apply(*(value(i) for i in inner.inputs))
        return values[name]

    return np.allclose(value(node.name), op.apply(value(x)), rtol=1e-4, atol=1e-6 * scale)


def _skip_layout(graph: Graph, name: str) -> Node:
    """The node before any number of moves of axes."""
    node = graph[name]
    while isinstance(node.op, _LAYOUT):
        node = graph[node.inputs[0]]
    return node


def _gate(graph: Graph, name: str, x: str) -> TCJA | None:
    outer = _skip_layout(graph, name)
    if not isinstance(outer.op, Sigmoid):
        return None
    joint = _skip_layout(graph, outer.inputs[0])
    branches = list(joint.inputs) if isinstance(joint.op, Mul | Add) else [joint.name]
    fusion: Literal["multiply", "add"] = "add" if isinstance(joint.op, Add) else "multiply"
    maps = [_map(graph, branch, x) for branch in branches]
    kinds = sorted(kind for kind, _ in (m for m in maps if m is not None))
    if None in maps or kinds not in (["cla"], ["cla", "tla"], ["tla"]):
        return None
    weights = {m[0]: m[1].weight for m in maps if m is not None}
    return TCJA(tla=weights.get("tla"), cla=weights.get("cla"), fusion=fusion)


def _map(graph: Graph, name: str, x: str) -> tuple[str, Conv1d] | None:
    """A 1-D convolution over the squeezed `x`: its kind and op."""
    node = _skip_layout(graph, name)
    op = node.op
    if not isinstance(op, Conv1d) or op.bias is not None or (op.stride, op.dilation, op.groups) != (1, 1, 1):
        return None
    if op.padding != same_padding(op.weight.shape[2]) or not _is_squeeze(graph, node.inputs[0], x):
        return None
    channels = graph[x].signal.dims[2]
    dims = graph[node.inputs[0]].signal.dims
    if dims == ("N", channels, "T") and op.weight.shape[0] == channels:
        return "tla", op
    if dims == ("N", "T", channels) and op.weight.shape[0] == graph.T:
        return "cla", op
    return None


def _is_squeeze(graph: Graph, name: str, x: str) -> bool:
    """Whether a value is made of `x` by means alone; that they are over space, the comparison of results tells."""
    root = _skip_layout(graph, x)
    node = graph[name]
    while node is not root:
        mean = isinstance(node.op, AdaptiveAvgPool2d | AvgPool2d)
        mean = mean or (isinstance(node.op, Reduce) and node.op.how == "mean")
        if not mean and not isinstance(node.op, _LAYOUT):
            return False
        node = graph[node.inputs[0]]
    return True
