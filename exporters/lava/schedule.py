"""When what happens in a Lava run: every synapse delays by one step, every gate by T - 1 more.

Frame f (from 0) enters at step f (from 0). A segment whose input gets frame 0 at step d emits it from its
k-th layer at step d + 1 + k, and netx must be given `reset_offset = d + 1` so that each layer is zeroed
exactly when frame 0 of a window reaches it (netx's default is one step too early). A gate waits for the last
frame of the window: it emits frame 0 at step d + T - 1. What leaves a layer before its first valid step is
cut off.
"""

from __future__ import annotations

from dataclasses import dataclass

from tcja_deploy.runtime.integers.layers import GateStage, LayerStage
from tcja_deploy.runtime.integers.network import IntegerNetwork

__all__ = ["GatePart", "Part", "SegmentPart", "latency", "parts"]


@dataclass(frozen=True, slots=True)
class SegmentPart:
    """Layers between gates: one .net file.

    Attributes:
        layers: In order.
        first: Index of the first layer among the stages.
        arrives: Step at which the input gets frame 0.
        graded: Whether the input carries integers.
    """

    layers: tuple[LayerStage, ...]
    first: int
    arrives: int
    graded: bool

    @property
    def reset_offset(self) -> int:
        """What netx needs to start each window from zero."""
        return self.arrives + 1

    @property
    def steps(self) -> tuple[int, ...]:
        """Step at which each layer emits frame 0."""
        return tuple(self.arrives + 1 + k for k in range(len(self.layers)))


@dataclass(frozen=True, slots=True)
class GatePart:
    """One gate process."""

    gate: GateStage
    first: int
    arrives: int

    @property
    def steps(self) -> tuple[int, ...]:
        """Step at which the gate emits frame 0."""
        return (self.arrives + self.gate.frames - 1,)


Part = SegmentPart | GatePart


def parts(network: IntegerNetwork) -> tuple[Part, ...]:
    """The network cut at its gates, with the timing of each part."""
    result: list[Part] = []
    index = arrives = 0
    stages = network.stages
    while index < len(stages):
        stage = stages[index]
        part: Part
        if isinstance(stage, GateStage):
            part = GatePart(stage, index, arrives)
            index += 1
        else:
            layers = []
            first = index
            while index < len(stages) and isinstance(layer := stages[index], LayerStage):
                layers.append(layer)
                index += 1
            part = SegmentPart(tuple(layers), first, arrives, network.arrives(layers[0])[0].kind != "spike")
        result.append(part)
        arrives = part.steps[-1]
    return tuple(result)


def latency(network: IntegerNetwork) -> int:
    """Steps from a frame's entry to its result; N windows take N * T + latency steps."""
    return parts(network)[-1].steps[-1]
