"""The TCJA gate in integers: numpy only and without imports of its own package, because this file also
travels in Lava bundles, where the gate process executes it under another Python.

Counts replace the means of the paper (Zhu et al., TNNLS 2024): with `n` pixels, counts = n * mean. Weights
are integers `w = floor(w_float * 2**fraction + 1/2)`. A fused argument `z` (product, or sum, of the temporal
and the channel-wise convolution) is brought to steps of `2**-index_bits`, rounded half up, clipped to the
table and looked up:

    index = floor((z + q // 2) / q),   q = scale / 2**index_bits
    scale = (2**fraction * n)**2 for a product, 2**fraction * n otherwise
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["gate_values", "same_convolution"]


def same_convolution(x: NDArray[np.int64], weight: NDArray[np.int64]) -> NDArray[np.int64]:
    """Integer Conv1d with PyTorch's 'same' padding: floor((K-1)/2) zeros on the left, the rest on the right.

    Args:
        x: Integers, shape (..., I, L).
        weight: Integers, shape (O, I, K).

    Returns:
        int64, shape (..., O, L). Exact while sums stay below 2**53 (`tcja_deploy.runtime.integer.Gate` checks
        it).
    """
    kernel = weight.shape[2]
    left = (kernel - 1) // 2
    length = x.shape[-1]
    padded = np.zeros((*x.shape[:-1], length + kernel - 1))
    padded[..., left : left + length] = x
    total = np.zeros((*x.shape[:-2], weight.shape[0], length))
    for tap in range(kernel):
        total += np.matmul(weight[:, :, tap].astype(np.float64), padded[..., tap : tap + length])
    return np.rint(total).astype(np.int64)


def gate_values(
    counts: NDArray[np.int64],
    area: int,
    tla: NDArray[np.int64] | None,
    cla: NDArray[np.int64] | None,
    fusion: str,
    fraction: int,
    index_bits: int,
    table: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Integer gate of every frame and channel.

    Args:
        counts: Payload sums over the pixels of a map, shape (..., T, C).
        area: Number of pixels times the integer that stands for a payload of one.
        tla: Temporal weights (C, C, K_T), or None.
        cla: Channel-wise weights (T, T, K_C), or None.
        fusion: "multiply" or "add"; of no effect where one of the two is None.
        fraction: Fraction bits of the weights.
        index_bits: Fraction bits of the table's argument.
        table: Gate integers for the indices -len/2 .. len/2 - 1.

    Returns:
        int64, shape (..., T, C).
    """
    scale = (1 << fraction) * area
    maps = []
    if tla is not None:
        maps.append(np.swapaxes(same_convolution(np.swapaxes(counts, -1, -2), tla), -1, -2))
    if cla is not None:
        maps.append(same_convolution(counts, cla))
    argument = maps[0]
    if len(maps) == 2 and fusion == "multiply":
        argument, scale = argument * maps[1], scale * scale
    elif len(maps) == 2:
        argument = argument + maps[1]
    step = scale >> index_bits  # exact: fraction > index_bits
    index = (argument + step // 2) // step
    half = len(table) // 2
    return table[np.clip(index, -half, half - 1) + half]
