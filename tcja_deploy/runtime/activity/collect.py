"""Counting activity over a data set: batch by batch, in one process or in several that share the recordings.

Batches go to processes in turn, so that every recording is in the same batch, and so meets the same kernels,
however many processes there are. The processes exchange only the integers of `runtime.activity`, summed
by `torch.distributed`.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import DataError, UsageError
from tcja_deploy.ir import Graph
from tcja_deploy.runtime.activity.predicted import Outcomes
from tcja_deploy.runtime.activity.record import Activity, ValueActivity, Watch
from tcja_deploy.runtime.activity.shards import Shards, Windows
from tcja_deploy.runtime.activity.stopwatch import Stopwatch
from tcja_deploy.runtime.predictions import predictions
from tcja_deploy.runtime.resume import KeptProgress

__all__ = [
    "Joined",
    "LabelledFrames",
    "Windows",
    "Workers",
    "collect",
    "summed",
    "workers",
]

_LAUNCHED = "TORCHELASTIC_RUN_ID"
"""The variable by which `torch.distributed.is_torchelastic_launched` knows the processes of `torchrun`."""

Progress = Callable[[int], None]
"""Called with the number of recordings that this process has finished."""


class LabelledFrames(Protocol):
    """A data set: indexing gives the frames `[T, ...]` of one recording and its label."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[NDArray[np.float32], int | None]: ...


class Joined:
    """Several data sets as one, in the given order, with recordings numbered consecutively."""

    def __init__(self, parts: Sequence[LabelledFrames]) -> None:
        self._parts = tuple(parts)
        self._ends = list(accumulate(map(len, self._parts)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int, /) -> tuple[NDArray[np.float32], int | None]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        part = bisect_right(self._ends, index)
        return self._parts[part][index - (self._ends[part - 1] if part else 0)]


@dataclass(frozen=True)
class Workers:
    """This process among those that share the work.

    Attributes:
        rank: Number of this process, from 0.
        count: Number of processes.
    """

    rank: int = 0
    count: int = 1

    def batches(self, total: int, size: int) -> list[range]:
        """Recordings of the batches that this process runs."""
        starts = range(0, total, size)
        return [range(start, min(start + size, total)) for start in starts[self.rank :: self.count]]


@contextmanager
def workers() -> Iterator[Workers]:
    """The processes that `torchrun` started, connected by gloo; this process alone if it started none.

    Variables such as `WORLD_SIZE`, which job schedulers set as well, are not enough to connect processes.
    """
    if _LAUNCHED not in os.environ or int(os.environ["WORLD_SIZE"]) < 2:
        yield Workers()
        return
    import torch.distributed as dist

    dist.init_process_group("gloo")
    try:
        yield Workers(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def collect(
    graph: Graph,
    data: LabelledFrames,
    watches: Sequence[Watch],
    *,
    batch_size: int = 4,
    origin: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    shared: Workers | None = None,
    windows: Windows | None = None,
    outcomes: Outcomes | None = None,
    stopwatch: Stopwatch | None = None,
    kept: KeptProgress | None = None,
) -> Activity:
    """Run a graph over a data set and count its activity.

    Only one batch is in memory at a time, besides the counts (see `runtime.activity`).

    Args:
        graph: The network.
        data: Recordings with the graph's number of frames and frame shape.
        watches: What to record, for values of the graph by name.
        batch_size: Recordings that are run together.
        origin: See `Activity.origin`.
        progress: Called after each batch with the number of recordings done.
        shared: This process among several, as `workers()` gives it; every process gets the counts of all
            recordings.
        windows: What runs the batches (see `runtime.engines`); the sequence runtime on the CPU if not given.
        outcomes: Receives the predicted class of each recording; the network's result must be one number per class.
        stopwatch: Receives the time spent on reading, and on the network with its counting.
        kept: Where progress is kept, and what an interrupted run has kept there.

    Raises:
        UsageError: The batch size is not positive.
        DataError: There are no recordings, or they do not fit the graph.
    """
    if batch_size < 1:
        raise UsageError(f"the batch size is {batch_size}, it must be positive")
    if not len(data):
        raise DataError("the data set holds no recordings")
    shared = shared or Workers()
    if windows is None:
        from tcja_deploy.runtime.activity.torch_windows import TorchWindows

        windows = TorchWindows(graph)
    watch = stopwatch or Stopwatch()
    shards = Shards(watches, origin, len(data), windows, outcomes, kept)
    done = 0
    for indices in shared.batches(len(data), batch_size):
        done += len(indices)
        if not shards.has(indices):
            shards.recorder.begin(list(indices))
            with watch.part("reading and integration"):
                loaded = [data[i] for i in indices]
                frames = np.stack([frames for frames, _ in loaded], axis=1)
            with watch.part("the network, with its spikes counted"):
                result = windows.count(frames, shards.recorder)
            if outcomes is not None:
                classes = predictions(result, streams=True)
                outcomes.add(list(indices), classes, [label for _, label in loaded])
            shards.counted()
        if progress is not None:
            progress(done)
    activity = shards.finish()
    return activity if shared.count == 1 else _reduce(activity, len(data))


def _reduce(activity: Activity, total: int) -> Activity:
    """The counts of all processes: each puts its own rows into a table of zeros, and the tables are summed."""
    present = np.zeros(total, np.int64)
    present[activity.samples] = 1
    summed(present)
    wrong = np.flatnonzero(present != 1)
    if len(wrong):
        raise DataError(f"recording {wrong[0]} was counted {present[wrong[0]]} times")
    values = {}
    for name, v in activity.values.items():
        table = np.zeros((*v.table.shape[:2], total, v.steps), np.int64)
        table[:, :, activity.samples] = v.table
        values[name] = ValueActivity(name, v.features, v.maps, summed(table), summed(v.neurons))
    return Activity(np.arange(total, dtype=np.int64), values, activity.origin)


def summed(a: NDArray[np.int64]) -> NDArray[np.int64]:
    """The sum of an array over all processes, in place.

    Raises:
        DataError: Another process has stopped, for a reason that it prints itself.
    """
    import torch
    import torch.distributed as dist

    tensor: Any = torch.from_numpy(a)
    try:
        dist.all_reduce(tensor)
    except RuntimeError as error:  # gloo has no error class of its own
        raise DataError(
            "another process stopped before the counts were summed", hint="its own message says why"
        ) from error
    return a
