"""What travels along an edge of the graph: its axes, its number type and its signal kind."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from tcja_deploy.errors import GraphError

__all__ = ["Dim", "Kind", "Signal", "Value", "broadcast_dims"]

Dim = int | Literal["T", "N"]
"""One axis length: a number, `"T"` (time steps of a window) or `"N"` (batch size, free)."""


class Kind(StrEnum):
    """What values a signal can take; from the most to the least specific.

    The kind decides accumulate or multiply-accumulate in the energy count, 1-bit or payload messages on
    neuromorphic hardware, and bit-packing in buffers. It is inferred by the ops, never guessed from data.
    """

    BINARY = "binary"  #: spikes, {0, 1}
    COUNT = "count"  #: non-negative integers, such as event counts
    GRADED = "graded"  #: sparse spikes with a payload: zero or a real number
    REAL = "real"  #: dense real numbers, such as membrane input

    @property
    def sparse(self) -> bool:
        """Whether zeros mean silence (everything but `REAL`)."""
        return self is not Kind.REAL

    def widened(self, other: Kind) -> Kind:
        """The most specific kind that holds the values of both."""
        order = list(Kind)
        return order[max(order.index(self), order.index(other))]


@dataclass(frozen=True, slots=True)
class Signal:
    """The type of an edge.

    Attributes:
        dims: Axis lengths. A frame stream is `("T", "N", ...)`; a result per window has no `"T"`.
        kind: Signal kind.
        dtype: Number type by NumPy name.

    Raises:
        GraphError: If an axis of time or samples appears twice.
    """

    dims: tuple[Dim, ...]
    kind: Kind
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.dims.count("T") > 1 or self.dims.count("N") > 1:
            raise GraphError(f"a value cannot have two axes of one name: {self}")

    @property
    def streams(self) -> bool:
        """Whether the signal arrives frame by frame: its first axis is time."""
        return bool(self.dims) and self.dims[0] == "T"

    @property
    def features(self) -> tuple[int, ...]:
        """Axis lengths without `T` and `N`: the shape of one frame of one sample."""
        return tuple(d for d in self.dims if isinstance(d, int))

    @property
    def size(self) -> int:
        """Elements per frame and sample."""
        return math.prod(self.features)

    def shape(self, T: int, N: int) -> tuple[int, ...]:
        """Concrete array shape for `T` steps and `N` samples."""
        names: Mapping[str, int] = {"T": T, "N": N}
        return tuple(d if isinstance(d, int) else names[d] for d in self.dims)

    def with_kind(self, kind: Kind) -> Signal:
        """The same axes with another kind."""
        return Signal(self.dims, kind, self.dtype)

    def with_dims(self, dims: tuple[Dim, ...]) -> Signal:
        """The same kind with other axes."""
        return Signal(dims, self.kind, self.dtype)

    def __str__(self) -> str:
        return f"{self.kind}[{', '.join(map(str, self.dims))}]"


@dataclass(frozen=True, slots=True)
class Value:
    """A named edge: the one result of the node of the same name."""

    name: str
    signal: Signal


def broadcast_dims(*dims: tuple[Dim, ...]) -> tuple[Dim, ...] | None:
    """Axis lengths after NumPy broadcasting, or `None` if they do not fit."""
    rank = max(map(len, dims))
    result: list[Dim] = []
    for axis in zip(*[(1,) * (rank - len(d)) + d for d in dims], strict=True):
        lengths = {d for d in axis if d != 1}
        if len(lengths) > 1:
            return None
        result.append(lengths.pop() if lengths else 1)
    return tuple(result)
