"""The format of `torch.save` since 1.6: a zip archive of a pickle and one record for each storage."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from functools import partial
from pathlib import Path
from typing import Any

from tcja_deploy.errors import FileFormatError
from tcja_deploy.reading.archives import listed_archive, unpacked_at_most
from tcja_deploy.reading.limits import check_bytes
from tcja_deploy.torch_file.machine import Machine, Name, ObjectBuilder, label
from tcja_deploy.torch_file.tensors import STORAGE_TYPES, Storage, read_part

__all__ = ["read_archive"]

_LARGEST_DESCRIPTION = 1 << 28
_LOCAL = struct.Struct("<4s22xHH")
"""Header of a record in a zip archive: its mark, and the lengths of its name and of the field after that."""


def read_archive(path: Path, builders: dict[str, ObjectBuilder]) -> Any:
    """The content of an archive; storages are read when a tensor asks for its numbers.

    Raises:
        FileFormatError: If it is damaged, or is not an archive of `torch.save`.
    """
    with listed_archive(path) as archive:
        found = _Archive(path, archive.infolist())
    return found.content(builders)


class _Archive:
    """One archive.

    Args:
        path: The file.
        records: Those that it lists.
    """

    def __init__(self, path: Path, records: list[zipfile.ZipInfo]) -> None:
        self._path = path
        self._records = {info.filename: info for info in records}
        names = [n for n in self._records if n == "data.pkl" or n.endswith("/data.pkl")]
        if not names:
            raise FileFormatError(
                "this zip archive holds no data.pkl, so torch.save did not write it",
                hint="unpack it first if the model lies inside",
            )
        self._folder = min(names, key=len).removesuffix("data.pkl")
        if f"{self._folder}constants.pkl" in self._records:
            raise FileFormatError(
                "this is a TorchScript archive, which holds compiled code, not a state dict",
                hint="save torch.jit.load(path).state_dict() with torch.save and pass that file",
            )
        order = self._folder + "byteorder"
        self._order = ">" if order in self._records and self._read(order) == b"big" else "<"
        self._storages: dict[str, Storage] = {}

    def content(self, builders: dict[str, ObjectBuilder]) -> Any:
        """What the pickle describes."""
        name = self._folder + "data.pkl"
        size = self._size(name)
        if size > _LARGEST_DESCRIPTION:
            raise FileFormatError(f"its description takes {size:,} bytes")
        return Machine(io.BytesIO(self._read(name)), builders, self._storage).run()

    def _size(self, name: str) -> int:
        """Bytes of a record's content.

        Raises:
            FileFormatError: If it claims more than its bytes in the file can hold, or is encrypted.
        """
        info = self._records[name]
        if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise FileFormatError(
                f"its record {name} is encrypted or packed by another method than deflate",
                hint="unpack the archive and pack it again without compression (zip -0)",
            )
        if info.file_size > unpacked_at_most(info, self._path.stat().st_size):
            raise FileFormatError(f"its record {name} claims more than it holds")
        return info.file_size

    def _read(self, name: str) -> bytes:
        """The content of a record, unpacked; `torch.save` packs none, other programs that write archives do."""
        info, size = self._records[name], self._size(name)
        data = read_part(*self._place(name), info.compress_size)
        if info.compress_type == zipfile.ZIP_DEFLATED:
            check_bytes(size, f"unpacking its record {name}", where=str(self._path))
            try:
                data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, size + 1)
            except zlib.error as error:
                raise FileFormatError(f"its record {name} is damaged ({error})") from error
        if len(data) != size:
            raise FileFormatError(f"its record {name} is cut off")
        if info.CRC and zlib.crc32(data) != info.CRC:  # 0: saved without checksums, as torch can
            raise FileFormatError(f"its record {name} is damaged (its checksum is another one)")
        return data

    def _storage(self, identifier: Any) -> Storage:
        """The storage that an identifier `('storage', type, key, device, number of elements)` means."""
        _, kind, key, *_ = identifier
        dtype = STORAGE_TYPES.get(kind.path.rpartition(".")[2]) if isinstance(kind, Name) else None
        name = f"{self._folder}data/{label(key)}"
        if dtype is None or name not in self._records:
            raise FileFormatError(f"its storage {label(key)} is missing or of an unknown type")
        if name not in self._storages:
            packed = self._records[name].compress_type != zipfile.ZIP_STORED
            place = None if packed else partial(self._place, name)
            self._storages[name] = Storage(
                dtype, self._size(name), partial(self._read, name), self._order, place
            )
        found = self._storages[name]
        if found.dtype != dtype:  # the same bytes, named by another type
            return Storage(dtype, found.size, found.content, self._order, found.place)
        return found

    def _place(self, name: str) -> tuple[Path, int]:
        """Where a record's bytes begin, by the header before it.

        Raises:
            FileFormatError: If they cannot be there.
        """
        info = self._records[name]
        with self._path.open("rb") as stream:
            stream.seek(info.header_offset)
            head = stream.read(_LOCAL.size)
            size = stream.seek(0, 2)
        if len(head) < _LOCAL.size:
            raise FileFormatError(f"its record {name} is damaged")
        mark, name_length, extra_length = _LOCAL.unpack(head)
        start = info.header_offset + _LOCAL.size + name_length + extra_length
        if mark != b"PK\3\4" or start + info.compress_size > size:
            raise FileFormatError(f"its record {name} is cut off")
        return self._path, start
