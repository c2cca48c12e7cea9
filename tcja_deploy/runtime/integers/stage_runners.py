"""Stages of the twin other than layers: gates and synapses over any number of frames, populations and relays frame by frame."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tcja_deploy.runtime.integers.edges import synapse_bound
from tcja_deploy.runtime.integers.gate_arithmetic import gate_values
from tcja_deploy.runtime.integers.layer_runner import LayerCounts
from tcja_deploy.runtime.integers.layers import GateStage
from tcja_deploy.runtime.integers.stage_arithmetic import neuron_step, relay_step
from tcja_deploy.runtime.integers.stages import Edge, IntArray, NeuronStage, RelayStage, SynapseStage
from tcja_deploy.runtime.integers.sums import EXACT32, float32_is_exact

__all__ = ["PopulationRunner", "SynapseRunner", "integer_gate", "run_gate"]

CONV_MAX = 1 << 23


def integer_gate(gate: GateStage, counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Gate integers (T, N, C) for payload sums (T, N, C) over the pixels of the maps."""
    area = gate.in_shape[1] * gate.in_shape[2]
    fixed = (gate.tla, gate.cla, gate.fusion, gate.fraction, gate.index_bits, gate.table)
    values = gate_values(counts.transpose(1, 0, 2), area, *fixed)
    return values.transpose(1, 0, 2)


def _pool_payload(payload: Tensor, gate: GateStage) -> Tensor:
    pool = gate.pool
    if pool is None:
        return payload
    if pool.kind == "max":
        return functional.max_pool2d(payload, pool.kernel, pool.stride)
    return functional.avg_pool2d(payload, pool.kernel, pool.stride, divisor_override=1)


def run_gate(gate: GateStage, spikes: Tensor, samples: int, counts: LayerCounts) -> Tensor:
    """Payloads (T*N, C, H', W') of a window of spikes (T*N, C, H, W), both float32."""
    sums = spikes.sum((2, 3)).double().numpy().astype(np.int64).reshape(-1, samples, gate.in_shape[0])
    values = integer_gate(gate, sums).reshape(-1, gate.in_shape[0], 1, 1)
    factor = torch.as_tensor(values, dtype=torch.float32)
    payload = _pool_payload(spikes, gate) * factor
    counts.peak = max(counts.peak, int(payload.max()))
    return payload


class SynapseRunner:
    """A synapse without neurons.

    Args:
        stage: Parameters.
        received: What it receives; its bound decides about the arithmetic.
    """

    def __init__(self, stage: SynapseStage, received: Edge) -> None:
        self.stage = stage
        bound = synapse_bound(stage, received)
        self._wraps = stage.kind != "dense" and bound >= CONV_MAX
        self._dtype = torch.float32 if bound < EXACT32 and float32_is_exact() else torch.float64
        self._weight = torch.as_tensor(stage.weight, dtype=self._dtype)

    def advance(self, x: Tensor, counts: LayerCounts) -> Tensor:
        """Sums `[B, ...]`, float64, of payloads `[B, ...]`."""
        stage, weight, x = self.stage, self._weight, x.to(self._dtype)
        if stage.kind == "dense":
            sums = functional.linear(x.flatten(1), weight)
        elif stage.kind == "conv":
            sums = functional.conv2d(
                x, weight, None, stage.stride, stage.padding, stage.dilation, stage.groups
            )
        else:
            sums = functional.conv_transpose2d(
                x,
                weight,
                None,
                stage.stride,
                stage.padding,
                stage.output_padding,
                stage.groups,
                stage.dilation,
            )
        sums = sums.double()
        if self._wraps:
            wrapped = torch.remainder(sums + CONV_MAX, 2 * CONV_MAX) - CONV_MAX
            counts.wraps += int(torch.count_nonzero(wrapped != sums))
            sums = wrapped
        counts.peak = max(counts.peak, int(sums.abs().max()))
        return sums


class PopulationRunner:
    """Neurons or a relay with their state, zero before the first frame; `reset` starts a window.

    Attributes:
        stage: Parameters.
        u: Currents `[N, ...]` of neurons, or 0.
        v: Voltages of neurons, membranes of a relay, or 0.
    """

    def __init__(self, stage: NeuronStage | RelayStage) -> None:
        self.stage = stage
        self.u: IntArray | int = 0
        self.v: IntArray | int = 0
        maps = (1,) * (len(stage.shape) - 1)
        self._bias = stage.bias.reshape(-1, *maps)
        if isinstance(stage, NeuronStage):
            self._threshold = stage.threshold.reshape(-1, *maps) if stage.threshold.ndim else stage.threshold

    def reset(self) -> None:
        """Zero the state."""
        self.u = self.v = 0

    def advance(self, total: IntArray, counts: LayerCounts) -> IntArray:
        """Spikes or payloads `[N, ...]` of one frame of summed inputs `[N, ...]`."""
        stage = self.stage
        counts.peak = max(counts.peak, int(np.abs(total + self._bias).max(initial=0)))
        if isinstance(stage, RelayStage):
            sent, cut = relay_step(
                total, self.v, self._bias, stage.multiplier, stage.shift, stage.bits, stage.decay
            )
            self.v = 0 if stage.decay is None else sent
            counts.saturations += cut
            return sent
        sent, self.u, self.v, wraps, cut = neuron_step(
            total, self.u, self.v, self._bias, self._threshold, stage.v_decay, stage.i_decay,
            stage.reset_value, stage.drop,
        )  # fmt: skip
        counts.wraps += wraps
        counts.saturations += cut
        return sent
