"""Tensors as a file describes them: read when asked for, never larger than what the file holds plus a fixed allowance."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import FileFormatError
from tcja_deploy.torch_file.machine import DAMAGE

__all__ = [
    "READABLE",
    "STORAGE_TYPES",
    "Allowance",
    "Storage",
    "StoredTensor",
    "checked_shape",
    "read_part",
    "strided",
]

AnyArray = NDArray[Any]

READABLE = {
    "float64": "f8", "float32": "f4", "float16": "f2", "bfloat16": "u2", "int64": "i8", "int32": "i4", "int16": "i2",
    "int8": "i1", "uint64": "u8", "uint32": "u4", "uint16": "u2", "uint8": "u1", "bool": "b1", "complex64": "c8",
    "complex128": "c16",
}  # fmt: skip
"""NumPy's code for each dtype of PyTorch that it can hold; bfloat16 by its bits."""

STORAGE_TYPES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8", "ByteStorage": "uint8",
    "BoolStorage": "bool", "ComplexFloatStorage": "complex64", "ComplexDoubleStorage": "complex128", "QInt8Storage": "qint8",
    "QUInt8Storage": "quint8", "QInt32Storage": "qint32", "QUInt4x2Storage": "quint4x2", "QUInt2x4Storage": "quint2x4",
    "UntypedStorage": "uint8",
}  # fmt: skip
"""Dtype of PyTorch's storage classes, by their names."""

_SPARE = 1 << 28
"""Bytes that tensors may take beyond the file: broadcast, sparse and shared ones are larger in memory."""

_MOST_AXES = 32


class Allowance:
    """How many bytes the tensors of one file may still take."""

    def __init__(self, file_size: int) -> None:
        self._left = 2 * file_size + _SPARE

    def take(self, size: int, what: str) -> None:
        """Count what is about to be allocated.

        Raises:
            FileFormatError: If it is more than a file of this size can mean.
        """
        if size > self._left:
            raise FileFormatError(f"{what} would take {size:,} bytes, far more than the file holds")
        self._left -= size


@dataclass(eq=False)
class Storage:
    """A run of bytes in a file.

    Attributes:
        dtype: Type of its elements, as PyTorch calls it.
        size: Bytes that the file holds of it; a legacy file tells it last.
        fetch: Reads them.
        order: `<` or `>`, the byte order of an element.
        place: File and position of the bytes, where a file holds them as they are.
    """

    dtype: str
    size: int
    fetch: Callable[[], bytes]
    order: str = "<"
    place: Callable[[], tuple[Path, int]] | None = None
    _content: bytes | None = None

    def content(self) -> bytes:
        """The bytes, read once."""
        if self._content is None:
            self._content = self.fetch()
        return self._content

    def mapped(self) -> Any:
        """The bytes, mapped into memory where a file holds them: only what is looked at is read."""
        if self.place is None or not self.size:
            return self.content()
        path, start = self.place()
        return np.memmap(path, np.uint8, "r", start, (self.size,))


class StoredTensor:
    """A tensor in a file.

    Attributes:
        dtype: As PyTorch calls it, such as `float32` or `qint8`.
        shape: Lengths of its axes.
        obstacle: Why its numbers cannot be had as an ordinary array; empty if they can.
        sparse: Whether the file leaves its zeros out.
    """

    def __init__(
        self,
        dtype: str,
        shape: Sequence[int],
        make: Callable[[], AnyArray] | None = None,
        obstacle: str = "",
        sparse: bool = False,
        view: Callable[[], AnyArray] | None = None,
    ) -> None:
        self.dtype, self.shape, self.sparse, self._make, self._view = dtype, tuple(shape), sparse, make, view
        unknown = "" if dtype in READABLE else f"its elements are {dtype}"
        self.obstacle = obstacle or unknown

    def array(self) -> AnyArray:
        """The numbers, in an array of their own; bfloat16 as float32, which holds it exactly.

        Raises:
            FileFormatError: If there is an obstacle, or the file holds less than it says.
        """
        if self.obstacle or self._make is None:
            raise FileFormatError(self.obstacle or "the tensor has no content")
        return self._numbers(self._make)

    def mapped(self) -> AnyArray:
        """The numbers, as `array`; where a file holds them as they are, only what is indexed is read from it."""
        return self.array() if self.obstacle or self._view is None else self._numbers(self._view)

    def _numbers(self, read: Callable[[], AnyArray]) -> AnyArray:
        try:
            return read()
        except DAMAGE as error:
            raise FileFormatError(
                f"a tensor is damaged ({type(error).__name__}: {str(error)[:80]})"
            ) from error

    def set_state(self, state: object) -> None:
        """Ignored: attributes that Python code attached to a tensor say nothing about its numbers."""


def read_part(source: Path | bytes, start: int, length: int) -> bytes:
    """Some bytes of a file or of its content, fewer where it ends."""
    if isinstance(source, bytes):
        return source[start : start + length]
    with source.open("rb") as stream:
        stream.seek(start)
        return stream.read(length)


def checked_shape(shape: Any) -> tuple[int, ...]:
    """Lengths of axes from a file.

    Raises:
        FileFormatError: If they are not lengths.
    """
    lengths = tuple(shape)
    if len(lengths) > _MOST_AXES or any(type(n) is not int or n < 0 for n in lengths):
        raise FileFormatError("a tensor has an impossible shape")
    return lengths


def strided(
    allowance: Allowance,
    storage: Storage,
    offset: int,
    shape: Sequence[int],
    stride: Sequence[int],
    *,
    dtype: str = "",
    negated: bool = False,
) -> StoredTensor:
    """A view of a storage.

    Args:
        allowance: The bytes that the file's tensors may take.
        storage: The bytes.
        offset: First element, counted in elements.
        shape: Lengths of the axes.
        stride: Elements from one entry to the next along each axis.
        dtype: Of the elements, if not the storage's own.
        negated: Whether the numbers are the negatives of what is stored.

    Raises:
        FileFormatError: If the view reaches beyond the storage.
    """
    dtype = dtype or storage.dtype
    lengths, steps = checked_shape(shape), checked_shape(stride)
    if dtype not in READABLE:
        return StoredTensor(dtype, lengths)
    code = np.dtype(storage.order + READABLE[dtype])
    if type(offset) is not int or offset < 0 or len(lengths) != len(steps):
        raise FileFormatError("a tensor's place in its storage is not readable")
    inside = tuple(step * code.itemsize for step in steps)

    def check_reach() -> None:
        reach = offset + 1 + sum((n - 1) * step for n, step in zip(lengths, steps, strict=True))
        if math.prod(lengths) and reach * code.itemsize > storage.size:
            raise FileFormatError(
                f"a tensor of shape {lengths} reaches beyond its storage, which holds {storage.size:,} bytes"
            )

    def view() -> AnyArray:
        check_reach()
        return np.ndarray(lengths, code, storage.mapped(), offset * code.itemsize, inside)

    def make() -> AnyArray:
        check_reach()  # again: a legacy file says how long a storage is only after the tensors that it holds
        wide = 4 if dtype == "bfloat16" else code.itemsize
        allowance.take(math.prod(lengths) * wide, f"a tensor of shape {lengths}")
        if not math.prod(lengths):
            return np.zeros(lengths, np.float32 if dtype == "bfloat16" else code.newbyteorder("="))
        view: AnyArray = np.ndarray(lengths, code, storage.content(), offset * code.itemsize, inside)
        if dtype == "bfloat16":
            return (view.astype(np.uint32) << 16).view(np.float32)
        own = view.astype(code.newbyteorder("="), order="C", copy=True)
        return -own if negated else own

    check_reach()
    plain = math.prod(lengths) > 0 and dtype != "bfloat16" and not negated and code.isnative
    return StoredTensor(dtype, lengths, make, view=view if plain else None)
