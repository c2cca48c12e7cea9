"""A layer of the twin over any number of frames: in float32 where that is proven exact, in float64 otherwise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tcja_deploy.runtime.integers.layers import LayerStage
from tcja_deploy.runtime.integers.stages import UNITY
from tcja_deploy.runtime.integers.sums import EXACT32, FastSums, fits_float32, float32_is_exact, linear_part

__all__ = ["LayerCounts", "LayerRunner", "ones", "plain"]

LIMIT = 1 << 23


@dataclass(slots=True)
class LayerCounts:
    """What happened in one stage, summed over frames and samples."""

    spikes: int = 0
    neuron_steps: int = 0
    wraps: int = 0
    saturations: int = 0
    peak: int = 0
    """Largest |a + bias| of a layer, largest payload of a gate."""

    def add(self, other: LayerCounts) -> None:
        """Take in the counts of other samples."""
        self.spikes += other.spikes
        self.neuron_steps += other.neuron_steps
        self.wraps += other.wraps
        self.saturations += other.saturations
        self.peak = max(self.peak, other.peak)


class LayerRunner:
    """One layer with its state (u, v): `advance` takes any number of further frames, `reset` starts a window.

    Attributes:
        layer: Parameters.
        u: Currents (N, ...) float64, or None before the first frame (zeros) and where they have no memory.
        v: Voltages (N, ...), or None before the first frame (zeros).
    """

    def __init__(self, layer: LayerStage) -> None:
        self.layer = layer
        self.u: Tensor | None = None
        self.v: Tensor | None = None
        self._parameters: dict[torch.dtype, tuple[Tensor, Tensor, Tensor]] = {}
        self._sums: FastSums | None = None
        self._peak32 = -1
        if float32_is_exact():
            while fits_float32(layer, max(1, 2 * self._peak32)) and self._peak32 < EXACT32:
                self._peak32 = max(1, 2 * self._peak32)

    def reset(self) -> None:
        """Zero the state."""
        self.u = self.v = None

    def parameters(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Weight, bias and threshold, each times 64; the threshold in a shape that broadcasts over maps."""
        if dtype not in self._parameters:
            layer = self.layer
            wrapped = layer.bias.astype(np.int16).astype(np.int64)  # Lava keeps 16 bits and wraps silently
            weight, bias, threshold = (
                torch.as_tensor(64 * value, dtype=dtype) for value in (layer.weight, wrapped, layer.threshold)
            )
            if weight.ndim == 4:
                weight = weight.contiguous(memory_format=torch.channels_last)
                threshold = threshold.reshape(-1, 1, 1) if threshold.ndim else threshold  # scalars are fast
            self._parameters[dtype] = weight, bias, threshold
        return self._parameters[dtype]

    def advance(self, x: Tensor, samples: int, peak: int, counts: LayerCounts) -> Tensor:
        """Spikes (B*N, ...) float32 of B further frames.

        Args:
            x: Payloads (B*N, ...), float32, frame-major.
            samples: N.
            peak: Bound on the magnitude of the payloads.
            counts: Tally to add to.
        """
        if peak <= self._peak32:
            spikes = self._fast(x, samples, peak, counts)
            if spikes is not None:
                return spikes
        return torch.cat([self._exact(frame.double(), counts) for frame in _frames(x, samples)])

    def _fast(self, x: Tensor, samples: int, bound: int, counts: LayerCounts) -> Tensor | None:
        """In float32; None, with nothing changed, where a current might wrap."""
        weight, bias, threshold = self.parameters(torch.float32)
        if self._sums is None:
            self._sums = FastSums(self.layer, weight, bias)
        current = self._sums(x, bound)  # 64 (a + bias)
        peak = _peak(current)
        if peak + int(bias.abs().max()) >= LIMIT:
            return None
        keep = (UNITY - self.layer.v_decay) / UNITY
        saturates = max(0 if self.v is None else _peak(self.v), peak / (1 - keep)) >= LIMIT
        steps = _frames(current, samples)
        v = torch.zeros_like(steps[0]) if self.v is None else self.v.float()
        for t in range(steps.shape[0]):
            if keep:  # below 2**22 + 2**23 + 2**21; Tensor.trunc_ takes ten times as long as this division
                v = torch.div(v, 1 / keep, rounding_mode="trunc", out=v).add_(steps[t])
            else:
                v = steps[t]
            if saturates and _peak(v) >= LIMIT:
                counts.saturations += int((v.abs() >= LIMIT).sum())
                v.clamp_(-LIMIT + 1, LIMIT - 1)
            torch.gt(v, threshold, out=steps[t])
            if keep:
                v.addcmul_(v, steps[t], value=-1)
        self.v = v if keep else None
        counts.peak = max(counts.peak, peak // 64)
        return current  # overwritten: fresh memory would cost more than all arithmetic here

    def _exact(self, x: Tensor, counts: LayerCounts) -> Tensor:
        """One frame in float64, with the wrapping and saturating of the reference, counted."""
        layer = self.layer
        weight, bias, threshold = self.parameters(torch.float64)
        whole = u = linear_part(layer, x, weight, None)
        if layer.kind != "dense":
            u = torch.remainder(u + 64 * LIMIT, 128 * LIMIT) - 64 * LIMIT
        wrapped = u != whole
        bias = bias.reshape(-1, 1, 1) if u.ndim == 4 else bias
        counts.peak = max(counts.peak, int((whole + bias).abs().max()) // 64)
        if self.u is not None:
            u = u + torch.trunc(self.u * ((UNITY - layer.i_decay) / UNITY))
        over, under = u > LIMIT, u <= -LIMIT
        counts.wraps += int((over | under | wrapped).sum())
        u = u - 2 * LIMIT * over + 2 * LIMIT * under
        v = u + bias
        if self.v is not None:
            v += torch.trunc(self.v.double() * ((UNITY - layer.v_decay) / UNITY))
        counts.saturations += int((v.abs() >= LIMIT).sum())
        v = v.clamp(-LIMIT + 1, LIMIT - 1)
        spikes = v > threshold
        self.u = u if layer.i_decay < UNITY else None
        self.v = v.masked_fill_(spikes, 0)
        return spikes.float()


def _frames(x: Tensor, samples: int) -> Tensor:
    """(B*N, ...) as (B, N, ...), a view."""
    return (
        x.view(-1, samples, *x.shape[1:])
        if x.ndim == 2
        else x.as_strided(
            (x.shape[0] // samples, samples, *x.shape[1:]), (samples * x.stride(0), *x.stride())
        )
    )


def _peak(x: Tensor) -> int:
    """Largest magnitude of integers."""
    low, high = torch.aminmax(plain(x))
    return int(max(-low, high))


def ones(x: Tensor) -> int:
    """Number of ones among zeros and ones; a float32 sum is exact below 2**24."""
    return int(plain(x).sum() if x.numel() < EXACT32 else torch.count_nonzero(plain(x)))


def plain(x: Tensor) -> Tensor:
    """The same numbers as a contiguous tensor, without copying maps that are stored channels-last."""
    return x.permute(0, 2, 3, 1) if x.ndim == 4 else x
