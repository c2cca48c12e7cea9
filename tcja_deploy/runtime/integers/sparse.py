"""Synapses and neurons on kernels that follow the spikes: their tables, and one layer over a window or a frame."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.events.plan import fitting_block, for_columns, in_blocks, meeting_taps, plain_kernel
from tcja_deploy.runtime.events.values import LayerValue, Spikes
from tcja_deploy.runtime.events.vectors import LANES
from tcja_deploy.runtime.integers import layer_kernels
from tcja_deploy.runtime.integers.layer_runner import LIMIT, LayerCounts, wrapped_bias
from tcja_deploy.runtime.integers.layers import LayerStage
from tcja_deploy.runtime.integers.stages import UNITY, SynapseStage
from tcja_deploy.runtime.threads import share

__all__ = [
    "EXACT",
    "Received",
    "SparseNeurons",
    "SparseSynapse",
    "or_weight",
    "sparse_layer",
    "sparse_synapse",
]

EXACT = 1 << 24
"""Magnitudes below it are exact in float32, the type of payloads and weights."""
_WRAPS = LIMIT // 64
"""Sums below it never wrap a current."""
_BITS32 = 1 << 31


@dataclass(frozen=True, slots=True)
class Received:
    """What a stage sent over a window or a frame.

    Attributes:
        value: The payloads.
        peak: Their largest magnitude, or a bound on it.
        signed: Whether there are negative ones.
    """

    value: LayerValue
    peak: int = 1
    signed: bool = False


@dataclass(frozen=True, eq=False)
class SparseSynapse:
    """A synapse whose sums fit 32 bits, as the kernels read it.

    Attributes:
        space: Height, width and channels of the input.
        size: Height and width of the output.
        out_shape: Shape of one frame of the output.
        columns: Columns of the kernel.
        weights: `[blocks, taps x channels x block]`, in 8 bits if they fit.
        taps: See `events.layer_kernels.spiking_layer`.
        reach: Bounds on the magnitude of a sum per unit of payload: if no payload is negative, and if some are.
    """

    space: tuple[int, int, int]
    size: tuple[int, int]
    out_shape: tuple[int, ...]
    columns: int
    weights: NDArray[np.integer]
    taps: tuple[NDArray[np.int64], NDArray[np.int64]]
    reach: tuple[int, int]

    def bound(self, received: Received) -> int:
        """Bound on the magnitude of its sums."""
        return self.reach[received.signed] * received.peak

    def spread(self, values: NDArray[np.int32], rest: int) -> NDArray[np.int32]:
        """Values per output channel, in the order of the blocks, filled up with `rest`."""
        rows = prod(axis.shape[1] for axis in self.taps) * self.space[2]
        return for_columns(values, self.weights, rows, rest)

    def run(self, received: Received, threads: int) -> NDArray[np.int32] | None:
        """Sums of a window `[T, N, ...]`; `None` where no bound proves that they neither wrap nor leave 32 bits."""
        bound = self.bound(received)
        if received.peak >= EXACT or bound >= (_BITS32 if len(self.out_shape) == 1 else LIMIT):
            return None
        N, _, _, T, _ = received.value.placed(self.space).shape
        nothing = self.spread(np.zeros(self.out_shape[0], np.int32), 0)
        out = np.empty((N, *self.size, T, len(nothing)), np.int32)
        self.share(layer_kernels.integer_sums, received, nothing, threads, out)
        moved = out[..., : self.out_shape[0]].transpose(3, 0, 4, 1, 2)
        return np.ascontiguousarray(moved.reshape(T, N, *self.out_shape))

    def share(
        self, kernel: Any, received: Received, bias: NDArray[np.int32], threads: int, *others: Any
    ) -> None:
        """Run a kernel of `layer_kernels` on what was received."""
        events = received.value.placed(self.space)
        width = (0,) * (len(bias) // len(self.weights) // LANES)
        shape = (*self.space, self.columns, events.shape[3])
        given = (width, shape, events.ends, events.index, events.scale, self.weights, bias, self.taps)
        share(kernel, events.shape[0] * self.size[0], threads, *given, *others)


@dataclass(frozen=True, eq=False)
class SparseNeurons:
    """A synapse with the neurons after it, whose currents have no memory.

    Attributes:
        synapse: The synapse.
        bias: `[blocks x block]`.
        thresholds: `[blocks x block]`, in units of the voltage; out of reach where a block is longer than the outputs.
        kept: The share of a voltage that remains after a step, in 1/4096.
        quiet: Whether its neurons never fire without input.
    """

    synapse: SparseSynapse
    bias: NDArray[np.int32]
    thresholds: NDArray[np.int32]
    kept: int
    quiet: bool

    def run(self, received: Received, threads: int, counts: LayerCounts) -> Spikes | None:
        """Spikes of a window; `None` where a current might wrap or a sum might leave 32 bits."""
        return self._run(layer_kernels.integer_layer, received, threads, counts)

    def step(
        self, received: Received, t: int, v: NDArray[np.int32], seen: NDArray[np.int32], threads: int
    ) -> Spikes | None:
        """As `run`, for step `t`; `v` and `seen` change (see `layer_kernels.integer_frame`), even if the result is `None`."""
        return self._run(layer_kernels.integer_frame, received, threads, LayerCounts(), t, v, seen)

    def never_wraps(self, received: Received) -> bool:
        """Whether bounds prove that `step` does not return `None`."""
        return received.peak < EXACT and self._bound(received) + int(np.abs(self.bias).max()) < _WRAPS

    def _bound(self, received: Received) -> int:
        return self.synapse.bound(received) + int(np.abs(self.bias).max())

    def _run(
        self, kernel: Any, received: Received, threads: int, counts: LayerCounts, *frame: Any
    ) -> Spikes | None:
        synapse, most = self.synapse, int(np.abs(self.bias).max())
        bound = self._bound(received)
        if received.peak >= EXACT or bound >= _BITS32:
            return None
        guarded = 64 * min(bound, _WRAPS) * UNITY >= LIMIT * (UNITY - self.kept)
        N, _, _, T, _ = received.value.placed(synapse.space).shape
        bits = np.empty((N, *synapse.size, T, -(-synapse.out_shape[0] // LANES)), np.uint16)
        peaks, cuts = np.zeros((2, N * synapse.size[0]), np.int64)
        neuron, quiet = (*_decay(self.kept), LIMIT if guarded else 0), self.quiet and not guarded
        tables = (neuron, self.thresholds, quiet)
        synapse.share(kernel, received, self.bias, threads, *tables, *frame, bits, peaks, cuts)
        largest = int(peaks.max())
        if largest + most >= _WRAPS:
            return None
        counts.peak = max(counts.peak, largest)
        counts.saturations += int(cuts.sum())
        return Spikes(bits, synapse.out_shape[0], threads, synapse.out_shape)


def sparse_synapse(stage: LayerStage | SynapseStage) -> SparseSynapse | None:
    """Tables of a synapse; `None` if its numbers or sizes are beyond the kernels."""
    if int(np.abs(stage.weight).max()) >= EXACT:
        return None
    weight = stage.weight.astype(np.float32)
    if stage.kind == "dense":
        shape = stage.in_shape if len(stage.in_shape) == 3 else (*stage.in_shape, 1, 1)
        op: ir.Conv2d | ir.ConvTranspose2d = ir.Conv2d(weight.reshape(-1, *shape))
    else:
        shape = stage.in_shape
        shared: dict[str, Any] = {"stride": stage.stride, "dilation": stage.dilation, "groups": stage.groups}
        if stage.kind == "transposed":
            op = ir.ConvTranspose2d(
                weight, padding=stage.padding, output_padding=stage.output_padding, **shared
            )
        else:
            op = ir.Conv2d(weight, padding=(*stage.padding, *stage.padding), **shared)
    kernel = plain_kernel(op)
    if shape[0] > np.iinfo(np.uint16).max or kernel.size > np.iinfo(np.int32).max:
        return None
    out = stage.out_shape
    size = (out[1], out[2]) if len(out) == 3 else (1, 1)
    narrow = np.abs(kernel).max() <= np.iinfo(np.int8).max
    positive, negative = stage.fan_sums
    reach = int(np.maximum(positive, negative).max()), int((positive + negative).max())
    return SparseSynapse(
        (shape[1], shape[2], shape[0]),
        size,
        out,
        kernel.shape[1],
        in_blocks(kernel, fitting_block(kernel.shape[3]), np.int8 if narrow else np.int32),
        meeting_taps(op, (shape[1], shape[2]), size),
        reach,
    )


def sparse_layer(stage: LayerStage) -> SparseNeurons | None:
    """Tables of a layer; `None` if the kernels cannot run it."""
    synapse = sparse_synapse(stage) if stage.i_decay == UNITY else None
    bias, kept = wrapped_bias(stage), UNITY - stage.v_decay
    limits = np.broadcast_to(64 * stage.threshold, bias.shape)
    if synapse is None or int(np.abs(limits).max()) >= _BITS32:
        return None
    return SparseNeurons(
        synapse,
        synapse.spread(bias.astype(np.int32), 0),
        synapse.spread(limits.astype(np.int32), np.iinfo(np.int32).max),
        kept,
        _never_fires(limits, bias, kept),
    )


def _decay(kept: int) -> tuple[int, int, int]:
    """Form, share and shift of the decay of voltages; see `vectors.integer_step`."""
    if kept & (kept - 1):
        return 2, kept, 0
    return (1, kept, UNITY.bit_length() - kept.bit_length()) if kept else (0, 0, 0)


def _never_fires(limits: NDArray[np.int64], bias: NDArray[np.int64], kept: int) -> bool:
    """Whether voltages that start at zero or were reset stay below the threshold without input.

    What remains of a voltage increases with it, so it is enough that one at the threshold does not exceed it.
    """
    return bool((limits >= 0).all() and (((limits * kept) // UNITY + 64 * bias) <= limits).all())


def or_weight(stage: LayerStage) -> int | None:
    """The weight of a layer that fires wherever a spike of its channel is in the window, as OR pools do; else `None`."""
    forgets = stage.i_decay == stage.v_decay == UNITY
    if stage.kind != "pool" or stage.dilation != (1, 1) or stage.bias.any() or not forgets:
        return None
    channels, depth, *window = stage.weight.shape
    own = stage.weight[np.arange(channels), np.arange(channels) % depth]
    weight = int(own.flat[0])
    alike = bool((own == weight).all()) and np.count_nonzero(stage.weight) == own.size
    # channel c of the output reads channel c of the input: groups of `depth` channels, in order
    matched = channels == stage.in_shape[0] and channels // stage.groups == depth
    fires = bool((stage.threshold >= 0).all() and (stage.threshold < weight).all())
    return weight if alike and matched and fires and weight * prod(window) < _WRAPS else None
