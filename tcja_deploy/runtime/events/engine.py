"""Running a compiled graph on the event engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.ir import Graph, Kind, Node, Op
from tcja_deploy.ir import ops as ir
from tcja_deploy.passes.fold import fold_batch_norm
from tcja_deploy.runtime.events import layer_kernels
from tcja_deploy.runtime.events.gate_kernels import tcja_gate
from tcja_deploy.runtime.events.plan import EventPlan, FusedLayer, compile_graph
from tcja_deploy.runtime.events.values import Dense, EventLists, LayerValue, Spikes, by_frame, has_places
from tcja_deploy.runtime.events.vectors import LANES
from tcja_deploy.runtime.frames import checked_frames
from tcja_deploy.runtime.threads import available_cores, share

__all__ = ["LayerObserver", "run", "run_layer", "run_plan", "step_layer"]

LayerObserver = Callable[[Node, LayerValue], None]
"""Called with every node that has a value of its own, and the value; it must not change it."""

_SMALL = 1 << 20
"""Numbers up to which torch works on one thread: to wake another takes longer, and very much longer beside a busy neighbour."""

_ONES = np.empty(0, np.float32)
"""The values of lists of spikes, for kernels."""


def _in_torch(op: Op, values: list[NDArray[Any]]) -> NDArray[Any]:
    """The value of an op without a kernel, which torch computes."""
    import torch

    from tcja_deploy.runtime.device import tensor_on
    from tcja_deploy.runtime.sequence import evaluate

    before = torch.get_num_threads()
    few = before > 1 and max(value.size for value in values) <= _SMALL
    if few:
        torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            found: NDArray[Any] = evaluate(op, *map(tensor_on, values)).numpy()
            return found
    finally:
        if few:
            torch.set_num_threads(before)


def run_plan(
    plan: EventPlan,
    frames: NDArray[Any],
    *,
    threads: int | None = None,
    observe: LayerObserver | None = None,
) -> NDArray[np.float32]:
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
    x = checked_frames(graph, frames)
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
    plan: EventPlan, node: Node, inputs: list[LayerValue], x: NDArray[np.float32], threads: int
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
        size = node.signal.features[1:]
        if isinstance(op, ir.MaxPool2d):
            return source.pooled(op.kernel, op.stride, op.padding, size)
        if isinstance(op, ir.AvgPool2d) and source.gate is None:
            return source.averaged(op.kernel, op.stride, op.padding, size, margin=op.count_include_pad)
        if isinstance(op, ir.TCJA) and source.gate is None:
            area = np.float32(source.features[1] * source.features[2])
            return source.gated(tcja_gate(op, source.by_channel.astype(np.float32) / area, threads))
    if node.name in plan.neurons:
        return run_neurons(plan.neurons[node.name], source, node.signal.features, threads)
    dense = [value.dense for value in inputs]
    simple = op.elementwise or op.moves_only or node.name in plan.readout
    result = op.apply(*dense) if simple else _in_torch(op, dense)
    if node.signal.kind is Kind.BINARY and has_places(node.signal):
        return Spikes.of(result, threads)
    return Dense(result, threads)


def run_neurons(
    neuron: tuple[Any, ...], source: LayerValue, features: tuple[int, ...], threads: int
) -> Spikes:
    """Run neurons that have no weights of their own over a window, see `plan.neuron_constants`."""
    sums = source.columns
    N, H, W, T, columns = sums.shape
    bits = np.empty((N * H * W, T, columns // LANES), np.uint16)
    share(layer_kernels.spiking_sums, len(bits), threads, sums.reshape(len(bits), T, columns), neuron, bits)
    return Spikes(bits.reshape(N, H, W, *bits.shape[1:]), features[0], threads, features)


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
    return Dense(by_frame(out[..., : layer.outputs], layer.spatial), threads)


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
    width = len(layer.bias) // len(layer.weights) // LANES
    lists = (events.ends, events.index, _ONES if events.scale is None else events.scale, events.when)
    return width, shape, lists, (layer.weights, layer.bias), layer.taps


def run(graph: Graph, frames: NDArray[Any], *, threads: int | None = None) -> NDArray[np.float32]:
    """Run a graph over a window once; compile it with `plan.compile_graph` to run it often."""
    return run_plan(compile_graph(fold_batch_norm(graph)), frames, threads=threads)
