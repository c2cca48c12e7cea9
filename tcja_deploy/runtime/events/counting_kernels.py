"""Loops that count activity: by sample and step with the weights of places, and by neuron.

Layouts are those of `kernels`. Sums by neuron go on over all samples, so that one thread counts a value.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tcja_deploy.runtime.events.bit_vectors import MOST_IN_BYTES, add_bits, add_sizes, bits_set
from tcja_deploy.runtime.events.compiling import compiled
from tcja_deploy.runtime.events.vectors import LANES

__all__ = ["count_neurons", "weigh_bits", "weigh_events", "weigh_numbers"]

_MEASURES = 4
"""Measures of a table, see `record.Measure`."""


@compiled
def count_neurons(lo: int, hi: int, bits: Any, counts: Any) -> None:
    """Add the spikes of `bits [N, P, T, words]` by neuron to `counts [P, lanes of all words]`; a row is a place."""
    N, P, T, words = bits.shape
    lanes = counts.shape[1] // words
    flat, sums, sample = bits.ravel(), counts.ravel(), P * T * words
    for p in range(lo, hi):
        for t in range(0, T, MOST_IN_BYTES):
            steps = min(T - t, MOST_IN_BYTES)
            together = MOST_IN_BYTES // steps
            for n in range(0, N, together):
                for w in range(words):
                    start = n * sample + (p * T + t) * words + w
                    samples = min(N - n, together)
                    add_bits(sums, (p * words + w) * lanes, flat, start, steps, words, samples, sample)


@compiled
def weigh_bits(
    lo: int, hi: int, bits: Any, classes: Any, weights: Any, first: int, last: int, table: Any
) -> None:  # fmt: skip
    """Spikes of `bits [N, P, T, words]`, summed over places by the weight of their place; a row is a sample.

    Place p has the weights `weights [R, classes[p]]`. The sums are written to the measures `first` to `last - 1` of
    `table [R, 4, N, T]`.
    """
    _, P, T, words = bits.shape
    size = T * words
    room = -(-size // LANES) * LANES  # what is read beyond a place belongs to the next one and is not used
    flat, kinds = bits.ravel(), weights.shape[1]
    sizes, found = np.empty(kinds * room, np.int32), np.zeros((_MEASURES, kinds, T), np.int64)
    for n in range(lo, hi):
        sizes[:] = 0
        for p in range(P):
            start, at = (n * P + p) * size, classes[p] * room
            if start + room <= len(flat):
                add_sizes(sizes, at, flat, start, room)
            else:
                for i in range(size):
                    sizes[at + i] += bits_set(flat[start + i])
        for k in range(kinds):
            for t in range(T):
                total = 0
                for w in range(words):
                    total += sizes[k * room + t * words + w]
                for m in range(first, last):
                    found[m, k, t] = total
        add_weighed(found, weights, n, table)


@compiled
def weigh_events(
    lo: int, hi: int, ends: Any, index: Any, scale: Any, when: Any, classes: Any, weights: Any, table: Any, neurons: Any
) -> None:  # fmt: skip
    """Sums over the elements of lists by the weight of their place, see `weigh_bits`, and by neuron: `neurons [P, C]`.

    Non-zero elements, units, whole numbers, and the magnitudes of whole numbers (`record.Measure`); a row is a sample.
    """
    T, P = table.shape[3], len(classes)
    found = np.empty((_MEASURES, weights.shape[1], T), np.int64)
    for n in range(lo, hi):
        found[:] = 0
        for p in range(P):
            k = classes[p]
            for j in range(ends[(n * P + p) * T], ends[(n * P + p + 1) * T]):
                t, size = when[j], abs(scale[j])
                if size == 0:
                    continue
                neurons[p, index[j]] += 1
                found[0, k, t] += 1
                found[1, k, t] += size == 1
                rounded = np.int64(size)
                if size == rounded:
                    found[2, k, t] += 1
                    found[3, k, t] += rounded
        add_weighed(found, weights, n, table)


@compiled
def add_weighed(found: Any, weights: Any, n: int, table: Any) -> None:
    """Add counts by measure, class of places and step, times `weights [R, classes]`, to `table [R, 4, N, T]`."""
    for r in range(len(weights)):
        for m in range(_MEASURES):
            for k in range(weights.shape[1]):
                for t in range(table.shape[3]):
                    table[r, m, n, t] += weights[r, k] * found[m, k, t]


@compiled
def weigh_numbers(lo: int, hi: int, x: Any, weights: Any, table: Any, neurons: Any) -> None:
    """As `weigh_events`, of numbers `x [steps, N, F]` with weights `[R, F]`, and non-zeros by element `neurons [F]`.

    There is one row only.
    """
    steps, N, F = x.shape
    for n in range(N):
        for t in range(steps):
            for i in range(F):
                size = abs(x[t, n, i])
                if size == 0:
                    continue
                rounded = np.int64(size)
                neurons[i] += 1
                for r in range(len(weights)):
                    weight = weights[r, i]
                    table[r, 0, n, t] += weight
                    table[r, 1, n, t] += weight * (size == 1)
                    if size == rounded:
                        table[r, 2, n, t] += weight
                        table[r, 3, n, t] += weight * rounded
