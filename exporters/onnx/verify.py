"""Running an exported model in onnxruntime beside the sequence runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from tcja_deploy.errors import FileFormatError, VerificationError
from tcja_deploy.ir import Graph
from tcja_deploy.runtime.compare import Agreement, compare

__all__ = ["BOUND", "session_with_spikes", "verify_onnx"]

BOUND = 1e-5
"""Default of the allowed mismatching spikes per neuron-step."""


def session_with_spikes(path: Path, graph: Graph) -> onnxruntime.InferenceSession:
    """A session on a model whose spiking layers are outputs as well, in the order of the graph.

    Raises:
        FileFormatError: If the file is no ONNX model or not one of this graph.
    """
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:
        raise FileFormatError(f"this is no readable ONNX model ({error})", where=str(path)) from error
    present = {name for node in model.graph.node for name in node.output}
    missing = [n.name for n in graph.neurons if n.name not in present]
    props = {p.key: p.value for p in model.metadata_props}
    if missing or props.get("tcja_deploy.model_sha256") not in (None, graph.hash):
        raise FileFormatError(
            "this ONNX model was not exported from the given network",
            where=str(path),
            hint="pass the model it was exported from; the manifest beside the ONNX file names it",
        )
    shown = {o.name for o in model.graph.output}
    for node in graph.neurons:
        if node.name not in shown:
            shape: list[Any] = [graph.T if d == "T" else d for d in node.signal.dims]
            model.graph.output.append(helper.make_tensor_value_info(node.name, TensorProto.FLOAT, shape))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if any(i.data_location == TensorProto.EXTERNAL for i in model.graph.initializer):
        onnx.load_external_data_for_model(model, str(path.parent))
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def verify_onnx(
    path: Path,
    graph: Graph,
    batches: Iterable[NDArray[np.float32]],
    *,
    bound: float = BOUND,
    progress: Callable[[int], None] | None = None,
) -> Agreement:
    """Compare an exported sequence model with the sequence runtime, spike for spike.

    Args:
        path: The ``.onnx`` file.
        graph: The network it was exported from (batch normalisation not folded: the reference is the model as trained).
        batches: Frames ``[T, n, ...]``.
        bound: Allowed mismatches per neuron-step.
        progress: Called with the number of samples done.

    Raises:
        FileFormatError: If the file is not an export of the graph.
        VerificationError: If there are no samples.
    """
    session = session_with_spikes(path, graph)
    batch_first = session.get_modelmeta().custom_metadata_map.get("tcja_deploy.layout") == "N,T"
    names = [o.name for o in session.get_outputs()]
    streams = graph[graph.output].signal.streams
    total = Agreement((), 0, 0, 0.0, bound)
    for frames in batches:
        fed = np.ascontiguousarray(frames.swapaxes(0, 1) if batch_first else frames, np.float32)
        results = dict(zip(names, session.run(None, {session.get_inputs()[0].name: fed}), strict=True))
        output = results[names[0]]
        if batch_first and streams:
            output = output.swapaxes(0, 1)
        total += compare(
            graph, np.asarray(frames, np.float32), output, results, bound=bound, first_sample=total.samples
        )
        if progress is not None:
            progress(total.samples)
    if not total.samples:
        raise VerificationError(
            "there are no samples to verify on", hint="pass --data with at least one recording"
        )
    return total
