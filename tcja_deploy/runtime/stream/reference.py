"""The sequence form with the stream's kernels: layer by layer over the window, each op frame by frame.

Kernels over T frames at once may add up in another order than kernels over one frame, and so round differently.
Compared with this run, a stream has to be equal bit for bit.
"""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from tcja_deploy.ir import Graph, Node
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.sequence import Observer, as_frames, evaluate
from tcja_deploy.runtime.stream.cells import aligned, plain
from tcja_deploy.runtime.stream.gate import channelwise, fuse, squeeze, temporal

__all__ = ["run_by_frame"]


def run_by_frame(graph: Graph, frames: Tensor | NDArray[Any], *, observe: Observer | None = None) -> Tensor:
    """Run a graph over a window as `runtime.sequence.run` does, with kernels that see one frame at a time.

    Raises:
        DataError: If the frames do not have the shape that the graph expects.
    """
    values: dict[str, Tensor] = {}
    with torch.inference_mode():
        x = as_frames(graph, frames)
        for node in graph:
            inputs = [values[name] for name in node.inputs] if node.inputs else [x]
            values[node.name] = _evaluate(graph, node, inputs)
            if observe is not None:
                observe(node, values[node.name])
        return values[graph.output]


def _evaluate(graph: Graph, node: Node, inputs: list[Tensor]) -> Tensor:
    op, signals = aligned(node.op), graph.signals_in(node)
    if isinstance(op, ir.TCJA):
        return _tcja(op, inputs[0])
    if isinstance(op, ir.TimeMean):
        return sum(inputs[0][1:], start=inputs[0][0]) / graph.T
    by_frame = not op.acts_on_time(*signals) or op.elementwise
    if op.stateful or not (by_frame and node.signal.streams and any(s.streams for s in signals)):
        return evaluate(op, *inputs)
    frames = [
        evaluate(op, *(plain(x[t : t + 1]) if s.streams else x for x, s in zip(inputs, signals, strict=True)))
        for t in range(graph.T)
    ]
    return torch.cat(frames)


def _tcja(op: ir.TCJA, x: Tensor) -> Tensor:
    T = len(x)
    z = torch.stack([squeeze(plain(frame)) for frame in x])
    cm = tm = None
    if op.cla is not None:
        cla = torch.tensor(op.cla)
        cm = torch.zeros_like(z)
        for n in range(T):
            cm = cm + channelwise(z[n : n + 1], cla[:, n, None])
    if op.tla is not None:
        tla, (left, right) = torch.tensor(op.tla), ir.same_padding(op.k_t)
        padded = torch.cat([torch.zeros(left, *z.shape[1:]), z, torch.zeros(right, *z.shape[1:])])
        tm = torch.stack([temporal(plain(padded[j : j + op.k_t]), tla) for j in range(T)])
    gates = [fuse(op, None if tm is None else tm[j], None if cm is None else cm[j]) for j in range(T)]
    return torch.stack([frame * gate[..., None, None] for frame, gate in zip(x, gates, strict=True)])
