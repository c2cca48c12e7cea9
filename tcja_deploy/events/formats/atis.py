"""N-MNIST and N-Caltech101: `.bin`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tcja_deploy.errors import DataError
from tcja_deploy.events.formats.base import Reader
from tcja_deploy.events.recording import MAX_EVENTS, Events

__all__ = ["ATIS_BIN", "read_nmnist"]

_EVENT_BYTES = 5
_OVERFLOW_ROW = 240
_OVERFLOW_MICROSECONDS = 2**13


def read_nmnist(path: Path | str) -> Events:
    """Read a recording in the binary format of N-MNIST and N-Caltech101.

    Five bytes per event, big endian: x (8 bits), y (8 bits), polarity (1 bit), time in microseconds (23 bits).

    An event with y = 240 is not a pixel (the ATIS sensor has 240 rows) but the mark that a clock of 2^13
    microseconds wrapped: it is dropped, and 8192 is added to every later timestamp. Timestamps that still run
    backwards are kept as they are and the events stay in file order; `integrate` says what it does with them.

    Source: Orchard et al., Frontiers in Neuroscience 9:437 (2015), doi:10.3389/fnins.2015.00437.

    Raises:
        DataError: The file cannot be read, is not a whole number of events long, or exceeds `MAX_EVENTS`.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        _check_bin_size(size, path)
        raw = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", where=str(path)) from error
    _check_bin_size(raw.size, path)
    columns = raw.reshape(-1, _EVENT_BYTES).astype(np.int64)
    x, y = columns[:, 0], columns[:, 1]
    t = ((columns[:, 2] & 0x7F) << 16) | (columns[:, 3] << 8) | columns[:, 4]
    overflow = y == _OVERFLOW_ROW
    t = t + np.cumsum(overflow) * _OVERFLOW_MICROSECONDS
    pixel = ~overflow
    return Events(t[pixel], x[pixel], y[pixel], columns[pixel, 2] >> 7)


def _check_bin_size(size: int, path: Path) -> None:
    if size % _EVENT_BYTES:
        raise DataError(
            f"{size} bytes are not a whole number of events of {_EVENT_BYTES} bytes",
            where=str(path),
            hint="the file is truncated, or not in the N-MNIST format",
        )
    if size > _EVENT_BYTES * MAX_EVENTS:
        raise DataError(
            f"holds {size // _EVENT_BYTES} events; at most {MAX_EVENTS} are read", where=str(path)
        )


ATIS_BIN = Reader(
    name="ATIS `.bin`",
    suffixes=(".bin",),
    holds="5 bytes per event: x, y, polarity, microseconds",
    written_by="N-MNIST, N-Caltech101 as published",
    recognise=lambda head: head.suffix == ".bin",
    read=lambda path, shape: read_nmnist(path),
)
