"""Which number means ON, which unit time is counted in, which column is which: worked out from the data.

Decided once for a data set, from several of its recordings, because one alone may not tell: a recording with no OFF event
looks the same in 0/1 and in -1/1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import DataError
from tcja_deploy.events.formats.base import Columns, Rows
from tcja_deploy.events.recording import Events, make_events

__all__ = ["EncodingDetector", "EventEncoding", "settle"]

_POLARITIES = ((0, 1), (-1, 1), (1, 2))
_ORDERS = ("txyp", "xytp", "xypt", "tpxy")
_UNITS = {"seconds": 10**6, "milliseconds": 10**3}
_PLAUSIBLE = (0.01, 3600.0)
"""Plausible lengths of a recording, in seconds."""
_LARGEST_SENSOR = 2**14


@dataclass(frozen=True, slots=True)
class EventEncoding:
    """How events are stored.

    Attributes:
        polarity: The numbers that mean OFF and ON.
        scale: Microseconds in a unit of time, where timestamps are fractions.
        whole_scale: The same where they are whole numbers.
        orders: Orders of the columns of `[N, 4]` arrays that are possible.
        notes: What is unusual about it, for the user to read.
    """

    polarity: tuple[int, int] = (0, 1)
    scale: int = 1
    whole_scale: int = 1
    orders: tuple[str, ...] = _ORDERS
    notes: tuple[str, ...] = ()


@dataclass
class EncodingDetector:
    """Looks at recordings until it is clear how they are stored."""

    _values: set[float] = field(default_factory=set)
    _scale: int = 0
    _orders: tuple[str, ...] = _ORDERS
    _rows: bool = False
    seen: int = 0

    def look(self, stored: Columns | Rows) -> None:
        """Take one recording into account."""
        self.seen += 1
        if isinstance(stored, Rows):
            self._rows = True
            self._orders = tuple(order for order in self._orders if _fits(stored, order))
            if len(self._orders) != 1:
                return
            stored = _columns(stored, self._orders[0])
        if stored.p.dtype.kind in "biuf" and stored.p.ndim == 1:
            self._values |= set(np.unique(stored.p[: 2**20]).astype(float).tolist()[:16])
        if stored.t.dtype.kind == "f" and stored.t.ndim == 1 and stored.t.size and not self._scale:
            self._scale = _unit(stored.t)

    @property
    def decided(self) -> bool:
        """Whether further recordings would tell nothing new."""
        return len(self._values) > 1 and len(self._orders) == 1

    @property
    def encoding(self) -> EventEncoding:
        """What was found; 0 and 1, microseconds and all orders where nothing speaks against them."""
        fitting = [pair for pair in _POLARITIES if self._values and self._values <= set(pair)]
        polarity = fitting[0] if fitting else (0, 1)
        scale = self._scale or 1
        notes = []
        if polarity != (0, 1):
            notes.append(
                f"polarities are {polarity[0]} (OFF) and {polarity[1]} (ON): ON is (p > {polarity[1] - 1})"
            )
        if scale != 1:
            unit = next(name for name, value in _UNITS.items() if value == scale)
            notes.append(f"timestamps are {unit}, multiplied by {scale} to give microseconds")
        if self._rows and len(self._orders) == 1:
            notes.append(f"the columns of the events are {', '.join(self._orders[0])}")
        return EventEncoding(polarity, scale, 1, self._orders, tuple(notes))


def settle(stored: Columns | Rows, encoding: EventEncoding, *, where: str) -> Events:
    """Events in whole microseconds with polarities 0 and 1.

    Raises:
        DataError: The recording does not follow the encoding, or the order of its columns cannot be determined.
    """
    if isinstance(stored, Rows):
        stored = _columns(stored, _order(stored, encoding, where))
    t, p = stored.t, stored.p
    scale = encoding.scale if t.dtype.kind == "f" else encoding.whole_scale
    if scale != 1 and t.dtype.kind in "iuf":
        if not np.isfinite(t).all():
            raise DataError("'t' holds a value that is not finite", where=where)
        t = np.rint(t.astype(np.float64) * scale)
    off, on = encoding.polarity
    if (off, on) != (0, 1) and p.dtype.kind in "iuf" and p.ndim == 1:
        wrong = (p != off) & (p != on)
        if wrong.any():
            raise DataError(
                f"polarity {p[np.argmax(wrong)]} is neither {off} (OFF) nor {on} (ON), as in the other recordings",
                where=where,
                hint="store 0 for OFF and 1 for ON in all of them",
            )
        p = p == on
    events = make_events(t, stored.x, stored.y, p, where=where)
    return Events(events.t, events.x, events.y, events.p, stored.sensor)


def _columns(rows: Rows, order: str) -> Columns:
    t, x, y, p = (rows.table[:, order.index(key)] for key in "txyp")
    return Columns(t, x, y, p)


def _order(rows: Rows, encoding: EventEncoding, where: str) -> str:
    if not len(rows.table):
        return _ORDERS[0]
    fitting = [order for order in encoding.orders if _fits(rows, order)]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise DataError(
            "in no known order are the columns of this [N, 4] array times that never run backwards, pixels and polarities",
            where=where,
            hint=f"the known orders are {', '.join(map(_in_words, _ORDERS))}; or store t, x, y and p by name",
        )
    raise DataError(
        f"events whose columns could be {' or '.join(map(_in_words, fitting))}",
        where=where,
        hint="store the columns by name: np.savez(file, t=..., x=..., y=..., p=...)",
    )


def _in_words(order: str) -> str:
    return f"({', '.join(order)})"


def _fits(rows: Rows, order: str) -> bool:
    """Whether the columns can be in this order: pixels, known polarities, times that do not run backwards."""
    table: NDArray[Any] = rows.table
    if not len(table):
        return True
    t, p = table[:, order.index("t")], table[:, order.index("p")]
    pixels = table[:, [order.index("x"), order.index("y")]]
    whole = (pixels >= 0) & (pixels < _LARGEST_SENSOR) & (pixels == np.floor(pixels))
    if not whole.all() or not all(left <= right for left, right in pairwise((t[0], t[len(t) // 2], t[-1]))):
        return False
    values = set(np.unique(p).astype(float).tolist())
    return any(values <= set(pair) for pair in _POLARITIES) and bool((t[1:] >= t[:-1]).all())


def _unit(t: NDArray[np.generic]) -> int:
    """Microseconds in a unit of fractional timestamps; 0 if they are whole, 1 if no known unit makes them whole."""
    times = t[np.isfinite(t)].astype(np.float64)
    if not times.size or (times == np.floor(times)).all():
        return 0
    rounding = float(np.finfo(np.dtype(str(t.dtype))).eps) * float(np.abs(times).max())
    span = float(times.max() - times.min())
    fitting = {}
    for scale in _UNITS.values():
        microseconds = times * scale
        error = float(np.abs(microseconds - np.rint(microseconds)).max())
        if error <= 2 * rounding * scale + 1e-3:
            fitting[scale] = span * scale / 1e6
    plausible = [scale for scale, length in fitting.items() if _PLAUSIBLE[0] <= length <= _PLAUSIBLE[1]]
    return min(plausible or fitting or [1])
