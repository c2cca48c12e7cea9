"""What was written, read back and run: one ``.nir`` file, or a folder of NIR segments with host stages between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tcja_deploy.errors import FileFormatError, GraphError, VerificationError
from tcja_deploy.exporters.nir.gates import fold_gates
from tcja_deploy.exporters.nir.runners import NirRun, find_runner, spelled
from tcja_deploy.files import path_status, sha256
from tcja_deploy.ir import Graph
from tcja_deploy.ir import ops as ir
from tcja_deploy.ir_file import load_graph
from tcja_deploy.nir_file.container import read_nir_file
from tcja_deploy.nir_file.notes import METADATA, READOUT
from tcja_deploy.passes import fold_batch_norm
from tcja_deploy.reading.json_text import parse_json, read_json
from tcja_deploy.runtime.compare import BOUND, Agreement, compare
from tcja_deploy.runtime.sequence import evaluate, run_with_spikes

__all__ = ["MANIFEST", "NetworkRun", "agreements", "notes_of", "run_file", "run_split", "verify_nir"]

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class NetworkRun:
    """What an artifact computed.

    Attributes:
        output: The network's result, readout included.
        spikes: Of each spiking layer, by its name in the network; ``[T, N, ...]``.
    """

    output: NDArray[np.float32]
    spikes: dict[str, NDArray[np.float32]]


def notes_of(path: Path) -> dict[str, Any]:
    """What the export noted in a ``.nir`` file.

    Raises:
        FileFormatError: If it is no NIR file, or was not written by this program.
    """
    content, _ = read_nir_file(path)
    text = content.get("metadata", {}).get(METADATA)
    if not isinstance(text, str):
        raise FileFormatError("this NIR file was not written by tcja-deploy", where=str(path))
    notes: dict[str, Any] = parse_json(text, _NOTES, where=str(path), hint="export it again")
    for op, *arguments in notes["readout"]:
        if op not in READOUT:
            raise FileFormatError(f"the readout {str(op)[:40]!r} is not known", where=str(path))
        try:
            READOUT[op](*arguments)
        except (GraphError, TypeError, ValueError) as error:
            raise FileFormatError(
                f"the readout in this file is damaged ({error})", where=str(path)
            ) from error
    return notes


_NOTES = {
    "dt": float,
    "layers": {str: str},
    "readout": [[object]],
    "model_sha256?": str,
    "gates?": {str: [float]},
}


def _spikes(notes: Mapping[str, Any], result: NirRun) -> dict[str, NDArray[np.float32]]:
    missing = [name for name in notes["layers"].values() if spelled(name) not in result.values]
    if missing:
        raise FileFormatError(f"the file lacks the layers {', '.join(missing)}")
    return {layer: result.values[spelled(name)] for layer, name in notes["layers"].items()}


def run_file(path: Path, frames: NDArray[np.float32], *, runner: str = "sequence") -> NetworkRun:
    """Run a ``.nir`` file that ``export_nir`` wrote, and its readout.

    Args:
        path: The file.
        frames: ``[T, N, ...]``.
        runner: One of ``RUNNERS``.

    Raises:
        FileFormatError: If the file was not written by this program.
        UnsupportedError: If the runner does not take it.
    """
    notes = notes_of(path)
    result = find_runner(runner)(path, frames, float(notes["dt"]))
    output = torch.from_numpy(result.output)
    for op, *arguments in notes["readout"]:
        output = evaluate(READOUT[op](*arguments), output)
    return NetworkRun(output.numpy(), _spikes(notes, result))


def run_split(folder: Path, frames: NDArray[np.float32], *, runner: str = "sequence") -> NetworkRun:
    """Run a folder that ``export_nir(..., gate="split")`` wrote: NIR segments by a runner, stages between them here.

    Args:
        folder: The folder.
        frames: ``[T, N, ...]``.
        runner: One of ``RUNNERS``.

    Raises:
        FileFormatError: If a file is missing or is not what the manifest says.
        UnsupportedError: If the runner does not take a segment.
    """
    value: NDArray[np.float32] = np.asarray(frames, np.float32)
    spikes: dict[str, NDArray[np.float32]] = {}
    for entry in _stages(folder):
        path = folder / entry["file"]
        if entry["kind"] == "nir":
            result = run_file(path, value, runner=runner)
            value, spikes = result.output, spikes | result.spikes
        else:
            value, inside = run_with_spikes(load_graph(path), value)
            spikes |= inside
    return NetworkRun(value, spikes)


def _stages(folder: Path) -> list[dict[str, str]]:
    """Stages of the manifest, their files checked."""
    manifest = read_manifest(folder)
    try:
        entries = manifest["nir"]["stages"]
        for entry in entries:
            name, path = entry["file"], folder / entry["file"]
            if entry["kind"] not in ("nir", "host") or Path(name).name != name:
                raise ValueError(f"stage {name[:60]!r}")
            if path_status(path) != "file":
                raise FileFormatError("this file of a stage is missing", where=str(path))
            if sha256(path) != entry["sha256"]:
                raise FileFormatError("this file is not the one that was exported", where=str(path))
    except (KeyError, TypeError, ValueError) as error:
        raise FileFormatError(f"the manifest is damaged ({error!r})", where=str(folder)) from error
    except OSError as error:
        raise FileFormatError(f"a stage cannot be read ({error.strerror})", where=str(path)) from error
    return list(entries)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a split export.

    Raises:
        FileFormatError: If there is none that can be read.
    """
    manifest: dict[str, Any] = read_json(folder / MANIFEST, _MANIFEST, hint="this is no export to NIR")
    return manifest


_STAGE = {"kind": str, "file": str, "sha256": str}
_MANIFEST = {"nir": {"model_sha256?": str, "gates?": {str: [float]}, "stages": [_STAGE]}}


def verify_nir(
    path: Path,
    graph: Graph,
    batches: Iterable[NDArray[np.float32]],
    *,
    runner: str = "sequence",
    bound: float = BOUND,
    progress: Callable[[int], None] | None = None,
) -> Agreement:
    """Compare an export with the sequence runtime, spike for spike.

    Both compute the network with batch normalisation folded into the weights; what folding itself changes is another question,
    answered by ``exporters.folding``. An export with mean gates is compared with the network that has these constant gates:
    how far that one is from the trained network is the export's ``divergence``.

    Args:
        path: A ``.nir`` file, or the folder of a split export.
        graph: The network it was exported from.
        batches: Frames ``[T, n, ...]``.
        runner: Who runs the file: one of ``RUNNERS``.
        bound: Allowed mismatches per neuron-step.
        progress: Called with the number of samples done.

    Raises:
        FileFormatError: If the artifact is damaged or was not exported from the graph.
        UnsupportedError: If the runner does not take the file.
        VerificationError: If there are no samples.
    """
    return agreements(path, graph, batches, (runner,), bound=bound, progress=progress)[0]


def _constant_gates(
    noted: Mapping[str, list[float]], graph: Graph, path: Path
) -> dict[str, NDArray[np.float32]]:
    """The constant gates that an export noted.

    Raises:
        FileFormatError: If they are not those of the graph's blocks: one positive number a channel.
    """
    gates = {name: np.asarray(values, np.float32) for name, values in noted.items()}
    blocks = {n.name: graph[n.inputs[0]].signal.features[0] for n in graph if isinstance(n.op, ir.TCJA)}
    for name, values in gates.items():
        if values.shape != (blocks.get(name, -1),) or not (np.isfinite(values).all() and (values > 0).all()):
            raise FileFormatError(
                f"the constant gates noted for {name[:60]!r} do not fit the network", where=str(path)
            )
    if gates and gates.keys() != blocks.keys():
        raise FileFormatError("the constant gates noted are not those of all blocks", where=str(path))
    return gates


def agreements(
    path: Path,
    graph: Graph,
    batches: Iterable[NDArray[np.float32]],
    runners: Sequence[str],
    *,
    bound: float,
    progress: Callable[[int], None] | None = None,
) -> tuple[Agreement, ...]:
    """As ``verify_nir``, for several runners in one pass over the data."""
    notes = read_manifest(path)["nir"] if path.is_dir() else notes_of(path)
    if notes.get("model_sha256") != graph.hash:
        raise FileFormatError(
            "this was not exported from the given network",
            where=str(path),
            hint="pass the model it was exported from",
        )
    gates = _constant_gates(notes.get("gates", {}), graph, path)
    reference = fold_batch_norm(fold_gates(graph, gates) if gates else graph)
    totals = [Agreement((), 0, 0, 0.0, bound) for _ in runners]
    for frames in batches:
        x = np.asarray(frames, np.float32)
        for i, name in enumerate(runners):
            result = (run_split if path.is_dir() else run_file)(path, x, runner=name)
            first = totals[i].samples
            totals[i] += compare(reference, x, result.output, result.spikes, bound=bound, first_sample=first)
        if progress is not None:
            progress(totals[0].samples)
    if not totals[0].samples:
        raise VerificationError(
            "there are no samples to verify on", hint="pass --data with at least one recording"
        )
    return tuple(totals)
