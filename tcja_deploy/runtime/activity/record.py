"""Activity: exact integer counts of what travels along the edges of a graph, per sample and time step.

A recorder is told what to watch and is then fed arrays by whatever runs the network: whole windows by the
sequence runtime, single frames by the stream and the integer twin. It depends on none of them. Everything it
keeps is an int64, so the counts of two shards of a data set add up to the counts of the whole, whatever the
batch size and the order.

Memory: `4 (1 + maps) steps` integers of 8 bytes per value and recording, and one integer per neuron.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import DataError
from tcja_deploy.runtime.activity.measures import Measure

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Activity", "Recorder", "ValueActivity", "Watch"]

Ints = NDArray[np.int64]

_FIRST_ROOM = 64
"""Recordings that there is room for at first; the room doubles whenever it is full."""


@dataclass(frozen=True, eq=False)
class Watch:
    """One value to record.

    Attributes:
        name: Name of the value.
        features: Shape of one frame of one sample.
        steps: Frames in a window: `T`, or 1 for a value that a window has once.
        maps: Non-negative integer weights by name, each broadcastable to `[steps, *features]`; besides the
            plain counts, the counts weighted by each map are kept. A map of fan-outs turns spikes into
            synaptic operations.
        binary: Whether the value can only be 0 or 1, which makes counting faster; ignored where values are outside
            0 to 1.
    """

    name: str
    features: tuple[int, ...]
    steps: int
    maps: Mapping[str, Ints] = field(default_factory=dict)
    binary: bool = False

    def __post_init__(self) -> None:
        for key, weights in self.maps.items():
            rank = 1 + len(self.features)
            fits = weights.ndim == rank and all(
                m in (1, n) for m, n in zip(weights.shape, (self.steps, *self.features), strict=True)
            )
            if not fits or weights.dtype != np.int64:
                raise DataError(
                    f"the map {key!r} is {weights.dtype} {list(weights.shape)}, expected int64 that "
                    f"broadcasts to {[self.steps, *self.features]}",
                    where=self.name,
                )


@dataclass(frozen=True, eq=False)
class ValueActivity:
    """Counts of one value.

    Attributes:
        name: Name of the value.
        features: Shape of one frame of one sample.
        maps: Names of the rows of `table`, the first of which, `""`, is the plain count.
        table: `[1 + maps, len(Measure), samples, steps]`, int64.
        neurons: `[*features]`, int64: non-zero elements at each position, summed over samples and steps.
    """

    name: str
    features: tuple[int, ...]
    maps: tuple[str, ...]
    table: Ints
    neurons: Ints

    @property
    def size(self) -> int:
        """Elements per frame and sample."""
        return int(np.prod(self.features, dtype=np.int64))

    @property
    def steps(self) -> int:
        """Frames in a window."""
        return int(self.table.shape[3])

    def counts(self, measure: Measure = Measure.NONZERO, weighted_by: str = "") -> Ints:
        """Counts `[samples, steps]`, plain or weighted by a map.

        Raises:
            DataError: No such map was recorded.
        """
        if weighted_by not in self.maps:
            raise DataError(f"the map {weighted_by!r} was not recorded", where=self.name)
        counts: Ints = self.table[self.maps.index(weighted_by), measure]
        return counts


@dataclass(frozen=True, eq=False)
class Activity:
    """Counts of all watched values over some recordings.

    Attributes:
        samples: Number of each recording in its data set, in rising order.
        values: Counts of each value by its name.
        origin: What the counts belong to, such as the hashes of model and data; shards merge only if
            they agree.
    """

    samples: Ints
    values: Mapping[str, ValueActivity]
    origin: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, name: str) -> ValueActivity:
        try:
            return self.values[name]
        except KeyError:
            raise DataError("the activity of this value was not recorded", where=name) from None

    def same_as(self, other: Activity) -> bool:
        """Whether every count, every sample and the origin are equal."""
        return (
            np.array_equal(self.samples, other.samples)
            and dict(self.origin) == dict(other.origin)
            and list(self.values) == list(other.values)
            and all(
                v.maps == w.maps and np.array_equal(v.table, w.table) and np.array_equal(v.neurons, w.neurons)
                for v, w in zip(self.values.values(), other.values.values(), strict=True)
            )
        )

    @staticmethod
    def merge(shards: Sequence[Activity]) -> Activity:
        """The counts of all shards together, in any order.

        Raises:
            DataError: The shards watch different values, belong to different models or data, or share a
                recording.
        """
        if not shards:
            raise DataError("there is nothing to merge")
        first = shards[0]
        if len(shards) == 1 and (first.samples[1:] > first.samples[:-1]).all():
            return first
        for other in shards[1:]:
            layout = {n: (v.maps, v.table.shape[1::2], v.features) for n, v in first.values.items()}
            if {n: (v.maps, v.table.shape[1::2], v.features) for n, v in other.values.items()} != layout:
                raise DataError("the shards were recorded with different values or maps")
            if dict(other.origin) != dict(first.origin):
                raise DataError("the shards belong to different models or data sets")
        samples = np.concatenate([s.samples for s in shards])
        order = np.argsort(samples, kind="stable")
        samples = samples[order]
        twice = samples[1:][samples[1:] == samples[:-1]]
        if len(twice):
            raise DataError(f"recording {int(twice[0])} was counted twice", hint="shards must not overlap")
        values = {}
        for name, v in first.values.items():
            table = np.concatenate([s.values[name].table for s in shards], axis=2)[:, :, order]
            neurons = np.stack([s.values[name].neurons for s in shards]).sum(0)
            values[name] = ValueActivity(name, v.features, v.maps, table, neurons)
        return Activity(samples, values, dict(first.origin))


class Recorder:
    """Counts what it is fed.

    Call `begin` with the numbers of the recordings of a batch, `add` for every watched value (in one
    piece or frame by frame, in any order), and `finish` after the last batch.

    Args:
        watches: What to record. Other values are ignored, so a recorder can be given everything.
        origin: See `Activity.origin`.
        recordings: How many there will be, if that is known: room for them is made once, since growth fragments memory.
    """

    def __init__(
        self, watches: Sequence[Watch], origin: Mapping[str, str] | None = None, recordings: int = 0
    ) -> None:
        self._watches = {w.name: w for w in watches}
        self._origin = dict(origin or {})
        self._maps = {w.name: [np.array(m) for m in w.maps.values()] for w in watches}
        # One table per value, written in place: small arrays that stay would fragment the memory between them.
        self._count = 0
        self._numbers = np.zeros(recordings, np.int64)
        self._tables = {w.name: _room(w, recordings) for w in watches}
        self._neurons = {w.name: np.zeros(w.features, np.int64) for w in watches}
        self._ids = np.zeros(0, np.int64)
        self._open: dict[str, Ints] = {}
        self._seen: dict[str, NDArray[np.bool_]] = {}

    def watches(self, name: str) -> bool:
        """Whether a value is recorded."""
        return name in self._watches

    def watch(self, name: str) -> Watch | None:
        """What to record of a value; `None` if it is not recorded."""
        return self._watches.get(name)

    def begin(self, samples: Sequence[int] | Ints) -> None:
        """Start a batch of recordings, given by their numbers in the data set.

        Raises:
            DataError: The previous batch is incomplete.
        """
        self._close()
        self._ids = np.asarray(samples, np.int64)
        n = len(self._ids)
        for w in self._watches.values():
            self._open[w.name] = np.zeros((1 + len(w.maps), len(Measure), n, w.steps), np.int64)
            self._seen[w.name] = np.zeros(w.steps, bool)

    def add(self, name: str, x: Tensor | NDArray[Any], step: int = 0) -> None:
        """Count frames `[k, n, *features]` of one value, the first of which is time step `step`.

        Raises:
            DataError: The shape does not fit, a frame was counted before, or numbers are not finite.
        """
        watch = self._watches.get(name)
        if watch is None:
            return
        from tcja_deploy.runtime.activity.counting import count

        k, n = (x.shape[0], len(self._ids)) if x.ndim else (0, 0)
        if tuple(x.shape) != (k, n, *watch.features) or not 0 <= step <= watch.steps - k:
            raise DataError(
                f"got {list(x.shape)} for time step {step}, expected [up to {watch.steps}, "
                f"{n}, {', '.join(map(str, watch.features))}]",
                where=name,
            )
        seen = self._seen[name]
        if seen[step : step + k].any():
            raise DataError(
                f"time step {step + int(np.argmax(seen[step : step + k]))} was counted before", where=name
            )
        seen[step : step + k] = True
        maps = [_slice(m, step, k) for m in self._maps[name]]
        table, neurons = count(x, maps, binary=watch.binary, where=name)
        self._open[name][..., step : step + k] = table.swapaxes(2, 3)
        self._neurons[name] += neurons

    def window_table(self, name: str) -> Ints:
        """Zeros `[1 + maps, len(Measure), n, steps]` to which counts of a whole window are written; `add_neurons` follows.

        Raises:
            DataError: The value was counted before.
        """
        if self._seen[name].any():
            raise DataError("was counted before", where=name)
        self._seen[name][:] = True
        return self._open[name]

    def add_neurons(self, name: str, neurons: NDArray[np.integer[Any]]) -> None:
        """Add the non-zero elements at each position, `[*features]`, that belong to what `window_table` received."""
        self._neurons[name] += neurons

    def finish(self) -> Activity:
        """Everything that was counted.

        Raises:
            DataError: The last batch is incomplete, or a recording was counted twice.
        """
        self._close()
        values = {
            w.name: ValueActivity(
                w.name,
                w.features,
                ("", *w.maps),
                self._tables[w.name][:, :, : self._count],
                self._neurons[w.name].copy(),
            )
            for w in self._watches.values()
        }
        ids = self._numbers[: self._count].copy()
        return Activity.merge([Activity(ids, values, self._origin)])

    def _close(self) -> None:
        missing = [
            f"{name} at step {int(np.argmin(seen))}" for name, seen in self._seen.items() if not seen.all()
        ]
        if missing:
            raise DataError(f"the batch is incomplete, frames are missing: {', '.join(missing)}")
        if len(self._ids):
            end = self._count + len(self._ids)
            if end > len(self._numbers):
                self._grow(max(end, 2 * len(self._numbers), _FIRST_ROOM))
            self._numbers[self._count : end] = self._ids
            for name, table in self._open.items():
                self._tables[name][:, :, self._count : end] = table
            self._count = end
        self._ids, self._open, self._seen = np.zeros(0, np.int64), {}, {}

    def _grow(self, recordings: int) -> None:
        """Make room for more recordings."""
        numbers = np.zeros(recordings, np.int64)
        numbers[: self._count] = self._numbers[: self._count]
        self._numbers = numbers
        for name, watch in self._watches.items():
            table = _room(watch, recordings)
            table[:, :, : self._count] = self._tables[name][:, :, : self._count]
            self._tables[name] = table


def _room(watch: Watch, recordings: int) -> Ints:
    return np.zeros((1 + len(watch.maps), len(Measure), recordings, watch.steps), np.int64)


def _slice(weights: Ints, step: int, k: int) -> Ints:
    return weights if weights.shape[0] == 1 else weights[step : step + k]
