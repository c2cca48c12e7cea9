"""The integer network: what Loihi-style hardware computes; the contract between quantiser, twin and exporter.

A chain of stages. `LayerStage` is a synapse (convolution, dense or OR-pooling) with its current-based leaky
integrate-and-fire neurons; `GateStage` is a TCJA block that turns spikes into integer payloads. Equations, with
time steps t, all integers, `dec(s, d) = sign(s) * ((|s| * (4096 - d)) >> 12)` and M = 2**23:

    a[t] = sum of weight * input payload        (convolutions wrap to 24 bits)
    u[t] = dec(u[t-1], i_decay) + 64 a[t];      once: u > M: u -= 2M;  u <= -M: u += 2M
    v[t] = clip(dec(v[t-1], v_decay) + u[t] + 64 bias, -M+1, M-1)
    s[t] = 1 if v[t] > 64 threshold else 0;     v[t] = 0 where s[t] = 1  (u is kept)

States are zero at the start of each window of T frames. Lava keeps u in 32 bits: a current with memory may leave
them when it wraps in every step, and the exporter refuses networks whose weights allow that. Source: the
fixed-point models of lava-nc 0.10.0 (`lava.proc.lif`, `lava.proc.conv`, `lava.proc.dense`) as lava-dl 0.6.0
(`netx`) configures them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.runtime.integers.stages import UNITY, IntArray, Pair, stage_error

__all__ = [
    "GateStage",
    "HostInput",
    "IntegerNetwork",
    "LayerStage",
    "Readout",
    "SpatialPool",
    "or_pool",
]


@dataclass(frozen=True, slots=True, eq=False)
class LayerStage:
    """One synapse and its neurons.

    Attributes:
        name: Unique name, the one of the neuron in the model it came from.
        kind: "conv", "dense", or "pool" (an OR over kernel windows, written as a convolution).
        in_shape: (C, H, W), or (n,) for dense; dense flattens (C, H, W) in this order.
        weight: (O, I/groups, kH, kW) for conv and pool, (O, n) for dense.
        bias: (O,), in units of the threshold (64 units of the voltage).
        threshold: () or (O,): vThMant.
        v_decay: Voltage decay, 0..4096.
        i_decay: Current decay, 0..4096.
        stride: (rows, columns), as are padding and dilation.
        padding: Zeros on each side.
        dilation: Distance of the kernel's taps.
        groups: As in PyTorch.
    """

    name: str
    kind: Literal["conv", "dense", "pool"]
    in_shape: tuple[int, ...]
    weight: IntArray
    bias: IntArray
    threshold: IntArray
    v_decay: int = UNITY
    i_decay: int = UNITY
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    def __post_init__(self) -> None:
        weight, spatial = self.weight, self.kind != "dense"
        geometry = (self.groups, *self.stride, *self.dilation, *self.in_shape, weight.size)
        if min(geometry) < 1 or min(self.padding) < 0:
            raise stage_error(
                self.name, "groups, stride, dilation and sizes are positive, padding is not negative"
            )
        if weight.ndim != (4 if spatial else 2) or len(self.in_shape) not in ((3,) if spatial else (1, 3)):
            raise stage_error(
                self.name, f"{self.kind} weight {weight.shape} does not fit an input of {self.in_shape}"
            )
        if spatial and (self.in_shape[0] != weight.shape[1] * self.groups or weight.shape[0] % self.groups):
            raise stage_error(
                self.name, f"weight {weight.shape} with {self.groups} groups does not fit {self.in_shape}"
            )
        if not spatial and weight.shape[1] != prod(self.in_shape):
            raise stage_error(
                self.name, f"dense weight {weight.shape} does not fit an input of {self.in_shape}"
            )
        if self.bias.shape != (weight.shape[0],) or self.threshold.shape not in ((), (weight.shape[0],)):
            raise stage_error(
                self.name, f"bias {self.bias.shape} or threshold {self.threshold.shape} misses the channels"
            )
        if min(self.out_shape) < 1:
            raise stage_error(self.name, f"the output would be empty: {self.out_shape}")
        if not (0 <= self.v_decay <= UNITY and 0 <= self.i_decay <= UNITY):
            raise stage_error(self.name, f"decays {self.v_decay} and {self.i_decay} must lie in 0..{UNITY}")

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of one frame of spikes: (O, H', W'), or (O,) for dense."""
        if self.kind == "dense":
            return (self.weight.shape[0],)
        size = [
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip(
                self.in_shape[1:],
                self.weight.shape[2:],
                self.stride,
                self.padding,
                self.dilation,
                strict=True,
            )
        ]
        return (self.weight.shape[0], *size)

    @property
    def fan_sums(self) -> tuple[IntArray, IntArray]:
        """Per output channel, the sum of the positive and of the negated negative weights, each (O,)."""
        flat = self.weight.reshape(self.weight.shape[0], -1)
        return np.maximum(flat, 0).sum(1), -np.minimum(flat, 0).sum(1)


def or_pool(
    name: str,
    in_shape: tuple[int, ...],
    kernel: Pair,
    stride: Pair,
    padding: Pair = (0, 0),
    *,
    max_groups: int = 127,
) -> LayerStage:
    """Max-pooling of binary spikes: neurons without memory that fire if any spike falls into their window.

    Args:
        name: Name of the layer.
        in_shape: (C, H, W).
        kernel: Window, (rows, columns).
        stride: Step of the window.
        padding: Zeros on each side, less than the kernel.
        max_groups: Largest usable `groups`: Lava keeps it in eight bits. Weights are block-diagonal within
            a group.
    """
    channels = in_shape[0]
    groups = max(g for g in range(1, min(channels, max_groups) + 1) if channels % g == 0)
    width = channels // groups
    weight = np.zeros((channels, width, *kernel), np.int64)
    weight[np.arange(channels), np.arange(channels) % width] = 2
    return LayerStage(
        name,
        "pool",
        in_shape,
        weight,
        np.zeros(channels, np.int64),
        np.asarray(1),
        stride=stride,
        padding=padding,
        groups=groups,
    )


@dataclass(frozen=True, slots=True)
class SpatialPool:
    """Pooling of gated payloads: a gate is constant over space and not negative, so it commutes with both."""

    kind: Literal["max", "sum"]
    kernel: Pair
    stride: Pair

    @property
    def weight(self) -> int:
        """Factor by which the pool enlarges the unit: a sum of k payloads stands for k times their mean."""
        return prod(self.kernel) if self.kind == "sum" else 1


@dataclass(frozen=True, slots=True, eq=False)
class GateStage:
    """A TCJA block in integers (`tcja_deploy.runtime.integers.gate_arithmetic`): collects a window, then scales it.

    Attributes:
        name: Unique name.
        in_shape: (C, H, W) of the spikes.
        frames: T.
        tla: Temporal weights (C, C, K_T), or None.
        cla: Channel-wise weights (T, T, K_C), or None.
        fusion: How the two are joined.
        fraction: Fraction bits of the weights.
        index_bits: Fraction bits of the table's argument.
        table: GateStage integers, one per argument step, symmetric about zero.
        one: The integer that stands for a gate of one (before the pool).
        pool: Spatial pooling of the gated payloads, or None.
    """

    name: str
    in_shape: tuple[int, int, int]
    frames: int
    tla: IntArray | None
    cla: IntArray | None
    fusion: Literal["multiply", "add"]
    fraction: int
    index_bits: int
    table: IntArray
    one: int
    pool: SpatialPool | None = None

    def __post_init__(self) -> None:
        channels, height, width = self.in_shape
        pool = (1,) if self.pool is None else (*self.pool.kernel, *self.pool.stride)
        if min(*self.in_shape, *pool) < 1:
            raise stage_error(self.name, "sizes, kernel and stride of the pool are positive")
        if self.tla is None and self.cla is None:
            raise stage_error(self.name, "a gate needs temporal or channel-wise weights")
        for label, weight, size in (("tla", self.tla, channels), ("cla", self.cla, self.frames)):
            if weight is not None and (weight.ndim != 3 or weight.shape[:2] != (size, size)):
                raise stage_error(self.name, f"{label} weights {weight.shape} should be ({size}, {size}, K)")
        if not self.index_bits < self.fraction:
            raise stage_error(
                self.name, f"{self.fraction} fraction bits must exceed the table's {self.index_bits}"
            )
        if self.table.ndim != 1 or self.table.size % 2 or self.table.size == 0 or int(self.table.min()) < 0:
            raise stage_error(
                self.name, "the table must be one row of an even number of non-negative integers"
            )
        peaks = [
            int(np.abs(weight).sum((1, 2)).max()) * height * width
            for weight in (self.tla, self.cla)
            if weight is not None
        ]
        if max(peaks) >= 1 << 52 or (self.fusion == "multiply" and prod(peaks) >= 1 << 61):
            raise stage_error(self.name, "the gate's sums could exceed 64 bits: use fewer fraction bits")
        if min(self.out_shape) < 1:
            raise stage_error(self.name, f"the output would be empty: {self.out_shape}")

    @property
    def out_shape(self) -> tuple[int, int, int]:
        """(C, H', W') of the payloads."""
        if self.pool is None:
            return self.in_shape
        channels, *size = self.in_shape
        rows, columns = (
            (n - k) // s + 1 for n, k, s in zip(size, self.pool.kernel, self.pool.stride, strict=True)
        )
        return (channels, rows, columns)

    @property
    def unit(self) -> int:
        """The integer that stands for a payload of one after the pool."""
        return self.one * (self.pool.weight if self.pool else 1)

    @property
    def peak(self) -> int:
        """Largest payload that can leave the gate."""
        return int(self.table.max()) * (self.pool.weight if self.pool else 1)


@dataclass(frozen=True, slots=True, eq=False)
class HostInput:
    """What the host does to frames before they enter: scale to integers, pool them exactly, and repeat them.

    payload = rows @ (frame * scale) @ columns.T, then one copy of all channels per limb, multiplied by it; before the
    limbs one unit of the model's input is the integer `unit`. With limbs (128, 1) a pair of 8-bit weights acts like
    one of 15 bits.

    Attributes:
        shape: (C, H, W) or (n,) of the model's frames.
        binary: Payloads are 0 or 1, so the first layer needs no message bits.
        peak: Largest payload that calibration saw; bounds on currents follow from it.
        scale: Factor to integers; 1 for spikes and counts.
        rows: (H', H) integer pooling weights, or None.
        columns: (W', W) integer pooling weights, or None.
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
        weight: (M, n) float, or None for the identity.
        bias: (M,) float, or None.
        vote: Neurons a class: their mean is the class's output; 1 for none.
        time_mean: Average over the T frames.
    """

    weight: NDArray[np.float64] | None = None
    bias: NDArray[np.float64] | None = None
    vote: int = 1
    time_mean: bool = False

    def __call__(self, payload: NDArray[np.integer], unit: int) -> NDArray[np.float64]:
        """Class values, shape (T, N, K) or (N, K), of payloads of shape (T, N, ...)."""
        value = payload.reshape(*payload.shape[:2], -1) / unit
        if self.weight is not None:
            value = value @ self.weight.T
        if self.bias is not None:
            value = value + self.bias
        if self.vote > 1:
            classes = value.shape[-1] // self.vote
            value = value[..., : classes * self.vote].reshape(*value.shape[:2], classes, self.vote).mean(-1)
        return value.mean(0) if self.time_mean else value


@dataclass(frozen=True, slots=True, eq=False)
class IntegerNetwork:
    """A chain of stages between the host's input and readout, run window by window of `frames` frames."""

    name: str
    frames: int
    host_input: HostInput
    stages: tuple[LayerStage | GateStage, ...]
    readout: Readout

    def __post_init__(self) -> None:
        if self.frames < 1 or not self.stages:
            raise stage_error(self.name, "a network needs at least one frame and one stage")
        names = [stage.name for stage in self.stages]
        if len(set(names)) != len(names):
            raise stage_error(
                self.name, f"stage names repeat: {sorted({n for n in names if names.count(n) > 1})}"
            )
        shape, binary = self.host_input.out_shape, self.host_input.binary
        for stage in self.stages:
            flattened = (
                isinstance(stage, LayerStage) and stage.kind == "dense" and stage.in_shape == (prod(shape),)
            )
            if stage.in_shape != shape and not flattened:
                raise stage_error(stage.name, f"expects an input of {stage.in_shape}, but gets {shape}")
            if isinstance(stage, GateStage) and stage.frames != self.frames:
                raise stage_error(
                    stage.name, f"was made for T = {stage.frames}, the network has T = {self.frames}"
                )
            if not binary and (isinstance(stage, GateStage) or stage.kind == "pool"):
                raise stage_error(
                    stage.name, f"a {'gate' if isinstance(stage, GateStage) else 'pool'} needs binary spikes"
                )
            shape, binary = stage.out_shape, isinstance(stage, LayerStage)

    @property
    def unit(self) -> int:
        """The integer that stands for one in the last stage's payloads."""
        last = self.stages[-1]
        return last.unit if isinstance(last, GateStage) else 1

    def graded(self, index: int) -> bool:
        """Whether stage `index` receives integer payloads rather than spikes."""
        return not self.host_input.binary if index == 0 else isinstance(self.stages[index - 1], GateStage)

    def peak(self, index: int) -> int:
        """Largest payload that stage `index` receives (as far as calibration knows, for the first)."""
        if index == 0:
            return self.host_input.peak
        before = self.stages[index - 1]
        return before.peak if isinstance(before, GateStage) else 1
