"""Populations and relays of a graph on kernels: sums of their inputs, then a window channel by channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.runtime.events.values import Dense, Spikes
from tcja_deploy.runtime.integers import population_kernels
from tcja_deploy.runtime.integers.layer_runner import LayerCounts
from tcja_deploy.runtime.integers.sparse import EXACT, Received
from tcja_deploy.runtime.integers.stages import UNITY, NeuronStage, RelayStage
from tcja_deploy.runtime.threads import share

__all__ = ["population_frames", "run_population", "states"]


def run_population(
    stage: NeuronStage | RelayStage, received: Sequence[Received], threads: int, counts: LayerCounts
) -> Received:
    """What a population or a relay sends over windows `[T, N, ...]` of its inputs; see `stage_runners.PopulationRunner`."""
    total = _sum(received)
    return population_frames(stage, total, states(stage, total.shape[1]), threads, counts)


def states(stage: NeuronStage | RelayStage, samples: int) -> dict[str, NDArray[np.int64]]:
    """The memory at the start of a window: currents `u` and voltages `v` `[N, ...]`, a relay's `v` if it keeps any."""
    names = ("u", "v") if isinstance(stage, NeuronStage) else () if stage.decay is None else ("v",)
    return {name: np.zeros((samples, *stage.shape), np.int64) for name in names}


def population_frames(
    stage: NeuronStage | RelayStage,
    total: NDArray[np.floating[Any]],
    memory: Mapping[str, NDArray[np.int64]],
    threads: int,
    counts: LayerCounts,
) -> Received:
    """What a population or a relay sends over some frames.

    Args:
        stage: The population or the relay.
        total: The sums of its inputs, `[T, N, ...]`.
        memory: See `states`; it changes.
        threads: Threads that share the work.
        counts: Tally to add to.
    """
    frames, samples = total.shape[:2]
    channels = stage.shape[0]
    rows = samples * channels
    x = np.ascontiguousarray(total).reshape(frames, rows, prod(stage.shape[1:]))
    out = np.empty(x.shape, np.float32)
    peaks, (cuts, ends) = np.zeros(rows, np.int64), np.zeros((2, 2, rows), np.int64)
    held = {name: state.reshape(x.shape[1:]) for name, state in memory.items()}
    if isinstance(stage, RelayStage):
        kept = 0 if stage.decay is None else UNITY - stage.decay
        factor, v = (stage.multiplier, stage.shift), held.get("v", np.zeros((0, 0), np.int64))
        share(
            population_kernels.relay_rows, rows, threads, x, stage.bias, factor, kept, stage.most, v, out, peaks, ends,
            cuts[0],
        )  # fmt: skip
        counts.saturations += int(cuts[0].sum())
    else:
        limits = np.ascontiguousarray(np.broadcast_to(stage.threshold, (channels,)))
        keeps = (UNITY - stage.i_decay, UNITY - stage.v_decay)
        reset = (stage.drop, 64 * stage.reset_value)
        share(
            population_kernels.neuron_rows, rows, threads, x, stage.bias, limits, keeps, reset, held["u"], held["v"], out,
            peaks, cuts,
        )  # fmt: skip
        counts.wraps += int(cuts[0].sum())
        counts.saturations += int(cuts[1].sum())
    counts.peak = max(counts.peak, int(peaks.max()))
    counts.neuron_steps += out.size
    counts.spikes += int(np.count_nonzero(out))
    sent = out.reshape(frames, samples, *stage.shape)
    if isinstance(stage, NeuronStage):
        return Received(Spikes.of(sent, threads))
    low, high = int(ends[0].min()), int(ends[1].max())
    return Received(Dense(sent, threads), max(high, -low), low < 0)


def _sum(received: Sequence[Received]) -> NDArray[np.floating[Any]]:
    """The sum of the inputs `[T, N, ...]`, in float32 where that is exact, else in float64."""
    kind = np.float32 if sum(part.peak for part in received) < EXACT else np.float64
    total: NDArray[np.floating[Any]] = received[0].value.dense.astype(kind)
    for part in received[1:]:
        total += part.value.dense.astype(kind)
    return total
