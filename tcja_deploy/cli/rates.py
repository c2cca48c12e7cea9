"""`tcja-deploy rates`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tcja_deploy.cli.notes import note
from tcja_deploy.cli.options import (
    ALL,
    AS_FOUND,
    AS_USUAL,
    ForceOption,
    JsonOption,
    Loading,
    ModelArgument,
    RecordingOptions,
    RecordingsOption,
    Running,
    check_outputs,
    load_model,
    open_dataset,
    shared_options,
)
from tcja_deploy.cli.resume import ResumeOption, resumable

if TYPE_CHECKING:
    from tcja_deploy.energy.count.model import ModelActivity
    from tcja_deploy.events import EventData
    from tcja_deploy.ir import Graph
    from tcja_deploy.runtime.activity.stopwatch import Stopwatch
    from tcja_deploy.runtime.resume import KeptProgress

__all__ = ["measured_model", "rates"]


def measured_model(
    graph: Graph,
    data: Sequence[Path | EventData],
    which: RecordingOptions,
    running: Running,
    stopwatch: Stopwatch | None = None,
    kept: KeptProgress | None = None,
) -> ModelActivity:
    """Activity of a model over data sets, with a progress bar."""
    from tcja_deploy.cli.render import progress_bar
    from tcja_deploy.energy.count.model import measure_model

    parts = [open_dataset(graph, one, which) if isinstance(one, Path) else one for one in data]
    found = measure_model(
        graph,
        parts,
        batch_size=which.batch_size,
        engine=running.engine,
        device=running.device,
        stopwatch=stopwatch,
        kept=kept,
        progress=partial(progress_bar, "counting spikes"),
    )
    if found.leads and "silence" in found.facts:
        note(found.facts["silence"])
    return found


@shared_options
def rates(
    model: ModelArgument,
    data: RecordingsOption,
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
    neurobench: Annotated[
        Path | None,
        typer.Option(
            help="Write NeuroBench's metrics (.json) too, from a separate pass over the recordings.",
            show_default=False,
        ),
    ] = None,
    profile_time: Annotated[
        bool, typer.Option("--profile-time", help="Print where the run spends its time.")
    ] = False,
    plots: Annotated[
        Path | None, typer.Option(help="Write the plots as SVG into this folder.", show_default=False)
    ] = None,
    how: Loading = AS_FOUND,
    which: RecordingOptions = ALL,
    running: Running = AS_USUAL,
    resume: ResumeOption = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Firing rates of every layer over a data set, from exact spike counts."""
    from tcja_deploy.cli.render import print_table, print_written, time_table
    from tcja_deploy.energy.render.documents import FORMATS, rates_document, write_plots, write_text
    from tcja_deploy.energy.render.formats import to_rich
    from tcja_deploy.energy.render.plots import RATE_PLOTS, rate_plots
    from tcja_deploy.energy.render.rate_tables import rate_summary
    from tcja_deploy.energy.report.provenance import provenance
    from tcja_deploy.energy.report.rates import rates as find_rates
    from tcja_deploy.runtime.activity.file import save_activity
    from tcja_deploy.runtime.activity.stopwatch import Stopwatch

    check_outputs(output or [], force=force, suffixes=FORMATS)
    check_outputs([save] if save is not None else [], force=force)
    check_outputs(
        [neurobench] if neurobench is not None else [], force=force, suffixes=(".json",), what="metrics"
    )
    if plots is not None:
        taken = [plots / f"{key}.svg" for key in RATE_PLOTS] if plots.is_dir() else [plots]
        check_outputs(taken, force=force)
    graph = load_model(model, how)
    watch = Stopwatch()
    with (
        resumable("rates", model, data, save, resume=resume) as kept,
        watch.part("opening and checking the recordings"),
    ):
        parts = [open_dataset(graph, path, which) for path in data]
        activity = measured_model(graph, parts, which, running, watch, kept)
    if not activity.leads:
        return
    found = find_rates(activity.measured)
    facts = {**provenance(["tcja-deploy", *sys.argv[1:]], model, graph), **activity.facts}
    written = []  # before anything is printed: a reader may close the pipe
    if save is not None:
        save_activity(activity.measured.activity, save, force=force)
        written.append(save)
    for path in output or []:
        write_text(path, partial(rates_document, found, facts), force=force)
        written.append(path)
    if neurobench is not None:
        from tcja_deploy.library.neurobench import neurobench as metrics

        written.append(metrics(graph, parts).save(neurobench, force=force))
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
