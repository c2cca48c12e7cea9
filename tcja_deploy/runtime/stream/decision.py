"""The prediction while a window runs: what it is after each step, whether it is right, and when it no longer changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tcja_deploy.errors import DataError
from tcja_deploy.runtime.predictions import predictions
from tcja_deploy.runtime.stream.engine import Emission

__all__ = ["Batch", "Decisions", "Outcome", "Steps", "outcome"]

Batch = tuple[NDArray[np.float32], NDArray[np.int64] | None]
"""Frames `[T, n, ...]` and labels `[n]`, or `None`."""


class Steps(Protocol):
    """Anything that takes frames one by one: a `Stepper`, or a step model in onnxruntime."""

    @property
    def running(self) -> Tensor | None:
        """The result so far."""
        ...

    def push(self, frame: NDArray[Any]) -> list[Emission]:
        """Take one frame, and return the results that became final."""
        ...


class Decisions:
    """Predicted classes after each step of one window.

    Attributes:
        steps: The classes `[N]` after each step, or `None` as long as nothing has reached the readout.
        scores: The scores `[N, K]` after the last step, which decide the classes, or `None`.
    """

    def __init__(self) -> None:
        self.steps: list[NDArray[np.int64] | None] = []
        self.scores: Tensor | None = None
        self._results: list[Tensor] = []

    def add(self, stepper: Steps, emissions: list[Emission]) -> None:
        """Record the prediction after a push: from the mean of all results so far, or else from the running result."""
        for e in emissions:
            self._results = [e.value] if e.frame is None else [*self._results, e.value]
        self.scores = torch.stack(self._results).mean(0) if self._results else stepper.running
        self.steps.append(None if self.scores is None else predictions(self.scores.numpy(), streams=False))

    @property
    def final(self) -> NDArray[np.int64]:
        """The last prediction.

        Raises:
            DataError: If there is none.
        """
        last = self.steps[-1] if self.steps else None
        if last is None:
            raise DataError("the network has no result from which a class could be predicted")
        return last

    @property
    def settled(self) -> NDArray[np.int64]:
        """For each recording the number of steps after which the prediction no longer changes, at least 1."""
        still, steps = np.ones(len(self.final), bool), np.full(len(self.final), len(self.steps) + 1)
        for classes in reversed(self.steps):
            still = still & (classes == self.final)  # None equals no class
            steps = steps - still
        return steps


@dataclass(frozen=True)
class Outcome:
    """A stream over a data set.

    Attributes:
        samples: Recordings.
        accuracy: Share of correct predictions; `None` without labels.
        decision: Mean number of steps after which the prediction no longer changes.
        steps: Steps until the result of a window is there.
        milliseconds: Mean time of one step of a batch on this machine, in ms.
    """

    samples: int
    accuracy: float | None
    decision: float
    steps: int
    milliseconds: float


def outcome(
    make: Callable[[int], Steps],
    streams: bool,
    batches: Iterable[Batch],
    progress: Callable[[int], None] | None = None,
) -> Outcome:
    """Run windows one by one, each from the initial state, followed by empty frames until the result is out.

    Args:
        make: Makes a stream for a batch size.
        streams: Whether the network gives a result for every frame.
        batches: The recordings.
        progress: Called with the number of recordings done.

    Raises:
        DataError: If there is no data, or frames do not fit.
    """
    samples = right = settled = pushes = steps = 0
    labelled, seconds = True, 0.0
    for frames, labels in batches:
        stepper, decisions, given = make(frames.shape[1]), Decisions(), 0
        wanted = len(frames) if streams else 1
        while given < wanted:
            step = len(decisions.steps)
            frame = frames[step] if step < len(frames) else np.zeros_like(frames[0])
            begin = time.perf_counter()
            emissions = stepper.push(frame)
            seconds += time.perf_counter() - begin
            given += len(emissions)
            decisions.add(stepper, emissions)
        steps = len(decisions.steps)
        pushes += steps
        samples += frames.shape[1]
        settled += int(decisions.settled.sum())
        labelled = labelled and labels is not None
        right += 0 if labels is None else int((decisions.final == labels).sum())
        if progress is not None:
            progress(samples)
    if not samples:
        raise DataError("there are no recordings to run")
    accuracy = right / samples if labelled else None
    return Outcome(samples, accuracy, settled / samples, steps, 1000 * seconds / pushes)
