"""Two linear maps in a row, without neurons between them, as one: exact, and worth it if that is less work."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import numpy as np

from tcja_deploy.exporters.lava import kernels
from tcja_deploy.exporters.lava.float_graph import FloatArray, FloatSynapse
from tcja_deploy.ir import ops as ir

__all__ = ["Composed", "composed"]


@dataclass(frozen=True, slots=True, eq=False)
class Composed:
    """A linear map, or a 1x1 convolution with any strides, after another one.

    Attributes:
        synapse: Both as one.
        second: Weights `[O, M]` of the second map, for the bias of the first.
        together: Multiply-accumulates of a frame of the one.
        apart: Those of the two, whose values in between a relay sends.
    """

    synapse: FloatSynapse
    second: FloatArray
    together: int
    apart: int

    @property
    def pays(self) -> bool:
        """Whether the one is no more work than the two."""
        return self.together <= self.apart


def composed(
    node: str,
    op: ir.Linear | ir.Conv2d,
    first: FloatSynapse,
    between: tuple[int, ...],
    after: tuple[int, ...],
) -> Composed | None:
    """The two maps as one; None if a single map could not be the same.

    Args:
        node: Name of the second map's node.
        op: The second map.
        first: The first one.
        between: Shape of a frame between them.
        after: Shape of a frame after both.
    """
    weight = op.weight.astype(np.float64)
    second = weight.reshape(len(weight), -1)
    size = first.weight.size * prod(between[1:]) + second.size * prod(after[1:])
    if isinstance(op, ir.Linear):
        if first.kind != "dense" or len(between) != 1:
            return None
        merged = replace(first, node=node, weight=second @ first.weight)
    else:
        stride = (first.stride[0] * op.stride[0], first.stride[1] * op.stride[1])
        plain = first.kind == "conv" and first.groups == op.groups == 1
        if not plain or weight.shape[2:] != (1, 1) or any(op.padding) or max(stride) > kernels.EIGHT_BITS:
            return None
        kernel = np.einsum("om,mihw->oihw", second, first.weight)
        merged = replace(first, node=node, weight=kernel, stride=stride)
    return Composed(merged, second, merged.weight.size * prod(after[1:]), size)
