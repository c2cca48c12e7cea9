"""The host's part at the end of a graph: linear maps of each frame, the mean over time, one function of the result."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from tcja_deploy.exporters.lava.averages import AveragePool, before_matrix
from tcja_deploy.exporters.lava.float_graph import FloatArray
from tcja_deploy.ir import Graph, Node, Op
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.integers.network import Readout
from tcja_deploy.unsupported import Unsupported

__all__ = ["HostTail", "host_tail"]

MAX_READOUT = 1 << 26


@dataclass(frozen=True, slots=True)
class HostTail:
    """The last nodes of a graph.

    Attributes:
        graph: The graph.
        nodes: Their names in order.
        source: The node whose value they read.
    """

    graph: Graph
    nodes: tuple[str, ...]
    source: str

    def readout(self) -> Readout:
        """All nodes together as one linear map, a vote, a mean and a function.

        Raises:
            Unsupported: If the linear map is too large for a matrix.
        """
        nodes = [self.graph[name] for name in self.nodes]
        squashed = any(isinstance(n.op, ir.Sigmoid) for n in nodes)
        linear = [n.op for n in nodes if not _mean(n) and not isinstance(n.op, ir.Sigmoid)]
        vote = 1
        if linear and isinstance(last := linear[-1], ir.Vote):
            vote, linear = last.voters, linear[:-1]
        weight = bias = None
        if any(not isinstance(op, ir.Flatten) for op in linear):
            weight, bias = _matrix(linear, self.graph[self.source].signal.features)
        time_mean = any(_mean(node) for node in nodes)
        return Readout(weight, bias, vote, time_mean, "sigmoid" if squashed else None)


def host_tail(graph: Graph) -> HostTail:
    """The longest end of a graph that the host can do."""
    names: list[str] = []
    node = graph[graph.output]
    while _hosted(node, names) and (node.name == graph.output or len(graph.readers(node.name)) == 1):
        names.insert(0, node.name)
        node = graph[node.inputs[0]]
    return HostTail(graph, tuple(names), node.name)


def _mean(node: Node) -> bool:
    op = node.op
    return isinstance(op, ir.TimeMean) or (
        isinstance(op, ir.Reduce) and op.how == "mean" and op.axes == (0,) and not node.signal.streams
    )


def _hosted(node: Node, after: list[str]) -> bool:
    if isinstance(node.op, ir.Sigmoid):
        return not after
    linear = ir.Flatten | ir.Linear | ir.Vote | ir.AvgPool2d | ir.AdaptiveAvgPool2d
    keeps_samples = node.signal.dims[:2] == ("T", "N") or node.signal.dims[:1] == ("N",)
    return _mean(node) or (isinstance(node.op, linear) and keeps_samples)


def _matrix(ops: list[Op], shape: tuple[int, ...]) -> tuple[FloatArray, FloatArray | None]:
    """Weights `[K, n]` and bias `[K]` of consecutive ops on frames of a given shape.

    Raises:
        Unsupported: If the weights, or those on the frames of an op in between, take too much memory.
    """
    bias, shapes = np.zeros((1, *shape)), []
    for op in ops:
        shapes.append(bias.shape[1:])
        bias = _image(op, bias)
        if isinstance(op, ir.Linear) and op.bias is not None:
            bias = bias + op.bias
    weight: FloatArray | None = (
        None  # on the frames after the op, `[K, n]`; there are few outputs and many inputs
    )
    for op, before, after in zip(
        reversed(ops), reversed(shapes), reversed([*shapes[1:], bias.shape[1:]]), strict=True
    ):
        outputs = prod(after) if weight is None else len(weight)
        if outputs * max(prod(before), prod(after)) > MAX_READOUT:
            raise Unsupported("the readout at the end is too large for the host's matrix")
        if isinstance(op, ir.AvgPool2d | ir.AdaptiveAvgPool2d):
            kept = np.eye(outputs) if weight is None else weight
            weight = before_matrix((AveragePool.of("", op, *before[-2:]),), kept)
        elif not isinstance(op, ir.Flatten):
            own = (
                op.weight.astype(np.float64)
                if isinstance(op, ir.Linear)
                else _image(op, np.eye(before[-1])).T
            )
            if weight is None and len(after) == 1:
                weight = own
            else:
                kept = np.eye(outputs) if weight is None else weight
                weight = (kept.reshape(outputs, *after) @ own).reshape(outputs, -1)
    return np.zeros((0, 0)) if weight is None else weight, bias.ravel() if bias.any() else None


def _image(op: Op, frames: FloatArray) -> FloatArray:
    """The linear part of an op applied to frames `[B, ...]`."""
    if isinstance(op, ir.Linear):
        return np.asarray(frames @ op.weight.T.astype(np.float64))
    if isinstance(op, ir.AvgPool2d | ir.AdaptiveAvgPool2d):
        return AveragePool.of("", op, *frames.shape[-2:]).apply(frames)
    if isinstance(op, ir.Vote):
        classes = frames.shape[-1] // op.voters
        groups = frames[..., : classes * op.voters].reshape(*frames.shape[:-1], classes, op.voters)
        return np.asarray(groups.mean(-1))
    return frames.reshape(len(frames), -1)
