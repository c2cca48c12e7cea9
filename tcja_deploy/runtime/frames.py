"""Frames as a network takes them: their shape, and numbers that are finite in float32."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import DataError
from tcja_deploy.ir import Graph

__all__ = ["check_shape", "checked_frames", "not_finite"]


def checked_frames(graph: Graph, frames: NDArray[Any]) -> NDArray[np.float32]:
    """Frames `[T, N, ...]` as contiguous float32, checked against the graph's input.

    Raises:
        DataError: If they hold no numbers or some that are not finite, or the shape is not `[T, N, ...]` of the graph.
    """
    if frames.dtype.kind not in "biuf":
        raise DataError(f"the frames hold no numbers ({frames.dtype})")
    check_shape(graph, frames.shape)
    with np.errstate(over="ignore", invalid="ignore"):
        x = np.ascontiguousarray(frames, np.float32)
        finite = math.isfinite(float(x.sum()))  # one pass without a copy; large numbers may overflow
        if not finite and not math.isfinite(float(x.max()) - float(x.min())):
            raise not_finite()
    return x


def check_shape(graph: Graph, found: Sequence[int]) -> None:
    """Check the shape of frames.

    Raises:
        DataError: If it is not `[T, N, ...]` of the graph.
    """
    if len(found) < 2 or (found[0], *found[2:]) != (graph.T, *graph.input_shape):
        shape = ", ".join(map(str, graph.input_shape))
        raise DataError(
            f"the frames have shape {list(found)}, the model expects [T={graph.T}, N, {shape}]",
            hint="integrate the recording into as many frames as the model has time steps; time is the first axis",
        )


def not_finite() -> DataError:
    """The error for frames with a number that is none in float32."""
    return DataError(
        "the frames hold a value that is not finite in float32",
        hint="check how they were made: NaN or infinity",
    )
