"""NumPy files with one recording: events by name, as a structured array or as rows; frames."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import DataError
from tcja_deploy.events.formats.arrays import ArrayHeader, map_npy, npy_header, npz_headers, read_npz
from tcja_deploy.events.formats.base import (
    Columns,
    FrameArray,
    FrameShape,
    Head,
    Reader,
    RecordingSource,
    Rows,
    Stored,
    by_alias,
    check_count,
)
from tcja_deploy.events.formats.frames import check_frame_header, check_frames
from tcja_deploy.events.formats.packed import FrameStack, PackedEvents
from tcja_deploy.events.recording import Events, make_events

__all__ = ["NPY", "NPZ", "array_of_events", "read_event_npz", "read_frames"]

_FRAMES = "frames"
_HINT = "event files hold t, x, y and p, one structured array, or one array [N, 4]; frame files hold 'frames' [T, C, H, W]"


def read_event_npz(path: Path | str) -> Events:
    """Read one recording stored as SpikingJelly prepares DVS128 Gesture, N-Caltech101 and CIFAR10-DVS.

    The file holds four arrays of one length: `t` (microseconds), `x`, `y` (pixels), `p` (0 or 1).

    Raises:
        DataError: The file cannot be read, lacks a key, or holds no whole numbers of equal length.
    """
    path = Path(path)
    columns = _named_columns(path, npz_headers(path))
    return make_events(columns.t, columns.x, columns.y, columns.p, where=str(path))


def _named_columns(path: Path, headers: Mapping[str, ArrayHeader]) -> Columns:
    names = by_alias(tuple(headers))
    if names is None:
        missing = [key for key in "txyp" if key not in headers]
        raise DataError(
            f"lacks the arrays {missing}; it holds {sorted(headers)}", where=str(path), hint=_HINT
        )
    for name in names.values():
        check_count(max(headers[name].shape, default=0), path)
    arrays = read_npz(path, names.values())
    t, x, y, p = (arrays[names[key]] for key in "txyp")
    return Columns(t, x, y, p)


def read_frames(path: Path | str, *, shape: FrameShape) -> FrameArray:
    """Read one recording stored as frames: `.npz` with the key `frames` (SpikingJelly's), or `.npy`.

    Args:
        path: The file.
        shape: The expected `[T, C, H, W]`.

    Returns:
        Frames `[T, C, H, W]`, float32.

    Raises:
        DataError: The file cannot be read, has another shape, or holds a value that is not finite or an
            integer beyond 2^24, which float32 would round.
    """
    path = Path(path)
    if path.suffix == ".npy":
        check_frame_header(npy_header(path), shape, where=str(path))
        return check_frames(map_npy(path), where=str(path))
    headers = npz_headers(path)
    if _FRAMES not in headers:
        raise DataError(f"lacks the array '{_FRAMES}'; it holds {sorted(headers)}", where=str(path))
    check_frame_header(headers[_FRAMES], shape, where=str(path))
    return check_frames(read_npz(path, [_FRAMES])[_FRAMES], where=str(path))


def _is_events(header: ArrayHeader) -> bool:
    """Whether an array is a table of events: structured, or with four columns."""
    return header.dtype.names is not None or (len(header.shape) == 2 and header.shape[1] == 4)


def array_of_events(array: NDArray[Any], *, where: str) -> Columns | Rows:
    """Events from a structured array `[N]` (as tonic has them) or the rows of an array `[N, 4]`.

    Raises:
        DataError: The fields are not t, x, y and p under any known name.
    """
    if array.dtype.names is None:
        return Rows(array)
    names = by_alias(array.dtype.names)
    if names is None or array.ndim != 1:
        raise DataError(
            f"a structured array {list(array.shape)} with the fields {list(array.dtype.names)}, expected events",
            where=where,
            hint="the fields of events are t, x, y and p",
        )
    t, x, y, p = (np.ascontiguousarray(array[names[key]]) for key in "txyp")
    return Columns(t, x, y, p)


def _read_npz(path: Path, shape: FrameShape) -> Stored:
    headers = npz_headers(path)
    if "offsets" in headers:
        raise DataError(
            "holds many recordings",
            where=str(path),
            hint="pass this file by itself, not a folder that holds it",
        )
    if _FRAMES in headers:
        return read_frames(path, shape=shape)
    tables = [key for key, header in headers.items() if _is_events(header)]
    if by_alias(tuple(headers)) is None and len(tables) == 1:
        check_count(headers[tables[0]].shape[0] if headers[tables[0]].shape else 0, path)
        return array_of_events(read_npz(path, tables)[tables[0]], where=str(path))
    # SpikingJelly's own layout has one convention, and its integration would misread any other.
    return read_event_npz(path) if set("txyp") <= set(headers) else _named_columns(path, headers)


def _read_npy(path: Path, shape: FrameShape) -> Stored:
    header = npy_header(path)
    if not _is_events(header):
        return read_frames(path, shape=shape)
    check_count(header.shape[0] if header.shape else 0, path)
    return array_of_events(map_npy(path), where=str(path))


def _many_npz(path: Path, shape: FrameShape) -> RecordingSource | None:
    headers = npz_headers(path)
    if "offsets" in headers:
        return PackedEvents(path, headers)
    if _FRAMES in headers and len(headers[_FRAMES].shape) == 5:
        return FrameStack(path, headers[_FRAMES], shape, labelled="labels" in headers)
    return None


def _many_npy(path: Path, shape: FrameShape) -> RecordingSource | None:
    header = npy_header(path)
    return FrameStack(path, header, shape) if len(header.shape) == 5 else None


def _zip_of_arrays(head: Head) -> bool:
    return head.suffix == ".npz" or (head.start[:4] == b"PK\x03\x04" and b".npy" in head.start[:200])


NPZ = Reader(
    name="NumPy `.npz`",
    suffixes=(".npz",),
    holds="`t`, `x`, `y`, `p`; or a structured array or `[N, 4]` under any name; or `frames` `[T, C, H, W]`; or many "
    "recordings: events end to end with `offsets`, `frames` `[N, T, C, H, W]`, perhaps `labels`",
    written_by="SpikingJelly (`events_np`, `frames_number_*`), this program's own data",
    recognise=_zip_of_arrays,
    read=_read_npz,
    many=_many_npz,
)
NPY = Reader(
    name="NumPy `.npy`",
    suffixes=(".npy",),
    holds="a structured array of events, events as rows `[N, 4]`, frames `[T, C, H, W]` or `[N, T, C, H, W]`",
    written_by="tonic",
    recognise=lambda head: head.suffix == ".npy" or head.start[:6] == b"\x93NUMPY",
    read=_read_npy,
    many=_many_npy,
)
