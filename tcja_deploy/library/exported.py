"""Results of an export and of a verification, and the tables that they print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tcja_deploy.energy.render.documents import document_json, tables_document
from tcja_deploy.energy.render.plots import Plot, bar_plot
from tcja_deploy.energy.render.table import Column, Table
from tcja_deploy.exporters.lava.report import LavaReport
from tcja_deploy.exporters.report import ExportReport, ReportTable
from tcja_deploy.library.result import Result
from tcja_deploy.runtime.agreement import Agreement

__all__ = ["Export", "LavaExport", "Verification", "comparison_table", "target_table", "verdict"]


def verdict(found: Agreement) -> str:
    """The outcome of a comparison in one sentence, with its numbers."""
    return (
        f"{'agrees' if found.passed else 'DISAGREES'}: {found.predictions_equal} of {found.samples} predictions equal, "
        f"{found.mismatches:,} of {found.neuron_steps:,} neuron-steps differ ({found.mismatch_rate:.1e}, bound "
        f"{found.bound:.0e}), largest output difference {found.output_difference:.1e}"
    )


def _layer_table(found: Agreement, other: str) -> Table:
    rows = tuple((x.name, x.spikes, x.other_spikes, x.mismatches, x.neuron_steps) for x in found.layers)
    columns = (
        Column("layer", "Layer"),
        Column("spikes_reference", "Spikes, reference", "int"),
        Column("spikes_artifact", "artifact", "int"),
        Column("mismatches", "Differ", "int"),
        Column("neuron_steps", "of neuron-steps", "int"),
    )
    notes = (f"{other} {verdict(found)}.", *([f"{found.silence}."] if found.silence else []))
    return Table("layers", f"Spikes of the reference and of {other}", columns, rows, notes)


def comparison_table(found: Mapping[str, Agreement]) -> Table:
    """Comparisons by name, one row per comparison."""
    rows = tuple(
        (name, a.mismatches, a.neuron_steps, a.predictions_equal, a.samples) for name, a in found.items()
    )
    columns = (
        Column("comparison", "Comparison"),
        Column("mismatches", "Differing spikes", "int"),
        Column("neuron_steps", "of neuron-steps", "int"),
        Column("predictions_equal", "Equal predictions", "int"),
        Column("samples", "of samples", "int"),
    )
    return Table("comparisons", "What else was compared", columns, rows)


def _spike_plot(found: Agreement, other: str) -> Plot:
    series = {
        "reference": [layer.spikes for layer in found.layers],
        other: [layer.other_spikes for layer in found.layers],
    }
    caption = f"Spikes of each layer in the reference and in {other}."
    return bar_plot("spikes", caption, [layer.name for layer in found.layers], series, "spikes")


def target_table(found: ReportTable, number: int) -> Table:
    """A table that only one target has."""
    columns = tuple(
        Column(f"column_{i}", name, "text" if i < found.text_columns else "label")
        for i, name in enumerate(found.columns)
    )
    notes = (found.legend,) if found.legend else ()
    return Table(f"details_{number}", found.title, columns, found.rows, notes)


@dataclass(frozen=True, kw_only=True)
class Export(Result, ExportReport):
    """What an export wrote, and how far it agrees with the network.

    Attributes:
        facts: Where model and recordings come from, and the versions it was made with.
    """

    facts: Mapping[str, str] = field(default_factory=dict)

    def tables(self) -> Sequence[Table]:
        """How each node was exported, its spikes compared with the reference, and tables that only this target has."""
        rows = tuple((node.name, node.op, str(node.fidelity), node.note) for node in self.nodes)
        columns = (
            Column("node", "Node"),
            Column("op", "Op"),
            Column("fidelity", "Exported"),
            Column("note", "How"),
        )
        written = (
            *(f"Wrote {file}." for file in self.files),
            *(f"Removed {file}, which belonged to what this replaces." for file in self.removed),
        )
        title = f"Export to {self.target}: {self.path.name}"
        found = [Table("nodes", title, columns, rows, (*self.notes, *self.summary, *written))]
        if self.agreement is not None:
            found.append(_layer_table(self.agreement, self.runtime))
        if self.comparisons:
            found.append(comparison_table(self.comparisons))
        return [*found, *(target_table(own, i) for i, own in enumerate(self.details))]

    def document(self, suffix: str) -> str:
        """The tables in one format; JSON is what `tcja-deploy export --json` prints."""
        if suffix == ".json":
            return document_json("tcja-deploy export", self._record())
        return tables_document(
            "tcja-deploy export", f"Export to {self.target}", self.facts, self.tables(), suffix, self.plots()
        )

    def _record(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "path": str(self.path),
            "files": [str(file) for file in self.files],
            "removed": [str(file) for file in self.removed],
            "nodes": self.nodes,
            "notes": self.notes,
            "parity": None if self.agreement is None else self.agreement.as_dict(),
            "comparisons": {name: found.as_dict() for name, found in self.comparisons.items()},
            "provenance": self.facts,
        }

    def plots(self) -> Sequence[Plot]:
        """Spikes of each layer in the reference and in the artifact; nothing if that was not compared."""
        agreement = self.agreement
        return [] if agreement is None or not agreement.layers else [_spike_plot(agreement, self.runtime)]


@dataclass(frozen=True, kw_only=True)
class LavaExport(Export, LavaReport):
    """What an export to Lava wrote, with what quantisation did to each stage."""


@dataclass(frozen=True, kw_only=True)
class Verification(Result, Agreement):
    """An artifact compared with its reference, spike for spike.

    Attributes:
        artifact: What was run.
        runtime: What ran it.
        facts: Where model and recordings come from.
    """

    artifact: Path
    runtime: str
    facts: Mapping[str, str] = field(default_factory=dict)

    def tables(self) -> Sequence[Table]:
        """Spikes of each layer in the reference and in the artifact."""
        return [_layer_table(self, self.runtime)]

    def document(self, suffix: str) -> str:
        """The table in one format; JSON is what `tcja-deploy verify --json` prints."""
        if suffix == ".json":
            record = {"artifact": str(self.artifact), "runtime": self.runtime, **self.as_dict()}
            return document_json("tcja-deploy verification", {**record, "provenance": self.facts})
        return tables_document(
            "tcja-deploy verification",
            f"{self.artifact.name} beside its reference",
            self.facts,
            self.tables(),
            suffix,
            self.plots(),
        )

    def plots(self) -> Sequence[Plot]:
        """Spikes of each layer in the reference and in the artifact."""
        return [_spike_plot(self, self.runtime)] if self.layers else []
