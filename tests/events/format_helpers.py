"""What tests of file formats share: some events, reading a file, comparing."""

from pathlib import Path

import numpy as np
import pytest

from tcja_deploy.errors import DataError
from tcja_deploy.events import Events, make_events
from tcja_deploy.events.encoding import EventEncoding, settle
from tcja_deploy.events.formats import find_reader
from tcja_deploy.events.formats.base import Columns, Rows

SHAPE = (4, 2, 5, 7)


def some(count: int = 500, sensor: tuple[int, int] = (5, 7), seed: int = 0) -> Events:
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, 300_000, count))
    x, y = rng.integers(0, sensor[1], count), rng.integers(0, sensor[0], count)
    return make_events(t, x, y, rng.integers(0, 2, count))


def read(path: Path) -> Events:
    stored = find_reader(path).read(path, SHAPE)
    if isinstance(stored, Columns | Rows):
        return settle(stored, EventEncoding(), where=str(path))
    assert isinstance(stored, Events)
    return stored


def refused(path: Path) -> DataError | None:
    try:
        read(path)
    except DataError as error:
        return error
    return None


def equal(ours: Events, theirs: Events) -> None:
    for key in "txyp":
        np.testing.assert_array_equal(getattr(ours, key), getattr(theirs, key))


def structured(events: Events, names: str = "xytp") -> np.ndarray:
    """As `tonic.io.make_structured_array` makes them."""
    tonic_io = pytest.importorskip("tonic.io")
    kinds = {"x": np.int16, "y": np.int16, "t": np.int64, "p": bool}
    dtype = np.dtype([(name, kinds[name]) for name in names])
    return tonic_io.make_structured_array(*(getattr(events, name) for name in names), dtype=dtype)
