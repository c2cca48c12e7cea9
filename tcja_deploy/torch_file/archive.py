"""The format of `torch.save` since 1.6: a zip archive of a pickle and one record for each storage."""

from __future__ import annotations

import io
import struct
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

from tcja_deploy.errors import FileFormatError
from tcja_deploy.reading.archives import listed_archive
from tcja_deploy.torch_file.machine import Machine, Name, ObjectBuilder, label
from tcja_deploy.torch_file.tensors import STORAGE_TYPES, Storage

__all__ = ["read_archive"]

_LARGEST_DESCRIPTION = 1 << 28
_LOCAL = struct.Struct("<4s22xHH")
"""Header of a record in a zip archive: its mark, and how long its name and the field behind that are."""


def read_archive(path: Path, builders: dict[str, ObjectBuilder]) -> Any:
    """The content of an archive; storages are read when a tensor asks for its numbers.

    Raises:
        FileFormatError: If it is damaged, is not an archive of `torch.save`, or holds compressed records.
    """
    with listed_archive(path) as archive:
        return _Archive(path, archive).content(builders)


class _Archive:
    """One archive.

    Args:
        path: Where it lies.
        archive: Opened.
    """

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self._path = path
        self._records = {info.filename: info for info in archive.infolist()}
        names = [n for n in self._records if n == "data.pkl" or n.endswith("/data.pkl")]
        if not names:
            raise FileFormatError(
                "this zip archive holds no data.pkl, so torch.save did not write it",
                hint="unpack it first if the model lies inside",
            )
        self._folder = min(names, key=len).removesuffix("data.pkl")
        if f"{self._folder}constants.pkl" in self._records:
            raise FileFormatError(
                "this is a TorchScript archive, which holds compiled code and no state dict",
                hint="save torch.jit.load(path).state_dict() with torch.save and give that file",
            )
        order = self._folder + "byteorder"
        self._order = ">" if order in self._records and self._read(archive, order) == b"big" else "<"
        self._storages: dict[str, Storage] = {}
        self._archive = archive

    def content(self, builders: dict[str, ObjectBuilder]) -> Any:
        """What the pickle describes."""
        pickled = self._read(self._archive, self._folder + "data.pkl")
        if len(pickled) > _LARGEST_DESCRIPTION:
            raise FileFormatError(f"its description takes {len(pickled):,} bytes")
        return Machine(io.BytesIO(pickled), builders, self._storage).run()

    def _read(self, archive: zipfile.ZipFile, name: str) -> bytes:
        info = self._records[name]
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise FileFormatError(
                f"its record {name} is compressed or encrypted, which torch.save never does",
                hint="load it with torch.load and save it again with torch.save",
            )
        try:
            data = archive.read(info)
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, EOFError) as error:
            raise FileFormatError(f"its record {name} is damaged ({error})") from error
        if len(data) != info.file_size:
            raise FileFormatError(f"its record {name} is cut off")
        return data

    def _storage(self, identifier: Any) -> Storage:
        """The storage that an identifier `('storage', type, key, device, number of elements)` means."""
        _, kind, key, *_ = identifier
        dtype = STORAGE_TYPES.get(kind.path.rpartition(".")[2]) if isinstance(kind, Name) else None
        name = f"{self._folder}data/{label(key)}"
        if dtype is None or name not in self._records:
            raise FileFormatError(f"its storage {label(key)} is missing or of an unknown type")
        if name not in self._storages:
            size = self._records[name].compress_size
            self._storages[name] = Storage(
                dtype, size, partial(self._fetch, name), self._order, partial(self._place, name)
            )
        found = self._storages[name]
        if found.dtype != dtype:  # the same bytes, named by another type
            return Storage(dtype, found.size, found.content, self._order, found.place)
        return found

    def _place(self, name: str) -> tuple[Path, int]:
        """Where a record's bytes begin, by the header in front of it.

        Raises:
            FileFormatError: If they cannot lie there.
        """
        info = self._records[name]
        with self._path.open("rb") as stream:
            stream.seek(info.header_offset)
            head = stream.read(_LOCAL.size)
            size = stream.seek(0, 2)
        if len(head) < _LOCAL.size or info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise FileFormatError(f"its record {name} is damaged")
        mark, name_length, extra_length = _LOCAL.unpack(head)
        start = info.header_offset + _LOCAL.size + name_length + extra_length
        if mark != b"PK\3\4" or start + info.compress_size > size:
            raise FileFormatError(f"its record {name} is cut off")
        return self._path, start

    def _fetch(self, name: str) -> bytes:
        with listed_archive(self._path) as archive:
            return self._read(archive, name)
