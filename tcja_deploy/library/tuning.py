"""A quantisation-aware fine-tune in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from tcja_deploy.energy.count.model import DataSet
from tcja_deploy.energy.render.documents import document_json, tables_document
from tcja_deploy.energy.render.plots import Plot, line_plot
from tcja_deploy.energy.render.table import Column, Table
from tcja_deploy.exporters.lava.accuracy import Accuracy
from tcja_deploy.exporters.lava.options import LavaOptions
from tcja_deploy.exporters.lava.tuning.tune import Tuned, TuneOptions
from tcja_deploy.exporters.lava.tuning.tune import tune as tune_graph
from tcja_deploy.frontend.rewrite import check_rewritable, save_like
from tcja_deploy.ir import Graph
from tcja_deploy.library.arguments import LoadArguments
from tcja_deploy.library.progress import step_bar
from tcja_deploy.library.result import Result
from tcja_deploy.library.sources import Data, Model, labelled_batches, model_facts, open_data, open_model
from tcja_deploy.library.task import task

__all__ = ["Tuning", "tune", "tune_opened"]

_TOGETHER = 25


@dataclass(frozen=True, eq=False, kw_only=True)
class Tuning(Result, Tuned):
    """A network that was fine-tuned for its export to Lava, and what each step brings on the same recordings.

    Attributes:
        path: The new checkpoint; `None` if none was written.
        facts: Where model and recordings come from.
    """

    path: Path | None = None
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def steps(self) -> Mapping[str, Accuracy]:
        """Float and integer network after each step."""
        return {"rounded": self.rounded, "biases corrected": self.corrected, "tuned": self.tuned}

    def tables(self) -> Sequence[Table]:
        """Correct predictions of both networks after each step."""
        columns = (
            Column("step", "Step"),
            Column("samples", "Recordings", "int"),
            Column("labelled", "with a label", "int"),
            Column("float_correct", "Float right", "int"),
            Column("integer_correct", "Integer right", "int"),
            Column("agree", "As the float network", "int"),
        )
        rows = tuple(
            (name, a.samples, a.labelled, a.float_correct, a.integer_correct, a.agree)
            for name, a in self.steps.items()
        )
        notes = [
            f"Trained on {self.samples} recordings; loss by epoch: {', '.join(f'{x:.4f}' for x in self.losses)}."
        ]
        if self.unrounded:
            notes.append(
                f"Not rounded: {', '.join(self.unrounded)} (on the host, or merged with other weights)."
            )
        return [Table("steps", "Fine-tuned for Lava", columns, rows, tuple(notes))]

    def document(self, suffix: str) -> str:
        """The table in one format; JSON is what `tcja-deploy lava tune --json` prints."""
        kind = "tcja-deploy tuning"
        if suffix != ".json":
            return tables_document(
                kind, "Fine-tuned for Lava", self.facts, self.tables(), suffix, self.plots()
            )
        names = ("samples", "labelled", "float_correct", "integer_correct", "agree")
        record = {
            "path": None if self.path is None else str(self.path),
            "trained_on": self.samples,
            "losses": self.losses,
            "steps": {step: {n: getattr(a, n) for n in names} for step, a in self.steps.items()},
            "unrounded": self.unrounded,
            "provenance": self.facts,
        }
        return document_json(kind, record)

    def plots(self) -> Sequence[Plot]:
        """The loss of each epoch."""
        caption = "Error of the outputs, relative to their variance, by epoch."
        return [line_plot("loss", caption, self.losses, "epoch", "loss")]


@task
def tune(
    model: Model,
    data: Data,
    path: str | Path | None = None,
    *,
    test: Data | None = None,
    force: bool = False,
    options: TuneOptions | None = None,
    export: LavaOptions | None = None,
    loading: LoadArguments | None = None,
    progress: bool = True,
) -> Tuning:
    """Fine-tune a network for its export to Lava, and write a checkpoint in the layout that it came in.

    Args:
        model: What `load` takes, or a graph.
        data: Recordings to train on, see `open_data`; labels only serve to count correct predictions.
        path: File to write: a `.tcja` file if the model is one or is a graph, otherwise a PyTorch file with the keys of the
            weights that were read. Nothing is written if not given.
        test: Recordings to compare on; those trained on if not given.
        force: Replace what is there.
        options: How to train.
        export: How the network will be exported.
        loading: Arguments of `load`, for a model that is not a graph.
        progress: Show a progress bar if it takes longer than two seconds.

    Raises:
        UsageError: A model that cannot be written again, arguments that do not fit it, or no weights.
        UnsupportedError: Nodes or numbers that Lava cannot express.
        DataError: Recordings that do not fit, or none.
        ExportError: The path is taken, or cannot be written.
    """
    from tcja_deploy.files import check_free

    if path is not None:
        check_free(Path(path), force=force)
    graph = open_model(model, loading, progress=progress)
    return tune_opened(
        model, graph, open_data(graph, data), None if test is None else open_data(graph, test),
        None if path is None else Path(path), force=force, options=options, export=export,
        loading=loading or {}, progress=progress,
    )  # fmt: skip


def tune_opened(
    model: Model,
    graph: Graph,
    data: DataSet,
    test: DataSet | None,
    path: Path | None,
    *,
    force: bool,
    options: TuneOptions | None,
    export: LavaOptions | None,
    loading: LoadArguments,
    progress: bool,
) -> Tuning:
    """As `tune`, for a model and recordings that are open already; `graph` is what `model` was loaded as."""
    from tcja_deploy.ir_file import save_graph

    if path is not None and not isinstance(model, Graph):
        check_rewritable(model, graph, path, **loading)
    with step_bar(None, shown=progress) as update:
        found = tune_graph(
            graph,
            labelled_batches(data, _TOGETHER),
            test=None if test is None else labelled_batches(test, _TOGETHER),
            options=options,
            export=export,
            progress=update,
        )
    if path is not None and isinstance(model, Graph):
        save_graph(found.graph, path, force=force)
    elif path is not None and not isinstance(model, Graph):
        save_like(model, graph, found.graph, path, force=force, **loading)
    facts = {**model_facts(model, graph), "data": str(data.path), "data SHA-256": data.digest}
    return Tuning(**{f.name: getattr(found, f.name) for f in fields(found)}, path=path, facts=facts)
