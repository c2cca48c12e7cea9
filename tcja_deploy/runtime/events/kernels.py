"""Loops over bits and lists, compiled by Numba at their first call and cached on disk.

Values are stored with space outside and time inside, `[N, H, W, T, C]`: what a neuron receives over a window is contiguous,
and its membrane stays in the cache until the window ends. Every function works on a range of rows, so that threads can share
them; no sum crosses a row, and none depends on how rows are shared.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tcja_deploy.runtime.events.bit_vectors import (
    MOST_IN_BYTES,
    add_bits,
    bits_set,
    lowest_bit,
    nonzero,
    without_lowest_bit,
)
from tcja_deploy.runtime.events.compiling import compiled, compiled_part
from tcja_deploy.runtime.events.vectors import LANES

__all__ = [
    "add_up",
    "count_bits",
    "count_nonzero",
    "is_silent",
    "list_bits",
    "list_nonzero",
    "pack",
    "pool",
    "sum_bits",
    "unpack",
]


# -- lists of what is active ---------------------------------------------------------------------------------------------
@compiled
def count_bits(lo: int, hi: int, bits: Any, counts: Any) -> None:
    """Spikes in each of the frames `[M, words]`: `counts [M]`."""
    words = bits.shape[1]
    flat = bits.ravel()
    if words == 1:  # a loop that is compiled to vectors
        for i in range(lo, hi):
            counts[i] = bits_set(flat[i])
        return
    for i in range(lo, hi):
        n = 0
        for w in range(i * words, (i + 1) * words):
            n += bits_set(flat[w])
        counts[i] = n


@compiled
def add_up(counts: Any, ends: Any) -> int:
    """Where lists of these lengths begin, and the end of the last one: `ends [1 + M]`.

    `ends` wraps where the total, which is returned, is larger than its type can hold.
    """
    total: int = np.int64(0)  # type: ignore[assignment]
    ends[0] = 0
    for i in range(len(counts)):
        total += counts[i]
        ends[i + 1] = total
    return total


@compiled
def list_bits(
    lo: int, hi: int, bits: Any, ends: Any, gates: Any, index: Any, scale: Any, when: Any
) -> None:  # fmt: skip
    """Channels that spike in each frame of `bits [N, P, T, words]`, in rising order, with their steps and gates, if any.

    Gates are `[N, T, C]`; a row is a place of a sample.
    """
    _, P, T, words = bits.shape
    flat, lanes = bits.ravel(), 8 * bits.itemsize
    for row in range(lo, hi):
        n = row // P
        if ends[row * T] == ends[(row + 1) * T]:
            continue
        for t in range(T):
            i = row * T + t
            at = ends[i]
            for w in range(words):
                word = flat[i * words + w]
                while word:
                    channel = w * lanes + lowest_bit(word)
                    index[at], when[at] = channel, t
                    if gates is not None:
                        scale[at] = gates[n, t, channel]
                    word = without_lowest_bit(word)
                    at += 1


@compiled
def count_nonzero(lo: int, hi: int, frames: Any, counts: Any) -> None:
    """Values that are not zero at each place: `frames [T, N, C, H, W]`, `counts [N, H, W, T]`; a row is `(n, y)`."""
    T, N, C, H, W = frames.shape
    flat, sums = frames.ravel(), counts.ravel()
    for n in range(lo // H, (hi - 1) // H + 1):
        first, last = max(lo - n * H, 0) * W, min(hi - n * H, H) * W
        for t in range(T):
            for c in range(C):
                plane = ((t * N + n) * C + c) * H * W
                for start in range(first, last, LANES):
                    found = nonzero(flat, plane + start, min(LANES, last - start))
                    while found:
                        sums[(n * H * W + start + lowest_bit(found)) * T + t] += 1
                        found = without_lowest_bit(found)


@compiled
def list_nonzero(lo: int, hi: int, frames: Any, ends: Any, index: Any, scale: Any, when: Any) -> None:
    """Channels, values and steps of what is not zero; `ends [N, H, W, T]`, where lists begin, is advanced."""
    T, N, C, H, W = frames.shape
    flat, nexts = frames.ravel(), ends.ravel()
    for n in range(lo // H, (hi - 1) // H + 1):
        first, last = max(lo - n * H, 0) * W, min(hi - n * H, H) * W
        for t in range(T):
            for c in range(C):
                plane = ((t * N + n) * C + c) * H * W
                for start in range(first, last, LANES):
                    found = nonzero(flat, plane + start, min(LANES, last - start))
                    while found:
                        place = start + lowest_bit(found)
                        i = (n * H * W + place) * T + t
                        at = nexts[i]
                        index[at], scale[at], when[at] = c, flat[plane + place], t
                        nexts[i] = at + 1
                        found = without_lowest_bit(found)


# -- bits ----------------------------------------------------------------------------------------------------------------
@compiled
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


@compiled
def average(
    lo: int, hi: int, bits: Any, kernel: Any, stride: Any, padding: Any, margin: bool, out: Any
) -> None:
    """Mean of spikes over windows of places; a row is `(n, y)` of `out [N, H, W, T, C]`; whether the `margin` counts."""
    _, H, W, T, _ = bits.shape
    _, h, w, _, C = out.shape
    for row in range(lo, hi):
        n, y = row // h, row % h
        for x in range(w):
            here, places = out[n, y, x], 0
            here[:] = 0
            for a in range(kernel[0]):
                yy = y * stride[0] - padding[0] + a
                for b in range(kernel[1]):
                    xx = x * stride[1] - padding[1] + b
                    inside = 0 <= yy < H and 0 <= xx < W
                    places += inside or margin
                    if inside:
                        for t in range(T):
                            for c in range(C):
                                here[t, c] += (bits[n, yy, xx, t, c // LANES] >> (c % LANES)) & 1
            here /= np.float32(places)


@compiled
def sum_bits(lo: int, hi: int, bits: Any, by_channel: Any) -> None:
    """Add the spikes of `bits [N, P, T, words]` to `by_channel [N, T, lanes of all words]`; a row is a sample."""
    _, P, T, words = bits.shape
    lanes = by_channel.shape[2] // words
    flat, sums = bits.ravel(), by_channel.ravel()
    for n in range(lo, hi):
        for first in range(0, P, MOST_IN_BYTES):
            for i in range(T * words):
                start = (n * P + first) * T * words + i
                at = (n * T * words + i) * lanes
                add_bits(sums, at, flat, start, min(P - first, MOST_IN_BYTES), T * words, 1, 0)


@compiled_part
def is_silent(words: Any, start: int, end: int) -> bool:
    """Whether no bit of `words[start:end]` is set; there is one word at least."""
    found = words[start]
    for i in range(start + 1, end):
        found |= words[i]
    silent: bool = found == 0
    return silent


@compiled
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
                        word = without_lowest_bit(word)


@compiled
def pack(lo: int, hi: int, frames: Any, bits: Any) -> None:
    """Spikes `[T, N, C, P]` as bits `[N, P, T, words]` (zero before); a row is a sample."""
    T, _, C, P = frames.shape
    for n in range(lo, hi):
        for t in range(T):
            for c in range(C):
                for p in range(P):
                    if frames[t, n, c, p] != 0:
                        bits[n, p, t, c // LANES] |= np.uint16(1 << (c % LANES))
