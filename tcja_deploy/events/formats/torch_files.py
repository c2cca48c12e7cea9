"""Frames in `.pt` files, read without running code from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tcja_deploy.errors import DataError
from tcja_deploy.events.formats.arrays import ArrayHeader
from tcja_deploy.events.formats.base import Frames, FrameShape, Head, Labels, Reader, RecordingSource, Stored
from tcja_deploy.events.formats.frames import check_frame_header, check_frames
from tcja_deploy.events.formats.packed import check_labels, numbered

__all__ = ["PT"]


def _tensors(path: Path) -> dict[str, Any]:
    """The tensors of a file by name; one alone is called `frames`.

    Raises:
        DataError: The file is damaged, or holds more than plain tensors.
    """
    import pickle

    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=_zipped(path))
    except (OSError, RuntimeError, ValueError, KeyError, EOFError, pickle.UnpicklingError) as error:
        text = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(
            f"cannot be read as plain tensors: {text[0][:200]}",
            where=str(path),
            hint="save the frames alone: torch.save(frames, file)",
        ) from error
    if isinstance(content, torch.Tensor):
        return {"frames": content}
    if isinstance(content, dict) and isinstance(content.get("frames"), torch.Tensor):
        return {key: value for key, value in content.items() if isinstance(value, torch.Tensor)}
    raise DataError(
        "holds no tensor of frames",
        where=str(path),
        hint="a tensor [T, C, H, W], or a dictionary with 'frames'",
    )


def _zipped(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(4) == b"PK\x03\x04"


def _header(frames: Any, path: Path) -> ArrayHeader:
    import torch

    if frames.layout != torch.strided or frames.is_complex() or frames.is_quantized:
        raise DataError(f"frames are a tensor of {frames.dtype}, {frames.layout}", where=str(path))
    dtype = np.dtype("float32") if frames.dtype == torch.bfloat16 else frames[:0].numpy().dtype
    return ArrayHeader(tuple(frames.shape), dtype)


def _array(frames: Any, path: Path) -> Frames:
    import torch

    plain = frames.detach()
    return check_frames((plain.float() if plain.dtype == torch.bfloat16 else plain).numpy(), where=str(path))


def _read(path: Path, shape: FrameShape) -> Stored:
    frames = _tensors(path)["frames"]
    check_frame_header(_header(frames, path), shape, where=str(path))
    return _array(frames, path)


class _Stack:
    """Frames `[N, T, C, H, W]`, mapped."""

    mapped = True

    def __init__(self, path: Path, tensors: dict[str, Any], shape: FrameShape) -> None:
        self._path, self._frames = path, tensors["frames"]
        check_frame_header(_header(self._frames, path), (-1, *shape), where=str(path))
        count = len(self._frames)
        self.names = numbered(path, count)
        self.files = (path,) * count
        labels = tensors.get("labels")
        self.labels: Labels | None = check_labels(None if labels is None else labels.numpy(), count, path)

    def read(self, index: int) -> Frames:
        """The frames of one recording."""
        return _array(self._frames[index], self._path)


def _many(path: Path, shape: FrameShape) -> RecordingSource | None:
    tensors = _tensors(path)
    return _Stack(path, tensors, shape) if tensors["frames"].dim() == 5 else None


def _saved_by_torch(head: Head) -> bool:
    if head.start[:4] == b"PK\x03\x04":
        return b"data.pkl" in head.start[:200] or b".format_version" in head.start[:200]
    return head.suffix in (".pt", ".pth") and head.start[:1] == b"\x80"


PT = Reader(
    name="PyTorch `.pt`",
    suffixes=(".pt",),
    holds="frames `[T, C, H, W]` or `[N, T, C, H, W]`; or a dictionary with `frames`, perhaps `labels`",
    of="`torch.save`; read with `weights_only`",
    by="torch",
    recognise=_saved_by_torch,
    read=_read,
    many=_many,
)
