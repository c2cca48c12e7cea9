"""What travels between the layers of the engine: dense numbers, spikes as bits, and lists of active elements."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import DataError
from tcja_deploy.ir import Signal
from tcja_deploy.runtime.events import kernels
from tcja_deploy.runtime.events.vectors import LANES
from tcja_deploy.runtime.threads import share

__all__ = ["Dense", "EventLists", "LayerValue", "Spikes", "by_frame", "has_places"]


@dataclass(frozen=True, eq=False)
class EventLists:
    """The active elements of frames `[N, H, W, T, C]`, place by place and step by step.

    Attributes:
        shape: `[N, H, W, T, C]`.
        ends: `[N H W T + 1]`, where each list begins, and the end of the last one.
        index: Active channels, followed by `LANES` meaningless numbers after the last list.
        scale: Their values; `None` if all are 1.
        when: Their steps.
    """

    shape: tuple[int, int, int, int, int]
    ends: NDArray[np.int32]
    index: NDArray[np.uint16]
    scale: NDArray[np.float32] | None
    when: NDArray[np.uint16]


class LayerValue:
    """The result of a node, in one of several forms, which are made from one another on demand."""

    threads: int

    @property
    def dense(self) -> NDArray[Any]:
        """The value as the sequence runtime has it."""
        raise NotImplementedError

    @property
    def events(self) -> EventLists:
        """The value as lists, by place even if it was flattened."""
        raise NotImplementedError

    @property
    def columns(self) -> NDArray[np.float32]:
        """Frames `[T, N, C, H, W]` or `[T, N, C]` place by place, `[N, H, W, T, words x LANES]`, NaN where no channel is."""
        x = self.dense
        x = x.reshape(*x.shape, *(1,) * (5 - x.ndim)).transpose(1, 3, 4, 0, 2)
        C = x.shape[4]
        if C % LANES == 0 and x.dtype == np.float32 and x.flags.c_contiguous:  # as layers leave it
            return x
        found = np.full((*x.shape[:4], -(-C // LANES) * LANES), np.nan, np.float32)
        found[..., :C] = x
        return found

    def flattened(self) -> LayerValue:
        """The value with all axes of a frame in one."""
        raise NotImplementedError

    @property
    def space(self) -> tuple[int, int, int]:
        """Height, width and channels of `events`."""
        raise NotImplementedError

    def placed(self, space: tuple[int, int, int]) -> EventLists:
        """The lists with height, width and channels as a layer reads them, whatever was flattened before it."""
        if self.space == space:
            return self.events
        (H, W, C), dense = space, self.dense
        return Dense(dense.reshape(*dense.shape[:2], C, H, W), self.threads).events


class Dense(LayerValue):
    """Numbers, shaped like the signal.

    Args:
        numbers: The numbers.
        threads: Threads that make other forms.
        places: The same numbers as `[T, N, C, H, W]`, if they were flattened.
    """

    def __init__(self, numbers: NDArray[Any], threads: int, places: NDArray[Any] | None = None) -> None:
        self._numbers, self.threads, self._places = numbers, threads, places

    @property
    def dense(self) -> NDArray[Any]:
        """See `LayerValue`."""
        return self._numbers

    @property
    def space(self) -> tuple[int, int, int]:
        """See `LayerValue`."""
        numbers = self._numbers if self._places is None else self._places
        C, H, W = (*numbers.shape[2:], 1, 1)[:3]
        return H, W, C

    @cached_property
    def events(self) -> EventLists:
        """See `LayerValue`; for numbers `[T, N, C, H, W]` or `[T, N, C]`."""
        frames = np.ascontiguousarray(self._numbers if self._places is None else self._places)
        if frames.ndim == 3:
            frames = frames[..., None, None]
        T, N, C, H, W = frames.shape
        counts = np.zeros((N, H, W, T), np.int32)
        share(kernels.count_nonzero, N * H, self.threads, frames, counts)
        ends = _ends(counts)
        index, when = np.empty((2, ends[-1] + LANES), np.uint16)
        scale = np.empty(len(index), np.float32)
        moving = ends[:-1].reshape(counts.shape).copy()
        share(kernels.list_nonzero, N * H, self.threads, frames, moving, index, scale, when)
        return EventLists((N, H, W, T, C), ends, index, scale, when)

    def flattened(self) -> Dense:
        """See `LayerValue`."""
        x = self._numbers
        return Dense(x.reshape(*x.shape[:2], -1), self.threads, x if x.ndim == 5 else None)


class Spikes(LayerValue):
    """Spikes as bits, which may carry a gate per channel and step.

    Args:
        bits: `[N, H, W, T, words]`, 16 channels per word.
        channels: C.
        threads: Threads that make other forms.
        gate: `[N, T, C]`, what a spike stands for; `None` for 1.
        features: Shape of a frame: `[C, H, W]`, or `[C H W]` if it was flattened.
    """

    def __init__(
        self,
        bits: NDArray[np.uint16],
        channels: int,
        threads: int,
        features: tuple[int, ...],
        gate: NDArray[np.float32] | None = None,
    ) -> None:
        self.bits, self.channels, self.threads, self.features, self.gate = (
            bits,
            channels,
            threads,
            features,
            gate,
        )

    @staticmethod
    def of(frames: NDArray[Any], threads: int) -> Spikes:
        """Spikes from zeros and ones `[T, N, C, H, W]` or `[T, N, C]`."""
        T, N, C = frames.shape[:3]
        H, W = frames.shape[3:] or (1, 1)
        bits = np.zeros((N, H * W, T, -(-C // LANES)), np.uint16)
        share(kernels.pack, N, threads, np.ascontiguousarray(frames).reshape(T, N, C, H * W), bits)
        return Spikes(bits.reshape(N, H, W, *bits.shape[2:]), C, threads, frames.shape[2:])

    @cached_property
    def dense(self) -> NDArray[Any]:
        """See `LayerValue`."""
        N, H, W, T, words = self.bits.shape
        out = np.zeros((T, N, self.channels, H * W), np.float32)
        share(kernels.unpack, N, self.threads, self.bits.reshape(N, H * W, T, words), self.gate, out)
        return out.reshape(T, N, *self.features)

    @property
    def space(self) -> tuple[int, int, int]:
        """See `LayerValue`."""
        return self.bits.shape[1], self.bits.shape[2], self.channels

    @cached_property
    def events(self) -> EventLists:
        """See `LayerValue`."""
        N, H, W, T, _ = self.bits.shape
        ends = _ends(self.by_place)
        index, when = np.empty((2, ends[-1] + LANES), np.uint16)
        scale = None if self.gate is None else np.empty(ends[-1] + LANES, np.float32)
        given = (self.long_words, ends, self.gate, index, scale, when)
        share(kernels.list_bits, N * H * W, self.threads, *given)
        return EventLists((N, H, W, T, self.channels), ends, index, scale, when)

    @property
    def long_words(self) -> NDArray[Any]:
        """The bits as `[N, H W, T, words]`, in words as long as the channels of a frame fill."""
        N, H, W, T, words = self.bits.shape
        wide = {0: np.uint64, 2: np.uint32}.get(words % 4, np.uint16)
        return self.bits.view(wide).reshape(N, H * W, T, -1)

    @property
    def neuron_steps(self) -> int:
        """Number of neurons times steps times samples."""
        return math.prod(self.bits.shape[:4]) * self.channels

    @cached_property
    def by_place(self) -> NDArray[np.int32]:
        """Spikes by sample, place and step `[N, H, W, T]`."""
        words = self.long_words
        flat = words.reshape(-1, words.shape[3])
        counts = np.empty(len(flat), np.int32)
        share(kernels.count_bits, len(flat), self.threads, flat, counts)
        return counts.reshape(self.bits.shape[:4])

    @cached_property
    def by_channel(self) -> NDArray[np.int32]:
        """Spikes by sample, step and channel `[N, T, C]`."""
        N, _, _, T, words = self.bits.shape
        counts = np.zeros((N, T, words * LANES), np.int32)
        share(kernels.sum_bits, N, self.threads, self.long_words, counts)
        return counts[..., : self.channels]

    def with_bits(self, bits: NDArray[np.uint16]) -> Spikes:
        """Other spikes with the same gate."""
        return Spikes(bits, self.channels, self.threads, (self.channels, *bits.shape[1:3]), self.gate)

    def gated(self, gate: NDArray[np.float32]) -> Spikes:
        """The same spikes, each worth its gate `[N, T, C]`."""
        return Spikes(self.bits, self.channels, self.threads, self.features, gate)

    def flattened(self) -> Spikes:
        """See `LayerValue`."""
        size = int(np.prod(self.features))
        return Spikes(self.bits, self.channels, self.threads, (size,), self.gate)

    def averaged(
        self, kernel: Any, stride: Any, padding: Any, size: tuple[int, ...], *, margin: bool
    ) -> Dense:
        """Mean over windows of places; `margin`: whether places of the padding count."""
        N, _, _, T, _ = self.bits.shape
        out = np.empty((N, *size, T, self.channels), np.float32)
        given = (self.bits, kernel, stride, padding, margin, out)
        share(kernels.average, N * size[0], self.threads, *given)
        return Dense(by_frame(out, True), self.threads)

    def pooled(self, kernel: Any, stride: Any, padding: Any, size: tuple[int, ...]) -> Spikes:
        """Maximum over windows of places."""
        N, H, W, T, words = self.bits.shape
        out = np.empty((N, *size, T, words), np.uint16)
        share(
            kernels.pool, N * size[0], self.threads,
            self.bits.reshape(N, H, W, T * words), kernel, stride, padding, out.reshape(N, *size, T * words),
        )  # fmt: skip
        return self.with_bits(out)


def has_places(signal: Signal) -> bool:
    """Whether a value is made of frames `[T, N, C]` or `[T, N, C, H, W]`, which can lie place by place."""
    return signal.dims[:2] == ("T", "N") and len(signal.dims) in (3, 5)


def by_frame(places: NDArray[np.float32], spatial: bool) -> NDArray[np.float32]:
    """Numbers that lie place by place, `[N, H, W, T, C]`, as the sequence runtime has them; without space if not `spatial`."""
    moved = places.transpose(3, 0, 4, 1, 2)
    return moved if spatial else moved[..., 0, 0]


def _ends(counts: NDArray[np.int32]) -> NDArray[np.int32]:
    """Where lists of these lengths begin.

    Raises:
        DataError: There are too many events for the engine's indices.
    """
    ends = np.empty(counts.size + 1, np.int32)
    if kernels.add_up(counts.ravel(), ends) > np.iinfo(np.int32).max - LANES:
        raise DataError(
            "a batch with more than 2 ** 31 events does not fit", hint="use a smaller --batch-size"
        )
    return ends
