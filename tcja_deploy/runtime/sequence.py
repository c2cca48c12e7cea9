"""The sequence runtime: a graph over whole windows, layer by layer, on torch. The reference for everything else.

It uses the kernels and the order of operations of SpikingJelly's multi-step mode, so that an unfolded graph gives
exactly the spikes that the traced model gives on the same machine.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from tcja_deploy.errors import DataError
from tcja_deploy.ir import Graph, Node, Op
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.device import CPU, in_cache, tensor_on
from tcja_deploy.runtime.frames import check_shape, checked_frames, not_finite
from tcja_deploy.runtime.membranes import Membrane, integrate

__all__ = [
    "RULES",
    "Observer",
    "as_frames",
    "evaluate",
    "overwriting",
    "run",
    "run_with_spikes",
    "tcja_gate",
    "weigh",
]

Observer = Callable[[Node, Tensor], None]
"""Called with nodes and their values, shaped like the nodes' signals; it must not change a value."""


def run(
    graph: Graph,
    frames: Tensor | NDArray[Any],
    *,
    observe: Observer | None = None,
    watched: Collection[str] | None = None,
) -> Tensor:
    """Run a graph over a window.

    Args:
        graph: The network.
        frames: Frames `[T, N, ...]` of the window (any number type, computed in float32), on the device that is to
            compute (see `runtime.device`).
        observe: Called after each node.
        watched: Names of the nodes after which `observe` is called, if not after all. Values of others make room for those
            after them where that saves memory (see `overwriting`).

    Returns:
        The output, shaped like the output signal.

    Raises:
        DataError: If the frames do not have the shape that the graph expects.
    """
    last_reader = {name: node.name for node in graph for name in node.inputs}
    shown = {node.name for node in graph} if watched is None else watched
    reused = overwriting(graph, shown if observe is not None else ())
    values: dict[str, Tensor] = {}
    with torch.inference_mode():
        x = as_frames(graph, frames)
        for node in graph:
            inputs = [values[name] for name in node.inputs] if node.inputs else [x]
            compute = _overwrite if node.name in reused else evaluate
            values[node.name] = compute(node.op, *inputs)
            if observe is not None and node.name in shown:
                observe(node, values[node.name])
            for name in node.inputs:
                if last_reader[name] == node.name:
                    values.pop(name, None)
        return values[graph.output]


def run_with_spikes(
    graph: Graph, frames: Tensor | NDArray[Any]
) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
    """As `run`: the output, and the spikes `[T, N, ...]` of every neuron layer by its name."""
    spikes: dict[str, NDArray[np.float32]] = {}

    def observe(node: Node, value: Tensor) -> None:
        spikes[node.name] = value.cpu().numpy()

    neurons = [node.name for node in graph if node.op.spiking]
    return run(graph, frames, observe=observe, watched=neurons).cpu().numpy(), spikes


def overwriting(graph: Graph, watched: Collection[str]) -> set[str]:
    """Names of nodes whose values are written over their input's: membranes and batch normalisation.

    The input is then a value that nothing else reads or watches and that shares its memory with no other: one of weights, of
    membranes or of batch normalisation.

    Args:
        graph: The network.
        watched: Names of values that have to stay as they are.
    """
    found: set[str] = set()
    for node in graph:
        if isinstance(node.op, Membrane | ir.BatchNorm2d):
            before = graph[node.inputs[0]]
            alone = len(graph.readers(before.name)) == 1 and before.name not in (*watched, graph.output)
            if alone and (before.op.synaptic or isinstance(before.op, Membrane | ir.BatchNorm2d)):
                found.add(node.name)
    return found


def _overwrite(op: Op, x: Tensor) -> Tensor:
    """As `evaluate`, with the result in place of the input."""
    if isinstance(op, Membrane):
        return integrate(op, x, out=x)[0]
    for frames in _portions(x.view(-1, *x.shape[-3:])):
        frames.copy_(evaluate(op, frames))
    return x


def _portions(frames: Tensor) -> tuple[Tensor, ...]:
    """Frames `[M, C, H, W]` in portions that stay in the cache."""
    return frames.split(max(1, in_cache(frames) // max(1, frames[0].numel()))) if len(frames) else ()


def as_frames(graph: Graph, frames: Tensor | NDArray[Any]) -> Tensor:
    """Frames as a float32 tensor, checked against the graph's input.

    Raises:
        DataError: If they hold no numbers or some that are not finite, or the shape is not `[T, N, ...]` of the graph.
    """
    if isinstance(frames, np.ndarray):
        return tensor_on(checked_frames(graph, frames))
    try:
        x = torch.as_tensor(frames)
    except TypeError as error:
        raise DataError(f"the frames hold no numbers ({error})") from error
    check_shape(graph, x.shape)
    x = x.to(torch.float32)
    finite = not x.numel() or math.isfinite(float(x.sum()))
    if not finite and not math.isfinite(sum(map(float, torch.aminmax(x)))):
        raise not_finite()
    return x


def evaluate(op: Op, *inputs: Tensor) -> Tensor:
    """The value of one op over a window; inputs and result are shaped like their signals."""
    return RULES[type(op)](op, *inputs)


def _integrated(op: Membrane, x: Tensor) -> Tensor:
    return integrate(op, x)[0]


def _bias(a: NDArray[np.float32] | None, device: torch.device) -> Tensor | None:
    return None if a is None else tensor_on(a, device)


def _pad(x: Tensor, padding: tuple[int, int, int, int]) -> tuple[Tensor, tuple[int, int]]:
    """Symmetric padding is left to the kernel; asymmetric padding is done here."""
    top, left, bottom, right = padding
    if (top, left) == (bottom, right):
        return x, (top, left)
    return F.pad(x, (left, right, top, bottom)), (0, 0)


def weigh(
    op: ir.Conv2d | ir.ConvTranspose2d | ir.Linear, x: Tensor, weight: Tensor, bias: Tensor | None
) -> Tensor:
    """The linear map of a layer with other weights of the same shapes; `x` and the result are those of `evaluate`."""
    if isinstance(op, ir.Linear):
        return F.linear(x, weight, bias)
    flat = x.reshape(-1, *x.shape[-3:])
    if isinstance(op, ir.ConvTranspose2d):
        y = F.conv_transpose2d(
            flat, weight, bias, op.stride, op.padding, op.output_padding, op.groups, op.dilation
        )
    else:
        flat, padding = _pad(flat, op.padding)
        y = F.conv2d(flat, weight, bias, op.stride, padding, op.dilation, op.groups)
    return y.view(*x.shape[:-3], *y.shape[1:])


def _weighed(op: ir.Conv2d | ir.ConvTranspose2d | ir.Linear, x: Tensor) -> Tensor:
    return weigh(op, x, tensor_on(op.weight, x.device), _bias(op.bias, x.device))


def _conv1d(op: ir.Conv1d, x: Tensor) -> Tensor:
    lead = x.shape[:-2]
    flat = F.pad(x.reshape(-1, *x.shape[-2:]), op.padding)
    y = F.conv1d(
        flat, tensor_on(op.weight, x.device), _bias(op.bias, x.device), op.stride, 0, op.dilation, op.groups
    )
    return y.view(*lead, *y.shape[1:])


def _batch_norm(op: ir.BatchNorm1d | ir.BatchNorm2d, x: Tensor) -> Tensor:
    flat = x.reshape(-1, *x.shape[op.channel_axis :])
    mean, var, gamma, beta = (tensor_on(a, x.device) for a in (op.mean, op.var, op.gamma, op.beta))
    return F.batch_norm(flat, mean, var, gamma, beta, False, 0.0, op.eps).view(x.shape)


def _pooled(kernel: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def rule(op: Any, x: Tensor) -> Tensor:
        y = kernel(op, x.reshape(-1, *x.shape[-3:]))
        return y.view(*x.shape[:-3], *y.shape[1:])

    return rule


def _max_pool(op: ir.MaxPool2d, x: Tensor) -> Tensor:
    if x.device != CPU or op.stride != op.kernel or any(op.padding):
        return F.max_pool2d(x, op.kernel, op.stride, op.padding)
    sizes = [length // k for length, k in zip(x.shape[-2:], op.kernel, strict=True)]
    pooled, done = x.new_empty((*x.shape[:-2], *sizes)), 0
    for frames in _portions(x):
        pooled[done : done + len(frames)] = _maxima(op, frames)
        done += len(frames)
    return pooled


def _maxima(op: ir.MaxPool2d, x: Tensor) -> Tensor:
    """Maxima over windows side by side: of whole rows, twice as fast as torch's kernel, which looks for positions as well."""
    for axis, k in zip((-2, -1), op.kernel, strict=True):
        whole = x.narrow(axis, 0, x.shape[axis] // k * k)
        parts = [whole[..., i::k, :] if axis == -2 else whole[..., i::k] for i in range(k)]
        x = functools.reduce(torch.maximum, parts)
    return x


def _tcja(op: ir.TCJA, x: Tensor) -> Tensor:
    return x * tcja_gate(op, x.permute(1, 0, 2, 3, 4).mean((3, 4)))[..., None, None]


def tcja_gate(op: ir.TCJA, z: Tensor) -> Tensor:
    """The gate `[T, N, C]` of a TCJA block from the means over space `[N, T, C]`."""
    tm = cm = None
    if op.cla is not None:
        cm = F.conv1d(F.pad(z, ir.same_padding(op.k_c)), tensor_on(op.cla, z.device)).permute(1, 0, 2)
    if op.tla is not None:
        tm = F.conv1d(
            F.pad(z.permute(0, 2, 1), ir.same_padding(op.k_t)), tensor_on(op.tla, z.device)
        ).permute(2, 0, 1)
    if tm is None or cm is None:
        gate = tm if cm is None else cm
    else:
        gate = tm * cm if op.fusion == "multiply" else tm + cm
    if gate is None:
        raise TypeError("a TCJA block without kernels")
    return torch.sigmoid(gate)


def _reduce(op: ir.Reduce, x: Tensor) -> Tensor:
    if op.how == "max":
        return x.amax(op.axes, op.keepdims)
    return x.mean(op.axes, op.keepdims) if op.how == "mean" else x.sum(op.axes, op.keepdims)


def _reshape(op: ir.Reshape, x: Tensor) -> Tensor:
    lengths = iter(op.named)
    return x.reshape([d if isinstance(d, int) else x.shape[next(lengths)] for d in op.dims])


def _vote(op: ir.Vote, x: Tensor) -> Tensor:
    return F.avg_pool1d(x.reshape(-1, 1, x.shape[-1]), op.voters, op.voters).view(*x.shape[:-1], -1)


def _fold(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    def rule(op: Op, *xs: Tensor) -> Tensor:
        y = xs[0]
        for x in xs[1:]:
            y = function(y, x)
        return y

    return rule


RULES: dict[type[Op], Callable[..., Tensor]] = {
    ir.AdaptiveAvgPool2d: _pooled(lambda op, x: F.adaptive_avg_pool2d(x, op.output_size)),
    ir.Add: _fold(torch.add),
    ir.Affine: lambda op, x: x * op.scale + op.offset,
    ir.AffineIntegrator: _integrated,
    ir.AffineNeuron: _integrated,
    ir.AvgPool2d: _pooled(
        lambda op, x: F.avg_pool2d(x, op.kernel, op.stride, op.padding, False, op.count_include_pad)
    ),
    ir.BatchNorm1d: _batch_norm,
    ir.BatchNorm2d: _batch_norm,
    ir.Clamp: lambda op, x: x.clamp(op.low, op.high),
    ir.Concat: lambda op, *xs: torch.cat(xs, op.axis),
    ir.Conv1d: _conv1d,
    ir.Conv2d: _weighed,
    ir.ConvTranspose2d: _weighed,
    ir.Flatten: lambda op, x: x.flatten(2),
    ir.IF: _integrated,
    ir.Input: lambda op, x: x,
    ir.LI: _integrated,
    ir.LIF: _integrated,
    ir.Linear: _weighed,
    ir.MaxPool2d: _pooled(_max_pool),
    ir.Mul: _fold(torch.mul),
    ir.PLIF: _integrated,
    ir.Permute: lambda op, x: x.permute(op.order),
    ir.ReLU: lambda op, x: torch.relu(x),
    ir.Recurrence: _integrated,
    ir.Reduce: _reduce,
    ir.Reshape: _reshape,
    ir.Sigmoid: lambda op, x: torch.sigmoid(x),
    ir.Slice: lambda op, x: x[(slice(None),) * op.axis + (slice(op.start, op.stop, op.stride),)],
    ir.TCJA: _tcja,
    ir.TimeMean: lambda op, x: x.mean(0),
    ir.Vote: _vote,
}
"""How torch evaluates each op over a whole window: (op, inputs) -> result."""
