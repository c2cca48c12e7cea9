"""Rules for signals combined with constants that differ by channel, feature or time step, and for normalisation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tcja_deploy.frontend.context import RuleContext
from tcja_deploy.frontend.layout import axis
from tcja_deploy.frontend.traced import Traced
from tcja_deploy.ir import Dim
from tcja_deploy.ir import ops as ir
from tcja_deploy.unsupported import Unsupported

__all__ = ["array", "by_channel", "combined", "number", "weights"]

Numbers = NDArray[np.float32]


def array(tensor: Any) -> Numbers | None:
    """Weights as float32; `None` stays.

    Raises:
        Unsupported: If they are not known before the network runs.
    """
    if tensor is None:
        return None
    if not isinstance(tensor, torch.Tensor):
        raise Unsupported("has weights that depend on the input")
    return np.ascontiguousarray(tensor.detach().cpu().float().numpy())


def weights(tensor: Any) -> Numbers:
    """Weights as float32.

    Raises:
        Unsupported: If there are none, or they are not known before the network runs.
    """
    result = array(tensor)
    if result is None:
        raise Unsupported("has no weight")
    return result


def number(value: Any, x: Traced, T: int) -> float | None:
    """A constant that is the same for all elements of a signal; `None` if it differs among them.

    Raises:
        Unsupported: If it is not a constant.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, torch.Tensor) or not value.numel():
        raise Unsupported(f"combines the signal with a {type(value).__name__}")
    one = value.detach()[(0,) * value.ndim]
    spread = any(s for s, n in zip(value.stride(), value.shape, strict=True) if n > 1)
    if spread and not bool((value.detach() == one).all()):
        return None
    if torch.broadcast_shapes(value.shape, x.shape(T)) != x.shape(T):
        raise Unsupported(
            "repeats the signal to the shape of a constant", "give the constant no more axes than the signal"
        )
    return float(one)


def by_channel(
    tr: RuleContext,
    label: str,
    x: Traced,
    place: int,
    norm: tuple[Numbers, Numbers, Numbers, Numbers],
    eps: float,
) -> Traced:
    """Normalisation `(gamma, beta, mean, var)` along one IR axis, wherever that is; the axes stay where they are."""
    dims = x.signal.dims
    named = [i for d in ("T", "N") for i, v in enumerate(dims) if v == d and i != place]
    order = (*named, place, *(i for i in range(len(dims)) if i not in (*named, place)))
    y = x if order == tuple(range(len(dims))) else tr.emit(f"{label}.channels", ir.Permute(order), x)
    moved = y.signal.dims
    rest = [d for d in moved[len(named) + 1 :] if isinstance(d, int)]
    lead: tuple[Dim, ...] = (*moved[: len(named)], len(norm[0]))
    inside: tuple[Dim, ...] = lead if not rest else (*lead, rest[0], math.prod(rest[1:]))
    op = ir.BatchNorm2d(*norm, eps) if rest else ir.BatchNorm1d(*norm, eps)
    kept = tuple(range(len(named)))
    if inside != moved:
        y = tr.emit(f"{label}.map", ir.Reshape(inside, kept), y)
    y = tr.emit(label, op, y)
    if inside != moved:
        back = kept if moved[len(named)] != "T" else (*kept, len(named))
        y = tr.emit(f"{label}.unmap", ir.Reshape(moved, back), y)
    inverse = tuple(int(i) for i in np.argsort(order))
    return y if inverse == tuple(range(len(dims))) else tr.emit(f"{label}.back", ir.Permute(inverse), y)


def combined(tr: RuleContext, label: str, x: Traced, constant: torch.Tensor, product: bool) -> Traced:
    """`x` times or plus a constant that differs by channel, feature or time step.

    Raises:
        Unsupported: If it differs by sample, or by time step and feature at once.
    """
    shape = x.shape(tr.T)
    if torch.broadcast_shapes(constant.shape, shape) != shape:
        raise Unsupported(
            "repeats the signal to the shape of a constant", "give the constant no more axes than the signal"
        )
    full = constant.detach().float()
    full = full.reshape((1,) * (len(shape) - full.ndim) + tuple(full.shape))
    for i, n in enumerate(full.shape):
        if n > 1 and not full.stride(i):
            full = full.narrow(i, 0, 1)
    varying = {i: axis(x, i, tr.T) for i, n in enumerate(full.shape) if n > 1}
    dims = x.signal.dims
    if len(varying) == 1:
        (place,) = varying.values()
        if dims[place] == "N":
            raise Unsupported(
                "combines the signal with a constant that differs by sample", "treat all samples alike"
            )
        return by_channel(tr, label, x, place, _affine(full.flatten(), product), 0.0)
    lead = next((i for i, d in enumerate(dims) if isinstance(d, int)), len(dims))
    if any(not isinstance(dims[i], int) or i < lead for i in varying.values()) or not all(
        isinstance(d, int) for d in dims[lead:]
    ):
        raise Unsupported(
            "combines the signal with a constant that differs by time step and by feature",
            "use one factor or offset per step, and one per feature",
        )
    features = tuple(d for d in dims[lead:] if isinstance(d, int))
    flat = full.expand(*full.shape[: full.ndim - len(features)], *features).flatten()
    named = tuple(range(lead))
    y = tr.emit(f"{label}.flat", ir.Reshape((*dims[:lead], math.prod(features)), named), x)
    y = tr.emit(label, ir.BatchNorm1d(*_affine(flat, product), 0.0), y)
    return tr.emit(f"{label}.unflat", ir.Reshape(dims, named), y)


def _affine(values: torch.Tensor, product: bool) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """Factors or offsets as a normalisation; neither is rounded: mean 0, variance 1, nothing added to it."""
    given = weights(values)
    one, zero = np.ones_like(given), np.zeros_like(given)
    return (given, zero, zero, one) if product else (one, given, zero, one)
