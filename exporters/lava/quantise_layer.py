"""Quantisation of one layer, that is, a synapse with its own neurons.

With normalised weights w, bias b, payloads x, and scale, unit and threshold as in `scales`:

    W = floor(S w + 1/2),   B = floor(S G b + 1/2)

So gate bits and weight bits compete. Weights of the input may have 15 bits, split between two synapses of 8 bits (limbs).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tcja_deploy.exporters.lava.arms import split_pair
from tcja_deploy.exporters.lava.calibration import Observed, StageReport
from tcja_deploy.exporters.lava.float_graph import FloatArray, FloatMeeting, FloatSynapse
from tcja_deploy.exporters.lava.float_neuron import FloatNeuron
from tcja_deploy.exporters.lava.options import LavaOptions
from tcja_deploy.exporters.lava.rounding import compensated, input_rows
from tcja_deploy.exporters.lava.scales import BIAS_MAX, MOST_SHRINK, SHRINK, Budget, population_scale
from tcja_deploy.runtime.integers.layer_runner import LayerCounts, linear_part
from tcja_deploy.runtime.integers.layers import GateStage, LayerStage
from tcja_deploy.runtime.integers.network import HostInput, IntegerNetwork, Readout
from tcja_deploy.runtime.integers.twin import Twin

__all__ = ["LayerInput", "QuantisedLayer", "advance", "quantise_layer", "step_of"]

CHUNK_BYTES = 1 << 28


@dataclass(frozen=True, slots=True, eq=False)
class LayerInput:
    """What a layer receives on the calibration data.

    Attributes:
        payload: Payloads `[T, N, ...]`.
        unit: The integer that stands for one in them.
        binary: Whether they are spikes.
        wide: Whether they may be sent twice, multiplied by limbs.
    """

    payload: NDArray[np.integer]
    unit: float
    binary: bool
    wide: bool


@dataclass(frozen=True, slots=True, eq=False)
class QuantisedLayer:
    """A quantised layer.

    Attributes:
        stage: The layer.
        report: What quantisation did to it.
        sent: Its spikes on the calibration data, `[T, N, ...]`.
        step: Size of an integer step in the layer's own weights; None if these were merged with others.
        limbs: Factors of the copies of its input; (1,) if it is not split.
    """

    stage: LayerStage
    report: StageReport
    sent: NDArray[np.integer]
    step: FloatArray | None
    limbs: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Layer:
    """A layer in normalised units."""

    name: str
    synapse: FloatSynapse
    neuron: FloatNeuron
    weight: FloatArray
    bias: FloatArray


def quantise_layer(
    stage: FloatMeeting, op: Any, observed: Observed, received: LayerInput, options: LavaOptions
) -> QuantisedLayer:
    """Quantise one layer, lowering its scale while currents wrap on the data.

    Args:
        stage: A population that one synapse reaches.
        op: The op to which the weights belong.
        observed: Values of the sums in the float network, including the bias.
        received: What the layer receives.
        options: How to quantise.

    Raises:
        UnsupportedError: If no scale fits the budget.
    """
    (term,) = stage.terms
    if term.synapse is None or stage.neuron is None:
        raise TypeError(f"{stage.name} is not a layer")
    exact = _Layer(
        stage.name,
        term.synapse,
        stage.neuron,
        term.synapse.weight * (term.factor * stage.gain),
        stage.bias * stage.gain,
    )
    peaks = observed.peaks(stage.bias, stage.gain)
    peaks = np.percentile(
        peaks if options.per_channel else peaks.max(1, keepdims=True), options.percentile, axis=0
    )
    mean = observed.mean * stage.gain
    payload, unit = received.payload, received.unit
    limbs: tuple[int, ...] = (1,)
    shrink = 1.0
    while True:
        budget = _budget(exact, peaks * options.margin / shrink, options, wide=received.wide)
        scale, thresholds = population_scale(budget, unit, exact.neuron, options, exact.name)
        threshold = thresholds if options.per_channel else thresholds[0]
        column = scale.reshape(-1, *(1,) * (exact.weight.ndim - 1))
        whole = _rounded(exact, scale, threshold, unit)
        if options.compensate and np.abs(whole.weight).max() <= options.weight_max:
            rows = input_rows(whole, payload)
            whole = replace(whole, weight=compensated(exact.weight * column, rows, options.weight_max))
        if options.correct_bias:
            wanted = scale * unit * np.asarray(mean)
            bias = np.floor(wanted - _mean_current(whole, payload) + 0.5).astype(np.int64)
            whole = replace(whole, bias=bias.clip(-BIAS_MAX, BIAS_MAX))
        if np.abs(whole.weight).max() > options.weight_max:
            limbs = (options.weight_max + 1, 1)
            layer = _split(whole, limbs[0])
            output, counts = advance(
                layer, np.concatenate([payload.astype(np.int64) * n for n in limbs], 2), False
            )
        else:
            limbs, layer = (1,), whole
            output, counts = advance(layer, payload, received.binary)
        if not counts.wraps or shrink < MOST_SHRINK:
            break
        shrink *= SHRINK
    report = StageReport(
        layer.name,
        layer.kind,
        float(scale.mean()),
        unit,
        int(layer.threshold.max()),
        int(np.abs(whole.weight).max()),
        int(np.abs(layer.bias).max()),
        float(np.abs(whole.weight / column - exact.weight).max()),
        counts.peak,
        counts.wraps,
        counts.saturations,
    )
    return QuantisedLayer(layer, report, output, step_of(op, exact.weight, scale), limbs)


def step_of(op: Any, weight: FloatArray, scale: FloatArray) -> FloatArray | None:
    """Size of an integer step in an op's own weights; None if these were merged with others.

    Args:
        op: The op.
        weight: What is rounded, with the neuron's gain and averages before the op in it.
        scale: Its factor before rounding, `[1]` or `[O]`.
    """
    if getattr(op, "weight", None) is None or len(op.weight) != len(weight):
        return None
    own, merged = (np.abs(w.reshape(w.shape[0], -1)).max(1) for w in (op.weight, weight))
    ratio = (
        merged[own > 0] / own[own > 0]
    )  # the neuron's gain; an average that was merged in divides all alike
    if not len(ratio) or not np.allclose(ratio, ratio[0], rtol=1e-4) or not ratio[0]:
        return None
    return np.asarray(1 / (scale * ratio[0]), np.float64)


def _split(layer: LayerStage, limb: int) -> LayerStage:
    """The same sums from two copies of the input, the first times `limb`: for instance W = 128 high + low, 8 bits each."""
    weight = layer.weight
    if layer.groups > 1:  # the copies are adjacent: groups would separate them
        dense = np.zeros((weight.shape[0], layer.in_shape[0], *weight.shape[2:]), np.int64)
        outputs, depth = weight.shape[0] // layer.groups, weight.shape[1]
        for channel in range(weight.shape[0]):
            first = channel // outputs * depth
            dense[channel, first : first + depth] = weight[channel]
        weight = dense
    high, low = split_pair(weight, limb)
    return replace(
        layer,
        in_shape=(2 * layer.in_shape[0], *layer.in_shape[1:]),
        weight=np.concatenate([high, low], 1),
        groups=1,
    )


def _budget(stage: _Layer, peaks: FloatArray, options: LavaOptions, *, wide: bool) -> Budget:
    """What bounds the scale, `[1]` or `[O]`; the peaks include their margin."""
    flat = np.abs(stage.weight.reshape(stage.weight.shape[0], -1)).max(1)
    bias = np.abs(stage.bias)
    if not options.per_channel:
        flat, bias = flat.max(keepdims=True), bias.max(keepdims=True)
    with np.errstate(divide="ignore"):
        plain = options.weight_max / flat
        return (
            Budget(options.pair_max / flat, plain, peaks, bias) if wide else Budget(plain, None, peaks, bias)
        )


def _rounded(stage: _Layer, scale: FloatArray, threshold: NDArray[np.int64], unit: float) -> LayerStage:
    column = scale.reshape(-1, *(1,) * (stage.weight.ndim - 1))
    weight = np.floor(stage.weight * column + 0.5).astype(np.int64)
    bias = np.floor(stage.bias * scale * unit + 0.5).astype(np.int64)
    synapse = stage.synapse
    return LayerStage(
        stage.name, "dense" if synapse.kind == "dense" else "conv", synapse.in_shape, weight, bias, np.asarray(threshold),
        stage.neuron.v_decay, stride=synapse.stride, padding=synapse.padding, dilation=synapse.dilation, groups=synapse.groups,
    )  # fmt: skip


def advance(
    stage: LayerStage | GateStage, payload: NDArray[np.integer], binary: bool
) -> tuple[NDArray[np.integer], LayerCounts]:
    """Payloads `[T, N, ...]` of one stage on all calibration samples, computed a few at a time; spikes take a byte each."""
    host = HostInput(payload.shape[2:], binary, 1 if binary else int(np.abs(payload).max(initial=1)))
    twin = Twin(IntegerNetwork("stage", payload.shape[0], host, (replace(stage, inputs=()),), Readout()))
    kind = np.int32 if isinstance(stage, GateStage) else np.uint8
    output = np.empty((*payload.shape[:2], *stage.out_shape), kind)
    counts = LayerCounts()
    step = max(1, CHUNK_BYTES // (8 * math.prod(output.shape) // output.shape[1]))
    for start in range(0, payload.shape[1], step):
        result = twin.run(payload[:, start : start + step], encoded=True)
        output[:, start : start + step] = result.payload
        counts.add(result.counts[stage.name])
    return output, counts


def _mean_current(layer: LayerStage, payload: NDArray[np.integer]) -> FloatArray:
    """Mean of the synaptic sums of each channel over frames, samples and pixels, computed from the mean frame."""
    mean = torch.as_tensor(payload.mean((0, 1), dtype=np.float64))[None]
    sums = linear_part(layer, mean, torch.as_tensor(layer.weight, dtype=torch.float64))
    return np.asarray(sums.reshape(sums.shape[1], -1).mean(1).numpy(), np.float64)
