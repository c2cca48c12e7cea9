"""Values of a network as frames: axes of time and samples first, whatever the order of the signal."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from tcja_deploy.errors import DataError
from tcja_deploy.ir import Signal

__all__ = ["frame_order", "frame_shape", "frames_first"]


def frame_order(signal: Signal) -> tuple[int, ...]:
    """Order of axes that puts `T` (if there is one) and `N` of a signal first.

    Raises:
        DataError: The signal has no `N` axis.
    """
    if "N" not in signal.dims:
        raise DataError(f"{signal} has no axis of samples")
    first = [signal.dims.index(name) for name in ("T", "N") if name in signal.dims]
    return (*first, *(i for i in range(len(signal.dims)) if i not in first))


def frame_shape(signal: Signal, T: int) -> tuple[int, tuple[int, ...]]:
    """Frames in a window (`T`, or 1 for a value without a time axis) and the shape of one frame of one sample."""
    return (T if "T" in signal.dims else 1), signal.features


def frames_first(signal: Signal, value: NDArray[Any]) -> NDArray[Any]:
    """A value with its axes in the order `[steps, n, *features]`."""
    moved = value.transpose(frame_order(signal))
    return moved if "T" in signal.dims else moved[None]
