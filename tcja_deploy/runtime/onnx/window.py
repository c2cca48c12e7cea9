"""A network in onnxruntime within this process: nothing is written, and some of its values can be observed."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from tcja_deploy.errors import ToolchainError, UnsupportedError
from tcja_deploy.ir import Graph
from tcja_deploy.runtime.frames import checked_frames
from tcja_deploy.runtime.onnx.emitter import MOST_BYTES
from tcja_deploy.runtime.onnx.sequence import sequence_model
from tcja_deploy.runtime.onnx.session import open_session

__all__ = ["OnnxWindow"]

_OPSET = 17


class OnnxWindow:
    """A network over whole windows, with some of its values as outputs.

    Args:
        graph: The network; fold its batch normalisation before.
        watched: Names of nodes whose values `run` returns.

    Attributes:
        graph: The network.

    Raises:
        UnsupportedError: If the network has an op without an ONNX form, or more weights than a model in memory can have.
        ToolchainError: If onnxruntime fails on the model.
    """

    def __init__(self, graph: Graph, watched: Collection[str]) -> None:
        self.graph = graph
        self._watched = frozenset(watched)
        self._shown = [
            node.name
            for node in graph
            if node.name in watched and node.name not in (graph.input.name, graph.output)
        ]
        model = sequence_model(graph, opset=_OPSET, batch_first=False, metadata={}, show=self._shown)
        if model.ByteSize() > MOST_BYTES:
            raise UnsupportedError(
                f"the network's weights are {model.ByteSize() / 1e9:.1f} GB, more than onnxruntime takes from memory",
                hint="--engine torch, or export the network",
            )
        try:
            self._session: Any = open_session(model)
        except Exception as error:  # onnxruntime's exceptions have no common base
            raise _failed(error) from error
        self._entry: str = self._session.get_inputs()[0].name

    def run(self, frames: NDArray[np.float32]) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
        """Run frames `[T, N, ...]`.

        Returns:
            The output, shaped like the output signal, and the watched values by name, each shaped like its signal.

        Raises:
            DataError: If the frames do not have the shape that the graph expects.
            ToolchainError: If onnxruntime fails on them.
        """
        given = checked_frames(self.graph, frames)
        try:
            output, *shown = self._session.run(None, {self._entry: given})
        except Exception as error:  # as above
            raise _failed(error) from error
        ends = {self.graph.input.name: given, self.graph.output: output}
        values = {name: value for name, value in ends.items() if name in self._watched}
        return output, values | dict(zip(self._shown, shown, strict=True))


def _failed(error: Exception) -> ToolchainError:
    return ToolchainError(
        f"onnxruntime {onnxruntime.__version__} fails on this network ({error})", hint="use another --engine"
    )
