"""The loops of layers of integers over lists of active elements; see `tcja_deploy.runtime.events.layer_kernels`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from tcja_deploy.runtime.events.compiling import compiled, compiled_part
from tcja_deploy.runtime.events.layer_kernels import busy_columns, is_reached, meet
from tcja_deploy.runtime.events.vectors import LANES
from tcja_deploy.runtime.integers.vectors import append_rows, integer_step, relax_integers, sum_integers

__all__ = ["integer_frame", "integer_layer", "integer_sums", "most_in_window"]


def room_for(scale: Any, size: int) -> Any:
    """Room for `size` values, or `None` if `scale` is `None`."""
    return None if scale is None else np.empty(size, np.float32)


@overload(room_for, strict=False)
def _typed_room_for(scale: Any, size: Any) -> Any:
    """`room_for` for Numba, which has to know the type of the result beforehand."""
    if isinstance(scale, types.NoneType):
        return lambda scale, size: None
    return lambda scale, size: np.empty(size, np.float32)


@compiled_part
def copy_words(words: Any, bits: Any) -> None:
    """Copy words `[T, words]`, as many as both arrays have."""
    for t in range(bits.shape[0]):
        for w in range(min(words.shape[1], bits.shape[1])):
            bits[t, w] = words[t, w]


@compiled
def gather(
    n: int, y: int, x: int, shape: Any, ends: Any, index: Any, scale: Any, taps: Any, block: int, meets: Any,
    rows: Any, scales: Any, stops: Any,
) -> int:  # fmt: skip
    """Weight rows that the neurons at one place receive over the window: `rows`, up to `stops[t]` for step t; see `meet`."""
    found, _ = meet(n, y, x, shape, ends, taps, block, meets)
    m = 0
    for t in range(shape[4]):
        for k in range(found):
            start, end = ends[meets[k, 0] + t], ends[meets[k, 0] + t + 1]
            if end > start:
                append_rows(rows, scales, m, index, scale, start, end, np.int32(block), np.int32(meets[k, 1]))
                m += end - start
        stops[t] = m
    return m


@compiled
def integer_layer(
    lo: int, hi: int, width: Any, shape: Any, ends: Any, index: Any, scale: Any, weights: Any, bias: Any, taps: Any,
    neuron: Any, thresholds: Any, quiet: bool, bits: Any, peaks: Any, cuts: Any,
) -> None:  # fmt: skip
    """As `spiking_layer`, in integers.

    The constants of `neuron` are those of `vectors.integer_step`; `thresholds` `[blocks x block]` are in units of the
    voltages. `peaks` receives the largest magnitude of a sum with its bias in these rows, `cuts` how many voltages
    saturated, at `lo`.
    """
    steps, blocks = shape[4], weights.shape[0]
    block = len(bias) // blocks
    around = taps[0].shape[1] * taps[1].shape[1]
    room = steps * around * shape[2] + LANES
    rows, stops, meets = np.empty(room, np.int32), np.empty(steps, np.int64), np.empty((around, 2), np.int64)
    scales = room_for(scale, room)
    v, most = np.empty(block, np.int32), np.zeros(len(bias), np.int32)
    _, H, W, _, _ = bits.shape
    whole = np.empty((steps, blocks * len(width)), np.uint16)
    silent = np.empty((steps, blocks * len(width)), np.uint16)
    known = skipped = False
    cut = 0
    for row in range(lo, hi):
        n, y = row // H, row % H
        for x in range(W):
            m = gather(n, y, x, shape, ends, index, scale, taps, block, meets, rows, scales, stops)
            if m == 0 and known:
                copy_words(silent, bits[n, y, x])
                continue
            before = cut
            for b in range(blocks):
                for i in range(block):
                    v[i] = 0
                start = silence = 0
                first, limits, peak = bias[b * block :], thresholds[b * block :], most[b * block :]
                for t in range(steps):
                    if quiet and stops[t] == start:
                        skipped = True
                        silence += 1
                        for w in range(b * len(width), (b + 1) * len(width)):
                            whole[t, w] = 0
                        continue
                    if silence:
                        relax_integers(width, first, neuron, v, silence)
                        silence = 0
                    out = whole[t, b * len(width) :]
                    cut += integer_step(
                        width, first, weights[b], rows, scales, start, stops[t], neuron, limits, v, peak, out
                    )
                    start = stops[t]
            copy_words(whole, bits[n, y, x])
            if m == 0 and cut == before:  # so that every saturation is counted
                copy_words(whole, silent)
                known = True
    if skipped:
        most = np.maximum(most, np.abs(bias))
    peaks[lo], cuts[lo] = most.max(), cut


@compiled
def integer_frame(
    lo: int, hi: int, width: Any, shape: Any, ends: Any, index: Any, scale: Any, weights: Any, bias: Any, taps: Any,
    neuron: Any, thresholds: Any, quiet: bool, t: int, v: Any, seen: Any, bits: Any, peaks: Any, cuts: Any,
) -> None:  # fmt: skip
    """As `integer_layer`, for step `t` alone: the voltages `v [N, H, W, blocks x block]` change.

    Places of quiet neurons without input are skipped until input comes; `seen [N, H, W]` counts the steps that each has done.
    """
    blocks = weights.shape[0]
    block = len(bias) // blocks
    around = taps[0].shape[1] * taps[1].shape[1]
    room = around * shape[2] + LANES
    rows, stops, meets = np.empty(room, np.int32), np.empty(1, np.int64), np.empty((around, 2), np.int64)
    scales = room_for(scale, room)
    most, cut, tap_x = np.abs(bias), 0, taps[1]
    _, H, W, _, words = bits.shape
    whole, busy = np.empty(blocks * len(width), np.uint16), np.empty(shape[1], np.bool_)
    for row in range(lo, hi):
        n, y = row // H, row % H
        busy_columns(n, y, shape, ends, taps[0], busy)
        for x in range(W):
            m = 0
            if is_reached(x, tap_x, busy):
                m = gather(n, y, x, shape, ends, index, scale, taps, block, meets, rows, scales, stops)
            elif quiet:
                for w in range(words):
                    bits[n, y, x, 0, w] = 0
                continue
            silence = t - seen[n, y, x]
            for b in range(blocks):
                first, membrane, limits = bias[b * block :], v[n, y, x, b * block :], thresholds[b * block :]
                if silence:
                    relax_integers(width, first, neuron, membrane, silence)
                cut += integer_step(
                    width, first, weights[b], rows, scales, 0, m, neuron, limits, membrane, most[b * block :],
                    whole[b * len(width) :],
                )  # fmt: skip
            seen[n, y, x] = t + 1
            for w in range(words):
                bits[n, y, x, 0, w] = whole[w]
    peaks[lo], cuts[lo] = most.max(), cut


@compiled
def integer_sums(
    lo: int, hi: int, width: Any, shape: Any, ends: Any, index: Any, scale: Any, weights: Any, bias: Any, taps: Any, out: Any
) -> None:  # fmt: skip
    """As `integer_layer`, without neurons: sums `[N, H, W, T, blocks x block]`."""
    steps, blocks = shape[4], weights.shape[0]
    block = len(bias) // blocks
    around = taps[0].shape[1] * taps[1].shape[1]
    room = steps * around * shape[2] + LANES
    rows, stops, meets = np.empty(room, np.int32), np.empty(steps, np.int64), np.empty((around, 2), np.int64)
    scales = room_for(scale, room)
    _, H, W, _, _ = out.shape
    for row in range(lo, hi):
        n, y = row // H, row % H
        for column in range(W):
            gather(n, y, column, shape, ends, index, scale, taps, block, meets, rows, scales, stops)
            for b in range(blocks):
                start = 0
                for t in range(steps):
                    x = out[n, y, column, t, b * block : (b + 1) * block]
                    for i in range(block):
                        x[i] = bias[b * block + i]
                    sum_integers(width, x, weights[b], rows, scales, start, stops[t])
                    start = stops[t]


@compiled
def most_in_window(
    lo: int, hi: int, bits: Any, kernel: Any, stride: Any, padding: Any, size: Any, most: Any
) -> None:
    """Largest number of spikes of one channel and step in a window of places `[N, H, W, T words]`.

    It is written at `lo` of `most`, which is zero before; a row is `(n, y)` of an output of `size`.
    """
    _, H, W, length = bits.shape
    h, w = size
    area = kernel[0] * kernel[1]
    reached = np.zeros((area, length), np.uint16)  # reached[i]: where there are more than i spikes
    best = 0
    for row in range(lo, hi):
        n, y = row // h, row % h
        x = 0
        while x < w and best < area:
            reached[: best + 1] = 0
            for a in range(kernel[0]):
                yy = y * stride[0] - padding[0] + a
                if yy < 0 or yy >= H:
                    continue
                for b in range(kernel[1]):
                    xx = x * stride[1] - padding[1] + b
                    if xx < 0 or xx >= W:
                        continue
                    word = bits[n, yy, xx]
                    for i in range(best, 0, -1):
                        for j in range(length):
                            reached[i, j] |= reached[i - 1, j] & word[j]
                    for j in range(length):
                        reached[0, j] |= word[j]
            found = np.uint16(0)
            for j in range(length):
                found |= reached[best, j]
            if found:
                best += 1  # and look at the same window again
            else:
                x += 1
    most[lo] = best
