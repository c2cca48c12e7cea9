"""A quantisation-aware fine-tune in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tcja_deploy.api import load
from tcja_deploy.energy.count.model import DataSet
from tcja_deploy.errors import UsageError
from tcja_deploy.exporters.lava.options import LavaOptions
from tcja_deploy.exporters.lava.tuning.tune import Tuned, TuneOptions
from tcja_deploy.exporters.lava.tuning.tune import tune as tune_graph
from tcja_deploy.frontend.rewrite import check_rewritable, save_like
from tcja_deploy.ir import Graph
from tcja_deploy.library.progress import step_bar
from tcja_deploy.library.sources import Data, Model, labelled_batches, open_data

__all__ = ["tune", "tune_opened"]

_TOGETHER = 25


def tune(
    model: Model,
    data: Data,
    path: str | Path | None = None,
    *,
    test: Data | None = None,
    force: bool = False,
    options: TuneOptions | None = None,
    export: LavaOptions | None = None,
    loading: dict[str, Any] | None = None,
    progress: bool = True,
) -> Tuned:
    """Fine-tune a network for its export to Lava, and write a checkpoint of the layout that it came in.

    Args:
        model: What `load` takes, or a graph.
        data: Recordings to train on, see `open_data`; labels are used for counting alone.
        path: What to write: for a `.tcja` file and a graph one of these, otherwise a PyTorch file with the keys of the weights
            that were read. Nothing is written if not given.
        test: Recordings to compare on; those trained on if not given.
        force: Replace what is there.
        options: How to train.
        export: How the network will be exported.
        loading: Arguments for `load`.
        progress: Show a progress bar if it takes longer than two seconds.

    Raises:
        UsageError: A model that cannot be written again, arguments that do not fit it, or no weights.
        UnsupportedError: Nodes or numbers that Lava cannot express.
        DataError: Recordings that do not fit, or none.
        ExportError: The path is taken, or cannot be written.
    """
    from tcja_deploy.files import check_free

    given = loading or {}
    if isinstance(model, Graph) and given:
        raise UsageError("a graph is loaded already", hint="give the arguments to tcja_deploy.load")
    if path is not None:
        check_free(Path(path), force=force)
    graph = model if isinstance(model, Graph) else load(model, **given)
    train, others = open_data(graph, data), None if test is None else open_data(graph, test)
    with step_bar(None, shown=progress) as done:
        return tune_opened(
            model, graph, train, others, None if path is None else Path(path), force=force, options=options, export=export,
            loading=given, progress=done,
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
    loading: dict[str, Any],
    progress: Callable[[str, int], None],
) -> Tuned:
    """As `tune`, of a model and recordings that are open already; `graph` is what `model` was loaded as."""
    from tcja_deploy.ir_file import save_graph

    if path is not None and not isinstance(model, Graph):
        check_rewritable(model, graph, path, **loading)
    found = tune_graph(
        graph,
        labelled_batches(data, _TOGETHER),
        test=None if test is None else labelled_batches(test, _TOGETHER),
        options=options,
        export=export,
        progress=progress,
    )
    if path is None:
        return found
    if isinstance(model, Graph):
        save_graph(found.graph, path, force=force)
    else:
        save_like(model, graph, found.graph, path, force=force, **loading)
    return found
