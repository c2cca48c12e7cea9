"""From float stages of a graph with branches to an integer network, stage by stage.

Values x of the float network become integers of a unit of their own: payload = unit * x. In a population or relay whose sum
has the unit A (of a population: of the threshold, as in `quantise`), a synapse that reads payloads of unit G has the weights

    W = floor(A / G w + 1/2),    |W| <= 127

A is the unit of a stream that is added as it is (so that the unit stays the same over a residual stage); without one it is
as large as the narrowest synapse allows. A synapse that could use more bits gets a unit 2**k times as large and a relay
that shifts by k; one that has too few is multiplied up. Streams are cut off at calibrated bits: the peak times the margin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import UnsupportedError
from tcja_deploy.exporters.lava.arms import Arm, rescaling, reshaping, round_arm, synapses
from tcja_deploy.exporters.lava.calibration import SAMPLES, Observed, StageReport
from tcja_deploy.exporters.lava.float_graph import FloatGraph, FloatMeeting, FloatProgram, FloatTerm, sources
from tcja_deploy.exporters.lava.options import LavaOptions
from tcja_deploy.exporters.lava.programs import CompiledProgram, compile_region, program_error
from tcja_deploy.ir import Graph
from tcja_deploy.runtime.integers.edges import AnyStage, sends
from tcja_deploy.runtime.integers.layer_runner import LayerCounts
from tcja_deploy.runtime.integers.layers import LayerStage
from tcja_deploy.runtime.integers.network import IntegerNetwork
from tcja_deploy.runtime.integers.stage_runners import run_stage
from tcja_deploy.runtime.integers.stages import (
    HOST,
    MESSAGE_BITS,
    Edge,
    NeuronStage,
    ProgramStage,
    RelayStage,
    SynapseStage,
)

__all__ = ["quantise_stages"]

CURRENT_MAX = (1 << 17) - 1
THRESHOLD_MAX = (1 << 17) - 1
BIAS_MAX = (1 << 15) - 1
STREAM_BITS = 17
"""Of a stream at its peak: a neuron that reads it neither wraps nor saturates."""
SUM_MAX = (1 << 23) - 1
"""Of a convolution: beyond, it wraps."""
SHRINK, MOST_SHRINK = 0.85, 0.1

Payload = NDArray[np.integer]


def quantise_stages(
    graph: Graph,
    floats: FloatGraph,
    observed: dict[str, Observed],
    payload: Payload,
    options: LavaOptions,
    progress: Any,
    name: str,
) -> tuple[IntegerNetwork, tuple[StageReport, ...], dict[str, NDArray[np.float64]]]:
    """Quantise all stages; the result as in `Quantised`: network, reports and steps of the weights.

    Args:
        graph: The graph, batch normalisation folded.
        floats: Its float stages.
        observed: What the float network shows on the calibration data, by node.
        payload: The calibration data as the host sends them, `[T, N, ...]`.
        options: How.
        progress: Called with the name of each stage.
        name: Of the network.

    Raises:
        UnsupportedError: A stage that fits no budget.
    """
    host = floats.host_input
    work = _Work(graph, options, observed)
    work.values[HOST] = payload
    work.edges[HOST] = Edge("spike" if host.binary else "signed", host.out_shape, host.unit, host.peak)
    work.carried = floats.carried()
    waiting = floats.readers()
    for stage in floats.stages:
        progress(stage.name)
        if isinstance(stage, FloatMeeting):
            work.meeting(stage)
        elif isinstance(stage, FloatProgram):
            work.program(stage)
        else:
            counts = work.add(stage)
            kind = "pool" if isinstance(stage, LayerStage) else "logic"
            work.reports.append(StageReport(stage.name, kind, 2.0, 1, 1, 2, 0, 0.0, counts.peak))
        for source in sources(stage):
            waiting[source] -= 1
            if not waiting[source]:
                del work.values[source]
    network = IntegerNetwork(name, floats.frames, host, tuple(work.stages), floats.readout)
    return network, tuple(work.reports), work.steps


@dataclass(slots=True)
class _Work:
    """Integer stages as far as they are made, and their values on the calibration data."""

    graph: Graph
    options: LavaOptions
    observed: dict[str, Observed]
    stages: list[AnyStage] = field(default_factory=list)
    edges: dict[str, Edge] = field(default_factory=dict)
    values: dict[str, Payload] = field(default_factory=dict)
    reports: list[StageReport] = field(default_factory=list)
    steps: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    carried: dict[str, list[FloatMeeting]] = field(default_factory=dict)
    raw: set[str] = field(default_factory=lambda: {HOST})

    def run(self, stage: AnyStage) -> tuple[Payload, LayerCounts]:
        """Values of a stage on the calibration data."""
        counts = LayerCounts()
        received = tuple(self.edges[name] for name in stage.inputs)
        return run_stage(stage, received, [self.values[name] for name in stage.inputs], counts), counts

    def add(self, stage: AnyStage) -> LayerCounts:
        """Take in a stage."""
        self.edges[stage.name] = sends(stage, tuple(self.edges[name] for name in stage.inputs))
        self.values[stage.name], counts = self.run(stage)
        self.stages.append(stage)
        return counts

    def program(self, stage: FloatProgram) -> None:
        """A window program."""
        source, edge = stage.source, self.edges[stage.source]
        if stage.shape != edge.shape:
            shaped = reshaping(f"{stage.name}.shaped", source, edge, stage.shape)
            self.add(shaped)
            source, edge = shaped.name, self.edges[shaped.name]
        compiled = self._compiled(stage, edge, self.values[source])
        made = ProgramStage(stage.name, (source,), compiled.program, compiled.unit)
        first = self.values[source][:, :SAMPLES]
        error = program_error(self.graph, stage.region, compiled, edge.unit, first)
        counts = self.add(made)
        self.reports.append(
            StageReport(stage.name, "program", float(made.unit), edge.unit, 0, 0, 0, error, counts.peak)
        )

    def _compiled(self, stage: FloatProgram, edge: Edge, values: Payload) -> CompiledProgram:
        """The program in the finest unit whose payloads need no more bits than asked for, or than the stream has.

        Products of several gates are far below one: their payloads would leave bits unused.
        """
        unit = full = float(1 << self.options.gate_bits)
        if edge.unit != 1:
            unit, full = edge.unit, float(np.abs(values).max(initial=1))
        low = -edge.peak if edge.kind == "signed" else 0
        while True:
            compiled = compile_region(
                self.graph, stage.region, unit=edge.unit, low=low, high=edge.peak, out_unit=unit
            )
            made, counts = (
                ProgramStage(stage.name, (stage.source,), compiled.program, compiled.unit),
                LayerCounts(),
            )
            run_stage(made, (edge,), [values], counts)
            spare = int(full / max(counts.peak, 1))
            if spare < 2 or made.peak * spare >= 1 << (MESSAGE_BITS - 1):
                return compiled
            unit *= 1 << (spare.bit_length() - 1)

    # -- where values meet ---------------------------------------------------------------------------
    def meeting(self, stage: FloatMeeting) -> None:
        """A population or a relay, with the synapses and relays in front of it."""
        arms = [self._arm(stage, index, term) for index, term in enumerate(stage.terms)]
        gain = stage.gain
        bias = stage.bias * gain
        seen = self.observed[stage.observed]
        peak = max(seen.peak(self.options.percentile) * gain, 1e-9)
        shrink = 1.0
        while True:
            mark = len(self.stages)
            unit = self._target(stage, arms, bias, peak * self.options.margin / shrink)
            made, rounding, weights = self._meet(stage, arms, unit, bias, peak)
            sent, counts = self.run(made)
            if not counts.wraps or shrink < MOST_SHRINK:
                break
            shrink *= SHRINK
            for other in self.stages[mark:]:
                del self.values[other.name], self.edges[other.name]
            del self.stages[mark:]
        whole = self._fused(made, mark)
        if stage.neuron is None and _averages(stage) and arms[0].term.source in self.raw:
            self.raw.add(made.name)
        self.edges[made.name] = sends(whole, tuple(self.edges[name] for name in whole.inputs))
        self.values[made.name] = sent
        self.stages.append(whole)
        for other in self.stages[mark:-1]:
            del self.values[other.name]
        threshold = 0 if isinstance(made, RelayStage) else int(made.threshold.max())
        kind = "relay" if isinstance(made, RelayStage) else "neuron"
        if isinstance(whole, LayerStage):
            kind = whole.kind
        self.reports.append(
            StageReport(
                made.name, kind, unit, arms[0].unit, threshold, weights, int(np.abs(made.bias).max()), rounding,
                counts.peak, counts.wraps, counts.saturations, stream_error=self._stream_error(stage, sent, unit),
            )
        )  # fmt: skip

    def _arm(self, stage: FloatMeeting, index: int, term: FloatTerm) -> Arm:
        edge = self.edges[term.source]
        if term.shape != edge.shape and (term.synapse is None or term.synapse.kind != "dense"):
            shaped = reshaping(f"{stage.name}.shaped{index}", term.source, edge, term.shape)
            self.add(shaped)
            self.raw |= {shaped.name} if term.source in self.raw else set()
            term, edge = replace(term, source=shaped.name), self.edges[shaped.name]
        factor = term.factor * stage.gain
        if term.synapse is None:
            return Arm(term, edge.unit, None, np.zeros(0), edge.unit / abs(factor))
        weight = term.synapse.weight * factor
        largest = float(np.abs(weight).max())
        if not largest:
            raise UnsupportedError("all weights are zero", where=term.synapse.node)
        average = _averages(stage)  # its sums are exact as they are
        bits = 1 if average else self.options.weight_max
        if self._wide(term, edge) and not average:
            limb = self.options.weight_max + 1
            bits = limb * self.options.weight_max + limb // 2 - 1
        most = bits * edge.unit / largest
        seen = self.observed[term.synapse.node].peak(100) * abs(stage.gain)
        bias = getattr(self.graph[term.synapse.node].op, "bias", None)
        seen += 0.0 if bias is None else float(np.abs(bias).max()) * abs(stage.gain)
        return Arm(
            term,
            edge.unit,
            term.synapse,
            weight,
            min(most, SUM_MAX / (self.options.margin * max(seen, 1e-9))),
        )

    def _wide(self, term: FloatTerm, edge: Edge) -> bool:
        """Whether a synapse may be a pair: it reads the input, averaged at most, whose errors all later layers amplify."""
        fits = edge.peak * (self.options.weight_max + 1) < 1 << (MESSAGE_BITS - 1)
        kind = None if term.synapse is None else term.synapse.kind
        return self.options.wide_input and kind in ("conv", "dense") and term.source in self.raw and fits

    def _target(self, stage: FloatMeeting, arms: list[Arm], bias: NDArray[np.float64], peak: float) -> float:
        """The unit of the sum."""
        streams = [arm.most for arm in arms if arm.synapse is None and arm.unit != 1]
        weighted = [arm.most for arm in arms if arm.synapse is not None]
        reach = float(np.abs(bias).max()) + peak
        if stage.neuron is None:
            most = ((1 << (STREAM_BITS - 1)) - 1) / max(reach, self._growth(stage.name))
            wanted = max(streams) if streams else min(weighted) if weighted else max(arm.most for arm in arms)
            if streams and wanted > most:  # a stream that has grown is shifted, not rounded to another unit
                return float(wanted * 2.0 ** -math.ceil(math.log2(wanted / most)))
            return min(wanted, most)
        limits = [CURRENT_MAX / reach, float(THRESHOLD_MAX), BIAS_MAX / max(float(np.abs(bias).max()), 1e-9)]
        if len(arms) == 1 and arms[0].synapse is None and arms[0].most <= min(limits):
            return arms[0].most if arms[0].unit != 1 or arms[0].most > 64 else min(*limits, 1 << 12)
        wanted = min(weighted) if weighted else max(streams, default=float(1 << 12))
        unit = min(wanted, *limits)
        threshold = self._threshold(stage, unit)
        if threshold < 1:
            raise UnsupportedError(
                f"no scale fits: the threshold is {unit:.3g} steps of the largest weight, and the neuron needs two",
                where=stage.name,
                hint="more weight bits, fewer gate bits or a smaller margin",
            )
        strict = stage.neuron.strict
        return (
            float(threshold)
            if strict
            else threshold + (1 if self.options.threshold_rule == "ties" else 1 / 64)
        )

    def _growth(self, name: str) -> float:
        """The largest sum that a residual stream reaches further on, while nothing but sums are made of it."""
        reached = 0.0
        for stage in self.carried.get(name, []):
            peak = self.observed[stage.observed].peak(self.options.percentile) * self.options.margin
            reached = max(reached, peak + float(np.abs(stage.bias).max()), self._growth(stage.name))
        return reached

    def _threshold(self, stage: FloatMeeting, unit: float) -> int:
        if self.options.threshold_rule == "ties":
            return math.floor(unit) - 1
        return math.floor(unit if stage.neuron is not None and stage.neuron.strict else unit - 1 / 64)

    def _meet(
        self, stage: FloatMeeting, arms: list[Arm], unit: float, bias: NDArray[np.float64], peak: float
    ) -> tuple[NeuronStage | RelayStage, float, int]:
        """The stage, the largest rounding error of a weight in units of the sum, and the largest weight."""
        names: list[str] = []
        rounding, largest = 0.0, 0
        sharper = len(arms) > 1 or stage.neuron is None
        for arm in arms:
            source, ratio = arm.term.source, unit / arm.most * math.copysign(1, arm.term.factor)
            ends: tuple[str, ...] = (source,)
            if arm.synapse is not None:
                k = max(math.floor(math.log2(arm.most / unit) + 1e-9), 0)
                own = min(unit * 2.0**k, arm.most) if k > (len(arms) > 1) and sharper else min(unit, arm.most)
                rounded = round_arm(arm, own, self.values[source], self.options)
                rounding = max(rounding, float(np.abs(rounded / (own / arm.unit) - arm.weight).max()))
                largest = max(largest, int(np.abs(rounded).max()))
                self.steps[arm.synapse.node] = np.array(
                    [arm.unit / (own * abs(arm.term.factor * stage.gain))]
                )
                made, ends = synapses(arm, rounded, own, self.edges[source], self.options.weight_max)
                for other in made:
                    self.add(other)
                ratio = unit / own
            for end in ends:
                if not math.isclose(ratio, 1.0, rel_tol=1e-9) or end in names:
                    relay = f"{stage.name}.arm{len(names)}"
                    self.add(rescaling(relay, end, self.edges[end].shape, ratio, unit))
                    names.append(relay)
                else:
                    names.append(end)
        whole = np.floor(bias * unit + 0.5).astype(np.int64)
        if self.options.correct_bias:
            mean = sum(_channel_mean(self.values[name]) for name in names)
            wanted = unit * self.observed[stage.observed].mean * stage.gain
            whole = np.floor(wanted - mean + 0.5).astype(np.int64)
        if stage.neuron is None:
            return self._relay(stage, names, unit, whole, peak), rounding, largest
        threshold, rule = self._threshold(stage, unit), stage.neuron
        drop = round(64 * unit * rule.drop)
        neuron = NeuronStage(
            stage.name, tuple(names), stage.shape, whole.clip(-BIAS_MAX, BIAS_MAX), np.asarray(threshold),
            rule.v_decay, reset="subtract" if drop else "zero", drop=drop,
        )  # fmt: skip
        return neuron, rounding, largest

    def _relay(
        self, stage: FloatMeeting, names: list[str], unit: float, bias: NDArray[np.int64], peak: float
    ) -> RelayStage:
        decay = None if stage.decay is None else int(np.floor(4096 * stage.decay + 0.5))
        if decay is not None:
            peak = self.observed[stage.name].peak(self.options.percentile)
        bits = math.ceil(math.log2(peak * self.options.margin * unit + 1)) + 1
        return RelayStage(
            stage.name, tuple(names), stage.shape, bias, unit, min(max(bits, 2), 24), decay=decay
        )

    def _fused(self, made: NeuronStage | RelayStage, mark: int) -> NeuronStage | RelayStage | LayerStage:
        """A synapse with nothing but its own neurons as one layer."""
        new = self.stages[mark:]
        if not isinstance(made, NeuronStage) or not made.stock or made.i_decay != 4096 or len(new) != 1:
            return made
        synapse = new[0]
        if (
            not isinstance(synapse, SynapseStage)
            or synapse.kind == "transposed"
            or made.inputs != (synapse.name,)
        ):
            return made
        del self.stages[mark:], self.values[synapse.name], self.edges[synapse.name]
        return LayerStage(
            made.name, synapse.kind, synapse.in_shape, synapse.weight, made.bias, made.threshold, made.v_decay,
            made.i_decay, synapse.stride, synapse.padding, synapse.dilation, synapse.groups, synapse.inputs,
        )  # fmt: skip

    def _stream_error(self, stage: FloatMeeting, sent: Payload, unit: float) -> float | None:
        """Root mean square error of a stream, in thresholds of the first neuron that reads it."""
        exact = self.observed[stage.name].sample if stage.neuron is None else None
        if exact is None:
            return None
        found = sent[:, : exact.shape[1]] / unit
        readers = [n.op for n in self.graph.readers(stage.name) if hasattr(n.op, "v_threshold")]
        threshold = float(getattr(readers[0], "v_threshold", 1.0) or 1.0) if readers else 1.0
        return float(np.sqrt(np.mean((found - exact) ** 2)) / abs(threshold))


def _averages(stage: FloatMeeting) -> bool:
    """Whether it is one sum of values that all have the same weight, with nothing added."""
    synapse = stage.terms[0].synapse
    if len(stage.terms) > 1 or stage.neuron is not None or stage.bias.any() or synapse is None:
        return False
    levels = np.unique(np.abs(synapse.weight))
    return len(levels[levels > 0]) == 1


def _channel_mean(values: Payload) -> NDArray[np.float64]:
    """Mean of each channel over frames, samples and pixels."""
    axes = (0, 1, *range(3, values.ndim))
    return np.asarray(values.mean(axes, dtype=np.float64))
