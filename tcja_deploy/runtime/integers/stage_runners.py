"""Stages of the twin other than layers: gates and synapses over any number of frames, populations and relays frame by frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tcja_deploy.runtime.integers.edges import AnyStage, synapse_bound
from tcja_deploy.runtime.integers.gate_arithmetic import gate_values
from tcja_deploy.runtime.integers.layer_runner import LIMIT, LayerCounts, LayerRunner
from tcja_deploy.runtime.integers.layers import GateStage, LayerStage
from tcja_deploy.runtime.integers.stage_arithmetic import (
    NeuronParameters,
    RelayParameters,
    neuron_step,
    relay_step,
)
from tcja_deploy.runtime.integers.stages import (
    Edge,
    IntArray,
    NeuronStage,
    ProgramStage,
    RelayStage,
    SynapseStage,
)

__all__ = [
    "PopulationRunner",
    "SynapseRunner",
    "count_sent",
    "integer_gate",
    "run_gate",
    "run_program",
    "run_stage",
]

CONV_MAX = 1 << 23


def integer_gate(gate: GateStage, counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Gate integers `[T, N, C]` for payload sums `[T, N, C]` over the pixels of the maps."""
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
    """Payloads `[T * N, C, H', W']` of a window of spikes `[T * N, C, H, W]`, both floats."""
    sums = (
        spikes.sum((2, 3), dtype=torch.float64)
        .numpy()
        .astype(np.int64)
        .reshape(-1, samples, gate.in_shape[0])
    )
    values = integer_gate(gate, sums).reshape(-1, gate.in_shape[0], 1, 1)
    factor = torch.as_tensor(values, dtype=spikes.dtype)
    payload = _pool_payload(spikes, gate) * factor
    counts.peak = max(counts.peak, int(payload.max()))
    return payload


def run_program(stage: ProgramStage, windows: Sequence[IntArray], counts: LayerCounts) -> IntArray:
    """Payloads `[T, N, ...]` of windows `[T, N, ...]` of each input, int64."""
    frames, samples = windows[0].shape[:2]
    if stage.frames == 1:
        parts = [window.reshape(-1, 1, *window.shape[2:]) for window in windows]
        sent = stage.program.run(*parts).reshape(frames, samples, *stage.out_shape)
    else:
        sent = stage.program.run(*(window.swapaxes(0, 1) for window in windows)).swapaxes(0, 1)
    counts.peak = max(counts.peak, int(np.abs(sent).max(initial=0)))
    return sent


class SynapseRunner:
    """A synapse without neurons.

    Args:
        stage: The synapse.
        received: What it receives, whose bound tells whether sums may wrap.
    """

    def __init__(self, stage: SynapseStage, received: Edge) -> None:
        self.stage = stage
        bound = synapse_bound(stage, received)
        self._wraps = stage.kind != "dense" and bound >= CONV_MAX
        self._weight = torch.as_tensor(stage.weight, dtype=torch.float64)

    def advance(self, x: Tensor, counts: LayerCounts) -> Tensor:
        """Sums `[B, ...]`, float64, of payloads `[B, ...]`."""
        stage, weight, x = self.stage, self._weight, x.double()
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
        if self._wraps:
            wrapped = torch.remainder(sums + CONV_MAX, 2 * CONV_MAX) - CONV_MAX
            counts.wraps += int(torch.count_nonzero(wrapped != sums))
            sums = wrapped
        counts.peak = max(counts.peak, int(sums.abs().max()))
        return sums


class PopulationRunner:
    """Neurons or a relay with their state; `reset` starts a window.

    Attributes:
        stage: The neurons or the relay.
        u: Currents `[N, ...]` of neurons, or 0.
        v: Voltages `[N, ...]` of neurons, membranes of a relay, or 0.
    """

    def __init__(self, stage: NeuronStage | RelayStage) -> None:
        self.stage = stage
        maps = (1,) * (len(stage.shape) - 1)
        bias = stage.bias.reshape(-1, *maps)
        self._parameters: NeuronParameters | RelayParameters
        if isinstance(stage, RelayStage):
            self._parameters = RelayParameters(bias, stage.multiplier, stage.shift, stage.decay, stage.most)
        else:
            threshold = stage.threshold.reshape(-1, *maps) if stage.threshold.ndim else stage.threshold
            self._parameters = NeuronParameters(
                bias, threshold, stage.v_decay, stage.i_decay, stage.reset_value, stage.drop
            )
        self.reset()

    def reset(self) -> None:
        """Set the state to zero."""
        self.u = self.v = np.zeros((), np.int64)

    def advance(self, total: IntArray, counts: LayerCounts) -> IntArray:
        """Spikes or payloads `[N, ...]`, int64, of one frame of summed inputs `[N, ...]`."""
        p = self._parameters
        counts.peak = max(counts.peak, int(np.abs(total + p.bias).max(initial=0)))
        if isinstance(p, RelayParameters):
            self.v, cut = relay_step(p, total, self.v)
            counts.saturations += cut
            return self.v
        spikes, self.u, self.v, wraps = neuron_step(p, total, self.u, self.v)
        counts.wraps += wraps
        counts.saturations += int(np.count_nonzero(np.abs(self.v) >= LIMIT - 1))
        return spikes.astype(np.int64)


def count_sent(stage: AnyStage, sent: NDArray[np.integer], counts: LayerCounts) -> None:
    """Add what a stage sent, `[T, N, ...]`, to its counts; sums of synapses are not spikes."""
    counts.neuron_steps += sent.size
    if not isinstance(stage, SynapseStage):
        counts.spikes += int(np.count_nonzero(sent))


def run_stage(
    stage: AnyStage, received: tuple[Edge, ...], windows: Sequence[NDArray[np.integer]], counts: LayerCounts
) -> NDArray[np.integer]:
    """What one stage sends, `[T, N, ...]`, from what it receives, `[T, N, ...]` of each input.

    It has 32 bits, or 64 where sums of a synapse may need more.

    Args:
        stage: The stage.
        received: Kinds and bounds of the inputs.
        windows: Values of the inputs.
        counts: Tally to add to.
    """
    frames, samples = windows[0].shape[:2]
    if isinstance(stage, ProgramStage):
        sent = run_program(stage, [window.astype(np.int64) for window in windows], counts)
        return sent.astype(np.int32)
    if isinstance(stage, NeuronStage | RelayStage):
        population = PopulationRunner(stage)
        rows = (np.asarray(np.sum([w[t] for w in windows], 0, dtype=np.int64)) for t in range(frames))
        return np.stack([population.advance(row, counts) for row in rows]).astype(np.int32)
    x = torch.from_numpy(windows[0].reshape(-1, *windows[0].shape[2:]).astype(np.float64))
    with torch.inference_mode():
        if isinstance(stage, LayerStage):
            y = LayerRunner(stage).advance(x, samples, counts)
        elif isinstance(stage, SynapseStage):
            y = SynapseRunner(stage, received[0]).advance(x, counts)
        else:
            y = run_gate(stage, x, samples, counts)
    kept = (
        np.int64 if isinstance(stage, SynapseStage) and synapse_bound(stage, received[0]) >> 31 else np.int32
    )
    return y.numpy().reshape(frames, samples, *y.shape[1:]).astype(kept)
