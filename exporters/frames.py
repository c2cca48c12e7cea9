"""The frames that an export or a verification runs on."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import DataError
from tcja_deploy.ir import Graph
from tcja_deploy.runtime.frames import checked_frames
from tcja_deploy.runtime.synthetic import synthetic_frames

__all__ = ["SYNTHETIC_SAMPLES", "FrameBatches"]

SYNTHETIC_SAMPLES = 4


class FrameBatches:
    """Checked batches of frames `[T, n, ...]` with at least one sample; they can be iterated over once.

    Args:
        graph: The network that the frames are for.
        batches: The batches; four synthetic samples if `None`.

    Attributes:
        synthetic: Whether the samples are synthetic.
        samples: Number of samples; `None` if the batches are an iterator, which does not tell.
        sample: The first sample, `[T, 1, ...]`.

    Raises:
        DataError: If there is no sample, or frames do not fit the network.
    """

    def __init__(self, graph: Graph, batches: Iterable[NDArray[np.float32]] | None = None) -> None:
        self.synthetic = batches is None
        self.samples = _samples(batches)
        if batches is None:
            batches = (synthetic_frames(graph, 1, seed=seed) for seed in range(SYNTHETIC_SAMPLES))
        rest = (checked_frames(graph, np.asarray(batch)) for batch in batches)
        filled = (batch for batch in rest if batch.shape[1])
        first = next(filled, None)
        if first is None:
            raise DataError("the data holds no samples", hint="pass --data with at least one recording")
        self.sample: NDArray[np.float32] = first[:, :1]
        self._batches: Iterable[NDArray[np.float32]] = itertools.chain([first], filled)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return iter(self._batches)

    def keep(self) -> list[NDArray[np.float32]]:
        """Keep all batches in memory, so that they can be iterated over again, and return them."""
        self._batches = list(self._batches)
        return self._batches


def _samples(batches: Iterable[NDArray[np.float32]] | None) -> int | None:
    if batches is None:
        return SYNTHETIC_SAMPLES
    shapes = [np.shape(batch) for batch in batches] if isinstance(batches, Sequence) else [()]
    return sum(shape[1] for shape in shapes) if all(len(shape) > 1 for shape in shapes) else None
