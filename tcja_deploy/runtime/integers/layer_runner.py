"""A layer of integers over any number of frames, in float64, which holds them exactly: the reference of the kernels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tcja_deploy.runtime.integers.layers import LayerStage
from tcja_deploy.runtime.integers.stages import UNITY

__all__ = ["LIMIT", "LayerCounts", "LayerRunner", "linear_part", "wrapped_bias"]

LIMIT = 1 << 23
"""Bound on the magnitude of currents and voltages, 2**23."""


@dataclass(slots=True)
class LayerCounts:
    """Counts of one stage, summed over frames and samples."""

    spikes: int = 0
    neuron_steps: int = 0
    wraps: int = 0
    saturations: int = 0
    peak: int = 0
    """Largest |a + bias| of a layer, or largest payload of a gate."""

    def add(self, other: LayerCounts) -> None:
        """Add the counts of other samples."""
        self.spikes += other.spikes
        self.neuron_steps += other.neuron_steps
        self.wraps += other.wraps
        self.saturations += other.saturations
        self.peak = max(self.peak, other.peak)


def linear_part(layer: LayerStage, x: Tensor, weight: Tensor) -> Tensor:
    """The layer's convolution or matrix product of payloads `[N, ...]` with given weights."""
    if layer.kind == "dense":
        return functional.linear(x.flatten(1), weight)
    return functional.conv2d(x, weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)


def wrapped_bias(layer: LayerStage) -> NDArray[np.int64]:
    """Biases `[O]` as Lava keeps them: in 16 bits, which wrap silently."""
    return layer.bias.astype(np.int16).astype(np.int64)


class LayerRunner:
    """One layer with its state (u, v): `advance` takes any number of further frames, `reset` starts a window.

    Attributes:
        layer: The layer.
        u: Currents `[N, ...]`, float64; `None` before the first frame (zeros) and where they have no memory.
        v: Voltages `[N, ...]`, float64; `None` before the first frame (zeros).
    """

    def __init__(self, layer: LayerStage) -> None:
        self.layer = layer
        self.u: Tensor | None = None
        self.v: Tensor | None = None
        self._weight, self._bias, self._threshold = (
            torch.as_tensor(64 * value, dtype=torch.float64)
            for value in (layer.weight, wrapped_bias(layer), layer.threshold)
        )
        if layer.kind != "dense":
            self._bias = self._bias.reshape(-1, 1, 1)
            self._threshold = self._threshold.reshape(-1, 1, 1)

    def reset(self) -> None:
        """Set the state to zero."""
        self.u = self.v = None

    def advance(self, x: Tensor, samples: int, counts: LayerCounts) -> Tensor:
        """Spikes `[B * N, ...]`, float32, of B further frames.

        Args:
            x: Payloads `[B * N, ...]`, the samples of one frame after those of another.
            samples: N.
            counts: Tally to add to.
        """
        return torch.cat([self._exact(frame.double(), counts) for frame in torch.split(x, samples)])

    def _exact(self, x: Tensor, counts: LayerCounts) -> Tensor:
        """One frame, counting the currents that wrap and the voltages that saturate."""
        layer, bias = self.layer, self._bias
        whole = u = linear_part(layer, x, self._weight)
        if layer.kind != "dense":
            u = torch.remainder(u + 64 * LIMIT, 128 * LIMIT) - 64 * LIMIT
        wrapped = u != whole
        counts.peak = max(counts.peak, int((whole + bias).abs().max()) // 64)
        if self.u is not None:
            u = u + torch.trunc(self.u * ((UNITY - layer.i_decay) / UNITY))
        over, under = u > LIMIT, u <= -LIMIT
        counts.wraps += int((over | under | wrapped).sum())
        u = u - 2 * LIMIT * over + 2 * LIMIT * under
        v = u + bias
        if self.v is not None:
            v += torch.trunc(self.v * ((UNITY - layer.v_decay) / UNITY))
        counts.saturations += int((v.abs() >= LIMIT).sum())
        v = v.clamp(-LIMIT + 1, LIMIT - 1)
        spikes = v > self._threshold
        self.u = u if layer.i_decay < UNITY else None
        self.v = v.masked_fill_(spikes, 0)
        return spikes.float()
