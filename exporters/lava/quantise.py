"""From a graph and calibration data to an integer network, stage by stage, with a report of what each stage lost.

With normalised weights w, bias b and payloads x (see `float_network`), a scale S and the unit G that stands for a
payload of one:

    W = floor(S w + 1/2),   B = floor(S G b + 1/2),   V = 64 S G v
    fire at v >= 1, that is V > 64 threshold:   threshold = floor(S G - 1/64),  S = (threshold + 1/64) / G

S is as large as the budget allows: |W| <= 127 (8 bits), currents without wrapping (|sum W x| < 2**17, by the
peak seen in calibration times a margin), threshold < 2**17 and |B| < 2**15. So gate bits and weight bits
compete.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tcja_deploy.errors import UnsupportedError
from tcja_deploy.exporters.lava.arms import split_pair
from tcja_deploy.exporters.lava.calibration import StageReport, observe, spread, whole_frames
from tcja_deploy.exporters.lava.float_graph import FloatGraph
from tcja_deploy.exporters.lava.float_network import FloatArray, FloatGate, FloatLayer, FloatNetwork
from tcja_deploy.exporters.lava.gates import gate_error, quantise_gate
from tcja_deploy.exporters.lava.lower import lower
from tcja_deploy.exporters.lava.lower_graph import is_chain, lower_graph
from tcja_deploy.exporters.lava.options import LavaOptions
from tcja_deploy.exporters.lava.quantise_graph import quantise_stages
from tcja_deploy.exporters.lava.rounding import compensated, input_rows
from tcja_deploy.ir import Graph, Node
from tcja_deploy.passes import fold_batch_norm
from tcja_deploy.runtime.engines import Choice, choose, watching
from tcja_deploy.runtime.integers.layer_runner import LayerCounts, linear_part
from tcja_deploy.runtime.integers.layers import GateStage, LayerStage
from tcja_deploy.runtime.integers.network import HostInput, IntegerNetwork, Readout
from tcja_deploy.runtime.integers.twin import Twin, encode

__all__ = ["Quantised", "quantise"]

CURRENT_MAX = (1 << 17) - 1
THRESHOLD_MAX = (1 << 17) - 1
BIAS_MAX = (1 << 15) - 1
CHIP_BIAS_MAX = (1 << 12) - 1
MOST_SHRINK = 0.1
CHUNK_BYTES = 1 << 28


@dataclass(frozen=True, slots=True, eq=False)
class Quantised:
    """An integer network and how it came about.

    Attributes:
        network: The result.
        floats: The float stages it came from.
        stages: Reports in the order of the stages.
        samples: Calibration samples used.
        offered: Calibration samples there were.
        steps: By node with weights the size of an integer step in its weights, normalisation folded: `[1]` or, with thresholds
            per channel, `[O]`. Weights that were merged with others have none.
    """

    network: IntegerNetwork
    floats: FloatNetwork | FloatGraph
    stages: tuple[StageReport, ...]
    samples: int
    offered: int
    steps: Mapping[str, FloatArray]


@dataclass(slots=True)
class _Observed:
    """What the float network shows of one layer: peak of |sum| of each frame (per channel if asked), channel means."""

    peaks: list[FloatArray] = field(default_factory=list)
    total: FloatArray | float = 0.0
    count: int = 0

    @property
    def mean(self) -> FloatArray | float:
        """Mean input of each channel's neurons, offset included."""
        return self.total / max(self.count, 1)


def quantise(
    graph: Graph,
    batches: Iterable[NDArray[Any]],
    options: LavaOptions | None = None,
    *,
    name: str = "network",
    progress: Callable[[str], None] = lambda stage: None,
    engine: str = "torch",
    device: str = "cpu",
) -> Quantised:
    """Quantise a network.

    Args:
        graph: The network; batch normalisation is folded on the way.
        batches: Calibration frames [T, n, ...]. As many as give 2 GB of spikes in the largest layer are used, spread
            over all.
        options: See `LavaOptions`.
        name: Name of the integer network.
        progress: Called with the name of each stage before it is quantised.
        engine: What runs the float network, see `runtime.engines`.
        device: Where torch runs it, such as "cuda".

    Raises:
        UnsupportedError: Nodes that Lava cannot express, or a layer that fits no budget.
        DataError: No data, or data that do not fit.
    """
    options = options or LavaOptions()
    folded = fold_batch_norm(graph)
    if not is_chain(folded):
        return _quantise_graph(folded, batches, options, name, progress, engine, device)
    floats = lower(folded, input_scale=options.input_scale)
    everything = whole_frames(batches)
    offered = everything.shape[1]
    widest = max(math.prod(value.in_shape) for value in floats.stages)
    frames = everything[:, spread(offered, floats.frames, widest)]
    choice = choose(folded, engine, device, samples=frames.shape[1])
    observed = _observe(folded, floats, frames, options, choice)
    host = floats.host_input
    payload: NDArray[np.integer] = encode(host, frames)
    if not host.binary:
        host = replace(host, peak=int(np.abs(payload).max()))
    stages: list[LayerStage | GateStage] = []
    reports: list[StageReport] = []
    steps: dict[str, FloatArray] = {}
    unit, binary, wide = host.unit, host.binary, options.wide_input
    for stage in floats.stages:
        progress(stage.name)
        if isinstance(stage, FloatLayer):
            received = _Received(payload, unit, binary, wide)
            layer, scale, report, output = _layer(stage, observed[stage.name], received, options)
            step = _step(stage, scale, folded[stage.synapse].op)
            steps |= {} if step is None else {stage.synapse: step}
            if layer.in_shape[0] > stage.in_shape[0]:
                limbs = (options.weight_max + 1, 1)
                host = replace(host, limbs=limbs, binary=False, peak=host.peak * limbs[0])
            stages.append(layer)
        elif isinstance(stage, FloatGate):
            gate = quantise_gate(stage, floats.frames, options.gate_bits)
            output, counts = _advance(gate, payload, True)
            report = StageReport(
                gate.name, "gate", float(gate.one), 1, 0, 0, 0, gate_error(stage, gate, payload), counts.peak
            )
            stages.append(gate)
        else:
            output, counts = _advance(stage, payload, True)
            report = StageReport(stage.name, stage.kind, 2.0, 1, 1, 2, 0, 0.0, counts.peak)
            stages.append(stage)
        reports.append(report)
        payload, last, wide = output, stages[-1], False
        unit, binary = (last.unit, False) if isinstance(last, GateStage) else (1, True)
    network = IntegerNetwork(name, floats.frames, host, tuple(stages), floats.readout)
    return Quantised(network, floats, tuple(reports), frames.shape[1], offered, steps)


def _quantise_graph(
    graph: Graph,
    batches: Iterable[NDArray[Any]],
    options: LavaOptions,
    name: str,
    progress: Callable[[str], None],
    engine: str,
    device: str,
) -> Quantised:
    """As `quantise`, for a graph that is not a chain."""
    if options.per_channel:
        raise UnsupportedError(
            "a threshold per channel needs a chain of layers: where values of several stages meet, they meet in one unit",
            where=graph.output,
            hint="leave out per_channel (--per-channel)",
        )
    floats = lower_graph(graph, input_scale=options.input_scale)
    everything = whole_frames(batches)
    widest = max(math.prod(node.signal.features or (1,)) for node in graph if node.signal.streams)
    frames = everything[:, spread(everything.shape[1], graph.T, 4 * widest)]
    choice = choose(graph, engine, device, samples=frames.shape[1])
    observed = observe(graph, floats.observed, frames, choice)
    payload: NDArray[np.integer] = encode(floats.host_input, frames)
    if not floats.host_input.binary:
        floats.host_input = replace(floats.host_input, peak=int(np.abs(payload).max()))
    network, reports, steps = quantise_stages(graph, floats, observed, payload, options, progress, name)
    return Quantised(network, floats, reports, frames.shape[1], everything.shape[1], steps)


def _observe(
    graph: Graph, floats: FloatNetwork, frames: NDArray[Any], options: LavaOptions, choice: Choice
) -> dict[str, _Observed]:
    """Run the float network over the calibration data, a few samples at a time."""
    by_synapse = {stage.synapse: stage for stage in floats.stages if isinstance(stage, FloatLayer)}
    observed = {stage.name: _Observed() for stage in by_synapse.values()}

    def observe(node: Node, value: torch.Tensor) -> None:
        stage = by_synapse.get(node.name)
        if stage is None:
            return
        entry = observed[stage.name]
        flat = value.reshape(value.shape[0] * value.shape[1], value.shape[2], -1)  # (T*N, O, pixels)
        offset = torch.as_tensor(stage.offset, dtype=value.dtype, device=value.device).reshape(1, -1, 1)
        peaks = (flat - offset).abs().amax(2) * stage.neuron.gain
        peaks = peaks if options.per_channel else peaks.amax(1, keepdim=True)
        entry.peaks.append(peaks.double().cpu().numpy())
        entry.total = entry.total + flat.double().sum((0, 2)).cpu().numpy() * stage.neuron.gain
        entry.count += flat.shape[0] * flat.shape[2]

    watch = watching(graph, choice, by_synapse)
    step = max(1, (1 << 22) // max(1, int(np.prod(frames.shape[2:])) * frames.shape[0] * 16))
    for start in range(0, frames.shape[1], step):
        watch(frames[:, start : start + step].astype(np.float32), observe)
    return observed


@dataclass(frozen=True, slots=True, eq=False)
class _Received:
    """What a layer receives on the calibration data, and whether it may be repeated in limbs."""

    payload: NDArray[np.integer]
    unit: int
    binary: bool
    wide: bool


def _layer(
    stage: FloatLayer, observed: _Observed, received: _Received, options: LavaOptions
) -> tuple[LayerStage, FloatArray, StageReport, NDArray[np.integer]]:
    """Quantise one layer; lower its scale, which is the second result, while currents wrap on the data."""
    peaks = np.percentile(np.concatenate(observed.peaks), options.percentile, axis=0)
    payload, unit = received.payload, received.unit
    shrink = 1.0
    while True:
        scale, threshold = _scale(stage, peaks * options.margin / shrink, unit, options, wide=received.wide)
        whole = _rounded(stage, scale, threshold, unit)
        if options.compensate and np.abs(whole.weight).max() <= options.weight_max:
            most = options.weight_max
            whole = replace(whole, weight=_compensated(stage, whole, scale, payload, most))
        if options.correct_bias:
            wanted = scale * unit * np.asarray(observed.mean)
            bias = np.floor(wanted - _mean_current(whole, payload) + 0.5).astype(np.int64)
            whole = replace(whole, bias=bias.clip(-BIAS_MAX, BIAS_MAX))
        if np.abs(whole.weight).max() > options.weight_max:
            layer = _split(whole, options.weight_max + 1)
            limbs = np.concatenate([payload.astype(np.int64) * (options.weight_max + 1), payload], 2)
            output, counts = _advance(layer, limbs, False)
        else:
            layer = whole
            output, counts = _advance(layer, payload, received.binary)
        if not counts.wraps or shrink < MOST_SHRINK:
            break
        shrink *= 0.85
    column = scale.reshape(-1, *(1,) * (stage.weight.ndim - 1))
    report = StageReport(
        layer.name,
        layer.kind,
        float(scale.mean()),
        unit,
        int(layer.threshold.max()),
        int(np.abs(whole.weight).max()),
        int(np.abs(layer.bias).max()),
        float(np.abs(whole.weight / column - stage.weight).max()),
        counts.peak,
        counts.wraps,
        counts.saturations,
    )
    return layer, scale, report, output


def _step(stage: FloatLayer, scale: FloatArray, op: Any) -> FloatArray | None:
    """The size of an integer step in a layer's own weights; None where these were merged with others."""
    own, merged = (np.abs(w.reshape(w.shape[0], -1)).max(1) for w in (op.weight, stage.weight))
    ratio = (
        merged[own > 0] / own[own > 0]
    )  # the neuron's gain; an average that was merged in divides all alike
    if not len(ratio) or not np.allclose(ratio, ratio[0], rtol=1e-4) or not ratio[0]:
        return None
    return np.asarray(1 / (scale * ratio[0]), np.float64)


def _split(layer: LayerStage, limb: int) -> LayerStage:
    """The same sums from two copies of the input, the first one times `limb`, for instance W = 128 high + low of 8 bits."""
    weight = layer.weight
    if layer.groups > 1:  # the copies lie side by side, so that groups would tear them apart
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


def _scale(
    stage: FloatLayer, peaks: FloatArray, unit: int, options: LavaOptions, *, wide: bool
) -> tuple[FloatArray, NDArray[np.int64]]:
    """Scale S, as (1,) or (O,), and the threshold it belongs to, () or (O,)."""
    flat = np.abs(stage.weight.reshape(stage.weight.shape[0], -1)).max(1)
    bias = np.abs(stage.bias)
    if not options.per_channel:
        flat, bias = flat.max(keepdims=True), bias.max(keepdims=True)
    most, limb = options.weight_max, options.weight_max + 1
    most = limb * most + limb // 2 - 1 if wide else most
    with np.errstate(divide="ignore"):
        limits = [
            most / flat,
            CURRENT_MAX / (peaks * unit),
            np.full_like(flat, THRESHOLD_MAX / unit),
            (CHIP_BIAS_MAX if wide else BIAS_MAX) / (bias * unit),
        ]
    scale = np.minimum.reduce(np.broadcast_arrays(*limits))
    if options.threshold_rule == "ties":
        threshold = np.floor(scale * unit) - 1
        scale = (threshold + 1) / unit
    elif stage.neuron.strict:
        threshold = np.floor(scale * unit)
        scale = threshold / unit
    else:
        threshold = np.floor(scale * unit - 1 / 64)
        scale = (threshold + 1 / 64) / unit
    if threshold.min() < 1:
        raise UnsupportedError(
            f"no scale fits: one threshold is {scale.min() * unit:.3g} steps of the largest weight, and the neuron needs two",
            where=stage.name,
            hint="fewer gate bits, a smaller margin, or per-channel thresholds",
        )
    levels = threshold.astype(np.int64)
    return scale, levels if options.per_channel else levels[0]


def _rounded(stage: FloatLayer, scale: FloatArray, threshold: NDArray[np.int64], unit: int) -> LayerStage:
    column = scale.reshape(-1, *(1,) * (stage.weight.ndim - 1))
    weight = np.floor(stage.weight * column + 0.5).astype(np.int64)
    bias = np.floor(stage.bias * scale * unit + 0.5).astype(np.int64)
    return LayerStage(
        stage.name,
        stage.kind,
        stage.in_shape,
        weight,
        bias,
        np.asarray(threshold),
        stage.neuron.v_decay,
        stride=stage.stride,
        padding=stage.padding,
        dilation=stage.dilation,
        groups=stage.groups,
    )


def _compensated(
    stage: FloatLayer, layer: LayerStage, scale: FloatArray, payload: NDArray[np.integer], most: int
) -> NDArray[np.int64]:
    column = scale.reshape(-1, *(1,) * (stage.weight.ndim - 1))
    return compensated(stage.weight * column, input_rows(layer, payload), most)


def _advance(
    stage: LayerStage | GateStage, payload: NDArray[np.integer], binary: bool
) -> tuple[NDArray[np.integer], LayerCounts]:
    """Payloads after one stage, over all calibration samples."""
    host = HostInput(payload.shape[2:], binary, 1)
    twin = Twin(IntegerNetwork("stage", payload.shape[0], host, (stage,), Readout()))
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
    """Mean of the synaptic sums of each channel over frames, samples and pixels: that of the mean frame."""
    mean = torch.as_tensor(payload.mean((0, 1), dtype=np.float64))[None]
    sums = linear_part(layer, mean, torch.as_tensor(layer.weight, dtype=torch.float64))
    return np.asarray(sums.reshape(sums.shape[1], -1).mean(1).numpy(), np.float64)
