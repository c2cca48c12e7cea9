"""HDF5: events as v2e, RVT and DSEC store them, and tonic's disk cache."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import DataError
from tcja_deploy.events.formats.arrays import ArrayHeader
from tcja_deploy.events.formats.base import Columns, FrameShape, Reader, Rows, Stored, by_alias, check_count
from tcja_deploy.events.formats.frames import check_frame_header, check_frames
from tcja_deploy.events.formats.numpy_files import array_of_events
from tcja_deploy.reading.foreign import ParserPool
from tcja_deploy.reading.hdf5 import check_dataset
from tcja_deploy.reading.messages import Message

__all__ = ["HDF5", "worker"]

_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def _read(path: Path, shape: FrameShape) -> Stored:
    """The recording in a file, read in another process: the HDF5 library loops for ever on some damaged files."""
    facts, arrays = _READERS.ask(path, do="read", shape=list(shape))
    if "rows" in arrays:
        return Rows(arrays["rows"])
    if "frames" in arrays:
        return check_frames(arrays["frames"], where=str(path))
    sensor = None if facts["sensor"] is None else tuple(facts["sensor"])
    return Columns(arrays["t"], arrays["x"], arrays["y"], arrays["p"], sensor)


def _label(path: Path) -> int | None:
    """The label in a file of tonic's cache."""
    label: int | None = _READERS.ask(path, do="label")[0]["label"]
    return label


# -- in the other process --------------------------------------------------------------------------------------------------
def worker() -> Any:
    """What runs there: a request names a file, the answer is what `_stored` or `_target` finds in it."""
    import h5py  # noqa: F401 - imported before the clock runs

    def answer(message: Message) -> Message:
        facts, _ = message
        path = Path(facts["path"])
        if facts["do"] == "label":
            return {"label": _target(path)}, {}
        stored = _stored(path, tuple(facts["shape"]))
        if isinstance(stored, Rows):
            return {}, {"rows": _plain(stored.table)}
        if isinstance(stored, Columns):
            columns = {"t": stored.t, "x": stored.x, "y": stored.y, "p": stored.p}
            return {"sensor": stored.sensor}, {name: _plain(column) for name, column in columns.items()}
        return {}, {"frames": _plain(np.asarray(stored))}

    return answer


_READERS = ParserPool(f"{__name__}:worker", what="HDF5", error=DataError)


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """An array in the byte order of this machine."""
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            yield file
    except DataError:
        raise
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"not a readable HDF5 file: {error}",
            where=str(path),
            hint="the file is damaged or of another kind",
        ) from error


def _stored(path: Path, shape: FrameShape) -> Columns | Rows | NDArray[Any]:
    with _opened(path) as file:
        cached = _item(file, "data/0")
        if cached is not None and _is_array(cached):  # tonic's cache
            return _array(cached, path, shape)
        for group in (_item(file, "events"), _item(file, "CD/events"), file):
            if group is None:
                continue
            if _is_array(group):
                return _array(group, path, shape)
            names = by_alias(tuple(group))
            if names is not None:
                return _columns(group, names, path)
        frames = _item(file, "frames")
        if frames is not None and _is_array(frames):
            return _array(frames, path, shape)
        raise DataError(
            f"holds no events; it holds {sorted(file)[:8]}",
            where=str(path),
            hint="events are the datasets events/t, events/x, events/y and events/p, or one dataset 'events'",
        )


def _item(file: Any, name: str) -> Any:
    """The group or dataset at a path of plain links; None if there is none, or if a link leads to another file."""
    import h5py

    node = file
    for part in name.split("/"):
        if not isinstance(node, h5py.Group) or not isinstance(node.get(part, getlink=True), h5py.HardLink):
            return None
        node = node[part]
    return node


def _is_array(node: Any) -> bool:
    import h5py

    return isinstance(node, h5py.Dataset)


def _loaded(dataset: Any, path: Path) -> Any:
    """A dataset whose values are in the file itself."""
    if not _is_array(dataset) or dataset.is_virtual or dataset.external:
        raise DataError(f"'{dataset.name}' is not a dataset of this file", where=str(path))
    if dataset.dtype.hasobject:
        raise DataError(f"'{dataset.name}' has dtype {dataset.dtype}, expected numbers", where=str(path))
    check_dataset(dataset, str(path), DataError)
    return dataset[()]


def _columns(group: Any, names: dict[str, str], path: Path) -> Columns:
    arrays = {}
    for key, name in names.items():
        dataset = _item(group, name)
        if dataset is None or not _is_array(dataset):
            raise DataError(f"'{name}' is not a dataset of this file", where=str(path))
        check_count(max(dataset.shape, default=0), path)
        arrays[key] = _loaded(dataset, path)
    return Columns(arrays["t"], arrays["x"], arrays["y"], arrays["p"], _sensor(group))


def _sensor(group: Any) -> tuple[int, int] | None:
    """The camera's size where the file says, as RVT does: scalars `height` and `width` beside the events."""
    sizes = [_item(group, name) for name in ("height", "width")]
    if any(
        size is None or not _is_array(size) or size.shape or size.dtype.kind not in "iu" for size in sizes
    ):
        return None
    height, width = (int(size[()]) for size in sizes)
    return (height, width) if 0 < height < 2**14 and 0 < width < 2**14 else None


def _array(dataset: Any, path: Path, shape: FrameShape) -> Columns | Rows | NDArray[Any]:
    header = ArrayHeader(tuple(dataset.shape), dataset.dtype)
    if dataset.dtype.names is not None or (len(dataset.shape) == 2 and dataset.shape[1] == 4):
        check_count(max(dataset.shape, default=0), path)
        return array_of_events(np.asarray(_loaded(dataset, path)), where=str(path))
    check_frame_header(header, shape, where=str(path))
    frames: NDArray[Any] = np.asarray(_loaded(dataset, path))
    return frames


def _target(path: Path) -> int | None:
    with _opened(path) as file:
        target = _item(file, "target/0")
        if target is None or not _is_array(target) or target.shape or target.dtype.kind not in "iu":
            return None
        return int(target[()])


HDF5 = Reader(
    name="HDF5 `.h5`, `.hdf5`",
    suffixes=(".h5", ".hdf5"),
    holds="`events/t`, `events/x`, `events/y`, `events/p`; one dataset `events`, structured or `[N, 4]`; `frames`; or a "
    "file of tonic's cache with its label",
    written_by="v2e, RVT, DSEC, tonic's `DiskCachedDataset`",
    read_with="h5py",
    recognise=lambda head: head.start.startswith(_SIGNATURE),
    read=_read,
    label=_label,
)
