"""A data set as a model takes it: frames of the model's T and input size, read one recording at a time."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import DataError, UsageError
from tcja_deploy.events.cache import MIN_FILE, FrameCache
from tcja_deploy.events.encoding import EventEncoding, settle
from tcja_deploy.events.formats.base import RecordingSource
from tcja_deploy.events.framing import Framing
from tcja_deploy.events.loader import Loader, compact
from tcja_deploy.events.recording import Events
from tcja_deploy.files import sha256
from tcja_deploy.reading.limits import current_limits

__all__ = ["Batch", "EventData", "Recordings"]

Batch = tuple[NDArray[np.float32], NDArray[np.int64] | None]


class Recordings:
    """The recordings of a source as frames, and the hashes of its files.

    Args:
        source: Where they are read.
        framing: How events become frames.
        encoding: How events are stored.
        cache: Where frames are kept between runs; None to keep none.
        folder: The folder that names are relative to, for errors.
    """

    def __init__(
        self,
        source: RecordingSource,
        framing: Framing,
        encoding: EventEncoding,
        cache: FrameCache | None,
        folder: Path,
    ) -> None:
        self.source = source
        self.cache = cache
        self._framing = framing
        self._encoding = encoding
        self._folder = folder
        self._hashes: dict[Path, str] = {}
        self._lock = threading.Lock()

    def frames(self, position: int) -> NDArray[np.generic]:
        """The frames `[T, C, H, W]` of one recording.

        Raises:
            DataError: It cannot be read, does not fit, or holds no events.
        """
        key = self._key(position)
        if self.cache is not None and key is not None:
            kept = self.cache.get(key, self._framing.shape)
            if kept is not None:
                return kept
        frames = self._made(position)
        if self.cache is not None and key is not None:
            self.cache.put(key, compact(frames))
        return frames

    def _made(self, position: int) -> NDArray[np.generic]:
        stored = self.source.read(position)
        where = str(self._folder / self.source.names[position])
        if isinstance(stored, np.ndarray):
            return stored
        events = stored if isinstance(stored, Events) else settle(stored, self._encoding, where=where)
        return self._framing.frames(events, where=where)

    def _key(self, position: int) -> str | None:
        """What the frames of a recording depend on; None if they are not worth keeping."""
        file = self.source.files[position]
        try:
            if self.cache is None or not MIN_FILE <= file.stat().st_size <= current_limits().memory:
                return None
        except OSError:
            return None
        name = self.source.names[position]
        inside = name[name.rindex("[") :] if name.endswith("]") else ""
        return f"{self.hash(file)} {inside} {self._framing!r} {self._encoding!r}"

    def hash(self, file: Path) -> str:
        """SHA-256 (hex) of a file, read once.

        Raises:
            DataError: It cannot be read.
        """
        with self._lock:
            known = self._hashes.get(file)
        if known is None:
            try:
                known = sha256(file)
            except OSError as error:
                raise DataError(f"cannot be read: {error.strerror or error}", where=str(file)) from error
            with self._lock:
                self._hashes[file] = known
        return known


@dataclass(frozen=True, eq=False)
class EventData:
    """Recordings of one data set; nothing is read before it is asked for.

    Attributes:
        path: What was opened.
        framing: How events become frames of the model's size.
        labels: Class index of each recording, int64 `[N]`; None where unknown.
        class_names: Name of each class index; None where unknown. There may be classes without a recording.
        names: Name of each recording, unique and relative to `path`.
        notes: What was decided for the user on opening, to be printed once.
        whole: Whether `checked` found nothing but whole numbers in the frames, as event counts are.
    """

    path: Path
    framing: Framing
    labels: NDArray[np.int64] | None
    class_names: tuple[str, ...] | None
    names: tuple[str, ...]
    notes: tuple[str, ...]
    _recordings: Recordings
    _chosen: tuple[int, ...]
    whole: bool = True

    def __len__(self) -> int:
        return len(self._chosen)

    @property
    def timesteps(self) -> int:
        """Frames per recording, T."""
        return self.framing.timesteps

    @property
    def sensor(self) -> tuple[int, int]:
        """Rows and columns `[H, W]`."""
        return self.framing.sensor

    @property
    def channels(self) -> int:
        """Channels C; 2 for events (OFF, ON)."""
        return self.framing.channels

    @cached_property
    def _loader(self) -> Loader:
        plain = {"memory": 0, "ahead": 0} if self._recordings.source.mapped else {}
        return Loader(lambda index: self._recordings.frames(self._chosen[index]), len(self), **plain)

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], int | None]:
        """The frames `[T, C, H, W]` (float32; event counts are exact) and the label of one recording.

        Raises:
            IndexError: No such recording.
            DataError: It cannot be read, does not fit, or holds no events.
        """
        place = range(len(self))[index]
        return self._loader[place], None if self.labels is None else int(self.labels[place])

    def batches(self, size: int) -> Iterator[Batch]:
        """All recordings in order, `size` at a time (the last batch may be shorter), few batches in memory.

        Yields:
            Frames `[T, n, C, H, W]`, float32, and labels int64 `[n]` or None.

        Raises:
            UsageError: `size` is not positive.
            DataError: As indexing.
        """
        if size < 1:
            raise UsageError(f"the batch size is {size}; it must be positive")
        return self._batches(size)

    def _batches(self, size: int) -> Iterator[Batch]:
        for start in range(0, len(self), size):
            stop = min(start + size, len(self))
            frames = np.empty((self.timesteps, stop - start, *self.framing.shape[1:]), dtype=np.float32)
            for index in range(start, stop):
                frames[:, index - start] = self[index][0]
            yield frames, None if self.labels is None else self.labels[start:stop]

    def checked(self, *, skip_broken: bool = False) -> EventData:
        """The same recordings, every one of which can be read: so that a long run does not stop at the last of them.

        Args:
            skip_broken: Leave out those that cannot be read, and say so in `notes`.

        Raises:
            DataError: One cannot be read (without `skip_broken`), or none can.
        """
        broken = self._loader.failures()
        if self._recordings.cache is not None:
            self._recordings.cache.trim()
        if not broken:
            return self if self._loader.whole else self._fractional()
        first = broken[0][1]
        if not skip_broken or len(broken) == len(self):
            others = f" (and {len(broken) - 1} more of {len(self)} recordings)" if len(broken) > 1 else ""
            hint = first.hint
            if len(broken) < len(self):
                hint = f"{hint}; --skip-broken skips it" if hint else "--skip-broken skips it"
            raise DataError(f"{first.reason}{others}", where=first.where, hint=hint) from first
        out = {index for index, _ in broken}
        kept = [index for index in range(len(self)) if index not in out]
        named = "; ".join(f"{error.where}: {error.reason}" for _, error in broken[:3])
        more = "; ..." if len(broken) > 3 else ""
        return replace(
            self,
            labels=None if self.labels is None else self.labels[kept],
            names=tuple(self.names[index] for index in kept),
            notes=(*self.notes, f"skipped {len(broken)} of {len(self)} recordings: {named}{more}"),
            _chosen=tuple(self._chosen[index] for index in kept),
            whole=self._loader.whole,
        )

    def _fractional(self) -> EventData:
        """The same, with the frames read so far, known not to be counts."""
        other = replace(self, whole=False)
        other.__dict__["_loader"] = self._loader
        return other

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the chosen recordings: the name of each, and the content of each file once.

        Names are relative to `path`, so the digest does not change when a folder is moved. How the events are
        integrated is not part of it.

        Raises:
            DataError: A file cannot be read.
        """
        total = hashlib.sha256()
        seen: set[Path] = set()
        for name, position in zip(self.names, self._chosen, strict=True):
            total.update(os.fsencode(name) + b"\0")
            file = self._recordings.source.files[position]
            if file not in seen:
                seen.add(file)
                total.update(bytes.fromhex(self._recordings.hash(file)))
        return total.hexdigest()
