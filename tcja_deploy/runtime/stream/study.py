"""What a shorter look-ahead costs: fitted on some recordings, compared with the exact stream on others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import DataError
from tcja_deploy.ir import Graph
from tcja_deploy.runtime.activity.collect import LabelledFrames
from tcja_deploy.runtime.resume import KeptProgress
from tcja_deploy.runtime.stream.decision import Batch
from tcja_deploy.runtime.stream.estimate import FIT, FrameProfile, fit
from tcja_deploy.runtime.stream.sweep import SWEEP, Divergence, sweep

__all__ = ["Average", "Bar", "Study", "batched", "frames_of", "no_bar", "study"]

Bar = Callable[[str, int], AbstractContextManager[Callable[[int], None] | None]]
"""Shows progress: given what is done and how often, a context whose value is called with the number done so far."""


def no_bar(what: str, total: int) -> AbstractContextManager[None]:
    """Show no progress."""
    return nullcontext()


@dataclass(frozen=True)
class Average:
    """One estimate on average over the look-aheads of a study.

    Attributes:
        mismatch: Differing spikes, as a share of those of the exact run.
        gate_error: Mean difference of the gates, of the worst block.
        accuracy: Share of correct predictions; `None` without labels.
    """

    mismatch: float
    gate_error: float
    accuracy: float | None


@dataclass(frozen=True, eq=False)
class Study:
    """Look-aheads and estimates compared with the exact stream.

    Attributes:
        rows: One per look-ahead and estimate.
        profiles: What gates expect of frames that have not arrived, by the name of the estimate; `None` for zeros.
        fitted: Names of the estimates that were fitted, on recordings that `rows` has not seen.
    """

    rows: tuple[Divergence, ...]
    profiles: Mapping[str, FrameProfile | None]
    fitted: tuple[str, ...]

    @property
    def best(self) -> FrameProfile | None:
        """The fitted profile with the fewest differing spikes over all look-aheads; `None` if nothing was fitted."""
        if not self.fitted:
            return None
        name = min(self.fitted, key=lambda name: sum(r.mismatch for r in self.rows if r.estimate == name))
        return self.profiles[name]

    def average(self, estimate: str) -> Average:
        """Results of one estimate, averaged over its look-aheads."""
        rows = [r for r in self.rows if r.estimate == estimate]
        right = [r.accuracy for r in rows if r.accuracy is not None]
        return Average(
            float(np.mean([r.mismatch for r in rows])),
            float(np.mean([r.worst_gate_error[1] for r in rows])),
            float(np.mean(right)) if right else None,
        )


def study(
    graph: Graph,
    data: LabelledFrames,
    *,
    calibration: LabelledFrames | None = None,
    lookahead: int | None = None,
    profile: FrameProfile | None = None,
    fitted: bool = False,
    batch_size: int = 20,
    bar: Bar = no_bar,
    kept: KeptProgress | None = None,
) -> Study:
    """Compare look-aheads with the exact stream, for zeros and for what is fitted or given.

    Args:
        graph: The network.
        data: The recordings.
        calibration: Recordings to fit on; `None` for every other one of `data`, with the comparison on the rest.
        lookahead: The look-ahead to compare; `None` for all of them.
        profile: A profile to compare as well.
        fitted: Whether to fit profiles, the mean and a linear prediction.
        batch_size: Recordings that run side by side.
        bar: Shows progress.
        kept: Where progress is kept, and what an interrupted run has kept there.

    Raises:
        DataError: If there are too few recordings.
    """
    profiles: dict[str, FrameProfile | None] = {"zeros": None}
    held_out = range(len(data))
    if profile is not None:
        profiles["profile"] = profile
    names: tuple[str, ...] = ()
    if fitted:
        source, mine = (data, range(0, len(data), 2)) if calibration is None else (calibration, None)
        held_out = range(1, len(data), 2) if calibration is None else held_out
        mine = range(len(source)) if mine is None else mine
        if not mine or not held_out:
            raise DataError(
                "there are too few recordings to fit on some and test on others", hint="pass --calibration"
            )
        with bar("fitting", len(mine)) as progress:
            left = batched(source, mine[_done(kept, FIT) :], batch_size)
            linear = fit(graph, frames_of(left, progress, _done(kept, FIT)), linear=True, kept=kept)
        profiles |= {"mean": linear.without_slopes(), "linear": linear}
        names = ("mean", "linear")
    with bar("comparing", len(held_out)) as progress:
        rows = sweep(
            graph,
            batched(data, held_out[_done(kept, SWEEP) :], batch_size),
            lookaheads=range(graph.T) if lookahead is None else [lookahead],
            profiles=profiles,
            progress=progress,
            kept=kept,
        )
    return Study(rows, profiles, names)


def _done(kept: KeptProgress | None, name: str) -> int:
    """How many recordings a part of an interrupted run has done."""
    found = None if kept is None else kept.part(name)
    return 0 if found is None else int(found[0]["done"])


def batched(data: LabelledFrames, chosen: range, size: int) -> Iterator[Batch]:
    """Some recordings, `size` at a time."""
    for start in range(0, len(chosen), size):
        loaded = [data[i] for i in chosen[start : start + size]]
        labels = [label for _, label in loaded]
        known = None if None in labels else np.array(labels, np.int64)
        yield np.stack([frames for frames, _ in loaded], axis=1), known


def frames_of(
    batches: Iterable[Batch], progress: Callable[[int], None] | None = None, done: int = 0
) -> Iterator[NDArray[np.float32]]:
    """The frames of batches without labels; `progress` is called with `done` plus the number of recordings given so far."""
    for frames, _ in batches:
        yield frames
        done += frames.shape[1]
        if progress is not None:
            progress(done)
