"""Frames that a user holds in Python, as a data set: arrays, tensors, or what a PyTorch `DataLoader` gives."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import DataError
from tcja_deploy.events.loader import compact

__all__ = ["FrameData", "add_frames", "frames_of_batches", "time_first_batches"]


class TimeFirst(NamedTuple):
    """A batch in the order of this package.

    Attributes:
        frames: `[T, n, ...]`.
        labels: Class index of each recording, `[n]`; `None` where unknown.
        still: Whether they are images, shown at every step.
    """

    frames: NDArray[np.generic]
    labels: NDArray[np.int64] | None
    still: bool = False


@dataclass(frozen=True, eq=False)
class FrameData:
    """Recordings in memory.

    Attributes:
        path: What reports show in place of a path.
        frames: Frames of each recording, `[T, C, H, W]`.
        labels: Class index of each recording, int64 `[N]`; `None` where unknown.
        class_names: Name of each class; `None` where unknown.
        notes: What was decided on the way, to be printed once.
        framing: How events became frames, for reports: the caller decided.
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
            add_frames(found, frames)
        return found.hexdigest()


def add_frames(digest: hashlib._Hash, frames: NDArray[np.generic]) -> None:
    """Add the shape and the float32 values of a recording `[T, ...]` to a hash."""
    digest.update(repr(frames.shape).encode())
    digest.update(np.ascontiguousarray(frames, dtype=np.float32).tobytes())


def frames_of_batches(
    batches: Iterable[Any], T: int, shape: Sequence[int], *, time_first: bool, name: str
) -> FrameData:
    """Batches of frames, with or without labels, as one data set that is kept in memory.

    Args:
        batches: Each is `frames` or `(frames, labels, ...)`; frames are `[T, N, *shape]` or `[N, T, *shape]`, or images
            `[N, *shape]`, which are shown at every step.
        T: Frames of a window.
        shape: One frame, such as `[C, H, W]`.
        time_first: Whether frames are `[T, N, *shape]` where T and N are equal in every batch.
        name: What reports show in place of a path.

    Raises:
        DataError: Frames of another shape, labels that do not fit, or nothing at all.
    """
    recordings: list[NDArray[np.generic]] = []
    labels: list[NDArray[np.int64] | None] = []
    still = False
    for batch in time_first_batches(batches, T, shape, time_first=time_first, name=name):
        count = batch.frames.shape[1]
        recordings += [compact(np.ascontiguousarray(batch.frames[:, i])) for i in range(count)]
        labels.append(batch.labels)
        still = batch.still
    if not recordings:
        raise DataError("holds no recordings", where=name)
    notes = (f"{name}: images without a time axis are shown at each of the {T} steps",) if still else ()
    return FrameData(
        Path(name), tuple(recordings), _joined_labels(labels, len(recordings), name), notes=notes
    )


def time_first_batches(
    batches: Iterable[Any], T: int, shape: Sequence[int], *, time_first: bool, name: str
) -> Iterator[TimeFirst]:
    """The batches that `frames_of_batches` takes, one after the other, all with time first.

    Batches in which T and N are equal are held until another one shows the order of all, unless an earlier one has.

    Raises:
        DataError: Frames of another shape or type, or in another order than those before; labels that are not class indices.
    """
    usual = "first" if time_first else "second"
    known, waiting = "", list[tuple[NDArray[np.generic], NDArray[np.int64] | None]]()
    for number, batch in enumerate(batches):
        where = f"{name}, batch {number}"
        given = list(batch) if isinstance(batch, tuple | list) else [batch]
        if not given:
            raise DataError("an empty batch", where=where)
        frames = np.asarray(_plain(given[0]))
        axis = _time_axis(frames.shape, T, shape, where)
        if frames.dtype.kind not in "biuf":
            raise DataError(f"frames of type {frames.dtype} are not numbers", where=where)
        if known and (known == "none") != (axis == "none"):
            raise DataError(
                f"some batches are images and others windows of {T} frames",
                where=name,
                hint="give one of them",
            )
        waiting.append((frames, None if len(given) < 2 else _labels(given[1], where)))
        if {known, axis} == {"first", "second"}:
            raise DataError(
                f"some batches are [T, N, ...] and others [N, T, ...] (T = {T})", where=name,
                hint="give frames in one order",
            )  # fmt: skip
        known = axis if known in ("", "either") else known
        if known != "either":
            yield from (_in_order(*one, known, T) for one in waiting)
            waiting.clear()
    yield from (_in_order(*one, usual, T) for one in waiting)


def _in_order(frames: NDArray[np.generic], labels: NDArray[np.int64] | None, axis: str, T: int) -> TimeFirst:
    if axis == "none":
        return TimeFirst(np.broadcast_to(frames, (T, *frames.shape)), labels, True)
    return TimeFirst(frames if axis == "first" else frames.swapaxes(0, 1), labels)


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
    """Which axis of a batch is time: `first`, `second`, `either` (T = N), or `none`."""
    features = tuple(shape)
    if len(found) == len(features) + 1 and tuple(found[1:]) == features:
        return "none"
    if len(found) == len(features) + 2 and tuple(found[2:]) == features and T in found[:2]:
        return "either" if found[0] == found[1] else ("first" if found[0] == T else "second")
    listed = ", ".join(map(str, features))
    raise DataError(
        f"frames of shape {list(found)} do not fit the model",
        where=where,
        hint=f"give [T={T}, N, {listed}], [N, T={T}, {listed}] or images [N, {listed}]",
    )


def _joined_labels(
    found: Sequence[NDArray[np.int64] | None], count: int, name: str
) -> NDArray[np.int64] | None:
    known = [labels for labels in found if labels is not None]
    if not known:
        return None
    joined = np.concatenate(known)
    if len(known) != len(found) or len(joined) != count:
        raise DataError(
            f"{count} recordings and {len(joined)} labels", where=name, hint="give one label each"
        )
    return joined
