"""`tcja-deploy verify`."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from tcja_deploy.cli.notes import is_quiet, note
from tcja_deploy.cli.options import (
    ALL,
    AS_FOUND,
    DataOption,
    JsonOption,
    Loading,
    RecordingOptions,
    given_dataset,
    load_model,
    open_frames,
    refuse_recordings,
    shared_options,
)
from tcja_deploy.cli.remembered import read_again
from tcja_deploy.cli.targets import NOTHING, Given, check_given, read_given, target_options
from tcja_deploy.errors import UsageError
from tcja_deploy.exporters.target import Target
from tcja_deploy.exporters.targets import TARGETS

if TYPE_CHECKING:
    from tcja_deploy.library.exported import Verification

__all__ = ["verify"]


def _kind(target: str) -> type:
    return TARGETS[target].verification


@target_options(_kind, "Artifacts of target {}")
@shared_options
def verify(
    artifact: Annotated[
        Path,
        typer.Argument(
            metavar="ARTIFACT",
            help="An .onnx or .nir file, a Lava bundle, a split NIR export.",
            show_default=False,
        ),
    ],
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            "-m",
            help="The model it was exported from, if the manifest does not say or it has moved; a Lava bundle needs none.",
        ),
    ] = None,
    how: Loading = AS_FOUND,
    data: DataOption = None,
    which: RecordingOptions = ALL,
    as_json: JsonOption = False,
    given: Given = NOTHING,
) -> None:
    """Run an exported artifact beside its reference, spike for spike."""
    from tcja_deploy.artifacts import artifact_target
    from tcja_deploy.cli.render import print_agreement
    from tcja_deploy.errors import VerificationError

    target = artifact_target(artifact)
    check_given(target.name, given, _kind, f"this artifact, which is for target {target.name}")
    if model is None and how != AS_FOUND:
        raise UsageError("there is no model that these options could be about", hint="pass --model")
    agreement = _verify(artifact, target, model, how, data, which, given)
    if as_json:
        typer.echo(agreement.document(".json"), nl=False)
    else:
        print_agreement(agreement, agreement.runtime)
    if agreement.silence:
        note(agreement.silence)
    if not agreement.passed:
        takes_profile = "profile" in {f.name for f in fields(target.verification)}
        raise VerificationError(
            "the artifact differs from the reference beyond the bound",
            where=str(artifact),
            hint="if it was exported with --profile, pass that profile"
            if takes_profile and "profile" not in given
            else "the table says where; export it again if it was changed",
        )


def _verify(
    artifact: Path,
    target: Target[Any, Any],
    model: Path | None,
    how: Loading,
    data: Path | None,
    which: RecordingOptions,
    given: Given,
) -> Verification:
    from tcja_deploy.library.exporting import verify as run_verify

    if target.own_input is None:
        if model is None:
            model, how = read_again(artifact, target.name)
        graph = load_model(model, how)
        dataset = given_dataset(graph, data, which)
    else:
        if model is not None:
            raise UsageError(f"{target.about} holds its own network", hint="leave out --model")
        graph = None
        if data is None:
            refuse_recordings(which)
        dataset = None if data is None else open_frames(*target.own_input(artifact), data, which)
    options = read_given(target.name, given, _kind, graph, which)
    return run_verify(
        artifact, graph, dataset, batch_size=which.together, progress=not is_quiet(), **cast(Any, options)
    )
