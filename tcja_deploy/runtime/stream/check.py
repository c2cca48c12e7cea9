"""A stream beside the window form of the same network, spike for spike over a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tcja_deploy.errors import DataError
from tcja_deploy.ir import Graph
from tcja_deploy.runtime.compare import BOUND, Agreement, LayerAgreement, compare, output_error, predictions
from tcja_deploy.runtime.integers.network import IntegerNetwork
from tcja_deploy.runtime.integers.stream import plan_twin
from tcja_deploy.runtime.integers.twin import Twin
from tcja_deploy.runtime.stream.engine import Stepper, initial
from tcja_deploy.runtime.stream.estimate import Profile
from tcja_deploy.runtime.stream.plan import Plan, plan

__all__ = ["compare_stream", "compare_twin"]


Progress = Callable[[int], None]


def compare_stream(
    graph: Graph,
    batches: Iterable[NDArray[np.float32]],
    *,
    lookahead: int | None = None,
    profile: Profile | None = None,
    progress: Progress | None = None,
) -> Agreement:
    """A stream (burst) against the sequence runtime, whose kernels take all T frames at once.

    Args:
        graph: The network.
        batches: Frames ``[T, n, ...]``.
        lookahead: As for ``stream``; ``None`` for exact.
        profile: As for ``stream``.
        progress: Called with the number of recordings done.

    Raises:
        DataError: If there is no data, or frames do not fit.
    """
    network = plan(graph, lookahead=lookahead, profile=profile)
    neurons = {node.name for node in graph.neurons}
    total = Agreement((), 0, 0, 0.0, BOUND)
    for frames in batches:
        output, spikes = _run(network, frames, neurons)
        total += compare(graph, frames, output, spikes, bound=BOUND, first_sample=total.samples)
        if progress is not None:
            progress(total.samples)
    return _checked(total)


def compare_twin(
    network: IntegerNetwork,
    batches: Iterable[NDArray[np.float32]],
    *,
    lookahead: int | None = None,
    profile: Profile | None = None,
    progress: Progress | None = None,
) -> Agreement:
    """An integer network as a stream (burst) against its window form: every spike and every payload.

    Exact, nothing may differ. Arguments as for ``compare_stream``.

    Raises:
        DataError: If there is no data, or frames do not fit.
    """
    cells, twin = plan_twin(network, lookahead=lookahead, profile=profile), Twin(network)
    names = [stage.name for stage in network.stages]
    total = Agreement((), 0, 0, 0.0, 0.0)
    for frames in batches:
        expected = twin.run(frames, record=names)
        output, values = _run(cells, frames, set(names))
        layers, wrong = [], np.zeros(frames.shape[1], bool)
        for name in names:
            a, b = expected.recorded[name], values[name]
            spikes, others = int(np.count_nonzero(a)), int(np.count_nonzero(b))
            differs = a != b
            layers.append(LayerAgreement(name, a.size, spikes, others, int(np.count_nonzero(differs))))
            wrong |= differs.reshape(*a.shape[:2], -1).any((0, 2))
        streams = not network.readout.time_mean
        equal = predictions(expected.values, streams) == predictions(output, streams)
        difference = float(np.abs(expected.values - output).max())
        error = output_error(expected.values, output, wrong, streams)
        total += Agreement(tuple(layers), frames.shape[1], int(equal.sum()), difference, 0.0, error)
        if progress is not None:
            progress(total.samples)
    return _checked(total)


def _run(
    network: Plan, frames: NDArray[np.float32], names: set[str]
) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
    """Result and some values of a window, shaped as the window form gives them."""
    values: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}

    def observe(name: str, index: int, value: Tensor) -> None:
        if name in values:
            values[name].append(value.numpy())

    stepper = Stepper(network, initial(network, frames.shape[1]))
    results = [e.value.numpy() for frame in frames for e in stepper.push(frame, observe=observe)]
    output = np.stack(results) if network.streams else results[0]
    return output, {name: np.stack(items) for name, items in values.items()}


def _checked(total: Agreement) -> Agreement:
    if not total.samples:
        raise DataError("there are no recordings to compare on")
    return total
