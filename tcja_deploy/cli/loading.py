"""What the user said about how to read a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NamedTuple

import typer

__all__ = ["AS_FOUND", "Loading"]


class Loading(NamedTuple):
    """What the user said about how to read the model."""

    arch: Annotated[
        str | None, typer.Option(help="Zoo network the weights belong to, if the file does not say.")
    ] = None
    timesteps: Annotated[
        int | None, typer.Option("--timesteps", "-T", help="Time steps T, if the weights do not say.")
    ] = None
    input_shape: Annotated[
        str | None, typer.Option(help="One input frame as C,H,W, if the weights do not say.")
    ] = None
    trust_pickle: Annotated[
        bool, typer.Option("--trust-pickle", help="Let the model file run code while it is loaded.")
    ] = False
    dt: Annotated[
        float | None, typer.Option("--dt", help="Seconds of a time step of a .nir file, if it does not say.")
    ] = None
    input_kind: Annotated[
        str | None,
        typer.Option(help="What the frames hold, if not what the model says: binary, count, graded or real."),
    ] = None
    weights: Annotated[
        Path | None,
        typer.Option(help="File of weights for a network that code builds.", show_default=False),
    ] = None
    weights_key: Annotated[
        str | None, typer.Option(help="Which state dict of a file with several, such as state_dict_ema.")
    ] = None
    set: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Argument for the code that builds the network; repeat for more.",
        ),
    ] = None


AS_FOUND = Loading()
"""Nothing said."""
