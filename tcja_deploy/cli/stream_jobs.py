"""What `tcja-deploy stream` shows of studies and runs."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path

import typer

from tcja_deploy.cli.render import (
    agreement_table,
    console,
    print_agreement,
    print_table,
    print_written,
    progress_bar,
)
from tcja_deploy.cli.stream_live import onnx_feed, show, stream_feed
from tcja_deploy.cli.stream_views import (
    block_table,
    cost_lines,
    divergence_line,
    gain_line,
    layer_table,
    outcome_line,
    plot_sweep,
    sweep_table,
)
from tcja_deploy.events import EventData
from tcja_deploy.files import atomic_file
from tcja_deploy.ir import Graph
from tcja_deploy.library.streams import StreamReport
from tcja_deploy.runtime.stream import save_profile
from tcja_deploy.runtime.stream.study import Study
from tcja_deploy.runtime.stream.timing import timing
from tcja_deploy.streaming import StreamEngine, run_stream

__all__ = ["draw", "show_run", "show_study", "temporary_folder"]


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """Where an engine keeps its files while it runs."""
    return tempfile.TemporaryDirectory()


def show_study(
    found: Study,
    data: EventData,
    *,
    profile: Path | None,
    plot: Path | None,
    frame_time: float | None,
    as_json: bool,
    force: bool,
) -> None:
    """Write the best fitted profile and the plot where they are asked for, and print a study.

    Raises:
        ExportError: If a file cannot be written.
    """
    written, rows = [], found.rows
    if profile is not None and (best := found.best) is not None:
        save_profile(best, profile, force=force)
        written.append(profile)
    if plot is not None:
        with atomic_file(plot, force=force) as temporary:
            title = f"{data.path.name}: {rows[0].samples} recordings, T = {len(rows[0].running_accuracy)}"
            plot_sweep(rows, temporary, title)
        written.append(plot)
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in rows], indent=2))
        return
    print_table(sweep_table(rows, frame_time))
    print_table(layer_table(rows))
    if found.fitted:
        console.print(gain_line(found))
    print_written(written)


def draw(engine: StreamEngine, graph: Graph, data: EventData, frame_time: float | None) -> None:
    """Draw what an engine does, frame by frame."""
    model, layers = engine.step_model, [node.name for node in graph.neurons]
    wait = timing(engine.plan).latency if engine.plan.schedule == "paced" else 0
    show(
        lambda: stream_feed(engine.runs) if model is None else onnx_feed(model, layers),
        data,
        frame_time,
        wait,
    )


def show_run(
    engine: StreamEngine, data: EventData, *, batch_size: int, frame_time: float | None, as_json: bool
) -> StreamReport:
    """Run an engine and print what it did and what it costs."""
    run = run_stream(engine, data, batch_size=batch_size, bar=progress_bar)
    cost, found, agreement = run.cost, run.outcome, run.agreement
    report = StreamReport.of(engine, run, {"data": str(data.path), "data SHA-256": data.digest})
    if as_json:
        typer.echo(report.document(".json"), nl=False)
        return report
    console.print(f"engine: {engine.label}", highlight=False)
    if cost.blocks:
        print_table(block_table(cost, frame_time))
    side_by_side = min(batch_size, found.samples)
    for line in [*cost_lines(cost, frame_time), outcome_line(found, side_by_side, frame_time)]:
        console.print(line, highlight=False, soft_wrap=True)
    for name, value in engine.notes.items():
        console.print(f"{name}: {value}", highlight=False)
    if engine.exact:
        print_agreement(agreement, engine.other)
    else:
        print_table(agreement_table(agreement, engine.other))
        console.print(divergence_line(agreement), highlight=False)
    return report
