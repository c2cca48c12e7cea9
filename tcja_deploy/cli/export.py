"""``tcja-deploy export``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tcja_deploy.cli.options import (
    ArchOption,
    BatchOption,
    DataOption,
    ForceOption,
    InputShapeOption,
    JsonOption,
    LimitOption,
    Loading,
    ModelArgument,
    SplitByOption,
    TimestepsOption,
    TrustPickleOption,
    load_model,
    open_dataset,
)

__all__ = ["export"]


def export(
    model: ModelArgument,
    target: Annotated[str, typer.Option(help="onnx")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="What to write; beside you if not given.")
    ] = None,
    arch: ArchOption = None,
    timesteps: TimestepsOption = None,
    input_shape: InputShapeOption = None,
    trust_pickle: TrustPickleOption = False,
    data: DataOption = None,
    limit: LimitOption = None,
    split_by: SplitByOption = "number",
    batch_size: BatchOption = 4,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Run the result beside the reference.")
    ] = True,
    opset: Annotated[int, typer.Option(help="ONNX opset version.")] = 17,
    batch_first: Annotated[
        bool, typer.Option("--batch-first", help="[N, T, ...] instead of [T, N, ...].")
    ] = False,
    external_data: Annotated[
        bool, typer.Option("--external-data", help="Weights in a file of their own.")
    ] = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a trained network for a target, and verify what was written."""
    from tcja_deploy.api import export as run_export
    from tcja_deploy.cli.render import console, print_agreement, progress_bar
    from tcja_deploy.errors import VerificationError

    graph = load_model(model, Loading(arch, timesteps, input_shape, trust_pickle))
    path = output or Path(f"{model.stem}.onnx")
    dataset = None if data is None else open_dataset(graph, data, split_by, limit)
    batches = None if dataset is None else (frames for frames, _ in dataset.batches(batch_size))
    with progress_bar("verifying", 4 if dataset is None else len(dataset)) as progress:
        report = run_export(
            graph, target, path, verify=verify, data=batches, force=force, progress=progress,
            opset=opset, batch_first=batch_first, external_data=external_data,
        )  # fmt: skip
    agreement = report.agreement
    if as_json:
        parity = None if agreement is None else agreement.as_dict()
        typer.echo(
            json.dumps(
                {"target": target, "files": [str(f) for f in report.files], "parity": parity}, indent=2
            )
        )
    else:
        if agreement is not None:
            print_agreement(agreement, "onnxruntime")
        for file in report.files:
            console.print(f"wrote {file} ({file.stat().st_size:,} bytes)", highlight=False)
    if agreement is not None and not agreement.passed:
        raise VerificationError(
            "the exported model differs from the reference beyond the bound", where=str(report.path),
            hint="the files are written; the table and the manifest say where they differ",
        )  # fmt: skip
