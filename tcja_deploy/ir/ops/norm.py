"""Batch normalisation with recorded statistics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.ir.op import Array, Op
from tcja_deploy.ir.ops.numeric import float32
from tcja_deploy.ir.signal import Kind, Signal

__all__ = ["BatchNorm1d", "BatchNorm2d"]


@dataclass(frozen=True, eq=False)
class _BatchNorm(Op):
    """`y[c] = (x[c] - mean[c]) / sqrt(var[c] + eps) * gamma[c] + beta[c]` along one axis. Result kind: real.

    Attributes:
        gamma: Scale `[C]`.
        beta: Offset `[C]`.
        mean: Running mean `[C]`.
        var: Running variance `[C]`.
        eps: Added to the variance.
    """

    channel_axis: ClassVar[int]

    gamma: Array
    beta: Array
    mean: Array
    var: Array
    eps: float = 1e-5

    def faults(self) -> list[str]:
        shapes = [a.shape for a in (self.gamma, self.beta, self.mean, self.var)]
        found = []
        if len(set(shapes)) > 1 or self.gamma.ndim != 1:
            found.append(f"gamma, beta, mean and var have shapes {', '.join(map(str, shapes))}")
        if not (self.var.astype(np.float64) + self.eps > 0).all():
            found.append(f"a variance plus eps = {self.eps} is not positive")
        return found

    def infer(self, *inputs: Signal, T: int) -> Signal:
        (x,) = inputs
        self._require(len(x.dims) >= -self.channel_axis, f"batch normalisation of {x} has no channel axis")
        got, need = x.dims[self.channel_axis], len(self.gamma)
        self._require(got == need, f"{need} channels are normalised, the input has {got}")
        return x.with_kind(Kind.REAL)

    def scale_offset(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Per-channel factor and offset of the equivalent affine map."""
        k = self.gamma.astype(np.float64) / np.sqrt(self.var.astype(np.float64) + self.eps)
        return k, self.beta - self.mean * k

    def apply(self, *x: Array) -> Array:
        k, b = self.scale_offset()
        shape = (-1,) + (1,) * (-self.channel_axis - 1)
        return float32(x[0] * k.reshape(shape) + b.reshape(shape))


@dataclass(frozen=True, eq=False)
class BatchNorm2d(_BatchNorm):
    """Batch normalisation of `[..., C, H, W]`: `y[c] = (x[c] - mean[c]) / sqrt(var[c] + eps) * gamma[c] + beta[c]`."""

    channel_axis: ClassVar[int] = -3


@dataclass(frozen=True, eq=False)
class BatchNorm1d(_BatchNorm):
    """Batch normalisation of `[..., C]`: `y[c] = (x[c] - mean[c]) / sqrt(var[c] + eps) * gamma[c] + beta[c]`."""

    channel_axis: ClassVar[int] = -1
