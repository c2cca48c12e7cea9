"""Counts of activity from what the engine has anyway: bits and lists, without dense values.

The weights of a map of fan-outs depend on the place of a spike, not on its channel, so they apply to counts by place. Values
whose maps tell channels apart, and values that are not sparse, are counted as those of the sequence runtime.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.ir import Node
from tcja_deploy.runtime.activity.collect import frames_first
from tcja_deploy.runtime.activity.counting import Measure
from tcja_deploy.runtime.activity.record import Recorder, Watch
from tcja_deploy.runtime.events import kernels
from tcja_deploy.runtime.events.values import LayerValue, Spikes
from tcja_deploy.runtime.events.vectors import LANES
from tcja_deploy.runtime.threads import share

__all__ = ["Counter"]

Ints = NDArray[np.int64]


class Counter:
    """Feeds a recorder from values of the engine, and gathers the counts by neuron until `flush`."""

    def __init__(self) -> None:
        self._neurons: dict[str, NDArray[np.int32]] = {}
        self._maps: dict[str, Ints] = {}

    def add(self, recorder: Recorder, node: Node, value: LayerValue) -> None:
        """Count a value, if it is watched.

        Raises:
            DataError: As `Recorder.add`.
        """
        watch = recorder.watch(node.name)
        if watch is None:
            return
        if not self._by_place(recorder, node, value, watch):
            recorder.add(node.name, frames_first(node.signal, value.dense))

    def flush(self, recorder: Recorder) -> None:
        """Pass on the counts by neuron that were gathered since the last call."""
        for name, counts in self._neurons.items():
            watch = recorder.watch(name)
            if watch is not None:
                channels = int(np.prod(watch.features)) // len(counts)
                recorder.add_neurons(name, counts[:, :channels].T.reshape(watch.features))
        self._neurons = {}

    def _by_place(self, recorder: Recorder, node: Node, value: LayerValue, watch: Watch) -> bool:
        """Count from bits or lists; false if that cannot be done."""
        placed = node.signal.dims[:2] == ("T", "N") and len(watch.features) in (1, 3)
        alike = all(m.shape[0] == m.shape[1] == 1 for m in watch.maps.values())
        if not placed or not alike or not node.signal.kind.sparse:
            return False
        if isinstance(value, Spikes) and (
            value.gate is None or bool((value.gate > 0).all())
        ):  # gates are at most 1
            N, H, W, T, words = value.bits.shape
            weights = self._weights(watch, (H, W))
            table = np.zeros((len(weights), len(Measure), N, T), np.int64)

            bits = value.bits.reshape(N, H * W, T, words)

            def weigh(places: NDArray[np.int32], measures: slice) -> None:
                found = np.zeros((len(weights), N, T), np.int64)
                share(kernels.weigh_places, N, value.threads, places, weights, found)
                table[:, measures] = found[:, None]

            weigh(value.by_place.reshape(N, H * W, T), slice(None if value.gate is None else Measure.UNIT))
            if value.gate is not None and bool((value.gate == 1).any()):  # saturated: worth 1, as a spike is
                ones = np.empty((N, H * W, T), np.int32)
                share(kernels.count_masked, N, value.threads, bits, _words(value.gate == 1, words), ones)
                weigh(ones, slice(Measure.UNIT, None))
            room = self._room(node.name, H * W, value.channels)
            share(kernels.count_neurons, H * W, value.threads, value.long_words, room)
        else:
            events = value.events
            N, H, W, T, C = events.shape
            scale = events.scale
            table = np.zeros((1 + len(watch.maps), len(Measure), N, T), np.int64)
            share(
                kernels.weigh_events,
                N,
                value.threads,
                events.ends,
                scale,
                self._weights(watch, (H, W)),
                table,
            )
            given = (events.ends, events.index, scale, (N, H * W, T), self._room(node.name, H * W, C))
            share(kernels.list_neurons, H * W, value.threads, *given)
        recorder.add_table(node.name, table)
        return True

    def _weights(self, watch: Watch, size: tuple[int, int]) -> Ints:
        """Weights by place, `[1 + maps, H W]`: ones for the plain count, then the maps of a value."""
        if watch.name not in self._maps:
            rows = [np.ones(size, np.int64)]
            rows += [np.broadcast_to(m.reshape(m.shape[2:] or (1, 1)), size) for m in watch.maps.values()]
            self._maps[watch.name] = np.stack(rows).reshape(len(rows), -1)
        return self._maps[watch.name]

    def _room(self, name: str, places: int, channels: int) -> NDArray[np.int32]:
        """Counts by neuron so far, `[places, channels]`, the channels rounded up to whole words."""
        if name not in self._neurons:
            self._neurons[name] = np.zeros((places, -(-channels // LANES) * LANES), np.int32)
        return self._neurons[name]


def _words(flags: NDArray[np.bool_], words: int) -> NDArray[np.uint16]:
    """Flags of channels `[N, T, C]` as bits `[N, T, words]`."""
    padded = np.zeros((*flags.shape[:2], words * LANES), bool)
    padded[..., : flags.shape[2]] = flags
    return np.packbits(padded, axis=-1, bitorder="little").view("<u2").astype(np.uint16)
