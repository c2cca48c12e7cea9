"""Comparing an exported model in onnxruntime with its reference."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import FileFormatError, VerificationError
from tcja_deploy.exporters.frames import FrameBatches
from tcja_deploy.exporters.target import ExportProgress, Opened, Ran, unmonitored
from tcja_deploy.ir import Graph
from tcja_deploy.passes import Prepared
from tcja_deploy.runtime.agreement import BOUND, Agreement
from tcja_deploy.runtime.onnx.session import Model
from tcja_deploy.runtime.reference import Reference

__all__ = ["model_with_spikes", "open_onnx", "verify_onnx"]


@contextmanager
def open_onnx(path: Path, graph: Graph) -> Iterator[Opened]:
    """A model that was just written, run in this process for its output alone.

    Args:
        path: The `.onnx` file.
        graph: The network it was exported from.
    """
    model = Model(path, trusted=True)
    model.start()
    (entry,), result = model.inputs, model.outputs[0]
    batch_first = model.properties.get("tcja_deploy.layout") == "N,T"
    swapped = batch_first and graph[graph.output].signal.streams

    def run(frames: NDArray[np.float32]) -> Ran:
        fed = np.ascontiguousarray(frames.swapaxes(0, 1) if batch_first else frames)
        output = model.run({entry: fed}, [result])[result]
        return Ran(output.swapaxes(0, 1) if swapped else output)

    try:
        yield run
    finally:
        model.close()


def model_with_spikes(path: Path, graph: Graph) -> Model:
    """A model of a graph, opened so that the spikes of its layers can be read.

    Raises:
        FileFormatError: If the file is not an ONNX model or not one of this graph.
    """
    model = Model(path)
    names = [n.name for n in graph.neurons]
    if model.lacking(names) or model.properties.get("tcja_deploy.model_sha256") not in (None, graph.hash):
        raise FileFormatError(
            "this ONNX model was not exported from the given network",
            where=str(path),
            hint="pass the model it was exported from; the manifest beside the ONNX file names it",
        )
    model.start(fired=[name for name in names if name not in model.outputs])
    return model


def _check_shapes(
    path: Path, graph: Graph, results: dict[str, NDArray[np.generic]], result: str, samples: int
) -> None:
    """Check the shapes of results, which a modified model may get wrong.

    Raises:
        VerificationError: If a result has another shape or type.
    """
    for name, node in {**{n.name: n for n in graph.neurons}, result: graph[graph.output]}.items():
        wanted, value = tuple(node.signal.shape(graph.T, samples)), results[name]
        if value.shape != wanted or value.dtype not in (np.float32, np.bool_):
            raise VerificationError(
                f"{name} is {value.dtype} {list(value.shape)} instead of float32 {list(wanted)}",
                where=str(path),
            )


def verify_onnx(
    path: Path,
    network: Prepared,
    frames: FrameBatches,
    reference: Reference,
    *,
    bound: float = BOUND,
    progress: ExportProgress = unmonitored,
) -> Agreement:
    """Compare an exported sequence model with its reference, spike for spike.

    Both compute the network with batch normalisation folded into the weights; what folding itself changes is another question,
    answered by `exporters.folding`.

    Args:
        path: The `.onnx` file.
        network: The network it was exported from.
        frames: The frames to run on.
        reference: The network with batch normalisation folded.
        bound: Allowed mismatches per neuron-step.
        progress: Called with the number of samples done.

    Raises:
        FileFormatError: If the file is not an export of the network, or not a model that onnxruntime accepts.
        DataError: If frames do not have the shape that the network expects.
        VerificationError: If the model fails on them.
    """
    graph = network.trained
    model = model_with_spikes(path, graph)
    batch_first = model.properties.get("tcja_deploy.layout") == "N,T"
    if len(model.inputs) != 1:
        raise FileFormatError(f"this model takes {len(model.inputs)} inputs instead of one", where=str(path))
    (entry,), result = model.inputs, model.outputs[0]
    last = graph[graph.output]
    swapped = batch_first and last.signal.streams
    wanted = list(dict.fromkeys([result, *(n.name for n in graph.neurons)]))
    total = Agreement((), 0, 0, 0.0, bound)

    def compared(batch: NDArray[np.float32]) -> Agreement:
        fed = np.ascontiguousarray(batch.swapaxes(0, 1) if batch_first else batch)
        results = model.run({entry: fed}, wanted)
        output = results[result].swapaxes(0, 1) if swapped and results[result].ndim > 1 else results[result]
        _check_shapes(path, graph, {**results, result: output}, result, batch.shape[1])
        return reference.compare(batch, output, results, bound=bound, first_sample=total.samples)

    for batch in frames:  # in a function, so that a batch's results are gone before the next one runs
        total += compared(batch)
        progress("verifying", total.samples)
    return total
