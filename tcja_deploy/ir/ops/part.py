"""Parts of a tensor, and values kept inside bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tcja_deploy.ir.op import Array, Op
from tcja_deploy.ir.signal import Kind, Signal

__all__ = ["LARGEST", "Clamp", "Slice"]

LARGEST = float(np.finfo(np.float32).max)
"""The largest number: a bound that bounds nothing."""


@dataclass(frozen=True, eq=False)
class Slice(Op):
    """Every `stride`-th element from `start` to before `stop` along one axis. Keeps the kind.

    Steps of time that are taken out are no longer a stream: the axis becomes a plain one.

    Attributes:
        axis: The axis, counted from the front; time is 0.
        start: First element.
        stop: One past the last element.
        stride: Distance between two elements.
    """

    axis: int
    start: int
    stop: int
    stride: int = 1

    def faults(self) -> list[str]:
        found = self._below(0, axis=self.axis, start=self.start) + self._below(1, stride=self.stride)
        if self.stop <= self.start:
            found.append(f"nothing lies between {self.start} and {self.stop}")
        return found

    @property
    def length(self) -> int:
        """Number of elements."""
        return len(range(self.start, self.stop, self.stride))

    def infer(self, *inputs: Signal, T: int) -> Signal:
        (x,) = inputs
        self._require(self.axis < len(x.dims), f"there is no axis {self.axis} in {x}")
        there = x.dims[self.axis]
        self._require(there != "N", f"a part of the samples of {x} cannot be taken out")
        available = T if isinstance(there, str) else there
        self._require(self.stop <= available, f"axis {self.axis} of {x} ends before {self.stop}")
        return x.with_dims((*x.dims[: self.axis], self.length, *x.dims[self.axis + 1 :]))

    def acts_on_time(self, *inputs: Signal) -> bool:
        return not inputs[0].streams or self.axis == 0

    def apply(self, *x: Array) -> Array:
        index = (slice(None),) * self.axis + (slice(self.start, self.stop, self.stride),)
        return np.ascontiguousarray(x[0][index])


@dataclass(frozen=True, eq=False)
class Clamp(Op):
    """`y = min(max(x, low), high)`.

    Real numbers with `low = 0` become graded (zero or a payload), sparse kinds stay so if zero lies inside.

    Attributes:
        low: Smallest result; `-LARGEST` for none.
        high: Largest result; `LARGEST` for none.
    """

    elementwise: ClassVar[bool] = True

    low: float = -LARGEST
    high: float = LARGEST

    def faults(self) -> list[str]:
        sound = -LARGEST <= self.low <= self.high <= LARGEST
        return [] if sound else [f"nothing lies between {self.low:g} and {self.high:g}"]

    def infer(self, *inputs: Signal, T: int) -> Signal:
        (x,) = inputs
        if x.kind is Kind.BINARY and self.low <= 0 and self.high >= 1:
            return x
        keeps_zero = self.low <= 0 <= self.high
        whole = self.low.is_integer() and self.high.is_integer()
        if x.kind in (Kind.BINARY, Kind.COUNT) and keeps_zero and whole:
            return x.with_kind(Kind.BINARY if self.high == 1 and self.low == 0 else Kind.COUNT)
        if x.kind is Kind.REAL:
            return x.with_kind(Kind.GRADED if self.low == 0 else Kind.REAL)
        return x.with_kind(Kind.GRADED if keeps_zero else Kind.REAL)

    def acts_on_time(self, *inputs: Signal) -> bool:
        return False

    def apply(self, *x: Array) -> Array:
        return np.minimum(np.maximum(x[0], np.float32(self.low)), np.float32(self.high))
