"""How far low-latency streams stray from the exact one, over a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tcja_deploy.errors import DataError
from tcja_deploy.ir import Graph, Kind
from tcja_deploy.runtime.agreement import spikes_of
from tcja_deploy.runtime.resume import KeptProgress
from tcja_deploy.runtime.stream.decision import Batch, Decisions
from tcja_deploy.runtime.stream.engine import Stepper, initial
from tcja_deploy.runtime.stream.estimate import FrameProfile
from tcja_deploy.runtime.stream.plan import GATE, StreamPlan, plan
from tcja_deploy.runtime.stream.timing import timing

__all__ = ["SWEEP", "Divergence", "sweep"]

SWEEP = "compared"
"""Name of the part of a run's progress that this module keeps; its state says how many recordings are done."""


@dataclass(frozen=True)
class Divergence:
    """A stream compared with the exact stream, over a data set.

    Attributes:
        lookahead: D.
        estimate: What gates expect of frames that have not arrived.
        latency: Frames between the one that completes a result and the result, under the paced schedule.
        samples: Recordings.
        gate_error: The largest and the mean absolute difference of the gates of each block.
        spikes: For each spiking layer, how many spikes it has in the exact run, how many neuron-steps differ, and how many
            neuron-steps there are.
        agreement: Share of recordings with the prediction of the exact run.
        accuracy: Share of recordings with the correct prediction; `None` without labels.
        running_accuracy: Accuracy of the prediction after each frame, where there is one (the mean over what has reached
            the readout); `None` before, and without labels.
        decision: Mean number of frames after which the prediction no longer changes.
    """

    lookahead: int
    estimate: str
    latency: int
    samples: int
    gate_error: Mapping[str, tuple[float, float]]
    spikes: Mapping[str, tuple[int, int, int]]
    agreement: float
    accuracy: float | None
    running_accuracy: tuple[float | None, ...]
    decision: float

    @property
    def mismatch(self) -> float:
        """Differing spikes over all layers, as a share of the spikes of the exact run."""
        spikes = sum(s for s, _, _ in self.spikes.values())
        return sum(m for _, m, _ in self.spikes.values()) / spikes if spikes else 0.0

    @property
    def worst_gate_error(self) -> tuple[float, float]:
        """The largest difference of any gate, and the largest mean difference of any block."""
        return (
            max((most for most, _ in self.gate_error.values()), default=0.0),
            max((mean for _, mean in self.gate_error.values()), default=0.0),
        )


@dataclass
class _Trace:
    """The gates, spikes and predictions of one stream on a batch."""

    gates: dict[str, list[NDArray[np.float32]]] = field(default_factory=dict)
    spikes: dict[str, list[NDArray[np.uint8]]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    decisions: Decisions = field(default_factory=Decisions)


class _Sums:
    """Sums of one configuration over the batches."""

    def __init__(self, T: int) -> None:
        self.samples = self.agree = self.right = 0
        self.gates: dict[str, tuple[float, float, int]] = {}
        self.spikes: dict[str, tuple[int, int, int]] = {}
        self.running_right, self.running_known = [0] * T, [0] * T
        self.decision = 0

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Go on from what `vars` gave in an earlier run, as read from JSON."""
        for name, value in kept.items():
            tuples = isinstance(value, dict)
            setattr(self, name, {k: tuple(v) for k, v in value.items()} if tuples else value)


def sweep(
    graph: Graph,
    batches: Iterable[Batch],
    *,
    lookaheads: Sequence[int],
    profiles: Mapping[str, FrameProfile | None],
    progress: Callable[[int], None] | None = None,
    kept: KeptProgress | None = None,
) -> tuple[Divergence, ...]:
    """Compare streams of several look-aheads and estimates with the exact one.

    Args:
        graph: The network.
        batches: Frames `[T, n, ...]` and labels `[n]` (or `None`); read once.
        lookaheads: Values of D.
        profiles: Estimates by name, such as `{"zeros": None, "mean": fit(...)}`.
        progress: Called with the number of recordings done.
        kept: Where progress is kept; `batches` begin after the recordings that an interrupted run has kept there.

    Returns:
        One entry for each look-ahead and estimate, in this order.

    Raises:
        DataError: If there is no data or frames do not fit.
        UsageError: If a look-ahead is outside `0 .. T - 1`.
    """
    exact = plan(graph)
    plans = {
        (D, name): plan(graph, lookahead=D, profile=profile)
        for D in lookaheads
        for name, profile in profiles.items()
    }
    neurons = {node.name: node.signal.kind for node in graph.neurons}
    sums = {key: _Sums(graph.T) for key in plans}
    labelled, done = True, 0
    found = None if kept is None else kept.part(SWEEP)
    if found is not None:
        labelled, done = found[0]["labelled"], found[0]["done"]
        for key, state in zip(plans, found[0]["sums"], strict=True):
            sums[key].restore(state)
    for frames, labels in batches:
        labelled = labelled and labels is not None
        truth = _trace(exact, frames, neurons)
        for key, network in plans.items():
            _add(sums[key], truth, _trace(network, frames, neurons), labels)
        done += frames.shape[1]
        if progress is not None:
            progress(done)
        if kept is not None and kept.due:
            kept.keep(
                SWEEP, {"done": done, "labelled": labelled, "sums": [vars(s) for s in sums.values()]}, {}
            )
    if not done:
        raise DataError("there are no recordings to compare on")
    return tuple(_divergence(key, sums[key], plans[key], labelled) for key in plans)


def _trace(network: StreamPlan, frames: NDArray[np.float32], neurons: Mapping[str, Kind]) -> _Trace:
    stepper, trace = Stepper(network, initial(network, frames.shape[1])), _Trace()

    def observe(name: str, index: int, value: Tensor) -> None:
        if name.endswith(GATE):
            trace.gates.setdefault(name.removesuffix(GATE), []).append(value.numpy())
        elif name in neurons:
            sent = spikes_of(value.numpy(), neurons[name])
            trace.spikes.setdefault(name, []).append(np.packbits(sent) if sent.dtype == np.bool_ else sent)
            trace.sizes[name] = trace.sizes.get(name, 0) + value.numel()

    for frame in frames:
        trace.decisions.add(stepper, stepper.push(frame, observe=observe))
    return trace


def _add(sums: _Sums, truth: _Trace, trace: _Trace, labels: NDArray[np.int64] | None) -> None:
    for name, gates in truth.gates.items():
        error = np.abs(np.stack(gates) - np.stack(trace.gates[name]))
        most, total, count = sums.gates.get(name, (0.0, 0.0, 0))
        sums.gates[name] = (
            max(most, float(error.max())),
            total + float(error.sum(dtype=np.float64)),
            count + error.size,
        )
    for name, layer in truth.spikes.items():
        expected, got = np.stack(layer), np.stack(trace.spikes[name])
        if expected.dtype == np.uint8:  # packed
            expected, got = np.unpackbits(expected), np.unpackbits(got)
        spikes, wrong, size = sums.spikes.get(name, (0, 0, 0))
        sums.spikes[name] = (
            spikes + int(np.count_nonzero(expected)),
            wrong + int(np.count_nonzero(expected != got)),
            size + truth.sizes[name],
        )
    final = trace.decisions.final
    sums.samples += len(final)
    sums.agree += int((final == truth.decisions.final).sum())
    sums.decision += int(trace.decisions.settled.sum())
    if labels is not None:
        sums.right += int((final == labels).sum())
        for t, now in enumerate(trace.decisions.steps):
            if now is not None:
                sums.running_right[t] += int((now == labels).sum())
                sums.running_known[t] += len(now)


def _divergence(key: tuple[int, str], sums: _Sums, network: StreamPlan, labelled: bool) -> Divergence:
    running = (
        right / known if known else None
        for right, known in zip(sums.running_right, sums.running_known, strict=True)
    )
    return Divergence(
        lookahead=key[0],
        estimate=key[1],
        latency=timing(network).latency,
        samples=sums.samples,
        gate_error={name: (most, total / count) for name, (most, total, count) in sums.gates.items()},
        spikes=dict(sums.spikes),
        agreement=sums.agree / sums.samples,
        accuracy=sums.right / sums.samples if labelled else None,
        running_accuracy=tuple(running),
        decision=sums.decision / sums.samples,
    )
