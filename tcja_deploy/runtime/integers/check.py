"""An integer network as a stream compared with its window form, value for value over a data set."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.runtime.agreement import Agreement, agreement, layer_agreement, samples_that_differ
from tcja_deploy.runtime.integers.network import IntegerNetwork
from tcja_deploy.runtime.integers.stream import plan_twin
from tcja_deploy.runtime.integers.twin import Twin
from tcja_deploy.runtime.stream.check import Progress, not_empty, run_plan
from tcja_deploy.runtime.stream.estimate import FrameProfile
from tcja_deploy.runtime.stream.plan import StreamPlan

__all__ = ["compare_twin"]


def compare_twin(
    network: IntegerNetwork,
    batches: Iterable[NDArray[np.float32]],
    *,
    lookahead: int | None = None,
    profile: FrameProfile | None = None,
    progress: Progress | None = None,
    runs: StreamPlan | None = None,
) -> Agreement:
    """Compare an integer network as a stream (burst) with its window form: every spike and every payload.

    If the stream is exact, nothing may differ. Arguments are those of `compare_stream`; `runs` is the stream to compare, if
    it is not the plain one of these options.

    Raises:
        DataError: If there is no data, or frames do not fit.
    """
    cells = runs or plan_twin(network, lookahead=lookahead, profile=profile)
    twin = Twin(network)
    names = [stage.name for stage in network.stages]
    total = Agreement((), 0, 0, 0.0, 0.0)
    for frames in batches:
        expected = twin.run(frames, record=names)
        output, values = run_plan(cells, frames, set(names))
        recorded = expected.recorded
        layers = [layer_agreement(name, recorded[name], values[name], total.samples) for name in names]
        wrong = np.logical_or.reduce([samples_that_differ(recorded[name], values[name]) for name in names])
        streams = not network.readout.time_mean
        total += agreement(layers, expected.values, output, wrong, streams=streams, bound=0.0)
        if progress is not None:
            progress(total.samples)
    return not_empty(total)
