"""Readers of single recordings: N-MNIST `.bin`, event `.npz`, frame `.npz` and `.npy`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import DataError
from tcja_deploy.events.arrays import ArrayHeader, map_npy, npy_header, npz_headers, read_npz
from tcja_deploy.events.recording import MAX_EVENTS, Events, make_events

__all__ = ["EVENT_KEYS", "FRAMES_KEY", "check_frames", "read_event_npz", "read_frames", "read_nmnist"]

EVENT_KEYS = ("t", "x", "y", "p")
FRAMES_KEY = "frames"

_EVENT_BYTES = 5
_OVERFLOW_ROW = 240
_OVERFLOW_MICROSECONDS = 2**13
_EXACT_FLOAT32 = 2**24


def read_nmnist(path: Path | str) -> Events:
    """Read a recording in the binary format of N-MNIST and N-Caltech101.

    Five bytes an event, big endian: x (8 bits), y (8 bits), polarity (1 bit), time in microseconds (23 bits).

    An event with y = 240 is no pixel (the ATIS sensor has 240 rows) but the mark that a clock of 2^13
    microseconds wrapped: it is dropped, and 8192 is added to every later timestamp. Timestamps that still run
    backwards are kept as they are and the events stay in file order; `integrate` says what it does with them.

    Source: Orchard et al., Frontiers in Neuroscience 9:437 (2015), doi:10.3389/fnins.2015.00437.

    Raises:
        DataError: The file cannot be read, is no whole number of events long, or exceeds `MAX_EVENTS`.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        _check_bin_size(size, path)
        raw = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", where=str(path)) from error
    _check_bin_size(raw.size, path)
    columns = raw.reshape(-1, _EVENT_BYTES).astype(np.int64)
    x, y = columns[:, 0], columns[:, 1]
    t = ((columns[:, 2] & 0x7F) << 16) | (columns[:, 3] << 8) | columns[:, 4]
    overflow = y == _OVERFLOW_ROW
    t = t + np.cumsum(overflow) * _OVERFLOW_MICROSECONDS
    pixel = ~overflow
    return Events(t[pixel], x[pixel], y[pixel], columns[pixel, 2] >> 7)


def _check_bin_size(size: int, path: Path) -> None:
    if size % _EVENT_BYTES:
        raise DataError(
            f"{size} bytes are no whole number of events of {_EVENT_BYTES} bytes",
            where=str(path),
            hint="the file is truncated, or not in the N-MNIST format",
        )
    if size > _EVENT_BYTES * MAX_EVENTS:
        raise DataError(
            f"holds {size // _EVENT_BYTES} events, at most {MAX_EVENTS} are read", where=str(path)
        )


def read_event_npz(path: Path | str) -> Events:
    """Read one recording stored as SpikingJelly prepares DVS128 Gesture, N-Caltech101 and CIFAR10-DVS.

    The file holds four arrays of one length: `t` (microseconds), `x`, `y` (pixels), `p` (0 or 1).

    Raises:
        DataError: The file cannot be read, lacks a key, or holds no whole numbers of equal length.
    """
    path = Path(path)
    check_event_headers(npz_headers(path), path)
    return make_events(**read_npz(path, EVENT_KEYS), where=str(path))


def check_event_headers(headers: dict[str, ArrayHeader], path: Path) -> None:
    """Check, before anything is allocated, that a `.npz` holds event columns of an acceptable size.

    Raises:
        DataError: A key is missing, or a column holds more than `MAX_EVENTS`.
    """
    missing = [key for key in EVENT_KEYS if key not in headers]
    if missing:
        raise DataError(
            f"lacks the arrays {missing}; it holds {sorted(headers)}",
            where=str(path),
            hint="event files hold t, x, y and p; frame files hold 'frames' [T, C, H, W]",
        )
    for key in EVENT_KEYS:
        if any(length > MAX_EVENTS for length in headers[key].shape):
            raise DataError(
                f"'{key}' has shape {list(headers[key].shape)}, at most {MAX_EVENTS} events are read",
                where=str(path),
            )


def read_frames(path: Path | str, *, shape: tuple[int, int, int, int]) -> NDArray[np.float32]:
    """Read one recording stored as frames: `.npz` with the key `frames` (SpikingJelly's), or `.npy`.

    Args:
        path: The file.
        shape: The expected `(T, C, H, W)`.

    Returns:
        Frames `[T, C, H, W]`, float32.

    Raises:
        DataError: The file cannot be read, has another shape, or holds a value that is not finite or an
            integer beyond 2^24, which float32 would round.
    """
    path = Path(path)
    if path.suffix == ".npy":
        header = npy_header(path)
    else:
        headers = npz_headers(path)
        if FRAMES_KEY not in headers:
            raise DataError(f"lacks the array '{FRAMES_KEY}'; it holds {sorted(headers)}", where=str(path))
        header = headers[FRAMES_KEY]
    check_frame_header(header, shape, where=str(path))
    frames = map_npy(path) if path.suffix == ".npy" else read_npz(path, [FRAMES_KEY])[FRAMES_KEY]
    return check_frames(frames, where=str(path))


def check_frame_header(header: ArrayHeader, shape: tuple[int, ...], *, where: str) -> None:
    """Check shape and dtype of a stored frame array against `shape`, in which -1 stands for any length.

    Raises:
        DataError: They differ; says by what.
    """
    fits = len(header.shape) == len(shape) and all(
        want in (-1, got) for got, want in zip(header.shape, shape, strict=True)
    )
    if not fits or header.dtype.kind not in "biuf":
        names = "[N, T, C, H, W]" if len(shape) == 5 else "[T, C, H, W]"
        expected = ", ".join("N" if want < 0 else str(want) for want in shape)
        raise DataError(
            f"frames are {list(header.shape)} of {header.dtype}, the model takes {names} = [{expected}]",
            where=where,
            hint="frames are not resampled: integrate the events again with the model's T and sensor size",
        )


def check_frames(frames: NDArray[np.generic], *, where: str) -> NDArray[np.float32]:
    """Convert stored frames to float32; event counts stay exact.

    Raises:
        DataError: A value is not finite, or an integer beyond 2^24, which float32 would round.
    """
    if frames.dtype.kind in "iu" and frames.size and not _exact(frames):
        raise DataError("a count is beyond 2^24, which float32 cannot hold exactly", where=where)
    with np.errstate(over="ignore"):
        converted = frames.astype(np.float32)
    if not np.isfinite(converted).all():
        raise DataError(
            "frames hold a value that is not finite in float32", where=where, hint="the file is damaged"
        )
    return converted


def _exact(frames: NDArray[np.generic]) -> bool:
    return int(frames.max()) <= _EXACT_FLOAT32 and int(frames.min()) >= -_EXACT_FLOAT32
