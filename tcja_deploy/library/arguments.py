"""Arguments that several functions of this package take, as types: how to load, to read recordings and to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from tcja_deploy.events.classes import LabelOrder
    from tcja_deploy.events.integrate import SplitBy
    from tcja_deploy.events.resize import Resize
    from tcja_deploy.ir import Kind

__all__ = ["LoadArguments", "RecordingArguments", "RunArguments", "unlimited"]


class LoadArguments(TypedDict, total=False):
    """Arguments of `load`, for a model that is not a graph; `load` describes them."""

    arch: str | None
    timesteps: int | None
    input_shape: tuple[int, ...] | None
    input_kind: Kind | str | None
    batch_first: bool | None
    dt: float | None
    trust_pickle: bool
    prove: bool
    weights: str | Path | None
    weights_key: str | None
    settings: Mapping[str, object] | None


class RecordingArguments(TypedDict, total=False):
    """How recordings in files are read; `tcja_deploy.events.open_data` describes it.

    Attributes:
        split_by: `"number"` (frames of equal numbers of events) or `"time"`.
        frame_time: Microseconds of a frame; with it, frames are split by duration.
        limit: At most this many recordings, spread over the classes.
        split: Part of a data set: `"train"`, `"test"` or `"val"`.
        classes: All class names in the order of their labels.
        labels: A table (CSV) of file names and labels.
        label_order: How class names are sorted, `"text"` or `"number"`.
        resize: How events of a sensor of another size are rescaled: `"area"`, `"crop"` or `"nearest"`.
        camera: Rows and columns of the camera, `[H, W]`, where the files do not say.
        cache: Keep the frames of large files in the user's cache folder.
    """

    split_by: SplitBy
    frame_time: int | None
    limit: int | None
    split: str | None
    classes: Sequence[str] | None
    labels: Path | None
    label_order: LabelOrder | None
    resize: Resize | None
    camera: tuple[int, int] | None
    cache: bool


def unlimited(recordings: RecordingArguments) -> RecordingArguments:
    """The same for all recordings, as those that numbers are fitted on."""
    every = recordings.copy()
    every["limit"] = None
    return every


class RunArguments(RecordingArguments, total=False):
    """How a network is run and counted, and how its recordings are read; `rates` describes it."""

    batch_size: int | None
    engine: str
    device: str
    progress: bool
