"""Counts of activity from what the engine has anyway: bits and lists, without dense values.

The weights of a map of fan-outs depend on the place of a spike, not on its channel, so they apply to counts by place. Values
whose maps tell channels apart, and values that are not sparse, are counted as those of the sequence runtime.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.ir import Node
from tcja_deploy.runtime.activity.axes import frames_first
from tcja_deploy.runtime.activity.measures import Measure
from tcja_deploy.runtime.activity.record import Recorder, Watch
from tcja_deploy.runtime.events import counting_kernels as kernels
from tcja_deploy.runtime.events.values import LayerValue, Spikes, has_places
from tcja_deploy.runtime.events.vectors import LANES
from tcja_deploy.runtime.threads import beside

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["Counter"]

Ints = NDArray[np.int64]

_LONG = 4
"""Words of 16 channels in a long one."""
_BLOCK = 512
"""Places whose counts are transposed at once."""
_FEW = 1 << 16
"""Numbers that are counted sooner in one loop than by the sums of torch."""


class Counter:
    """Feeds a recorder from values of the engine, and gathers the counts by neuron until `flush`.

    Values are counted on other threads while the engine goes on: call `wait` before the recorder is asked for counts.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[Callable[..., None], int, tuple[Any, ...]]] = []
        self._running: list[Future[None]] = []
        # Counts by neuron of spikes that several values have alike, such as those before and after a gate.
        self._neurons: dict[tuple[str, ...], NDArray[np.int32]] = {}
        self._last: tuple[Spikes, tuple[str, ...]] | None = None
        self._maps: dict[str, tuple[Ints, Ints]] = {}

    def add(self, recorder: Recorder, node: Node, value: LayerValue) -> None:
        """Count a value, if it is watched.

        Raises:
            DataError: As `Recorder.add`.
        """
        watch = recorder.watch(node.name)
        if watch is None:
            return
        if _by_place(node, watch):
            if isinstance(value, Spikes) and (value.gate is None or value.gate.min() > 0):
                self._add_spikes(recorder, watch, value)
            else:
                self._add_events(recorder, watch, value)
            self._start(value.threads)
        elif not self._add_numbers(recorder, watch, frames_first(node.signal, value.dense)):
            recorder.add(node.name, frames_first(node.signal, value.dense))

    def wait(self) -> None:
        """Wait for what is being counted."""
        running, self._running = self._running, []
        for part in running:
            part.result()

    def flush(self, recorder: Recorder) -> None:
        """Pass on the counts by neuron that were gathered since the last call."""
        self._settle()
        self._start(1)
        self.wait()
        for names, counts in self._neurons.items():
            for name in names:
                watch = recorder.watch(name)
                if watch is not None:
                    channels = math.prod(watch.features) // len(counts)
                    if counts.shape[1] > _rounded(channels):  # several steps
                        counts = counts.reshape(len(counts), -1, _rounded(channels)).sum(1)
                    by_neuron = np.empty((channels, len(counts)), counts.dtype)
                    for p in range(
                        0, len(counts), _BLOCK
                    ):  # many at once would leave the cache between two of a channel
                        by_neuron[:, p : p + _BLOCK] = counts[p : p + _BLOCK, :channels].T
                    recorder.add_neurons(name, by_neuron.reshape(watch.features))
        self._neurons = {}

    def _begin(self, kernel: Callable[..., None], rows: int, *args: Any) -> None:
        """Note what is to be counted when `_start` is called."""
        self._waiting.append((kernel, rows, args))

    def _start(self, threads: int) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting and (part := beside(_count, len(waiting), threads, waiting)) is not None:
            self._running.append(part)

    def _add_spikes(self, recorder: Recorder, watch: Watch, value: Spikes) -> None:
        """Count bits. A gate makes a spike a unit where it is saturated, and no whole number elsewhere; gates are at most 1."""
        table, weights = recorder.window_table(watch.name), self._weights(watch, value.bits.shape[1:3])
        self._weigh(value, weights, 0, len(Measure) if value.gate is None else Measure.UNIT, table)
        if value.gate is not None and value.gate.max() == 1:
            ones = _words(value.gate == 1, value.bits.shape[4])
            saturated = value.with_bits(value.bits & ones[:, None, None])
            self._weigh(saturated, weights, Measure.UNIT, len(Measure), table)
        if self._last is not None and self._last[0].bits is value.bits:
            self._last = value, (*self._last[1], watch.name)
        else:
            self._settle()
            self._last = value, (watch.name,)

    def _weigh(self, value: Spikes, weights: tuple[Ints, Ints], first: int, last: int, table: Ints) -> None:
        N, H, W, T, words = value.bits.shape
        bits = value.bits.reshape(N, H * W, T, words)
        self._begin(kernels.weigh_bits, N, bits, *weights, int(first), int(last), table)

    def _settle(self) -> None:
        """Count the last spikes by neuron, for all values that have them.

        Where the channels of several steps fill one long word, these steps are counted together until `flush`.
        """
        if self._last is None:
            return
        (value, names), self._last = self._last, None
        N, H, W, T, words = value.bits.shape
        bits = value.long_words
        if _LONG % words == 0 and T * words % _LONG == 0:
            bits = value.bits.reshape(N, H * W, T * words).view(np.uint64)[..., None]
        room = self._room(names, H * W, bits.shape[3] * bits.itemsize * 8)
        self._begin(kernels.count_neurons, H * W, bits, room)

    def _add_events(self, recorder: Recorder, watch: Watch, value: LayerValue) -> None:
        """Count lists."""
        events = value.events
        N, H, W, _, C = events.shape
        lists = (events.ends, events.index, events.scale, events.when)
        counts = (recorder.window_table(watch.name), self._room((watch.name,), H * W, C))
        self._begin(kernels.weigh_events, N, *lists, *self._weights(watch, (H, W)), *counts)

    def _add_numbers(self, recorder: Recorder, watch: Watch, x: NDArray[np.float32]) -> bool:
        """Count a few numbers `[steps, n, *features]` at once; false if there are many, or if their weights differ by step."""
        if x.size > _FEW or any(len(m) > 1 for m in watch.maps.values()) or not np.isfinite(x).all():
            return False
        rows = [np.ones(watch.features, np.int64)]
        rows += [np.broadcast_to(m[0], watch.features) for m in watch.maps.values()]
        neurons = np.zeros(x[0, 0].size, np.int64)
        numbers = np.ascontiguousarray(x).reshape(*x.shape[:2], -1)
        table = recorder.window_table(watch.name)
        kernels.weigh_numbers(0, 1, numbers, np.stack(rows).reshape(len(rows), -1), table, neurons)
        recorder.add_neurons(watch.name, neurons.reshape(watch.features))
        return True

    def _weights(self, watch: Watch, size: tuple[int, int]) -> tuple[Ints, Ints]:
        """For each place the class of places with equal weights, and the weights of classes, `[1 + maps, classes]`.

        The first weights are ones, for the plain count.
        """
        if watch.name not in self._maps:
            maps = [m.reshape(m.shape[2:] or (1, 1)) for m in watch.maps.values()]
            rows = [np.broadcast_to(m, size).ravel() for m in maps]
            classes = np.zeros(math.prod(size), np.int64)
            for varying in (row for row, m in zip(rows, maps, strict=True) if m.size > 1):
                found = np.unique(varying, return_inverse=True)[1]
                classes = classes * len(found) + found
                if classes.any():
                    classes = np.unique(classes, return_inverse=True)[1]
            weights = np.ones((1 + len(rows), classes.max() + 1), np.int64)
            for r, row in enumerate(rows):
                weights[1 + r, classes] = row
            self._maps[watch.name] = classes, weights
        return self._maps[watch.name]

    def _room(self, names: tuple[str, ...], places: int, channels: int) -> NDArray[np.int32]:
        """Counts by neuron so far, `[places, channels]`, the channels rounded up to whole words."""
        if names not in self._neurons:
            self._neurons[names] = np.zeros((places, _rounded(channels)), np.int32)
        return self._neurons[names]


def _by_place(node: Node, watch: Watch) -> bool:
    """Whether a value is counted by place: it is sparse, and its weights do not tell steps or channels apart."""
    return (
        node.signal.kind.sparse
        and has_places(node.signal)
        and all(m.shape[0] == m.shape[1] == 1 for m in watch.maps.values())
    )


def _count(lo: int, hi: int, parts: list[tuple[Callable[..., None], int, tuple[Any, ...]]]) -> None:
    for kernel, rows, args in parts[lo:hi]:
        kernel(0, rows, *args)


def _rounded(channels: int) -> int:
    """Channels, rounded up to whole words."""
    return -(-channels // LANES) * LANES


def _words(flags: NDArray[np.bool_], words: int) -> NDArray[np.uint16]:
    """Flags of channels `[N, T, C]` as bits `[N, T, words]`."""
    padded = np.zeros((*flags.shape[:2], words * LANES), bool)
    padded[..., : flags.shape[2]] = flags
    return np.packbits(padded, axis=-1, bitorder="little").view("<u2").astype(np.uint16)
