"""`tcja-deploy lava`: the environment of the real Lava, and fine-tuning for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from tcja_deploy.cli.lava_tune import tune
from tcja_deploy.cli.options import JsonOption
from tcja_deploy.text import printable

__all__ = ["app", "show_bundle"]

app = typer.Typer(
    name="lava",
    help="The environment that the real Lava runs in, and fine-tuning for it.",
    no_args_is_help=True,
)
app.command()(tune)


@app.command()
def setup(
    python: Annotated[Path | None, typer.Option(help="A Python 3.10; looked for if not given.")] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Build it again even if it exists.")] = False,
) -> None:
    """Build the environment with lava-dl in the user's cache folder."""
    from tcja_deploy.exporters.lava.environment import setup as build

    path = build(python, rebuild=rebuild, say=typer.echo)
    typer.echo(f"ready: {path}")


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Report what is installed, what is wrong, and what to do about it."""
    from dataclasses import asdict

    from tcja_deploy.errors import ToolchainError
    from tcja_deploy.exporters.lava.environment import diagnose

    found = diagnose()
    if as_json:
        typer.echo(json.dumps([asdict(item) for item in found], indent=2))
    else:
        for item in found:
            typer.echo(printable(f"{'ok     ' if item.good else 'PROBLEM'} {item.subject}: {item.finding}"))
            if item.advice:
                typer.echo(f"        -> {item.advice}")
    wrong = [item.subject for item in found if not item.good]
    if wrong:
        raise ToolchainError(
            f"Lava cannot run as it should: {', '.join(wrong)}",
            hint="see the findings above, and begin with the first",
        )


def show_bundle(path: Path, as_json: bool = False) -> None:
    """Print what a bundle holds and at which step each stage works; the bundle is checked first.

    Raises:
        FileFormatError: The bundle is damaged.
    """
    from tcja_deploy.cli.render import console, print_table, table
    from tcja_deploy.exporters.lava.bundle import read_bundle

    manifest = read_bundle(path).section
    if as_json:
        typer.echo(json.dumps(manifest, indent=2))
        return
    rows = table(
        f"Lava bundle {path}: {manifest['name']}, T = {manifest['frames']}",
        "file", "stage", "kind", "output", "reads (delay in steps)", "frame 0 in", "frame 0 out", left=5,
    )  # fmt: skip
    before = "input"
    for part in manifest["parts"]:
        arrives, reads = part["arrives"], _reads(part, before)
        for stage in part.get("layers", [part]):
            size = " x ".join(map(str, stage["out_shape"]))
            times = str(arrives), str(stage["step"])
            rows.add_row(part["file"], stage["name"], stage["kind"], size, reads, *times)
            arrives, reads, before = stage["step"], stage["name"], stage["name"]
    print_table(rows)
    frames, latency = manifest["frames"], manifest["latency"]
    console.print(
        f"latency {latency} steps; N windows take {frames} N + {latency}; each gate or program over a window waits "
        f"{frames - 1} of them"
    )
    readout = manifest["readout"]
    host = [
        name
        for name, there in (("a linear map", readout["linear"]), ("a mean over time", readout["time_mean"]))
        if there
    ]
    host += [f"a {readout['function']}"] if readout.get("function") else []
    host += [f"a vote of {readout['vote']}"] if readout["vote"] > 1 else []
    console.print(f"on the host: {', '.join(host) or 'nothing'}")


def _reads(part: dict[str, Any], before: str) -> str:
    """What a part reads, and by how many steps each input is delayed."""
    names = ["input" if name == ":host" else name for name in part.get("inputs", [before])]
    delays = part.get("delays", [0] * len(names))
    return ", ".join(name + (f" ({k})" if k else "") for name, k in zip(names, delays, strict=True))
