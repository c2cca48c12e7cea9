"""Ops with weights on feature axes: convolutions, linear layers and batch normalisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tcja_deploy.ir.op import Array, Op
from tcja_deploy.ir.signal import Dim, Kind, Signal

__all__ = ["BatchNorm1d", "BatchNorm2d", "Conv1d", "Conv2d", "ConvTranspose2d", "Linear"]

Pair = tuple[int, int]


def _length(dim: Dim, T: int) -> int:
    return T if dim == "T" else int(dim)


def _windows(x: Array, kernel: Pair, stride: Pair, dilation: Pair) -> Array:
    """Sliding windows ``[..., H', W', kh, kw]`` over the last two axes."""
    span = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    view = np.lib.stride_tricks.sliding_window_view(x, span, axis=(-2, -1))
    return view[..., :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]


def _conv2d(x: Array, weight: Array, bias: Array | None, stride: Pair, dilation: Pair, groups: int) -> Array:
    """Cross-correlation of an already padded ``[B, C, H, W]`` array."""
    view = _windows(x, weight.shape[2:], stride, dilation)
    b, _, h, w, *kernel = view.shape
    view = view.reshape(b, groups, -1, h, w, *kernel)
    grouped = weight.reshape(groups, -1, *weight.shape[1:])
    y = np.einsum("bgchwij,gocij->bgohw", view, grouped, optimize=True).reshape(b, -1, h, w)
    return y if bias is None else y + bias[:, None, None]


@dataclass(frozen=True, eq=False)
class Conv2d(Op):
    """Cross-correlation over the last two axes, zero padded: ``y[o,i,j] = b[o] + sum w[o,c,m,n] x[c,i s+m d-p,j s+n d-p]``.

    Input ``[..., C, H, W]``, output ``[..., O, H', W']``, every leading axis is batch. Result kind: real.

    Attributes:
        weight: ``[O, C / groups, kH, kW]``.
        bias: ``[O]`` or ``None``.
        stride: Of height and width.
        padding: Zeros at (top, left, bottom, right).
        dilation: Of height and width.
        groups: Number of channel groups.
    """

    weight: Array
    bias: Array | None = None
    stride: Pair = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    @property
    def fan_in(self) -> int:
        return int(np.prod(self.weight.shape[1:]))

    def infer(self, *inputs: Signal, T: int) -> Signal:
        (x,) = inputs
        self._require(len(x.dims) >= 4, f"a 2-D convolution needs [..., C, H, W], got {x}")
        c, h, w = (_length(d, T) for d in x.dims[-3:])
        need = self.weight.shape[1] * self.groups
        self._require(c == need, f"the weight expects {need} channels, the input has {c}")
        self._require(self.weight.shape[0] % self.groups == 0, "groups do not divide the output channels")
        size = []
        for length, k, s, d, p in zip(
            (h, w), self.weight.shape[2:], self.stride, self.dilation,
            (self.padding[0] + self.padding[2], self.padding[1] + self.padding[3]), strict=True,
        ):  # fmt: skip
            size.append((length + p - d * (k - 1) - 1) // s + 1)
            self._require(size[-1] > 0, f"the kernel {self.weight.shape[2:]} does not fit into {h} x {w}")
        dims = tuple("T" if d == "T" and n == T else n for d, n in zip(x.dims[-2:], size, strict=True))
        return Signal((*x.dims[:-3], self.weight.shape[0], *dims), Kind.REAL)

    def acts_on_time(self, *inputs: Signal) -> bool:
        return not inputs[0].streams

    def apply(self, *x: Array) -> Array:
        top, left, bottom, right = self.padding
        lead = x[0].shape[:-3]
        flat = x[0].reshape(-1, *x[0].shape[-3:])
        padded = np.pad(flat, ((0, 0), (0, 0), (top, bottom), (left, right)))
        y = _conv2d(padded, self.weight, self.bias, self.stride, self.dilation, self.groups)
        return y.reshape(*lead, *y.shape[1:]).astype(np.float32)


@dataclass(frozen=True, eq=False)
class ConvTranspose2d(Op):
    """Transposed convolution: every input element adds its scaled kernel to the output at stride spacing.

    Input ``[..., C, H, W]``, output ``[..., O, (H-1) s - 2 p + d (k-1) + o + 1, ...]``. Result kind: real.

    Attributes:
        weight: ``[C, O / groups, kH, kW]``.
        bias: ``[O]`` or ``None``.
        stride: Of height and width.
        padding: Cropped from both sides of height and width.
        output_padding: Added at the bottom and the right.
        dilation: Of height and width.
        groups: Number of channel groups.
    """

    weight: Array
    bias: Array | None = None
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    output_padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    @property
    def fan_in(self) -> int:
        """Mean number of multiply-accumulates per output element without borders: ``C/groups * kH * kW / (sH * sW)``, floored."""
        c, _, kh, kw = self.weight.shape
        return int(c // self.groups * kh * kw // (self.stride[0] * self.stride[1]))

    def infer(self, *inputs: Signal, T: int) -> Signal:
        (x,) = inputs
        self._require(len(x.dims) >= 4, f"a transposed convolution needs [..., C, H, W], got {x}")
        c, h, w = (_length(d, T) for d in x.dims[-3:])
        self._require(
            c == self.weight.shape[0], f"the weight expects {self.weight.shape[0]} channels, got {c}"
        )
        size = tuple(
            (n - 1) * s - 2 * p + d * (k - 1) + o + 1
            for n, s, p, d, k, o in zip(
                (h, w),
                self.stride,
                self.padding,
                self.dilation,
                self.weight.shape[2:],
                self.output_padding,
                strict=True,
            )
        )
        self._require(min(size) > 0, "the padding leaves nothing of the output")
        return Signal((*x.dims[:-3], self.weight.shape[1] * self.groups, *size), Kind.REAL)

    def apply(self, *x: Array) -> Array:
        lead, (c, h, w) = x[0].shape[:-3], x[0].shape[-3:]
        flat = x[0].reshape(-1, self.groups, c // self.groups, h, w)
        kernel = self.weight.reshape(self.groups, c // self.groups, *self.weight.shape[1:])
        (kh, kw), (sh, sw), (dh, dw) = self.weight.shape[2:], self.stride, self.dilation
        full = np.zeros(
            (len(flat), self.groups, self.weight.shape[1],
             (h - 1) * sh + dh * (kh - 1) + 1 + self.output_padding[0],
             (w - 1) * sw + dw * (kw - 1) + 1 + self.output_padding[1]), np.float32,
        )  # fmt: skip
        for i in range(kh):
            for j in range(kw):
                part = np.einsum("bgchw,gco->bgohw", flat, kernel[..., i, j])
                full[
                    ..., i * dh : i * dh + (h - 1) * sh + 1 : sh, j * dw : j * dw + (w - 1) * sw + 1 : sw
                ] += part
        (ph, pw) = self.padding
        y = full[..., ph : full.shape[-2] - ph, pw : full.shape[-1] - pw]
        y = y.reshape(*lead, -1, *y.shape[-2:])
        return y if self.bias is None else y + self.bias[:, None, None]


@dataclass(frozen=True, eq=False)
class Conv1d(Op):
    """Cross-correlation over the last axis: ``y[o,i] = b[o] + sum w[o,c,m] x[c,i s+m d-p]``. Result kind: real.

    Input ``[..., C, L]``, output ``[..., O, L']``. Channels or length may be the time axis; then the op needs the window.

    Attributes:
        weight: ``[O, C / groups, K]``.
        bias: ``[O]`` or ``None``.
        stride: Step of the output.
        padding: Zeros at the (left, right).
        dilation: Step of the kernel.
        groups: Number of channel groups.
    """

    weight: Array
    bias: Array | None = None
    stride: int = 1
    padding: Pair = (0, 0)
    dilation: int = 1
    groups: int = 1

    @property
    def fan_in(self) -> int:
        return int(np.prod(self.weight.shape[1:]))

    def infer(self, *inputs: Signal, T: int) -> Signal:
        (x,) = inputs
        self._require(len(x.dims) >= 2, f"a 1-D convolution needs [..., C, L], got {x}")
        channels, length = (_length(d, T) for d in x.dims[-2:])
        need = self.weight.shape[1] * self.groups
        self._require(channels == need, f"the weight expects {need} channels, the input has {channels}")
        size = (
            length + sum(self.padding) - self.dilation * (self.weight.shape[2] - 1) - 1
        ) // self.stride + 1
        self._require(size > 0, f"the kernel of {self.weight.shape[2]} does not fit into {length}")
        out: Dim = "T" if x.dims[-2] == "T" and self.weight.shape[0] == T else self.weight.shape[0]
        last: Dim = "T" if x.dims[-1] == "T" and size == T else size
        return Signal((*x.dims[:-2], out, last), Kind.REAL)

    def apply(self, *x: Array) -> Array:
        lead = x[0].shape[:-2]
        flat = x[0].reshape(-1, *x[0].shape[-2:])
        padded = np.pad(flat, ((0, 0), (0, 0), self.padding))[:, :, None]
        y = _conv2d(padded, self.weight[:, :, None], None, (1, self.stride), (1, self.dilation), self.groups)[
            :, :, 0
        ]
        y = y if self.bias is None else y + self.bias[:, None]
        return y.reshape(*lead, *y.shape[1:]).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Linear(Op):
    """Matrix product over the last axis: ``y = W x + b``. Result kind: real.

    Attributes:
        weight: ``[O, I]``.
        bias: ``[O]`` or ``None``.
    """

    weight: Array
    bias: Array | None = None

    @property
    def fan_in(self) -> int:
        return int(self.weight.shape[1])

    def infer(self, *inputs: Signal, T: int) -> Signal:
        (x,) = inputs
        got = _length(x.dims[-1], T) if x.dims[-1] != "N" else -1
        self._require(
            got == self.weight.shape[1], f"the weight expects {self.weight.shape[1]} features, got {got}"
        )
        out: Dim = "T" if x.dims[-1] == "T" and self.weight.shape[0] == T else self.weight.shape[0]
        return Signal((*x.dims[:-1], out), Kind.REAL)

    def apply(self, *x: Array) -> Array:
        y = x[0] @ self.weight.T
        return y if self.bias is None else y + self.bias


@dataclass(frozen=True, eq=False)
class _BatchNorm(Op):
    """Normalisation with recorded statistics: ``y[c] = (x[c] - mean[c]) / sqrt(var[c] + eps) * gamma[c] + beta[c]``.

    Result kind: real.

    Attributes:
        gamma: Scale ``[C]``.
        beta: Offset ``[C]``.
        mean: Running mean ``[C]``.
        var: Running variance ``[C]``.
        eps: Added to the variance.
    """

    channel_axis: ClassVar[int]

    gamma: Array
    beta: Array
    mean: Array
    var: Array
    eps: float = 1e-5

    def infer(self, *inputs: Signal, T: int) -> Signal:
        (x,) = inputs
        self._require(len(x.dims) >= -self.channel_axis, f"batch normalisation of {x} has no channel axis")
        got = x.dims[self.channel_axis]
        self._require(
            got == len(self.gamma), f"{len(self.gamma)} channels are normalised, the input has {got}"
        )
        return x.with_kind(Kind.REAL)

    def scale_offset(self) -> tuple[Array, Array]:
        """Per-channel factor and offset of the equivalent affine map, in float64."""
        k = self.gamma.astype(np.float64) / np.sqrt(self.var.astype(np.float64) + self.eps)
        return k, self.beta - self.mean * k

    def apply(self, *x: Array) -> Array:
        k, b = self.scale_offset()
        shape = (-1,) + (1,) * (-self.channel_axis - 1)
        return (x[0] * k.reshape(shape) + b.reshape(shape)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class BatchNorm2d(_BatchNorm):
    __doc__ = f"Batch normalisation of ``[..., C, H, W]``.\n\n    {_BatchNorm.__doc__}"
    channel_axis: ClassVar[int] = -3


@dataclass(frozen=True, eq=False)
class BatchNorm1d(_BatchNorm):
    __doc__ = f"Batch normalisation of ``[..., C]``.\n\n    {_BatchNorm.__doc__}"
    channel_axis: ClassVar[int] = -1
