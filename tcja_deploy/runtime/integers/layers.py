"""Stages that map to one block or one process of Lava: a synapse with its neurons, and a TCJA gate.

Equations of a layer, with time steps t, all integers, `dec(s, d) = sign(s) * ((|s| * (4096 - d)) >> 12)` and M = 2**23:

    a[t] = sum of weight * input payload        (convolutions wrap to 24 bits)
    u[t] = dec(u[t-1], i_decay) + 64 a[t];      once: u > M: u -= 2M;  u <= -M: u += 2M
    v[t] = clip(dec(v[t-1], v_decay) + u[t] + 64 bias, -M+1, M-1)
    s[t] = 1 if v[t] > 64 threshold else 0;     v[t] = 0 where s[t] = 1  (u is kept)

States are zero at the start of each window of T frames. Lava keeps u in 32 bits: a current with memory may exceed
them when it wraps in every step, and the exporter refuses networks whose weights allow that. Source: the
fixed-point models of lava-nc 0.10.0 (`lava.proc.lif`, `lava.proc.conv`, `lava.proc.dense`) as lava-dl 0.6.0
(`netx`) configures them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal

import numpy as np

from tcja_deploy.runtime.integers.stages import UNITY, IntArray, Pair, stage_error

__all__ = ["GateStage", "LayerStage", "SpatialPool", "or_pool"]


@dataclass(frozen=True, slots=True, eq=False)
class LayerStage:
    """One synapse and its neurons.

    Attributes:
        name: Unique name, that of the neuron in the model it came from.
        kind: "conv", "dense", or "pool" (an OR over kernel windows, written as a convolution).
        in_shape: `[C, H, W]`, or `[n]` for dense; dense flattens `[C, H, W]` in this order.
        weight: `[O, I / groups, kH, kW]` for conv and pool, `[O, n]` for dense.
        bias: `[O]`, in units of the threshold (64 units of the voltage).
        threshold: `[]` or `[O]`, Lava's vThMant.
        v_decay: Voltage decay, 0 to 4096 (forgets at once).
        i_decay: Current decay, 0 to 4096 (forgets at once).
        stride: Rows and columns, as are padding and dilation.
        padding: Zeros on each side.
        dilation: Distance of the kernel's taps.
        groups: As in PyTorch.
        inputs: The one stage it reads; if empty, a network fills in the stage before it.
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
    inputs: tuple[str, ...] = ()

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
            raise stage_error(self.name, f"decays {self.v_decay} and {self.i_decay} must be in 0..{UNITY}")

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of one frame of spikes: `[O, H', W']`, or `[O]` for dense."""
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
        """Per output channel, the sum of the positive and of the negated negative weights, each `[O]`."""
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
    inputs: tuple[str, ...] = (),
) -> LayerStage:
    """Max-pooling of binary spikes: neurons without memory that fire if any spike falls into their window.

    Args:
        name: Name of the layer.
        in_shape: `[C, H, W]`.
        kernel: Rows and columns of the window.
        stride: Rows and columns between windows.
        padding: Zeros on each side, less than the kernel.
        max_groups: Largest usable `groups`: Lava keeps it in eight bits. Weights are block-diagonal within
            a group.
        inputs: The stage it reads.
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
        inputs=inputs,
    )


@dataclass(frozen=True, slots=True)
class SpatialPool:
    """Pooling of gated payloads: a gate is constant over space and not negative, so it commutes with both kinds."""

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
        in_shape: `[C, H, W]` of the spikes.
        frames: T.
        tla: Temporal weights `[C, C, K_T]`, or `None`.
        cla: Channel-wise weights `[T, T, K_C]`, or `None`.
        fusion: How the two are joined.
        fraction: Fraction bits of the weights.
        index_bits: Fraction bits of the table's argument.
        table: Gate integers, one per step of the argument, whose range is symmetric about zero.
        one: The integer that stands for a gate of one (before the pool).
        pool: Spatial pooling of the gated payloads, or `None`.
        inputs: The one stage it reads; if empty, a network fills in the stage before it.
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
    inputs: tuple[str, ...] = ()

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
        scale = height * width << self.fraction  # what the sums are divided by
        scale = scale**2 if len(peaks) == 2 and self.fusion == "multiply" else scale
        if (
            max(peaks) >= 1 << 52
            or scale >> self.index_bits >= 1 << 62
            or (self.fusion == "multiply" and prod(peaks) >= 1 << 61)
        ):
            raise stage_error(self.name, "the gate's sums could exceed 64 bits: use fewer fraction bits")
        if min(self.out_shape) < 1:
            raise stage_error(self.name, f"the output would be empty: {self.out_shape}")

    @property
    def out_shape(self) -> tuple[int, int, int]:
        """Shape of one frame of payloads, `[C, H', W']`."""
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
