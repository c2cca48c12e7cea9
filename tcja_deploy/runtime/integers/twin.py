"""The digital twin: an integer network, window by window, bit-exact with Lava's fixed-point simulation.

Lava runs one pipelined step at a time; the twin runs a layer over the whole window. Both give the same spikes
because the states of every layer start from zero in each window. Integers are carried in floats: each layer
runs in float32 where bounds on its weights and payloads prove that this is exact, in float64 otherwise
(`tcja_deploy.runtime.integers.sums`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tcja_deploy.errors import DataError, UsageError
from tcja_deploy.runtime.integers.edges import AnyStage
from tcja_deploy.runtime.integers.layer_runner import LayerCounts, LayerRunner, ones, plain
from tcja_deploy.runtime.integers.layers import GateStage, LayerStage
from tcja_deploy.runtime.integers.network import HostInput, IntegerNetwork
from tcja_deploy.runtime.integers.stage_runners import PopulationRunner, SynapseRunner, run_gate, run_program
from tcja_deploy.runtime.integers.stages import HOST, NeuronStage, ProgramStage, RelayStage, SynapseStage
from tcja_deploy.runtime.integers.sums import EXACT32

__all__ = ["Twin", "TwinRun", "encode", "runs"]

CHUNK_BYTES = 1 << 28
BLOCK_BYTES = 1 << 24


@dataclass(frozen=True, slots=True)
class TwinRun:
    """Result of a run over N samples.

    Attributes:
        network: What ran.
        payload: (T, N, ...) int32: spikes or payloads of the last stage.
        recorded: Stage name -> (T, N, ...); uint8 spikes of layers, int32 payloads of gates.
        counts: Stage name -> counts.
    """

    network: IntegerNetwork
    payload: NDArray[np.int32]
    recorded: dict[str, NDArray[np.integer]]
    counts: dict[str, LayerCounts]

    @property
    def values(self) -> NDArray[np.float64]:
        """The readout on the host: (N, K), or (T, N, K) where it does not average over time."""
        return self.network.readout(self.payload, self.network.unit)


def encode(host: HostInput, frames: NDArray[np.generic]) -> NDArray[np.int64]:
    """Integer payloads (T, N, ...) that the host sends for frames (T, N, *shape).

    Raises:
        DataError: Frames of another shape, or values that are not the integers the network was made for.
    """
    if frames.ndim < 3 or frames.shape[2:] != host.shape:
        raise DataError(f"frames have the shape {frames.shape}, the network wants (T, N, *{host.shape})")
    if host.scale == 1 and frames.dtype.kind in "iub":
        payload = frames.astype(np.int64)
    else:
        scaled = frames.astype(np.float64) * host.scale
        payload = np.rint(scaled).astype(np.int64)
        if host.scale == 1 and not np.array_equal(payload, scaled):
            raise DataError("frames hold fractions, but the network takes integer event counts")
    if host.binary and payload.size and (payload.min() < 0 or payload.max() > 1):
        raise DataError("frames hold values other than 0 and 1, but the network takes spikes")
    if host.rows is not None and host.columns is not None:
        payload = host.rows @ payload @ host.columns.T
    if host.limbs != (1,):
        payload = np.concatenate([payload * limb for limb in host.limbs], 2)
    return payload


@dataclass(slots=True)
class Twin:
    """An integer network made ready to run; `run` may be called any number of times.

    Attributes:
        network: What to run.
    """

    network: IntegerNetwork
    _runners: dict[str, LayerRunner] = field(init=False, repr=False)
    _synapses: dict[str, SynapseRunner] = field(init=False, repr=False)
    _populations: dict[str, PopulationRunner] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._runners, self._synapses, self._populations = {}, {}, {}
        for stage in self.network.stages:
            if isinstance(stage, LayerStage):
                self._runners[stage.name] = LayerRunner(stage)
            elif isinstance(stage, SynapseStage):
                self._synapses[stage.name] = SynapseRunner(stage, self.network.arrives(stage)[0])
            elif isinstance(stage, NeuronStage | RelayStage):
                self._populations[stage.name] = PopulationRunner(stage)

    def run(
        self, frames: NDArray[np.generic], record: Collection[str] = (), *, encoded: bool = False
    ) -> TwinRun:
        """Run N windows.

        Args:
            frames: Frames of the model's input, (T, N, C, H, W) or (T, N, n).
            record: Names of the stages whose spikes or payloads to return.
            encoded: The frames are integer payloads already, as `encode` returns them.

        Raises:
            DataError: Frames that do not fit the network.
            UsageError: A name in `record` that the network does not have.
        """
        network = self.network
        unknown = sorted(set(record) - {stage.name for stage in network.stages})
        if unknown:
            raise UsageError(f"the integer network has no stage named {', '.join(unknown)}")
        payload = frames.astype(np.int64) if encoded else encode(network.host_input, frames)
        if payload.ndim < 3 or payload.shape[2:] != network.host_input.out_shape:
            raise DataError(f"payloads of {payload.shape} do not fit (T, N, *{network.host_input.out_shape})")
        if payload.shape[0] != network.frames:
            raise DataError(
                f"got {payload.shape[0]} frames a sample, the network was made for T = {network.frames}"
            )
        if payload.shape[1] == 0:
            raise DataError("there is no sample to run")
        if int(np.abs(payload).max()) >= EXACT32:
            raise DataError(f"a payload of {int(np.abs(payload).max())} exceeds the 24 bits of a message")
        widest = max(
            prod(shape) for shape in [payload.shape[2:], *(stage.out_shape for stage in network.stages)]
        )
        chunk = max(1, CHUNK_BYTES // (4 * widest * network.frames))
        counts = {stage.name: LayerCounts() for stage in network.stages}
        parts = [
            self._window(payload[:, i : i + chunk], record, counts) for i in range(0, payload.shape[1], chunk)
        ]
        output = np.concatenate([part[0] for part in parts], 1)
        recorded = {name: np.concatenate([part[1][name] for part in parts], 1) for name in record}
        return TwinRun(network, output, recorded, counts)

    @torch.no_grad()
    def _window(
        self, payload: NDArray[np.int64], record: Collection[str], counts: dict[str, LayerCounts]
    ) -> tuple[NDArray[np.int32], dict[str, NDArray[np.integer]]]:
        """One chunk of samples. Layers in a row take blocks of frames together while they are cached."""
        network, samples = self.network, payload.shape[1]
        x = torch.as_tensor(payload.reshape(-1, *payload.shape[2:]), dtype=torch.float32)
        if x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        window = _Window(samples, counts, {name: [] for name in record}, {HOST: x})
        window.peaks[HOST] = int(np.abs(payload).max())
        waiting = {name: len(network.readers(name)) for name in network.edges}
        for run in runs(network):
            first, last = run[0], run[-1]
            if isinstance(first, LayerStage):
                window.values[last.name] = self._layers(run, window)
            else:
                window.values[first.name] = window.tally(first, self._stage(first, window))
            for name in first.inputs:
                waiting[name] -= 1
                if not waiting[name]:
                    del window.values[name]
        output = window.values[network.stages[-1].name]
        recorded = {name: np.concatenate(frames) for name, frames in window.recorded.items()}
        return output.numpy().astype(np.int32).reshape(-1, samples, *output.shape[1:]), recorded

    def _layers(self, layers: Sequence[AnyStage], window: _Window) -> Tensor:
        """Layers each of which alone reads the one before it."""
        source = layers[0].inputs[0]
        peak = window.peaks.get(source, self.network.edges[source].peak)
        runners = [self._runners[layer.name] for layer in layers]
        for runner in runners:
            runner.reset()
        widest = max(prod(layer.out_shape) for layer in layers)
        block = max(1, BLOCK_BYTES // (4 * widest * window.samples)) * window.samples
        parts = []
        for part in torch.split(window.values[source], block):
            for index, (layer, runner) in enumerate(zip(layers, runners, strict=True)):
                bound = 1 if index else peak
                part = window.tally(
                    layer, runner.advance(part, window.samples, bound, window.counts[layer.name])
                )
            parts.append(part)
        return torch.cat(parts)

    def _stage(self, stage: AnyStage, window: _Window) -> Tensor:
        """One stage of another kind over the whole window."""
        counts, samples = window.counts[stage.name], window.samples
        received = [window.values[name] for name in stage.inputs]
        if isinstance(stage, GateStage):
            return run_gate(stage, received[0], samples, counts)
        if isinstance(stage, SynapseStage):
            return self._synapses[stage.name].advance(received[0], counts)
        windows = [value.double().numpy().reshape(-1, samples, *value.shape[1:]) for value in received]
        if isinstance(stage, ProgramStage):
            sent = run_program(stage, [window.astype(np.int64) for window in windows], counts)
        else:
            runner = self._populations[stage.name]
            runner.reset()
            frames = np.sum(windows, 0).astype(np.int64)
            sent = np.stack([runner.advance(frame, counts) for frame in frames])
        return torch.from_numpy(sent.reshape(-1, *sent.shape[2:]).astype(np.float32))


@dataclass(slots=True)
class _Window:
    """What one chunk of samples has come to."""

    samples: int
    counts: dict[str, LayerCounts]
    recorded: dict[str, list[NDArray[np.integer]]]
    values: dict[str, Tensor]
    peaks: dict[str, int] = field(default_factory=dict)

    def tally(self, stage: AnyStage, y: Tensor) -> Tensor:
        """The same values, counted and recorded."""
        counts, spiking = self.counts[stage.name], isinstance(stage, LayerStage | NeuronStage)
        counts.neuron_steps += y.numel()
        if not isinstance(stage, SynapseStage):
            counts.spikes += ones(y) if spiking else int(torch.count_nonzero(plain(y)))
        if stage.name in self.recorded:
            kind: type[np.integer] = np.uint8 if spiking else np.int32
            self.recorded[stage.name].append(y.numpy().astype(kind).reshape(-1, self.samples, *y.shape[1:]))
        return y


def runs(network: IntegerNetwork) -> list[tuple[AnyStage, ...]]:
    """The stages in order; layers that alone read the layer before them together with it."""
    parts: list[tuple[AnyStage, ...]] = []
    for stage in network.stages:
        before = parts[-1][-1] if parts else None
        joins = (
            isinstance(stage, LayerStage)
            and isinstance(before, LayerStage)
            and stage.inputs == (before.name,)
            and len(network.readers(before.name)) == 1
        )
        if joins:
            parts[-1] = (*parts[-1], stage)
        else:
            parts.append((stage,))
    return parts
