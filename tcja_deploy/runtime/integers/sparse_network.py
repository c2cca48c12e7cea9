"""An integer network on the kernels whose work follows the spikes; stages without a kernel run as in the reference."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.runtime.events.values import Dense, LayerValue, Spikes
from tcja_deploy.runtime.integers import layer_kernels
from tcja_deploy.runtime.integers.edges import AnyStage
from tcja_deploy.runtime.integers.layer_runner import LayerCounts
from tcja_deploy.runtime.integers.layers import GateStage, LayerStage
from tcja_deploy.runtime.integers.network import IntegerNetwork
from tcja_deploy.runtime.integers.sparse import (
    EXACT,
    Received,
    SparseNeurons,
    SparseSynapse,
    or_weight,
    sparse_layer,
    sparse_synapse,
)
from tcja_deploy.runtime.integers.sparse_populations import run_population
from tcja_deploy.runtime.integers.stage_runners import count_sent, integer_gate, run_stage
from tcja_deploy.runtime.integers.stages import HOST, NeuronStage, RelayStage, SynapseStage
from tcja_deploy.runtime.threads import share

__all__ = ["SparseNetwork"]


@dataclass(frozen=True, eq=False)
class SparseNetwork:
    """The tables of a network.

    Attributes:
        network: The network.
        threads: Threads that share the work; the result does not depend on it.
    """

    network: IntegerNetwork
    threads: int
    _layers: dict[str, SparseNeurons] = field(default_factory=dict, init=False, repr=False)
    _synapses: dict[str, SparseSynapse] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        for stage in self.network.stages:
            if isinstance(stage, SynapseStage):
                synapse = sparse_synapse(stage)
                if synapse is not None:
                    self._synapses[stage.name] = synapse
            if isinstance(stage, LayerStage) and or_weight(stage) is None:
                layer = sparse_layer(stage)
                if layer is not None:
                    self._layers[stage.name] = layer

    def run(
        self, payload: NDArray[np.int64], record: Collection[str], counts: dict[str, LayerCounts]
    ) -> tuple[NDArray[np.int32], dict[str, NDArray[np.integer]]]:
        """What the last stage and the recorded ones send for payloads `[T, N, ...]`; see `Twin.run`."""
        network, recorded = self.network, dict[str, NDArray[np.integer]]()
        sent = {HOST: self._payload(payload, spiking=network.host_input.binary)}
        last_reader = {name: stage.name for stage in network.stages for name in stage.inputs}
        for stage in network.stages:
            received = [sent[name] for name in stage.inputs]
            sent[stage.name] = found = self._stage(stage, received, counts[stage.name])
            if stage.name in record:
                kind = np.uint8 if network.edges[stage.name].kind == "spike" else np.int32
                recorded[stage.name] = found.value.dense.astype(kind)
            for name in stage.inputs:
                if last_reader[name] == stage.name:
                    sent.pop(name, None)
        return sent[network.stages[-1].name].value.dense.astype(np.int32), recorded

    def _stage(self, stage: AnyStage, received: list[Received], counts: LayerCounts) -> Received:
        first, spikes = received[0], None
        if isinstance(stage, NeuronStage | RelayStage):
            return run_population(stage, received, self.threads, counts)
        if isinstance(stage, GateStage) and isinstance(first.value, Spikes) and stage.peak < EXACT:
            if stage.pool is None or stage.pool.kind == "max":
                return self._gate(stage, first.value, counts)
        elif isinstance(stage, LayerStage):
            if stage.name in self._layers:
                spikes = self._layers[stage.name].run(first, self.threads, counts)
            elif isinstance(first.value, Spikes) and first.value.gate is None:
                spikes = self._pooled(stage, first.value, counts)
        elif isinstance(stage, SynapseStage) and stage.name in self._synapses:
            sums = self._synapses[stage.name].run(first, self.threads)
            if sums is not None:
                counts.peak = max(counts.peak, int(np.abs(sums).max()))
                count_sent(stage, sums, counts)
                return self._payload(sums, spiking=False)
        if spikes is not None:
            counts.add(LayerCounts(int(spikes.by_place.sum()), spikes.neuron_steps))
            return Received(spikes)
        windows = [_integers(part.value) for part in received]
        sent = run_stage(stage, self.network.arrives(stage), windows, counts)
        count_sent(stage, sent, counts)
        return self._payload(sent, spiking=self.network.edges[stage.name].kind == "spike")

    def _payload(self, sent: NDArray[np.integer], *, spiking: bool) -> Received:
        """Integers `[T, N, ...]` as the kernels read them; those beyond 24 bits, which they do not read, in float64."""
        low, high = int(sent.min()), int(sent.max())
        exact = max(high, -low) < EXACT
        numbers = sent.astype(np.float32 if exact else np.float64)
        value = Spikes.of(numbers, self.threads) if spiking else Dense(numbers, self.threads)
        return Received(value, max(high, -low), low < 0)

    def _gate(self, gate: GateStage, spikes: Spikes, counts: LayerCounts) -> Received:
        values = integer_gate(gate, spikes.by_channel.transpose(1, 0, 2).astype(np.int64)).transpose(1, 0, 2)
        if gate.pool is not None:
            size = gate.out_shape[1:]
            spikes = spikes.pooled(gate.pool.kernel, gate.pool.stride, (0, 0), size)
        left = spikes.by_channel
        peak = int(values[left > 0].max(initial=0))
        counts.peak = max(counts.peak, peak)
        counts.add(LayerCounts(int(left[values != 0].sum()), spikes.neuron_steps))
        return Received(spikes.gated(np.ascontiguousarray(values, np.float32)), peak)

    def _pooled(self, stage: LayerStage, spikes: Spikes, counts: LayerCounts) -> Spikes | None:
        """The OR over windows, with the peak of its sums counted; `None` if the layer is not an OR."""
        weight = or_weight(stage)
        if weight is None:
            return None
        N, H, W, T, words = spikes.bits.shape
        kernel, size = stage.weight.shape[2:], stage.out_shape[1:]
        most = np.zeros(N * size[0], np.int64)
        share(
            layer_kernels.most_in_window, len(most), self.threads, spikes.bits.reshape(N, H, W, T * words), kernel,
            stage.stride, stage.padding, size, most,
        )  # fmt: skip
        counts.peak = max(counts.peak, weight * int(most.max()))
        return spikes.pooled(kernel, stage.stride, stage.padding, (size[0], size[1]))


def _integers(value: LayerValue) -> NDArray[np.int64]:
    """What was sent, `[T, N, ...]`, as integers."""
    integers: NDArray[np.int64] = value.dense.astype(np.int64)
    return integers
