"""Spread and confidence intervals of means over recordings, by a seeded bootstrap."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "LEVEL",
    "RESAMPLES",
    "SEED",
    "Interval",
    "Summary",
    "bootstrap_means",
    "bootstrap_ratio",
    "summarise",
]

SEED = 20220617
RESAMPLES = 2000
LEVEL = 0.95
_CELLS = 4_000_000


@dataclass(frozen=True, slots=True)
class Interval:
    """An interval, by its lower and upper end."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Summary:
    """Statistics of a quantity over the recordings.

    Attributes:
        mean: Mean.
        std: Standard deviation of single recordings (n - 1); `None` for one recording.
        min: Smallest recording.
        max: Largest recording.
        interval: 95 % bootstrap interval of the mean; `None` for one recording, which has no spread to
            resample.
    """

    mean: float
    std: float | None
    min: float
    max: float
    interval: Interval | None


def bootstrap_means(
    values: NDArray[np.float64], *, seed: int = SEED, resamples: int = RESAMPLES, level: float = LEVEL
) -> list[Interval | None]:
    """Percentile bootstrap of the mean of each column of `values`, `[recordings, columns]`.

    Recordings are drawn with replacement, the same draws for all columns. The result depends on the seed
    alone.
    """
    n, columns = values.shape
    if n < 2:
        return [None] * columns
    means = np.concatenate([drawn @ values / n for drawn in _draws(n, seed, resamples)])
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    constant = values.min(0) == values.max(0)  # no spread: rounding must not create one
    low, high = np.where(constant, values[0], low), np.where(constant, values[0], high)
    return [Interval(float(a), float(b)) for a, b in zip(low, high, strict=True)]


def bootstrap_ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> Interval | None:
    """95 % percentile bootstrap of the ratio of two means over the same recordings, `[recordings]` each.

    Each draw takes the same recordings for both, so that variation they share does not widen the interval. `None` for a
    single recording, or if the denominator is zero in some draw.
    """
    n = len(above)
    if n < 2:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.concatenate([(drawn @ above) / (drawn @ below) for drawn in _draws(n, SEED, RESAMPLES)])
    if not np.isfinite(ratios).all():
        return None
    low, high = np.quantile(ratios, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def _draws(n: int, seed: int, resamples: int) -> Iterator[NDArray[np.int64]]:
    """Numbers of times that each of `n` recordings is drawn, `[block, n]`, in blocks that fit into memory."""
    rng = np.random.default_rng(seed)
    block = max(1, _CELLS // n)
    for start in range(0, resamples, block):
        yield rng.multinomial(n, np.full(n, 1 / n), size=min(block, resamples - start))


def summarise(values: NDArray[np.float64]) -> list[Summary]:
    """Mean, spread and interval of each column of `values`, `[recordings, columns]`."""
    n = len(values)
    intervals = bootstrap_means(values)
    return [
        Summary(
            mean=float(column[0] if column.min() == column.max() else column.mean()),
            std=float(column.std(ddof=1)) if n > 1 else None,
            min=float(column.min()),
            max=float(column.max()),
            interval=interval,
        )
        for column, interval in zip(values.T, intervals, strict=True)
    ]
