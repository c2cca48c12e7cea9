"""Rounding weights so that the errors of one row cancel on the inputs that occur.

Rounding each weight to the nearest integer ignores that inputs are correlated: neighbouring pixels spike in the same
frames, so rounding errors add up. Here the weights of a neuron are rounded one by one, and each error is passed on to the
weights not rounded yet, in the way that minimises the expected squared error of the sum for the measured second moments
of the inputs. This is optimal brain quantisation in the order and with the Cholesky form of GPTQ (Frantar et al., ICLR
2023, arXiv 2210.17323).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from tcja_deploy.runtime.integers.layers import LayerStage
from tcja_deploy.runtime.integers.stages import SynapseStage

__all__ = ["compensated", "input_rows"]

ROWS = 40_000
BLOCK = 2048
CHUNK = 64
DAMPING = 0.01
"""Share of the mean second moment that is added to the diagonal, as in GPTQ, so that inputs that never occur stay finite."""

Real = NDArray[np.float64]


def input_rows(layer: LayerStage | SynapseStage, payload: NDArray[np.integer]) -> list[Real]:
    """The inputs that are multiplied with the weights: for each group `[rows, I / groups * kH * kW]`.

    Args:
        layer: The layer.
        payload: Calibration payloads `[T, N, ...]`; at most 40,000 rows are drawn from them with a fixed seed.
    """
    rng = np.random.default_rng(0)
    frames = payload.reshape(-1, *payload.shape[2:])
    if layer.kind == "dense":
        chosen = rng.permutation(len(frames))[:ROWS]
        return [frames[chosen].reshape(len(chosen), -1).astype(np.float64)]
    pixels = int(np.prod(layer.out_shape[1:]))
    chosen = np.sort(rng.permutation(len(frames))[: max(1, ROWS // pixels)])
    x = torch.as_tensor(frames[chosen].astype(np.float32))
    columns = functional.unfold(x, layer.weight.shape[2:], layer.dilation, layer.padding, layer.stride)
    rows = columns.permute(0, 2, 1).reshape(-1, columns.shape[1])
    if len(rows) > ROWS:
        rows = rows[torch.as_tensor(rng.permutation(len(rows))[:ROWS])]
    return np.split(rows.double().numpy(), layer.groups, 1)


def compensated(weight: Real, rows: list[Real], most: int) -> NDArray[np.int64]:
    """Integers of magnitude at most `most` for real weights in units of one step.

    Args:
        weight: Weights `[O, ...]`; output channels in the order of the groups.
        rows: For each group, the inputs that `input_rows` returns.
        most: Largest magnitude of the integers.
    """
    flat = weight.reshape(weight.shape[0], -1)
    parts = [
        np.concatenate(
            [
                _block(part[:, i : i + BLOCK].copy(), inputs[:, i : i + BLOCK], most)
                for i in range(0, part.shape[1], BLOCK)
            ],
            1,
        )
        for part, inputs in zip(np.split(flat, len(rows), 0), rows, strict=True)
    ]
    return np.concatenate(parts, 0).reshape(weight.shape)


def _block(weight: Real, inputs: Real, most: int) -> NDArray[np.int64]:
    moments = inputs.T @ inputs / len(inputs)
    order = np.argsort(
        -np.diag(moments), kind="stable"
    )  # the most active first: most weights are left to compensate their errors
    moments = moments[order][:, order]
    moments[np.diag_indices_from(moments)] += DAMPING * np.mean(np.diag(moments)) + np.finfo(np.float64).tiny
    upper = np.linalg.cholesky(np.linalg.inv(moments)).T
    left = weight[:, order].T.copy()  # [inputs, outputs], still to be rounded
    result = np.empty_like(left)
    errors = np.empty_like(left)
    for first in range(0, len(left), CHUNK):
        last = min(first + CHUNK, len(left))
        for k in range(first, last):
            result[k] = np.clip(np.floor(left[k] + 0.5), -most, most)
            errors[k] = (left[k] - result[k]) / upper[k, k]
            left[k + 1 : last] -= upper[k, k + 1 : last, None] * errors[k]
        left[last:] -= upper[first:last, last:].T @ errors[first:last]
    rounded = np.empty(weight.shape, np.int64)
    rounded[:, order] = result.T
    return rounded
