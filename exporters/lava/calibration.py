"""What a float network shows on calibration data, and what quantisation reports of each stage."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tcja_deploy.errors import DataError
from tcja_deploy.ir import Graph, Node
from tcja_deploy.runtime.engines import Choice, watching

__all__ = ["Observed", "StageReport", "observe", "spread", "whole_frames"]

CALIBRATION_BYTES = 1 << 31

SAMPLES = 4
"""Whose values are kept, for the error of streams."""


@dataclass(frozen=True, slots=True)
class StageReport:
    """What quantisation did to one stage; rates and events are those of the calibration data.

    Attributes:
        name: Stage name.
        kind: "conv", "dense", "pool", "gate", "neuron", "relay", "logic" or "program".
        scale: Threshold over payload unit, the number of weight steps to the threshold (its mean per
            channel); 1 / 2**gate_bits of a gate is the reciprocal of its scale.
        unit: The integer that stands for a payload of one at the input.
        threshold: Largest threshold; 0 for gates.
        weight_max: Largest weight; of a pair of synapses, their joint weight.
        bias_max: Largest bias.
        rounding: Largest rounding error of a weight, in thresholds; of a gate, its largest error on the data.
        current: Largest |sum of weights + bias| on the data.
        wraps: Currents that wrapped.
        saturations: Voltages that saturated.
        rate_float: Spikes per neuron and step of the float network.
        rate_integer: Those of the integer network.
        disagreement: Neuron-steps that differ, as a share.
        stream_error: Root mean square error of a relay's stream, in thresholds of the next neuron.
    """

    name: str
    kind: str
    scale: float
    unit: float
    threshold: int
    weight_max: int
    bias_max: int
    rounding: float
    current: int = 0
    wraps: int = 0
    saturations: int = 0
    rate_float: float | None = None
    rate_integer: float | None = None
    disagreement: float | None = None
    stream_error: float | None = None

    @property
    def weight_bits(self) -> int:
        """Bits that the weights take, sign included; 0 for gates."""
        return self.weight_max.bit_length() + 1 if self.weight_max else 0

    @property
    def threshold_bits(self) -> int:
        """Bits that the threshold takes."""
        return self.threshold.bit_length()


@dataclass(slots=True)
class Observed:
    """What the float network shows of one node.

    Attributes:
        lows: Smallest value of each frame and channel, `[frames, C]` each.
        highs: Largest value of each frame and channel.
        total: Sum of each channel, `[C]`.
        count: How many values a channel that is.
        kept: Values of the first samples, `[T, n, ...]` each.
    """

    lows: list[NDArray[np.float32]] = field(default_factory=list)
    highs: list[NDArray[np.float32]] = field(default_factory=list)
    total: NDArray[np.float64] | float = 0.0
    count: int = 0
    kept: list[NDArray[np.float32]] = field(default_factory=list)

    def peak(self, percentile: float) -> float:
        """A percentile of the largest magnitudes of the frames."""
        return float(np.percentile(self.peaks(np.zeros(()), 1.0).max(1), percentile))

    def peaks(self, offset: NDArray[np.float64], gain: float) -> NDArray[np.float64]:
        """Peaks of gain * (value - offset) of each frame and channel, `[frames, C]`; the offset is `[C]` or `[]`."""
        shift = offset.astype(np.float32)
        low, high = np.concatenate(self.lows) - shift, np.concatenate(self.highs) - shift
        return np.asarray(np.maximum(high, -low) * np.float32(gain), np.float64)

    @property
    def mean(self) -> NDArray[np.float64] | float:
        """Mean of each channel."""
        return self.total / max(self.count, 1)

    @property
    def sample(self) -> NDArray[np.float32]:
        """Values of the first samples, `[T, n, ...]`."""
        return np.concatenate(self.kept, 1)

    def add(self, value: torch.Tensor) -> None:
        """Take in values `[T, n, C, ...]`."""
        flat = value.reshape(value.shape[0] * value.shape[1], value.shape[2], -1)
        self.lows.append(flat.amin(2).float().cpu().numpy())
        self.highs.append(flat.amax(2).float().cpu().numpy())
        self.total = self.total + flat.double().sum((0, 2)).cpu().numpy()
        self.count += flat.shape[0] * flat.shape[2]
        room = SAMPLES - sum(part.shape[1] for part in self.kept)
        if room > 0:
            self.kept.append(value[:, :room].cpu().numpy())


def observe(
    graph: Graph, nodes: Collection[str], frames: NDArray[Any], choice: Choice
) -> dict[str, Observed]:
    """Run a graph over calibration frames `[T, N, ...]`, a few samples at a time, and note what nodes do."""
    seen = {name: Observed() for name in nodes}

    def note(node: Node, value: torch.Tensor) -> None:
        seen[node.name].add(value)

    watch = watching(graph, choice, seen)
    step = max(1, (1 << 22) // max(1, int(np.prod(frames.shape[2:])) * frames.shape[0] * 16))
    for start in range(0, frames.shape[1], step):
        watch(frames[:, start : start + step].astype(np.float32), note)
    return seen


def whole_frames(batches: Iterable[NDArray[Any]]) -> NDArray[Any]:
    """All calibration frames `[T, N, ...]` of batches.

    Raises:
        DataError: If there are none.
    """
    parts = [np.asarray(batch) for batch in batches]
    if not parts or sum(part.shape[1] for part in parts) == 0:
        raise DataError(
            "there are no calibration data", hint="pass --data with recordings like those to come"
        )
    return np.concatenate(parts, 1)


def spread(samples: int, frames: int, widest: int) -> NDArray[np.int64]:
    """Evenly spaced samples, as many as fit: `widest` bytes a frame."""
    most = max(1, CALIBRATION_BYTES // (frames * widest))
    return np.linspace(0, samples - 1, min(samples, most)).astype(np.int64)
