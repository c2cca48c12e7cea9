"""How much an integer network computes, and when its kernels are worth loading."""

from __future__ import annotations

from math import prod

from tcja_deploy.runtime.integers.edges import AnyStage
from tcja_deploy.runtime.integers.layers import LayerStage
from tcja_deploy.runtime.integers.network import IntegerNetwork
from tcja_deploy.runtime.integers.stages import SynapseStage

__all__ = ["frame_work", "pays", "window_work"]

LOADING = 5e9
"""Multiply-accumulates that the reference computes while the kernels would be loaded, about a second."""

_done = [0]
"""Multiply-accumulates that this process was asked for so far."""


def frame_work(stage: AnyStage) -> int:
    """Multiply-accumulates of one frame of a stage."""
    if not isinstance(stage, LayerStage | SynapseStage):
        return 0
    transposed = isinstance(stage, SynapseStage) and stage.kind == "transposed"
    return int(stage.weight.size) * prod((stage.in_shape if transposed else stage.out_shape)[1:])


def window_work(network: IntegerNetwork) -> int:
    """Multiply-accumulates of a window."""
    return network.frames * sum(map(frame_work, network.stages))


def pays(network: IntegerNetwork, samples: int) -> bool:
    """Count these windows, and say whether the process has by now been asked for so much that the kernels pay.

    At worst it takes twice as long as with the better choice from the start.
    """
    _done[0] += samples * window_work(network)
    return _done[0] > LOADING
