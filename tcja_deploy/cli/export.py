"""``tcja-deploy export``."""

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
    Recordings,
    given_dataset,
    load_model,
    shared_options,
)

__all__ = ["export"]


_ONNX, _STEP, _LAVA = "--target onnx, onnx-step", "--target onnx-step", "--target lava"


@shared_options
def export(
    model: ModelArgument,
    target: Annotated[
        str, typer.Option("--target", "-t", help="onnx, onnx-step, lava or nir.", show_default=False)
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="What to write; named after the model if not given.")
    ] = None,
    how: Loading = AS_FOUND,
    data: DataOption = None,
    which: Recordings = ALL,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Run the result beside the reference.")
    ] = True,
    force: ForceOption = False,
    as_json: JsonOption = False,
    opset: Annotated[int | None, typer.Option(help="Opset version.", rich_help_panel=_ONNX)] = None,
    batch_first: Annotated[
        bool | None,
        typer.Option(
            "--batch-first", help="[N, T, ...] instead of [T, N, ...].", rich_help_panel="--target onnx"
        ),
    ] = None,
    external_data: Annotated[
        bool | None,
        typer.Option(
            "--external-data", help="Weights in a file of their own.", rich_help_panel="--target onnx"
        ),
    ] = None,
    lookahead: Annotated[
        int | None,
        typer.Option(
            "--lookahead",
            "-D",
            help="Frames every TCJA block waits; exact if not given.",
            rich_help_panel=_STEP,
        ),
    ] = None,
    profile: Annotated[
        Path | None,
        typer.Option(
            help="What to expect of frames to come: a file of 'stream --fit'.", rich_help_panel=_STEP
        ),
    ] = None,
    test: Annotated[
        Path | None,
        typer.Option(
            help="Labelled recordings to compare float and integer network on.", rich_help_panel=_LAVA
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="Where the float network runs: cpu or cuda.", rich_help_panel=_LAVA),
    ] = None,
    gate_bits: Annotated[
        int | None, typer.Option(help="A gate of one becomes 2**bits.", rich_help_panel=_LAVA)
    ] = None,
    threshold_rule: Annotated[
        str | None, typer.Option(help="unbiased or ties.", rich_help_panel=_LAVA)
    ] = None,
    per_channel: Annotated[
        bool | None,
        typer.Option(
            "--per-channel", help="A threshold per channel; beyond what chips have.", rich_help_panel=_LAVA
        ),
    ] = None,
    margin: Annotated[
        float | None, typer.Option(help="Head room over the calibrated peak.", rich_help_panel=_LAVA)
    ] = None,
    percentile: Annotated[
        float | None, typer.Option(help="Percentile of the peaks that counts.", rich_help_panel=_LAVA)
    ] = None,
    gate: Annotated[
        str | None,
        typer.Option(
            help="What becomes of TCJA gates: refuse, mean or split.", rich_help_panel="--target nir"
        ),
    ] = None,
) -> None:
    """Write a trained network for a target, and verify what was written."""
    from tcja_deploy.cli.targets import Request, find_target
    from tcja_deploy.errors import VerificationError

    specific = {
        "opset": opset,
        "batch_first": batch_first,
        "external_data": external_data,
        "lookahead": lookahead,
        "profile": profile,
        "test": test,
        "device": device,
        "gate_bits": gate_bits,
        "threshold_rule": threshold_rule,
        "per_channel": per_channel,
        "margin": margin,
        "percentile": percentile,
        "gate": gate,
    }
    given = {name: value for name, value in specific.items() if value is not None}
    chosen = find_target(target, given)
    graph = load_model(model, how)
    dataset = given_dataset(graph, data, which)
    path = _place(output, model.stem + chosen.suffix)
    report = chosen.run(Request(graph, path, dataset, which, verify, force, given))
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
        chosen.show(report)
    if report.agreement is not None and not report.agreement.passed:
        raise VerificationError(
            "the exported model differs from the reference beyond the bound",
            where=str(report.path),
            hint="the files are written; the table and the manifest say where they differ",
        )


def _place(output: Path | None, name: str) -> Path:
    """What to write; a folder that exists takes files under their usual name."""
    if output is None:
        return Path(name)
    return output / name if output.is_dir() and name.endswith(".onnx") else output
