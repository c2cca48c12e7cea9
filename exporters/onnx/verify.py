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
from tcja_deploy.passes import fold_batch_norm
from tcja_deploy.runtime.compare import BOUND, Agreement, compare
from tcja_deploy.runtime.sequence import as_frames

__all__ = ["open_session", "session_with_spikes", "verify_onnx"]


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
    return open_session(model, path)


def open_session(model: onnx.ModelProto, path: Path) -> onnxruntime.InferenceSession:
    """A session on a model, whose weights may lie in a file beside ``path``.

    Raises:
        FileFormatError: If onnxruntime does not accept it.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised
    options.add_session_config_entry(_DATA_FOLDER, str(path.parent.resolve()))
    try:
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's exceptions have no common base
        raise FileFormatError(f"onnxruntime does not accept this model ({error})", where=str(path)) from error


_DATA_FOLDER = "session.model_external_initializers_file_folder_path"
"""onnxruntime's option for where weights outside of the file lie, when the model is given as bytes."""


def verify_onnx(
    path: Path,
    graph: Graph,
    batches: Iterable[NDArray[np.float32]],
    *,
    bound: float = BOUND,
    progress: Callable[[int], None] | None = None,
) -> Agreement:
    """Compare an exported sequence model with the sequence runtime, spike for spike.

    Both compute the network with batch normalisation folded into the weights; what folding itself changes is another question,
    answered by ``exporters.folding``.

    Args:
        path: The ``.onnx`` file.
        graph: The network it was exported from.
        batches: Frames ``[T, n, ...]``.
        bound: Allowed mismatches per neuron-step.
        progress: Called with the number of samples done.

    Raises:
        FileFormatError: If the file is not an export of the graph, or no model that onnxruntime accepts.
        DataError: If the frames do not have the shape that the graph expects.
        VerificationError: If there are no samples, or the model fails on them.
    """
    session = session_with_spikes(path, graph)
    reference = fold_batch_norm(graph)
    batch_first = session.get_modelmeta().custom_metadata_map.get("tcja_deploy.layout") == "N,T"
    names = [o.name for o in session.get_outputs()]
    streams = graph[graph.output].signal.streams
    total = Agreement((), 0, 0, 0.0, bound)
    for batch in batches:
        frames = as_frames(graph, batch).numpy()
        fed = np.ascontiguousarray(frames.swapaxes(0, 1) if batch_first else frames, np.float32)
        try:
            results = dict(zip(names, session.run(None, {session.get_inputs()[0].name: fed}), strict=True))
        except Exception as error:  # as above
            raise VerificationError(f"onnxruntime fails on this model ({error})", where=str(path)) from error
        output = results[names[0]]
        if batch_first and streams:
            output = output.swapaxes(0, 1)
        total += compare(reference, frames, output, results, bound=bound, first_sample=total.samples)
        if progress is not None:
            progress(total.samples)
    if not total.samples:
        raise VerificationError(
            "there are no samples to verify on", hint="pass --data with at least one recording"
        )
    return total
