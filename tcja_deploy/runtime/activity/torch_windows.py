"""Counting on the sequence runtime."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tcja_deploy.ir import Graph, Node, Signal
from tcja_deploy.runtime.activity.axes import frame_order
from tcja_deploy.runtime.activity.record import Recorder
from tcja_deploy.runtime.device import CPU
from tcja_deploy.runtime.sequence import run

__all__ = ["TorchWindows"]


def _frames_first(signal: Signal, value: Tensor) -> Tensor:
    """As `axes.frames_first`, on the device that has the value."""
    moved = value.permute(frame_order(signal))
    return moved if "T" in signal.dims else moved[None]


class TorchWindows:
    """`Windows` on the sequence runtime."""

    def __init__(self, graph: Graph, device: torch.device = CPU) -> None:
        self._graph, self._device = graph, device

    def count(self, frames: NDArray[np.float32], recorder: Recorder, /) -> NDArray[np.float32]:
        """See `Windows`."""

        def observe(node: Node, value: Tensor) -> None:
            recorder.add(node.name, _frames_first(node.signal, value))

        given = torch.from_numpy(frames).to(self._device)
        watched = [node.name for node in self._graph if recorder.watches(node.name)]
        found = run(self._graph, given, observe=observe, watched=watched)
        result: NDArray[np.float32] = (
            _frames_first(self._graph[self._graph.output].signal, found).cpu().numpy()
        )
        return result

    def flush(self, recorder: Recorder, /) -> None:
        """See `Windows`."""
