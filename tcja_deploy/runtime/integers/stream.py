"""The integer network as a stream: what Loihi-style hardware computes, one frame at a time."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tcja_deploy.errors import DataError
from tcja_deploy.ir import Kind, Signal
from tcja_deploy.ir.ops import same_padding
from tcja_deploy.runtime.integers import network as integer
from tcja_deploy.runtime.integers.gate_arithmetic import gate_values
from tcja_deploy.runtime.integers.graph_cells import graph_link
from tcja_deploy.runtime.integers.layer_runner import LayerCounts, LayerRunner
from tcja_deploy.runtime.integers.layers import GateStage, LayerStage, SpatialPool
from tcja_deploy.runtime.integers.stages import HOST, UNITY
from tcja_deploy.runtime.integers.twin import MESSAGE_LIMIT, encode
from tcja_deploy.runtime.integers.window.program import Program
from tcja_deploy.runtime.stream.cells import CellState, PlainCell, Scale, Stateless
from tcja_deploy.runtime.stream.engine import Stepper, initial
from tcja_deploy.runtime.stream.estimate import Estimate, FrameProfile
from tcja_deploy.runtime.stream.gate import due
from tcja_deploy.runtime.stream.plan import (
    GATE,
    MEAN,
    POOLED,
    Link,
    Schedule,
    StreamPlan,
    Takes,
    by_frame,
    check_names,
    check_options,
    mean_over_time,
)

__all__ = ["IntegerGate", "IntegerLayer", "PoolPayload", "plan_twin", "stream_twin"]

INPUT, OUTPUT = ":input", ":output"
"""Names of the incoming frames, and of the result; no layer has such a name."""


@dataclass(frozen=True, eq=False)
class Encode(Stateless):
    """What the host does to a frame before it enters the network."""

    host: integer.HostInput
    macs: int = 0

    def step(self, inputs: tuple[Tensor, ...], state: CellState, t: int) -> tuple[list[Tensor], CellState]:
        """See `Cell`.

        Raises:
            DataError: If the frame holds values that the network was not made for.
        """
        payload = encode(self.host, inputs[0][None].numpy())[0]
        if np.abs(payload).max() >= MESSAGE_LIMIT:
            raise DataError(f"a payload of {np.abs(payload).max()} exceeds the 24 bits of a message")
        return [torch.from_numpy(payload.astype(np.float32))], state


@dataclass(frozen=True, eq=False)
class IntegerLayer(PlainCell):
    """Synapse and neurons; state: voltages `v` and, where they have a memory, currents `u`, in float64.

    Attributes:
        layer: The layer.
    """

    layer: LayerStage

    @cached_property
    def runner(self) -> LayerRunner:
        """The twin's own arithmetic; its state is set before every use."""
        return LayerRunner(self.layer)

    @property
    def synaptic(self) -> bool:
        """See `Cell`."""
        return True

    @property
    def membrane(self) -> bool:
        """See `Cell`."""
        return True

    @property
    def macs(self) -> int:
        """See `Cell`."""
        return prod(self.layer.weight.shape[1:]) * prod(self.layer.out_shape)

    def initial(self, samples: int) -> CellState:
        """See `Cell`."""
        names = ["v"] if self.layer.i_decay == UNITY else ["u", "v"]
        return {name: torch.zeros(samples, *self.layer.out_shape, dtype=torch.float64) for name in names}

    def step(self, inputs: tuple[Tensor, ...], state: CellState, t: int) -> tuple[list[Tensor], CellState]:
        """See `Cell`."""
        x, runner = inputs[0], self.runner
        runner.u, runner.v = state.get("u"), state["v"].clone()
        spikes = runner.advance(x, len(x), LayerCounts())
        after = {"u": runner.u, "v": runner.v}
        return [spikes], {
            name: before if (now := after[name]) is None else now.double() for name, before in state.items()
        }


@dataclass(frozen=True, eq=False)
class IntegerGate(PlainCell):
    """Spikes in, integer gates `[N, C]` out; state: the latest spike `counts`.

    `counts [n, N, C]` are of the latest n = T frames (K_T without CLA), as many numbers as CLA accumulators.

    Attributes:
        gate: The gate.
        lookahead: See `stream.gate.GateBuffer`.
        estimate: See `stream.gate.GateBuffer`; rounded to whole counts.
    """

    gate: GateStage
    lookahead: int
    estimate: Estimate | None = None

    @property
    def _taps(self) -> int:
        return 0 if self.gate.tla is None else int(self.gate.tla.shape[2])

    @property
    def exact_lookahead(self) -> int:
        """Frames that the gate has to wait for to be exact."""
        T = self.gate.frames
        return T - 1 if self.gate.cla is not None else min(same_padding(self._taps)[1], T - 1)

    @property
    def macs(self) -> int:
        """See `Cell`; counted for the incremental form, which hardware would run."""
        C, cla = self.gate.in_shape[0], self.gate.cla
        return C * C * self._taps + (0 if cla is None else self.gate.frames * C * int(cla.shape[2]))

    def initial(self, samples: int) -> CellState:
        """See `Cell`."""
        held = self._taps if self.gate.cla is None else self.gate.frames
        state = {"counts": torch.zeros(held, samples, self.gate.in_shape[0], dtype=torch.int64)}
        if self.estimate is not None and self.estimate.slope is not None:
            state["past"] = torch.zeros(samples, self.gate.in_shape[0], dtype=torch.int64)
        return state

    def step(self, inputs: tuple[Tensor, ...], state: CellState, t: int) -> tuple[list[Tensor], CellState]:
        """See `Cell`."""
        return self.advance(inputs[0].sum((2, 3)).to(torch.int64), state, t)

    def advance(self, arrived: Tensor, state: CellState, t: int) -> tuple[list[Tensor], CellState]:
        """As `step`, from the number of spikes that arrived, `[N, C]`."""
        after = {"counts": torch.cat([state["counts"][1:], arrived[None]])}
        if "past" in state:
            after["past"] = state["past"] + arrived
        T, held = self.gate.frames, after["counts"]
        frames = due(t, self.lookahead, T)
        if not frames:
            return [], after
        window = torch.cat([held[T - 1 - t :] if self.gate.cla is not None else held, self._future(after, t)])
        if self.gate.cla is not None:
            values = self._values(window)
            return [values[j] for j in frames], after
        left, right = same_padding(self._taps)
        window = torch.cat([window, torch.zeros(right, *window.shape[1:], dtype=torch.int64)])
        first = self._taps - 1 - t - left  # index in `window` of the first tap of frame 0
        return [self._values(window[first + j : first + j + self._taps])[left] for j in frames], after

    def _future(self, state: CellState, t: int) -> Tensor:
        """Counts expected in the frames after `t`."""
        T, (_, samples, C), area = self.gate.frames, state["counts"].shape, prod(self.gate.in_shape[1:])
        if self.estimate is None:
            return torch.zeros(T - 1 - t, samples, C, dtype=torch.int64)
        u = state["past"] / (area * (t + 1)) if "past" in state else None
        return torch.round(self.estimate.future(t, u, samples) * area).to(torch.int64)

    def _values(self, counts: Tensor) -> Tensor:
        """Gates `[n, N, C]` of a window of counts, as float32."""
        gate = self.gate
        values = gate_values(
            counts.numpy().transpose(1, 0, 2), prod(gate.in_shape[1:]), gate.tla, gate.cla, gate.fusion,
            gate.fraction, gate.index_bits, gate.table,
        )  # fmt: skip
        return torch.from_numpy(values.transpose(1, 0, 2).astype(np.float32))


@dataclass(frozen=True, eq=False)
class PoolPayload(Stateless):
    """Spatial pooling of spikes before the gate: the largest value of a window, or the sum."""

    pool: SpatialPool
    macs: int = 0

    def step(self, inputs: tuple[Tensor, ...], state: CellState, t: int) -> tuple[list[Tensor], CellState]:
        """See `Cell`."""
        kernel, stride = self.pool.kernel, self.pool.stride
        if self.pool.kind == "max":
            return [functional.max_pool2d(inputs[0], kernel, stride)], state
        return [functional.avg_pool2d(inputs[0], kernel, stride, divisor_override=1)], state


@dataclass(frozen=True, eq=False)
class HostReadout(Stateless):
    """The host's result from payloads `[T, N, ...]` of a window, or `[N, ...]` of one frame."""

    readout: integer.Readout
    unit: float
    by_frame: bool
    macs: int = 0

    def step(self, inputs: tuple[Tensor, ...], state: CellState, t: int) -> tuple[list[Tensor], CellState]:
        """See `Cell`."""
        payload = inputs[0].numpy().astype(np.int32)
        values = self.readout(payload[None] if self.by_frame else payload, self.unit)
        return [torch.from_numpy(values[0] if self.by_frame else values)], state


def plan_twin(
    network: integer.IntegerNetwork,
    *,
    lookahead: int | None = None,
    profile: FrameProfile | None = None,
    schedule: Schedule = "burst",
) -> StreamPlan:
    """Cells and queues for an integer network; options as for `plan`.

    Raises:
        UsageError: If an option makes no sense, or a layer has the name of a part of the stream.
    """
    T, host = network.frames, network.host_input
    check_options(T, lookahead, schedule)
    blocks = {} if profile is None else profile.blocks
    kind = Kind.BINARY if host.binary else Kind.COUNT
    links = [by_frame(HOST, Encode(host), (INPUT,), Signal(("T", "N", *host.out_shape), kind))]
    for stage in network.stages:
        if isinstance(stage, LayerStage):
            signal = Signal(("T", "N", *stage.out_shape), Kind.BINARY)
            links.append(by_frame(stage.name, IntegerLayer(stage), stage.inputs, signal))
        elif isinstance(stage, GateStage):
            links += _block(stage, stage.inputs[0], lookahead, blocks.get(stage.name))
        else:
            links.append(graph_link(network, stage, stage.inputs))
    links += _readout(network, network.stages[-1].name, T)
    check_names([INPUT, *(link.name for link in links)])
    return StreamPlan(
        T, INPUT, Signal(("T", "N", *host.shape), kind), tuple(links), OUTPUT, OUTPUT + MEAN, schedule,
        _identity(network, lookahead, schedule, FrameProfile(blocks)),
    )  # fmt: skip


def stream_twin(
    network: integer.IntegerNetwork,
    *,
    lookahead: int | None = None,
    profile: FrameProfile | None = None,
    schedule: Schedule = "burst",
    samples: int = 1,
) -> Stepper:
    """An integer network as a stream, which equals `Twin.run` if it is exact; options as for `stream`.

    Raises:
        UsageError: If an option makes no sense.
    """
    cells = plan_twin(network, lookahead=lookahead, profile=profile, schedule=schedule)
    return Stepper(cells, initial(cells, samples))


def _block(gate: GateStage, source: str, lookahead: int | None, estimate: Estimate | None) -> list[Link]:
    exact = IntegerGate(gate, 0).exact_lookahead
    ahead = exact if lookahead is None else min(exact, lookahead)
    cell = IntegerGate(gate, ahead, estimate if ahead < exact else None)
    links = [by_frame(gate.name + GATE, cell, (source,), Signal(("T", "N", gate.in_shape[0]), Kind.COUNT))]
    waiting = source
    if gate.pool is not None:
        kind = Kind.BINARY if gate.pool.kind == "max" else Kind.COUNT
        waiting = gate.name + POOLED
        links.append(
            by_frame(waiting, PoolPayload(gate.pool), (source,), Signal(("T", "N", *gate.out_shape), kind))
        )
    payload = Signal(("T", "N", *gate.out_shape), Kind.COUNT)
    return [*links, by_frame(gate.name, Scale(prod(gate.out_shape)), (waiting, gate.name + GATE), payload)]


def _readout(network: integer.IntegerNetwork, last: str, T: int) -> list[Link]:
    """The cells of the result, and of the mean of the results of single frames, which is the running result."""
    readout, unit = network.readout, network.unit
    frame = replace(readout, time_mean=False)
    shape = network.stages[-1].out_shape
    outputs = frame(np.zeros((1, 1, *shape), np.int32), unit).shape[2:]
    signal = Signal(("T", "N", *outputs), Kind.REAL, "float64")
    if not readout.time_mean:
        single, links = OUTPUT, []
    else:
        single, value = OUTPUT + ":frame", Signal(signal.dims[1:], Kind.REAL, "float64")
        links = [Link(OUTPUT, HostReadout(readout, unit, by_frame=False), (last,), (Takes.WINDOW,), value)]
    links.append(by_frame(single, HostReadout(frame, unit, by_frame=True), (last,), signal))
    return [*links, mean_over_time(OUTPUT + MEAN, single, signal, T)]


def _identity(network: integer.IntegerNetwork, *options: Any) -> str:
    digest = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, np.ndarray):
            digest.update(f"{value.dtype}{value.shape}".encode() + np.ascontiguousarray(value).tobytes())
        elif isinstance(value, FrameProfile):
            for name, array in sorted(value.arrays().items()):
                add(name)
                add(array)
        elif isinstance(value, Program):
            add(json.dumps(value.description, sort_keys=True))
            add(sorted(value.arrays.items()))
        elif is_dataclass(value):
            add(type(value).__name__)
            for f in fields(value):
                add(getattr(value, f.name))
        elif isinstance(value, tuple | list):
            for item in value:
                add(item)
        else:
            digest.update(f"{value!r};".encode())

    add(network)
    add(options)
    return digest.hexdigest()
