"""The loops of layers: weight rows of what is active, added up, and neurons. As `kernels`, whose words hold here too."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from tcja_deploy.runtime.events.kernels import compiled
from tcja_deploy.runtime.events.vectors import LANES, append_rows, relax, step, sum_rows

__all__ = [
    "busy_columns",
    "copy_words",
    "gather",
    "is_reached",
    "real_layer",
    "room_for",
    "spiking_frame",
    "spiking_layer",
]


def room_for(scale: Any, size: int) -> Any:
    """Room for as many values as given, `None` where there are none."""
    return None if scale is None else np.empty(size, np.float32)


@overload(room_for, strict=False)
def _typed_room_for(scale: Any, size: Any) -> Any:
    """`room_for` for Numba, which has to know beforehand which of the two it is."""
    if isinstance(scale, types.NoneType):
        return lambda scale, size: None
    return lambda scale, size: np.empty(size, np.float32)


@compiled
def gather(
    n: int, y: int, x: int, shape: Any, ends: Any, index: Any, scale: Any, taps: Any, block: int, meets: Any,
    rows: Any, scales: Any, stops: Any,
) -> int:  # fmt: skip
    """Weight rows that the neurons at one place receive over the window: `rows`, up to `stops[t]` for step t.

    `meets [taps, 2]` has room for the input places around and the rows that they meet.
    """
    height, width, channels, columns, steps = shape
    tap_y, tap_x = taps
    found = 0
    for a in range(tap_y.shape[1]):
        yy = tap_y[y, a, 0]
        if yy < 0:
            break
        for b in range(tap_x.shape[1]):
            xx = tap_x[x, b, 0]
            if xx < 0:
                break
            i = ((n * height + yy) * width + xx) * steps
            if ends[i + steps] > ends[i]:  # not silent over the window
                meets[found, 0] = i
                meets[found, 1] = (tap_y[y, a, 1] * columns + tap_x[x, b, 1]) * channels * block
                found += 1
    m = 0
    for t in range(steps):
        for k in range(found):
            start, end = ends[meets[k, 0] + t], ends[meets[k, 0] + t + 1]
            if end > start:
                append_rows(rows, scales, m, index, scale, start, end, np.int32(block), np.int32(meets[k, 1]))
                m += end - start
        stops[t] = m
    return m


@compiled
def busy_columns(n: int, y: int, shape: Any, ends: Any, tap_y: Any, busy: Any) -> None:
    """Which columns of the input have anything in the rows that row `y` of the output reads, in one step: `busy [width]`."""
    height, width = shape[0], shape[1]
    busy[:] = False
    for a in range(tap_y.shape[1]):
        if tap_y[y, a, 0] < 0:
            break
        first = (n * height + tap_y[y, a, 0]) * width
        line = ends[first : first + width + 1]
        for x in range(width):
            busy[x] |= line[x + 1] > line[x]


@compiled
def is_reached(x: int, tap_x: Any, busy: Any) -> bool:
    """Whether column `x` of the output reads a busy column."""
    reached = False
    for k in range(tap_x.shape[1]):
        if tap_x[x, k, 0] >= 0:
            reached |= busy[tap_x[x, k, 0]]
    return reached


@compiled
def copy_words(whole: Any, bits: Any) -> None:
    """Copy `[T, words]` from an array with as many words or more."""
    for t in range(bits.shape[0]):
        for w in range(bits.shape[1]):
            bits[t, w] = whole[t, w]


@compiled
def spiking_layer(
    lo: int, hi: int, width: Any, shape: Any, ends: Any, index: Any, scale: Any, weights: Any, bias: Any, taps: Any,
    neuron: Any, quiet: bool, bits: Any,
) -> None:  # fmt: skip
    """Weights and neurons over a window, a row of places at a time.

    Args:
        lo: First row `(n, y)` of the output.
        hi: Behind the last one.
        width: A tuple as long as a block has vectors.
        shape: Of the input: height, width, channels; columns of the kernel; steps.
        ends: Where the list of each input place and step begins, and one number more.
        index: Active channels.
        scale: Their values, `None` for spikes.
        weights: `[blocks, taps x channels x block]`.
        bias: `[blocks x block]`.
        taps: For rows and columns of the output, input place and kernel place of each tap, `[size, taps, 2]`; input -1 ends.
        neuron: See `plan.neuron_constants`.
        quiet: Whether neurons without input cannot fire.
        bits: Spikes `[N, H, W, T, words]`.
    """
    steps, blocks = shape[4], weights.shape[0]
    block = len(bias) // blocks
    around = taps[0].shape[1] * taps[1].shape[1]
    room = steps * around * shape[2] + LANES
    rows, stops, meets = np.empty(room, np.int32), np.empty(steps, np.int64), np.empty((around, 2), np.int64)
    scales = room_for(scale, room)
    v = np.empty(block, np.float32)
    _, H, W, _, _ = bits.shape
    whole = np.empty((steps, blocks * len(width)), np.uint16)
    silent = np.empty((steps, blocks * len(width)), np.uint16)
    known = False
    for row in range(lo, hi):
        n, y = row // H, row % H
        for x in range(W):
            m = gather(n, y, x, shape, ends, index, scale, taps, block, meets, rows, scales, stops)
            if m == 0 and known:
                copy_words(silent, bits[n, y, x])
                continue
            for b in range(blocks):
                for i in range(block):
                    v[i] = neuron[1]
                start = silence = 0
                first = bias[b * block :]
                for t in range(steps):
                    if quiet and stops[t] == start:
                        silence += 1
                        for w in range(b * len(width), (b + 1) * len(width)):
                            whole[t, w] = 0
                        continue
                    if silence:
                        relax(width, first, neuron, v, silence)
                        silence = 0
                    step(
                        width,
                        first,
                        weights[b],
                        rows,
                        scales,
                        start,
                        stops[t],
                        neuron,
                        v,
                        whole[t, b * len(width) :],
                    )
                    start = stops[t]
            copy_words(whole, bits[n, y, x])
            if m == 0:
                copy_words(whole, silent)
                known = True


@compiled
def spiking_frame(
    lo: int, hi: int, width: Any, shape: Any, ends: Any, index: Any, scale: Any, weights: Any, bias: Any, taps: Any,
    neuron: Any, quiet: bool, t: int, v: Any, seen: Any, bits: Any,
) -> None:  # fmt: skip
    """As `spiking_layer`, for step `t` alone: the membranes `v [N, H, W, blocks x block]` change.

    Places of quiet neurons without input are left alone until input comes: `seen [N, H, W]` steps are behind each place.
    """
    blocks = weights.shape[0]
    block = len(bias) // blocks
    around = taps[0].shape[1] * taps[1].shape[1]
    room = around * shape[2] + LANES
    rows, stops, meets = np.empty(room, np.int32), np.empty(1, np.int64), np.empty((around, 2), np.int64)
    scales = room_for(scale, room)
    _, H, W, _, words = bits.shape
    whole, busy, tap_x = np.empty(blocks * len(width), np.uint16), np.empty(shape[1], np.bool_), taps[1]
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
                first, membrane = bias[b * block :], v[n, y, x, b * block :]
                if silence:
                    relax(width, first, neuron, membrane, silence)
                step(width, first, weights[b], rows, scales, 0, m, neuron, membrane, whole[b * len(width) :])
            seen[n, y, x] = t + 1
            for w in range(words):
                bits[n, y, x, 0, w] = whole[w]


@compiled
def real_layer(
    lo: int, hi: int, width: Any, shape: Any, ends: Any, index: Any, scale: Any, weights: Any, bias: Any, taps: Any, out: Any
) -> None:  # fmt: skip
    """As `spiking_layer`, without neurons: sums `[N, H, W, T, blocks x block]`."""
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
                    sum_rows(width, x, weights[b], rows, scales, start, stops[t])
                    start = stops[t]
