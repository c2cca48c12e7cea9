"""What an export did: of each node, of each file, and how far the result agrees with the reference."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from tcja_deploy.files import sha256
from tcja_deploy.ir import Graph
from tcja_deploy.runtime.compare import Agreement

__all__ = ["ExportReport", "Fidelity", "NodeReport", "change", "manifest"]


def change(apart: Agreement, reference: str) -> str:
    """How far one network is from another on a sample, as a part of a note: counts, rate and prediction."""
    same = "the same prediction" if apart.predictions_equal == apart.samples else "another prediction"
    return (
        f"{apart.mismatches:,} of {apart.neuron_steps:,} neuron-steps differ from {reference} "
        f"({apart.mismatch_rate:.1e}), {same}"
    )


class Fidelity(StrEnum):
    """How a node arrived at the target."""

    EXACT = "exact"
    APPROXIMATED = "approximated"


@dataclass(frozen=True)
class NodeReport:
    """Fate of one node.

    Attributes:
        name: Node name.
        op: Op name.
        fidelity: Exact or approximated. (What a target cannot express raises ``UnsupportedError`` instead.)
        note: How, and how far off.
    """

    name: str
    op: str
    fidelity: Fidelity
    note: str = ""


@dataclass(frozen=True)
class ExportReport:
    """Result of an export.

    Attributes:
        target: Target name.
        path: The artifact.
        files: All files written.
        nodes: Fate of each node.
        agreement: Comparison with the sequence runtime; ``None`` if it was not asked for.
        notes: Assumptions and approximations, in sentences.
    """

    target: str
    path: Path
    files: tuple[Path, ...]
    nodes: tuple[NodeReport, ...]
    agreement: Agreement | None = None
    notes: tuple[str, ...] = field(default_factory=tuple)


def manifest(
    graph: Graph,
    target: str,
    files: Iterable[Path],
    *,
    nodes: Iterable[NodeReport],
    agreement: Agreement | None,
    notes: Iterable[str],
    extra: dict[str, Any],
) -> str:
    """Text of the manifest that lies beside an artifact: JSON with versions, hashes, shapes, and the parity result."""
    import onnx
    import onnxruntime
    import torch

    from tcja_deploy.version import __version__

    content = {
        "format": "tcja-deploy-manifest",
        "format_version": 1,
        "target": target,
        "model": {
            "sha256": graph.hash,
            "source": graph.source,
            "T": graph.T,
            "input": [str(d) for d in graph.input.signal.dims],
            "input_kind": graph.input.signal.kind,
            "output": [str(d) for d in graph[graph.output].signal.dims],
            "parameters": graph.parameters,
        },
        "files": {f.name: {"bytes": f.stat().st_size, "sha256": sha256(f)} for f in files},
        "nodes": [{"name": n.name, "op": n.op, "fidelity": n.fidelity, "note": n.note} for n in nodes],
        "parity": None if agreement is None else agreement.as_dict(),
        "notes": list(notes),
        "versions": {
            "tcja_deploy": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__,
        },
        **extra,
    }
    return json.dumps(content, indent=2) + "\n"
