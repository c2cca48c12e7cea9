"""What an export did with each node, which files it wrote, and how far the result agrees with the reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from tcja_deploy.runtime.agreement import Agreement

__all__ = ["ExportReport", "Fidelity", "NodeReport", "ReportTable", "change"]


def change(apart: Agreement, reference: str) -> str:
    """How far one network is from another on a sample, as part of a note: counts, rate and prediction."""
    same = "the same prediction" if apart.predictions_equal == apart.samples else "another prediction"
    return (
        f"{apart.mismatches:,} of {apart.neuron_steps:,} neuron-steps differ from {reference} "
        f"({apart.mismatch_rate:.1e}), {same}"
    )


class Fidelity(StrEnum):
    """How a target represents a node."""

    EXACT = "exact"
    APPROXIMATED = "approximated"


@dataclass(frozen=True)
class NodeReport:
    """Fate of one node.

    Attributes:
        name: Node name.
        op: Op name.
        fidelity: Exact or approximated. (What a target cannot express raises `UnsupportedError` instead.)
        note: How it was expressed, and how large its error is.
    """

    name: str
    op: str
    fidelity: Fidelity
    note: str = ""


@dataclass(frozen=True)
class ReportTable:
    """A table that only one target has, ready to be printed.

    Attributes:
        title: Heading above the table.
        columns: Names of the columns.
        rows: Cells as text.
        text_columns: How many of the first columns are text; the others hold numbers.
        legend: What the columns mean.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text_columns: int = 1
    legend: str = ""


@dataclass(frozen=True)
class ExportReport:
    """Result of an export.

    Attributes:
        target: Target name.
        path: The artifact.
        files: All files written.
        nodes: Fate of each node.
        agreement: Comparison with the reference; `None` if it was not asked for.
        notes: Assumptions and approximations, in sentences.
        comparisons: What else was compared, by name: `"folding"`, what folding batch normalisation changes on the golden
            sample; the target adds its own.
        runtime: What ran the artifact for the comparison.
        removed: Files of an earlier export in the same place that this one does not have.
    """

    target: str
    path: Path
    files: tuple[Path, ...]
    nodes: tuple[NodeReport, ...]
    agreement: Agreement | None = None
    notes: tuple[str, ...] = ()
    comparisons: Mapping[str, Agreement] = field(default_factory=dict)
    runtime: str = ""
    removed: tuple[Path, ...] = ()

    @property
    def moved_spikes(self) -> tuple[int, int] | None:
        """Neuron-steps that differ from the network as trained, and all neuron-steps; `None` if unknown.

        Batch normalisation is folded on both sides.
        """
        apart = self.comparisons.get("divergence", self.agreement)
        return None if apart is None else (apart.mismatches, apart.neuron_steps)

    @property
    def details(self) -> tuple[ReportTable, ...]:
        """Tables specific to this target."""
        return ()

    @property
    def summary(self) -> tuple[str, ...]:
        """Closing sentences specific to this target."""
        return ()
