"""The target `onnx-step`: models of one frame and the states."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from tcja_deploy.exporters.onnx_step.options import OnnxStepOptions, OnnxStepVerification, states_file
from tcja_deploy.exporters.target import ExportProgress, Opened, Target, Translation

if TYPE_CHECKING:
    from tcja_deploy.exporters.frames import FrameBatches
    from tcja_deploy.ir import Graph
    from tcja_deploy.passes import Prepared
    from tcja_deploy.runtime.agreement import Agreement

__all__ = ["ONNX_STEP"]


def _translate(
    network: Prepared, frames: FrameBatches, options: OnnxStepOptions, progress: ExportProgress
) -> Translation:
    from tcja_deploy.exporters.onnx_step.export import OnnxStepTranslation

    return OnnxStepTranslation(network, options)


def _recognise(path: Path) -> bool:
    from tcja_deploy.exporters.onnx.recognise import model_target

    return model_target(path) == "onnx-step"


def _verify(
    artifact: Path,
    network: Prepared,
    frames: FrameBatches,
    options: OnnxStepVerification,
    progress: ExportProgress,
) -> Agreement:
    from tcja_deploy.exporters.onnx_step.verify import verify_onnx_step

    return verify_onnx_step(
        artifact, network, frames, profile=options.profile, bound=options.bound, progress=progress
    )


def _open(artifact: Path, graph: Graph) -> AbstractContextManager[Opened]:
    from tcja_deploy.exporters.onnx_step.run import open_onnx_step

    return open_onnx_step(artifact, graph)


ONNX_STEP = Target(
    name="onnx-step",
    title="ONNX step",
    about="an ONNX model of one frame, its states in and out",
    suffix=".step.onnx",
    runtime="onnxruntime",
    options=OnnxStepOptions,
    verification=OnnxStepVerification,
    translate=_translate,
    recognise=_recognise,
    verify=_verify,
    open=_open,
    beside=lambda name: (states_file(name), f"{name}.data"),
)
"""It follows the paced schedule of the stream runtime: every step does the same work."""
