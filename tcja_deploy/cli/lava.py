"""`tcja-deploy lava`: the environment of the real Lava, and fine-tuning for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tcja_deploy.cli.lava_tune import tune
from tcja_deploy.cli.options import JsonOption
from tcja_deploy.text import printable

__all__ = ["app"]

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
