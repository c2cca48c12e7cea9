"""Frames as they are stored: their shape and their values are checked here, whatever file they come from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import DataError
from tcja_deploy.events.formats.arrays import ArrayHeader
from tcja_deploy.events.formats.base import FrameArray

__all__ = ["check_frame_header", "check_frames"]

_EXACT_FLOAT32 = 2**24


def check_frame_header(header: ArrayHeader, shape: tuple[int, ...], *, where: str) -> None:
    """Check shape and dtype of a stored frame array against `shape`, in which -1 stands for any length.

    Raises:
        DataError: They differ; the message says how.
    """
    fits = len(header.shape) == len(shape) and all(
        want in (-1, got) for got, want in zip(header.shape, shape, strict=True)
    )
    if not fits or header.dtype.kind not in "biuf":
        names = "[N, T, C, H, W]" if len(shape) == 5 else "[T, C, H, W]"
        expected = ", ".join("N" if want < 0 else str(want) for want in shape)
        raise DataError(
            f"frames are {list(header.shape)} of {header.dtype}; the model takes {names} = [{expected}]",
            where=where,
            hint="frames are not resampled: integrate the events again with the model's T and sensor size",
        )


def check_frames(frames: NDArray[np.generic], *, where: str) -> FrameArray:
    """Convert stored frames to float32; event counts stay exact.

    Raises:
        DataError: A value is not finite, or an integer beyond 2^24, which float32 would round.
    """
    if frames.dtype.kind in "iu" and frames.size and not _exact(frames):
        raise DataError(
            "a count is beyond 2^24, which float32 cannot hold exactly",
            where=where,
            hint="the file is damaged, or its frames are not event counts",
        )
    with np.errstate(over="ignore"):
        converted = frames.astype(np.float32)
    if not np.isfinite(converted).all():
        raise DataError(
            "frames hold a value that is not finite in float32", where=where, hint="the file is damaged"
        )
    return converted


def _exact(frames: NDArray[np.generic]) -> bool:
    return int(frames.max()) <= _EXACT_FLOAT32 and int(frames.min()) >= -_EXACT_FLOAT32
