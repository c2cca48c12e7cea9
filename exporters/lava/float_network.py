"""The float stages between a graph and its integer network: what is to be quantised, already in Lava's shape.

Everything here is exact: batch normalisation folded, averages merged into the weights behind them, a neuron's
threshold, rest and leak normalised to  v <- keep * v + sum(weight * x) + bias,  fire at v >= 1,  v <- 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.ir import Kind
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.integers.layers import LayerStage, SpatialPool
from tcja_deploy.runtime.integers.network import HostInput, Readout
from tcja_deploy.runtime.integers.stages import Pair
from tcja_deploy.unsupported import Unsupported

__all__ = ["FloatArray", "FloatGate", "FloatLayer", "FloatNetwork", "FloatNeuron", "normalise"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FloatNeuron:
    """A neuron's rule in normalised units.

    Attributes:
        gain: Factor of its input.
        v_decay: What Lava takes for the leak, in 1/4096.
        leak: The leak itself.
        strict: Fires above the threshold only.
        drop: What a spike takes off the membrane, in thresholds; 0 where it returns to zero.
    """

    gain: float
    v_decay: int
    leak: float
    strict: bool
    drop: float = 0.0

    @property
    def leak_error(self) -> float:
        """Relative error of the leak; 0 where 4096 times the leak is an integer."""
        return abs(self.v_decay / 4096 / self.leak - 1) if self.leak else 0.0


def normalise(op: ir.Neuron, *, soft: bool = False) -> FloatNeuron:
    """The rule of a neuron.

    Args:
        op: The neuron.
        soft: Whether a spike may take something off the membrane instead of returning it to zero.

    With w = v - v_rest, `LIF` and `PLIF` are w <- (1 - q) w + gain x, `IF` is w <- w + x; all fire at
    w >= v_threshold - v_rest and return to w = 0, which is Lava's reset.

    Raises:
        Unsupported: If Lava's neuron cannot have it.
    """
    factor = 1.0
    if isinstance(op, ir.AffineNeuron):
        op, factor = op.plain()
    distance = op.v_threshold - op.v_rest
    if op.v_reset is None and not soft:
        raise Unsupported(
            "soft reset: Lava's neuron returns to zero after a spike and cannot subtract the threshold"
        )
    leak, gain = 0.0, factor
    if isinstance(op, ir.LIF):
        leak = 1 / op.tau
    elif isinstance(op, ir.PLIF):
        leak = op.decay
    if isinstance(op, ir.LIF | ir.PLIF) and op.decay_input:
        gain = leak
    drop = 1.0 if op.v_reset is None else 0.0
    return FloatNeuron(gain / distance, int(np.floor(4096 * leak + 0.5)), leak, op.strict, drop)


@dataclass(frozen=True, slots=True, eq=False)
class FloatLayer:
    """A synapse with neurons, before quantisation.

    Attributes:
        name: Node of the neuron.
        synapse: Node of its input; its value minus `offset`, times the neuron's gain, is what the weights
            sum up.
        offset: (O,) bias of that node.
        kind: "conv" or "dense".
        in_shape: Shape of one frame of payloads.
        weight: Normalised (gain and threshold included), shaped as `LayerStage.weight`.
        bias: Normalised, (O,).
        neuron: The rule.
        stride: As in `LayerStage`, and so are padding, dilation and groups.
    """

    name: str
    synapse: str
    offset: FloatArray
    kind: Literal["conv", "dense"]
    in_shape: tuple[int, ...]
    weight: FloatArray
    bias: FloatArray
    neuron: FloatNeuron
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class FloatGate:
    """A TCJA block before quantisation; weights as in `tcja_deploy.ir.ops.TCJA`."""

    name: str
    in_shape: tuple[int, int, int]
    op: ir.TCJA
    pool: SpatialPool | None = None
    pooled: str = ""
    """Node of the pool's value; the gate's own without one."""


@dataclass(frozen=True, slots=True, eq=False)
class FloatNetwork:
    """A graph as the stages that Lava has, before quantisation.

    Attributes:
        frames: T.
        host_input: What the host does to frames, with a peak of 0 still to be calibrated.
        stages: Float layers and gates, and layers that are integer already (pools).
        readout: What the host does to the result.
        notes: For each node what became of it.
    """

    frames: int
    host_input: HostInput
    stages: tuple[FloatLayer | FloatGate | LayerStage, ...]
    readout: Readout
    notes: dict[str, str]

    @property
    def synapses(self) -> dict[str, str]:
        """For each node with weights the stage that they belong to."""
        return {s.synapse: s.name for s in self.stages if isinstance(s, FloatLayer)}

    @property
    def values(self) -> dict[str, str | None]:
        """For each stage the node whose value it computes; None for stages that no node corresponds to."""
        nodes: dict[str, str | None] = {}
        for stage in self.stages:
            if isinstance(stage, FloatGate):
                nodes[stage.name] = stage.pooled
            else:
                nodes[stage.name] = stage.name if stage.name in self.notes else None
        return nodes


def averaging(
    length: int, kernel: int, stride: int, padding: int, *, count_pad: bool
) -> list[list[Fraction]]:
    """Matrix (length', length) of an average pool along one axis."""
    rows = []
    for start in range(-padding, length + padding - kernel + 1, stride):
        inside = range(max(start, 0), min(start + kernel, length))
        weight = Fraction(1, kernel if count_pad else max(len(inside), 1))
        rows.append([weight if i in inside else Fraction(0) for i in range(length)])
    return rows


def adaptive(length: int, out: int) -> list[list[Fraction]]:
    """Matrix (out, length) of an adaptive average pool along one axis."""
    rows = []
    for i in range(out):
        inside = range(i * length // out, -(-(i + 1) * length // out))
        rows.append([Fraction(1, len(inside)) if j in inside else Fraction(0) for j in range(length)])
    return rows


def host_input(shape: tuple[int, ...], kind: Kind, axes: list[Any], scale: int) -> HostInput:
    """What the host does: real inputs become integers, leading average pools sums with a common denominator.

    Args:
        shape: Of the model's frames.
        kind: Signal kind of the model's input.
        axes: Exact matrices of the pools along rows and columns (object arrays of fractions), or nothing.
        scale: The integer that stands for one in real inputs.
    """
    factor = 1 if kind in (Kind.BINARY, Kind.COUNT) else scale
    if not axes:
        binary = kind is Kind.BINARY
        return HostInput(shape, binary, int(binary), factor, unit=factor)
    whole, unit = [], factor
    for axis in axes:
        denominator = lcm(*(value.denominator for value in axis.ravel()))
        whole.append((axis * denominator).astype(np.int64))
        unit *= denominator
    return HostInput(shape, False, 0, factor, whole[0], whole[1], unit)
