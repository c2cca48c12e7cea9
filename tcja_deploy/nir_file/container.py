"""`.nir` files as plain dictionaries.

The file is read with this package's reader of HDF5. `nir.read` would first build its own objects, whose shape inference uses
the kernel's height for its width as well (nir 1.0.8), and it follows links out of the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tcja_deploy.errors import FileFormatError
from tcja_deploy.reading.hdf5 import read_hdf5

__all__ = ["read_nir_file"]


def read_nir_file(path: Path) -> tuple[dict[str, Any], str]:
    """Content of a `.nir` file, and the version of NIR that wrote it.

    Returns:
        The root node, as `nir.NIRGraph.to_dict` gives it: strings, numbers, arrays, and dictionaries of them.

    Raises:
        FileFormatError: If the file is not a NIR file; see `read_hdf5` for what else.
    """
    content = read_hdf5(path)
    node, version = content.get("node"), content.get("version")
    if not isinstance(node, dict):
        raise FileFormatError(
            "this HDF5 file holds no NIR graph",
            where=str(path),
            hint="known HDF5 files are .nir files (Lava's .net files cannot be read)",
        )
    _check_types(node, str(path))
    return node, version if isinstance(version, str) else ""


def _check_types(node: dict[str, Any], where: str) -> None:
    """Every node says what it is, in a text."""
    pending = [node]
    while pending:
        current = pending.pop()
        if not isinstance(current.get("type", ""), str):
            raise FileFormatError("a node's type is not text", where=where, hint="export it again")
        pending += [value for value in current.values() if isinstance(value, dict)]
