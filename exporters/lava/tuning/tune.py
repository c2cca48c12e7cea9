"""Short quantisation-aware fine-tuning: rounded weights learn to compute what the float network computed.

The target is the output of the float network itself, so that recordings need no labels and the loss suits any training
objective: the squared error of the outputs, relative to their variance. Adam with a cosine schedule updates the weights
of each layer at a rate relative to their root mean square. Normalisation and neurons stay as they are; the exporter
corrects biases, and so does the loop. Weights are rounded to the exporter's steps, which are recomputed for each epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tcja_deploy.errors import DataError, UsageError
from tcja_deploy.exporters.lava.accuracy import Accuracy, evaluate
from tcja_deploy.exporters.lava.options import LavaOptions
from tcja_deploy.exporters.lava.quantise import Quantised, quantise
from tcja_deploy.exporters.lava.tuning.rounded import RoundedNetwork
from tcja_deploy.exporters.target import ExportProgress, unmonitored
from tcja_deploy.ir import Graph
from tcja_deploy.runtime.sequence import run

__all__ = ["TuneOptions", "Tuned", "tune"]

Labelled = Iterable[tuple[NDArray[Any], NDArray[np.int64] | None]]

CALIBRATION = 100
"""Number of recordings, evenly spaced, on which the exporter's scales are computed."""


@dataclass(frozen=True)
class TuneOptions:
    """How to train.

    Attributes:
        epochs: Number of passes over all recordings.
        lr: Learning rate of Adam at the start of the cosine, in root mean squares of a layer's weights.
        batch: Number of recordings per step.
        seed: Seed of their order.

    Raises:
        UsageError: If a value is out of its range.
    """

    epochs: int = 3
    lr: float = 0.01
    batch: int = 25
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 1:
            raise UsageError(f"{self.epochs} epochs of batches of {self.batch} train nothing")
        if not 0 < self.lr < 1:
            raise UsageError(f"a learning rate lies between 0 and 1, got {self.lr:g}")
        if not 0 <= self.seed < 1 << 63:
            raise UsageError(f"a seed has 63 bits and no sign, got {self.seed}")


@dataclass(frozen=True)
class Tuned:
    """A fine-tuned network, and the effect of each stage of tuning on the same recordings.

    Attributes:
        graph: The float network with its new weights.
        rounded: Float and integer network before tuning, with biases merely rounded.
        corrected: The same with biases that compensate the mean error (`correct_bias`).
        tuned: Float and integer network after tuning, with biases as the export's options say.
        samples: Number of recordings trained on.
        losses: Mean loss of each epoch.
        unrounded: Layers without a step: those on the host, or merged with others.
    """

    graph: Graph
    rounded: Accuracy
    corrected: Accuracy
    tuned: Accuracy
    samples: int
    losses: tuple[float, ...]
    unrounded: tuple[str, ...]


def tune(
    graph: Graph,
    batches: Labelled,
    *,
    test: Labelled | None = None,
    options: TuneOptions | None = None,
    export: LavaOptions | None = None,
    progress: ExportProgress = unmonitored,
) -> Tuned:
    """Fine-tune a network for its export to Lava.

    Args:
        graph: The network; it is not changed.
        batches: Frames `[T, n, ...]` to train on, with labels `[n]` or None.
        test: Labelled frames on which to compare the networks; if not given, those trained on.
        options: How to train.
        export: How the network will be exported.
        progress: Called with a description of the current work and the number of recordings done.

    Raises:
        UnsupportedError: If Lava cannot express nodes or numbers.
        UsageError: If the network has no weights.
        DataError: If there are no recordings, or they do not fit the network.
    """
    options, export = options or TuneOptions(), export or LavaOptions()
    kept = list(batches)
    frames = [np.asarray(x) for x, _ in kept]
    samples = sum(x.shape[1] for x in frames)
    if not samples:
        raise DataError("there are no recordings to train on", hint="pass --data with training recordings")
    compared = kept if test is None else list(test)
    calibration = _spread(frames, samples)
    targets = [_target(graph, x) for x in frames]
    network = RoundedNetwork(graph, export.gate_bits)
    if not network.leaves:
        raise UsageError("the network has no weights to tune")

    def integers(of: Graph, how: LavaOptions) -> Quantised:
        return quantise(of, calibration, how)

    def compare(of: Graph, found: Quantised) -> Accuracy:
        return evaluate(of, found, compared)

    progress("rounding", 0)
    plain = compare(graph, integers(graph, replace(export, correct_bias=False)))
    before = integers(graph, replace(export, correct_bias=True))
    corrected = compare(graph, before)
    losses = _train(network, before, frames, targets, options, lambda g: integers(g, export), progress)
    after = network.trained()
    found = integers(after, export)
    layers = {name for name in network.layers if name not in found.steps}
    return Tuned(after, plain, corrected, compare(after, found), samples, losses, tuple(sorted(layers)))


def _train(
    network: RoundedNetwork,
    first: Quantised,
    frames: list[NDArray[Any]],
    targets: list[Tensor],
    options: TuneOptions,
    requantised: Callable[[Graph], Quantised],
    progress: ExportProgress,
) -> tuple[float, ...]:
    """Train in place and return the mean loss of each epoch."""
    groups = [{"params": [w], "lr": options.lr * _size(w)} for w in network.leaves]
    optimizer = torch.optim.Adam(groups)
    inputs, outputs = torch.from_numpy(np.concatenate(frames, 1)), torch.cat(targets, 0)
    variance = float(outputs.var()) or 1.0
    count = inputs.shape[1]
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, options.epochs * -(-count // options.batch)
    )
    generator = torch.Generator().manual_seed(options.seed)
    quantised, losses, seen = first, [], 0
    for epoch in range(options.epochs):
        if epoch:
            quantised = requantised(network.trained())
        total = 0.0
        for chosen in torch.randperm(count, generator=generator).split(options.batch):
            found = _samples_first(network(inputs[:, chosen].float(), quantised.steps), network.streams)
            loss = ((found - outputs[chosen]) ** 2).mean() / variance
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            network.keep_zeros()
            total += float(loss.detach()) * len(chosen)
            seen += len(chosen)
            progress(f"epoch {epoch + 1} of {options.epochs}", seen)
        losses.append(total / count)
    return tuple(losses)


def _size(weights: Tensor) -> float:
    """Root mean square of a layer's weights."""
    return float(weights.detach().square().mean().sqrt()) or 1.0


def _spread(frames: list[NDArray[Any]], samples: int) -> list[NDArray[Any]]:
    """Evenly spaced recordings to calibrate on."""
    chosen = np.linspace(0, samples - 1, min(samples, CALIBRATION)).astype(np.int64)
    return [np.concatenate(frames, 1)[:, chosen]]


def _target(graph: Graph, frames: NDArray[Any]) -> Tensor:
    """Outputs `[n, ...]` of the float network for recordings `[T, n, ...]`."""
    return _samples_first(run(graph, frames), graph[graph.output].signal.streams).clone()


def _samples_first(output: Tensor, streams: bool) -> Tensor:
    """Outputs `[n, ...]`, averaged over frames if they stream, as for a prediction."""
    return output.mean(0) if streams else output
