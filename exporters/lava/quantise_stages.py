"""Quantisation of float stages to an integer network, stage by stage.

A population that one synapse reaches is a layer (`quantise_layer`). Elsewhere values of several stages are added. Each
value x of the float network becomes an integer in its own unit: payload = unit * x. In a population or relay whose sum
has the unit A (in a population, that of the threshold), a synapse that reads payloads of unit G has the weights

    W = floor(A / G w + 1/2),    |W| <= 127

A is the unit of a stream that is added as it is (so that the unit stays the same over a residual stage); without one it is
as large as the narrowest synapse allows. A synapse that could use more bits gets a unit 2**k times as large and a relay
that shifts by k; the sums of one that has too few are multiplied. Streams are clipped to calibrated bits: the peak times
the margin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import UnsupportedError
from tcja_deploy.exporters.lava.arms import Arm, rescaling, round_arm, synapses
from tcja_deploy.exporters.lava.calibration import Observed, StageReport
from tcja_deploy.exporters.lava.float_graph import (
    FloatGate,
    FloatGraph,
    FloatMeeting,
    FloatProgram,
    FloatSynapse,
    FloatTerm,
    sources,
)
from tcja_deploy.exporters.lava.options import LavaOptions
from tcja_deploy.exporters.lava.quantise_layer import LayerInput, quantise_layer, step_of
from tcja_deploy.exporters.lava.scales import (
    BIAS_MAX,
    CURRENT_MAX,
    MOST_SHRINK,
    SHRINK,
    Budget,
    largest_scale,
    population_scale,
    threshold_at,
)
from tcja_deploy.exporters.lava.unfinished import Payload, UnfinishedNetwork, host_edge
from tcja_deploy.ir import Graph
from tcja_deploy.runtime.integers.layers import LayerStage
from tcja_deploy.runtime.integers.network import IntegerNetwork
from tcja_deploy.runtime.integers.stages import (
    HOST,
    MESSAGE_BITS,
    Edge,
    NeuronStage,
    RelayStage,
)

__all__ = ["quantise_stages"]

STREAM_BITS = 17
"""Bits of a stream at its peak, so that a neuron that reads it neither wraps nor saturates."""
SYNAPSE_BITS = 13
"""The same where nothing but synapses reads it, so that eight bits are left to their weights."""
FINE = float(1 << 12)
"""Unit of a population that nothing but spikes reaches, without weights."""
SUM_MAX = (1 << 23) - 1
"""Largest sum of a convolution; larger sums wrap."""


def quantise_stages(
    graph: Graph,
    floats: FloatGraph,
    observed: dict[str, Observed],
    payload: Payload,
    options: LavaOptions,
    progress: Any,
    name: str,
) -> tuple[IntegerNetwork, tuple[StageReport, ...], dict[str, NDArray[np.float64]]]:
    """Quantise all stages; returns the network, reports and steps of the weights as in `Quantised`.

    Args:
        graph: The graph, batch normalisation folded.
        floats: Its float stages.
        observed: Values of the float network on the calibration data, by node.
        payload: The calibration data as the host sends them, `[T, N, ...]`.
        options: How to quantise.
        progress: Called with the name of each stage.
        name: Name of the network.

    Raises:
        UnsupportedError: If no scale of a stage fits the budget.
    """
    waiting = floats.readers()
    work = _Work(
        graph,
        options,
        observed,
        floats.host_input,
        floats.carried(),
        waiting.get(HOST) == 1,
        floats.through_synapses,
    )
    work.values[HOST] = payload
    work.edges[HOST] = host_edge(floats.host_input)
    for stage in floats.stages:
        progress(stage.name)
        if isinstance(stage, FloatMeeting):
            work.meeting(stage)
        elif isinstance(stage, FloatGate):
            work.gate(stage, floats.frames)
        elif isinstance(stage, FloatProgram):
            work.program(stage)
        else:
            counts = work.add(stage)
            kind = "logic" if not isinstance(stage, LayerStage) else stage.kind
            work.reports.append(StageReport(stage.name, kind, 2.0, 1, 1, 2, 0, 0.0, counts.peak))
        for source in sources(stage):
            waiting[source] -= 1
            if not waiting[source]:
                del work.values[source]
    network = IntegerNetwork(name, floats.frames, work.host, tuple(work.stages), floats.readout)
    return network, tuple(work.reports), work.steps


@dataclass(slots=True)
class _Work(UnfinishedNetwork):
    """Makes integer stages from float stages."""

    def layer(self, stage: FloatMeeting, term: FloatTerm, synapse: FloatSynapse) -> None:
        """Add a population that one synapse reaches."""
        edge = self.edges[term.source]
        wide = self._wide(term, edge)
        received = LayerInput(self.values[term.source], edge.unit, edge.kind == "spike", wide)
        if synapse.kind == "dense":
            synapse = replace(synapse, in_shape=edge.shape)
        stage = replace(stage, terms=(replace(term, synapse=synapse),))
        made = quantise_layer(
            stage, self.graph[synapse.node].op, self.observed[stage.observed], received, self.options
        )
        if made.limbs != (1,):
            self.host = replace(
                self.host, limbs=made.limbs, binary=False, peak=self.host.peak * made.limbs[0]
            )
            self.edges[HOST] = host_edge(self.host)
        if made.step is not None:
            self.steps[synapse.node] = made.step
        self.keep(replace(made.stage, inputs=(term.source,)), made.sent)
        self.reports.append(made.report)

    # -- where values meet ---------------------------------------------------------------------------
    def meeting(self, stage: FloatMeeting) -> None:
        """Add a population or a relay, with the synapses and relays before it.

        Raises:
            UnsupportedError: If there are thresholds per channel, or no scale fits the budget.
        """
        terms = [self._shaped(stage, index, term) for index, term in enumerate(stage.terms)]
        if self._is_layer(stage, terms[0]) and terms[0].synapse is not None:
            self.layer(stage, terms[0], terms[0].synapse)
            return
        if self.options.per_channel:
            raise UnsupportedError(
                "a threshold per channel needs layers: where values of several stages meet, they meet in one unit",
                where=stage.name,
                hint="leave out per_channel (--per-channel)",
            )
        arms = [self._arm(stage, term) for term in terms]
        shrink = 1.0
        while True:
            mark = len(self.stages)
            unit, threshold = self._target(stage, arms, self.options.margin / shrink)
            made, rounding, weights = self._meet(stage, arms, unit, threshold)
            sent, counts = self.run(made)
            if not counts.wraps or shrink < MOST_SHRINK:
                break
            shrink *= SHRINK
            for other in self.stages[mark:]:
                del self.values[other.name], self.edges[other.name]
            del self.stages[mark:]
        if stage.neuron is None and _averages(stage) and arms[0].term.source in self.raw:
            self.raw.add(made.name)
        self.keep(made, sent)
        for other in self.stages[mark:-1]:
            del self.values[other.name]
        kind = "relay" if isinstance(made, RelayStage) else "neuron"
        self.reports.append(
            StageReport(
                made.name, kind, unit, arms[0].unit, threshold, weights, int(np.abs(made.bias).max()), rounding,
                counts.peak, counts.wraps, counts.saturations, stream_error=self._stream_error(stage, sent, unit),
            )
        )  # fmt: skip

    def _is_layer(self, stage: FloatMeeting, term: FloatTerm) -> bool:
        """Whether it is a synapse with its own neurons; a pair of synapses also has to be the only reader of the input."""
        synapse, rule = term.synapse, stage.neuron
        if (
            rule is None
            or rule.drop
            or len(stage.terms) > 1
            or synapse is None
            or synapse.kind == "transposed"
        ):
            return False
        if self._coarse(stage, term, synapse) and not self.options.per_channel:
            return False
        return not self._wide(term, self.edges[term.source]) or (term.source == HOST and self.read_once)

    def _coarse(self, stage: FloatMeeting, term: FloatTerm, synapse: FloatSynapse) -> bool:
        """Whether the payloads of a stream leave a layer's weights fewer bits than they may have.

        Its currents have 17 bits, a synapse's own sums 24: a relay may shift these.
        """
        peaks = self.observed[stage.observed].peaks(stage.bias, stage.gain).max(1)
        peak = float(np.percentile(peaks, self.options.percentile)) * self.options.margin
        largest = float(np.abs(synapse.weight).max()) * abs(term.factor * stage.gain)
        steps = CURRENT_MAX / max(peak * self.edges[term.source].unit, 1e-9) * largest
        return self._stream(term) and 2 * steps < self.options.weight_max

    def _stream(self, term: FloatTerm) -> bool:
        """Whether a term reads a stream of real numbers, other than the input."""
        return self.edges[term.source].kind == "signed" and term.source not in self.raw

    def _shaped(self, stage: FloatMeeting, index: int, term: FloatTerm) -> FloatTerm:
        """The summand, with its source in the shape in which it is read."""
        if term.synapse is not None and term.synapse.kind == "dense":
            return term
        return replace(term, source=self.reshaped(f"{stage.name}.shaped{index}", term.source, term.shape))

    def _arm(self, stage: FloatMeeting, term: FloatTerm) -> Arm:
        edge = self.edges[term.source]
        factor = term.factor * stage.gain
        if term.synapse is None:
            return Arm(term, edge.unit, None, np.zeros(0), edge.unit / abs(factor))
        weight = term.synapse.weight * factor
        largest = float(np.abs(weight).max())
        if not largest:
            raise UnsupportedError("all weights are zero", where=term.synapse.node)
        average = _averages(stage)  # its sums are exact anyway
        single = (1 if average else self.options.weight_max) * edge.unit / largest
        wide = self._wide(term, edge) and not average
        most = self.options.pair_max * edge.unit / largest if wide else single
        seen = self.observed[term.synapse.node].peak(100) * abs(stage.gain)
        bias = getattr(self.graph[term.synapse.node].op, "bias", None)
        seen += 0.0 if bias is None else float(np.abs(bias).max()) * abs(stage.gain)
        return Arm(
            term,
            edge.unit,
            term.synapse,
            weight,
            min(most, SUM_MAX / (self.options.margin * max(seen, 1e-9))),
            single if wide else None,
        )

    def _wide(self, term: FloatTerm, edge: Edge) -> bool:
        """Whether a synapse may be a pair: it reads the input, possibly averaged; all later layers amplify its errors."""
        fits = edge.peak * (self.options.weight_max + 1) < 1 << (MESSAGE_BITS - 1)
        kind = None if term.synapse is None else term.synapse.kind
        return self.options.wide_input and kind in ("conv", "dense") and term.source in self.raw and fits

    def _target(self, stage: FloatMeeting, arms: list[Arm], margin: float) -> tuple[float, int]:
        """The unit of the sum, and the threshold that goes with it; 0 for a relay.

        Raises:
            UnsupportedError: If the threshold would be less than one.
        """
        streams = [arm.most for arm in arms if arm.synapse is None and arm.unit != 1]
        weighted = [arm for arm in arms if arm.synapse is not None]
        narrowest = min((arm.most for arm in weighted), default=None)
        if stage.neuron is None:
            return self._stream_unit(stage, streams, narrowest or max(arm.most for arm in arms), margin), 0
        finest = narrowest or max(streams, default=FINE)
        alone = arms[0] if len(arms) == 1 and not weighted else None
        spikes = alone is not None and alone.unit == 1 and alone.most <= 64
        if alone is not None and not spikes:
            finest = alone.most
        pairs = any(arm.plain is not None for arm in weighted)
        plain = min(arm.plain or arm.most for arm in weighted) if pairs else None
        peaks = self.observed[stage.observed].peaks(stage.bias, stage.gain).max(1)
        budget = Budget(
            np.array([finest]),
            None if plain is None else np.array([plain]),
            np.array([max(float(np.percentile(peaks, self.options.percentile)) * margin, 1e-9)]),
            np.array([float(np.abs(stage.bias).max()) * stage.gain]),
        )
        if alone is not None:
            (unit,) = largest_scale(budget, 1.0)
            if unit == finest or spikes:
                return float(unit), threshold_at(float(unit), strict=stage.neuron.strict)
        scale, threshold = population_scale(budget, 1.0, stage.neuron, self.options, stage.name)
        return float(scale[0]), int(threshold[0])

    def _stream_unit(self, stage: FloatMeeting, streams: list[float], wanted: float, margin: float) -> float:
        """The unit of a relay's stream; that of a stream which is added as it is, or one power of two smaller or more."""
        peak = self.observed[stage.observed].peak(self.options.percentile) * stage.gain  # with the bias
        bits = SYNAPSE_BITS if stage.name in self.through_synapses else STREAM_BITS
        most = ((1 << (bits - 1)) - 1) / max(max(peak, 1e-9) * margin, self._growth(stage.name))
        wanted = max(streams, default=wanted)
        if streams and wanted > most:  # a stream that has grown is shifted, not rounded to another unit
            return float(wanted * 2.0 ** -math.ceil(math.log2(wanted / most)))
        return min(wanted, most)

    def _growth(self, name: str) -> float:
        """The largest sum that a residual stream reaches later on, as long as it is only added to."""
        reached = 0.0
        for stage in self.carried.get(name, []):
            peak = self.observed[stage.observed].peak(self.options.percentile) * self.options.margin
            reached = max(reached, peak, self._growth(stage.name))
        return reached

    def _meet(
        self, stage: FloatMeeting, arms: list[Arm], unit: float, threshold: int
    ) -> tuple[NeuronStage | RelayStage, float, int]:
        """The stage, the largest rounding error of a weight in units of the sum, and the largest integer weight."""
        names: list[str] = []
        rounding, largest = 0.0, 0
        sharper = len(arms) > 1 or stage.neuron is None or self._stream(arms[0].term)
        for arm in arms:
            source, ratio = arm.term.source, unit / arm.most * math.copysign(1, arm.term.factor)
            ends: tuple[str, ...] = (source,)
            if arm.synapse is not None:
                k = max(math.floor(math.log2(arm.most / unit) + 1e-9), 0)
                own = min(unit * 2.0**k, arm.most) if k > (len(arms) > 1) and sharper else min(unit, arm.most)
                rounded = round_arm(arm, own, self.values[source], self.options)
                rounding = max(rounding, float(np.abs(rounded / (own / arm.unit) - arm.weight).max()))
                largest = max(largest, int(np.abs(rounded).max()))
                op = self.graph[arm.synapse.node].op
                step = step_of(op, arm.weight, np.array([own / arm.unit]))
                if step is not None:
                    self.steps[arm.synapse.node] = step
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
        whole = np.floor(stage.bias * (stage.gain * unit) + 0.5).astype(np.int64)
        if self.options.correct_bias:
            mean = sum(_channel_mean(self.values[name]) for name in names)
            wanted = unit * self.observed[stage.observed].mean * stage.gain
            whole = np.floor(wanted - mean + 0.5).astype(np.int64)
        if stage.neuron is None:
            return self._relay(stage, names, unit, whole), rounding, largest
        rule = stage.neuron
        drop = round(64 * unit * rule.drop)
        neuron = NeuronStage(
            stage.name, tuple(names), stage.shape, whole.clip(-BIAS_MAX, BIAS_MAX), np.asarray(threshold),
            rule.v_decay, reset="subtract" if drop else "zero", drop=drop,
        )  # fmt: skip
        return neuron, rounding, largest

    def _relay(
        self, stage: FloatMeeting, names: list[str], unit: float, bias: NDArray[np.int64]
    ) -> RelayStage:
        decay = None if stage.decay is None else int(np.floor(4096 * stage.decay + 0.5))
        if decay is None:
            peak = max(self.observed[stage.observed].peak(self.options.percentile) * stage.gain, 1e-9)
        else:
            peak = self.observed[stage.name].peak(self.options.percentile)
        bits = math.ceil(math.log2(peak * self.options.margin * unit + 1)) + 1
        return RelayStage(
            stage.name, tuple(names), stage.shape, bias, unit, min(max(bits, 2), 24), decay=decay
        )

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
    """Whether a relay sends one sum of values with equal weights and no bias."""
    synapse = stage.terms[0].synapse
    if len(stage.terms) > 1 or stage.neuron is not None or stage.bias.any() or synapse is None:
        return False
    levels = np.unique(np.abs(synapse.weight))
    return len(levels[levels > 0]) == 1


def _channel_mean(values: Payload) -> NDArray[np.float64]:
    """Mean of each channel over frames, samples and pixels."""
    axes = (0, 1, *range(3, values.ndim))
    return np.asarray(values.mean(axes, dtype=np.float64))
