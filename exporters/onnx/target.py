"""The target `onnx`: models of whole windows."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from tcja_deploy.exporters.onnx.options import OnnxOptions, OnnxVerification
from tcja_deploy.exporters.target import ExportProgress, Opened, Target, Translation

if TYPE_CHECKING:
    from tcja_deploy.exporters.frames import FrameBatches
    from tcja_deploy.ir import Graph
    from tcja_deploy.passes import Prepared
    from tcja_deploy.runtime.agreement import Agreement

__all__ = ["ONNX"]


def _translate(
    network: Prepared, frames: FrameBatches, options: OnnxOptions, progress: ExportProgress
) -> Translation:
    from tcja_deploy.exporters.onnx.export import OnnxTranslation

    return OnnxTranslation(network, options, frames.samples)


def _recognise(path: Path) -> bool:
    from tcja_deploy.exporters.onnx.recognise import model_target

    return model_target(path) in ("onnx", "")  # other programs' models are of windows too


def _verify(
    artifact: Path,
    network: Prepared,
    frames: FrameBatches,
    options: OnnxVerification,
    progress: ExportProgress,
) -> Agreement:
    from tcja_deploy.exporters.onnx.verify import OnnxRuns, verify_onnx
    from tcja_deploy.runtime.reference import Reference
    from tcja_deploy.runtime.threads import importing

    reference = Reference(network.folded, options.engine, samples=frames.samples)
    runs = OnnxRuns(artifact, network.trained, frames)
    with importing(reference.code) as go_on:
        runs.run_ahead(go_on)
    return verify_onnx(runs, reference, bound=options.bound, progress=progress)


def _open(artifact: Path, graph: Graph) -> AbstractContextManager[Opened]:
    from tcja_deploy.exporters.onnx.verify import open_onnx

    return open_onnx(artifact, graph)


ONNX = Target(
    name="onnx",
    title="ONNX",
    about="an ONNX model of whole windows",
    suffix=".onnx",
    runtime="onnxruntime",
    options=OnnxOptions,
    verification=OnnxVerification,
    translate=_translate,
    recognise=_recognise,
    verify=_verify,
    open=_open,
    beside=lambda name: (f"{name}.data",),
)
"""Convolutions run on all frames at once, neurons are unrolled over time; weights may lie in a file of their own."""
