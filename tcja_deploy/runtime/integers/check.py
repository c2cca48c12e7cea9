"""An integer network as a stream beside its window form, value for value over a data set."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.runtime.compare import Agreement, LayerAgreement, output_error, predictions
from tcja_deploy.runtime.integers.network import IntegerNetwork
from tcja_deploy.runtime.integers.stream import plan_twin
from tcja_deploy.runtime.integers.twin import Twin
from tcja_deploy.runtime.stream.check import Progress, not_empty, run_plan
from tcja_deploy.runtime.stream.estimate import Profile

__all__ = ["compare_twin"]


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
        output, values = run_plan(cells, frames, set(names))
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
    return not_empty(total)
