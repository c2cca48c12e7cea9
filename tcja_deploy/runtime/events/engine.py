"""Running a compiled graph on the event engine."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tcja_deploy.ir import Graph, Kind, Node
from tcja_deploy.ir import ops as ir
from tcja_deploy.passes.fold import fold_batch_norm
from tcja_deploy.runtime.events import layer_kernels
from tcja_deploy.runtime.events.plan import EventPlan, FusedLayer, compile_graph
from tcja_deploy.runtime.events.values import Dense, EventLists, LayerValue, Spikes
from tcja_deploy.runtime.events.vectors import LANES
from tcja_deploy.runtime.sequence import as_frames, evaluate, tcja_gate
from tcja_deploy.runtime.threads import available_cores, share

__all__ = ["LayerObserver", "run", "run_layer", "run_plan", "step_layer"]

LayerObserver = Callable[[Node, LayerValue], None]
"""Called with every node that has a value of its own, and the value; it must not change it."""

_SMALL = 1 << 20
"""Numbers up to which torch works on one thread: to wake another takes longer, and very much longer beside a busy neighbour."""


@contextmanager
def _torch_threads(numbers: int) -> Iterator[None]:
    """As many threads of torch's as an op on so many numbers is worth."""
    before = torch.get_num_threads()
    if numbers > _SMALL or before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run_plan(
    plan: EventPlan,
    frames: Tensor | NDArray[Any],
    *,
    threads: int | None = None,
    observe: LayerObserver | None = None,
) -> Tensor:
    """Run a compiled graph over a window.

    Args:
        plan: The compiled graph.
        frames: Frames `[T, N, ...]` of the window (any number type, computed in float32).
        threads: Threads that share the work; `None` for all cores that the process may use. The result does not depend on it.
        observe: Called after each node, except those that run together with the neurons that alone read them.

    Returns:
        The output, shaped like the output signal.

    Raises:
        DataError: If the frames do not have the shape that the graph expects.
    """
    graph, threads = plan.graph, threads or available_cores()
    last_reader = {name: node.name for node in graph for name in node.inputs}
    values: dict[str, LayerValue] = {}
    with torch.inference_mode():
        with _torch_threads(math.prod(frames.shape)):
            x = as_frames(graph, frames)
        for node in graph:
            inputs = [values[name] for name in node.inputs]
            value = _value(plan, node, inputs, x, threads)
            if value is None:  # the neuron after it reads what this node reads
                values[node.name] = inputs[0]
            else:
                values[node.name] = value
                if observe is not None:
                    observe(node, value)
            for name in node.inputs:
                if last_reader[name] == node.name:
                    values.pop(name, None)
        return values[graph.output].dense


def _value(
    plan: EventPlan, node: Node, inputs: list[LayerValue], x: Tensor, threads: int
) -> LayerValue | None:
    op = node.op
    if isinstance(op, ir.Input):
        return Dense(x, threads)
    if node.name in plan.fused:
        return run_layer(plan.layers[plan.fused[node.name]], inputs[0], threads)
    layer = plan.layers.get(node.name)
    if layer is not None:
        return run_layer(layer, inputs[0], threads) if layer.neuron is None else None
    source = inputs[0]
    if isinstance(op, ir.Flatten):
        return source.flattened()
    if isinstance(source, Spikes) and len(source.features) == 3:
        if isinstance(op, ir.MaxPool2d):
            _, height, width = node.signal.features
            return source.pooled(op.kernel, op.stride, op.padding, (height, width))
        if isinstance(op, ir.TCJA) and source.gate is None:
            area = np.float32(source.features[1] * source.features[2])
            z = torch.from_numpy(source.by_channel.astype(np.float32) / area)
            with _torch_threads(z.numel()):
                gate = tcja_gate(op, z)
            return source.gated(np.ascontiguousarray(gate.permute(1, 0, 2).numpy()))
    dense = [value.dense for value in inputs]
    with _torch_threads(max(value.numel() for value in dense)):
        result = evaluate(op, *dense)
    if (
        op.spiking
        and node.signal.kind is Kind.BINARY
        and node.signal.dims[:2] == ("T", "N")
        and result.ndim in (3, 5)
    ):
        return Spikes.of(result, threads)
    return Dense(result, threads)


def run_layer(layer: FusedLayer, source: LayerValue, threads: int) -> LayerValue:
    """Run one compiled layer over a window: spikes, or sums if it has no neurons."""
    events = source.placed(layer.space)
    N, _, _, T, _ = events.shape
    H, W = layer.size
    given = _tables(layer, events)
    features = (layer.outputs, H, W) if layer.spatial else (layer.outputs,)
    if layer.neuron is not None:
        bits = np.zeros((N, H, W, T, -(-layer.outputs // LANES)), np.uint16)
        share(layer_kernels.spiking_layer, N * H, threads, *given, layer.neuron, bits)
        return Spikes(bits, layer.outputs, threads, features)
    out = np.empty((N, H, W, T, len(layer.bias)), np.float32)
    share(layer_kernels.real_layer, N * H, threads, *given, out)
    moved = torch.from_numpy(out)[..., : layer.outputs].permute(3, 0, 4, 1, 2)
    return Dense(moved if layer.spatial else moved[..., 0, 0], threads)


def step_layer(
    layer: FusedLayer,
    source: LayerValue,
    t: int,
    v: NDArray[np.float32],
    seen: NDArray[np.int32],
    threads: int,
) -> Spikes:
    """Run step `t` of a layer with neurons; the membranes `v` and `seen` change (see `layer_kernels.spiking_frame`)."""
    events = source.placed(layer.space)
    H, W = layer.size
    bits = np.zeros((events.shape[0], H, W, 1, -(-layer.outputs // LANES)), np.uint16)
    given = (*_tables(layer, events), layer.neuron, layer.quiet, t, v, seen, bits)
    share(layer_kernels.spiking_frame, len(bits) * H, threads, *given)
    return Spikes(bits, layer.outputs, threads, (layer.outputs, H, W) if layer.spatial else (layer.outputs,))


def _tables(layer: FusedLayer, events: EventLists) -> tuple[Any, ...]:
    """The first arguments of all kernels of layers."""
    shape = (*layer.space, layer.columns, events.shape[3])
    width = (0,) * (len(layer.bias) // len(layer.weights) // LANES)
    lists = (events.ends, events.index, events.scale, events.when)
    return width, shape, lists, (layer.weights, layer.bias), layer.taps


def run(graph: Graph, frames: Tensor | NDArray[Any], *, threads: int | None = None) -> Tensor:
    """Run a graph over a window once; compile it with `plan.compile_graph` to run it often."""
    return run_plan(compile_graph(fold_batch_norm(graph)), frames, threads=threads)
