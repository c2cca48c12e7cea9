"""The integer network: what Loihi-style hardware computes; the contract between quantiser, twin and exporter.

It is a graph of stages (`layers`, `stages`) between what the host does to frames and what it does to the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.runtime.integers.edges import AnyStage, sends
from tcja_deploy.runtime.integers.layers import GateStage, LayerStage
from tcja_deploy.runtime.integers.stages import HOST, Edge, IntArray, ProgramStage, stage_error

__all__ = ["HostInput", "IntegerNetwork", "Readout", "runs"]


@dataclass(frozen=True, slots=True, eq=False)
class HostInput:
    """What the host does to frames before they enter: scale to integers, pool them exactly, and repeat them.

    payload = rows @ (frame * scale) @ columns.T, then one copy of all channels per limb, multiplied by it; before the
    limbs, a one in the model's input is the integer `unit`. With limbs (128, 1), a pair of 8-bit weights acts like
    one of 15 bits.

    Attributes:
        shape: `[C, H, W]` or `[n]` of the model's frames.
        binary: Payloads are 0 or 1, so the first layer needs no message bits.
        peak: Largest payload that calibration saw; bounds on currents follow from it.
        scale: Factor to integers; 1 for spikes and counts.
        rows: Integer pooling weights `[H', H]`, or `None`.
        columns: Integer pooling weights `[W', W]`, or `None`.
        unit: `scale` times the factor of the pooling weights.
        limbs: Factors of the copies.
    """

    shape: tuple[int, ...]
    binary: bool
    peak: int
    scale: int = 1
    rows: IntArray | None = None
    columns: IntArray | None = None
    unit: int = 1
    limbs: tuple[int, ...] = (1,)

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of one frame of payloads."""
        channels = self.shape[0] * len(self.limbs)
        if self.rows is None or self.columns is None:
            return (channels, *self.shape[1:])
        return (channels, self.rows.shape[0], self.columns.shape[0])


@dataclass(frozen=True, slots=True, eq=False)
class Readout:
    """What the host does to the last stage's payloads p: weight @ (p / unit) + bias, vote, mean over time.

    Attributes:
        weight: `[M, n]`, float, or `None` for the identity.
        bias: `[M]`, float, or `None`.
        vote: Neurons per class, whose mean is the output of the class; 1 for no vote.
        time_mean: Whether to average over the T frames.
        function: Applied to every value at the end ("sigmoid", "tanh"), or `None`.
    """

    weight: NDArray[np.float64] | None = None
    bias: NDArray[np.float64] | None = None
    vote: int = 1
    time_mean: bool = False
    function: Literal["sigmoid", "tanh"] | None = None

    def __call__(self, payload: NDArray[np.integer], unit: float) -> NDArray[np.float64]:
        """Class values `[T, N, K]`, or `[N, K]` with a mean over time, of payloads `[T, N, ...]`."""
        value = payload.reshape(*payload.shape[:2], -1) / unit
        if self.weight is not None:
            value = value @ self.weight.T
        if self.bias is not None:
            value = value + self.bias
        if self.vote > 1:
            classes = value.shape[-1] // self.vote
            value = value[..., : classes * self.vote].reshape(*value.shape[:2], classes, self.vote).mean(-1)
        value = value.mean(0) if self.time_mean else value
        if self.function == "sigmoid":
            return np.asarray(0.5 * (1 + np.tanh(0.5 * value)))
        return np.tanh(value) if self.function == "tanh" else value


@dataclass(frozen=True, slots=True, eq=False)
class IntegerNetwork:
    """A graph of stages between the host's input and readout, run window by window of `frames` frames.

    Attributes:
        name: Name of the network.
        frames: T.
        host_input: What the host does to frames.
        stages: Each stage after those it reads; one without inputs reads the stage before it. The last one is the output.
        readout: What the host does to the output.
        edges: What each stage sends, by its name, and what the host sends, by `HOST`.

    Raises:
        GraphError: Stages that do not fit together.
    """

    name: str
    frames: int
    host_input: HostInput
    stages: tuple[AnyStage, ...]
    readout: Readout
    edges: Mapping[str, Edge] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.frames < 1 or not self.stages:
            raise stage_error(self.name, "a network needs at least one frame and one stage")
        host = self.host_input
        before = HOST
        sent = {HOST: Edge("spike" if host.binary else "signed", host.out_shape, host.unit, host.peak)}
        placed = []
        for stage in self.stages:
            if stage.name in sent:
                raise stage_error(self.name, f"stage names repeat: {stage.name}")
            stage = stage if stage.inputs else replace(stage, inputs=(before,))
            missing = [name for name in stage.inputs if name not in sent]
            if missing:
                raise stage_error(stage.name, f"reads {missing[0]!r}, which no stage before it sends")
            if isinstance(stage, GateStage | ProgramStage) and stage.frames not in (
                {self.frames} if isinstance(stage, GateStage) else {1, self.frames}
            ):
                raise stage_error(
                    stage.name, f"was made for T = {stage.frames}, the network has T = {self.frames}"
                )
            sent[stage.name] = sends(stage, tuple(sent[name] for name in stage.inputs))
            placed.append(stage)
            before = stage.name
        unread = set(sent) - {before} - {name for stage in placed for name in stage.inputs}
        if unread:
            raise stage_error(self.name, f"no stage reads {sorted(unread)}")
        object.__setattr__(self, "stages", tuple(placed))
        object.__setattr__(self, "edges", sent)

    @property
    def unit(self) -> float:
        """The number that stands for one in the last stage's payloads."""
        return self.edges[self.stages[-1].name].unit

    @property
    def chain(self) -> bool:
        """Whether it is a chain of layers and gates, as netx and gate processes alone can run it."""
        plain = all(isinstance(stage, LayerStage | GateStage) for stage in self.stages)
        names = [HOST, *(stage.name for stage in self.stages)]
        return plain and all(stage.inputs == (name,) for stage, name in zip(self.stages, names, strict=False))

    def readers(self, name: str) -> list[AnyStage]:
        """The stages that read a stage."""
        return [stage for stage in self.stages if name in stage.inputs]

    def arrives(self, stage: AnyStage) -> tuple[Edge, ...]:
        """What a stage receives."""
        return tuple(self.edges[name] for name in stage.inputs)


def runs(network: IntegerNetwork) -> list[tuple[AnyStage, ...]]:
    """The stages in order; a layer that is the only reader of the layer before it is in one group with that."""
    parts: list[tuple[AnyStage, ...]] = []
    for stage in network.stages:
        before = parts[-1][-1] if parts else None
        joins = (
            isinstance(stage, LayerStage)
            and isinstance(before, LayerStage)
            and stage.inputs == (before.name,)
            and len(network.readers(before.name)) == 1
        )
        if joins:
            parts[-1] = (*parts[-1], stage)
        else:
            parts.append((stage,))
    return parts
