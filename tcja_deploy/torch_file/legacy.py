"""What `torch.save` wrote before 1.6 (pickles and raw storages in a row), the tar files of 2016, and plain pickles."""

from __future__ import annotations

import io
import struct
import tarfile
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tcja_deploy.errors import FileFormatError
from tcja_deploy.torch_file.machine import Machine, Name, ObjectBuilder, Stream, label
from tcja_deploy.torch_file.tensors import READABLE, STORAGE_TYPES, Allowance, Storage, read_part, strided

__all__ = ["read_pickles", "read_tar"]

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_UNKNOWN = 1 << 62
"""Bytes of a storage whose place is not known yet: tensors come before the storages that hold their numbers."""
_BYTES = {"qint8": 1, "quint8": 1, "qint32": 4, "quint4x2": 1, "quint2x4": 1}


def _no_identifiers(identifier: Any) -> Any:
    raise FileFormatError("a plain pickle refers to something outside itself")


def read_pickles(data: bytes | Path, builders: dict[str, ObjectBuilder]) -> Any:
    """The content of a file of `torch.save` in the format before 1.6, or of a plain pickle.

    Args:
        data: The file, or its content.
        builders: See `rebuild.builders`.

    Raises:
        FileFormatError: If it is neither, or damaged.
    """
    if isinstance(data, Path):
        size = data.stat().st_size
        with data.open("rb") as file:
            return _read_pickles(_Bounded(file, size), data, size, builders)
    return _read_pickles(io.BytesIO(data), data, len(data), builders)


class _Bounded(io.RawIOBase):
    """A file that is never asked for more than it holds, because what is asked for is allocated first."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._size - self._file.tell())
        return self._file.read(left if size < 0 else min(size, left))

    def readline(self, size: int | None = -1) -> bytes:
        return self._file.readline(-1 if size is None else size)

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)


def _read_pickles(stream: Stream, origin: bytes | Path, size: int, builders: dict[str, ObjectBuilder]) -> Any:
    first = Machine(stream, builders, _no_identifiers).run()
    if first != _MAGIC:
        return first
    header = [Machine(stream, builders, _no_identifiers).run() for _ in range(2)]
    if header[0] != _PROTOCOL or not isinstance(header[1], dict):
        raise FileFormatError(f"its format has version {label(header[0])}, known is {_PROTOCOL}")
    storages: dict[str, Storage] = {}
    order = "<" if header[1].get("little_endian", True) else ">"

    def identified(identifier: Any) -> Any:
        what, kind, key, *rest = identifier
        if what == "module":
            return kind  # a class with its source code
        if len(rest) > 2 and rest[2] is not None:
            raise FileFormatError("its storages are parts of each other, as PyTorch before 0.4 wrote them")
        return storages.setdefault(label(key), _pending(kind, order))

    content = Machine(stream, builders, identified).run()
    _place_all(storages, Machine(stream, builders, _no_identifiers).run(), stream, origin, size)
    return content


def _place_all(
    storages: dict[str, Storage], keys: Any, stream: Stream, origin: bytes | Path, size: int
) -> None:
    """Give each storage its place, in the order of the file.

    Raises:
        FileFormatError: If the keys are not those of the storages, or the file ends before the last.
    """
    for key in keys:
        if label(key) not in storages:
            raise FileFormatError(f"its storage {label(key)} belongs to no tensor")
        _place(storages[label(key)], stream, origin, size)
    if missing := [key for key, storage in storages.items() if storage.size == _UNKNOWN]:
        raise FileFormatError(f"it holds no bytes for its storage {missing[0]}")


def _pending(kind: Any, order: str) -> Storage:
    """A storage whose place is not known yet."""
    dtype = STORAGE_TYPES.get(kind.path.rpartition(".")[2]) if isinstance(kind, Name) else None
    if dtype is None:
        raise FileFormatError(f"a storage has the unknown type {label(kind)}")
    return Storage(dtype, _UNKNOWN, lambda: b"", order)


def _place(storage: Storage, stream: Stream, origin: bytes | Path, size: int) -> None:
    """Give a storage its place, and skip it.

    Raises:
        FileFormatError: If the file ends before it.
    """
    head = stream.read(8)
    count = struct.unpack("<q", head)[0] if len(head) == 8 else -1
    item = np.dtype(READABLE[storage.dtype]).itemsize if storage.dtype in READABLE else _BYTES[storage.dtype]
    start = stream.tell()
    if count < 0 or start + count * item > size:
        raise FileFormatError("the file is cut off, or its storages are larger than it")
    storage.size, storage.fetch = count * item, partial(read_part, origin, start, count * item)
    if isinstance(origin, Path):
        storage.place = partial(_at, origin, start)
    stream.seek(start + count * item)


def _at(path: Path, start: int) -> tuple[Path, int]:
    return path, start


def read_tar(path: Path, builders: dict[str, ObjectBuilder], allowance: Allowance) -> Any:
    """The content of a tar file that PyTorch wrote before its first release.

    Raises:
        FileFormatError: If it is another tar file, or damaged.
    """
    try:
        with tarfile.open(path, "r:") as archive:
            parts = {m.name: (m.offset_data, m.size) for m in archive.getmembers() if m.isfile()}
    except (tarfile.TarError, OSError, EOFError) as error:
        raise FileFormatError(f"the tar file is damaged ({error})") from error
    if not {"pickle", "storages", "tensors"} <= set(parts):
        raise FileFormatError(
            "this tar file is not one of PyTorch's; it holds " + ", ".join(sorted(parts)[:5]),
            hint="unpack it with tar -xf and pass the checkpoint inside",
        )
    size = path.stat().st_size
    storages: dict[str, Storage] = {}
    tensors: dict[int, Any] = {}
    with path.open("rb") as file:
        stream = _Bounded(file, size)

        def pickled() -> Any:
            return Machine(stream, builders, _no_identifiers).run()

        stream.seek(parts["storages"][0])
        for _ in range(_count(pickled(), size)):
            key, _, kind = pickled()
            storages[label(key)] = _pending(kind, "<")
            _place(storages[label(key)], stream, path, size)
        if pickled():
            raise FileFormatError("its storages are parts of each other")
        stream.seek(parts["tensors"][0])
        for _ in range(_count(pickled(), size)):
            key, storage, _ = pickled()
            (axes,) = struct.unpack("<i4x", stream.read(8))
            numbers = struct.unpack(f"<{2 * axes + 1}q", stream.read(16 * axes + 8)) if 0 <= axes < 64 else ()
            if not numbers or label(storage) not in storages:
                raise FileFormatError("a tensor of it has no storage or no shape")
            shape, stride = numbers[:axes], numbers[axes:-1]
            tensors[int(key)] = strided(allowance, storages[label(storage)], numbers[-1], shape, stride)
        stream.seek(parts["pickle"][0])

        def identified(identifier: Any) -> Any:
            return identifier[0] if isinstance(identifier, tuple) else tensors[int(identifier)]

        return Machine(stream, builders, identified).run()


def _count(number: Any, size: int) -> int:
    if type(number) is not int or not 0 <= number <= size:
        raise FileFormatError("the number of its parts is not readable")
    return number
