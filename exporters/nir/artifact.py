"""What was written, read back and run: one `.nir` file, or a folder of NIR segments with host stages between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
from tcja_deploy.runtime.compare import BOUND, Agreement
from tcja_deploy.runtime.reference import Reference
from tcja_deploy.runtime.sequence import evaluate, run, run_with_spikes

__all__ = ["NetworkRun", "notes_of", "open_nir", "run_file", "run_split", "verify_nir"]


@dataclass(frozen=True)
class NetworkRun:
    """What an artifact computed.

    Attributes:
        output: The network's result, readout included.
        spikes: Of each spiking layer, by its name in the network; `[T, N, ...]`.
    """

    output: NDArray[np.float32]
    spikes: dict[str, NDArray[np.float32]]


def notes_of(path: Path) -> dict[str, Any]:
    """What the export noted in a `.nir` file.

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


def _spikes(notes: Mapping[str, Any], result: NirRun) -> dict[str, NDArray[np.float32]]:
    missing = [name for name in notes["layers"].values() if spelled(name) not in result.values]
    if missing:
        raise FileFormatError(f"the file lacks the layers {', '.join(missing)}")
    return {layer: result.values[spelled(name)] for layer, name in notes["layers"].items()}


def run_file(path: Path, frames: NDArray[np.float32], *, runner: str = "sequence") -> NetworkRun:
    """Run a `.nir` file that an export wrote, and its readout.

    Args:
        path: The file.
        frames: `[T, N, ...]`.
        runner: One of `RUNNERS`.

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
    """Run a folder that an export with `gate="split"` wrote: NIR segments by a runner, stages between them here.

    Args:
        folder: The folder.
        frames: `[T, N, ...]`.
        runner: One of `RUNNERS`.

    Raises:
        FileFormatError: If a file is missing or is not what the manifest says.
        UnsupportedError: If the runner does not take a segment.
    """
    value: NDArray[np.float32] = np.asarray(frames, np.float32)
    spikes: dict[str, NDArray[np.float32]] = {}
    for entry in _section(folder)["stages"]:
        path = folder / entry["file"]
        if entry["kind"] == "nir":
            result = run_file(path, value, runner=runner)
            value, spikes = result.output, spikes | result.spikes
        else:
            value, inside = run_with_spikes(load_graph(path), value)
            spikes |= inside
    return NetworkRun(value, spikes)


@contextmanager
def open_nir(path: Path, T: int) -> Iterator[Opened]:
    """What was written, read back once and run by the sequence runtime for its output alone.

    Args:
        path: A `.nir` file, or the folder of a split export.
        T: Frames of a window.
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
    """The manifest's section on NIR; the manifest and all files are checked.

    Raises:
        FileFormatError: If a file is missing, changed or besides, or the manifest is damaged.
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
        FileFormatError: If they are not those of the graph's blocks: one positive number per channel.
    """
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused below
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


def reference_of(path: Path, network: Prepared, engine: str, samples: int | None) -> Reference:
    """What an export is compared with: the folded network, with the constant gates that the export notes, if any.

    Args:
        path: A `.nir` file, or the folder of a split export.
        network: The network it was exported from.
        engine: What runs it, see `Reference`.
        samples: How many will be run, if that is known.

    Raises:
        FileFormatError: If the artifact is damaged or was not exported from the network.
        UsageError: If there is no such engine.
    """
    gates = _constant_gates(_any_notes(path).get("gates", {}), network.trained, path)
    return Reference(with_gates(network, gates), engine, samples=samples)


def _any_notes(path: Path) -> dict[str, Any]:
    return _section(path) if path.is_dir() else notes_of(path)


def verify_nir(
    path: Path,
    network: Prepared,
    frames: FrameBatches,
    reference: Reference,
    runners: Sequence[str] = ("sequence",),
    *,
    bound: float = BOUND,
    progress: ExportProgress = unmonitored,
) -> tuple[Agreement, ...]:
    """Compare an export with its reference, spike for spike, in one pass over the data for all runners.

    Both compute the network with batch normalisation folded into the weights; what folding itself changes is another question,
    answered by `exporters.folding`. An export with mean gates is compared with the network that has these constant gates:
    how far that one is from the trained network is the comparison `divergence` of the export.

    Args:
        path: A `.nir` file, or the folder of a split export.
        network: The network it was exported from.
        frames: What to run on.
        reference: The folded network, with the constants in place of its gates if the export has them.
        runners: Who runs the file: some of `RUNNERS`.
        bound: Allowed mismatches per neuron-step.
        progress: Called with the number of samples done.

    Returns:
        One agreement a runner.

    Raises:
        FileFormatError: If the artifact is damaged or was not exported from the network.
        UnsupportedError: If a runner does not take the file.
    """
    if _any_notes(path).get("model_sha256") != network.trained.hash:
        raise FileFormatError(
            "this was not exported from the given network",
            where=str(path),
            hint="pass the model it was exported from",
        )
    totals = [Agreement((), 0, 0, 0.0, bound) for _ in runners]
    for batch in frames:
        for i, name in enumerate(runners):
            result = (run_split if path.is_dir() else run_file)(path, batch, runner=name)
            first = totals[i].samples
            totals[i] += reference.compare(
                batch, result.output, result.spikes, bound=bound, first_sample=first
            )
        progress("verifying", totals[0].samples)
    return tuple(totals)
