"""NumPy files from outside: shape and dtype are known before anything is allocated, and no code is run.

`numpy.load` on a `.npz` allocates what the header inside claims. Here the headers are read first, compared
with the sizes in the archive, and judged by the caller; object arrays (pickles) are refused.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from tcja_deploy.errors import DataError

__all__ = ["ArrayHeader", "map_npy", "npy_header", "npz_headers", "read_npz"]

_DAMAGED = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    RuntimeError,  # an encrypted member
    NotImplementedError,  # a compression method this Python lacks
)


@dataclass(frozen=True, slots=True)
class ArrayHeader:
    """What a `.npy` header says of its array: shape, dtype and the bytes of its data."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]

    @property
    def nbytes(self) -> int:
        """Bytes of the data."""
        return math.prod(self.shape) * self.dtype.itemsize


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Turn what zipfile and numpy raise on a damaged file into a `DataError` that names it."""
    try:
        yield
    except _DAMAGED as error:
        raise DataError(
            f"not a readable NumPy file: {error}",
            where=str(path),
            hint="the file is damaged or of another kind; accepted are .npy, .npz and N-MNIST .bin",
        ) from error
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", where=str(path)) from error


def npz_headers(path: Path) -> dict[str, ArrayHeader]:
    """The header of every array in a `.npz`, without its data.

    Raises:
        DataError: Not a `.npz`, damaged, or an array is pickled, structured, or not of the size that its
            header says.
    """
    headers: dict[str, ArrayHeader] = {}
    with _damage_named(path), zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not member.filename.endswith(".npy"):
                continue
            key = member.filename.removesuffix(".npy")
            if key in headers:
                raise ValueError(f"two arrays are named '{key}'")
            with archive.open(member) as stream:
                headers[key] = _header(stream, member.file_size, path, key)
    return headers


def read_npz(path: Path, keys: Iterable[str]) -> dict[str, NDArray[np.generic]]:
    """The named arrays of a `.npz`. Judge `npz_headers` first: this allocates what they say.

    Raises:
        DataError: The file is damaged or lacks a key.
    """
    with _damage_named(path), np.load(path, allow_pickle=False) as archive:
        return {key: np.asarray(archive[key]) for key in keys}


def npy_header(path: Path) -> ArrayHeader:
    """The header of a `.npy`, without its data.

    Raises:
        DataError: Not a `.npy`, damaged, pickled, structured, or of another size than its header says.
    """
    with _damage_named(path), path.open("rb") as stream:
        return _header(stream, path.stat().st_size, path, path.name)


def map_npy(path: Path) -> NDArray[np.generic]:
    """The array of a `.npy`, mapped into memory read-only: only what is indexed is read.

    Raises:
        DataError: As `npy_header`.
    """
    npy_header(path)
    with _damage_named(path):
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


def _header(stream: IO[bytes], size: int, path: Path, key: str) -> ArrayHeader:
    """Read and check one header; `size` counts header and data."""
    version = npy_format.read_magic(stream)
    if version == (1, 0):
        shape, _, dtype = npy_format.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, _, dtype = npy_format.read_array_header_2_0(stream)
    else:
        raise ValueError(f"'{key}' has the .npy version {version}; versions 1 and 2 hold plain numbers")
    if dtype.hasobject:
        raise DataError(
            f"'{key}' is a pickled object array",
            where=str(path),
            hint="loading a pickle runs code from the file, so it is refused; save it again as numbers",
        )
    if dtype.kind not in "biufU":
        raise DataError(f"'{key}' has dtype {dtype}, expected numbers", where=str(path))
    header = ArrayHeader(tuple(int(length) for length in shape), dtype)
    if any(length < 0 for length in header.shape) or stream.tell() + header.nbytes != size:
        raise DataError(
            f"'{key}' claims shape {list(header.shape)} of {dtype}, but the file holds {size} bytes for it",
            where=str(path),
            hint="the file is truncated or its header was tampered with",
        )
    return header
