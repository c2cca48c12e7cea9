"""What all ONNX exports share when they write."""

from __future__ import annotations

from pathlib import Path

import onnx

from tcja_deploy.exporters.report import Fidelity, NodeReport
from tcja_deploy.passes import Prepared
from tcja_deploy.runtime.onnx.emitter import MOST_BYTES

__all__ = ["ROUNDING", "needs_external_data", "node_reports", "save_checked"]

ROUNDING = (
    "computed in float32; onnxruntime may sum in another order than torch, so that a membrane within rounding of "
    "the threshold can change sides"
)
"""Note in every manifest."""


def needs_external_data(model: onnx.ModelProto) -> bool:
    """Whether the weights have to go into a separate file."""
    return bool(model.ByteSize() > MOST_BYTES)


def save_checked(model: onnx.ModelProto, path: Path, external_data: bool) -> None:
    """Write a model, with its weights in `<name>.data` if `external_data`, and check what was written.

    Raises:
        onnx.checker.ValidationError: If the model is not valid; a defect of the exporter.
    """
    onnx.save(
        model,
        str(path),
        save_as_external_data=external_data,
        location=f"{path.name}.data",
        size_threshold=1024,
    )
    onnx.checker.check_model(str(path), full_check=True)  # infers types and shapes as well


def node_reports(network: Prepared, neuron_note: str) -> tuple[NodeReport, ...]:
    """Fate of each node of the trained network."""
    kept = {n.name for n in network.folded}
    reports = []
    for node in network.trained:
        if node.name not in kept:
            note = f"folded into {node.inputs[0]}; float64 arithmetic, rounded once to float32"
        elif node.op.spiking:
            note = neuron_note
        else:
            note = ""
        reports.append(NodeReport(node.name, type(node.op).__name__, Fidelity.EXACT, note))
    return tuple(reports)
