"""What a core reads: the input positions that a tile of outputs depends on, and the synapses into one neuron."""

from __future__ import annotations

import math

import numpy as np

from tcja_deploy.energy.count.quantities import Ints
from tcja_deploy.ir import Op
from tcja_deploy.ir import ops as ir

__all__ = ["field", "groups_met", "synapses", "tile_reads", "transposed_tile_reads"]


def tile_reads(n_in: int, outputs: int, kernel: int, *, stride: int = 1, dilation: int = 1) -> int:
    """Along one axis of a convolution: number of positions that `outputs` neighbouring outputs read, at most `n_in`."""
    reads = np.arange(outputs)[:, None] * stride + np.arange(kernel) * dilation
    return min(n_in, len(np.unique(reads)))


def transposed_tile_reads(n_in: int, outputs: int, kernel: int, *, stride: int = 1, dilation: int = 1) -> int:
    """The same for a transposed convolution, where it depends on the tile's position: the largest number of all positions.

    Output `o` reads input `i` where `o = i stride + m dilation` for a tap `m < kernel`.
    """
    reads = np.arange(outputs)[:, None] - np.arange(kernel) * dilation
    return min(n_in, max(len(np.unique(reads[(reads + place) % stride == 0])) for place in range(stride)))


def groups_met(channels: int, groups: int, slice_: int) -> int:
    """Number of groups that a slice of `slice_` neighbouring output channels reads: the most of all slices of this size."""
    each = channels // groups
    starts = range(0, channels, slice_)
    return max((min(channels, start + slice_) - 1) // each - start // each + 1 for start in starts)


def synapses(op: Op) -> int:
    """Number of synapses into one neuron away from the borders: the most of all neurons."""
    weight = op.constants()["weight"]
    if isinstance(op, ir.ConvTranspose2d):
        taps = (
            transposed_tile_reads(k, 1, k, stride=s, dilation=d)
            for k, s, d in zip(weight.shape[2:], op.stride, op.dilation, strict=True)
        )
        return len(weight) // op.groups * math.prod(taps)
    return math.prod(weight.shape[1:])


def field(op: Op, shape_in: tuple[int, ...], tiles: tuple[Ints, Ints, Ints], channels: int) -> Ints:
    """Number of input elements that a core with a tile of `s` channels, `h` rows and `w` columns reads, for each tile.

    Dense layers and one-dimensional convolutions read their whole input.
    """
    s, h, w = tiles
    if not isinstance(op, ir.Conv2d | ir.ConvTranspose2d):
        return np.full(len(s), math.prod(shape_in), np.int64)
    *lead, c, rows, columns = shape_in
    count = transposed_tile_reads if isinstance(op, ir.ConvTranspose2d) else tile_reads

    def along(axis: int, n_in: int, outputs: Ints) -> Ints:
        sizes, where = np.unique(outputs, return_inverse=True)
        k, stride, dilation = op.weight.shape[2 + axis], op.stride[axis], op.dilation[axis]
        reads = [count(n_in, int(n), k, stride=stride, dilation=dilation) for n in sizes]
        return np.array(reads, np.int64)[where]

    sizes, where = np.unique(s, return_inverse=True)
    met = np.array([groups_met(channels, op.groups, int(n)) for n in sizes], np.int64)[where]
    return met * (c // op.groups) * along(0, math.prod(lead) * rows, h) * along(1, columns, w)
