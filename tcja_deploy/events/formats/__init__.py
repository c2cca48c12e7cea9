"""The kinds of files that are read: one table, one entry per kind. `docs/how-to/add-a-reader.md` says how to add one."""

from __future__ import annotations

from pathlib import Path

from tcja_deploy.errors import DataError
from tcja_deploy.events.formats.aedat import AEDAT2, AEDAT3
from tcja_deploy.events.formats.atis import ATIS_BIN
from tcja_deploy.events.formats.base import Reader, opening
from tcja_deploy.events.formats.camera import AEDAT4, DAT, ES, EVT
from tcja_deploy.events.formats.hdf5 import HDF5
from tcja_deploy.events.formats.numpy_files import NPY, NPZ
from tcja_deploy.events.formats.text import TEXT
from tcja_deploy.events.formats.torch_files import PT
from tcja_deploy.text import with_article

__all__ = ["READERS", "accepted", "find_reader", "is_recording"]

READERS: tuple[Reader, ...] = (NPZ, NPY, PT, HDF5, AEDAT4, AEDAT3, AEDAT2, EVT, DAT, ES, ATIS_BIN, TEXT)
"""Asked in this order: those that know a file by its first bytes, then those that go by the suffix."""


def find_reader(path: Path) -> Reader:
    """The reader of a file, by its first bytes and its suffix.

    Raises:
        DataError: The file cannot be read, or is of no known kind.
    """
    head = opening(path)
    for reader in READERS:
        if reader.recognise(head):
            return reader
    meant = next((reader for reader in READERS if head.suffix in reader.suffixes), None)
    if meant is not None:
        raise DataError(
            f"is not {with_article(meant.name)} file, as its content shows" if head.start else "is empty",
            where=str(path),
            hint="the file is damaged or a download was cut short",
        )
    raise DataError(f"unknown kind of file '{path.suffix}'", where=str(path), hint=accepted())


def is_recording(path: Path) -> bool:
    """Whether a file in a folder counts as a recording: by its suffix, and by its content where other files share it."""
    suffix = path.suffix.lower()
    readers = [reader for reader in READERS if suffix in reader.suffixes]
    if any(reader.certain for reader in readers):
        return True
    if not readers:
        return False
    head = opening(path)
    return any(reader.recognise(head) for reader in readers)


def accepted() -> str:
    """What is read, in a sentence."""
    suffixes = dict.fromkeys(suffix for reader in READERS for suffix in reader.suffixes)
    return f"accepted: {', '.join(suffixes)} and folders of them; docs/data.md says what they may hold"
