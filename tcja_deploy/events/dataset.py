"""A data set as a model takes it: frames of the model's T and input size, read one recording at a time."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import DataError, UsageError
from tcja_deploy.events.integrate import SplitBy, integrate
from tcja_deploy.events.recording import Events
from tcja_deploy.events.sources import Source, find_source
from tcja_deploy.files import sha256

__all__ = ["EventData", "open_data"]


@dataclass(frozen=True, eq=False)
class EventData:
    """Recordings of one data set; nothing is read before it is asked for.

    Attributes:
        path: What was opened.
        timesteps: Frames a recording, T.
        sensor: Rows and columns `(H, W)`.
        channels: Channels C; 2 for events (OFF, ON).
        split_by: How events become frames, see `integrate`.
        labels: Class index of each recording, int64 `[N]`; None where unknown.
        class_names: Name of each class index; None where unknown.
        names: Name of each recording, unique and relative to `path`.
    """

    path: Path
    timesteps: int
    sensor: tuple[int, int]
    channels: int
    split_by: SplitBy
    labels: NDArray[np.int64] | None
    class_names: tuple[str, ...] | None
    names: tuple[str, ...]
    _source: Source
    _chosen: tuple[int, ...]

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], int | None]:
        """The frames `[T, C, H, W]` (float32; event counts are exact) and the label of one recording.

        Raises:
            IndexError: No such recording.
            DataError: It cannot be read, does not fit, or holds no events.
        """
        position = self._chosen[index]
        stored = self._source.read(position)
        label = None if self.labels is None else int(self.labels[index])
        if not isinstance(stored, Events):
            return stored, label
        folder = self.path if self.path.is_dir() else self.path.parent
        where = str(folder / self.names[index])
        if self.channels != 2:
            raise DataError(f"events have 2 channels (OFF, ON), the model takes {self.channels}", where=where)
        if not len(stored):
            raise DataError(
                "holds no events", where=where, hint="an empty recording is usually a broken download"
            )
        counts = integrate(
            stored, timesteps=self.timesteps, sensor=self.sensor, split_by=self.split_by, where=where
        )
        return counts.astype(np.float32), label

    def batches(self, size: int) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64] | None]]:
        """All recordings in order, `size` at a time (the last batch may be shorter), one batch in memory.

        Yields:
            Frames `[T, n, C, H, W]`, float32, and labels int64 `[n]` or None.

        Raises:
            UsageError: `size` is not positive.
            DataError: As indexing.
        """
        if size < 1:
            raise UsageError(f"the batch size is {size}, it must be positive")
        return self._batches(size)

    def _batches(self, size: int) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64] | None]]:
        for start in range(0, len(self), size):
            stop = min(start + size, len(self))
            frames = np.empty((self.timesteps, stop - start, self.channels, *self.sensor), dtype=np.float32)
            for index in range(start, stop):
                frames[:, index - start] = self[index][0]
            yield frames, None if self.labels is None else self.labels[start:stop]

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the chosen recordings: the name of each, and the content of each file once.

        Names are relative to `path`, so the digest does not change when a folder is moved. How the events are
        integrated is no part of it.

        Raises:
            DataError: A file cannot be read.
        """
        total = hashlib.sha256()
        seen: set[Path] = set()
        for name, position in zip(self.names, self._chosen, strict=True):
            total.update(os.fsencode(name) + b"\0")
            file = self._source.files[position]
            if file not in seen:
                seen.add(file)
                total.update(_file_digest(file))
        return total.hexdigest()


def open_data(
    path: Path | str,
    *,
    timesteps: int,
    sensor: tuple[int, int],
    channels: int = 2,
    split_by: SplitBy = "number",
    limit: int | None = None,
) -> EventData:
    """Open recordings for a model that takes `[T, N, C, H, W]`.

    What `path` may be:

    - a folder of class folders: the sorted class names give the labels 0, 1, ... (as torchvision and
      SpikingJelly number them, so '10' comes before '2'); recordings lie at any depth below, sorted by path;
    - a folder of recordings without classes;
    - one recording: N-MNIST `.bin`, event `.npz` (`t`, `x`, `y`, `p`), or frames `[T, C, H, W]` as `.npy` or
      as `.npz` with `frames`;
    - one file with many: `.npz` with `t`, `x`, `y`, `p` end to end, `offsets` `[N + 1]` and perhaps `labels`
      `[N]`; frames `[N, T, C, H, W]` as `.npy`, or as `.npz` with `frames` and perhaps `labels`.

    Files of other suffixes and hidden files are passed over.

    Args:
        path: File or folder.
        timesteps: Frames T that the model takes.
        sensor: Rows and columns `(H, W)` that the model takes.
        channels: Channels C that the model takes; events have 2.
        split_by: Integrate equal numbers of events per frame, or equal durations.
        limit: Take at most this many recordings, spread evenly over the whole set (so over its classes).

    Raises:
        UsageError: An argument makes no sense.
        DataError: Nothing readable at `path`.
    """
    if min(timesteps, *sensor, channels) < 1:
        raise UsageError(
            f"timesteps = {timesteps}, sensor = {sensor} and channels = {channels} must be positive"
        )
    if split_by not in ("number", "time"):
        raise UsageError(f"split_by = {split_by!r} is unknown", hint="use 'number' or 'time'")
    if limit is not None and limit < 1:
        raise UsageError(
            f"limit = {limit} leaves nothing to read", hint="give a positive number, or none for all"
        )
    path = Path(path)
    source = find_source(path, (timesteps, channels, *sensor))
    total = len(source.names)
    if total == 0:
        raise DataError("holds no recordings", where=str(path))
    count = total if limit is None else min(limit, total)
    chosen = tuple(index * total // count for index in range(count))
    labels = source.labels
    return EventData(
        path=path,
        timesteps=timesteps,
        sensor=sensor,
        channels=channels,
        split_by=split_by,
        labels=None if labels is None else labels[list(chosen)],
        class_names=source.class_names,
        names=tuple(source.names[index] for index in chosen),
        _source=source,
        _chosen=chosen,
    )


def _file_digest(file: Path) -> bytes:
    try:
        return bytes.fromhex(sha256(file))
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", where=str(file)) from error
