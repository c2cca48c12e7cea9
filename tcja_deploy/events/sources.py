"""Where recordings come from: files of a folder, or one file."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tcja_deploy.errors import DataError
from tcja_deploy.events.formats import accepted, find_reader
from tcja_deploy.events.formats.base import FrameShape, Labels, RecordingSource, Stored
from tcja_deploy.events.recording import Events

__all__ = ["FileSource", "TrialSource", "file_source"]


@dataclass(frozen=True)
class FileSource:
    """One recording per file."""

    files: tuple[Path, ...]
    names: tuple[str, ...]
    shape: FrameShape
    labels: Labels | None = None
    mapped: bool = False

    def read(self, index: int) -> Stored:
        """Read one file; its content tells its kind.

        Raises:
            DataError: It cannot be read.
        """
        path = self.files[index]
        return find_reader(path).read(path, self.shape)


@dataclass(frozen=True)
class TrialSource:
    """Trials cut out of long recordings: the events from `start` up to but not including `stop` microseconds."""

    files: tuple[Path, ...]
    names: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]
    shape: FrameShape
    labels: Labels | None = None
    mapped: bool = False
    _decoded: OrderedDict[Path, Events] = field(default_factory=OrderedDict, repr=False)
    _turn: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def read(self, index: int) -> Events:
        """The events of one trial; the recording read last is kept.

        Raises:
            DataError: The recording cannot be read.
        """
        path, (start, stop) = self.files[index], self.spans[index]
        with self._turn:
            if path not in self._decoded:
                self._decoded.clear()
                stored = find_reader(path).read(path, self.shape)
                if not isinstance(stored, Events):
                    raise DataError("only camera files can be cut into trials", where=str(path))
                self._decoded[path] = stored
            events = self._decoded[path]
        inside = (events.t >= start) & (events.t < stop)
        t, x, y, p = (column[inside] for column in (events.t, events.x, events.y, events.p))
        return Events(t, x, y, p, events.sensor)


def file_source(path: Path, shape: FrameShape) -> RecordingSource:
    """Recognise what a file holds by its content.

    Args:
        path: The file.
        shape: `[T, C, H, W]` that stored frames must have.

    Raises:
        DataError: There is nothing at the path, or nothing readable in it.
    """
    if not path.is_file():
        raise DataError("no such file or folder", where=str(path), hint=accepted())
    reader = find_reader(path)
    many = None if reader.many is None else reader.many(path, shape)
    if many is not None:
        return many
    label = None if reader.label is None else reader.label(path)
    return FileSource((path,), (path.name,), shape, None if label is None else np.array([label], np.int64))
