"""Rules for functions and tensor methods that repeat a tensor or put several side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from tcja_deploy.frontend.context import RuleContext
from tcja_deploy.frontend.layout import LAYOUT, axis, numbers, reshape
from tcja_deploy.frontend.traced import Traced
from tcja_deploy.ir import ops as ir
from tcja_deploy.unsupported import UnsupportedInContext

__all__ = ["COPIES"]


def _repeat(tr: RuleContext, label: str, x: Traced, *sizes: Any) -> Traced:
    times, rank = numbers(sizes), len(x.shape(tr.T))
    if times[len(times) - rank :] == (1,) * rank and all(n == 1 for n in times[: len(times) - rank]):
        return reshape(tr, label, x, [*times[: len(times) - rank], *x.shape(tr.T)])
    if x.view in ("image", "lone") and (whole := _over_time(tr, label, x, times)) is not None:
        return whole
    new = len(times) - rank
    if x.view in ("image", "lone") and any(n > 1 for n in times[: new + 1]):
        raise UnsupportedInContext(
            f"repeats a tensor {times} times",
            f"repeat the image over the {tr.T} time steps, or name the right T",
        )
    if new < 0:
        raise UnsupportedInContext(f"repeats a tensor of {rank} axes {times} times")
    y = reshape(tr, label, x, [*(1,) * new, *x.shape(tr.T)]) if new else x
    for place, copies in enumerate(times):
        if copies > 1:
            inner = axis(y, place, tr.T)
            if not isinstance(y.signal.dims[inner], int):
                raise UnsupportedInContext(
                    f"repeats a tensor {times} times",
                    f"only an image (over the {tr.T} time steps) and features can be repeated",
                )
            y = tr.emit(label, ir.Concat(inner), *[y] * copies)
    return y


def _over_time(tr: RuleContext, label: str, x: Traced, times: tuple[int, ...]) -> Traced | None:
    """An image repeated over time, the time axis where the code has it; `None` for other repetitions."""
    shape, rank = x.shape(tr.T), len(x.shape(tr.T))
    new = len(times) - rank
    seen = [*(1,) * new, *shape]
    at = [i for i, n in enumerate(times) if n != 1]
    if (
        new not in (0, 1)
        or len(at) != 1
        or times[at[0]] != tr.T
        or at[0] > 1
        or seen[at[0]] != 1
        or (new and at != [0])
    ):
        return None
    if new or x.view == "lone":
        return replace(x, view="window") if at == [0] else None
    if at == [0]:
        return None
    # [N, 1, ...] becomes [N, T, ...]
    dims = x.signal.dims
    y = tr.emit(f"{label}.image", ir.Reshape((*dims[:2], *dims[3:]), (0, 1)), x)
    return _time_second(tr, label, y)


def _time_second(tr: RuleContext, label: str, x: Traced) -> Traced:
    order = (1, 0, *range(2, len(x.signal.dims)))
    return replace(tr.emit(f"{label}.batch_first", ir.Permute(order), x), view="window")


def _expand(tr: RuleContext, label: str, x: Traced, *sizes: Any) -> Traced:
    asked, shape = numbers(sizes), x.shape(tr.T)
    new = len(asked) - len(shape)
    full = (*asked[:new], *(n if a == -1 else a for a, n in zip(asked[new:], shape, strict=True)))
    if full == shape:
        return x
    if any(n not in (a, 1) for a, n in zip(full[new:], shape, strict=True)):
        raise UnsupportedInContext(f"cannot expand {shape} to {full}")
    if x.view in ("image", "lone"):
        times = (*full[:new], *(a // n for a, n in zip(full[new:], shape, strict=True)))
        if (whole := _over_time(tr, label, x, times)) is not None:
            return whole
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
    first = tensors[0]
    copies = all(t.name == first.name for t in tensors) and len(tensors) == tr.T
    if copies and first.view == "image" and dim == 1:
        return _time_second(tr, label, first)
    return _cat(tr, label, [LAYOUT["unsqueeze"](tr, f"{label}.part", t, dim) for t in tensors], dim)


COPIES: dict[str, Callable[..., Traced]] = {
    "cat": _cat,
    "concat": _cat,
    "expand": _expand,
    "expand_as": _expand_as,
    "repeat": _repeat,
    "stack": _stack,
    "tile": _repeat,
}
"""Rules by name: `(tracer, label, tensor, arguments) -> tensor`."""
