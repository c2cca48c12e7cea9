"""`tcja-deploy stream`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tcja_deploy.cli.options import (
    AS_FOUND,
    ForceOption,
    JsonOption,
    Loading,
    ModelArgument,
    RecordingOptions,
    check_outputs,
    load_model,
    open_dataset,
    shared_options,
)
from tcja_deploy.cli.resume import ResumeOption, resumable
from tcja_deploy.cli.values import microseconds
from tcja_deploy.errors import UsageError

__all__ = ["stream"]


_SIDE_BY_SIDE = RecordingOptions(batch_size=20)


class Engine(StrEnum):
    """What computes the frames."""

    AUTO = "auto"
    TORCH = "torch"
    EVENTS = "events"
    ONNX = "onnx"
    TWIN = "twin"


class Pace(StrEnum):
    """When the network works."""

    BURST = "burst"
    PACED = "paced"


@shared_options
def stream(
    model: ModelArgument,
    data: Annotated[
        Path,
        typer.Option(help="Recordings: a folder of class folders, or one file.", show_default=False),
    ],
    lookahead: Annotated[
        int | None,
        typer.Option(
            "--lookahead",
            "-D",
            min=0,
            help="Frames that each TCJA block waits; as many as an exact result takes if not given.",
        ),
    ] = None,
    schedule: Annotated[
        Pace | None,
        typer.Option(
            help="Pass results on as soon as they are final (burst, not in onnxruntime), or work evenly (paced)."
        ),
    ] = None,
    engine: Annotated[
        Engine,
        typer.Option(
            help="What computes: torch, the event engine (auto takes one of the two), onnxruntime, or the integer twin."
        ),
    ] = Engine.AUTO,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Compare all look-aheads with the exact stream.")
    ] = False,
    fit: Annotated[
        bool, typer.Option("--fit", help="Fit what blocks assume about future frames, and report the gain.")
    ] = False,
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="Recordings to fit on; every other one of --data if not given.", show_default=False
        ),
    ] = None,
    profile: Annotated[
        Path | None, typer.Option(help="A fitted profile to use (.safetensors).", show_default=False)
    ] = None,
    save_profile: Annotated[
        Path | None, typer.Option(help="Where to write the fitted profile.", show_default=False)
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the sweep into this .png file.", show_default=False)
    ] = None,
    live: Annotated[bool, typer.Option("--live", help="Draw what happens, frame by frame.")] = False,
    how: Loading = AS_FOUND,
    which: RecordingOptions = _SIDE_BY_SIDE,
    resume: ResumeOption = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run a network one frame at a time; measure latency, memory, and what a shorter look-ahead costs."""
    wrong = {
        "--sweep and --fit run on torch": (sweep or fit) and engine not in (Engine.AUTO, Engine.TORCH),
        "--plot belongs to --sweep": plot is not None and not sweep,
        "--save-profile belongs to --fit": save_profile is not None and not fit,
        "--calibration belongs to --fit and --engine twin": calibration is not None
        and not (fit or engine is Engine.TWIN),
        "--resume belongs to --sweep and --fit": resume and not (sweep or fit),
        "--profile and --fit are mutually exclusive": profile is not None and fit,
        "--live draws single runs; leave out --sweep, --fit and --json": live and (sweep or fit or as_json),
        "--sweep tries every look-ahead; leave out --lookahead": sweep and lookahead is not None,
        "--sweep and --fit count the latency of the paced schedule; leave out --schedule": (sweep or fit)
        and schedule is not None,
        "onnxruntime runs the paced schedule": engine is Engine.ONNX and schedule is Pace.BURST,
        "--fit without --sweep needs the --lookahead that it is for": fit and not sweep and lookahead is None,
    }
    for reason in [reason for reason, found in wrong.items() if found]:
        raise UsageError(reason)
    check_outputs([] if plot is None else [plot], force=force, suffixes=[".png"], what="the plot")
    check_outputs([] if save_profile is None else [save_profile], force=force)
    from tcja_deploy.cli.render import progress_bar
    from tcja_deploy.cli.stream_jobs import draw, show_run, show_study, temporary_folder
    from tcja_deploy.passes import fold_batch_norm
    from tcja_deploy.runtime.stream import load_profile
    from tcja_deploy.runtime.stream.study import study
    from tcja_deploy.streaming import open_engine

    graph = fold_batch_norm(load_model(model, how))
    dataset, fit_on = open_dataset(graph, data, which), None
    if calibration is not None:
        fit_on = open_dataset(graph, calibration, which._replace(limit=None))
    guess = None if profile is None else load_profile(graph, profile)
    size = which.together
    frame_time = None if which.frame_time is None else microseconds(which.frame_time) / 1000
    if sweep or fit:
        paths = [data, *([] if calibration is None else [calibration])]
        with resumable("stream", model, paths, save_profile, resume=resume) as kept:
            about = {
                "model": graph.hash,
                "data SHA-256": dataset.digest,
                "frames split by": str(dataset.framing),
                "recordings to fit on": "every other one" if fit_on is None else fit_on.digest,
                "batch size": str(size),
                "look-ahead": "all" if lookahead is None else str(lookahead),
                "profile": "none" if guess is None else guess.hash,
                "fitted": str(fit),
            }
            kept.about(about)
            found = study(
                graph, dataset, calibration=fit_on, lookahead=lookahead, profile=guess, fitted=fit, batch_size=size,
                bar=progress_bar, kept=kept,
            )  # fmt: skip
        show_study(
            found,
            dataset,
            profile=save_profile,
            plot=plot,
            frame_time=frame_time,
            as_json=as_json,
            force=force,
        )
        return
    with temporary_folder() as folder:
        runs = open_engine(
            engine.value, graph, dataset, Path(folder), calibration=fit_on, lookahead=lookahead, profile=guess,
            schedule=None if schedule is None else schedule.value, batch_size=size,
        )  # fmt: skip
        if live:
            draw(runs, graph, dataset, frame_time)
            return
        report = show_run(runs, dataset, batch_size=size, frame_time=frame_time, as_json=as_json)
    report.require_agreement()
