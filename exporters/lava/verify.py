"""Verifying a bundle: the twin of its own files against its golden sample, or against the real Lava."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import DataError, UsageError
from tcja_deploy.exporters.lava.bundle import Bundle, read_bundle
from tcja_deploy.exporters.lava.driver import run_lava
from tcja_deploy.exporters.lava.options import LavaVerification
from tcja_deploy.exporters.target import ExportProgress, unmonitored
from tcja_deploy.runtime.agreement import Agreement, agreement, layer_agreement, samples_that_differ
from tcja_deploy.runtime.integers.network import IntegerNetwork
from tcja_deploy.runtime.integers.twin import Twin, encode

__all__ = ["verify_bundle"]

RECORD_BYTES = 1 << 29


def verify_bundle(
    path: Path,
    batches: Iterable[NDArray[Any]] | None = None,
    options: LavaVerification | None = None,
    progress: ExportProgress = unmonitored,
) -> Agreement:
    """Compare a bundle with the twin of its own files, value for value and stage for stage.

    Args:
        path: The bundle.
        batches: Frames `[T, n, ...]`; the bundle's own sample if not given.
        options: How to run it.
        progress: Called with a description and the number of time steps that a run has finished.

    Returns:
        The agreement, with a bound of 0: a single different value fails.

    Raises:
        FileFormatError: If the bundle is damaged.
        DataError: If the data holds no sample.
        UsageError: If data are given for the twin, which is the reference itself.
        ToolchainError: See `tcja_deploy.exporters.lava.driver.run_lava`.
    """
    options = options or LavaVerification()
    bundle = read_bundle(path)
    twin = Twin(bundle.network)
    if options.backend == "twin":
        if batches is not None:
            raise UsageError("the twin is the reference itself; other data can only be compared with Lava")
        payload, stored = bundle.golden()
        return _agreement(bundle.network, _twin_stages(twin, payload), stored, 0)
    total = Agreement((), 0, 0, 0.0, 0.0)
    for payload in _runs(bundle, batches):
        expected = _twin_stages(twin, payload)
        lava = run_lava(
            bundle,
            payload,
            python=options.python,
            fast_conv=options.fast_conv,
            timeout=options.timeout,
            progress=lambda done, steps: progress("time steps of Lava", done),
        )
        total += _agreement(bundle.network, expected, lava.stages, total.samples)
    if not total.samples:
        raise DataError("the data holds no samples", hint="pass --data with at least one recording")
    return total


def _runs(bundle: Bundle, batches: Iterable[NDArray[Any]] | None) -> Iterable[NDArray[np.int64]]:
    """Payloads `[T, N, ...]`, each with as many samples as the recorded values of one run may take."""
    if batches is None:
        yield bundle.golden()[0]
        return
    network = bundle.network
    per_sample = network.frames * sum(int(np.prod(stage.out_shape)) for stage in network.stages)
    most = max(1, RECORD_BYTES // per_sample)
    samples = (batch[:, i : i + 1] for batch in batches for i in range(batch.shape[1]))
    while group := list(itertools.islice(samples, most)):
        yield encode(network.host_input, np.concatenate(group, 1))


def _twin_stages(twin: Twin, payload: NDArray[np.int64]) -> dict[str, NDArray[np.integer]]:
    """Values of all stages for payloads that the host has already encoded."""
    return twin.run(payload, record=[stage.name for stage in twin.network.stages], encoded=True).recorded


def _agreement(
    network: IntegerNetwork,
    expected: dict[str, NDArray[Any]],
    found: dict[str, NDArray[Any]],
    first_sample: int,
) -> Agreement:
    names = [stage.name for stage in network.stages]
    layers = [layer_agreement(name, expected[name], found[name], first_sample) for name in names]
    differs = np.logical_or.reduce([samples_that_differ(expected[name], found[name]) for name in names])
    reference, other = (network.readout(stages[names[-1]], network.unit) for stages in (expected, found))
    streams = not network.readout.time_mean
    return agreement(layers, reference, other, differs, streams=streams, bound=0.0)
