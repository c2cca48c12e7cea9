"""Running a step model in onnxruntime, with the same interface as `runtime.stream.Stepper`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tcja_deploy.errors import DataError, FileFormatError, UsageError, VerificationError
from tcja_deploy.exporters.onnx.recognise import TARGET_KEY
from tcja_deploy.exporters.target import Opened, Ran
from tcja_deploy.files import path_status
from tcja_deploy.ir import Graph
from tcja_deploy.reading.json_text import parse_json
from tcja_deploy.reading.limits import check_bytes
from tcja_deploy.reading.onnx_file import onnx_metadata
from tcja_deploy.runtime.onnx.session import Model
from tcja_deploy.runtime.stream.engine import Emission

__all__ = ["OnnxStepper", "open_onnx_step", "step_properties"]

StepStates = Mapping[str, NDArray[np.generic]]


def step_properties(path: Path) -> dict[str, str]:
    """Metadata of a step model.

    Raises:
        FileFormatError: If the file is not a step model, or its metadata is incomplete.
    """
    if path_status(path) != "file":
        raise FileFormatError("there is no such file", where=str(path))
    properties = onnx_metadata(path)
    if properties is None:
        raise FileFormatError("this is not a readable ONNX model", where=str(path))
    if properties.get(TARGET_KEY) != "onnx-step":
        raise FileFormatError(
            "this ONNX model does not take single frames",
            where=str(path),
            hint="export one with --target onnx-step",
        )
    missing = [name for name in _PROPERTIES if name not in properties]
    if missing:
        raise FileFormatError(
            f"this ONNX model lacks {', '.join(missing)}", where=str(path), hint="export it again"
        )
    return properties


_PROPERTIES = tuple(
    f"tcja_deploy.{name}"
    for name in ("T", "latency", "layers", "lookahead", "model_sha256", "output", "profile_sha256", "states")
)
"""Types and names of a step model's metadata."""


class OnnxStepper:
    """A step model that runs as a stream.

    `state` is a mapping of arrays that is never changed in place: keep it, save it with `numpy.savez`, set it back.

    Attributes:
        latency: Number of steps between a frame and the result that it completes.
        frames_per_window: Number of frames in a window, T.
        shown: Additional values at the latest step, by name.
        state: The states before the next frame, by name.
    """

    def __init__(
        self, path: Path | str, samples: int = 1, show: Sequence[str] = (), *, trusted: bool = False
    ) -> None:
        """Open a model.

        Args:
            path: The `.onnx` file.
            samples: Number of samples that run side by side, N.
            show: Names of spiking layers, or of other tensors, to read after each step.
            trusted: Run the model in this process, which saves about a millisecond per step; only for models you made
                yourself. Others run in a separate process with limits on memory and time.

        Raises:
            FileFormatError: If the file is not a step model, is damaged, contradicts itself, or has no such tensor.
            UsageError: If `samples` is not positive.
        """
        if samples < 1:
            raise UsageError(f"a stream needs at least one sample, got {samples}")
        path = Path(path)
        properties = step_properties(path)
        where = str(path)
        self.latency, self.frames_per_window = (
            _whole(properties[f"tcja_deploy.{name}"], name, where) for name in ("latency", "T")
        )
        layers = parse_json(properties["tcja_deploy.layers"], {str: str}, where=where, hint=_DAMAGED)
        described = parse_json(properties["tcja_deploy.states"], _STATES, where=where, hint=_DAMAGED)
        self._show = {name: layers.get(name, name) for name in show}
        self._model = Model(path, trusted=trusted)
        lacking = self._model.lacking(list(self._show.values()))
        if lacking:
            raise FileFormatError("the model has no such tensor", where=f"{path}: {lacking[0]}")
        self._model.start(show=list(self._show.values()))
        self._names = self._model.outputs
        frame, *states = self._model.inputs.items()
        self._input, self._frame = frame
        self._check(described, dict(states), samples, where)
        self.state: StepStates = {
            name: np.full(
                [samples if d == "N" else d for d in about["shape"]], about["value"], about["dtype"]
            )
            for name, about in described.items()
        }
        self._streams = properties["tcja_deploy.output"] == "stream"
        self._samples = samples
        self.shown: dict[str, NDArray[np.generic]] = {}
        self._latest: torch.Tensor | None = None
        self._given = 0

    def _check(
        self, described: Mapping[str, Any], inputs: Mapping[str, list[int | str]], samples: int, where: str
    ) -> None:
        """Check that the metadata on the states match the model's inputs and outputs.

        Raises:
            FileFormatError: If they contradict each other, or the states are larger than the limit.
        """
        needed = {"output", "frame", "valid", *(f"{name}.next" for name in described)}
        if described.keys() != inputs.keys() or not needed <= set(self._names):
            raise FileFormatError("the model and its notes on its states contradict each other", where=where)
        total = 0
        for name, about in described.items():
            axes = [d if isinstance(d, int) else "N" for d in inputs[name]]
            if about["shape"] != axes or about["dtype"] not in _DTYPES:
                raise FileFormatError(
                    f"the state {name} is {about['dtype']} {about['shape']} by its notes, the model takes {axes}",
                    where=where,
                )
            if not _holds(about["dtype"], about["value"]):
                raise FileFormatError(f"the state {name} cannot begin with {about['value']:.6g}", where=where)
            total += math.prod(samples if d == "N" else d for d in axes) * np.dtype(about["dtype"]).itemsize
        check_bytes(total, "the state of the stream", where=where)

    def push(self, frame: NDArray[Any] | torch.Tensor) -> list[Emission]:
        """Push one frame `[N, ...]` and return the results that became final: one or none.

        Raises:
            DataError: If the frame does not fit the model.
            VerificationError: If the model fails, or returns states of a shape other than the one it takes.
        """
        x = np.ascontiguousarray(frame, np.float32)
        want = [d if isinstance(d, int) else self._samples for d in self._frame]
        if list(x.shape) != want:
            raise DataError(f"the frame has shape {list(x.shape)}, the model expects {want}")
        wanted = dict.fromkeys([*self._names, *self._show.values()])
        values = self._model.run({self._input: x, **self.state}, list(wanted))
        for name, before in self.state.items():
            after = values[f"{name}.next"]
            if after.shape != before.shape or after.dtype != before.dtype:
                raise VerificationError(f"the model gives {name} back as {after.dtype} {list(after.shape)}")
        if values["frame"].size != 1 or values["valid"].size != 1 or values["output"].dtype != np.float32:
            raise VerificationError("the model's frame, valid or output are not those of a step model")
        self.state = {name: values[f"{name}.next"] for name in self.state}
        self.shown = {name: values[tensor] for name, tensor in self._show.items()}
        output, index, final = (
            torch.from_numpy(values["output"]),
            int(values["frame"].item()),
            bool(values["valid"].item()),
        )
        self._latest = output if index >= 0 else None
        if not final:
            return []
        self._given += 1
        window = (self._given - 1) // (self.frames_per_window if self._streams else 1)
        return [Emission(window, index if self._streams else None, output)]

    @property
    def running(self) -> torch.Tensor | None:
        """The mean over the frames so far, where the result is a mean over time; else the latest frame of the result."""
        return self._latest

    def close(self) -> None:
        """End the model's process, if it has one; it also ends when the program does."""
        self._model.close()


@contextmanager
def open_onnx_step(path: Path, graph: Graph) -> Iterator[Opened]:
    """A model that was just written, run in this process frame after frame until its result is complete.

    Args:
        path: The `.onnx` file.
        graph: The network it was exported from.
    """
    steppers: dict[int, tuple[OnnxStepper, StepStates]] = {}
    streams = graph[graph.output].signal.streams

    def run(frames: NDArray[np.float32]) -> Ran:
        samples = frames.shape[1]
        if samples not in steppers:
            opened = OnnxStepper(path, samples, trusted=True)
            steppers[samples] = opened, opened.state
        stepper, begin = steppers[samples]
        stepper.state = begin
        silence = np.zeros_like(frames[0])
        values: list[NDArray[np.float32]] = []
        for t in range(len(frames) + stepper.latency + 1):
            if len(values) == (len(frames) if streams else 1):
                break
            emitted = stepper.push(frames[t] if t < len(frames) else silence)
            values += [e.value.numpy() for e in emitted]
        return Ran(np.stack(values) if streams else values[0])

    try:
        yield run
    finally:
        for stepper, _ in steppers.values():
            stepper.close()


_DAMAGED = "the notes of tcja-deploy in this model are damaged: export it again"
_STATES = {str: {"shape": [(int, str)], "value": (float, bool), "dtype": str}}
_DTYPES = ("float32", "float64", "int32", "int64", "bool", "uint8", "int8")
_MOST_STEPS = 1 << 40


def _holds(dtype: str, value: float) -> bool:
    """Whether a type can represent a number exactly."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return abs(value) <= float(np.finfo(kind).max)
    least, most = (0, 1) if kind.kind == "b" else (np.iinfo(kind).min, np.iinfo(kind).max)
    return int(least) <= value <= int(most) and value == int(value)


def _whole(text: str, name: str, where: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 14 and int(text) < _MOST_STEPS):
        raise FileFormatError(f"the notes in this model are damaged: {name} is {text[:20]!r}", where=where)
    return int(text)
