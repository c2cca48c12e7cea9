"""The gates of TCJA blocks: two small convolutions and a sigmoid, in a fixed order of sums."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.ir import ops as ir
from tcja_deploy.ir.ops.numeric import sigmoid
from tcja_deploy.runtime.events.compiling import compiled
from tcja_deploy.runtime.threads import share

__all__ = ["tcja_gate"]


def tcja_gate(op: ir.TCJA, z: NDArray[np.float32], threads: int) -> NDArray[np.float32]:
    """The gate `[N, T, C]` of a TCJA block from the means over space `[N, T, C]`; it does not depend on `threads`."""
    tm = cm = None
    if op.tla is not None:
        left, _ = ir.same_padding(op.k_t)
        tm = np.zeros_like(z)
        share(_tla_rows, len(z), threads, z, np.ascontiguousarray(op.tla.transpose(2, 1, 0)), left, tm)
    if op.cla is not None:
        padded = np.pad(z, ((0, 0), (0, 0), ir.same_padding(op.k_c)))
        cm = np.zeros_like(z)
        share(_cla_rows, len(z), threads, padded, op.cla, cm)
    return sigmoid(op.joint(tm, cm))


@compiled
def _tla_rows(lo: int, hi: int, z: Any, weights: Any, left: int, out: Any) -> None:
    """TLA of `z [N, T, C]` with `weights [K, C, C']`: a frame is the sum of those that reach it; a row is a sample."""
    _, T, C = z.shape
    K, _, width = weights.shape
    for n in range(lo, hi):
        for t in range(T):
            for m in range(K):
                source = t + m - left
                if 0 <= source < T:
                    for c in range(C):
                        value = z[n, source, c]
                        if value != 0:
                            for i in range(width):
                                out[n, t, i] += weights[m, c, i] * value


@compiled
def _cla_rows(lo: int, hi: int, padded: Any, weights: Any, out: Any) -> None:
    """CLA of `padded [N, T, C + K - 1]` with `weights [T', T, K]`; a row is a sample."""
    _, T, C = out.shape
    for n in range(lo, hi):
        for t in range(T):
            for source in range(T):
                for m in range(weights.shape[2]):
                    weight = weights[t, source, m]
                    for c in range(C):
                        out[n, t, c] += padded[n, source, m + c] * weight
