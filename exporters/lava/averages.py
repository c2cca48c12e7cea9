"""Average pools: on the host in integers, merged into the weights after them, or as matrices.

An average is linear, so what follows it can absorb it exactly: a convolution gets a larger kernel, a linear map gets
weights on the map before the pool. A pool that cannot be absorbed becomes a separate synapse
(`tcja_deploy.exporters.lava.lower`).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import lcm, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.exporters.lava import kernels
from tcja_deploy.exporters.lava.float_graph import FloatArray
from tcja_deploy.ir import Kind
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.integers.layers import SpatialPool
from tcja_deploy.runtime.integers.network import HostInput
from tcja_deploy.runtime.integers.stages import Pair

__all__ = ["AveragePool", "MergedKernel", "before_kernel", "before_matrix", "host_input", "tiled"]

AverageOp = ir.AvgPool2d | ir.AdaptiveAvgPool2d


@dataclass(frozen=True, slots=True)
class AveragePool:
    """An average pool.

    Attributes:
        node: Name of the node in the graph.
        rows: Exact matrix `[H', H]` of fractions, an object array.
        columns: Exact matrix `[W', W]`.
        kernel: Window of a pool whose windows are all alike, so that every output is a sum divided by their size; else
            None.
        stride: Stride of the windows.
        padding: Zeros on each side.
    """

    node: str
    rows: NDArray[Any]
    columns: NDArray[Any]
    kernel: Pair | None
    stride: Pair
    padding: Pair

    @classmethod
    def of(cls, node: str, op: AverageOp, height: int, width: int) -> AveragePool:
        """The pool of an op on maps of the given size."""
        size = (height, width)
        kernel: Pair | None
        if isinstance(op, ir.AdaptiveAvgPool2d):
            exact = [_adaptive(n, out) for n, out in zip(size, op.output_size, strict=True)]
            divides = height % op.output_size[0] == 0 and width % op.output_size[1] == 0
            kernel = (height // op.output_size[0], width // op.output_size[1]) if divides else None
            stride, padding = kernel or (0, 0), (0, 0)
        else:
            exact = [
                _averaging(n, k, s, p, count_pad=op.count_include_pad)
                for n, k, s, p in zip(size, op.kernel, op.stride, op.padding, strict=True)
            ]
            even = op.count_include_pad or op.padding == (0, 0)
            kernel, stride, padding = op.kernel if even else None, op.stride, op.padding
        return cls(node, np.array(exact[0], object), np.array(exact[1], object), kernel, stride, padding)

    @property
    def in_size(self) -> Pair:
        """Rows and columns before the pool."""
        return self.rows.shape[1], self.columns.shape[1]

    @property
    def out_size(self) -> Pair:
        """Rows and columns after the pool."""
        return self.rows.shape[0], self.columns.shape[0]

    def apply(self, maps: FloatArray) -> FloatArray:
        """Means of maps `[..., H, W]`."""
        rows, columns = self.rows.astype(np.float64), self.columns.astype(np.float64)
        return np.asarray(rows @ maps @ columns.T)


def _averaging(
    length: int, kernel: int, stride: int, padding: int, *, count_pad: bool
) -> list[list[Fraction]]:
    """Matrix `[length', length]` of an average pool along one axis."""
    rows = []
    for start in range(-padding, length + padding - kernel + 1, stride):
        inside = range(max(start, 0), min(start + kernel, length))
        weight = Fraction(1, kernel if count_pad else max(len(inside), 1))
        rows.append([weight if i in inside else Fraction(0) for i in range(length)])
    return rows


def _adaptive(length: int, out: int) -> list[list[Fraction]]:
    """Matrix `[out, length]` of an adaptive average pool along one axis."""
    rows = []
    for i in range(out):
        inside = range(i * length // out, -(-(i + 1) * length // out))
        rows.append([Fraction(1, len(inside)) if j in inside else Fraction(0) for j in range(length)])
    return rows


def host_input(shape: tuple[int, ...], kind: Kind, averages: list[AveragePool], scale: int) -> HostInput:
    """The host's part: real inputs become integers, leading average pools become sums with a common denominator.

    Args:
        shape: Shape of the model's frames.
        kind: Signal kind of the model's input.
        averages: Pools before everything else, in order.
        scale: The integer that stands for one in real inputs.
    """
    factor = 1 if kind in (Kind.BINARY, Kind.COUNT) else scale
    if not averages:
        binary = kind is Kind.BINARY
        return HostInput(shape, binary, int(binary), factor, unit=factor)
    rows, columns = averages[0].rows, averages[0].columns
    for pool in averages[1:]:  # fractions, so that the composition is exact
        rows, columns = pool.rows @ rows, pool.columns @ columns
    whole, unit = [], factor
    for axis in (rows, columns):
        denominator = lcm(*(value.denominator for value in axis.ravel()))
        whole.append((axis * denominator).astype(np.int64))
        unit *= denominator
    return HostInput(shape, False, 0, factor, whole[0], whole[1], unit)


def tiled(averages: tuple[AveragePool, ...]) -> SpatialPool | None:
    """Pools that divide the map into equal parts, as one pool of sums; None if they do not."""
    known = [a.kernel for a in averages if a.kernel is not None and a.kernel == a.stride]
    rows, columns = (prod(kernel[axis] for kernel in known) for axis in (0, 1))
    height, width = averages[0].in_size
    if len(known) < len(averages) or height % rows or width % columns:
        return None
    return SpatialPool("sum", (rows, columns), (rows, columns))


def before_matrix(averages: tuple[AveragePool, ...], weight: FloatArray) -> FloatArray:
    """Weights `[O, C H W]` on the maps before the pools, from weights `[O, C H' W']` on the maps after them."""
    for pool in reversed(averages):
        rows, columns = pool.rows.astype(np.float64), pool.columns.astype(np.float64)
        maps = weight.reshape(weight.shape[0], -1, *pool.out_size)
        maps = np.einsum("ochw,hH,wW->ocHW", maps, rows, columns, optimize=True)
        weight = maps.reshape(weight.shape[0], -1)
    return weight


@dataclass(frozen=True, slots=True)
class MergedKernel:
    """A convolution that includes the average pools before it.

    Attributes:
        weight: Its kernel.
        stride: Its stride.
        padding: Its padding.
        cut: Rows and columns to be removed first from the end of the map.
    """

    weight: FloatArray
    stride: Pair
    padding: Pair
    cut: Pair


def before_kernel(
    averages: tuple[AveragePool, ...], weight: FloatArray, stride: Pair, padding: Pair
) -> MergedKernel | None:
    """Average pools followed by a convolution without dilation, as one convolution; None if it would not be the same.

    It is the same if the pools tile the map or the convolution is not padded. If the tiles do not divide the size of the
    map, its last rows and columns have to be removed first.
    """
    own = padding
    for pool in reversed(averages):
        tiles = pool.kernel == pool.stride and pool.padding == (0, 0)
        if pool.kernel is None or (padding != (0, 0) and not tiles):
            return None  # zeros would be averaged, or windows differ
        weight = kernels.after_average(weight, pool.kernel, pool.stride)
        stride = (stride[0] * pool.stride[0], stride[1] * pool.stride[1])
        padding = (
            padding[0] * pool.stride[0] + pool.padding[0],
            padding[1] * pool.stride[1] + pool.padding[1],
        )
    if max(*weight.shape[2:], *stride, *padding) > kernels.EIGHT_BITS:
        return None
    factor = [prod(pool.stride[axis] for pool in averages) for axis in (0, 1)]
    lost = [n % f if p else 0 for n, f, p in zip(averages[0].in_size, factor, own, strict=True)]
    return MergedKernel(weight, stride, padding, (lost[0], lost[1]))
