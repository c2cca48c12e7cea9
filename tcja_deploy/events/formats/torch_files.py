"""Frames in `.pt` files, read without running code from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import DataError, FileFormatError
from tcja_deploy.events.formats.arrays import ArrayHeader
from tcja_deploy.events.formats.base import (
    FrameArray,
    FrameShape,
    Head,
    Labels,
    Reader,
    RecordingSource,
    Stored,
)
from tcja_deploy.events.formats.frames import check_frame_header, check_frames
from tcja_deploy.events.formats.packed import check_labels, numbered
from tcja_deploy.torch_file.read import read_weights
from tcja_deploy.torch_file.tensors import READABLE, StoredTensor

__all__ = ["PT"]


def _tensors(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a file by name; one alone is called `frames`.

    Raises:
        DataError: The file is damaged, or holds more than plain tensors.
    """
    try:
        content = read_weights(path)
    except FileFormatError as error:
        raise DataError(
            f"cannot be read as plain tensors: {error.reason}",
            where=str(path),
            hint="save the frames alone: torch.save(frames, file)",
        ) from error
    if isinstance(content, StoredTensor):
        return {"frames": content}
    if isinstance(content, dict) and isinstance(content.get("frames"), StoredTensor):
        return {key: value for key, value in content.items() if isinstance(value, StoredTensor)}
    raise DataError(
        "holds no tensor of frames",
        where=str(path),
        hint="a tensor [T, C, H, W], or a dictionary with 'frames'",
    )


def _header(tensor: StoredTensor, path: Path) -> ArrayHeader:
    """Shape and type of a tensor.

    Raises:
        DataError: It does not hold real numbers, or is sparse.
    """
    kind = "f4" if tensor.dtype == "bfloat16" else READABLE.get(tensor.dtype, "O")
    if tensor.obstacle or tensor.sparse or np.dtype(kind).kind not in "biuf":
        reason = tensor.obstacle or ("it is sparse" if tensor.sparse else f"its elements are {tensor.dtype}")
        raise DataError(f"holds a tensor that is not a plain one: {reason}", where=str(path))
    return ArrayHeader(tensor.shape, np.dtype(kind))


def _mapped(tensor: StoredTensor, path: Path) -> NDArray[Any]:
    """The numbers of a tensor.

    Raises:
        DataError: The file holds less than it says.
    """
    try:
        return tensor.mapped()
    except (FileFormatError, OSError) as error:
        raise DataError(f"cannot be read: {error}", where=str(path)) from error


def _read(path: Path, shape: FrameShape) -> Stored:
    frames = _tensors(path)["frames"]
    check_frame_header(_header(frames, path), shape, where=str(path))
    return check_frames(_mapped(frames, path), where=str(path))


class _Stack:
    """Frames `[N, T, C, H, W]`, mapped."""

    mapped = True

    def __init__(self, path: Path, tensors: dict[str, StoredTensor], shape: FrameShape) -> None:
        self._path, self._frames = path, _mapped(tensors["frames"], path)
        check_frame_header(_header(tensors["frames"], path), (-1, *shape), where=str(path))
        count = len(self._frames)
        self.names = numbered(path, count)
        self.files = (path,) * count
        labels = tensors.get("labels")
        self.labels: Labels | None = None
        if labels is not None:
            _header(labels, path)
            self.labels = check_labels(_mapped(labels, path), count, path)

    def read(self, index: int) -> FrameArray:
        """The frames of one recording."""
        return check_frames(self._frames[index], where=f"{self._path}[{index}]")


def _many(path: Path, shape: FrameShape) -> RecordingSource | None:
    tensors = _tensors(path)
    return _Stack(path, tensors, shape) if len(tensors["frames"].shape) == 5 else None


def _saved_by_torch(head: Head) -> bool:
    if head.start[:4] == b"PK\x03\x04":
        return b"data.pkl" in head.start[:200] or b".format_version" in head.start[:200]
    return head.suffix in (".pt", ".pth") and head.start[:1] == b"\x80"


PT = Reader(
    name="PyTorch `.pt`",
    suffixes=(".pt",),
    holds="frames `[T, C, H, W]` or `[N, T, C, H, W]`; or a dictionary with `frames`, perhaps `labels`",
    written_by="`torch.save`; read without running code",
    recognise=_saved_by_torch,
    read=_read,
    many=_many,
)
