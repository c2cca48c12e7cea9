"""The HDF5 side of ``.nir`` files: from bytes that nobody vouches for to plain dictionaries.

The file is read with h5py alone. ``nir.read`` would first build its own objects, whose shape inference takes the kernel's
height for its width (nir 1.0.8), and it follows links out of the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tcja_deploy.errors import FileFormatError

__all__ = ["is_hdf5", "read_nir_file"]

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_DEPTH = 32
"""Groups inside groups that are read; deeper nesting is taken for an attack."""
_BYTES = 8 << 30
"""Bytes of all arrays together that are read: far more than any network, and less than a machine holds."""


def is_hdf5(path: Path) -> bool:
    """Whether a file is HDF5, by its first bytes."""
    with path.open("rb") as stream:
        return stream.read(len(_SIGNATURE)) == _SIGNATURE


def read_nir_file(path: Path) -> tuple[dict[str, Any], str]:
    """Content of a ``.nir`` file, and the version of NIR that wrote it.

    Returns:
        The root node, as ``nir.NIRGraph.to_dict`` gives it: strings, numbers, arrays, and dictionaries of them.

    Raises:
        FileFormatError: If the file is no NIR file, is damaged, links to other files, or is too large.
    """
    where = str(path)
    try:
        with h5py.File(path, "r") as file:
            node = file.get("node")
            if not isinstance(node, h5py.Group):
                raise FileFormatError(
                    "this HDF5 file holds no NIR graph",
                    where=where,
                    hint="known HDF5 files are .nir files (Lava's .net files cannot be read)",
                )
            version = file.get("version")
            content = _Reader(where).group(node)
            text = _text(version[()]) if isinstance(version, h5py.Dataset) and version.shape == () else ""
            return content, text
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise FileFormatError(
            f"the file is truncated or damaged ({error})", where=where, hint="export it again"
        ) from error


class _Reader:
    def __init__(self, where: str) -> None:
        self.where = where
        self.budget = _BYTES
        self.seen: set[Any] = set()

    def refuse(self, reason: str, key: str) -> FileFormatError:
        return FileFormatError(f"{reason} at {key}", where=self.where, hint="this is no file that NIR writes")

    def group(self, group: h5py.Group, depth: int = 0) -> dict[str, Any]:
        """Everything below a group."""
        address = h5py.h5o.get_info(group.id).addr
        if address in self.seen or depth > _DEPTH:
            raise self.refuse("groups contain each other, or are nested too deeply", group.name)
        self.seen.add(address)
        content: dict[str, Any] = {}
        for key in group:
            where = f"{group.name}/{key}"
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise self.refuse("the file links to something outside of it", where)
            item = group[key]
            if isinstance(item, h5py.Group):
                content[key] = self.group(item, depth + 1)
            elif isinstance(item, h5py.Dataset):
                content[key] = self.dataset(item, where)
            else:
                raise self.refuse("there is a named type", where)
        return content

    def dataset(self, data: h5py.Dataset, where: str) -> Any:
        """One value: a string, an array, or an array of strings."""
        if data.is_virtual or data.external:
            raise self.refuse("the file links to data outside of it", where)
        text = h5py.check_string_dtype(data.dtype) is not None
        if not text and data.dtype.kind not in "biuf":
            raise self.refuse(f"there is data of type {data.dtype}", where)
        self.budget -= int(data.size or 0) * (64 if text else data.dtype.itemsize)
        if self.budget < 0:
            raise self.refuse(f"the arrays are larger than {_BYTES >> 30} GiB", where)
        value = data[()]
        if not text:
            return value
        return _text(value) if data.shape == () else np.vectorize(_text, otypes=[object])(value)


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)
