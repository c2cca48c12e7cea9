"""Files of cameras that the package faery decodes: AEDAT 4, Prophesee's EVT and DAT, and Event Stream."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from tcja_deploy.errors import DataError, ToolchainError
from tcja_deploy.events.formats.base import FrameShape, Head, Reader, Stored, check_count
from tcja_deploy.events.recording import Events
from tcja_deploy.reading.foreign import ParserPool
from tcja_deploy.reading.messages import Message

__all__ = ["AEDAT4", "DAT", "ES", "EVT"]

_UNKNOWN = (16384, 16384)
"""Width and height to assume for a file that does not state them."""


def _read(kind: str, path: Path) -> Events:
    """Decode a file, in another process: some damaged files make faery end the one it runs in.

    Raises:
        ToolchainError: faery is missing.
        DataError: The file is damaged, or holds too many events.
    """
    if importlib.util.find_spec("faery") is None:
        raise ToolchainError(
            f"reading {path.suffix} files needs the package faery",
            where=str(path),
            hint="pip install 'tcja-deploy[events]'",
        )
    facts, columns = _DECODERS.ask(path, kind=kind)
    t, x, y, p = (columns[name].astype(np.int64) for name in "txyp")
    return Events(t, x, y, p, None if facts["sensor"] is None else tuple(facts["sensor"]))


# -- in the other process --------------------------------------------------------------------------------------------------
def worker() -> Any:
    """What runs there: a request names a file and its kind, the answer is the file's columns."""
    import faery  # noqa: F401 - imported before the clock runs

    def answer(message: Message) -> Message:
        facts, _ = message
        return _decoded(str(facts["kind"]), Path(facts["path"]))

    return answer


_DECODERS = ParserPool(f"{__name__}:worker", what="faery", error=DataError)


def _decoded(kind: str, path: Path) -> Message:
    """Columns and sensor of a file, decoded piece by piece.

    Raises:
        DataError: The file is damaged, or holds too many events.
    """
    import faery

    pieces: list[Any] = []
    total = 0
    try:
        stream = faery.events_stream_from_file(path, file_type=kind, dimensions_fallback=_UNKNOWN)
        width, height = stream.dimensions()
        for piece in stream:
            total += len(piece)
            check_count(total, path)
            pieces.append(piece)
    except DataError:
        raise
    except Exception as error:
        raise _damaged(path, error) from error
    except BaseException as error:  # what Rust panics with derives from BaseException alone
        if type(error).__name__ != "PanicException":
            raise
        raise _damaged(path, error) from error
    sensor = None if (width, height) == _UNKNOWN else (int(height), int(width))
    events = np.concatenate(pieces) if pieces else np.empty(0, faery.EVENTS_DTYPE)
    return {"sensor": sensor}, {name: np.ascontiguousarray(events[name]) for name in "txyp"}


def _damaged(path: Path, error: BaseException) -> DataError:
    text = str(error).strip().splitlines()
    return DataError(
        f"cannot be decoded: {text[0] if text else type(error).__name__}",
        where=str(path),
        hint="the file is damaged, or a variant that faery does not know",
    )


def _aedat4(path: Path, shape: FrameShape) -> Stored:
    return _read("aedat", path)


def _evt(path: Path, shape: FrameShape) -> Stored:
    return _read("evt", path)


def _dat(path: Path, shape: FrameShape) -> Stored:
    return _read("dat", path)


def _es(path: Path, shape: FrameShape) -> Stored:
    return _read("es", path)


def _prophesee(head: Head, suffix: str) -> bool:
    return head.suffix == suffix and head.start[:1] == b"%"


AEDAT4 = Reader(
    name="AEDAT 4 `.aedat4`",
    suffixes=(".aedat4",),
    holds="the first stream of events",
    written_by="DV software: DAVIS, DVXplorer; CIFAR10-DVS as tonic has it",
    read_with="faery",
    recognise=lambda head: head.start.startswith(b"#!AER-DAT4"),
    read=_aedat4,
)
EVT = Reader(
    name="EVT 2 and EVT 3 `.raw`",
    suffixes=(".raw",),
    holds="change-detection events",
    written_by="Prophesee and Metavision cameras",
    read_with="faery",
    recognise=lambda head: _prophesee(head, ".raw"),
    read=_evt,
)
DAT = Reader(
    name="Prophesee `.dat`",
    suffixes=(".dat",),
    holds="change-detection events",
    written_by="N-CARS, Gen1 and 1 Mpx data sets",
    read_with="faery",
    recognise=lambda head: _prophesee(head, ".dat"),
    read=_dat,
)
ES = Reader(
    name="Event Stream `.es`",
    suffixes=(".es",),
    holds="DVS events",
    written_by="loris, faery",
    read_with="faery",
    recognise=lambda head: head.start.startswith(b"Event Stream"),
    read=_es,
)
