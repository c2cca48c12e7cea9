"""Cells that run on the event engine: frames travel as bits, and the work of a step depends on its spikes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from tcja_deploy.ir import Graph, Kind
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.events.engine import run_layer, step_layer
from tcja_deploy.runtime.events.plan import FusedLayer, compile_graph
from tcja_deploy.runtime.events.values import Dense, LayerValue, Spikes
from tcja_deploy.runtime.stream.cells import STEPS_SEEN, BundleCell, Cell, CellState, Every, Scale, Stateless
from tcja_deploy.runtime.stream.gate import GateBuffer, squeeze
from tcja_deploy.runtime.stream.packing import FrameBundle, Item, Packed, as_tensor, pack
from tcja_deploy.runtime.stream.plan import Link, StreamPlan
from tcja_deploy.runtime.threads import available_cores

__all__ = ["OfBits", "OfItems", "SpikeFrame", "as_value", "gated", "on_events"]


@dataclass(frozen=True, eq=False)
class SpikeFrame(FrameBundle):
    """Spikes of one step, as bits.

    Attributes:
        spikes: The spikes, of a single step.
    """

    spikes: Spikes

    @property
    def tensor(self) -> Tensor:
        """See `FrameBundle`."""
        return torch.from_numpy(self.spikes.dense[0])

    def packed(self) -> Packed:
        """See `FrameBundle`."""
        return pack(self.tensor, Kind.BINARY if self.spikes.gate is None else Kind.GRADED)


def as_value(item: Item, threads: int) -> LayerValue:
    """An item in the form that the event engine reads."""
    return item.spikes if isinstance(item, SpikeFrame) else Dense(as_tensor(item)[None].numpy(), threads)


def _item(value: LayerValue) -> Item:
    return SpikeFrame(value) if isinstance(value, Spikes) else torch.from_numpy(value.dense[0])


class OfItems(BundleCell):
    """A cell whose `step` is its `step_items`."""

    def step(self, inputs: tuple[Tensor, ...], state: CellState, t: int) -> tuple[Sequence[Item], CellState]:
        """See `Cell`."""
        return self.step_items(inputs, state, t)


@dataclass(frozen=True, eq=False)
class _Layer(OfItems):
    """Weights, with or without the neurons after them.

    State, if there are neurons: their membranes `v` `[N, H, W, columns]`, as they were when `seen` `[N, H, W]` steps of the
    window had passed.

    Attributes:
        layer: The tables of the layer.
        macs: See `Cell`.
        threads: Threads that share the work.
    """

    layer: FusedLayer
    macs: int
    threads: int

    @property
    def synaptic(self) -> bool:
        """See `Cell`."""
        return True

    @property
    def membrane(self) -> bool:
        """See `Cell`."""
        return self.layer.neuron is not None

    def initial(self, samples: int) -> CellState:
        """See `Cell`."""
        layer = self.layer
        if layer.neuron is None:
            return {}
        return {
            "v": torch.full((samples, *layer.size, len(layer.bias)), float(layer.neuron[1])),
            STEPS_SEEN: torch.zeros((samples, *layer.size), dtype=torch.int32),
        }

    def step_items(
        self, inputs: tuple[Item, ...], state: CellState, t: int, *, reuse: bool = False
    ) -> tuple[list[Item], CellState]:
        """See `BundleCell`."""
        source = as_value(inputs[0], self.threads)
        if self.layer.neuron is None:
            return [_item(run_layer(self.layer, source, self.threads))], state
        after = state if reuse else {name: part.clone() for name, part in state.items()}
        v, seen = after["v"].numpy(), after[STEPS_SEEN].numpy()
        return [SpikeFrame(step_layer(self.layer, source, t, v, seen, self.threads))], after


@dataclass(frozen=True, eq=False)
class OfBits(OfItems, Stateless):
    """A cell without state that has a separate way for spikes.

    Attributes:
        cell: The cell for dense frames.
        way: The function for spikes.
    """

    cell: Cell
    way: Callable[..., Spikes]

    @property
    def macs(self) -> int:
        """See `Cell`."""
        return self.cell.macs

    def step_items(
        self, inputs: tuple[Item, ...], state: CellState, t: int, *, reuse: bool = False
    ) -> tuple[list[Item], CellState]:
        """See `BundleCell`."""
        x, *others = inputs
        if isinstance(x, SpikeFrame):
            return [SpikeFrame(self.way(x.spikes, *others))], state
        items, after = self.cell.step(tuple(map(as_tensor, inputs)), state, t)
        return list(items), after


def gated(x: Spikes, gate: Tensor) -> Spikes:
    """Spikes of one step, each worth its gate `[N, C]`."""
    return x.gated(gate.numpy()[:, None])


def _pooled(op: ir.MaxPool2d, size: tuple[int, int], x: Spikes) -> Spikes:
    return x.pooled(op.kernel, op.stride, op.padding, size)


@dataclass(frozen=True, eq=False)
class _Gate(GateBuffer, BundleCell):
    """A `GateBuffer` that counts bits to get Z."""

    def step_items(
        self, inputs: tuple[Item, ...], state: CellState, t: int, *, reuse: bool = False
    ) -> tuple[list[Tensor], CellState]:
        """See `BundleCell`."""
        (x,) = inputs
        if not isinstance(x, SpikeFrame) or x.spikes.gate is not None:
            return self.advance(squeeze(as_tensor(x)), state, t)
        _, H, W, _, _ = x.spikes.bits.shape
        z = x.spikes.by_channel[:, 0].astype(np.float32) / np.float32(H * W)
        return self.advance(torch.from_numpy(z), state, t)


def on_events(graph: Graph, stream: StreamPlan, *, threads: int | None = None) -> StreamPlan:
    """A stream whose layers run on the event engine, where that has kernels for them.

    Args:
        graph: The network that `stream` is the plan of.
        stream: The plan to run.
        threads: Threads that share the work; `None` for all cores that the process may use. Results do not depend on it.
    """
    threads = threads or available_cores()
    compiled = compile_graph(graph)
    found = {link.name: link for link in stream.links}
    absorbed = set(compiled.fused.values())
    links = []
    for link in stream.links:
        if link.name in absorbed:
            continue
        if link.name in compiled.fused:
            weights = found[compiled.fused[link.name]]
            cell: Cell = _Layer(compiled.layers[weights.name], weights.cell.macs, threads)
            links.append(replace(link, cell=cell, inputs=weights.inputs, takes=weights.takes))
        elif link.name in compiled.layers:
            links.append(replace(link, cell=_Layer(compiled.layers[link.name], link.cell.macs, threads)))
        else:
            links.append(replace(link, cell=_cell(link)))
    return replace(stream, links=tuple(links), identity=stream.identity + ":events")


def _cell(link: Link) -> Cell:
    """The cell of a link that is not a layer."""
    cell, features = link.cell, link.signal.features
    if type(cell) is GateBuffer:
        return _Gate(cell.op, cell.channels, cell.T, cell.lookahead, cell.estimate)
    if isinstance(cell, Scale):
        return OfBits(cell, gated)
    if isinstance(cell, Every) and isinstance(cell.op, ir.Flatten):
        return OfBits(cell, Spikes.flattened)
    if isinstance(cell, Every) and isinstance(cell.op, ir.MaxPool2d):
        return OfBits(cell, partial(_pooled, cell.op, (features[1], features[2])))
    return cell
