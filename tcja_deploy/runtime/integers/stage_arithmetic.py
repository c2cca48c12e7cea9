"""One step of relays and neurons in integers: numpy only and without imports from its own package.

This file also travels in Lava bundles, where processes execute it under another Python.

The equations are those of `tcja_deploy.runtime.integers.stages`. Arrays may have any layout; what belongs to channels has
to broadcast. With M = 2**23 and dec(s, d) = sign(s) * ((|s| * (4096 - d)) >> 12).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["NeuronParameters", "RelayParameters", "decayed", "neuron_step", "relay_step", "stuffed"]

IntArray = NDArray[np.int64]
M = 1 << 23
UNITY = 4096


class RelayParameters(NamedTuple):
    """What a relay computes with.

    Attributes:
        bias: Added to the sum.
        multiplier: Factor of the sum.
        shift: Bits that are shifted out, rounded half up.
        decay: Leak of its memory in 1/4096, or None for no memory.
        most: Values are cut off at this magnitude.
    """

    bias: IntArray
    multiplier: int = 1
    shift: int = 0
    decay: int | None = None
    most: int = M - 1


class NeuronParameters(NamedTuple):
    """What a neuron computes with.

    Attributes:
        bias: In units of the threshold.
        threshold: As Lava's vThMant.
        v_decay: Voltage decay, 0..4096.
        i_decay: Current decay, 0..4096.
        reset_value: Voltage after a spike, in units of the threshold.
        drop: What a spike takes off the voltage (1/64 threshold unit); 0 for a hard reset.
    """

    bias: IntArray
    threshold: IntArray
    v_decay: int = UNITY
    i_decay: int = UNITY
    reset_value: int = 0
    drop: int = 0


def decayed(state: IntArray, decay: int) -> IntArray:
    """dec(state, decay): truncated towards zero."""
    kept = state * (UNITY - decay)
    kept += (kept >> 63) & (UNITY - 1)  # negative numbers are rounded up
    kept >>= 12
    return kept


def relay_step(p: RelayParameters, total: IntArray, v: IntArray) -> tuple[IntArray, int]:
    """What a relay sends, which is also its new memory, and how many values were cut off.

    Args:
        p: Parameters.
        total: Sum of its inputs, below 2**38 in magnitude.
        v: Memory; of no effect where it has none.
    """
    y = ((total + p.bias) * p.multiplier + ((1 << p.shift) >> 1)) >> p.shift
    if p.decay is not None:
        y = decayed(v, p.decay) + y
    cut = np.clip(y, -p.most, p.most)
    return cut, int(np.count_nonzero(cut != y))


def neuron_step(
    p: NeuronParameters, total: IntArray, u: IntArray, v: IntArray
) -> tuple[NDArray[np.bool_], IntArray, IntArray, int]:
    """Spikes, new current, new voltage, and how many currents wrapped.

    Args:
        p: Parameters.
        total: Sum of its inputs.
        u: Current.
        v: Voltage.
    """
    wraps, current = 0, 64 * total
    if p.i_decay < UNITY:
        current += decayed(u, p.i_decay)
    if current.max(initial=0) > M or current.min(initial=0) <= -M:
        over, under = current > M, current <= -M
        current += 2 * M * (under.astype(np.int64) - over)
        wraps = int(np.count_nonzero(over | under))
    voltage = current + 64 * p.bias
    if p.v_decay < UNITY:
        voltage += decayed(v, p.v_decay)
    np.clip(voltage, 1 - M, M - 1, out=voltage)
    spikes = voltage > 64 * p.threshold
    if p.drop:
        np.subtract(voltage, p.drop, out=voltage, where=spikes)
    else:
        np.copyto(voltage, 64 * p.reset_value, where=spikes)
    return spikes, current, voltage, wraps


def stuffed(x: IntArray, stride: tuple[int, int], shape: tuple[int, int], axes: tuple[int, int]) -> IntArray:
    """A map on a grid `stride` times as fine, zeros between: what a transposed convolution convolves.

    Args:
        x: Map.
        stride: Along each of the axes.
        shape: Size of the result along them, at least `(n - 1) * stride + 1`.
        axes: Of `x`, counted from the front.
    """
    size, place = list(x.shape), [slice(None)] * x.ndim
    for axis, step, n in zip(axes, stride, shape, strict=True):
        place[axis] = slice(0, (size[axis] - 1) * step + 1, step)
        size[axis] = n
    grid = np.zeros(size, x.dtype)
    grid[tuple(place)] = x
    return grid
