"""Weights as `safetensors` files hold them: a JSON header with places, then the numbers."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

from tcja_deploy.errors import FileFormatError
from tcja_deploy.reading.json_text import parse_json
from tcja_deploy.torch_file.machine import DAMAGE
from tcja_deploy.torch_file.tensors import (
    READABLE,
    Allowance,
    Storage,
    StoredTensor,
    checked_shape,
    strided,
)

__all__ = ["is_safetensors", "read_safetensors"]

_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32", "I16": "int16",
    "I8": "int8", "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool", "C64": "complex64",
}  # fmt: skip
_LARGEST_HEADER = 100_000_000
"""Bytes, as the format's own limit."""


def is_safetensors(path: Path) -> bool:
    """Whether a file looks like one, by its first bytes and its length."""
    with path.open("rb") as stream:
        head = stream.read(9)
    length = int.from_bytes(head[:8], "little")
    return len(head) == 9 and head[8:] == b"{" and 2 <= length <= path.stat().st_size - 8


def read_safetensors(path: Path, allowance: Allowance) -> dict[str, StoredTensor]:
    """Tensors by key.

    Raises:
        FileFormatError: If the header is damaged, or says more than the file holds.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > _LARGEST_HEADER:
            raise FileFormatError(f"the header takes {length:,} bytes")
        text = stream.read(length)
    try:
        header = parse_json(text, dict)
        return {
            key: _tensor(path, allowance, 8 + length, size, key, entry)
            for key, entry in header.items()
            if key != "__metadata__"
        }
    except DAMAGE as error:
        raise FileFormatError(f"the safetensors header is damaged ({type(error).__name__})") from error


def _tensor(path: Path, allowance: Allowance, start: int, size: int, key: str, entry: Any) -> StoredTensor:
    shape = checked_shape(entry["shape"])
    begin, end = entry["data_offsets"]
    if type(begin) is not int or type(end) is not int or not 0 <= begin <= end <= size - start:
        raise FileFormatError("its place lies outside the file", where=key)
    dtype = _DTYPES.get(entry["dtype"], str(entry["dtype"])[:20].lower())
    if dtype not in READABLE:
        return StoredTensor(dtype, shape)
    storage = Storage(dtype, end - begin, partial(_slice, path, start + begin, end - begin))
    stride = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    return strided(allowance, storage, 0, shape, stride)


def _slice(path: Path, start: int, length: int) -> bytes:
    with path.open("rb") as stream:
        stream.seek(start)
        return stream.read(length)
