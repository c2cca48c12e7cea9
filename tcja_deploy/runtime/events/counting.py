"""Counts of activity from what the engine has anyway: bits and lists, never dense values.

What a map of fan-outs weighs depends on the place of a spike, not on its channel, so that it weighs counts by place; a map that
tells channels apart, and a value that is not sparse, are counted as the sequence runtime's are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.ir import Node
from tcja_deploy.runtime.activity.collect import frames_first
from tcja_deploy.runtime.activity.record import Measure, Recorder, Watch
from tcja_deploy.runtime.events import kernels
from tcja_deploy.runtime.events.threads import share
from tcja_deploy.runtime.events.values import Dense, Spikes, Value
from tcja_deploy.runtime.events.vectors import LANES

__all__ = ["Counter"]

Ints = NDArray[np.int64]


class Counter:
    """Feeds a recorder from values of the engine. Counts by neuron are gathered here until ``flush``."""

    def __init__(self) -> None:
        self._neurons: dict[str, NDArray[np.int32]] = {}

    def add(self, recorder: Recorder, node: Node, value: Value) -> None:
        """Count a value, if it is watched.

        Raises:
            DataError: As ``Recorder.add``.
        """
        watch = recorder.watch(node.name)
        if watch is None:
            return
        if not self._by_place(recorder, node, value, watch):
            recorder.add(node.name, frames_first(node.signal, value.dense))

    def flush(self, recorder: Recorder) -> None:
        """Hand on the counts by neuron that were gathered since the last time."""
        for name, counts in self._neurons.items():
            watch = recorder.watch(name)
            if watch is not None:
                by_place = counts[:, : watch.features[0]].T
                recorder.add_neurons(name, by_place.reshape(watch.features))
        self._neurons = {}

    def _by_place(self, recorder: Recorder, node: Node, value: Value, watch: Watch) -> bool:
        """Count from bits or lists; false if that cannot be done."""
        plain = node.signal.dims[:2] == ("T", "N") and len(watch.features) in (1, 3)
        if not plain or any(m.shape[1] > 1 or m.shape[0] > 1 for m in watch.maps.values()):
            return False
        if isinstance(value, Spikes) and value.features == watch.features and len(watch.features) in (1, 3):
            if len(watch.features) == 1 and value.bits.shape[1:3] != (1, 1):
                return False
            if value.gate is not None and not ((value.gate > 0) & (value.gate < 1)).all():
                return False
            N, H, W, T, words = value.bits.shape
            planes = [value.by_place.reshape(N, H * W, T)]
            counts = self._room(node.name, H * W, words * LANES)
            bits = value.bits.reshape(N, H * W, T, words)
            share(kernels.count_neurons, H * W, value.threads, bits, counts)
        elif isinstance(value, Dense) and node.signal.kind.sparse and not value.flat:
            events = value.events
            N, H, W, T, C = events.shape
            measured = np.zeros((len(Measure), N * H * W * T), np.int64)
            share(
                kernels.measure_events, measured.shape[1], value.threads, events.ends, events.scale, measured
            )
            planes = [*measured.reshape(len(Measure), N, H * W, T)]
            counts = self._room(node.name, H * W, C)
            share(kernels.list_neurons, H * W, value.threads, events.ends, events.index, N, H * W, T, counts)
        else:
            return False
        gated = isinstance(value, Spikes) and value.gate is not None
        table = np.zeros((1 + len(watch.maps), len(Measure), N, T), np.int64)
        for row, weights in enumerate([None, *watch.maps.values()]):
            for measure in Measure:
                if gated and measure is not Measure.NONZERO:
                    continue
                plane = planes[measure if len(planes) > 1 else 0]
                table[row, measure] = _weighed(plane, weights, (H, W))
        recorder.add_table(node.name, table)
        return True

    def _room(self, name: str, places: int, channels: int) -> NDArray[np.int32]:
        if name not in self._neurons:
            self._neurons[name] = np.zeros((places, channels), np.int32)
        return self._neurons[name]


def _weighed(plane: Ints, weights: Ints | None, size: tuple[int, int]) -> Ints:
    """Counts ``[N, places, T]`` summed over places, times a map ``[1, 1, H or 1, W or 1]`` (or ``[1, 1]``)."""
    if weights is None:
        total: Ints = plane.sum(1, dtype=np.int64)
        return total
    if weights.size == 1:
        return plane.sum(1, dtype=np.int64) * int(weights.ravel()[0])
    wide = np.broadcast_to(weights[0, 0], size).ravel()
    return np.einsum("npt,p->nt", plane, wide, dtype=np.int64, casting="unsafe")
