"""Rules for functions and tensor methods that move, merge, split, repeat or name axes.

Axes are translated from what the code sees to the axes of the IR value (see `traced.View`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from tcja_deploy.errors import GraphError
from tcja_deploy.frontend.context import RuleContext
from tcja_deploy.frontend.traced import SAMPLES, OtherReading, Traced, View
from tcja_deploy.ir import Dim
from tcja_deploy.ir import ops as ir
from tcja_deploy.unsupported import Unsupported, UnsupportedInContext

__all__ = ["LAYOUT", "axes", "axis", "name_time", "numbers", "reshape", "time_first"]


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
        one: list[tuple[View, int, list[int]]] = [("lone", 2, [tr.T, *shape[1:]])]
        alone = x.step is not None and shape[:1] == [1]
        return [("frame", 2, [tr.T, *shape]), *(one if alone else [])]
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
    """The reshape to `lengths` that keeps every element's sample, its time step if possible, and the first `lead` axes."""
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
    """`x` with its plain axis of length T named as time; `x` itself where it has no such axis there."""
    dims = x.signal.dims
    if "T" in dims or not 0 <= position < len(dims) or dims[position] != tr.T:
        return x
    renamed: tuple[Dim, ...] = (*dims[:position], "T", *dims[position + 1 :])
    named = tuple(i for i, d in enumerate(renamed) if isinstance(d, str))
    return tr.emit(f"{label}.time", ir.Reshape(renamed, named), x)


def _view(tr: RuleContext, label: str, x: Traced, *shape: Any) -> Traced:
    return reshape(tr, label, x, numbers(shape))


def numbers(arguments: Sequence[Any]) -> tuple[int, ...]:
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
    order = tuple(i % len(x.shape(tr.T)) for i in numbers(dims))
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


def time_first(tr: RuleContext, label: str, x: Traced, axis_of_time: int) -> Traced | None:
    """A window as a stream, with its IR axis `axis_of_time` first; `None` if that axis is not time."""
    dims = x.signal.dims
    if "T" not in dims and axis_of_time < 2 and "N" in dims[:2]:
        x = name_time(tr, label, x, axis_of_time)
    if x.view != "window" or x.signal.dims[axis_of_time] != "T":
        return None
    if axis_of_time == 0:
        return x
    order = (axis_of_time, *(i for i in range(len(dims)) if i != axis_of_time))
    return tr.emit(f"{label}.time_first", ir.Permute(order), x)


# -- the same tensor -------------------------------------------------------------------------------------------------
def _same(tr: RuleContext, label: str, x: Traced, *_: Any, **__: Any) -> Traced:
    return x


def _to(tr: RuleContext, label: str, x: Traced, *where: Any, **named: Any) -> Traced:
    import torch

    other = [a for a in (*where, *named.values()) if isinstance(a, torch.dtype) and a != torch.float32]
    if other:
        raise Unsupported(f"converts to {other[0]}", "deployed networks compute in float32")
    return x


LAYOUT: dict[str, Callable[..., Traced]] = {
    "clone": _same,
    "contiguous": _same,
    "cpu": _same,
    "cuda": _same,
    "detach": _same,
    "flatten": _flatten,
    "float": _same,
    "movedim": _movedim,
    "permute": _permute,
    "requires_grad": _same,
    "reshape": _view,
    "squeeze": _squeeze,
    "swapaxes": _transpose,
    "to": _to,
    "transpose": _transpose,
    "type": _to,
    "type_as": _same,
    "unflatten": _unflatten,
    "unsqueeze": _unsqueeze,
    "view": _view,
}
"""Rules by name: `(tracer, label, tensor, arguments) -> tensor`."""
