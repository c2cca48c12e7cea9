"""Folding batch normalisation into the weights before it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tcja_deploy.ir import Graph, GraphBuilder, Op
from tcja_deploy.ir.ops import BatchNorm1d, BatchNorm2d, Conv2d, ConvTranspose2d, Linear

__all__ = ["fold_batch_norm", "foldable"]


def foldable(graph: Graph) -> dict[str, str]:
    """Each batch normalisation that reads weights whose result nothing else reads, with the name of these weights."""
    found = {}
    for node in graph:
        if isinstance(node.op, BatchNorm1d | BatchNorm2d):
            before = graph[node.inputs[0]]
            fits = isinstance(
                before.op, Linear if isinstance(node.op, BatchNorm1d) else Conv2d | ConvTranspose2d
            )
            if fits and len(graph.readers(before.name)) == 1:
                found[node.name] = before.name
    return found


def fold_batch_norm(graph: Graph) -> Graph:
    """Merge each batch normalisation that follows a convolution or linear layer into its weights and bias.

    `w' = w k`, `b' = beta + (b - mean) k` with `k = gamma / sqrt(var + eps)`, computed in float64 and rounded once to
    float32. The function stays the same up to that rounding; a membrane within rounding of the threshold may change sides.
    The merged node keeps the name of the weights. A layer whose result is read elsewhere too stays as it is, and so does a
    normalisation without weights before it.
    """
    merged = foldable(graph)
    builder = GraphBuilder(graph.T)
    renamed: dict[str, str] = {}
    for node in graph:
        inputs = [renamed.get(name, name) for name in node.inputs]
        norm = next((n for n, weights in merged.items() if weights == node.name), None)
        if node.name in merged:
            renamed[node.name] = merged[node.name]
        elif norm is not None:
            builder.add(node.name, _merge(node.op, graph[norm].op), *inputs)
        else:
            builder.add(node.name, node.op, *inputs)
    return builder.finish(renamed.get(graph.output, graph.output), graph.source)


def _merge(op: Op, norm: Op) -> Op:
    if not isinstance(op, Conv2d | ConvTranspose2d | Linear) or not isinstance(
        norm, BatchNorm1d | BatchNorm2d
    ):
        raise TypeError(f"{type(norm).__name__} cannot be folded into {type(op).__name__}")
    k, offset = norm.scale_offset()
    weight = op.weight.astype(np.float64)
    if isinstance(op, ConvTranspose2d):
        groups = weight.reshape(op.groups, -1, *weight.shape[1:])
        weight = (groups * k.reshape(op.groups, 1, -1, 1, 1)).reshape(weight.shape)
    else:
        weight = weight * k.reshape(-1, *(1,) * (weight.ndim - 1))
    bias = offset if op.bias is None else offset + op.bias * k
    return replace(op, weight=weight.astype(np.float32), bias=bias.astype(np.float32))
