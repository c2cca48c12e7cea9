"""Spatial pooling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tcja_deploy.ir.op import Array, Op
from tcja_deploy.ir.ops.numeric import Pair, float32, windows
from tcja_deploy.ir.signal import Kind, Signal

__all__ = ["AdaptiveAvgPool2d", "AvgPool2d", "MaxPool2d"]


def _height_and_width(x: Signal) -> tuple[int, int] | None:
    """Of `[..., C, H, W]`; `None` for other signals."""
    plain = [d for d in x.dims[-3:] if isinstance(d, int)]
    return (plain[1], plain[2]) if len(plain) == 3 and len(x.dims) >= 4 else None


@dataclass(frozen=True, eq=False)
class _Pool2d(Op):
    """A window of `kernel` moves over the last two axes by `stride`; incomplete windows are dropped.

    Attributes:
        kernel: Height and width.
        stride: Of height and width.
        padding: On both sides of height and width.
    """

    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)

    def _result_kind(self, kind: Kind) -> Kind:
        raise NotImplementedError

    def faults(self) -> list[str]:
        found = self._below(1, kernel=self.kernel, stride=self.stride) + self._below(0, padding=self.padding)
        if any(2 * p > k for p, k in zip(self.padding, self.kernel, strict=True)):
            found.append("the padding is more than half of the pooling window")
        return found

    def infer(self, *inputs: Signal, T: int) -> Signal:
        (x,) = inputs
        space = _height_and_width(x)
        self._require(space is not None, f"pooling needs [..., C, H, W], got {x}")
        size = tuple(
            (n + 2 * p - k) // s + 1
            for n, p, k, s in zip(space or (), self.padding, self.kernel, self.stride, strict=True)
        )
        self._require(min(size) > 0, f"the pooling window {self.kernel} does not fit into {x}")
        return Signal((*x.dims[:-2], *size), self._result_kind(x.kind))

    def _view(self, x: Array, fill: float) -> Array:
        pad = [(0, 0)] * (x.ndim - 2) + [(p, p) for p in self.padding]
        return windows(np.pad(x, pad, constant_values=fill), self.kernel, self.stride, (1, 1))


@dataclass(frozen=True, eq=False)
class MaxPool2d(_Pool2d):
    """Largest value of each window; of binary spikes this is OR. Keeps the kind (padding never wins)."""

    def _result_kind(self, kind: Kind) -> Kind:
        return kind

    def apply(self, *x: Array) -> Array:
        return float32(self._view(x[0], -np.inf).max((-2, -1)))


@dataclass(frozen=True, eq=False)
class AvgPool2d(_Pool2d):
    """Mean of each window. Spikes become graded.

    Attributes:
        count_include_pad: Whether padded zeros count in the divisor.
    """

    count_include_pad: bool = True

    def _result_kind(self, kind: Kind) -> Kind:
        return kind.widened(Kind.GRADED)

    def apply(self, *x: Array) -> Array:
        total = self._view(x[0], 0.0).sum((-2, -1))
        if self.count_include_pad or self.padding == (0, 0):
            return float32(total / np.float32(self.kernel[0] * self.kernel[1]))
        return float32(total / self._view(np.ones_like(x[0]), 0.0).sum((-2, -1)))


@dataclass(frozen=True, eq=False)
class AdaptiveAvgPool2d(Op):
    """Mean over windows from `floor(i H / h)` to `ceil((i + 1) H / h)`. Spikes become graded, unless the size stays.

    Attributes:
        output_size: `(h, w)` of the result.
    """

    output_size: Pair

    def faults(self) -> list[str]:
        return self._below(1, output_size=self.output_size)

    def infer(self, *inputs: Signal, T: int) -> Signal:
        (x,) = inputs
        space = _height_and_width(x)
        self._require(space is not None, f"pooling needs [..., C, H, W], got {x}")
        kind = x.kind if space == self.output_size else x.kind.widened(Kind.GRADED)
        return Signal((*x.dims[:-2], *self.output_size), kind)

    def apply(self, *x: Array) -> Array:
        y = x[0]
        for axis, out in zip((-2, -1), self.output_size, strict=True):
            n = y.shape[axis]
            parts = [
                np.take(y, range(i * n // out, -(-(i + 1) * n // out)), axis).mean(axis) for i in range(out)
            ]
            y = np.stack(parts, axis)
        return float32(y)
