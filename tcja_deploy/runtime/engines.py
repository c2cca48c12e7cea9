"""Which runtime runs a network: torch layer by layer, the event engine, or onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import ToolchainError, UsageError
from tcja_deploy.ir import Graph, Node
from tcja_deploy.runtime.activity.axes import frames_first
from tcja_deploy.runtime.activity.record import Recorder
from tcja_deploy.runtime.activity.shards import Windows

if TYPE_CHECKING:
    from tcja_deploy.runtime.events.plan import EventPlan
    from tcja_deploy.runtime.events.values import LayerValue
    from tcja_deploy.runtime.onnx.window import OnnxWindow
    from tcja_deploy.runtime.sequence import Observer

__all__ = ["ENGINES", "Choice", "Watching", "choose", "counting", "event_driven", "watching"]

Watching: TypeAlias = "Callable[[NDArray[np.float32], Observer], NDArray[np.float32]]"
"""Runs frames, calls the observer with the watched values, and returns the output; see `watching`."""

ChosenEngine = Literal["torch", "events", "onnx"]

ENGINES = ("auto", "torch", "events", "onnx")

_CPU = "cpu"

_ON_CPU = {"events": "the event engine", "onnx": "onnxruntime"}

_WORTHWHILE = 0.5
"""Share of the multiply-accumulates in layers with sparse input from which `auto` takes the event engine. On the zoo's
networks it is then several times as fast as torch, whatever their rates; inputs of real numbers gain nothing from it."""

_LOADING = 25e9
"""Multiply-accumulates from which that pays: about what torch computes while the event engine's kernels are loaded (1 s), or
two windows of the zoo's network for DVS128, or 300 of that for N-MNIST."""


@dataclass(frozen=True)
class Choice:
    """An engine and a device.

    Attributes:
        engine: `"torch"`, `"events"` or `"onnx"`.
        device: Where torch computes, by torch's name for it.
        reason: Why `auto` chose it, or that it was asked for.
    """

    engine: ChosenEngine
    device: str
    reason: str

    @property
    def label(self) -> str:
        """Engine, device and reason, for reports."""
        where = ""
        if self.device != _CPU:
            from tcja_deploy.runtime.device import device_name, open_device

            where = f" on {device_name(open_device(self.device))}"
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
    """Choose the engine for a network.

    Args:
        graph: The network.
        engine: `"auto"` for torch or the event engine, `"torch"`, `"events"` or `"onnx"`.
        device: Where torch computes; the other engines run on the CPU.
        samples: How many windows will be run; many if not given.

    Raises:
        UsageError: There is no such engine or device, or the two do not go together.
    """
    if engine not in ENGINES:
        raise UsageError(f"--engine {engine!r} is unknown", hint=f"use one of {', '.join(ENGINES)}")
    if device != _CPU:
        from tcja_deploy.runtime.device import open_device

        device = str(open_device(device))
    if engine in _ON_CPU and device != _CPU:
        raise UsageError(
            f"{_ON_CPU[engine]} runs on the CPU", hint=f"leave out --device, or --engine {engine}"
        )
    if engine != "auto":
        return Choice(cast(ChosenEngine, engine), device, "as asked for")
    if device != _CPU:
        return Choice("torch", device, "the engine for GPUs")
    work, share = event_driven(graph)
    if samples is not None and work * samples < _LOADING:
        return Choice("torch", device, "too little work for loading kernels to pay")
    reason = f"{share:.0%} of the multiply-accumulates have sparse input"
    return Choice("events" if share >= _WORTHWHILE else "torch", device, reason)


def watching(graph: Graph, choice: Choice, watched: Collection[str]) -> Watching:
    """A function that runs windows of a network and shows some of its values.

    Args:
        graph: The network.
        choice: See `choose`.
        watched: Names of the nodes whose values are shown.

    Returns:
        A function of frames `[T, N, ...]` and an observer, which it calls with the watched nodes and their values (on the
        device that computed them, shaped like their signals); it returns the output.
    """
    names = frozenset(watched)
    if choice.engine == "torch":
        return partial(_watch_torch, graph, choice.device, names)
    if choice.engine == "onnx":
        return partial(_watch_onnx, _translated(graph, names))
    return partial(_watch_events, _compiled(graph, names), names)


def _watch_torch(
    graph: Graph,
    device: str,
    names: frozenset[str],
    frames: NDArray[np.float32],
    observe: Observer,
) -> NDArray[np.float32]:
    from tcja_deploy.runtime.sequence import as_frames, run

    given = as_frames(graph, frames).to(device)
    output: NDArray[np.float32] = run(graph, given, observe=observe, watched=names).cpu().numpy()
    return output


def _watch_events(
    plan: EventPlan, names: frozenset[str], frames: NDArray[np.float32], observe: Observer
) -> NDArray[np.float32]:
    import torch

    from tcja_deploy.runtime.events.engine import run_plan

    def seen(node: Node, value: LayerValue) -> None:
        if node.name in names:
            observe(node, torch.from_numpy(value.dense))

    return run_plan(plan, frames, observe=seen)


def _watch_onnx(window: OnnxWindow, frames: NDArray[np.float32], observe: Observer) -> NDArray[np.float32]:
    import torch

    output, values = window.run(frames)
    for node in window.graph:
        if node.name in values:
            observe(node, torch.from_numpy(values[node.name]))
    return output


def _folded(graph: Graph, watched: Collection[str]) -> Graph:
    """The graph with batch normalisation folded, unless a folded node is watched."""
    from tcja_deploy.passes.fold import fold_batch_norm

    folded = fold_batch_norm(graph)
    return folded if {node.name for node in folded}.issuperset(watched) else graph


def _compiled(graph: Graph, watched: Collection[str]) -> EventPlan:
    """A plan of the event engine in which every watched value appears."""
    from tcja_deploy.runtime.events.plan import compile_graph

    return compile_graph(_folded(graph, watched), keep=watched)


def _translated(graph: Graph, watched: Collection[str]) -> OnnxWindow:
    """A model in onnxruntime in which every watched value appears."""
    try:
        from tcja_deploy.runtime.onnx.window import OnnxWindow
    except ImportError as error:
        raise ToolchainError(
            f"onnxruntime cannot be imported ({error})",
            hint="pip install onnx onnxruntime, or another --engine",
        ) from error

    return OnnxWindow(_folded(graph, watched), watched)


def counting(graph: Graph, choice: Choice, watched: Collection[str]) -> Windows:
    """A runner of windows of a network that counts the watched values."""
    if choice.engine == "torch":
        from tcja_deploy.runtime.activity.torch_windows import TorchWindows
        from tcja_deploy.runtime.device import open_device

        return TorchWindows(graph, open_device(choice.device))
    if choice.engine == "onnx":
        return _OnnxWindows(_translated(graph, watched))
    return _EventWindows(graph, watched)


class _OnnxWindows:
    """`Windows` on onnxruntime."""

    def __init__(self, window: OnnxWindow) -> None:
        self._window = window

    def count(self, frames: NDArray[np.float32], recorder: Recorder) -> NDArray[np.float32]:
        """See `Windows`."""
        graph = self._window.graph
        output, values = self._window.run(frames)
        for node in graph:
            if node.name in values:
                recorder.add(node.name, frames_first(node.signal, values[node.name]))
        return frames_first(graph[graph.output].signal, output)

    def flush(self, recorder: Recorder) -> None:
        """See `Windows`."""


class _EventWindows:
    """`Windows` on the event engine."""

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
        self._counter.wait()
        graph = self._plan.graph
        return frames_first(graph[graph.output].signal, found)

    def flush(self, recorder: Recorder) -> None:
        """See `Windows`."""
        self._counter.flush(recorder)
