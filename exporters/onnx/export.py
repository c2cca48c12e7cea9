"""Export of a network to an ONNX model of whole windows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from tcja_deploy.exporters.frames import FrameBatches
from tcja_deploy.exporters.onnx.options import OnnxOptions
from tcja_deploy.exporters.onnx.recognise import TARGET_KEY
from tcja_deploy.exporters.onnx.verify import OnnxRuns, verify_onnx
from tcja_deploy.exporters.onnx.writing import ROUNDING, needs_external_data, node_reports, save_checked
from tcja_deploy.exporters.target import Check, ExportProgress, Translation
from tcja_deploy.passes import Prepared
from tcja_deploy.runtime.onnx.sequence import sequence_model
from tcja_deploy.runtime.reference import Reference
from tcja_deploy.runtime.threads import importing

__all__ = ["OnnxTranslation"]


class OnnxTranslation(Translation):
    """A network as an ONNX model over whole windows, in memory.

    Args:
        network: The network.
        options: How to write it.
        samples: How many it will be verified on, if that is known.

    Raises:
        UnsupportedError: If the network has an op without an ONNX form; lists every node.
        UsageError: If the opset is not known.
    """

    notes = (
        ROUNDING,
        "the golden sample's output is that of the reference, the network with batch normalisation folded",
    )

    def __init__(self, network: Prepared, options: OnnxOptions, samples: int | None) -> None:
        trained = network.trained
        layout = "N,T" if options.batch_first else "T,N"
        metadata = {
            TARGET_KEY: "onnx",
            "tcja_deploy.model_sha256": trained.hash,
            "tcja_deploy.T": str(trained.T),
            "tcja_deploy.layout": layout,
            **{f"tcja_deploy.source.{k}": v for k, v in trained.source.items()},
        }
        self._network, self._batch_first = network, options.batch_first
        self._runs: OnnxRuns | None = None
        self.reference: Reference = Reference(network.folded, options.engine, samples=samples)
        self._model = sequence_model(
            network.folded, opset=options.opset, batch_first=options.batch_first, metadata=metadata
        )
        self._external = options.external_data or needs_external_data(self._model)
        self.nodes = node_reports(network, f"unrolled over {trained.T} steps in standard ops")
        self.versions = {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}
        self.about = {"opset": options.opset, "layout": layout, "external_data": self._external}

    def write(self, artifact: Path) -> None:
        """Write the model."""
        save_checked(self._model, artifact, self._external)

    def golden(self, sample: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Input and output in the layout of the model."""
        graph = self._network.folded
        output = self.reference.run_sample(sample).output
        swapped = self._batch_first and graph[graph.output].signal.streams
        return {
            "input": sample.swapaxes(0, 1) if self._batch_first else sample,
            "output": output.swapaxes(0, 1) if swapped else output,
        }

    def begin_check(self, artifact: Path, frames: FrameBatches) -> None:
        """The model runs in onnxruntime while what the reference needs is imported."""
        self._runs = OnnxRuns(artifact, self._network.trained, frames)
        with importing(self.reference.code) as go_on:
            self._runs.run_ahead(go_on)

    def check(self, artifact: Path, frames: FrameBatches, bound: float, progress: ExportProgress) -> Check:
        """The model in onnxruntime against the reference."""
        runs, self._runs = self._runs or OnnxRuns(artifact, self._network.trained, frames), None
        return Check(verify_onnx(runs, self.reference, bound=bound, progress=progress))
