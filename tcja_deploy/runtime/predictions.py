"""Which class a network predicts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["predictions"]

_TIE = 1e-6
"""Scores within this distance (relative to 1 or the largest) are tied: float32 rounds sums of up to 16 terms by no more."""


def predictions(output: NDArray[Any], streams: bool) -> NDArray[np.int64]:
    """Predicted class of each sample: largest output, after the mean over time if the output is `[T, N, K]`.

    Votes are small fractions and often equal; the first of those that differ only by rounding is taken, so that two runtimes
    that round differently do not seem to predict differently.
    """
    scores = output.mean(0) if streams else output
    flat = scores.reshape(len(scores), -1)
    best = flat.max(1, keepdims=True)
    margin = _TIE * np.maximum(1, np.abs(np.nan_to_num(best, nan=0, posinf=0, neginf=0)))
    result: NDArray[np.int64] = (flat >= best - margin).argmax(1)
    return result
