"""Exact fan-out: the number of weights that each input element meets, with borders, strides, dilation and groups.

A spike at a corner of a padded 3x3 convolution meets 4 kernel positions, one at an edge 6, one elsewhere 9. In all
convolutions the two spatial axes are independent, so the map is an outer product of two exact integer
vectors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tcja_deploy.energy.count.quantities import Ints, Macs
from tcja_deploy.errors import UnsupportedError
from tcja_deploy.ir import Op, Signal
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.activity.axes import frame_order

__all__ = ["FAN_OUT", "elements", "fan_out", "macs", "pool_windows", "taps", "transposed_taps"]


Lengths = tuple[int, ...]


def taps(n_in: int, n_out: int, kernel: int, *, stride: int = 1, dilation: int = 1, pad: int = 0) -> Ints:
    """Along one axis of a convolution: the number of (output, tap) pairs that read each input position, `[n_in]`.

    Output `i` reads inputs `i stride + m dilation - pad` for taps `m < kernel`; `pad` is the number of zeros before the
    axis.
    """
    reads = np.arange(n_out)[:, None] * stride + np.arange(kernel) * dilation - pad
    inside = reads[(reads >= 0) & (reads < n_in)]
    return np.bincount(inside, minlength=n_in).astype(np.int64)


def transposed_taps(
    n_in: int, n_out: int, kernel: int, *, stride: int = 1, dilation: int = 1, pad: int = 0
) -> Ints:
    """Along one axis of a transposed convolution: the number of outputs to which each input position adds, `[n_in]`.

    Input `i` adds to outputs `i stride + m dilation - pad` for taps `m < kernel`, where those exist.
    """
    writes = np.arange(n_in)[:, None] * stride + np.arange(kernel) * dilation - pad
    counts: Ints = ((writes >= 0) & (writes < n_out)).sum(1, dtype=np.int64)
    return counts


def fan_out(op: Op, x: Signal, T: int) -> Ints:
    """Weights that each element of the input `x` meets in one evaluation of a synaptic op.

    Returns:
        int64, broadcastable to the frames of `x`: `[T or 1, *features]`.

    Raises:
        UnsupportedError: If the op has no weights.
    """
    if type(op) not in FAN_OUT:
        raise UnsupportedError(f"{type(op).__name__} has no synapses")
    each = FAN_OUT[type(op)](op, x.shape(T, 1), op.infer(x, T=T).shape(T, 1))
    return _framed(np.ones((1,) * len(x.dims), np.int64) * each, x)


def _linear(op: ir.Linear, lengths: Lengths, out: Lengths) -> Ints:
    return np.array(len(op.weight), np.int64)


def _conv1d(op: ir.Conv1d, lengths: Lengths, out: Lengths) -> Ints:
    kernel = op.weight.shape[2]
    along = taps(lengths[-1], out[-1], kernel, stride=op.stride, dilation=op.dilation, pad=op.padding[0])
    return along * (len(op.weight) // op.groups)


def _conv2d(op: ir.Conv2d, lengths: Lengths, out: Lengths) -> Ints:
    rows, columns = (
        taps(lengths[a], out[a], op.weight.shape[a], stride=op.stride[a], dilation=op.dilation[a], pad=p)
        for a, p in ((-2, op.padding[0]), (-1, op.padding[1]))
    )
    return np.outer(rows, columns) * (len(op.weight) // op.groups)


def _conv_transpose2d(op: ir.ConvTranspose2d, lengths: Lengths, out: Lengths) -> Ints:
    rows, columns = (
        transposed_taps(
            lengths[a],
            out[a],
            op.weight.shape[a],
            stride=op.stride[a],
            dilation=op.dilation[a],
            pad=op.padding[a],
        )
        for a in (-2, -1)
    )
    met: Ints = np.outer(rows, columns) * op.weight.shape[1]
    return met


FAN_OUT: dict[type[Op], Callable[[Any, Lengths, Lengths], Ints]] = {
    ir.Conv1d: _conv1d,
    ir.Conv2d: _conv2d,
    ir.ConvTranspose2d: _conv_transpose2d,
    ir.Linear: _linear,
}
"""Counts the weights that each position of the trailing axes meets: (op, shape of the input, shape of the result) -> map."""


def pool_windows(op: Op, x: Signal, T: int) -> Ints:
    """Number of pooling windows that contain each element of the input `x`; in the shape of the result of `fan_out`.

    Raises:
        UnsupportedError: If the op is not a pooling op.
    """
    lengths, out = x.shape(T, 1), op.infer(x, T=T).shape(T, 1)
    match op:
        case ir.MaxPool2d() | ir.AvgPool2d():
            rows, columns = (
                taps(lengths[a], out[a], op.kernel[a], stride=op.stride[a], pad=op.padding[a])
                for a in (-2, -1)
            )
        case ir.AdaptiveAvgPool2d():
            rows, columns = (_adaptive(lengths[a], out[a]) for a in (-2, -1))
        case _:
            raise UnsupportedError(f"{type(op).__name__} is not a pooling op")
    return _framed(np.ones((1,) * len(lengths), np.int64) * np.outer(rows, columns), x)


def _adaptive(n_in: int, n_out: int) -> Ints:
    counts = np.zeros(n_in, np.int64)
    for i in range(n_out):
        counts[i * n_in // n_out : -(-(i + 1) * n_in // n_out)] += 1
    return counts


def _framed(own: Ints, x: Signal) -> Ints:
    """A map over the axes of a signal (`N` of length 1) as a map over its frames, `[T or 1, *features]`."""
    moved = own.transpose(frame_order(x))
    return moved[:, 0] if "T" in x.dims else moved


def macs(op: Op, x: Signal, T: int) -> Macs:
    """Multiply-accumulates of a synaptic op for one recording.

    Raises:
        UnsupportedError: If the op has no weights.
    """
    weights = fan_out(op, x, T)
    sites = elements(x, T)
    border_aware = int(weights.sum()) * (sites // weights.size)
    dense = op.macs(x, T=T)
    passes = T if x.streams else 1
    return Macs(dense // passes, border_aware // passes, passes)


def elements(x: Signal, T: int) -> int:
    """Number of elements of a signal in one window of one recording."""
    return math.prod(x.shape(T, 1))
