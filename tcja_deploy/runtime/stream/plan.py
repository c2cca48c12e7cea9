"""From a graph to a network of cells and queues."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from typing import Any, Literal

from tcja_deploy.errors import UnsupportedError, UsageError
from tcja_deploy.ir import Graph, Kind, Node, Op, Signal
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.stream.cells import (
    Cell,
    Every,
    Integrators,
    Neurons,
    Recurrences,
    RunningMean,
    Scale,
    Window,
    aligned,
)
from tcja_deploy.runtime.stream.estimate import FrameProfile
from tcja_deploy.runtime.stream.gate import GateBuffer

__all__ = [
    "CELLS",
    "GATE",
    "MEAN",
    "POOLED",
    "Link",
    "Schedule",
    "StreamPlan",
    "Takes",
    "by_frame",
    "check_names",
    "check_options",
    "mean_over_time",
    "plan",
]

Schedule = Literal["burst", "paced"]
"""`burst`: a result flows on as soon as it is final, so a window ends with its last frame. `paced`: every
cell works at most once per frame, so work is even and look-aheads add up."""

GATE = ":gate"
"""Suffix of the name of a block's gate."""

POOLED = ":pooled"
"""Suffix of the name of a block's frames where they wait for the gate after pooling."""

MEAN = ":mean"
"""Suffix of the name of the mean over time that is added where the result is a stream of frames."""


class Takes(Enum):
    """How a cell takes an input from its queue."""

    FRAME = "frame"  #: one frame a step
    WINDOW = "window"  #: T frames at once
    VALUE = "value"  #: one value without time axis a window


@dataclass(frozen=True, slots=True, eq=False)
class Link:
    """A cell with its inputs.

    Attributes:
        name: Name of its value.
        cell: What computes it.
        inputs: Names of the values it reads; each has a queue of its own.
        takes: How it takes each of them.
        signal: Signal of its value: frames or one value per window; the kind decides how waiting frames are packed.
    """

    name: str
    cell: Cell
    inputs: tuple[str, ...]
    takes: tuple[Takes, ...]
    signal: Signal

    @property
    def per_frame(self) -> bool:
        """Whether it takes single frames, T per window; otherwise it works once per window."""
        return Takes.FRAME in self.takes


@dataclass(frozen=True, eq=False)
class StreamPlan:
    """A network of cells in an order in which every input precedes its readers.

    Attributes:
        T: Frames of a window.
        input: Name of the value that frames enter as.
        frames: Signal of that value.
        links: The cells.
        output: Name of the value that is the result.
        running: Name of the mean over time that serves as the running result; empty if there is none.
        schedule: When cells work.
        identity: SHA-256 of the network and of every option that changes its state.
    """

    T: int
    input: str
    frames: Signal
    links: tuple[Link, ...]
    output: str
    running: str
    schedule: Schedule
    identity: str

    @cached_property
    def signals(self) -> dict[str, Signal]:
        """Signal of each value by name."""
        return {self.input: self.frames} | {link.name: link.signal for link in self.links}

    @property
    def streams(self) -> bool:
        """Whether the result is a stream of frames."""
        return self.signals[self.output].streams

    @cached_property
    def readers(self) -> dict[str, list[tuple[str, int]]]:
        """The cells and input positions that read each value."""
        found: dict[str, list[tuple[str, int]]] = {}
        for link in self.links:
            for i, name in enumerate(link.inputs):
                found.setdefault(name, []).append((link.name, i))
        return found

    @property
    def guesses(self) -> FrameProfile:
        """What the gates that do not wait long enough expect; empty if they expect zeros."""
        return FrameProfile(
            {
                name: gate.estimate
                for name, gate in self.gates.items()
                if gate.estimate is not None and gate.lookahead < gate.exact_lookahead
            }
        )

    @property
    def gates(self) -> dict[str, GateBuffer]:
        """The gates by block."""
        return {
            link.name.removesuffix(GATE): link.cell
            for link in self.links
            if isinstance(link.cell, GateBuffer)
        }


def plan(
    graph: Graph,
    *,
    lookahead: int | None = None,
    profile: FrameProfile | None = None,
    schedule: Schedule = "burst",
) -> StreamPlan:
    """Cells and queues for a graph.

    A TCJA block becomes two cells: the gate, which reads X and gives its result `lookahead` frames later, and
    the scaling, in whose queue the frames of X wait. If max-pooling is the block's only reader, X is pooled
    before it waits: the gate is not negative and constant over space, so `max(F x) = F max(x)` to the last
    bit.

    Args:
        graph: The network.
        lookahead: Frames that every TCJA block waits for, at most as many as it needs; `None` for an exact result.
        profile: What the blocks expect of frames that have not arrived; `None` for zeros.
        schedule: When cells work.

    Raises:
        UsageError: If the look-ahead is outside `0 .. T - 1`, the schedule is unknown, or a node has the name of a part.
    """
    check_options(graph.T, lookahead, schedule)
    signals = {node.name: node.signal for node in graph}
    estimates = {} if profile is None else profile.blocks
    pooled: dict[str, Node] = {}
    links: list[Link] = []
    for node in graph.nodes[1:]:
        if isinstance(node.op, ir.TCJA):
            (x,), name = node.inputs, node.name
            gate = _gate(node.op, signals[x], graph.T)
            ahead = gate.lookahead if lookahead is None else min(gate.lookahead, lookahead)
            gate, channels = replace(gate, lookahead=ahead, estimate=estimates.get(name)), gate.channels
            links.append(by_frame(name + GATE, gate, (x,), Signal(("T", "N", channels), Kind.REAL)))
            readers = graph.readers(name)
            if name != graph.output and len(readers) == 1 and isinstance(readers[0].op, ir.MaxPool2d):
                pooled[readers[0].name] = node
            else:
                links.append(by_frame(name, Scale(node.signal.size), (x, name + GATE), node.signal))
        elif node.name in pooled:
            (x,), block = pooled[node.name].inputs, pooled[node.name].name
            waiting, signal = block + POOLED, node.signal.with_kind(signals[x].kind)
            links.append(by_frame(waiting, Every(node.op, (True,), 0), (x,), signal))
            links.append(by_frame(node.name, Scale(signal.size), (waiting, block + GATE), node.signal))
        else:
            links.append(_generic(node, tuple(signals[name] for name in node.inputs), graph.T))
    running, out = graph.output, signals[graph.output]
    if out.streams:
        running = graph.output + MEAN
        links.append(mean_over_time(running, graph.output, out, graph.T))
    check_names([graph.input.name, *(link.name for link in links)])
    settings = json.dumps([graph.hash, lookahead, schedule, FrameProfile(estimates).hash])
    return StreamPlan(
        graph.T, graph.input.name, graph.input.signal, tuple(links), graph.output, running, schedule,
        hashlib.sha256(settings.encode()).hexdigest(),
    )  # fmt: skip


def check_options(T: int, lookahead: int | None, schedule: str) -> None:
    """Refuse options that make no sense.

    Raises:
        UsageError: If the look-ahead is outside `0 .. T - 1`, or the schedule is unknown.
    """
    if lookahead is not None and not 0 <= lookahead < T:
        raise UsageError(f"the look-ahead {lookahead} is outside 0 .. T - 1 = {T - 1}")
    if schedule not in ("burst", "paced"):
        raise UsageError(f"unknown schedule {schedule!r}", hint="'burst' or 'paced'")


def check_names(names: list[str]) -> None:
    """Refuse a network in which a layer has the name of a part of the stream.

    Raises:
        UsageError: If a name occurs twice.
    """
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise UsageError(
            f"the parts of a TCJA block or of the result would have the names of nodes: {', '.join(twice)}",
            hint="rename these nodes",
        )


def by_frame(name: str, cell: Cell, inputs: tuple[str, ...], signal: Signal) -> Link:
    """A cell that takes a frame of each input and gives frames."""
    return Link(name, cell, inputs, (Takes.FRAME,) * len(inputs), signal)


def mean_over_time(name: str, source: str, signal: Signal, T: int) -> Link:
    """The mean of a stream of frames."""
    mean = Signal(signal.dims[1:], signal.kind.widened(Kind.GRADED))
    return Link(name, RunningMean(T, signal.features), (source,), (Takes.FRAME,), mean)


def _gate(op: ir.TCJA, x: Signal, T: int) -> GateBuffer:
    return GateBuffer(op, x.features[0], T, op.lookahead(x, T=T))


CELLS: dict[type[Op], Callable[[Any, Signal, int], Cell]] = {
    ir.AffineIntegrator: lambda op, x, T: Integrators(op, x.features),
    ir.AffineNeuron: lambda op, x, T: Neurons(op, x.features),
    ir.IF: lambda op, x, T: Neurons(op, x.features),
    ir.LI: lambda op, x, T: Integrators(op, x.features),
    ir.LIF: lambda op, x, T: Neurons(op, x.features),
    ir.PLIF: lambda op, x, T: Neurons(op, x.features),
    ir.Recurrence: lambda op, x, T: Recurrences(op, x.features),
    ir.TCJA: _gate,
    ir.TimeMean: lambda op, x, T: RunningMean(T, x.features),
}
"""How to make the cell that holds the state of each stateful op, from the op, its input and T; other ops need none."""


def _generic(node: Node, inputs: tuple[Signal, ...], T: int) -> Link:
    op, out = aligned(node.op), node.signal
    if op.stateful:
        if type(op) not in CELLS:
            raise UnsupportedError(
                f"{type(op).__name__} has a state, and no cell of the stream holds it", where=node.name
            )
        return by_frame(node.name, CELLS[type(op)](op, inputs[0], T), node.inputs, out)
    frames = tuple(s.streams for s in inputs)
    macs = op.macs(*inputs, T=T)
    # Element-wise ops need no window for an input without a time axis: it only has to be there.
    steps = not op.acts_on_time(*inputs) or (op.elementwise and out.streams)
    if steps and any(frames):
        takes = tuple(Takes.FRAME if f else Takes.VALUE for f in frames)
        return Link(node.name, Every(op, frames, macs // T), node.inputs, takes, out)
    takes = tuple(Takes.WINDOW if f else Takes.VALUE for f in frames)
    return Link(node.name, Window(op, out.streams, macs), node.inputs, takes, out)
