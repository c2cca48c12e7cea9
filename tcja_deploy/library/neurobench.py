"""The metrics of NeuroBench in one line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Unpack

from tcja_deploy.energy.count.neurobench import NeuroBenchMetrics, neurobench_metrics
from tcja_deploy.energy.render.documents import tables_document
from tcja_deploy.energy.render.plots import Plot, bar_plot
from tcja_deploy.energy.render.table import Column, Table, recordings_text
from tcja_deploy.library.arguments import LoadArguments, RecordingArguments
from tcja_deploy.library.progress import progress_bar
from tcja_deploy.library.result import Result
from tcja_deploy.library.sources import Data, Model, model_facts, open_model, open_parts
from tcja_deploy.library.task import task
from tcja_deploy.passes.fold import fold_batch_norm
from tcja_deploy.runtime.activity.collect import Joined

__all__ = ["NeuroBenchReport", "neurobench"]


@dataclass(frozen=True, eq=False)
class NeuroBenchReport(Result):
    """Metrics of a network by NeuroBench's definitions.

    Attributes:
        metrics: The numbers.
        facts: Where they come from, by name.
    """

    metrics: NeuroBenchMetrics
    facts: Mapping[str, str]

    def tables(self) -> Sequence[Table]:
        """One row per metric."""
        rows: list[tuple[str, float]] = []
        for name, value in self.metrics.results.items():
            if isinstance(value, dict):
                rows += [(f"{name}: {k}", v) for k, v in value.items()]
            else:
                rows.append((name, value))
        notes = ["Operations: means per recording. Batch normalisation is folded, weights are float32."]
        if self.metrics.left_out:
            notes.append(f"NeuroBench does not count {', '.join(self.metrics.left_out)}.")
        return [
            Table(
                "neurobench",
                f"NeuroBench's metrics, {recordings_text(self.metrics.recordings)}",
                (Column("metric", "Metric"), Column("value", "Value", "number", 6)),
                tuple(rows),
                tuple(notes),
            )
        ]

    def document(self, suffix: str) -> str:
        """The metrics in one format; JSON is what NeuroBench's `Benchmark` saves, metrics by name and nothing else."""
        if suffix == ".json":
            return json.dumps(self.metrics.results, indent=4) + "\n"
        return tables_document(
            "tcja-deploy neurobench", "NeuroBench's metrics", self.facts, self.tables(), suffix
        )

    def plots(self) -> Sequence[Plot]:
        """Operations per recording."""
        found = self.metrics.results["SynapticOperations"]
        if not isinstance(found, dict):
            return []
        operations = {name: float(value) for name, value in found.items() if value}
        caption = "NeuroBench's synaptic operations per recording, means."
        bars = {"operations": list(operations.values())}
        return [bar_plot("operations", caption, list(operations), bars, "operations per recording", log=True)]


@task
def neurobench(
    model: Model,
    data: Data,
    *,
    progress: bool = True,
    loading: LoadArguments | None = None,
    **recordings: Unpack[RecordingArguments],
) -> NeuroBenchReport:
    """NeuroBench's Footprint, ConnectionSparsity, ActivationSparsity and SynapticOperations, by its own definitions.

    Args:
        model: What `load` takes, or a graph.
        data: Recordings, as for `rates`.
        progress: Show a progress bar if it takes longer than two seconds.
        loading: Arguments of `load`, for a model that is not a graph.
        **recordings: Arguments of `open_data`, for paths.

    Raises:
        DataError: The recordings cannot be read, or do not fit the model.
        FileFormatError, TraceError, CodeError: The model cannot be loaded; see `load`.
    """
    graph = open_model(model, loading, progress=progress)
    parts = open_parts(graph, data, **recordings)
    frames = Joined(parts)
    with progress_bar("NeuroBench's metrics", shown=progress)(len(frames)) as done:
        metrics = neurobench_metrics(fold_batch_norm(graph), frames, progress=done)
    facts = {
        **model_facts(model, graph),
        "data": ", ".join(str(p.path) for p in parts),
        "data SHA-256": " ".join(p.digest for p in parts),
    }
    return NeuroBenchReport(metrics, facts)
