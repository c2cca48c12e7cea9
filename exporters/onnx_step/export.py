"""Writing a step model with its initial states, manifest and golden sample."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.exporters.folding import folding_effect, folding_note
from tcja_deploy.exporters.onnx.writing import (
    ROUNDING,
    first_sample,
    needs_external_data,
    node_reports,
    save_checked,
)
from tcja_deploy.exporters.onnx_step.model import StepModel, step_model
from tcja_deploy.exporters.onnx_step.verify import verify_onnx_step
from tcja_deploy.exporters.report import ExportReport, Fidelity, NodeReport, change, manifest
from tcja_deploy.files import staged_files
from tcja_deploy.ir import Graph
from tcja_deploy.passes import fold_batch_norm
from tcja_deploy.runtime.compare import BOUND, Agreement
from tcja_deploy.runtime.stream import Plan, Profile, Stepper, initial, plan
from tcja_deploy.runtime.stream.check import compare_stream
from tcja_deploy.runtime.synthetic import synthetic_frames

__all__ = ["export_onnx_step"]


def export_onnx_step(
    graph: Graph,
    path: Path,
    *,
    lookahead: int | None = None,
    profile: Profile | None = None,
    opset: int = 17,
    verify: bool = True,
    data: Iterable[NDArray[np.float32]] | None = None,
    bound: float = BOUND,
    force: bool = False,
    progress: Callable[[int], None] | None = None,
) -> ExportReport:
    """Export a network as an ONNX model that takes one frame and its states, and gives a result and the new states.

    Writes ``path``, ``<stem>.states.npz`` (the states before the first frame, for one sample), ``<stem>.manifest.json``
    and ``<stem>.golden.npz`` (frames of one window, and the results at every step). All of them or, on failure, none.

    Args:
        graph: The network; batch normalisation is folded into the weights on the way.
        path: The ``.onnx`` file to write.
        lookahead: Frames that every TCJA block waits for its gate, at most what it needs; ``None`` for exact.
        profile: What the blocks expect of frames that have not arrived; ``None`` for zeros.
        opset: Opset version.
        verify: Run onnxruntime against the stream runtime, step after step, and write the result to the manifest.
        data: Frames ``[T, n, ...]`` to verify on; four synthetic samples if not given.
        bound: Allowed mismatches per neuron-step.
        force: Replace files that exist.
        progress: Called with the number of samples verified.

    Raises:
        ExportError: If the files cannot be written.
        UnsupportedError: If the network has an op without an ONNX form.
        UsageError: If the look-ahead is outside ``0 .. T - 1``.
    """
    path = path if path.suffix == ".onnx" else path.with_name(path.name + ".onnx")
    folded = fold_batch_norm(graph)
    network = plan(folded, lookahead=lookahead, profile=profile, schedule="paced")
    step = step_model(network, opset=opset, metadata=_metadata(graph, network, lookahead))
    external = needs_external_data(step.model)
    stem = path.name.removesuffix(".onnx")
    names = [
        *(f"{stem}.{end}" for end in ("states.npz", "golden.npz", "manifest.json")),
        *([f"{path.name}.data"] if external else []),
        path.name,
    ]
    with staged_files(path.parent, names, force=force) as folder:
        save_checked(step.model, folder / path.name, external)
        batches = [synthetic_frames(graph, 1, seed=seed) for seed in range(4)] if data is None else data
        sample, batches = first_sample(batches)
        agreement = None
        if verify:
            agreement = verify_onnx_step(
                folder / path.name, graph, batches, profile=profile, bound=bound, progress=progress
            )
        first = {s.name: s.initial(1) for s in step.states}
        for end, arrays in (("states", first), ("golden", _golden(network, step, sample))):
            np.savez_compressed(folder / f"{stem}.{end}.npz", **arrays)  # type: ignore[arg-type]  # its stub takes no dictionary
        files = sorted(p for p in folder.iterdir() if p.suffix != ".json")
        nodes = _nodes(graph, folded, network, profile)
        notes = [
            ROUNDING,
            f"the result of a frame leaves {step.latency} steps after it, and the same work is done at every step",
            "the golden sample's results are those of the stream runtime with batch normalisation folded",
        ]
        extra: dict[str, Any] = {"onnx_step": _about(step, opset, lookahead, profile)}
        effect = folding_effect(graph, sample, bound=bound) if verify else None
        if effect is not None:
            notes.append(folding_note(effect))
            extra["folding"] = effect.as_dict()
        if verify and any(gate.lookahead < gate.exact_lookahead for gate in network.gates.values()):
            apart = compare_stream(folded, [sample], lookahead=lookahead, profile=profile)
            notes.append(_approximation_note(apart, lookahead))
            extra["approximation"] = apart.as_dict()
        text = manifest(graph, "onnx-step", files, nodes=nodes, agreement=agreement, notes=notes, extra=extra)
        (folder / f"{stem}.manifest.json").write_text(text)
    return ExportReport(
        "onnx-step", path, tuple(path.parent / n for n in names), tuple(nodes), agreement, tuple(notes)
    )


def _approximation_note(apart: Agreement, lookahead: int | None) -> str:
    """How far gates that do not wait long enough take the golden sample from the exact network, in a sentence."""
    return (
        f"an approximation: with gates that look {lookahead} frames ahead, on the golden sample "
        f"{change(apart, 'the exact network')}; 'tcja-deploy stream --sweep' measures it over a data set"
    )


def _metadata(graph: Graph, network: Plan, lookahead: int | None) -> dict[str, str]:
    return {
        "tcja_deploy.target": "step",
        "tcja_deploy.model_sha256": graph.hash,
        "tcja_deploy.T": str(graph.T),
        "tcja_deploy.lookahead": "exact" if lookahead is None else str(lookahead),
        "tcja_deploy.profile_sha256": network.guesses.hash,
        "tcja_deploy.output": "stream" if network.streams else "window",
        **{f"tcja_deploy.source.{k}": v for k, v in graph.source.items()},
    }


def _about(step: StepModel, opset: int, lookahead: int | None, profile: Profile | None) -> dict[str, object]:
    return {
        "opset": opset,
        "lookahead": "exact" if lookahead is None else lookahead,
        "estimate": "zeros" if profile is None else "profile",
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


def _nodes(graph: Graph, folded: Graph, network: Plan, profile: Profile | None) -> list[NodeReport]:
    """Fate of each node; a gate that does not wait long enough is an approximation."""
    reports = []
    for report in node_reports(graph, folded, "one step of the neuron in standard ops"):
        gate = network.gates.get(report.name)
        if gate is not None and gate.lookahead < gate.exact_lookahead:
            rest = "zeros" if profile is None else "the calibration profile"
            note = (
                f"looks {gate.lookahead} of {gate.exact_lookahead} frames ahead; later frames count as {rest}"
            )
            report = replace(report, fidelity=Fidelity.APPROXIMATED, note=note)
        reports.append(report)
    return reports


def _golden(network: Plan, step: StepModel, sample: NDArray[np.float32]) -> dict[str, NDArray[np.generic]]:
    """Frames of one window, followed by silence, and the results with the step at which each leaves."""
    stepper, results, steps = Stepper(network, initial(network)), [], []
    wanted = network.T if network.streams else 1
    for t in range(network.T + step.latency):
        frame = sample[t] if t < network.T else np.zeros_like(sample[0])
        for emission in stepper.push(frame):
            results.append(emission.value.numpy())
            steps.append(t)
    return {"input": sample, "output": np.stack(results[:wanted]), "step": np.array(steps[:wanted])}
