"""What an ONNX file says of itself, without parsing the rest: its metadata, read by the rules of protobuf's wire format.

Enough to tell what a file is. Models are opened in `runtime.onnx.session`.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

__all__ = ["onnx_metadata"]

_GRAPH, _METADATA, _OUTPUT = 7, 14, 12
"""Numbers of fields: of `ModelProto` its graph and its metadata, of `GraphProto` its outputs."""
_MOST = 1 << 21
"""Fields of a file that are looked at, all messages together."""


def onnx_metadata(path: Path) -> dict[str, str] | None:
    """The metadata of an ONNX model; None if the file is not an ONNX model with an output, or is damaged.

    Raises:
        OSError: If it cannot be read.
    """
    with path.open("rb") as stream:
        try:
            content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:  # an empty file
            return None
        with content:
            found, has_output = {}, False
            fields = _Fields(content)
            try:
                for number, start, end in fields.of(0, len(content)):
                    if number == _GRAPH:
                        has_output = any(n == _OUTPUT for n, _, _ in fields.of(start, end))
                    elif number == _METADATA:
                        pair = {n: content[a:b].decode("utf-8") for n, a, b in fields.of(start, end)}
                        found[pair.get(1, "")] = pair.get(2, "")
            except (ValueError, IndexError):
                return None
    return found if has_output else None


class _Fields:
    """The fields of a file's messages, as long as there are not too many.

    Args:
        content: The file.
    """

    def __init__(self, content: mmap.mmap) -> None:
        self._content, self._left = content, _MOST

    def of(self, at: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Number, start and end of each field that has a length, in a message.

        Raises:
            ValueError: If the bytes are not a message, or the file has too many fields.
        """
        while at < end:
            self._left -= 1
            key, at = _varint(self._content, at)
            number, kind = key >> 3, key & 7
            if number < 1 or self._left < 0:
                raise ValueError("a field without a number, or too many")
            if kind == 0:
                _, at = _varint(self._content, at)
            elif kind == 1:
                at += 8
            elif kind == 2:
                length, at = _varint(self._content, at)
                if at + length > end:
                    raise ValueError("a field ends beyond its message")
                yield number, at, at + length
                at += length
            elif kind == 5:
                at += 4
            else:
                raise ValueError(f"fields of kind {kind}")
        if at > end:
            raise ValueError("a field ends beyond its message")


def _varint(content: mmap.mmap, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number without end")
