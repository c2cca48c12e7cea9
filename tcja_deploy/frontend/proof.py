"""Proof that a traced graph computes what its module computes: both are run on the same windows of made-up frames.

Reading code can miss what the code remembers: a membrane in a plain attribute, a counter, the frame before. So a copy of the
module is run in evaluation mode on two windows whose frames all differ: the first; the second right after it, without a
reset; and the second once more after a reset as SpikingJelly does it (every `reset()` is called). Each time the graph has to
give the same spikes and the same outputs; where nothing was reset, it goes on with the membranes of its own neurons, or begins
anew if the module does. The frames are scaled until every layer of neurons spikes, if a scale does that.

What may differ is rounding. Outputs agree to `OUTPUT_BOUND` of the largest. A spike may differ where the membrane lies within
`NEAR` of the threshold, relative to the largest membrane of its layer: the same terms summed in another order do that. One
such spike changes everything after it, so each part is then compared on what the module itself passed to it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tcja_deploy.errors import TraceError
from tcja_deploy.frontend.confirm import NEAR, nearness
from tcja_deploy.frontend.subject import Subject
from tcja_deploy.frontend.traced import TimeReading
from tcja_deploy.ir import Graph, Kind, Node
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.agreement import OUTPUT_BOUND
from tcja_deploy.runtime.membranes import Membrane, integrate
from tcja_deploy.runtime.sequence import evaluate, run

__all__ = ["Proof", "prove"]

_GAINS = (1, 2, 4, 8, 16, 64, 256, 4096)
"""Factors of the made-up frames that are tried, until every layer spikes."""

_LARGE = 2e8
"""Multiply-accumulates of a window and sample above which one sample has to do instead of two."""

States = dict[str, Tensor]
"""Membranes by node."""


@dataclass(frozen=True)
class Proof:
    """What was found out by running both.

    Attributes:
        windows: How many were run, and of what.
        layers: Layers of neurons.
        silent: Those that spiked in no window, whatever the frames were multiplied by: what they do is not proven.
        goes_on: Whether the module keeps its memory from window to window, although every `reset()` was called.
    """

    windows: str
    layers: int
    silent: tuple[str, ...]
    goes_on: bool

    @property
    def facts(self) -> dict[str, str]:
        """For the graph's source."""
        spiking = self.layers - len(self.silent)
        active = f", {spiking} of {self.layers} layers of neurons spiked" if self.layers else ""
        facts = {"proof": f"equal to the module on {self.windows}{active}"}
        if self.silent:
            names = ", ".join(self.silent[:5]) + (", ..." if len(self.silent) > 5 else "")
            what = "no layer of neurons" if not spiking else f"{len(self.silent)} of {self.layers} layers"
            verb = "spiked" if not spiking else f"did not spike ({names})"
            facts["silence"] = (
                f"{what} {verb} on made-up frames, even on frames {_GAINS[-1]} times as large: what comes after is "
                "not proven; compare on recordings (--data)"
            )
        if self.goes_on:
            facts["memory"] = (
                "the module carries what it remembers from window to window, and no reset() clears it; "
                "the graph begins each window anew"
            )
        return facts


def prove(graph: Graph, module: nn.Module, view: TimeReading, batch_first: bool) -> Proof:
    """Run both; the module is copied, and is afterwards as it was.

    Args:
        graph: What was read.
        module: What it was read from.
        view: How the module sees the time axis of its input.
        batch_first: Whether it takes `[N, T, ...]`.

    Returns:
        What was proven.

    Raises:
        TraceError: If the module fails, or the graph computes something else; with the path of the part where that begins, and
            the attributes in which it remembers something.
    """
    macs = sum(n.op.macs(*graph.signals_in(n), T=graph.T) for n in graph if n.inputs)
    samples = 1 if macs > _LARGE else 2
    samples += samples == graph.T  # so that shapes tell the two axes apart
    gain = _gain(graph, view)
    windows = [_frames(graph, view, samples, gain, seed) for seed in (1, 2)]
    beside = _Beside(graph, Subject(module, view, batch_first))
    beside.compare("the first window", windows[0])
    beside.compare("a second window without a reset", windows[1])
    beside.compare("a second window after a reset", windows[1], reset=True)
    silent = tuple(n.name for n in graph.neurons if n.name not in beside.spiked)
    made_up = f"3 windows of {samples} made-up sample{'s' * (samples > 1)}"
    return Proof(made_up, len(graph.neurons), silent, beside.goes_on)


# -- frames ----------------------------------------------------------------------------------------------------------------
def _frames(graph: Graph, view: TimeReading, samples: int, gain: int, seed: int) -> Tensor:
    """A window `[T, N, ...]` whose frames differ; one image for code that repeats it."""
    rng = np.random.default_rng(seed)
    shape = (1 if view in ("image", "static") else graph.T, samples, *graph.input_shape)
    x: NDArray[Any]
    match graph.input.signal.kind:
        case Kind.COUNT:
            x = rng.poisson(0.5, shape) * float(gain)
        case Kind.BINARY:
            x = rng.random(shape) < min(0.9, 0.2 * gain)
        case _:
            x = rng.normal(0, 1, shape)
            x[:, ::2] = rng.random(x[:, ::2].shape)
            x *= gain
    return torch.from_numpy(np.repeat(x.astype(np.float32), graph.T // shape[0], 0))


def _gain(graph: Graph, view: TimeReading) -> int:
    """The smallest factor of the frames for which most layers of neurons spike."""
    best = (1, -1)
    for gain in _GAINS:
        spiking = 0

        def count(node: Node, value: Tensor) -> None:
            nonlocal spiking
            spiking += node.op.spiking and bool(value.any())

        run(graph, _frames(graph, view, 1, gain, 1), observe=count)
        if spiking > best[1]:
            best = (gain, spiking)
        if spiking == len(graph.neurons):
            break
    return best[0]


# -- two runs --------------------------------------------------------------------------------------------------------------
class _Beside:
    """The module beside the graph, window after window.

    Attributes:
        spiked: Layers of neurons that spiked so far.
        goes_on: Whether the module went on with what it remembered when it was asked to forget.
    """

    def __init__(self, graph: Graph, subject: Subject) -> None:
        self.spiked: set[str] = set()
        self.goes_on = False
        self._graph, self._subject = graph, subject
        self._past: list[Tensor | None] = []
        self._states: States = {}

    def compare(self, what: str, frames: Tensor, *, reset: bool = False) -> None:
        """Run both on the next window; the module is asked to forget before, if `reset`.

        Raises:
            TraceError: If the graph computes something else, beginning anew or where it stopped.
        """
        if reset:
            self._subject.reset()
            self._past.append(None)
        recall: list[States] = [{}]
        if self._past:  # integrators of some libraries begin each window anew, their neurons do not
            spiking = {n.name for n in self._graph.neurons}
            recall = [
                self._states,
                {k: v for k, v in self._states.items() if k in spiking},
                *self._partly(),
                {},
            ]
        if reset:
            recall.reverse()
        found = _run_module(self._graph, self._subject, frames, only_spikes=True)
        for states in recall:
            after = dict(states)
            ours = _run_graph(self._graph, frames, after)
            if _agree(found, ours):
                self.spiked |= {name for name, spikes in ours.recorded.items() if bool(spikes.any())}
                self.goes_on = reset and bool(states)
                self._past.append(frames)
                self._states = after
                return
        self._diagnose(what, frames, recall)

    def _partly(self) -> Iterator[States]:
        """Of recurrences with several states some may begin anew with each window, and others not."""
        ops = {n.name: n.op for n in self._graph if isinstance(n.op, ir.Recurrence)}
        count = min(3, max((len(op.initial) for op in ops.values()), default=0))
        for i in range(count if count > 1 else 0):
            states = dict(self._states)
            for name, op in ops.items():
                if i < len(op.initial):
                    states[name] = states[name].clone()
                    states[name][i] = op.initial[i]
            yield states

    def _diagnose(self, what: str, frames: Tensor, recall: list[States]) -> None:
        """Part by part, on what the module passed to each of them: rounding, or something else?"""
        self._subject.fresh()
        for window in self._past:
            if window is None:
                self._subject.reset()
            else:
                self._subject.window(window)
        before = self._subject.memory()
        found = _run_module(self._graph, self._subject, frames, only_spikes=False)
        changed = self._subject.changed(before)
        trials = [_part_by_part(self._graph, frames, dict(states), found) for states in recall]
        rounding = next((t for t in trials if t.only_rounding), None)
        if rounding is None:
            raise _refusal(self._graph, what, trials[0], changed)
        self.spiked |= rounding.spiked
        self._past.append(frames)
        self._states = rounding.states


@dataclass(frozen=True)
class _Found:
    """What the module gave: its output as it came, and the results `[T, N, ...]` of parts by path."""

    output: Tensor
    recorded: dict[str, Tensor]


def _run_module(graph: Graph, subject: Subject, frames: Tensor, *, only_spikes: bool) -> _Found:
    """Run it on a window and record the results of parts that have a node of their own (`only_spikes`: of neurons alone)."""
    shapes = {n.name: n.signal.shape(graph.T, frames.shape[1]) for n in graph}
    spiking = {n.name: n.signal.kind for n in graph.neurons}
    parts: dict[str, list[Tensor]] = defaultdict(list)

    def record(path: str, value: Tensor) -> None:
        if path in spiking:
            parts[path].append(value != 0 if spiking[path] is Kind.BINARY else value.clone())
        elif path in shapes and not only_spikes:
            parts[path].append(value.clone())

    with subject.recording(record):
        output = subject.window(frames)
    whole = {p: v for p, values in parts.items() if (v := _whole(values, shapes[p])) is not None}
    return _Found(output, whole)


def _whole(parts: list[Tensor], shape: tuple[int, ...]) -> Tensor | None:
    """One value of this shape from the results of one call or of a call for each step; `None` if it is something else."""
    y = parts[0] if len(parts) == 1 else torch.stack(parts) if len(parts) == shape[0] else None
    if y is not None and y.ndim == len(shape) and y.shape[:2] == (shape[1], shape[0]):
        y = y.transpose(0, 1)  # batch-first code
    return y.reshape(shape) if y is not None and y.numel() == math.prod(shape) else None


def _run_graph(graph: Graph, frames: Tensor, states: States) -> _Found:
    """Output and spikes by node; neurons begin with `states`, which afterwards hold what they end with."""
    spikes: dict[str, Tensor] = {}
    values: dict[str, Tensor] = {}
    for node, value in _evaluated(graph, frames, values, states):
        values[node.name] = value
        if node.op.spiking:
            spikes[node.name] = value != 0 if node.signal.kind is Kind.BINARY else value
    return _Found(values[graph.output], spikes)


def _evaluated(
    graph: Graph, frames: Tensor, values: dict[str, Tensor], states: States
) -> Iterator[tuple[Node, Tensor]]:
    """Each node with its value; the caller puts into `values` what the nodes after it are to read."""
    last_reader = {name: node.name for node in graph for name in node.inputs}
    for node in graph:
        with torch.inference_mode():
            inputs = [values[name] for name in node.inputs] if node.inputs else [frames]
            if isinstance(node.op, Membrane):
                value, states[node.name] = integrate(node.op, inputs[0], states.get(node.name))
            else:
                value = evaluate(node.op, *inputs)
        yield node, value
        for name in node.inputs:
            if last_reader[name] == node.name:
                values.pop(name, None)


def _agree(module: _Found, graph: _Found) -> bool:
    """Whether two runs gave the same output, up to rounding, and the same spikes where both are known."""
    same = all(bool((s == graph.recorded[name]).all()) for name, s in module.recorded.items())
    return same and _gap(module.output, graph.output) <= OUTPUT_BOUND


def _gap(module: Tensor, graph: Tensor) -> float:
    """Largest difference relative to the largest value; infinite if the numbers of values differ."""
    if module.numel() != graph.numel():
        return math.inf
    difference = (module.reshape(graph.shape) - graph).abs().nan_to_num(math.inf)
    return float(difference.max()) / (float(module.abs().max()) or 1.0) if difference.numel() else 0.0


# -- where they part -------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Parts:
    """A comparison part by part.

    Attributes:
        gap: The gap of the outputs, see `_gap`.
        first: The first part whose result differs for the same input; `None` if no part that can be recorded is one.
        wrong_spikes: Whether that part is a layer of neurons.
        near: Whether there are neurons with a membrane at the threshold whose results cannot be recorded.
        states: Memories of the graph afterwards.
        spiked: Layers of neurons that spiked.
    """

    gap: float
    first: str | None
    wrong_spikes: bool
    near: bool
    states: States
    spiked: frozenset[str]

    @property
    def only_rounding(self) -> bool:
        """Whether nothing but sums in another order can be the cause."""
        return not self.wrong_spikes and (self.gap <= OUTPUT_BOUND or (self.first is None and self.near))


def _part_by_part(graph: Graph, frames: Tensor, states: States, module: _Found) -> _Parts:
    """Run the graph; after each recorded part go on with what the module had there, if only rounding differs."""
    values: dict[str, Tensor] = {}
    first: str | None = None
    near = wrong_spikes = False
    spiked: set[str] = set()
    begun = dict(states)
    for node, value in _evaluated(graph, frames, values, states):
        recorded = module.recorded.get(node.name)
        same = True
        if node.op.spiking and isinstance(node.op, Membrane):
            spiked |= {node.name} if bool(value.any()) else set()
            at_threshold = nearness(node.op, values[node.inputs[0]], begun.get(node.name)) <= NEAR
            if recorded is None:
                near = near or bool(at_threshold.any())
            else:
                differs = recorded != value
                begins = differs & (differs.cumsum(0) == 1)
                same = bool(at_threshold[begins].all())
                wrong_spikes = wrong_spikes or not same
        elif recorded is not None:
            same = _gap(recorded, value) <= OUTPUT_BOUND
            if not same and recorded.ndim > 1 and recorded.shape[:2] == value.shape[:2]:
                turned = recorded.reshape(
                    recorded.shape[1], recorded.shape[0], *recorded.shape[2:]
                ).transpose(0, 1)
                if _gap(turned, value) <= OUTPUT_BOUND:  # batch-first code
                    recorded, same = turned, True
        if not same:
            first = first or node.name
        values[node.name] = value if recorded is None or not same else recorded.to(value.dtype)
    return _Parts(
        _gap(module.output, values[graph.output]), first, wrong_spikes, near, states, frozenset(spiked)
    )


def _refusal(graph: Graph, what: str, parts: _Parts, changed: dict[str, list[str]]) -> TraceError:
    """Names the part in which the results begin to differ, and what it remembers."""
    stateful = [n.name for n in graph if n.op.membrane]
    unknown = {
        p: names for p, names in changed.items() if not any(_inside(p, s) or _inside(s, p) for s in stateful)
    }
    guilty = next((p for p in unknown if parts.first is not None and _inside(p, parts.first)), None)
    guilty = guilty if guilty is not None else next(iter(unknown), None)
    near = math.isfinite(parts.gap)
    gap = f"outputs that differ by {parts.gap:.2g} of the largest" if near else "different outputs"
    seen = f"on made-up frames ({what}) the module and what was read from it give {gap}"
    if guilty is not None:
        names = ", ".join(repr(n) for n in unknown[guilty])
        return TraceError(
            f"keeps {names} from one time step to the next, and no translation of that memory was found; {seen}",
            where=guilty or "forward",
            hint="docs/neurons.md lists the modules with memory that can be read",
        )
    return TraceError(
        f"computes something other than what was read from it; {seen}",
        where=parts.first or "forward",
        hint="what depends on more than the input, such as random numbers, the batch or a call counter, cannot be read",
    )


def _inside(path: str, outer: str) -> bool:
    return path == outer or path.startswith(f"{outer}.")
