"""Cells of the twin's stream on the kernels whose work follows the spikes: frames travel as bits."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import partial

import numpy as np
import torch

from tcja_deploy.runtime.events.values import Dense, Spikes
from tcja_deploy.runtime.integers.graph_cells import PopulationCell, SynapseCell
from tcja_deploy.runtime.integers.layer_runner import LayerCounts
from tcja_deploy.runtime.integers.layers import LayerStage, SpatialPool
from tcja_deploy.runtime.integers.sparse import (
    EXACT,
    Received,
    SparseNeurons,
    SparseSynapse,
    or_weight,
    sparse_layer,
    sparse_synapse,
)
from tcja_deploy.runtime.integers.sparse_populations import population_frames, states
from tcja_deploy.runtime.integers.stage_arithmetic import decayed
from tcja_deploy.runtime.integers.stages import UNITY
from tcja_deploy.runtime.integers.stream import IntegerGate, IntegerLayer, PoolPayload
from tcja_deploy.runtime.stream.cells import STEPS_SEEN, BundleCell, Cell, CellState, Scale, Stateless
from tcja_deploy.runtime.stream.event_cells import OfBits, OfItems, SpikeFrame, gated
from tcja_deploy.runtime.stream.packing import Item, as_tensor
from tcja_deploy.runtime.stream.plan import StreamPlan
from tcja_deploy.runtime.threads import available_cores

__all__ = ["on_kernels"]


@dataclass(frozen=True, eq=False)
class _Referred(OfItems):
    """A cell that does what another one does.

    Attributes:
        reference: The other cell, for frames that the kernels leave to it.
        threads: Threads that share the work.
    """

    reference: Cell
    threads: int

    @property
    def macs(self) -> int:
        """See `Cell`."""
        return self.reference.macs

    @property
    def synaptic(self) -> bool:
        """See `Cell`."""
        return self.reference.synaptic

    @property
    def membrane(self) -> bool:
        """See `Cell`."""
        return self.reference.membrane


@dataclass(frozen=True, eq=False)
class SparseCell(_Referred):
    """A synapse with its neurons.

    State: their voltages `v` `[N, H, W, columns]`, int32, as they were when `seen` `[N, H, W]` steps of the window had
    passed.

    Attributes:
        reference: The same layer, for frames in which a current might wrap.
        threads: Threads that share the work.
        layer: The tables of the layer.
    """

    reference: IntegerLayer
    layer: SparseNeurons

    def initial(self, samples: int) -> CellState:
        """See `Cell`."""
        places = (samples, *self.layer.synapse.size)
        return {
            "v": torch.zeros((*places, len(self.layer.bias)), dtype=torch.int32),
            STEPS_SEEN: torch.zeros(places, dtype=torch.int32),
        }

    def step_items(
        self, inputs: tuple[Item, ...], state: CellState, t: int, *, reuse: bool = False
    ) -> tuple[list[Item], CellState]:
        """See `BundleCell`."""
        received = _received(inputs[0], self.threads)
        reuse = reuse and self.layer.never_wraps(received)
        after = state if reuse else {name: part.clone() for name, part in state.items()}
        spikes = self.layer.step(received, t, after["v"].numpy(), after[STEPS_SEEN].numpy(), self.threads)
        if spikes is None:
            return self._exactly(inputs, state, t)
        return [SpikeFrame(spikes)], after

    def _exactly(self, inputs: tuple[Item, ...], state: CellState, t: int) -> tuple[list[Item], CellState]:
        """The step by the reference, after the silent steps that the voltages have not seen."""
        v, behind = state["v"].numpy().astype(np.int64), t - state[STEPS_SEEN].numpy()
        for step in range(int(behind.max())):
            relaxed = decayed(v, UNITY - self.layer.kept) + 64 * self.layer.bias
            v = np.where((behind > step)[..., None], relaxed, v)
        outputs = self.reference.layer.out_shape
        maps = v[..., : outputs[0]].transpose(0, 3, 1, 2).reshape(len(v), *outputs)
        before = {"v": torch.from_numpy(maps.astype(np.float64))}
        spikes, found = self.reference.step(tuple(map(as_tensor, inputs)), before, t)
        after = self.initial(len(v))
        places = found["v"].reshape(len(v), outputs[0], *self.layer.synapse.size).permute(0, 2, 3, 1)
        after["v"][..., : outputs[0]] = places.to(torch.int32)
        after[STEPS_SEEN].fill_(t + 1)
        return list(spikes), after


@dataclass(frozen=True, eq=False)
class _Sums(_Referred, Stateless):
    """A synapse without neurons.

    Attributes:
        reference: The same synapse, for frames in which a sum might wrap.
        threads: Threads that share the work.
        synapse: Its tables.
    """

    reference: SynapseCell
    synapse: SparseSynapse

    def step_items(
        self, inputs: tuple[Item, ...], state: CellState, t: int, *, reuse: bool = False
    ) -> tuple[list[Item], CellState]:
        """See `BundleCell`."""
        sums = self.synapse.run(_received(inputs[0], self.threads), self.threads)
        if sums is not None:
            return [torch.from_numpy(sums[0].astype(np.float64))], state
        exact, _ = self.reference.step(tuple(map(as_tensor, inputs)), state, t)
        return list(exact), state


@dataclass(frozen=True, eq=False)
class _Population(_Referred):
    """Neurons or a relay; state: their currents `u` and voltages `v` `[N, ...]`, int64, where they have a memory.

    Attributes:
        reference: The same cell in numpy.
        threads: Threads that share the work.
    """

    reference: PopulationCell

    def initial(self, samples: int) -> CellState:
        """See `Cell`."""
        return {name: torch.from_numpy(part) for name, part in states(self.reference.stage, samples).items()}

    def step_items(
        self, inputs: tuple[Item, ...], state: CellState, t: int, *, reuse: bool = False
    ) -> tuple[list[Item], CellState]:
        """See `BundleCell`."""
        total = as_tensor(inputs[0]).double()
        for other in inputs[1:]:
            total = total + as_tensor(other)
        after = state if reuse else {name: part.clone() for name, part in state.items()}
        memory = {name: part.numpy() for name, part in after.items()}
        sent = population_frames(
            self.reference.stage, total[None].numpy(), memory, self.threads, LayerCounts()
        )
        value = sent.value
        return [
            SpikeFrame(value) if isinstance(value, Spikes) else torch.from_numpy(value.dense[0]).double()
        ], after


@dataclass(frozen=True, eq=False)
class _CountingGate(IntegerGate, BundleCell):
    """An `IntegerGate` that counts bits to get its sums."""

    def step_items(
        self, inputs: tuple[Item, ...], state: CellState, t: int, *, reuse: bool = False
    ) -> tuple[list[Item], CellState]:
        """See `BundleCell`."""
        (x,) = inputs
        if isinstance(x, SpikeFrame) and x.spikes.gate is None:
            arrived = torch.from_numpy(x.spikes.by_channel[:, 0].astype(np.int64))
        else:
            arrived = as_tensor(x).sum((2, 3)).to(torch.int64)
        items, after = self.advance(arrived, state, t)
        return list(items), after


@dataclass(frozen=True, eq=False)
class _OrPool(OfItems, Stateless):
    """An OR over windows of spikes; its neurons have no memory.

    Attributes:
        layer: The layer.
        macs: See `Cell`.
        threads: Threads that share the work.
    """

    layer: LayerStage
    macs: int
    threads: int

    def step_items(
        self, inputs: tuple[Item, ...], state: CellState, t: int, *, reuse: bool = False
    ) -> tuple[list[Item], CellState]:
        """See `BundleCell`."""
        (x,) = inputs
        spikes = (
            x.spikes if isinstance(x, SpikeFrame) else Spikes.of(as_tensor(x)[None].numpy(), self.threads)
        )
        stage, size = self.layer, _maps(self.layer.out_shape)
        return [SpikeFrame(spikes.pooled(stage.weight.shape[2:], stage.stride, stage.padding, size))], state


def _received(item: Item, threads: int) -> Received:
    """An item with its largest magnitude, as the kernels read it."""
    if isinstance(item, SpikeFrame):
        gate = item.spikes.gate
        return Received(item.spikes, 1 if gate is None else int(gate.max()))
    frame = as_tensor(item)
    low, high = (int(limit) for limit in torch.aminmax(frame))
    peak = max(high, -low)
    if peak < EXACT:  # larger ones are not read by kernels
        frame = frame.float()
    return Received(Dense(frame[None].numpy(), threads), peak, low < 0)


def _largest(pool: SpatialPool, size: tuple[int, int], x: Spikes) -> Spikes:
    return x.pooled(pool.kernel, pool.stride, (0, 0), size)


def _maps(shape: tuple[int, ...]) -> tuple[int, int]:
    return shape[1], shape[2]


def on_kernels(stream: StreamPlan, *, threads: int | None = None) -> StreamPlan:
    """The stream of an integer network, with its layers on the kernels where these can run them.

    Args:
        stream: The plan to run.
        threads: Threads that share the work; `None` for all cores that the process may use. Results do not depend on it.
    """
    threads = threads or available_cores()
    links = [
        replace(link, cell=_cell(link.cell, link.signal.features, threads)) for link in stream.links
    ]  # fmt: skip
    return replace(stream, links=tuple(links), identity=stream.identity + ":kernels")


def _cell(cell: Cell, features: tuple[int, ...], threads: int) -> Cell:
    if isinstance(cell, IntegerLayer):
        if or_weight(cell.layer) is not None:
            return _OrPool(cell.layer, cell.macs, threads)
        layer = sparse_layer(cell.layer)
        return cell if layer is None else SparseCell(cell, threads, layer)
    if isinstance(cell, SynapseCell):
        synapse = sparse_synapse(cell.stage)
        return cell if synapse is None else _Sums(cell, threads, synapse)
    if isinstance(cell, PopulationCell):
        return _Population(cell, threads)
    if isinstance(cell, IntegerGate):
        return _CountingGate(*(getattr(cell, f.name) for f in fields(cell)))
    if isinstance(cell, Scale):
        return OfBits(cell, gated)
    if isinstance(cell, PoolPayload) and cell.pool.kind == "max":
        return OfBits(cell, partial(_largest, cell.pool, _maps(features)))
    return cell
