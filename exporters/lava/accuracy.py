"""Comparing the float network with the integer one on data: accuracy, predictions, spike rates."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tcja_deploy.exporters.lava.calibration import StageReport
from tcja_deploy.exporters.lava.quantise import Quantised
from tcja_deploy.ir import Graph, Node
from tcja_deploy.runtime.engines import Watching, choose, watching
from tcja_deploy.runtime.integers.twin import Twin
from tcja_deploy.runtime.predictions import predictions

__all__ = ["Accuracy", "evaluate"]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Both networks on the same samples.

    Attributes:
        samples: Number of samples.
        labelled: How many of them have a label.
        float_correct: Labelled samples that the float network gets right.
        integer_correct: Those that the integer network gets right.
        agree: Samples with the same prediction.
        stages: Stage reports with the rates, disagreement, wraps and saturations on these data.
    """

    samples: int
    labelled: int
    float_correct: int
    integer_correct: int
    agree: int
    stages: tuple[StageReport, ...]

    @property
    def loss(self) -> float:
        """Accuracy that the integer network loses, in percentage points; 0 without labels."""
        return 100 * (self.float_correct - self.integer_correct) / self.labelled if self.labelled else 0.0


def evaluate(
    graph: Graph,
    quantised: Quantised,
    batches: Iterable[tuple[NDArray[Any], NDArray[np.int64] | None]],
    *,
    engine: str = "torch",
    samples: int | None = None,
    device: str = "cpu",
) -> Accuracy:
    """Run both networks over labelled batches.

    Args:
        graph: The float network.
        quantised: The integer one.
        batches: Frames `[T, n, ...]` with labels `[n]`, or with None if there are no labels; a negative label means no
            label.
        engine: What runs the float network, see `runtime.engines`.
        samples: Number of samples, if known.
        device: Where torch runs it, such as "cuda".
    """
    network = quantised.network
    twin = Twin(network)
    names = quantised.floats.values
    sums = {name: np.zeros(4, np.int64) for name in names}  # neuron-steps, spikes of both, differing
    events = {stage.name: np.zeros(3, np.int64) for stage in network.stages}  # wraps, saturations, peak
    totals = np.zeros(5, np.int64)
    watch = watching(graph, choose(graph, engine, device, samples=samples), names.values())
    for frames, labels in batches:
        integer = twin.run(frames, record=names)
        float_output = _compare(watch, frames, integer.recorded, names, sums)
        for name, counts in integer.counts.items():
            events[name] += (counts.wraps, counts.saturations, 0)
            events[name][2] = max(events[name][2], counts.peak)
        streams = graph[graph.output].signal.streams
        flat = float_output.reshape(*float_output.shape[: 1 + streams], -1)
        expected = predictions(flat, streams)
        found = predictions(integer.values, not network.readout.time_mean)
        known = np.full(len(expected), -1) if labels is None else np.asarray(labels)
        valid = known >= 0
        totals += (
            len(expected),
            valid.sum(),
            (expected == known)[valid].sum(),
            (found == known)[valid].sum(),
            (expected == found).sum(),
        )
    stages = []
    for report in quantised.stages:
        wraps, saturations, peak = map(int, events[report.name])
        report = replace(report, wraps=wraps, saturations=saturations, current=peak)
        if report.name in sums:
            size, spikes_float, spikes_integer, differing = map(int, sums[report.name])
            report = replace(
                report,
                rate_float=spikes_float / max(size, 1),
                rate_integer=spikes_integer / max(size, 1),
                disagreement=differing / max(size, 1),
            )
        stages.append(report)
    samples, labelled, right, kept, agree = map(int, totals)
    return Accuracy(samples, labelled, right, kept, agree, tuple(stages))


def _compare(
    watch: Watching,
    frames: NDArray[Any],
    recorded: dict[str, NDArray[np.integer]],
    names: dict[str, str],
    sums: dict[str, NDArray[np.int64]],
) -> NDArray[np.float32]:
    """Output of the float network; adds the counts that compare its spikes with the recorded ones to `sums`."""
    by_node = {node: stage for stage, node in names.items()}

    def observe(node: Node, value: torch.Tensor) -> None:
        if (stage := by_node.get(node.name)) is not None:
            fired = value.cpu().numpy() != 0
            other = recorded[stage] != 0
            sums[stage] += (fired.size, fired.sum(), other.sum(), (fired != other).sum())

    return watch(frames.astype(np.float32), observe)
