"""The one reader of NumPy files: shape and dtype are known before anything is allocated, and no code is run.

`numpy.load` allocates what the header inside claims. Here the headers are read first and compared with the sizes in the
archive, whose members together are within the limit. How to use it::

    headers = npz_headers(path, error=DataError)      # judge shapes and dtypes here, nothing is allocated
    arrays = read_npz(path, ["t", "x"], error=DataError)  # allocates what the headers said, at most the limit

`map_npy` maps a `.npy` into memory: only what is indexed is read. Object arrays (pickles) are refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from tcja_deploy.errors import DeployError, FileFormatError
from tcja_deploy.files import path_status
from tcja_deploy.reading.archives import damage_told, open_archive

__all__ = ["ArrayHeader", "map_npy", "npy_header", "npz_headers", "read_npz"]


@dataclass(frozen=True, slots=True)
class ArrayHeader:
    """What a `.npy` header says of its array: shape, dtype and the bytes of its data."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]

    @property
    def nbytes(self) -> int:
        """Bytes of the data."""
        return math.prod(self.shape) * self.dtype.itemsize


def npz_headers(path: Path, *, error: type[DeployError] = FileFormatError) -> dict[str, ArrayHeader]:
    """The header of every array in a `.npz`, without its data.

    Raises:
        DeployError: Of class `error`: not a `.npz`, damaged, larger than the limit, or an array is pickled, structured, or not
            of the size that its header says.
    """
    headers: dict[str, ArrayHeader] = {}
    with open_archive(path, error, "NumPy file") as archive:
        others = {m.filename for m in archive.infolist() if not m.filename.endswith(".npy")}
        for member in archive.infolist():
            if not member.filename.endswith(".npy"):
                continue
            key = member.filename.removesuffix(".npy")
            if key in headers or key in others:  # NumPy takes the member without the suffix
                raise ValueError(f"two arrays are named '{key}'")
            with archive.open(member) as stream:
                headers[key] = _header(stream, member.file_size, path, key, error)
    return headers


def read_npz(
    path: Path, keys: Iterable[str] | None = None, *, error: type[DeployError] = FileFormatError
) -> dict[str, NDArray[Any]]:
    """Arrays of a `.npz`, in the byte order of this machine.

    Args:
        path: The file.
        keys: Names of the arrays; all if not given.
        error: Class of the errors.

    Raises:
        DeployError: As for `npz_headers`, and if a key is missing.
    """
    headers = npz_headers(path, error=error)
    wanted = list(headers) if keys is None else list(keys)
    missing = [key for key in wanted if key not in headers]
    if missing:
        raise error(
            f"lacks {', '.join(missing)}; it holds {', '.join(headers) or 'nothing'}", where=str(path)
        )
    arrays: dict[str, NDArray[Any]] = {}
    with open_archive(path, error, "NumPy file") as archive:
        for key in wanted:
            with archive.open(f"{key}.npy") as stream:
                array = npy_format.read_array(stream, allow_pickle=False)
                if stream.read(1):  # reading to the end is what checks the sum
                    raise ValueError(f"there is more after '{key}'")
            arrays[key] = array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
    return arrays


def npy_header(path: Path, *, error: type[DeployError] = FileFormatError) -> ArrayHeader:
    """The header of a `.npy`, without its data.

    Raises:
        DeployError: Of class `error`: not a `.npy`, damaged, pickled, structured, or of another size than its header says.
    """
    if path_status(path, error) != "file":
        raise error("there is no such file", where=str(path))
    with damage_told(path, "NumPy file", error), path.open("rb") as stream:
        return _header(stream, path.stat().st_size, path, path.name, error)


def map_npy(path: Path, *, error: type[DeployError] = FileFormatError) -> NDArray[Any]:
    """The array of a `.npy`, mapped into memory read-only: only what is indexed is read. Errors as for `npy_header`."""
    npy_header(path, error=error)
    with damage_told(path, "NumPy file", error):
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


def _header(stream: IO[bytes], size: int, path: Path, key: str, error: type[DeployError]) -> ArrayHeader:
    """Read and check one header; `size` counts header and data."""
    version = npy_format.read_magic(stream)
    if version == (1, 0):
        shape, _, dtype = npy_format.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, _, dtype = npy_format.read_array_header_2_0(stream)
    else:
        raise ValueError(f"'{key}' has the .npy version {version}; versions 1 and 2 hold plain numbers")
    if dtype.hasobject:
        raise error(
            f"'{key}' is a pickled object array",
            where=str(path),
            hint="loading a pickle runs code from the file, so it is refused; save it again as numbers",
        )
    fields: Any = dtype.fields or {}  # a structured array of single numbers, as events often are
    if dtype.kind not in "biufU" and not (
        fields and all(kind.kind in "biuf" for kind, *_ in fields.values())
    ):
        raise error(f"'{key}' has dtype {dtype}, expected numbers", where=str(path))
    header = ArrayHeader(tuple(int(length) for length in shape), dtype)
    if any(length < 0 for length in header.shape) or stream.tell() + header.nbytes != size:
        raise error(
            f"'{key}' claims shape {str(list(header.shape))[:120]} of {dtype}, but the file holds {size} bytes for it",
            where=str(path),
            hint="the file is truncated or its header was tampered with",
        )
    return header
