"""A data set as a model takes it: frames of the model's T and input size, read one recording at a time."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import DataError, UsageError
from tcja_deploy.events.classes import LabelOrder, Numbering, number_classes
from tcja_deploy.events.folders import list_folder
from tcja_deploy.events.integrate import SplitBy, integrate
from tcja_deploy.events.recording import Events
from tcja_deploy.events.sources import ACCEPTED, FileSource, Source, file_source, is_recording
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
        class_names: Name of each class index; None where unknown. There may be classes without a recording.
        names: Name of each recording, unique and relative to `path`.
        notes: What was decided for the user on opening, to be printed once.
    """

    path: Path
    timesteps: int
    sensor: tuple[int, int]
    channels: int
    split_by: SplitBy
    labels: NDArray[np.int64] | None
    class_names: tuple[str, ...] | None
    names: tuple[str, ...]
    notes: tuple[str, ...]
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
    outputs: int | None = None,
    split: str | None = None,
    classes: Sequence[str] | None = None,
    labels: Path | None = None,
    label_order: LabelOrder | None = None,
) -> EventData:
    """Open recordings for a model that takes `[T, N, C, H, W]`.

    What `path` may be:

    - a folder of class folders (labels as `classes.number_classes` says); recordings lie at any depth below, sorted
      by path; folders without recordings are no classes;
    - the root of a data set with its parts, of which `split` names one;
    - a folder of recordings without classes, or with a table of `labels`;
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
        outputs: Outputs of the model, one a class; None if unknown.
        split: Part of the data set, `train`, `test` or `val`.
        classes: All class names in the order of their labels.
        labels: A table of file names and labels (CSV).
        label_order: How class names are sorted; as the data set's own code does if None.

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
    if label_order not in (None, "text", "number"):
        raise UsageError(f"label_order = {label_order!r} is unknown", hint="use 'text' or 'number'")
    path = Path(path)
    shape = (timesteps, channels, *sensor)
    if path.is_dir():
        prepared = f"frames_number_{timesteps}_split_by_{split_by}"
        try:
            found = list_folder(path, is_recording, split=split, labels=labels, prepared=prepared)
        except DataError as error:
            raise error if error.hint else DataError(error.reason, where=error.where, hint=ACCEPTED) from None
        names = tuple(file.relative_to(path).as_posix() for file in found.files)
        numbering = None
        if found.classes is not None:
            numbering = number_classes(
                found.classes, outputs=outputs, classes=classes, order=label_order, usual=found.order
            )
        source: Source = FileSource(found.files, names, shape, _labels(numbering, found.classes))
        notes = found.notes
    else:
        if split is not None or labels is not None:
            raise UsageError("--split and --labels are about folders", where=str(path))
        source, numbering, notes = file_source(path, shape), None, ()
    total = len(source.names)
    if total == 0:
        raise DataError("holds no recordings", where=str(path))
    count = total if limit is None else min(limit, total)
    chosen = tuple(index * total // count for index in range(count))
    known, said = _known_labels(source.labels, numbering, outputs)
    return EventData(
        path=path,
        timesteps=timesteps,
        sensor=sensor,
        channels=channels,
        split_by=split_by,
        labels=None if known is None else known[list(chosen)],
        class_names=classes and tuple(classes) if numbering is None else numbering.names,
        names=tuple(source.names[index] for index in chosen),
        notes=(*notes, *(f"{path}: {note}" for note in said)),
        _source=source,
        _chosen=chosen,
    )


def _labels(numbering: Numbering | None, classes: tuple[str, ...] | None) -> NDArray[np.int64] | None:
    """The label of each recording, from the name of its class."""
    if numbering is None or numbering.names is None or classes is None:
        return None
    return np.array([numbering.labels[name] for name in classes], dtype=np.int64)


def _known_labels(
    labels: NDArray[np.int64] | None, numbering: Numbering | None, outputs: int | None
) -> tuple[NDArray[np.int64] | None, list[str]]:
    """The labels, unless they are none of the model's; and what is to be said about them."""
    if numbering is not None:
        return labels, [numbering.reason or f"labels ({numbering.basis}): {numbering.mapping()}"]
    if labels is not None and outputs is not None and int(labels.max(initial=0)) >= outputs:
        reason = f"the label {int(labels.max())} is beyond the {outputs} outputs, so no accuracy is counted"
        return None, [reason]
    return labels, []


def _file_digest(file: Path) -> bytes:
    try:
        return bytes.fromhex(sha256(file))
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", where=str(file)) from error
