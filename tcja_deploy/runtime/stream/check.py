"""A stream compared with the window form of the same network, spike for spike over a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tcja_deploy.errors import DataError
from tcja_deploy.ir import Graph
from tcja_deploy.runtime.agreement import BOUND, Agreement
from tcja_deploy.runtime.compare import compare
from tcja_deploy.runtime.stream.engine import Stepper, initial, stream
from tcja_deploy.runtime.stream.estimate import FrameProfile
from tcja_deploy.runtime.stream.plan import StreamPlan

__all__ = ["Progress", "compare_stream", "not_empty", "run_plan"]

Progress = Callable[[int], None]
"""Called with the number of recordings done."""


def compare_stream(
    graph: Graph,
    batches: Iterable[NDArray[np.float32]],
    *,
    lookahead: int | None = None,
    profile: FrameProfile | None = None,
    engine: Literal["torch", "events"] = "torch",
    progress: Progress | None = None,
) -> Agreement:
    """Compare a stream (burst) with the sequence runtime, whose kernels take all T frames at once.

    Args:
        graph: The network.
        batches: Frames `[T, n, ...]`.
        lookahead: As for `stream`; `None` for exact.
        profile: As for `stream`.
        engine: As for `stream`.
        progress: Called with the number of recordings done.

    Raises:
        DataError: If there is no data, or frames do not fit.
    """
    network = stream(graph, lookahead=lookahead, profile=profile, engine=engine).plan
    neurons = {node.name for node in graph.neurons}
    total = Agreement((), 0, 0, 0.0, BOUND)
    for frames in batches:
        output, spikes = run_plan(network, frames, neurons)
        total += compare(graph, frames, output, spikes, bound=BOUND, first_sample=total.samples)
        if progress is not None:
            progress(total.samples)
    return not_empty(total)


def run_plan(
    network: StreamPlan, frames: NDArray[np.float32], names: set[str]
) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
    """Run one window.

    Args:
        network: The stream's plan.
        frames: `[T, N, ...]`.
        names: Values to keep.

    Returns:
        The result, and the kept values by name, shaped as the window form gives them.
    """
    values: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}

    def observe(name: str, index: int, value: Tensor) -> None:
        if name in values:
            values[name].append(value.numpy())

    stepper = Stepper(network, initial(network, frames.shape[1]))
    results = [e.value.numpy() for frame in frames for e in stepper.push(frame, observe=observe)]
    output = np.stack(results) if network.streams else results[0]
    return output, {name: np.stack(items) for name, items in values.items()}


def not_empty(total: Agreement) -> Agreement:
    """Pass a comparison on if anything was compared.

    Raises:
        DataError: If there are no recordings.
    """
    if not total.samples:
        raise DataError("there are no recordings to compare on")
    return total
