"""Export of a network to a bundle for lava-dl: quantisation, measurement, report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from tcja_deploy.exporters.frames import FrameBatches
from tcja_deploy.exporters.lava.accuracy import Accuracy, evaluate
from tcja_deploy.exporters.lava.bundle import golden_arrays, write_parts
from tcja_deploy.exporters.lava.environment import REQUIREMENTS
from tcja_deploy.exporters.lava.lint import lint
from tcja_deploy.exporters.lava.manifest_section import describe
from tcja_deploy.exporters.lava.options import LavaOptions, LavaVerification
from tcja_deploy.exporters.lava.quantise import Quantised, quantise
from tcja_deploy.exporters.lava.report import LavaReport
from tcja_deploy.exporters.lava.schedule import latency
from tcja_deploy.exporters.lava.verify import verify_bundle
from tcja_deploy.exporters.report import ExportReport, Fidelity, NodeReport
from tcja_deploy.exporters.target import Check, ExportProgress, Translation
from tcja_deploy.ir import Graph
from tcja_deploy.ir import ops as ir
from tcja_deploy.passes import Prepared
from tcja_deploy.runtime.integers.network import IntegerNetwork

__all__ = ["LavaTranslation"]


class LavaTranslation(Translation):
    """An integer network, in memory.

    Args:
        network: The network.
        frames: The calibration frames; kept in memory.
        options: How to quantise, and which data to measure on.
        progress: Called with a description when the quantisation of a stage begins.

    Raises:
        UnsupportedError: If Lava cannot express nodes or numbers; lists all of them.
        DataError: If data do not fit the network.
    """

    def __init__(
        self, network: Prepared, frames: FrameBatches, options: LavaOptions, progress: ExportProgress
    ) -> None:
        batches = frames.keep()
        name = network.trained.source.get("architecture", "network")
        quantised = quantise(
            network.folded,
            batches,
            options,
            name=name,
            progress=lambda stage: progress(f"quantising {stage}", 0),
            engine=options.engine,
            device=options.device,
        )
        test: Iterable[tuple[NDArray[Any], NDArray[np.int64] | None]] = (
            [(batch, None) for batch in batches] if options.test is None else options.test
        )
        self._integers = quantised.network
        self._accuracy = evaluate(
            network.trained,
            quantised,
            test,
            engine=options.engine,
            samples=sum(batch.shape[1] for batch in batches) if options.test is None else None,
            device=options.device,
        )
        self._measured_on = "calibration data" if options.test is None else "test data"
        notes = []
        if frames.synthetic:
            notes.append(
                "calibrated on synthetic frames: currents may wrap and rates may differ on real recordings"
            )
        if quantised.samples < quantised.offered:
            notes.append(f"calibrated on {quantised.samples} of {quantised.offered} samples, evenly spread")
        notes += _warnings(self._integers, self._accuracy)
        self.notes = (*notes, *lint(self._integers).notes)
        self.nodes = _node_reports(network.trained, quantised)
        self.versions = {"h5py": h5py.__version__}
        self.about = {
            **describe(self._integers),
            "made_for": list(REQUIREMENTS[:2]),
            "quantisation": {
                "options": options.quantisation,
                "samples": quantised.samples,
                "stages": [asdict(stage) for stage in self._accuracy.stages],
            },
            "accuracy": {
                "samples": self._accuracy.samples,
                "labelled": self._accuracy.labelled,
                "float_correct": self._accuracy.float_correct,
                "integer_correct": self._accuracy.integer_correct,
                "same_prediction": self._accuracy.agree,
                "on": self._measured_on,
            },
        }

    def write(self, artifact: Path) -> None:
        """Write the bundle's parts."""
        write_parts(self._integers, artifact)

    def golden(self, sample: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Payloads, results and the values of all stages."""
        return golden_arrays(self._integers, sample)

    def check(self, artifact: Path, frames: FrameBatches, bound: float, progress: ExportProgress) -> Check:
        """Compare what the twin of the staged bundle's files computes with the golden sample."""
        agreement = verify_bundle(artifact, None, LavaVerification(backend="twin"), progress)
        return Check(agreement, runtime="the twin of the written files")

    def report(self, report: ExportReport) -> LavaReport:
        """The report with what was measured."""
        integers = self._integers
        return LavaReport(
            **vars(report),
            stages=self._accuracy.stages,
            accuracy=self._accuracy,
            latency=latency(integers),
            frames=integers.frames,
            measured_on=self._measured_on,
            moved=_moved(integers, self._accuracy),
        )


def _moved(network: IntegerNetwork, accuracy: Accuracy) -> tuple[int, int]:
    """Neuron-steps on which the spikes of the two networks differ, and all neuron-steps compared."""
    sizes = {
        stage.name: network.frames * accuracy.samples * prod(stage.out_shape) for stage in network.stages
    }
    compared = [(s.disagreement, sizes[s.name]) for s in accuracy.stages if s.disagreement is not None]
    return sum(round(share * size) for share, size in compared), sum(size for _, size in compared)


def _warnings(network: IntegerNetwork, accuracy: Accuracy) -> list[str]:
    """What a user has to know before relying on the network."""
    wrapped = [stage.name for stage in accuracy.stages if stage.wraps]
    warnings = (
        [f"currents wrapped on the data in {', '.join(wrapped)}: enlarge the margin"] if wrapped else []
    )
    if network.host_input.limbs != (1,):
        warnings.append(
            f"{network.stages[0].name}: a pair of 8-bit synapses per weight; the host sends the input twice, once times "
            f"{network.host_input.limbs[0]}"
        )
    pairs = [stage.name.removesuffix(".upper") for stage in network.stages if stage.name.endswith(".upper")]
    if pairs:
        warnings.append(
            f"{', '.join(pairs)}: a pair of synapses per weight; a relay sends the payloads once more, multiplied"
        )
    return warnings


def _node_reports(graph: Graph, quantised: Quantised) -> tuple[NodeReport, ...]:
    programs = quantised.floats.programs
    stages = {stage.name: stage for stage in quantised.stages}
    synapses = {node: stages[stage] for node, stage in quantised.floats.synapses.items()}
    reports = []
    for node in graph:
        note, fidelity = quantised.floats.notes.get(node.name, ""), Fidelity.EXACT
        extra = ""
        if isinstance(node.op, ir.Input):
            extra = "integers, prepared by the host"
            if quantised.network.host_input.scale > 1:
                fidelity, extra = (
                    Fidelity.APPROXIMATED,
                    f"rounded to multiples of 1/{quantised.network.host_input.scale}",
                )
        elif isinstance(node.op, ir.BatchNorm1d | ir.BatchNorm2d):
            extra = f"folded into {node.inputs[0]}"
        elif isinstance(node.op, ir.Neuron | ir.LI | ir.AffineIntegrator) and node.name in stages:
            fidelity = Fidelity.APPROXIMATED
            extra = (
                f"threshold {stages[node.name].threshold}; the leak truncates by less than 1/64 weight step"
            )
        elif node.name in synapses:
            stage, fidelity = synapses[node.name], Fidelity.APPROXIMATED
            extra = f"{stage.weight_bits}-bit weights, off by at most {stage.rounding:.2g} thresholds"
        elif isinstance(node.op, ir.TCJA) and node.name in stages:
            fidelity = Fidelity.APPROXIMATED
            extra = f"off by at most {stages[node.name].rounding:.2g} on the calibration data"
        elif node.name in programs:
            fidelity = Fidelity.APPROXIMATED
            extra = (
                f"off by at most {stages[programs[node.name]].rounding:.2g} on the calibration data, together"
            )
        text = "; ".join(part for part in (extra, note) if part)
        reports.append(NodeReport(node.name, type(node.op).__name__, fidelity, text))
    return tuple(reports)
