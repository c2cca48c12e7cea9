"""From a graph and calibration data to an integer network, with a report of what each stage lost."""

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
from tcja_deploy.runtime.integers.network import IntegerNetwork
from tcja_deploy.runtime.integers.twin import encode

__all__ = ["Quantised", "quantise"]


@dataclass(frozen=True, slots=True, eq=False)
class Quantised:
    """An integer network and how it came about.

    Attributes:
        network: The result.
        floats: The float stages it came from.
        stages: Reports in the order of the stages.
        samples: Calibration samples used.
        offered: Calibration samples there were.
        steps: By node with weights the size of an integer step in its weights, normalisation folded: `[1]` or, with thresholds
            per channel, `[O]`. Weights that were merged with others have none.
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
        batches: Calibration frames [T, n, ...]. As many as give 2 GB of spikes in the largest layer are used, spread
            over all.
        options: See `LavaOptions`.
        name: Name of the integer network.
        progress: Called with the name of each stage before it is quantised.
        engine: What runs the float network, see `runtime.engines`.
        device: Where torch runs it, such as "cuda".

    Raises:
        UnsupportedError: Nodes that Lava cannot express, or a layer that fits no budget.
        DataError: No data, or data that do not fit.
    """
    options = options or LavaOptions()
    folded = fold_batch_norm(graph)
    floats = lower(folded, input_scale=options.input_scale)
    everything = whole_frames(batches)
    offered = everything.shape[1]
    frames = everything[:, spread(offered, floats.frames, floats.widest)]
    observed = observe(
        folded, floats.observed, frames, choose(folded, engine, device, samples=frames.shape[1])
    )
    payload: NDArray[np.integer] = encode(floats.host_input, frames)
    if not floats.host_input.binary:
        floats.host_input = replace(floats.host_input, peak=int(np.abs(payload).max()))
    network, reports, steps = quantise_stages(folded, floats, observed, payload, options, progress, name)
    return Quantised(network, floats, reports, frames.shape[1], offered, steps)
