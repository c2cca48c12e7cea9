"""The loops of layers: sums of the weight rows of active inputs, and neurons. Layouts and rows are those of `kernels`.

What the places of a tile receive over a window is summed in the second-level cache, then their neurons run in registers. A
place with short lists adds one element after the other. With long lists, one tap of one block of the weights, which fits the
first-level cache, is applied to the lists of all places of the tile before the next tap. Which way a place takes depends on
its own input alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tcja_deploy.runtime.events.compiling import compiled, compiled_part
from tcja_deploy.runtime.events.kernels import is_silent
from tcja_deploy.runtime.events.vectors import LANES, add_elements, add_lists, fill, fire, relax, step

__all__ = [
    "busy_columns",
    "is_reached",
    "meet",
    "real_layer",
    "spiking_frame",
    "spiking_layer",
    "spiking_sums",
]

_SUMS = 32768
"""Sums of a tile, so many as stay in the second-level cache."""
_TOGETHER = 4
"""Places with short lists whose neurons run side by side; their sums stay in the first-level cache."""
_LONG = 3
"""Mean number of elements per list, over a place's taps and steps, above which adding lists is faster than adding elements."""


@compiled_part
def meet(n: int, y: int, x: int, shape: Any, ends: Any, taps: Any, block: int, meets: Any) -> tuple[int, int]:
    """The input places around one output place that are not silent over the window: how many, and how many elements they have.

    `meets [taps, 2]` receives the first list of each, and where its weight rows begin, in rising order.
    """
    height, width, channels, columns, steps = shape
    tap_y, tap_x = taps
    found = elements = 0
    for a in range(tap_y.shape[1]):
        if tap_y[y, a, 0] < 0:
            break
        line, first = (n * height + tap_y[y, a, 0]) * width, tap_y[y, a, 1] * columns
        for b in range(tap_x.shape[1]):
            if tap_x[x, b, 0] < 0:
                break
            i = (line + tap_x[x, b, 0]) * steps
            here = ends[i + steps] - ends[i]
            meets[found, 0], meets[found, 1] = i, (first + tap_x[x, b, 1]) * channels * block
            found += here != 0  # no branch, which would be mispredicted often
            elements += here
    return found, elements


@compiled_part
def tile_size(columns: int, numbers: int) -> int:
    """Places of a tile, each of which has so many sums."""
    return min(columns, max(1, _SUMS // numbers))


@compiled
def tile_room(size: int, taps: Any) -> tuple[Any, Any]:
    """Room for what `meet` gives of each of `size` places, and for three numbers per place."""
    meets = np.empty((size, taps[0].shape[1] * taps[1].shape[1], 2), np.int64)
    return meets, (np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size, np.int64))


@compiled_part
def add_short(
    width: int, steps: int, lists: Any, table: Any, block: int, found: int, meets: Any, sums: Any, start: int, stride: int
) -> None:  # fmt: skip
    """What one place receives in a block, element by element: `sums[start + t stride:]`; see `meet` and `spiking_layer`."""
    ends, index, scale, when = lists
    weights, bias = table
    fill(width, sums, start, stride, bias, block * width * LANES, steps)
    add_elements(width, sums, start, stride, weights[block], meets, found, index, scale, when, ends, steps)


@compiled_part
def add_long(
    width: int, steps: int, lists: Any, table: Any, block: int, found: Any, meets: Any, done: Any, sums: Any, starts: Any,
    stride: int,
) -> None:  # fmt: skip
    """What many places receive in a block, tap by tap: `sums[starts[p] + t stride:]`.

    `meets [P, taps, 2]` and `found [P]` are what `meet` gives for each place; `done [P]` is working memory.
    """
    ends, index, scale, _ = lists
    weights, bias = table
    for p in range(len(found)):
        done[p] = 0
        fill(width, sums, starts[p], stride, bias, block * width * LANES, steps)
    end = np.iinfo(np.int64).max
    base: Any = np.int64(0)
    while base < end:
        base = end
        for p in range(len(found)):
            if done[p] < found[p]:
                base = min(base, meets[p, done[p], 1])
        for p in range(len(found)):
            if done[p] < found[p] and meets[p, done[p], 1] == base:
                i = meets[p, done[p], 0]
                add_lists(width, sums, starts[p], stride, weights[block], base, index, scale, ends, i, steps)
                done[p] += 1


@compiled_part
def busy_columns(n: int, y: int, shape: Any, ends: Any, tap_y: Any, busy: Any) -> None:
    """Which input columns have active elements over the window in the rows that output row `y` reads: `busy [width]`."""
    height, width, steps = shape[0], shape[1], shape[4]
    busy[:] = False
    for a in range(tap_y.shape[1]):
        if tap_y[y, a, 0] < 0:
            break
        first = (n * height + tap_y[y, a, 0]) * width * steps
        for x in range(width):
            busy[x] |= ends[first + (x + 1) * steps] > ends[first + x * steps]


@compiled_part
def is_reached(x: int, tap_x: Any, busy: Any) -> bool:
    """Whether column `x` of the output reads a busy column."""
    reached = False
    for k in range(tap_x.shape[1]):
        if tap_x[x, k, 0] >= 0:
            reached |= busy[tap_x[x, k, 0]]
    return reached


@compiled
def spiking_layer(
    lo: int, hi: int, width: int, shape: Any, lists: Any, table: Any, taps: Any, neuron: Any, bits: Any
) -> None:  # fmt: skip
    """Weights and neurons over a window, a row of places at a time.

    Args:
        lo: First row `(n, y)` of the output.
        hi: The row after the last one.
        width: Vectors of a block.
        shape: Height, width and channels of the input; columns of the kernel; steps.
        lists: Where the list of each input place and step begins, and the end of the last one; active channels; their
            values, empty for spikes; their steps.
        table: Weights `[blocks, taps x channels x block]` and biases `[blocks x block]`.
        taps: For rows and columns of the output, input place and kernel place of each tap, `[size, taps, 2]`; input -1 ends.
        neuron: See `plan.neuron_constants`.
        bits: Receives the spikes, `[N, H, W, T, words]`; zero before.
    """
    steps, blocks = shape[4], table[0].shape[0]
    block, kept = width * LANES, bits.shape[4]
    size = tile_size(bits.shape[2], steps * block)
    room = tile_room(size + _TOGETHER, taps)
    starts, sums = (
        np.empty(size + _TOGETHER, np.int64),
        np.empty((size + _TOGETHER) * steps * block, np.float32),
    )
    for p in range(len(starts)):
        starts[p] = p * steps * block
    silent, busy = np.empty(steps * kept, np.uint16), np.empty(shape[1], np.bool_)
    for b in range(blocks):
        fill(width, sums, 0, block, table[1], b * block, steps)
        word = b * width
        fire(width, sums, 0, 1, neuron, silent, starts, word, kept, kept - word, steps)
    tile = (size, room, starts, sums, busy, silent, not is_silent(silent, 0, len(silent)))
    extents = (bits.shape[1], bits.shape[2], kept)
    spiking_rows(lo, hi, width, shape, lists, table, taps, neuron, tile, extents, bits.ravel())


@compiled_part
def spiking_rows(
    lo: int, hi: int, width: int, shape: Any, lists: Any, table: Any, taps: Any, neuron: Any, tile: Any, extents: Any,
    bits: Any,
) -> None:  # fmt: skip
    """The loop of `spiking_layer`.

    `tile` is working memory: places of a tile, for each of them and `_TOGETHER` more what `tile_room` gives, where its sums
    begin, and the sums; busy columns; spikes of a place without input, and whether there are any. `extents` are rows, columns
    and words of the output.
    """
    size, (meets, (found, done, places)), starts, sums, busy, silent, restless = tile
    (H, W, kept), steps, blocks, ends = extents, shape[4], table[0].shape[0], lists[0]
    block = width * LANES
    for row in range(lo, hi):
        n, y = row // H, row % H
        busy_columns(n, y, shape, ends, taps[0], busy)
        for first in range(0, W, size):
            far: Any = np.int64(0)
            near: Any = np.int64(0)
            for x in range(first, min(W, first + size)):
                met, elements, place = 0, 0, (row * W + x) * steps * kept
                if is_reached(x, taps[1], busy):
                    met, elements = meet(n, y, x, shape, ends, taps, block, meets[far])
                if elements > _LONG * met * steps:
                    found[far], places[far] = met, place
                    far += 1
                elif elements:
                    for k in range(met):
                        meets[size + near, k, 0], meets[size + near, k, 1] = (
                            meets[far, k, 0],
                            meets[far, k, 1],
                        )
                    found[size + near], places[size + near] = met, place
                    near += 1
                    if near == _TOGETHER:
                        short_places(near, width, steps, lists, table, neuron, tile, kept, bits)
                        near = 0
                elif restless:
                    for i in range(len(silent)):
                        bits[place + i] = silent[i]
            if near:
                short_places(near, width, steps, lists, table, neuron, tile, kept, bits)
            for b in range(blocks if far else 0):
                word = b * width
                add_long(width, steps, lists, table, b, found[:far], meets, done, sums, starts, block)
                fire(width, sums, 0, far, neuron, bits, places, word, kept, kept - word, steps)


@compiled_part
def short_places(
    count: int, width: int, steps: int, lists: Any, table: Any, neuron: Any, tile: Any, kept: int, bits: Any
) -> None:
    """The places with short lists behind those of a tile, see `spiking_rows`: sums and neurons."""
    size, (meets, (found, _, places)), starts, sums, _, _, _ = tile
    block = width * LANES
    for b in range(table[0].shape[0]):
        for p in range(size, size + count):
            add_short(width, steps, lists, table, b, found[p], meets[p], sums, starts[p], block)
        word = b * width
        fire(width, sums, starts[size], count, neuron, bits, places[size:], word, kept, kept - word, steps)


@compiled_part
def advance(
    width: int, sums: Any, start: int, bias: Any, block: int, neuron: Any, v: Any, silence: int, bits: Any, spikes: Any
) -> None:  # fmt: skip
    """One block of one place: `silence` steps without input, then one with `sums[start:]`.

    `v` and `bits` are the place's membranes and words, of all blocks; `spikes` is working memory.
    """
    first = block * width
    membranes = v[first * LANES :]
    if silence:
        relax(width, bias[first * LANES :], neuron, membranes, silence)
    step(width, sums, start, neuron, membranes, spikes)
    for w in range(min(width, len(bits) - first)):
        bits[first + w] = spikes[w]


@compiled
def spiking_frame(
    lo: int, hi: int, width: int, shape: Any, lists: Any, table: Any, taps: Any, neuron: Any, quiet: bool, t: int, v: Any,
    seen: Any, bits: Any,
) -> None:  # fmt: skip
    """As `spiking_layer`, for step `t` alone: the membranes `v [N, H, W, blocks x block]` change.

    Places of quiet neurons without input are skipped until input comes; `seen [N, H, W]` counts the steps that each has done.
    """
    blocks, bias = table[0].shape[0], table[1]
    block = len(bias) // blocks
    _, H, W, _, _ = bits.shape
    size = tile_size(W, block)
    meets, (found, done, places) = tile_room(size, taps)
    starts, sums = np.arange(size) * block, np.empty(size * block, np.float32)
    spikes, busy, tap_x = np.empty(width, np.uint16), np.empty(shape[1], np.bool_), taps[1]
    for row in range(lo, hi):
        n, y = row // H, row % H
        busy_columns(n, y, shape, lists[0], taps[0], busy)
        for first in range(0, W, size):
            count = 0
            for x in range(first, min(W, first + size)):
                met, elements = 0, 0
                if is_reached(x, tap_x, busy):
                    met, elements = meet(n, y, x, shape, lists[0], taps, block, meets[count])
                found[count], places[count] = met, x
                if elements > _LONG * met:
                    count += 1
                elif elements or not quiet:
                    start, silence, words = starts[count], t - seen[n, y, x], bits[n, y, x, 0]
                    for b in range(blocks):
                        add_short(width, 1, lists, table, b, met, meets[count], sums, start, block)
                        advance(width, sums, start, bias, b, neuron, v[n, y, x], silence, words, spikes)
                    seen[n, y, x] = t + 1
            for b in range(blocks if count else 0):
                add_long(width, 1, lists, table, b, found[:count], meets, done, sums, starts, block)
                for p in range(count):
                    x = places[p]
                    silence, words = t - seen[n, y, x], bits[n, y, x, 0]
                    advance(width, sums, starts[p], bias, b, neuron, v[n, y, x], silence, words, spikes)
            for p in range(count):
                seen[n, y, places[p]] = t + 1


@compiled
def real_layer(
    lo: int, hi: int, width: int, shape: Any, lists: Any, table: Any, taps: Any, out: Any
) -> None:  # fmt: skip
    """As `spiking_layer`, without neurons: sums `[N, H, W, T, blocks x block]`."""
    steps, blocks = shape[4], table[0].shape[0]
    block = len(table[1]) // blocks
    _, H, W, _, columns = out.shape
    size = tile_size(W, steps * block)
    meets, (found, done, places) = tile_room(size, taps)
    sums = out.ravel()
    for row in range(lo, hi):
        n, y = row // H, row % H
        for first in range(0, W, size):
            count = 0
            for x in range(first, min(W, first + size)):
                met, elements = meet(n, y, x, shape, lists[0], taps, block, meets[count])
                at = (row * W + x) * (steps * columns)
                found[count], places[count] = met, at
                if elements > _LONG * met * steps:
                    count += 1
                    continue
                for b in range(blocks):
                    add_short(width, steps, lists, table, b, met, meets[count], sums, at + b * block, columns)
            for b in range(blocks if count else 0):
                starts = places[:count] + b * block
                add_long(width, steps, lists, table, b, found[:count], meets, done, sums, starts, columns)


@compiled
def spiking_sums(lo: int, hi: int, sums: Any, neuron: Any, bits: Any) -> None:
    """Neurons alone over a window, places `lo` to `hi`, from what each receives; NaN where a word has no neuron.

    `sums [P, T, words x LANES]`; `bits [P, T, words]` receives the spikes.
    """
    _, steps, words = bits.shape
    places = np.arange(lo, hi) * (steps * words)
    fire(
        words,
        sums.ravel(),
        lo * steps * words * LANES,
        hi - lo,
        neuron,
        bits.ravel(),
        places,
        0,
        words,
        words,
        steps,
    )
