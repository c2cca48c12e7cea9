"""The loops of populations and relays over frames, channel by channel; equations in `tcja_deploy.runtime.integers.stages`.

A row is one channel of one sample; `x` and `out` are `[T, rows, places]`, sums of inputs and what is sent; states are
`[rows, places]`. All arithmetic is in 64 bits, as in `stage_arithmetic`, which the tests hold it against.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tcja_deploy.runtime.events.compiling import compiled
from tcja_deploy.runtime.integers.stage_arithmetic import UNITY, M

__all__ = ["neuron_rows", "relay_rows"]


@compiled
def _decayed(state: int, kept: int) -> int:
    """What remains of a state, truncated towards zero; `kept` in 1/4096."""
    product = state * kept
    return (product + ((product >> 63) & (UNITY - 1))) >> 12


@compiled
def relay_rows(
    lo: int, hi: int, x: Any, bias: Any, factor: Any, kept: int, most: int, v: Any, out: Any, peaks: Any,
    ends: Any, cuts: Any,
) -> None:  # fmt: skip
    """What a relay sends.

    `bias` `[C]` is added, `factor` holds multiplier and shift, `kept` is what its memory `v` keeps in 1/4096; where that is
    zero, `v` is neither read nor written. At `lo`, `peaks`
    `[rows]` receives the largest magnitude of a sum with its bias, `ends` `[2, rows]` zero or the smallest, and zero or the
    largest value sent, `cuts` how many values were cut off at `most`.
    """
    multiplier, shift = np.int64(factor[0]), np.int64(factor[1])
    half = (np.int64(1) << shift) >> 1
    peak = low = high = np.int64(0)
    cut = 0
    for row in range(lo, hi):
        offset = bias[row % len(bias)]
        for t in range(x.shape[0]):
            for i in range(x.shape[2]):
                total = np.int64(x[t, row, i]) + offset
                peak = max(peak, abs(total))
                y = (total * multiplier + half) >> shift
                if kept:
                    y += _decayed(v[row, i], kept)
                value = min(max(y, -most), most)
                cut += value != y
                low, high = min(low, value), max(high, value)
                if kept:
                    v[row, i] = value
                out[t, row, i] = value
    peaks[lo], ends[0, lo], ends[1, lo], cuts[lo] = peak, low, high, cut


@compiled
def neuron_rows(
    lo: int, hi: int, x: Any, bias: Any, limits: Any, kept: Any, reset: Any, u: Any, v: Any, out: Any, peaks: Any,
    cuts: Any,
) -> None:  # fmt: skip
    """The spikes of a population; currents `u` and voltages `v` change.

    `bias` and `limits` `[C]` are in units of the threshold, `kept` holds what currents and voltages keep in 1/4096, `reset`
    what a spike takes off the voltage and, where that is zero, what it sets it to. `peaks` `[rows]` receives, at `lo`, the
    largest magnitude of a sum with its bias, `cuts` `[2, rows]` how many currents wrapped and how many voltages
    were at their limit after the step.
    """
    kept_u, kept_v = np.int64(kept[0]), np.int64(kept[1])
    drop, rest = np.int64(reset[0]), np.int64(reset[1])
    peak = np.int64(0)
    wraps = saturated = 0
    for row in range(lo, hi):
        offset, limit = bias[row % len(bias)], 64 * limits[row % len(bias)]
        for t in range(x.shape[0]):
            for i in range(x.shape[2]):
                total = np.int64(x[t, row, i])
                peak = max(peak, abs(total + offset))
                current = 64 * total + _decayed(u[row, i], kept_u)
                over, under = current > M, current <= -M
                wraps += over or under
                current += 2 * M * (np.int64(under) - np.int64(over))
                voltage = current + 64 * offset + _decayed(v[row, i], kept_v)
                voltage = min(max(voltage, 1 - M), M - 1)
                fired = voltage > limit
                if fired:
                    voltage = voltage - drop if drop else rest
                saturated += abs(voltage) >= M - 1
                u[row, i], v[row, i] = current, voltage
                out[t, row, i] = fired
    peaks[lo], cuts[0, lo], cuts[1, lo] = peak, wraps, saturated
