"""TCJA gates as constants: their calibrated mean over time, folded into the weights after them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from tcja_deploy.errors import DataError, UnsupportedError
from tcja_deploy.ir import Graph, GraphBuilder, Node
from tcja_deploy.ir import ops as ir
from tcja_deploy.ir.op import Array
from tcja_deploy.passes import Prepared, prepare
from tcja_deploy.runtime.agreement import Agreement
from tcja_deploy.runtime.compare import compare
from tcja_deploy.runtime.sequence import run, run_with_spikes
from tcja_deploy.unsupported import Unsupported, UnsupportedParts

__all__ = ["divergence", "fold_gates", "mean_gates", "with_gates"]


def mean_gates(graph: Graph, batches: Iterable[NDArray[np.float32]]) -> dict[str, Array]:
    """Mean of each TCJA gate over samples and time steps, one number per channel.

    Args:
        graph: The network.
        batches: Calibration frames `[T, n, ...]`.

    Returns:
        Means `[C]` by block name.

    Raises:
        DataError: If there are no frames.
    """
    blocks = [(node.name, node.inputs[0], node.op) for node in graph if isinstance(node.op, ir.TCJA)]
    sums: dict[str, NDArray[np.float64]] = {}
    count = 0

    def observe(node: Node, value: torch.Tensor) -> None:
        for name, source, op in blocks:
            if source == node.name:
                gate = op.gate(value.mean((3, 4)).numpy())
                sums[name] = sums.get(name, 0.0) + gate.sum((0, 1), dtype=np.float64)

    for frames in batches:
        run(graph, frames, observe=observe)
        count += graph.T * frames.shape[1]
    if not count:
        raise DataError(
            "there are no frames to calibrate on", hint="pass --data with recordings like those you will run"
        )
    return {name: (total / count).astype(np.float32) for name, total in sums.items()}


def fold_gates(graph: Graph, gates: Mapping[str, Array]) -> Graph:
    """The network with each TCJA block replaced by a constant factor per channel, folded into the weights after it.

    A positive factor that is constant over space passes through pooling and flattening: `pool(f x) = f pool(x)`.

    Args:
        graph: The network.
        gates: Positive factors `[C]` by block name, for every block.

    Raises:
        UnsupportedError: If anything other than weights reads a block's result, directly or through pooling or
            flattening.
    """
    builder, found = GraphBuilder(graph.T), UnsupportedParts()
    renamed: dict[str, str] = {}
    factors: dict[str, Array] = {}  # by value: one number per channel or, after a flattening, per feature
    for node in graph:
        op, factor = node.op, next((factors[i] for i in node.inputs if i in factors), None)
        inputs = [renamed.get(i, i) for i in node.inputs]
        if isinstance(op, ir.TCJA):
            renamed[node.name] = inputs[0]
            gate = gates[node.name]
            factors[node.name] = gate if factor is None else gate * factor
            continue
        if factor is not None:
            if isinstance(op, ir.MaxPool2d | ir.AvgPool2d | ir.AdaptiveAvgPool2d):
                factors[node.name] = factor
            elif isinstance(op, ir.Flatten):
                factors[node.name] = np.repeat(factor, node.signal.size // len(factor))
            elif isinstance(op, ir.Conv2d | ir.Linear):
                op = replace(op, weight=_scaled(op, factor))
            else:
                found.add(
                    node.name,
                    Unsupported(
                        f"{type(op).__name__} reads a gated value: the mean gate has no weights to fold into"
                    ),
                )
        builder.add(node.name, op, *inputs)
    if graph.output in factors:
        found.add(graph.output, Unsupported("is the result and a gated value: there are no weights after it"))
    found.raise_if_any(
        UnsupportedError,
        "mean gates cannot stand in for {}",
        noun="gate",
        hint="use gate='split' (--gate split)",
    )
    return builder.finish(renamed.get(graph.output, graph.output), graph.source)


def with_gates(network: Prepared, gates: Mapping[str, Array]) -> Graph:
    """The folded network, with constants in place of its gates if any are given. Errors as for `fold_gates`."""
    return prepare(fold_gates(network.trained, gates)).folded if gates else network.folded


def _scaled(op: ir.Conv2d | ir.Linear, factor: Array) -> Array:
    """Weights with each input channel multiplied by its factor; computed in float64 and rounded once."""
    weight = op.weight.astype(np.float64)
    if isinstance(op, ir.Linear):
        return (weight * factor).astype(np.float32)
    groups = weight.reshape(op.groups, -1, *weight.shape[1:])
    scaled = groups * factor.reshape(op.groups, 1, -1, 1, 1)
    return scaled.reshape(weight.shape).astype(np.float32)


def divergence(graph: Graph, other: Graph, batches: Sequence[NDArray[np.float32]]) -> Agreement:
    """Spike-for-spike agreement of a network with constant gates and the trained one; the bound is 0."""
    total = Agreement((), 0, 0, 0.0, 0.0)
    for frames in batches:
        result = run_with_spikes(other, frames)
        total += compare(graph, frames, *result, bound=0.0, first_sample=total.samples)
    return total
