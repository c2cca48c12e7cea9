"""Numbers that must not be confused: connections, events, rates, operations.

A firing rate is an average for the reader. Multiplying operation counts by it is the classic mistake of the field (one
published table multiplies twice), so here operations come from counted events alone: `Rate` and `Ops` cannot be
multiplied at all, and `Macs` cannot be multiplied by a rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

__all__ = ["Ints", "Macs", "Ops", "Rate"]

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Macs:
    """Multiply-accumulates of one layer.

    Attributes:
        dense: Multiply-accumulates of one pass, including kernel positions over the padding (what most counters report).
        border_aware: Multiply-accumulates of one pass without the padding: the connections that exist.
        passes: Number of passes in one inference: T, or 1 for a layer that sees the whole window at once.
    """

    dense: int
    border_aware: int
    passes: int

    @property
    def dense_per_inference(self) -> int:
        """Dense multiply-accumulates of all passes."""
        return self.dense * self.passes

    @property
    def border_aware_per_inference(self) -> int:
        """Border-aware multiply-accumulates of all passes."""
        return self.border_aware * self.passes


@dataclass(frozen=True, slots=True)
class Rate:
    """Share of non-zero elements: `events` out of `sites`, both summed over recordings and time steps."""

    events: int
    sites: int

    @property
    def value(self) -> float:
        """The rate as a number for tables, 0 to 1."""
        return self.events / self.sites if self.sites else 0.0

    def __str__(self) -> str:
        return f"{self.value:.2%}"


@dataclass(frozen=True, slots=True, eq=False)
class Ops:
    """Operations per inference, one count per recording.

    Attributes:
        events: Counts `[recordings]`, int64.
        each: Operations per event; 1 if events are the operations themselves. A fraction, so that even the averaged
            fan-out of the `paper` convention is exact.
    """

    events: Ints
    each: Fraction = Fraction(1)

    def __post_init__(self) -> None:
        if self.events.dtype != np.int64 or self.events.ndim != 1:
            raise TypeError("operations are counted in one int64 per recording")
        if not isinstance(self.each, Fraction):
            raise TypeError("operations per event are an exact fraction")

    @staticmethod
    def constant(count: int, recordings: int) -> Ops:
        """The same number of operations in every recording."""
        return Ops(np.full(recordings, count, np.int64))

    @property
    def total(self) -> Fraction:
        """Exact sum over the recordings."""
        return sum((int(e) for e in self.events), 0) * self.each

    @property
    def mean(self) -> float:
        """Mean over the recordings."""
        return float(self.total / len(self.events)) if len(self.events) else 0.0

    def per_recording(self) -> NDArray[np.float64]:
        """Operations of each recording, `[recordings]`, float64."""
        return self.events.astype(np.float64) * float(self.each)
