"""Quantisation of a graph on calibration data to an integer network, with a report on each stage."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.exporters.lava.calibration import StageReport, observe, spread, whole_frames
from tcja_deploy.exporters.lava.float_graph import FloatArray, FloatGraph
from tcja_deploy.exporters.lava.lower import lower
from tcja_deploy.exporters.lava.options import LavaOptions
from tcja_deploy.exporters.lava.quantise_stages import quantise_stages
from tcja_deploy.ir import Graph
from tcja_deploy.passes import fold_batch_norm
from tcja_deploy.runtime.engines import choose
from tcja_deploy.runtime.integers.network import HostInput, IntegerNetwork
from tcja_deploy.runtime.integers.twin import encode

__all__ = ["Quantised", "quantise"]

FINE_INPUT, COARSE_INPUT = 255, 64
"""The integer that stands for one in real inputs, and the largest one where the calibration data need no finer steps."""


@dataclass(frozen=True, slots=True, eq=False)
class Quantised:
    """An integer network and how it was made.

    Attributes:
        network: The result.
        floats: The float stages it was made from.
        stages: Reports in the order of the stages.
        samples: Number of calibration samples used.
        offered: Number of calibration samples given.
        steps: For each node with weights, the size of an integer step in its weights with normalisation folded: `[1]` or,
            with thresholds per channel, `[O]`. Weights that were merged with others have no entry.
    """

    network: IntegerNetwork
    floats: FloatGraph
    stages: tuple[StageReport, ...]
    samples: int
    offered: int
    steps: Mapping[str, FloatArray]


def quantise(
    graph: Graph,
    batches: Iterable[NDArray[Any]],
    options: LavaOptions | None = None,
    *,
    name: str = "network",
    progress: Callable[[str], None] = lambda stage: None,
    engine: str = "torch",
    device: str = "cpu",
) -> Quantised:
    """Quantise a network.

    Args:
        graph: The network; batch normalisation is folded on the way.
        batches: Calibration frames `[T, n, ...]`. At most as many samples are used as give 2 GB of spikes in the largest
            layer, spread evenly over all of them.
        options: See `LavaOptions`.
        name: Name of the integer network.
        progress: Called with the name of each stage before it is quantised.
        engine: What runs the float network, see `runtime.engines`.
        device: Where torch runs it, such as "cuda".

    Raises:
        UnsupportedError: If Lava cannot express some nodes, or no scale of a layer fits the budget.
        DataError: If there are no data, or they do not fit the network.
    """
    options = options or LavaOptions()
    folded = fold_batch_norm(graph)
    floats = lower(folded, input_scale=options.input_scale or FINE_INPUT)
    everything = whole_frames(batches)
    offered = everything.shape[1]
    frames = everything[:, spread(offered, floats.frames, floats.widest)]
    if options.input_scale is None and floats.host_input.scale != 1:
        floats.host_input = _rescaled(floats.host_input, input_steps(frames))
    observed = observe(
        folded, floats.observed, frames, choose(folded, engine, device, samples=frames.shape[1])
    )
    payload: NDArray[np.integer] = encode(floats.host_input, frames)
    if not floats.host_input.binary:
        floats.host_input = replace(floats.host_input, peak=int(np.abs(payload).max()))
    network, reports, steps = quantise_stages(folded, floats, observed, payload, options, progress, name)
    return Quantised(network, floats, reports, frames.shape[1], offered, steps)


def input_steps(frames: NDArray[Any]) -> int:
    """The integer for one in real inputs: 255, or at most 64 if all values are multiples of a 64th or a coarser part.

    A larger one takes bits from the weights of the first layer, whose currents have 17 bits together with the payloads.
    """
    levels = np.unique(frames).astype(np.float64)
    for steps in range(1, COARSE_INPUT + 1):
        scaled = levels * steps
        if np.abs(scaled - np.rint(scaled)).max(initial=0.0) < 1e-4:
            return COARSE_INPUT // steps * steps
    return FINE_INPUT


def _rescaled(host: HostInput, scale: int) -> HostInput:
    """The same host with another integer for one in the model's input."""
    return replace(host, scale=scale, unit=host.unit // host.scale * scale)
