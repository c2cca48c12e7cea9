"""NumPy files of recordings: the one reader of such files (`reading.arrays`), with errors about data."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import DataError
from tcja_deploy.reading import arrays
from tcja_deploy.reading.arrays import ArrayHeader

__all__ = ["ArrayHeader", "map_npy", "npy_header", "npz_headers", "read_npz"]


def npz_headers(path: Path) -> dict[str, ArrayHeader]:
    """As `reading.arrays.npz_headers`, with `DataError`."""
    return arrays.npz_headers(path, error=DataError)


def read_npz(path: Path, keys: Iterable[str]) -> dict[str, NDArray[np.generic]]:
    """As `reading.arrays.read_npz`, with `DataError`."""
    return arrays.read_npz(path, keys, error=DataError)


def npy_header(path: Path) -> ArrayHeader:
    """As `reading.arrays.npy_header`, with `DataError`."""
    return arrays.npy_header(path, error=DataError)


def map_npy(path: Path) -> NDArray[np.generic]:
    """As `reading.arrays.map_npy`, with `DataError`."""
    return arrays.map_npy(path, error=DataError)
