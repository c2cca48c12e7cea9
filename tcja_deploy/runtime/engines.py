"""Which runtime runs a network: torch's layer by layer, or the event engine."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from tcja_deploy.errors import UsageError
from tcja_deploy.ir import Graph, Node
from tcja_deploy.runtime.activity.collect import TorchWindows, Windows, frames_first
from tcja_deploy.runtime.activity.record import Recorder
from tcja_deploy.runtime.device import device_name, open_device
from tcja_deploy.runtime.sequence import Observer, as_frames, run

if TYPE_CHECKING:
    from tcja_deploy.runtime.events.plan import EventPlan
    from tcja_deploy.runtime.events.values import LayerValue

__all__ = ["ENGINES", "Choice", "Watching", "choose", "counting", "event_driven", "watching"]

Watching = Callable[[NDArray[np.float32], Observer], NDArray[np.float32]]
"""Runs frames, calls the observer with watched values, gives the output; see `watching`."""

ENGINES = ("auto", "torch", "events")

_WORTHWHILE = 0.5
"""Share of the multiply-accumulates in layers whose input is sparse, from which on `auto` takes the event engine. Measured on
the zoo's networks it is then several times as fast as torch, whatever their rates; real numbers gain nothing from it."""

_LOADING = 25e9
"""Multiply-accumulates from which on that pays: about what torch computes while the event engine's kernels are loaded (1 s). On
the zoo's networks that is two windows of DVS128 or 300 of N-MNIST."""


@dataclass(frozen=True)
class Choice:
    """An engine and a device.

    Attributes:
        engine: `"torch"` or `"events"`.
        device: Where torch computes.
        reason: Why `auto` took it, or that it was asked for.
    """

    engine: Literal["torch", "events"]
    device: torch.device
    reason: str

    @property
    def label(self) -> str:
        """For reports."""
        where = "" if self.device.type == "cpu" else f" on {device_name(self.device)}"
        return f"{self.engine}{where} ({self.reason})"


def event_driven(graph: Graph) -> tuple[int, float]:
    """Multiply-accumulates of a window, and the share of them in layers with a sparse input."""
    total = driven = 0
    for node in graph:
        signals = graph.signals_in(node)
        macs = node.op.macs(*signals, T=graph.T)
        total += macs
        driven += macs if macs and signals[0].kind.sparse else 0
    return total, driven / total if total else 0.0


def choose(graph: Graph, engine: str = "auto", device: str = "cpu", *, samples: int | None = None) -> Choice:
    """The engine for a network.

    Args:
        graph: The network.
        engine: `"auto"`, `"torch"` or `"events"`.
        device: Where torch computes; the event engine runs on the CPU.
        samples: How many windows will be run; many if not given.

    Raises:
        UsageError: There is no such engine or device, or the two do not go together.
    """
    if engine not in ENGINES:
        raise UsageError(f"--engine {engine!r} is unknown", hint=f"use one of {', '.join(ENGINES)}")
    place = open_device(device)
    if engine == "events" and place.type != "cpu":
        raise UsageError("the event engine runs on the CPU", hint="leave out --device, or --engine events")
    if engine == "torch":
        return Choice("torch", place, "as asked for")
    if engine == "events":
        return Choice("events", place, "as asked for")
    if place.type != "cpu":
        return Choice("torch", place, "the engine for GPUs")
    work, share = event_driven(graph)
    if samples is not None and work * samples < _LOADING:
        return Choice("torch", place, "too little work for loading kernels to pay")
    reason = f"{share:.0%} of the multiply-accumulates have sparse input"
    return Choice("events" if share >= _WORTHWHILE else "torch", place, reason)


def watching(graph: Graph, choice: Choice, watched: Collection[str]) -> Watching:
    """What runs windows of a network and shows some of its values.

    Args:
        graph: The network.
        choice: See `choose`.
        watched: Names of the values.

    Returns:
        A function of frames `[T, N, ...]` and of an observer, which it calls with the watched nodes and their values (where
        they were computed, shaped like the signal); it gives the output.
    """
    names = frozenset(watched)
    if choice.engine == "torch":
        return partial(_watch_torch, graph, choice.device, names)
    return partial(_watch_events, _compiled(graph, names), names)


def _watch_torch(
    graph: Graph,
    device: torch.device,
    names: frozenset[str],
    frames: NDArray[np.float32],
    observe: Observer,
) -> NDArray[np.float32]:
    def seen(node: Node, value: torch.Tensor) -> None:
        if node.name in names:
            observe(node, value)

    output: NDArray[np.float32] = run(graph, as_frames(graph, frames).to(device), observe=seen).cpu().numpy()
    return output


def _watch_events(
    plan: EventPlan, names: frozenset[str], frames: NDArray[np.float32], observe: Observer
) -> NDArray[np.float32]:
    from tcja_deploy.runtime.events.engine import run_plan

    def seen(node: Node, value: LayerValue) -> None:
        if node.name in names:
            observe(node, value.dense)

    output: NDArray[np.float32] = run_plan(plan, frames, observe=seen).numpy()
    return output


def _compiled(graph: Graph, watched: Collection[str]) -> EventPlan:
    """A plan in which every watched value appears; a normalisation that somebody watches is not folded away."""
    from tcja_deploy.passes.fold import fold_batch_norm
    from tcja_deploy.runtime.events.plan import compile_graph

    folded = fold_batch_norm(graph)
    names = {node.name for node in folded}
    return compile_graph(folded if names.issuperset(watched) else graph, keep=watched)


def counting(graph: Graph, choice: Choice, watched: Collection[str]) -> Windows:
    """What runs windows of a network and counts the watched values."""
    if choice.engine == "torch":
        return TorchWindows(graph, choice.device)
    return _EventWindows(graph, watched)


class _EventWindows:
    """See `Windows`; by the event engine."""

    def __init__(self, graph: Graph, watched: Collection[str]) -> None:
        from tcja_deploy.runtime.events.counting import Counter

        self._plan = _compiled(graph, watched)
        self._counter = Counter()

    def count(self, frames: NDArray[np.float32], recorder: Recorder) -> NDArray[np.float32]:
        """See `Windows`."""
        from tcja_deploy.runtime.events.engine import run_plan

        def observe(node: Node, value: LayerValue) -> None:
            self._counter.add(recorder, node, value)

        found = run_plan(self._plan, frames, observe=observe)
        graph = self._plan.graph
        result: NDArray[np.float32] = frames_first(graph[graph.output].signal, found).numpy()
        return result

    def flush(self, recorder: Recorder) -> None:
        """See `Windows`."""
        self._counter.flush(recorder)
