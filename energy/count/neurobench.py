"""The metrics of NeuroBench, by its own definitions (Yik et al., Nat. Commun. 16:1545, 2025, arXiv 2304.04640).

They differ from the counts of the conventions here in the definition of an operation: zero weights cause none; a call
whose inputs are all -1, 0 or 1 causes accumulations, any other call multiply-accumulates. A call is one recording at one
time step (or one window, if a layer sees the whole window). Biases, normalisation, pooling, neurons and gates are left
out. The metrics need a separate pass over the recordings, since kept counts do not distinguish zero weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tcja_deploy.ir import Graph, Node
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.activity.collect import LabelledFrames, Progress
from tcja_deploy.runtime.predictions import predictions
from tcja_deploy.runtime.sequence import evaluate, run

__all__ = ["NeuroBenchMetrics", "neurobench_metrics"]

_COUNTED = (ir.Conv1d, ir.Conv2d, ir.Linear)
"""The ops that NeuroBench counts as connections, besides recurrent layers."""


@dataclass(frozen=True)
class NeuroBenchMetrics:
    """Metrics of a network over recordings; operations are means per recording.

    Attributes:
        parameters: Number of stored weights and biases, with batch normalisation folded.
        footprint: Bytes that they take as float32.
        connection_sparsity: Share of zero weights, rounded to four decimals as NeuroBench does.
        activation_sparsity: Share of neuron-steps without a spike; 0 where there are no neurons.
        effective_macs: Multiply-accumulates with non-zero inputs and weights.
        effective_acs: Accumulations with non-zero inputs and weights.
        dense: Operations if all inputs and weights were non-zero; padding is left out.
        accuracy: Share of correct predictions; `None` without labels.
        left_out: Layers with weights that NeuroBench does not count.
        recordings: Number of recordings that were run.
    """

    parameters: int
    footprint: int
    connection_sparsity: float
    activation_sparsity: float
    effective_macs: float
    effective_acs: float
    dense: float
    accuracy: float | None
    left_out: tuple[str, ...]
    recordings: int

    @property
    def results(self) -> dict[str, Any]:
        """The metrics as NeuroBench's `Benchmark.run` returns them, by the names of its classes."""
        found: dict[str, Any] = {
            "Footprint": self.footprint,
            "ParameterCount": self.parameters,
            "ConnectionSparsity": self.connection_sparsity,
            "ActivationSparsity": self.activation_sparsity,
            "SynapticOperations": {
                "Effective_MACs": self.effective_macs,
                "Effective_ACs": self.effective_acs,
                "Dense": self.dense,
            },
        }
        return found if self.accuracy is None else {"ClassificationAccuracy": self.accuracy, **found}


@dataclass
class _Sums:
    macs: float = 0.0
    acs: float = 0.0
    dense: float = 0.0
    silent: int = 0
    sites: int = 0
    right: int = 0
    labelled: int = 0


def neurobench_metrics(
    graph: Graph, data: LabelledFrames, *, progress: Progress | None = None
) -> NeuroBenchMetrics:
    """Run a network recording by recording and measure it as NeuroBench does.

    Args:
        graph: The network; fold its batch normalisation first.
        data: Recordings as the network takes them.
        progress: Called with the number of recordings done.

    Raises:
        DataError: If the data do not fit the network.
    """
    neurons = {node.name for node in graph.neurons}
    connections = [node for node in graph if isinstance(node.op, (*_COUNTED, ir.TCJA))]
    sources = {node.inputs[0] for node in connections}
    sums = _Sums()
    for index in range(len(data)):
        frames, label = data[index]
        values: dict[str, Tensor] = {}

        def seen(node: Node, value: Tensor, values: dict[str, Tensor] = values) -> None:
            if node.name in neurons:
                sums.silent += value.numel() - int(torch.count_nonzero(value))
                sums.sites += value.numel()
            if node.name in sources:
                values[node.name] = value

        output = run(graph, frames[:, None], observe=seen)
        with torch.inference_mode():
            for node in connections:
                _add(sums, node, graph, values[node.inputs[0]])
        if label is not None and len(graph[graph.output].signal.features) == 1:
            streams = graph[graph.output].signal.streams
            sums.right += int(predictions(output.numpy(), streams)[0] == label)
            sums.labelled += 1
        if progress is not None:
            progress(index + 1)
    kernels = [kernel for node in connections for kernel in _kernels(node)]
    weights = sum(k.size for k in kernels)
    zeros = weights - sum(int(np.count_nonzero(k)) for k in kernels)
    n = len(data)
    return NeuroBenchMetrics(
        parameters=graph.parameters,
        footprint=4 * graph.parameters,
        connection_sparsity=round(zeros / weights, 4) if weights else 0.0,
        activation_sparsity=sums.silent / sums.sites if sums.sites else 0.0,
        effective_macs=sums.macs / n,
        effective_acs=sums.acs / n,
        dense=sums.dense / n,
        accuracy=sums.right / n if sums.labelled == n else None,
        left_out=tuple(x.name for x in graph if x.op.synaptic and not isinstance(x.op, _COUNTED)),
        recordings=n,
    )


def _kernels(node: Node) -> list[np.ndarray[Any, Any]]:
    if isinstance(node.op, ir.TCJA):
        return [k for k in (node.op.tla, node.op.cla) if k is not None]
    weight = node.op.constants()["weight"]
    return [] if weight is None else [weight]


def _add(sums: _Sums, node: Node, graph: Graph, x: Tensor) -> None:
    """Add the operations of one layer in one recording, call by call."""
    for calls, effective, dense in _calls(node, graph, x):
        per_call = effective.double().reshape(len(calls), -1).sum(1)
        spiking = ((calls == 0) | (calls == 1) | (calls == -1)).reshape(len(calls), -1).all(1)
        sums.acs += float(per_call[spiking].sum())
        sums.macs += float(per_call[~spiking].sum())
        sums.dense += float(dense.double().sum())


def _calls(node: Node, graph: Graph, x: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """For each tensor of weights: its inputs by call, and its effective and dense operations by call."""
    if isinstance(node.op, ir.TCJA):
        z = x.permute(1, 0, 2, 3, 4).mean((3, 4))  # [1, T, C]
        for kernel, squeezed, size in (
            (node.op.tla, z.permute(0, 2, 1), node.op.k_t),
            (node.op.cla, z, node.op.k_c),
        ):
            if kernel is not None:
                weight, pad = torch.tensor(kernel != 0, dtype=torch.float32), ir.same_padding(size)
                effective = F.conv1d(F.pad((squeezed != 0).float(), pad), weight)
                dense = F.conv1d(F.pad(torch.ones_like(squeezed), pad), torch.ones_like(weight))
                yield squeezed, effective, dense
        return
    weight = node.op.constants()["weight"]
    if weight is None:
        return
    met = replace(node.op, weight=(weight != 0).astype(np.float32), bias=None)  # type: ignore[call-arg]
    whole = replace(node.op, weight=np.ones_like(weight), bias=None)  # type: ignore[call-arg]
    streams = graph[node.inputs[0]].signal.streams
    calls = x if streams else x[None]
    yield calls, evaluate(met, (x != 0).float()), evaluate(whole, torch.ones_like(x))
