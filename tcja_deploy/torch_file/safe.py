"""Weights as `safetensors` files hold them: a JSON header with places, then the numbers."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tcja_deploy.errors import FileFormatError
from tcja_deploy.reading.beginning import first_bytes
from tcja_deploy.reading.json_text import parse_json
from tcja_deploy.torch_file.machine import DAMAGE
from tcja_deploy.torch_file.tensors import (
    READABLE,
    Allowance,
    Storage,
    StoredTensor,
    checked_shape,
    read_part,
    strided,
)

__all__ = ["is_safetensors", "read_safetensors"]

_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32", "I16": "int16",
    "I8": "int8", "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool", "C64": "complex64",
}  # fmt: skip
_LARGEST_HEADER = 100_000_000
"""Most bytes of a header: the format's own limit."""


def is_safetensors(path: Path) -> bool:
    """Whether a file looks like one, by its first bytes and its length."""
    head = first_bytes(path, 9)
    length = int.from_bytes(head[:8], "little")
    return len(head) == 9 and head[8:] == b"{" and 2 <= length <= path.stat().st_size - 8


def read_safetensors(
    source: Path | bytes, allowance: Allowance
) -> tuple[dict[str, str], dict[str, StoredTensor]]:
    """What a file says of itself, and its tensors by key.

    Args:
        source: The file, or its content.
        allowance: How many bytes its tensors may take.

    Raises:
        FileFormatError: If the header is damaged, or says more than the file holds.
    """
    head = read_part(source, 0, 8)
    size = source.stat().st_size if isinstance(source, Path) else len(source)
    length = int.from_bytes(head, "little")
    if len(head) < 8 or length > min(_LARGEST_HEADER, size - 8):
        raise FileFormatError("the safetensors header is longer than the file, or than any header")
    header = parse_json(read_part(source, 8, length), {"__metadata__?": {str: str}, str: dict})
    metadata = header.pop("__metadata__", {})
    try:
        tensors = {
            key: _tensor(source, allowance, 8 + length, size, key, entry) for key, entry in header.items()
        }
        places = sorted(tuple(entry["data_offsets"]) for entry in header.values())
    except DAMAGE as error:
        raise FileFormatError(f"the safetensors header is damaged ({type(error).__name__})") from error
    ends = [0, *(end for _, end in places)]
    if [begin for begin, _ in places] != ends[:-1] or ends[-1] != size - 8 - length:
        raise FileFormatError("its tensors overlap, or do not fill the file")
    return metadata, tensors


def _tensor(
    source: Path | bytes, allowance: Allowance, start: int, size: int, key: str, entry: Any
) -> StoredTensor:
    shape = checked_shape(entry["shape"])
    begin, end = entry["data_offsets"]
    if type(begin) is not int or type(end) is not int or not 0 <= begin <= end <= size - start:
        raise FileFormatError("its place lies outside the file", where=key)
    dtype = _DTYPES.get(entry["dtype"], str(entry["dtype"])[:20].lower())
    if dtype not in READABLE:
        return StoredTensor(dtype, shape)
    if math.prod(shape) * np.dtype(READABLE[dtype]).itemsize != end - begin:
        raise FileFormatError("its place is not as large as its shape says", where=key)
    storage = Storage(dtype, end - begin, partial(read_part, source, start + begin, end - begin))
    stride = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    return strided(allowance, storage, 0, shape, stride)
