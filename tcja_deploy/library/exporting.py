"""An export and a verification in one line each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, Unpack, cast, overload

from tcja_deploy.artifacts import artifact_target
from tcja_deploy.errors import UsageError
from tcja_deploy.exporters.lava.report import LavaReport
from tcja_deploy.exporters.pipeline import run_export, run_verification
from tcja_deploy.exporters.report import ExportReport
from tcja_deploy.exporters.target import check_options
from tcja_deploy.exporters.targets import find_target
from tcja_deploy.ir import Graph
from tcja_deploy.library.accounting import EnergyReport, energy
from tcja_deploy.library.arguments import LoadArguments, RecordingArguments
from tcja_deploy.library.card import CardFacts, hub_license, model_card
from tcja_deploy.library.comparison import CONVENTIONS, PROFILES
from tcja_deploy.library.export_arguments import (
    Exporting,
    LavaExporting,
    LavaVerifying,
    NirExporting,
    NirVerifying,
    OnnxExporting,
    OnnxStepExporting,
    OnnxStepVerifying,
    OnnxVerifying,
)
from tcja_deploy.library.exported import Export, LavaExport, Verification
from tcja_deploy.library.firing_rates import RateReport
from tcja_deploy.library.progress import step_bar
from tcja_deploy.library.sources import (
    Data,
    Model,
    Passing,
    Taken,
    labelled_batches,
    model_facts,
    model_name,
    open_batches,
    open_data,
    open_model,
)
from tcja_deploy.library.task import task
from tcja_deploy.runtime.agreement import BOUND

__all__ = ["export", "verify"]

_TOGETHER = 4
"""Recordings that run at once by default."""


@overload
def export(
    model: Model, target: Literal["onnx"], path: str | Path, **options: Unpack[OnnxExporting]
) -> Export: ...
@overload
def export(
    model: Model, target: Literal["onnx-step"], path: str | Path, **options: Unpack[OnnxStepExporting]
) -> Export: ...
@overload
def export(
    model: Model, target: Literal["lava"], path: str | Path, **options: Unpack[LavaExporting]
) -> LavaExport: ...
@overload
def export(
    model: Model, target: Literal["nir"], path: str | Path, **options: Unpack[NirExporting]
) -> Export: ...
@overload
def export(model: Model, target: str, path: str | Path, **options: Unpack[Exporting]) -> Export: ...
@task
def export(
    model: Model,
    target: str,
    path: str | Path,
    *,
    data: Data | None = None,
    batch_size: int = _TOGETHER,
    verify: bool = True,
    bound: float = BOUND,
    card: bool = False,
    license: str | None = None,
    activity: RateReport | str | Path | None = None,
    force: bool = False,
    progress: bool = True,
    loading: LoadArguments | None = None,
    **options: object,
) -> Export:
    """Write a network for a target and, by default, verify what was written before it moves into place.

    An artifact that differs from its reference beyond the bound moves into place as well: the result and the manifest say so
    (`agreement.passed`, `parity`), and where it differs.

    Args:
        model: What `load` takes, or a graph.
        target: `"onnx"` (whole windows), `"onnx-step"` (one frame and states), `"lava"` (a bundle for lava-dl)
            or `"nir"`.
        path: File or folder to write.
        data: Recordings to calibrate and verify on, as for `rates`; batches are read when they are needed. Four synthetic
            samples if not given.
        batch_size: Recordings of files that run at once.
        verify: Compare the artifact with its reference.
        bound: Allowed mismatches per neuron-step.
        card: Write a model card too: `<stem>.card.md` beside a file, `README.md` in a folder.
        license: Identifier of the licence of the weights for the card, such as `"apache-2.0"`; `"unknown"` if not given.
        activity: The result of `rates`, or a file of counts: the card then states accuracy, firing rate and energy.
        force: Replace what is there.
        progress: Show a progress bar if it takes longer than two seconds.
        loading: Arguments of `load`, for a model that is not a graph.
        **options: Options of the target: the fields of `OnnxOptions`, `OnnxStepOptions`, `LavaOptions` and `NirOptions` in
            `tcja_deploy.exporters` (one that takes recordings takes them as `data` does); and arguments of `open_data`,
            for paths.

    Raises:
        UsageError: If there is no such target or option, or an argument is of the wrong kind.
        DataError: If the data holds no sample, or frames do not fit.
        ExportError: If the artifact cannot be written.
        UnsupportedError: If the target cannot express the network.
    """
    found = find_target(target)
    if not Path(path).name:
        raise UsageError(f"{str(path)!r} does not name a file to write", hint="give it a name")
    if not card and not (activity is None and license is None):
        raise UsageError(
            "rates, energy and licence are for the model card, and none is asked for", hint="say card=True"
        )
    licensed = hub_license(license)
    recordings, own = _apart(options)
    check_options(found.options, own, f"target {target}")
    graph = open_model(model, loading, progress=progress)
    frames = _frames(Taken.by(graph), data, batch_size, recordings)
    about = None
    if card:
        about = CardFacts(_name(model, graph), graph, frames, _energy(graph, activity), licensed)
    with step_bar(None if frames is None else frames.total, shown=progress) as update:
        report = run_export(
            found,
            graph,
            Path(path),
            data=frames,
            verify=verify,
            bound=bound,
            force=force,
            card=None if about is None else lambda entries, done: model_card(entries, done, about),
            progress=update,
            **{name: _read(found.options, name, value, graph, batch_size) for name, value in own.items()},
        )
    known = {} if frames is None else frames.facts
    return _result(report, model_facts(model, graph) | known)


@overload
def verify(
    artifact: str | Path, model: Model, data: Data | None = None, **options: Unpack[OnnxVerifying]
) -> Verification: ...
@overload
def verify(
    artifact: str | Path, model: Model, data: Data | None = None, **options: Unpack[OnnxStepVerifying]
) -> Verification: ...
@overload
def verify(
    artifact: str | Path, model: Model, data: Data | None = None, **options: Unpack[NirVerifying]
) -> Verification: ...
@overload
def verify(
    artifact: str | Path, model: None = None, data: Data | None = None, **options: Unpack[LavaVerifying]
) -> Verification: ...
@task
def verify(
    artifact: str | Path,
    model: Model | None = None,
    data: Data | None = None,
    *,
    batch_size: int = _TOGETHER,
    progress: bool = True,
    loading: LoadArguments | None = None,
    **options: object,
) -> Verification:
    """Run an exported artifact and compare it with its reference, spike for spike.

    ONNX models and NIR files are compared with the sequence runtime, step models with the stream, and Lava bundles, which run
    in the real lava-dl, with the integer twin.

    Args:
        artifact: An `.onnx` or `.nir` file, a Lava bundle or a split NIR export; recognised by content.
        model: The network it was exported from, as for `export`; a Lava bundle holds its own and takes none.
        data: Recordings, as for `export`; four synthetic samples if not given (a Lava bundle's own sample).
        batch_size: Recordings of files that run at once.
        progress: Show a progress bar if it takes longer than two seconds.
        loading: Arguments of `load`, for a model that is not a graph.
        **options: Options of the target's verification: the fields of `OnnxVerification`, `OnnxStepVerification`,
            `LavaVerification` and `NirVerification` in `tcja_deploy.exporters`; and arguments of `open_data`, for paths.

    Raises:
        FileFormatError: If the artifact is damaged or was not exported from the graph.
        DataError: If the data holds no sample, or frames do not fit.
        UsageError: If the graph is needed and not given, or an argument is of the wrong kind.
        ToolchainError: If the real Lava is needed and not installed.
    """
    place = Path(artifact)
    target = artifact_target(place)
    recordings, own = _apart(options)
    check_options(target.verification, own, f"verifying target {target.name}")
    graph = None if model is None else open_model(model, loading, progress=progress)
    frames = None
    if data is not None and target.own_input is not None:
        frames = _frames(Taken(*target.own_input(place)), data, batch_size, recordings)
    elif graph is not None:
        frames = _frames(Taken.by(graph), data, batch_size, recordings)
    with step_bar(None if frames is None else frames.total, shown=progress) as update:
        agreement = run_verification(target, place, graph, frames, progress=update, **own)
    known = {} if frames is None else frames.facts
    facts = known if model is None or graph is None else model_facts(model, graph) | known
    values = {f.name: getattr(agreement, f.name) for f in fields(agreement)}
    runtime = str(own.get("backend", target.runtime))
    return Verification(**values, artifact=place, runtime=runtime, facts=facts)


def _apart(given: Mapping[str, object]) -> tuple[RecordingArguments, dict[str, Any]]:
    """The arguments about recordings, and the target's own options."""
    known = RecordingArguments.__annotations__
    return (
        cast(RecordingArguments, {name: value for name, value in given.items() if name in known}),
        {name: value for name, value in given.items() if name not in known},
    )


def _frames(taken: Taken, data: Data | None, size: int, recordings: RecordingArguments) -> Passing | None:
    if data is not None:
        return open_batches(taken, data, size, **recordings)
    if recordings:
        raise UsageError(
            f"{', '.join(recordings)} are about recordings, but there are none", hint="give data"
        )
    return None


def _name(model: Model, graph: Graph) -> str:
    """What the card calls the network: the name of its file without the suffix, if there is one."""
    return Path(graph.source["file"]).stem if "file" in graph.source else model_name(model)


def _read(kind: type, name: str, value: Any, graph: Graph, size: int) -> Any:
    """The value of a target's option; recordings, in any form that `data` takes, become labelled batches."""
    reads = {f.name: f.metadata.get("reads") for f in fields(kind)}
    if reads.get(name) != "labelled recordings" or value is None:
        return value
    return labelled_batches(open_data(graph, value), size)


def _energy(graph: Graph, activity: RateReport | str | Path | None) -> EnergyReport | None:
    """Energy for the card, with the default conventions and prices of `compare`."""
    if activity is None:
        return None
    return energy(graph, activity=activity, conventions=CONVENTIONS, profiles=PROFILES)


def _result(report: ExportReport, facts: Mapping[str, str]) -> Export:
    kind = LavaExport if isinstance(report, LavaReport) else Export
    values = {f.name: getattr(report, f.name) for f in fields(kind) if hasattr(report, f.name)}
    return kind(**values, facts=facts)
