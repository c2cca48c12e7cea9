"""The steps of window programs: what each computes, and the bounds that it keeps.

numpy only: this folder also travels in Lava bundles (`program`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "LIMIT",
    "MOST_AXES",
    "AddStep",
    "ClipStep",
    "ConcatStep",
    "ConstantStep",
    "IntArray",
    "LargestStep",
    "MultiplyStep",
    "PartStep",
    "PermuteStep",
    "ProgramStep",
    "RescaleStep",
    "ReshapeStep",
    "Shape",
    "SumStep",
    "TableStep",
    "ValueRange",
    "require",
]

IntArray = NDArray[np.int64]
Shape = tuple[int, ...]
ValueRange = tuple[int, int]
"""Smallest and largest value."""

LIMIT = 1 << 62
"""Magnitudes stay below it: a sum of two of them still fits 64 bits."""
MOST_AXES = 8


def require(condition: bool, reason: str) -> None:
    """ValueError with a reason unless a condition holds."""
    if not condition:
        raise ValueError(reason)


@dataclass(frozen=True)
class ProgramStep:
    """One kind of step: its settings are its fields."""

    arity: ClassVar[int] = 1

    def shape(self, *shapes: Shape) -> Shape:
        """Shape of the result, or ValueError."""
        raise NotImplementedError

    def bounds(self, *values: ValueRange, shapes: Sequence[Shape]) -> tuple[int, int, int]:
        """Smallest and largest result, and the largest magnitude on the way."""
        low, high = min(v[0] for v in values), max(v[1] for v in values)
        return low, high, max(abs(low), abs(high))

    def run(self, *values: IntArray) -> IntArray:
        """Results of values [B, ...]."""
        raise NotImplementedError


@dataclass(frozen=True)
class ReductionStep(ProgramStep):
    """Over some axes, which stay with length 1."""

    axes: tuple[int, ...]

    def shape(self, *shapes: Shape) -> Shape:
        (x,) = shapes
        require(bool(self.axes) and len(set(self.axes)) == len(self.axes), "axes are missing or repeat")
        require(min(self.axes) >= 0 and max(self.axes) < len(x), f"{self.axes} are not axes of {x}")
        return tuple(1 if i in self.axes else n for i, n in enumerate(x))

    def _shifted(self) -> Shape:
        return tuple(a + 1 for a in self.axes)


class SumStep(ReductionStep):
    """Sum over axes; a mean is a sum whose unit is larger."""

    def bounds(self, *values: ValueRange, shapes: Sequence[Shape]) -> tuple[int, int, int]:
        ((low, high),), n = values, prod(shapes[0][a] for a in self.axes)
        return n * low, n * high, n * max(abs(low), abs(high))

    def run(self, *values: IntArray) -> IntArray:
        total: IntArray = values[0].sum(self._shifted(), dtype=np.int64, keepdims=True)
        return total


class LargestStep(ReductionStep):
    """Largest value over axes."""

    def run(self, *values: IntArray) -> IntArray:
        found: IntArray = values[0].max(self._shifted(), keepdims=True)
        return found


@dataclass(frozen=True)
class PermuteStep(ProgramStep):
    """Axis `i` of the result is axis `order[i]`."""

    order: tuple[int, ...]

    def shape(self, *shapes: Shape) -> Shape:
        (x,) = shapes
        require(sorted(self.order) == list(range(len(x))), f"{self.order} is not an order of the axes of {x}")
        return tuple(x[i] for i in self.order)

    def run(self, *values: IntArray) -> IntArray:
        return values[0].transpose(0, *(i + 1 for i in self.order))


@dataclass(frozen=True)
class ReshapeStep(ProgramStep):
    """The same elements in the same order under other axes."""

    dims: tuple[int, ...]

    def shape(self, *shapes: Shape) -> Shape:
        fits = min(self.dims, default=1) > 0 and prod(self.dims) == prod(shapes[0])
        require(fits and len(self.dims) <= MOST_AXES, f"{shapes[0]} cannot become {self.dims}")
        return self.dims

    def run(self, *values: IntArray) -> IntArray:
        return values[0].reshape(-1, *self.dims)


@dataclass(frozen=True)
class ConcatStep(ProgramStep):
    """Values side by side along an axis."""

    arity: ClassVar[int] = 0
    axis: int

    def shape(self, *shapes: Shape) -> Shape:
        a, rest = self.axis, {(*x[: self.axis], *x[self.axis + 1 :]) for x in shapes}
        require(all(0 <= a < len(x) for x in shapes) and len(rest) == 1, f"{shapes} do not fit side by side")
        return (*shapes[0][:a], sum(x[a] for x in shapes), *shapes[0][a + 1 :])

    def run(self, *values: IntArray) -> IntArray:
        return np.concatenate(values, self.axis + 1)


@dataclass(frozen=True)
class PartStep(ProgramStep):
    """Every `stride`-th element from `start` to before `stop` along an axis."""

    axis: int
    start: int
    stop: int
    stride: int

    def shape(self, *shapes: Shape) -> Shape:
        (x,), a = shapes, self.axis
        require(0 <= a < len(x), f"{x} has no axis {a}")
        require(0 <= self.start < self.stop <= x[a] and self.stride > 0, f"axis {a} of {x} has no such part")
        return (*x[:a], len(range(self.start, self.stop, self.stride)), *x[a + 1 :])

    def run(self, *values: IntArray) -> IntArray:
        part = (slice(None),) * (self.axis + 1) + (slice(self.start, self.stop, self.stride),)
        return values[0][part]


class AddStep(ProgramStep):
    """Sum of values that broadcast."""

    arity: ClassVar[int] = 0

    def shape(self, *shapes: Shape) -> Shape:
        return _broadcast(shapes)

    def bounds(self, *values: ValueRange, shapes: Sequence[Shape]) -> tuple[int, int, int]:
        return (
            sum(v[0] for v in values),
            sum(v[1] for v in values),
            sum(max(abs(v[0]), abs(v[1])) for v in values),
        )

    def run(self, *values: IntArray) -> IntArray:
        total = values[0]
        for value in values[1:]:
            total = total + value
        return total


class MultiplyStep(ProgramStep):
    """Product of two values that broadcast."""

    arity: ClassVar[int] = 2

    def shape(self, *shapes: Shape) -> Shape:
        return _broadcast(shapes)

    def bounds(self, *values: ValueRange, shapes: Sequence[Shape]) -> tuple[int, int, int]:
        corners = [a * b for a in values[0] for b in values[1]]
        return min(corners), max(corners), max(map(abs, corners))

    def run(self, *values: IntArray) -> IntArray:
        return values[0] * values[1]


@dataclass(frozen=True)
class ConstantStep(ProgramStep):
    """Numbers of the program itself."""

    arity: ClassVar[int] = -1
    values: IntArray

    def shape(self, *shapes: Shape) -> Shape:
        require(self.values.size > 0 and self.values.ndim <= MOST_AXES, "a constant of no or too many axes")
        return self.values.shape

    def bounds(self, *values: ValueRange, shapes: Sequence[Shape]) -> tuple[int, int, int]:
        low, high = int(self.values.min()), int(self.values.max())
        return low, high, max(abs(low), abs(high))

    def run(self, *values: IntArray) -> IntArray:
        return self.values[None]


@dataclass(frozen=True)
class ClipStep(ProgramStep):
    """min(max(x, low), high); a ReLU has low = 0 and a high that the values never reach."""

    low: int
    high: int

    def shape(self, *shapes: Shape) -> Shape:
        require(-LIMIT < self.low <= self.high < LIMIT, f"nothing lies between {self.low} and {self.high}")
        return shapes[0]

    def bounds(self, *values: ValueRange, shapes: Sequence[Shape]) -> tuple[int, int, int]:
        low, high = (min(max(v, self.low), self.high) for v in values[0])
        return low, high, max(abs(low), abs(high))

    def run(self, *values: IntArray) -> IntArray:
        return np.minimum(np.maximum(values[0], self.low), self.high)


@dataclass(frozen=True)
class RescaleStep(ProgramStep):
    """(x * factor + 2**(shift - 1)) >> shift: a change of unit, rounded half up."""

    factor: int
    shift: int

    @property
    def _half(self) -> int:
        return (1 << self.shift) >> 1

    def shape(self, *shapes: Shape) -> Shape:
        require(0 <= self.shift < 62 and -LIMIT < self.factor < LIMIT, f"{self.factor} / 2**{self.shift}")
        return shapes[0]

    def bounds(self, *values: ValueRange, shapes: Sequence[Shape]) -> tuple[int, int, int]:
        ends = [v * self.factor for v in values[0]]
        low, high = ((end + self._half) >> self.shift for end in (min(ends), max(ends)))
        return low, high, max(map(abs, ends)) + self._half

    def run(self, *values: IntArray) -> IntArray:
        return (values[0] * self.factor + self._half) >> self.shift


@dataclass(frozen=True)
class TableStep(ProgramStep):
    """values[x - first], where x beyond the table counts as its first or last index."""

    values: IntArray
    first: int

    def shape(self, *shapes: Shape) -> Shape:
        require(self.values.ndim == 1 and self.values.size > 0, "a table is one row of integers")
        require(-LIMIT < self.first < LIMIT - self.values.size, f"a table from {self.first} on")
        return shapes[0]

    def bounds(self, *values: ValueRange, shapes: Sequence[Shape]) -> tuple[int, int, int]:
        low, high = int(self.values.min()), int(self.values.max())
        return low, high, max(abs(low), abs(high))

    def run(self, *values: IntArray) -> IntArray:
        last = self.first + self.values.size - 1
        found: IntArray = self.values[np.minimum(np.maximum(values[0], self.first), last) - self.first]
        return found


def _broadcast(shapes: Sequence[Shape]) -> Shape:
    require(len({len(x) for x in shapes}) == 1, f"{shapes} do not have the same number of axes")
    sizes = [set(axis) - {1} for axis in zip(*shapes, strict=True)]
    require(all(len(s) <= 1 for s in sizes), f"{shapes} do not broadcast")
    return tuple(s.pop() if s else 1 for s in sizes)
