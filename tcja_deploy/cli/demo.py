"""`tcja-deploy demo`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tcja_deploy.cli.options import ForceOption

if TYPE_CHECKING:
    from tcja_deploy.events import EventData
    from tcja_deploy.ir import Graph

__all__ = ["demo"]

_VERIFIED = 20


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write into.")] = Path(
        "tcja-deploy-demo"
    ),
    force: ForceOption = False,
) -> None:
    """From a shipped checkpoint to a verified ONNX model and a firing-rate table, in under a minute.

    The network was trained on handwritten digits seen by a simulated event camera; 100 held-out recordings come with it.
    """
    from tcja_deploy.api import export, load
    from tcja_deploy.cli.options import RecordingOptions, open_dataset
    from tcja_deploy.cli.render import console, print_agreement, print_written, step_bar
    from tcja_deploy.data import path
    from tcja_deploy.errors import VerificationError
    from tcja_deploy.files import output_folder

    checkpoint, recordings = path("digits_checkpoint_max.pth"), path("digits_test_events.npz")
    console.print(
        f"[bold]1. trace[/] {checkpoint.name}: a checkpoint as the TCJA authors' script writes it",
        markup=True,
    )
    graph = load(checkpoint)
    console.print(
        f"   {len(graph.nodes)} nodes, {len(graph.neurons)} spiking layers, {graph.parameters:,} weights, T = {graph.T}, "
        f"input {' x '.join(map(str, graph.input_shape))}"
    )
    dataset = open_dataset(graph, recordings)
    subset = open_dataset(graph, recordings, RecordingOptions(limit=_VERIFIED))
    console.print(
        "[bold]2. export[/] to ONNX and [bold]verify[/] in onnxruntime, spike for spike", markup=True
    )
    with output_folder(output), step_bar(len(subset)) as progress:
        frames = (frames for frames, _ in subset.batches(4))
        report = export(graph, "onnx", output / "digits.onnx", data=frames, force=force, progress=progress)
    agreement = report.agreement
    if agreement is None:
        raise VerificationError("the demo did not verify its export")
    print_agreement(agreement, "onnxruntime")
    console.print(f"[bold]3. firing rates[/] over {len(dataset)} held-out recordings", markup=True)
    _rates(graph, dataset)
    print_written(report.files)
    console.print("\n[bold]Next[/], with your own checkpoint and recordings:", markup=True)
    for line in (
        "tcja-deploy inspect checkpoint_max.pth",
        "tcja-deploy export checkpoint_max.pth --target onnx --data recordings/",
        f"tcja-deploy verify {output / 'digits.onnx'} --model {checkpoint}",
    ):
        console.print(f"  {line}", highlight=False, soft_wrap=True)
    if not agreement.passed:
        raise VerificationError("the exported model differs from the reference beyond the bound")


def _rates(graph: Graph, dataset: EventData) -> None:
    """Table of spikes per neuron and step, and the accuracy."""
    import numpy as np

    from tcja_deploy.cli.render import console, print_table, progress_bar, table
    from tcja_deploy.runtime.activity.record import Measure, Recorder, Watch
    from tcja_deploy.runtime.compare import predictions
    from tcja_deploy.runtime.sequence import run

    watched = [graph.input, *graph.neurons]
    recorder = Recorder([Watch(n.name, n.signal.features, graph.T) for n in watched])
    right = 0
    with progress_bar("   counting spikes", len(dataset)) as progress:
        for start in range(0, len(dataset), 10):
            samples = range(start, min(start + 10, len(dataset)))
            loaded = [dataset[i] for i in samples]
            recorder.begin(list(samples))
            output = run(
                graph,
                np.stack([frames for frames, _ in loaded], axis=1),
                observe=lambda node, value: (
                    recorder.add(node.name, value) if recorder.watches(node.name) else None
                ),
            )
            guesses = predictions(output.numpy(), graph[graph.output].signal.streams)
            right += sum(int(guess) == label for guess, (_, label) in zip(guesses, loaded, strict=True))
            progress(samples.stop)
    activity = recorder.finish()
    result = table("", "layer", "neurons", "spikes per recording", "firing rate", "silent neurons")
    for node in watched:
        counts = activity[node.name].counts(Measure.NONZERO)
        neurons = activity[node.name].neurons
        result.add_row(
            node.name,
            f"{node.signal.size:,}",
            f"{counts.sum(1).mean():,.1f}",
            f"{100 * counts.sum() / (node.signal.size * graph.T * len(dataset)):.2f} %",
            f"{100 * float((neurons == 0).mean()):.1f} %",
        )
    print_table(result)
    console.print(f"accuracy: {right} of {len(dataset)} held-out recordings")
