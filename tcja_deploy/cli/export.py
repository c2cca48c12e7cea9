"""`tcja-deploy export`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

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
from tcja_deploy.exporters.targets import TARGETS, find_target

__all__ = ["export"]


def _kind(target: str) -> type:
    return TARGETS[target].options


@target_options(_kind, "--target {}")
@shared_options
def export(
    model: ModelArgument,
    target: Annotated[str, typer.Option("--target", "-t", help=f"{', '.join(TARGETS)}.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="What to write; named after the model if not given.")
    ] = None,
    how: Loading = AS_FOUND,
    data: DataOption = None,
    which: RecordingOptions = ALL,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Run the result beside the reference.")
    ] = True,
    force: ForceOption = False,
    as_json: JsonOption = False,
    given: Given = NOTHING,
) -> None:
    """Write a trained network for a target, and verify what was written."""
    from tcja_deploy.api import export as run_export
    from tcja_deploy.cli.render import print_report, step_bar
    from tcja_deploy.errors import VerificationError

    chosen = find_target(target)
    check_given(target, given, _kind, f"--target {target}")
    graph = load_model(model, how)
    dataset = given_dataset(graph, data, which)
    path = _place(output, model.stem + chosen.suffix)
    options = read_given(target, given, _kind, graph, which)
    batches = None if dataset is None else (frames for frames, _ in dataset.batches(which.together))
    with step_bar(None if dataset is None else len(dataset)) as progress:
        report = run_export(
            graph, target, path, data=batches, verify=verify, force=force, progress=progress, **options
        )
    if as_json:
        found = {
            "target": target,
            "path": str(report.path),
            "files": [str(f) for f in report.files],
            "notes": list(report.notes),
            "parity": None if report.agreement is None else report.agreement.as_dict(),
        }
        typer.echo(json.dumps(found, indent=2))
    else:
        print_report(report)
    if report.agreement is not None and not report.agreement.passed:
        raise VerificationError(
            "the exported model differs from the reference beyond the bound",
            where=str(report.path),
            hint="the files are written; the table and the manifest say where they differ",
        )


def _place(output: Path | None, name: str) -> Path:
    """Where to write; in an existing folder, a file gets its usual name."""
    if output is None:
        return Path(name)
    return output / name if output.is_dir() and name.endswith(".onnx") else output
