"""Export of a network to an ONNX model that takes one frame at a time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from tcja_deploy.exporters.frames import FrameBatches
from tcja_deploy.exporters.onnx.recognise import TARGET_KEY
from tcja_deploy.exporters.onnx.writing import ROUNDING, needs_external_data, node_reports, save_checked
from tcja_deploy.exporters.onnx_step.model import StepModel, step_model
from tcja_deploy.exporters.onnx_step.options import OnnxStepOptions, states_file
from tcja_deploy.exporters.onnx_step.verify import verify_onnx_step
from tcja_deploy.exporters.report import Fidelity, NodeReport, change
from tcja_deploy.exporters.target import Check, ExportProgress, Translation
from tcja_deploy.ir import Graph
from tcja_deploy.passes import Prepared
from tcja_deploy.runtime.agreement import Agreement
from tcja_deploy.runtime.reference import Reference
from tcja_deploy.runtime.stream import FrameProfile, Stepper, StreamPlan, initial, plan
from tcja_deploy.runtime.stream.check import compare_stream

__all__ = ["OnnxStepTranslation"]


class OnnxStepTranslation(Translation):
    """A network as an ONNX model that takes one frame and its states, and gives a result and the new states; in memory.

    Args:
        network: The network.
        options: How to write it.

    Raises:
        UnsupportedError: If the network has an op without an ONNX form; lists every node.
        UsageError: If the look-ahead is outside `0 .. T - 1`, or the opset is not known.
    """

    def __init__(self, network: Prepared, options: OnnxStepOptions) -> None:
        self._network, self._options = network, options
        self.reference = Reference(network.folded, samples=1)
        self._plan = plan(
            network.folded, lookahead=options.lookahead, profile=options.profile, schedule="paced"
        )
        metadata = _metadata(network.trained, self._plan, options.lookahead)
        self._step = step_model(self._plan, opset=options.opset, metadata=metadata)
        self._external = needs_external_data(self._step.model)
        self.nodes = _nodes(network, self._plan, options.profile)
        self.notes = (
            ROUNDING,
            f"the result of a frame leaves {self._step.latency} steps after it, and the same work is done at every step",
            "the golden sample's results are those of the stream runtime with batch normalisation folded",
        )
        self.versions = {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}
        self.about = _about(self._step, options)

    def write(self, artifact: Path) -> None:
        """Write the model and its first states."""
        save_checked(self._step.model, artifact, self._external)
        first = {s.name: s.initial(1) for s in self._step.states}
        np.savez_compressed(artifact.with_name(states_file(artifact.name)), **first)  # type: ignore[arg-type]

    def golden(self, sample: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Frames of one window, the results, and the step at which each result is emitted."""
        return _golden(self._plan, self._step, sample)

    def check(self, artifact: Path, frames: FrameBatches, bound: float, progress: ExportProgress) -> Check:
        """Compare the model in onnxruntime with the stream runtime, and, where gates guess, that with the exact network."""
        lookahead, profile = self._options.lookahead, self._options.profile
        agreement = verify_onnx_step(
            artifact, self._network, frames, profile=profile, bound=bound, progress=progress
        )
        if all(gate.lookahead >= gate.exact_lookahead for gate in self._plan.gates.values()):
            return Check(agreement)
        apart = compare_stream(self._network.folded, [frames.sample], lookahead=lookahead, profile=profile)
        return Check(agreement, {"approximation": apart}, (_approximation_note(apart, lookahead),))


def _approximation_note(apart: Agreement, lookahead: int | None) -> str:
    """One sentence on how far gates that do not wait long enough differ from the exact network on the golden sample."""
    return (
        f"an approximation: with gates that look {lookahead} frames ahead, on the golden sample "
        f"{change(apart, 'the exact network')}; 'tcja-deploy stream --sweep' measures it over a data set"
    )


def _metadata(graph: Graph, network: StreamPlan, lookahead: int | None) -> dict[str, str]:
    return {
        TARGET_KEY: "onnx-step",
        "tcja_deploy.model_sha256": graph.hash,
        "tcja_deploy.T": str(graph.T),
        "tcja_deploy.lookahead": "exact" if lookahead is None else str(lookahead),
        "tcja_deploy.profile_sha256": network.guesses.hash,
        "tcja_deploy.output": "stream" if network.streams else "window",
        **{f"tcja_deploy.source.{k}": v for k, v in graph.source.items()},
    }


def _about(step: StepModel, options: OnnxStepOptions) -> dict[str, object]:
    return {
        "opset": options.opset,
        "lookahead": "exact" if options.lookahead is None else options.lookahead,
        "estimate": "zeros" if options.profile is None else "profile",
        "latency_steps": step.latency,
        "outputs": {
            "output": "latest result; before the window is complete, a mean over time is that of the frames so far",
            "frame": "index of its last frame within the window; -1 before the first",
            "valid": "whether it is final",
        },
        "states": {
            s.name: {"next": s.next, "shape": s.shape, "dtype": s.dtype, "initial": s.value}
            for s in step.states
        },
    }


def _nodes(network: Prepared, stream: StreamPlan, profile: FrameProfile | None) -> tuple[NodeReport, ...]:
    """Fate of each node; a gate that does not wait for every frame it needs is an approximation."""
    reports = []
    for report in node_reports(network, "one step of the neuron in standard ops"):
        gate = stream.gates.get(report.name)
        if gate is not None and gate.lookahead < gate.exact_lookahead:
            rest = "zeros" if profile is None else "the calibration profile"
            note = (
                f"looks {gate.lookahead} of {gate.exact_lookahead} frames ahead; later frames count as {rest}"
            )
            report = replace(report, fidelity=Fidelity.APPROXIMATED, note=note)
        reports.append(report)
    return tuple(reports)


def _golden(
    network: StreamPlan, step: StepModel, sample: NDArray[np.float32]
) -> dict[str, NDArray[np.generic]]:
    """Frames of one window, the results (as silence follows the window), and the step at which each is emitted."""
    stepper, results, steps = Stepper(network, initial(network)), [], []
    wanted = network.T if network.streams else 1
    for t in range(network.T + step.latency):
        frame = sample[t] if t < network.T else np.zeros_like(sample[0])
        for emission in stepper.push(frame):
            results.append(emission.value.numpy())
            steps.append(t)
    return {"input": sample, "output": np.stack(results[:wanted]), "step": np.array(steps[:wanted])}
