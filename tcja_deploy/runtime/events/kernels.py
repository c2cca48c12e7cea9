"""The loops of the engine, compiled by Numba at their first call and kept on disk.

Values lie with space outside and time inside, `[N, H, W, T, C]`: what a neuron receives over a window lies together, and its
membrane stays in the cache until the window ends. Every function works on a range of rows, so that threads can share them; no
sum crosses a row, and none depends on how rows are shared.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import types
from numba.extending import overload

from tcja_deploy.runtime.events.vectors import (
    LANES,
    add_bits,
    append_rows,
    bits_set,
    lowest_bit,
    relax,
    step,
    sum_rows,
)

__all__ = [
    "count_bits",
    "count_neurons",
    "count_nonzero",
    "list_bits",
    "list_neurons",
    "list_nonzero",
    "pack",
    "pool",
    "real_layer",
    "spiking_frame",
    "spiking_layer",
    "sum_bits",
    "unpack",
    "weigh_events",
    "weigh_places",
]

_compiled = numba.njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")


# -- lists of what is active ---------------------------------------------------------------------------------------------
@_compiled
def count_bits(lo: int, hi: int, bits: Any, counts: Any) -> None:
    """Spikes in each of the frames `[M, words]`: `counts [M]`."""
    for i in range(lo, hi):
        n = 0
        for w in range(bits.shape[1]):
            n += bits_set(bits[i, w])
        counts[i] = n


@_compiled
def list_bits(
    lo: int, hi: int, bits: Any, ends: Any, gates: Any, steps: int, area: int, index: Any, scale: Any
) -> None:
    """Channels that spike in each frame of `bits [M, words]`, rising; with their gate `gates [N, T, C]`, if there is one.

    A frame is `(n, place, t)` with `area` places and `steps` steps.
    """
    for i in range(lo, hi):
        at = ends[i]
        for w in range(bits.shape[1]):
            word = np.uint32(bits[i, w])
            while word:
                channel = w * LANES + lowest_bit(word)
                index[at] = channel
                if gates is not None:
                    scale[at] = gates[i // (area * steps), i % steps, channel]
                word &= word - np.uint32(1)
                at += 1


@_compiled
def count_nonzero(lo: int, hi: int, frames: Any, counts: Any) -> None:
    """Values that are not zero at each place: `frames [T, N, C, H, W]`, `counts [N, H, W, T]`; a row is `(n, y)`."""
    T, _, C, H, W = frames.shape
    for row in range(lo, hi):
        n, y = row // H, row % H
        for t in range(T):
            for c in range(C):
                line = frames[t, n, c, y]
                for x in range(W):
                    if line[x] != 0:
                        counts[n, y, x, t] += 1


@_compiled
def list_nonzero(lo: int, hi: int, frames: Any, ends: Any, index: Any, scale: Any) -> None:
    """Channels and values of what is not zero, by place; `ends [N, H, W, T]` is where each list begins, and is moved on."""
    T, _, C, H, W = frames.shape
    for row in range(lo, hi):
        n, y = row // H, row % H
        for t in range(T):
            for c in range(C):
                line = frames[t, n, c, y]
                for x in range(W):
                    if line[x] != 0:
                        at = ends[n, y, x, t]
                        index[at] = c
                        scale[at] = line[x]
                        ends[n, y, x, t] = at + 1


def _room(scale: Any, size: int) -> Any:
    """Room for as many values as given, `None` where there are none."""
    return None if scale is None else np.empty(size, np.float32)


@overload(_room, strict=False)
def _typed_room(scale: Any, size: Any) -> Any:
    """`_room` for Numba, which has to know beforehand which of the two it is."""
    if isinstance(scale, types.NoneType):
        return lambda scale, size: None
    return lambda scale, size: np.empty(size, np.float32)


# -- layers --------------------------------------------------------------------------------------------------------------
@_compiled
def _gather(
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


@_compiled
def _look(n: int, y: int, shape: Any, ends: Any, tap_y: Any, busy: Any) -> None:
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


@_compiled
def _copy(whole: Any, bits: Any) -> None:
    """Copy `[T, words]` from an array with as many words or more."""
    for t in range(bits.shape[0]):
        for w in range(bits.shape[1]):
            bits[t, w] = whole[t, w]


@_compiled
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
        neuron: Form and constants of the charge, threshold, strict, reset, soft.
        quiet: Whether neurons without input cannot fire.
        bits: Spikes `[N, H, W, T, words]`.
    """
    steps, blocks = shape[4], weights.shape[0]
    block = len(bias) // blocks
    around = taps[0].shape[1] * taps[1].shape[1]
    room = steps * around * shape[2] + LANES
    rows, stops, meets = np.empty(room, np.int32), np.empty(steps, np.int64), np.empty((around, 2), np.int64)
    scales = _room(scale, room)
    v = np.empty(block, np.float32)
    _, H, W, _, _ = bits.shape
    whole = np.empty((steps, blocks * len(width)), np.uint16)
    silent = np.empty((steps, blocks * len(width)), np.uint16)
    known = False
    for row in range(lo, hi):
        n, y = row // H, row % H
        for x in range(W):
            m = _gather(n, y, x, shape, ends, index, scale, taps, block, meets, rows, scales, stops)
            if m == 0 and known:
                _copy(silent, bits[n, y, x])
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
            _copy(whole, bits[n, y, x])
            if m == 0:
                _copy(whole, silent)
                known = True


@_compiled
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
    scales = _room(scale, room)
    _, H, W, _, words = bits.shape
    whole, busy, tap_x = np.empty(blocks * len(width), np.uint16), np.empty(shape[1], np.bool_), taps[1]
    for row in range(lo, hi):
        n, y = row // H, row % H
        _look(n, y, shape, ends, taps[0], busy)
        for x in range(W):
            touched = False
            for k in range(tap_x.shape[1]):
                if tap_x[x, k, 0] >= 0:
                    touched |= busy[tap_x[x, k, 0]]
            m = 0
            if touched:
                m = _gather(n, y, x, shape, ends, index, scale, taps, block, meets, rows, scales, stops)
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


@_compiled
def real_layer(
    lo: int, hi: int, width: Any, shape: Any, ends: Any, index: Any, scale: Any, weights: Any, bias: Any, taps: Any, out: Any
) -> None:  # fmt: skip
    """As `spiking_layer`, without neurons: sums `[N, H, W, T, blocks x block]`."""
    steps, blocks = shape[4], weights.shape[0]
    block = len(bias) // blocks
    around = taps[0].shape[1] * taps[1].shape[1]
    room = steps * around * shape[2] + LANES
    rows, stops, meets = np.empty(room, np.int32), np.empty(steps, np.int64), np.empty((around, 2), np.int64)
    scales = _room(scale, room)
    _, H, W, _, _ = out.shape
    for row in range(lo, hi):
        n, y = row // H, row % H
        for column in range(W):
            _gather(n, y, column, shape, ends, index, scale, taps, block, meets, rows, scales, stops)
            for b in range(blocks):
                start = 0
                for t in range(steps):
                    x = out[n, y, column, t, b * block : (b + 1) * block]
                    for i in range(block):
                        x[i] = bias[b * block + i]
                    sum_rows(width, x, weights[b], rows, scales, start, stops[t])
                    start = stops[t]


# -- bits ----------------------------------------------------------------------------------------------------------------
@_compiled
def pool(lo: int, hi: int, bits: Any, kernel: Any, stride: Any, padding: Any, out: Any) -> None:
    """Maximum of spikes over windows of places; a row is `(n, y)` of `out [N, H, W, T x words]`."""
    _, H, W, size = bits.shape
    _, h, w, _ = out.shape
    for row in range(lo, hi):
        n, y = row // h, row % h
        for x in range(w):
            for i in range(size):
                out[n, y, x, i] = 0
            for a in range(kernel[0]):
                yy = y * stride[0] - padding[0] + a
                if yy < 0 or yy >= H:
                    continue
                for b in range(kernel[1]):
                    xx = x * stride[1] - padding[1] + b
                    if 0 <= xx < W:
                        for i in range(size):
                            out[n, y, x, i] |= bits[n, yy, xx, i]


@_compiled
def sum_bits(lo: int, hi: int, bits: Any, by_channel: Any) -> None:
    """Spikes of `bits [N, P, T, words]` by sample, step and channel `[N, T, C]`; a row is a sample."""
    _, P, T, words = bits.shape
    for n in range(lo, hi):
        for p in range(P):
            for t in range(T):
                for w in range(words):
                    word = np.uint32(bits[n, p, t, w])
                    while word:
                        c = w * LANES + lowest_bit(word)
                        by_channel[n, t, c] += 1
                        word &= word - np.uint32(1)


@_compiled
def count_neurons(lo: int, hi: int, bits: Any, counts: Any) -> None:
    """Add the spikes of `bits [N, P, T, words]` by neuron to `counts [P, 16 words]`; a row is a place."""
    N, P, T, words = bits.shape
    flat, sums = bits.ravel(), counts.ravel()
    for p in range(lo, hi):
        for n in range(N):
            for w in range(words):
                add_bits(sums, (p * words + w) * LANES, flat, (n * P + p) * T * words + w, T, words)


@_compiled
def list_neurons(lo: int, hi: int, ends: Any, index: Any, scale: Any, shape: Any, counts: Any) -> None:
    """Add the non-zero elements of lists by neuron to `counts [P, C]`; `shape` is `(N, P, T)`, a row is a place."""
    N, P, T = shape
    for p in range(lo, hi):
        for n in range(N):
            first = (n * P + p) * T
            for j in range(ends[first], ends[first + T]):
                if scale[j] != 0:
                    counts[p, index[j]] += 1


@_compiled
def weigh_places(lo: int, hi: int, counts: Any, weights: Any, table: Any) -> None:
    """Counts `[N, P, T]` times weights `[R, P]`, summed over places: `table [R, N, T]`; a row is a sample."""
    _, P, T = counts.shape
    for n in range(lo, hi):
        for p in range(P):
            for r in range(len(weights)):
                weight = weights[r, p]
                for t in range(T):
                    table[r, n, t] += weight * counts[n, p, t]


@_compiled
def weigh_events(lo: int, hi: int, ends: Any, scale: Any, weights: Any, table: Any) -> None:
    """The elements of lists that are not zero, units, whole numbers, and the sum of magnitudes of whole numbers
    (`record.Measure`), times weights `[R, P]` of their places: `table [R, 4, N, T]`; a row is a sample.
    """
    R, _, _, T = table.shape
    P = weights.shape[1]
    for n in range(lo, hi):
        for p in range(P):
            if ends[(n * P + p + 1) * T] == ends[(n * P + p) * T]:
                continue
            for t in range(T):
                i = (n * P + p) * T + t
                found = units = whole = 0
                total = np.int64(0)
                for j in range(ends[i], ends[i + 1]):
                    size = abs(scale[j])
                    rounded = np.int64(size)
                    found += size != 0
                    units += size == 1
                    if size == rounded and size != 0:
                        whole += 1
                        total += rounded
                if found:
                    for r in range(R):
                        table[r, 0, n, t] += weights[r, p] * found
                        table[r, 1, n, t] += weights[r, p] * units
                        table[r, 2, n, t] += weights[r, p] * whole
                        table[r, 3, n, t] += weights[r, p] * total


@_compiled
def unpack(lo: int, hi: int, bits: Any, gates: Any, out: Any) -> None:
    """Spikes `[N, P, T, words]` as numbers `[T, N, C, P]` (zero before), times `gates [N, T, C]`; a row is a sample."""
    _, P, T, words = bits.shape
    for n in range(lo, hi):
        for p in range(P):
            for t in range(T):
                for w in range(words):
                    word = np.uint32(bits[n, p, t, w])
                    while word:
                        c = w * LANES + lowest_bit(word)
                        out[t, n, c, p] = 1 if gates is None else gates[n, t, c]
                        word &= word - np.uint32(1)


@_compiled
def pack(lo: int, hi: int, frames: Any, bits: Any) -> None:
    """Spikes `[T, N, C, P]` as bits `[N, P, T, words]` (zero before); a row is a sample."""
    T, _, C, P = frames.shape
    for n in range(lo, hi):
        for t in range(T):
            for c in range(C):
                for p in range(P):
                    if frames[t, n, c, p] != 0:
                        bits[n, p, t, c // LANES] |= np.uint16(1 << (c % LANES))
