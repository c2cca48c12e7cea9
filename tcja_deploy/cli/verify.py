"""``tcja-deploy verify``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tcja_deploy.cli.options import (
    ALL,
    AS_FOUND,
    DataOption,
    JsonOption,
    Loading,
    Recordings,
    given_dataset,
    load_model,
    open_frames,
    refuse_recordings,
    shared_options,
)
from tcja_deploy.errors import UsageError

if TYPE_CHECKING:
    from tcja_deploy.ir import Graph
    from tcja_deploy.runtime.compare import Agreement

__all__ = ["verify"]


_LAVA = "Lava bundles"


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
        typer.Option("--model", "-m", help="The model it was exported from; a Lava bundle needs none."),
    ] = None,
    how: Loading = AS_FOUND,
    data: DataOption = None,
    which: Recordings = ALL,
    as_json: JsonOption = False,
    bound: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Allowed mismatching spikes per neuron-step; 1e-5 if not given."),
    ] = None,
    profile: Annotated[
        Path | None, typer.Option(help="The profile that an onnx-step model was exported with.")
    ] = None,
    runner: Annotated[
        str | None, typer.Option(help="Who runs a NIR file: sequence, sequence>=, norse or spikingjelly.")
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option(help="lava (the real one) or twin; lava if not given.", rich_help_panel=_LAVA),
    ] = None,
    fast_conv: Annotated[
        bool | None,
        typer.Option(
            "--fast-conv", help="Matrix products instead of Lava's convolution loops.", rich_help_panel=_LAVA
        ),
    ] = None,
    python: Annotated[
        Path | None, typer.Option(help="Interpreter that has lava-dl.", rich_help_panel=_LAVA)
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(min=1, help="Seconds for a run of Lava.", rich_help_panel=_LAVA)
    ] = None,
) -> None:
    """Run an exported artifact beside its reference, spike for spike."""
    from tcja_deploy.artifacts import artifact_target
    from tcja_deploy.cli.render import print_agreement
    from tcja_deploy.errors import VerificationError

    target = artifact_target(artifact)
    given = {
        "bound": bound, "profile": profile, "runner": runner, "backend": backend, "fast_conv": fast_conv,
        "python": python, "timeout": timeout,
    }  # fmt: skip
    options = {name: value for name, value in given.items() if value is not None}
    _refuse(target, options)
    if model is None and how != AS_FOUND:
        raise UsageError("there is no model that these options could be about", hint="pass --model")
    if target == "lava":
        if model is not None:
            raise UsageError("a Lava bundle holds its own network", hint="leave out --model")
        agreement = _verify_lava(artifact, data, which, options)
    else:
        graph = None if model is None else load_model(model, how)
        agreement = _verify(artifact, graph, data, which, options)
    if as_json:
        typer.echo(json.dumps(agreement.as_dict(), indent=2))
    else:
        print_agreement(agreement, _NAMES[target] if backend is None else backend)
    if not agreement.passed:
        raise VerificationError(
            "the artifact differs from the reference beyond the bound",
            where=str(artifact),
            hint="if it was exported with --profile, pass that profile"
            if target == "onnx-step" and profile is None
            else "the table says where; export it again if it was changed",
        )


_NAMES = {"onnx": "onnxruntime", "onnx-step": "onnxruntime", "nir": "NIR", "lava": "Lava"}
_TAKES = {
    "onnx": {"bound"},
    "onnx-step": {"bound", "profile"},
    "nir": {"bound", "runner"},
    "lava": {"backend", "fast_conv", "python", "timeout"},
}


def _refuse(target: str, options: dict[str, Any]) -> None:
    for name in options:
        if name not in _TAKES[target]:
            flag = "--" + name.replace("_", "-")
            raise UsageError(f"{flag} means nothing to this artifact, which is for target {target}")


def _verify(
    artifact: Path,
    graph: Graph | None,
    data: Path | None,
    which: Recordings,
    options: dict[str, Any],
) -> Agreement:
    from tcja_deploy.api import verify as run_verify
    from tcja_deploy.cli.render import progress_bar
    from tcja_deploy.runtime.stream.saved import load_profile

    if graph is None:
        raise UsageError("this artifact is compared with the model it was exported from", hint="pass --model")
    if "profile" in options:
        options["profile"] = load_profile(graph, options["profile"])
    dataset = given_dataset(graph, data, which)
    batches = None if dataset is None else (frames for frames, _ in dataset.batches(which.batch_size))
    with progress_bar("verifying", 4 if dataset is None else len(dataset)) as progress:
        return run_verify(artifact, graph, batches, progress=progress, **options)


def _verify_lava(artifact: Path, data: Path | None, which: Recordings, options: dict[str, Any]) -> Agreement:
    from tcja_deploy.api import verify as run_verify
    from tcja_deploy.cli.render import progress_bar
    from tcja_deploy.exporters.lava.bundle import read_bundle

    batches = None
    if data is None:
        refuse_recordings(which)
    else:
        network = read_bundle(artifact).network
        dataset = open_frames(network.frames, network.host_input.shape, data, which)
        batches = (frames for frames, _ in dataset.batches(which.batch_size))
    with progress_bar("time steps of Lava", None) as progress:
        return run_verify(artifact, None, batches, progress=lambda done, total: progress(done), **options)
