"""Frames that a user holds in Python, as a data set: arrays, tensors, or what a PyTorch `DataLoader` gives."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import DataError
from tcja_deploy.events.loader import compact

__all__ = ["FrameData", "frames_of_batches"]


@dataclass(frozen=True, eq=False)
class FrameData:
    """Recordings in memory.

    Attributes:
        path: What stands for a path in reports.
        frames: Frames of each recording, `[T, C, H, W]`.
        labels: Class index of each recording, int64 `[N]`; `None` where unknown.
        class_names: Name of each class; `None` where unknown.
        notes: What was decided on the way, to be printed once.
        framing: How events became frames: whoever made the arrays decided.
    """

    path: Path
    frames: tuple[NDArray[np.generic], ...]
    labels: NDArray[np.int64] | None = None
    class_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    framing: str = "the caller"

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int, /) -> tuple[NDArray[np.float32], int | None]:
        label = None if self.labels is None else int(self.labels[index])
        return self.frames[index].astype(np.float32), label

    @cached_property
    def whole(self) -> bool:
        """Whether all numbers are whole, as event counts are."""
        return all(f.dtype.kind in "biu" or bool((f == np.rint(f)).all()) for f in self.frames)

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the shape and the float32 values of every recording, in order."""
        found = hashlib.sha256()
        for frames in self.frames:
            found.update(repr(frames.shape).encode())
            found.update(np.ascontiguousarray(frames, dtype=np.float32).tobytes())
        return found.hexdigest()


def frames_of_batches(
    batches: Iterable[Any], T: int, shape: Sequence[int], *, time_first: bool, name: str
) -> FrameData:
    """Batches of frames, with labels beside them or without, as one data set that is kept in memory.

    Args:
        batches: Each is `frames` or `(frames, labels, ...)`; frames are `[T, N, *shape]` or `[N, T, *shape]`, or images
            `[N, *shape]`, which are shown at every step.
        T: Frames of a window.
        shape: One frame, such as `[C, H, W]`.
        time_first: How to read frames where T and N are equal in every batch.
        name: What stands for a path in reports.

    Raises:
        DataError: Frames of another shape, labels that do not fit, or nothing at all.
    """
    found: list[tuple[NDArray[np.generic], NDArray[np.int64] | None]] = []
    for number, batch in enumerate(batches):
        given = list(batch) if isinstance(batch, tuple | list) else [batch]
        if not given:
            raise DataError("an empty batch", where=f"{name}, batch {number}")
        labels = None if len(given) < 2 else _labels(given[1], f"{name}, batch {number}")
        found.append((np.asarray(_plain(given[0])), labels))
    axes = {_time_axis(frames.shape, T, shape, f"{name}, batch {n}") for n, (frames, _) in enumerate(found)}
    told = axes - {"either"}
    if len(told) > 1:
        raise DataError(
            f"some batches are [T, N, ...] and others [N, T, ...] (T = {T})", where=name,
            hint="give frames in one order",
        )  # fmt: skip
    axis = told.pop() if told else ("first" if time_first else "second")
    recordings = [frame for frames, _ in found for frame in _recordings(frames, axis, T)]
    if not recordings:
        raise DataError("holds no recordings", where=name)
    notes = (
        (f"{name}: images without a time axis are shown at each of the {T} steps",) if axis == "none" else ()
    )
    return FrameData(Path(name), tuple(recordings), _joined_labels(found, len(recordings), name), notes=notes)


def _plain(value: Any) -> Any:
    """A tensor as an array, whatever device it is on."""
    detach = getattr(value, "detach", None)
    return value if detach is None else detach().cpu().numpy()


def _labels(value: Any, where: str) -> NDArray[np.int64] | None:
    if value is None:
        return None
    labels = np.atleast_1d(np.asarray(_plain(value)))
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise DataError(
            f"labels of type {labels.dtype} and shape {list(labels.shape)} are not class indices",
            where=where, hint="give one whole number per recording",
        )  # fmt: skip
    return labels.astype(np.int64)


def _time_axis(found: Sequence[int], T: int, shape: Sequence[int], where: str) -> str:
    """Where the time axis of a batch is: `first`, `second`, `either` (T = N), or `none`."""
    features = tuple(shape)
    if len(found) == len(features) + 1 and tuple(found[1:]) == features:
        return "none"
    if len(found) == len(features) + 2 and tuple(found[2:]) == features and T in found[:2]:
        return "either" if found[0] == found[1] else ("first" if found[0] == T else "second")
    listed = ", ".join(map(str, features))
    raise DataError(
        f"frames of shape {list(found)} do not fit the model",
        where=where,
        hint=f"give [{T}, N, {listed}], [N, {T}, {listed}] or images [N, {listed}]",
    )


def _recordings(frames: NDArray[np.generic], axis: str, T: int) -> Iterator[NDArray[np.generic]]:
    if frames.dtype.kind not in "biuf":
        raise DataError(f"frames of type {frames.dtype} are not numbers")
    for index in range(frames.shape[1 if axis == "first" else 0]):
        one = frames[:, index] if axis == "first" else frames[index]
        if axis == "none":
            one = np.broadcast_to(one, (T, *one.shape))
        yield compact(np.ascontiguousarray(one))


def _joined_labels(
    found: Sequence[tuple[NDArray[np.generic], NDArray[np.int64] | None]], count: int, name: str
) -> NDArray[np.int64] | None:
    known = [labels for _, labels in found if labels is not None]
    if not known:
        return None
    joined = np.concatenate(known)
    if len(known) != len(found) or len(joined) != count:
        raise DataError(
            f"{count} recordings and {len(joined)} labels", where=name, hint="give one label each"
        )
    return joined
