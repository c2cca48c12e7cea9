"""Counts of one sensor brought to the size of another."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["SENSORS", "Resize", "known_sensor", "resize"]

Resize = Literal["area", "crop", "nearest"]

SENSORS = (
    (34, 34),
    (128, 128),
    (180, 240),
    (240, 304),
    (240, 320),
    (260, 346),
    (480, 640),
    (720, 1280),
)
"""Rows and columns of sensors that recordings come from, the smallest first."""


def known_sensor(rows: int, columns: int) -> tuple[int, int]:
    """The smallest of `SENSORS` on which events in so many rows and columns can lie; just these if all are too small."""
    fitting = [(height, width) for height, width in SENSORS if rows <= height and columns <= width]
    return fitting[0] if fitting else (rows, columns)


def resize(frames: NDArray[np.generic], sensor: tuple[int, int], way: Resize) -> NDArray[np.float32]:
    """Bring frames `[..., H, W]` to another size.

    - `area`: a pixel is the mean over the pixels that it covers, as `torch.nn.functional.interpolate(mode="area")`;
      counts become fractions;
    - `nearest`: a pixel is one of the pixels it covers, as `interpolate(mode="nearest")`; the others are left out;
    - `crop`: the middle is cut out, as `torchvision.transforms.functional.center_crop`; where the frame is smaller, zeros
      are put around it.

    Returns:
        Frames `[..., *sensor]`, float32.
    """
    height, width = sensor
    if way == "crop":
        return _middle(_middle(frames.astype(np.float32), height, -2), width, -1)
    if way == "nearest":
        rows = np.arange(height) * frames.shape[-2] // height
        columns = np.arange(width) * frames.shape[-1] // width
        return frames[..., rows[:, None], columns].astype(np.float32)
    wide = frames.astype(np.float64)
    mean = _means(frames.shape[-2], height) @ wide @ _means(frames.shape[-1], width).T
    return mean.astype(np.float32)


def _means(size: int, target: int) -> NDArray[np.float64]:
    """Weights `[target, size]`: each target takes the mean from floor(i size / target) to ceil((i + 1) size / target)."""
    place = np.arange(target)
    start, stop = place * size // target, -(-(place + 1) * size // target)
    source = np.arange(size)
    inside = (source >= start[:, None]) & (source < stop[:, None])
    return inside / (stop - start)[:, None]


def _middle(frames: NDArray[np.float32], target: int, axis: int) -> NDArray[np.float32]:
    size = frames.shape[axis]
    if size < target:
        before = (target - size) // 2
        around = [(0, 0)] * frames.ndim
        around[axis] = (before, target - size - before)
        return np.pad(frames, around)
    start = round((size - target) / 2.0)
    return np.take(frames, range(start, start + target), axis=axis)
