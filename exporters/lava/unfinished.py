"""Integer stages while a network is quantised, and the quantisation of gates and programs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.exporters.lava.arms import ROOM, reshaping
from tcja_deploy.exporters.lava.calibration import SAMPLES, Observed, StageReport
from tcja_deploy.exporters.lava.float_graph import FloatGate, FloatMeeting, FloatProgram
from tcja_deploy.exporters.lava.gates import gate_error, quantise_gate
from tcja_deploy.exporters.lava.options import LavaOptions
from tcja_deploy.exporters.lava.programs import compile_region, program_error
from tcja_deploy.exporters.lava.quantise_layer import advance
from tcja_deploy.ir import Graph
from tcja_deploy.runtime.integers.edges import AnyStage, sends
from tcja_deploy.runtime.integers.layer_runner import LayerCounts
from tcja_deploy.runtime.integers.layers import GateStage, LayerStage
from tcja_deploy.runtime.integers.network import HostInput
from tcja_deploy.runtime.integers.stage_runners import run_stage
from tcja_deploy.runtime.integers.stages import HOST, MESSAGE_BITS, Edge, ProgramStage

__all__ = ["Payload", "UnfinishedNetwork", "host_edge"]

Payload = NDArray[np.integer]


@dataclass(slots=True)
class UnfinishedNetwork:
    """The integer stages made so far, and their values on the calibration data.

    Attributes:
        graph: The graph, batch normalisation folded.
        options: How to quantise.
        observed: Values of the float network on the calibration data, by node.
        host: What the host does to frames.
        carried: For each stage, the relays that add its value as it is.
        read_once: Whether a single stage reads the input.
        through_synapses: Stages whose values nothing but synapses reads.
        stages: The stages in order.
        edges: What each stage sends, by name.
        values: Payloads `[T, N, ...]` of each stage on the calibration data, by name, while they are still needed.
        reports: Reports on the stages.
        steps: Size of an integer step in the weights of each node.
        raw: Stages that send the input as it is, or averaged.
    """

    graph: Graph
    options: LavaOptions
    observed: dict[str, Observed]
    host: HostInput
    carried: dict[str, list[FloatMeeting]]
    read_once: bool
    through_synapses: set[str]
    stages: list[AnyStage] = field(default_factory=list)
    edges: dict[str, Edge] = field(default_factory=dict)
    values: dict[str, Payload] = field(default_factory=dict)
    reports: list[StageReport] = field(default_factory=list)
    steps: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    raw: set[str] = field(default_factory=lambda: {HOST})

    def run(self, stage: AnyStage) -> tuple[Payload, LayerCounts]:
        """Run a stage on the calibration data: its payloads `[T, N, ...]` and its events."""
        counts = LayerCounts()
        received = tuple(self.edges[name] for name in stage.inputs)
        return run_stage(stage, received, [self.values[name] for name in stage.inputs], counts), counts

    def add(self, stage: AnyStage) -> LayerCounts:
        """Run a stage and add it."""
        if isinstance(stage, LayerStage | GateStage):
            (source,) = stage.inputs
            sent, counts = advance(stage, self.values[source], self.edges[source].kind == "spike")
        else:
            sent, counts = self.run(stage)
        self.keep(stage, sent)
        return counts

    def keep(self, stage: AnyStage, sent: Payload) -> None:
        """Add a stage with its values."""
        self.edges[stage.name] = sends(stage, tuple(self.edges[name] for name in stage.inputs))
        self.values[stage.name] = sent
        self.stages.append(stage)

    def reshaped(self, name: str, source: str, shape: tuple[int, ...]) -> str:
        """Name of the stage that sends the values of `source` in frames of a shape: itself, or a new program called `name`."""
        edge = self.edges[source]
        if shape == edge.shape:
            return source
        self.add(reshaping(name, source, edge, shape))
        self.raw |= {name} if source in self.raw else set()
        return name

    def gate(self, stage: FloatGate, frames: int) -> None:
        """Add a TCJA block of spikes."""
        source = self.reshaped(f"{stage.name}.shaped", stage.source, stage.in_shape)
        spikes = self.values[source]
        made = replace(quantise_gate(stage, frames, self.options.gate_bits), inputs=(source,))
        error = gate_error(stage, made, spikes)
        counts = self.add(made)
        self.reports.append(StageReport(made.name, "gate", float(made.one), 1, 0, 0, 0, error, counts.peak))

    def program(self, stage: FloatProgram) -> None:
        """Add a window program, in the finest unit whose payloads need no more bits than the gate bits, or than its input.

        Products of several gates are far below one, so that payloads in the unit of a gate would leave bits unused.
        """
        source = self.reshaped(f"{stage.name}.shaped", stage.source, stage.shape)
        edge, values = self.edges[source], self.values[source]
        unit = full = float(1 << self.options.gate_bits)
        if edge.unit != 1:
            unit, full = edge.unit, float(np.abs(values).max(initial=1))
        host = source == HOST and edge.kind != "spike"  # recordings to come may hold more than those seen
        high = ROOM * edge.peak if host else edge.peak
        low = -high if edge.kind == "signed" else 0
        while True:
            compiled = compile_region(
                self.graph, stage.region, unit=edge.unit, low=low, high=high, out_unit=unit, cut=host
            )
            made = ProgramStage(stage.name, (source,), compiled.program, compiled.unit)
            sent, counts = self.run(made)
            spare = int(full / max(counts.peak, 1))
            if spare < 2 or made.peak * spare >= 1 << (MESSAGE_BITS - 1):
                break
            unit *= 1 << (spare.bit_length() - 1)
        error = program_error(self.graph, stage.region, compiled, edge.unit, values[:, :SAMPLES])
        self.keep(made, sent)
        self.reports.append(
            StageReport(stage.name, "program", float(made.unit), edge.unit, 0, 0, 0, error, counts.peak)
        )


def host_edge(host: HostInput) -> Edge:
    """The edge that the host sends."""
    return Edge("spike" if host.binary else "signed", host.out_shape, host.unit, host.peak)
