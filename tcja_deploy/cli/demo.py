"""`tcja-deploy demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tcja_deploy.cli.options import ForceOption

__all__ = ["demo"]

_VERIFIED = 20


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write into.")] = Path(
        "tcja-deploy-demo"
    ),
    force: ForceOption = False,
) -> None:
    """From a shipped checkpoint to a verified ONNX model, firing rates and an energy report, in under a minute.

    The network was trained on handwritten digits seen by a simulated event camera; 100 held-out recordings come with it.
    """
    from tcja_deploy.api import load
    from tcja_deploy.cli.notes import is_quiet
    from tcja_deploy.cli.options import RecordingOptions, check_outputs, open_dataset
    from tcja_deploy.cli.render import console, print_agreement, print_table, print_written
    from tcja_deploy.data import path
    from tcja_deploy.energy.render.formats import to_rich
    from tcja_deploy.energy.render.rate_tables import rate_summary
    from tcja_deploy.energy.render.report_tables import summary_tables
    from tcja_deploy.errors import VerificationError
    from tcja_deploy.files import output_folder
    from tcja_deploy.library.accounting import energy
    from tcja_deploy.library.exporting import export

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
    page = output / "energy.html"
    check_outputs([page] if output.is_dir() else [], force=force)
    subset = open_dataset(graph, recordings, RecordingOptions(limit=_VERIFIED))
    console.print(
        "[bold]2. export[/] to ONNX and [bold]verify[/] in onnxruntime, spike for spike", markup=True
    )
    with output_folder(output):
        report = export(
            graph, "onnx", output / "digits.onnx", data=subset, force=force, progress=not is_quiet()
        )
    agreement = report.agreement
    if agreement is None:
        raise VerificationError("the demo did not verify its export")
    print_agreement(agreement, "onnxruntime")
    found = energy(graph, recordings, profiles=["asic45"], progress=not is_quiet())
    console.print(
        f"[bold]3. firing rates[/] over {found.report.rates.recordings} held-out recordings", markup=True
    )
    print_table(to_rich(rate_summary(found.report.rates)[0]))
    accuracy = found.report.rates.confusion
    if accuracy is not None:
        console.print(f"accuracy: {accuracy.right} of {accuracy.recordings} held-out recordings")
    console.print(
        "[bold]4. energy[/] per inference, by named conventions and beside an ANN of the same shape",
        markup=True,
    )
    print_table(to_rich(summary_tables(found.report)[0]))
    found.save(page, force=force)
    print_written([*report.files, page])
    console.print(f"\nopen the report: python -m webbrowser {page}", highlight=False, soft_wrap=True)
    console.print("\n[bold]Next[/], with your own checkpoint and recordings:", markup=True)
    for line in (
        "tcja-deploy inspect checkpoint_max.pth",
        "tcja-deploy export checkpoint_max.pth --target onnx --data recordings/",
        f"tcja-deploy verify {output / 'digits.onnx'} --model {checkpoint}",
    ):
        console.print(f"  {line}", highlight=False, soft_wrap=True)
    if not agreement.passed:
        raise VerificationError("the exported model differs from the reference beyond the bound")
