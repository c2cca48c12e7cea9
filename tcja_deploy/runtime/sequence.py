"""The sequence runtime: a graph over whole windows, layer by layer, on torch. The reference for everything else.

It uses the kernels and the order of operations of SpikingJelly's multi-step mode, so that an unfolded graph gives the
very spikes that the traced model gives on the same machine.
"""

from __future__ import annotations

import functools
import math
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from tcja_deploy.errors import DataError
from tcja_deploy.ir import Graph, Node, Op
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.recurrence import distance, initial_states, recurrence_step

__all__ = [
    "RULES",
    "Charged",
    "Membrane",
    "Observer",
    "as_frames",
    "charge",
    "evaluate",
    "integrate",
    "integrator_step",
    "margin",
    "neuron_step",
    "run",
    "run_with_spikes",
    "tcja_gate",
    "weigh",
]

Observer = Callable[[Node, Tensor], None]
"""Called with every node and its value, shaped like the node's signal; it must not change the value."""


_CPU = torch.device("cpu")


def run(graph: Graph, frames: Tensor | NDArray[Any], *, observe: Observer | None = None) -> Tensor:
    """Run a graph over a window.

    Args:
        graph: What to run.
        frames: `[T, N, ...]`, the frames of the window (any number type, computed in float32), on the device that is to
            compute (see `runtime.device`).
        observe: Called after each node.

    Returns:
        The output, shaped like the output signal.

    Raises:
        DataError: If the frames do not have the shape that the graph expects.
    """
    last_reader = {name: node.name for node in graph for name in node.inputs}
    values: dict[str, Tensor] = {}
    with torch.inference_mode():
        x = as_frames(graph, frames)
        for node in graph:
            inputs = [values[name] for name in node.inputs] if node.inputs else [x]
            values[node.name] = evaluate(node.op, *inputs)
            if observe is not None:
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
        if node.op.spiking:
            spikes[node.name] = value.cpu().numpy()

    return run(graph, frames, observe=observe).cpu().numpy(), spikes


def as_frames(graph: Graph, frames: Tensor | NDArray[Any]) -> Tensor:
    """Frames as a float32 tensor, checked against the graph's input.

    Raises:
        DataError: If they hold no numbers or some that are not finite, or the shape is not `[T, N, ...]` of the graph.
    """
    try:
        x = (
            _tensor(np.ascontiguousarray(frames))
            if isinstance(frames, np.ndarray)
            else torch.as_tensor(frames)
        )
    except TypeError as error:
        raise DataError(f"the frames hold no numbers ({error})") from error
    if x.ndim < 2 or (x.shape[0], *x.shape[2:]) != (graph.T, *graph.input_shape):
        shape = ", ".join(map(str, graph.input_shape))
        raise DataError(
            f"the frames have shape {list(x.shape)}, the model expects [T={graph.T}, N, {shape}]",
            hint="integrate the recording into as many frames as the model has time steps; time is the first axis",
        )
    x = x.to(torch.float32)
    if x.numel() and not math.isfinite(sum(map(float, torch.aminmax(x)))):  # one pass, and nothing allocated
        raise DataError(
            "the frames hold a value that is not finite in float32",
            hint="check how they were made: NaN or infinity",
        )
    return x


def evaluate(op: Op, *inputs: Tensor) -> Tensor:
    """Value of one op over a window; inputs and result are shaped like their signals."""
    return RULES[type(op)](op, *inputs)


Charged = ir.Neuron | ir.LI | ir.AffineIntegrator
"""Ops whose state is one membrane that is charged."""

Membrane = Charged | ir.Recurrence
"""Ops whose state is a membrane, or several states of that size."""


def charge(op: Charged, x: Tensor, v: Tensor) -> Tensor:
    """Membrane before the comparison with the threshold (`H[t]`), from input and previous membrane."""
    if isinstance(op, ir.AffineNeuron | ir.AffineIntegrator):
        h = v * _tensor(op.leak, x.device)
        if op.has_offset:
            h = h + _tensor(op.offset, x.device)
        h = h + (x * _tensor(op.gain, x.device) if op.has_gain else x)
        return h if op.floor is None else h.clamp_min(op.floor)
    if isinstance(op, ir.IF):
        return v + x
    leak = v if op.v_rest == 0.0 else v - op.v_rest
    if isinstance(op, ir.PLIF | ir.LI):
        return v + (x - leak) * op.decay if op.decay_input else v - leak * op.decay + x
    if not isinstance(op, ir.LIF):
        raise TypeError(type(op).__name__)
    return v + (x - leak) / op.tau if op.decay_input else v - leak / op.tau + x


def neuron_step(op: ir.Neuron, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """One time step of neurons: charge, compare with the threshold, reset.

    Args:
        op: The neurons.
        x: Input `[N, ...]`.
        v: Membrane before, after its last reset; not changed in place.

    Returns:
        Spikes, 0 or 1 in the type of `x`, and the membrane after the reset.
    """
    h = charge(op, x, v)
    fired = h > op.v_threshold if op.strict else h >= op.v_threshold
    spikes = fired.to(h.dtype)
    return spikes, h - spikes * op.lowered_by if op.v_reset is None else h.masked_fill_(fired, op.v_reset)


def integrator_step(op: ir.LI | ir.AffineIntegrator, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """One time step of integrators; arguments and result as of `neuron_step`, with the membrane in place of spikes."""
    h = charge(op, x, v)
    if isinstance(op, ir.LI) or op.v_threshold is None:
        return h, h
    fired = h > op.v_threshold if op.strict else h >= op.v_threshold
    after = h - op.v_threshold if op.v_reset is None else torch.full_like(h, op.v_reset)
    return h, torch.where(fired, after, h)


def integrate(op: Membrane, x: Tensor, v: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Neurons or integrators over a window.

    Args:
        op: What they compute.
        x: Input `[T, N, ...]`.
        v: Membrane `[N, ...]` to begin with (of a recurrence its states, `[S, N, ...]`); the resting one if not given.

    Returns:
        The result `[T, N, ...]`, and the membrane afterwards.
    """
    out = torch.empty_like(x)
    if isinstance(op, ir.Recurrence):
        v = initial_states(op, x[0]) if v is None else v
        for t in range(len(x)):
            out[t], v = recurrence_step(op, x[t], v, t)
        return out, v
    v = torch.full_like(x[0], op.v_rest) if v is None else v
    for t in range(len(x)):
        out[t], v = neuron_step(op, x[t], v) if isinstance(op, ir.Neuron) else integrator_step(op, x[t], v)
    return out, v


def margin(op: Membrane, x: Tensor, v: Tensor | None = None) -> Tensor:
    """How far each neuron is from spiking otherwise, `[T, N, ...]`; arguments as of `integrate`.

    It is membrane minus threshold before the reset; of a recurrence the distance of the nearest decision, without a sign.
    """
    distances = torch.empty_like(x)
    for t in range(len(x)):
        if isinstance(op, ir.Recurrence):
            v = initial_states(op, x[0]) if v is None else v
            distances[t], v = distance(op, x[t], v, t), recurrence_step(op, x[t], v, t)[1]
        else:
            v = torch.full_like(x[0], op.v_rest) if v is None else v
            distances[t] = charge(op, x[t], v) - op.constants()["v_threshold"]
            v = integrate(op, x[t : t + 1], v)[1]
    return distances


def _integrated(op: Membrane, x: Tensor) -> Tensor:
    return integrate(op, x)[0]


_MOVED: dict[tuple[int, torch.device], Tensor] = {}
"""Weights on other devices, by the array that they are copies of; they go when it goes."""


def _tensor(a: NDArray[Any], device: torch.device = _CPU) -> Tensor:
    """The same numbers; on the CPU shares memory unless the array must not be written to, which a tensor cannot promise."""
    if device == _CPU:
        return torch.from_numpy(a if a.flags.writeable else a.copy())
    key = (id(a), device)
    if key not in _MOVED:
        _MOVED[key] = torch.from_numpy(a.copy()).to(device)
        weakref.finalize(a, _MOVED.pop, key, None)
    return _MOVED[key]


def _bias(a: NDArray[np.float32] | None, device: torch.device) -> Tensor | None:
    return None if a is None else _tensor(a, device)


def _pad(x: Tensor, padding: tuple[int, int, int, int]) -> tuple[Tensor, tuple[int, int]]:
    """Symmetric padding is left to the kernel; asymmetric padding is done here."""
    top, left, bottom, right = padding
    if (top, left) == (bottom, right):
        return x, (top, left)
    return F.pad(x, (left, right, top, bottom)), (0, 0)


def weigh(
    op: ir.Conv2d | ir.ConvTranspose2d | ir.Linear, x: Tensor, weight: Tensor, bias: Tensor | None
) -> Tensor:
    """The linear map of a layer with other weights than its own, of the same shapes; `x` and result as of `evaluate`."""
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
    return weigh(op, x, _tensor(op.weight, x.device), _bias(op.bias, x.device))


def _conv1d(op: ir.Conv1d, x: Tensor) -> Tensor:
    lead = x.shape[:-2]
    flat = F.pad(x.reshape(-1, *x.shape[-2:]), op.padding)
    y = F.conv1d(
        flat, _tensor(op.weight, x.device), _bias(op.bias, x.device), op.stride, 0, op.dilation, op.groups
    )
    return y.view(*lead, *y.shape[1:])


def _batch_norm(op: ir.BatchNorm1d | ir.BatchNorm2d, x: Tensor) -> Tensor:
    flat = x.reshape(-1, *x.shape[op.channel_axis :])
    mean, var, gamma, beta = (_tensor(a, x.device) for a in (op.mean, op.var, op.gamma, op.beta))
    return F.batch_norm(flat, mean, var, gamma, beta, False, 0.0, op.eps).view(x.shape)


def _pooled(kernel: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def rule(op: Any, x: Tensor) -> Tensor:
        y = kernel(op, x.reshape(-1, *x.shape[-3:]))
        return y.view(*x.shape[:-3], *y.shape[1:])

    return rule


def _max_pool(op: ir.MaxPool2d, x: Tensor) -> Tensor:
    if x.device != _CPU or op.stride != op.kernel or any(op.padding):
        return F.max_pool2d(x, op.kernel, op.stride, op.padding)
    # Windows side by side: maxima of whole rows are twice as fast as torch's kernel, which looks for positions as well.
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
        cm = F.conv1d(F.pad(z, ir.same_padding(op.k_c)), _tensor(op.cla, z.device)).permute(1, 0, 2)
    if op.tla is not None:
        tm = F.conv1d(F.pad(z.permute(0, 2, 1), ir.same_padding(op.k_t)), _tensor(op.tla, z.device)).permute(
            2, 0, 1
        )
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
