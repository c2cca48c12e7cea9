"""``tcja-deploy verify``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tcja_deploy.cli.options import (
    ArchOption,
    BatchOption,
    DataOption,
    InputShapeOption,
    JsonOption,
    LimitOption,
    Loading,
    SplitByOption,
    TimestepsOption,
    TrustPickleOption,
    load_model,
    open_dataset,
)

__all__ = ["verify"]


def verify(
    artifact: Annotated[
        Path, typer.Argument(metavar="ARTIFACT", help="An exported .onnx file.", show_default=False)
    ],
    model: Annotated[
        Path, typer.Option("--model", "-m", help="The model it was exported from.", show_default=False)
    ],
    arch: ArchOption = None,
    timesteps: TimestepsOption = None,
    input_shape: InputShapeOption = None,
    trust_pickle: TrustPickleOption = False,
    data: DataOption = None,
    limit: LimitOption = None,
    split_by: SplitByOption = "number",
    batch_size: BatchOption = 4,
    bound: Annotated[float, typer.Option(help="Allowed mismatching spikes per neuron-step.")] = 1e-5,
    as_json: JsonOption = False,
) -> None:
    """Run an exported artifact beside the reference, spike for spike."""
    from tcja_deploy.api import verify as run_verify
    from tcja_deploy.cli.render import print_agreement, progress_bar
    from tcja_deploy.errors import VerificationError

    graph = load_model(model, Loading(arch, timesteps, input_shape, trust_pickle))
    dataset = None if data is None else open_dataset(graph, data, split_by, limit)
    batches = None if dataset is None else (frames for frames, _ in dataset.batches(batch_size))
    with progress_bar("verifying", 4 if dataset is None else len(dataset)) as progress:
        agreement = run_verify(artifact, graph, batches, bound=bound, progress=progress)
    if as_json:
        typer.echo(json.dumps(agreement.as_dict(), indent=2))
    else:
        print_agreement(agreement, "onnxruntime")
    if not agreement.passed:
        raise VerificationError(
            "the artifact differs from the reference beyond the bound", where=str(artifact)
        )
