"""What a reader is, and what it gives: events, event columns whose encoding the data set decides, or frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import DataError
from tcja_deploy.events.recording import MAX_EVENTS, Events
from tcja_deploy.files import path_status

__all__ = [
    "ALIASES",
    "Columns",
    "FrameArray",
    "FrameShape",
    "Head",
    "Labels",
    "Reader",
    "RecordingSource",
    "Rows",
    "Stored",
    "by_alias",
    "check_count",
    "opening",
]

FrameArray = NDArray[np.float32]
Labels = NDArray[np.int64]
FrameShape = tuple[int, int, int, int]
"""`[T, C, H, W]`."""

ALIASES: dict[str, tuple[str, ...]] = {
    "t": ("t", "ts", "time", "times", "timestamp", "timestamps", "t_us"),
    "x": ("x", "xs", "col"),
    "y": ("y", "ys", "row"),
    "p": ("p", "ps", "pol", "polarity", "polarities", "on"),
}
"""Names under which other tools store the columns of events."""


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """Four columns of numbers `[N]` as they are stored; which polarity is ON and the unit of time are not known yet."""

    t: NDArray[np.generic]
    x: NDArray[np.generic]
    y: NDArray[np.generic]
    p: NDArray[np.generic]
    sensor: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Events as the rows of an array `[N, 4]`; which column is which is not known yet."""

    table: NDArray[np.generic]


Stored = Events | Columns | Rows | FrameArray


@dataclass(frozen=True, slots=True)
class Head:
    """What a file is recognised by: its suffix in lower case and its first bytes (at most 4096)."""

    suffix: str
    start: bytes


class RecordingSource(Protocol):
    """Recordings that can be read one at a time; all sequences have one entry per recording."""

    @property
    def names(self) -> Sequence[str]:
        """What each recording is called in errors and in the digest."""

    @property
    def files(self) -> Sequence[Path]:
        """The file of each recording."""

    @property
    def labels(self) -> Labels | None:
        """Class indices, where known."""

    @property
    def mapped(self) -> bool:
        """Whether reading again costs nothing, because the frames lie in memory or are mapped into it."""

    def read(self, index: int) -> Stored:
        """One recording as it is stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """One kind of file.

    Attributes:
        name: What the kind is called.
        suffixes: How the names of such files end; in the folder of a data set, a file with one of them is a recording.
        holds: What is in it, for the documentation.
        written_by: Which data sets, cameras and programs write it, for the documentation.
        read_with: What reads it: `own`, or a package.
        recognise: Whether a file is of this kind.
        read: The one recording in a file, for a model that takes frames of `[T, C, H, W]`; raises `DataError`.
        many: The recordings of a file that holds many; None where it holds one.
        label: The label that the file states itself.
        certain: Whether the suffix alone makes a file a recording; otherwise its content must be recognised.
    """

    name: str
    suffixes: tuple[str, ...]
    holds: str
    written_by: str
    read_with: str = "own"
    recognise: Callable[[Head], bool]
    read: Callable[[Path, FrameShape], Stored]
    many: Callable[[Path, FrameShape], RecordingSource | None] | None = None
    label: Callable[[Path], int | None] | None = None
    certain: bool = True


def by_alias(names: Sequence[str]) -> dict[str, str] | None:
    """Which of the names stands for t, x, y and p; None if one of the four is missing."""
    lower = {name.strip().lower(): name for name in names}
    found = {
        key: next((lower[alias] for alias in aliases if alias in lower), None)
        for key, aliases in ALIASES.items()
    }
    known = {key: name for key, name in found.items() if name is not None}
    return known if len(known) == len(ALIASES) else None


def check_count(count: int, path: Path) -> None:
    """Check, before anything is allocated, that a file does not hold too many events.

    Raises:
        DataError: It holds more than `MAX_EVENTS`.
    """
    if count > MAX_EVENTS:
        raise DataError(f"holds {count} events; at most {MAX_EVENTS} are read", where=str(path))


def opening(path: Path) -> Head:
    """The first bytes of a file.

    Raises:
        DataError: It cannot be read.
    """
    if path_status(path, DataError) == "other":
        raise DataError("this is a device, FIFO or socket, not a file", where=str(path))
    try:
        with path.open("rb") as stream:
            return Head(path.suffix.lower(), stream.read(4096))
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", where=str(path)) from error
