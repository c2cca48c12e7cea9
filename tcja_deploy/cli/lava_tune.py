"""`tcja-deploy lava tune`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from tcja_deploy.cli.notes import is_quiet
from tcja_deploy.cli.options import (
    ALL,
    AS_FOUND,
    ForceOption,
    JsonOption,
    Loading,
    ModelArgument,
    RecordingOptions,
    check_outputs,
    load_arguments,
    load_model,
    open_dataset,
    shared_options,
)
from tcja_deploy.cli.targets import NOTHING, Given, target_options
from tcja_deploy.exporters.targets import TARGETS

if TYPE_CHECKING:
    from tcja_deploy.library.tuning import Tuning

__all__ = ["tune"]


def _export_options(target: str) -> type:
    return TARGETS[target].options


@target_options(
    _export_options, "As in the export to {}", targets=["lava"], without=["test", "device", "engine"]
)
@shared_options
def tune(
    model: ModelArgument,
    data: Annotated[
        Path, typer.Option(help="Recordings to train on: a folder of class folders, or one file.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The new checkpoint; named after the model if not given."),
    ] = None,
    test: Annotated[
        Path | None, typer.Option(help="Recordings to compare on; those trained on if not given.")
    ] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the recordings.")] = 3,
    lr: Annotated[
        float, typer.Option(help="Learning rate, in root mean squares of a layer's weights.")
    ] = 0.01,
    seed: Annotated[int, typer.Option(help="Seed of the random order of the recordings.")] = 0,
    how: Loading = AS_FOUND,
    which: RecordingOptions = ALL,
    force: ForceOption = False,
    as_json: JsonOption = False,
    given: Given = NOTHING,
) -> None:
    """Fine-tune a network with the export's rounding in the loop, and write a checkpoint of the same layout.

    It is trained towards the outputs of the float network, so recordings need no labels; with labels, the table counts
    correct predictions.
    """
    from tcja_deploy.cli.render import print_written
    from tcja_deploy.exporters.lava.options import LavaOptions
    from tcja_deploy.exporters.lava.tuning.tune import TuneOptions
    from tcja_deploy.library.tuning import tune_opened

    options = TuneOptions(epochs=epochs, lr=lr, batch=which.batch_size or 25, seed=seed)
    export = LavaOptions(**given)
    path = output or Path(_name(model))
    check_outputs([path], force=force)
    graph = load_model(model, how)
    train = open_dataset(graph, data, which)
    others = None if test is None else open_dataset(graph, test, which._replace(limit=None))
    found = tune_opened(
        model, graph, train, others, path, force=force, options=options, export=export,
        loading=cast(Any, load_arguments(how)), progress=not is_quiet(),
    )  # fmt: skip
    if as_json:
        typer.echo(found.document(".json"), nl=False)
        return
    _show(found, "those trained on" if test is None else str(test))
    print_written([path])


def _name(model: Path) -> str:
    """Name of the new checkpoint, in the current folder."""
    stem, suffix = (
        (model.stem, model.suffix) if ":" not in model.name else (model.name.rpartition(":")[2], "")
    )
    return f"{stem}_tuned{suffix if suffix == '.tcja' else '.pth'}"


def _show(found: Tuning, where: str) -> None:
    from tcja_deploy.cli.render import console, print_table, table
    from tcja_deploy.runtime.share import share_text

    shown = table(
        f"Recordings: {found.tuned.samples} of {where}; in brackets the 95 % interval",
        "step", "float correct", "integer correct", "as the float network",
    )  # fmt: skip
    for step, accuracy in found.steps.items():
        labelled = accuracy.labelled
        counts = (accuracy.float_correct, accuracy.integer_correct)
        right = [share_text(n, labelled) if labelled else "-" for n in counts]
        shown.add_row(step, *right, share_text(accuracy.agree, accuracy.samples))
    print_table(shown)
    losses = ", ".join(f"{loss:.4f}" for loss in found.losses)
    console.print(
        f"trained on {found.samples} recordings; error of the outputs, relative to their variance, by epoch: {losses}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    if found.unrounded:
        console.print(
            f"not rounded: {', '.join(found.unrounded)} (on the host, or merged with other weights)",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
