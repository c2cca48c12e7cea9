"""Counts that are saved from time to time, so that an interrupted run loses little and can be resumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import FileFormatError
from tcja_deploy.runtime.activity.file import activity_arrays, activity_of
from tcja_deploy.runtime.activity.predicted import Outcomes
from tcja_deploy.runtime.activity.record import Activity, Recorder, Watch
from tcja_deploy.runtime.resume import KeptProgress

__all__ = ["Shards", "Windows"]

_OUTCOMES = "outcomes"


class Windows(Protocol):
    """Runs a network over windows and feeds a recorder, which has begun a batch of as many samples."""

    def count(self, frames: NDArray[np.float32], recorder: Recorder, /) -> NDArray[np.float32]:
        """Run frames `[T, N, ...]`, count their watched values, and return the result `[steps, N, *features]`."""

    def flush(self, recorder: Recorder, /) -> None:
        """Pass on counts that were held back; called after the last window."""


class Shards:
    """The counts of a run, in one piece or in several.

    Args:
        watches: What is recorded.
        origin: See `Activity.origin`.
        total: Recordings in the data set.
        windows: What runs the network; asked to pass on what it holds back.
        outcomes: The predictions, kept with the counts.
        kept: Where progress is kept; `None` to keep none.

    Attributes:
        recorder: Receives the counts of the next batch.

    Raises:
        DataError: What is kept belongs to another run.
        FileFormatError: What is kept is damaged.
    """

    def __init__(
        self,
        watches: Sequence[Watch],
        origin: Mapping[str, str] | None,
        total: int,
        windows: Windows,
        outcomes: Outcomes | None,
        kept: KeptProgress | None,
    ) -> None:
        self._watches, self._origin, self._windows = watches, origin, windows
        self._total, self._outcomes, self._kept = total, outcomes, kept
        self._shards: list[Activity] = []
        if kept is not None:
            for name in kept.names():
                self._take(kept, name)
        self._known = {int(i) for shard in self._shards for i in shard.samples}
        self.recorder = self._recorder()

    def _recorder(self) -> Recorder:
        """A recorder for the recordings that are left."""
        return Recorder(self._watches, self._origin, self._total - sum(map(len, self._shards)))

    def _take(self, kept: KeptProgress, name: str) -> None:
        found = kept.part(name)
        if found is None:
            return
        where, arrays = str(kept.folder / f"{name}.npz"), found[1]
        shard = activity_of(arrays, where)
        if len(shard) and not 0 <= shard.samples[0] <= shard.samples[-1] < self._total:
            raise FileFormatError("has counts of recordings that there are not", where=where)
        if self._outcomes is not None:
            table = arrays.get(_OUTCOMES)
            fits = table is not None and table.shape == (2, len(shard)) and table.dtype == np.int64
            if table is None or not fits or (table < [[1], [0]]).any():
                raise FileFormatError("lacks the predictions of its recordings", where=where)
            self._outcomes.put(shard.samples, table)
        self._shards.append(shard)

    def has(self, batch: range) -> bool:
        """Whether a batch was counted before.

        Raises:
            FileFormatError: Only a part of it was.
        """
        known = sum(i in self._known for i in batch)
        if known not in (0, len(batch)):
            raise FileFormatError(
                "what is kept of the interrupted run has parts of batches", hint="begin anew"
            )
        return known > 0

    def counted(self) -> None:
        """Note that a batch has been counted, and save it together with those before it, if it is time."""
        if self._kept is not None and self._kept.due:
            self._put_aside(self._kept)

    def _put_aside(self, kept: KeptProgress) -> None:
        self._windows.flush(self.recorder)
        shard = self.recorder.finish()
        self._shards.append(shard)
        self.recorder = self._recorder()
        arrays: dict[str, NDArray[np.generic]] = activity_arrays(shard)
        if self._outcomes is not None:
            arrays[_OUTCOMES] = self._outcomes.of(shard.samples)
        kept.keep(f"{int(shard.samples[0]):08d}", {}, arrays)

    def finish(self) -> Activity:
        """All counts together.

        Raises:
            DataError: What was kept does not fit what is counted now.
        """
        self._windows.flush(self.recorder)
        return Activity.merge([*self._shards, self.recorder.finish()])
