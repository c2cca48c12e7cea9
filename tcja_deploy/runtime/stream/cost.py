"""What a stream costs: latency, memory and work, measured on one window."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from tcja_deploy.runtime.stream.cells import Delayed
from tcja_deploy.runtime.stream.engine import Stepper, StreamState, initial
from tcja_deploy.runtime.stream.packing import Packed, pack
from tcja_deploy.runtime.stream.plan import GATE, Link, StreamPlan
from tcja_deploy.runtime.stream.timing import timing

__all__ = ["BlockCost", "StepCost", "StreamCost", "measure"]


@dataclass(frozen=True)
class StepCost:
    """One step, per sample.

    Attributes:
        macs: Dense multiply-accumulates.
        sops: Synaptic operations: MACs of convolutions and linear layers times the share of non-zeros in their input frame,
            for inputs that are spikes or payloads.
        held: Bytes of the frames that wait after the step, packed.
        held_unpacked: Bytes of the same frames, unpacked.
        gate_state: Bytes of the gates' rings, columns and accumulators.
    """

    macs: int
    sops: float
    held: int
    held_unpacked: int
    gate_state: int


@dataclass(frozen=True)
class BlockCost:
    """One TCJA block, per sample.

    Attributes:
        name: Node name.
        lookahead: Frames that its gate waits for.
        exact_lookahead: Frames that the gate would have to wait for to be exact.
        lag_in: Steps from the network's frame 0 until frame 0 of its input is there.
        lag: Steps from the network's frame 0 until its gate for frame 0 is there.
        held: Most bytes of frames that wait for its gate when the next one comes, packed.
        held_unpacked: The same, unpacked.
        gate_state: Bytes of the gate's ring, columns and accumulators.
    """

    name: str
    lookahead: int
    exact_lookahead: int
    lag_in: int
    lag: int
    held: int
    held_unpacked: int
    gate_state: int


@dataclass(frozen=True)
class StreamCost:
    """Cost of a stream.

    Attributes:
        T: Frames of a window.
        schedule: When cells work.
        latency: Steps between the frame that completes a result and the result: for a stream of frames the lag of frame 0,
            for a result of the window the steps after the last frame.
        blocks: The TCJA blocks in order.
        steps: Each step of a window once the whole network is busy: a later one of several equal windows in a row.
        membranes: Bytes of all membranes, per sample.
        naive: Bytes of the values of all cells for all T frames, unpacked, per sample: what buffering everything would take.
    """

    T: int
    schedule: str
    latency: int
    blocks: tuple[BlockCost, ...]
    steps: tuple[StepCost, ...]
    membranes: int
    naive: int

    @property
    def held(self) -> int:
        """Bytes that waiting frames need, packed: the most between two steps, or that of all blocks in a burst."""
        return max(*(s.held for s in self.steps), sum(b.held for b in self.blocks))

    @property
    def held_unpacked(self) -> int:
        """As `held`, unpacked."""
        return max(*(s.held_unpacked for s in self.steps), sum(b.held_unpacked for b in self.blocks))


class _Waiting:
    """Frames that wait for one gate, and the most bytes that ever waited when another frame came."""

    def __init__(self) -> None:
        self.frames: deque[Packed] = deque()
        self.packed = self.unpacked = 0

    def arrive(self, frame: Packed) -> None:
        self.packed = max(self.packed, sum(p.nbytes for p in self.frames))
        self.unpacked = max(self.unpacked, sum(p.nbytes_unpacked for p in self.frames))
        self.frames.append(frame)


class _Meter:
    """Counts work, and records when values appear."""

    def __init__(self, plan: StreamPlan) -> None:
        self.plan, self.step, self.macs, self.sops = plan, 0, 0, 0.0
        self.lags: dict[str, int] = {}
        links = {link.name: link for link in plan.links}
        self.readers = {name: [links[reader] for reader, _ in keys] for name, keys in plan.readers.items()}
        self.given: dict[str, int] = {}
        self.waiting = {
            link.name: _Waiting() for link in plan.links if any(i.endswith(GATE) for i in link.inputs)
        }

    def observe(self, name: str, index: int, item: Tensor) -> None:
        T, signal = self.plan.T, self.plan.signals[name]
        count = self.given[name] = self.given.get(name, -1) + 1
        due = count if signal.streams else count * T + T - 1
        self.lags[name] = max(self.lags.get(name, 0), self.step - due)
        if name in self.waiting:
            self.waiting[name].frames.popleft()
        for link in self.readers.get(name, ()):
            if link.name in self.waiting and name == link.inputs[0]:
                self.waiting[link.name].arrive(pack(item, signal.kind))

    def working(self, link: Link, inputs: tuple[Tensor, ...]) -> None:
        self.macs += link.cell.macs
        if link.cell.synaptic and self.plan.signals[link.inputs[0]].kind.sparse:
            self.sops += link.cell.macs * float(torch.count_nonzero(inputs[0])) / inputs[0].numel()


def measure(plan: StreamPlan, frames: Tensor | NDArray[Any]) -> StreamCost:
    """Run the same window `[T, N, ...]` until the network is busy everywhere, and measure one window of steps.

    Raises:
        DataError: If the frames do not fit the network.
    """
    samples, T = frames.shape[1], plan.T
    stepper, meter = Stepper(plan, initial(plan, samples)), _Meter(plan)
    warm = 1 if plan.schedule == "burst" else 1 + -(-max(timing(plan).first.values()) // T)
    steps = []
    for step in range((warm + 1) * T):
        meter.step, meter.macs, meter.sops = step, 0, 0.0
        stepper.push(frames[step % T], observe=meter.observe, working=meter.working)
        if step >= warm * T:
            held = _held(stepper.state, [link.name for link in plan.links], samples)
            gates = sum(_bytes(stepper.state, name + GATE, samples) for name in _gates(plan))
            steps.append(StepCost(meter.macs, meter.sops, *held, gates))
    return StreamCost(
        T=T,
        schedule=plan.schedule,
        latency=meter.lags[plan.output],
        blocks=tuple(_block(plan, meter, stepper.state, name, samples) for name in _gates(plan)),
        steps=tuple(steps),
        membranes=sum(_bytes(stepper.state, link.name, samples) for link in plan.links if link.cell.membrane),
        naive=sum(4 * s.size * (T if s.streams else 1) for s in plan.signals.values()),
    )


def _gates(plan: StreamPlan) -> dict[str, Delayed]:
    return {link.name.removesuffix(GATE): link.cell for link in plan.links if isinstance(link.cell, Delayed)}


def _held(state: StreamState, readers: list[str], samples: int) -> tuple[int, int]:
    """Bytes per sample, packed and unpacked, of the frames that wait for some cells."""
    waiting = [p for (reader, _), items in state.queues.items() if reader in readers for p in items]
    packed, unpacked = sum(p.nbytes for p in waiting), sum(p.nbytes_unpacked for p in waiting)
    return -(-packed // samples), -(-unpacked // samples)


def _bytes(state: StreamState, name: str, samples: int) -> int:
    return sum(t.nbytes for t in state.cells[name].values()) // samples


def _block(plan: StreamPlan, meter: _Meter, state: StreamState, name: str, samples: int) -> BlockCost:
    gate = _gates(plan)[name]
    waiting = meter.waiting[next(link.name for link in plan.links if name + GATE in link.inputs)]
    source = next(link.inputs[0] for link in plan.links if link.name == name + GATE)
    return BlockCost(
        name, gate.lookahead, gate.exact_lookahead, meter.lags[source], meter.lags[name + GATE],
        -(-waiting.packed // samples), -(-waiting.unpacked // samples), _bytes(state, name + GATE, samples),
    )  # fmt: skip
