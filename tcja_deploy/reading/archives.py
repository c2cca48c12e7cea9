"""The one check of zip archives (`.npz` files, checkpoints of torch) before anything is unpacked."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tcja_deploy.errors import DeployError, FileFormatError
from tcja_deploy.files import path_status
from tcja_deploy.reading.limits import check_bytes

__all__ = [
    "check_directory",
    "damage_told",
    "is_archive",
    "listed_archive",
    "members",
    "open_archive",
    "unpacked_at_most",
]

_DIRECTORY_BYTES = 1 << 24
"""Bytes of the list of members: some 200,000 of them, more than any checkpoint has tensors."""

_INFLATION = 1032
"""The most bytes that deflate makes of one."""

_SLACK = 1 << 16


@contextmanager
def open_archive(
    path: Path, error: type[DeployError] = FileFormatError, what: str = "archive"
) -> Iterator[zipfile.ZipFile]:
    """An archive whose members are together within the limit and claim no more than they can hold.

    Whatever goes wrong in the block while members are read (zip, zlib, wrong types, checksums) ends as an `error` too.

    Raises:
        DeployError: Of class `error`, if it is not an archive, damaged, encrypted, or larger than it can be or may be.
    """
    if path_status(path, error) != "file":
        raise error("there is no such file", where=str(path))
    with damage_told(path, what, error), path.open("rb") as stream:
        _check_directory(stream, path, error)
        with zipfile.ZipFile(stream) as archive:
            held = path.stat().st_size
            total = 0
            for member in archive.infolist():
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise ValueError(
                        f"{member.filename[:80]!r} is compressed in a way that is not used for numbers"
                    )
                if member.flag_bits & 1:
                    raise ValueError(f"{member.filename[:80]!r} is encrypted")
                if member.file_size > unpacked_at_most(member, held):
                    packed = min(member.compress_size, held)
                    raise ValueError(
                        f"{member.filename[:80]!r} claims {member.file_size:,} bytes, which {packed:,} cannot hold"
                    )
                total += member.file_size
            check_bytes(2 * total, "unpacking it, with a copy to work on,", where=str(path), error=error)
            yield archive


def unpacked_at_most(member: zipfile.ZipInfo, held: int) -> int:
    """Bytes that a member of an archive of `held` bytes can hold at most, stored or deflated."""
    packed = min(member.compress_size, held)
    return packed if member.compress_type == zipfile.ZIP_STORED else packed * _INFLATION + _SLACK


def check_directory(path: Path, error: type[DeployError] = FileFormatError) -> None:
    """Refuse an archive whose list of members would fill the memory when it is opened, by its length.

    Raises:
        DeployError: Of class `error`.
    """
    with damage_told(path, "archive", error), path.open("rb") as stream:
        _check_directory(stream, path, error)


@contextmanager
def listed_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """An archive whose members are not unpacked together, such as a checkpoint's: only its list is looked at.

    Raises:
        FileFormatError: If it is not an archive, is damaged, or its list of members would fill the memory.
    """
    check_directory(path)
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, EOFError) as error:
        raise FileFormatError(f"the archive is damaged ({error})") from error


def is_archive(path: Path) -> bool:
    """Whether a file ends as an archive does.

    Raises:
        FileFormatError: If it does, and is damaged.
    """
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile as error:
        raise FileFormatError(f"the archive is damaged ({error})") from error


def _check_directory(stream: IO[bytes], path: Path, error: type[DeployError]) -> None:
    if _directory_size(stream) > _DIRECTORY_BYTES:
        raise error("the list of members is longer than that of any file of numbers", where=str(path))


def members(path: Path, error: type[DeployError] = FileFormatError) -> dict[str, int]:
    """Unpacked size of each member of an archive; errors as for `open_archive`."""
    with open_archive(path, error) as archive:
        return {member.filename: member.file_size for member in archive.infolist()}


@contextmanager
def damage_told(path: Path, what: str, error: type[DeployError] = FileFormatError) -> Iterator[None]:
    """Whatever a parser of the standard library or of NumPy raises in the block (the kinds are endless) becomes one error.

    Raises:
        DeployError: Of class `error`; a `DeployError` raised in the block passes.
    """
    try:
        yield
    except DeployError:
        raise
    except OSError as problem:
        raise error(f"cannot be read ({problem.strerror or problem})", where=str(path)) from problem
    except MemoryError as problem:
        raise error("does not fit into memory", where=str(path)) from problem
    except Exception as problem:
        said = f"{type(problem).__name__}: {problem}"
        raise error(
            f"is not a readable {what} ({said[:200]})",
            where=str(path), hint="the file is damaged or of another kind",
        ) from problem  # fmt: skip


def _directory_size(stream: IO[bytes]) -> int:
    """Bytes that the list of members claims, by the record at the end of the file."""
    size = stream.seek(0, 2)
    stream.seek(max(0, size - (1 << 16) - 128))
    tail = stream.read()
    stream.seek(0)
    end = tail.rfind(b"PK\5\6")
    if end < 0 or len(tail) < end + 22:
        return 0  # zipfile will say that it is not an archive
    claimed: int = struct.unpack_from("<I", tail, end + 12)[0]
    large = tail.rfind(b"PK\6\6", 0, end)
    if large >= 0 and len(tail) >= large + 48:
        claimed = max(claimed if claimed != 0xFFFFFFFF else 0, struct.unpack_from("<Q", tail, large + 40)[0])
    return min(claimed, size)
