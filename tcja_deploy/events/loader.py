"""Frames by number, each made at most a few times: kept in memory while they are small, read ahead by threads.

Threads, not processes: torch has started its own by now, after which forking is not safe, and spawning an interpreter takes
longer than reading a small data set.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import DataError

__all__ = ["Loader", "compact"]

_MEMORY = 2**28
_AHEAD = 8
_THREADS = 2


def compact(frames: NDArray[np.generic]) -> NDArray[np.generic]:
    """The same values in the smallest type that holds them all: counts are rarely larger than 255."""
    if frames.dtype.kind not in "iu" or not frames.size or int(frames.min()) < 0:
        return frames
    return frames.astype(np.min_scalar_type(int(frames.max())))


class Loader:
    """Makes frames with a function of the recording's number.

    Attributes:
        whole: Whether all numbers in the frames made so far are whole, as counts are.
    """

    def __init__(
        self,
        make: Callable[[int], NDArray[np.generic]],
        count: int,
        *,
        memory: int = _MEMORY,
        ahead: int = _AHEAD,
        threads: int = _THREADS,
    ) -> None:
        self._make = make
        self._count = count
        self._room = memory
        self._ahead = ahead
        self._threads = threads
        self._kept: dict[int, NDArray[np.generic]] = {}
        self._coming: dict[int, Future[NDArray[np.generic]]] = {}
        self._last = -1
        self.whole = True
        self._lock = threading.Lock()

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._threads, thread_name_prefix="tcja-frames")

    def _load(self, index: int) -> NDArray[np.generic]:
        kept = self._kept.get(index)
        if kept is not None:
            return kept
        frames = compact(self._make(index))
        if self.whole and frames.dtype.kind == "f" and (frames != np.rint(frames)).any():
            self.whole = False
        with self._lock:
            if index not in self._kept and frames.nbytes <= self._room:
                self._room -= frames.nbytes
                self._kept[index] = frames
        return frames

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        """One recording's frames, float32; those after it are begun if it follows the one asked for before.

        Raises what making them raises.
        """
        with self._lock:
            coming = self._coming.pop(index, None)
            in_turn, self._last = index == self._last + 1, index
            if in_turn and self._ahead:
                for following in range(index + 1, min(index + 1 + self._ahead, self._count)):
                    if following not in self._kept and following not in self._coming:
                        self._coming[following] = self._pool.submit(copy_context().run, self._load, following)
            elif self._coming:  # another order: what was begun is of no use
                for future in self._coming.values():
                    future.cancel()
                self._coming.clear()
        frames = self._load(index) if coming is None else coming.result()
        return frames.astype(np.float32)

    def failures(self) -> list[tuple[int, DataError]]:
        """Make all frames once, in parallel; the numbers of those that cannot be made, with the errors."""

        def attempt(index: int) -> DataError | None:
            try:
                self._load(index)
            except DataError as error:
                return error
            return None

        few = self._count < 2 * self._threads
        context = copy_context()  # limits hold in the threads, too
        tried = (
            map(attempt, range(self._count))
            if few
            else self._pool.map(lambda index: context.copy().run(attempt, index), range(self._count))
        )
        return [(index, error) for index, error in enumerate(tried) if error is not None]
