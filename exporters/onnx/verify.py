"""Comparing an exported model in onnxruntime with its reference."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import FileFormatError, VerificationError
from tcja_deploy.exporters.frames import FrameBatches
from tcja_deploy.exporters.target import ExportProgress, Opened, Ran, unmonitored
from tcja_deploy.ir import Graph
from tcja_deploy.runtime.agreement import BOUND, Agreement
from tcja_deploy.runtime.onnx.session import Model, Results, return_memory
from tcja_deploy.runtime.reference import Reference

__all__ = ["OnnxRuns", "model_with_spikes", "open_onnx", "verify_onnx"]


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
    path: Path, graph: Graph, results: Mapping[str, NDArray[np.generic]], result: str, samples: int
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


class OnnxRuns:
    """Runs of an exported model on batches of frames, each made when it is asked for or, a few of them, ahead.

    Args:
        path: The `.onnx` file.
        graph: The network it was exported from.
        frames: The frames to run on.

    Raises:
        FileFormatError: If the file is not an export of the network, or not a model that onnxruntime accepts.
    """

    def __init__(self, path: Path, graph: Graph, frames: FrameBatches) -> None:
        model = model_with_spikes(path, graph)
        if len(model.inputs) != 1:
            raise FileFormatError(
                f"this model takes {len(model.inputs)} inputs instead of one", where=str(path)
            )
        self._model, self._graph, self._path = model, graph, path
        self._batch_first = model.properties.get("tcja_deploy.layout") == "N,T"
        self._batches = iter(frames)
        self._ahead: deque[_Run] = deque()

    def run_ahead(self, go_on: Callable[[], bool]) -> None:
        """Run batches as long as `go_on` says so, and keep their results until they are asked for, up to a limit of memory.

        Raises:
            VerificationError: If the model fails on them.
        """
        held = 0
        while held < _AHEAD and go_on() and (batch := next(self._batches, None)) is not None:
            run = self._run(batch)
            self._ahead.append(run)
            held += batch.nbytes + run.spikes.nbytes

    def __iter__(self) -> Iterator[_Run]:
        while self._ahead:
            yield self._ahead.popleft()
            return_memory()  # of the reference's run, which the next one fragments
        yield from map(self._run, self._batches)

    def _run(self, batch: NDArray[np.float32]) -> _Run:
        graph, result = self._graph, self._model.outputs[0]
        fed = np.ascontiguousarray(batch.swapaxes(0, 1) if self._batch_first else batch)
        wanted = list(dict.fromkeys([result, *(n.name for n in graph.neurons)]))
        results = self._model.run(dict.fromkeys(self._model.inputs, fed), wanted)
        output = results[result]
        if self._batch_first and graph[graph.output].signal.streams and output.ndim > 1:
            output = output.swapaxes(0, 1)
        _check_shapes(self._path, graph, {**results, result: output}, result, batch.shape[1])
        return _Run(batch, output, results)


_AHEAD = 1 << 26
"""Bytes of frames and results that are kept ahead of their comparison."""


@dataclass(frozen=True, eq=False)
class _Run:
    """Frames, and what the model made of them: its output and the spikes of its layers."""

    frames: NDArray[np.float32]
    output: NDArray[np.float32]
    spikes: Results


def verify_onnx(
    runs: OnnxRuns,
    reference: Reference,
    *,
    bound: float = BOUND,
    progress: ExportProgress = unmonitored,
) -> Agreement:
    """Compare an exported sequence model with its reference, spike for spike.

    Both compute the network with batch normalisation folded into the weights; what folding itself changes is another question,
    answered by `exporters.folding`.

    Args:
        runs: The runs of the model.
        reference: The network with batch normalisation folded.
        bound: Allowed mismatches per neuron-step.
        progress: Called with the number of samples done.

    Raises:
        DataError: If frames do not have the shape that the network expects.
        VerificationError: If the model fails on them.
    """
    total = Agreement((), 0, 0, 0.0, bound)

    def compared(run: _Run) -> Agreement:
        return reference.compare(run.frames, run.output, run.spikes, bound=bound, first_sample=total.samples)

    for found in map(compared, runs):  # so that the results of a run are gone before the next one begins
        total += found
        progress("verifying", total.samples)
    return total
