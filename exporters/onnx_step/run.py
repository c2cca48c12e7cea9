"""Running a step model in onnxruntime, with the same interface as ``runtime.stream.Stepper``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from tcja_deploy.errors import DataError, FileFormatError, UsageError
from tcja_deploy.exporters.onnx.verify import open_session
from tcja_deploy.runtime.stream.engine import Emission

__all__ = ["OnnxStepper", "step_properties"]

States = Mapping[str, NDArray[np.generic]]


def step_properties(path: Path) -> tuple[onnx.ModelProto, dict[str, str]]:
    """A step model (its weights may lie in another file) and its metadata.

    Raises:
        FileFormatError: If the file is no step model, or one that does not say what it is.
    """
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:
        raise FileFormatError(f"this is no readable ONNX model ({error})", where=str(path)) from error
    properties = {p.key: p.value for p in model.metadata_props}
    if properties.get("tcja_deploy.target") != "step":
        raise FileFormatError(
            "this ONNX model takes no single frames",
            where=str(path),
            hint="export one with --target onnx-step",
        )
    missing = [name for name in _PROPERTIES if name not in properties]
    if missing:
        raise FileFormatError(
            f"this ONNX model lacks {', '.join(missing)}", where=str(path), hint="export it again"
        )
    return model, properties


_PROPERTIES = tuple(
    f"tcja_deploy.{name}"
    for name in ("T", "latency", "layers", "lookahead", "model_sha256", "output", "profile_sha256", "states")
)
"""What a step model says of itself in its metadata."""


class OnnxStepper:
    """A step model as a stream.

    ``state`` is a mapping of arrays that is never changed in place: keep it, save it with ``numpy.savez``, set it back.

    Attributes:
        latency: Steps between a frame and the result that it completes.
        frames_per_window: T.
        shown: Further values at the last step, by name.
        state: The states before the next frame, by name.
    """

    def __init__(self, path: Path | str, samples: int = 1, show: Sequence[str] = ()) -> None:
        """Open a model.

        Args:
            path: The ``.onnx`` file.
            samples: N.
            show: Names of spiking layers to read after each step, or of further tensors.

        Raises:
            FileFormatError: If the file is no step model, is damaged, or has no such tensor.
            UsageError: If ``samples`` is not positive.
        """
        if samples < 1:
            raise UsageError(f"a stream needs at least one sample, got {samples}")
        path = Path(path)
        model, properties = step_properties(path)
        self._names = [o.name for o in model.graph.output]
        try:
            self.latency = int(properties["tcja_deploy.latency"])
            self.frames_per_window = int(properties["tcja_deploy.T"])
            layers = dict(json.loads(properties["tcja_deploy.layers"]))
            self._show = {name: str(layers.get(name, name)) for name in show}
            self.state: States = {
                name: np.full(
                    [samples if d == "N" else d for d in about["shape"]], about["value"], about["dtype"]
                )
                for name, about in json.loads(properties["tcja_deploy.states"]).items()
            }
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FileFormatError(
                f"the notes of tcja-deploy in this model are damaged ({error})", where=str(path)
            ) from error
        _expose(model, self._show.values(), path)
        self._session = open_session(model, path)
        self._streams = properties["tcja_deploy.output"] == "stream"
        self._input = self._session.get_inputs()[0]
        self._samples = samples
        self.shown: dict[str, NDArray[np.generic]] = {}
        self._latest: torch.Tensor | None = None
        self._given = 0

    def push(self, frame: NDArray[Any] | torch.Tensor) -> list[Emission]:
        """Push one frame ``[N, ...]`` and return the result that became final, if there is one.

        Raises:
            DataError: If the frame does not fit the model.
        """
        x = np.ascontiguousarray(frame, np.float32)
        want = [d if isinstance(d, int) else self._samples for d in self._input.shape]
        if list(x.shape) != want:
            raise DataError(f"the frame has shape {list(x.shape)}, the model expects {want}")
        wanted = [*self._names, *self._show.values()]
        values = dict(
            zip(wanted, self._session.run(wanted, {self._input.name: x, **self.state}), strict=True)
        )
        self.state = {name: values[f"{name}.next"] for name in self.state}
        self.shown = {name: values[tensor] for name, tensor in self._show.items()}
        output, index, final = torch.from_numpy(values["output"]), int(values["frame"]), bool(values["valid"])
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


def _expose(model: onnx.ModelProto, names: Iterable[str], path: Path) -> None:
    """Make inner tensors outputs."""
    inferred = {v.name: v for v in onnx.shape_inference.infer_shapes(model).graph.value_info}
    shown = {o.name for o in model.graph.output}
    for name in names:
        if name in shown:
            continue
        if name not in inferred:
            raise FileFormatError("the model has no such tensor", where=f"{path}: {name}")
        model.graph.output.append(inferred[name])
