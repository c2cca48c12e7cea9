"""What every ONNX export does when it writes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from tcja_deploy.errors import ExportError
from tcja_deploy.exporters.report import Fidelity, NodeReport
from tcja_deploy.ir import Graph
from tcja_deploy.ir import ops as ir

__all__ = ["ROUNDING", "first_sample", "needs_external_data", "node_reports", "save_checked"]

ROUNDING = (
    "computed in float32; onnxruntime may sum in another order than torch, so that a membrane within rounding of "
    "the threshold can change sides"
)
"""Note for every manifest."""

_PROTOBUF_LIMIT = 1_800_000_000
"""Bytes above which weights must leave the protobuf file (protobuf's limit is 2 GiB)."""


def needs_external_data(model: onnx.ModelProto) -> bool:
    """Whether the weights have to lie in a file of their own."""
    return bool(model.ByteSize() > _PROTOBUF_LIMIT)


def save_checked(model: onnx.ModelProto, path: Path, external_data: bool) -> None:
    """Write a model, with its weights in ``<name>.data`` if asked for, and check what was written.

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
    onnx.checker.check_model(str(path), full_check=True)
    if not external_data:
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)


def first_sample(
    batches: Iterable[NDArray[np.float32]],
) -> tuple[NDArray[np.float32], Iterable[NDArray[np.float32]]]:
    """The first sample as ``[T, 1, ...]``, and all batches again.

    Raises:
        ExportError: If there is no sample.
    """
    iterator = iter(batches)
    first = next(iterator, None)
    if first is None or not first.shape[1]:
        raise ExportError("the data holds no samples", hint="pass --data with at least one recording")
    return np.asarray(first[:, :1], np.float32), itertools.chain([first], iterator)


def node_reports(graph: Graph, folded: Graph, neuron_note: str) -> list[NodeReport]:
    """The fate of each node of a graph that was folded on the way."""
    kept = {n.name for n in folded}
    reports = []
    for node in graph:
        if node.name not in kept:
            note = f"folded into {node.inputs[0]}; float64 arithmetic, rounded once to float32"
        elif isinstance(node.op, ir.Neuron):
            note = neuron_note
        else:
            note = ""
        reports.append(NodeReport(node.name, type(node.op).__name__, Fidelity.EXACT, note))
    return reports
