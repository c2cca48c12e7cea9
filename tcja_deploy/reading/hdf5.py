"""The one reader of HDF5: a file's groups and data as dictionaries and arrays, without links out of the file.

The HDF5 library loops for ever on some damaged files and believes every size. The file is read with h5py in a process of its
own (`child`), except for files that this process has just written itself. Before anything is allocated, the size of each
array is compared with the bytes that are stored for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import DeployError, FileFormatError
from tcja_deploy.files import being_written, path_status
from tcja_deploy.reading.beginning import first_bytes
from tcja_deploy.reading.child import Child, ForeignError
from tcja_deploy.reading.limits import check_bytes, current_limits
from tcja_deploy.reading.messages import Arrays, Message

__all__ = ["Tree", "check_dataset", "is_hdf5", "read_hdf5", "read_hdf5_files", "worker"]

Tree = dict[str, Any]
"""A group: its entries by name, which are trees, arrays of numbers, texts, or arrays of texts (dtype object)."""

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_DEPTH = 32
"""Groups inside groups that are read; deeper nesting is treated as an attack."""
_ENTRIES = 200_000
"""Entries of all groups together: more than any network has."""
_INFLATION, _SLACK = 1032, 1 << 16
"""The most bytes that compression makes of one; chunks and unwritten small arrays get some more."""
_SECONDS, _BYTES_A_SECOND = 8.0, 10 << 20
"""Time for a small file, and how fast a large one has to be read: what takes longer loops."""


def is_hdf5(path: Path) -> bool:
    """Whether a file is HDF5, by its first bytes."""
    return first_bytes(path, len(_SIGNATURE)) == _SIGNATURE


def read_hdf5(path: Path) -> Tree:
    """Everything in a file.

    Raises:
        FileFormatError: If it is not an HDF5 file, is damaged, links to other files, claims more than it holds, or takes more
            memory or time than the limits.
    """
    return read_hdf5_files([path])[0]


def read_hdf5_files(paths: Sequence[Path]) -> list[Tree]:
    """As `read_hdf5`, for several files with one process."""
    for path in paths:
        if path_status(path) != "file":
            raise FileFormatError("there is no such file", where=str(path))
        check_bytes(path.stat().st_size, "the file", where=str(path))
    if all(being_written(path) for path in paths):
        return [_read(path) for path in paths]
    trees = []
    seconds = _SECONDS + max(path.stat().st_size for path in paths) / _BYTES_A_SECOND
    with Child(f"{__name__}:worker", where=str(paths[0]), what="HDF5", seconds=seconds) as child:
        for path in paths:
            try:
                facts, arrays = child.ask(({"path": str(path.resolve())}, {}))
                trees.append(_unflattened(facts["tree"], arrays))
            except ForeignError as error:
                raise _damaged(path, error) from error
            except DeployError as error:
                error.where = error.where.replace(str(path.resolve()), str(path)) or str(path)
                raise
    return trees


def _damaged(path: Path, error: Exception) -> FileFormatError:
    return FileFormatError(
        f"the file is truncated or damaged ({str(error)[:200]})", where=str(path), hint="export it again"
    )


# -- in the other process --------------------------------------------------------------------------------------------------
def worker() -> Any:
    """What runs there: a request names a file, the answer is its content."""

    def answer(message: Message) -> Message:
        arrays: Arrays = {}
        tree = _flattened(_read(Path(message[0]["path"])), arrays)
        return {"tree": tree}, arrays

    return answer


def _read(path: Path) -> Tree:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return _Reader(str(path)).group(file)
    except DeployError:
        raise
    except Exception as error:  # h5py passes on what the library says, by many classes
        raise _damaged(path, error) from error


class _Reader:
    """Reads groups within limits on their number, depth and size."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.bytes = current_limits().memory // 4  # read here, packed, received and unpacked there
        self.entries = _ENTRIES
        self.seen: set[Any] = set()

    def refuse(self, reason: str, key: str) -> FileFormatError:
        return FileFormatError(
            f"{reason} at {key}", where=self.where, hint="no program writes such a file for a network"
        )

    def group(self, group: Any, depth: int = 0) -> Tree:
        """Everything below a group."""
        import h5py

        address = h5py.h5o.get_info(group.id).addr
        if address in self.seen or depth > _DEPTH:
            raise self.refuse("groups contain each other, or are nested too deeply", group.name)
        self.seen.add(address)
        content: Tree = {}
        for key in group:
            where = f"{group.name.rstrip('/')}/{key}"
            self.entries -= 1
            if self.entries < 0:
                raise self.refuse(f"there are more than {_ENTRIES:,} entries", where)
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise self.refuse("the file links to something outside it", where)
            item = group[key]
            if isinstance(item, h5py.Group):
                content[key] = self.group(item, depth + 1)
            elif isinstance(item, h5py.Dataset):
                content[key] = self.dataset(item, where)
            else:
                raise self.refuse("there is a named type", where)
        return content

    def dataset(self, data: Any, where: str) -> Any:
        """One value: a text, an array, or an array of texts."""
        import h5py

        if data.is_virtual or data.external:
            raise self.refuse("the file links to data outside it", where)
        text = h5py.check_string_dtype(data.dtype) is not None
        if not text and data.dtype.kind not in "biuf":
            raise self.refuse(f"there is data of type {str(data.dtype)[:80]}", where)
        size = check_dataset(data, self.where)
        self.bytes -= size * (8 if text else 1)
        if self.bytes < 0:
            check_bytes(current_limits().memory + 1, "reading all arrays", where=f"{self.where}: {where}")
        value = data[()]
        if not text:
            return np.asarray(value)
        return _text(value) if data.shape == () else np.vectorize(_text, otypes=[object])(value)


def check_dataset(data: Any, where: str, error: type[DeployError] = FileFormatError) -> int:
    """Compare what a dataset claims with what is stored of it, before it is read.

    Returns:
        Bytes of its elements.

    Raises:
        DeployError: Of class `error`: more than can be stored there, chunks much larger than it, or more than the limit.
    """
    hint = "no program writes such a file for a network"
    where = f"{where}: {data.name}"
    size = int(data.size or 0) * max(int(data.dtype.itemsize), 1)
    stored = int(data.id.get_storage_size())
    if size > stored * _INFLATION + _SLACK:
        reason = f"{stored:,} stored bytes cannot hold the {size:,} that are claimed"
        raise error(reason, where=where, hint=hint)
    if data.chunks is not None:
        chunk = int(np.prod(data.chunks, dtype=object)) * data.dtype.itemsize
        if chunk > size + (1 << 26):
            raise error("there are chunks much larger than the data", where=where, hint=hint)
    check_bytes(2 * size, "reading this", where=where, error=error)
    return size


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


# -- between the processes -------------------------------------------------------------------------------------------------
def _flattened(tree: Tree, arrays: Arrays) -> dict[str, Any]:
    """A tree as JSON, its arrays of numbers set aside under numbers."""
    content: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            content[key] = _flattened(value, arrays)
        elif isinstance(value, str):
            content[key] = value
        elif value.dtype == object:
            content[key] = [list(value.shape), value.ravel().tolist()]
        else:
            native = value if value.dtype.isnative else value.astype(value.dtype.newbyteorder("="))
            content[key] = len(arrays)
            arrays[str(len(arrays))] = native
    return content


def _unflattened(content: dict[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Tree:
    tree: Tree = {}
    for key, value in content.items():
        if isinstance(value, dict):
            tree[key] = _unflattened(value, arrays)
        elif isinstance(value, str):
            tree[key] = value
        elif isinstance(value, list):
            texts = np.empty(len(value[1]), object)
            texts[:] = value[1]
            tree[key] = texts.reshape(value[0])
        else:
            tree[key] = arrays[str(value)]
    return tree
