"""Frames at rest: the smallest array that gives a frame back exactly."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tcja_deploy.ir import Kind

__all__ = ["FrameBundle", "Item", "Packed", "as_tensor", "pack", "unpack"]

_NARROW: tuple[type[np.generic], ...] = (np.uint8, np.float16, np.uint16)


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """A frame that waits.

    Attributes:
        data: Its values in a narrow number type; for binary frames eight spikes per byte (`np.packbits`, C
            order).
        shape: Shape of the frame.
        dtype: NumPy name of the type to unpack to.
        bits: Whether `data` holds bits.
    """

    data: NDArray[np.generic]
    shape: tuple[int, ...]
    dtype: str
    bits: bool

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return int(self.data.nbytes)

    @property
    def nbytes_unpacked(self) -> int:
        """Bytes of the same frame in the type it is computed in."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


class FrameBundle(ABC):
    """A frame in a form that some cells make and read, such as spikes as bits; it waits as it is."""

    @property
    @abstractmethod
    def tensor(self) -> Tensor:
        """The frame as other cells read it, `[N, ...]`."""

    @abstractmethod
    def packed(self) -> Packed:
        """The frame as it is saved."""

    @property
    def nbytes(self) -> int:
        """Bytes that it would take packed."""
        return self.packed().nbytes

    @property
    def nbytes_unpacked(self) -> int:
        """Bytes of the same frame in the type it is computed in."""
        return int(self.tensor.nbytes)


Item = Tensor | FrameBundle
"""What travels between cells: a frame, or a value without time axis."""


def as_tensor(item: Item) -> Tensor:
    """The item as numbers."""
    return item.tensor if isinstance(item, FrameBundle) else item


def pack(frame: Tensor, kind: Kind) -> Packed:
    """Pack a frame: spikes as bits; counts and payloads as uint8, float16 or uint16 where exact; anything else as it is."""
    values = frame.numpy()
    shape, dtype = tuple(values.shape), values.dtype.name
    if kind is Kind.BINARY:
        return Packed(np.packbits(values != 0), shape, dtype, bits=True)
    if kind is not Kind.REAL:
        for narrow in _NARROW:
            with np.errstate(over="ignore", invalid="ignore"):
                data = values.astype(narrow)
            if np.array_equal(data.astype(dtype), values):
                return Packed(data, shape, dtype, bits=False)
    return Packed(values.copy(), shape, dtype, bits=False)


def unpack(packed: Packed) -> Tensor:
    """The frame, bit for bit."""
    data = packed.data
    if packed.bits:
        data = np.unpackbits(data.view(np.uint8), count=math.prod(packed.shape)).reshape(packed.shape)
    frame = torch.empty(packed.shape, dtype=getattr(torch, packed.dtype))
    frame.numpy()[...] = data
    return frame
