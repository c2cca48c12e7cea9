"""From a path to a data set: what is there, which labels it has, how it is stored, whether it fits the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import DataError, ToolchainError, UsageError
from tcja_deploy.events.cache import FrameCache
from tcja_deploy.events.classes import LabelOrder, Numbering, number_classes
from tcja_deploy.events.dataset import EventData, Recordings
from tcja_deploy.events.encoding import EncodingDetector, EventEncoding, settle
from tcja_deploy.events.folders import Listing, list_folder
from tcja_deploy.events.formats import accepted, find_reader, is_recording
from tcja_deploy.events.formats.base import FrameShape, RecordingSource, Stored
from tcja_deploy.events.framing import Framing, sensor_text, wrong_size
from tcja_deploy.events.integrate import SplitBy
from tcja_deploy.events.recording import Events
from tcja_deploy.events.resize import Resize, known_sensor
from tcja_deploy.events.sources import FileSource, TrialSource, file_source

__all__ = ["open_data"]

_LOOKED_AT = 3
"""Recordings in which the extent of the events is looked at."""
_MOST_LOOKED_AT = 16
"""Recordings that are looked at until it is clear how events are stored."""


def open_data(
    path: Path | str,
    *,
    timesteps: int,
    sensor: tuple[int, int],
    channels: int = 2,
    split_by: SplitBy = "number",
    frame_time: int | None = None,
    limit: int | None = None,
    outputs: int | None = None,
    split: str | None = None,
    classes: Sequence[str] | None = None,
    labels: Path | None = None,
    label_order: LabelOrder | None = None,
    resize: Resize | None = None,
    camera: tuple[int, int] | None = None,
    cache: bool = False,
) -> EventData:
    """Open recordings for a model that takes `[T, N, C, H, W]`.

    What `path` may be:

    - a folder of class folders (labels as `classes.number_classes` says); recordings lie at any depth below, sorted
      by path; folders without recordings are not classes;
    - the root of a data set with its parts, of which `split` names one;
    - a folder of recordings without classes, or with a table of `labels`;
    - one file of any kind in `formats.READERS`, with one recording or many.

    Files of other kinds and hidden files are skipped.

    Args:
        path: File or folder.
        timesteps: Frames T that the model takes.
        sensor: Rows and columns `[H, W]` that the model takes.
        channels: Channels C that the model takes; events have 2.
        split_by: How events become frames, see `integrate`.
        frame_time: Length of a frame in microseconds; with it, frames are split by duration.
        limit: Take at most this many recordings, spread evenly over the whole set (so over its classes).
        outputs: Outputs of the model, one per class; None if unknown.
        split: Part of the data set, `train`, `test` or `val`.
        classes: All class names in the order of their labels.
        labels: A table of file names and labels (CSV).
        label_order: How class names are sorted; as the data set's own code does if None.
        resize: How events of a sensor of another size are brought to the model's; None to refuse them.
        camera: Rows and columns of the camera, where the files do not say.
        cache: Keep the frames of large files in the user's cache folder.

    Raises:
        UsageError: An argument makes no sense.
        DataError: Nothing readable at `path`, or it does not fit the model.
    """
    _check(timesteps, sensor, channels, split_by, limit, label_order, resize, camera, frame_time)
    path = Path(path)
    framing = Framing(
        timesteps=timesteps,
        sensor=sensor,
        channels=channels,
        split_by=split_by if frame_time is None else "duration",
        frame_time=frame_time,
        resize=resize,
        camera=camera,
    )
    numbering: Numbering | None = None
    notes: list[str] = []
    milliseconds = False
    if path.is_dir():
        found = _listed(path, split, labels, f"frames_number_{timesteps}_split_by_{split_by}")
        if found.classes is not None:
            numbering = number_classes(
                found.classes, outputs=outputs, classes=classes, order=label_order, usual=found.order
            )
        milliseconds = found.milliseconds
        source = _folder_source(path, found, framing.shape, numbering)
        notes += found.notes
    else:
        if split is not None or labels is not None:
            raise UsageError(
                "--split and --labels apply to folders, and this is a file",
                where=str(path),
                hint="leave them out, or give the folder",
            )
        source = file_source(path, framing.shape)
    total = len(source.names)
    if total == 0:
        raise DataError("holds no recordings", where=str(path), hint=accepted())
    count = total if limit is None else min(limit, total)
    chosen = tuple(index * total // count for index in range(count))
    known, said = _known_labels(source.labels, numbering, outputs)
    encoding, framing, seen = _look(source, chosen, framing, path)
    if milliseconds:
        encoding = replace(encoding, scale=1000, whole_scale=1000)
    notes += [f"{path}: {note}" for note in (*said, *seen)]
    folder = path if path.is_dir() else path.parent
    names = tuple(classes) if classes else None
    if numbering is not None:
        names = numbering.names
    return EventData(
        path=path,
        framing=framing,
        labels=None if known is None else known[list(chosen)],
        class_names=names,
        names=tuple(source.names[index] for index in chosen),
        notes=tuple(notes),
        _recordings=Recordings(source, framing, encoding, FrameCache() if cache else None, folder),
        _chosen=chosen,
    )


def _check(
    timesteps: int,
    sensor: tuple[int, int],
    channels: int,
    split_by: str,
    limit: int | None,
    label_order: str | None,
    resize: str | None,
    camera: tuple[int, int] | None,
    frame_time: int | None,
) -> None:
    if min(timesteps, *sensor, channels, *(camera or ())) < 1:
        raise UsageError(
            f"timesteps = {timesteps}, sensor = {sensor}, camera = {camera} and channels = {channels} must be positive"
        )
    for name, value, known in (
        ("split_by", split_by, ("number", "time")),
        ("label_order", label_order, (None, "text", "number")),
        ("resize", resize, (None, "area", "crop", "nearest")),
    ):
        if value not in known:
            raise UsageError(f"{name} = {value!r} is unknown", hint=f"use {' or '.join(filter(None, known))}")
    if limit is not None and limit < 1:
        raise UsageError(
            f"limit = {limit} leaves nothing to read", hint="give a positive number, or none for all"
        )
    if frame_time is not None and frame_time < 1:
        raise UsageError(f"frame_time = {frame_time} must be positive microseconds")


def _listed(path: Path, split: str | None, labels: Path | None, prepared: str) -> Listing:
    try:
        return list_folder(path, is_recording, split=split, labels=labels, prepared=prepared)
    except DataError as error:
        if error.hint:
            raise
        raise DataError(error.reason, where=error.where, hint=accepted()) from None


def _folder_source(
    path: Path, found: Listing, shape: FrameShape, numbering: Numbering | None
) -> RecordingSource:
    names = tuple(file.relative_to(path).as_posix() for file in found.files)
    labels = None
    if numbering is not None and numbering.names is not None and found.classes is not None:
        labels = np.array([numbering.labels[name] for name in found.classes], dtype=np.int64)
    if found.spans:
        numbers = [found.files[:index].count(file) for index, file in enumerate(found.files)]
        names = tuple(f"{name}[{number}]" for name, number in zip(names, numbers, strict=True))
        return TrialSource(found.files, names, found.spans, shape, labels)
    if found.classes is None:
        labels = _stated_labels(found.files)
    return FileSource(found.files, names, shape, labels)


def _stated_labels(files: Sequence[Path]) -> NDArray[np.int64] | None:
    """Labels that the files state themselves, if they all do."""
    stated = []
    for file in files:
        try:
            reader = find_reader(file)
            label = None if reader.label is None else reader.label(file)
        except DataError:
            label = None
        if label is None:
            return None
        stated.append(label)
    return np.array(stated, np.int64)


def _known_labels(
    labels: NDArray[np.int64] | None, numbering: Numbering | None, outputs: int | None
) -> tuple[NDArray[np.int64] | None, list[str]]:
    """The labels, unless they are not outputs of the model; and notes about them."""
    if numbering is not None:
        return labels, [numbering.reason or f"labels ({numbering.basis}): {numbering.mapping()}"]
    if labels is not None and labels.size and outputs is not None:
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= outputs:
            wrong = low if low < 0 else high
            return None, [f"the label {wrong} is not one of the {outputs} outputs, so no accuracy is counted"]
    return labels, []


def _look(
    source: RecordingSource, chosen: Sequence[int], framing: Framing, path: Path
) -> tuple[EventEncoding, Framing, list[str]]:
    """How the events are stored, and whether the camera's size is the model's, from some of the recordings."""
    detector = EncodingDetector()
    samples: list[Stored] = []
    for stored in _samples(source, chosen):
        if isinstance(stored, np.ndarray):
            break
        if not isinstance(stored, Events):
            detector.look(stored)
        if len(samples) < _LOOKED_AT:
            samples.append(stored)
        elif isinstance(stored, Events) or detector.decided:
            break
    encoding = detector.encoding
    notes = list(encoding.notes)
    extent = _extent(samples, encoding, framing.sensor)
    if framing.camera is None and framing.channels == 2 and extent.events:
        framing, said = _fitted(framing, extent, path)
        notes += said
    if framing.resize is not None:
        notes.append(
            f"frames of another size are resized to {sensor_text(framing.sensor)} ({framing.resize})"
        )
    if framing.frame_time is not None:
        length = framing.frame_time * framing.timesteps / 1000
        notes.append(
            f"frames of {framing.frame_time / 1000:g} ms: the first {length:g} ms of a recording are used, a "
            "shorter one ends in empty frames"
        )
    return encoding, framing, notes


def _samples(source: RecordingSource, chosen: Sequence[int]) -> Iterator[Stored]:
    """Some recordings spread over the set; those that cannot be read are skipped."""
    count = min(len(chosen), _MOST_LOOKED_AT)
    order = sorted(range(count), key=lambda place: place % _LOOKED_AT)  # spread early, too
    for place in order:
        try:
            yield source.read(chosen[place * len(chosen) // count])
        except (DataError, ToolchainError):
            continue


@dataclass(frozen=True, slots=True)
class _Extent:
    """Rows and columns that events of cameras of unknown size reach, how many there are, how many lie outside the model."""

    rows: int
    columns: int
    events: int
    outside: int


def _extent(samples: Sequence[Stored], encoding: EventEncoding, sensor: tuple[int, int]) -> _Extent:
    rows = columns = count = outside = 0
    for stored in samples:
        try:
            events = stored if isinstance(stored, Events) else settle(stored, encoding, where="")  # type: ignore[arg-type]
        except DataError:  # raised again, with the recording's name, when it is read
            continue
        if events.sensor is None and len(events):
            rows, columns = max(rows, int(events.y.max()) + 1), max(columns, int(events.x.max()) + 1)
            count += len(events)
            outside += int(((events.y >= sensor[0]) | (events.x >= sensor[1])).sum())
    return _Extent(rows, columns, count, outside)


def _fitted(framing: Framing, extent: _Extent, path: Path) -> tuple[Framing, list[str]]:
    """The size of a camera that the files do not tell, from where its events lie: the model's, unless they speak against it.

    Coordinates of a smaller sensor are valid on a larger one, so that only their extent tells a mistake.
    """
    height, width = framing.sensor
    larger = 2 * extent.outside > extent.events  # a few are damage, which the recording's own error names
    smaller = 2 * extent.rows <= height and 2 * extent.columns <= width
    if not larger and not smaller and framing.resize is None:
        return framing, []
    camera = known_sensor(extent.rows, extent.columns)
    filled = 10 * extent.rows >= 9 * camera[0] and 10 * extent.columns >= 9 * camera[1]
    reach = f"events reach {extent.rows} rows and {extent.columns} columns"
    if framing.resize is None and (larger or filled):
        raise wrong_size(camera, framing.sensor, str(path), reach)
    if framing.resize is None:
        return framing, [
            f"the events lie in {extent.rows} of {height} rows and {extent.columns} of {width} columns; recordings of a "
            "smaller sensor are not scaled to the one that the model was trained for"
        ]
    return replace(framing, camera=camera), [
        f"camera assumed to have {sensor_text(camera)} pixels, as {reach}"
    ]
