"""Convolution kernels rewritten for netx, which has no asymmetric padding, fewer than 128 groups and no average pools."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.runtime.integers.layers import LayerStage, or_pool
from tcja_deploy.runtime.integers.stages import Pair

__all__ = ["after_average", "crop", "regrouped", "spread", "symmetric", "usable_groups"]

EIGHT_BITS = MAX_GROUPS = 127
"""Lava stores numbers of groups, kernel sizes, strides and paddings in eight bits."""

Kernel = NDArray[np.float64]


def spread(weight: Kernel, dilation: Pair) -> Kernel:
    """The same kernel with zeros instead of dilation."""
    rows, columns = (d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[2:], strict=True))
    wide = np.zeros((*weight.shape[:2], rows, columns))
    wide[:, :, :: dilation[0], :: dilation[1]] = weight
    return wide


def symmetric(weight: Kernel, padding: tuple[int, int, int, int]) -> tuple[Kernel, Pair]:
    """Kernel and padding of the same convolution with equal padding on both sides (top, left, bottom, right)."""
    top, left, bottom, right = padding
    rows, columns = max(top, bottom), max(left, right)
    around = ((0, 0), (0, 0), (rows - top, rows - bottom), (columns - left, columns - right))
    return np.pad(weight, around), (rows, columns)


def after_average(weight: Kernel, kernel: Pair, stride: Pair) -> Kernel:
    """Kernel of an average pool followed by a convolution without dilation; the strides multiply."""
    apart = spread(weight, stride)
    (height, width), (rows, columns) = kernel, apart.shape[2:]
    grown = np.zeros((*weight.shape[:2], rows + height - 1, columns + width - 1))
    for i in range(height):
        for j in range(width):
            grown[:, :, i : i + rows, j : j + columns] += apart / (height * width)
    return grown


def usable_groups(groups: int) -> int:
    """The largest divisor of `groups` that Lava can count."""
    return max(g for g in range(1, min(groups, MAX_GROUPS) + 1) if groups % g == 0)


def regrouped(weight: Kernel, groups: int) -> Kernel:
    """The same weights for `usable_groups(groups)` groups, with zeros between the groups that are joined."""
    joined = groups // usable_groups(groups)
    if joined == 1:
        return weight
    outputs, depth = weight.shape[0] // groups, weight.shape[1]
    wide = np.zeros((weight.shape[0], depth * joined, *weight.shape[2:]))
    for channel in range(weight.shape[0]):
        place = channel // outputs % joined
        wide[channel, place * depth : (place + 1) * depth] = weight[channel]
    return wide


def crop(name: str, in_shape: tuple[int, ...], cut: Pair) -> LayerStage:
    """A layer that passes on spikes without the last rows and columns."""
    pool = or_pool(name, in_shape, (cut[0] + 1, cut[1] + 1), (1, 1), max_groups=MAX_GROUPS)
    weight = np.zeros_like(pool.weight)
    weight[:, :, 0, 0] = pool.weight[:, :, 0, 0]
    return replace(pool, kind="conv", weight=weight)
