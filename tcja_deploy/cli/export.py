"""`tcja-deploy export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from tcja_deploy.cli.notes import is_quiet
from tcja_deploy.cli.options import (
    ALL,
    AS_FOUND,
    DataOption,
    ForceOption,
    JsonOption,
    Loading,
    ModelArgument,
    RecordingOptions,
    given_dataset,
    load_model,
    shared_options,
)
from tcja_deploy.cli.targets import NOTHING, Given, check_given, read_given, target_options
from tcja_deploy.errors import ExportError
from tcja_deploy.exporters.target import given_options
from tcja_deploy.exporters.targets import TARGETS, find_target
from tcja_deploy.files import path_status

__all__ = ["export"]


def _kind(target: str) -> type:
    return TARGETS[target].options


@target_options(_kind, "--target {}")
@shared_options
def export(
    model: ModelArgument,
    target: Annotated[str, typer.Option("--target", "-t", help=f"{', '.join(TARGETS)}.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="What to write, or a folder to write a file into; named after the model if not given.",
        ),
    ] = None,
    how: Loading = AS_FOUND,
    data: DataOption = None,
    which: RecordingOptions = ALL,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Run the result beside the reference.")
    ] = True,
    card: Annotated[bool, typer.Option("--card", help="Write a model card (Markdown) too.")] = False,
    license: Annotated[
        str | None,
        typer.Option(
            help="Licence of the weights for the card, such as apache-2.0; unknown if not given.",
            show_default=False,
        ),
    ] = None,
    activity: Annotated[
        Path | None,
        typer.Option(
            help="Counts saved by 'tcja-deploy rates --save': the card then states accuracy, rates and energy.",
            show_default=False,
        ),
    ] = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
    given: Given = NOTHING,
) -> None:
    """Write a trained network for a target, and verify what was written."""
    chosen = find_target(target)
    check_given(target, given, _kind, f"--target {target}")
    from tcja_deploy.cli.render import print_report  # after the mistakes that need nothing heavy to be told
    from tcja_deploy.errors import VerificationError
    from tcja_deploy.library.exporting import export as run_export

    graph = load_model(model, how)
    own = read_given(target, given, _kind, graph, which)
    inside = not chosen.folder(given_options(chosen.options, own, f"target {target}"))
    report = run_export(
        graph,
        target,
        _place(output, model.stem + chosen.suffix, inside),
        data=given_dataset(graph, data, which),
        batch_size=which.together,
        verify=verify,
        card=card,
        license=license,
        activity=activity,
        force=force,
        progress=not is_quiet(),
        **cast(Any, own),
    )
    if as_json:
        typer.echo(report.document(".json"), nl=False)
    else:
        print_report(report)
    if report.agreement is not None and not report.agreement.passed:
        raise VerificationError(
            "the exported model differs from the reference beyond the bound",
            where=str(report.path),
            hint="the files are written; the table and the manifest say where they differ",
        )


def _place(output: Path | None, name: str, inside: bool) -> Path:
    """Where to write; an artifact that is a file gets its usual name inside an existing folder."""
    if output is None:
        return Path(name)
    return output / name if inside and path_status(output, ExportError) == "folder" else output
