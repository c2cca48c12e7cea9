"""Rules for functions and tensor methods that take out parts of a tensor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

from tcja_deploy.frontend.context import RuleContext
from tcja_deploy.frontend.layout import axis, reshape
from tcja_deploy.frontend.traced import OtherLength, OtherReading, Traced
from tcja_deploy.ir import ops as ir
from tcja_deploy.unsupported import Unsupported, UnsupportedInContext

__all__ = ["PARTS"]


def _getitem(tr: RuleContext, label: str, x: Traced, index: Any) -> Traced:
    items = list(index) if isinstance(index, tuple) else [index]
    if x.pair:
        if items == [0]:
            return replace(x, pair=False)
        raise Unsupported("takes the positions of the largest values", "use the values alone")
    if any(i is Ellipsis for i in items):
        i = next(i for i, item in enumerate(items) if item is Ellipsis)
        kept = sum(j is not None and j is not Ellipsis for j in items)
        items[i : i + 1] = [slice(None)] * (len(x.shape(tr.T)) - kept)
    if not all(item is None or isinstance(item, int | slice) for item in items):
        raise Unsupported(
            "takes out elements by a list or tensor of positions",
            "take slices, and put them together with cat",
        )
    numbers = [i for i in items if i is not None]
    dropped = []
    for position, item in enumerate(numbers):
        length = x.shape(tr.T)[position]
        if isinstance(item, int):
            if not -length <= item < length:
                if x.view == "window" and x.signal.dims[axis(x, position, tr.T)] == "T":
                    raise OtherLength(
                        f"reads time step {item}, counted from 0, of {length}",
                        "pass the number of time steps that the code is written for: timesteps=T, or --timesteps T",
                    )
                raise UnsupportedInContext(f"reads element {item} of an axis of {length}")
            item = slice(item % length, item % length + 1)
            dropped.append(position)
        x = _part(tr, label, x, position, *item.indices(length))
    shape: list[int | None] = [*x.shape(tr.T)]
    for position in dropped:
        shape[position] = None
    for position, item in enumerate(items):
        if item is None:
            shape.insert(position, 1)
    return reshape(tr, label, x, [n for n in shape if n is not None])


def _part(tr: RuleContext, label: str, x: Traced, dim: int, start: int, stop: int, stride: int = 1) -> Traced:
    """Part of an axis that the code sees.

    Raises:
        Unsupported: If it is empty, or takes out samples.
    """
    length = x.shape(tr.T)[dim]
    if (start, stop, stride) == (0, length, 1):
        return x
    if stride < 1 or stop <= start:
        raise Unsupported("takes out an empty or reversed part of a tensor")
    if x.view == "lone" and dim == 0:
        return x
    inner = axis(x, dim, tr.T)
    if x.signal.dims[inner] == "N":
        raise OtherReading("takes out some of the samples", "let forward treat all samples alike")
    return tr.emit(label, ir.Slice(inner, start, stop, stride), x)


def _select(tr: RuleContext, label: str, x: Traced, dim: int, index: int) -> Traced:
    return _getitem(tr, label, x, (*[slice(None)] * (dim % len(x.shape(tr.T))), index))


def _narrow(tr: RuleContext, label: str, x: Traced, dim: int, start: int, length: int) -> Traced:
    dim %= len(x.shape(tr.T))
    return _part(tr, label, x, dim, start % x.shape(tr.T)[dim], start % x.shape(tr.T)[dim] + length)


def _split(tr: RuleContext, label: str, x: Traced, sizes: Any, dim: int = 0) -> tuple[Traced, ...]:
    dim %= len(x.shape(tr.T))
    length = x.shape(tr.T)[dim]
    if isinstance(sizes, int):
        sizes = [min(sizes, length - start) for start in range(0, length, sizes)]
    bounds = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
    return tuple(_part(tr, label, x, dim, a, b) for a, b in pairwise(bounds))


def _chunk(tr: RuleContext, label: str, x: Traced, chunks: int, dim: int = 0) -> tuple[Traced, ...]:
    return _split(tr, label, x, -(-x.shape(tr.T)[dim] // chunks), dim)


def _unbind(tr: RuleContext, label: str, x: Traced, dim: int = 0) -> tuple[Traced, ...]:
    return tuple(_select(tr, label, x, dim, i) for i in range(x.shape(tr.T)[dim]))


PARTS: dict[str, Callable[..., Traced | tuple[Traced, ...]]] = {
    "chunk": _chunk,
    "getitem": _getitem,
    "narrow": _narrow,
    "select": _select,
    "split": _split,
    "split_with_sizes": _split,
    "unbind": _unbind,
}
"""Rules by name: `(tracer, label, tensor, arguments) -> tensor or tensors`."""
