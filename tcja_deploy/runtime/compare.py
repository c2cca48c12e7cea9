"""Comparing a run of a network with the sequence runtime, spike for spike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tcja_deploy.ir import Graph, Node, Op
from tcja_deploy.runtime.agreement import (
    Agreement,
    LayerAgreement,
    agreement,
    checked_values,
    layer_agreement,
    samples_that_differ,
    spikes_of,
)
from tcja_deploy.runtime.membranes import Membrane, margin
from tcja_deploy.runtime.sequence import run

__all__ = ["compare"]


def compare(
    graph: Graph,
    frames: NDArray[np.float32],
    output: NDArray[np.float32],
    spikes: Mapping[str, NDArray[Any]],
    *,
    bound: float,
    first_sample: int = 0,
) -> Agreement:
    """Compare another run of a graph with the sequence runtime.

    Args:
        graph: The reference.
        frames: Frames `[T, N, ...]` that the other run was given.
        output: Output of the other run.
        spikes: Its spikes by neuron layer, `[T, N, ...]`.
        bound: Allowed mismatches per neuron-step.
        first_sample: Number of the first sample, for the report.

    Raises:
        DataError: If the other run lacks a layer, or its values have other shapes.
    """
    layers: dict[str, LayerAgreement] = {}
    wrong = np.zeros(frames.shape[1], bool)
    last = {node.inputs[0]: node.name for node in graph.neurons}
    currents: dict[str, torch.Tensor] = {}

    def observe(node: Node, value: torch.Tensor) -> None:
        if node.op.spiking:
            expected = value.numpy()
            other = checked_values(spikes.get(node.name), node.name, expected.shape)
            found, differs = _by_step(node, expected, other, first_sample)
            if found.first is not None:
                n = found.first.sample - first_sample
                if not wrong[n]:
                    before = currents[node.inputs[0]][: found.first.t + 1, n : n + 1]
                    distance = _distance(node.op, before, found.first.index)
                    found = replace(found, first=replace(found.first, distance=distance))
                wrong[:] |= differs
            layers[node.name] = found
            if last[node.inputs[0]] == node.name:
                currents.pop(node.inputs[0], None)
        if node.name in last:
            currents[node.name] = value

    watched = {*last, *(node.name for node in graph.neurons)}
    reference = run(graph, frames, observe=observe, watched=watched).numpy()
    output = checked_values(output, graph.output, reference.shape)
    streams = graph[graph.output].signal.streams
    return agreement(layers.values(), reference, output, wrong, streams=streams, bound=bound)


def _by_step(
    node: Node, expected: NDArray[Any], other: NDArray[Any], first_sample: int
) -> tuple[LayerAgreement, NDArray[np.bool_]]:
    """As `layer_agreement` and `samples_that_differ`, step by step, because flags of a whole window take memory."""
    total, differs = LayerAgreement(node.name, 0, 0, 0, 0), np.zeros(expected.shape[1], np.bool_)
    for t in range(len(expected)):
        a, b = (spikes_of(values[t : t + 1], node.signal.kind) for values in (expected, other))
        found = layer_agreement(node.name, a, b, first_sample, t)
        if found.mismatches:
            differs |= samples_that_differ(a, b)
        total += found
    return total, differs


def _distance(op: Op, currents: torch.Tensor, where: tuple[int, ...]) -> float:
    """Membrane minus threshold of one neuron at the last of the steps of `currents` `[steps, 1, ...]`."""
    if not isinstance(op, Membrane):
        raise TypeError(type(op).__name__)
    return float(margin(op, currents)[(-1, 0, *where)])
