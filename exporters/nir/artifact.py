"""Reading back and running what was written: one `.nir` file, or a folder of NIR segments with host stages between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tcja_deploy.errors import FileFormatError, GraphError
from tcja_deploy.exporters.frames import FrameBatches
from tcja_deploy.exporters.manifest import NAME, check_files, read_manifest
from tcja_deploy.exporters.nir.gates import with_gates
from tcja_deploy.exporters.nir.runners import NirRun, find_runner, spelled
from tcja_deploy.exporters.target import ExportProgress, Opened, Ran, unmonitored
from tcja_deploy.ir import Graph
from tcja_deploy.ir import ops as ir
from tcja_deploy.ir_file import load_graph
from tcja_deploy.nir_file.container import read_nir_file
from tcja_deploy.nir_file.load import load_nir
from tcja_deploy.nir_file.notes import METADATA, READOUT
from tcja_deploy.passes import Prepared
from tcja_deploy.reading.json_text import check_structure, parse_json
from tcja_deploy.runtime.agreement import BOUND, Agreement
from tcja_deploy.runtime.reference import Reference
from tcja_deploy.runtime.sequence import evaluate, run, run_with_spikes

__all__ = [
    "NetworkRun",
    "NirArtifact",
    "notes_of",
    "open_nir",
    "read_nir_artifact",
    "reference_of",
    "verify_nir",
]


@dataclass(frozen=True)
class NetworkRun:
    """What an artifact computed.

    Attributes:
        output: The network's result, readout included, `[N, K]` or `[T, N, K]`.
        spikes: Spikes of each spiking layer, by its name in the network; `[T, N, ...]`.
    """

    output: NDArray[np.float32]
    spikes: dict[str, NDArray[np.float32]]


def notes_of(path: Path) -> dict[str, Any]:
    """The notes that the export wrote into a `.nir` file.

    Raises:
        FileFormatError: If it is not a NIR file, or was not written by this program.
    """
    content, _ = read_nir_file(path)
    metadata = content.get("metadata")
    text = metadata.get(METADATA) if isinstance(metadata, dict) else None
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


@dataclass(frozen=True)
class NirArtifact:
    """An export that has been read back.

    Attributes:
        path: A `.nir` file, or the folder of a split export.
        notes: The export's notes in the file or in the folder's manifest.
        run: Runs it, readout included, on frames `[T, N, ...]`.
    """

    path: Path
    notes: Mapping[str, Any]
    run: Callable[[NDArray[np.float32]], NetworkRun]


def read_nir_artifact(path: Path, runner: str = "sequence") -> NirArtifact:
    """Read an export once, to run any number of batches.

    Args:
        path: A `.nir` file, or the folder of an export with `gate="split"`: NIR segments, which the runner runs, with
            stages between them, which this program runs.
        runner: What runs NIR: one of `RUNNERS`.

    Raises:
        FileFormatError: If a file is damaged, missing, not what the manifest says, or was not written by this program.
        UnsupportedError: If the runner does not take the file or a segment.
        UsageError: If there is no such runner.
    """
    return _read_folder(path, runner) if path.is_dir() else _read_file(path, runner)


def _spikes(notes: Mapping[str, Any], result: NirRun) -> dict[str, NDArray[np.float32]]:
    missing = [name for name in notes["layers"].values() if spelled(name) not in result.values]
    if missing:
        raise FileFormatError(f"the file lacks the layers {', '.join(missing)}")
    return {layer: result.values[spelled(name)] for layer, name in notes["layers"].items()}


def _read_file(path: Path, runner: str) -> NirArtifact:
    notes = notes_of(path)
    run_nir = find_runner(runner)(path, float(notes["dt"]))

    def run_frames(frames: NDArray[np.float32]) -> NetworkRun:
        result = run_nir(frames)
        output = torch.from_numpy(result.output)
        for op, *arguments in notes["readout"]:
            output = evaluate(READOUT[op](*arguments), output)
        return NetworkRun(output.numpy(), _spikes(notes, result))

    return NirArtifact(path, notes, run_frames)


def _read_folder(folder: Path, runner: str) -> NirArtifact:
    section = _section(folder)
    stages = [
        _read_file(folder / stage["file"], runner).run
        if stage["kind"] == "nir"
        else partial(_run_host, load_graph(folder / stage["file"]))
        for stage in section["stages"]
    ]

    def run_frames(frames: NDArray[np.float32]) -> NetworkRun:
        value: NDArray[np.float32] = np.asarray(frames, np.float32)
        spikes: dict[str, NDArray[np.float32]] = {}
        for run_stage in stages:
            result = run_stage(value)
            value, spikes = result.output, spikes | result.spikes
        return NetworkRun(value, spikes)

    return NirArtifact(folder, section, run_frames)


def _run_host(graph: Graph, frames: NDArray[np.float32]) -> NetworkRun:
    return NetworkRun(*run_with_spikes(graph, frames))


@contextmanager
def open_nir(path: Path, T: int) -> Iterator[Opened]:
    """An export, read back once and run by the sequence runtime for its output alone.

    Args:
        path: A `.nir` file, or the folder of a split export.
        T: Number of frames in a window.
    """
    if path.is_dir():
        parts = [(path / entry["file"], entry["kind"]) for entry in _section(path)["stages"]]
        graphs = [load_nir(file, T) if kind == "nir" else load_graph(file) for file, kind in parts]
    else:
        graphs = [load_nir(path, T)]

    def run_parts(frames: NDArray[np.float32]) -> Ran:
        value = torch.from_numpy(np.ascontiguousarray(frames, np.float32))
        for graph in graphs:
            value = run(graph, value)
        return Ran(value.numpy())

    yield run_parts


def _section(folder: Path) -> dict[str, Any]:
    """The manifest's section on NIR, after the manifest and all files have been checked.

    Raises:
        FileFormatError: If a file is missing, changed or unlisted, or the manifest is damaged.
    """
    manifest = read_manifest(folder / NAME, "nir")
    check_files(folder, manifest)
    try:
        section: dict[str, Any] = check_structure(manifest.get("nir"), _SECTION)
        for stage in section["stages"]:
            if stage["kind"] not in ("nir", "host") or stage["file"] not in manifest["files"]:
                raise ValueError(f"stage {stage['file'][:60]!r}")
    except ValueError as error:
        raise FileFormatError(f"the manifest is damaged ({error})", where=str(folder / NAME)) from error
    return section


_STAGE = {"kind": str, "file": str}
_SECTION = {"model_sha256?": str, "gates?": {str: [float]}, "stages": [_STAGE]}


def _constant_gates(
    noted: Mapping[str, list[float]], graph: Graph, path: Path
) -> dict[str, NDArray[np.float32]]:
    """The constant gates that an export noted.

    Raises:
        FileFormatError: If they are not one positive number per channel for each of the graph's blocks.
    """
    with np.errstate(over="ignore"):  # numbers too large for float32 become infinite, and are refused below
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


def reference_of(artifact: NirArtifact, network: Prepared, engine: str, samples: int | None) -> Reference:
    """The reference of an export: the folded network, with the constant gates that the export notes, if any.

    Args:
        artifact: The export.
        network: The network it was exported from.
        engine: What runs the network, see `Reference`.
        samples: Number of samples that will be run, if known.

    Raises:
        FileFormatError: If the artifact was not exported from the network.
        UsageError: If there is no such engine.
    """
    gates = _constant_gates(artifact.notes.get("gates", {}), network.trained, artifact.path)
    return Reference(with_gates(network, gates), engine, samples=samples)


def verify_nir(
    artifacts: Sequence[NirArtifact],
    network: Prepared,
    frames: FrameBatches,
    reference: Reference,
    *,
    bound: float = BOUND,
    progress: ExportProgress = unmonitored,
) -> tuple[Agreement, ...]:
    """Compare exports with their reference, spike for spike, in one pass over the data.

    Both compute the network with batch normalisation folded into the weights; what folding itself changes is another question,
    answered by `exporters.folding`. An export with mean gates is compared with the network that has these constant gates:
    how far that one is from the trained network is the comparison `divergence` of the export.

    Args:
        artifacts: One export, read for each runner that is to run it.
        network: The network it was exported from.
        frames: The frames to run on.
        reference: The folded network, with the constants in place of its gates if the export has them.
        bound: Allowed mismatches per neuron-step.
        progress: Called with the number of samples done.

    Returns:
        One agreement for each of `artifacts`.

    Raises:
        FileFormatError: If an artifact was not exported from the network.
        UnsupportedError: If a runner fails on it.
    """
    for artifact in artifacts:
        if artifact.notes.get("model_sha256") != network.trained.hash:
            raise FileFormatError(
                "this was not exported from the given network",
                where=str(artifact.path),
                hint="pass the model it was exported from",
            )
    totals = [Agreement((), 0, 0, 0.0, bound) for _ in artifacts]
    for batch in frames:
        for i, artifact in enumerate(artifacts):
            result = artifact.run(batch)
            first = totals[i].samples
            totals[i] += reference.compare(
                batch, result.output, result.spikes, bound=bound, first_sample=first
            )
        progress("verifying", totals[0].samples)
    return tuple(totals)
