"""Where recordings come from: files in class folders, or one file that holds many recordings."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import DataError
from tcja_deploy.events.arrays import ArrayHeader, map_npy, npy_header, npz_headers, read_npz
from tcja_deploy.events.readers import (
    EVENT_KEYS,
    FRAMES_KEY,
    check_event_headers,
    check_frame_header,
    check_frames,
    read_event_npz,
    read_frames,
    read_nmnist,
)
from tcja_deploy.events.recording import MAX_EVENTS, Events, make_events

__all__ = ["ACCEPTED", "FileSource", "Source", "file_source", "is_recording"]

Labels = NDArray[np.int64]
Frames = NDArray[np.float32]
FrameShape = tuple[int, int, int, int]

_SUFFIXES = (".bin", ".npy", ".npz")
_MAX_UNPACKED = 2**32
ACCEPTED = (
    "accepted are N-MNIST .bin, event .npz (t, x, y, p), frame .npz ('frames') or .npy, and folders; "
    "raw .aedat recordings are prepared by SpikingJelly's dataset classes"
)


class Source(Protocol):
    """Recordings that can be read one at a time; all sequences have one entry a recording."""

    @property
    def names(self) -> tuple[str, ...]:
        """What each recording is called in errors and in the digest."""

    @property
    def files(self) -> tuple[Path, ...]:
        """The file of each recording."""

    @property
    def labels(self) -> Labels | None:
        """Class indices, where known."""

    def read(self, index: int) -> Events | Frames:
        """The events, or the frames `[T, C, H, W]`, of one recording."""


def is_recording(path: Path) -> bool:
    """Whether a file is one that `FileSource` reads."""
    return path.suffix in _SUFFIXES


def file_source(path: Path, shape: FrameShape) -> Source:
    """Recognise what a file holds, by its suffix and the arrays in it.

    Args:
        path: The file.
        shape: `(T, C, H, W)` that stored frames must have.

    Raises:
        DataError: Nothing there, or nothing readable in it.
    """
    if not path.is_file():
        raise DataError("no such file or folder", where=str(path), hint=ACCEPTED)
    if path.suffix == ".npy":
        header = npy_header(path)
        return (
            FrameStack(path, header, shape)
            if len(header.shape) == 5
            else FileSource((path,), (path.name,), shape)
        )
    if path.suffix == ".npz":
        headers = npz_headers(path)
        if "offsets" in headers:
            return PackedEvents(path, headers)
        if FRAMES_KEY in headers and len(headers[FRAMES_KEY].shape) == 5:
            return FrameStack(path, headers[FRAMES_KEY], shape, labelled="labels" in headers)
    elif path.suffix != ".bin":
        raise DataError(f"unknown kind of file '{path.suffix}'", where=str(path), hint=ACCEPTED)
    return FileSource((path,), (path.name,), shape)


@dataclass(frozen=True)
class FileSource:
    """One recording a file."""

    files: tuple[Path, ...]
    names: tuple[str, ...]
    shape: FrameShape
    labels: Labels | None = None

    def read(self, index: int) -> Events | Frames:
        """Read one file; its kind is told by suffix and arrays.

        Raises:
            DataError: It cannot be read.
        """
        path = self.files[index]
        if path.suffix == ".bin":
            return read_nmnist(path)
        if path.suffix == ".npz":
            headers = npz_headers(path)
            if "offsets" in headers:
                raise DataError(
                    "holds many recordings", where=str(path), hint="give this file by itself, not in a folder"
                )
            if FRAMES_KEY not in headers:
                return read_event_npz(path)
        return read_frames(path, shape=self.shape)


@dataclass(frozen=True)
class PackedEvents:
    """Many recordings in one `.npz`: t, x, y, p end to end, `offsets` `[N + 1]`, perhaps `labels` `[N]`."""

    path: Path
    headers: dict[str, ArrayHeader] = field(repr=False)

    @cached_property
    def _arrays(self) -> tuple[Events, NDArray[np.int64], Labels | None]:
        check_event_headers(self.headers, self.path)
        for key in ("offsets", "labels"):
            header = self.headers.get(key)
            if header and (
                len(header.shape) != 1 or header.dtype.kind not in "iu" or header.shape[0] > MAX_EVENTS
            ):
                raise DataError(
                    f"'{key}' is {list(header.shape)} of {header.dtype}, expected integers in one dimension",
                    where=str(self.path),
                )
        keys = [*EVENT_KEYS, "offsets", *(["labels"] if "labels" in self.headers else [])]
        arrays = read_npz(self.path, keys)
        events = make_events(**{key: arrays[key] for key in EVENT_KEYS}, where=str(self.path))
        offsets = arrays["offsets"].astype(np.int64)
        ordered = offsets.size >= 2 and offsets[0] == 0 and offsets[-1] == len(events)
        if not ordered or (np.diff(offsets) < 0).any():
            raise DataError(
                f"'offsets' must rise from 0 to the {len(events)} events in the file", where=str(self.path)
            )
        return events, offsets, _labels(arrays.get("labels"), offsets.size - 1, self.path)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """File name and position of each recording."""
        return _numbered(self.path, self._arrays[1].size - 1)

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """The one file, once a recording."""
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

    def __post_init__(self) -> None:
        check_frame_header(self.header, (-1, *self.shape), where=str(self.path))
        if self.path.suffix == ".npz" and self.header.nbytes > _MAX_UNPACKED:
            raise DataError(
                f"'{FRAMES_KEY}' unpacks to {self.header.nbytes} bytes, at most {_MAX_UNPACKED} are read",
                where=str(self.path),
                hint="save it as .npy, which is read piece by piece",
            )

    @cached_property
    def _frames(self) -> NDArray[np.generic]:
        return (
            map_npy(self.path)
            if self.path.suffix == ".npy"
            else read_npz(self.path, [FRAMES_KEY])[FRAMES_KEY]
        )

    @cached_property
    def names(self) -> tuple[str, ...]:
        """File name and position of each recording."""
        return _numbered(self.path, self.header.shape[0])

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """The one file, once a recording."""
        return (self.path,) * self.header.shape[0]

    @cached_property
    def labels(self) -> Labels | None:
        """Class indices, where the file has them."""
        stored = read_npz(self.path, ["labels"])["labels"] if self.labelled else None
        return _labels(stored, self.header.shape[0], self.path)

    def read(self, index: int) -> Frames:
        """The frames of one recording.

        Raises:
            DataError: A value that float32 cannot hold.
        """
        return check_frames(self._frames[index], where=f"{self.path}[{index}]")


def _numbered(path: Path, count: int) -> tuple[str, ...]:
    return tuple(f"{path.name}[{index}]" for index in range(count))


def _labels(stored: NDArray[np.generic] | None, count: int, path: Path) -> Labels | None:
    if stored is None:
        return None
    if stored.shape != (count,) or stored.dtype.kind not in "iu" or (count and int(stored.min()) < 0):
        raise DataError(
            f"'labels' is {list(stored.shape)} of {stored.dtype}, expected {count} class indices from 0",
            where=str(path),
        )
    return stored.astype(np.int64)
