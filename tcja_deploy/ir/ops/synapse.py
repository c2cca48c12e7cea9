"""Ops with weights on feature axes: convolutions and linear layers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tcja_deploy.errors import GraphError
from tcja_deploy.ir.op import Array, Op
from tcja_deploy.ir.ops.numeric import Pair, float32, windows
from tcja_deploy.ir.signal import Dim, Kind, Signal

__all__ = ["Conv1d", "Conv2d", "ConvTranspose2d", "Linear"]


def _lengths(dims: tuple[Dim, ...], T: int) -> tuple[int, ...]:
    """Lengths of axes that weights act on."""
    if "N" in dims:
        raise GraphError("weights that act on the axis of samples would mix them")
    return tuple(d if isinstance(d, int) else T for d in dims)


def _renamed(before: Dim, after: int, T: int) -> Dim:
    """The axis that weights turn `before` into: time stays time if there are as many steps as in a window."""
    return "T" if before == "T" and after == T else after


def _weight_faults(
    weight: Array, rank: int, bias: Array | None, *, axis: int = 0, groups: int = 1
) -> list[str]:
    """What is wrong with the shapes of a weight of `rank` axes and of its bias.

    There are as many outputs as `axis` is long, in each of the `groups`.
    """
    if weight.ndim != rank or 0 in weight.shape:
        return [f"the weight has shape {weight.shape}, {rank} axes without an empty one are needed"]
    outputs = weight.shape[axis] * groups
    if bias is not None and bias.shape != (outputs,):
        return [f"the bias has shape {bias.shape}, there are {outputs} outputs"]
    return []


def _correlation_faults(op: Conv1d | Conv2d, rank: int) -> list[str]:
    """What is wrong with the attributes of a cross-correlation whose weight has `rank` axes."""
    found = _weight_faults(op.weight, rank, op.bias)
    found += op._below(1, stride=op.stride, dilation=op.dilation, groups=op.groups)
    found += op._below(0, padding=op.padding)
    if not found and len(op.weight) % op.groups:
        found.append(f"{op.groups} groups do not divide {len(op.weight)} outputs")
    return found


def _uses(weight: Array, signal: Signal, T: int) -> int:
    """Multiply-accumulates if every element of a signal meets the weights after the first axis once."""
    return math.prod(signal.shape(T, 1)) * math.prod(weight.shape[1:])


def _conv2d(x: Array, weight: Array, bias: Array | None, stride: Pair, dilation: Pair, groups: int) -> Array:
    """Cross-correlation of an already padded `[B, C, H, W]` array."""
    view = windows(x, (weight.shape[2], weight.shape[3]), stride, dilation)
    b, _, h, w, *kernel = view.shape
    view = view.reshape(b, groups, -1, h, w, *kernel)
    grouped = weight.reshape(groups, -1, *weight.shape[1:])
    y = np.einsum("bgchwij,gocij->bgohw", view, grouped, optimize=True).reshape(b, -1, h, w)
    return float32(y if bias is None else y + bias[:, None, None])


@dataclass(frozen=True, eq=False)
class Conv2d(Op):
    """Cross-correlation over the last two axes, zero padded: `y[o,i,j] = b[o] + sum w[o,c,m,n] x[c,i s+m d-p,j s+n d-p]`.

    Input `[..., C, H, W]`, output `[..., O, H', W']`, every leading axis is batch. Result kind: real.

    Attributes:
        weight: `[O, C / groups, kH, kW]`.
        bias: `[O]` or `None`.
        stride: Of height and width.
        padding: Zeros at (top, left, bottom, right).
        dilation: Of height and width.
        groups: Number of channel groups.
    """

    synaptic: ClassVar[bool] = True
    map_axes: ClassVar[int] = 2

    weight: Array
    bias: Array | None = None
    stride: Pair = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    def macs(self, *inputs: Signal, T: int) -> int:
        return _uses(self.weight, self.infer(*inputs, T=T), T)

    def faults(self) -> list[str]:
        return _correlation_faults(self, 4)

    def infer(self, *inputs: Signal, T: int) -> Signal:
        (x,) = inputs
        self._require(len(x.dims) >= 4, f"a 2-D convolution needs [..., C, H, W], got {x}")
        c, h, w = _lengths(x.dims[-3:], T)
        need = self.weight.shape[1] * self.groups
        self._require(c == need, f"the weight expects {need} channels, the input has {c}")
        size = [len(self.weight)]
        for length, k, s, d, p in zip(
            (h, w), self.weight.shape[2:], self.stride, self.dilation,
            (self.padding[0] + self.padding[2], self.padding[1] + self.padding[3]), strict=True,
        ):  # fmt: skip
            size.append((length + p - d * (k - 1) - 1) // s + 1)
            self._require(size[-1] > 0, f"the kernel {self.weight.shape[2:]} does not fit into {h} x {w}")
        dims = (_renamed(d, n, T) for d, n in zip(x.dims[-3:], size, strict=True))
        return Signal((*x.dims[:-3], *dims), Kind.REAL)

    def apply(self, *x: Array) -> Array:
        top, left, bottom, right = self.padding
        lead = x[0].shape[:-3]
        flat = x[0].reshape(-1, *x[0].shape[-3:])
        padded = np.pad(flat, ((0, 0), (0, 0), (top, bottom), (left, right)))
        y = _conv2d(padded, self.weight, self.bias, self.stride, self.dilation, self.groups)
        return y.reshape(*lead, *y.shape[1:])


@dataclass(frozen=True, eq=False)
class ConvTranspose2d(Op):
    """Transposed convolution: every input element adds its scaled kernel to the output at stride spacing.

    Input `[..., C, H, W]`, output `[..., O, (H-1) s - 2 p + d (k-1) + o + 1, ...]`. Result kind: real.

    Attributes:
        weight: `[C, O / groups, kH, kW]`.
        bias: `[O]` or `None`.
        stride: Of height and width.
        padding: Cropped from both sides of height and width.
        output_padding: Added at the bottom and the right, less than stride or dilation.
        dilation: Of height and width.
        groups: Number of channel groups.
    """

    synaptic: ClassVar[bool] = True
    map_axes: ClassVar[int] = 2

    weight: Array
    bias: Array | None = None
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    output_padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    def macs(self, *inputs: Signal, T: int) -> int:
        return _uses(self.weight, inputs[0], T)  # every input meets the whole kernel, cropped or not

    def faults(self) -> list[str]:
        found = _weight_faults(self.weight, 4, self.bias, axis=1, groups=self.groups)
        found += self._below(1, stride=self.stride, dilation=self.dilation, groups=self.groups)
        found += self._below(0, padding=self.padding, output_padding=self.output_padding)
        if not found and len(self.weight) % self.groups:
            found.append(f"{self.groups} groups do not divide {len(self.weight)} inputs")
        limits = zip(self.output_padding, self.stride, self.dilation, strict=True)
        if not found and any(o >= max(s, d) for o, s, d in limits):
            found.append("the output padding is not smaller than stride or dilation")
        return found

    def infer(self, *inputs: Signal, T: int) -> Signal:
        (x,) = inputs
        self._require(len(x.dims) >= 4, f"a transposed convolution needs [..., C, H, W], got {x}")
        c, h, w = _lengths(x.dims[-3:], T)
        self._require(c == len(self.weight), f"the weight expects {len(self.weight)} channels, got {c}")
        size = [self.weight.shape[1] * self.groups]
        size += [
            (n - 1) * s - 2 * p + d * (k - 1) + o + 1
            for n, s, p, d, k, o in zip(
                (h, w), self.stride, self.padding, self.dilation, self.weight.shape[2:], self.output_padding,
                strict=True,
            )
        ]  # fmt: skip
        self._require(min(size) > 0, "the padding leaves nothing of the output")
        dims = (_renamed(d, n, T) for d, n in zip(x.dims[-3:], size, strict=True))
        return Signal((*x.dims[:-3], *dims), Kind.REAL)

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
                rows = slice(i * dh, i * dh + (h - 1) * sh + 1, sh)
                columns = slice(j * dw, j * dw + (w - 1) * sw + 1, sw)
                full[..., rows, columns] += np.einsum("bgchw,gco->bgohw", flat, kernel[..., i, j])
        (ph, pw) = self.padding
        y = full[..., ph : full.shape[-2] - ph, pw : full.shape[-1] - pw]
        y = y.reshape(*lead, -1, *y.shape[-2:])
        return y if self.bias is None else float32(y + self.bias[:, None, None])


@dataclass(frozen=True, eq=False)
class Conv1d(Op):
    """Cross-correlation over the last axis: `y[o,i] = b[o] + sum w[o,c,m] x[c,i s+m d-p]`. Result kind: real.

    Input `[..., C, L]`, output `[..., O, L']`. Channels or length may be the time axis; then the op needs the window.

    Attributes:
        weight: `[O, C / groups, K]`.
        bias: `[O]` or `None`.
        stride: Step of the output.
        padding: Zeros at the (left, right).
        dilation: Step of the kernel.
        groups: Number of channel groups.
    """

    synaptic: ClassVar[bool] = True
    map_axes: ClassVar[int] = 1

    weight: Array
    bias: Array | None = None
    stride: int = 1
    padding: Pair = (0, 0)
    dilation: int = 1
    groups: int = 1

    def macs(self, *inputs: Signal, T: int) -> int:
        return _uses(self.weight, self.infer(*inputs, T=T), T)

    def faults(self) -> list[str]:
        return _correlation_faults(self, 3)

    def infer(self, *inputs: Signal, T: int) -> Signal:
        (x,) = inputs
        self._require(len(x.dims) >= 2, f"a 1-D convolution needs [..., C, L], got {x}")
        channels, length = _lengths(x.dims[-2:], T)
        need = self.weight.shape[1] * self.groups
        self._require(channels == need, f"the weight expects {need} channels, the input has {channels}")
        span = self.dilation * (self.weight.shape[2] - 1) + 1
        size = (length + sum(self.padding) - span) // self.stride + 1
        self._require(size > 0, f"the kernel of {self.weight.shape[2]} does not fit into {length}")
        dims = _renamed(x.dims[-2], len(self.weight), T), _renamed(x.dims[-1], size, T)
        return Signal((*x.dims[:-2], *dims), Kind.REAL)

    def apply(self, *x: Array) -> Array:
        lead = x[0].shape[:-2]
        flat = x[0].reshape(-1, *x[0].shape[-2:])
        padded = np.pad(flat, ((0, 0), (0, 0), self.padding))[:, :, None]
        weight = self.weight[:, :, None]
        y = _conv2d(padded, weight, self.bias, (1, self.stride), (1, self.dilation), self.groups)[:, :, 0]
        return y.reshape(*lead, *y.shape[1:])


@dataclass(frozen=True, eq=False)
class Linear(Op):
    """Matrix product over the last axis: `y = W x + b`. Result kind: real.

    Attributes:
        weight: `[O, I]`.
        bias: `[O]` or `None`.
    """

    synaptic: ClassVar[bool] = True

    weight: Array
    bias: Array | None = None

    def macs(self, *inputs: Signal, T: int) -> int:
        return _uses(self.weight, self.infer(*inputs, T=T), T)

    def faults(self) -> list[str]:
        return _weight_faults(self.weight, 2, self.bias)

    def infer(self, *inputs: Signal, T: int) -> Signal:
        (x,) = inputs
        (got,) = _lengths(x.dims[-1:], T)
        need = self.weight.shape[1]
        self._require(got == need, f"the weight expects {need} features, the input has {got}")
        return Signal((*x.dims[:-1], _renamed(x.dims[-1], len(self.weight), T)), Kind.REAL)

    def apply(self, *x: Array) -> Array:
        y = x[0] @ self.weight.T
        return float32(y if self.bias is None else y + self.bias)
