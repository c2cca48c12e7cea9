"""The stream: one frame in, final results out; its whole memory is one explicit value."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tcja_deploy.errors import DataError, UsageError
from tcja_deploy.ir import Graph, Kind
from tcja_deploy.runtime.stream.cells import BundleCell, CellState, RunningMean, plain
from tcja_deploy.runtime.stream.estimate import FrameProfile
from tcja_deploy.runtime.stream.packing import FrameBundle, Item, Packed, as_tensor, pack, unpack
from tcja_deploy.runtime.stream.plan import Link, Schedule, StreamPlan, Takes, plan

__all__ = ["Emission", "FrameObserver", "Stepper", "StreamState", "advance", "initial", "stream"]

FrameObserver = Callable[[str, int, Tensor], None]
"""Called with the name of a value, the frame's index in its window (0 without time axis), and the item."""

Clock = Callable[[Link, tuple[Tensor, ...]], None]
"""Called with a cell and the inputs it takes, before each of its steps."""


@dataclass(frozen=True, slots=True, eq=False)
class Emission:
    """A result that became final.

    Attributes:
        window: Index of its window: how many windows came before.
        frame: Index of the frame in its window; `None` for a result of the whole window.
        value: `[N, ...]`.
    """

    window: int
    frame: int | None
    value: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class StreamState:
    """Everything that a stream remembers between two frames. Nothing in it is ever changed in place.

    Attributes:
        identity: `identity` of the plan that it belongs to.
        samples: N.
        pushed: How many frames went in.
        given: How many items each cell has given.
        clocks: The step of each cell within its window, 0 to T - 1.
        cells: The state of each cell.
        queues: The items that wait, oldest first, for each cell and input.
    """

    identity: str
    samples: int
    pushed: int
    given: Mapping[str, int]
    clocks: Mapping[str, int]
    cells: Mapping[str, CellState]
    queues: Mapping[tuple[str, int], tuple[Packed | FrameBundle, ...]]


def initial(plan: StreamPlan, samples: int = 1) -> StreamState:
    """State before the first frame, for a batch of `samples` recordings.

    Raises:
        UsageError: If the batch is empty.
    """
    if samples < 1:
        raise UsageError(f"a stream needs at least one sample, got {samples}")
    return StreamState(
        plan.identity, samples, 0,
        {link.name: 0 for link in plan.links},
        {link.name: 0 for link in plan.links},
        {link.name: link.cell.initial(samples) for link in plan.links},
        {(link.name, i): () for link in plan.links for i in range(len(link.inputs))},
    )  # fmt: skip


class _Queue:
    """Items on their way from one cell to another: as tensors within a step, packed between steps."""

    def __init__(self, waiting: tuple[Packed | FrameBundle, ...]) -> None:
        self.items: deque[Packed | Item] = deque(waiting)

    def __len__(self) -> int:
        return len(self.items)

    def first(self) -> Item:
        item = self.items[0]
        return unpack(item) if isinstance(item, Packed) else item

    def take(self) -> Item:
        item = self.first()
        self.items.popleft()
        return item

    def waiting(self, kind: Kind) -> tuple[Packed | FrameBundle, ...]:
        return tuple(
            item if isinstance(item, Packed | FrameBundle) else pack(item, kind) for item in self.items
        )


def advance(
    plan: StreamPlan,
    state: StreamState,
    frame: Tensor,
    *,
    observe: FrameObserver | None = None,
    working: Clock | None = None,
) -> tuple[list[Emission], StreamState]:
    """Push one frame through: a pure function of plan, state and frame.

    Args:
        plan: The network.
        state: State before.
        frame: `[N, ...]`, float32.
        observe: Called with every item that a cell gives; it must not change it.
        working: Called before every step of a cell; it must not change the inputs.

    Returns:
        The results that became final with this frame, in order, and the new state.
    """
    return _advance(plan, state, frame, observe, working)


def _advance(
    plan: StreamPlan,
    state: StreamState,
    frame: Tensor,
    observe: FrameObserver | None = None,
    working: Clock | None = None,
    own: set[str] | None = None,
) -> tuple[list[Emission], StreamState]:
    """See `advance`; `own` names the cells whose state nobody else holds, so that its memory may be reused, and grows."""
    flow = _Flow(plan, state, observe, working, set() if own is None else own)
    flow.give(plan.input, frame, state.pushed % plan.T)
    if plan.schedule == "paced":
        for link in plan.links:
            if flow.ready(link):
                flow.work(link)
    else:
        # The last cell that is ready works first, so that only what has to wait is queued.
        while (ready := next(filter(flow.ready, reversed(plan.links)), None)) is not None:
            flow.work(ready)
    first = state.given[plan.output] if plan.output != plan.input else state.pushed
    emissions = [_emission(plan, first + i, value) for i, value in enumerate(flow.results)]
    return emissions, flow.state()


class _Flow:
    """One step of the stream while it runs."""

    def __init__(
        self,
        plan: StreamPlan,
        state: StreamState,
        observe: FrameObserver | None,
        working: Clock | None,
        own: set[str],
    ) -> None:
        self.plan, self.before, self.observe, self.working, self.own = plan, state, observe, working, own
        self.queues = {key: _Queue(items) for key, items in state.queues.items()}
        self.given, self.clocks, self.cells = dict(state.given), dict(state.clocks), dict(state.cells)
        self.results: list[Tensor] = []

    def give(self, name: str, item: Item, index: int) -> None:
        for key in self.plan.readers.get(name, ()):
            self.queues[key].items.append(item)
        if name == self.plan.output:
            self.results.append(as_tensor(item))
        if self.observe is not None:
            self.observe(name, index, as_tensor(item))

    def ready(self, link: Link) -> bool:
        return all(
            len(self.queues[link.name, i]) >= (self.plan.T if takes is Takes.WINDOW else 1)
            for i, takes in enumerate(link.takes)
        )

    def work(self, link: Link) -> None:
        T, t = self.plan.T, self.clocks[link.name]
        end = t == T - 1 or not link.per_frame
        inputs: list[Item] = []
        for i, takes in enumerate(link.takes):
            queue = self.queues[link.name, i]
            if takes is Takes.WINDOW:
                inputs.append(torch.stack([as_tensor(queue.take()) for _ in range(T)]))
            elif takes is Takes.VALUE and not end:
                inputs.append(queue.first())
            else:
                inputs.append(queue.take())
        if self.working is not None:
            self.working(link, tuple(map(as_tensor, inputs)))
        cell, before = link.cell, self.cells[link.name]
        if isinstance(cell, BundleCell):
            items, after = cell.step_items(tuple(inputs), before, t, reuse=link.name in self.own)
        else:
            items, after = cell.step(tuple(map(as_tensor, inputs)), before, t)
        self.clocks[link.name] = 0 if end else t + 1
        self.cells[link.name] = link.cell.initial(self.before.samples) if end else after
        self.own.add(link.name)
        for item in items:
            index = self.given[link.name] % T if link.signal.streams else 0
            self.given[link.name] += 1
            self.give(link.name, item if isinstance(item, FrameBundle) else plain(item), index)

    def state(self) -> StreamState:
        kept = {
            (link.name, i): self.queues[link.name, i].waiting(self.plan.signals[name].kind)
            for link in self.plan.links
            for i, name in enumerate(link.inputs)
        }
        pushed = self.before.pushed + 1
        return replace(
            self.before, pushed=pushed, given=self.given, clocks=self.clocks, cells=self.cells, queues=kept
        )


def _emission(plan: StreamPlan, count: int, value: Tensor) -> Emission:
    return Emission(count // plan.T, count % plan.T, value) if plan.streams else Emission(count, None, value)


class Stepper:
    """A stream with its current state.

    `state` can be read, kept and set back at any time; it is never changed in place, so keeping it is a
    snapshot.

    Attributes:
        plan: The network.
    """

    def __init__(self, plan: StreamPlan, state: StreamState) -> None:
        if state.identity != plan.identity:
            raise UsageError("the state belongs to another network, or to other options")
        self.plan = plan
        self._state, self._own = state, set[str]()

    @property
    def state(self) -> StreamState:
        """Everything that the stream remembers."""
        self._own = set()  # the caller may keep it, so its memory is no longer this stream's own
        return self._state

    @state.setter
    def state(self, state: StreamState) -> None:
        self._state, self._own = state, set[str]()

    def push(
        self,
        frame: Tensor | NDArray[Any],
        *,
        observe: FrameObserver | None = None,
        working: Clock | None = None,
    ) -> list[Emission]:
        """Push one frame `[N, ...]` and return the results that became final, in order.

        `observe` and `working` as for `advance`.

        Raises:
            DataError: If the frame does not have the shape that the network and the state expect.
        """
        x = torch.as_tensor(np.ascontiguousarray(frame) if isinstance(frame, np.ndarray) else frame)
        want = (self._state.samples, *self.plan.frames.features)
        if tuple(x.shape) != want:
            raise DataError(f"the frame has shape {list(x.shape)}, the stream expects {list(want)}")
        x = plain(x.to(torch.float32, copy=True))  # a copy, because the caller may change the frame later
        with torch.inference_mode():
            # An observer may raise an error, which must leave the previous state intact.
            own = self._own if observe is None and working is None else set[str]()
            emissions, after = _advance(self.plan, self._state, x, observe, working, own)
        self._state = after
        self._own |= own
        return emissions

    def clone(self) -> Stepper:
        """An independent stepper that goes on from here."""
        return Stepper(self.plan, self.state)

    @property
    def running(self) -> Tensor | None:
        """The result if the window had ended with the last frame that reached the readout.

        This is the mean over the frames so far, where the result is a mean over time or a stream of frames; `None`
        before the first such frame, and where the result is of another kind.
        """
        values: dict[str, Tensor] = {}
        for link in self.plan.links:
            if isinstance(link.cell, RunningMean):
                seen = self._state.clocks[link.name]
                if seen:
                    values[link.name] = self._state.cells[link.name]["sum"] / seen
            elif not link.signal.streams and all(name in values for name in link.inputs):
                items, _ = link.cell.step(tuple(values[name] for name in link.inputs), {}, 0)
                values[link.name] = as_tensor(items[0])
        return values.get(self.plan.running)


def stream(
    graph: Graph,
    *,
    lookahead: int | None = None,
    profile: FrameProfile | None = None,
    schedule: Schedule = "burst",
    samples: int = 1,
    engine: Literal["torch", "events"] = "torch",
) -> Stepper:
    """A graph as a stream: see `plan` for the options.

    Args:
        graph: The network.
        lookahead: See `plan`.
        profile: See `plan`.
        schedule: See `plan`.
        samples: N, recordings that run side by side.
        engine: What computes: torch on dense frames, or the event engine, whose work depends on the number of spikes.

    Raises:
        UsageError: If an option makes no sense.
    """
    network = plan(graph, lookahead=lookahead, profile=profile, schedule=schedule)
    if engine == "events":
        from tcja_deploy.runtime.stream.event_cells import on_events

        network = on_events(graph, network)
    return Stepper(network, initial(network, samples))
