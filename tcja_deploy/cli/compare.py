"""`tcja-deploy compare`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tcja_deploy.cli.options import (
    ALL,
    AS_FOUND,
    AS_USUAL,
    ConventionsOption,
    ForceOption,
    JsonOption,
    Loading,
    PricesOption,
    RecordingOptions,
    RecordingsOption,
    Running,
    check_outputs,
    load_model,
    shared_options,
)

__all__ = ["compare"]


@shared_options
def compare(
    models: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODELS...",
            help="Two or more models, as for the other commands; the first is the one that the others are compared with.",
            show_default=False,
        ),
    ],
    data: RecordingsOption,
    profile: PricesOption = None,
    convention: ConventionsOption = None,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output", "-o", help="Write the tables: .html, .json, .csv, .tex or .md; may be repeated."
        ),
    ] = None,
    how: Loading = AS_FOUND,
    which: RecordingOptions = ALL,
    running: Running = AS_USUAL,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Models on the same recordings: accuracy, size, SOPs, rates and energy side by side, differences with intervals."""
    from tcja_deploy.cli.rates import measured_model
    from tcja_deploy.cli.render import show_document
    from tcja_deploy.energy.price.estimate import select
    from tcja_deploy.energy.render.documents import FORMATS
    from tcja_deploy.energy.report.comparison import compare_networks
    from tcja_deploy.energy.report.provenance import profile_facts
    from tcja_deploy.library.comparison import CONVENTIONS, PROFILES, ComparisonReport, facts_of, named_models
    from tcja_deploy.library.sources import model_facts

    check_outputs(output or [], force=force, suffixes=FORMATS)
    conventions, profiles = select(convention or CONVENTIONS, profile or PROFILES)
    found, facts = [], dict[str, str]()
    for name, model in named_models(models).items():
        graph = load_model(model, how)
        activity = measured_model(graph, data, which, running)
        if not activity.leads:
            continue
        found.append((name, activity.measured))
        facts |= facts_of(name, model_facts(model, graph, ["tcja-deploy", *sys.argv[1:]]) | activity.facts)
    if not found:
        return
    report = ComparisonReport(compare_networks(found, conventions, profiles), facts | profile_facts(profiles))
    show_document(report.tables()[:2], report.document, output or [], force=force, as_json=as_json)
