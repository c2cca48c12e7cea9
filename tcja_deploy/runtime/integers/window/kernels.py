"""The steps of window programs that move a window: convolutions and pools.

numpy only: this folder also travels in Lava bundles (`program`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from .steps import (  # relative, for this folder travels
    LIMIT,
    IntArray,
    ProgramStep,
    Shape,
    ValueRange,
    require,
)

__all__ = [
    "ConvolveStep",
    "LargestPoolStep",
    "SumPoolStep",
]

EXACT = 1 << 53
"""Sums of integers below it are exact in float64, whose matrix products are fast."""


@dataclass(frozen=True)
class ConvolveStep(ProgramStep):
    """Cross-correlation over the last R axes, R = 0 (a matrix), 1 or 2; channels are the axis before.

    Attributes:
        weight: [O, I / groups] or [O, I / groups, K] or [O, I / groups, kH, kW].
        bias: [O].
        stride: R numbers, as is dilation.
        before: Zeros in front of each of the R axes.
        after: Zeros behind them.
        dilation: Distance of the taps.
        groups: Number of channel groups.
    """

    weight: IntArray
    bias: IntArray
    stride: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    @property
    def rank(self) -> int:
        """R."""
        return self.weight.ndim - 2

    def _spans(self) -> list[int]:
        return [d * (k - 1) + 1 for d, k in zip(self.dilation, self.weight.shape[2:], strict=True)]

    def shape(self, *shapes: Shape) -> Shape:
        (x,), r = shapes, self.rank
        require(0 <= r <= 2 and self.weight.size > 0, f"a weight of {self.weight.shape}")
        settings = (self.stride, self.before, self.after, self.dilation)
        require(all(len(s) == r for s in settings), f"a kernel over {r} axes needs {r} numbers of each kind")
        sound = (
            min((*self.stride, *self.dilation, self.groups, 1)) > 0
            and self.weight.shape[0] % self.groups == 0
        )
        require(sound and self.bias.shape == self.weight.shape[:1], "stride, dilation, groups or bias")
        require(len(x) > r, f"a kernel over {r} axes needs more of them than {x}")
        channels, space = x[len(x) - r - 1], x[len(x) - r :]
        require(channels == self.weight.shape[1] * self.groups, f"{self.weight.shape} does not fit {x}")
        spans = self._spans()
        pads = zip(self.before, self.after, spans, strict=True)
        require(all(0 <= p < s and 0 <= q < s for p, q, s in pads), "padding as wide as the kernel")
        size = [
            (n + p + q - span) // s + 1
            for n, p, q, span, s in zip(space, self.before, self.after, spans, self.stride, strict=True)
        ]
        require(min(size, default=1) > 0, f"the kernel {self.weight.shape[2:]} does not fit {x}")
        return (*x[: len(x) - r - 1], self.weight.shape[0], *size)

    def bounds(self, *values: ValueRange, shapes: Sequence[Shape]) -> tuple[int, int, int]:
        ((low, high),) = values
        if any(self.before) or any(self.after):
            low, high = min(low, 0), max(high, 0)
        weight = self.weight.reshape(len(self.weight), -1).astype(object)  # Python's integers do not overflow
        positive, negative = np.maximum(weight, 0).sum(1), np.minimum(weight, 0).sum(1)
        bias = self.bias.astype(object)
        magnitude = max((positive - negative) * max(abs(low), abs(high)) + abs(bias))
        return (
            min(positive * low + negative * high + bias),
            max(positive * high + negative * low + bias),
            magnitude,
        )

    def run(self, *values: IntArray) -> IntArray:
        (x,), r = values, self.rank
        most = np.abs(self.weight).reshape(len(self.weight), -1).sum(1).max()
        kind: type[np.float64 | np.int64] = np.int64
        if int(np.abs(x).max(initial=0)) * int(most) < EXACT:
            kind = np.float64
        axes = x.ndim - r
        padded = np.pad(x.astype(kind), [(0, 0)] * axes + list(zip(self.before, self.after, strict=True)))
        outputs, depth = self.weight.shape[:2]
        kh, kw = _pair(self.weight.shape[2:])
        sh, sw = _pair(self.stride)
        dh, dw = _pair(self.dilation)
        height, width = _pair(padded.shape[axes:])
        rows, columns = (height - dh * (kh - 1) - 1) // sh + 1, (width - dw * (kw - 1) - 1) // sw + 1
        maps = padded.reshape(-1, self.groups, depth, height, width)
        weight = self.weight.reshape(self.groups, outputs // self.groups, depth, kh, kw).astype(kind)
        total = np.zeros((len(maps), self.groups, outputs // self.groups, rows * columns), kind)
        for i in range(kh):
            for j in range(kw):
                bottom, right = i * dh + (rows - 1) * sh + 1, j * dw + (columns - 1) * sw + 1
                tap = maps[..., i * dh : bottom : sh, j * dw : right : sw]
                tap = tap.reshape(len(maps), self.groups, depth, rows * columns)
                one = weight[..., i, j]
                total += one * tap if depth == 1 else np.matmul(one, tap)
        sums = total.astype(np.int64).reshape(len(maps), outputs, -1) + self.bias[:, None]
        return sums.reshape(*x.shape[: axes - 1], outputs, *(rows, columns)[2 - r :])


def _pair(numbers: Shape) -> Shape:
    """Numbers of a kernel over fewer axes as of one over two."""
    return (1,) * (2 - len(numbers)) + numbers


@dataclass(frozen=True)
class PoolStep(ProgramStep):
    """Windows over the last two axes; a sum counts padding as zero, a largest value never takes it."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]

    def shape(self, *shapes: Shape) -> Shape:
        (x,) = shapes
        settings = (self.kernel, self.stride, self.padding)
        require(all(len(s) == 2 for s in settings) and len(x) >= 2, "a pool needs two numbers of each kind")
        sound = min(*self.kernel, *self.stride) > 0 and min(self.padding) >= 0
        require(
            sound and all(2 * p <= k for p, k in zip(self.padding, self.kernel, strict=True)),
            "kernel, stride or padding",
        )
        sizes = zip(x[-2:], self.kernel, self.stride, self.padding, strict=True)
        size = [(n + 2 * p - k) // s + 1 for n, k, s, p in sizes]
        require(min(size) > 0, f"the window {self.kernel} does not fit {x}")
        return (*x[:-2], *size)

    def _taps(self, x: IntArray, fill: int) -> list[IntArray]:
        (ph, pw), (sh, sw) = self.padding, self.stride
        x = np.pad(x, [(0, 0)] * (x.ndim - 2) + [(ph, ph), (pw, pw)], constant_values=fill)
        rows, columns = (
            (n - k) // s + 1 for n, k, s in zip(x.shape[-2:], self.kernel, self.stride, strict=False)
        )
        return [
            x[..., i : i + (rows - 1) * sh + 1 : sh, j : j + (columns - 1) * sw + 1 : sw]
            for i in range(self.kernel[0])
            for j in range(self.kernel[1])
        ]


class LargestPoolStep(PoolStep):
    """Largest value of each window."""

    def run(self, *values: IntArray) -> IntArray:
        taps = self._taps(values[0], -LIMIT)
        found = taps[0]
        for tap in taps[1:]:
            found = np.maximum(found, tap)
        return found


class SumPoolStep(PoolStep):
    """Sum of each window; a mean is a sum whose unit is larger."""

    def bounds(self, *values: ValueRange, shapes: Sequence[Shape]) -> tuple[int, int, int]:
        ((low, high),), n = values, prod(self.kernel)
        if any(self.padding):
            low, high = min(low, 0), max(high, 0)
        return n * low, n * high, n * max(abs(low), abs(high))

    def run(self, *values: IntArray) -> IntArray:
        taps = self._taps(values[0], 0)
        total = taps[0].copy()
        for tap in taps[1:]:
            total += tap
        return total
