"""`tcja-deploy benchmark`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tcja_deploy.cli.options import (
    ALL,
    AS_FOUND,
    ConventionsOption,
    ForceOption,
    JsonOption,
    Loading,
    ModelArgument,
    PricesOption,
    RecordingOptions,
    RecordingsOption,
    check_outputs,
    load_model,
    open_dataset,
    shared_options,
)

__all__ = ["benchmark"]


@shared_options
def benchmark(
    model: ModelArgument,
    data: RecordingsOption,
    target: Annotated[
        list[str] | None,
        typer.Option(
            "--target",
            "-t",
            help="A target, with options after a colon (nir:gate=split); may be repeated; all targets if not given.",
            show_default=False,
        ),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="Recordings that Lava's numbers are calibrated on; those of --data if not given.",
            show_default=False,
        ),
    ] = None,
    measure: Annotated[
        bool,
        typer.Option("--measure", help="Measure the energy of the runs, where the machine has RAPL or NVML."),
    ] = False,
    turns: Annotated[
        int,
        typer.Option(min=1, help="Timed passes over the recordings; none begins after half a minute."),
    ] = 5,
    engine: Annotated[
        str, typer.Option(help="What runs the network itself: auto, torch, events or onnx.")
    ] = "auto",
    profile: PricesOption = None,
    convention: ConventionsOption = None,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output", "-o", help="Write the table: .html, .json, .csv, .tex or .md; may be repeated."
        ),
    ] = None,
    how: Loading = AS_FOUND,
    which: RecordingOptions = ALL,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Every target beside the network: size, accuracy, differing spikes, time, energy; refusals with their reasons."""
    from dataclasses import replace

    from tcja_deploy.cli.render import show_document
    from tcja_deploy.energy.render.documents import FORMATS
    from tcja_deploy.energy.report.provenance import provenance
    from tcja_deploy.library.benchmark import benchmark as run
    from tcja_deploy.library.comparison import CONVENTIONS, PROFILES
    from tcja_deploy.library.target_choice import chosen_targets

    check_outputs(output or [], force=force, suffixes=FORMATS)
    chosen_targets(target or [])
    graph = load_model(model, how)
    parts = [open_dataset(graph, path, which) for path in data]
    fit_on = None if calibration is None else open_dataset(graph, calibration, which._replace(limit=None))
    report = run(
        graph,
        parts if len(parts) > 1 else parts[0],
        targets=target or (),
        calibration=fit_on,
        conventions=convention or CONVENTIONS,
        profiles=profile or PROFILES,
        measure=measure,
        turns=turns,
        batch_size=which.together,
        engine=engine,
    )
    facts = {**report.facts, **provenance(["tcja-deploy", *sys.argv[1:]], model, graph)}
    report = replace(report, model=model.stem, facts=facts)
    show_document(report.tables(), report.document, output or [], force=force, as_json=as_json)
