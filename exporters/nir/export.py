"""Writing a network as NIR: one file, or segments with host stages between them."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import nir
import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import DataError, UnsupportedError, UsageError
from tcja_deploy.exporters.folding import folding_effect, folding_note
from tcja_deploy.exporters.nir.artifact import MANIFEST, agreements
from tcja_deploy.exporters.nir.emit import Emission, emit
from tcja_deploy.exporters.nir.gates import divergence, fold_gates, mean_gates
from tcja_deploy.exporters.nir.stages import split_readout, stages
from tcja_deploy.exporters.report import ExportReport, Fidelity, NodeReport, manifest
from tcja_deploy.files import atomic_directory, sha256, staged_files
from tcja_deploy.ir import Graph, Op
from tcja_deploy.ir import ops as ir
from tcja_deploy.ir.op import Array
from tcja_deploy.ir_file import save_graph
from tcja_deploy.nir_file.notes import METADATA
from tcja_deploy.passes import fold_batch_norm
from tcja_deploy.runtime.compare import BOUND, Agreement
from tcja_deploy.runtime.sequence import run
from tcja_deploy.runtime.synthetic import synthetic_frames
from tcja_deploy.version import __version__

__all__ = ["DT", "NirReport", "export_nir"]

DT = 1e-4
"""Default time step in seconds: SpikingJelly's default, and the only one that snnTorch reads."""


@dataclass(frozen=True)
class NirReport(ExportReport):
    """Result of an export to NIR.

    Attributes:
        gate: What was done with TCJA gates.
        divergence: With mean gates, the network with constant gates against the trained one, on the data; ``None`` otherwise.
        inclusive: The file read with ``>=`` instead of NIR's ``>`` against the network: what is not equal here depends on
            which of the two a reader takes. ``None`` if nothing was verified.
        folding: What folding batch normalisation changes on the golden sample; ``None`` without any, or if nothing was
            verified.
    """

    gate: str = "refuse"
    divergence: Agreement | None = None
    inclusive: Agreement | None = None
    folding: Agreement | None = None


def export_nir(
    graph: Graph,
    path: Path,
    *,
    gate: Literal["refuse", "mean", "split"] = "refuse",
    dt: float = DT,
    verify: bool = True,
    data: Iterable[NDArray[np.float32]] | None = None,
    bound: float = BOUND,
    force: bool = False,
    progress: Callable[[int], None] | None = None,
) -> NirReport:
    """Export a network as a NIR graph.

    Writes ``path``, ``<stem>.manifest.json`` and ``<stem>.golden.npz`` (one input with its output); with ``gate="split"``, a
    folder ``path`` with segments ``<n>.nir``, host stages ``<n>.tcja``, golden sample and ``manifest.json``. All or nothing.

    Args:
        graph: The network; batch normalisation is folded into the weights on the way.
        path: The ``.nir`` file, or the folder.
        gate: What to do with TCJA gates, which NIR does not have. ``"refuse"``; ``"mean"``: replace each by its mean over time
            and the data, one number a channel, folded into the weights behind it; ``"split"``: run them on the host between
            segments of NIR.
        dt: Length of a time step in seconds. NIR holds time constants in seconds and no time step; it is noted in the file.
        verify: Read the file back, run it beside the sequence runtime and write the result to the manifest.
        data: Frames ``[T, n, ...]`` to calibrate mean gates and to verify on; kept in memory with mean gates. For
            verification alone four synthetic samples if not given.
        bound: Allowed mismatches per neuron-step.
        force: Replace what is there.
        progress: Called with the number of samples verified.

    Raises:
        UnsupportedError: If NIR cannot hold the network; lists every node.
        UsageError: If mean gates are asked for without data, or an argument makes no sense.
        ExportError: If the files cannot be written.
    """
    if gate not in ("refuse", "mean", "split"):
        raise UsageError(f"unknown gate treatment {gate!r}", hint="choose refuse, mean or split")
    if not (np.isfinite(dt) and dt > 0):
        raise UsageError(f"dt = {dt} is not a time step")
    blocks = [n.name for n in graph if isinstance(n.op, ir.TCJA)]
    if gate == "refuse" and blocks:
        raise UnsupportedError(
            f"NIR has no primitive for the TCJA gate ({', '.join(blocks)}): it multiplies spikes by a factor that depends on "
            "other time steps",
            hint="pass gate='mean' (--gate mean) for a constant factor a channel, measured on --data; or gate='split' "
            "(--gate split) for segments of NIR with the gates between them",
        )
    if gate == "mean" and data is None:
        raise UsageError(
            "mean gates have to be measured", hint="pass --data with recordings like those to come"
        )
    batches: Iterable[NDArray[np.float32]]
    batches = [synthetic_frames(graph, 1, seed=seed) for seed in range(4)] if data is None else data
    gates: dict[str, Array] = {}
    reference, apart = graph, None
    if gate == "mean" and blocks:
        batches = list(batches)
        gates = mean_gates(graph, batches)
        reference = fold_gates(graph, gates)
        apart = divergence(graph, reference, batches)
    job = _Job(graph, reference, gate, dt, gates, apart)
    check = _Check(verify, bound, progress)
    return (
        _split(job, path, batches, check, force)
        if gate == "split"
        else _single(job, path, batches, check, force)
    )


@dataclass(frozen=True)
class _Job:
    """What is exported, and how."""

    graph: Graph
    reference: Graph
    gate: str
    dt: float
    gates: dict[str, Array]
    divergence: Agreement | None

    @property
    def noted(self) -> dict[str, Any]:
        """What every artifact says of itself."""
        gates = (
            {"gates": {name: values.tolist() for name, values in self.gates.items()}} if self.gates else {}
        )
        return {"model_sha256": self.graph.hash, "gate": self.gate, "dt": self.dt, **gates}

    def write(self, part: Graph, readout: tuple[Op, ...], path: Path) -> Emission:
        """Write a part of the network as a ``.nir`` file that says what it is."""
        emission = emit(part, self.dt, {})
        noted = {
            **self.noted,
            "tool": f"tcja-deploy {__version__}",
            "T": part.T,
            "input_kind": part.input.signal.kind,
            "readout": [[type(op).__name__, *op.constants().values()] for op in readout],
            "discretisation": "forward Euler, one step of dt a frame; charge, compare (>), reset",
            "layers": {node.name: emission.names[node.name] for node in part.neurons},
        }
        emission.graph.metadata = {METADATA: json.dumps(noted)}
        content = io.BytesIO()  # where a disk is full, HDF5 ends the process instead of raising
        nir.write(content, emission.graph)
        path.write_bytes(content.getvalue())
        return emission


@dataclass(frozen=True)
class _Check:
    """Whether and how to verify."""

    wanted: bool
    bound: float
    progress: Callable[[int], None] | None

    def run(
        self,
        report: NirReport,
        path: Path,
        graph: Graph,
        sample: NDArray[np.float32],
        batches: Iterable[NDArray[np.float32]],
    ) -> NirReport:
        """The report with what was measured: read with > and with >=, and what folding changes on the golden sample."""
        if not self.wanted:
            return report
        readers = ("sequence", "sequence>=")
        exclusive, inclusive = agreements(
            path, graph, batches, readers, bound=self.bound, progress=self.progress
        )
        folding = folding_effect(graph, sample, bound=self.bound)
        note = (
            f"read with >= instead of >: {inclusive.mismatches} of {inclusive.neuron_steps:,} neuron-steps differ on the "
            "verification data"
        )
        notes = (*report.notes, note, *([] if folding is None else [folding_note(folding)]))
        return replace(report, agreement=exclusive, inclusive=inclusive, folding=folding, notes=notes)


def _single(
    job: _Job, path: Path, batches: Iterable[NDArray[np.float32]], check: _Check, force: bool
) -> NirReport:
    path = path if path.suffix == ".nir" else path.with_name(path.name + ".nir")
    folded = fold_batch_norm(job.reference)
    body, readout = split_readout(folded)
    stem = path.name.removesuffix(".nir")
    names = [f"{stem}.golden.npz", f"{stem}.manifest.json", path.name]
    with staged_files(path.parent, names, force=force) as folder:
        golden, written = folder / names[0], folder / path.name
        emission = job.write(body, readout, written)
        sample, batches = _golden(folded, golden, batches)
        report = _report(job, path, [path.parent / n for n in names], emission.notes, set())
        report = check.run(report, written, job.graph, sample, batches)
        (folder / names[1]).write_text(_manifest(job, report, [golden, written], {}))
    return report


def _split(
    job: _Job, path: Path, batches: Iterable[NDArray[np.float32]], check: _Check, force: bool
) -> NirReport:
    folded = fold_batch_norm(job.graph)
    parts = stages(folded)
    with atomic_directory(path, force=force) as folder:
        notes: dict[str, str] = {}
        entries = []
        for i, stage in enumerate(parts):
            file = folder / f"{i}.{'nir' if stage.kind == 'nir' else 'tcja'}"
            if stage.kind == "nir":
                notes |= job.write(stage.graph, (), file).notes
            else:
                save_graph(stage.graph, file)
            reads, nodes = stage.graph.input.name, [n.name for n in stage.graph.nodes[1:]]
            entries.append(
                {
                    "kind": stage.kind,
                    "file": file.name,
                    "sha256": sha256(file),
                    "reads": reads,
                    "nodes": nodes,
                }
            )
        sample, batches = _golden(folded, folder / "golden.npz", batches)
        files = sorted(folder.iterdir())
        host = {node.name for stage in parts if stage.kind == "host" for node in stage.graph.nodes[1:]}
        report = _report(job, path, [path / f.name for f in files] + [path / MANIFEST], notes, host)
        (folder / MANIFEST).write_text(_manifest(job, report, files, {"stages": entries}))
        report = check.run(report, folder, job.graph, sample, batches)
        (folder / MANIFEST).write_text(_manifest(job, report, files, {"stages": entries}))
    return report


def _golden(
    graph: Graph, path: Path, batches: Iterable[NDArray[np.float32]]
) -> tuple[NDArray[np.float32], Iterable[NDArray[np.float32]]]:
    """Write the first sample with its result; returns it and all batches again."""
    iterator = iter(batches)
    first = next(iterator, None)
    if first is None or not first.shape[1]:
        raise DataError("the data holds no samples", hint="pass --data with at least one recording")
    sample = np.asarray(first[:, :1], np.float32)
    np.savez_compressed(path, input=sample, output=run(graph, sample).numpy())
    return sample, itertools.chain([first], iterator)


# -- the report --------------------------------------------------------------------------------------------------
def _report(job: _Job, path: Path, files: list[Path], notes: dict[str, str], host: set[str]) -> NirReport:
    kept = {n.name for n in fold_batch_norm(job.reference)}
    readout = () if job.gate == "split" else _readout_names(job.graph)
    reports = []
    for node in job.graph:
        fidelity, note = Fidelity.EXACT, notes.get(node.name, "")
        if node.name in job.gates:
            low, high = job.gates[node.name].min(), job.gates[node.name].max()
            fidelity = Fidelity.APPROXIMATED
            note = (
                f"mean over time, one constant a channel ({low:.3f} to {high:.3f}), in the weights behind it"
            )
        elif node.name in host:
            note = "runs on the host, between or behind the segments"
        elif node.name in readout:
            note = "readout: runs where the spikes arrive; noted in the file"
        elif node.name not in kept:
            note = f"folded into {node.inputs[0]}; float64 arithmetic, rounded once to float32"
        reports.append(NodeReport(node.name, type(node.op).__name__, fidelity, note))
    about = [
        f"forward Euler with dt = {job.dt:g} s, one step a frame; neurons fire above their threshold and return to 0",
        "time constants, thresholds and weights are written so that Norse, SpikingJelly and NIR's equations mean the same",
    ]
    if job.divergence is not None:
        about += _divergence_notes(job.divergence)
    return NirReport("nir", path, tuple(files), tuple(reports), None, tuple(about), job.gate, job.divergence)


def _readout_names(graph: Graph) -> set[str]:
    body, _ = split_readout(graph)
    return {n.name for n in graph} - {n.name for n in body}


def _divergence_notes(apart: Agreement) -> list[str]:
    notes = [
        f"constant gates: {apart.predictions_equal} of {apart.samples} predictions as with the trained gates, "
        f"{apart.mismatch_rate:.2%} of all spikes and silences differ"
    ]
    for layer in apart.layers:
        rate = layer.mismatches / layer.neuron_steps
        notes.append(
            f"constant gates, {layer.name}: {rate:.2%} of neuron-steps differ, {layer.spikes:,} spikes become "
            f"{layer.other_spikes:,}"
        )
    return notes


def _manifest(job: _Job, report: NirReport, files: list[Path], extra: dict[str, Any]) -> str:
    apart = None if job.divergence is None else job.divergence.as_dict()
    about = {**job.noted, "nir_version": nir.version, "divergence": apart, **extra}
    folding = {} if report.folding is None else {"folding": report.folding.as_dict()}
    return manifest(
        job.graph,
        "nir",
        files,
        nodes=report.nodes,
        agreement=report.agreement,
        notes=report.notes,
        extra={"nir": about, **folding},
    )
