"""Files that hold many recordings: events end to end, stacks of frames."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import DataError
from tcja_deploy.events.formats.arrays import ArrayHeader, map_npy, read_npz
from tcja_deploy.events.formats.base import FrameArray, FrameShape, Labels, check_count
from tcja_deploy.events.formats.frames import check_frame_header, check_frames
from tcja_deploy.events.recording import Events, make_events

__all__ = ["FrameStack", "PackedEvents", "check_labels", "numbered"]

_KEYS = ("t", "x", "y", "p")
_FRAMES = "frames"
_MAX_UNPACKED = 2**32


@dataclass(frozen=True)
class PackedEvents:
    """Many recordings in one `.npz`: t, x, y, p end to end, `offsets` `[N + 1]`, perhaps `labels` `[N]`."""

    path: Path
    headers: dict[str, ArrayHeader] = field(repr=False)
    mapped: bool = False

    @cached_property
    def _arrays(self) -> tuple[Events, NDArray[np.int64], Labels | None]:
        missing = [key for key in _KEYS if key not in self.headers]
        if missing:
            raise DataError(
                f"lacks the arrays {missing}; it holds {sorted(self.headers)}",
                where=str(self.path),
                hint="many recordings end to end are t, x, y, p and offsets",
            )
        for key in _KEYS:
            check_count(max(self.headers[key].shape, default=0), self.path)
        for key in ("offsets", "labels"):
            header = self.headers.get(key)
            if header and (len(header.shape) != 1 or header.dtype.kind not in "iu"):
                raise DataError(
                    f"'{key}' is {list(header.shape)} of {header.dtype}, expected integers in one dimension",
                    where=str(self.path),
                )
        _check_recordings(self.headers["offsets"].shape[0] - 1, self.path)
        keys = [*_KEYS, "offsets", *(["labels"] if "labels" in self.headers else [])]
        arrays = read_npz(self.path, keys)
        events = make_events(**{key: arrays[key] for key in _KEYS}, where=str(self.path))
        offsets = arrays["offsets"].astype(np.int64)
        ordered = offsets.size >= 2 and offsets[0] == 0 and offsets[-1] == len(events)
        if not ordered or (np.diff(offsets) < 0).any():
            raise DataError(
                f"'offsets' must rise from 0 to the {len(events)} events in the file", where=str(self.path)
            )
        return events, offsets, check_labels(arrays.get("labels"), offsets.size - 1, self.path)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """File name and position of each recording."""
        return numbered(self.path, self._arrays[1].size - 1)

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """The one file, once per recording."""
        return (self.path,) * len(self.names)

    @property
    def labels(self) -> Labels | None:
        """Class indices, where the file has them."""
        return self._arrays[2]

    def read(self, index: int) -> Events:
        """The events of one recording."""
        events, offsets, _ = self._arrays
        return events.slice(int(offsets[index]), int(offsets[index + 1]))


@dataclass(frozen=True)
class FrameStack:
    """Many recordings as frames `[N, T, C, H, W]`: `.npy` (mapped), or `.npz` (`frames`, maybe `labels`)."""

    path: Path
    header: ArrayHeader
    shape: FrameShape
    labelled: bool = False
    mapped: bool = True

    def __post_init__(self) -> None:
        check_frame_header(self.header, (-1, *self.shape), where=str(self.path))
        if self.path.suffix == ".npz" and self.header.nbytes > _MAX_UNPACKED:
            raise DataError(
                f"'{_FRAMES}' unpacks to {self.header.nbytes} bytes; at most {_MAX_UNPACKED} are read",
                where=str(self.path),
                hint="save it as .npy, which is read piece by piece",
            )

    @cached_property
    def _frames(self) -> NDArray[np.generic]:
        return map_npy(self.path) if self.path.suffix == ".npy" else read_npz(self.path, [_FRAMES])[_FRAMES]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """File name and position of each recording."""
        return numbered(self.path, self.header.shape[0])

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """The one file, once per recording."""
        return (self.path,) * self.header.shape[0]

    @cached_property
    def labels(self) -> Labels | None:
        """Class indices, where the file has them."""
        stored = read_npz(self.path, ["labels"])["labels"] if self.labelled else None
        return check_labels(stored, self.header.shape[0], self.path)

    def read(self, index: int) -> FrameArray:
        """The frames of one recording.

        Raises:
            DataError: A value that float32 cannot hold.
        """
        return check_frames(self._frames[index], where=f"{self.path}[{index}]")


_MOST_RECORDINGS = 1 << 20


def _check_recordings(count: int, path: Path) -> None:
    """Check, before anything is allocated, that a file does not hold too many recordings.

    Raises:
        DataError: There are more than 2^20.
    """
    if count > _MOST_RECORDINGS:
        raise DataError(
            f"holds {count:,} recordings; at most {_MOST_RECORDINGS:,} are read from one file",
            where=str(path),
            hint="divide them among several files",
        )


def numbered(path: Path, count: int) -> tuple[str, ...]:
    """Names of the recordings in a file: its own name and a number.

    Raises:
        DataError: There are more than 2^20.
    """
    _check_recordings(count, path)
    return tuple(f"{path.name}[{index}]" for index in range(count))


def check_labels(stored: NDArray[np.generic] | None, count: int, path: Path) -> Labels | None:
    """The labels stored in a file of `count` recordings.

    Raises:
        DataError: They are not class indices, or not one per recording.
    """
    if stored is None:
        return None
    if stored.shape != (count,) or stored.dtype.kind not in "iu" or (count and int(stored.min()) < 0):
        raise DataError(
            f"'labels' is {list(stored.shape)} of {stored.dtype}, expected {count} class indices from 0",
            where=str(path),
        )
    return stored.astype(np.int64)
