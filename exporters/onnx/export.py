"""Writing a sequence model with manifest and golden sample."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.exporters.folding import folding_effect, folding_note
from tcja_deploy.exporters.onnx.sequence import sequence_model
from tcja_deploy.exporters.onnx.verify import verify_onnx
from tcja_deploy.exporters.onnx.writing import (
    ROUNDING,
    first_sample,
    needs_external_data,
    node_reports,
    save_checked,
)
from tcja_deploy.exporters.report import ExportReport, manifest
from tcja_deploy.files import staged_files
from tcja_deploy.ir import Graph
from tcja_deploy.passes import fold_batch_norm
from tcja_deploy.runtime.compare import BOUND
from tcja_deploy.runtime.sequence import run
from tcja_deploy.runtime.synthetic import synthetic_frames

__all__ = ["export_onnx"]


def export_onnx(
    graph: Graph,
    path: Path,
    *,
    opset: int = 17,
    batch_first: bool = False,
    external_data: bool = False,
    verify: bool = True,
    data: Iterable[NDArray[np.float32]] | None = None,
    bound: float = BOUND,
    force: bool = False,
    progress: Callable[[int], None] | None = None,
) -> ExportReport:
    """Export a network as an ONNX model over whole windows.

    Writes ``path``, ``<stem>.manifest.json``, ``<stem>.golden.npz`` (one input with its output) and, with external data,
    ``<name>.data``. All of them or, on failure, none.

    Args:
        graph: The network; batch normalisation is folded into the weights on the way.
        path: The ``.onnx`` file to write.
        opset: Opset version.
        batch_first: ``[N, T, ...]`` instead of ``[T, N, ...]``.
        external_data: Weights in a file of their own (always done above 1.8 GB).
        verify: Run onnxruntime against the sequence runtime and write the result to the manifest.
        data: Frames ``[T, n, ...]`` to verify on; four synthetic samples if not given.
        bound: Allowed mismatches per neuron-step.
        force: Replace files that exist.
        progress: Called with the number of samples verified.

    Raises:
        ExportError: If the files cannot be written.
        UnsupportedError: If the network has an op without an ONNX form.
    """
    path = path if path.suffix == ".onnx" else path.with_name(path.name + ".onnx")
    folded = fold_batch_norm(graph)
    metadata = {
        "tcja_deploy.target": "sequence",
        "tcja_deploy.model_sha256": graph.hash,
        "tcja_deploy.T": str(graph.T),
        "tcja_deploy.layout": "N,T" if batch_first else "T,N",
        **{f"tcja_deploy.source.{k}": v for k, v in graph.source.items()},
    }
    model = sequence_model(folded, opset=opset, batch_first=batch_first, metadata=metadata)
    external_data = external_data or needs_external_data(model)
    stem = path.name.removesuffix(".onnx")
    names = [
        f"{stem}.golden.npz",
        f"{stem}.manifest.json",
        *([f"{path.name}.data"] if external_data else []),
        path.name,
    ]
    with staged_files(path.parent, names, force=force) as folder:
        written = folder / path.name
        save_checked(model, written, external_data)
        if data is None:
            data = [synthetic_frames(graph, 1, seed=seed) for seed in range(4)]
        sample, data = first_sample(data)
        agreement = verify_onnx(written, graph, data, bound=bound, progress=progress) if verify else None
        golden = folder / f"{stem}.golden.npz"
        output = run(folded, sample).numpy()
        swap = batch_first and folded[folded.output].signal.streams
        np.savez_compressed(
            golden,
            input=sample.swapaxes(0, 1) if batch_first else sample,
            output=output.swapaxes(0, 1) if swap else output,
        )
        files = sorted(p for p in folder.iterdir() if p.suffix != ".json")
        nodes = node_reports(graph, folded, f"unrolled over {graph.T} steps in standard ops")
        notes = [
            ROUNDING,
            "the golden sample's output is that of the sequence runtime with batch normalisation folded",
        ]
        extra: dict[str, Any] = {
            "onnx": {"opset": opset, "layout": metadata["tcja_deploy.layout"], "external_data": external_data}
        }
        effect = folding_effect(graph, sample, bound=bound) if verify else None
        if effect is not None:
            notes.append(folding_note(effect))
            extra["folding"] = effect.as_dict()
        text = manifest(graph, "onnx", files, nodes=nodes, agreement=agreement, notes=notes, extra=extra)
        (folder / f"{stem}.manifest.json").write_text(text)
    return ExportReport(
        "onnx", path, tuple(path.parent / n for n in names), tuple(nodes), agreement, tuple(notes)
    )
