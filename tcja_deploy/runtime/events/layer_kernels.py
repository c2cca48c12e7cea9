"""The loops of layers: weight rows of what is active, added up, and neurons. As `kernels`, whose words hold here too.

Two orders of the work: a place whose lists are short gathers them into one list of rows, which are added in registers. Where
lists are long and the weights too many for the fastest cache, slices of the weights, one tap of one block, are brought there
and meet all places of a tile. Which one a place takes depends on its own input alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from tcja_deploy.runtime.events.compiling import compiled
from tcja_deploy.runtime.events.vectors import LANES, add_lists, append_rows, fire, relax, step, sum_rows

__all__ = [
    "busy_columns",
    "copy_words",
    "gather",
    "is_reached",
    "meet",
    "real_layer",
    "room_for",
    "spiking_frame",
    "spiking_layer",
]

_TILE = 16
"""Places that a slice of the weights meets before the next one: their sums stay in the second cache."""
_LONG = 3
"""Elements of a list, on average over a place's taps and steps, from which on slices are faster than gathering."""


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
def meet(n: int, y: int, x: int, shape: Any, ends: Any, taps: Any, block: int, meets: Any) -> tuple[int, int]:
    """The input places around one of the output that are not silent over the window; how many, and their elements.

    `meets [taps, 2]` gets the first list of each and where the rows that it meets begin, which rise.
    """
    height, width, channels, columns, steps = shape
    tap_y, tap_x = taps
    found = elements = 0
    for a in range(tap_y.shape[1]):
        yy = tap_y[y, a, 0]
        if yy < 0:
            break
        for b in range(tap_x.shape[1]):
            xx = tap_x[x, b, 0]
            if xx < 0:
                break
            i = ((n * height + yy) * width + xx) * steps
            here = ends[i + steps] - ends[i]
            if here:
                meets[found, 0] = i
                meets[found, 1] = (tap_y[y, a, 1] * columns + tap_x[x, b, 1]) * channels * block
                found += 1
                elements += here
    return found, elements


@compiled
def line_up(
    found: int, steps: int, ends: Any, index: Any, scale: Any, block: int, meets: Any, rows: Any, scales: Any, stops: Any
) -> None:  # fmt: skip
    """Weight rows that the neurons at one place receive over the window: `rows`, up to `stops[t]` for step t; see `meet`."""
    m = 0
    for t in range(steps):
        for k in range(found):
            start, end = ends[meets[k, 0] + t], ends[meets[k, 0] + t + 1]
            if end > start:
                append_rows(rows, scales, m, index, scale, start, end, np.int32(block), np.int32(meets[k, 1]))
                m += end - start
        stops[t] = m


@compiled
def gather(
    n: int, y: int, x: int, shape: Any, ends: Any, index: Any, scale: Any, taps: Any, block: int, meets: Any,
    rows: Any, scales: Any, stops: Any,
) -> int:  # fmt: skip
    """`meet` and `line_up`: the rows that the neurons at one place receive; how many."""
    found, elements = meet(n, y, x, shape, ends, taps, block, meets)
    line_up(found, shape[4], ends, index, scale, block, meets, rows, scales, stops)
    return elements


@compiled
def add_slices(
    width: Any, steps: int, ends: Any, index: Any, scale: Any, weights: Any, count: int, found: Any, meets: Any,
    sums: Any, starts: Any, stride: int,
) -> None:  # fmt: skip
    """Add what `count` places receive to `sums[starts[p] + t stride:]`, tap by tap: a slice of the weights meets them all.

    `found [count]` and `meets [count, taps, 2]` as `meet` gives them for each place; `weights` are those of one block.
    """
    cursor = np.zeros(count, np.int64)
    left = True
    while left:
        left = False
        base = np.iinfo(np.int64).max
        for p in range(count):
            if cursor[p] < found[p]:
                base = min(base, meets[p, cursor[p], 1])
        for p in range(count):
            if cursor[p] < found[p] and meets[p, cursor[p], 1] == base:
                add_lists(
                    width,
                    sums,
                    starts[p],
                    stride,
                    weights,
                    base,
                    index,
                    scale,
                    ends,
                    meets[p, cursor[p], 0],
                    steps,
                )
                cursor[p] += 1
                left = True


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
    sliced: bool, neuron: Any, quiet: bool, bits: Any,
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
        sliced: Whether long lists should meet slices of the weights.
        neuron: See `plan.neuron_constants`.
        quiet: Whether neurons without input cannot fire.
        bits: Spikes `[N, H, W, T, words]`.
    """
    steps, blocks = shape[4], weights.shape[0]
    block = len(bias) // blocks
    around = taps[0].shape[1] * taps[1].shape[1]
    room = steps * around * shape[2] + LANES
    rows, stops = np.empty(room, np.int32), np.empty(steps, np.int64)
    scales = room_for(scale, room)
    v = np.empty(block, np.float32)
    _, H, W, _, _ = bits.shape
    words = blocks * len(width)
    whole, silent = np.empty((_TILE, steps, words), np.uint16), np.empty((steps, words), np.uint16)
    known = False
    meets, found = np.empty((_TILE, around, 2), np.int64), np.empty(_TILE, np.int64)
    tile, places = np.empty(_TILE, np.int64), np.arange(_TILE) * (steps * block)
    sums = np.empty(_TILE * steps * block if sliced else 0, np.float32)
    for part in range(lo * -(-W // _TILE), hi * -(-W // _TILE)):
        row, x0 = part // -(-W // _TILE), part % -(-W // _TILE) * _TILE
        n, y = row // H, row % H
        count = 0
        for x in range(x0, min(W, x0 + _TILE)):
            found[count], elements = meet(n, y, x, shape, ends, taps, block, meets[count])
            if sliced and elements > _LONG * found[count] * steps:
                tile[count] = x
                count += 1
                continue
            if elements == 0 and known:
                copy_words(silent, bits[n, y, x])
                continue
            line_up(found[count], steps, ends, index, scale, block, meets[count], rows, scales, stops)
            here = whole[count]
            for b in range(blocks):
                for i in range(block):
                    v[i] = neuron[1]
                start = silence = 0
                first = bias[b * block :]
                for t in range(steps):
                    if quiet and stops[t] == start:
                        silence += 1
                        for w in range(b * len(width), (b + 1) * len(width)):
                            here[t, w] = 0
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
                        here[t, b * len(width) :],
                    )
                    start = stops[t]
            copy_words(here, bits[n, y, x])
            if elements == 0:
                copy_words(here, silent)
                known = True
        if count == 0:
            continue
        for b in range(blocks):
            for i in range(count * steps):
                for k in range(block):
                    sums[i * block + k] = bias[b * block + k]
            add_slices(width, steps, ends, index, scale, weights[b], count, found, meets, sums, places, block)
            for p in range(count):
                fire(width, sums, places[p], neuron, whole[p], b * len(width), words, steps)
        for p in range(count):
            copy_words(whole[p], bits[n, y, tile[p]])


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
    lo: int, hi: int, width: Any, shape: Any, ends: Any, index: Any, scale: Any, weights: Any, bias: Any, taps: Any,
    sliced: bool, out: Any,
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
