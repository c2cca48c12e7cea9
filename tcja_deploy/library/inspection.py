"""What a model computes, in one line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Unpack, overload

from tcja_deploy.artifacts import is_bundle
from tcja_deploy.energy.render.documents import document_json, tables_document
from tcja_deploy.energy.render.plots import Plot, bar_plot
from tcja_deploy.energy.render.table import Column, Table, shape_text
from tcja_deploy.ir import Graph
from tcja_deploy.ir.rows import frame_macs, node_rows
from tcja_deploy.library.arguments import LoadArguments
from tcja_deploy.library.bundle_inspection import BundleInspection, bundle_inspection
from tcja_deploy.library.result import Result
from tcja_deploy.library.sources import Model, model_name, open_model
from tcja_deploy.library.task import task

if TYPE_CHECKING:
    import torch

__all__ = ["Inspection", "inspect"]


@dataclass(frozen=True, eq=False)
class Inspection(Result):
    """What a model computes.

    Attributes:
        graph: The graph.
        name: Name of the model.
    """

    graph: Graph
    name: str

    @property
    def macs(self) -> int:
        """Dense multiply-accumulates of one frame."""
        return sum(frame_macs(self.graph, node) for node in self.graph)

    def tables(self) -> Sequence[Table]:
        """The nodes in order."""
        rows = []
        for node, row in zip(self.graph, node_rows(self.graph), strict=True):
            shape = shape_text(node.signal.features) + ("" if node.signal.streams else " once")
            rows.append(
                (
                    row["name"],
                    row["op"],
                    shape,
                    row["kind"],
                    *(row[k] or None for k in ("parameters", "macs", "lookahead")),
                )
            )
        graph = self.graph
        note = (
            f"T = {graph.T}; {graph.parameters:,} weights, {self.macs:,} dense MACs per frame. Shape: one frame of one "
            "sample ('once': one result per window); look-ahead: frames until an output is final."
        )
        columns = (
            Column("node", "Node"),
            Column("op", "Op"),
            Column("shape", "Shape"),
            Column("kind", "Kind"),
            Column("weights", "Weights", "int"),
            Column("macs_per_frame", "MACs", "int"),
            Column("lookahead_frames", "Look-ahead", "int"),
        )
        return [Table("nodes", self.name, columns, tuple(rows), (note,))]

    def document(self, suffix: str) -> str:
        """The table and the model's origin, in one format; JSON is what `tcja-deploy inspect --json` prints."""
        graph = self.graph
        if suffix == ".json":
            record = {
                "T": graph.T,
                "sha256": graph.hash,
                "input_shape": graph.input_shape,
                "parameters": graph.parameters,
                "source": graph.source,
                "nodes": node_rows(graph),
            }
            return document_json("tcja-deploy inspection", record)
        facts = {"graph hash": graph.hash, "input": shape_text(graph.input_shape), **graph.source}
        return tables_document(
            "tcja-deploy inspection", self.name, facts, self.tables(), suffix, self.plots()
        )

    def plots(self) -> Sequence[Plot]:
        """Dense MACs of each layer with weights, per frame."""
        macs = {node.name: frame_macs(self.graph, node) for node in self.graph}
        busy = {name: float(count) for name, count in macs.items() if count}
        caption = "Dense multiply-accumulates of one frame, by node."
        return (
            [bar_plot("macs", caption, list(busy), {"MACs": list(busy.values())}, "MACs per frame")]
            if busy
            else []
        )


@overload
def inspect(model: Graph | torch.nn.Module, **loading: Unpack[LoadArguments]) -> Inspection: ...
@overload
def inspect(model: str | Path, **loading: Unpack[LoadArguments]) -> Inspection | BundleInspection: ...
@task
def inspect(model: Model, **loading: Unpack[LoadArguments]) -> Inspection | BundleInspection:
    """Ops, shapes, signal kinds, weights, MACs and look-ahead of a model; stages and timing of a Lava bundle.

    Args:
        model: What `load` takes, a graph, or the folder of a Lava bundle.
        **loading: Arguments of `load`; a bundle takes none.

    Raises:
        FileFormatError, TraceError, CodeError, UsageError: The model cannot be loaded; see `load`.
    """
    if isinstance(model, str | Path) and is_bundle(Path(model)):
        return bundle_inspection(Path(model), loading)
    return Inspection(open_model(model, loading), model_name(model))
