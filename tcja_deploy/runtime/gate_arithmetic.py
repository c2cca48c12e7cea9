"""The TCJA gate in integers: numpy only and without imports of its own package, because this file also travels in Lava
bundles, where the gate process executes it under another Python.

Counts replace the means of the paper (Zhu et al., TNNLS 2024): with `n` pixels, counts = n * mean. Weights are integers
`w = floor(w_float * 2**fraction + 1/2)`. A fused argument `z` (product, or sum, of the temporal and the channel-wise
convolution) is brought to steps of `2**-index_bits`, rounded half up, clipped to the table and looked up:

    index = floor((z + q // 2) / q),   q = scale / 2**index_bits
    scale = (2**fraction * n)**2 for a product, 2**fraction * n otherwise
"""

import numpy as np


def same_convolution(x, weight):
    """Integer Conv1d with PyTorch's 'same' padding: floor((K-1)/2) zeros on the left, the rest on the right.

    Args:
        x: Integers, shape (..., I, L).
        weight: Integers, shape (O, I, K).

    Returns:
        int64, shape (..., O, L). Exact while sums stay below 2**53 (`tcja_deploy.runtime.integer.Gate` checks it).
    """
    kernel = weight.shape[2]
    left = (kernel - 1) // 2
    length = x.shape[-1]
    padded = np.zeros((*x.shape[:-1], length + kernel - 1))
    padded[..., left : left + length] = x
    total = 0.0
    for tap in range(kernel):
        total = total + np.matmul(weight[:, :, tap].astype(np.float64), padded[..., tap : tap + length])
    return np.rint(total).astype(np.int64)


def gate_values(counts, area, tla, cla, fusion, fraction, index_bits, table):
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
    counts = np.asarray(counts, np.int64)
    temporal = channelwise = None
    if tla is not None:
        temporal = np.swapaxes(same_convolution(np.swapaxes(counts, -1, -2), tla), -1, -2)
    if cla is not None:
        channelwise = same_convolution(counts, cla)
    scale = (1 << fraction) * area
    if temporal is None:
        argument = channelwise
    elif channelwise is None:
        argument = temporal
    elif fusion == "multiply":
        argument = temporal * channelwise
        scale = scale * scale
    else:
        argument = temporal + channelwise
    half = len(table) // 2
    step = scale >> index_bits  # exact: fraction > index_bits
    index = (argument + step // 2) // step
    return np.asarray(table, np.int64)[np.clip(index, -half, half - 1) + half]
