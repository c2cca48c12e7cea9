"""``tcja-deploy rates``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tcja_deploy.cli.options import (
    ALL,
    AS_FOUND,
    AS_USUAL,
    ForceOption,
    JsonOption,
    Loading,
    ModelArgument,
    Recordings,
    Running,
    check_outputs,
    load_model,
    open_dataset,
    shared_options,
)

if TYPE_CHECKING:
    from tcja_deploy.energy.count.inventory import Measured
    from tcja_deploy.ir import Graph
    from tcja_deploy.runtime.activity.stopwatch import Stopwatch

__all__ = ["measured_model", "provenance", "rates"]

_MOST_AT_ONCE = 256
"""Recordings run at once on a GPU, however large its memory is: more are not faster."""


def measured_model(
    graph: Graph,
    data: Sequence[Path],
    which: Recordings,
    running: Running,
    stopwatch: Stopwatch | None = None,
) -> tuple[Measured, dict[str, str], bool]:
    """Activity of a model over data sets, facts about them, and whether this process is the one that prints.

    Several processes of ``torchrun`` share the recordings. The work is that of the network with batch
    normalisation folded; the spikes are those of the network as it is.
    """
    from tcja_deploy.cli.frames import frame_fault
    from tcja_deploy.cli.render import progress_bar
    from tcja_deploy.energy.count.measure import measure
    from tcja_deploy.passes.fold import fold_batch_norm
    from tcja_deploy.runtime.activity.collect import Joined, workers
    from tcja_deploy.runtime.device import open_device, samples_that_fit
    from tcja_deploy.runtime.engines import choose

    if which.batch_size == ALL.batch_size and running.device != AS_USUAL.device:
        fit = samples_that_fit(graph, open_device(running.device))
        which = which._replace(batch_size=min(fit, _MOST_AT_ONCE))
    parts = [open_dataset(graph, path, which) for path in data]
    recordings, names = Joined(parts), {part.class_names for part in parts}
    identity = {
        "data SHA-256": " ".join(part.digest for part in parts),
        "frames split by": " ".join(dict.fromkeys(str(part.framing) for part in parts)),
    }
    with workers() as shared:
        mine = sum(map(len, shared.batches(len(recordings), which.batch_size)))
        bar = progress_bar("counting spikes", mine) if shared.rank == 0 else nullcontext(None)
        with bar as progress:
            measured = measure(
                graph,
                recordings,
                counted=fold_batch_norm(graph),
                batch_size=which.batch_size,
                data_facts=identity,
                progress=progress,
                shared=shared,
                engine=running.engine,
                device=running.device,
                class_names=names.pop() if len(names) == 1 else None,
                stopwatch=stopwatch,
            )
    engine = choose(graph, running.engine, running.device).label
    facts = {
        "engine": engine,
        "data": ", ".join(map(str, data)),
        **identity,
        "recordings": str(len(recordings)),
        **({"frames": fault} if (fault := frame_fault(graph, parts[0])) else {}),
    }
    notes = [note for part in parts for note in part.notes]
    if notes:
        facts["about the data"] = "; ".join(notes)
    return measured, facts, shared.rank == 0


def provenance(model: Path | None = None, graph: Graph | None = None) -> dict[str, str]:
    """Versions, hashes and the command, for reports."""
    import platform
    import shlex
    import sys

    import numpy
    import torch

    from tcja_deploy.files import sha256
    from tcja_deploy.version import __version__

    facts = {} if model is None else {"model": str(model)}
    if model is not None and model.is_file():
        facts = {"model file": str(model), "model SHA-256": sha256(model)}
    if graph is not None:
        facts |= {k: v for k, v in graph.source.items() if k.startswith(("code", "weights"))}
    return {
        **facts,
        **({} if graph is None else {"graph hash": graph.hash}),
        "tcja-deploy": __version__,
        "command": shlex.join(["tcja-deploy", *sys.argv[1:]]),
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
    }


@shared_options
def rates(
    model: ModelArgument,
    data: Annotated[
        list[Path],
        typer.Option(
            help="Recordings: a folder of class folders, or one file; may be repeated.",
            show_default=False,
        ),
    ],
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output", "-o", help="Write a report too: .html, .json, .csv, .tex or .md; may be repeated."
        ),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(help="Keep the counts (.npz), for 'tcja-deploy energy --activity'.", show_default=False),
    ] = None,
    profile_time: Annotated[
        bool, typer.Option("--profile-time", help="Print where the time of the run goes.")
    ] = False,
    plots: Annotated[
        Path | None, typer.Option(help="Write the plots as SVG into this folder.", show_default=False)
    ] = None,
    how: Loading = AS_FOUND,
    which: Recordings = ALL,
    running: Running = AS_USUAL,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Firing rates of every layer over a data set, from exact spike counts."""
    from tcja_deploy.cli.render import print_table, print_written, time_table
    from tcja_deploy.energy.report.rates import rates as find_rates
    from tcja_deploy.energy.report.render.documents import FORMATS, rates_document, write_plots, write_text
    from tcja_deploy.energy.report.render.formats import to_rich
    from tcja_deploy.energy.report.render.plots import RATE_PLOTS, rate_plots
    from tcja_deploy.energy.report.render.rate_tables import rate_summary
    from tcja_deploy.runtime.activity.file import save_activity
    from tcja_deploy.runtime.activity.stopwatch import Stopwatch

    check_outputs(output or [], force=force, suffixes=FORMATS)
    check_outputs([save] if save is not None else [], force=force)
    if plots is not None:
        taken = [plots / f"{key}.svg" for key in RATE_PLOTS] if plots.is_dir() else [plots]
        check_outputs(taken, force=force)
    graph = load_model(model, how)
    watch = Stopwatch()
    with watch.part("opening and checking the recordings"):
        measured, facts, prints = measured_model(graph, data, which, running, watch)
    if not prints:
        return
    found = find_rates(measured)
    facts = {**provenance(model, graph), **facts}
    written = []  # before anything is printed: a reader may close the pipe
    if save is not None:
        save_activity(measured.activity, save, force=force)
        written.append(save)
    for path in output or []:
        write_text(path, partial(rates_document, found, facts), force=force)
        written.append(path)
    if plots is not None:
        written += write_plots(plots, rate_plots(found), force=force)
    if as_json:
        typer.echo(rates_document(found, facts, ".json"), nl=False)
        return
    for table in rate_summary(found):
        print_table(to_rich(table))
    if profile_time:
        print_table(time_table(watch.seconds))
    print_written(written)
