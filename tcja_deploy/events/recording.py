"""One event-camera recording: four integer columns, checked once when they come in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tcja_deploy.errors import DataError

__all__ = ["MAX_EVENTS", "Events", "make_events"]

MAX_EVENTS = 2**25
"""Most events that one file may hold: 1 GiB as four int64 columns."""

_MAX_TIME = 2**62

_COLUMNS = "t, x, y and p are columns of whole numbers, one entry per event"


@dataclass(frozen=True, slots=True, eq=False)
class Events:
    """A stream of events in the order in which they were recorded.

    Attributes:
        t: Timestamps in microseconds, int64 `[N]`.
        x: Columns, int64 `[N]`, 0 at the left.
        y: Rows, int64 `[N]`, 0 at the top.
        p: Polarities, int64 `[N]`: 1 where it became brighter (ON), 0 where it became darker (OFF).
        sensor: Rows and columns `[H, W]` of the camera, if the file says.
    """

    t: NDArray[np.int64]
    x: NDArray[np.int64]
    y: NDArray[np.int64]
    p: NDArray[np.int64]
    sensor: tuple[int, int] | None = None

    def __len__(self) -> int:
        return int(self.t.shape[0])

    def slice(self, start: int, stop: int) -> Events:
        """The events `start` to `stop - 1` as views."""
        t, x, y, p = self.t[start:stop], self.x[start:stop], self.y[start:stop], self.p[start:stop]
        return Events(t, x, y, p, self.sensor)

    def check_order(self, *, where: str = "") -> None:
        """Check that time does not run backwards.

        Raises:
            DataError: It does; names the first such event.
        """
        back = self.t[1:] < self.t[:-1]
        if back.any():
            first = int(np.argmax(back)) + 1
            raise DataError(
                f"time runs backwards {int(back.sum())} times; the first is event {first} at "
                f"{self.t[first]} microseconds, after {self.t[first - 1]}",
                where=where,
                hint="the clock was reset or the file is damaged; events that are merely out of order can be sorted by t",
            )

    def check_inside(self, sensor: tuple[int, int], *, where: str = "") -> None:
        """Check that every event lies on a sensor of `[H, W]` pixels.

        Raises:
            DataError: An event lies outside; names the first such event and its coordinates.
        """
        height, width = sensor
        outside = (self.x < 0) | (self.x >= width) | (self.y < 0) | (self.y >= height)
        if outside.any():
            first = int(np.argmax(outside))
            raise DataError(
                f"{int(outside.sum())} of {len(self)} events lie outside the sensor of {height} rows x "
                f"{width} columns; the first is event {first} at x = {self.x[first]}, y = {self.y[first]}",
                where=where,
                hint="the sensor size is the model's input size: use recordings like those it was trained on, or rescale them "
                "as in training (--resize area, crop or nearest)",
            )


def make_events(t: ArrayLike, x: ArrayLike, y: ArrayLike, p: ArrayLike, *, where: str = "") -> Events:
    """Check four columns of equal length and put them together.

    Args:
        t: Timestamps, whole microseconds.
        x: Columns.
        y: Rows.
        p: Polarities, 0 or 1 (or booleans).
        where: File named in errors.

    Raises:
        DataError: A column is not a one-dimensional array of whole numbers, the lengths differ, or a polarity
            is neither 0 nor 1.
    """
    columns = {
        key: _whole(key, np.asarray(value), where) for key, value in zip("txyp", (t, x, y, p), strict=True)
    }
    lengths = {key: int(column.shape[0]) for key, column in columns.items()}
    if len(set(lengths.values())) != 1:
        raise DataError(f"the columns differ in length: {lengths}", where=where, hint="the file is damaged")
    events = Events(columns["t"], columns["x"], columns["y"], columns["p"])
    if len(events) and int(np.abs(events.t).max()) >= _MAX_TIME:
        raise DataError("a timestamp is beyond 2^62 microseconds", where=where, hint="the file is damaged")
    wrong = (events.p != 0) & (events.p != 1)
    if wrong.any():
        raise DataError(
            f"polarity {events.p[np.argmax(wrong)]} is neither 0 (OFF) nor 1 (ON)",
            where=where,
            hint="if the file writes -1 for OFF, store (p > 0) instead",
        )
    return events


def _whole(key: str, column: NDArray[np.generic], where: str) -> NDArray[np.int64]:
    if column.ndim != 1:
        raise DataError(
            f"'{key}' has shape {list(column.shape)}, expected one dimension", where=where, hint=_COLUMNS
        )
    if column.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            whole = (np.abs(column) < _MAX_TIME) & (column == np.floor(column))
        if not whole.all():
            raise DataError(
                f"'{key}' holds {column[np.argmin(whole)]}, which is not a whole number",
                where=where,
                hint="coordinates are pixels and timestamps whole microseconds",
            )
    elif column.dtype.kind not in "biu":
        raise DataError(
            f"'{key}' has dtype {column.dtype}, expected whole numbers", where=where, hint=_COLUMNS
        )
    if column.dtype == np.uint64 and column.size and int(column.max()) >= _MAX_TIME:
        raise DataError(f"'{key}' holds {column.max()}, beyond 2^62", where=where, hint="the file is damaged")
    return column.astype(np.int64)
