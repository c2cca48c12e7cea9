"""Observations of a float network on calibration data, and the report on the quantisation of each stage."""

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
"""Number of samples whose values are kept, to measure the error of streams."""


@dataclass(frozen=True, slots=True)
class StageReport:
    """What quantisation did to one stage; rates and events are measured on the calibration data.

    Attributes:
        name: Stage name.
        kind: "conv", "dense", "pool", "gate", "neuron", "relay", "logic" or "program".
        scale: Number of weight steps from rest to the threshold, a mean over channels; of a gate, program or relay, the
            integer that stands for one.
        unit: The integer that stands for a payload of one at the input.
        threshold: Largest threshold; 0 for stages without neurons.
        weight_max: Largest magnitude of a weight; for a pair of synapses, of their joint weight.
        bias_max: Largest magnitude of a bias.
        rounding: Largest rounding error of a weight, in thresholds; of a gate or program, its largest error on the data.
        current: Largest |sum of weights + bias| on the data.
        wraps: Number of currents that wrapped.
        saturations: Number of voltages that saturated.
        rate_float: Spikes per neuron and step of the float network.
        rate_integer: Spikes per neuron and step of the integer network.
        disagreement: Share of neuron-steps that differ.
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
        """Bits that the weights take, sign included; 0 without weights."""
        return self.weight_max.bit_length() + 1 if self.weight_max else 0

    @property
    def threshold_bits(self) -> int:
        """Bits that the threshold takes."""
        return self.threshold.bit_length()


@dataclass(slots=True)
class Observed:
    """Values of one node of the float network.

    Attributes:
        lows: Smallest value of each frame and channel, one `[frames, C]` per batch.
        highs: Largest value of each frame and channel.
        total: Sum of each channel, `[C]`.
        count: Number of values per channel in that sum.
        kept: Values of the first samples, one `[T, n, ...]` per batch.
    """

    lows: list[NDArray[np.float32]] = field(default_factory=list)
    highs: list[NDArray[np.float32]] = field(default_factory=list)
    total: NDArray[np.float64] | float = 0.0
    count: int = 0
    kept: list[NDArray[np.float32]] = field(default_factory=list)

    def peak(self, percentile: float) -> float:
        """A percentile of the frames' largest magnitudes."""
        return float(np.percentile(self.peaks(np.zeros(()), 1.0).max(1), percentile))

    def peaks(self, offset: NDArray[np.float64], gain: float) -> NDArray[np.float64]:
        """Peak magnitude of gain * (value - offset) per frame and channel, `[frames, C]`; the offset is `[C]` or `[]`."""
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
        """Add the values `[T, n, C, ...]` of a batch."""
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
    """Run a graph over calibration frames `[T, N, ...]`, a few samples at a time, and record the values of nodes."""
    seen = {name: Observed() for name in nodes}

    def note(node: Node, value: torch.Tensor) -> None:
        seen[node.name].add(value)

    watch = watching(graph, choice, seen)
    step = max(1, (1 << 22) // max(1, int(np.prod(frames.shape[2:])) * frames.shape[0] * 16))
    for start in range(0, frames.shape[1], step):
        watch(frames[:, start : start + step].astype(np.float32), note)
    return seen


def whole_frames(batches: Iterable[NDArray[Any]]) -> NDArray[Any]:
    """All calibration frames of the batches as one array `[T, N, ...]`.

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
    """Indices of evenly spaced samples, as many as fit into memory at `widest` bytes per frame."""
    most = max(1, CALIBRATION_BYTES // (frames * widest))
    return np.linspace(0, samples - 1, min(samples, most)).astype(np.int64)
