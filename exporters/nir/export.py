"""Export of a network to NIR: one file, or segments with host stages between them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import UnsupportedError, UsageError
from tcja_deploy.exporters.frames import FrameBatches
from tcja_deploy.exporters.nir.artifact import read_nir_artifact, verify_nir
from tcja_deploy.exporters.nir.emit import NirNetwork, emit
from tcja_deploy.exporters.nir.gates import divergence, fold_gates, mean_gates, with_gates
from tcja_deploy.exporters.nir.options import NirOptions
from tcja_deploy.exporters.nir.stages import split_readout, stages
from tcja_deploy.exporters.report import Fidelity, NodeReport
from tcja_deploy.exporters.target import Check, ExportProgress, Translation
from tcja_deploy.ir import Graph, Op
from tcja_deploy.ir import ops as ir
from tcja_deploy.ir.op import Array
from tcja_deploy.ir_file import save_graph
from tcja_deploy.nir_file.notes import METADATA
from tcja_deploy.passes import Prepared
from tcja_deploy.runtime.agreement import Agreement
from tcja_deploy.runtime.reference import Reference
from tcja_deploy.version import __version__

__all__ = ["NirTranslation", "translate"]


def translate(network: Prepared, frames: FrameBatches, options: NirOptions) -> NirTranslation:
    """Translate a network; mean gates are measured on the frames, which are then kept in memory.

    Raises:
        UnsupportedError: If NIR cannot hold the network; lists every node.
        UsageError: If mean gates are asked for without data.
    """
    blocks = [n.name for n in network.trained if isinstance(n.op, ir.TCJA)]
    if options.gate == "refuse" and blocks:
        raise UnsupportedError(
            f"NIR has no primitive for the TCJA gate ({', '.join(blocks)}): it multiplies spikes by a factor that depends on "
            "other time steps",
            hint="pass gate='mean' (--gate mean) for a constant factor per channel, measured on --data; or gate='split' "
            "(--gate split) for segments of NIR with the gates between them",
        )
    if options.gate == "split":
        return SplitTranslation(network, options, frames.samples)
    if options.gate == "mean" and frames.synthetic:
        raise UsageError(
            "mean gates have to be measured", hint="pass --data with recordings like those you will run"
        )
    gates = mean_gates(network.trained, frames.keep()) if options.gate == "mean" and blocks else {}
    return FileTranslation(network, options, gates, frames)


class NirTranslation(Translation):
    """A network in NIR, in memory.

    Args:
        network: The network.
        options: How to write it.
        gates: Constants in place of TCJA gates, `[C]` by block name.
        samples: Number of samples it will be verified on, if known.
    """

    def __init__(
        self, network: Prepared, options: NirOptions, gates: dict[str, Array], samples: int | None
    ) -> None:
        self._network, self._gates = network, gates
        self.reference = Reference(network.folded, options.engine, samples=samples)
        self._wanted = (
            Reference(with_gates(network, gates), options.engine, samples=samples)
            if gates
            else self.reference
        )
        self._noted = {"model_sha256": network.trained.hash, "gate": options.gate, "dt": options.dt}
        if gates:
            self._noted["gates"] = {name: values.tolist() for name, values in gates.items()}
        self._dt = options.dt
        self.about = self._noted
        self.versions = {"nir": nir.version}
        self.notes = (
            f"forward Euler with dt = {options.dt:g} s, one step per frame; neurons fire above their threshold and return to 0",
            "time constants, thresholds and weights are written so that Norse, SpikingJelly and NIR's equations mean the same",
        )

    def golden(self, sample: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """The input and the output of the whole network, readout included."""
        return {"input": sample, "output": self._wanted.run_sample(sample).output}

    def check(self, artifact: Path, frames: FrameBatches, bound: float, progress: ExportProgress) -> Check:
        """Compare the written artifact, read back with `>` and with `>=`, with the reference."""
        read = [read_nir_artifact(artifact, runner) for runner in ("sequence", "sequence>=")]
        exclusive, inclusive = verify_nir(
            read, self._network, frames, self._wanted, bound=bound, progress=progress
        )
        note = (
            f"read with >= instead of >: {inclusive.mismatches} of {inclusive.neuron_steps:,} neuron-steps differ on the "
            "verification data"
        )
        return Check(exclusive, {"inclusive": inclusive}, (note,))

    def _emitted(self, part: Graph, readout: tuple[Op, ...]) -> NirNetwork:
        """A part of the network in NIR, with notes that describe it."""
        emission = emit(part, self._dt, {})
        noted = {
            **self._noted,
            "tool": f"tcja-deploy {__version__}",
            "T": part.T,
            "input_kind": part.input.signal.kind,
            "readout": [[type(op).__name__, *op.constants().values()] for op in readout],
            "discretisation": "forward Euler, one step of dt a frame; charge, compare (>), reset",
            "layers": {node.name: emission.names[node.name] for node in part.neurons},
        }
        emission.graph.metadata = {METADATA: json.dumps(noted)}
        return emission

    def _node_reports(self, notes: dict[str, str], elsewhere: dict[str, str]) -> tuple[NodeReport, ...]:
        """Fate of each node, from the writer's notes and from what runs outside NIR."""
        kept = {n.name for n in self._wanted.graph}
        reports = []
        for node in self._network.trained:
            fidelity, note = Fidelity.EXACT, notes.get(node.name, "")
            if node.name in self._gates:
                low, high = self._gates[node.name].min(), self._gates[node.name].max()
                fidelity = Fidelity.APPROXIMATED
                note = f"mean over time, one constant per channel ({low:.3f} to {high:.3f}), in the weights after it"
            elif node.name in elsewhere:
                note = elsewhere[node.name]
            elif node.name not in kept:
                note = f"folded into {node.inputs[0]}; float64 arithmetic, rounded once to float32"
            reports.append(NodeReport(node.name, type(node.op).__name__, fidelity, note))
        return tuple(reports)


class FileTranslation(NirTranslation):
    """A network as one NIR graph.

    Args:
        network: The network.
        options: How to write it.
        gates: Constants in place of TCJA gates, `[C]` by block name.
        frames: The frames on which the constants were measured.

    Raises:
        UnsupportedError: If NIR cannot hold the network; lists every node.
    """

    def __init__(
        self, network: Prepared, options: NirOptions, gates: dict[str, Array], frames: FrameBatches
    ) -> None:
        super().__init__(network, options, gates, frames.samples)
        body, readout = split_readout(self._wanted.graph)
        self._emission = self._emitted(body, readout)
        inside = {n.name for n in split_readout(network.trained)[0]}
        outside = {n.name for n in network.trained} - inside
        self.nodes = self._node_reports(
            self._emission.notes,
            dict.fromkeys(outside, "readout: runs where the spikes arrive; noted in the file"),
        )
        if gates:
            apart = divergence(network.trained, fold_gates(network.trained, gates), frames.keep())
            self.comparisons = {"divergence": apart}
            self.notes = (*self.notes, *_divergence_notes(apart))

    def write(self, artifact: Path) -> None:
        """Write the graph."""
        _write(self._emission.graph, artifact)


class SplitTranslation(NirTranslation):
    """A network as segments of NIR with stages between them that run on the host.

    Args:
        network: The network.
        options: How to write it.
        samples: Number of samples it will be verified on, if known.

    Raises:
        UnsupportedError: If NIR cannot hold a neuron, which would then have to run on the host.
    """

    def __init__(self, network: Prepared, options: NirOptions, samples: int | None) -> None:
        super().__init__(network, options, {}, samples)
        notes: dict[str, str] = {}
        host: dict[str, str] = {}
        entries = []
        self._files: dict[str, nir.NIRGraph | Graph] = {}
        for i, stage in enumerate(stages(network.folded)):
            names = [n.name for n in stage.graph.nodes[1:]]
            file = f"{i}.{'nir' if stage.kind == 'nir' else 'tcja'}"
            if stage.kind == "nir":
                emission = self._emitted(stage.graph, ())
                notes |= emission.notes
                self._files[file] = emission.graph
            else:
                host |= dict.fromkeys(names, "runs on the host, between the segments or after them")
                self._files[file] = stage.graph
            entries.append(
                {"kind": stage.kind, "file": file, "reads": stage.graph.input.name, "nodes": names}
            )
        self.nodes = self._node_reports(notes, host)
        self.about = {**self._noted, "stages": entries}

    def write(self, artifact: Path) -> None:
        """Write the segments and the host stages."""
        for name, content in self._files.items():
            if isinstance(content, Graph):
                save_graph(content, artifact / name)
            else:
                _write(content, artifact / name)


def _write(graph: nir.NIRGraph, path: Path) -> None:
    content = io.BytesIO()  # on a full disk, HDF5 ends the process instead of raising
    nir.write(content, graph)
    path.write_bytes(content.getvalue())


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
