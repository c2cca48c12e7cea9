"""`tcja-deploy energy`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from tcja_deploy.cli.options import (
    ALL,
    AS_FOUND,
    AS_USUAL,
    ForceOption,
    JsonOption,
    Loading,
    RecordingOptions,
    Running,
    check_outputs,
    load_model,
    refuse_recordings,
    shared_options,
)
from tcja_deploy.cli.resume import ResumeOption, resumable
from tcja_deploy.errors import UsageError

if TYPE_CHECKING:
    from tcja_deploy.energy.count.inventory import Measured
    from tcja_deploy.energy.count.model import ModelActivity
    from tcja_deploy.energy.report.reproduce import Reproduction
    from tcja_deploy.hardware_profiles import Profile
    from tcja_deploy.ir import Graph

__all__ = ["energy"]

EnumT = TypeVar("EnumT", bound=StrEnum)


@shared_options
def energy(
    model: Annotated[
        Path | None,
        typer.Argument(
            metavar="MODEL",
            help="Checkpoint, state dict, pickled module, .tcja or .nir file.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            help="Recordings: a folder of class folders, or one file; may be repeated.",
            show_default=False,
        ),
    ] = None,
    activity: Annotated[
        Path | None,
        typer.Option(
            help="Counts saved by 'tcja-deploy rates --save', instead of --data.", show_default=False
        ),
    ] = None,
    profile: Annotated[
        list[str] | None,
        typer.Option("--profile", "-p", help="Prices: a built-in profile or a .toml file; may be repeated."),
    ] = None,
    convention: Annotated[
        list[str] | None,
        typer.Option("--convention", "-c", help="paper, strict, memory or hardware; may be repeated."),
    ] = None,
    reproduce: Annotated[
        bool, typer.Option("--reproduce", help="Analyse the paper's 0.0019 J against 0.01 J.")
    ] = False,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output", "-o", help="Write a report: .html, .json, .csv, .tex or .md; may be repeated."
        ),
    ] = None,
    first_layer: Annotated[
        str, typer.Option(help="First layer in 'paper': ac, mac-once, mac-nnz or mac-dense-T.")
    ] = "ac",
    counts_as: Annotated[
        str, typer.Option(help="Event counts in 'strict': mac, or repeat for repeated accumulations.")
    ] = "mac",
    reuse: Annotated[
        int, typer.Option(min=1, help="Operations served by one read of a weight ('memory').")
    ] = 1,
    dram: Annotated[
        bool, typer.Option("--dram", help="Fetch weights from DRAM once per inference ('memory').")
    ] = False,
    partial_sums: Annotated[
        bool, typer.Option("--partial-sums", help="Accumulators in memory instead of registers ('memory').")
    ] = False,
    weight_bit: Annotated[int | None, typer.Option(min=1, help="Bits of a weight ('memory').")] = None,
    state_bit: Annotated[int | None, typer.Option(min=1, help="Bits of a membrane ('memory').")] = None,
    payload_bit: Annotated[
        int | None, typer.Option(min=1, help="Bits of a graded spike's payload ('memory').")
    ] = None,
    allow_uncounted: Annotated[
        bool,
        typer.Option("--allow-uncounted", help="Report ops without a counting rule instead of refusing."),
    ] = False,
    how: Loading = AS_FOUND,
    which: RecordingOptions = ALL,
    running: Running = AS_USUAL,
    resume: ResumeOption = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Energy per inference by named conventions side by side, from exact counts over a data set."""
    from tcja_deploy.cli.rates import measured_model
    from tcja_deploy.cli.render import show_document
    from tcja_deploy.energy.price.conventions import AccountingOptions
    from tcja_deploy.energy.price.estimate import select
    from tcja_deploy.energy.price.memory import MemoryModel
    from tcja_deploy.energy.price.paper import FirstLayer
    from tcja_deploy.energy.price.strict import CountsAs
    from tcja_deploy.energy.render.documents import FORMATS, report_document, reproduction_document
    from tcja_deploy.energy.render.report_tables import summary_tables
    from tcja_deploy.energy.render.reproduce_tables import reproduction_summary
    from tcja_deploy.energy.report.provenance import profile_facts, provenance
    from tcja_deploy.energy.report.record import make_report

    options = AccountingOptions(
        _choice(FirstLayer, "--first-layer", first_layer),
        _choice(CountsAs, "--counts-as", counts_as),
        MemoryModel(reuse, dram, partial_sums, weight_bit, state_bit, payload_bit),
    )
    if reproduce and (profile or convention or options != AccountingOptions()):
        raise UsageError(
            "--reproduce uses the paper's own convention and prices",
            hint="leave out --profile, --convention and the options of conventions, such as --first-layer",
        )
    if model is None and (data or activity or not reproduce):
        raise UsageError("no model was given", hint="give a model and --data, or --reproduce alone")
    check_outputs(output or [], force=force, suffixes=FORMATS)
    command = ["tcja-deploy", *sys.argv[1:]]
    facts, measured = provenance(command), None
    if not reproduce:
        conventions, profiles = select(convention or (), profile or ())
    if model is not None:
        graph = load_model(model, how)
        if data and activity is None:
            with resumable("energy", model, data, None, resume=resume) as kept:
                found = measured_model(graph, data, which, running, kept=kept)
        else:
            found = _kept(graph, data, activity, which, resume=resume)
        if not found.leads:
            return
        facts, measured = {**provenance(command, model, graph), **found.facts}, found.measured
    if reproduce:
        comparison, prices = _reproduction(measured)
        facts |= profile_facts([prices])
        tables = reproduction_summary(comparison)
        render = partial(reproduction_document, comparison, facts)
    elif measured is not None:
        facts |= profile_facts(profiles)
        report = make_report(
            measured, profiles, conventions, options, provenance=facts, allow_unsupported=allow_uncounted
        )
        tables, render = summary_tables(report), partial(report_document, report)
    show_document(tables, render, output or [], force=force, as_json=as_json)


def _choice(kind: type[EnumT], option: str, text: str) -> EnumT:
    try:
        return kind(text)
    except ValueError:
        raise UsageError(f"{option} {text!r} is unknown", hint=f"use one of {', '.join(kind)}") from None


def _kept(
    graph: Graph,
    data: Sequence[Path] | None,
    activity: Path | None,
    which: RecordingOptions,
    *,
    resume: bool,
) -> ModelActivity:
    """Activity from a file of saved counts.

    Raises:
        UsageError: No such file was named, or recordings were as well.
    """
    from tcja_deploy.energy.count.model import kept_activity

    if data or activity is None:
        raise UsageError(
            "energy depends on activity: give either recordings (--data) or saved counts (--activity)",
            hint="no rate is ever assumed; 'tcja-deploy energy --reproduce' shows what shapes alone can tell",
        )
    if resume:
        raise UsageError(
            "--resume continues a run over recordings; --activity holds counts that are complete"
        )
    refuse_recordings(which, "--activity holds counts that are complete")
    return kept_activity(graph, activity)


def _reproduction(measured: Measured | None) -> tuple[Reproduction, Profile]:
    from tcja_deploy import zoo
    from tcja_deploy.energy.report.reproduce import NETWORKS, PRICES, reproduce
    from tcja_deploy.hardware_profiles import load_profile

    prices = load_profile(PRICES)
    return reproduce([(name, zoo.build(name)) for name in NETWORKS], prices, measured), prices
