"""Rules for functions and tensor methods that move, merge, split, repeat or name axes.

Axes are translated from what the code sees to the axes of the IR value (see ``traced.View``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise, product
from typing import Any

from tcja_deploy.errors import GraphError
from tcja_deploy.frontend.context import RuleContext
from tcja_deploy.frontend.traced import SAMPLES, OtherReading, Traced, View
from tcja_deploy.ir import Dim
from tcja_deploy.ir import ops as ir
from tcja_deploy.unsupported import Unsupported, UnsupportedInContext

__all__ = ["LAYOUT", "axes", "axis", "name_time", "narrow", "reshape", "time_first"]


def axis(x: Traced, number: int, T: int) -> int:
    """The IR axis of an axis that the code sees.

    Raises:
        Unsupported: If the axis does not exist or holds samples.
    """
    rank = len(x.shape(T))
    if not -rank <= number < rank:
        raise UnsupportedInContext(f"there is no axis {number} in a tensor of {rank} axes")
    number %= rank
    if x.view == "window" or (x.view == "lone" and number):
        return number
    if number == 0:
        what = "samples and time steps lie" if x.view == "batch" else "samples lie"
        raise OtherReading(f"works on the first axis, where {what}", "name the feature axes")
    return number + (x.lead - 1 if x.view == "batch" else 1)


def axes(x: Traced, dim: Any, T: int) -> tuple[int, ...]:
    """The IR axes of one or several axes that the code sees.

    Raises:
        Unsupported: If they are not named: a reduction over everything would mix samples.
    """
    if dim is None:
        raise Unsupported("reduces over all axes, samples included", "name the axes")
    return tuple(axis(x, d, T) for d in ([dim] if isinstance(dim, int) else dim))


def reshape(tr: RuleContext, label: str, x: Traced, target: Iterable[int]) -> Traced:
    """The same elements under another shape, as the code sees it; finds out which axes are T and N.

    Raises:
        UnsupportedInContext: If elements would change their sample or time step.
    """
    shape = list(target)
    total = math.prod(x.shape(tr.T))
    if -1 in shape:
        shape[shape.index(-1)] = total // max(1, -math.prod(shape))
    if math.prod(shape) != total:
        raise UnsupportedInContext(f"cannot view {x.shape(tr.T)} as {tuple(shape)}")
    for view, lead, lengths in _readings(tr, x, shape):
        op = _reshape_op(tr, x, lengths, lead)
        if op is not None:
            y = x if op.dims == x.signal.dims else tr.emit(label, op, x)
            return replace(y, view=view, lead=lead)
    raise UnsupportedInContext(
        f"the view of {x.shape(tr.T)} as {tuple(shape)} mixes samples or time steps with features"
    )


def _readings(tr: RuleContext, x: Traced, shape: list[int]) -> list[tuple[View, int, list[int]]]:
    """What a shape that the code asks for may mean: view, leading axes that have to stay, lengths of the IR value."""
    if x.view == "frame":
        return [("frame", 2, [tr.T, *shape])]
    if x.view in ("image", "lone"):
        with_time: list[tuple[View, int, list[int]]] = [("lone", 2, [tr.T, *shape[1:]])]
        return [*(with_time if shape[:1] == [1] else []), ("image", 2, [tr.T, *shape])]
    full = x.signal.shape(tr.T, SAMPLES)
    folded: list[tuple[View, int, list[int]]] = [
        ("batch", lead, [*full[:lead], *shape[1:]])
        for lead in range(2, len(full) + 1)
        if "N" in x.signal.dims[:lead] and [math.prod(full[:lead])] == shape[:1]
    ]
    return [("window", 0, shape), *folded]


def _reshape_op(tr: RuleContext, x: Traced, lengths: list[int], lead: int) -> ir.Reshape | None:
    """The reshape to ``lengths`` that keeps every element's sample, its time step if possible, and the first ``lead`` axes."""
    named = [i for i, d in enumerate(x.signal.dims) if isinstance(d, str)]
    without_time = [i for i in named if x.signal.dims[i] != "T"]
    for kept in (named, without_time):
        wanted = [tr.T if x.signal.dims[i] == "T" else SAMPLES for i in kept]
        for places in product(*([i for i, n in enumerate(lengths) if n == length] for length in wanted)):
            if list(places) != sorted(set(places)):
                continue
            dims: list[Dim] = list(lengths)
            for axis_before, place in zip(kept, places, strict=True):
                dims[place] = x.signal.dims[axis_before]
            op = ir.Reshape(tuple(dims), tuple(kept))
            if op.dims[:lead] == x.signal.dims[:lead] and _accepts(op, x, tr.T):
                return op
    return None


def _accepts(op: ir.Reshape, x: Traced, T: int) -> bool:
    try:
        op.infer(x.signal, T=T)
    except GraphError:
        return False
    return True


def name_time(tr: RuleContext, label: str, x: Traced, position: int) -> Traced:
    """``x`` with its plain axis of length T named as time; ``x`` itself where it has no such axis there."""
    dims = x.signal.dims
    if "T" in dims or not 0 <= position < len(dims) or dims[position] != tr.T:
        return x
    renamed: tuple[Dim, ...] = (*dims[:position], "T", *dims[position + 1 :])
    named = tuple(i for i, d in enumerate(renamed) if isinstance(d, str))
    return tr.emit(f"{label}.time", ir.Reshape(renamed, named), x)


def _view(tr: RuleContext, label: str, x: Traced, *shape: Any) -> Traced:
    return reshape(tr, label, x, _sizes(shape))


def _sizes(arguments: Sequence[Any]) -> tuple[int, ...]:
    """Numbers given one by one or as one sequence."""
    one = len(arguments) == 1 and isinstance(arguments[0], tuple | list)
    return tuple(arguments[0] if one else arguments)


def _flatten(tr: RuleContext, label: str, x: Traced, start_dim: int = 0, end_dim: int = -1) -> Traced:
    shape = x.shape(tr.T)
    start, end = start_dim % len(shape), end_dim % len(shape)
    first_feature = 2 if x.view in ("window", "lone") else 1
    if x.signal.streams and (start, end) == (first_feature, len(shape) - 1) and len(x.signal.dims) > 3:
        return tr.emit(label, ir.Flatten(), x)
    return reshape(tr, label, x, [*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :]])


def _unflatten(tr: RuleContext, label: str, x: Traced, dim: int, sizes: Sequence[int]) -> Traced:
    shape = x.shape(tr.T)
    dim %= len(shape)
    inner = list(sizes)
    if -1 in inner:
        inner[inner.index(-1)] = shape[dim] // max(1, -math.prod(inner))
    return reshape(tr, label, x, [*shape[:dim], *inner, *shape[dim + 1 :]])


def _unsqueeze(tr: RuleContext, label: str, x: Traced, dim: int) -> Traced:
    shape = list(x.shape(tr.T))
    shape.insert(dim % (len(shape) + 1), 1)
    return reshape(tr, label, x, shape)


def _squeeze(tr: RuleContext, label: str, x: Traced, dim: Any = None) -> Traced:
    shape = x.shape(tr.T)
    drop = (
        range(len(shape))
        if dim is None
        else [d % len(shape) for d in ([dim] if isinstance(dim, int) else dim)]
    )
    return reshape(tr, label, x, [n for i, n in enumerate(shape) if i not in drop or n != 1])


def _permute(tr: RuleContext, label: str, x: Traced, *dims: Any) -> Traced:
    order = tuple(i % len(x.shape(tr.T)) for i in _sizes(dims))
    tr.note_first_op(x, order)
    if x.view != "window":
        if order[0] != 0:
            raise OtherReading(
                "moves the first axis, where samples lie", "keep samples and time steps where they are"
            )
        lead = x.lead if x.view == "batch" else 2
        if x.view != "lone":
            order = (*range(lead), *(i + lead - 1 for i in order[1:]))
    return x if order == tuple(range(len(order))) else tr.emit(label, ir.Permute(order), x)


def _transpose(tr: RuleContext, label: str, x: Traced, dim0: int, dim1: int) -> Traced:
    order = list(range(len(x.shape(tr.T))))
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return _permute(tr, label, x, order)


def _movedim(tr: RuleContext, label: str, x: Traced, source: int, destination: int) -> Traced:
    rank = len(x.shape(tr.T))
    order = [i for i in range(rank) if i != source % rank]
    order.insert(destination % rank, source % rank)
    return _permute(tr, label, x, order)


# -- parts ------------------------------------------------------------------------------------------------------------
def time_first(tr: RuleContext, label: str, x: Traced, axis_of_time: int) -> Traced | None:
    """A window as a stream, with its IR axis ``axis_of_time`` in front; ``None`` if that axis is not time."""
    dims = x.signal.dims
    if "T" not in dims and axis_of_time < 2 and "N" in dims[:2]:
        x = name_time(tr, label, x, axis_of_time)
    if x.view != "window" or x.signal.dims[axis_of_time] != "T":
        return None
    if axis_of_time == 0:
        return x
    order = (axis_of_time, *(i for i in range(len(dims)) if i != axis_of_time))
    return tr.emit(f"{label}.time_first", ir.Permute(order), x)


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
                raise UnsupportedInContext(f"reads element {item} of an axis of {length}")
            item = slice(item % length, item % length + 1)
            dropped.append(position)
        x = narrow(tr, label, x, position, *item.indices(length))
    shape: list[int | None] = [*x.shape(tr.T)]
    for position in dropped:
        shape[position] = None
    for position, item in enumerate(items):
        if item is None:
            shape.insert(position, 1)
    return reshape(tr, label, x, [n for n in shape if n is not None])


def narrow(
    tr: RuleContext, label: str, x: Traced, dim: int, start: int, stop: int, stride: int = 1
) -> Traced:
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
    return narrow(tr, label, x, dim, start % x.shape(tr.T)[dim], start % x.shape(tr.T)[dim] + length)


def _split(tr: RuleContext, label: str, x: Traced, sizes: Any, dim: int = 0) -> tuple[Traced, ...]:
    dim %= len(x.shape(tr.T))
    length = x.shape(tr.T)[dim]
    if isinstance(sizes, int):
        sizes = [min(sizes, length - start) for start in range(0, length, sizes)]
    bounds = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
    return tuple(narrow(tr, label, x, dim, a, b) for a, b in pairwise(bounds))


def _chunk(tr: RuleContext, label: str, x: Traced, chunks: int, dim: int = 0) -> tuple[Traced, ...]:
    return _split(tr, label, x, -(-x.shape(tr.T)[dim] // chunks), dim)


def _unbind(tr: RuleContext, label: str, x: Traced, dim: int = 0) -> tuple[Traced, ...]:
    return tuple(_select(tr, label, x, dim, i) for i in range(x.shape(tr.T)[dim]))


# -- copies along an axis -------------------------------------------------------------------------------------------
def _repeat(tr: RuleContext, label: str, x: Traced, *sizes: Any) -> Traced:
    times, rank = _sizes(sizes), len(x.shape(tr.T))
    if times[len(times) - rank :] == (1,) * rank and all(n == 1 for n in times[: len(times) - rank]):
        return reshape(tr, label, x, [*times[: len(times) - rank], *x.shape(tr.T)])
    axis_of_time = rank if x.view == "image" else rank - 1
    if (
        x.view in ("image", "lone")
        and len(times) == axis_of_time + 1
        and times == (tr.T, *(1,) * axis_of_time)
    ):
        return replace(x, view="window")
    raise Unsupported(
        f"repeats a tensor {times} times",
        f"only an image can be repeated, over the {tr.T} time steps; features broadcast by themselves",
    )


def _expand(tr: RuleContext, label: str, x: Traced, *sizes: Any) -> Traced:
    asked, shape = _sizes(sizes), x.shape(tr.T)
    new = len(asked) - len(shape)
    full = (*asked[:new], *(n if a == -1 else a for a, n in zip(asked[new:], shape, strict=True)))
    if full == shape:
        return x
    if any(n not in (a, 1) for a, n in zip(full[new:], shape, strict=True)):
        raise UnsupportedInContext(f"cannot expand {shape} to {full}")
    over_time = full == ((tr.T, *shape) if x.view == "image" else (tr.T, *shape[1:]))
    if x.view in ("image", "lone") and over_time:
        return replace(x, view="window")
    return replace(x, expanded=full)


def _expand_as(tr: RuleContext, label: str, x: Traced, other: Traced) -> Traced:
    return _expand(tr, label, x, *other.shape(tr.T))


def _cat(tr: RuleContext, label: str, tensors: Sequence[Traced], dim: int = 0) -> Traced:
    first = tensors[0]
    if len({(t.view, t.lead) for t in tensors}) != 1:
        raise UnsupportedInContext("puts tensors side by side that are seen in different ways")
    copies = all(t.name == first.name for t in tensors) and len(tensors) == tr.T
    if first.view == "lone" and dim in (0, -len(first.shape(tr.T))) and copies:
        return replace(first, view="window")
    if len(tensors) == 1:
        return first
    return tr.emit(label, ir.Concat(axis(first, dim, tr.T)), *tensors)


def _stack(tr: RuleContext, label: str, tensors: Sequence[Traced], dim: int = 0) -> Traced:
    return _cat(tr, label, [_unsqueeze(tr, f"{label}.part", t, dim) for t in tensors], dim)


# -- the same tensor -------------------------------------------------------------------------------------------------
def _same(tr: RuleContext, label: str, x: Traced, *_: Any, **__: Any) -> Traced:
    return x


def _to(tr: RuleContext, label: str, x: Traced, *where: Any, **named: Any) -> Traced:
    import torch

    other = [a for a in (*where, *named.values()) if isinstance(a, torch.dtype) and a != torch.float32]
    if other:
        raise Unsupported(f"converts to {other[0]}", "deployed networks compute in float32")
    return x


LAYOUT: dict[str, Callable[..., Traced | tuple[Traced, ...]]] = {
    "cat": _cat,
    "chunk": _chunk,
    "clone": _same,
    "concat": _cat,
    "contiguous": _same,
    "cpu": _same,
    "cuda": _same,
    "detach": _same,
    "expand": _expand,
    "expand_as": _expand_as,
    "flatten": _flatten,
    "float": _same,
    "getitem": _getitem,
    "movedim": _movedim,
    "narrow": _narrow,
    "permute": _permute,
    "repeat": _repeat,
    "requires_grad": _same,
    "reshape": _view,
    "select": _select,
    "split": _split,
    "split_with_sizes": _split,
    "squeeze": _squeeze,
    "stack": _stack,
    "swapaxes": _transpose,
    "to": _to,
    "transpose": _transpose,
    "type": _to,
    "type_as": _same,
    "unbind": _unbind,
    "unflatten": _unflatten,
    "unsqueeze": _unsqueeze,
    "view": _view,
}
"""Rules by name: ``(tracer, label, tensor, arguments) -> tensor``."""
