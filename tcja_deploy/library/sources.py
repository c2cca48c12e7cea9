"""What the functions of this package take: a model in any form, recordings in any form."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Unpack

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.api import load
from tcja_deploy.energy.count.model import DataSet
from tcja_deploy.energy.report.provenance import provenance
from tcja_deploy.errors import UsageError
from tcja_deploy.events import EventData
from tcja_deploy.events import open_data as open_events
from tcja_deploy.ir import Graph
from tcja_deploy.library.arguments import LoadArguments, RecordingArguments
from tcja_deploy.library.frames import FrameData, add_frames, frames_of_batches, time_first_batches
from tcja_deploy.library.task import task
from tcja_deploy.runtime.activity.collect import Joined

if TYPE_CHECKING:
    import torch

    from tcja_deploy.runtime.activity.collect import LabelledFrames

__all__ = [
    "Data",
    "Model",
    "Passing",
    "Taken",
    "labelled_batches",
    "model_facts",
    "model_name",
    "open_batches",
    "open_data",
    "open_model",
    "open_parts",
]

Model: TypeAlias = "str | Path | Graph | torch.nn.Module"
"""A file (or `"models.py:build"`), a graph, or a live module."""

Frames: TypeAlias = "NDArray[np.generic] | torch.Tensor"

Data: TypeAlias = "str | Path | DataSet | Frames | Iterable[object]"
"""A path, several, an opened data set, frames `[T, N, C, H, W]`, `(frames, labels)`, or batches of them (a `DataLoader`)."""


def open_model(model: Model, loading: LoadArguments | None = None, *, progress: bool = True) -> Graph:
    """The graph of a model.

    Args:
        model: What `load` takes, or a graph, which is passed on.
        loading: Arguments of `load`, for a model that is not a graph.
        progress: Whether loading shows a progress bar if it takes longer than two seconds.

    Raises:
        UsageError: Arguments for loading a graph, which is loaded already.
    """
    if not isinstance(model, Graph):
        return load(model, progress=progress, **(loading or {}))
    if loading:
        raise UsageError(
            f"{', '.join(loading)}: these say how to read a model, but this is a graph that was read already",
            hint="give them to tcja_deploy.load",
        )
    return model


def model_name(model: Model) -> str:
    """The name of a model in tables: its file without the suffix, its architecture, or its class."""
    if isinstance(model, str | Path):
        return Path(model).name if ":" in str(model) else Path(model).stem
    if isinstance(model, Graph):
        return model.source.get("architecture", "graph")
    return type(model).__name__


def model_facts(model: Model, graph: Graph, command: Sequence[str] = ("Python",)) -> dict[str, str]:
    """Where a model comes from, and the versions it is run with.

    Args:
        model: As it was given.
        graph: The graph of it.
        command: The words of the command line that it was given in, if it was one.
    """
    return provenance(command, Path(model) if isinstance(model, str | Path) else None, graph)


@task
def open_data(model: Model, data: Data, **options: Unpack[RecordingArguments]) -> DataSet:
    """Recordings as a model takes them: `open_data(model, "recordings/")[0]` is `(frames [T, C, H, W], label)`.

    Args:
        model: The model; frames are made for its T, input size and number of classes.
        data: A folder or file; a data set that is open already; frames `[T, N, C, H, W]` or `[N, T, C, H, W]` (arrays or
            tensors), with labels as `(frames, labels)`; or batches of either, such as a PyTorch `DataLoader` gives.
            What is not a file is kept in memory.
        **options: For files: `split_by`, `frame_time` (µs), `limit`, `split`, `classes`, `labels`, `label_order`,
            `resize`, `camera` [H, W] and `cache`, as `tcja_deploy.events.open_data` describes them.

    Raises:
        DataError: There is nothing readable, or it does not fit the model.
        UsageError: An option makes no sense.
    """
    return _open(Taken.by(open_model(model)), data, **options)


@dataclass(frozen=True)
class Taken:
    """What a model takes.

    Attributes:
        T: Frames of a window.
        shape: One frame, such as `[C, H, W]`.
        classes: How many classes it tells apart; `None` if it does not classify, or unknown.
    """

    T: int
    shape: tuple[int, ...]
    classes: int | None = None

    @classmethod
    def by(cls, graph: Graph) -> Taken:
        """What a graph takes."""
        features = graph[graph.output].signal.features
        return cls(graph.T, tuple(graph.input_shape), features[0] if len(features) == 1 else None)


def _open(taken: Taken, data: Data, **options: Unpack[RecordingArguments]) -> DataSet:
    if isinstance(data, EventData | FrameData):
        _no_options(options)
        return data
    if isinstance(data, str | Path):
        if len(taken.shape) != 3:
            raise UsageError(
                f"the model takes frames of shape {list(taken.shape)}, and recordings become [C, H, W]",
                where=str(data), hint="give arrays instead",
            )  # fmt: skip
        channels, height, width = taken.shape
        return open_events(
            data,
            timesteps=taken.T,
            sensor=(height, width),
            channels=channels,
            outputs=taken.classes,
            **options,
        )
    _no_options(options)
    batches, whose = _batches(data)
    return frames_of_batches(batches, taken.T, taken.shape, time_first=whose != "DataLoader", name=whose)


@dataclass
class Passing:
    """Batches of frames that are read as they are asked for, and facts about those that were.

    Attributes:
        batches: Frames `[T, n, ...]`, one batch after the other.
        names: What they were read from, such as paths.
        parts: The data sets that they come from; none for batches that the user made.
        samples: How many samples have been read.
    """

    batches: Iterable[NDArray[np.generic]]
    names: str
    parts: tuple[DataSet, ...] = ()
    samples: int = 0
    _passed: hashlib._Hash = field(default_factory=hashlib.sha256)

    @property
    def total(self) -> int | None:
        """How many samples there are; `None` where only reading them all would tell."""
        return sum(map(len, self.parts)) if self.parts else None

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        for frames in self.batches:
            self.samples += frames.shape[1]
            if not self.parts:
                for i in range(frames.shape[1]):
                    add_frames(self._passed, frames[:, i])
            yield frames.astype(np.float32, copy=False)

    @property
    def facts(self) -> dict[str, str]:
        """Facts about what was read, for reports; empty if nothing was."""
        if not self.samples:
            return {}
        return {"data": self.names, "data SHA-256": self.digest, "recordings": str(self.samples)}

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of each data set; for batches that the user made, of the frames read so far."""
        return " ".join(part.digest for part in self.parts) or self._passed.hexdigest()


def open_batches(taken: Taken, data: Data, size: int, **options: Unpack[RecordingArguments]) -> Passing:
    """Recordings as frames alone, `size` at a time; batches that the user made stay as they are, and are read when needed.

    Raises:
        DataError, UsageError: As `open_data`; for batches, when they are asked for.
    """
    several = _several(data)
    if several is not None or isinstance(data, str | Path | EventData | FrameData):
        parts = tuple(_open(taken, one, **options) for one in ([data] if several is None else several))
        frames = (frames for frames, _ in labelled_batches(Joined(parts), size))
        return Passing(frames, ", ".join(str(part.path) for part in parts), parts)
    _no_options(options)
    batches, whose = _batches(data)
    ordered = time_first_batches(batches, taken.T, taken.shape, time_first=whose != "DataLoader", name=whose)
    return Passing((batch.frames for batch in ordered), whose)


def open_parts(graph: Graph, data: Data, **options: Unpack[RecordingArguments]) -> list[DataSet]:
    """As `open_data`; several paths, or data sets that are open already, are taken one after the other."""
    several = _several(data)
    return [_open(Taken.by(graph), one, **options) for one in ([data] if several is None else several)]


def labelled_batches(
    data: LabelledFrames, size: int
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """All recordings in order, `size` at a time: frames `[T, n, ...]` and labels `[n]`, -1 where there is none."""
    for start in range(0, len(data), size):
        found = [data[i] for i in range(start, min(start + size, len(data)))]
        labels = np.array([-1 if label is None else label for _, label in found], np.int64)
        yield np.stack([frames for frames, _ in found], 1), labels


def _several(data: Data) -> Sequence[Any] | None:
    kinds = str | Path | EventData | FrameData
    if isinstance(data, list | tuple) and data and all(isinstance(one, kinds) for one in data):
        return list(data)
    return None


def _batches(data: Any) -> tuple[Iterable[Any], str]:
    """Batches, and a name for them in reports."""
    if hasattr(data, "shape"):
        return [data], "array"
    if isinstance(data, tuple) and len(data) == 2 and all(hasattr(x, "shape") for x in data):
        frames, labels = data
        return ([(frames, labels)], "array") if len(labels.shape) == 1 else (list(data), "arrays")
    if isinstance(data, Mapping) or not isinstance(data, Iterable):
        raise UsageError(
            f"a {type(data).__name__} holds no recordings that this can read",
            hint="give a path, frames [T, N, C, H, W], (frames, labels), or a DataLoader of them",
        )
    return data, type(data).__name__


def _no_options(options: Mapping[str, object]) -> None:
    if options:
        raise UsageError(
            f"{', '.join(options)} are about files of recordings", hint="leave them out, or give a path"
        )
