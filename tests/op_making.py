"""Random inputs and settings, from which `op_samples` makes every op."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from tcja_deploy.ir import Dim, Kind, Op, Signal

Array = NDArray[np.float32]
Draw = Callable[[st.SearchStrategy[Any]], Any]


@dataclass(frozen=True)
class Sample:
    """An op with inputs.

    Attributes:
        op: The op.
        signals: What it reads.
        T: Time steps.
        N: Samples.
        x: Values shaped like `signals`.
        exact: Whether no intermediate result is rounded, in whatever order.
    """

    op: Op
    signals: tuple[Signal, ...]
    T: int
    N: int
    x: tuple[Array, ...]
    exact: bool = True

    @property
    def result(self) -> Signal:
        return self.op.infer(*self.signals, T=self.T)


KINDS = st.sampled_from(list(Kind))


def values(rng: np.random.Generator, kind: Kind, shape: tuple[int, ...]) -> Array:
    """Values that a signal of a kind can have; every second one is zero where zeros mean silence."""
    if kind is Kind.BINARY:
        y = rng.integers(0, 2, shape)
    elif kind is Kind.COUNT:
        y = rng.integers(0, 6, shape) * rng.integers(0, 2, shape)
    else:
        y = rng.integers(-16, 17, shape) / 8 * (1 if kind is Kind.REAL else rng.integers(0, 2, shape))
    return y.astype(np.float32)


class Making:
    """Draws what ops have in common."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        self.T, self.N = draw(st.integers(1, 5)), draw(st.integers(1, 3))

    def int(self, low: int, high: int) -> int:
        return int(self.draw(st.integers(low, high)))

    def pair(self, low: int, high: int) -> tuple[int, int]:
        return self.int(low, high), self.int(low, high)

    def pick(self, *options: Any) -> Any:
        return self.draw(st.sampled_from(options))

    def weight(self, *shape: int) -> Array:
        return (self.rng.integers(-8, 9, shape) / 8).astype(np.float32)

    def bias(self, size: int) -> Array | None:
        return self.weight(size) if self.draw(st.booleans()) else None

    def lengths(self, rank: int) -> tuple[int, ...]:
        return tuple(self.int(1, 4) for _ in range(rank))

    def sample(self, op: Op, *dims: tuple[Dim, ...], kind: Kind | None = None, exact: bool = True) -> Sample:
        signals = tuple(Signal(d, kind or self.draw(KINDS)) for d in dims)
        x = tuple(values(self.rng, s.kind, s.shape(self.T, self.N)) for s in signals)
        return Sample(op, signals, self.T, self.N, x, exact)

    def groups(self) -> int:
        return self.pick(1, 1, 2, 3)


def fitting(m: Making, kernel: int, dilation: int, padding: int) -> int:
    """A length that a kernel fits into, rarely by much."""
    least = max(1, dilation * (kernel - 1) + 1 - padding)
    return m.int(least, least + 4)
