"""Synthetic input for verifying a network without recordings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.ir import Graph, Kind

__all__ = ["synthetic_frames"]


def synthetic_frames(graph: Graph, samples: int, *, seed: int = 0) -> NDArray[np.float32]:
    """Random frames `[T, N, ...]` of the graph's input kind.

    Counts: Poisson events on smooth moving blobs, as sparse and as clustered as recordings, so that deep layers spike too.
    Spikes: the same, clipped to 1. Real: one image per sample, uniform in [0, 1], repeated over time.
    """
    rng = np.random.default_rng(seed)
    shape = graph.input_shape
    if graph.input.signal.kind is Kind.REAL:
        image = rng.uniform(0, 1, (1, samples, *shape))
        return np.repeat(image, graph.T, 0).astype(np.float32)
    if len(shape) != 3:
        rate = rng.gamma(0.5, 0.6, (1, samples, *shape))
        frames = rng.poisson(np.repeat(rate, graph.T, 0))
    else:
        frames = np.empty((graph.T, samples, *shape), np.int64)
        c, h, w = shape
        y, x = np.mgrid[:h, :w]
        centre, speed = rng.uniform(0.25, 0.75, (samples, c, 4, 2)), rng.normal(0, 0.02, (samples, c, 4, 2))
        width = rng.uniform(0.04, 0.15, (samples, c, 4, 1, 1))
        for t in range(graph.T):
            at = centre + t * speed
            far = ((y - at[..., 0, None, None] * h) / h) ** 2 + ((x - at[..., 1, None, None] * w) / w) ** 2
            frames[t] = rng.poisson(np.exp(-far / (2 * width**2)).sum(2) * 1.2)
    if graph.input.signal.kind is Kind.BINARY:
        frames = np.minimum(frames, 1)
    return frames.astype(np.float32)
