"""What the host does at the end of a graph: linear maps of each frame, the mean over time, one function of the result."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

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
        source: The node whose value they start from.
    """

    graph: Graph
    nodes: tuple[str, ...]
    source: str

    def readout(self) -> Readout:
        """All of it as one linear map, mean and function.

        Raises:
            Unsupported: If the linear map is too large for a matrix.
        """
        nodes = [self.graph[name] for name in self.nodes]
        linear = [n.op for n in nodes if not _mean(n) and not isinstance(n.op, ir.Sigmoid)]
        shape = self.graph[self.source].signal.features
        weight = bias = None
        if any(not isinstance(op, ir.Flatten | ir.Reshape) for op in linear):
            size = prod(shape)
            if size * size > MAX_READOUT:
                raise Unsupported("the readout at the end is too large for the host's matrix")
            zero = _through(linear, np.zeros((1, 1, *shape), np.float32))[0]
            rows = _through(linear, np.eye(size, dtype=np.float32).reshape(1, size, *shape))
            weight, bias = (rows - zero).T.astype(np.float64), zero.astype(np.float64)
            bias = bias if bias.any() else None
        time_mean = any(_mean(node) for node in nodes)
        squashed = any(isinstance(n.op, ir.Sigmoid) for n in nodes)
        return Readout(weight, bias, 1, time_mean, "sigmoid" if squashed else None)


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


def _through(ops: list[Op], frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the ops make of frames `[1, B, ...]`, `[B, K]`."""
    for op in ops:
        frames = op.apply(frames)
    flat: NDArray[np.float32] = frames.reshape(frames.shape[1], -1)
    return flat
