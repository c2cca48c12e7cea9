"""AEDAT 2 and 3.1, as CIFAR10-DVS and DVS128 Gesture are published in them."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from tcja_deploy.errors import DataError
from tcja_deploy.events.formats.base import Head, Reader, check_count
from tcja_deploy.events.recording import Events

__all__ = ["AEDAT2", "AEDAT3", "read_aedat2", "read_aedat3"]

_PACKET = struct.Struct("<hhiiiiii")
"""Header of a packet of AEDAT 3.1: type, source, size of an event, offset of its timestamp, overflow, capacity, number,
valid."""
_POLARITY = 1
_EVENT_BYTES = 8
_DVS128 = 127
_HEADER = 2**20
"""The text before the events is shorter than this."""


def read_aedat2(path: Path) -> Events:
    """Read a recording of a DVS128 in AEDAT 2, as jAER writes it.

    Eight bytes per event, big endian: address (bit 0 polarity, bits 1 to 7 and 8 to 14 the pixel), microseconds. The pixel
    is turned upright and bit 0 read as SpikingJelly does for CIFAR10-DVS: x = 127 - bits 8..14, y = 127 - bits 1..7,
    ON where bit 0 is 0.

    Source: inivation, "AEDAT file formats", version 2.0.

    Raises:
        DataError: The file cannot be read, is cut off, or comes from another camera.
    """
    content, start = _content(path)
    size = len(content) - start
    if size % _EVENT_BYTES:
        raise DataError(
            f"{size} bytes are not a whole number of events of {_EVENT_BYTES} bytes",
            where=str(path),
            hint="the file is truncated",
        )
    check_count(size // _EVENT_BYTES, path)
    address, t = np.frombuffer(content, ">u4", offset=start).reshape(-1, 2).T.astype(np.int64)
    if (address >> 15).any():
        raise DataError(
            "holds addresses of a camera other than the DVS128",
            where=str(path),
            hint="convert it to AEDAT 4 with the camera's own software",
        )
    x, y = _DVS128 - (address >> 8 & 0x7F), _DVS128 - (address >> 1 & 0x7F)
    return Events(t, x, y, 1 - (address & 1), (128, 128))


def read_aedat3(path: Path) -> Events:
    """Read the polarity events of a recording in AEDAT 3.1, as cAER writes it.

    Packets with a header of 28 bytes; a polarity event is eight bytes, little endian: bit 1 polarity, bits 2 to 16 the row,
    bits 17 to 31 the column, then 31 bits of microseconds, to which the packet's header adds its overflows. Validity
    marks are ignored, as SpikingJelly and tonic ignore them.

    Source: inivation, "AEDAT file formats", version 3.1.

    Raises:
        DataError: The file cannot be read, is cut off, or a packet is not what its header says.
    """
    content, position = _content(path)
    packets, total = [], 0
    while position < len(content):
        if position + _PACKET.size > len(content):
            raise _cut(path)
        kind, _, size, _, overflow, capacity, _, _ = _PACKET.unpack_from(content, position)
        position += _PACKET.size
        if size < 0 or capacity < 0 or position + size * capacity > len(content):
            raise _cut(path)
        if kind == _POLARITY and capacity:
            if size != _EVENT_BYTES:
                raise DataError(f"a packet has polarity events of {size} bytes, expected 8", where=str(path))
            total += capacity
            check_count(total, path)
            words = np.frombuffer(content, "<u4", 2 * capacity, position).reshape(-1, 2).astype(np.int64)
            words[:, 1] |= overflow << 31
            packets.append(words)
        position += size * capacity
    words = np.concatenate(packets) if packets else np.empty((0, 2), np.int64)
    data, t = words[:, 0], words[:, 1]
    return Events(t, data >> 17 & 0x7FFF, data >> 2 & 0x7FFF, data >> 1 & 1)


def _cut(path: Path) -> DataError:
    return DataError("ends within a packet", where=str(path), hint="the file is truncated")


def _content(path: Path) -> tuple[bytes, int]:
    """The bytes of a file and where its events begin: after the lines that begin with '#'."""
    try:
        check_count(path.stat().st_size // _EVENT_BYTES, path)
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", where=str(path)) from error
    start = 0
    while content[start : start + 1] == b"#":
        end = content.find(b"\n", start, start + _HEADER)
        if end < 0:
            raise DataError("its header does not end", where=str(path), hint="the file is damaged")
        line, start = content[start:end].strip(), end + 1
        if line == b"#!END-HEADER":
            break
    return content, start


def _is(head: Head, version: bytes) -> bool:
    return head.start.startswith(b"#!AER-DAT" + version)


AEDAT2 = Reader(
    name="AEDAT 2 `.aedat`",
    suffixes=(".aedat",),
    holds="events of a DVS128, turned upright as SpikingJelly does",
    written_by="CIFAR10-DVS as published, jAER",
    recognise=lambda head: _is(head, b"2."),
    read=lambda path, shape: read_aedat2(path),
)
AEDAT3 = Reader(
    name="AEDAT 3.1 `.aedat`",
    suffixes=(".aedat",),
    holds="polarity events; a table `NAME_labels.csv` beside it (class, start, end) cuts it into trials",
    written_by="DVS128 Gesture as published, cAER",
    recognise=lambda head: _is(head, b"3.1"),
    read=lambda path, shape: read_aedat3(path),
)
