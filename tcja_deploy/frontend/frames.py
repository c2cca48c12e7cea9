"""Frames that code takes out of windows: `x[t]`, `x[:, t]`, `x.unbind(0)`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tcja_deploy.frontend.loops import TimeLoops
from tcja_deploy.frontend.proxy import Proxy
from tcja_deploy.unsupported import Unsupported

__all__ = ["frame_of", "frames_of"]


def frame_of(tr: Any, loops: TimeLoops, x: Any, index: Any) -> Any:
    """One time step of a window; `None` if the index asks for something else."""
    if not isinstance(x, Proxy) or x.traced.view != "window" or x.traced.pair or x.traced.blank:
        return None
    items = [*index] if isinstance(index, tuple) else [index]
    if Ellipsis in items:
        i = items.index(Ellipsis)
        items[i : i + 1] = [slice(None)] * (x.ndim + 1 - len(items) + items.count(None))
    numbers = [i for i, item in enumerate(items) if type(item) is int]
    for i in numbers:
        position = i - items[:i].count(None)
        if position >= x.ndim or not -x.shape[position] <= items[i] < x.shape[position]:
            return None
        label = f"{tr.here}.frame".lstrip(".")
        try:
            frame = loops.frame(label, x.traced, position, items[i] % x.shape[position])
        except Unsupported:  # a tensor whose axes are not certain
            return None
        if frame is not None:
            proxy = tr.made(replace(frame, storage=x.traced.storage, stale=x.traced.stale))
            rest = (*items[:i], *items[i + 1 :])
            return proxy if all(r == slice(None) for r in rest) else proxy[rest]
    return None


def frames_of(tr: Any, loops: TimeLoops, x: Proxy, dim: int = 0) -> Any:
    """All time steps of a window; `None` if `dim` is another axis."""
    lead = (slice(None),) * (dim % x.ndim)
    if frame_of(tr, loops, x, (*lead, 0)) is None:
        return None
    return tuple(frame_of(tr, loops, x, (*lead, i)) for i in range(x.shape[dim]))
