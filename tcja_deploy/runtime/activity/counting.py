"""Fast and exact integer sums over frames: flags as bytes, zeros and ones in float32 as long as that is exact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tcja_deploy.errors import DataError
from tcja_deploy.runtime.activity.measures import Measure

__all__ = ["count"]

_RUN = 255
"""How many flags an unsigned byte can sum without wrapping."""


def count(
    values: Tensor | NDArray[Any], weights: Sequence[NDArray[np.int64]], *, binary: bool, where: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count the elements of frames, summed per frame.

    Args:
        values: Frames `[k, n, *features]`, on any device.
        weights: Integer weights `[1 or k, *features]`; sums weighted by each are made as well.
        binary: Whether elements are zeros and ones, see `Watch`.
        where: Name of the value, for errors.

    Returns:
        A table `[1 + weights, len(Measure), k, n]` and the non-zeros at each position `[*features]`, both int64.

    Raises:
        DataError: The frames hold numbers that are not finite.
    """
    with torch.inference_mode():
        maps = list(map(torch.from_numpy, weights))
        table, neurons = _count(torch.as_tensor(values), maps, binary=binary, where=where)
        return table.cpu().numpy(), neurons.cpu().numpy()


def _count(x: Tensor, maps: Sequence[Tensor], *, binary: bool, where: str) -> tuple[Tensor, Tensor]:
    features = range(2, x.ndim)
    kept = [a for a in features if any(m.shape[a - 1] > 1 for m in maps)]
    summed = [a for a in features if a not in kept]
    if binary and x.numel() and x.amin() >= 0 and x.amax() <= 1:
        planes = [_sum_binary(x, summed)] * len(Measure)
        neurons = _sum_binary(x.flatten(0, 1), [0])
    else:
        planes, neurons = _planes(x, summed, where)
    table = torch.stack(
        [torch.stack([_total(p) for p in planes])]
        + [torch.stack([_total(p * _squeeze(m, summed).to(p.device)) for p in planes]) for m in maps]
    )
    return table, neurons


def _planes(x: Tensor, summed: Sequence[int], where: str) -> tuple[list[Tensor], Tensor]:
    """All measures summed over some axes, and non-zeros per position, of any numbers."""
    flags = x != 0
    nonzero, neurons = _sum_flags(flags, summed), _sum_flags(flags.flatten(0, 1), [0])
    if torch.equal(nonzero, _sum_flags(x == 1, summed)):  # all elements are zeros and ones
        return [nonzero] * len(Measure), neurons
    unit = _sum_flags(x.abs() == 1, summed)
    whole = _whole(x, where)
    magnitude = torch.where(whole, x, torch.zeros((), dtype=x.dtype, device=x.device)).abs().to(torch.int64)
    payload = magnitude.sum(list(summed)) if summed else magnitude
    return [nonzero, unit, _sum_flags(whole & flags, summed), payload], neurons


def _whole(x: Tensor, where: str) -> Tensor:
    """Which elements are whole numbers."""
    if not x.is_floating_point():
        return torch.ones_like(x, dtype=torch.bool)
    if not torch.isfinite(x).all():
        raise DataError("holds numbers that are not finite", where=where)
    return x == x.round()


def _total(plane: Tensor) -> Tensor:
    """The sum over all axes except the first two."""
    return plane.flatten(2).sum(2) if plane.ndim > 2 else plane


def _squeeze(weights: Tensor, summed: Sequence[int]) -> Tensor:
    """A map `[1 or k, *features]` as `[1 or k, 1, *kept]`."""
    kept = [weights.shape[0], 1, *(s for a, s in enumerate(weights.shape[1:], start=2) if a not in summed)]
    return weights.reshape(kept)


def _sum_flags(flags: Tensor, axes: Sequence[int]) -> Tensor:
    """Number of set flags along some axes, int64; bytes are summed in runs too short to wrap, which is fast."""
    if not axes:
        return flags.to(torch.int64)
    first, *rest = axes
    runs = iter(torch.split(flags.view(torch.uint8), _RUN, first))
    total = next(runs).sum(first, keepdim=True, dtype=torch.uint8).to(torch.int64)
    for run in runs:
        total += run.sum(first, keepdim=True, dtype=torch.uint8)
    return total.sum([first, *rest])


def _sum_binary(x: Tensor, axes: Sequence[int]) -> Tensor:
    """Sum of zeros and ones along some axes, int64; runs of up to 2**24 are summed in float32, which is exact."""
    if not axes:
        return x.to(torch.int64)
    if not x.is_floating_point():
        return x.sum(list(axes), dtype=torch.int64)
    first, *rest = axes
    runs = [
        run.sum(first, keepdim=True, dtype=torch.float32).to(torch.int64)
        for run in torch.split(x, 1 << 24, first)
    ]
    return torch.stack(runs).sum(0).sum([first, *rest])
