"""`tcja-deploy lava`: the environment of the real Lava."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tcja_deploy.cli.options import JsonOption

if TYPE_CHECKING:
    from rich.table import Table

    from tcja_deploy.exporters.lava import LavaReport

__all__ = ["app", "show_bundle", "show_report", "stage_table"]

app = typer.Typer(name="lava", help="The environment that the real Lava runs in.", no_args_is_help=True)


@app.command()
def setup(
    python: Annotated[Path | None, typer.Option(help="A Python 3.10; looked for if not given.")] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Build again even if it is there.")] = False,
) -> None:
    """Build the environment with lava-dl in the user's cache folder."""
    from tcja_deploy.exporters.lava.environment import setup as build

    path = build(python, rebuild=rebuild, say=typer.echo)
    typer.echo(f"ready: {path}")


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Say what is there, what is wrong, and what to do about it."""
    from dataclasses import asdict

    from tcja_deploy.errors import ToolchainError
    from tcja_deploy.exporters.lava.environment import diagnose

    found = diagnose()
    if as_json:
        typer.echo(json.dumps([asdict(item) for item in found], indent=2))
    else:
        for item in found:
            typer.echo(f"{'ok     ' if item.good else 'PROBLEM'} {item.subject}: {item.finding}")
            if item.advice:
                typer.echo(f"        -> {item.advice}")
    wrong = [item.subject for item in found if not item.good]
    if wrong:
        raise ToolchainError(
            f"Lava cannot run as it should: {', '.join(wrong)}", hint="see above, from the top"
        )


LEGEND = (
    "scale: weight steps from rest to the threshold; of a gate, the integer that stands for one. W, Vth: bits of "
    "weights and threshold. wraps: currents beyond 2**17, which change spikes. sat.: voltages cut off at 2**17. "
    "float, integer: spikes or payloads per neuron and step. differ: share of neuron-steps where only one of the two "
    "networks spikes."
)


def stage_table(report: LavaReport) -> Table:
    """What quantisation did to each stage, for the terminal."""
    from tcja_deploy.cli.render import table

    accuracy = report.accuracy
    title = "Quantisation"
    if accuracy is not None:
        samples = f"{accuracy.samples} sample{'s' * (accuracy.samples != 1)}"
        title += f"; columns from wraps on: {samples} of the {report.measured_on}"
    result = table(
        title,
        "stage",
        "kind",
        "scale",
        "W bit",
        "Vth bit",
        "wraps",
        "sat.",
        "float",
        "integer",
        "differ",
        left=2,
    )
    for stage in report.stages:

        def rate(value: float | None) -> str:
            return "-" if value is None else f"{value:.4f}"

        result.add_row(
            stage.name,
            stage.kind,
            f"{stage.scale:.0f}",
            str(stage.weight_bits or "-"),
            str(stage.threshold_bits or "-"),
            str(stage.wraps),
            str(stage.saturations),
            rate(stage.rate_float),
            rate(stage.rate_integer),
            "-" if stage.disagreement is None else f"{100 * stage.disagreement:.2f} %",
        )
    return result


def show_report(report: LavaReport) -> None:
    """Print what an export did and what it assumed."""
    from tcja_deploy.cli.render import console, print_table

    print_table(stage_table(report))
    console.print(LEGEND, highlight=False)
    accuracy, lines = report.accuracy, []
    if accuracy is not None:
        lines.append(f"predictions: {accuracy.agree} of {accuracy.samples} equal")
        if accuracy.labelled:
            lines[-1] += (
                f"; of {accuracy.labelled} with a label, float {accuracy.float_correct} and integer "
                f"{accuracy.integer_correct} right"
            )
        lines[-1] += f" ({report.measured_on})"
    lines += [f"note: {note}" for note in report.notes]
    if report.agreement is not None:
        lines.append(
            f"read back: {report.agreement.mismatches} of {report.agreement.neuron_steps:,} values of the bundle's "
            "sample differ in the twin of the written files"
        )
    lines.append(f"latency {report.latency} steps; N windows take {report.frames} N + {report.latency} steps")
    size = sum(file.stat().st_size for file in report.files)
    lines.append(f"wrote {report.path}{os.sep} ({len(report.files)} files, {size:,} bytes)")
    lines.append(f"next: tcja-deploy verify {report.path}  (the real Lava, spike for spike)")
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


def show_bundle(path: Path, as_json: bool = False) -> None:
    """Print what a bundle holds and when what happens in it; the bundle is checked first.

    Raises:
        FileFormatError: A damaged bundle.
    """
    from tcja_deploy.cli.render import console, print_table, table
    from tcja_deploy.exporters.lava.bundle import read_bundle

    manifest = read_bundle(path).manifest
    if as_json:
        typer.echo(json.dumps(manifest, indent=2))
        return
    rows = table(
        f"Lava bundle {path}: {manifest['name']}, T = {manifest['frames']}",
        "file", "stage", "kind", "output", "frame 0 in", "frame 0 out", left=4,
    )  # fmt: skip
    for part in manifest["parts"]:
        arrives = part["arrives"]
        for stage in part.get("layers", [part]):
            size = " x ".join(map(str, stage["out_shape"]))
            rows.add_row(part["file"], stage["name"], stage["kind"], size, str(arrives), str(stage["step"]))
            arrives = stage["step"]
    print_table(rows)
    frames, latency = manifest["frames"], manifest["latency"]
    console.print(
        f"latency {latency} steps; N windows take {frames} N + {latency}; each gate waits {frames - 1} of them"
    )
    readout = manifest["readout"]
    host = [
        name
        for name, there in (("a linear map", readout["linear"]), ("a mean over time", readout["time_mean"]))
        if there
    ]
    host += [f"a vote of {readout['vote']}"] if readout["vote"] > 1 else []
    console.print(f"on the host: {', '.join(host) or 'nothing'}")
