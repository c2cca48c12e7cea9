"""Exact fan-out: how many weights each input element meets, borders, strides, dilation and groups included.

A spike at a corner of a padded 3x3 convolution meets 4 kernel positions, at an edge 6, elsewhere 9. In all
convolutions the two spatial axes are independent, so the map is an outer product of two exact integer
vectors.
"""

from __future__ import annotations

import numpy as np

from tcja_deploy.energy.count.quantities import Ints, Macs
from tcja_deploy.errors import UnsupportedError
from tcja_deploy.ir import Op, Signal
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.activity.collect import frame_order

__all__ = ["elements", "fan_out", "macs", "pool_windows", "taps", "transposed_taps"]


def taps(n_in: int, n_out: int, kernel: int, *, stride: int = 1, dilation: int = 1, pad: int = 0) -> Ints:
    """Along one axis of a convolution: how many (output, tap) pairs read each input position, `[n_in]`.

    Output `i` reads inputs `i stride + m dilation - pad` for taps `m < kernel`; `pad` are the zeros before
    the axis.
    """
    reads = np.arange(n_out)[:, None] * stride + np.arange(kernel) * dilation - pad
    inside = reads[(reads >= 0) & (reads < n_in)]
    return np.bincount(inside, minlength=n_in).astype(np.int64)


def transposed_taps(
    n_in: int, n_out: int, kernel: int, *, stride: int = 1, dilation: int = 1, pad: int = 0
) -> Ints:
    """Along one axis of a transposed convolution: how many outputs each input position adds to, `[n_in]`.

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
        UnsupportedError: The op has no weights to fan out to.
    """
    lengths = x.shape(T, 1)
    own = np.ones((1,) * len(lengths), np.int64)
    match op:
        case ir.Linear():
            own = own * op.weight.shape[0]
        case ir.Conv1d():
            n_in = lengths[-1]
            span = op.dilation * (op.weight.shape[2] - 1) + 1
            n_out = (n_in + sum(op.padding) - span) // op.stride + 1
            along = taps(
                n_in, n_out, op.weight.shape[2], stride=op.stride, dilation=op.dilation, pad=op.padding[0]
            )
            own = own * along * (op.weight.shape[0] // op.groups)
        case ir.Conv2d():
            out = op.infer(x, T=T).shape(T, 1)
            rows, columns = (
                taps(
                    lengths[a],
                    out[a],
                    op.weight.shape[a],
                    stride=op.stride[a],
                    dilation=op.dilation[a],
                    pad=p,
                )
                for a, p in ((-2, op.padding[0]), (-1, op.padding[1]))
            )
            own = own * np.outer(rows, columns) * (op.weight.shape[0] // op.groups)
        case ir.ConvTranspose2d():
            out = op.infer(x, T=T).shape(T, 1)
            rows, columns = (
                transposed_taps(
                    lengths[a], out[a], op.weight.shape[a],
                    stride=op.stride[a], dilation=op.dilation[a], pad=op.padding[a],
                )
                for a in (-2, -1)
            )  # fmt: skip
            own = own * np.outer(rows, columns) * op.weight.shape[1]
        case _:
            raise UnsupportedError(f"{type(op).__name__} has no synapses")
    return _framed(own, x)


def pool_windows(op: Op, x: Signal, T: int) -> Ints:
    """Pooling windows that each element of the input `x` lies in; shaped like the result of `fan_out`.

    Raises:
        UnsupportedError: The op is no pooling.
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
            raise UnsupportedError(f"{type(op).__name__} is no pooling")
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
    """Multiply-accumulates of a synaptic op, one recording.

    Raises:
        UnsupportedError: The op has no weights.
    """
    weights = fan_out(op, x, T)
    sites = elements(x, T)
    aware = int(weights.sum()) * (sites // weights.size)
    dense = op.macs(x, T=T)
    passes = T if x.streams else 1
    return Macs(dense // passes, aware // passes, passes)


def elements(x: Signal, T: int) -> int:
    """Elements of a signal in one window of one recording."""
    return int(np.prod(x.shape(T, 1), dtype=np.int64))
