"""What each stage sends, from what it receives: shape, kind, unit, and a bound that no payload exceeds."""

from __future__ import annotations

from math import prod

import numpy as np

from tcja_deploy.runtime.integers.layers import GateStage, LayerStage
from tcja_deploy.runtime.integers.stages import (
    Edge,
    NeuronStage,
    ProgramStage,
    RelayStage,
    SynapseStage,
    stage_error,
)

__all__ = ["AnyStage", "sends", "synapse_bound"]

AnyStage = LayerStage | GateStage | SynapseStage | NeuronStage | RelayStage | ProgramStage
CONV_MAX = 1 << 23
"""Convolutions wrap to 24 bits."""


def sends(stage: AnyStage, received: tuple[Edge, ...]) -> Edge:
    """What a stage sends.

    Args:
        stage: The stage.
        received: What its inputs send, in order.

    Raises:
        GraphError: If the stage cannot receive that.
    """
    if isinstance(stage, LayerStage | GateStage | SynapseStage):
        if len(received) != 1:
            raise stage_error(stage.name, f"reads {len(received)} stages, not one")
        _fits(stage, received[0])
        if isinstance(stage, LayerStage):
            return Edge("spike", stage.out_shape, 1, 1)
        if isinstance(stage, GateStage):
            return Edge("unsigned", stage.out_shape, stage.unit, stage.peak)
        bound = synapse_bound(stage, received[0])
        kept = bound if stage.kind == "dense" else min(bound, CONV_MAX)
        return Edge("signed", stage.out_shape, stage.unit, kept)
    shapes = stage.in_shapes if isinstance(stage, ProgramStage) else (stage.shape,) * len(received)
    for edge, shape in zip(received, shapes, strict=True):
        if edge.shape != shape:
            raise stage_error(stage.name, f"expects an input of {shape}, but gets {edge.shape}")
    if isinstance(stage, ProgramStage):
        return Edge(stage.kind, stage.out_shape, stage.unit, stage.peak)
    if isinstance(stage, NeuronStage):
        return Edge("spike", stage.shape, 1, 1)
    total = sum(edge.peak for edge in received) + int(np.abs(stage.bias).max())
    reach = ((total * abs(stage.multiplier) + ((1 << stage.shift) >> 1)) >> stage.shift) + 1
    return Edge(
        "signed", stage.shape, stage.unit, min(stage.most, reach) if stage.decay is None else stage.most
    )


def synapse_bound(stage: LayerStage | SynapseStage, received: Edge) -> int:
    """Bound on the magnitude of a synapse's sums before they wrap."""
    positive, negative = stage.fan_sums
    worst = positive + negative if received.kind == "signed" else np.maximum(positive, negative)
    return int(worst.max()) * received.peak


def _fits(stage: LayerStage | GateStage | SynapseStage, received: Edge) -> None:
    flattened = (
        not isinstance(stage, GateStage)
        and stage.kind == "dense"
        and stage.in_shape == (prod(received.shape),)
    )
    if stage.in_shape != received.shape and not flattened:
        raise stage_error(stage.name, f"expects an input of {stage.in_shape}, but gets {received.shape}")
    needs_spikes = isinstance(stage, GateStage) or stage.kind == "pool"
    if needs_spikes and received.kind != "spike":
        raise stage_error(
            stage.name, f"a {'gate' if isinstance(stage, GateStage) else 'pool'} needs binary spikes"
        )
