"""Frames at rest: the smallest array that gives a frame back exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tcja_deploy.ir import Kind

__all__ = ["Packed", "pack", "unpack"]

_NARROW: tuple[type[np.generic], ...] = (np.uint8, np.float16, np.uint16)


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """A frame that waits.

    Attributes:
        data: Its values in a narrow number type; for binary frames eight spikes a byte (`np.packbits`, C
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


def pack(frame: Tensor, kind: Kind) -> Packed:
    """Hold a frame: spikes as bits; counts and payloads as uint8, float16 or uint16 if exact; else as is."""
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
