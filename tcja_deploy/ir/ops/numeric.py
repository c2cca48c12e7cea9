"""NumPy pieces that several reference rules share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.ir.op import Array

__all__ = ["Pair", "float32", "sigmoid", "windows"]

Pair = tuple[int, int]
"""A number for the height and one for the width."""


def float32(x: NDArray[np.generic] | np.float32) -> Array:
    """Values rounded to float32."""
    return np.asarray(x, np.float32)


def sigmoid(x: Array) -> Array:
    """Logistic function in float32 without overflow."""
    e = np.exp(-np.abs(x))
    return float32(np.where(x >= 0, np.float32(1), e) / (1 + e))


def windows(x: Array, kernel: Pair, stride: Pair, dilation: Pair) -> Array:
    """Sliding windows `[..., H', W', kh, kw]` over the last two axes."""
    span = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    view: Array = np.lib.stride_tricks.sliding_window_view(x, span, axis=(-2, -1))
    return view[..., :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]
